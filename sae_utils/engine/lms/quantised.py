"""Language models in GGUF files, dequantised by transformers.

In: a GGUF file of packages or of the user. Out: what its header says; its tokenizer; its network in float32.
Never: a network whose architecture, sizes or tied weights are not those of the header; what lies beside the file.
"""

import functools
import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from sae_utils import store
from sae_utils.engine.core.spec import ProfileError, Spec
from sae_utils.engine.inputs import hub, packages
from sae_utils.engine.inputs.packages import Packaged

SUFFIX = ".gguf"
NAME = f"model{SUFFIX}"  # of the link through which transformers reads the file
SIZES = {  # key of the header below its architecture -> name in the network's configuration
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
}
EMBEDDING, UNEMBEDDING = "token_embd.weight", "output.weight"
ROTARY = "rope_"  # begins the names of tensors that are no weights


class Gguf(Spec):
    """A GGUF file, known by its digest."""

    sha256: str
    title: str = Field(exclude=True)  # its name without `.gguf`, for messages
    own: str = Field(default="", exclude=True)  # path of a file of the user; empty if it lies in packages
    packaged: Packaged | None = Field(default=None, exclude=True)

    def path(self) -> Path:
        """The file, fetched if need be. Raises ProfileError as `packages.fetch`."""
        return packages.fetch(self.packaged, downloads()) if self.packaged else Path(self.own)

    def here(self) -> Path | None:
        """The file, if it need not be fetched."""
        path = packages.kept(self.packaged, downloads()) if self.packaged else Path(self.own)
        return path if path.is_file() else None


class Header(NamedTuple):
    """What a GGUF file says about its network."""

    architecture: str
    sizes: dict[str, int]  # as the network's configuration names them
    tied: bool  # whether the embedding is also the unembedding
    parameters: int
    licence: str  # empty if it names none


def downloads() -> Path:
    """The folder beside the store in which fetched files are kept."""
    return store.settings()[2].with_name("downloads")


def own_file(source: str) -> Path | None:
    """The GGUF file that a path names: itself, or the only one in a folder that holds no other checkpoint.

    None for anything else. Raises ProfileError for a missing `.gguf` file, and for a folder with several.
    """
    if not hub.is_local(source):
        return None
    path = hub.local_path(source)
    if path.suffix == SUFFIX:
        if not path.is_file():
            raise ProfileError(f"source: {source}: no such file ({path})")
        return path
    found = sorted(path.glob(f"*{SUFFIX}"))
    if not found or (path / "config.json").exists():
        return None
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:6])
        raise ProfileError(f"source: {source}: several GGUF files ({names}); name one of them")
    return found[0]


def find(source: str, packaged: Packaged) -> Gguf | None:
    """The GGUF file of a record; None if the record names another checkpoint.

    Nothing is fetched. Raises ProfileError as `own_file`, and for a file of the user with another digest than the
    record's.
    """
    if packaged.package:
        return Gguf(sha256=packaged.sha256, title=title(packaged.file[0]), packaged=packaged)
    path = own_file(source)
    if path is None:
        return None
    status = path.stat()
    sha256 = _digest(path, status.st_size, status.st_mtime_ns)
    if packaged.sha256 not in ("", sha256):
        raise ProfileError(f"sha256: {path} has the digest {sha256}, and {packaged.sha256} is expected; fetch it again")
    return Gguf(sha256=sha256, title=title(path.name), own=str(path.resolve()))


def title(name: str) -> str:
    """The name of a model's file or part, without its folders and `.gguf`."""
    return re.sub(rf"{re.escape(SUFFIX)}(\.part\w*)?$", "", Path(name).name)


