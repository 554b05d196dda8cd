"""Every repository that a profile names, tiny and in its true layout: models, SAEs, datasets; and its word vectors.

In: a checked profile and a folder. Out: repositories as `hub_server` serves them, word vectors below `gensim` as in
GENSIM_DATA_DIR; the keys of a profile in which only sizes differ.
Never: a network; weights that mean anything.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import tiny_hub
import torch
from sae_lens.loading.pretrained_sae_loaders import get_conversion_loader_name
from sae_lens.loading.pretrained_saes_directory import (
    get_norm_scaling_factor,
    get_pretrained_saes_directory,
    get_repo_id_and_folder_name,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_utils.engine import params
from sae_utils.engine.lms import pretrained
from sae_utils.engine.saes import releases
from sae_utils.engine.text import corpora, stories
from sae_utils.engine.text.words import WORD

LIKE = {"gemma-2-": "google/gemma-2-2b", "gemma-": "google/gemma-2b", "pythia-160m": "EleutherAI/pythia-160m",
        "pythia-70m": "EleutherAI/pythia-70m", "gpt2": "openai-community/gpt2",
        "TinyStories-1Layer": "roneneldan/TinyStories-1Layer-21M", "Llama-3": "meta-llama/Llama-3.1-8B",
        "rlhf-7b": "meta-llama/Llama-3.1-8B"}  # fmt: skip
# wide enough for ten pairs of planted features
WIDE = {"pythia-70m": 32, "pythia-160m": 48, "gpt2": 40, "TinyStories-1Layer": 32, "gemma-2-": 64, "Llama-3": 64,
        "rlhf-7b": 64}  # fmt: skip
DOCUMENTS = 200
# keys of the paper that only set sizes
SIZES: dict[str, Any] = {
    "device": "cpu",
    "dictionaries": {"*": {"width": 48, "k": 4, "samples": 2048, "batch": 64}},
}
STORIES = {"kind": "stories", "documents": 60, "seed": 3, "context": 24, "shares": [0.2, 0.4, 0.4], "split_seed": 0}


def sized(name: str) -> dict[str, Any]:
    """Keys of a profile that extends `name`, with fewer documents, narrow SAEs, and the sizes of the smoke profile.

    A key takes the value of smoke only if `name` has it from the demo: the keys that `name` sets itself stay.
    """
    own, demo, smoke = (params.read(file) for file in (name, "demo", "smoke"))
    sections = {
        section: {key: value for key, value in smoke[section].items() if own[section][key] == demo[section][key]}
        for section in params.notebooks()
    }
    return (
        SIZES
        | {"extends": name, "models": {"*": _wherever(own, {"dtype": "float32"})}}
        | {"corpus": own["corpus"] | {"documents": DOCUMENTS, "context": 48, "shares": [0.4, 0.3, 0.3]}}
        | {"primary": own["primary"] | {"permutations": 199}}
        | sections
    )


def on_stories(name: str) -> dict[str, Any]:
    """The same with stories as the text of the profile and of training; all but the text comes from a cache."""
    own = params.read(name)
    precise = _wherever(own, {"dtype": "float32"})
    at_home = {x: of | precise | {"trained_on": {}} for x, of in own["models"].items() if "trained_on" in of}
    return sized(name) | {"corpus": STORIES, "models": {"*": precise} | at_home}


def _wherever(own: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Those of the values whose key a model of the profile has, as `"*"` takes no other."""
    return {key: value for key, value in values.items() if any(key in record for record in own["models"].values())}


def build(root: Path, profile: params.Profile) -> None:
    """Write every repository of a profile; a model is as deep as the deepest hook that an SAE reads."""
    texts = [document.text for document in stories.stream(seed=0, documents=40)]
    names = sorted({(x.source, x.revision) for x in profile.models.values() if isinstance(x, pretrained.Pretrained)})
    for seed, (name, revision) in enumerate(names):
        like, width = next((full, WIDE.get(part)) for part, full in LIKE.items() if part in name)
        deepest = max(map(block, reading(profile, name)), default=0)
        wider = {"hidden_size": width} if width else {}
        tiny_hub.model(root, name, texts, revision, seed=seed, layers=deepest + 1, like=like, **wider)
    for record in profile.dictionaries.values():
        if isinstance(record, releases.Released):
            release(root, profile.models[record.model].source, record)
    read = [profile.corpus, *map(profile.training_corpus, profile.models)]
    for corpus in {x.name: x for x in read if isinstance(x, corpora.HubDataset)}.values():
        dataset(root, corpus)
    for section in profile.sections.values():
        if section.get("vectors", {}).get("kind") == "download":
            spelt = (word for text in texts for word in WORD.findall(text))
            tiny_hub.vectors(root / "gensim", section["vectors"]["name"], spelt)


