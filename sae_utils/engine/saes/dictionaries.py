"""Sparse autoencoders read from the store.

In: a dictionary as an artefact. Out: SAELens' SAE, ready to encode; its decoder and encoder rows.
Never: a training, a measure of quality.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open

from sae_utils import store
from sae_utils.store import Artefact

if TYPE_CHECKING:
    from sae_lens import SAE

SEGMENT = 4096  # tokens encoded at once, which bounds the dense codes in memory


def load(dictionary: Artefact) -> SAE:
    """An SAE for inference; it takes attention heads side by side.

    Some SAEs were trained on centred activations (`center_writing_weights`: weights that write to the residual stream
    without their mean over d). `load` makes such an SAE accept raw ones: their mean over d is subtracted before the
    encoder and added after the decoder.
    """
    from sae_lens import SAE

    with without_loading_advice():
        sae = SAE.load_from_disk(dictionary.path, device=store.device())
    sae.turn_off_forward_pass_hook_z_reshaping()
    if is_centred(sae):
        mean = torch.zeros(())
        scale, unscale = sae.run_time_activation_norm_fn_in, sae.run_time_activation_norm_fn_out

        def centre(x: torch.Tensor) -> torch.Tensor:
            nonlocal mean
            mean = x.mean(-1, keepdim=True)
            return scale(x - mean)

        sae.run_time_activation_norm_fn_in = centre
        sae.run_time_activation_norm_fn_out = lambda x: unscale(x) + mean
    sae.eval()
    return sae


@contextlib.contextmanager
def without_loading_advice() -> Iterator[None]:
    """Suppress SAELens' advice on loading the model, because `load` makes it unnecessary."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*non-empty model_from_pretrained_kwargs")
        yield


def is_centred(sae: Any) -> bool:
    """Whether an SAE was trained on activations without their mean over d."""
    asked = (sae.cfg.metadata.model_from_pretrained_kwargs or {}).get("center_writing_weights", False)
    return bool(asked and re.search(r"hook_(resid_(pre|mid|post)|attn_out|mlp_out)$", sae.cfg.metadata.hook_name))


def decoder(dictionary: Artefact) -> np.ndarray:
    """Decoder rows of an SAE, float32 (features, d): the direction that each feature writes."""
    return _weights(dictionary, "W_dec")


def encoder(dictionary: Artefact) -> np.ndarray:
    """Encoder rows of an SAE, float32 (features, d): the direction that each feature reads."""
    return np.ascontiguousarray(_weights(dictionary, "W_enc").T)


def _weights(dictionary: Artefact, name: str) -> np.ndarray:
    # without SAELens, whose import takes longer than most work on rows
    with safe_open(dictionary.path / "sae_weights.safetensors", "numpy") as file:
        found: np.ndarray = file.get_tensor(name)
    return found
