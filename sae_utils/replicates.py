"""Replicates of a comparison, and its two arms: the same features with their true partners and with those of a control.

In: a checked profile and names of dictionaries or of families of them. Out: the names of each replicate, a sweep over
replicates, and for one replicate how alike features are arranged in both arms.
Never: an interval or a verdict over replicates (`inference` gives both); a threshold on a correlation.

**The control by exchanged words.** The words of the scrambled world are those of the true one after an exchange of
words of equal frequency, so that a model of it is, in distribution, a model of the true world that reads exchanged
words. Both models read the text t and the text pi(t) whose words have changed places. In the true arm, token i of t is
the same token for A and B, as is token i of pi(t). In the control arm A reads t where B reads pi(t), and the reverse.
Both arms hold the same texts, the same features and the same codes: only the correspondence of tokens differs.

**The control by a twin.** Models that lack part of the training, such as random blocks, take the place of B on t.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import pipeline, significance, sweep
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import correlations

Result = TypeVar("Result")
Names = tuple[str, ...]
Blocks = Sequence[Any]  # CSR codes (tokens, features) of one side on several texts, as if one after another

CONTENT = 0.8  # a content feature has more than this share of its activation on content words
FEWEST = significance.FEWEST  # features; below, no score
SPLITS = (("matching", "held_out"), ("held_out", "matching"))  # which documents choose partners, and which judge them


def of(run: Profile, *names: str) -> list[Names]:
    """Members of families that belong to one replicate, replicate by replicate, as far as all families have members.

    A plain name belongs to the first replicate. Raises ProfileError for an unknown name.
    """
    return list(zip(*(run.members(name) for name in names), strict=False))


def seed(run: Profile, name: str) -> int:
    """The seed of the replicate that a member of a family belongs to; of a plain name, that of the first replicate.

    Raises ProfileError if the profile has no replicates.
    """
    if not run.common.replicates:
        raise ProfileError(f"params/{run.name}.yaml: replicates: none, so that no words change places; list seeds")
    place = next((members.index(name) for members in run.families.values() if name in members), 0)
    return run.common.replicates[place]


def over(call: Callable[[Names], Result], cells: Iterable[Names], label: str) -> dict[Names, Result]:
    """`sweep.run` over the names of replicates: a result for each, computed side by side in processes."""
    return sweep.run(call, cells, label)


def prepare(run: Profile, cells: Iterable[Names]) -> None:
    """Make all that `arms` reads for these replicates: one pass over a model and a text for all of its dictionaries."""
    cells = list(cells)
    plain = [(name, None) for name in itertools.chain(*cells)]
    exchanged = [(name, seed(run, names[0])) for names in cells if len(names) == 2 for name in names]
    pipeline.encode(run, [*plain, *exchanged])


# --- matching in both arms


class Matched(NamedTuple):
    """Content features of one side, the same in both arms, with their one-to-one partners on the other side."""

    role: str  # "a" or "b": the side of the content features
    features: NDArray[np.int64]  # (n,) content features
    true: NDArray[np.int64]  # (n,) partners in the true arm
    control: NDArray[np.int64]  # (n,) partners in the control arm
    r_true: NDArray[np.float64]  # (n,) correlation on the documents that judge; NaN where a feature is dead there
    r_control: NDArray[np.float64]  # (n,)
    retention: float  # n by the number of live features of the side


class Correlations(NamedTuple):
    """Correlations of all features of two sides on some documents."""

    r: NDArray[np.float64]  # (features_a, features_b), NaN where either is dead or constant
    live: tuple[NDArray[np.bool_], NDArray[np.bool_]]


class Sums(NamedTuple):
    """Sums over tokens, from which correlations follow; those of some tokens can be taken from those of all."""

    tokens: int
    of_a: NDArray[np.float64]  # (2, features_a) sums of the codes and of their squares
    of_b: NDArray[np.float64]  # (2, features_b)
    cross: NDArray[np.float64]  # (features_a, features_b) sums of products

    def without(self, part: "Sums") -> "Sums":
        """The sums over all tokens but those of `part`."""
        return Sums(self.tokens - part.tokens, *(x - y for x, y in zip(self[1:], part[1:], strict=True)))

    def correlations(self) -> Correlations:
        """Pearson correlations of all features of both sides."""
        (mean_a, sd_a), (mean_b, sd_b) = (self._moments(of) for of in (self.of_a, self.of_b))
        live = sd_a > 0, sd_b > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            r = (self.cross / self.tokens - np.outer(mean_a, mean_b)) / np.outer(sd_a, sd_b)
        r[~live[0], :], r[:, ~live[1]] = np.nan, np.nan
        return Correlations(r, live)

    def _moments(self, of: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of every feature; 0 where it is constant up to rounding."""
        mean, square = of / self.tokens
        variance = square - mean**2
        return mean, np.sqrt(np.where(variance > 1e-12 * square, variance, 0))