def reading(profile: params.Profile, source: str) -> list[Any]:
    """The dictionaries that read a repository's model, or a twin of it."""

    def of(model: str) -> Any:
        record = profile.models[model]
        return of(record.of) if hasattr(record, "of") else record.source

    return [record for record in profile.dictionaries.values() if of(record.model) == source]


def block(record: Any) -> int:
    """Number of the block that the record of a dictionary names."""
    text = getattr(record, "hookpoint", "") or getattr(record, "hook", "") or record.id
    return int(re.match(r"(?:layers\.|blocks\.|l)(\d+)", text)[1])  # type: ignore[index]


def dataset(root: Path, corpus: corpora.HubDataset) -> None:
    """Write stories as the documents of a dataset."""
    place = root / "datasets" / corpus.name / corpus.revision
    place.mkdir(parents=True)
    seed = sum(map(ord, corpus.name))
    lines = [json.dumps({corpus.field: x.text}) for x in stories.stream(seed=seed, documents=DOCUMENTS)]
    (place / "stories.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    parts = {"configs": [{"config_name": "default", "data_files": [{"split": corpus.part, "path": "stories.jsonl"}]}]}
    (place / "README.md").write_text(f"---\n{json.dumps(parts)}\n---\n", "utf-8")


def release(root: Path, model: str, record: releases.Released) -> None:
    """Write an SAE that fits the hook of its record, in its own format and place."""
    match record:
        case releases.Sparsify():
            x = outputs(tiny_hub.folder(root, model), int(record.hookpoint.split(".")[1]))
            weights = tiny_hub.planted(x)
            place = tiny_hub.folder(root, record.source) / record.hookpoint
            tiny_hub.sparsify(place, weights, len(weights["W_dec"]) // 2)
        case releases.Saelens():
            repository, folder = get_repo_id_and_folder_name(record.source, record.id)
            place = tiny_hub.folder(root, repository) / folder
            named = get_pretrained_saes_directory()[record.source].neuronpedia_id[record.id]
            if get_conversion_loader_name(record.source) == "llama_scope":
                assert named is not None and "-llamascope-res" in named
                block = int(named.split("/")[1].split("-")[0])
                weights = tiny_hub.planted(outputs(tiny_hub.folder(root, model), block))
                scale = get_norm_scaling_factor(record.source, record.id)
                tiny_hub.llama_scope(place, weights, f"blocks.{block}.hook_resid_post", scale)
                return
            x = outputs(tiny_hub.folder(root, model), int(record.id.split(".")[1]))
            oai = "-v5-" in record.source  # TopK on normed activations
            if oai:
                x = (x - x.mean(1, keepdims=True)) / x.std(1, ddof=1, keepdims=True)
            weights = tiny_hub.planted(x)
            changes = {
                "architecture": "topk", "activation_fn_str": "topk", "normalize_activations": "layer_norm",
                "activation_fn_kwargs": {"k": len(weights["W_dec"]) // 2},
            }  # fmt: skip
            tiny_hub.saelens(place, weights, record.id, **changes if oai else {})
        case releases.GemmaScope():
            weights = tiny_hub.planted(outputs(tiny_hub.folder(root, model), int(record.hook.split(".")[1])))
            bias = weights["b_enc"] - weights["b_dec"] @ weights["W_enc"]
            tiny_hub.gemma_scope(tiny_hub.folder(root, record.source) / record.path, weights | {"b_enc": bias}, 0.0)


def outputs(place: Path, block: int) -> np.ndarray:
    """The output of a block for stories, (tokens, d), by transformers."""
    network = AutoModelForCausalLM.from_pretrained(place, attn_implementation="eager", trust_remote_code=False).eval()
    words, seen = AutoTokenizer.from_pretrained(place, trust_remote_code=False), []
    blocks = network.base_model.h if hasattr(network.base_model, "h") else network.base_model.layers
    blocks[block].register_forward_hook(
        lambda module, given, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    texts = [document.text for document in stories.stream(seed=8, documents=30)]
    ids = [ids[:24] for ids in words(texts, add_special_tokens=False, truncation=False)["input_ids"]]
    with torch.no_grad():
        network(torch.tensor(ids))
    return seen[0][:, 1:].flatten(0, 1).numpy()
