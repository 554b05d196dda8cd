"""Codes of two models at the positions that their tokenizers share.

In: ends of tokens (`alignment`), token rows, sites and codes of two models. Out: a positions artefact, which holds all
that a sites artefact holds, and codes there in the usual layout, as if both models had one tokenizer.
Never: a measure of similarity.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import pipeline
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations
from sae_utils.engine.text import alignment, corpora, tokenization
from sae_utils.store import Artefact, artefact

Ints = NDArray[np.int64]
How = Literal["last", "mean", "max"]
AGGREGATIONS: tuple[How, ...] = ("last", "mean", "max")
BLOCK = 1 << 16  # units whose codes are in memory at once


@artefact
def positions(
    folder: Path, spans_a: Artefact, spans_b: Artefact, rows_a: Artefact, rows_b: Artefact, sites_a: Artefact,
    sites_b: Artefact, at: alignment.At,
) -> dict[str, Any]:  # fmt: skip
    """The shared positions as a sites artefact, whose tokens are those of A.

    It also holds `first_a`, `last_a`, `first_b`, `last_b`: the sites of each side in every unit, and `pieces`: whether
    a unit has several tokens on a side. Units with a masked token on a side are left out.
    In its meta: sites_a, sites_b: keys of the sites. of_a, of_b: positions a site. pieces: share of units with several
    tokens on a side. same_opening: share of positions whose rows begin at one character in both models, so that both
    have read the same text.
    Raises ValueError for spans of different texts or of other tokens than the rows, and if no position is left.
    """
    if spans_a.meta["source"] != spans_b.meta["source"]:
        raise ValueError("the two tokenizations are of different texts: give both models one corpus")
    a, b = alignment.load(spans_a), alignment.load(spans_b)
    units = alignment.share(a, b, at)
    (site_a, opening_a), (site_b, opening_b) = _sites(a, rows_a, sites_a), _sites(b, rows_b, sites_b)
    kept = _unmasked(site_a, units.first_a, units.last_a) & _unmasked(site_b, units.first_b, units.last_b)
    if not kept.any():
        raise ValueError(f"all of the {len(kept)} shared positions are masked on one side: lower `skip`")
    units = alignment.Units(*(places[kept] for places in units))
    pieces, last_a = units.several(), site_a[units.last_a]
    held = {name: (site_a if name.endswith("a") else site_b)[places] for name, places in units._asdict().items()}
    for name in ("tokens", "classes", "documents", "positions", "rows", "split"):
        held[name] = sites_a.array(name)[last_a]
    for name, values in (held | {"pieces": pieces}).items():
        np.save(folder / f"{name}.npy", values)
    return {
        "sites_a": sites_a.key,
        "sites_b": sites_b.key,
        "tokens": len(last_a),
        "of_a": len(last_a) / sites_a.meta["tokens"],
        "of_b": len(last_a) / sites_b.meta["tokens"],
        "pieces": float(pieces.mean()),
        "same_opening": float(np.mean(opening_a[units.last_a] == opening_b[units.last_b])),
    }


def _sites(spans: alignment.Spans, rows: Artefact, sites: Artefact) -> tuple[Ints, Ints]:
    """The site of every token, -1 where it is masked, and the character at which its sequence begins."""
    judged, context = activations.judged(rows), rows.array("tokens").shape[1]
    places = rows.array("places")[judged]
    row, position = np.nonzero((places > 0) | (places == tokenization.MASKED))  # without beginnings of sequences
    documents = rows.array("documents")[judged][row, position]
    order = np.argsort(documents, kind="stable")  # packed rows are sorted by split
    row, position, documents = row[order], position[order], documents[order]
    if not np.array_equal(documents, spans.documents):
        raise ValueError(
            f"the rows hold {len(documents)} tokens where the tokenizer gives {len(spans.documents)}, or of other "
            "documents: they were not made from this text by this tokenizer"
        )
    token = np.full((len(judged), context), -1)
    token[row, position] = np.arange(len(documents))
    site = np.full(len(documents), -1)
    site_rows = sites.array("rows")
    site[token[np.searchsorted(judged, site_rows), sites.array("positions")]] = np.arange(len(site_rows))
    starts = np.flatnonzero(places[row, position - 1] == 0)
    before = np.where(documents[starts] == documents[starts - 1], spans.ends[starts - 1], 0)
    before[0] = 0
    return site, np.repeat(before, np.diff(np.append(starts, len(documents))))


def _unmasked(site: Ints, first: Ints, last: Ints) -> NDArray[np.bool_]:
    """Which units have no masked token."""
    return np.asarray((site[first] >= 0) & (site[last] >= 0) & (site[last] - site[first] == last - first))


@artefact
def aggregated(folder: Path, codes: Artefact, positions: Artefact, side: Literal["a", "b"], how: How) -> dict[str, Any]:
    """Codes of units from those of their tokens by `aggregate`, in the layout of `activations.codes`: a row a position.

    Raises ValueError for codes at other sites than those of the positions' side.
    """
    if codes.meta["sites"] != positions.meta[f"sites_{side}"]:
        raise ValueError(f"the codes are not over the sites of side {side} of these positions: they cannot be aligned")
    matrix = activations.matrix(codes)
    first, last = positions.array(f"first_{side}"), positions.array(f"last_{side}")
    with activations.Sparse(folder) as out:
        for begin in range(0, len(first), BLOCK):
            opening, ending = first[begin : begin + BLOCK], last[begin : begin + BLOCK]
            tokens = matrix[opening[0] : ending[-1] + 1]
            out.append(aggregate(tokens, opening - opening[0], ending - opening[0], how))
    return {"features": codes.meta["features"], "sites": positions.key}


def aggregate(codes: Any, first: Ints, last: Ints, how: How) -> sparse.csr_array:
    """CSR codes (units, features) from CSR codes (tokens, features) and the first and last token of every unit.

    `last` takes the code of the last token, which ends at the position; `mean` and `max` go over all tokens of the
    unit, and a feature that does not fire counts as 0. Raises ValueError for another `how`.
    """
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


def align(profile: Profile, a: str, b: str, at: alignment.At) -> Artefact:
    """The `positions` that the models of two dictionaries share on the text of a profile."""
    source = corpora.text(profile.corpus)
    spans_a, spans_b = (alignment.spans(source, pipeline.tokenizer_of(profile, name)) for name in (a, b))
    one, two = (pipeline.reader(profile, name) for name in (a, b))
    sites_a, sites_b = (activations.sites(reader.rows, reader.skip) for reader in (one, two))
    return positions(spans_a, spans_b, one.rows, two.rows, sites_a, sites_b, at)


def features(profile: Profile, name: str, positions: Artefact, how: How) -> pipeline.Features:
    """`pipeline.features` of a dictionary at shared positions.

    Raises ValueError where it reads other tokens than both models that were aligned.
    """
    own = pipeline.features(profile, name)
    for side in ("a", "b"):
        if own.sites.key == positions.meta[f"sites_{side}"]:
            kept = aggregated(own.kept, positions, side, how)
            return pipeline.Features(activations.matrix(kept), own.decoder, positions, kept)
    raise ValueError(f"{name} reads other tokens than the two models that were aligned: align it with one of them")


def verdict(tested: Sequence[Any], holding: Collection[Any], listed: int) -> str:
    """A clause on whether pairs across tokenizers are arranged alike; `tested`: the tested ones of `listed` sets."""
    if not tested:
        return "are too few to tell whether they are arranged alike"
    n = sum(key in holding for key in tested)
    rest = f" ({listed - len(tested)} of {listed} sets have too few pairs)" if len(tested) < listed else ""
    if n in (0, len(tested)):
        how = "are arranged" if n else "are not shown to be arranged"
        return f"{how} more alike than chance, however the codes of pieces are joined{rest}"
    return f"are arranged more alike than chance in some comparisons and not in others{rest}"


def control_verdict(compared: Sequence[Any], beyond: Collection[Any]) -> str:
    """A clause on the negative control; `compared` are the sets that have enough pairs, as has their control."""
    if not compared:
        return "are too few to be held against the negative control"
    clear = sum(key in beyond for key in compared) > len(compared) / 2
    return f"are as a rule {'' if clear else 'not clearly '}more alike than the negative control"
