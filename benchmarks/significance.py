"""Speed of permutation tests, compared with peers in the same run: `python -m benchmarks.significance [--quick]`.

Every part runs in a process of its own, on one thread (the battery on two). Prints a line a measurement, and as last
line one JSON object:
ratio_svcca   SVCCA of 4,096 x 512 with 1,000 permutations: a plain SVD + QR + SVD in float64, called again for each
              permutation (timed 6 times and scaled), over ours; ratio_svcca_float32: the plain one in float32
ratio_rsa     Spearman RSA at n = 4,096: scikit-bio's mantel with 9,999 permutations over ours with exact moments
rsa32k_s, _mb Pearson RSA at n = 32,768, d = 512: exact moments and 200 permutations; peak memory of the process
battery_s     eight measures, 1,000 shared permutations, 5,000 pairs of 512 dimensions, two threads
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from benchmarks import _process

BATTERY = ("svcca", "pwcca", "cka", "rsa_pearson", "rsa_spearman", "procrustes", "mutual_knn", "jaccard_knn")


def related(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that share a part, in float32 as decoders are."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(n, d))
    return tuple((shared + 2 * rng.normal(size=(n, d))).astype(np.float32) for _ in "ab")


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def plain_svcca(a: np.ndarray, b: np.ndarray, variance: float = 0.99) -> float:
    """SVCCA as its paper describes it: principal components of both sides, then their canonical correlations."""
    bases = []
    for rows in (a, b):
        u, s, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
        k = int(np.searchsorted(np.cumsum(s**2), variance * np.sum(s**2))) + 1
        bases.append(np.linalg.qr(u[:, :k] * s[:k])[0])
    return float(np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).mean())


def symmetric(matrix: np.ndarray) -> np.ndarray:
    """The matrix as scikit-bio requires it: exactly symmetric, with a zero diagonal."""
    matrix = np.round((matrix + matrix.T) / 2, 12)
    np.fill_diagonal(matrix, 0)
    return matrix


def svcca(quick: bool) -> dict[str, float]:
    """SVCCA with permutations, ours and plain."""
    from sae_utils import measures, significance

    n, d, m, timed = (1024, 128, 100, 3) if quick else (4096, 512, 1000, 3)
    a, b = related(n, d)
    plain = {"ratio_svcca": 0.0, "ratio_svcca_float32": 0.0}

    def time_plain() -> None:
        for key, dtype in zip(plain, (np.float64, np.float32), strict=True):
            x, y = a.astype(dtype), b.astype(dtype)
            plain[key] += seconds(lambda x=x, y=y: [plain_svcca(x, y) for _ in range(timed)])

    time_plain()  # before and after ours, so that both see the same load of the machine
    ours = seconds(lambda: significance.test(a, b, ["svcca"], m=m))
    time_plain()
    plain = {key: took / (2 * timed) * (m + 1) for key, took in plain.items()}
    print(f"SVCCA {n} x {d}, {m} permutations: ours {ours:.1f} s, plain {[f'{t:.0f} s' for t in plain.values()]}")
    assert abs(plain_svcca(a.astype(float), b.astype(float)) - measures.svcca(a, b).score) < 1e-9
    return {key: took / ours for key, took in plain.items()}


def rsa(quick: bool) -> dict[str, float]:
    """Spearman RSA, ours and scikit-bio's."""
    from skbio.stats.distance import DistanceMatrix, mantel

    from sae_utils import significance

    n, m = (512, 999) if quick else (4096, 9999)
    a, b = related(n, 512)
    significance.test(a[:64], b[:64], ["rsa_spearman"], m=2)  # compiled once and kept on disk
    ours = seconds(lambda: significance.test(a, b, ["rsa_spearman"], m=0, m_of={"rsa_spearman": 0}))

    start = time.perf_counter()
    sides = (DistanceMatrix(symmetric(1 - np.corrcoef(rows))) for rows in (a, b))
    r, p, _ = mantel(*sides, method="spearman", permutations=m, alternative="greater", seed=0)
    theirs = time.perf_counter() - start
    mine = significance.test(a, b, ["rsa_spearman"], m=0)["rsa_spearman"]
    print(f"Spearman RSA n = {n}: ours {ours:.1f} s (r {mine.observed:.6f}, z {mine.z:.1f}), scikit-bio {theirs:.1f} s")
    assert abs(mine.observed - r) < 1e-6, (mine.observed, r, p)
    return {"ratio_rsa": theirs / ours}


def rsa32k(quick: bool) -> dict[str, float]:
    """Pearson RSA of many pairs."""
    from sae_utils import significance

    n, m = (4096, 20) if quick else (32_768, 200)
    a, b = related(n, 512)
    significance.test(a[:2100], b[:2100], ["rsa_pearson"], m=2)  # compiled once and kept on disk
    took = seconds(lambda: significance.test(a, b, ["rsa_pearson"], m=m))
    peak = _process.peak_mb()
    print(f"Pearson RSA n = {n}, exact moments and {m} permutations: {took:.1f} s, {peak:.0f} MB")
    return {"rsa32k_s": took, "rsa32k_mb": peak}


def battery(quick: bool) -> dict[str, float]:
    """Eight measures with shared permutations."""
    from sae_utils import significance

    n, d, m = (500, 64, 50) if quick else (5000, 512, 1000)
    a, b = related(n, d)
    significance.test(a[:300], b[:300], BATTERY, m=2)  # compiled once and kept on disk
    took = seconds(lambda: significance.test(a, b, BATTERY, m=m, m_of={"rsa_spearman": m // 10}))
    print(f"{len(BATTERY)} measures, {n} pairs x {d}, {m} permutations: {took:.1f} s")
    return {"battery_s": took}


PARTS = {"svcca": (svcca, 1), "rsa": (rsa, 1), "rsa32k": (rsa32k, 1), "battery": (battery, 2)}


def main() -> None:
    """Run all parts and print their measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, to check that it runs")
    parser.add_argument("--part", choices=PARTS, help="run only this part, in this process")
    chosen = parser.parse_args()
    if chosen.part:
        print(json.dumps(PARTS[chosen.part][0](chosen.quick)))
        return
    found: dict[str, float] = {}
    for part, (_, threads) in PARTS.items():
        found |= _process.run("significance", "--part", part, *["--quick"] * chosen.quick, threads=threads)
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    main()
