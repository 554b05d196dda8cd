"""Speed and memory of the correlation, compared with scipy's sparse product and a dense product in the same run.

``python -m benchmarks.correlation``: 500,000 tokens x 32,768 x 32,768 features, 32 active a token. Every part runs in
its own process with one thread; seconds are CPU-seconds of that process, without making the codes. The last line is one
JSON object: ratio_scipy (product alone, scipy / ours), ratio_dense (4,096 x 4,096 x 50,000 tokens, dense
float32 / ours), cpu_s and peak_mb (with top-64 both ways), growth (1,000,000 tokens / 500,000), ratio_corrcoef
(dense float16 sides, 200,000 x 512 x 512, with top-64 both ways: numpy.corrcoef / ours); with CUDA also
cuda_s and cuda_share (of the float64 product rate measured on the device).
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from scipy import sparse

from benchmarks import _process
from sae_utils import correlate
from sae_utils.engine.kernels import accumulate, sides

ACTIVE = 32  # features that fire on a token


def codes(tokens: int, features: int, seed: int) -> sparse.csr_array:
    """Random codes: each of ACTIVE bands has one feature active at a token, drawn unevenly, so that some are rare."""
    rng = np.random.default_rng(seed)
    band = features // ACTIVE
    index = np.empty((tokens, ACTIVE), np.int32)
    for first in range(0, tokens, 50_000):
        part = index[first : first + 50_000]
        part[:] = (rng.random(part.shape, np.float32) ** 2 * band).astype(np.int32) + band * np.arange(ACTIVE)
    made = sparse.csr_array((tokens, features), dtype=np.float32)
    made.data = rng.random(tokens * ACTIVE, np.float32) + np.float32(0.1)
    made.indices, made.indptr = index.ravel(), np.arange(0, tokens * ACTIVE + 1, ACTIVE, dtype=np.int64)
    return made


def product(a: sparse.csr_array, b: sparse.csr_array) -> None:
    """All cross sums of a and b, one feature of a at a time, no ranking."""
    at, width = np.arange(a.shape[0]), a.shape[1]
    outer = accumulate.transpose(*sides.raw(a), at, at, width)
    scaling = sides.Scaling(np.zeros(width), np.ones(width), np.zeros(width), np.ones(width), 0.0)
    column, out = np.zeros(1, np.int64), np.empty((width, 1), np.float32)
    accumulate.block(np.arange(width), column, outer, sides.raw(b), scaling, out)


def measure(part: str, tokens: int, features: int) -> dict[str, float]:
    """CPU-seconds, wall seconds and peak memory of one part in this process."""
    if part in ("dense", "neurons", "corrcoef"):
        rng = np.random.default_rng(0)
        x, y = (rng.random((tokens, features), np.float32) for _ in range(2))
        if part != "dense":  # as a model's neurons are stored
            x, y = x.astype(np.float16), y.astype(np.float16)
            correlate.features(x[:100], y[:100], k=64)  # compile first
        work = {
            "dense": lambda: x.T @ y,
            "neurons": lambda: correlate.features(x, y, k=64),
            "corrcoef": lambda: np.corrcoef(x.T.astype(np.float64), y.T.astype(np.float64)),
        }[part]
    else:
        a, b = codes(tokens, features, 0), codes(tokens, features, 1)
        work = {
            "product": lambda: product(a, b),
            "scipy": lambda: sparse.csr_array(a.T) @ b,
            "rank": lambda: correlate.features(a, b, k=64),
            "cuda": lambda: correlate.features(a, b, k=64, device="cuda"),
        }[part]
        if part in ("product", "rank"):  # compile first
            few = codes(1000, features, 2)
            product(few, few)
            correlate.features(few, few, k=64)
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    return spent | {"peak_mb": _process.peak_mb()}


def in_own_process(part: str, tokens: int, features: int) -> dict[str, float]:
    """``measure`` in its own process."""
    found: dict[str, float] = _process.run("correlation", "--part", part, tokens, features)
    print(
        f"{part:8s} {tokens:>9,} tokens x {features:,}^2: {found['cpu_s']:8.2f} CPU-s, {found['wall_s']:8.2f} s, "
        f"{found['peak_mb']:6.0f} MB",
        flush=True,
    )
    return found


def cuda(tokens: int, features: int) -> dict[str, float]:
    """Seconds on the device, and the share of its float64 product rate at which a dense product takes as long."""
    import torch

    if not torch.cuda.is_available():
        print("no CUDA device: not measured there")
        return {}
    x = torch.rand(8192, 8192, dtype=torch.float64, device="cuda")
    rates = []
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        x @ x
        torch.cuda.synchronize()
        rates.append(2 * 8192**3 / (time.perf_counter() - start))
    spent = in_own_process("cuda", tokens, features)["wall_s"]
    return {"cuda_s": spent, "cuda_share": 2 * tokens * ACTIVE * features * 2 / spent / max(rates)}


def main() -> None:
    """Run all parts and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50,000 tokens x 4,096 x 4,096 in place of the full size")
    parser.add_argument("--part", nargs=3, metavar=("PART", "TOKENS", "FEATURES"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        print(json.dumps(measure(chosen.part[0], int(chosen.part[1]), int(chosen.part[2]))))
        return
    tokens, features = (50_000, 4096) if chosen.quick else (500_000, 32_768)
    ours, peer = in_own_process("product", tokens, features), in_own_process("scipy", tokens, features)
    small, dense = in_own_process("product", 50_000, 4096), in_own_process("dense", 50_000, 4096)
    neurons, corrcoef = (in_own_process(part, 200_000, 512) for part in ("neurons", "corrcoef"))
    ranked, twice = in_own_process("rank", tokens, features), in_own_process("rank", 2 * tokens, features)
    result = {
        "tokens": tokens,
        "features": features,
        "ratio_scipy": peer["cpu_s"] / ours["cpu_s"],
        "ratio_dense": dense["cpu_s"] / small["cpu_s"],
        "cpu_s": ranked["cpu_s"],
        "peak_mb": ranked["peak_mb"],
        "growth": twice["cpu_s"] / ranked["cpu_s"],
        "ratio_corrcoef": corrcoef["cpu_s"] / neurons["cpu_s"],
        **cuda(tokens, features),
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
