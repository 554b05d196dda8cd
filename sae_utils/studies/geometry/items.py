"""Ordered concepts in dictionaries: what the features write at every word, and the order of the words.

In: dictionaries of a profile, lists of words in calendar order. Out: a vector for every word, and for every concept
how circular its words are in either model and how alike in both.
Never: a word that occurs too rarely; a concept with too few words, which is named instead.

Few features fire on one month alone, so that the items are words: the vector of a word is the mean, over its
occurrences, of what the features write there (the SAE's reconstruction without its bias).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import pipeline, replicates, significance
from sae_utils.engine.params import Profile
from sae_utils.engine.text import corpora, stories
from sae_utils.nulls import LEVEL
from sae_utils.significance import Result
from sae_utils.studies.geometry import circles
from sae_utils.studies.geometry.circles import AGREEMENT, VARIANCE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WITHIN = 2.0  # random words occur at most so much more or less often than the concept's words do in the median


class Read(NamedTuple):
    """The words of a text, as the features of two models write them."""

    words: tuple[str, ...]
    occurs: Ints  # (words,)
    a: Floats  # (words, d_a)
    b: Floats  # (words, d_b)
    exchanged: Floats | None  # (words, d_b) B at the same places, where it reads exchanged words


class Concept(NamedTuple):
    """The words of a concept that occur often enough, in calendar order."""

    items: Ints  # (n,) places in `Read.words`
    rare: tuple[str, ...]  # words that are left out
    lists: Ints | None  # (n,) true list of every word of the stories, None in other text

    @property
    def tested(self) -> bool:
        """Whether there are enough words for an order."""
        return len(self.items) >= circles.FEWEST


class Measured(NamedTuple):
    """One concept in one replicate."""

    n: int
    random: Mapping[str, Mapping[str, Result]]  # model -> statistic -> against random words
    within: Mapping[str, Mapping[str, Result]]  # the same against orders within the true lists; {} without lists
    alike: Result  # Spearman RSA of the words in A and B, against shuffled words
    control: float  # its excess where B reads exchanged words; NaN without


def means(codes: Any, of: NDArray[Any], count: Ints, decoder: np.ndarray) -> Floats:
    """(words, d) mean over the occurrences of every word of what the features write there; 0 where it never occurs.

    `codes` (tokens, features), CSR; `of` (tokens,) the word that ends at a token, -1 for none; `count` (words,).
    """
    at = np.flatnonzero(of >= 0)
    average = sparse.csr_array((1 / count[of[at]], (of[at], at)), (len(count), len(of)))
    return np.asarray((average @ codes) @ decoder.astype(np.float64))


def read(run: Profile, names: replicates.Names) -> Read:
    """All words of the text of a profile, in two dictionaries; with replicates also where B reads exchanged words."""
    a, b = (pipeline.features(run, name) for name in names)
    found = pipeline.words(run, names[0], a.sites)
    count = np.bincount(found.of[found.of >= 0], minlength=len(found.text)).astype(np.int64)
    exchanged = None
    if run.common.replicates:
        other = pipeline.features(run, names[1], replicates.seed(run, names[0]))
        exchanged = means(other.codes, found.of, count, other.decoder)
    of_a, of_b = (means(x.codes, found.of, count, x.decoder) for x in (a, b))
    return Read(found.text, count, of_a, of_b, exchanged)


def concept(run: Profile, words: Sequence[str], text: Read, minimum: int) -> Concept:
    """The listed words that occur at least `minimum` times, in their order."""
    place = {word: number for number, word in enumerate(text.words)}
    kept = [w for w in map(str.casefold, words) if w in place and text.occurs[place[w]] >= minimum]
    rare = tuple(word for word in words if word.casefold() not in kept)
    return Concept(np.array([place[word] for word in kept], np.int64), rare, lists(run, kept))


def lists(run: Profile, words: Sequence[str]) -> Ints | None:
    """The true list of every word, None where the text is not of stories or a word is in no list."""
    if not isinstance(run.corpus, corpora.Stories):
        return None
    of = stories.membership()
    found = [" ".join(of[word]) for word in words if word in of]
    return np.unique(found, return_inverse=True)[1].astype(np.int64) if len(found) == len(words) else None


def pool(text: Read, items: Ints) -> Ints:
    """The other words that occur about as often as the items do."""
    usual = np.median(text.occurs[items])
    near = (text.occurs >= usual / WITHIN) & (text.occurs <= usual * WITHIN)
    near[items] = False
    return np.flatnonzero(near)


def measured(text: Read, of: Concept, m: int, seed: int) -> Measured | None:
    """One concept in both models, with `m` draws of each null; None where too few words, or others, are known."""
    others = pool(text, of.items)
    if not of.tested or len(others) < len(of.items):
        return None
    rng = np.random.default_rng(seed)
    vectors = {"A": text.a, "B": text.b}
    drawn = circles.subsets(others, len(of.items), m, rng)
    random = {x: circles.against(rows, of.items, drawn, "random words") for x, rows in vectors.items()}
    within = {}
    if of.lists is not None:
        drawn = circles.orders(of.items, m, rng, of.lists)
        within = {x: circles.against(rows, of.items, drawn, "order within lists") for x, rows in vectors.items()}
    alike = alikeness(text.a, text.b, of.items, m, seed)
    control = np.nan if text.exchanged is None else alikeness(text.a, text.exchanged, of.items, 0, seed).excess
    return Measured(len(of.items), random, within, alike, float(control))


def alikeness(a: Floats, b: Floats, items: Ints, m: int, seed: int) -> Result:
    """Spearman RSA of the items in two models, against shuffled items."""
    return significance.test(a[items], b[items], ["rsa_spearman"], m=m, seed=seed)["rsa_spearman"]


def features_about(codes: Any, of: NDArray[Any], items: Ints, share: float, minimum: int) -> tuple[int, int]:
    """Features with at least `share` of their activation on the items, and on one of them.

    `codes` (tokens, features); `of` (tokens,) the word at a token. Features that fire fewer than `minimum` times are
    not counted.
    """
    total = np.asarray(codes.sum(axis=0, dtype=np.float64)).ravel()
    spent = np.stack([np.asarray(codes[of == item].sum(axis=0, dtype=np.float64)).ravel() for item in items])
    fires = np.bincount(codes.indices, minlength=codes.shape[1]) >= minimum
    about, single = spent.sum(axis=0) >= share * total, spent.max(axis=0) >= share * total
    return int((about & fires).sum()), int((single & fires).sum())


# --- tables

COLUMNS = ("concept", "model", "n", "agreement", "random", "order", "p", "within", "within p", "variance",
           "random variance", "circle", "variance p", "alike", "alike p", "control")  # fmt: skip


def frame(found: Mapping[str, Measured]) -> pd.DataFrame:
    """One row a concept and model, with the columns `COLUMNS`; `order`, `within`, `circle`, `alike` are excesses."""
    rows = []
    for name, x in found.items():
        for model, of in x.random.items():
            order, circle, inner = of[AGREEMENT], of[VARIANCE], x.within.get(model, {}).get(AGREEMENT)
            within = (inner.excess, inner.p) if inner else (np.nan, np.nan)
            rows.append((name, model, x.n, order.observed, order.null_mean, order.excess, order.p, *within,
                         circle.observed, circle.null_mean, circle.excess, circle.p, x.alike.excess, x.alike.p,
                         x.control))  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def summary(of: pd.DataFrame) -> pd.DataFrame:
    """Means over replicates, one row a concept and model, and how many replicates have p <= .05."""
    grouped = of.groupby(["concept", "model"], sort=False)
    means = grouped[["agreement", "random", "within", "variance", "random variance"]].mean()
    means.insert(0, "n", grouped["n"].max())
    means.insert(3, "below .05", _below(grouped["p"]))
    means["variance below .05"] = _below(grouped["variance p"])
    return means.rename(columns={"within": "within lists"}).reset_index()


def _below(p: Any) -> Any:
    return p.agg(lambda x: f"{(x <= LEVEL).sum()} of {len(x)}")


def by_concept(of: pd.DataFrame) -> pd.DataFrame:
    """One row a concept and replicate: excesses, as means of both models."""
    excesses = ["order", "within", "circle", "alike", "control"]
    return of.groupby(["concept", "replicate"], sort=False)[excesses].mean().reset_index()
