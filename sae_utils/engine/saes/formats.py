"""Formats in which sparse autoencoders are released, read into SAELens' classes.

In: files, and what the format does not say itself. Out: an SAE in float32 whose codes are those of the format's own
implementation.
Never: pickles; a checkpoint that is nearly right.

Weights stay as they are: correlations and cosines do not see the norm of a decoder row, and rescaling would change what
a TopK keeps.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import safetensors
import torch

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.inputs import headers
from sae_utils.engine.inputs.hub import Files
from sae_utils.engine.saes import soundness

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
# of sparsify's configuration, what is read here, or changes how an SAE is trained and not its codes
SPARSIFY = ("d_in", "k", "num_latents", "expansion_factor", "activation", "normalize_decoder", "multi_topk")


def build(architecture: str, weights: Mapping[str, torch.Tensor], subtract_b_dec: bool, **options: Any) -> Any:
    """SAELens' class of an architecture with weights W_enc (d, n), W_dec (n, d), b_enc (n,), b_dec (d,)."""
    from sae_lens.registry import get_sae_class

    of, config = get_sae_class(architecture)
    d_in, d_sae = weights["W_enc"].shape
    sae = of(config(d_in=d_in, d_sae=d_sae, apply_b_dec_to_input=subtract_b_dec, **options))
    sae.load_state_dict({name: value.contiguous() for name, value in weights.items()})
    return sae


