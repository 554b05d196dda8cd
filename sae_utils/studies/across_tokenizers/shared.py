"""Codes of two models at the positions that their tokenizers share.

In: ends of tokens (`alignment`), token rows, sites and codes of two models. Out: a positions artefact, which holds all
that a sites artefact holds, and codes there in the usual layout, as if both models had one tokenizer.
This module never computes a similarity.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import pipeline, replicates
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, dictionaries
from sae_utils.engine.text import alignment, corpora, tokenization
from sae_utils.store import Artefact, artefact

Ints = NDArray[np.int64]
How = Literal["last", "mean", "max"]
AGGREGATIONS: tuple[How, ...] = ("last", "mean", "max")
ONE = "one tokenizer"  # the kind of a comparison with `within`
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


def cut(text: str, tokenizer: Artefact) -> alignment.Spans:
    """Where the tokens of one text end, without special tokens. Raises ValueError as `alignment.offsets`."""
    from transformers import AutoTokenizer

    (ends,) = alignment.offsets([text], AutoTokenizer.from_pretrained(tokenizer.path, trust_remote_code=False))
    return alignment.Spans(np.zeros(len(ends), np.int32), ends, alignment.ends_a_word(text)[ends])


# --- what the models of a profile read, plain or under exchanged words


class Place(NamedTuple):
    """Shared positions on the text (`exchanged` None), or on the text with words exchanged by a seed."""

    exchanged: int | None
    positions: Artefact


def places(profile: Profile, a: str, b: str, at: alignment.At, *, exchange: bool) -> list[Place]:
    """The positions that the models of two dictionaries share, with `exchange` also under exchanged words.

    Raises ValueError if the words of the two texts are not the same in number and documents.
    """
    seeds = [None, replicates.seed(profile, a)] if exchange else [None]
    found = [Place(seed, align(profile, a, b, at, seed)) for seed in seeds]
    if len({x.positions.array("documents").tobytes() for x in found}) > 1:
        raise ValueError(f"{a} and {b} share other positions under exchanged words: give `at: words`")
    return found


def align(profile: Profile, a: str, b: str, at: alignment.At, exchanged: int | None = None) -> Artefact:
    """The `positions` that the models of two dictionaries share on the text of a profile."""
    source = corpora.text(_corpus(profile, exchanged))
    spans_a, spans_b = (alignment.spans(source, pipeline.tokenizer_of(profile, name)) for name in (a, b))
    rows_a, rows_b = (_rows(profile, name, exchanged) for name in (a, b))
    sites_a, sites_b = (activations.sites(rows, profile.common.skip) for rows in (rows_a, rows_b))
    return positions(spans_a, spans_b, rows_a, rows_b, sites_a, sites_b, at)


def _corpus(profile: Profile, exchanged: int | None) -> corpora.Corpus:
    if exchanged is None:
        return profile.corpus
    return profile.corpus.model_copy(update={"world": "scrambled", "permutation": exchanged})


def _rows(profile: Profile, dictionary: str, exchanged: int | None) -> Artefact:
    model: str = pipeline.origin(profile.dictionaries, dictionary).model
    if exchanged is not None and _by_word(profile, model):
        return pipeline.exchanged_rows(profile, model, exchanged)
    return pipeline.rows(profile, model, _corpus(profile, exchanged))


def _by_word(profile: Profile, model: str) -> bool:
    return getattr(pipeline.origin(profile.models, model), "tokenizer", "") == "word"


def _read(profile: Profile, name: str, exchanged: int | None) -> pipeline.Features:
    """`pipeline.features`, where words are in pieces also under exchanged words."""
    x = pipeline.reader(profile, name)
    if exchanged is None or _by_word(profile, pipeline.origin(profile.dictionaries, name).model):
        return pipeline.features(profile, name, exchanged)
    rows = _rows(profile, name, exchanged)
    sites = activations.sites(rows, x.skip)
    (kept,) = activations.codes([(x.dictionary, x.hook)], x.model, rows, sites, x.skip).values()
    return pipeline.Features(activations.matrix(kept), dictionaries.decoder(x.dictionary), sites, kept)


def features(profile: Profile, name: str, where: Place, how: How) -> pipeline.Features:
    """`pipeline.features` of a dictionary at shared positions.

    Raises ValueError where it reads other tokens than both models that were aligned.
    """
    own = _read(profile, name, where.exchanged)
    for side in ("a", "b"):
        if own.sites.key == where.positions.meta[f"sites_{side}"]:
            kept = aggregated(own.kept, where.positions, side, how)
            return pipeline.Features(activations.matrix(kept), own.decoder, where.positions, kept)
    raise ValueError(f"{name} reads other tokens than the two models that were aligned: align it with one of them")


# --- replicates


class Compared(NamedTuple):
    """One replicate of a comparison."""

    name: str
    a: str
    across: str  # a dictionary of a model with another tokenizer
    within: str  # of a model with the tokenizer of A
    negative: str  # a twin in the place of A; "" where words are exchanged

    def pair(self, kind: str) -> tuple[str, ...]:
        """The dictionaries that are compared: A with `across`, or for the kind `ONE` with `within`.

        Where a twin is the control, the twin is the third name, and A the second, whose place it takes.
        """
        other = self.within if kind == ONE else self.across
        return (other, self.a, self.negative) if self.negative else (self.a, other)


def compared(profile: Profile, comparisons: Sequence[Sequence[str]]) -> list[Compared]:
    """The replicates of every comparison; a name that is no family is part of each."""
    found = []
    for names in comparisons:
        members = [profile.members(name) if name else [""] for name in names]
        number = min((len(x) for x in members if len(x) > 1), default=1)
        each = zip(*(x[:number] if len(x) > 1 else x * number for x in members), strict=True)
        found += [Compared(f"{names[0]} x {names[1]}", *four) for four in each]
    return found
