"""What the first model's features are compared with, and what the scores of all comparisons say together.

In: families and names of a profile; the scores of every comparison. Out: `Cell`s, tables over replicates.
Never: a score.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sae_utils import inference, replicates
from sae_utils.engine.geometry.registry import Floats
from sae_utils.engine.params import Profile
from sae_utils.inference import Replicated
from sae_utils.studies.controls.measured import Arm, Beside

SAE_SEED, MODEL_SEED, SEED_OF_B, DEPTH = "another SAE seed", "another model seed", "another seed of B", "another depth"
EXCHANGED, FROZEN, TRAINED = "exchanged words", "frozen random decoder", "trained on exchanged words"
SEEDS = (MODEL_SEED, SEED_OF_B)
PLAIN: dict[str, Callable[[Arm], float]] = {
    "n": lambda arm: arm.n,
    "r held out": lambda arm: arm.r,
    "counterparts": lambda arm: arm.share,
}


class Cell(NamedTuple):
    """One comparison: two dictionaries, read as replicate `number` (from 0) reads its text."""

    label: str
    number: int
    a: str
    b: str
    exchanged: bool = False  # whether B reads its words exchanged


def cells(
    profile: Profile, sae_seeds: Sequence[str], twins: Mapping[str, str], frozen: Sequence[str], trained: Sequence[str]
) -> list[Cell]:
    """All comparisons of the primary pair (A, B): the true one, its control one, ceilings and controls.

    `sae_seeds`: SAEs of A's first model. `twins`: label -> family of twins of B. `frozen`: families of SAEs of A with
    a frozen decoder. `trained`: families of models of the world of exchanged words. Model seeds are compared in a
    ring, each with the next.
    """
    a, b = profile.common.primary.pair
    pairs = replicates.of(profile, a, b)
    found = [Cell(SAE_SEED, 0, pairs[0][0], name) for name in sae_seeds]
    for label, side in ((MODEL_SEED, 0), (SEED_OF_B, 1)):
        ring = [x[side] for x in pairs]
        # two make one pair, not a ring
        found += [Cell(label, i, ring[i], ring[(i + 1) % len(ring)]) for i in range(len(ring) - (len(ring) < 3))]
    found += [Cell(DEPTH, i, pair[0], pair[1]) for i, pair in enumerate(pairs)]
    found += [Cell(EXCHANGED, i, pair[0], pair[1], exchanged=True) for i, pair in enumerate(pairs)]
    others = [*twins.items(), *((FROZEN, name) for name in frozen), *((TRAINED, name) for name in trained)]
    for label, family in others:
        found += [Cell(label, i, pair[0], pair[1]) for i, pair in enumerate(replicates.of(profile, a, family))]
    return found


def grid(profile: Profile, models: Mapping[str, str]) -> dict[tuple[str, str], list[Cell]]:
    """The content features of every model with partners in every model, replicate by replicate.

    `models`: label -> family of dictionaries. Replicates are those that all families have. A model is compared with
    the next seed of itself: with none where there is one replicate.
    """
    found = replicates.of(profile, *models.values())
    return {
        (x, y): [
            Cell(y, i, names[at_x], found[(i + (at_x == at_y)) % len(found)][at_y])
            for i, names in enumerate(found)
            if at_x != at_y or len(found) > 1
        ]
        for at_x, x in enumerate(models)
        for at_y, y in enumerate(models)
    }


# --- over replicates


def of(arms: Mapping[Cell, Arm], label: str, value: Callable[[Arm], float]) -> Floats:
    """The values of all comparisons of one label, in their order."""
    return np.array([value(arm) for cell, arm in arms.items() if cell.label == label])


def differences(arms: Mapping[Cell, Arm], label: str, value: Callable[[Arm], float], base: str = DEPTH) -> Floats:
    """Of every replicate that has both, its value of `base` minus that of `label`."""
    first, second = ({cell.number: value(arm) for cell, arm in arms.items() if cell.label == x} for x in (base, label))
    return np.array([first[number] - second[number] for number in first if number in second])


def over(arms: Mapping[Cell, Arm], label: str, value: Callable[[Arm], float]) -> Replicated:
    """The mean of a value with its interval; of a ring of seeds each is left out with both pairs that hold it."""
    values = of(arms, label, value)
    if label not in SEEDS or len(values) < 3:
        return inference.over_replicates(values)
    crossed = np.full((len(values), len(values)), np.nan)
    crossed[np.arange(len(values)), (np.arange(len(values)) + 1) % len(values)] = values
    return inference.over_replicates(crossed)


def table(arms: Mapping[Cell, Arm], labels: Sequence[str], measures: Mapping[str, str]) -> pd.DataFrame:
    """A row a label: comparisons, n, mean held-out r, share of counterparts; by measure the excess and its interval.

    `measures`: name -> label of its columns.
    """
    rows = []
    for label in labels:
        row: dict[str, float | str] = {"compared with": label, "pairs": len(of(arms, label, lambda arm: arm.n))}
        row |= {name: float(of(arms, label, value).mean()) for name, value in PLAIN.items()}
        for name, shown in measures.items():
            row[shown] = interval(over(arms, label, _excess(name)))
        rows.append(row)
    return pd.DataFrame(rows)


def matrix(
    arms: Mapping[Cell, Arm], grid: Mapping[tuple[str, str], Sequence[Cell]], value: Callable[[Arm], float]
) -> pd.DataFrame:
    """Means over replicates: a row a model whose content features are paired, a column a model of their partners."""
    means = {names: np.mean([value(arms[cell]) for cell in of] or [np.nan]) for names, of in grid.items()}
    labels = list(dict.fromkeys(x for x, _ in grid))
    return pd.DataFrame([[means[x, y] for y in labels] for x in labels], labels, labels)


def interval(found: Replicated) -> str:
    """An estimate and its interval in words, the estimate alone where there is no interval."""
    ends = "" if np.isnan(found.low) else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.estimate:.2f}{ends}".replace("-", "\N{MINUS SIGN}")


def spread(arms: Mapping[Cell, Arm], label: str, measure: str) -> tuple[Floats, Replicated]:
    """The excesses of all comparisons of a label by one measure, and their mean with its interval."""
    return of(arms, label, _excess(measure)), over(arms, label, _excess(measure))


def gap(arms: Mapping[Cell, Arm], label: str, measure: str) -> Replicated:
    """The excess of the primary pair minus that of a control, within each replicate, over replicates."""
    return inference.over_replicates(differences(arms, label, _excess(measure)))


def _excess(measure: str) -> Callable[[Arm], float]:
    return lambda arm: arm.excess[measure]


def shares(arms: Mapping[Cell, Arm], found: Sequence[Beside]) -> pd.DataFrame:
    """A row a kind of partner: the share of content features with a counterpart, with its interval over replicates."""
    kinds = {label: over(arms, label, PLAIN["counterparts"]) for label in (DEPTH, EXCHANGED)}
    for name, field in {"of the same firings": "by_firings", "shuffled in strata of firings": "in_strata"}.items():
        kinds[name] = inference.over_replicates([getattr(x, field) for x in found])
    return pd.DataFrame(
        {"partner": name, "counterparts": x.estimate, "low": x.low, "high": x.high} for name, x in kinds.items()
    )


# --- tables of a true arm beside its control one


def left(found: Sequence[Beside]) -> dict[str, Replicated]:
    """By fact the partial similarity of the true arm minus that of the control one, over replicates."""
    both = [x for x in found if x.true and x.control]
    return {
        fact: inference.over_replicates([x.true[fact].partial - x.control[fact].partial for x in both])
        for fact in (both[0].true if both else ())
    }


def difference(found: Sequence[Beside], selection: str) -> Replicated:
    """The excess of the true arm minus that of the control one, of a selection of pairs, over replicates."""
    return inference.over_replicates([x.selections[selection].difference for x in found])


def explained(found: Sequence[Beside]) -> pd.DataFrame:
    """A row a fact: the part of the raw similarity that it explains in the true arm, and what is left, over replicates.

    `left`: the partial similarity of the true arm minus that of the control one.
    """
    rows = []
    for fact, remains in left(found).items():
        true = np.mean([x.true[fact] for x in found if x.true and x.control], axis=0)
        control = np.mean([x.control[fact] for x in found if x.true and x.control], axis=0)
        of_arms = dict(zip(("raw", "explained", "partial"), true, strict=True)) | {"partial, control": control[2]}
        rows.append({"given": fact} | of_arms | {"left": remains.estimate, "low": remains.low, "high": remains.high})
    return pd.DataFrame(rows)


def selected(found: Sequence[Beside]) -> pd.DataFrame:
    """A row a selection of pairs: mean n, excess of both arms, and their difference over replicates."""
    rows = []
    for name in found[0].selections:
        x = difference(found, name)
        means = np.mean([of.selections[name] for of in found], axis=0)
        row = {"pairs": name} | dict(zip(("n", "true", "control"), means, strict=True))
        rows.append(row | {"difference": x.estimate, "low": x.low, "high": x.high, "replicates": x.n})
    return pd.DataFrame(rows)
