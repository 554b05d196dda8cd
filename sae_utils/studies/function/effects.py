"""What acting on the features of one dictionary does to the next token, as vectors over words.

In: a checked profile, a dictionary, features, the split that judges. Out: by half of the documents the mean change of
the log-probabilities (features, words), ablated and steered; the common effect, and effects without it.
Never: a second dictionary, a score.

Every change has a common part that says nothing about the feature: whatever disturbs the network makes frequent words
more likely. It is taken off twice: the mean effect of the other features, and the direction in which random directions
of the same norm move the words, on other contexts.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import arrays, pipeline
from sae_utils.engine.geometry.registry import Floats
from sae_utils.engine.lms import models
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import correlations
from sae_utils.store import Artefact
from sae_utils.studies.function import acting, resuming
from sae_utils.studies.function.acting import Edit
from sae_utils.studies.function.resuming import Resumed

Ints = NDArray[np.int64]
HALVES = (0, 1)  # of the documents that judge
TOGETHER = 64  # features whose codes are held at once
KINDS = ("ablated", "steered")


class Plan(NamedTuple):
    """On how many contexts features act, and how hard."""

    contexts: int  # the most a feature and half, drawn from those where it fires
    least: int  # with fewer in a half, a feature has no effect
    common: int  # a half, on which all features are steered; as many again for random directions
    strength: float  # of steering: norm of what is added, by the mean norm of activations at the hook
    random: int  # random directions
    seed: int


class Effects(NamedTuple):
    """What acting on each of some features does, (2, features, words); NaN where a half has too few contexts."""

    ablated: NDArray[np.float32]  # on contexts where the feature fires
    steered: NDArray[np.float32]  # on contexts that are the same for all
    random: Floats  # (words,) mean effect of random directions
    probability: Floats  # (words,) mean of the model's own on the contexts of random directions

    def of(self, kind: str) -> NDArray[np.float32]:
        """The effects of one of `KINDS`."""
        found: NDArray[np.float32] = getattr(self, kind)
        return found


class Site(NamedTuple):
    """A dictionary in its model, at every token that the model reads."""

    bridge: Any
    hook: str
    rows: Artefact
    decoder: np.ndarray
    codes: sparse.csr_array  # (sites, features)
    row: Ints  # (sites,)
    place: Ints  # (sites,) in its row
    half: Ints  # (sites,) half of the documents that judge, -1 for other documents


def site(run: Profile, name: str, judge: str) -> Site:
    """A dictionary of a profile, and the halves of the documents of the split `judge`."""
    source, own = pipeline.reader(run, name), pipeline.alone(run, name)
    documents = own.sites.array("documents")
    judged = np.flatnonzero(correlations.in_split(own.sites, judge))
    half = np.full(len(documents), -1, np.int64)
    half[judged] = np.unique(documents[judged], return_inverse=True)[1] % 2
    row, place = (np.asarray(own.sites.array(key), np.int64) for key in ("rows", "positions"))
    bridge = models.load(source.model)
    return Site(bridge, source.hook, source.rows, own.decoder, sparse.csr_array(own.codes), row, place, half)


def chosen(at: Site, features: Sequence[int], plan: Plan) -> list[list[Ints]]:
    """For each half of each feature up to `plan.contexts` sites where it fires: [feature][half].

    Rows come in one random order, the same for all features, so that few rows run; of each, one site is taken before
    any second one.
    """
    rank = arrays.generator(plan.seed).permutation(int(at.row.max()) + 1)[at.row]
    columns, found = sparse.csc_array(at.codes[:, list(features)]), []
    for column in range(len(features)):
        fires = np.sort(columns.indices[columns.indptr[column] : columns.indptr[column + 1]])
        of = [fires[at.half[fires] == half] for half in HALVES]
        found.append([np.sort(_spread(x, rank[x])[: plan.contexts]).astype(np.int64) for x in of])
    return found


def _spread(sites: Ints, rank: Ints) -> Ints:
    """Sorted sites with the ranks of their rows: the first of each row in order of rank, then the second ones."""
    begins = np.flatnonzero(np.diff(rank, prepend=-1))  # of the sites of each row, which stand together
    number = np.arange(len(rank)) - np.repeat(begins, np.diff(begins, append=len(rank)))
    return sites[np.lexsort((rank, number))]


def common(at: Site, plan: Plan) -> tuple[list[Ints], Ints]:
    """Sites on which all features are steered, by half; and others, of both halves, for random directions."""
    generator = arrays.generator(plan.seed)
    drawn = [generator.permutation(np.flatnonzero(at.half == half))[: 2 * plan.common] for half in HALVES]
    return [np.sort(x[: plan.common]) for x in drawn], np.sort(np.concatenate([x[plan.common :] for x in drawn]))


def of_features(at: Site, features: Sequence[int], words: Ints, plan: Plan) -> Effects:
    """The effects of some features on `words`, tokens of the model."""
    own, (shared, others) = chosen(at, features, plan), common(at, plan)
    sites = np.unique(np.concatenate([*(x for halves in own for x in halves), *shared, others]))
    resumed = resuming.resume(at.bridge, resuming.contexts(at.rows, at.row[sites], at.place[sites]), at.hook)
    place = [[torch.from_numpy(np.searchsorted(sites, x)) for x in halves] for halves in own]
    ablated = _ablated(at, resumed, sites, features, place, words)
    few = np.array([[len(x) < plan.least for x in halves] for halves in own]).T
    ablated[few.reshape(2, -1)] = np.nan
    norm = plan.strength * resumed.values.flatten(0, -2).norm(dim=-1).mean().item()
    unit = torch.from_numpy(arrays.unit(at.decoder[list(features)])).float()
    halves = [torch.from_numpy(np.searchsorted(sites, x)) for x in shared]
    steered = np.stack([_mean(resumed, _adding(unit, norm), [half] * len(unit), words) for half in halves])
    generator = arrays.generator(plan.seed)
    anything = torch.from_numpy(arrays.unit(generator.standard_normal((plan.random, unit.shape[1])))).float()
    other = torch.from_numpy(np.searchsorted(sites, others))
    random = _mean(resumed, _adding(anything, norm), [other] * plan.random, words)
    probability = resumed.clean[other].double().exp().mean(0).cpu().numpy()[words]
    return Effects(ablated, steered, random.mean(axis=0, dtype=np.float64), probability)


def _adding(unit: torch.Tensor, norm: float) -> list[Edit]:
    return [Edit("add", direction, norm) for direction in unit]


def _ablated(
    at: Site, resumed: Resumed, sites: Ints, features: Sequence[int], own: list[list[torch.Tensor]], words: Ints
) -> NDArray[np.float32]:
    """(2, features, words) effects of ablation, each on its own contexts."""
    found = np.empty((2, len(features), len(words)), np.float32)
    rows = torch.from_numpy(at.decoder[list(features)])
    for first in range(0, len(features), TOGETHER):
        part = range(first, min(first + TOGETHER, len(features)))
        codes = codes_at(at, resumed, sites, [features[i] for i in part])
        edits = [Edit("ablate", rows[i], codes=codes[i - first]) for i in part]
        for half in HALVES:
            found[half, part.start : part.stop] = _mean(resumed, edits, [own[i][half] for i in part], words)
    return found


def codes_at(at: Site, resumed: Resumed, sites: Ints, features: Sequence[int]) -> torch.Tensor:
    """Codes of features at the places that run, in the contexts that end at `sites`: (features, contexts, places)."""
    if resumed.one_place:
        return torch.from_numpy(at.codes[sites][:, list(features)].toarray().T[..., None])
    length = resumed.contexts.tokens.shape[1]
    where = np.full((int(at.row.max()) + 1, max(length, int(at.place.max()) + 1)), -1, np.int64)
    where[at.row, at.place] = np.arange(len(at.row))
    of = where[at.row[sites], :length]  # (contexts, places), -1 where nothing is read
    dense = at.codes[:, list(features)].toarray()
    return torch.from_numpy(np.where(of >= 0, dense.T[:, of], np.float32(0)))


def _mean(resumed: Resumed, edits: Sequence[Edit], among: Sequence[torch.Tensor], words: Ints) -> NDArray[np.float32]:
    """(edits, words) mean change of the log-probabilities of words over the contexts of each edit."""
    at = torch.from_numpy(words).to(resumed.clean.device)
    total = torch.zeros((len(edits), len(words)), device=at.device)
    clean = resumed.clean[:, at]
    for case in acting.over(resumed, edits, among):
        total.index_add_(0, case.edit, case.log_probabilities[:, at] - clean[case.context])
    number = torch.tensor([max(len(x), 1) for x in among], device=at.device)
    found: NDArray[np.float32] = (total / number[:, None]).cpu().numpy()
    return found


def own(effects: np.ndarray, common: np.ndarray, weights: np.ndarray | None = None) -> NDArray[np.float32]:
    """Effects (n, words) without what is common, of mean 0 over words and norm 1, so that products are correlations.

    The mean effect of the other features is subtracted; then the direction `common` (words,) is projected out.
    `weights` (words,) of the words; by default all count the same.
    """
    weight = np.ones(effects.shape[1]) if weights is None else weights
    root = np.sqrt(weight / weight.sum())
    x = effects.astype(np.float64)
    x -= (x.sum(axis=0) - x) / max(len(x) - 1, 1)
    x, direction = ((of - (of @ root**2)[..., None]) * root for of in (x, common))
    direction = direction / max(float(np.linalg.norm(direction)), np.finfo(float).tiny)
    x -= np.outer(x @ direction, direction)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0).astype(np.float32)
