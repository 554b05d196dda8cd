"""How large a language model is, how long it was trained, and what it was on the way; how an SAE was trained.

In: a checked profile and a name of its models, an SAE and its quality. Out: its size; its checkpoints; what speaks
against the SAE.
Never: a loss; a step that nobody says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import pretrained, toys
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import quality
from sae_utils.store import Artefact


class Size(NamedTuple):
    """How large a language model is, and how long it was trained."""

    layers: int
    d: int
    """width of the residual stream"""
    parameters: int
    steps: float
    """of training; NaN where nobody says"""


def size(profile: Profile, name: str) -> Size:
    """The size of a model; random weights have taken no steps, pretrained ones those that their revision names."""
    made, first = pipeline.model(profile, name).meta, pipeline.origin(profile.models, name)
    if isinstance(first, toys.Toy):
        return Size(first.layers, first.d_model, made["parameters"], made["steps"])
    record = profile.models[name]
    if record is first:
        return Size(made["layers"], made["d_model"], made["parameters"], _step(first))
    return size(profile, record.of)._replace(steps=made["steps"])


def finished(profile: Profile, name: str) -> bool:
    """Whether a model was trained, and is not one that the profile also has at a later step."""
    record = profile.models[name]
    if isinstance(record, pretrained.Pretrained):
        others = (x for x in profile.models.values() if isinstance(x, pretrained.Pretrained))
        steps, own = [_step(x) for x in others if x.source == record.source], _step(record)
        return math.isnan(own) or not any(math.isnan(step) or step > own for step in steps)
    return not isinstance(record, toys.ToyCheckpoint) and size(profile, name).steps > 0


def checkpoints(profile: Profile, name: str) -> dict[int, Artefact]:
    """A model at its training steps, in their order.

    Of a toy those that were kept; of a pretrained one the profile's models of that source at revisions like `step1000`.

    Raises:
        ProfileError: there are none.
    """
    record = profile.models[name]
    found: dict[int, Artefact] = {}
    if isinstance(record, toys.Toy):
        whole = pipeline.model(profile, name)
        found = {step: toys.at_step(whole, step) for step in whole.meta["checkpoints"]}
    elif isinstance(record, pretrained.Pretrained):
        steps = {
            key: _step(other)
            for key, other in profile.models.items()
            if isinstance(other, pretrained.Pretrained) and other.source == record.source
        }
        known = sorted((int(step), key) for key, step in steps.items() if not math.isnan(step))
        found = {step: pipeline.model(profile, key) for step, key in known}
    if not found:
        raise ProfileError(
            f"params/{profile.name}.yaml: models.{name}: none of its checkpoints is known; give a toy `checkpoints`, "
            "or list a pretrained model at training steps as models of their own: its `source`, `revision: step1000`"
        )
    return found


def _step(record: pretrained.Pretrained) -> float:
    """The training step that a revision is named after, as Pythia's are."""
    found = re.fullmatch(r"step(\d+)", record.revision)
    return int(found[1]) if found else math.nan


def doubts(dictionary: Artefact, judged: Mapping[str, Any]) -> str:
    """What speaks against an SAE, of its training and of its quality, or "none"."""
    steps, passes = (dictionary.meta.get(name, math.nan) for name in ("steps", "passes"))
    return ", ".join(quality.doubts(steps, passes, judged["dead"])) or "none"


def massive(judged: Mapping[str, Any]) -> str:
    """The dimensions that hold much of the variance an SAE is judged by, and its FVU without them, or "none"."""
    if not judged["massive"]:
        return "none"
    return f"{len(judged['massive'])} with {judged['massive_share']:.0%}, else FVU {judged['fvu_rest']:.3f}"
