"""From a name in a profile to its artefact, which is made if the store does not have it.

In: a checked profile and a name of its models or dictionaries. Out: artefacts; features of dictionaries, and their
correlation.
Never: a computation; other modules do all of them.

Features are compared at every token where the two models of `primary.pair` have one tokenizer. Where they have two,
*all* comparisons of the profile (SAE seeds, twins, layers too) are at the ends of words that both share, so that n and
text are equal; codes there are those of the last token of a word, and labels are words (`engine.tokens` decides).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from sae_utils import sweep
from sae_utils.correlate import Correlation
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.geometry.registry import FEWEST
from sae_utils.engine.inputs import hub
from sae_utils.engine.kernels.sides import Side
from sae_utils.engine.lms import baselines, cross_entropy, pretrained, toys
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, aligned, correlations, dictionaries, quality, releases, trainer
from sae_utils.engine.tokens import (
    about,
    align,
    articles,
    exchanged_rows,
    lexis,
    one_tokenizer,
    origin,
    own_vocabulary,
    positions,
    read_rows,
    rows,
    same_tokenizer,
    side_of,
    tokenizer,
    tokenizer_of,
    training_rows,
    training_text,
    vocabulary,
    words,
)
from sae_utils.matching import Pairs
from sae_utils.store import Artefact

__all__ = [
    "CONFIRMED_ON", "Correlated", "Features", "Reader", "align", "alone", "articles", "at", "correlated", "encode",
    "enough", "exchanged_rows", "features", "features_of", "lexis", "losses", "model", "models", "one_tokenizer",
    "origin", "own_vocabulary", "positions", "read_rows", "reader", "readers", "rows", "same_tokenizer", "side_of",
    "tokenizer", "tokenizer_of", "training_rows", "training_text", "vocabulary", "words",
]  # fmt: skip

CONFIRMED_ON = 32  # rows on which a released SAE must fit its hook best


def model(profile: Profile, name: str) -> Artefact:
    """A language model."""
    record = profile.models[name]
    match record:
        case toys.Toy():
            return toys.train(record, training_rows(profile, name), tokenizer(profile, name))
        case pretrained.Pretrained():
            own = tokenizer(profile, name)
            with about(profile, f"models.{name}"):
                made = pretrained.model(record, own)
                pretrained.refuse_rows(made, training_rows(profile, name), rows(profile, name))
                if pretrained.gguf(record) and not record.untrained:
                    baselines.refuse_worse_than_bigram(made, training_rows(profile, name))
                return made
        case toys.ToyCheckpoint():
            return toys.at_step(model(profile, record.of), record.step)
        case _:
            return toys.twin(model(profile, record.of), record.random, record.seed)


def models(profile: Profile, names: Iterable[str]) -> dict[str, Artefact]:
    """`model` of many; those from which others derive are trained first, side by side."""
    names = list(names)
    sweep.run(lambda name: model(profile, name), dict.fromkeys(_root(profile, name) for name in names), "models")
    return {name: model(profile, name) for name in names}


def _root(profile: Profile, name: str) -> str:
    """The model from which a model derives, or its own name."""
    origin(profile.models, name)
    record = profile.models[name]
    return _root(profile, record.of) if hasattr(record, "of") else name


def losses(profile: Profile, name: str, loss_rows: int) -> Artefact:
    """The losses of a model and of n-grams, on held-out text of its training corpus."""
    return cross_entropy.held_out(model(profile, name), training_rows(profile, name), loss_rows)


class Reader(NamedTuple):
    """A dictionary and the model that it reads."""

    dictionary: Artefact
    model: Artefact
    rows: Artefact  # the corpus of the profile, in the model's tokens
    own_rows: Artefact  # the corpus on which model and dictionary were trained
    hook: str
    skip: int
    width: int  # number of features

    def judge(self, judged_rows: int) -> Artefact:
        """`quality.judge` on the corpus of its training."""
        return quality.judge(self.dictionary, self.model, self.own_rows, self.hook, self.skip, judged_rows)

    def locate(self, fvu_rows: int) -> Artefact:
        """`quality.locate` on the corpus of its training."""
        return quality.locate(self.dictionary, self.model, self.own_rows, self.hook, self.skip, fvu_rows)


def _trained(profile: Profile, specs: list[trainer.Trained]) -> dict[trainer.Trained, Artefact]:
    """SAEs of one model."""
    of = specs[0].model
    return trainer.train(specs, model(profile, of), training_rows(profile, of), profile.common.skip)


def reader(profile: Profile, name: str) -> Reader:
    """A dictionary, trained or converted, and the model that it reads.

    Raises ProfileError if a released SAE cannot be read, or fits another hook better than its own.
    """
    first = origin(profile.dictionaries, name)
    record = profile.dictionaries[name]
    skip, own_rows = profile.common.skip, training_rows(profile, first.model)
    source = model(profile, first.model)
    if isinstance(first, releases.Released):
        with about(profile, f"dictionaries.{name}"):
            made = releases.convert(first, hub.find(*first.wanted()), first.hook_in(source))
            hook, width = made.meta["hook"], made.meta["width"]
            quality.confirm(quality.locate(made, source, own_rows, hook, skip, CONFIRMED_ON), hook)
    else:
        hook, width = first.hook, first.width
        made = _trained(profile, [first])[first]
    if record is not first:
        made = trainer.at_checkpoint(made, record.number)
    return Reader(made, source, rows(profile, first.model), own_rows, hook, skip, width)


def readers(profile: Profile, names: Iterable[str]) -> dict[str, Reader]:
    """`reader` of many dictionaries: models are trained first, then all that read a model, in one pass over it."""
    names, specs = list(names), defaultdict[str, list[trainer.Trained]](list)
    for first in (origin(profile.dictionaries, name) for name in names):
        if isinstance(first, trainer.Trained):
            specs[first.model].append(first)
    models(profile, specs)
    longest_first = sorted(specs, key=lambda of: -len(specs[of]))  # so that no process ends long after the others
    sweep.run(lambda of: _trained(profile, specs[of]), longest_first, "dictionaries")
    return {name: reader(profile, name) for name in names}


class Features(NamedTuple):
    """The features of one dictionary, with their activations at every site."""

    codes: Any  # (tokens, features), CSR of a dictionary, dense of neurons
    decoder: np.ndarray  # (features, d) decoder rows
    sites: Artefact  # the tokens; dictionaries with the same sites have the same token in the same row
    kept: Artefact  # the artefact of the codes


def _codes(sources: list[Reader]) -> dict[activations.Source, Artefact]:
    """Codes of dictionaries of one model."""
    first = sources[0]
    sites = activations.sites(first.rows, first.skip)
    return activations.codes([(x.dictionary, x.hook) for x in sources], first.model, first.rows, sites, first.skip)


def _reading(profile: Profile, name: str, source: Reader, exchanged: int | None) -> Reader:
    """The reader, on the text or on the text whose words have changed places by a seed."""
    if exchanged is None:
        return source
    of = origin(profile.dictionaries, name).model
    read = exchanged_rows if one_tokenizer(profile) else read_rows  # pieces of words change places only where aligned
    return source._replace(rows=read(profile, of, exchanged))


def alone(profile: Profile, name: str, exchanged: int | None = None) -> Features:
    """The features of a dictionary at every token that its own model reads, to describe it or to align it.

    `exchanged`: seed of the exchange of words, also of models that read pieces of words (`read_rows`).
    """
    source = reader(profile, name)
    return _features(source._replace(rows=read_rows(profile, origin(profile.dictionaries, name).model, exchanged)))


def _features(source: Reader) -> Features:
    (codes,) = _codes([source]).values()
    sites = activations.sites(source.rows, source.skip)
    return Features(activations.matrix(codes), dictionaries.decoder(source.dictionary), sites, codes)


def at(own: Features, where: Artefact, side: aligned.Side, how: aligned.How = aligned.DEFAULT) -> Features:
    """The features of a dictionary at the positions `where` that its model, on a `side`, shares with another.

    Raises ValueError for features at other tokens than those of the side.
    """
    kept = aligned.aggregated(own.kept, where, side, how)
    return Features(activations.matrix(kept), own.decoder, where, kept)


def features(profile: Profile, name: str, exchanged: int | None = None) -> Features:
    """The codes and decoder rows of a dictionary at the tokens or positions at which a profile compares features.

    `exchanged`: seed of the exchange of words under which the text is read (`exchanged_rows`); its sites are the same
    documents and positions. Raises ProfileError as `side_of`.
    """
    own = _features(_reading(profile, name, reader(profile, name), exchanged))
    where = positions(profile, exchanged)
    return own if where is None else at(own, where, side_of(profile, name))


def features_of(profile: Profile, names: Iterable[str], exchanged: int | None = None) -> dict[str, Features]:
    """`features` of many dictionaries; one pass over a model gives the codes of all that read it."""
    names = list(names)
    encode(profile, ((name, exchanged) for name in names))
    return {name: features(profile, name, exchanged) for name in names}


def encode(profile: Profile, asked: Iterable[tuple[str, int | None]]) -> None:
    """Make the codes of dictionaries, each on the text or under the `exchanged` words of a seed, all side by side."""
    asked = list(dict.fromkeys(asked))
    found = readers(profile, dict.fromkeys(name for name, _ in asked))
    of: dict[tuple[str, int | None], list[str]] = {}
    for name, exchanged in asked:
        of.setdefault((origin(profile.dictionaries, name).model, exchanged), []).append(name)

    def make(cell: tuple[str, int | None]) -> dict[activations.Source, Artefact]:
        return _codes([_reading(profile, name, found[name], cell[1]) for name in of[cell]])

    sweep.run(make, sorted(of, key=lambda cell: -len(of[cell])), "codes")  # the longest first


class Correlated(NamedTuple):
    """Two sets of features at the same sites, correlated on the documents that choose pairs."""

    a: Features
    b: Features
    found: Correlation  # on the documents that choose
    on_matching: np.ndarray  # (tokens,) mask of the documents that choose
    on_held_out: np.ndarray  # (tokens,) mask of the documents that judge
    judged: tuple[Side, Side]  # both sides on the documents that judge

    def held_out(self, pairs: Pairs) -> np.ndarray:
        """Correlation of pairs on the documents that judge: (pairs,), NaN where a feature is dead."""
        return pairs.held_out(*self.judged)


def correlated(
    a: Features, b: Features, k: int, *, swapped: bool = False,
    method: Callable[[Artefact, Artefact, Artefact, str, int], Correlation] = correlations.correlation,
) -> Correlated:  # fmt: skip
    """Two sets of features with the same sites, correlated, with `k` candidates of each feature.

    `swapped`: the held-out documents choose, and the matching documents judge. `method` correlates two artefacts at
    sites in a split, with k candidates. Raises ValueError if the sites differ.
    """
    if a.sites.key != b.sites.key:
        raise ValueError("the two dictionaries have different tokens: their models need one tokenizer")
    choose, judge = ("held_out", "matching") if swapped else ("matching", "held_out")
    found = method(a.kept, b.kept, a.sites, choose, k)
    on_matching, on_held_out = (correlations.in_split(a.sites, split) for split in (choose, judge))
    judged = correlations.side(a.kept, a.sites, judge), correlations.side(b.kept, b.sites, judge)
    return Correlated(a, b, found, on_matching, on_held_out, judged)


def enough(profile: Profile, pairs: Pairs) -> None:
    """Refuse fewer pairs in the primary analysis than every measure needs. Raises ProfileError."""
    if len(pairs.a) < FEWEST:
        raise ProfileError(
            f"params/{profile.name}.yaml: primary.pair: {len(pairs.a)} mutual pairs of features, and no measure takes "
            f"fewer than {FEWEST}; give the corpus more documents, or the SAEs more samples"
        )
