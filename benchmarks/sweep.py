"""A sweep in two processes against the same sweep in one: toys of the demo's size, trained for a few steps.

`ratio` is the time of one process / the time of two, the median over repeats (2: two cores, and nothing is lost).
`ratio_first` is that of the first sweep, which starts the processes: they import torch and transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from sae_utils import pipeline, profiles, store, sweep
from sae_utils.engine.lms import toys
from sae_utils.engine.params import Profile

CELLS = 4


def world(profile: Profile, repeat: int, documents: int) -> Profile:
    """A profile with `CELLS` toys of the primary's shape, of seeds that no other repeat has, and fewer stories."""
    record = profile.models[pipeline.origin(profile.dictionaries, profile.pair[0]).model]
    assert isinstance(record, toys.Toy)
    seeds = range(1000 + CELLS * repeat, 1000 + CELLS * (repeat + 1))
    models = {str(seed): record.model_copy(update={"seed": seed, "checkpoints": 0, "trained_on": {}}) for seed in seeds}
    corpus = profile.corpus.model_copy(update={"documents": documents, "shares": [0.92, 0.04, 0.04]})
    return profile._replace(corpus=corpus, models=models, families={})


def seconds(profile: Profile, processes: int, root: str) -> float:
    """Seconds in which all toys are trained from nothing in so many processes."""
    os.environ[sweep.PROCESSES] = str(processes)
    store.use(threads=1, root=Path(root, str(processes)))
    pipeline.training_rows(profile, next(iter(profile.models)))  # text and tokenizer are shared by all
    start = time.perf_counter()
    sweep.run(lambda name: pipeline.model(profile, name), profile.models, "models")
    return time.perf_counter() - start


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the stories, two repeats")
    quick = parser.parse_args().quick
    profile, ratios = profiles.load("demo"), []
    with tempfile.TemporaryDirectory() as root:
        for repeat in range(2 if quick else 4):
            toys_ = world(profile, repeat, 500 if quick else 2000)
            one, two = (seconds(toys_, number, root) for number in (1, 2))
            ratios.append(one / two)
            print(f"{CELLS} trainings: one process {one:.1f} s, two {two:.1f} s", flush=True)
    print(json.dumps({"ratio": round(statistics.median(ratios[1:]), 2), "ratio_first": round(ratios[0], 2)}))


if __name__ == "__main__":
    main()
