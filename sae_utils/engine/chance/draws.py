"""Scores under a null: similarity of rows that chance has paired.

In: prepared sides, measures, a null. Out: the scores of every draw, by name of the measure. Both sides are prepared
once if the null only permutes; draws are batched. This module draws no conclusions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache, partial
from itertools import permutations as arrangements
from types import SimpleNamespace
from typing import Any

import numpy as np

from sae_utils import arrays, measures
from sae_utils.engine.core.progress import tqdm
from sae_utils.measures import Family, Measure, Undefined
from sae_utils.nulls import Null, Rng, Selection

EXACT_UP_TO = 8  # rows; 8! = 40,320 arrangements
_DOUBLE_BELOW = 256  # rows; beyond, draws are float32: their error is far below the spread of the null
_BATCH_BYTES = 1 << 26
_WORTH_THREADS = 10_000_000  # numbers gathered
Sides = Mapping[Family, tuple[Any, Any]]


def scores(sides: Sides, chosen: Sequence[Measure], index: np.ndarray) -> dict[str, np.ndarray]:
    """Scores (batch,) by measure of the pairings `index` (batch, n); measures of one family share its work."""
    found: dict[str, np.ndarray] = {}
    for family, pair in sides.items():
        mine = [what for what in chosen if what.family == family]
        if mine:
            shared = family.cross(*pair, index)
            found |= {what.name: what.score(*pair, shared, index).astype(np.float64) for what in mine}
    return found


def of_null(
    null: Null | Selection, b: np.ndarray, sides: Sides, chosen: Sequence[Measure], wanted: Mapping[str, int],
    seed: int | Sequence[int], *, exact: bool = False,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Scores of draws of a null, by name of the measure.

    `b` (n, d_b): rows of side b. `wanted`: draws by measure. `exact`: all arrangements instead.
    Raises ValueError where a null has no such arrangements, or a selection draws another number of pairs.
    """
    n, rng = len(b), arrays.generator(seed)
    if not chosen:
        return {}
    if exact and not (isinstance(null, Null) and null.uniform and n <= EXACT_UP_TO):
        raise ValueError(
            f"m='exact' lists all arrangements of shuffled pairings for n <= {EXACT_UP_TO}; here n = {n} and the "
            f"null is {null.name!r}: give a number of draws"
        )
    if isinstance(null, Null) and null.permutes:
        most = max(wanted[what.name] for what in chosen)
        make = partial(_arrangements, n) if exact else partial(_permutations, null, rng, most, n)
        return _permuted(null.name, n, make, sides, chosen, wanted)

    def draw() -> Sides:
        if isinstance(null, Null):  # rows of b repeat, so that side b is prepared anew
            rows = b[null.draw(rng, 1, n)[0]]
            return {family: (pair[0], family.side(rows)) for family, pair in sides.items()}
        one, other = measures.paired(*null.select(rng))
        if len(one) != n:
            raise ValueError(f"{null.name!r} drew {len(one)} pairs for {n}: draw as many, no score is free of n")
        return {family: (family.side(one), family.side(other)) for family in sides}

    return _one_by_one(null.name, n, draw, chosen, wanted)


def _permuted(
    name: str, n: int, batches: Callable[[int], Iterator[np.ndarray]], sides: Sides, chosen: Sequence[Measure],
    wanted: Mapping[str, int],
) -> dict[str, np.ndarray]:  # fmt: skip
    """Scores of permuted pairings, in batches on as many threads as BLAS has, each with a BLAS of one thread."""
    most = max(wanted[what.name] for what in chosen)
    kept = sides if n < _DOUBLE_BELOW else {family: (_single(x), _single(y)) for family, (x, y) in sides.items()}
    row = n * max(family.width(pair[1]) for family, pair in kept.items())
    workers = _threads() if row * most > _WORTH_THREADS else 1
    size = max(1, _BATCH_BYTES // ((8 if n < _DOUBLE_BELOW else 4) * row)) * workers
    drawn: dict[str, list[np.ndarray]] = {what.name: [np.zeros(0)] for what in chosen}
    start = 0
    bar = tqdm(total=most, desc=name, leave=False, disable=None)
    with bar, _controller().limit(limits=1), ThreadPoolExecutor(workers) as pool:
        for batch in batches(size):
            now = [what for what in chosen if wanted[what.name] > start]
            for found in pool.map(partial(scores, kept, now), np.array_split(batch, min(workers, len(batch)))):
                for measure, values in found.items():
                    drawn[measure].append(values)
            start += len(batch)
            bar.update(len(batch))
    # shifted by what float32 rounds, so that a draw of the observed pairing has the observed score
    identity = np.arange(n)[None]
    right, rounded = scores(sides, chosen, identity), scores(kept, chosen, identity)
    return {
        measure: np.concatenate(values)[: wanted[measure]] + (right[measure][0] - rounded[measure][0])
        for measure, values in drawn.items()
    }


def _permutations(null: Null, rng: Rng, m: int, n: int, size: int) -> Iterator[np.ndarray]:
    """Index arrays (size, n); the draws do not depend on the batch size."""
    yield from (null.draw(rng, min(size, m - start), n) for start in range(0, m, size))


def _arrangements(n: int, size: int) -> Iterator[np.ndarray]:
    found = np.array(list(arrangements(range(n))))
    yield from (found[start : start + size] for start in range(0, len(found), size))


@cache
def _controller() -> Any:
    """A controller of BLAS threads; one thread is used where threadpoolctl is not installed."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return SimpleNamespace(limit=lambda limits: nullcontext(), lib_controllers=[])
    return ThreadpoolController()


def _threads() -> int:
    return max([library.num_threads for library in _controller().lib_controllers], default=1)


def _single(side: Any) -> Any:
    """A side in float32."""
    return type(side)(*(x.astype(np.float32) if getattr(x, "dtype", None) == np.float64 else x for x in side))


def _one_by_one(
    name: str, n: int, draw: Callable[[], Sides], chosen: Sequence[Measure], wanted: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Scores of draws that each prepare side b again; NaN where a draw has no such score."""
    drawn = {what.name: np.full(wanted[what.name], np.nan) for what in chosen}
    for s in tqdm(range(max(map(len, drawn.values()))), desc=name, leave=False, disable=None):
        try:
            found = scores(draw(), chosen, np.arange(n)[None])
        except Undefined:
            continue
        for measure, values in drawn.items():
            values[s : s + 1] = found[measure]
    return drawn
