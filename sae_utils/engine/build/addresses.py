"""The SAE that a user names on a command line, and the model that it reads.

In: an address: a folder, a file with a mapping, a SAELens release and id, a repository of the hub and a folder in it,
or a profile and a name in it. Out: records for `models` and `dictionaries` of a profile.
Never: weights; a guess of a model, a hook or a nonlinearity.
"""

import re
from pathlib import Path
from typing import NamedTuple

from sae_utils import profiles
from sae_utils.engine import params
from sae_utils.engine.build import named_models
from sae_utils.engine.build.named_models import Model, Origin, Record, chain, slug
from sae_utils.engine.core.spec import ProfileError, choose, nearest
from sae_utils.engine.inputs import headers, hub, strict_yaml
from sae_utils.engine.lms import toys
from sae_utils.engine.saes import releases, saelens, trainer

SPARSIFY = "sae.safetensors"
GEMMA_SCOPE = "params.npz"
HOOK = re.compile(r"blocks\.\d+\.[\w.]*hook_\w+")
HOOKPOINTS = {"": "hook_resid_post", ".mlp": "hook_mlp_out", ".attn": "hook_attn_out", ".attention": "hook_attn_out"}
FORMS = (
    "a folder with an SAE, a .safetensors file with its mapping in a .yaml file beside it, a SAELens release and id "
    "(gpt2-small-res-jb:blocks.8.hook_resid_pre), a repository of the hub and a folder in it "
    "(EleutherAI/sae-pythia-70m-32k:layers.3), or a profile and a name in it (demo:two_layer)"
)


class Given(NamedTuple):
    """What a user says of one SAE."""

    address: str
    side: str  # "a" or "b", as in the options that messages name
    model: str = ""  # a repository of the hub, a folder, a .gguf file, or a profile and a model in it
    hook: str = ""  # TransformerLens name of the activations

    @property
    def where(self) -> str:
        """The argument, as messages name it."""
        return f"{self.side.upper()}={self.address}"

    def option(self, name: str) -> str:
        """An option of this side, as a command line and `make` have it."""
        return f"--{name}-{self.side} (make: {name.upper()}_{self.side.upper()}=)"

    def read_by(self, revision: str = "main") -> Model:
        """The model that the user or a configuration names. Raises ProfileError as `named_models.find`."""
        remedy = f"say which one it is: {self.option('model')}"
        return named_models.find(self.model, self.where, remedy, revision)


class Named(NamedTuple):
    """An SAE, its model, and those from which either derives; a record of each list derives from the next one."""

    saes: dict[str, Record]  # by name: the SAE, then those from which it derives; the last one reads the model
    model: Model
    origin: Origin | None  # None where the SAE and its model are of no profile
    hook: str  # where the SAE reads, "" where only its files say so
    width: int | None
    k: int | None


def find(given: Given) -> Named:
    """The SAE of an address. Raises ProfileError that names the option, the file and key, and the remedy."""
    address = given.address
    head, _, rest = address.partition(":")
    path = Path(address).expanduser()
    if not address:
        raise ProfileError(f"{given.where} no SAE is named; give {FORMS}")
    if (params.PARAMS / f"{head}.yaml").is_file() and not path.exists():
        return _of_profile(given, head, rest)
    if hub.is_local(address) or path.exists():
        return _on_disk(given, path.absolute())
    return _on_hub(given, *named_models.split(head), rest)


# --- of a profile


def _of_profile(given: Given, source: str, name: str) -> Named:
    profile = profiles.load(source)
    saes = chain(profile.dictionaries, named_models.member(profile, name, "dictionaries", given.where))
    *_, last = saes.values()
    model = given.read_by() if given.model else named_models.of_profile(profile, last["model"])
    kinds = {x["kind"] for x in (*saes.values(), *model.records.values())}
    origin = Origin(profile.common.corpus, profile.common.skip, bool(kinds & {*trainer.KINDS, *toys.KINDS}))
    return _described(Named(saes, model, origin, "", None, None), given)


# --- on this machine


