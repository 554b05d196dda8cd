"""Language models of the hub or of a folder, as artefacts that read like a toy: weights linked, not copied.

In: a record of a profile. Out: a folder that `AutoModelForCausalLM.from_pretrained` reads; a tokenizer artefact that
models with one tokenizer share.
Never: pickled weights, a repository's own code, a weight that the checkpoint does not hold.

`config.json` is written with the dtype asked for; the weights are links into the hub's cache, checked with every other
file of the store when the artefact is opened.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sae_utils.engine.core.spec import ProfileError, Spec
from sae_utils.engine.inputs import headers, hub
from sae_utils.engine.inputs.hub import Files
from sae_utils.engine.lms import batching, hooking
from sae_utils.store import Artefact, artefact

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json")
TOKENIZER = (*VOCABULARY, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


class Pretrained(Spec):
    """Any causal language model that transformers loads."""

    kind: Literal["pretrained"]
    source: str
    """repository of the hub, e.g. EleutherAI/pythia-70m, or a folder as `save_pretrained` writes it (./, ~/ or /)"""
    revision: str = "main"
    """branch, tag or commit, e.g. a training step; `main` is what the hub's cache knows by that name"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """in which it computes"""
    trained_on: dict[str, Any] = Field(default={})
    """keys of the corpus that differ for the documents on which SAEs of this model are trained and judged"""


KINDS: dict[str, type[Spec]] = {"pretrained": Pretrained}


class TokenizerSpec(Spec):
    """A tokenizer by what it does."""

    sha256: str
    """of all that says how text becomes tokens, but for the names of special tokens that are not among `special`"""
    special: dict[str, str]
    """bos, eos, pad, unk -> the token; what stands in for another is there twice"""
    content: str = Field(exclude=True)
    """the tokenizer as the tokenizers library writes it"""


def locate(record: Pretrained) -> Files:
    """The files of a model.

    Raises:
        ProfileError: as `hub.find`; it is read by code of its own.
    """
    source, revision, need, also = wanted(record)
    first = hub.find(source, revision, need, also)
    _refuse_code(first)
    if INDEX not in first:
        return first
    pinned = revision if hub.is_local(source) else first.commit
    shards = [[name] for name in headers.shards(first[INDEX])]
    return hub.find(source, pinned, [["config.json"], [INDEX], *shards], TOKENIZER)


def _refuse_code(files: Files) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        own = headers.json_object(files[name]).get("auto_map") if name in files else None
        if own:
            raise ProfileError(
                f"{files.source or files[name].parent}: {name}: `auto_map` names code of the repository ({own}), which "
                "is never run; take another model, or where transformers knows the architecture itself, a copy in a "
                "folder without that key"
            )


def wanted(record: Pretrained) -> tuple[str, str, list[list[str]], list[str]]:
    """What `hub.find` is asked for; what the index of a checkpoint in parts names comes after it."""
    return record.source, record.revision, [["config.json"], [WEIGHTS, INDEX], [*VOCABULARY]], [*TOKENIZER]


def tokenizer_spec(record: Pretrained) -> TokenizerSpec:
    """The tokenizer of a model, without what pads, cuts or frames the text.

    Where there is no token to open or to fill a row, the one that ends a text stands in, as Pythia, GPT-2 and Llama do.

    Raises:
        ProfileError: no fast tokenizer, or no such token.
    """
    files = locate(record)
    return _words(files["config.json"].parent, files.commit)


def local_tokenizer_spec(record: Pretrained) -> TokenizerSpec | None:
    """`tokenizer_spec` of a model in a folder, without its weights; None for the hub, and where it cannot be read."""
    try:
        return _words(hub.local_path(record.source), "") if hub.is_local(record.source) else None
    except ProfileError:
        return None  # said when the model is read, with what is missing


