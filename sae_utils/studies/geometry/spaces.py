"""Two feature spaces of one replicate: transport between them, and homology of the subspaces of concepts.

In: dictionaries of a profile. Out: distances in the true and in the control arm.
Never: an interval or a verdict; more features in one arm than in the other.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import pipeline, replicates
from sae_utils.engine.params import Profile
from sae_utils.engine.saes.correlations import in_split
from sae_utils.replicates import SPLITS
from sae_utils.studies.geometry import homology, mapper, paired, transport
from sae_utils.studies.geometry.homology import Distance
from sae_utils.studies.geometry.paired import Paired, Part
from sae_utils.studies.llm_vs_sae import units
from sae_utils.studies.semantic_subspaces import concepts

Masks = Mapping[str, NDArray[np.bool_]]


class Arm(NamedTuple):
    """The features of A and what takes the place of their partners in one arm."""

    correlation: float  # least mean 1 - r of a transport plan
    gromov: float  # Gromov-Wasserstein distance of the cosine distances
    on_partners: float  # mass of its plan that goes from a feature to its partner; by chance 1 / n
    bottleneck: Mapping[str, Mapping[int, Distance]]  # concept -> dimension


class Spaces(NamedTuple):
    """One replicate."""

    n: int
    arms: Mapping[str, Arm]


def about(run: Profile, name: str, lists: Mapping[str, Sequence[str]], share: float) -> dict[str, NDArray[np.bool_]]:
    """Concept -> (features,) which features of a dictionary are about it, on the documents that choose partners."""
    side = pipeline.features(run, name)
    words = pipeline.words(run, name, side.sites)
    chosen = in_split(side.sites, SPLITS[0][0])
    found = concepts.evidence(side.codes, words, side.sites.array("documents"), chosen)
    rule = concepts.Mass(kind="mass", share=share)
    return {of: concepts.about(found, concepts.word_mask(listed, found), rule) for of, listed in lists.items()}


def compare(x: Paired, masks: Masks, fewest: int, m: int, seed: int) -> Spaces:
    """Both arms of paired features; concepts with fewer than `fewest` of them have no bottleneck distance."""
    at = {name: np.flatnonzero(mask[x.features]) for name, mask in masks.items()}
    kept = {name: places for name, places in at.items() if len(places) >= fewest}
    within = transport.cosine_distances(x.a.rows)
    arms = {}
    for arm, part in x.b.items():
        plan = transport.gromov(within, transport.cosine_distances(part.rows))
        of = {name: homology.across(x.a.rows, part.rows, places, m, seed) for name, places in kept.items()}
        arms[arm] = Arm(transport.by_correlation(x.r(arm)), plan.distance, plan.on_partners, of)
    return Spaces(len(x.features), arms)


def neurons(run: Profile, a: str, b: str, rows: int, most: int, seed: int) -> tuple[Part, Part]:
    """MLP neurons of the layers that two dictionaries read, paired one-to-one by correlation, at most `most` of them.

    Their rows are output weights. `rows` of the text that chooses are read.
    """
    x, y = (side.double().cpu().numpy() for side in units.neurons_on(run, a, b, rows))
    r = replicates.correlate([sparse.csr_array(x)], [sparse.csr_array(y)])
    partner = replicates.partners(np.nan_to_num(r.r), np.flatnonzero(r.live[0]), r.live[1])
    alive = np.flatnonzero(r.live[0])[partner >= 0]
    at = np.sort(np.random.default_rng(seed).choice(len(alive), min(most, len(alive)), replace=False))
    of_a, of_b = alive[at], partner[partner >= 0][at]
    weights = [units.decoder_rows(run, name, units.NEURONS) for name in (a, b)]
    return (
        Part(np.asarray(weights[0][of_a]), sparse.csr_array(np.maximum(x[:, of_a], 0))),
        Part(np.asarray(weights[1][of_b]), sparse.csr_array(np.maximum(y[:, of_b], 0))),
    )


def size(part: Part) -> NDArray[np.float64]:
    """(n,) how much each unit writes: the norm of its row times the root of its mean squared activation."""
    square = np.asarray(part.codes.multiply(part.codes).mean(axis=0)).ravel()
    return np.asarray(np.linalg.norm(part.rows, axis=1) * np.sqrt(square))


def features(run: Profile, a: str, b: str, twin: str, minimum: int, most: int, seed: int) -> Paired:
    """Features of A with their partners (`paired`)."""
    return paired.pair(paired.sides(run, a, b, twin), minimum, most, seed)


def graphs(part: Part, cover: mapper.Cover, seed: int) -> dict[str, tuple[mapper.Graph, NDArray[np.float64]]]:
    """Lens -> the Mapper graph of the units and the values of the lens."""
    found = {}
    for name in mapper.LENSES:
        values = mapper.lens(part.rows, name, size(part), seed)
        found[name] = mapper.graph(part.rows, values, cover), values
    return found


# --- tables

PANELS = {
    "transport": "transport, 1 - r", "gromov": "Gromov-Wasserstein", "on partners": "its mass on partners",
    "pieces": "pieces, excess", "loops": "loops, excess",
}  # fmt: skip
LARGER = ("on partners", "pieces", "loops")  # larger is more alike; of the others, smaller is


def frame(found: Mapping[replicates.Names, Spaces]) -> pd.DataFrame:
    """One row a replicate and arm, with the columns of `PANELS`; those of homology are means over concepts."""
    rows = []
    for number, x in enumerate(found.values()):
        for arm, of in x.arms.items():
            near = [_mean([y[dimension].excess for y in of.bottleneck.values()]) for dimension in (0, 1)]
            rows.append((number, arm, x.n, of.correlation, of.gromov, of.on_partners, *near))
    return pd.DataFrame(rows, columns=["replicate", "arm", "n", *PANELS])


def _mean(values: Sequence[float]) -> float:
    known = [x for x in values if not np.isnan(x)]
    return float(np.mean(known)) if known else float("nan")


def summary(of: pd.DataFrame) -> pd.DataFrame:
    """Means over replicates, one row an arm."""
    return of.groupby("arm", sort=False)[["n", *PANELS]].mean().round({"n": 0}).astype({"n": int}).reset_index()


def gaps(of: pd.DataFrame) -> pd.DataFrame:
    """By how much the true arm is more alike than the control, one row a replicate; empty without a control."""
    true, control = (of[of.arm == arm].set_index("replicate")[[*PANELS]] for arm in (paired.TRUE, paired.CONTROL))
    signs = pd.Series({key: 1.0 if key in LARGER else -1.0 for key in PANELS})
    return (true.loc[control.index] - control) * signs


def as_columns(x: mapper.Compared) -> dict[str, float | str]:
    """Two Mapper graphs as columns of a table."""
    return {
        "nodes": "{} and {}".format(*x.nodes), "cycles": "{} and {}".format(*x.cycles), "distance": x.observed,
        "shuffled": x.null_mean, "SD": x.null_sd,
    }  # fmt: skip