def sums(a: Blocks, b: Blocks) -> Sums:
    """Sums over the tokens of all blocks; block i of both sides has the same tokens, row by row."""
    of_a, of_b = (np.sum([(x.sum(0), x.multiply(x).sum(0)) for x in side], axis=0) for side in (a, b))
    cross = np.sum([(x.T @ y).toarray() for x, y in zip(a, b, strict=True)], axis=0)
    return Sums(sum(block.shape[0] for block in a), of_a, of_b, cross)


def correlate(a: Blocks, b: Blocks) -> Correlations:
    """Pearson correlations over the tokens of all blocks, which are as in `sums`."""
    return sums(a, b).correlations()


def content_features(blocks: Blocks, classes: Sequence[NDArray[Any]], minimum: int) -> NDArray[np.int64]:
    """Features that fire at least `minimum` times, with over `CONTENT` of their activation on tokens of a class.

    `classes`: of every block the class of each token, -1 for none. Where no token has a class, all features that fire
    often enough are returned.
    """
    total, on_content, firings = (np.zeros(blocks[0].shape[1]) for _ in range(3))
    for block, of_tokens in zip(blocks, classes, strict=True):
        total += block.sum(0)
        on_content += block[of_tokens >= 0].sum(0)
        firings += np.bincount(block.indices, minlength=block.shape[1])
    classed = any((of_tokens >= 0).any() for of_tokens in classes)
    return np.flatnonzero((firings >= minimum) & ((on_content > CONTENT * total) | (not classed)))


