"""What lies in or beside the files of a released SAE and changes its codes: applied, or refused by name.

In: configurations, weights, an SAE as SAELens reads it. Out: the same SAE, scaled as it was trained; errors.
Never: a key that is passed over because nothing here knows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.inputs import headers
from sae_utils.engine.inputs.hub import Files

SCALER, WHITENING = "activation_scaler.json", "activation_whitening.safetensors"  # beside a checkpoint of training
BESIDE = (SCALER, WHITENING)
READ = ("standard", "topk", "jumprelu", "gated")
OTHERS = {
    "abstopk": "its codes are signed, and what is measured here takes codes of at least 0",
    "temporal": "its codes depend on the tokens before, and rows here are encoded token by token",
    "matching_pursuit": "its codes are found by a search, not by an encoder",
    "batchtopk": "it is a state of training; save it with SAELens' `save_inference_model`",
    "matryoshka_batchtopk": "it is a state of training; save it with SAELens' `save_inference_model`",
}
CHANGING = ("skip", "gate", "mag", "scal", "threshold", "norm", "mean", "std")  # in names of tensors that are not read


def refuse_transcoder(*names: str) -> None:
    """Refuse what its name calls a transcoder: its files may look like those of an SAE.

    Raises:
        ProfileError: which name.
    """
    for name in names:
        if "transcoder" in name.lower():
            raise ProfileError(f"{name}: a transcoder writes elsewhere than it reads; choose a sparse autoencoder")


def refuse_architecture(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse what SAELens reads, or passes over, and what does not have an autoencoder's codes.

    Raises:
        ProfileError: the architecture, activation function or scaling that is not read.
    """
    found = config.get("architecture", "standard")
    if "transcoder" in str(found) or any(config.get(key) for key in ("d_out", "hook_name_out")):
        raise ProfileError(f"{file}: {found}: a transcoder writes elsewhere than it reads; choose a sparse autoencoder")
    if found not in READ:
        why = OTHERS.get(found, "nothing is known of its codes")
        raise ProfileError(f"{file}: architecture {found!r} is not read: {why}; read are {', '.join(READ)}")
    activation = config.get("activation_fn_str", config.get("activation_fn", "relu"))
    if activation not in ("relu", "topk"):
        raise ProfileError(f"{file}: activation function {activation!r} is not read; only relu and topk are")


def refuse_scaling(file: Path) -> None:
    """Refuse weights that SAELens finetuned with a factor a feature, which its present version does not apply.

    Raises:
        ProfileError: a `scaling_factor` that is not 1.
    """
    tensors = headers.safetensors(file)
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        if name in tensors and not torch.allclose((found := load(file)[name]), torch.ones_like(found)):
            raise ProfileError(
                f"{file}: `{name}` rescales every feature after finetuning, which SAELens no longer applies; choose "
                "the SAE before finetuning, or fold the factor into W_dec"
            )


def scaled(sae: Any, files: Files, config: str) -> Any:
    """The same SAE for activations as they are, where it was trained on scaled or whitened ones.

    A checkpoint that SAELens writes during training has the scale beside it (`config` names its cfg.json in `files`);
    after training it is folded into the weights. The codes are those of SAELens for scaled activations.

    Raises:
        ProfileError: the scale is needed and not there, or there and not needed.
    """
    beside = {name: str(Path(config).parent / name).removeprefix("./") for name in BESIDE}
    kind = sae.cfg.normalize_activations
    found = headers.json_object(files[beside[SCALER]]) if beside[SCALER] in files else {}
    factor, whitens = found.get("scaling_factor"), beside[WHITENING] in files and found.get("has_whitening", True)
    wanted = {"expected_average_only_in": factor is not None, "covariance_whitening": whitens}
    if not wanted.get(kind, True):
        needed = SCALER if kind == "expected_average_only_in" else WHITENING
        raise ProfileError(
            f"{files[config]}: normalize_activations is {kind!r}, and what it scales by is not there: put {needed} of "
            "the training run beside it, or, where the weights hold it already, set `normalize_activations: none` in a "
            "copy"
        )
    if kind not in wanted and (whitens or factor not in (None, 1)):
        raise ProfileError(
            f"{files[config].parent}: {SCALER} or {WHITENING} scales activations, and {config} says "
            f"normalize_activations {kind!r}: one is of another checkpoint; remove what is not this SAE's"
        )
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False) and kind in wanted:
        sae.fold_W_dec_norm()  # else its codes would change with the norms, to which the scale goes
        sae.cfg.rescale_acts_by_decoder_norm = False
    if kind == "covariance_whitening":
        d = sae.cfg.d_in
        shapes = {"mean": (d,), "matrix": (d, d), "inverse_matrix": (d, d)}
        read = tensors(files[beside[WHITENING]], shapes)
        sae.fold_activation_whitening(read["mean"], read["matrix"], read["inverse_matrix"])
    if kind == "expected_average_only_in":
        sae.fold_activation_norm_scaling_factor(_positive(files[beside[SCALER]], factor))
    return sae


