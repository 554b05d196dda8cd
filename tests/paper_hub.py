"""Every repository that a profile names, tiny and in its true layout: models, SAEs, datasets.

In: a checked profile and a folder. Out: repositories as `hub_server` serves them; a profile in which sizes differ from
`params/paper.yaml`, and nothing else.
Never: a network; weights that mean anything.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import tiny_hub
import tiny_profile

from sae_utils import params
from sae_utils.lms import pretrained
from sae_utils.saes import releases
from sae_utils.text import corpora, stories

LIKE = {"gemma-2-": "google/gemma-2-2b", "gemma-": "google/gemma-2b", "pythia-160m": "EleutherAI/pythia-160m",
        "pythia-70m": "EleutherAI/pythia-70m", "gpt2": "openai-community/gpt2",
        "TinyStories-1Layer": "roneneldan/TinyStories-1Layer-21M"}  # fmt: skip
PYTHIA = {"EleutherAI/pythia-70m": 32, "EleutherAI/pythia-160m": 48}  # wide enough for ten pairs of planted features
DOCUMENTS = 200
# of the paper's own keys those that only say how much
SIZES: dict[str, Any] = {
    "device": "cpu",
    "models": {"*": {"dtype": "float32"}},
    "dictionaries": {"*": {"width": 48, "k": 4, "samples": 2048, "batch": 64}},
}


def sized(name: str) -> dict[str, Any]:
    """What a profile is given that extends `name`: fewer documents, narrow SAEs, and the smoke profile's sizes.

    Of the smoke profile only what `name` has as the demo has it, so that all that `name` itself says is kept.
    """
    own, demo, smoke = (params.read(file) for file in (name, "demo", "smoke"))
    sections = {
        section: {key: value for key, value in smoke[section].items() if own[section][key] == demo[section][key]}
        for section in params.notebooks()
    }
    # fewer of the planted rows, which are orthonormal, may have no similarity by the debiased CKA
    sections["03_layer_sweep"]["fewest"] = 14
    return (
        SIZES
        | {"extends": name}
        | {"corpus": own["corpus"] | {"documents": DOCUMENTS, "context": 48, "shares": [0.4, 0.3, 0.3]}}
        | {"primary": own["primary"] | {"permutations": 199}}
        | sections
    )


def build(root: Path, profile: params.Profile) -> None:
    """Write every repository of a profile; a model is as deep as the deepest hook that is read of it."""
    texts = [document.text for document in stories.stories(seed=0, documents=40)]
    names = sorted({(x.source, x.revision) for x in profile.models.values() if isinstance(x, pretrained.Pretrained)})
    for seed, (name, revision) in enumerate(names):
        like = next(full for part, full in LIKE.items() if part in name)
        deepest = max(map(block, reading(profile, name)), default=0)
        wider = {"hidden_size": PYTHIA[like]} if like in PYTHIA else {}
        tiny_hub.model(root, name, texts, revision, seed=seed, layers=deepest + 1, like=like, **wider)
    for record in profile.dictionaries.values():
        if isinstance(record, releases.Released):
            tiny_profile.release(root, profile.models[record.model].source, record)
    read = [profile.corpus, *map(profile.training_corpus, profile.models)]
    for corpus in {x.name: x for x in read if isinstance(x, corpora.Hub)}.values():
        dataset(root, corpus)


def reading(profile: params.Profile, source: str) -> list[Any]:
    """The dictionaries that read a repository's model, or a twin of it."""

    def of(model: str) -> Any:
        record = profile.models[model]
        return of(record.of) if hasattr(record, "of") else record.source

    return [record for record in profile.dictionaries.values() if of(record.model) == source]


def block(record: Any) -> int:
    """Number of the block that a dictionary reads, as its record says."""
    said = getattr(record, "hookpoint", "") or getattr(record, "hook", "") or record.id
    return int(re.match(r"(?:layers|blocks)\.(\d+)", said)[1])  # type: ignore[index]


def dataset(root: Path, corpus: corpora.Hub) -> None:
    """Stories in the place of a dataset's documents."""
    place = root / "datasets" / corpus.name / corpus.revision
    place.mkdir(parents=True)
    seed = sum(map(ord, corpus.name))
    lines = [json.dumps({corpus.field: x.text}) for x in stories.stories(seed=seed, documents=DOCUMENTS)]
    (place / "train.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