@functools.cache
def _digest(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- header


def header(file: Path, label: str) -> Header:
    """The header of a GGUF file; `label` is for messages. Raises ProfileError if it is cut off, or split in several."""
    from gguf import GGUFReader

    try:
        read = GGUFReader(file)
        values = {name: field for name, field in read.fields.items() if not name.startswith("tokenizer.")}
        known = {name: field.contents() for name, field in values.items()}
        architecture = known["general.architecture"]
        shapes = {tensor.name: (*map(int, tensor.shape),) for tensor in read.tensors}
        counts = {tensor.name: int(tensor.n_elements) for tensor in read.tensors}
        sizes = {name: known.get(f"{architecture}.{key}") for key, name in SIZES.items()}
        sizes["vocab_size"] = shapes[EMBEDDING][-1]
    except (ValueError, IndexError, KeyError, TypeError, OSError) as error:
        raise ProfileError(
            f"{label}: cut off, or not the GGUF file of a language model ({type(error).__name__}: {error}); fetch it "
            "again"
        ) from error
    if known.get("split.count", 1) > 1:
        raise ProfileError(f"{label}: one of {known['split.count']} files of a model; merge them with llama-gguf-split")
    return Header(
        architecture,
        {name: size for name, size in sizes.items() if isinstance(size, int)},
        UNEMBEDDING not in shapes,
        sum(count for name, count in counts.items() if not name.startswith(ROTARY)),
        str(known.get("general.license", "")),
    )


def refuse_licence(found: Header, packaged: Packaged, label: str) -> None:
    """Refuse a record that names another licence than its file. Raises ProfileError."""
    if found.licence and packaged.package and found.licence.casefold() != packaged.licence.casefold():
        raise ProfileError(
            f"licence: {label} says {found.licence}, and the record says {packaged.licence}; write `licence: "
            f"{found.licence}`"
        )


# --- what transformers reads


def tokenizer(folder: Path, file: Gguf) -> Any:
    """The tokenizer in a GGUF file; `folder` is empty and stays so. Raises ProfileError if transformers reads none."""
    from transformers import AutoTokenizer

    return _read(AutoTokenizer, folder, file)


def config(file: Gguf) -> Any:
    """The configuration of a file's network; None if it would have to be fetched. Raises ValueError, OSError."""
    from transformers import AutoConfig

    path = file.here()
    return path and AutoConfig.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)


def network(folder: Path, file: Gguf) -> Any:
    """The network of a GGUF file in float32, compared with the file's header; `folder` is empty and stays so.

    Raises ProfileError if transformers does not know its architecture or leaves weights out, and as `header`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    path = file.path()
    described = header(path, file.title)
    if file.packaged:
        refuse_licence(described, file.packaged, file.title)
    found, info = _read(AutoModelForCausalLM, folder, file, dtype=torch.float32, output_loading_info=True)
    if missing := sorted(info["missing_keys"])[:4]:
        raise ProfileError(f"{file.title}: the file lacks weights of its architecture: {', '.join(missing)}")
    _compare(described, found, file.title)
    found.is_quantized, found.hf_quantizer = False, None  # now it holds plain weights
    del found.config.quantization_config
    return found


def _read(kind: Any, folder: Path, file: Gguf, **options: Any) -> Any:
    """What `kind.from_pretrained` makes of a GGUF file that is alone in a folder."""
    link = folder / NAME
    link.symlink_to(file.path())
    try:
        return kind.from_pretrained(folder, gguf_file=NAME, trust_remote_code=False, **options)
    except Exception as error:  # transformers raises errors of many types
        message = str(error).strip().partition("\n")[0]
        raise ProfileError(f"{file.title}: transformers cannot read this GGUF file ({message})") from error
    finally:
        link.unlink()


def _compare(described: Header, found: Any, label: str) -> None:
    """Refuse a network that is not that of its header."""
    text = found.config.get_text_config()
    sizes = {name: size for name in described.sizes if isinstance(size := getattr(text, name, None), int)}
    tied = found.get_input_embeddings().weight is found.get_output_embeddings().weight
    pairs = [(name, sizes[name], described.sizes[name]) for name in sizes]
    pairs += [("tied weights", tied, described.tied)]
    pairs += [("parameters", sum(x.numel() for x in found.parameters()), described.parameters)]
    wrong = [f"{name} {own} where the header says {given}" for name, own, given in pairs if own != given]
    if not _same_family(described.architecture, text.model_type):
        wrong.insert(0, f"architecture {text.model_type} where the header says {described.architecture}")
    if wrong:
        raise ProfileError(
            f"{label}: transformers makes another network of this GGUF file than its header describes: "
            f"{'; '.join(wrong)}; take another file of the model, or another version of transformers"
        )


def _same_family(architecture: str, model_type: str) -> bool:
    """Whether two names stand for one architecture; llama.cpp writes Mistral's as Llama's."""
    given, own = (re.sub(r"[-_]", "", name) for name in (architecture, model_type))
    return own.startswith(given) or (given, own) == ("llama", "mistral")
