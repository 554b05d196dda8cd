"""Size and speed of the page's explorer, in a headless Chromium.

``python -m benchmarks.explorer``: the page of the demo, its committed figures and tables included, with 32,768 planted
features a side, each with five tokens, two contexts of 40 characters of words by Zipf's law, ten neighbours and three
maps. The last line is one JSON object: features, build_s (CPU-seconds to make the page, without UMAP), mb, load_s (from
the address to maps that answer), hover_ms (from a movement of the mouse to the painted link: median of ``HOVERS``
features), same (whether making it again gives the same bytes).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sae_utils import profiles
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.page import assembly, sides
from sae_utils.page.sides import Explored, Side

HOVERS = 40
VOCABULARY = 50_000
WATCH = """
window.spent = []; let moved = 0;
document.addEventListener("mousemove", (event) => { moved = event.timeStamp; }, true);
const painted = new MessageChannel();
painted.port1.onmessage = () => window.spent.push(performance.now() - moved);
new MutationObserver(() => requestAnimationFrame(() => painted.port2.postMessage(0)))
  .observe(document.getElementById("explorer-links"), { childList: true });
document.getElementById("explorer-maps").scrollIntoView({ block: "start", behavior: "instant" });
"""
PLACE = """
const s = explorer.side[arguments[0]], at = explorer.place(s, arguments[1]);
const box = document.getElementById("explorer-maps").getBoundingClientRect();
return [box.left + at.x, box.top + at.y];
"""


def planted(features: int) -> Explored:
    """Two sides of so many features; those of B are A's in another order."""
    rng = np.random.default_rng(0)
    order = rng.permutation(features).astype(np.int32)
    words = np.array(["".join(rng.choice(list("etaoinshrdlu"), 2 + rng.poisson(3))) for _ in range(VOCABULARY)])
    back = np.argsort(order).astype(np.int32)
    a, b = (_side(rng, name, to, words) for name, to in (("a", order), ("b", back)))
    return Explored(a, b, ["time", "place", "people"], 0.7)


def _side(rng: np.random.Generator, name: str, partner: np.ndarray, words: np.ndarray) -> Side:
    n = len(partner)
    held_out = rng.beta(2, 2, n).astype(np.float32)
    spoken = words[np.minimum(rng.zipf(1.3, (n, 2, 14)) - 1, VOCABULARY - 1)]
    clusters = rng.normal(size=(300, 2))[rng.integers(0, 300, n)]
    text = [[(" ".join(x[:7])[-17:], x[7], " ".join(x[8:])[:17]) for x in of] for of in spoken.tolist()]
    return Side(
        name=name, width=n, ids=np.arange(n, dtype=np.int32), rate=rng.lognormal(-7, 2, n).clip(0, 1).astype("f4"),
        partner=partner, r=held_out, held_out=held_out,
        kind=rng.integers(1, 3, n).astype(np.uint8), tokens=words[rng.integers(0, VOCABULARY, (n, 5))].tolist(),
        contexts=text, concept=rng.integers(0, 4, n).astype(np.uint8), family=rng.integers(0, 2000, n).astype(np.int32),
        near=rng.integers(0, n, (n, 10)).astype(np.int32), link="",
        maps={f"map {i}": (clusters + 0.1 * rng.normal(size=(n, 2))).astype(np.float32) for i in range(3)},
    )  # fmt: skip


def measured(page: Path, features: int) -> dict[str, float]:
    """Loading and hovering, in a browser of its own."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    import browser  # the one that tests use

    started = browser.chromium()
    try:
        browser.opened(started, page)
        load = float(started.execute_script("return +document.getElementById('explorer').dataset.ready")) / 1000
        started.execute_script(WATCH)
        return {"load_s": round(load, 2), "hover_ms": round(statistics.median(_hovers(started, features)), 1)}
    finally:
        started.quit()


def _hovers(started: Any, features: int) -> list[float]:
    """Milliseconds from a movement to the paint, over features of both sides in turn."""
    rng = np.random.default_rng(1)
    for number, feature in enumerate(rng.integers(0, features, HOVERS).tolist()):
        x, y = started.execute_script(PLACE, "ab"[number % 2], feature)
        started.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
        time.sleep(0.3)
    found: list[float] = started.execute_script("return window.spent")
    return found


def main() -> None:
    """Make the page, open it and print its measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4,096 features a side in place of 32,768")
    features = 4096 if parser.parse_args().quick else 32_768
    profile, titles, explored = profiles.load("demo"), ("a", "b"), planted(features)
    start = time.process_time()
    table = sides.table(explored)
    made = assembly.rendered(profile, explored, titles, len(table))
    spent = time.process_time() - start
    same = made == assembly.rendered(profile, explored, titles, len(table))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(made, "utf-8")
        size = page.stat().st_size / 1e6
        found = measured(page, features)
    result = {"features": features, "build_s": round(spent, 1), "mb": round(size, 2), **found, "same": same}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
