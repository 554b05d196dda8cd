"""What a build of a profile costs: seconds, memory and disk.

In: a checked profile; the parameters of what comes from others, where somebody tells. Out: the passes, trainings and
encodings of a build, each with its cost; most memory at once; bytes of the store.
Never: a file that is fetched, an artefact.

A pass ends at the block of its deepest hook, and serves all SAEs that read the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from sae_utils.engine.build import pace
from sae_utils import pipeline
from sae_utils.engine.lms import cross_entropy, models, pretrained, toys
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import dictionaries, releases, trainer
from sae_utils.engine.text import corpora

TOKENS = {corpora.HubDataset: 1000, corpora.Stories: 62}  # a document of OpenWebText, of the stories
TRAINING = 3  # a step forward and back, in steps forward
WIDE = 1024  # dimensions of a model that nobody tells
NEIGHBOURS = 13  # hooks at which an SAE in the residual stream is judged
ENCODINGS = 3  # what labels, losses and correlations ask of an SAE's codes, in encodings of all judged tokens
STARTED = 0.15  # minutes on one core to open a notebook
# and of what is no pass and no training, measured on demo; of 03 and 04 a pair of layers, of 06 a thousand repeats
OWN = {"00_models_and_dictionaries": 0.7, "01_feature_matching": 0.4, "02_one_to_one": 0.3, "03_layer_sweep": 0.04,
       "04_llm_vs_sae": 0.12, "05_semantic_subspaces": 0.6, "06_known_truth": 2.3, "11_across_tokenizers": 0.3,
       "12_published_tables": 0.5}  # fmt: skip
ARRAYS = 1.5e9  # bytes of them in the largest notebook on demo
KEPT = 1.5  # the store in codes, models and SAEs: what is made of them comes beside
BARE = 0.9e9  # bytes of a kernel with its libraries, and of what starts it


class Work(NamedTuple):
    """A part of a build."""

    label: str
    seconds: float
    """on one core"""


class Cost(NamedTuple):
    """What a build costs."""

    works: list[Work]
    memory: float
    """bytes, at most at once"""
    disk: float
    """bytes of the store"""

    @property
    def seconds(self) -> float:
        """All of it, on one core."""
        return sum(work.seconds for work in self.works)


# --- how much there is


def tokens(corpus: corpora.Corpus) -> int:
    """How many tokens a corpus is assumed to have."""
    if isinstance(corpus, corpora.TextFiles):
        return sum(file.stat().st_size for file in corpus.files()) // 4
    assert isinstance(corpus, corpora.HubDataset | corpora.Stories)
    return corpus.documents * TOKENS[type(corpus)]


def of_rows(corpus: corpora.Corpus, rows: int) -> float:
    """Tokens of so many held-out rows."""
    full = corpus.context if corpus.packed else min(corpus.context, TOKENS.get(type(corpus), corpus.context))
    return min(rows * full, corpus.shares[2] * tokens(corpus))


def available(profile: Profile) -> dict[str, int]:
    """How many activations the training documents of each model hold."""
    corpus = {name: profile.training_corpus(name) for name in profile.models}
    return {name: round(x.shares[0] * tokens(x)) for name, x in corpus.items()}


def depth(record: Any, layers: int) -> int:
    """Blocks that a pass to the hook of an SAE computes; all of them where its hook is not said."""
    said = " ".join(str(getattr(record, key, "")) for key in ("hook", "hookpoint", "id", "path"))
    found = re.search(r"(?:blocks|layers?|h)[._](\d+)", said)
    return min(int(found[1]) + 1, layers) if found else layers


# --- what a build does


def cost(profile: Profile, sizes: dict[str, int]) -> Cost:
    """What a build costs; `sizes`: parameters of what comes from others, by key (`models.a`, `dictionaries.a`)."""
    paces = {name: pace.pace(profile, name, _parameters(profile, name, sizes)) for name in profile.models}
    saes = {name: record for name, record in profile.dictionaries.items() if hasattr(record, "model")}
    works = [*_models(profile, paces), *_passes(profile, paces, saes), *_encodings(profile, paces, saes, sizes)]
    works += [Work("the notebooks themselves", _own(profile, name)) for name in profile.sections]
    return Cost(works, _memory(profile, paces, saes, sizes), _disk(profile, paces, saes))


def _parameters(profile: Profile, name: str, sizes: dict[str, int]) -> int:
    record = profile.models[name]
    return _parameters(profile, record.of, sizes) if hasattr(record, "of") else sizes.get(f"models.{name}", 0)


def _models(profile: Profile, paces: dict[str, pace.Pace]) -> Iterator[Work]:
    """Training toys; the losses of every model, and along a learning curve."""
    told = profile.sections["00_models_and_dictionaries"]
    for name, record in profile.models.items():
        corpus, one = profile.training_corpus(name), paces[name]
        whole = one.layers * one.block + one.head
        if isinstance(record, toys.Toy):
            yield Work("training models", TRAINING * whole * corpus.shares[0] * tokens(corpus) * record.epochs)
        times = 1 + (getattr(record, "checkpoints", 0) if name == told["curve"] else 0)
        yield Work("losses", times * whole * of_rows(corpus, told["judged_rows"]))


def _passes(profile: Profile, paces: dict[str, pace.Pace], saes: dict[str, Any]) -> Iterator[Work]:
    """Passes over models to the deepest hook: what trains SAEs, their codes, neurons, 12's positions; their quality."""
    held, there = profile.sections, available(profile)
    told, judged = held["00_models_and_dictionaries"], (1 - profile.corpus.shares[0]) * tokens(profile.corpus)
    deepest: dict[str, float] = {}
    read: dict[tuple[str, int], float] = {}
    for record in saes.values():
        one, corpus = paces[record.model], profile.training_corpus(record.model)
        down = depth(record, one.layers) * one.block
        deepest[record.model] = max(down, deepest.get(record.model, 0.0))
        if isinstance(record, trainer.Trained):
            key = record.model, record.samples
            read[key] = max(down, read.get(key, 0.0))
        whole, rows = one.layers * one.block + one.head, of_rows(corpus, told["judged_rows"])
        near = of_rows(corpus, told["fvu_rows"] + pipeline.CONFIRMED_ON * isinstance(record, releases.Released))
        yield Work("quality", (down + 2 * whole) * rows + (down + one.block) * near)
    for (model, samples), down in read.items():
        yield Work("passes that train SAEs", down * min(samples, there[model]))
    yield Work("passes for codes", sum(deepest.values()) * judged)
    for notebook, count in (("04_llm_vs_sae", judged), ("12_published_tables", _positions(profile))):
        of = {saes[name].model for name in _named(held[notebook], saes) | set(profile.common.primary.pair) & set(saes)}
        yield Work(f"passes of {notebook}", sum(deepest[model] for model in of) * count)


