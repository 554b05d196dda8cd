"""Sparse autoencoders that others trained, read from their own formats into SAELens' one.

In: a record of a profile. Out: a folder that `SAE.load_from_disk` reads; its codes are those of the format's own
implementation.
Never: pickles; a hook that is guessed where the format names none.

Formats: SAELens releases and folders; EleutherAI's sparsify; Gemma Scope's npz; any safetensors file, by a key map.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sae_utils.engine.core.spec import ProfileError, Spec, nearest
from sae_utils.engine.inputs import hub
from sae_utils.engine.inputs.hub import Files
from sae_utils.engine.lms import models
from sae_utils.engine.saes import dictionaries, formats, soundness
from sae_utils.store import Artefact, artefact

# what SAELens' loaders read of a release; the others unpickle, or read no SAE
LAYOUTS = {
    "sae_lens": (f"{{}}/{formats.CONFIG}", f"{{}}/{formats.WEIGHTS}"),
    "gemma_2": ("{}/params.npz",),
    "llama_scope": ("{}/hyperparams.json", "{}/checkpoints/final.safetensors"),
}


class Released(Spec):
    """What every released SAE says."""

    model: str
    """name of the model in `models`"""
    codes: Literal["activations", "pre_acts"] = "activations"
    """`pre_acts`: as the ReLU leaves them, before TopK or a threshold, in which published tables were computed"""


class Saelens(Released):
    """An SAE of SAELens: of a release, or a folder that SAELens saved."""

    kind: Literal["saelens"]
    source: str
    """name of a release, e.g. gpt2-small-res-jb, a repository of the hub, or a folder (./, ~/ or /)"""
    id: str = ""
    """which SAE of the release, e.g. blocks.8.hook_resid_pre; nothing for a folder"""
    revision: str = "main"
    """branch, tag or commit of the release's repository"""
    hook: str = ""
    """TransformerLens name of the activations, where it is not the one in the SAE's own configuration"""


class Sparsify(Released):
    """An SAE of EleutherAI's sparsify."""

    kind: Literal["sparsify"]
    source: str
    """repository of the hub, e.g. EleutherAI/sae-pythia-70m-32k, or a folder"""
    hookpoint: str
    """the module whose output it reads, e.g. layers.3.mlp; also the name of its folder"""
    revision: str = "main"
    """branch, tag or commit"""


class GemmaScope(Released):
    """A JumpReLU SAE of Gemma Scope."""

    kind: Literal["gemma_scope"]
    source: str
    """repository of the hub, e.g. google/gemma-scope-2b-pt-mlp, or a folder"""
    path: str
    """folder of its params.npz, e.g. layer_12/width_16k/average_l0_60"""
    hook: str
    """TransformerLens name of the activations: blocks.L. + hook_mlp_out, hook_resid_post or attn.hook_z"""
    revision: str = "main"
    """branch, tag or commit"""


class Mapped(Released):
    """An SAE in a safetensors file of any layout."""

    kind: Literal["mapped"]
    path: str
    """the file (./, ~/ or /)"""
    hook: str
    """TransformerLens name of the activations"""
    architecture: Literal["relu", "topk", "jumprelu"]
    """its nonlinearity"""
    keys: dict[Literal["W_enc", "b_enc", "W_dec", "b_dec", "threshold"], str]
    """name here -> name in the file; matrices either way round, a bias that is not named is zero"""
    k: int = Field(default=0, ge=0, lt=2**31)
    """features active at a token (topk)"""
    subtract_b_dec: bool
    """whether `b_dec` is subtracted from what is encoded"""


KINDS: dict[str, type[Spec]] = {
    "saelens": Saelens, "sparsify": Sparsify, "gemma_scope": GemmaScope, "mapped": Mapped,
}  # fmt: skip


def locate(record: Released) -> Files:
    """The files of an SAE.

    Raises:
        ProfileError: as `hub.find` and `wanted`.
    """
    return hub.find(*wanted(record))


