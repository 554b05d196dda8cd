"""What vectors do to the words that a model says next, at strengths that change its predictions equally.

In: a bridge, contexts, a hook, vectors, sets of tokens. Out: for each vector and context the divergence from the
model's own predictions, the log total probability of every set, and the log-probability of the token that follows.
Never: a choice of vectors or contexts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sae_utils.studies.function import acting, resuming

Floats = NDArray[np.float64]


class Said(NamedTuple):
    """What a model says under each of some vectors, at each context."""

    kl: Floats  # (vectors, contexts) nats, from the model's own predictions
    total: Floats  # (sets, vectors, contexts) log total probability of each set of tokens
    follows: Floats  # (vectors, contexts) log-probability of the token that follows in the text


def divergence(clean: torch.Tensor, steered: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence (n,) of log-probabilities `steered` (n, vocabulary) from `clean`, in nats."""
    terms = clean.exp() * (clean - steered)
    return torch.where(clean == -torch.inf, 0, terms).sum(-1)


def log_total(found: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log total probability (n,) of `tokens`, from log-probabilities (n, vocabulary)."""
    return found[:, tokens].logsumexp(-1)


@torch.no_grad()
def said(
    at: resuming.Resumed, following: NDArray[np.int64], vectors: Floats, strengths: Floats, sets: Sequence[torch.Tensor]
) -> Said:
    """What the model says with strength x vector added at the hook, at every place up to the one that is read.

    `vectors` (n, d), `strengths` (n,), `following` (contexts,) the token that the text has next. Raises ValueError as
    `acting.over`.
    """
    edits = [
        acting.Edit("add", torch.from_numpy(np.float32(x)), float(s)) for x, s in zip(vectors, strengths, strict=True)
    ]
    next_token, parts = torch.from_numpy(following).to(at.clean.device), []
    for case in acting.over(at, edits):
        found = case.log_probabilities
        rows = [divergence(at.clean[case.context], found), *(log_total(found, tokens) for tokens in sets)]
        parts.append(torch.stack([*rows, found.gather(1, next_token[case.context][:, None])[:, 0]]).double().cpu())
    every = torch.cat(parts, dim=1).reshape(2 + len(sets), len(vectors), len(at.clean)).numpy()
    return Said(every[0], every[1:-1], every[-1])


def matched(kl: Floats, grid: Sequence[float], wanted: float) -> Floats:
    """The strength (vectors,) at which each vector's divergence is `wanted`, from `kl` (vectors, grid).

    Between strengths the logarithms are interpolated; a vector that stays below or above all along gets the end of the
    grid.
    """
    rising = np.log(np.maximum(np.maximum.accumulate(kl, axis=1), 1e-12))
    return np.exp([np.interp(np.log(wanted), row, np.log(grid)) for row in rising])
