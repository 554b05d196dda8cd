"""Codes of two models at the positions that their tokenizers share.

In: where tokens end (`alignment`), token rows, sites and codes of two models. Out: a positions artefact, with all that
a sites artefact has, and codes there, in the layout of all codes: what follows cannot tell them from those of models
with one tokenizer.
Never: a measure of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError, nearest
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations
from sae_utils.engine.text import alignment, corpora, tokenization
from sae_utils.store import Appender, Artefact, artefact

How = Literal["last", "mean", "max"]
AGGREGATIONS: tuple[How, ...] = ("last", "mean", "max")
BLOCK = 1 << 16  # units whose codes are held at once


@artefact
def positions(
    folder: Path,
    spans_a: Artefact,
    spans_b: Artefact,
    rows_a: Artefact,
    rows_b: Artefact,
    sites_a: Artefact,
    sites_b: Artefact,
    at: alignment.At,
) -> dict[str, Any]:
    """The shared positions at which both models are looked at: what a sites artefact holds, of the tokens of A.

    Also `first_a`, `last_a`, `first_b`, `last_b`: the sites of each side that are in the unit, and `pieces`: whether
    these are several on one side at least. A unit with a token that is masked on one side is left out.

    Returns:
        sites_a, sites_b: keys of the two sites. tokens: positions. of_a, of_b: positions a site. pieces: share of the
        units that are several tokens on a side. same_opening: share of the positions at which both models have
        read the same text, since their rows begin at one character.

    Raises:
        ValueError: spans of different texts, or of other tokens than the rows; no position is left.
    """
    if spans_a.meta["source"] != spans_b.meta["source"]:
        raise ValueError("the two tokenizations are of different texts: give both models one corpus")
    a, b = alignment.load(spans_a), alignment.load(spans_b)
    units = alignment.share(a, b, at)
    (site_a, opening_a), (site_b, opening_b) = _sites(a, rows_a, sites_a), _sites(b, rows_b, sites_b)
    kept = _whole(site_a, units.first_a, units.last_a) & _whole(site_b, units.first_b, units.last_b)
    if not kept.any():
        raise ValueError(f"all of the {len(kept)} shared positions are masked on one side: lower `skip`")
    units = alignment.Units(*(places[kept] for places in units))
    found = {name: (site_a if name.endswith("a") else site_b)[v] for name, v in units._asdict().items()}
    for name, values in found.items():
        np.save(folder / f"{name}.npy", values)
    pieces = units.several()
    np.save(folder / "pieces.npy", pieces)
    for name in ("tokens", "classes", "documents", "positions", "rows", "split"):
        np.save(folder / f"{name}.npy", sites_a.array(name)[found["last_a"]])
    return {
        "sites_a": sites_a.key,
        "sites_b": sites_b.key,
        "tokens": len(units.last_a),
        "of_a": len(units.last_a) / sites_a.meta["tokens"],
        "of_b": len(units.last_b) / sites_b.meta["tokens"],
        "pieces": float(pieces.mean()),
        "same_opening": float(np.mean(opening_a[units.last_a] == opening_b[units.last_b])),
    }


def _sites(x: alignment.Spans, rows: Artefact, sites: Artefact) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The site of every token, -1 where it is masked, and the character at which its sequence begins."""
    judged, context = activations.judged(rows), rows.array("tokens").shape[1]
    places = rows.array("places")[judged]
    row, position = np.nonzero((places > 0) | (places == tokenization.MASKED))  # without the beginnings of sequences
    documents = rows.array("documents")[judged][row, position]
    order = np.argsort(documents, kind="stable")  # packed rows lie by split
    row, position, documents = row[order], position[order], documents[order]
    if not np.array_equal(documents, x.documents):
        raise ValueError(
            f"the rows hold {len(documents)} tokens where the tokenizer gives {len(x.documents)}, or of other "
            "documents: they were not made from this text by this tokenizer"
        )
    token = np.full((len(judged), context), -1)
    token[row, position] = np.arange(len(documents))
    site = np.full(len(documents), -1)
    looked_at = np.searchsorted(judged, sites.array("rows")), sites.array("positions")
    site[token[looked_at]] = np.arange(len(sites.array("rows")))
    starts = np.flatnonzero(places[row, position - 1] == 0)
    before = np.where(documents[starts] == documents[starts - 1], x.ends[starts - 1], 0)
    before[0] = 0
    return site, np.repeat(before, np.diff(np.append(starts, len(documents))))


