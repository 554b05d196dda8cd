"""SAEs trained on some of the training documents of their model: those of one topic, or as many of all topics.

In: a dictionary of a profile, a topic. Out: token rows, and an SAE trained on them; what its components are.
Never: another model; a document that judges.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sae_utils import pipeline, replicates
from sae_utils.engine.core.spec import ProfileError, build, nearest
from sae_utils.engine.lms import batching
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import trainer
from sae_utils.engine.text import corpora, lexicon, stories
from sae_utils.store import Artefact, artefact
from sae_utils.studies.training import appearing, states
from sae_utils.studies.training.states import Reading

ONE, MIXED = "one topic", "all topics"


@artefact
def selected(folder: Path, rows: Artefact, text: Artefact, topic: int, mixed: bool) -> dict[str, Any]:
    """The training rows of the documents of one topic; `mixed`: of any documents, up to as many tokens.

    Arrays as in `rows`. Raises ValueError if no training document has the topic.
    """
    training = batching.rows_in(rows, "training")
    of = text.array("topic")[rows.array("documents")[training, 0]] == topic
    lengths = rows.array("lengths")[training]
    if not of.any():
        raise ValueError(f"no training document has the topic {topic}: give the corpus more documents")
    chosen = training[of]
    if mixed:
        order = np.random.default_rng(topic).permutation(len(training))
        within = np.cumsum(lengths[order]) <= lengths[of].sum()
        chosen = np.sort(training[order[within]])
    for file in rows.path.glob("*.npy"):
        np.save(folder / file.name, rows.array(file.stem)[chosen])
    return {"tokens": int(rows.array("lengths")[chosen].sum()), "rows": len(chosen)}


def topic_number(name: str, where: str) -> int:
    """The number of a topic of the stories. Raises ProfileError for an unknown one."""
    if name not in stories.TOPICS:
        raise ProfileError(f"{where}: no topic is called {name!r}; {nearest(name, stories.TOPICS)}")
    return stories.TOPICS.index(name)


def recipe(record: trainer.Trained, changes: dict[str, Any], where: str) -> trainer.Trained:
    """The record of an SAE with `changes`. Raises ProfileError for an impossible one; `where`: file and key."""
    return build(trainer.Trained, record.model_dump() | {"checkpoints": 0} | changes, where)


def trained(run: Profile, dictionary: str, topic: str, changes: dict[str, Any], where: str) -> dict[str, Artefact]:
    """ONE, MIXED -> an SAE of the model of `dictionary`, with `changes` of its recipe, trained on such documents.

    Raises ProfileError for an unknown topic or an impossible recipe.
    """
    record = pipeline.origin(run.dictionaries, dictionary)
    spec = recipe(record, changes, where)
    model, rows = pipeline.model(run, record.model), pipeline.training_rows(run, record.model)
    text, number = corpora.text(run.training_corpus(record.model)), topic_number(topic, where)
    parts = {label: selected(rows, text, number, label == MIXED) for label in (ONE, MIXED)}
    return {label: trainer.train([spec], model, part, run.common.skip)[spec] for label, part in parts.items()}


def own_classes(topic: str) -> np.ndarray:
    """(classes,) which classes of nouns the stories of a topic are mostly about: their mask among `stories.CLASSES`."""
    cumulative = lexicon.load_lexicon().topic_classes[stories.TOPICS.index(topic)]
    rates = np.diff(cumulative, prepend=0.0)
    found = np.zeros(len(stories.CLASSES), bool)
    found[: len(rates)] = rates > 2 / len(rates)
    return found


class Components(NamedTuple):
    """What an SAE consists of, read on mixed documents."""

    live: int  # features that fire often enough
    kinds: dict[str, int]  # of `appearing.KINDS` -> features
    classes: int  # classes that hold most of the activation of some feature
    own: int  # features with over half of their activation on nouns of the topic's classes
    other_nouns: int  # features with over half of it on other nouns
    unexplained: dict[str, float]  # fraction of the variance left, ONE: on documents of the topic, MIXED: on others
    counterparts: float  # share of live features with a best partner in the finished SAE on the other documents
    covered: float  # share of the finished SAE's live features that have a best partner in this one


def components(
    made: Artefact, given: Reading, finished: replicates.Side, topic: str, of_topic: np.ndarray, minimum: int,
    least: float,
) -> Components:  # fmt: skip
    """What an SAE consists of; `of_topic` (tokens,): whether a site is in a document of the topic.

    `finished`: the SAE that was trained on all documents, at the same sites. A partner counts from a correlation of
    `least` on documents that did not choose it.
    """
    mine = states.features(made, given)
    classes = given.sites.array("classes")
    kinds = appearing.kinds(mine.codes, classes, minimum)
    live = kinds != ""
    main, own = main_classes(mine.codes, classes)[live], own_classes(topic)
    side = replicates.side([mine])
    parts = {ONE: of_topic, MIXED: ~of_topic}
    return Components(
        live=int(live.sum()),
        kinds={kind: int((kinds == kind).sum()) for kind in appearing.KINDS},
        classes=len(np.unique(main[main >= 0])),
        own=int((share_on(mine.codes, classes, own)[live] > 0.5).sum()),
        other_nouns=int((share_on(mine.codes, classes, nouns() & ~own)[live] > 0.5).sum()),
        unexplained={
            label: states.unexplained(made, given.x[part], mine.codes[np.flatnonzero(part)])
            for label, part in parts.items()
        },
        counterparts=appearing.counterparts(side, finished, least),
        covered=appearing.counterparts(finished, side, least),
    )


def nouns() -> np.ndarray:
    """(classes,) the mask of the classes of nouns, which topics choose, among `stories.CLASSES`."""
    return np.arange(len(stories.CLASSES)) < lexicon.load_lexicon().topic_classes.shape[1]


def share_on(codes: Any, classes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(features,) share of a feature's activation on tokens of the classes of a mask (classes,); 0 of a dead one."""
    on = np.flatnonzero((classes >= 0) & chosen[classes])
    return np.asarray(codes[on].sum(0) / np.maximum(codes.sum(0), np.finfo(np.float32).tiny))


def main_classes(codes: Any, classes: np.ndarray) -> np.ndarray:
    """(features,) the class that holds over half of a feature's activation, -1 where none does."""
    total = codes.sum(0)
    of = np.stack([codes[np.flatnonzero(classes == number)].sum(0) for number in range(len(stories.CLASSES))])
    best = of.argmax(axis=0)
    return np.where(of.max(axis=0) > total / 2, best, -1)


def in_topic(given: Reading, text: Artefact, topic: str) -> np.ndarray:
    """(tokens,) whether a site is in a document of the topic."""
    found: np.ndarray = text.array("topic")[given.sites.array("documents")] == stories.TOPICS.index(topic)
    return found
