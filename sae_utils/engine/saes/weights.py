"""Weights of sparse autoencoders: files read with their checks, and put into SAELens' classes.

In: a file of weights, the shapes that its format prescribes. Out: tensors in float32; an SAE that holds them.
Never: a pickle, quantised weights, a value that is not finite.
"""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.inputs import headers

UNREADABLE = (
    safetensors.SafetensorError, zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, TypeError, KeyError,
    RuntimeError,
)  # fmt: skip


def read(file: Path, shapes: Mapping[str, Sequence[int | str]] | None = None) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file or an npz archive, in float32.

    `shapes`: name -> shape of all tensors that the file must hold, where a letter stands for any length, the same in
    all shapes; None accepts any tensors. Raises ProfileError if the file is damaged, has other tensors or shapes, or
    holds integers (quantised weights need their scale).
    """
    archive = file.suffix == ".npz"
    held = headers.npz(file) if archive else {name: x["shape"] for name, x in headers.safetensors(file).items()}
    if shapes is not None and not _agree(held, shapes):
        raise ProfileError(f"{file}: expected {listed(shapes)}; found {listed(held)}")
    try:
        found = _arrays(file) if archive else safetensors.torch.load_file(file)
    except UNREADABLE as error:
        raise ProfileError(f"{file}: its weights cannot be read ({error}); delete it and fetch it again") from error
    integers = [
        f"{name} ({str(x.dtype).removeprefix('torch.')})" for name, x in found.items() if not x.is_floating_point()
    ]
    if integers:
        raise ProfileError(f"{file}: {', '.join(integers[:4])}: weights of floating point are expected; convert them")
    return {name: tensor.float() for name, tensor in found.items()}


def _arrays(file: Path) -> dict[str, torch.Tensor]:
    with np.load(file, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def _agree(found: Mapping[str, Sequence[int]], expected: Mapping[str, Sequence[int | str]]) -> bool:
    if {name: len(shape) for name, shape in found.items()} != {name: len(shape) for name, shape in expected.items()}:
        return False
    lengths: dict[str, int] = {}
    both = [pair for name, shape in expected.items() for pair in zip(shape, found[name], strict=True)]
    return all(n == (lengths.setdefault(want, n) if isinstance(want, str) else want) for want, n in both)


def listed(shapes: Mapping[str, Sequence[int | str]]) -> str:
    """Names and shapes as text for a message."""
    return ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in sorted(shapes.items())) or "nothing"


def build(architecture: str, weights: Mapping[str, torch.Tensor], subtract_b_dec: bool, **options: Any) -> Any:
    """SAELens' class of an architecture with weights W_enc (d, n), W_dec (n, d), b_enc (n,), b_dec (d,)."""
    from sae_lens.registry import get_sae_class

    of, config = get_sae_class(architecture)
    d_in, d_sae = weights["W_enc"].shape
    sae = of(config(d_in=d_in, d_sae=d_sae, apply_b_dec_to_input=subtract_b_dec, **options))
    sae.load_state_dict({name: value.contiguous() for name, value in weights.items()})
    return sae


def without_selection(sae: Any) -> Any:
    """The same SAE without its TopK or threshold: its codes are the output of its ReLU.

    Raises ProfileError if the SAE is gated: its codes are no selection from a ReLU.
    """
    if sae.cfg.architecture() == "standard":
        return sae
    if sae.cfg.architecture() == "gated":
        raise ProfileError(
            "`codes: pre_acts`: a gated SAE has none, as its gate is no threshold; use `codes: activations`"
        )
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        sae.fold_W_dec_norm()
    weights = {name: getattr(sae, name).data for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    kept = {name: getattr(sae.cfg, name) for name in ("normalize_activations", "metadata")}
    return build("standard", weights, sae.cfg.apply_b_dec_to_input, **kept)


def check(sae: Any, file: Path) -> None:
    """Refuse an SAE that cannot encode.

    Raises ProfileError if a weight is not finite, or TopK's k is below 1 or above the number of features.
    """
    for name, weight in sae.state_dict().items():
        bad = int((~weight.isfinite()).sum())
        if bad:
            raise ProfileError(
                f"{file}: {name} holds {bad} of {weight.numel()} values that are NaN or infinite; the training "
                "diverged or the file is damaged: fetch it again, or choose another"
            )
    k = getattr(sae.cfg, "k", None)
    if k is not None and not 1 <= k <= sae.cfg.d_sae:
        raise ProfileError(f"{file.parent}: k must be from 1 to the width of {sae.cfg.d_sae}, found {k}")
