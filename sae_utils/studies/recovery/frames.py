"""What trained SAEs recover, as frames: one row a checkpoint.

In: artefacts of `training.recovered` by kind, width and draw; the true rows and the seed of every draw. Out: frames.
Never: a training, a figure.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from sae_utils.store import Artefact
from sae_utils.studies.recovery import recovered
from sae_utils.studies.recovery.recovered import Dictionary

Cell = tuple[str, int, int]  # kind, width, draw


def last(made: Artefact) -> Dictionary:
    """The dictionary at the end of training."""
    return Dictionary(made.array("decoders")[-1], made.array("live")[-1])


def along(
    trained: Mapping[Cell, Artefact], rows: Sequence[np.ndarray], seeds: Sequence[int], least: float
) -> pd.DataFrame:
    """`recovered.Found` at every checkpoint, with samples, loss, l0 and dead (% of latents)."""
    return pd.DataFrame(
        {"kind": kind, "width": width, "draw": draw, "step": step, "dead": 100 * (1 - dictionary.live.mean())}
        | {key: made.meta[key][step] for key in ("samples", "loss", "l0")}
        | recovered.found(rows[draw], dictionary, least, [seeds[draw], 3])._asdict()
        for (kind, width, draw), made in trained.items()
        for step, dictionary in _states(made)
    )


def related(
    trained: Mapping[Cell, Artefact], rows: Sequence[np.ndarray], seeds: Sequence[int], measures: Sequence[str], m: int
) -> pd.DataFrame:
    """`recovered.Relations` at every checkpoint, one row a measure."""
    return pd.DataFrame(
        {"kind": kind, "width": width, "draw": draw, "step": step, "measure": measure} | x._asdict()
        for (kind, width, draw), made in trained.items()
        for step, dictionary in _states(made)
        for measure, x in recovered.relations(rows[draw], dictionary, measures, m, [seeds[draw], 4]).items()
    )


def _states(made: Artefact) -> Iterator[tuple[int, Dictionary]]:
    """Number and dictionary of every checkpoint, and of the end."""
    return enumerate(map(Dictionary, made.array("decoders"), made.array("live")))