def _on_disk(given: Given, path: Path) -> Named:
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return _mapped(given, path)
    if path.is_file() and path.suffix == ".safetensors":
        if not path.with_suffix(".yaml").is_file():
            raise ProfileError(_example(path))
        return _mapped(given, path.with_suffix(".yaml"))
    if not path.is_dir():
        raise ProfileError(f"{given.address}: no such folder, .safetensors file or .yaml file ({path})")
    record = _layout(given, {file.name for file in path.iterdir()}, str(path.parent), path.name, str(path))
    return _with_model(given, record, path.name, path, path.parent)


def _layout(given: Given, there: set[str], parent: str, name: str, folder: str) -> Record:
    """The record of an SAE by the names of the files in its folder, which is `name` in `parent`."""
    if {saelens.CONFIG, saelens.WEIGHTS} <= there:
        return {"kind": "saelens", "source": folder}
    if {saelens.CONFIG, SPARSIFY} <= there:
        return {"kind": "sparsify", "source": parent, "hookpoint": name}
    if GEMMA_SCOPE in there:
        if not given.hook:
            raise ProfileError(f"{given.address}: an npz file does not say where it reads; add {given.option('hook')}")
        return {"kind": "gemma_scope", "source": parent, "path": name}
    raise ProfileError(
        f"{given.address}: no SAE: {saelens.CONFIG} with {saelens.WEIGHTS} (SAELens) or {SPARSIFY} (sparsify), or "
        f"{GEMMA_SCOPE} (Gemma Scope) is expected; found {', '.join(sorted(there)[:12]) or 'nothing'}"
    )


def _mapped(given: Given, file: Path) -> Named:
    """An SAE whose record stands in a YAML file, with the keys of a dictionary of a profile."""
    values: Record = {"kind": "mapped"} | strict_yaml.read(file, str(file))
    model = _beside(file.parent, str(values.pop("model", "")))
    if values["kind"] == "mapped":
        values["path"] = str(file.parent / Path(values.get("path", file.with_suffix(".safetensors").name)).expanduser())
    if given.hook:
        values["hook"] = given.hook
    model = given.model or model
    if not model:
        raise ProfileError(f"{file}: model: missing; add it (a repository of the hub or a folder), or say "
                           f"{given.option('model')}")  # fmt: skip
    choose(releases.KINDS, values | {"model": "a"}, str(file))
    return _with_model(given._replace(model=model), values, file.stem, file.parent, file.parent)


def _example(path: Path) -> str:
    """The mapping that a file of weights needs, as a message."""
    held = ", ".join(f"{name} {tuple(tensor['shape'])}" for name, tensor in list(headers.safetensors(path).items())[:8])
    return (
        f"{path}: weights alone do not say how they are read, or by which model; it holds {held}. Write "
        f"{path.with_suffix('.yaml')}, for example:\n  model: EleutherAI/pythia-70m\n  hook: blocks.3.hook_resid_post\n"
        "  architecture: topk   # or relu, jumprelu\n  k: 32\n  subtract_b_dec: true\n"
        "  keys: {W_enc: encoder.weight, b_enc: encoder.bias, W_dec: decoder.weight, b_dec: bias}"
    )


# --- of the hub


def _on_hub(given: Given, source: str, revision: str, name: str) -> Named:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    known = get_pretrained_saes_directory()
    if source not in known and "/" not in source:
        raise ProfileError(
            f"{given.where}: no folder, profile or SAELens release is called {source!r}; "
            f"{nearest(source, known)} An SAE is {FORMS}"
        )
    if source in known:
        saelens.wanted(source, name, revision)  # refuses an unknown id
        record = {"kind": "saelens", "source": source, "id": name}
        return _finish(given._replace(model=given.model or known[source].model), record, f"{source}_{name}", revision)
    if not name:
        raise ProfileError(f"{given.side.upper()}={source}: name the SAE's folder in the repository as well, as "
                           f"{source}:layers.3")  # fmt: skip
    return _in_repository(given, source, revision, name)