def _whole(site: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Units of which no token is masked."""
    return np.asarray((site[first] >= 0) & (site[last] >= 0) & (site[last] - site[first] == last - first))


@artefact
def aggregated(folder: Path, codes: Artefact, positions: Artefact, side: Literal["a", "b"], how: How) -> dict[str, Any]:
    """Codes of a unit from those of its tokens, in the layout of `activations.codes`: one row a position.

    `last`: those of the token that ends at the position. `mean`, `max`: over the tokens of the unit, where a feature
    that does not fire counts as 0. Raises ValueError for codes at other sites than the positions' side.
    """
    if codes.meta["sites"] != positions.meta[f"sites_{side}"]:
        raise ValueError(f"the codes are not over the sites of side {side} of these positions: they cannot be aligned")
    matrix = activations.matrix(codes)
    first, last = positions.array(f"first_{side}"), positions.array(f"last_{side}")
    with (
        Appender(folder / "indices.npy", np.int32) as indices,
        Appender(folder / "values.npy", np.float32) as values,
        Appender(folder / "indptr.npy", np.int64) as indptr,
    ):
        indptr.append(np.zeros(1))
        for begin in range(0, len(first), BLOCK):
            opening, ending = first[begin : begin + BLOCK], last[begin : begin + BLOCK]
            block = aggregate(matrix[opening[0] : ending[-1] + 1], opening - opening[0], ending - opening[0], how)
            indptr.append(indices.length + block.indptr[1:])
            indices.append(block.indices)
            values.append(block.data)
    return {"features": codes.meta["features"], "sites": positions.key}


def aggregate(codes: Any, first: NDArray[np.int64], last: NDArray[np.int64], how: How) -> sparse.csr_array:
    """`aggregated` in memory: CSR codes (tokens, features) and the tokens of every unit to CSR (units, features)."""
    if how not in AGGREGATIONS:
        raise ValueError(f"how = {how!r}: one of {', '.join(AGGREGATIONS)}")
    if how == "last":
        return sparse.csr_array(codes[last])
    counts = last - first + 1
    ends = np.append(0, np.cumsum(counts))
    tokens = np.repeat(first - ends[:-1], counts) + np.arange(ends[-1])
    if how == "mean":
        weight = np.repeat(1 / counts, counts).astype(np.float32)
        mean = sparse.csr_array((weight, tokens, ends), (len(first), codes.shape[0])) @ codes
        mean.sort_indices()
        return sparse.csr_array(mean)
    inside = sparse.csr_array(codes[tokens])
    unit = np.repeat(np.repeat(np.arange(len(first)), counts), np.diff(inside.indptr))
    key = unit * codes.shape[1] + inside.indices
    order = np.argsort(key, kind="stable")
    cells, start, fired = np.unique(key[order], return_index=True, return_counts=True)
    largest = np.maximum.reduceat(inside.data[order], start) if len(start) else inside.data
    unit, feature = np.divmod(cells, codes.shape[1])
    largest = np.where(fired < counts[unit], np.maximum(largest, 0), largest)
    return sparse.csr_array((largest, (unit, feature)), (len(first), codes.shape[1]))


# --- by name


def align(profile: Profile, a: str, b: str, at: alignment.At) -> Artefact:
    """The positions that the models of two dictionaries share on the text of a profile."""
    source = corpora.text(profile.corpus)
    spans_a, spans_b = (alignment.spans(source, pipeline.tokenizer_of(profile, name)) for name in (a, b))
    one, two = (pipeline.reader(profile, name) for name in (a, b))
    sites_a, sites_b = (activations.sites(reader.rows, reader.skip) for reader in (one, two))
    return positions(spans_a, spans_b, one.rows, two.rows, sites_a, sites_b, at)


def features(profile: Profile, name: str, positions: Artefact, how: How) -> pipeline.Features:
    """`pipeline.features` of a dictionary at shared positions.

    It is of one of the two models that were aligned, or of another that reads the same tokens as one of them.
    Raises ValueError for one that reads other tokens.
    """
    own = pipeline.features(profile, name)
    for side in ("a", "b"):
        if own.sites.key == positions.meta[f"sites_{side}"]:
            kept = aggregated(own.kept, positions, side, how)
            return pipeline.Features(activations.matrix(kept), own.decoder, positions, kept)
    raise ValueError(f"{name} reads other tokens than the two models that were aligned: align it with one of them")


def verdict(tested: Sequence[Any], holding: Collection[Any], listed: int) -> str:
    """Whether pairs across tokenizers are arranged alike, in words: of the sets that were tested, of all `listed`."""
    if not tested:
        return "are too few to tell whether they are arranged alike"
    n = sum(key in holding for key in tested)
    rest = f" ({listed - len(tested)} of {listed} sets have too few pairs)" if len(tested) < listed else ""
    if n in (0, len(tested)):
        how = "are arranged" if n else "are not shown to be arranged"
        return f"{how} more alike than chance, however the codes of pieces are joined{rest}"
    return f"are arranged more alike than chance in some comparisons and not in others{rest}"


def control_verdict(compared: Sequence[Any], beyond: Collection[Any]) -> str:
    """The same beside the negative control: `compared` are the sets for which both have pairs enough."""
    if not compared:
        return "are too few to be held against the negative control"
    clear = sum(key in beyond for key in compared) > len(compared) / 2
    return f"are as a rule {'' if clear else 'not clearly '}more alike than the negative control"


class Comparison(NamedTuple):
    """Two dictionaries of models with different tokenizers, and two that show how much alike they could be."""

    a: str
    across: str
    """of a model with another tokenizer"""
    within: str
    """of a model with the tokenizer of `a`: the yardstick, compared with `a`"""
    negative: str
    """of a model with the tokenizer of `a` that should arrange its features otherwise, compared with `across`"""


def comparisons(profile: Profile, notebook: str, listed: Sequence[Any]) -> list[Comparison]:
    """The comparisons that a profile lists, each as [a, across, within, negative].

    Raises:
        ProfileError: one that is not four names of dictionaries, or whose tokenizers are not as they should.
    """
    where, found = f"params/{profile.name}.yaml: {notebook}.comparisons", []
    for names in listed:
        if not (isinstance(names, list) and len(names) == 4):
            raise ProfileError(f"{where}: expected four dictionaries [a, across, within, negative], found {names!r}")
        for name in names:
            if name not in list(profile.dictionaries):  # it may be anything
                remedy = nearest(str(name), profile.dictionaries)
                raise ProfileError(f"{where}: no dictionary is called {name!r}; {remedy}")
        a, across, *others = (pipeline.tokenizer_of(profile, name).key for name in names)
        if a == across or others != [a, a]:
            raise ProfileError(
                f"{where}: {names!r}: the second must be of a model with another tokenizer than that of the first, "
                "the other two of models with the same"
            )
        found.append(Comparison(*names))
    return found
