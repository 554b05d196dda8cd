"""The data's way by name: from a name in a profile to its artefact, made if it is not there.

In: a checked profile and a name of its models or dictionaries. Out: artefacts, and codes ready to be compared.
Never: a computation of its own.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from sae_utils import sweep
from sae_utils.correlate import Correlation
from sae_utils.engine.core.spec import ProfileError, nearest
from sae_utils.engine.inputs import hub
from sae_utils.engine.kernels.sides import Side
from sae_utils.engine.lms import cross_entropy, pretrained, toys
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, correlations, dictionaries, quality, releases, trainer
from sae_utils.engine.text import corpora, tokenization
from sae_utils.engine.text.words import Words, find_words, token_labels, token_texts
from sae_utils.matching import Pairs
from sae_utils.store import Artefact

FEWEST = 3  # pairs whose arrangement can be scored at all
CONFIRMED_ON = 32  # rows on which a released SAE must fit its hook best


@contextlib.contextmanager
def _about(profile: Profile, key: str) -> Iterator[None]:
    """Say in what is refused which key of the profile it is about."""
    try:
        yield
    except ProfileError as error:
        raise ProfileError(f"params/{profile.name}.yaml: {key}: {error}") from error


def origin(records: Mapping[str, Any], name: str) -> Any:
    """The record of a model or dictionary, or of that from which it derives (`of`).

    Raises:
        ProfileError: a section of the profile names one that is not there.
    """
    if name not in records:
        raise ProfileError(f"no model or dictionary of the profile is called {name!r}; {nearest(name, records)}")
    record = records[name]
    return origin(records, record.of) if hasattr(record, "of") else record


def tokenizer(profile: Profile, name: str) -> Artefact:
    """The tokenizer of a model; models that cut text alike have one."""
    record = origin(profile.models, name)
    if isinstance(record, pretrained.Pretrained):
        with _about(profile, f"models.{name}"):
            return pretrained.tokenizer(pretrained.tokenizer_spec(record))
    return tokenization.train(corpora.text(profile.corpus), record.tokenizer, record.vocabulary)


def tokenizer_of(profile: Profile, dictionary: str) -> Artefact:
    """The tokenizer of the model that a dictionary reads."""
    return tokenizer(profile, origin(profile.dictionaries, dictionary).model)


def _loaded_tokenizer(profile: Profile, dictionary: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_of(profile, dictionary).path, trust_remote_code=False)


def vocabulary(profile: Profile, dictionary: str) -> list[str]:
    """Label of every token that the model of a dictionary reads."""
    return token_labels(_loaded_tokenizer(profile, dictionary))


def words(profile: Profile, dictionary: str, sites: Artefact) -> Words:
    """The words at the sites at which a dictionary is compared."""
    texts = token_texts(_loaded_tokenizer(profile, dictionary))
    return find_words(texts, *(sites.array(name) for name in ("tokens", "rows", "positions")))


def rows(profile: Profile, name: str, corpus: corpora.Corpus | None = None) -> Artefact:
    """The corpus of the profile, or another, in the tokens of a model."""
    corpus = corpus or profile.corpus
    return tokenization.rows(corpora.text(corpus), tokenizer(profile, name), corpus.context, corpus.packed)


def training_rows(profile: Profile, name: str) -> Artefact:
    """The token rows on which a model and its dictionaries are trained."""
    return rows(profile, name, profile.training_corpus(name))


def model(profile: Profile, name: str) -> Artefact:
    """A language model."""
    record = profile.models[name]
    match record:
        case toys.Toy():
            return toys.train(record, training_rows(profile, name), tokenizer(profile, name))
        case pretrained.Pretrained():
            own = tokenizer(profile, name)
            with _about(profile, f"models.{name}"):
                made = pretrained.link(pretrained.locate(record), record.dtype, own)
                pretrained.refuse_rows(made, training_rows(profile, name), rows(profile, name))
                return made
        case toys.ToyCheckpoint():
            return toys.at_step(model(profile, record.of), record.step)
        case _:
            return toys.twin(model(profile, record.of), record.random, record.seed)


def losses(profile: Profile, name: str, loss_rows: int) -> Artefact:
    """The losses of a model, on text like that which it was trained on, beside its baselines."""
    return cross_entropy.held_out(model(profile, name), training_rows(profile, name), loss_rows)


class Reader(NamedTuple):
    """A dictionary with the model that it reads."""

    dictionary: Artefact
    model: Artefact
    rows: Artefact
    """the corpus of the profile, in the model's tokens"""
    own_rows: Artefact
    """the corpus on which model and dictionary were trained"""
    hook: str
    skip: int
    width: int
    """number of features"""

    def judge(self, judged_rows: int) -> Artefact:
        """`quality.judge` on the corpus on which it was trained."""
        return quality.judge(self.dictionary, self.model, self.own_rows, self.hook, self.skip, judged_rows)

    def locate(self, fvu_rows: int) -> Artefact:
        """`quality.locate` on the corpus on which it was trained."""
        return quality.locate(self.dictionary, self.model, self.own_rows, self.hook, self.skip, fvu_rows)


def _inputs(profile: Profile, of: str, samples: int, hooks: list[str]) -> dict[str, Artefact]:
    return trainer.inputs(hooks, model(profile, of), training_rows(profile, of), profile.common.skip, samples)


