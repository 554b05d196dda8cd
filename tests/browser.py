"""A headless Chromium with its log, as tests and the benchmark of the page use it."""

import json
import shutil
from typing import Any

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = not (CHROMIUM and DRIVER)
REASON = "needs chromium and chromedriver, which .ci/run installs (Debian: chromium-driver)"
ARGUMENTS = (
    "headless=new no-sandbox disable-dev-shm-usage use-angle=swiftshader enable-unsafe-swiftshader hide-scrollbars "
    "disable-background-networking disable-component-update no-first-run"
).split()


def chromium(width: int = 1280, height: int = 900) -> Any:
    """A started browser of a window of such a size; `quit` ends it."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (*ARGUMENTS, f"window-size={width},{height}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def narrow(browser: Any, width: int, height: int = 844) -> None:
    """Show pages as a phone of this width does; a window cannot be so narrow."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def settled(browser: Any, condition: str) -> None:
    """Wait until a condition in JavaScript holds, at most 30 s: Bokeh draws anew some time after its box changed."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30).until(lambda x: x.execute_script(f"return {condition}"), condition)


def opened(browser: Any, page: Any) -> Any:
    """The browser with a page, its explorer ready."""
    browser.set_script_timeout(120)
    browser.get(page.as_uri())
    browser.execute_async_script("const done = arguments[0]; explorer.ready.then(done, done)")
    return browser


def said(browser: Any) -> list[str]:
    """Errors in the console since the last call."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def requests(browser: Any) -> list[str]:
    """Addresses that pages asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [x["params"]["request"]["url"] for x in events if x["method"] == "Network.requestWillBeSent"]