def _encodings(
    profile: Profile, paces: dict[str, pace.Pace], saes: dict[str, Any], sizes: dict[str, int]
) -> Iterator[Work]:
    """Training SAEs, and encoding with them."""
    told = profile.sections["00_models_and_dictionaries"]
    judged = (1 - profile.corpus.shares[0]) * tokens(profile.corpus)
    for name, record in saes.items():
        if isinstance(record, trainer.Trained):
            trained, encoded = pace.step(pace.shape(record), wide(record, paces[record.model]))
            yield Work("training SAEs", trained * record.samples)
        else:
            encoded = 1.5 * sizes.get(f"dictionaries.{name}", 0) * pace.timed_product(1024, 1024, 1024) / 1024**3
        rows = [of_rows(profile.corpus, told[kind]) for kind in ("judged_rows", "fvu_rows")]
        yield Work("encoding", encoded * (ENCODINGS * judged + 3 * rows[0] + 2 * NEIGHBOURS * rows[1]))


def wide(record: Any, one: pace.Pace) -> int:
    """Dimensions at the hook of an SAE."""
    return one.d_mlp if "mlp.hook_p" in getattr(record, "hook", "") else one.d or WIDE


def _positions(profile: Profile) -> float:
    told = profile.sections["12_published_tables"]["positions"]
    return min(told, profile.corpus.shares[1] * tokens(profile.corpus))


def _named(value: Any, names: Any) -> set[str]:
    """Those of `names` that stand anywhere in a section."""
    if isinstance(value, dict):
        return _named([*value, *value.values()], names)
    if isinstance(value, list):
        return set().union(*(_named(item, names) for item in value))
    return {value} & set(names) if isinstance(value, str) else set()


def _own(profile: Profile, notebook: str) -> float:
    """Seconds of a notebook's own work."""
    told, times = profile.sections[notebook], 1.0
    if notebook == "03_layer_sweep":
        times = sum(len(a) * len(b) for a, b in told["pairs"].values())
    elif notebook == "04_llm_vs_sae":
        times = len(told["layers"][0]) * len(told["layers"][1])
    elif notebook == "06_known_truth":
        times = told["small"]["repeats"] / 1000
    return 60 * (STARTED + OWN[notebook] * times)


# --- how much it needs


def _memory(profile: Profile, paces: dict[str, pace.Pace], saes: dict[str, Any], sizes: dict[str, int]) -> float:
    """The largest of what twins, losses, quality, harvesting, training SAEs and the notebooks' arrays hold at once."""
    needs = [ARRAYS]
    for name, one in paces.items():
        weights, row = 4.0 * one.parameters, 4.0 * models.WINDOW * profile.corpus.context
        read = [record for record in saes.values() if record.model == name]
        window = max((row * wide(record, one) for record in read), default=0.0)
        held = max(window, min(models.HELD, NEIGHBOURS * window))
        copies = 2 if isinstance(profile.models[name], toys.Twin) else 1
        needs += [weights * copies + weights, weights + 3 * cross_entropy.LOGITS, weights + 2 * held]
    for name, record in saes.items():
        features = getattr(record, "width", 0)
        size = 2.0 * features * wide(record, paces[record.model]) or float(sizes.get(f"dictionaries.{name}", 0))
        batch = getattr(record, "batch", dictionaries.SEGMENT)
        needs.append(4 * (4 * size + 6 * max(batch, dictionaries.SEGMENT) * features))
    return BARE + max(needs)


def _disk(profile: Profile, paces: dict[str, pace.Pace], saes: dict[str, Any]) -> float:
    """Bytes of the store: models made here, what SAEs read, SAEs, codes, neurons, and what is made of them."""
    there, total = available(profile), 0.0
    judged = (1 - profile.corpus.shares[0]) * tokens(profile.corpus)
    for name, record in profile.models.items():
        kept = 1 + getattr(record, "checkpoints", 0)
        total += 0 if isinstance(record, pretrained.Pretrained) else 4 * paces[name].parameters * kept
    read: set[tuple[str, str]] = set()
    for record in saes.values():
        one = paces[record.model]
        if isinstance(record, trainer.Trained):
            hook = record.model, record.hook
            total += 0 if hook in read else 2 * wide(record, one) * min(record.samples, there[record.model])
            read.add(hook)
            total += 8 * record.width * wide(record, one) * (1 + record.checkpoints)
        total += 8 * getattr(record, "k", 64) * judged
    neurons = {saes[name].model for name in _named(profile.sections["04_llm_vs_sae"], saes)}
    return KEPT * (total + sum(2 * judged * paces[model].d_mlp for model in neurons))
