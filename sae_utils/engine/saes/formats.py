"""Formats other than SAELens' in which sparse autoencoders are released.

In: files, and the facts that the format does not record. Out: an SAE in float32 whose codes are those of the format's
own implementation.
Never: a checkpoint that may have other codes.

Weights stay as they are: correlations and cosines do not depend on the norm of a decoder row, and rescaling would
change the choice of a TopK.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.inputs import headers
from sae_utils.engine.inputs.hub import Files
from sae_utils.engine.saes import weights

# keys of sparsify's configuration that give the shape, or change the training and not the codes
SPARSIFY = ("d_in", "k", "num_latents", "expansion_factor", "activation", "normalize_decoder", "multi_topk")
OTHER_CODES = {
    "signed": "keeps negative codes",
    "skip_connection": "has a linear path around its features",
    "transcode": "writes elsewhere than it reads",
}
CHANGING = ("skip", "gate", "mag", "scal", "threshold", "norm", "mean", "std")  # parts of names of tensors


def refuse_transcoder(*names: str) -> None:
    """Refuse a name that contains "transcoder"; its files may look like an SAE's. Raises ProfileError."""
    for name in names:
        if "transcoder" in name.lower():
            raise ProfileError(f"{name}: a transcoder writes elsewhere than it reads; choose a sparse autoencoder")


def sparsify(files: Files, hookpoint: str) -> Any:
    """An SAE of EleutherAI's sparsify: top-k of relu((x - b_dec) W_enc^T + b_enc).

    Raises ProfileError if keys or shapes differ, or it is no plain TopK autoencoder.
    """
    file = files[f"{hookpoint}/cfg.json"]
    config = headers.json_object(file)
    for key, why in OTHER_CODES.items():
        if config.get(key):
            raise ProfileError(f"{file}: {key} is true: the checkpoint {why}, and is not comparable; choose another")
    if config.get("activation", "topk") != "topk":
        raise ProfileError(f"{file}: activation {config['activation']!r}; only topk is read")
    unknown = sorted(key for key, value in config.items() if value and key not in (*SPARSIFY, *OTHER_CODES))
    if unknown:
        raise ProfileError(
            f"{file}: unknown {', '.join(unknown)}: it may change the codes; if not, remove it in a copy"
        )
    d, k = (_count(file, config, key) for key in ("d_in", "k"))
    n = config.get("num_latents") or d * _count(file, config, "expansion_factor")
    shapes = {"encoder.weight": (n, d), "encoder.bias": (n,), "W_dec": (n, d), "b_dec": (d,)}
    found = weights.read(files[f"{hookpoint}/sae.safetensors"], shapes)
    encoder = {"W_enc": found["encoder.weight"].T, "b_enc": found["encoder.bias"]}
    return weights.build("topk", encoder | {name: found[name] for name in ("W_dec", "b_dec")}, True, k=k)


def _count(file: Path, config: Mapping[str, Any], key: str) -> int:
    found = config.get(key)
    if type(found) is not int or found < 1:
        raise ProfileError(f"{file}: {key} must be a whole number of at least 1, found {found!r}")
    return found


def gemma_scope(file: Path) -> Any:
    """A JumpReLU SAE of Gemma Scope: relu(y) where y = x W_enc + b_enc > threshold.

    Raises ProfileError if keys or shapes differ.
    """
    shapes = {"W_enc": ("d", "n"), "W_dec": ("n", "d"), "b_enc": ("n",), "b_dec": ("d",), "threshold": ("n",)}
    return weights.build("jumprelu", weights.read(file, shapes), False)


def mapped(file: Path, keys: Mapping[Any, str], architecture: str, k: int, subtract_b_dec: bool) -> Any:
    """An SAE whose tensors are named by `keys` (name here -> name in the file).

    Raises ProfileError if a key is missing in `keys` or in the file, shapes make no SAE, or a tensor that nothing reads
    may change the codes.
    """
    held = {name: tuple(tensor["shape"]) for name, tensor in headers.safetensors(file).items()}
    needed = {"W_enc", "W_dec"} | ({"threshold"} if architecture == "jumprelu" else set())
    missing = sorted(needed - keys.keys()) + sorted(set(keys.values()) - held.keys())
    if missing:
        raise ProfileError(
            f"{file}: `keys` or the file lacks {', '.join(missing)}; in the file: {weights.listed(held)}"
        )
    if architecture == "topk" and not k:
        raise ProfileError(f"{file}: a topk SAE needs `k`")
    if "threshold" in keys and architecture != "jumprelu":
        raise ProfileError(f"{file}: `keys` has a threshold, which {architecture} does not read; name `jumprelu`")
    _refuse_unread(file, held.keys() - set(keys.values()))
    d, n = _sizes(file, {name: held[key] for name, key in keys.items()})
    read = weights.read(file)
    given = {name: read[key] for name, key in keys.items()}
    found = {
        "W_enc": given["W_enc"] if given["W_enc"].shape == (d, n) else given["W_enc"].T,
        "W_dec": given["W_dec"] if given["W_dec"].shape == (n, d) else given["W_dec"].T,
        "b_enc": given.get("b_enc", torch.zeros(n)),
        "b_dec": given.get("b_dec", torch.zeros(d)),
    }
    if architecture == "jumprelu":
        return weights.build("jumprelu", found | {"threshold": given["threshold"].expand(n)}, subtract_b_dec)
    if architecture == "topk":
        return weights.build("topk", found, subtract_b_dec, k=k)
    return weights.build("standard", found, subtract_b_dec)


def _refuse_unread(file: Path, unread: set[str]) -> None:
    changing = sorted(name for name in unread if any(part in name.lower() for part in CHANGING))
    if changing:
        raise ProfileError(
            f"{file}: {json.dumps(changing[:4])} would change the codes, and no key of `keys` reads them: choose the "
            "architecture that has them, or fold them into the weights and write a file without them"
        )


def _sizes(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """Numbers of inputs and features of an SAE, from its biases, because its matrices may be transposed."""
    matrix = shapes["W_enc"]
    n = next((shapes[name][0] for name in ("b_enc", "threshold") if shapes.get(name)), None)
    d = shapes["b_dec"][0] if shapes.get("b_dec") else None
    if len(matrix) == 2:
        n = n or next((size for size in matrix if d and size != d), None)
        d = d or next((size for size in matrix if n and size != n), None)
    matrices: set[tuple[Any, ...]] = {(d, n), (n, d)}
    expected = {"W_enc": matrices, "W_dec": matrices, "b_enc": {(n,)}, "b_dec": {(d,)}, "threshold": {(n,), (1,), ()}}
    if d is None or n is None or d == n or any(shape not in expected[name] for name, shape in shapes.items()):
        raise ProfileError(
            f"{file}: expected W_enc and W_dec of ({d}, {n}) either way round, b_enc ({n},), b_dec ({d},), threshold "
            f"({n},) or one; found {weights.listed(shapes)}; name at least one bias; a square SAE cannot be told from "
            "its transpose"
        )
    return d, n
