"""Codes of two SAEs as the published procedure takes them and as ours does: one `View` for each way.

In: two dictionaries of a profile and a number of positions. Out: `Sides`, which `ladder` scores.
Never: pre-activations that outlive the call; an input of any result outside this study.

The published procedure looks at every position, also at padding, and takes features before the SAE's nonlinearity from
activations at the input of the block, although the SAE was trained on the block's output.
"""

import contextlib
import dataclasses
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse

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


def sides(profile: Profile, a: str, b: str, most: int, top: int, names: Iterable[str] = VIEWS) -> Sides:
    """Views of two dictionaries on the first matching rows, at no more than `most` positions.

    Raises ValueError if their models do not read the same tokens.
    """
    readers = [pipeline.reader(profile, name) for name in (a, b)]
    if readers[0].rows.key != readers[1].rows.key:
        raise ValueError(f"{a} and {b} look at different tokens: their models need one tokenizer")
    where, fed = positions_of(readers[0], most), inputs(profile, (a, b), most)
    found = {}
    for name in names:
        if name == CODES:
            found[name] = _of_codes(profile, a, b, where, top)
            continue
        sources = [[x.dictionary, fed[x.dictionary][name == HOOK]] for x in readers]
        found[name] = read(partners(sources, where, top), "all" if name == PUBLISHED else "inside")
    rows = [dictionaries.decoder(x.dictionary) for x in readers]
    return Sides(found, pipeline.vocabulary(profile, a), (rows[0], rows[1]))


def inputs(profile: Profile, names: Iterable[str], most: int) -> dict[Artefact, tuple[Artefact, Artefact]]:
    """By dictionary, the activations at the input of its block, as published, and at its own hook.

    One pass over a model serves all its dictionaries.
    """
    readers = [pipeline.reader(profile, name) for name in names]
    hooks: dict[Artefact, dict[str, None]] = defaultdict(dict)
    for x in readers:
        hooks[x.model] |= dict.fromkeys((models.block_input(x.hook), x.hook))
    found = {}
    for x in readers:
        made = activations_at(hooks[x.model], x.model, x.rows, positions_of(x, most))
        found[x.dictionary] = made[models.block_input(x.hook)], made[x.hook]
    return found


def _of_codes(profile: Profile, a: str, b: str, where: Artefact, top: int) -> View:
    """The view of stored codes, at the sites in the rows that `where` chose."""
    x, y = (pipeline.features(profile, name) for name in (a, b))
    at = np.flatnonzero(np.isin(x.sites.array("rows"), where.array("chosen")))
    return view(x.codes, y.codes, at, x.sites.array("tokens"), x.sites.array("documents"), top)


# --- positions, and what models and SAEs hold there


def positions_of(reader: pipeline.Reader, most: int) -> Artefact:
    """`positions` for the rows that a dictionary reads."""
    return positions(reader.rows, most, reader.skip)


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


# --- before the nonlinearity


@artefact
def partners(folder: Path, sources: list[list[Artefact]], positions: Artefact, top: int) -> dict[str, Any]:
    """The views of two SAEs before their nonlinearity, at all positions and at those inside, for `read`.

    `sources`: of A and of B the dictionary and its input (`activations_at`).
    """
    drafts = [folder / side for side in "ab"]
    a, b = (_rectified(draft, *source) for draft, source in zip(drafts, sources, strict=True))
    tokens, documents = positions.array("tokens"), positions.array("documents")
    for where, at in (("all", np.arange(len(tokens))), ("inside", np.flatnonzero(positions.array("inside")))):
        found = view(a, b, at, tokens, documents, top)
        for kind, pairs in (("b_to_a", found.b_to_a), ("mutual", found.mutual)):
            for field, values in vars(pairs).items():
                np.save(folder / f"{where}-{kind}-{field}.npy", values)
        for side, firings, tops in zip("ab", found.firings, found.top, strict=True):
            np.save(folder / f"{where}-firings-{side}.npy", firings)
            np.save(folder / f"{where}-top-{side}.npy", tops)
    for draft in drafts:  # half of all features are above 0 at a position, which is too much to keep
        shutil.rmtree(draft)
    return {}


def read(kept: Artefact, where: str) -> View:
    """The view that `partners` saved; `where` is "all" or "inside"."""

    def array(name: str) -> np.ndarray:
        return np.array(kept.array(f"{where}-{name}"))

    fields = [field.name for field in dataclasses.fields(Pairs)]
    b_to_a, mutual = (Pairs(*(array(f"{kind}-{field}") for field in fields)) for kind in ("b_to_a", "mutual"))
    return View(b_to_a, mutual, (array("firings-a"), array("firings-b")), (array("top-a"), array("top-b")))


def _rectified(folder: Path, dictionary: Artefact, values: Artefact) -> sparse.csr_array:
    """`rectified` of an SAE at every position: CSR (positions, features), memory-mapped in `folder`."""
    folder.mkdir()
    sae, x = dictionaries.load(dictionary), values.array("values")
    starts = range(0, len(x), dictionaries.SEGMENT)
    with activations.Sparse(folder) as out, torch.no_grad():
        for start in tqdm(starts, "before the nonlinearity", leave=False, delay=models.DELAY):
            part = torch.from_numpy(np.array(x[start : start + dictionaries.SEGMENT])).to(store.device())
            out.append(rectified(sae, part))
    return activations.csr(folder, sae.cfg.d_sae)


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
