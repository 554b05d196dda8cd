"""From token rows to sparse codes and dense neurons on disk, streamed once for each model, hook and SAE.

In: a model, an SAE, token rows. Out: a sites artefact (which tokens are looked at) and a codes artefact (what fires
there); every codes artefact over one sites artefact has the same token in the same row.
Never: a dense tokens x features matrix.

A sites artefact holds, per token: `tokens`, `documents`, `positions` (in its row), `rows`, `split` (an index into
`corpora.SPLITS`) and `classes` (-1 where unknown). A codes artefact holds a CSR matrix: `indptr`, `indices`, `values`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from tqdm import tqdm

from sae_utils.lms import models
from sae_utils.saes import dictionaries
from sae_utils.store import Appender, Artefact, artefact
from sae_utils.text import corpora


@artefact
def sites(folder: Path, rows: Artefact, skip: int) -> dict[str, Any]:
    """The tokens that are looked at: matching and held-out documents, no padding, no position below `skip`."""
    chosen = judged(rows)
    lengths = rows.array("lengths")[chosen]
    mask = (np.arange(rows.array("tokens").shape[1]) < lengths[:, None]) & (
        np.arange(rows.array("tokens").shape[1]) >= skip
    )
    row, position = np.nonzero(mask)
    row = chosen[row]
    np.save(folder / "rows.npy", row.astype(np.int32))
    np.save(folder / "positions.npy", position.astype(np.int32))
    np.save(folder / "tokens.npy", rows.array("tokens")[row, position])
    np.save(folder / "classes.npy", rows.array("classes")[row, position])
    np.save(folder / "documents.npy", rows.array("documents")[row])
    np.save(folder / "split.npy", rows.array("split")[row])
    return {"tokens": len(row), "documents": len(np.unique(rows.array("documents")[row]))}


def judged(rows: Artefact) -> np.ndarray:
    """Numbers of the rows that no model was trained on."""
    return np.flatnonzero(rows.array("split") != corpora.SPLITS.index("training"))


@artefact
def codes(
    folder: Path, dictionary: Artefact, model: Artefact, rows: Artefact, sites: Artefact, hook: str, skip: int
) -> dict[str, Any]:
    """The SAE's codes, after its own nonlinearity, at every site."""
    bridge, sae = models.load(model), dictionaries.load(dictionary)
    with (
        Appender(folder / "indices.npy", np.int32) as indices,
        Appender(folder / "values.npy", np.float32) as values,
        Appender(folder / "indptr.npy", np.int64) as indptr,
        tqdm(total=sites.meta["tokens"], desc="codes", unit=" tokens", leave=False) as bar,
        torch.no_grad(),
    ):
        indptr.append(np.zeros(1))
        for window in models.stream(bridge, rows, judged(rows), hook, skip):
            for x in window.split(dictionaries.SEGMENT):
                code = sae.encode(x)
                site, feature = torch.nonzero(code, as_tuple=True)
                ends = indices.length + torch.bincount(site, minlength=len(x)).cumsum(0)
                indices.append(feature.cpu().numpy())
                values.append(code[site, feature].float().cpu().numpy())
                indptr.append(ends.cpu().numpy())
                bar.update(len(x))
    if indptr.length - 1 != sites.meta["tokens"]:
        raise RuntimeError(f"{indptr.length - 1} tokens were encoded where {sites.meta['tokens']} sites were expected")
    return {"features": sae.cfg.d_sae, "sites": sites.key}


@artefact
def neurons(folder: Path, model: Artefact, rows: Artefact, sites: Artefact, hook: str, skip: int) -> dict[str, Any]:
    """A model's own activations at every site: `values`, float16 (tokens, d)."""
    bridge = models.load(model)
    out: Appender | None = None
    with contextlib.ExitStack() as stack, tqdm(total=sites.meta["tokens"], desc="neurons", leave=False) as bar:
        for window in models.stream(bridge, rows, judged(rows), hook, skip):
            x = window.half().cpu().numpy()
            out = out or stack.enter_context(Appender(folder / "values.npy", np.float16, x.shape[1:]))
            out.append(x)
            bar.update(len(x))
    return {"sites": sites.key}


def matrix(stored: Artefact) -> Any:
    """What an artefact holds, memory-mapped: CSR (tokens, features) of codes, an array (tokens, d) of neurons."""
    if "features" not in stored.meta:
        return stored.array("values")
    values, indices, indptr = (stored.array(name) for name in ("values", "indices", "indptr"))
    found = sparse.csr_array((len(indptr) - 1, stored.meta["features"]), dtype=np.float32)
    # set one by one: the constructor would copy 32-bit indices into 64-bit ones
    found.data, found.indices, found.indptr = values, indices, indptr
    return found
