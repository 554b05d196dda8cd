"""Scores under a null: what would have been observed had chance paired the rows.

In: prepared sides, measures, a null. Out: the scores of every draw, by name of the measure. Either side is prepared
once wherever the null only permutes; draws are batched. This module judges nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import permutations as arrangements
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from sae_utils import arrays, measures
from sae_utils.measures import Family, Measure, Undefined
from sae_utils.nulls import Null, Selection

EXACT_UP_TO = 8  # rows; 8! = 40,320 arrangements
_DOUBLE_BELOW = 256  # rows; beyond, draws are float32: their error is far below the spread of the null
_BATCH_BYTES = 1 << 26
_WORTH_THREADS = 10_000_000  # numbers gathered
Sides = Mapping[Family, tuple[Any, Any]]
Draws = dict[str, np.ndarray]


def observed(sides: Sides, chosen: Sequence[Measure], n: int) -> dict[str, float]:
    """Scores of the pairs as they are, in float64."""
    return {name: float(found[0]) for name, found in _scores(sides, chosen, np.arange(n)[None]).items()}


def of_null(
    null: Null | Selection,
    b: np.ndarray,
    sides: Sides,
    chosen: Sequence[Measure],
    wanted: Mapping[str, int],
    seed: int | Sequence[int],
    seen: Mapping[str, float],
    *,
    every: bool = False,
) -> Draws:
    """Scores of draws of a null, by name of the measure.

    `b` (n, d_b): rows of side b. `wanted`: draws by measure. `seen`: the observed scores. `every`: all arrangements.
    Raises ValueError where a null has no such arrangements, or a selection draws another number of pairs.
    """
    n, rng = len(b), arrays.generator(seed)
    if not chosen:
        return {}
    if isinstance(null, Null) and null.permutes:
        return _permuted(null, n, sides, chosen, wanted, rng, seen, every)

    def fresh() -> Sides:
        if isinstance(null, Null):  # rows of b repeat, so that side b is prepared anew
            rows = b[null.draw(rng, 1, n)[0]]
            return {family: (pair[0], family.side(rows)) for family, pair in sides.items()}
        one, other = measures.paired(*null.select(rng))
        if len(one) != n:
            raise ValueError(f"{null.name!r} drew {len(one)} pairs for {n}: draw as many, no score is free of n")
        return {family: (family.side(one), family.side(other)) for family in sides}

    return _anew(null.name, fresh, chosen, n, wanted)


def _permuted(
    null: Null,
    n: int,
    sides: Sides,
    chosen: Sequence[Measure],
    wanted: Mapping[str, int],
    rng: np.random.Generator,
    seen: Mapping[str, float],
    every: bool,
) -> Draws:
    """Scores of permuted pairings, in batches on all threads that BLAS has; each thread's BLAS is its own."""
    most = max(wanted.values())
    kept = sides if n < _DOUBLE_BELOW else {f: (_single(x), _single(y)) for f, (x, y) in sides.items()}
    row = n * max(family.width(pair[1]) for family, pair in kept.items())
    workers = _threads() if row * most > _WORTH_THREADS else 1
    size = max(1, _BATCH_BYTES // ((8 if n < _DOUBLE_BELOW else 4) * row)) * workers
    drawn: dict[str, list[np.ndarray]] = {what.name: [np.zeros(0)] for what in chosen}
    start = 0
    bar = tqdm(total=most, desc=null.name, leave=False, disable=None)
    with bar, _controller().limit(limits=1), ThreadPoolExecutor(workers) as pool:
        for batch in _arrangements(null, n, size) if every else _batches(null, rng, most, n, size):
            now = [what for what in chosen if wanted[what.name] > start]
            for found in pool.map(partial(_scores, kept, now), np.array_split(batch, min(workers, len(batch)))):
                for name, values in found.items():
                    drawn[name].append(values)
            start += len(batch)
            bar.update(len(batch))
        reference = _scores(kept, chosen, np.arange(n)[None])
    # shifted by rounding, so that a draw which is the observed pairing scores what was observed
    return {
        name: np.concatenate(scores)[: wanted[name]] + (seen[name] - reference[name][0])
        for name, scores in drawn.items()
    }


def _batches(null: Null, rng: np.random.Generator, m: int, n: int, size: int) -> Iterator[np.ndarray]:
    """Index arrays (size, n); all draws together do not depend on the batch's size."""
    yield from (null.draw(rng, min(size, m - start), n) for start in range(0, m, size))


def _arrangements(null: Null, n: int, size: int) -> Iterator[np.ndarray]:
    if not null.uniform or n > EXACT_UP_TO:
        raise ValueError(
            f"m='exact' lists all arrangements of shuffled pairings for n <= {EXACT_UP_TO}; here n = {n} and the "
            f"null is {null.name!r}: give a number of draws"
        )
    found = np.array(list(arrangements(range(n))))
    yield from (found[start : start + size] for start in range(0, len(found), size))


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _threads() -> int:
    return max([library.num_threads for library in _controller().lib_controllers], default=1)


def _single(side: Any) -> Any:
    """A side in float32."""
    return type(side)(*(x.astype(np.float32) if getattr(x, "dtype", None) == np.float64 else x for x in side))


def _anew(name: str, fresh: Callable[[], Sides], chosen: Sequence[Measure], n: int, wanted: Mapping[str, int]) -> Draws:
    """Scores of draws whose sides `fresh` prepares; NaN of a draw that has no such score."""
    identity = np.arange(n)[None]

    def once() -> Draws:
        try:
            return _scores(fresh(), chosen, identity)
        except Undefined:
            return {what.name: np.full(1, np.nan) for what in chosen}

    scores = [once() for _ in tqdm(range(max(wanted.values())), desc=name, leave=False, disable=None)]
    return {what.name: np.array([found[what.name][0] for found in scores[: wanted[what.name]]]) for what in chosen}


def _scores(sides: Sides, chosen: Sequence[Measure], index: np.ndarray) -> Draws:
    """Scores (batch,) by measure; what measures of one family share is computed once."""
    found: Draws = {}
    for family, pair in sides.items():
        mine = [what for what in chosen if what.family == family]
        if mine:
            shared = family.cross(*pair, index)
            found |= {what.name: what.score(*pair, shared, index).astype(np.float64) for what in mine}
    return found
