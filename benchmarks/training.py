"""Training an SAE on stored activations, against SAELens' bare trainer on tensors in memory.

Both run in turn with the same configuration. `ratio_bare` is bare time / stored time, the median over repeats (1:
reading and mixing are free). `ratio_first` adds the pass over the model, which all SAEs of a hook share.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from sae_utils import pipeline, profiles, store
from sae_utils.engine.saes import trainer


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples, one repeat")
    quick = parser.parse_args().quick
    profile = profiles.load("demo")
    corpus = profile.corpus.model_copy(update={"documents": 8000, "shares": [0.92, 0.04, 0.04]})
    name = profile.pair[0]
    spec = profile.dictionaries[name]
    samples = spec.samples // (10 if quick else 1)
    spec = spec.model_copy(update={"samples": samples - samples % spec.batch})
    with tempfile.TemporaryDirectory() as root:
        store.use(threads=profile.common.threads, root=Path(root))
        # a model trained for a few steps is as fast as any other
        toy = profile.models[spec.model].model_copy(update={"batch": 2048, "checkpoints": 0})
        world = profile._replace(corpus=corpus, models=profile.models | {spec.model: toy})
        model, rows = pipeline.model(world, spec.model), pipeline.rows(world, spec.model)
        print(f"{spec.samples} activations, width {spec.width}, k {spec.k}, corpus: {corpus.description}")
        start = time.perf_counter()
        trainer.inputs({spec.hook: Path(root)}, model, rows, profile.common.skip, spec.samples)
        values = np.load(Path(root) / "values.npy", mmap_mode="r")
        passed = time.perf_counter() - start
        held = list(itertools.islice(trainer.provider(values, spec), spec.samples // spec.batch))
        trainer.fit(spec.model_copy(update={"samples": 10 * spec.batch}), itertools.cycle(held))  # warm up
        bare, stored = [], []
        for _ in range(1 if quick else 5):
            start = time.perf_counter()
            trainer.fit(spec, itertools.cycle(held))
            bare.append(time.perf_counter() - start)
            start = time.perf_counter()
            trainer.fit(spec, trainer.provider(values, spec))
            stored.append(time.perf_counter() - start)
            print(f"bare {bare[-1]:.2f} s, stored {stored[-1]:.2f} s, pass over the model {passed:.2f} s")
    ratio = statistics.median(b / s for b, s in zip(bare, stored, strict=True))
    first = statistics.median(b / (s + passed) for b, s in zip(bare, stored, strict=True))
    rate = spec.samples / statistics.median(stored)
    found = {"ratio_bare": round(ratio, 3), "ratio_first": round(first, 3), "activations_per_s": round(rate)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
