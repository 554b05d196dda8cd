"""Codes of two SAEs as the published procedure takes them and as ours does: one `View` for each way.

In: two dictionaries of a profile and a number of positions; for a control the words that are exchanged. Out: `Sides`,
which `ladder` scores.
Never: pre-activations that outlive the call; an input of any result outside this study.

The published procedure looks at every position, also at padding, and takes features before the SAE's nonlinearity from
activations at the input of the block, although the SAE was trained on the block's output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sae_utils import correlate, labels, matching, pipeline, store
from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.kernels.sides import Codes
from sae_utils.engine.lms import batching, models
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, dictionaries
from sae_utils.engine.text import corpora
from sae_utils.matching import Pairs
from sae_utils.store import Appender, Artefact, artefact, artefacts

PUBLISHED, MASK, HOOK, CODES = "published", "mask", "hook", "TopK"
VIEWS = (PUBLISHED, MASK, HOOK, CODES)
"""each corrects one thing in the view before: padding is left out; the SAE reads its own hook; codes are after TopK"""


class View(NamedTuple):
    """Correlations and labels of two SAEs, from one way of taking their codes."""

    b_to_a: Pairs  # every live feature of B with its best partner in A
    mutual: Pairs
    firings: tuple[np.ndarray, np.ndarray]  # of every feature of A and of B
    # token ids (features, top) of A and of B, -1 where a feature fires on fewer positions
    top: tuple[np.ndarray, np.ndarray]

    def facts(self, words: list[str]) -> dict[str, np.ndarray]:
        """The facts that `filters` need, by name; `words` are the labels of all tokens."""
        of_a, of_b = (labels.spell(top, labels.unspaced(words)) for top in self.top)
        return {"firings_a": self.firings[0], "firings_b": self.firings[1], "top_a": of_a, "top_b": of_b}


class Sides(NamedTuple):
    """Two SAEs in several views."""

    views: dict[str, View]
    words: list[str]  # label of every token
    rows: tuple[np.ndarray, np.ndarray]  # decoder rows (features_a, d_a), (features_b, d_b)


def view(a: Codes, b: Codes, at: np.ndarray, tokens: np.ndarray, documents: np.ndarray, top: int) -> View:
    """Correlate codes (positions, features) at the positions `at`, and find `top` top tokens of each feature.

    `tokens` and `documents` are those of all positions.
    """
    found = correlate.features(a, b, k=1, rows=at, threads=store.threads(), device=store.device())
    of_a, of_b = (labels.label(x[at], tokens[at], documents[at], k=top, window=0) for x in (a, b))
    return View(
        matching.many_to_one(found, "b_to_a"),
        matching.mutual(found),
        (of_a.firings, of_b.firings),
        (of_a.token, of_b.token),
    )


class Texts(NamedTuple):
    """The rows that a side reads, text after text, and the first positions of each, `most` in all."""

    rows: list[Artefact]
    positions: list[Artefact]

    @classmethod
    def of(cls, rows: list[Artefact], most: int, skip: int) -> Texts:
        return cls(rows, [positions(x, most // len(rows), skip) for x in rows])

    @property
    def reversed(self) -> Texts:
        return Texts(self.rows[::-1], self.positions[::-1])


def sides(profile: Profile, a: str, b: str, most: int, top: int, names: Iterable[str] = VIEWS) -> Sides:
    """Views of two dictionaries on the first matching rows, at no more than `most` positions.

    Raises ValueError if their models do not read the same tokens.
    """
    read_by = [pipeline.reader(profile, name) for name in (a, b)]
    if read_by[0].rows.key != read_by[1].rows.key:
        raise ValueError(f"{a} and {b} look at different tokens: their models need one tokenizer")
    texts = Texts.of([read_by[0].rows], most, profile.common.skip)
    return _sides(profile, (a, b), (texts, texts), top, names)


def arms(profile: Profile, a: str, b: str, seed: int, most: int, top: int) -> tuple[Sides, Sides]:
    """Both sides on the stories and on the same with words exchanged; and once more with B's two halves swapped.

    In the second, B reads every story with the words of `seed` exchanged (`lexicon.exchange`): as a model would that
    was trained where words had changed places. Either model reads the same text in both. Tokens are those that A reads.
    """
    model: str = pipeline.origin(profile.dictionaries, a).model
    rows = [pipeline.rows(profile, model), pipeline.exchanged_rows(profile, model, seed)]
    texts = Texts.of(rows, most, profile.common.skip)
    return (
        _sides(profile, (a, b), (texts, texts), top, VIEWS),
        _sides(profile, (a, b), (texts, texts.reversed), top, VIEWS),
    )


def _sides(
    profile: Profile, pair: tuple[str, str], texts: tuple[Texts, Texts], top: int, names: Iterable[str]
) -> Sides:
    readers = [pipeline.reader(profile, name) for name in pair]
    sources = [source(reader, read) for reader, read in zip(readers, texts, strict=True)]
    kept = partners(sources, texts[0].positions, top, list(names))
    rows_a, rows_b = (dictionaries.decoder(x.dictionary) for x in readers)
    return Sides(
        {name: read(kept, name) for name in names}, pipeline.own_vocabulary(profile, pair[0]), (rows_a, rows_b)
    )


def source(reader: pipeline.Reader, texts: Texts) -> list[Artefact]:
    """A dictionary, and its activations by text: all at the input of its block, as published, then at its own hook."""
    hooks = models.block_input(reader.hook), reader.hook
    fed = [
        activations_at(dict.fromkeys(hooks), reader.model, rows, where)
        for rows, where in zip(texts.rows, texts.positions, strict=True)
    ]
    return [reader.dictionary, *(found[hook] for hook in hooks for found in fed)]


def prepare(profile: Profile, names: Iterable[str], most: int) -> None:
    """Make the activations of many dictionaries on the text of a profile; a pass over a model serves all of its own."""
    hooks, of = defaultdict[Artefact, dict[str, None]](dict), {}
    for x in (pipeline.reader(profile, name) for name in names):
        hooks[x.model] |= dict.fromkeys((models.block_input(x.hook), x.hook))
        of[x.model] = x.rows
    for model, rows in of.items():
        activations_at(hooks[model], model, rows, positions(rows, most, profile.common.skip))


# --- positions, and what models and SAEs hold there


@artefact
def positions(folder: Path, rows: Artefact, most: int, skip: int) -> dict[str, Any]:
    """All positions of the first matching rows, at most `most`; every batch is padded to its longest row.

    Arrays (positions,): `tokens`, `documents`, and `inside`, true at the positions of `activations.sites`. `chosen`
    holds the row numbers, in order. Raises ProfileError if not even one row fits.
    """
    matching_rows = np.flatnonzero(rows.array("split") == corpora.SPLITS.index("matching"))
    chosen = matching_rows[: _number_that_fits(rows, matching_rows, most)]
    parts: dict[str, list[np.ndarray]] = {"tokens": [], "documents": [], "inside": []}
    for batch in batching.in_order(chosen):
        width = rows.array("lengths")[batch].max()
        parts["tokens"].append(rows.array("tokens")[batch, :width].ravel())
        parts["documents"].append(rows.array("documents")[batch, :width].ravel())
        parts["inside"].append((rows.array("places")[batch, :width] >= skip).ravel())
    found = {name: np.concatenate(values) for name, values in parts.items()}
    for name, values in {**found, "chosen": chosen}.items():
        np.save(folder / f"{name}.npy", values)
    return {"tokens": len(found["tokens"]), "documents": len(np.unique(found["documents"]))}


def _number_that_fits(rows: Artefact, given: np.ndarray, most: int) -> int:
    """Number of the first rows `given` that have at most `most` positions, with the padding of their batches."""
    number, left = 0, most
    for batch in batching.in_order(given):
        width = int(rows.array("lengths")[batch].max())
        fit = min(len(batch), left // width)
        number, left = number + fit, left - fit * width
        if fit < len(batch):
            break
    if not number:
        raise ProfileError(f"12_published_tables.positions: {most} are fewer than a row of the text has tokens")
    return number


@artefacts
def activations_at(
    folders: dict[str, Path], model: Artefact, rows: Artefact, positions: Artefact
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Activations of a model at several hooks and all positions: `values`, float32 (positions, d), from one pass.

    Raises RuntimeError if a batch did not fit into memory, since its parts would have other padding.
    """
    out: dict[str, Appender] = {}
    batches = batching.in_order(positions.array("chosen"))
    with contextlib.ExitStack() as stack, tqdm(total=positions.meta["tokens"], desc="positions", leave=False) as bar:
        for part in models.harvest(models.load(model), rows, batches, list(folders), skip=0):
            for hook, found in part.activations.items():
                x = found.flatten(0, 1).cpu().numpy()
                if hook not in out:
                    out[hook] = stack.enter_context(Appender(folders[hook] / "values.npy", np.float32, x.shape[1:]))
                out[hook].append(x)
            bar.update(part.mask.numel())
    if any(kept.length != positions.meta["tokens"] for kept in out.values()):
        raise RuntimeError("a batch of 64 rows did not fit into the memory: give the corpus a shorter `context`")
    yield from ((hook, {}) for hook in folders)


