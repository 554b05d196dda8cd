"""Scores under a null: what would have been observed had chance paired the rows.

In: prepared sides, measures, a null. Out: the scores of every draw, by name of the measure. Either side is prepared
once wherever the null only permutes; draws are batched, on CUDA if there is one. This module judges nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import permutations as arrangements
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sae_utils import arrays, similarity
from sae_utils.engine.geometry.linear import Undefined
from sae_utils.measures import Family, Measure
from sae_utils.nulls import Null, Selection

EXACT_UP_TO = 8  # rows; 8! = 40,320 arrangements
_DOUBLE_BELOW = 256  # rows; beyond, draws are float32: their error is far below the spread of the null
_BATCH_BYTES = {"cpu": 1 << 26, "cuda": 1 << 30}
_WORTH_THREADS = 10_000_000  # numbers gathered
Sides = Mapping[Family, tuple[Any, Any]]


def observed(sides: Sides, chosen: Sequence[Measure], n: int) -> dict[str, float]:
    """Scores of the pairs as they are, in float64."""
    return {name: float(found[0]) for name, found in _scores(sides, chosen, torch.arange(n)[None]).items()}


def permuted(
    null: Null,
    n: int,
    sides: Sides,
    chosen: Sequence[Measure],
    wanted: Mapping[str, int],
    m: int | str,
    seed: int | Sequence[int],
    seen: Mapping[str, float],
) -> dict[str, np.ndarray]:
    """Scores of permuted pairings, batched, on CUDA if there is one; either side is prepared once.

    `wanted`: draws by measure. `seen`: the observed scores.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float64 if n < _DOUBLE_BELOW else torch.float32
    moved = {f: (_moved(x, device, dtype), _moved(y, device, dtype)) for f, (x, y) in sides.items()}
    widest = max(family.width(pair[1]) for family, pair in moved.items())
    work = n * widest * max(wanted.values())
    workers = torch.get_num_threads() if device == "cpu" and work > _WORTH_THREADS else 1
    size = max(1, _BATCH_BYTES[device] // (dtype.itemsize * n * widest))
    drawn: dict[str, list[np.ndarray]] = {c.name: [np.zeros(0)] for c in chosen}
    start = 0
    bar = tqdm(total=max(wanted.values()), desc=null.name, leave=False, disable=None)
    # one thread a worker: decompositions scale better so
    with bar, ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for batch in _batches(null, m, n, seed, size * workers):
            now = [c for c in chosen if wanted[c.name] > start]
            if not now:
                break
            parts = torch.from_numpy(batch).to(device).tensor_split(min(workers, len(batch)))
            for found in pool.map(partial(_scores, moved, now), parts):
                for name, values in found.items():
                    drawn[name].append(values)
            start += len(batch)
            bar.update(len(batch))
        reference = pool.submit(_scores, moved, chosen, torch.arange(n, device=device)[None]).result()
    # shifted by rounding, so that a draw which is the observed pairing scores what was observed
    return {
        name: np.concatenate(scores)[: wanted[name]] + (seen[name] - reference[name][0])
        for name, scores in drawn.items()
    }


def _batches(null: Null, m: int | str, n: int, seed: int | Sequence[int], size: int) -> Iterator[np.ndarray]:
    """Index arrays (size, n); all draws together do not depend on the batch's size."""
    if m == "exact":
        if not null.uniform or n > EXACT_UP_TO:
            raise ValueError(
                f"m='exact' lists all arrangements of shuffled pairings for n <= {EXACT_UP_TO}; here n = {n} and the "
                f"null is {null.name!r}: give a number of draws"
            )
        everything = np.array(list(arrangements(range(n))))
        yield from (everything[s : s + size] for s in range(0, len(everything), size))
        return
    rng = arrays.generator(seed)
    yield from (null.draw(rng, min(size, int(m) - s), n) for s in range(0, int(m), size))


def reassigned(
    null: Null,
    b: np.ndarray,
    sides: Sides,
    chosen: Sequence[Measure],
    wanted: Mapping[str, int],
    seed: int | Sequence[int],
) -> dict[str, np.ndarray]:
    """Scores of draws in which rows of b repeat: side b is prepared anew in each."""
    rng = arrays.generator(seed)

    def fresh() -> Sides:
        rows = b[null.draw(rng, 1, len(b))[0]]
        return {family: (pair[0], family.side(rows)) for family, pair in sides.items()}

    return _anew(null.name, fresh, chosen, len(b), wanted)


def selected(
    null: Selection, chosen: Sequence[Measure], n: int, wanted: Mapping[str, int], seed: int | Sequence[int]
) -> dict[str, np.ndarray]:
    """Scores of a selection that is repeated by chance: both sides are prepared anew in each draw."""
    rng = arrays.generator(seed)

    def fresh() -> Sides:
        a, b = similarity.paired(*null.select(rng))
        if len(a) != n:
            raise ValueError(f"{null.name!r} drew {len(a)} pairs for {n}: draw as many, no score is free of n")
        return {family: (family.side(a), family.side(b)) for family in {c.family: None for c in chosen}}

    return _anew(null.name, fresh, chosen, n, wanted)


def _anew(
    name: str, fresh: Callable[[], Sides], chosen: Sequence[Measure], n: int, wanted: Mapping[str, int]
) -> dict[str, np.ndarray]:
    m, identity = max(wanted.values()), torch.arange(n)[None]

    def once() -> dict[str, np.ndarray]:
        try:
            return _scores(fresh(), chosen, identity)
        except Undefined:
            return {c.name: np.full(1, np.nan) for c in chosen}

    scores = [once() for _ in tqdm(range(m), desc=name, leave=False, disable=None)]
    return {c.name: np.array([found[c.name][0] for found in scores[: wanted[c.name]]]) for c in chosen}


def _scores(sides: Sides, chosen: Sequence[Measure], index: Tensor) -> dict[str, np.ndarray]:
    """Scores (batch,) by measure; what measures of one family share is computed once."""
    found: dict[str, np.ndarray] = {}
    for family, pair in sides.items():
        mine = [c for c in chosen if c.family == family]
        if mine:
            shared = family.cross(*pair, index)
            found |= {c.name: c.score(*pair, shared, index).double().cpu().numpy() for c in mine}
    return found


def _moved(side: Any, device: str, dtype: torch.dtype) -> Any:
    """A side with its tensors on `device`, the floating ones in `dtype`."""
    return type(side)(
        *(x.to(device, dtype if x.is_floating_point() else None) if isinstance(x, Tensor) else x for x in side)
    )
