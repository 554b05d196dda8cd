"""What the published procedure looks at: every position, before the SAE's own nonlinearity, at a hook of choice.

In: two models with SAEs, token rows. Out: a positions artefact (all tokens of some rows, padding and beginning of
sequence too), what the models hold there, and an artefact of who is whose best partner there, and on what the features
fire.
Never: pre-activations that outlive the call; anything a result of this repository rests on, which is in `activations`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from tqdm import tqdm

from sae_utils import correlate, labels, matching, store
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.kernels.sides import Codes
from sae_utils.engine.lms import batching, models
from sae_utils.engine.saes import activations, dictionaries
from sae_utils.engine.text import corpora
from sae_utils.filters import Facts
from sae_utils.matching import Pairs
from sae_utils.store import Appender, Artefact, artefact, artefacts


class View(NamedTuple):
    """Two sides seen in one way: all that the published procedure asks of them."""

    b_to_a: Pairs
    """every live feature of B with its best of A"""
    mutual: Pairs
    firings: tuple[np.ndarray, np.ndarray]
    top: tuple[np.ndarray, np.ndarray]
    """(features, top) token ids, -1 where a feature fires on fewer"""

    def facts(self, words: list[str]) -> Facts:
        """What filters ask; `words`: label of every token."""
        return Facts(*self.firings, *(labels.spell(top, labels.unspaced(words)) for top in self.top))


def see(a: Codes, b: Codes, at: np.ndarray, tokens: np.ndarray, documents: np.ndarray, top: int) -> View:
    """Correlate two sides (positions, features) at the positions `at`, and find the `top` top tokens of each feature.

    `tokens`, `documents`: of all positions.
    """
    found = correlate.features(a, b, k=1, rows=at, threads=store.threads(), device=store.device())
    one, two = (labels.label(x[at], tokens[at], documents[at], k=top, window=0) for x in (a, b))
    return View(
        matching.many_to_one(found, "b_to_a"),
        matching.mutual(found),
        (one.firings, two.firings),
        (one.token, two.token),
    )


@artefact
def positions(folder: Path, rows: Artefact, most: int, skip: int) -> dict[str, Any]:
    """All positions of the first matching rows, at most `most`, every batch padded to its longest row.

    Arrays (positions,): `tokens`, `documents`, and `inside`, true where `activations.sites` would look. `chosen`: the
    token rows, in order.

    Raises:
        ProfileError: not even one row fits.
    """
    chosen = _fitting(rows, np.flatnonzero(rows.array("split") == corpora.SPLITS.index("matching")), most)
    tokens, owners, inside = [], [], []
    for batch in batching.in_order(chosen):
        width = rows.array("lengths")[batch].max()
        tokens.append(rows.array("tokens")[batch, :width].ravel())
        owners.append(rows.array("documents")[batch, :width].ravel())
        inside.append((rows.array("places")[batch, :width] >= skip).ravel())
    np.save(folder / "chosen.npy", chosen)
    np.save(folder / "tokens.npy", np.concatenate(tokens))
    np.save(folder / "documents.npy", np.concatenate(owners))
    np.save(folder / "inside.npy", np.concatenate(inside))
    return {"tokens": sum(map(len, tokens)), "documents": len(np.unique(np.concatenate(owners)))}


def _fitting(rows: Artefact, given: np.ndarray, most: int) -> np.ndarray:
    """The first of the rows `given` that have at most so many positions with the padding of their batches."""
    kept, left = 0, most
    for batch in batching.in_order(given):
        width = int(rows.array("lengths")[batch].max())
        fit = min(len(batch), left // width)
        kept, left = kept + fit, left - fit * width
        if fit < len(batch):
            break
    if not kept:
        raise ProfileError(f"12_published_tables.positions: {most} are fewer than a row of the text has tokens")
    return given[:kept]


@artefacts
def activations_at(
    folders: dict[str, Path], model: Artefact, rows: Artefact, positions: Artefact
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Activations of a model at hooks, at every position: `values`, float32 (positions, d). One pass serves all hooks.

    Raises:
        RuntimeError: a batch did not fit into the memory, whose parts are padded to other lengths.
    """
    out: dict[str, Appender] = {}
    chosen = batching.in_order(positions.array("chosen"))
    with contextlib.ExitStack() as stack, tqdm(total=positions.meta["tokens"], desc="positions", leave=False) as bar:
        for part in models.harvest(models.load(model), rows, chosen, list(folders), skip=0):
            for hook, found in part.activations.items():
                x = found.flatten(0, 1).cpu().numpy()
                if hook not in out:
                    out[hook] = stack.enter_context(Appender(folders[hook] / "values.npy", np.float32, x.shape[1:]))
                out[hook].append(x)
            bar.update(part.mask.numel())
    if any(kept.length != positions.meta["tokens"] for kept in out.values()):
        raise RuntimeError("a batch of 64 rows did not fit into the memory: give the corpus a shorter `context`")
    yield from ((hook, {}) for hook in folders)


