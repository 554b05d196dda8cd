"""Places of the text that two models share, and the activations of both there.

In: a checked profile and two of its dictionaries. Out: for every shared place the word that ends there and the next
one, its part of the documents, and activations of either model, on the text or under exchanged words.
Never: a map, a vector; a stored activation.

Three sets of documents are kept apart: `MAP` (the matching documents) fits maps, `VECTORS` (the first half of the
held-out articles) gives vectors and strengths, `JUDGE` (the other half) judges.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_utils import pipeline
from sae_utils.engine.lms import models
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations
from sae_utils.engine.saes.correlations import in_split
from sae_utils.engine.text.words import Words
from sae_utils.store import Artefact

MAP, VECTORS, JUDGE = "map", "vectors", "judge"
SETS = (MAP, VECTORS, JUDGE)
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Read(NamedTuple):
    """One model on one reading of the text, at the places that both models share."""

    source: pipeline.Reader  # its rows are those of the reading
    sites: Artefact  # every token that the model reads
    at: Ints  # (places,) the site of each place
    words: Words  # `of` (places,): the word that ends at each
    next: Ints  # (places,) the next word in the same row and document, -1 for none
    documents: Ints  # (places,)
    articles: Ints  # (places,)
    part: NDArray[np.int8]  # (places,) index into SETS

    @property
    def rows(self) -> Ints:
        """(places,) the token row of each place."""
        return np.asarray(self.sites.array("rows")[self.at], np.int64)

    def about(self, words: Iterable[str]) -> Mask:
        """(places,) where a word ends, or comes next, that is one of `words`."""
        return self.ends(words) | self._any(self.next, words)

    def ends(self, words: Iterable[str]) -> Mask:
        """(places,) where one of `words` ends."""
        return self._any(self.words.of, words)

    def _any(self, of: NDArray[Any], words: Iterable[str]) -> Mask:
        listed = np.append(np.isin(self.words.text, list(words)), False)  # of = -1: no word
        return np.asarray(listed[of])

    def activations(self, bridge: Any, chosen: Ints) -> NDArray[np.float32]:
        """(n, d) activations at the hook of the dictionary, at the places `chosen` (n,) in rising order."""
        rows = np.unique(self.rows[chosen])
        site = np.flatnonzero(np.isin(self.sites.array("rows"), rows))
        stream = models.stream(bridge, self.source.rows, rows, [self.source.hook], self.source.skip)
        found = np.concatenate([window[self.source.hook].cpu().numpy() for window in stream])
        return np.asarray(found[np.searchsorted(site, self.at[chosen])])


def read(profile: Profile, name: str, exchanged: int | None = None) -> Read:
    """What the model of a dictionary reads at the shared places; `exchanged` as in `pipeline.features`.

    All readings of both models have the same places in the same order. Raises ProfileError as `pipeline.features`.
    """
    source = pipeline.reader(profile, name)
    if exchanged is not None:
        model = pipeline.origin(profile.dictionaries, name).model
        source = source._replace(rows=pipeline.read_rows(profile, model, exchanged))
    sites = activations.sites(source.rows, source.skip)
    shared = pipeline.positions(profile, exchanged)
    where = shared or sites
    at = shared.array(f"last_{pipeline.side_of(profile, name)}") if shared else np.arange(sites.meta["tokens"])
    words, documents = pipeline.words(profile, name, where), where.array("documents")
    articles = pipeline.articles(profile, where)
    return Read(
        source, sites, np.asarray(at, np.int64), words, following(words.of, where.array("rows"), documents),
        np.asarray(documents, np.int64), np.asarray(articles, np.int64), parts(in_split(where, "matching"), articles),
    )  # fmt: skip


def following(of: NDArray[Any], rows: NDArray[Any], documents: NDArray[Any]) -> Ints:
    """(places,) the first word that ends behind each place in its row and document, -1 for none."""
    n = len(of)
    where = np.where(of >= 0, np.arange(n), n)
    nearest = np.append(np.minimum.accumulate(where[::-1])[::-1], n)[1:]  # the next place at which a word ends
    inside = nearest < n
    found = np.minimum(nearest, n - 1)
    inside &= (rows[found] == rows) & (documents[found] == documents)
    return np.where(inside, np.asarray(of, np.int64)[found], -1)


def parts(matching: Mask, articles: NDArray[Any]) -> NDArray[np.int8]:
    """(places,) index into SETS: matching places, and the others by whether their article is in the first half."""
    held = np.unique(articles[~matching])
    first = np.isin(articles, held[: (len(held) + 1) // 2])
    return np.where(matching, 0, np.where(first, 1, 2)).astype(np.int8)


def spread(of: Read, part: str, rows: int) -> Ints:
    """Up to `rows` token rows of one of the SETS, evenly spaced; a row with places of another set is left out."""
    own, number = of.rows, of.part == SETS.index(part)
    chosen = np.setdiff1d(own[number], own[~number])
    return chosen[np.unique(np.linspace(0, len(chosen) - 1, min(rows, len(chosen))).round().astype(np.int64))]
