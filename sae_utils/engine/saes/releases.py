"""Sparse autoencoders that others trained, converted into the format of SAELens.

In: a record of a profile. Out: a folder that `SAE.load_from_disk` reads; its codes are those of the format's own
implementation.
Never: pickles; a guess of the hook where the format names none.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sae_utils.engine.core.spec import ProfileError, Spec
from sae_utils.engine.inputs.hub import Files
from sae_utils.engine.lms import models
from sae_utils.engine.saes import dictionaries, formats, saelens, weights
from sae_utils.store import Artefact, artefact

Wanted = tuple[str, str, list[list[str]], list[str]]  # arguments of `hub.find`


class Released(Spec):
    """The keys of every released SAE."""

    model: str  # name of the model in `models`
    # `pre_acts`: as the ReLU leaves them, before TopK or a threshold, in which published tables were computed
    codes: Literal["activations", "pre_acts"] = "activations"

    def wanted(self) -> Wanted:
        """Arguments of `hub.find`. Raises ProfileError for a release that is unknown or pickled."""
        raise NotImplementedError

    def read(self, files: Files) -> Any:
        """The SAE in SAELens' class, in float32. Raises ProfileError as the reader of its format."""
        raise NotImplementedError

    def hook_in(self, model: Artefact) -> str:
        """The hook that the SAE reads; empty where only its own configuration names it."""
        return str(getattr(self, "hook", ""))


class Saelens(Released):
    """An SAE of SAELens: of a release, or a folder that SAELens saved."""

    kind: Literal["saelens"]
    source: str  # name of a release, e.g. gpt2-small-res-jb, a repository of the hub, or a folder (./, ~/ or /)
    id: str = ""  # which SAE of the release, e.g. blocks.8.hook_resid_pre; nothing for a folder
    revision: str = "main"  # branch, tag or commit of the release's repository
    hook: str = ""  # TransformerLens name of the activations, where it is not the one in the SAE's own configuration

    def wanted(self) -> Wanted:
        """Its files."""
        return saelens.wanted(self.source, self.id, self.revision)

    def read(self, files: Files) -> Any:
        """The SAE, unless it is a transcoder."""
        formats.refuse_transcoder(self.source, self.id)
        return saelens.read(files, self.source, self.id)


class Sparsify(Released):
    """An SAE of EleutherAI's sparsify."""

    kind: Literal["sparsify"]
    source: str  # repository of the hub, e.g. EleutherAI/sae-pythia-70m-32k, or a folder
    hookpoint: str  # the module whose output it reads, e.g. layers.3.mlp; also the name of its folder
    revision: str = "main"  # branch, tag or commit

    def wanted(self) -> Wanted:
        """Its files."""
        return self.source, self.revision, [[f"{self.hookpoint}/cfg.json"], [f"{self.hookpoint}/sae.safetensors"]], []

    def read(self, files: Files) -> Any:
        """The SAE, unless it is a transcoder."""
        formats.refuse_transcoder(self.source)
        return formats.sparsify(files, self.hookpoint)

    def hook_in(self, model: Artefact) -> str:
        """The hook that holds the output of the module `hookpoint`. Raises ProfileError as `hooking.of_module`."""
        return str(models.hook_of(model, self.hookpoint).meta["hook"])


class GemmaScope(Released):
    """A JumpReLU SAE of Gemma Scope."""

    kind: Literal["gemma_scope"]
    source: str  # repository of the hub, e.g. google/gemma-scope-2b-pt-mlp, or a folder
    path: str  # folder of its params.npz, e.g. layer_12/width_16k/average_l0_60
    hook: str  # TransformerLens name of the activations: blocks.L. + hook_mlp_out, hook_resid_post or attn.hook_z
    revision: str = "main"  # branch, tag or commit

    def wanted(self) -> Wanted:
        """Its files."""
        return self.source, self.revision, [[f"{self.path}/params.npz"]], []

    def read(self, files: Files) -> Any:
        """The SAE, unless it is a transcoder."""
        formats.refuse_transcoder(self.source, self.path)
        return formats.gemma_scope(files[f"{self.path}/params.npz"])


class Mapped(Released):
    """An SAE in a safetensors file of any layout."""

    kind: Literal["mapped"]
    path: str  # the file (./, ~/ or /)
    hook: str  # TransformerLens name of the activations
    architecture: Literal["relu", "topk", "jumprelu"]  # its nonlinearity
    # name here -> name in the file; matrices either way round, a bias that is not named is zero
    keys: dict[Literal["W_enc", "b_enc", "W_dec", "b_dec", "threshold"], str]
    k: int = Field(default=0, ge=0, lt=2**31)  # features active at a token (topk)
    subtract_b_dec: bool  # whether `b_dec` is subtracted from what is encoded

    def wanted(self) -> Wanted:
        """Its files."""
        return str(Path(self.path).parent), "", [[Path(self.path).name]], []

    def read(self, files: Files) -> Any:
        """The SAE."""
        file = files[Path(self.path).name]
        return formats.mapped(file, self.keys, self.architecture, self.k, self.subtract_b_dec)


KINDS: dict[str, type[Released]] = {
    "saelens": Saelens, "sparsify": Sparsify, "gemma_scope": GemmaScope, "mapped": Mapped,
}  # fmt: skip


@artefact
def convert(folder: Path, record: Released, files: Files, hook: str) -> dict[str, Any]:
    """Write a released SAE as SAELens does, from the files that `hub.find` returns for `record.wanted()`.

    `hook`: where it reads; empty where its own configuration has it. Raises ProfileError if keys, shapes or options
    differ from those of its format, it names no hook, or it reads one head.
    """
    with dictionaries.without_loading_advice():
        sae = record.read(files)
        if record.codes == "pre_acts":
            sae = weights.without_selection(sae)
    weights.check(sae, Path([*files.paths.values()][-1]))
    metadata = sae.cfg.metadata
    metadata.hook_name = hook or metadata.hook_name
    if metadata.hook_name is None:
        raise ProfileError("dictionaries: the SAE's own configuration names no hook; add `hook: blocks.L...`")
    if metadata.hook_head_index is not None:
        raise ProfileError("dictionaries: the SAE reads one head; choose another")
    sae.save_model(folder)
    found = {"d_in": sae.cfg.d_in, "width": sae.cfg.d_sae, "hook": metadata.hook_name}
    return found | {"source": files.source, "commit": files.commit}
