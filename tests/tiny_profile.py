"""The repositories that a profile names, built tiny in their true layout.

In: a profile; for each model the family of `tiny_hub` it is like, and how many layers it needs. Out: a cache.
Never: a repository that the profile does not name.
"""

from __future__ import annotations

from pathlib import Path

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

from sae_utils import params
from sae_utils.lms import pretrained
from sae_utils.saes import releases
from sae_utils.text import stories


def cached(profile: params.Profile, like: dict[str, tuple[str, int]], root: Path, home: Path) -> None:
    """Fill the cache `home` with every repository of a profile."""
    texts = [document.text for document in stories.stories(seed=0, documents=40)]
    wanted = {record.source for record in profile.models.values() if isinstance(record, pretrained.Pretrained)}
    assert wanted == set(like)
    for seed, name in enumerate(sorted(wanted)):
        family, layers = like[name]
        tiny_hub.model(root, name, texts, seed=seed, layers=layers, like=family)
    for record in profile.dictionaries.values():
        if isinstance(record, releases.Released):
            release(root, profile.models[record.model].source, record)
    tiny_hub.cache(root, home)


def release(root: Path, model: str, record: releases.Released) -> None:
    """An SAE that fits where its record says, in its own format and place."""
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
    """What a block gives for stories, (tokens, d), by transformers."""
    network = AutoModelForCausalLM.from_pretrained(place, attn_implementation="eager").eval()
    words, seen = AutoTokenizer.from_pretrained(place), []
    blocks = network.base_model.h if hasattr(network.base_model, "h") else network.base_model.layers
    blocks[block].register_forward_hook(
        lambda module, given, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    texts = [document.text for document in stories.stories(seed=8, documents=30)]
    ids = [ids[:24] for ids in words(texts, add_special_tokens=False, truncation=False)["input_ids"]]
    with torch.no_grad():
        network(torch.tensor(ids))
    return seen[0][:, 1:].flatten(0, 1).numpy()