def reader(profile: Profile, name: str) -> Reader:
    """A sparse autoencoder and what it reads.

    Raises:
        ProfileError: a released one that fits another hook better than the one it is said to read.
    """
    first = origin(profile.dictionaries, name)
    record = profile.dictionaries[name]
    skip, own_rows = profile.common.skip, training_rows(profile, first.model)
    source = model(profile, first.model)
    if isinstance(first, releases.Released):
        with _about(profile, f"dictionaries.{name}"):
            made = releases.convert(first, hub.find(*first.wanted()), first.hook_in(source))
            hook, width = made.meta["hook"], made.meta["width"]
            quality.confirm(quality.locate(made, source, own_rows, hook, skip, CONFIRMED_ON), hook)
    else:
        hook, width = first.hook, first.width
        made = trainer.train(first, _inputs(profile, first.model, first.samples, [hook])[hook])
    if record is not first:
        made = trainer.at_checkpoint(made, record.number)
    return Reader(made, source, rows(profile, first.model), own_rows, hook, skip, width)


def readers(profile: Profile, names: Iterable[str]) -> dict[str, Reader]:
    """`reader` of many: one pass over a model gives what all that are trained on it read."""
    names, hooks = list(names), defaultdict[tuple[str, int], list[str]](list)
    for first in (origin(profile.dictionaries, name) for name in names):
        if isinstance(first, trainer.Trained):
            hooks[first.model, first.samples].append(first.hook)
    sweep.sweep(lambda key: _inputs(profile, *key, hooks[key]), hooks, "activations")
    return sweep.sweep(lambda name: reader(profile, name), names, "dictionaries")


class Features(NamedTuple):
    """The features of one dictionary, with what they do at every site."""

    codes: Any
    """(tokens, features), CSR of a dictionary, dense of neurons"""
    decoder: np.ndarray
    """(features, d) decoder rows"""
    sites: Artefact
    """which tokens: the same row is the same token in all dictionaries over it"""
    kept: Artefact
    """where the codes lie in the store"""


def _codes(sources: list[Reader]) -> dict[activations.Source, Artefact]:
    """Codes of dictionaries of one model."""
    first = sources[0]
    sites = activations.sites(first.rows, first.skip)
    return activations.codes([(x.dictionary, x.hook) for x in sources], first.model, first.rows, sites, first.skip)


def features(profile: Profile, name: str) -> Features:
    """The codes and decoder rows of a dictionary."""
    source = reader(profile, name)
    (codes,) = _codes([source]).values()
    sites = activations.sites(source.rows, source.skip)
    return Features(activations.matrix(codes), dictionaries.decoder(source.dictionary), sites, codes)


def features_of(profile: Profile, names: Iterable[str]) -> dict[str, Features]:
    """`features` of many: one pass over a model encodes for all that read it."""
    found, of = readers(profile, names), defaultdict[str, list[Reader]](list)
    for name, source in found.items():
        of[origin(profile.dictionaries, name).model].append(source)
    sweep.sweep(lambda model: _codes(of[model]), of, "codes")
    return {name: features(profile, name) for name in found}


class Correlated(NamedTuple):
    """Two sets of features at the same sites, correlated on the documents that choose partners."""

    a: Features
    b: Features
    found: Correlation
    """on the documents that choose"""
    on_matching: np.ndarray
    """(tokens,) mask of the documents that choose"""
    on_held_out: np.ndarray
    """(tokens,) mask of the documents that judge"""
    judged: tuple[Side, Side]
    """either side on the documents that judge, for `correlation`"""

    def held_out(self, pairs: Pairs) -> np.ndarray:
        """Correlation of pairs on the documents that did not choose them: (pairs,), NaN where a feature is dead."""
        return pairs.held_out(*self.judged)


def correlated(
    a: Features, b: Features, k: int, *, swapped: bool = False,
    method: Callable[[Artefact, Artefact, Artefact, str, int], Correlation] = correlations.correlation,
) -> Correlated:  # fmt: skip
    """Correlate two sets of features; the `k` best candidates of each are kept.

    With `swapped` the held-out documents choose and the matching documents judge. `method` is what correlates the
    documents that choose.

    Raises:
        ValueError: they are not over the same sites.
    """
    if a.sites.key != b.sites.key:
        raise ValueError("the two dictionaries look at different tokens: their models need one tokenizer")
    choose, judge = ("held_out", "matching") if swapped else ("matching", "held_out")
    found = method(a.kept, b.kept, a.sites, choose, k)
    judged = correlations.side(a.kept, a.sites, judge), correlations.side(b.kept, b.sites, judge)
    return Correlated(
        a, b, found, correlations.in_split(a.sites, choose), correlations.in_split(a.sites, judge), judged
    )


def enough(profile: Profile, pairs: Pairs) -> None:
    """Refuse pairs of the primary analysis that are too few for any measure.

    Raises:
        ProfileError: fewer than `FEWEST`.
    """
    if len(pairs.a) < FEWEST:
        raise ProfileError(
            f"params/{profile.name}.yaml: primary.pair: {len(pairs.a)} mutual pairs of features, and no measure takes "
            f"fewer than {FEWEST}; give the corpus more documents, or the SAEs more samples"
        )