def _in_repository(given: Given, source: str, revision: str, name: str) -> Named:
    """An SAE in a folder of a repository, whose configuration is fetched."""
    wanted = [f"{name}/{file}" for file in (saelens.CONFIG, saelens.WEIGHTS, SPARSIFY, GEMMA_SCOPE)]
    listed = hub.listing(source, revision, [*wanted, "config.json"])
    there = {file.removeprefix(f"{name}/") for file in listed.sizes if file.startswith(f"{name}/")}
    if not there:
        folders = sorted({file.rpartition("/")[0] for file in listed.sizes if "/" in file})
        why = listed.refusal or f"it has no folder {name!r}; {nearest(name, folders)}"
        raise ProfileError(f"{given.where}: {why}")
    record = _layout(given, there, source, name, source)
    if record["kind"] == "saelens":
        record["id"] = name
    configs = [file for file in ("config.json", f"{name}/{saelens.CONFIG}") if file in listed.sizes]
    files = hub.find(source, revision, [[file] for file in configs])
    config: Record = {}
    for file in configs:
        config |= headers.json_object(files[file])
    model = given.model or _model_in(config)
    return _finish(given._replace(model=model), record, f"{source.rpartition('/')[2]}_{name}", revision, config)


def _finish(given: Given, record: Record, label: str, revision: str, config: Record | None = None) -> Named:
    if revision != "main":
        record["revision"] = revision
    return _with_config(given, record, label, config or {})


def _with_model(given: Given, record: Record, label: str, *folders: Path) -> Named:
    """An SAE of a folder, whose configuration or that of the folder above names the model."""
    config: Record = {}
    for file in (folders[-1] / "config.json", folders[0] / saelens.CONFIG):
        if record["kind"] in ("saelens", "sparsify") and file.is_file():
            config |= headers.json_object(file)
    model = given.model or _beside(folders[0], _model_in(config))
    return _with_config(given._replace(model=model), record, label, config)


def _beside(folder: Path, model: str) -> str:
    """A model that a file names, as a whole path where it is one from the folder of the file."""
    path = folder / Path(model).expanduser()
    return str(path.resolve()) if model and ((path / "config.json").is_file() or path.is_file()) else model


def _with_config(given: Given, record: Record, label: str, config: Record) -> Named:
    if not given.model:
        raise ProfileError(
            f"{given.where}: its configuration names no model; say which one it reads: "
            f"{given.option('model')}, a repository of the hub, a folder of `save_pretrained` or a .gguf file"
        )
    kwargs = config.get("model_from_pretrained_kwargs") or _metadata(config).get("model_from_pretrained_kwargs") or {}
    if given.hook and record["kind"] != "sparsify":
        record["hook"] = given.hook
    model = given.read_by(str(kwargs.get("revision") or "main"))
    hook = str(_metadata(config).get("hook_name") or config.get("hook_name") or config.get("hook_point") or "")
    saes = {slug(label): record}
    width = config.get("d_sae") or config.get("num_latents")
    return _described(Named(saes, model, model.origin, hook, width, config.get("k")), given)


def _metadata(config: Record) -> Record:
    found = config.get("metadata")
    return found if isinstance(found, dict) else {}


def _model_in(config: Record) -> str:
    """The model that the configuration of SAELens (old or new) or of sparsify names; "" for none."""
    found = _metadata(config).get("model_name") or config.get("model_name") or config.get("model")
    return found if isinstance(found, str) else ""


def _described(found: Named, given: Given) -> Named:
    """With its model, and with hook, width and k as far as its record tells them."""
    *_, record = found.saes.values()
    record["model"] = next(iter(found.model.records))
    names = " ".join(str(record.get(key, "")) for key in ("hook", "id"))
    named, at = HOOK.search(names), re.fullmatch(r"layers\.(\d+)(\.\w+)?", record.get("hookpoint", ""))
    hook = given.hook or (named[0] if named else found.hook)
    if not hook and at and (at[2] or "") in HOOKPOINTS:
        hook = f"blocks.{at[1]}.{HOOKPOINTS[at[2] or '']}"
    return found._replace(hook=hook, width=record.get("width", found.width), k=record.get("k", found.k) or None)
