"""The smoke profile with its lists one element longer or shorter: further elements, and lists of fixed length.

A list or mapping is named by the path to it in a notebook's section. `MORE` holds one further element (of a mapping: a
key with its value) that needs no model or SAE beyond those of the smoke profile.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]
COPY = {"kind": "copies", "shared": 0.7}
FAMILIES = {"kind": "grouped", "groups": 8, "centres": 0.0, "alike_a": 0.8, "alike_b": 0.8}
TWO_BY_THREE = [
    ["two_layer_block0_1", "two_layer_1"],
    ["three_layer_block0_0", "three_layer_block1_0", "three_layer_0"],
]
WOMAN, VERB = "women to men", "nouns to their verbs"
MORE: dict[str, dict[Path, Any]] = {
    "01b_hubs_and_filters": {
        ("filters_in_order",): ["strongest", {"share": 0.9}],
        ("filters_in_order", 2, 1, "tokens"): "he",
    },
    "01c_arranged_alike": {("secondary_measures",): "cca_squared", ("near",): 0.4},
    "02_one_to_one": {("least_r",): 0.95, ("hub_thresholds",): 10_000, ("strongest",): 0.9},
    "03_layer_sweep": {
        ("pairs",): ("two_layer_1 x three_layer_0", TWO_BY_THREE),
        ("secondary_measures",): "cca_squared",
        ("other_estimators",): "jaccard_knn",
    },
    "04_llm_vs_sae": {
        ("beside",): ("random blocks", [["two_layer", "random_blocks"]]),
        ("beside", "layers below"): ["two_layer_block0", "three_layer_block1"],
        ("beside", "another seed"): ["three_layer_0", "three_layer_1"],
        ("secondary_measures",): "cca_squared",
    },
    "04b_neurons_by_index_or_concept": {
        ("by_index",): ("two_layer_1", ["two_layer_0"]),
        ("by_index", "two_layer_0"): "two_layer_start",
    },
    "05_semantic_subspaces": {
        ("labelling", "shares"): 0.3,
    },
    "05b_word_relations": {
        ("relation", "words"): ("aunt to uncle", [["aunt", "uncle"], ["queen", "king"]]),
        ("relation", "words", WOMAN): ["aunt", "uncle"],
        ("relation", "words", VERB): ["bear", "growled"],
    },
    "06_known_truth": {
        ("measures",): "jaccard_knn",
        ("truths",): ("another copy", COPY),
        ("grids",): {"d_a": 8, "d_b": 12, "n": [30, 100]},
        ("grids", 0, "n"): 40,
        ("grids", 1, "n"): 40,
    },
    "06b_level_and_power": {
        ("measures",): "jaccard_knn",
        ("weak_truths",): ("another copy", COPY),
        ("traps",): ("more families", {"right_null": "blocks", "world": FAMILIES}),
        ("trapped",): "cka",
    },
    "06c_intervals_and_verdicts": {
        ("truths",): ("another copy", COPY),
        ("interval", "measures"): "cca_squared",
        ("verdict", "shares"): 0.6,
    },
    "06d_recovery": {
        ("widths",): 3,
        ("splitting", "widths"): 3,
    },
    "06e_counterparts": {("shares",): 0.6, ("noise",): 1.0, ("thresholds",): 0.45},
    "06f_shared_fraction": {
        ("shares",): 0.7,
        ("varied",): ("sparser", {"shared": 1.0, "k": 1}),
        ("measures",): "cka",
    },
    "07_controls": {
        ("sae_seeds",): "two_layer_block0_0",
        ("twins",): ("one layer", "one_layer"),
        ("models",): ("frozen decoder", "frozen_decoder"),
        ("frozen",): "two_layer_block0",
        ("trained",): "random",
        ("least_r",): 0.9,
    },
    "07b_sensitivity": {
        ("alternatives", "measure"): "mutual_knn_2",
        ("alternatives", "matching"): "optimal",
        ("alternatives", "least_r"): 0.05,
        ("alternatives", "minimum_firings"): 15,
        ("alternatives", "n"): 11,
        ("other_dictionaries",): ("another pair", ["two_layer", "two_layer"]),
        ("crossed",): {"matching": "greedy", "minimum_firings": 5},
        ("planted", "noise"): 0.5,
    },
    "07c_twins": {("a",): "two_layer_block0_0", ("twins",): ("one layer", {"b": ["one_layer_0"]})},
    "08_function": {
        ("groups",): ["plants", "vehicles"],
        ("strengths",): 6.0,
        ("lists",): ("sweets", ["cake", "honey"]),
    },
    "08b_attribution": {("sae_seeds",): "two_layer_seed2", ("twins",): ("random weights", "random")},
    "09_joint_dictionary": {
        ("planted", "recipes"): ("wider", {"width": 80, "k": 3, "steps": 50, "batch": 128, "learning_rate": 0.01}),
        ("planted", "shares"): 0.75,
    },
    "09b_alike_loss": {("weights",): 3.0},
    "10_geometry": {
        ("concepts",): ("numbers", ["two", "three", "four", "five", "six", "seven"]),
        ("concepts", "months"): "november",
        ("concepts", "weekdays"): "december",
    },
    "10b_topology": {("sae_seeds",): "two_layer_0"},
    "10c_families": {("strengths",): 0.5, ("sae_seeds",): "two_layer_0"},
    "11_across_tokenizers": {
        ("comparisons",): ["two_layer", "bpe", "one_layer", ""],
        ("tokenizers",): ("smallest pieces", ["bpe", 300]),
    },
    "12_published_tables": {
        ("tokens",): "he",
        ("published_layers",): ("pythia-70m", {"3": "one_layer_0"}),
    },
    "12b_ladder": {("tokens",): "he"},
    "12c_steps_and_truth": {("tokens",): "he", ("truths",): ("another copy", COPY)},
    "12d_false_positives": {("tokens",): "he", ("worlds",): ("another copy", {"world": COPY, "draws": 4})},
    "13_training_phases": {("sizes",): 5000},
    "13b_data": {("topics",): "farm", ("clean",): "three_layer_0"},
}
FIXED: dict[str, list[Path]] = {
    "01b_hubs_and_filters": [("filters_in_order", "*")],  # a filter and its options
    "03_layer_sweep": [("pairs", "*")],  # two sides
    "04_llm_vs_sae": [("beside", "*", "*")],
    "05b_word_relations": [("relation", "words", "*", "*")],
    "07_controls": [("calipers",)],  # of r, of firings
    "07b_sensitivity": [("other_dictionaries", "*")],
    "07c_twins": [("b",), ("twins", "*"), ("twins", "*", "b")],
    "08_function": [("groups", "*")],  # a target and its placebo
    "11_across_tokenizers": [("comparisons", "*"), ("tokenizers", "*")],
    "13_training_phases": [("followed",)],  # A and B
}
"""lists whose places have meanings of their own"""
SHORTER_ONLY: dict[str, list[Path]] = {"03_layer_sweep": [("pairs", "*", "*")]}
"""lists and mappings that grow only with a further SAE"""
PARALLEL: dict[str, tuple[Path, Path]] = {}
"""lists that belong together element by element"""


def matches(path: Path, patterns: list[Path]) -> bool:
    """Whether a path is one of these, in which "*" stands for any step."""
    return any(
        len(path) == len(pattern) and all(want in ("*", step) for want, step in zip(pattern, path, strict=True))
        for pattern in patterns
    )


def lists(value: Any, path: Path = ()) -> Iterator[tuple[Path, list[Any]]]:
    """Every list in a section, with the path to it."""
    if isinstance(value, list):
        yield path, value
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield from lists(inner, (*path, step))


def free(notebook: str, section: dict[str, Any]) -> list[Path]:
    """Paths to the lists and mappings of a section whose length is free."""
    found: list[Path] = [path for path, _ in lists(section) if not matches(path, FIXED.get(notebook, []))]
    without_inner = [path for path in SHORTER_ONLY.get(notebook, []) if "*" not in path]
    return list(dict.fromkeys([*found, *MORE.get(notebook, {}), *without_inner]))


REFUSED: dict[tuple[str, Path], str] = {
    ("03_layer_sweep", ("pairs",)): "no pair of models",
    ("03_layer_sweep", ("pairs", "two_layer x three_layer", "*")): "is no cell of the sweep",
    ("13b_data", ("clean",)): "two dictionaries or more",
}
"""lists of the smoke profile that cannot be shorter, and what the refusal says"""


def reason(notebook: str, path: Path, how: str) -> str | None:
    """Why a profile with this list changed is refused; None if it is not."""
    found = [why for (name, pattern), why in REFUSED.items() if name == notebook and matches(path, [pattern])]
    return found[0] if found and how == "shorter" else None


def change(notebook: str, section: dict[str, Any], path: Path, how: str) -> dict[str, Any] | None:
    """A section with the list at `path` one element "longer" or "shorter"; None where it cannot be."""
    changed = copy.deepcopy(section)
    pair = PARALLEL.get(notebook, ())
    more = MORE.get(notebook, {})
    done = [_change(changed, each, more.get(each), how) for each in (pair if path in pair else (path,))]
    return changed if all(done) else None


def _change(section: dict[str, Any], path: Path, element: Any, how: str) -> bool:
    value: Any = section
    for step in path:
        value = value[step]
    if how == "shorter":
        if value:
            value.pop() if isinstance(value, list) else value.popitem()
            return True
        return False
    if element is None:
        return False
    if isinstance(value, list):
        value.append(element)
    else:
        value[element[0]] = element[1]
    return True


def profile(sections: dict[str, dict[str, Any]], how: str) -> dict[str, Any]:
    """Keys of a profile that extends smoke, in which every list that may be is one element "longer" or "shorter"."""
    keys: dict[str, Any] = {"extends": "smoke"}
    for notebook, section in sections.items():
        changed: dict[str, Any] = copy.deepcopy(section)
        pair = PARALLEL.get(notebook, ())
        for path in sorted(free(notebook, section), key=len, reverse=True):  # the inner ones first
            if not reason(notebook, path, how) and (path not in pair or path == pair[0]):
                changed = change(notebook, changed, path, how) or changed
        keys[notebook] = {key: value for key, value in changed.items() if value != section[key]}
    return keys
