"""Can A's features be replaced by their partners in B? The loss of A with partners' codes in the place of its own.

In: a checked profile, pairs, the documents on which a map is fitted and those on which the loss is measured. Out: the
loss that partners, their own or others, recover.
Never: a change of what A's other features write.

A pair's map is one number: the code of A's feature is predicted as slope x the code of its partner at the same token,
by least squares through 0 on the documents that choose. So a partner that fires elsewhere writes elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import pipeline
from sae_utils.engine.geometry.registry import Floats
from sae_utils.engine.lms import batching, cross_entropy, hooking, models
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import correlations
from sae_utils.engine.text import tokenization
from sae_utils.studies.function.paired import TRUE, View

Ints = NDArray[np.int64]


def slopes(left: Any, right: Any) -> Floats:
    """(n,) least squares through 0 of each column of `left` (tokens, n) on that of `right`; 0 where that is dead."""
    product = np.asarray(left.multiply(right).sum(axis=0)).ravel()
    square = np.asarray(right.multiply(right).sum(axis=0)).ravel()
    return np.divide(product, square, out=np.zeros(len(square)), where=square > 0)


def predicted(fitted: tuple[Any, Any], partners: Any) -> sparse.csr_array:
    """The codes of A's features by their partners: (tokens, n), with slopes `fitted` on other tokens of both."""
    return sparse.csr_array(partners.multiply(slopes(*fitted)[None]))


def of_view(run: Profile, names: Sequence[str], view: View, splits: tuple[str, str], judged: int) -> dict[str, float]:
    """The loss of the model of the left features, in nats, on `judged` rows, with all paired features at once.

    `clean`: nothing changed. `ablated`: their contribution taken off. `own`: replaced by the partners. `other`: by the
    partner of the next pair, with a map of its own. `recovered`: (ablated - own) / (ablated - clean), and for `other`
    likewise.
    """
    left, right = names[:2] if view.role == "a" else names[1::-1]
    x, pairs = pipeline.features(run, left), view.arms[TRUE]
    choose, judge = (correlations.in_split(x.sites, split) for split in splits)
    codes = sparse.csc_array(x.codes[:, pairs.left])
    partners = sparse.csc_array(pipeline.features(run, right).codes[:, pairs.right])
    order = np.roll(np.arange(len(pairs.left)), 1)
    kept = sparse.csr_array(codes.shape, dtype=np.float32)
    written = {"clean": None, "ablated": kept}
    for name, of in (("own", partners), ("other", partners[:, order])):
        written[name] = predicted((codes[choose], of[choose]), sparse.csr_array(of))
    found = losses(
        run, left, x, {k: v if v is None else v - codes for k, v in written.items()}, pairs.left, judge, judged
    )
    gap = found["ablated"] - found["clean"]
    recovered = {f"recovered, {name}": (found["ablated"] - found[name]) / gap for name in ("own", "other")}
    return {f"substituted, {name}": value for name, value in (found | recovered).items()}


def losses(
    run: Profile, name: str, x: pipeline.Features, changes: dict[str, Any], features: Ints, judge: Any, judged: int
) -> dict[str, float]:
    """Mean next-token loss by name with `changes` (sites, n) of the codes of some features; None changes nothing."""
    source = pipeline.reader(run, name)
    bridge = models.load(source.model)
    hooking.refuse_hook(bridge, source.hook)
    rows, places = x.sites.array("rows"), x.sites.array("positions")
    chosen = tokenization.spread_rows(source.rows, np.unique(rows[judge]), judged)
    decoder = x.decoder[features]
    total = dict.fromkeys(changes, 0.0)
    count = 0
    lengths = source.rows.array("lengths")[chosen]
    for batch in batching.in_order(chosen[np.argsort(lengths, kind="stable")], 32):
        tokens, mask = batching.take(source.rows, batch)
        at = np.flatnonzero(np.isin(rows, batch))
        row = torch.from_numpy(np.argsort(batch)[np.searchsorted(np.sort(batch), rows[at])])
        for key, change in changes.items():
            hooks = []
            if change is not None:
                added = torch.zeros((*tokens.shape, decoder.shape[1]), device=tokens.device)
                added[row, torch.from_numpy(places[at].astype(np.int64))] = torch.from_numpy(
                    np.asarray(sparse.csr_array(change)[at] @ decoder, np.float32)
                ).to(added)
                hooks = [(source.hook, _adding(added))]
            total[key] += cross_entropy.next_token(bridge, tokens, mask, hooks).double().sum().item()
        count += int(mask[:, 1:].sum())
    return {key: value / count for key, value in total.items()}


def _adding(added: torch.Tensor) -> Any:
    return lambda value, hook: value + added.reshape(value.shape).to(value.dtype)