# --- before the nonlinearity, and after it


@artefact
def partners(
    folder: Path, sources: list[list[Artefact]], positions: list[Artefact], top: int, names: list[str]
) -> dict[str, Any]:
    """The views `names` of two SAEs, for `read`; `sources`: `source` of A and of B; `positions`: of the texts of A."""
    tokens, inside = (np.concatenate([x.array(name) for x in positions]) for name in ("tokens", "inside"))
    offset = 1 + max(int(x.array("documents").max()) for x in positions)
    documents = np.concatenate([x.array("documents") + number * offset for number, x in enumerate(positions)])
    drafts = folder / "drafts"
    for name in names:
        sides = [_codes(drafts / f"{name}-{side}", x, name) for side, x in zip("ab", sources, strict=True)]
        at = np.arange(len(tokens)) if name == PUBLISHED else np.flatnonzero(inside)
        _write(folder, name, view(sides[0], sides[1], at, tokens, documents, top))
        shutil.rmtree(drafts)  # half of all features are above 0 at a position, which is too much to keep
    return {}


def _write(folder: Path, name: str, found: View) -> None:
    for kind, pairs in (("b_to_a", found.b_to_a), ("mutual", found.mutual)):
        for field, values in vars(pairs).items():
            np.save(folder / f"{name}-{kind}-{field}.npy", values)
    for side, firings, tops in zip("ab", found.firings, found.top, strict=True):
        np.save(folder / f"{name}-firings-{side}.npy", firings)
        np.save(folder / f"{name}-top-{side}.npy", tops)


