"""Speed of planted samples, compared with a plain loop in the same run: `python -m benchmarks.synthetic [--quick]`.

512 features in 256 dimensions, 5 active on average, rates that decay, full random correlations, noise; two threads.
Each part runs in a process of its own, whose BLAS has one thread. The last line is one JSON object:
samples_per_s      samples a second, codes and activations
samples_per_cpu_s  the same a CPU-second of one core, which other work on the machine changes less
ratio_naive        against a loop that draws one sample at a time: a multivariate normal by its Cholesky factor, the
                   normal distribution function, a comparison with each rate, a product with the rows
ratio_saelens      against SAELens' generator with the same correlations and rates, and its dictionary, in one thread
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from benchmarks import _process
from sae_utils.studies.recovery import worlds

FEATURES, D, ACTIVE, NOISE, CORRELATED = 512, 256, 5.0, 0.1, 0.5


def planted() -> worlds.Truth:
    """The truth that is sampled."""
    firing = {"active": ACTIVE, "decay": 3.0, "correlated": CORRELATED}
    models = {"a": {"d": D, "noise": NOISE}}
    value = {"features": FEATURES, "shape": {"kind": "sphere"}, "firing": firing, "models": models}
    return worlds.world(value, "benchmark").draw(0)


def rates(call: Callable[[], object], n: int) -> tuple[float, float]:
    """Samples a second, and a CPU-second, of a call that draws `n`."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return n / (time.perf_counter() - wall), n / (time.process_time() - cpu)


def ours(n: int) -> dict[str, float]:
    """The package, in two threads."""
    truth = planted()
    truth.sample(4096, 1)  # warm
    wall, cpu = max(rates(lambda: truth.sample(n, 0, threads=2), n) for _ in range(3))
    return {"samples_per_s": wall, "samples_per_cpu_s": cpu}


def naive(n: int) -> dict[str, float]:
    """One sample after the other."""
    truth, rng = planted(), np.random.default_rng(0)
    model = truth.models["a"]
    assert truth.root is not None
    factor = np.linalg.cholesky((truth.root @ truth.root).astype(np.float64))

    def loop() -> np.ndarray:
        found = np.empty((n, D))
        for i in range(n):
            uniform = ndtr(factor @ rng.normal(size=FEATURES))
            code = np.where(uniform > 1 - model.rates, 2 * rng.random(FEATURES), 0)
            found[i] = code @ model.rows + model.noise * rng.normal(size=D)
        return found

    return {"naive_per_cpu_s": rates(loop, n)[1]}


def saelens(n: int) -> dict[str, float]:
    """SAELens' generator, in blocks as large as ours."""
    import torch
    from sae_lens.synthetic import ActivationGenerator, FeatureDictionary

    torch.set_num_threads(1)
    truth = planted()
    model = truth.models["a"]
    assert truth.root is not None
    correlation = torch.from_numpy(truth.root @ truth.root).fill_diagonal_(1.0)
    generator = ActivationGenerator(
        FEATURES, torch.from_numpy(model.rates).float(), std_firing_magnitudes=0.5, correlation_matrix=correlation
    )
    dictionary = FeatureDictionary(FEATURES, D, initializer=None)

    @torch.no_grad()
    def draw() -> None:
        for _ in range(n // worlds.BLOCK):
            x = dictionary(generator.sample(worlds.BLOCK))
            x += model.noise * torch.randn(x.shape)

    draw()
    return {"saelens_per_cpu_s": rates(draw, n // worlds.BLOCK * worlds.BLOCK)[1]}


PARTS: dict[str, tuple[Callable[[int], dict[str, float]], int]] = {
    "ours": (ours, 200_000), "naive": (naive, 4000), "saelens": (saelens, 40_000),
}  # fmt: skip


def main() -> None:
    """Run all parts and print their measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    parser.add_argument("--part", choices=PARTS, help="run only this part, in this process")
    chosen = parser.parse_args()
    if chosen.part:
        call, n = PARTS[chosen.part]
        print(json.dumps(call(n // 10 if chosen.quick else n)))
        return
    found: dict[str, float] = {}
    for part in PARTS:
        found |= _process.run("synthetic", "--part", part, *["--quick"] * chosen.quick)
    speed = found.pop("samples_per_cpu_s")
    result = {
        "samples_per_s": round(found["samples_per_s"]),
        "samples_per_cpu_s": round(speed),
        "ratio_naive": round(speed / found["naive_per_cpu_s"], 1),
        "ratio_saelens": round(speed / found["saelens_per_cpu_s"], 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
