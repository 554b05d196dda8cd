"""Codes of two models at the positions that their tokenizers share, and the words that end there.

In: ends of tokens (`alignment`), token rows, sites and codes of two models. Out: a positions artefact, which holds all
that a sites artefact holds, and codes there in the usual layout, as if both models had one tokenizer.
Never: a similarity; a choice of the models that are aligned.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from sae_utils.engine.saes import activations, correlations
from sae_utils.engine.text import alignment, corpora, tokenization, words
from sae_utils.store import Artefact, artefact

Ints = NDArray[np.int64]
Side = Literal["a", "b"]
SIDES: tuple[Side, Side] = ("a", "b")
How = Literal["last", "mean", "max"]
AGGREGATIONS: tuple[How, ...] = ("last", "mean", "max")
DEFAULT: How = "last"  # the code of a unit in pieces where two tokenizers are compared: its last token has read it all
AT: alignment.At = "words"  # the positions at which they are compared
BLOCK = 1 << 16  # units whose codes are in memory at once
LAST = re.compile(words.WORD.pattern + r"\Z")
CHUNK = 1 << 13  # positions at which dense activations are in memory at once


@artefact
def positions(
    folder: Path, spans_a: Artefact, spans_b: Artefact, rows_a: Artefact, rows_b: Artefact, sites_a: Artefact,
    sites_b: Artefact, at: alignment.At,
) -> dict[str, Any]:  # fmt: skip
    """The shared positions as a sites artefact, whose tokens are those of A.

    It also holds `first_a`, `last_a`, `first_b`, `last_b`: the sites of each side in every unit, `ends`: the character
    of the document at which the unit ends, and `pieces`: whether a unit has several tokens on a side. Units with a
    masked token on a side are left out.
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
    for name, values in (held | {"pieces": pieces, "ends": a.ends[units.last_a]}).items():
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
def aggregated(folder: Path, codes: Artefact, positions: Artefact, side: Side, how: How) -> dict[str, Any]:
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
            start = int(opening.min())  # not the first one where packed rows are sorted by split
            tokens = matrix[start : ending.max() + 1]
            out.append(aggregate(tokens, opening - start, ending - start, how))
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


# --- the words at positions


@artefact
def lexis(folder: Path, source: Artefact, known: Sequence[str] = ()) -> dict[str, Any]:
    """The different words and runs of punctuation of the judged documents, and the `known` ones: `words.json`, sorted.

    They are written as in the text, upper and lower case apart.
    """
    judged, found = source.array("split") != corpora.SPLITS.index("training"), set(known)
    for block in corpora.blocks(source):
        for text in (text for number, text in enumerate(block.texts, block.first) if judged[number]):
            found.update(alignment.RUN.findall(text))
    (folder / "words.json").write_text(json.dumps(sorted(found), ensure_ascii=False), "utf-8")
    return {"words": len(found)}


def words_of(lexicon: Artefact) -> list[str]:
    """The words that `lexis` has stored; the label of every word."""
    found: list[str] = json.loads((lexicon.path / "words.json").read_text("utf-8"))
    return found


@artefact
def worded(folder: Path, positions: Artefact, source: Artefact, lexicon: Artefact) -> dict[str, Any]:
    """The positions at ends of words, whose `tokens` are the words that end there, by their place in `lexis`.

    All other arrays are those of the positions. Raises ValueError if no word ends at one of them.
    """
    place = {word: number for number, word in enumerate(words_of(lexicon))}
    documents, ends = positions.array("documents"), positions.array("ends")
    tokens = np.empty(len(ends), np.int32)
    for block in corpora.blocks(source):
        first, last = np.searchsorted(documents, [block.first, block.first + len(block.texts)])
        of: dict[int, int] = {}
        for at in range(first, last):
            if at == first or documents[at] != documents[at - 1]:
                of = {
                    run.end(): place[run[0]] for run in alignment.RUN.finditer(block.texts[documents[at] - block.first])
                }
            if ends[at] not in of:
                raise ValueError(f"no word ends at character {ends[at]} of document {documents[at]}: align at words")
            tokens[at] = of[ends[at]]
    for file in positions.path.glob("*.npy"):
        np.save(folder / file.name, tokens if file.stem == "tokens" else positions.array(file.stem))
    return positions.meta | {"lexis": len(place)}


def find_words(labels: Sequence[str], tokens: np.ndarray) -> words.Words:
    """The words that end at positions whose `tokens` are places in `labels`; of "x_1" and "1" the word is "1"."""
    folded = [words.folded(found[0]) if (found := LAST.search(label)) else "" for label in labels]
    text = sorted({word for word in folded if word})
    place = {word: number for number, word in enumerate(text)} | {"": -1}
    return words.Words(tuple(text), np.array([place[word] for word in folded], np.int32)[tokens])


def spelt(positions: Artefact, sites: Artefact, side: Side, vocabulary: int) -> sparse.csr_array:
    """How often every token stands in the units of every word: (words, vocabulary) of the side whose `sites` these are.

    `positions` of `worded`, which name the words.
    """
    first, last = positions.array(f"first_{side}"), positions.array(f"last_{side}")
    counts = last - first + 1
    ends = np.append(0, np.cumsum(counts))
    at = np.repeat(first - ends[:-1], counts) + np.arange(ends[-1])
    where = np.repeat(positions.array("tokens"), counts), sites.array("tokens")[at]
    shape = positions.meta["lexis"], vocabulary
    return sparse.csr_array(sparse.coo_array((np.ones(len(at)), where), shape))


# --- dense activations at positions


def places(positions: Artefact, sites: Artefact, side: Side, split: str) -> Ints:
    """(positions of a split,) the number of the last token of each among the sites of that split."""
    number = np.cumsum(correlations.in_split(sites, split)) - 1
    return np.asarray(number[positions.array(f"last_{side}")[correlations.in_split(positions, split)]])


def at_places(
    windows: Iterator[Mapping[str, torch.Tensor]], chosen: Ints, size: int = CHUNK
) -> Iterator[dict[str, torch.Tensor]]:
    """The rows `chosen`, in rising order, of windows of activations that follow one another, `size` of them at a time.

    So two models of different tokenizers give windows of the same positions.
    """
    start, held = 0, dict[str, torch.Tensor]()
    for window in windows:
        tokens = len(next(iter(window.values())))
        inside = chosen[slice(*np.searchsorted(chosen, [start, start + tokens]))] - start
        part = {hook: x[torch.from_numpy(inside).to(x.device)] for hook, x in window.items()}
        held = {hook: torch.cat([held[hook], x]) if held else x for hook, x in part.items()}
        start += tokens
        while len(next(iter(held.values()))) >= size:
            yield {hook: x[:size] for hook, x in held.items()}
            held = {hook: x[size:] for hook, x in held.items()}
    if held and len(next(iter(held.values()))):
        yield held