def _positive(file: Path, factor: Any) -> float:
    if type(factor) not in (int, float) or not 0 < factor < float("inf"):
        raise ProfileError(f"{file}: scaling_factor must be a positive number, found {factor!r}")
    return float(factor)


def confirm(sae: Any, where: Path) -> None:
    """Refuse weights that are no numbers, and a k that no TopK can keep.

    Raises:
        ProfileError: the tensor, or k and the width.
    """
    for name, weight in sae.state_dict().items():
        bad = int((~weight.isfinite()).sum())
        if bad:
            raise ProfileError(
                f"{where}: {name} holds {bad} of {weight.numel()} values that are NaN or infinite; the training "
                "diverged or the file is damaged: fetch it again, or choose another"
            )
    k = getattr(sae.cfg, "k", None)
    if k is not None and not 1 <= k <= sae.cfg.d_sae:
        raise ProfileError(f"{where.parent}: k must be from 1 to the width of {sae.cfg.d_sae}, found {k}")


def refuse_unread(file: Path, unread: Iterable[str]) -> None:
    """Refuse tensors that by their name change the codes, where no key of the profile reads them.

    Raises:
        ProfileError: which they are.
    """
    found = sorted(name for name in unread if any(part in name.lower() for part in CHANGING))
    if found:
        raise ProfileError(
            f"{file}: {json.dumps(found[:4])} would change the codes, and no key of `keys` reads them: choose the "
            "architecture that has them, or fold them into the weights and write a file without them"
        )


def tensors(file: Path, shapes: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Read tensors in float32, checking keys and shapes.

    Args:
        file: a safetensors file.
        shapes: name -> shape; a letter stands for any length, the same wherever it stands again.

    Raises:
        ProfileError: other keys or shapes; it names those found and those expected.
    """
    found = {name: tuple(tensor["shape"]) for name, tensor in headers.safetensors(file).items()}
    lengths: dict[Any, int] = {}
    fits = found.keys() == shapes.keys() and all(
        len(found[name]) == len(shape)
        and all(lengths.setdefault(want, is_) == is_ if isinstance(want, str) else want == is_
                for want, is_ in zip(shape, found[name], strict=True))
        for name, shape in shapes.items()
    )  # fmt: skip
    if not fits:
        expected = ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in shapes.items())
        raise ProfileError(
            f"{file}: expected {expected}; found "
            + (", ".join(f"{name} {shape}" for name, shape in sorted(found.items())) or "nothing")
        )
    return load(file)


def load(file: Path) -> dict[str, Any]:
    """All tensors of a safetensors file, in float32.

    Raises:
        ProfileError: one holds whole numbers (quantised weights need their scale), or the file is damaged.
    """
    kinds = {name: str(tensor["dtype"]) for name, tensor in headers.safetensors(file).items()}
    whole = [f"{name} ({kind})" for name, kind in kinds.items() if not kind.startswith(("F", "BF"))]
    if whole:
        raise ProfileError(f"{file}: {', '.join(whole[:4])}: weights of floating point are expected; convert them")
    try:
        return {name: tensor.float() for name, tensor in safetensors.torch.load_file(file).items()}
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ProfileError(f"{file}: safetensors cannot read it ({error}); delete it and fetch it again") from error
