"""Scores of two whole dictionaries for several ways of pairing, each with its null.

In: two sets of features correlated on the same tokens. Out: `Score`s, and their table.
Never: a null that leaves the tested relation intact. Scores that search for the best partners do not depend on the
order of features, so their nulls change the tokens, the directions, or the pairs that a map was fitted on.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sae_utils import arrays, correlate, matching, measures, significance, tables
from sae_utils.engine.kernels import sides
from sae_utils.engine.pairs import PAIRED
from sae_utils.engine.params import Profile
from sae_utils.matching import Pairs
from sae_utils.pipeline import Correlated
from sae_utils.studies import feature_matching

LARGEST = 4096  # live features of a side; the distances of larger sides would need too much memory
DOCUMENTS = "documents of B in another order"
ROTATED = "directions of B rotated at random"
FITTED = "map fitted on shuffled pairs"
PARTNERS = "partners shuffled"
BASELINE = "random rows of both sides, no test"


class Score(NamedTuple):
    """One score of two dictionaries, with the scores that its null gives."""

    name: str
    null: str
    n: int  # features or pairs that are scored
    observed: float
    drawn: NDArray[np.float64]  # (m,)
    larger: bool = True  # whether more alike means larger; a distance is smaller


def another_seed(profile: Profile, name: str) -> str:
    """The first dictionary of the profile that differs from `name` in its seed only, "" where there is none."""
    record = profile.dictionaries[name]
    if not hasattr(record, "seed"):
        return ""
    same = (other for other, x in profile.dictionaries.items() if other != name and _seedless(x) == _seedless(record))
    return next(same, "")


def _seedless(record: Any) -> dict[str, Any]:
    return {"kind": type(record).__name__, **record.model_dump(exclude={"seed"})}


def distances_of_codes(both: Correlated, *, m: int, seed: int) -> list[Score]:
    """Permutation Procrustes and soft matching distance on the matching documents.

    Their null repeats both on B's documents in `m` other orders. No score where a side has over `LARGEST` features.
    """
    if max(both.found.live) > LARGEST:
        return []
    at = np.flatnonzero(both.on_matching)
    null = feature_matching.documents_permuted(both.a.sites.array("documents")[at])
    one, two = sides.prepare(both.a.codes, at, "a"), sides.prepare(both.b.codes, at, "b")
    drawn = [
        _distances(correlate.features(one, moved, k=1))
        for moved in feature_matching.permuted(two, null, m, arrays.generator(seed))
    ]
    n = min(both.found.live)
    return [
        Score(name, DOCUMENTS, n, observed, np.array([x[number] for x in drawn]), larger=False)
        for number, (name, observed) in enumerate(
            zip(("permutation Procrustes", "soft matching"), _distances(both.found), strict=True)
        )
    ]


def _distances(found: correlate.Correlation) -> tuple[float, float]:
    return matching.permutation(found).distance, matching.soft(found).distance


def cosines(both: Correlated, pairs: Pairs, *, one_space: bool, m: int, seed: int) -> list[Score]:
    """MMCS and PW-MCC of the decoder rows of paired features, as they are and after an orthogonal fit on other pairs.

    As they are only where both dictionaries read one space (`one_space`): the null rotates B's rows as a whole, which
    keeps how its directions lie to each other. The fit is made on one half of the `pairs` and scored on the other, both
    ways averaged; its null fits on shuffled pairs. NaN where half of the pairs are too few for a map.
    """
    generator, rows = arrays.generator(seed), (both.a.decoder, both.b.decoder)
    x, y = rows[0][pairs.a], rows[1][pairs.b]
    found = []
    if one_space:
        rotated = [_mmcs_and_pw_mcc(x, y @ _rotation(y.shape[1], generator)) for _ in range(m)]
        found += _named("{}", ROTATED, len(pairs), _mmcs_and_pw_mcc(x, y), rotated)
    order = generator.permutation(len(pairs))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    if len(halves[0]) < min(x.shape[1], y.shape[1]):
        return found + _named("{}, fitted", FITTED, len(pairs), (np.nan, np.nan), [(np.nan, np.nan)] * m)

    def fitted(partner: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> tuple[float, float]:
        ways = []
        for fit, scored in (halves, halves[::-1]):
            moved = matching.align(*rows, dataclasses.replace(pairs, a=pairs.a[fit], b=pairs.b[partner(fit)]))
            ways.append(_mmcs_and_pw_mcc(moved[pairs.a[scored]], y[scored]))
        mmcs, pw_mcc = np.mean(ways, axis=0)
        return mmcs, pw_mcc

    shuffled = [fitted(generator.permutation) for _ in range(m)]
    return found + _named("{}, fitted", FITTED, len(pairs), fitted(lambda fit: fit), shuffled)


def _mmcs_and_pw_mcc(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    found = correlate.cosines(x, y, k=min(64, len(x)))
    return matching.mmcs(found), matching.pw_mcc(found)


def _rotation(d: int, generator: np.random.Generator) -> np.ndarray:
    """A random orthogonal matrix (d, d), uniformly distributed (Mezzadri 2007)."""
    q, r = np.linalg.qr(generator.normal(size=(d, d)))
    return np.asarray(q * np.sign(np.diag(r)))


def _named(
    form: str, null: str, n: int, observed: tuple[float, float], drawn: list[tuple[float, float]]
) -> list[Score]:
    return [
        Score(form.format(name), null, n, observed[number], np.array([x[number] for x in drawn]))
        for number, name in enumerate(("MMCS", "PW-MCC"))
    ]


def leftovers(both: Correlated, pairs: Pairs, *, m: int, seed: int) -> Score:
    """Mean held-out r of the features that `pairs` left out, matched again among themselves, greedily one-to-one.

    Its null sets B's held-out documents in `m` other orders.
    """
    again = matching.greedy(both.found, among=(pairs.why_a != PAIRED, pairs.why_b != PAIRED))
    at, documents = np.flatnonzero(both.on_held_out), both.a.sites.array("documents")
    null = feature_matching.documents_permuted(documents[at])
    one, two = sides.prepare(both.a.codes, at, "a"), sides.prepare(both.b.codes, at, "b")
    moved = feature_matching.permuted(two, null, m, arrays.generator(seed))
    drawn = [tables.average(correlate.pairs(one, x, again.a, again.b)) for x in moved]
    observed = tables.average(both.held_out(again))
    return Score("leftovers again, held-out r", DOCUMENTS, len(again), observed, np.array(drawn))


def clusters_of_best_partners(both: Correlated, *, m: int, seed: int) -> Score:
    """The clusters of the graph in which every live feature of both sides points at its best partner.

    Their null shuffles the partners among the features that chose them, so that every feature is chosen as often.
    """
    generator = arrays.generator(seed)
    ways = [matching.many_to_one(both.found, "a_to_b"), matching.many_to_one(both.found, "b_to_a")]

    def count(forward: Pairs, backward: Pairs) -> int:
        return len(matching.clusters(forward, backward).edges)

    drawn = [
        count(
            dataclasses.replace(ways[0], b=generator.permutation(ways[0].b)),
            dataclasses.replace(ways[1], a=generator.permutation(ways[1].a)),
        )
        for _ in range(m)
    ]
    return Score("clusters of best partners", PARTNERS, sum(map(len, ways)), count(*ways), np.array(drawn, float))


def unpaired(both: Correlated, pairs: Pairs, *, m: int, seed: int) -> Score:
    """IMD of the decoder rows of paired features (it ignores the pairing), with equally many random rows as baseline.

    The random rows are a baseline and no test: they change the features too.
    """
    pools = both.a.decoder[both.found.a.live], both.b.decoder[both.found.b.live]
    random = significance.random_rows(*pools, len(pairs), measures.imd, m=m, seed=seed)
    observed = measures.imd(both.a.decoder[pairs.a], both.b.decoder[pairs.b])
    return Score("IMD", BASELINE, len(pairs), observed, random.draws, larger=False)


def compare(both: Correlated, *, one_space: bool, m: int, seed: int) -> list[Score]:
    """All scores of this module: cosines and IMD of the optimal pairs, leftovers of the mutual pairs."""
    optimal, mutual = matching.optimal(both.found), matching.mutual(both.found)
    return [
        *distances_of_codes(both, m=m, seed=seed),
        *cosines(both, optimal, one_space=one_space, m=m, seed=seed),
        unpaired(both, mutual, m=m, seed=seed),
        clusters_of_best_partners(both, m=m, seed=seed),
        leftovers(both, mutual, m=m, seed=seed),
    ]


def table(scores: Iterable[Score]) -> pd.DataFrame:
    """A row a score: score, n, observed, null, null SD, p (of draws at least as much alike), null is."""
    return pd.DataFrame([_row(score) for score in scores])


def _row(score: Score) -> dict[str, Any]:
    sign = 1 if score.larger else -1
    found = significance.summarise(
        sign * score.observed, sign * score.drawn, measure=score.name, null=score.null, n=score.n
    )
    name = score.name + ("" if score.larger else " (distance)")
    p = np.nan if score.null == BASELINE else found.p
    columns = {"observed": sign * found.observed, "null": sign * found.null_mean, "null SD": found.null_sd, "p": p}
    return {"score": name, "n": score.n, **columns, "null is": score.null}
