"""The explorer of a page in a real browser: links, search, filters, colours, keys, hostile tokens, odd inputs."""

import browser
import explored
import pytest

from sae_utils.page import assembly

pytestmark = pytest.mark.skipif(browser.MISSING, reason=browser.REASON)

SHELL = """<!DOCTYPE html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval';
 style-src 'unsafe-inline'; img-src data:"><link rel="icon" href="data:,"><title>page</title>
<style>{{ css | safe }}</style>
{% include "explorer.html" %}{% include "scripts.html" %}"""


@pytest.fixture(scope="module")
def started():
    """One browser for all tests of this module."""
    made = browser.chromium()
    yield made
    made.quit()


@pytest.fixture
def page(started, tmp_path):
    """Opens the explorer of two sides; returns a function that runs JavaScript in it."""

    def opens(found):
        file = tmp_path / "page.html"
        file.write_text(html(found), "utf-8")
        browser.said(started), browser.requests(started)
        browser.opened(started, file)
        return lambda script, *arguments: started.execute_script(script, *arguments)

    return opens


def html(found):
    values = assembly.explorer(found, ("model one", "model two"), 7)
    environment = assembly.environment()
    return environment.from_string(SHELL).render(profile={"name": "x"}, css=assembly.asset("page.css"), **values)


def hover(started, run, side, feature):
    """Move the mouse over a feature, at its place on the screen."""
    run("document.getElementById('explorer-maps').scrollIntoView({block: 'start', behavior: 'instant'})")
    x, y = run(
        "const at = explorer.place(explorer.side[arguments[0]], arguments[1]),"
        " box = document.getElementById('explorer-maps').getBoundingClientRect();"
        " return [box.left + at.x, box.top + at.y]",
        side, feature,
    )  # fmt: skip
    started.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
    started.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def rings(run):
    """(side, number) of the features that are marked as a pair."""
    return run(
        "return [...document.querySelectorAll('.ring.main')].map((x) => x.dataset.side + x.dataset.id).sort().join(' ')"
    )


def search(run, text):
    run(
        "document.getElementById('explorer-search').value = arguments[0];"
        "document.getElementById('explorer-form').requestSubmit()",
        text,
    )
    return run("return document.getElementById('explorer-said').textContent")


def spans(run):
    return run(
        "return ['a', 'b'].flatMap((x) => [explorer.side[x].xRange, explorer.side[x].yRange])"
        ".map((range) => range.end - range.start)"
    )


def shown(run, side="a"):
    return run("return explorer.side[arguments[0]].points.data.x.length", side)


def choose(run, name, value):
    run(
        "const x = document.getElementById('explorer-' + arguments[0]); const old = x.type === 'checkbox';"
        "if (old) x.checked = arguments[1]; else x.value = arguments[1];"
        "x.dispatchEvent(new Event(x.type === 'range' ? 'input' : 'change'))",
        name, value,
    )  # fmt: skip


def test_pointing_at_a_feature_marks_its_partner_and_draws_the_link(page, started):
    run = page(explored.planted())
    hover(started, run, "a", 10)
    assert rings(run) == "a20 b22"  # numbers are twice the places; the partner of 10 is 11
    held = run("return document.querySelector('.link').dataset.r")
    assert float(held) == pytest.approx(explored.planted().a.held_out[10], abs=1e-3)
    tip = run("return document.getElementById('tip-a').innerText")
    assert "A 20" in tip and "w10 x10 the" in tip.replace("\n", " ") and "rank 11 of 60" in tip
    assert "B 22" in run("return document.getElementById('tip-b').innerText")
    wide = float(run("return document.querySelector('.link').getAttribute('stroke-width')"))
    hover(started, run, "b", 51)
    assert rings(run) == "a100 b102"
    assert float(run("return document.querySelector('.link').getAttribute('stroke-width')")) < wide


def test_nothing_leaves_the_page_and_nothing_is_wrong(page, started):
    run = page(explored.planted())
    hover(started, run, "a", 3)
    search(run, "sea")
    assert browser.said(started) == []
    assert {x.partition(":")[0] for x in browser.requests(started)} <= {"file", "data", "blob"}


def test_a_hostile_token_is_shown_as_text(page, started):
    found = explored.planted()
    assert explored.HOSTILE not in html(found)
    run = page(found)
    hover(started, run, "a", 59)
    assert explored.HOSTILE in run("return document.getElementById('tip-a').innerText")
    search(run, explored.HOSTILE)
    run("document.querySelector('#explorer-rows tr').click()")
    assert explored.HOSTILE in run("return document.getElementById('explorer-rows').innerText")
    assert explored.HOSTILE in run("return document.getElementById('explorer-detail').innerText")
    assert run("return document.title") == "page" and run("return document.images.length") == 0