def read(kept: Artefact, name: str) -> View:
    """A view that `partners` saved."""

    def array(part: str) -> np.ndarray:
        return np.array(kept.array(f"{name}-{part}"))

    fields = [field.name for field in dataclasses.fields(Pairs)]
    b_to_a, mutual = (Pairs(*(array(f"{kind}-{field}") for field in fields)) for kind in ("b_to_a", "mutual"))
    return View(b_to_a, mutual, (array("firings-a"), array("firings-b")), (array("top-a"), array("top-b")))


def _codes(folder: Path, source: list[Artefact], name: str) -> Codes:
    """The codes of an SAE (positions, features) for a view, memory-mapped in `folder`: dense, or CSR after TopK."""
    folder.mkdir(parents=True)
    sae, fed = dictionaries.load(source[0]), source[1:]
    values = [x.array("values") for x in (fed[len(fed) // 2 :] if name in (HOOK, CODES) else fed[: len(fed) // 2])]
    draft = activations.Sparse(folder) if name == CODES else activations.Dense(folder, torch.float32)
    with draft as out, torch.no_grad():
        for x in values:
            for start in tqdm(range(0, len(x), dictionaries.SEGMENT), name, leave=False, delay=models.DELAY):
                part = torch.from_numpy(np.array(x[start : start + dictionaries.SEGMENT])).to(store.device())
                out.append(sae.encode(part) if name == CODES else rectified(sae, part))
    if name == CODES:
        return activations.csr(folder, sae.cfg.d_sae)
    return np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False)


def rectified(sae: Any, x: torch.Tensor) -> torch.Tensor:
    """ReLU of an SAE's pre-activations, without TopK or threshold: (tokens, features) for `x` (tokens, d).

    Raises ProfileError for a gated SAE, which has none.
    """
    if sae.cfg.architecture() == "gated":
        raise ProfileError("a gated SAE has no codes before its nonlinearity; choose another architecture")
    found = sae.process_sae_in(x) @ sae.W_enc + sae.b_enc
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        found = found * sae.W_dec.norm(dim=-1)
    return torch.relu(found)
