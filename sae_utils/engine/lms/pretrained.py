"""Language models of the hub, a folder, or a GGUF file of packages, as artefacts in the same layout as toys.

In: a record of a profile. Out: a folder that `AutoModelForCausalLM.from_pretrained` reads; a tokenizer artefact that
models with one tokenizer share.
Never: pickled weights, a repository's own code, a weight that the checkpoint does not hold.

`config.json` is written with the dtype asked for; the weights are links into the hub's cache, checked with every other
file of the store when the artefact is opened. The weights of a GGUF file are dequantised once.
"""

import functools
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from sae_utils.engine.core.spec import NameUnknown, ProfileError, Spec
from sae_utils.engine.inputs import headers, hub
from sae_utils.engine.inputs.hub import Files
from sae_utils.engine.inputs.packages import Packaged
from sae_utils.engine.lms import batching, hooking, quantised
from sae_utils.engine.lms.quantised import Gguf
from sae_utils.store import Artefact, artefact

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json")
TOKENIZER = (*VOCABULARY, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


class Pretrained(Packaged):
    """Any causal language model that transformers loads: of the hub, of this machine, or in packages of a registry."""

    kind: Literal["pretrained"]
    # repository of the hub, e.g. EleutherAI/pythia-70m, a folder as `save_pretrained` writes it, or a `.gguf` file or
    # a folder that holds one (./, ~/ or /); empty for a model in packages
    source: str = ""
    # branch, tag or commit, e.g. a training step; `main` is what the hub's cache knows by that name
    revision: str = "main"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # in which it computes
    # its weights are random or of an early step, so that it need not beat a bigram; else a GGUF file's must
    untrained: bool = False
    # keys of the corpus that differ for the documents on which SAEs of this model are trained and judged
    trained_on: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _has_one_place(self) -> Any:
        if bool(self.source) == bool(self.package):
            raise NameUnknown("name either its `source` (hub, folder or .gguf file) or its `package`")
        return self

    def wanted(self) -> tuple[str, str, list[list[str]], list[str]]:
        """Arguments of `hub.find`, without the parts of a checkpoint that its index names."""
        return self.source, self.revision, [["config.json"], [WEIGHTS, INDEX], [*VOCABULARY]], [*TOKENIZER]

    @property
    def unpacked(self) -> bool:
        """Whether the store holds its weights, dequantised, and no links to them; a folder's GGUF file is not seen."""
        return bool(self.package) or self.source.endswith(quantised.SUFFIX)

    def identity(self) -> list[str]:
        """What tells a model from others, whatever dtype it computes in."""
        if self.package:
            return [self.sha256]
        if hub.is_local(self.source):
            return [str(hub.local_path(self.source).resolve())]
        return [self.source, self.revision]

    def title(self) -> str:
        """Its name for readers: of its repository or file, or the last part of its folder; no path."""
        if self.package:
            return quantised.title(self.file[0])
        return quantised.title(self.source) if hub.is_local(self.source) else self.source


KINDS: dict[str, type[Spec]] = {"pretrained": Pretrained}


class TokenizerSpec(Spec):
    """A tokenizer, without the name of its model."""

    # digest of all that decides how text becomes tokens; special tokens that are not among `special` have no name
    sha256: str
    special: dict[str, str]  # bos, eos, pad, unk -> the token; one that replaces another is there twice
    content: str = Field(exclude=True)  # the tokenizer as the tokenizers library writes it


def locate(record: Pretrained) -> Files:
    """The files of a model. Raises ProfileError as `hub.find`, and if the model needs code of its repository."""
    files = hub.find(*record.wanted())
    for name in ("config.json", "tokenizer_config.json"):
        code = headers.json_object(files[name]).get("auto_map") if name in files else None
        if code:
            raise ProfileError(
                f"{_name(files)}: {name}: `auto_map` names code of the repository ({code}), which is never run; take "
                "another model, or where transformers knows the architecture itself, a copy in a folder without that "
                "key"
            )
    if INDEX not in files:
        return files
    pinned = record.revision if hub.is_local(record.source) else files.commit
    parts = [[name] for name in headers.shards(files[INDEX])]
    return hub.find(record.source, pinned, [["config.json"], [INDEX], *parts], TOKENIZER)


def _name(files: Files) -> str:
    return files.source or str(files["config.json"].parent)


def tokenizer_spec(record: Pretrained) -> TokenizerSpec:
    """The tokenizer of a model, without padding, truncation and added special tokens.

    A model without a beginning-of-sequence or padding token uses its end-of-text token for it, as Pythia, GPT-2 and
    Llama do. Raises ProfileError if there is no fast tokenizer, or no such token.
    """
    if file := gguf(record):
        kept = gguf_tokenizer(file)
        return TokenizerSpec(**kept.meta, content=(kept.path / "tokenizer.json").read_text("utf-8"))
    files = locate(record)
    return _read_tokenizer(files["config.json"].parent, files.commit)


def local_tokenizer_spec(record: Pretrained) -> TokenizerSpec | None:
    """`tokenizer_spec` of a model in a folder, without its weights; None elsewhere, and where it cannot be read."""
    try:
        if gguf(record):
            return None
        return _read_tokenizer(hub.local_path(record.source), "") if hub.is_local(record.source) else None
    except ProfileError:
        return None  # the error is raised when the model is read


@functools.cache
def _read_tokenizer(folder: Path, commit: str) -> TokenizerSpec:
    from transformers import AutoTokenizer

    try:
        read = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return _spec(read, str(folder))
    except ProfileError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        message = str(error).partition("\n")[0]
        raise ProfileError(f"{folder}: no fast tokenizer can be read ({message})") from error


def _spec(read: Any, label: str) -> TokenizerSpec:
    """The record of a tokenizer that transformers has read. Raises ProfileError if it lacks a needed token."""
    content = json.loads(read.backend_tokenizer.to_str())
    content |= {"post_processor": None, "padding": None, "truncation": None}
    found = {key: getattr(read, f"{key}_token") for key in ("bos", "eos", "pad", "unk")}
    special = {key: str(token) for key, token in found.items() if token is not None}
    for key in ("bos", "pad"):
        if key not in special and "eos" not in special:
            raise ProfileError(
                f"{label}: the tokenizer has no {key} token, and none that ends a text to stand in; "
                "name one in its tokenizer_config.json"
            )
        special.setdefault(key, special.get("eos", ""))
    # other special tokens are in no row, and a release may rename them, as Llama 3.1 did some of Llama 3's
    added = [
        token if not token["special"] or token["content"] in special.values() else token | {"content": ""}
        for token in content["added_tokens"]
    ]
    parts = json.dumps([content | {"added_tokens": added}, special], sort_keys=True)
    return TokenizerSpec(
        sha256=hashlib.sha256(parts.encode()).hexdigest(),
        special=special,
        content=json.dumps(content, sort_keys=True, ensure_ascii=False),
    )


@artefact
def tokenizer(folder: Path, words: TokenizerSpec) -> dict[str, Any]:
    """Write a tokenizer as transformers does; `stands_in` names the tokens (bos, pad) that end-of-text replaces."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    named = {f"{key}_token": token for key, token in words.special.items()}
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(words.content), **named)
    made.save_pretrained(folder)
    stands_in = [key for key in ("bos", "pad") if words.special[key] == words.special.get("eos")]
    if stands_in:
        print(f"tokenizer: {words.special['eos']} stands in for {' and '.join(stands_in)}", file=sys.stderr)
    return {"vocabulary": len(made), "stands_in": stands_in}


@artefact
def link(folder: Path, files: Files, dtype: str, tokenizer: Artefact) -> dict[str, Any]:
    """Link a checkpoint's weights, after loading them once and wrapping the model.

    Raises ProfileError as `hooking.wrap`, and if transformers cannot load it, its keys or shapes are not those of its
    configuration, or its tokenizer is not of this model.
    """
    config = headers.json_object(files["config.json"])
    config.pop("torch_dtype", None)  # the old name of `dtype`
    (folder / "config.json").write_text(json.dumps(config | {"dtype": dtype}, indent=1, sort_keys=True))
    for name in files.paths:
        if name.endswith(".safetensors") or name == INDEX:
            (folder / name).symlink_to(files[name].resolve())
    return _finished(folder, tokenizer, _name(files), f" ({files.commit[:12]})", files.source, files.commit)


def _finished(folder: Path, tokenizer: Artefact, name: str, pin: str, source: str, commit: str) -> dict[str, Any]:
    """Add the tokenizer to a checkpoint, load both and wrap the model; return what is known of it. Raises as `link`."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(tokenizer.path, trust_remote_code=False)
    words.save_pretrained(folder)
    network = _load(folder, name + pin)
    text = network.config.get_text_config()
    if max(words.bos_token_id, words.pad_token_id) >= text.vocab_size:
        raise ProfileError(
            f"{name}: its tokenizer opens and fills rows with {words.bos_token} ({words.bos_token_id}) and "
            f"{words.pad_token} ({words.pad_token_id}), and the model knows {text.vocab_size} tokens; name others in "
            "its tokenizer_config.json"
        )
    found = {
        "source": source,
        "commit": commit,
        "parameters": sum(p.numel() for p in network.parameters()),
        "layers": text.num_hidden_layers,
        "d_model": text.hidden_size,
    }
    hooking.wrap(network, words, folder, name)
    return found


def _load(folder: Path, label: str) -> Any:
    """The network; refuses a checkpoint without all weights of its configuration."""
    from transformers import AutoModelForCausalLM

    try:
        network, info = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    except Exception as error:  # transformers raises errors of many types
        message = str(error).strip().partition("\n")[0]
        raise ProfileError(f"{label}: transformers cannot load it as a causal language model ({message})") from error
    problems = [
        f"{name}: {tuple(found)} where {tuple(expected)} is expected"
        for name, found, expected in sorted(info["mismatched_keys"])[:4]
    ]
    missing, unknown = (sorted(info[key])[:4] for key in ("missing_keys", "unexpected_keys"))
    if problems or missing:
        problems += [f"missing {', '.join(missing)}"] if missing else []
        problems += [f"found instead {', '.join(unknown)}"] if unknown else []
        raise ProfileError(f"{label}: the checkpoint is not that of its configuration: {'; '.join(problems)}")
    return network


# --- GGUF files


def gguf(record: Pretrained) -> Gguf | None:
    """The GGUF file of a record, not fetched; None for another checkpoint. Raises ProfileError as `quantised.find`."""
    return quantised.find(record.source, record)


@artefact
def gguf_tokenizer(folder: Path, file: Gguf) -> dict[str, Any]:
    """The content of the tokenizer in a GGUF file; the meta are the other fields of its `TokenizerSpec`.

    Raises ProfileError if the file cannot be fetched or read, or the tokenizer lacks a needed token.
    """
    found = _spec(quantised.tokenizer(folder, file), file.title)
    (folder / "tokenizer.json").write_text(found.content, "utf-8")
    return found.model_dump()


@artefact
def dequantised(folder: Path, file: Gguf, dtype: str, tokenizer: Artefact) -> dict[str, Any]:
    """The network of a GGUF file with plain weights, loaded once more and wrapped. Raises as `link` and `network`."""
    import torch

    network = quantised.network(folder, file)
    network.to(getattr(torch, dtype)).save_pretrained(folder)
    del network
    return _finished(folder, tokenizer, file.title, "", file.title, file.sha256)


def model(record: Pretrained, tokenizer: Artefact) -> Artefact:
    """A model, linked or dequantised. Raises ProfileError as `locate` and `link`, or `gguf` and `dequantised`."""
    if file := gguf(record):
        return dequantised(file, record.dtype, tokenizer)
    return link(locate(record), record.dtype, tokenizer)


def refuse_rows(model: Artefact, *rows: Artefact) -> None:
    """Refuse rows that a linked model cannot read, before it computes anything. Raises as `batching.refuse_rows`."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model.path, trust_remote_code=False)
    for given in rows:
        batching.refuse_rows(config, given, model.meta["source"] or "the model")