def partners(r: NDArray[np.float64], features: NDArray[np.int64], live: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(features,) one-to-one partners with the largest total r among the live columns; -1 where columns run out."""
    from scipy.optimize import linear_sum_assignment

    columns = np.flatnonzero(live)
    row, column = linear_sum_assignment(r[np.ix_(features, columns)], maximize=True)
    found = np.full(len(features), -1)
    found[row] = columns[column]
    return found


def match(
    role: str, content: NDArray[np.int64], chosen: tuple[Correlations, Correlations],
    judged: tuple[Correlations, Correlations],
) -> Matched:  # fmt: skip
    """The content features of side a, or by `role` of side b, with their partners in both arms.

    `chosen` and `judged`: correlations of the true and the control arm, on the documents that choose partners and on
    those that judge. Content features that have no partner in an arm, since B has fewer features, are left out of both.
    """
    flipped = role == "b"
    of_arms = [Correlations(x.r.T, x.live[::-1]) if flipped else x for x in (*chosen, *judged)]
    content = content[of_arms[0].live[0][content]]
    true, control = (partners(x.r, content, x.live[1]) for x in of_arms[:2])
    kept = (true >= 0) & (control >= 0)
    content, true, control = content[kept], true[kept], control[kept]
    held = [x.r[content, partner] for x, partner in zip(of_arms[2:], (true, control), strict=True)]
    retention = len(content) / max(int(of_arms[0].live[0].sum()), 1)
    return Matched(role, content, true, control, held[0], held[1], retention)


# --- one replicate


class Side(NamedTuple):
    """One dictionary: on the text and, where there is a second reading, under exchanged words."""

    decoder: np.ndarray  # (features, d)
    blocks: Mapping[str, Blocks]  # split -> its codes, a CSR matrix for each reading
    classes: Mapping[str, Sequence[NDArray[Any]]]  # split -> the class of every token, -1 for none, for each reading


def sides(run: Profile, names: Names) -> tuple[Side, ...]:
    """The dictionaries of a replicate: two on both readings, or with a third, the twin of B, on the text alone.

    Raises ValueError for other numbers of names, and for models with different tokenizers.
    """
    if len(names) not in (2, 3):
        raise ValueError(f"{len(names)} names: A and B, or A, B and a twin of B")
    readings = (None, seed(run, names[0])) if len(names) == 2 else (None,)
    found = [[pipeline.features(run, name, reading) for reading in readings] for name in names]
    if len({codes[0].sites.key for codes in found}) > 1:
        raise ValueError(f"{', '.join(names)}: different tokens; their models need one tokenizer")
    return tuple(side(codes) for codes in found)


def side(readings: Sequence[pipeline.Features]) -> Side:
    """A dictionary from its codes on each reading."""
    blocks: dict[str, list[Any]] = {split: [] for split, _ in SPLITS}
    classes: dict[str, list[NDArray[Any]]] = {split: [] for split, _ in SPLITS}
    for (split, _), x in itertools.product(SPLITS, readings):
        chosen = correlations.in_split(x.sites, split)
        blocks[split].append(sparse.csr_array(x.codes[chosen], dtype=np.float64))
        classes[split].append(x.sites.array("classes")[chosen])
    return Side(readings[0].decoder, blocks, classes)


def match_all(own: tuple[Side, ...], minimum: int) -> list[Matched]:
    """The matched features of the sides of a replicate by split, and by role where there are two sides.

    The control of two sides exchanges the readings of B; that of three is the last side in the place of B. Then only
    features of A are matched: content features of B and of its twin would be different features in the two arms.
    """
    a, b = own[:2]
    exchanged = len(own) == 2

    def both(split: str) -> tuple[Correlations, Correlations]:
        control = b.blocks[split][::-1] if exchanged else own[2].blocks[split]
        return correlate(a.blocks[split], b.blocks[split]), correlate(a.blocks[split], control)

    found, of_split = [], {split: both(split) for split, _ in SPLITS}
    for (choose, judge), (role, side) in itertools.product(SPLITS, zip("ab" if exchanged else "a", own, strict=False)):
        content = content_features(side.blocks[choose], side.classes[choose], minimum)
        found.append(match(role, content, of_split[choose], of_split[judge]))
    return found


def matched(run: Profile, names: Names, minimum: int = 20) -> tuple[tuple[Side, ...], list[Matched]]:
    """The sides of a replicate and their matched features (`match_all`).

    `names`: (A, B), whose control exchanges words; or (A, B, twin of B), whose control is the twin. `minimum`: firings
    of a content feature on the documents that choose.
    """
    own = sides(run, names)
    return own, match_all(own, minimum)


class Arms(NamedTuple):
    """Both arms of one replicate, each a mean over the splits (and over roles, where words are exchanged)."""

    n: float  # features that are scored
    retention: float  # their share of the live features of their side
    r_true: float  # mean held-out correlation with their partners
    r_control: float
    true: Mapping[str, float]  # measure -> excess over a shuffled pairing; NaN for fewer than `FEWEST` features
    control: Mapping[str, float]

    def difference(self, measure: str) -> float:
        """The excess of the true arm less that of the control."""
        return self.true[measure] - self.control[measure]


def rows(own: tuple[Side, ...], x: Matched) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Paired decoder rows of the true arm, and of the control arm: ((n, d_a), (n, d_b)) each."""
    here, there = (own[0], own[1]) if x.role == "a" else (own[1], own[0])
    control = own[2] if len(own) == 3 else there
    mine = here.decoder[x.features]
    return (mine, there.decoder[x.true]), (mine, control.decoder[x.control])


def arms(run: Profile, names: Names, measures: Sequence[str], minimum: int = 20) -> Arms:
    """How alike the content features of a replicate and their partners are arranged, in both arms (`matched`).

    `measures` have a null mean in closed form. The excess is (observed - null mean) / (1 - null mean).
    """
    own, found = matched(run, names, minimum)
    return scored(own, found, measures)


def scored(own: tuple[Side, ...], found: Sequence[Matched], measures: Sequence[str]) -> Arms:
    """Means over matched features of the excess of each measure and of r, in both arms."""
    scores = [[excesses(pair, measures) for pair in rows(own, x)] for x in found]
    true, control = ({name: float(np.mean([x[arm][name] for x in scores])) for name in measures} for arm in (0, 1))
    r_true, r_control = (float(np.mean([_mean(getattr(x, key)) for x in found])) for key in ("r_true", "r_control"))
    n, retention = float(np.mean([len(x.features) for x in found])), float(np.mean([x.retention for x in found]))
    return Arms(n, retention, r_true, r_control, true, control)


def excesses(pair: significance.Rows, measures: Sequence[str]) -> dict[str, float]:
    """The excess of paired rows over a shuffled pairing by measure; NaN for fewer than `FEWEST` pairs."""
    if len(pair[0]) < FEWEST:
        return dict.fromkeys(measures, math.nan)
    found = significance.test(*pair, list(measures), m_of=dict.fromkeys(measures, 0))
    return {name: x.excess for name, x in found.items()}


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
