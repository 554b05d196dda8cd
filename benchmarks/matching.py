"""Speed and memory of the exact one-to-one matchings, compared with scipy's assignment in the same run.

``python -m benchmarks.matching``: 32,768 x 32,768 features with planted partners for 70%, noise, and 20% dead on either
side; their similarity is the cosine of planted vectors, computed in tiles and never as a full matrix. One thread;
seconds are CPU-seconds. The last line is one JSON object: candidates_s (top-64 both ways, which every matching
needs), greedy_s, optimal_s (its proof included), certified, peak_mb; and at 8,192 features ratio_scipy
(computing the full matrix of live features and scipy.optimize.linear_sum_assignment / ours) and equal (whether the two
sums of correlations are equal).
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks import _process
from sae_utils import correlate, matching
from sae_utils.correlate import Correlation

WIDTH = 64  # coordinates of a planted vector
NOISE = 2.0  # of a partner, in units of the vector: partners have a cosine of about 0.45


def planted(features: int, seed: int) -> Correlation:
    """The correlation of two sides with planted partners."""
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(size=(features, WIDTH)).astype(np.float32) for _ in range(2))
    twins, order = int(0.7 * features), rng.permutation(features)
    y[order[:twins]] = x[:twins] + NOISE * rng.normal(size=(twins, WIDTH)).astype(np.float32)
    live = rng.random((2, features)) < 0.8
    return correlate.cosines(x, y, k=64, live_a=live[0], live_b=live[1])


def measure(features: int, peer: bool) -> dict[str, float]:
    """CPU-seconds of candidates, greedy and optimal matching, and of scipy where `peer` is true."""
    small = planted(512, 0)  # compile first
    matching.greedy(small)
    matching.optimal(small)
    marks = [time.process_time()]
    found = planted(features, 1)
    marks.append(time.process_time())
    greedy = matching.greedy(found)
    marks.append(time.process_time())
    best = matching.optimal(found)
    proof = best.proof
    marks.append(time.process_time())
    spent = dict(zip(("candidates_s", "greedy_s", "optimal_s"), np.diff(marks), strict=True))
    spent |= {"peak_mb": _process.peak_mb(), "certified": proof.certified}
    print(
        f"{features:,} features: greedy {len(greedy.r):,} pairs, sum {greedy.r.sum(dtype=np.float64):.4f}; "
        f"optimal {len(best.r):,}, sum {proof.primal:.4f}, gap {proof.gap:.1e} after {proof.rounds} rounds",
        file=sys.stderr,
    )
    if peer:
        start = time.process_time()
        matrix = found.block(np.flatnonzero(found.a.live), np.flatnonzero(found.b.live)).astype(np.float64)
        i, j = linear_sum_assignment(matrix, maximize=True)
        spent["scipy_s"] = time.process_time() - start
        spent["equal"] = bool(abs(matrix[i, j].sum() - proof.primal) < 1e-6)
    return {name: value if isinstance(value, bool) else round(float(value), 3) for name, value in spent.items()}


def in_own_process(features: int, peer: bool) -> dict[str, float]:
    """``measure`` in its own process."""
    found: dict[str, float] = _process.run("matching", "--part", features, int(peer))
    print(f"{features:,} features: {found}", flush=True)
    return found


def main() -> None:
    """Run both sizes and print their measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4,096 and 2,048 features in place of 32,768 and 8,192")
    parser.add_argument("--part", nargs=2, type=int, metavar=("FEATURES", "PEER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        print(json.dumps(measure(chosen.part[0], bool(chosen.part[1]))))
        return
    large, small = (4096, 2048) if chosen.quick else (32_768, 8192)
    result, beside = in_own_process(large, peer=False), in_own_process(small, peer=True)
    ratio = round(beside["scipy_s"] / beside["optimal_s"], 3)
    print(json.dumps({"features": large, **result, "ratio_scipy": ratio, "equal": beside["equal"]}))


if __name__ == "__main__":
    main()