def test_a_search_selects_and_zooms_both_maps(page):
    run = page(explored.planted())
    before = spans(run)
    assert search(run, "X12") == "\u201cX12\u201d: 1 features of A, 1 of B"
    assert all(now < was / 4 for now, was in zip(spans(run), before, strict=True))
    assert run("return explorer.side.a.points.selected.indices") == [12]
    assert search(run, "sea").endswith("20 features of A, 20 of B")  # a concept
    assert search(run, "x5").endswith("1 features of A, 1 of B")  # the token, not all that begin with it
    assert search(run, "w").endswith("59 features of A, 59 of B")  # no such token: all that begin with it
    run("document.getElementById('explorer-clear').click()")
    assert spans(run) == before


def test_a_search_that_finds_nothing_says_so_and_moves_nothing(page):
    run = page(explored.planted())
    before = spans(run)
    assert search(run, "zebra") == "No feature that is shown: \u201czebra\u201d."
    assert search(run, "  ") == "Type a token or the name of a concept."
    assert spans(run) == before and run("return document.getElementById('explorer-table').hidden")


def test_filters_hide_features(page):
    run = page(explored.planted(60, 40))
    assert (shown(run), shown(run, "b")) == (60, 40)
    choose(run, "kind-0", False)
    assert (shown(run), shown(run, "b")) == (40, 40)
    choose(run, "kind-0", True)
    choose(run, "r", "0.5")
    held = explored.planted(60, 40).a.held_out
    assert shown(run) == (held >= 0.5).sum()
    assert run("return document.getElementById('count-a').textContent").startswith(f"{(held >= 0.5).sum()} of 60")


def test_colours_are_those_of_what_is_asked(page):
    run = page(explored.planted())
    colours = "return Array.from(explorer.side.a.points.data.c).slice(0, 4)"
    by_r = run(colours)
    assert by_r == sorted(by_r, reverse=True)  # held-out r falls along the features
    choose(run, "colour", "concept")
    assert run(colours) == [0, 1, 2, 0]
    assert "sea" in run("return document.getElementById('explorer-legend').innerText")
    choose(run, "colour", "family-b")  # of A's features, the family of their partners
    assert run("return explorer.side.a.points.data.c[18]") == 0 and run("return explorer.side.a.points.data.c[19]") == 1
    for mode in ("kind", "frequency", "family-a", "r"):
        choose(run, "colour", mode)


def test_shared_neighbours_are_those_whose_partners_are_neighbours(page):
    found = explored.planted()
    run = page(found)
    search(run, "x30")
    run("document.querySelector('#explorer-rows tr').click()")
    listed = run("return [...document.querySelectorAll('.lists > div:first-child li')].map((x) => x.innerText)")
    around = set(found.b.near[31].tolist())
    both = [int(x) for x in found.a.near[30] if int(found.a.partner[x]) in around]
    assert len(listed) == len(both) and all(f"A {2 * x} " in row for x, row in zip(both, listed, strict=True))


def test_the_selection_is_copied_as_csv(page):
    run = page(explored.planted())
    search(run, "x30")
    header, *rows = run("return explorer.csv()").splitlines()
    assert header == "A,tokens of A,B,tokens of B,r,held-out r,rank,kind"
    assert rows[0].startswith("60,w30 x30 the,62,w31 x31 the,0.44,0.44,31,mutual") and len(rows) == 2


def test_arrow_keys_go_from_feature_to_feature(page, started):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    run = page(explored.planted())
    box = started.find_element(By.ID, "box-a")
    box.send_keys(Keys.ARROW_RIGHT)
    assert rings(run) == "a0 b2"  # the strongest
    box.send_keys(Keys.ARROW_LEFT)
    assert rings(run) not in ("", "a0 b2")
    box.send_keys(Keys.ENTER)
    assert run("return document.querySelectorAll('#explorer-detail .card').length") == 2
    box.send_keys(Keys.ESCAPE)
    assert rings(run) == ""


@pytest.mark.parametrize(("n", "n_b"), [(3, 3), (20, 0), (0, 0), (1, 1)])
def test_few_features_or_none_on_one_side(page, started, n, n_b):
    run = page(explored.planted(n, n_b))
    assert (shown(run), shown(run, "b")) == (n, n_b)
    search(run, "w0")
    choose(run, "colour", "family-b")
    assert browser.said(started) == []


def test_on_a_phone_the_maps_stand_below_each_other(page, started):
    run = page(explored.planted())
    browser.narrow(started, 390)
    try:
        browser.settled(started, "document.documentElement.scrollWidth <= 390")
        tops = run("return ['a', 'b'].map((x) => document.getElementById('box-' + x).getBoundingClientRect().top)")
        assert tops[1] > tops[0] + 300
    finally:
        started.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