def before_selection(sae: Any) -> Any:
    """The same SAE without its TopK or threshold: codes as its ReLU leaves them.

    Raises:
        ProfileError: a gated SAE, whose codes are no selection from a ReLU.
    """
    if sae.cfg.architecture() == "standard":
        return sae
    if sae.cfg.architecture() == "gated":
        raise ProfileError(
            "`codes: pre_acts`: a gated SAE has none, its gate is no threshold; use `codes: activations`"
        )
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        sae.fold_W_dec_norm()
    weights = {name: getattr(sae, name).data for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    kept = {name: getattr(sae.cfg, name) for name in ("normalize_activations", "metadata")}
    return build("standard", weights, sae.cfg.apply_b_dec_to_input, **kept)


def saelens(files: Files, release: str, name: str) -> Any:
    """An SAE of a SAELens release, or of a folder that SAELens saved, also in the middle of training.

    Raises:
        ProfileError: the weights are not those of its configuration, or as `soundness` refuses.
    """
    config = next((file for file in files.paths if Path(file).name == CONFIG), next(iter(files.paths)))
    soundness.refuse_transcoder(release, name)
    if Path(config).name == CONFIG:
        soundness.refuse_architecture(files[config], headers.json_object(files[config]))
        soundness.refuse_scaling(files[next(file for file in files.paths if Path(file).name == WEIGHTS)])
    try:
        sae = _saelens(files, release, name)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        said = " ".join(str(error).split())  # of torch, safetensors and SAELens
        raise ProfileError(
            f"{files[config]}: weights and configuration do not fit ({said}); fetch both again from one revision"
        ) from error
    sae.cfg.dtype = "float32"  # Llama Scope's are bfloat16, and transposed views
    for weight in sae.parameters():
        weight.data = weight.data.float().contiguous()
    return soundness.scaled(sae, files, config)


def _saelens(files: Files, release: str, name: str) -> Any:
    from huggingface_hub.errors import LocalEntryNotFoundError
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders

    def found(repo_id: str, filename: str, *, subfolder: str = "", **_: Any) -> str:
        path = f"{subfolder}/{filename}" if subfolder else filename
        if path not in files:
            raise LocalEntryNotFoundError(path)
        return str(files[path])

    if not files.source:
        return SAE.load_from_disk(files[CONFIG].parent, dtype="float32")
    # so that the pinned files are read: SAELens asks for no revision, and asks again
    with mock.patch.object(pretrained_sae_loaders, "hf_hub_download", found):
        return SAE.from_pretrained(release, name)


def sparsify(files: Files, hookpoint: str) -> Any:
    """An SAE of EleutherAI's sparsify: top-k of relu((x - b_dec) W_enc^T + b_enc).

    Raises:
        ProfileError: keys or shapes are other, or it is no plain TopK autoencoder.
    """
    file = files[f"{hookpoint}/cfg.json"]
    config = headers.json_object(file)
    refused = {
        "signed": "keeps negative codes", "skip_connection": "has a linear path around its features",
        "transcode": "writes elsewhere than it reads",
    }  # fmt: skip
    for key, why in refused.items():
        if config.get(key):
            raise ProfileError(f"{file}: {key} is true: the checkpoint {why}, and is not comparable; choose another")
    if config.get("activation", "topk") != "topk":
        raise ProfileError(f"{file}: activation {config['activation']!r}; only topk is read")
    unknown = sorted(key for key, value in config.items() if value and key not in (*SPARSIFY, *refused))
    if unknown:
        raise ProfileError(
            f"{file}: unknown {', '.join(unknown)}: it may change the codes; if not, remove it in a copy"
        )
    d, k = (_counted(file, config, key) for key in ("d_in", "k"))
    n = config.get("num_latents") or d * _counted(file, config, "expansion_factor")
    shapes = {"encoder.weight": (n, d), "encoder.bias": (n,), "W_dec": (n, d), "b_dec": (d,)}
    found = soundness.tensors(files[f"{hookpoint}/sae.safetensors"], shapes)
    encoder = {"W_enc": found["encoder.weight"].T, "b_enc": found["encoder.bias"]}
    return build("topk", encoder | {name: found[name] for name in ("W_dec", "b_dec")}, True, k=k)


def _counted(file: Path, config: Mapping[str, Any], key: str) -> int:
    found = config.get(key)
    if type(found) is not int or found < 1:
        raise ProfileError(f"{file}: {key} must be a whole number of at least 1, found {found!r}")
    return found


def gemma_scope(file: Path) -> Any:
    """A JumpReLU SAE of Gemma Scope: relu(y) where y = x W_enc + b_enc > threshold.

    Raises:
        ProfileError: other keys or shapes.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            read = {name: archive[name] for name in archive.files}
        kinds = {name: value.dtype for name, value in read.items()}
        found = {name: torch.from_numpy(value).float() for name, value in read.items()}
    except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ProfileError(f"{file}: not an archive of arrays ({error}); delete it and fetch it again") from error
    if whole := [f"{name} ({kind})" for name, kind in kinds.items() if not np.issubdtype(kind, np.floating)]:
        raise ProfileError(f"{file}: {', '.join(whole)}: weights of floating point are expected; convert them")
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    d, n = shapes["W_enc"] if len(shapes.get("W_enc", ())) == 2 else ("d", "n")
    expected = {"W_enc": (d, n), "W_dec": (n, d), "b_enc": (n,), "b_dec": (d,), "threshold": (n,)}
    if shapes != expected:
        raise ProfileError(f"{file}: expected {_listed(expected)}; found {_listed(shapes)}")
    return build("jumprelu", found, False)


def mapped(file: Path, keys: Mapping[Any, str], architecture: str, k: int, subtract_b_dec: bool) -> Any:
    """An SAE whose tensors are named by `keys` (name here -> name in the file).

    Raises:
        ProfileError: a key that is not there, or shapes that make no SAE.
    """
    there = headers.safetensors(file)
    wanted = {"W_enc", "W_dec"} | ({"threshold"} if architecture == "jumprelu" else set())
    missing = sorted(wanted - keys.keys()) + sorted(set(keys.values()) - there.keys())
    if missing:
        shapes = {name: tuple(tensor["shape"]) for name, tensor in there.items()}
        raise ProfileError(f"{file}: `keys` or the file lacks {', '.join(missing)}; in the file: {_listed(shapes)}")
    if architecture == "topk" and not k:
        raise ProfileError(f"{file}: a topk SAE needs `k`")
    soundness.refuse_unread(file, [name for name in there if name not in keys.values()])
    if "threshold" in keys and architecture != "jumprelu":
        raise ProfileError(f"{file}: `keys` has a threshold, which {architecture} does not read; name `jumprelu`")
    read = soundness.load(file)
    given = {name: read[key] for name, key in keys.items()}
    d, n = _sizes(file, {name: tuple(value.shape) for name, value in given.items()})
    weights = {
        "W_enc": given["W_enc"] if given["W_enc"].shape == (d, n) else given["W_enc"].T,
        "W_dec": given["W_dec"] if given["W_dec"].shape == (n, d) else given["W_dec"].T,
        "b_enc": given.get("b_enc", torch.zeros(n)),
        "b_dec": given.get("b_dec", torch.zeros(d)),
    }
    match architecture:
        case "jumprelu":
            weights["threshold"] = given["threshold"].expand(n)
            return build("jumprelu", weights, subtract_b_dec)
        case "topk":
            return build("topk", weights, subtract_b_dec, k=k)
        case _:
            return build("standard", weights, subtract_b_dec)


def _listed(shapes: Mapping[str, tuple[Any, ...]]) -> str:
    return ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in sorted(shapes.items())) or "nothing"


def _sizes(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """Inputs and features of an SAE, told from its biases, as its matrices may lie either way round."""
    matrix = shapes["W_enc"]
    n = next((shapes[name][0] for name in ("b_enc", "threshold") if shapes.get(name)), None)
    d = shapes["b_dec"][0] if shapes.get("b_dec") else None
    if len(matrix) == 2:
        n = n or next((size for size in matrix if d and size != d), None)
        d = d or next((size for size in matrix if n and size != n), None)
    matrices: set[tuple[Any, ...]] = {(d, n), (n, d)}
    expected = {"W_enc": matrices, "W_dec": matrices, "b_enc": {(n,)}, "b_dec": {(d,)}, "threshold": {(n,), (1,), ()}}
    wrong = [f"{name} {shape}" for name, shape in shapes.items() if shape not in expected[name]]
    if d is None or n is None or d == n or wrong:
        raise ProfileError(
            f"{file}: expected W_enc and W_dec of ({d}, {n}) either way round, b_enc ({n},), b_dec ({d},), threshold "
            f"({n},) or one; found {_listed(shapes)}; name at least one bias; a square SAE cannot be told from its "
            "transpose"
        )
    return d, n
