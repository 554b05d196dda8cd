"""What the published procedure looks at: every position, before the SAE's own nonlinearity, at a hook of choice.

In: two models with SAEs, token rows. Out: a positions artefact (all tokens of some documents, padding and beginning of
sequence too) and an artefact of who is whose best partner there, and on what the features fire.
Never: pre-activations that outlive the call; anything a result of this repository rests on, which is in `activations`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from tqdm import tqdm

from sae_utils import store
from sae_utils.lms import models
from sae_utils.pairing import correlation, labels, matching
from sae_utils.pairing.filters import Facts
from sae_utils.pairing.matching import Pairs
from sae_utils.pairing.sides import Codes
from sae_utils.saes import activations, dictionaries
from sae_utils.spec import ProfileError
from sae_utils.store import Artefact, artefact
from sae_utils.studies.baselines import block_of
from sae_utils.text import corpora


class Seen(NamedTuple):
    """Two sides seen in one way: all that the published procedure asks of them."""

    b_to_a: Pairs
    """every live feature of B with its best of A"""
    mutual: Pairs
    firings: tuple[np.ndarray, np.ndarray]
    top: tuple[np.ndarray, np.ndarray]
    """(features, top) token ids, -1 where a feature fires on fewer"""

    def facts(self, words: list[str]) -> Facts:
        """What filters ask; `words`: text of every token."""
        return Facts(*self.firings, *(labels.spell(top, words) for top in self.top))


def see(a: Codes, b: Codes, at: np.ndarray, tokens: np.ndarray, documents: np.ndarray, top: int) -> Seen:
    """Correlate two sides (positions, features) at the positions `at`, and find the `top` top tokens of each feature.

    `tokens`, `documents`: of all positions.
    """
    found = correlation.correlate(a, b, k=1, rows=at, threads=store.threads(), device=store.device())
    one, two = (labels.label(x[at], tokens[at], documents[at], k=top, window=0) for x in (a, b))
    return Seen(
        matching.many_to_one(found, "b_to_a"),
        matching.mutual(found),
        (one.firings, two.firings),
        (one.token, two.token),
    )


@artefact
def positions(folder: Path, rows: Artefact, documents: int, skip: int) -> dict[str, Any]:
    """All positions of the first `documents` matching documents, every batch padded to its longest row.

    Arrays (positions,): `tokens`, `documents`, and `inside`, true where `activations.sites` would look. `chosen`: the
    token rows, in order.
    """
    matching = np.flatnonzero(rows.array("split") == corpora.SPLITS.index("matching"))
    home, lengths = rows.array("documents"), rows.array("lengths")
    chosen = matching[np.isin(home[matching], np.unique(home[matching])[:documents]).any(axis=1)]
    tokens, owners, inside = [], [], []
    for batch in models.in_order(chosen):
        width = lengths[batch].max()
        tokens.append(rows.array("tokens")[batch, :width].ravel())
        owners.append(home[batch, :width].ravel())
        inside.append((rows.array("places")[batch, :width] >= skip).ravel())
    np.save(folder / "chosen.npy", chosen)
    np.save(folder / "tokens.npy", np.concatenate(tokens))
    np.save(folder / "documents.npy", np.concatenate(owners))
    np.save(folder / "inside.npy", np.concatenate(inside))
    return {"tokens": sum(map(len, tokens)), "documents": len(np.unique(home[chosen]))}


@artefact
def partners(folder: Path, sources: list[list[Any]], rows: Artefact, positions: Artefact, top: int) -> dict[str, Any]:
    """What two SAEs look like before their nonlinearity, at all positions and at those inside: `Seen` twice.

    `sources`: of A and of B the dictionary, its model, and the hook at which it is fed.
    """
    drafts = [folder / side for side in "ab"]
    a, b = (_before(draft, rows, positions, *source) for draft, source in zip(drafts, sources, strict=True))
    tokens, documents = positions.array("tokens"), positions.array("documents")
    for name, at in (("all", np.arange(len(tokens))), ("inside", np.flatnonzero(positions.array("inside")))):
        seen = see(a, b, at, tokens, documents, top)
        for kind in ("b_to_a", "mutual"):
            for field, values in getattr(seen, kind)._asdict().items():
                np.save(folder / f"{name}-{kind}-{field}.npy", values)
        for side, firings, found in zip("ab", seen.firings, seen.top, strict=True):
            np.save(folder / f"{name}-firings-{side}.npy", firings)
            np.save(folder / f"{name}-top-{side}.npy", found)
    for draft in drafts:  # half of all features are above 0 at a position: too much to be kept
        for file in draft.iterdir():
            file.unlink()
        draft.rmdir()
    return {}


def read(kept: Artefact, where: str) -> Seen:
    """What `partners` kept, `where` "all" or "inside"."""

    def array(name: str) -> np.ndarray:
        return np.array(kept.array(f"{where}-{name}"))

    b_to_a, mutual = (Pairs(*(array(f"{kind}-{field}") for field in Pairs._fields)) for kind in ("b_to_a", "mutual"))
    return Seen(b_to_a, mutual, (array("firings-a"), array("firings-b")), (array("top-a"), array("top-b")))


def _before(
    folder: Path, rows: Artefact, positions: Artefact, dictionary: Artefact, model: Artefact, hook: str
) -> sparse.csr_array:
    """The ReLU of pre-activations at every position: CSR (positions, features), memory-mapped in `folder`."""
    folder.mkdir()
    bridge, sae = models.load(model), dictionaries.load(dictionary)
    with (
        activations.Sparse(folder) as out,
        tqdm(total=positions.meta["tokens"], desc=f"before the nonlinearity, {hook}", leave=False) as bar,
        torch.no_grad(),
    ):
        for part in models.harvest(bridge, rows, models.in_order(positions.array("chosen")), [hook], skip=0):
            for x in part.activations[hook].flatten(0, 1).split(dictionaries.SEGMENT):
                out.append(before(sae, x))
                bar.update(len(x))
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


def input_of(hook: str) -> str:
    """The hook with the input of the block that `hook` is in, which is the output of the block before.

    Raises ValueError for a hook outside all blocks.
    """
    block = block_of(hook)
    return f"blocks.{block - 1}.hook_resid_post" if block else "blocks.0.hook_resid_pre"