@functools.cache
def _words(folder: Path, commit: str) -> TokenizerSpec:
    from transformers import AutoTokenizer

    try:
        read = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        content = json.loads(read.backend_tokenizer.to_str())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        said = str(error).partition("\n")[0]
        raise ProfileError(f"{folder}: no fast tokenizer can be read ({said})") from error
    content |= {"post_processor": None, "padding": None, "truncation": None}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    special = {key: getattr(read, f"{key}_token") for key in ("bos", "eos", "pad", "unk")}
    special = {key: str(token) for key, token in special.items() if token is not None}
    for key in ("bos", "pad"):
        if key not in special and "eos" not in special:
            raise ProfileError(
                f"{folder}: the tokenizer has no {key} token, and none that ends a text to stand in; "
                "name one in its tokenizer_config.json"
            )
        special.setdefault(key, special.get("eos", ""))
    # they stand in no row, and a release may rename them, as Llama 3.1 did some of Llama 3's
    added = [
        token if not token["special"] or token["content"] in special.values() else token | {"content": ""}
        for token in content["added_tokens"]
    ]
    cut = json.dumps([content | {"added_tokens": added}, special], sort_keys=True)
    sha256 = hashlib.sha256(cut.encode()).hexdigest()
    return TokenizerSpec(sha256=sha256, special=special, content=text)


@artefact
def tokenizer(folder: Path, words: TokenizerSpec) -> dict[str, Any]:
    """Write a tokenizer as transformers does; `stands_in` names the rows' tokens that are the end of text."""
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
    """Link a checkpoint's weights, after loading them once to see that they are the model's.

    Raises:
        ProfileError: transformers cannot load it, keys or shapes are not those of its configuration, or as
            `hooks.wrap`.
    """
    from transformers import AutoTokenizer

    config = headers.json_object(files["config.json"])
    config.pop("torch_dtype", None)  # the same thing under its old name
    (folder / "config.json").write_text(json.dumps(config | {"dtype": dtype}, indent=1, sort_keys=True))
    for name in files.paths:
        if name.endswith(".safetensors") or name == INDEX:
            (folder / name).symlink_to(files[name].resolve())
    words = AutoTokenizer.from_pretrained(tokenizer.path, trust_remote_code=False)
    words.save_pretrained(folder)
    network = _checked(folder, files)
    text = network.config.get_text_config()
    if max(words.bos_token_id, words.pad_token_id) >= text.vocab_size:
        raise ProfileError(
            f"{files.source or files['config.json'].parent}: its tokenizer opens and fills rows with "
            f"{words.bos_token} ({words.bos_token_id}) and {words.pad_token} ({words.pad_token_id}), and the model "
            f"knows {text.vocab_size} tokens; name others in its tokenizer_config.json"
        )
    found = {
        "source": files.source,
        "commit": files.commit,
        "parameters": sum(p.numel() for p in network.parameters()),
        "layers": text.num_hidden_layers,
        "d_model": text.hidden_size,
    }
    hooking.wrap(network, words, folder, files.source or str(files["config.json"].parent))
    return found


def _checked(folder: Path, files: Files) -> Any:
    from transformers import AutoModelForCausalLM

    what = f"{files.source or files['config.json'].parent} ({files.commit[:12]})"
    try:
        network, info = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    except Exception as error:  # transformers raises what it likes
        said = str(error).strip().partition("\n")[0]
        raise ProfileError(f"{what}: transformers cannot load it as a causal language model ({said})") from error
    other = [f"{name}: {tuple(found)} where {tuple(wanted)} is expected"
             for name, found, wanted in sorted(info["mismatched_keys"])]  # fmt: skip
    missing, unknown = (sorted(info[key]) for key in ("missing_keys", "unexpected_keys"))
    if other or missing:
        raise ProfileError(
            f"{what}: the checkpoint is not that of its configuration: "
            + "; ".join(
                other[:4]
                + [f"missing {', '.join(missing[:4])}"] * bool(missing)
                + [f"found instead {', '.join(unknown[:4])}"] * bool(unknown)
            )
        )
    return network


def refuse_rows(model: Artefact, *rows: Artefact) -> None:
    """Refuse rows that a linked model cannot read, before anything is computed with them.

    Raises:
        ProfileError: as `batches.refuse_rows`.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model.path, trust_remote_code=False)
    for given in rows:
        batching.refuse_rows(config, given, model.meta["source"] or "the model")
