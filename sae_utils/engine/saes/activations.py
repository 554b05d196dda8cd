"""From token rows to sparse codes and dense neurons on disk, one pass over the rows for all hooks and SAEs of a model.

In: a model, SAEs, hooks, token rows. Out: a sites artefact (the tokens that are compared); artefacts of codes and
neurons, which have the same token in the same row if they have the same sites.
Never: a dense matrix of tokens x features.

A sites artefact holds, per token: `tokens`, `documents`, `positions` (in its row), `rows`, `split` (an index into
`corpora.SPLITS`) and `classes` (-1 where unknown). A codes artefact holds a CSR matrix: `indptr`, `indices`, `values`;
a neurons artefact a dense one: `values`.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from sae_utils.engine.lms import models
from sae_utils.engine.saes import dictionaries
from sae_utils.engine.text import corpora
from sae_utils.store import Appender, Artefact, artefact, artefacts

Source = tuple[Artefact, str]  # an SAE and the hook that it reads


@artefact
def sites(folder: Path, rows: Artefact, skip: int) -> dict[str, Any]:
    """The tokens that are compared: in matching and held-out documents, no padding, no place below `skip`."""
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
    """Row numbers of matching and held-out documents."""
    return np.flatnonzero(rows.array("split") != corpora.SPLITS.index("training"))


class Sparse(contextlib.ExitStack):
    """A CSR matrix that grows on disk by rows: `indptr`, `indices` and `values` in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.length = 0
        kinds = {"indices": np.int32, "values": np.float32, "indptr": np.int64}
        self._files = {name: self.enter_context(Appender(folder / f"{name}.npy", kind)) for name, kind in kinds.items()}
        self._files["indptr"].append(np.zeros(1))

    def append(self, rows: torch.Tensor | sparse.csr_array) -> None:
        """Add rows (n, columns) at the end, dense or CSR."""
        if isinstance(rows, torch.Tensor):
            row, column = torch.nonzero(rows, as_tuple=True)
            ends = torch.bincount(row, minlength=len(rows)).cumsum(0).cpu().numpy()
            indices, values = column.cpu().numpy(), rows[row, column].float().cpu().numpy()
        else:
            indices, values, ends = rows.indices, rows.data, rows.indptr[1:]
        self._files["indptr"].append(self._files["indices"].length + ends)
        self._files["indices"].append(indices)
        self._files["values"].append(values)
        self.length += rows.shape[0]


class Dense(contextlib.ExitStack):
    """A dense matrix that grows on disk by rows: `values` in a folder."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        super().__init__()
        self.length = 0
        self._path, self._dtype = folder / "values.npy", dtype
        self._file: Appender | None = None

    def append(self, rows: torch.Tensor) -> None:
        """Add rows (n, columns) at the end."""
        values = rows.to(self._dtype).cpu().numpy()
        self._file = self._file or self.enter_context(Appender(self._path, values.dtype, values.shape[1:]))
        self._file.append(values)
        self.length += len(values)


@artefacts
@torch.no_grad()
def codes(
    folders: dict[Source, Path], model: Artefact, rows: Artefact, sites: Artefact, skip: int
) -> Iterator[tuple[Source, dict[str, Any]]]:
    """The codes of SAEs of one model, after their own nonlinearity, at every site.

    Raises RuntimeError if the sites are not those of the rows and `skip`.
    """
    bridge = models.load(model)
    for hooks in models.passes(bridge, rows, [hook for _, hook in folders]):
        saes = {source: dictionaries.load(source[0]) for source in folders if source[1] in hooks}
        with contextlib.ExitStack() as stack:
            out = {source: stack.enter_context(Sparse(folders[source])) for source in saes}
            for window in models.stream(bridge, rows, judged(rows), hooks, skip, label="codes"):
                for source, sae in saes.items():
                    for x in window[source[1]].split(dictionaries.SEGMENT):
                        out[source].append(sae.encode(x))
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

    Raises ProfileError if an activation is beyond float16.
    """
    bridge = models.load(model)
    for hooks in models.passes(bridge, rows, folders):
        with contextlib.ExitStack() as stack:
            out = {hook: stack.enter_context(Dense(folders[hook])) for hook in hooks}
            for window in models.stream(bridge, rows, judged(rows), hooks, skip, models.HALF, label="neurons"):
                for hook, x in window.items():
                    out[hook].append(x)
        yield from ((hook, {"sites": sites.key}) for hook in hooks)


def matrix(stored: Artefact) -> Any:
    """The matrix of an artefact, memory-mapped: CSR (tokens, features) of codes, an array (tokens, d) of neurons."""
    if "features" not in stored.meta:
        return stored.array("values")
    return csr(stored.path, stored.meta["features"])


def csr(folder: Path, features: int) -> sparse.csr_array:
    """The matrix that `Sparse` wrote to a folder, memory-mapped: (tokens, features)."""
    values, indices, indptr = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("values", "indices", "indptr")
    )
    found = sparse.csr_array((len(indptr) - 1, features), dtype=np.float32)
    # set one by one, as the constructor would copy 32-bit indices into 64-bit ones
    found.data, found.indices, found.indptr = values, indices, indptr
    return found