def wanted(record: Released) -> tuple[str, str, list[list[str]], list[str]]:
    """What `hub.find` is asked for.

    Raises:
        ProfileError: an unknown release or SAE; a release that is pickled.
    """
    match record:
        case Saelens():
            if hub.is_local(record.source):
                return record.source, "", [[formats.CONFIG], [formats.WEIGHTS]], [*soundness.BESIDE]
            repository, folder, layout = _release(record)
            need = [[name.format(folder)] for name in LAYOUTS[layout]]
            also = [f"{folder}/{name}" for name in ("sparsity.safetensors", *soundness.BESIDE)]
            return repository, record.revision, need, also
        case Sparsify():
            need = [[f"{record.hookpoint}/{name}"] for name in ("cfg.json", "sae.safetensors")]
            return record.source, record.revision, need, []
        case GemmaScope():
            return record.source, record.revision, [[f"{record.path}/params.npz"]], []
        case Mapped():
            file = Path(record.path)
            return str(file.parent), "", [[file.name]], []
    raise TypeError(record)


def _release(record: Saelens) -> tuple[str, str, str]:
    """Repository, folder in it, and layout."""
    from sae_lens.loading.pretrained_sae_loaders import get_conversion_loader_name
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    releases = get_pretrained_saes_directory()
    if record.source not in releases and "/" not in record.source:
        raise ProfileError(f"SAELens knows no release {record.source!r}; {nearest(record.source, releases)}")
    if record.source not in releases:
        return record.source, record.id, "sae_lens"
    release, layout = releases[record.source], get_conversion_loader_name(record.source)
    if record.id not in release.saes_map:
        raise ProfileError(f"release {record.source} has no SAE {record.id!r}; {nearest(record.id, release.saes_map)}")
    if layout not in LAYOUTS:
        raise ProfileError(
            f"release {record.source} is in the format {layout!r}, which is pickled or holds no plain SAE; read are "
            f"{', '.join(LAYOUTS)}, and by `kind: mapped` any weights in safetensors"
        )
    return release.repo_id, release.saes_map[record.id], layout


def hook(record: Released, model: Artefact) -> str:
    """The TransformerLens name of what a released SAE reads; empty where only its own configuration knows.

    Raises:
        ProfileError: no hook of the model holds the output of the module that the SAE reads.
    """
    if isinstance(record, Sparsify):
        found: str = models.hook_of(model, record.hookpoint).meta["hook"]
        return found
    assert isinstance(record, Saelens | GemmaScope | Mapped)
    return record.hook


@artefact
def convert(folder: Path, record: Released, files: Files, hook: str) -> dict[str, Any]:
    """Write a released SAE as SAELens does; `hook` and `width` say where it reads and how many features it has.

    Raises:
        ProfileError: keys, shapes or options that are not those of its format.
    """
    with dictionaries.without_loading_advice():
        sae = _read(record, files)
        if record.codes == "pre_acts":
            sae = formats.before_selection(sae)
    soundness.confirm(sae, Path([*files.paths.values()][-1]))
    metadata = sae.cfg.metadata
    metadata.hook_name = hook or metadata.hook_name
    if metadata.hook_name is None:
        raise ProfileError("dictionaries: the SAE's own configuration names no hook; add `hook: blocks.L...`")
    if metadata.hook_head_index is not None:
        raise ProfileError("dictionaries: the SAE reads one head; choose another")
    sae.save_model(folder)
    found = {"d_in": sae.cfg.d_in, "width": sae.cfg.d_sae, "hook": metadata.hook_name}
    return found | {"source": files.source, "commit": files.commit}


def _read(record: Released, files: Files) -> Any:
    match record:
        case Saelens():
            return formats.saelens(files, record.source, record.id)
        case Sparsify():
            soundness.refuse_transcoder(record.source)
            return formats.sparsify(files, record.hookpoint)
        case GemmaScope():
            soundness.refuse_transcoder(record.source, record.path)
            return formats.gemma_scope(files[f"{record.path}/params.npz"])
        case Mapped():
            file = files[Path(record.path).name]
            return formats.mapped(file, record.keys, record.architecture, record.k, record.subtract_b_dec)
    raise TypeError(record)
