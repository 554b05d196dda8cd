"""Two SAEs that a loss makes alike: what it costs, what it gains, and whether it invents agreement.

In: the models' activations in one arm, a recipe with the weight of the loss. Out: `Read`, in the arm of the training.
Never: a verdict; an SAE that is trained alone.

Words that are exchanged between the models leave nothing of the content words to agree on: whatever agreement the loss
then makes is invented.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np

from sae_utils import replicates
from sae_utils.studies.joint import training
from sae_utils.studies.joint.crosscoders import SPLITS, pairs
from sae_utils.studies.joint.dictionary import Joint, Recipe
from sae_utils.studies.joint.texts import Texts


class Read(NamedTuple):
    """Two SAEs of one replicate, trained and read in one arm."""

    unexplained: float  # share of the variance, a mean over both models, on documents that judge
    n: float  # content features that are scored
    excess: float  # of the primary measure, over A's content features and their partners
    r: float  # mean held-out r with these partners
    counterparts: float  # share of content features whose partner reaches the held-out threshold
    same_index: float  # mean held-out r of latents of one index that are live in both
    matched: int  # mutual pairs of all latents that reach the threshold


def sides(made: Joint, texts: Texts) -> tuple[replicates.Side, replicates.Side]:
    """Both SAEs with their codes in each reading, as `replicates` compares dictionaries."""
    blocks: list[dict[str, list[Any]]] = [{}, {}]
    for split in SPLITS:
        x = texts.activations(split)
        for route in (0, 1):
            codes = made.encode(x, route).astype(np.float64)
            ends = np.linspace(0, codes.shape[0], len(texts.a) + 1).astype(int)
            blocks[route][split] = [codes[i:j] for i, j in itertools.pairwise(ends)]
    classes = {split: texts.classes(split) for split in SPLITS}
    one, other = (
        replicates.Side(made.rows(i).numpy(), blocks[i], {split: of[i] for split, of in classes.items()})
        for i in (0, 1)
    )
    return one, other


def read(texts: Texts, trained_on: Texts, recipe: Recipe, measure: str, least: float, firings: int) -> Read:
    """Train two SAEs on one arm, or take them from the store, and score their agreement in another or the same.

    `least`: held-out r of a counterpart; `firings`: of a content feature on the documents that choose partners.
    """
    made = training.of(trained_on, recipe)
    own = sides(made, texts)
    found = replicates.match_all(own, firings)
    scored = replicates.scored(own, found, [measure])
    r = {split: replicates.correlate(own[0].blocks[split], own[1].blocks[split]).r for split in SPLITS}
    x = texts.activations("held_out")
    return Read(
        unexplained=float(np.mean([value for route in (0, 1) for value in made.unexplained(x, route).values()])),
        n=scored.n,
        excess=scored.true[measure],
        r=scored.r_true,
        counterparts=float(np.mean([(np.nan_to_num(of.r_true, nan=-1.0) >= least).mean() for of in found])),
        same_index=float(np.nanmean(np.diag(r["held_out"]))),
        matched=len(pairs(r, least)),
    )
