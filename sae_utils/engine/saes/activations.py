"""From token rows to sparse codes and dense neurons on disk, one pass over the rows for all hooks and SAEs of a model.

In: a model, SAEs, hooks, token rows. Out: a sites artefact (which tokens are looked at) and codes artefacts (what fires
there); all codes artefacts over one sites artefact have the same token in the same row.
Never: a dense tokens x features matrix.

A sites artefact holds, per token: `tokens`, `documents`, `positions` (in its row), `rows`, `split` (an index into
`corpora.SPLITS`) and `classes` (-1 where unknown). A codes artefact holds a CSR matrix: `indptr`, `indices`, `values`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from tqdm import tqdm

from sae_utils.engine.lms import models
from sae_utils.engine.saes import dictionaries
from sae_utils.engine.text import corpora
from sae_utils.store import Appender, Artefact, artefact, artefacts

Source = tuple[Artefact, str]  # an SAE and the hook that it reads


@artefact
def sites(folder: Path, rows: Artefact, skip: int) -> dict[str, Any]:
    """The tokens that are looked at: matching and held-out documents, no padding, no place below `skip`."""
    chosen = judged(rows)
    row, position = np.nonzero(rows.array("places")[chosen] >= skip)
    row = chosen[row]
    np.save(folder / "rows.npy", row.astype(np.int32))
    np.save(folder / "positions.npy", position.astype(np.int32))
    np.save(folder / "tokens.npy", rows.array("tokens")[row, position])
    np.save(folder / "classes.npy", rows.array("classes")[row, position])
    documents = rows.array("documents")[row, position]
    np.save(folder / "documents.npy", documents)
    np.save(folder / "split.npy", rows.array("split")[row])
    return {"tokens": len(row), "documents": len(np.unique(documents))}


def judged(rows: Artefact) -> np.ndarray:
    """Numbers of the rows that no model was trained on."""
    return np.flatnonzero(rows.array("split") != corpora.SPLITS.index("training"))


class Sparse(contextlib.ExitStack):
    """A CSR matrix that grows on disk by rows: `indptr`, `indices` and `values` in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.length = 0
        kinds = {"indices": np.int32, "values": np.float32, "indptr": np.int64}
        self._files = {name: self.enter_context(Appender(folder / f"{name}.npy", kind)) for name, kind in kinds.items()}
        self._files["indptr"].append(np.zeros(1))

    def append(self, rows: torch.Tensor) -> None:
        """Add dense rows (any, columns) at the end."""
        row, column = torch.nonzero(rows, as_tuple=True)
        ends = self._files["indices"].length + torch.bincount(row, minlength=len(rows)).cumsum(0)
        self._files["indices"].append(column.cpu().numpy())
        self._files["values"].append(rows[row, column].float().cpu().numpy())
        self._files["indptr"].append(ends.cpu().numpy())
        self.length += len(rows)


@artefacts
def codes(
    folders: dict[Source, Path], model: Artefact, rows: Artefact, sites: Artefact, skip: int
) -> Iterator[tuple[Source, dict[str, Any]]]:
    """The codes of SAEs of one model, after their own nonlinearity, at every site.

    A pass over the rows serves all SAEs whose activations fit in memory.
    """
    bridge = models.load(model)
    for hooks in models.passes(bridge, rows, [hook for _, hook in folders]):
        parts = {source: folder for source, folder in folders.items() if source[1] in hooks}
        saes = {source: dictionaries.load(source[0]) for source in parts}
        with (
            contextlib.ExitStack() as stack,
            tqdm(total=sites.meta["tokens"], desc="codes", unit=" tokens", leave=False) as bar,
            torch.no_grad(),
        ):
            out = {source: stack.enter_context(Sparse(folder)) for source, folder in parts.items()}
            for window in models.stream(bridge, rows, judged(rows), hooks, skip):
                for source, sae in saes.items():
                    for x in window[source[1]].split(dictionaries.SEGMENT):
                        out[source].append(sae.encode(x))
                bar.update(len(window[hooks[0]]))
        for source, kept in out.items():
            if kept.length != sites.meta["tokens"]:
                raise RuntimeError(
                    f"{kept.length} tokens were encoded where {sites.meta['tokens']} sites were expected"
                )
            yield source, {"features": saes[source].cfg.d_sae, "sites": sites.key}


@artefacts
def neurons(
    folders: dict[str, Path], model: Artefact, rows: Artefact, sites: Artefact, skip: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A model's own activations at hooks, at every site: `values`, float16 (tokens, d), of each.

    A pass over the rows serves all hooks whose activations fit in memory.

    Raises:
        ProfileError: an activation is beyond float16.
    """
    bridge = models.load(model)
    for hooks in models.passes(bridge, rows, folders):
        out: dict[str, Appender] = {}
        with contextlib.ExitStack() as stack, tqdm(total=sites.meta["tokens"], desc="neurons", leave=False) as bar:
            for window in models.stream(bridge, rows, judged(rows), hooks, skip, models.HALF):
                for hook, found in window.items():
                    x = found.half().cpu().numpy()
                    if hook not in out:
                        out[hook] = stack.enter_context(Appender(folders[hook] / "values.npy", np.float16, x.shape[1:]))
                    out[hook].append(x)
                bar.update(len(window[hooks[0]]))
        yield from ((hook, {"sites": sites.key}) for hook in hooks)


def matrix(stored: Artefact) -> Any:
    """What an artefact holds, memory-mapped: CSR (tokens, features) of codes, an array (tokens, d) of neurons."""
    if "features" not in stored.meta:
        return stored.array("values")
    return csr(stored.path, stored.meta["features"])


def csr(folder: Path, features: int) -> sparse.csr_array:
    """What `Sparse` wrote to a folder, memory-mapped: (tokens, features)."""
    values, indices, indptr = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("values", "indices", "indptr")
    )
    found = sparse.csr_array((len(indptr) - 1, features), dtype=np.float32)
    # set one by one: the constructor would copy 32-bit indices into 64-bit ones
    found.data, found.indices, found.indptr = values, indices, indptr
    return found
