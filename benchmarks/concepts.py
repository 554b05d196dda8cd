"""Speed and memory of labels and concept rules.

``python -m benchmarks.concepts``: 500,000 tokens x 32,768 features, 32 active a token. It finds the ten strongest
tokens of every feature, the words on which it fires, and the features of every published concept with two shares. One
process with one thread; seconds are CPU-seconds, without making the codes and without compiling. The last line is one
JSON object: tokens, features, cpu_s, peak_mb.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from benchmarks import _process
from benchmarks.correlation import codes
from sae_utils.engine.text import words
from sae_utils.studies.semantic_subspaces import concepts

VOCABULARY = 50_000  # tokens, as many as Pythia has
RULES = ({"kind": "mass", "share": 0.2}, {"kind": "mass", "share": 0.5})


def measure(tokens: int, features: int) -> dict[str, float]:
    """CPU-seconds and peak memory of labels and rules in this process."""
    lists = concepts.word_lists("published")
    rng = np.random.default_rng(0)
    listed = [word.encode() for words_of in lists.values() for word in words_of]
    invented = [bytes(rng.integers(97, 123, rng.integers(2, 9), np.uint8)) for _ in range(VOCABULARY)]
    texts = [b" " * (i % 4 > 0) + text for i, text in enumerate([*listed, *invented][:VOCABULARY])]
    ids = (rng.random(tokens) ** 3 * VOCABULARY).astype(np.int32)
    rows, positions = np.divmod(np.arange(tokens), 512)
    on = np.ones(tokens, bool)
    made = codes(tokens, features, 1)

    def work(n: int) -> int:
        of = words.find_words(texts, ids[:n], rows[:n], positions[:n])
        found = concepts.evidence(made[:n] if n < tokens else made, of, rows[:n], on[:n], k=10)
        masks = [concepts.word_mask(list_, found) for list_ in lists.values()]
        return sum(int(concepts.about(found, mask, concepts.rule(rule)).sum()) for mask in masks for rule in RULES)

    work(1000)  # compile first
    before = time.process_time()
    work(tokens)
    spent = time.process_time() - before
    return {"cpu_s": spent, "peak_mb": _process.peak_mb()}


def main() -> None:
    """Measure in a new process and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50,000 tokens x 4,096 features in place of the full size")
    parser.add_argument("--part", nargs=2, metavar=("TOKENS", "FEATURES"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.part:
        print(json.dumps(measure(int(chosen.part[0]), int(chosen.part[1]))))
        return
    tokens, features = (50_000, 4096) if chosen.quick else (500_000, 32_768)
    found = _process.run("concepts", "--part", tokens, features)
    print(f"{tokens:,} tokens x {features:,}: {found['cpu_s']:.2f} CPU-s, {found['peak_mb']:.0f} MB")
    result = {"tokens": tokens, "features": features, **found}
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
