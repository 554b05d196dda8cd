"""What an SAE looks at, so that a notebook can take its codes by hand.

In: two dictionaries of a profile, and a number of positions. Out: their SAEs, and the activations behind `views.sides`.
Never: codes.
"""

from typing import Any, NamedTuple

import numpy as np
import torch

from sae_utils import pipeline, store
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import dictionaries
from sae_utils.studies.published_tables import views


class Looked(NamedTuple):
    """An SAE, and what it looks at on the first matching rows, at every position."""

    sae: Any
    block_input: torch.Tensor  # (positions, d) activations at the input of the block
    own_hook: torch.Tensor  # (positions, d) at the hook that the SAE was trained on
    inside: np.ndarray  # (positions,) neither padding nor a first position


def looked(run: Profile, name: str, positions: int) -> Looked:
    """What one dictionary looks at in `views.sides`, at no more than `positions` positions."""
    reader = pipeline.reader(run, name)
    texts = views.Texts.of([reader.rows], positions, run.common.skip)
    sae, *fed = views.source(reader, texts)
    before, own = (torch.from_numpy(np.array(x.array("values"))).to(store.device()) for x in fed)
    return Looked(dictionaries.load(sae), before, own, np.array(texts.positions[0].array("inside")))