@artefact
def partners(folder: Path, sources: list[list[Artefact]], positions: Artefact, top: int) -> dict[str, Any]:
    """What two SAEs look like before their nonlinearity, at all positions and at those inside: `View` twice.

    `sources`: of A and of B the dictionary, and the activations (`activations_at`) with which it is fed.
    """
    drafts = [folder / side for side in "ab"]
    a, b = (_before(draft, *source) for draft, source in zip(drafts, sources, strict=True))
    tokens, documents = positions.array("tokens"), positions.array("documents")
    for name, at in (("all", np.arange(len(tokens))), ("inside", np.flatnonzero(positions.array("inside")))):
        seen = see(a, b, at, tokens, documents, top)
        for kind in ("b_to_a", "mutual"):
            for field, values in vars(getattr(seen, kind)).items():
                np.save(folder / f"{name}-{kind}-{field}.npy", values)
        for side, firings, found in zip("ab", seen.firings, seen.top, strict=True):
            np.save(folder / f"{name}-firings-{side}.npy", firings)
            np.save(folder / f"{name}-top-{side}.npy", found)
    for draft in drafts:  # half of all features are above 0 at a position: too much to be kept
        for file in draft.iterdir():
            file.unlink()
        draft.rmdir()
    return {}


def read(kept: Artefact, where: str) -> View:
    """What `partners` kept, `where` "all" or "inside"."""

    def array(name: str) -> np.ndarray:
        return np.array(kept.array(f"{where}-{name}"))

    fields = [field.name for field in dataclasses.fields(Pairs)]
    b_to_a, mutual = (Pairs(*(array(f"{kind}-{field}") for field in fields)) for kind in ("b_to_a", "mutual"))
    return View(b_to_a, mutual, (array("firings-a"), array("firings-b")), (array("top-a"), array("top-b")))


def _before(folder: Path, dictionary: Artefact, fed: Artefact) -> sparse.csr_array:
    """The ReLU of pre-activations at every position: CSR (positions, features), memory-mapped in `folder`."""
    folder.mkdir()
    sae, values = dictionaries.load(dictionary), fed.array("values")
    starts = range(0, len(values), dictionaries.SEGMENT)
    with activations.Sparse(folder) as out, torch.no_grad():
        for start in tqdm(starts, "before the nonlinearity", leave=False, delay=models.DELAY):
            x = torch.from_numpy(np.array(values[start : start + dictionaries.SEGMENT])).to(store.device())
            out.append(before(sae, x))
    return activations.csr(folder, sae.cfg.d_sae)


def before(sae: Any, x: torch.Tensor) -> torch.Tensor:
    """ReLU of the pre-activations, without TopK or threshold: (tokens, features) for `x` (tokens, d).

    Raises ProfileError for a gated SAE, which has none.
    """
    if sae.cfg.architecture() == "gated":
        raise ProfileError("a gated SAE has no codes before its nonlinearity; choose another architecture")
    found = sae.process_sae_in(x) @ sae.W_enc + sae.b_enc
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        found = found * sae.W_dec.norm(dim=-1)
    return torch.relu(found)
