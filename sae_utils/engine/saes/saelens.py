"""SAEs of SAELens: of its releases, of its repositories, and of folders that it saved, also in the middle of training.

In: the name of a release and of an SAE in it, or a folder. Out: the files to fetch; the SAE for raw activations.
Never: a release that is pickled; an architecture, or a scale of activations, that nothing here knows.
"""

from pathlib import Path
from typing import Any
from unittest import mock

import safetensors
import torch

from sae_utils.engine.core.spec import ProfileError, nearest
from sae_utils.engine.inputs import headers, hub
from sae_utils.engine.inputs.hub import Files
from sae_utils.engine.saes import weights

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SCALER, WHITENING = "activation_scaler.json", "activation_whitening.safetensors"  # beside a checkpoint of training
# files of the layouts of SAELens' loaders; other layouts are pickled, or hold no SAE
LAYOUTS = {
    "sae_lens": (f"{{}}/{CONFIG}", f"{{}}/{WEIGHTS}"),
    "gemma_2": ("{}/params.npz",),
    "llama_scope": ("{}/hyperparams.json", "{}/checkpoints/final.safetensors"),
}
ARCHITECTURES = ("standard", "topk", "jumprelu", "gated")
TRAINING = "it is a state of training; save it with SAELens' `save_inference_model`"
OTHERS = {
    "abstopk": "its codes are signed, and what is measured here takes codes of at least 0",
    "temporal": "its codes depend on the tokens before, and rows here are encoded token by token",
    "matching_pursuit": "its codes are found by a search, not by an encoder",
    "batchtopk": TRAINING,
    "matryoshka_batchtopk": TRAINING,
}


def wanted(source: str, name: str, revision: str) -> tuple[str, str, list[list[str]], list[str]]:
    """Arguments of `hub.find` for the SAE `name` of a release, repository or folder.

    Raises ProfileError if SAELens knows no such release or SAE, or the release is pickled.
    """
    if hub.is_local(source):
        return source, "", [[CONFIG], [WEIGHTS]], [SCALER, WHITENING]
    repository, folder, layout = _release(source, name)
    optional = [f"{folder}/{file}" for file in ("sparsity.safetensors", SCALER, WHITENING)]
    return repository, revision, [[file.format(folder)] for file in LAYOUTS[layout]], optional


def _release(source: str, name: str) -> tuple[str, str, str]:
    """The repository of a release, the folder in it, and its layout."""
    from sae_lens.loading.pretrained_sae_loaders import get_conversion_loader_name
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    releases = get_pretrained_saes_directory()
    if source not in releases and "/" in source:
        return source, name, "sae_lens"
    if source not in releases:
        raise ProfileError(f"SAELens knows no release {source!r}; {nearest(source, releases)}")
    release, layout = releases[source], get_conversion_loader_name(source)
    if name not in release.saes_map:
        raise ProfileError(f"release {source} has no SAE {name!r}; {nearest(name, release.saes_map)}")
    if layout not in LAYOUTS:
        raise ProfileError(
            f"release {source} is in the format {layout!r}, which is pickled or holds no plain SAE; read are "
            f"{', '.join(LAYOUTS)}, and by `kind: mapped` any weights in safetensors"
        )
    return release.repo_id, release.saes_map[name], layout


def read(files: Files, release: str, name: str) -> Any:
    """The SAE in float32, with its scale of activations folded into its weights.

    Raises ProfileError if the architecture is not read, weights and configuration do not fit, or a scale of activations
    or of features is missing, superfluous, or not applied by SAELens.
    """
    config = next((file for file in files.paths if Path(file).name == CONFIG), next(iter(files.paths)))
    if Path(config).name == CONFIG:
        _refuse_architecture(files[config])
        _refuse_feature_scale(files[next(file for file in files.paths if Path(file).name == WEIGHTS)])
    try:
        sae = _load(files, release, name)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        message = " ".join(str(error).split())  # of torch, safetensors or SAELens
        raise ProfileError(
            f"{files[config]}: weights and configuration do not fit ({message}); fetch both again from one revision"
        ) from error
    sae.cfg.dtype = "float32"  # Llama Scope's are bfloat16, and transposed views
    for weight in sae.parameters():
        weight.data = weight.data.float().contiguous()
    _fold_activation_scale(sae, files, config)
    return sae


def _load(files: Files, release: str, name: str) -> Any:
    from huggingface_hub.errors import LocalEntryNotFoundError
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders

    def find(repo_id: str, filename: str, *, subfolder: str = "", **_: Any) -> str:
        path = f"{subfolder}/{filename}" if subfolder else filename
        if path not in files:
            raise LocalEntryNotFoundError(path)
        return str(files[path])

    if not files.source:
        return SAE.load_from_disk(files[CONFIG].parent, dtype="float32")
    # SAELens takes no revision: it is given the pinned files
    with mock.patch.object(pretrained_sae_loaders, "hf_hub_download", find):
        return SAE.from_pretrained(release, name)


def _refuse_architecture(file: Path) -> None:
    config = headers.json_object(file)
    found = config.get("architecture", "standard")
    if "transcoder" in str(found) or any(config.get(key) for key in ("d_out", "hook_name_out")):
        raise ProfileError(f"{file}: {found}: a transcoder writes elsewhere than it reads; choose a sparse autoencoder")
    if found not in ARCHITECTURES:
        why = OTHERS.get(found, "nothing is known of its codes")
        raise ProfileError(f"{file}: architecture {found!r} is not read: {why}; read are {', '.join(ARCHITECTURES)}")
    activation = config.get("activation_fn_str", config.get("activation_fn", "relu"))
    if activation not in ("relu", "topk"):
        raise ProfileError(f"{file}: activation function {activation!r} is not read; only relu and topk are")


def _refuse_feature_scale(file: Path) -> None:
    """Refuse a factor for each feature, which earlier versions of SAELens applied after finetuning."""
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        if name in headers.safetensors(file) and not torch.allclose(
            (x := weights.read(file)[name]), torch.ones_like(x)
        ):
            raise ProfileError(
                f"{file}: `{name}` rescales every feature after finetuning, which SAELens no longer applies; choose "
                "the SAE before finetuning, or fold the factor into W_dec"
            )


def _fold_activation_scale(sae: Any, files: Files, config: str) -> None:
    """Fold the scaling or whitening of activations into the weights; training checkpoints keep it in a second file.

    The codes for raw activations then equal those of SAELens for scaled ones.
    """
    scaler, whitening = (str(Path(config).parent / name).removeprefix("./") for name in (SCALER, WHITENING))
    scale = headers.json_object(files[scaler]) if scaler in files else {}
    factor, whitens = scale.get("scaling_factor"), whitening in files and scale.get("has_whitening", True)
    kind = sae.cfg.normalize_activations
    needed = {"expected_average_only_in": (SCALER, factor is not None), "covariance_whitening": (WHITENING, whitens)}
    if kind not in needed:
        if whitens or factor not in (None, 1):
            raise ProfileError(
                f"{files[config].parent}: {SCALER} or {WHITENING} scales activations, and {config} says "
                f"normalize_activations {kind!r}: one is of another checkpoint; remove what is not this SAE's"
            )
        return
    name, present = needed[kind]
    if not present:
        raise ProfileError(
            f"{files[config]}: normalize_activations is {kind!r}, and the scale is missing: put {name} of the training "
            "run beside it, or if the weights hold it already, set `normalize_activations: none` in a copy"
        )
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        sae.fold_W_dec_norm()  # the scale changes these norms, on which the codes would depend
        sae.cfg.rescale_acts_by_decoder_norm = False
    if kind == "covariance_whitening":
        d = sae.cfg.d_in
        read = weights.read(files[whitening], {"mean": (d,), "matrix": (d, d), "inverse_matrix": (d, d)})
        sae.fold_activation_whitening(read["mean"], read["matrix"], read["inverse_matrix"])
    elif isinstance(factor, int | float) and factor is not True and 0 < factor < float("inf"):
        sae.fold_activation_norm_scaling_factor(float(factor))
    else:
        raise ProfileError(f"{files[scaler]}: scaling_factor must be a positive number, found {factor!r}")
