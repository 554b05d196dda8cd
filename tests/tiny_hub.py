"""Tiny checkpoints in the layout of the hub: Pythia, GPT-2, TinyStories, Gemma-2 and Llama, and SAEs for them.

In: a folder. Out: repositories as `hub_server` serves them, and a cache as huggingface_hub fills it.
Never: a network; weights that mean anything.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gensim.models import KeyedVectors
from hub_server import commit
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as algorithms
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
)
from transformers.utils import logging

D, WIDTH, LAYERS = 16, 24, 3
END = "<|endoftext|>"
HEADS = {"num_key_value_heads": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 32}
FAMILIES: dict[str, tuple[Any, dict[str, Any], dict[str, str]]] = {
    "EleutherAI/pythia-70m": (
        GPTNeoXConfig, {"hidden_size": D, "num_attention_heads": 2, "intermediate_size": 32},
        {"class": "GPTNeoXTokenizer", "bos": END, "eos": END, "unk": END, "pad": "<|padding|>"},
    ),
    "EleutherAI/pythia-160m": (
        GPTNeoXConfig, {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 48},
        {"class": "GPTNeoXTokenizer", "bos": END, "eos": END, "unk": END, "pad": "<|padding|>"},
    ),
    "openai-community/gpt2": (
        GPT2Config, {"n_embd": D, "n_head": 2}, {"class": "GPT2Tokenizer", "bos": END, "eos": END, "unk": END},
    ),
    "roneneldan/TinyStories-1Layer-21M": (
        GPTNeoConfig,
        {"hidden_size": D, "num_heads": 2, "window_size": 8},
        {"class": "GPT2Tokenizer", "bos": END, "eos": END, "unk": END},
    ),
    "google/gemma-2b": (
        GemmaConfig, {"hidden_size": D} | HEADS,
        {"class": "GemmaTokenizer", "bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "unk": "<unk>"},
    ),
    "google/gemma-2-2b": (
        Gemma2Config,
        {"hidden_size": D, "sliding_window": 8, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 5.0} | HEADS,
        {"class": "GemmaTokenizer", "bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "unk": "<unk>"},
    ),
    "meta-llama/Llama-3.1-8B": (
        LlamaConfig, {"hidden_size": D} | HEADS,
        {"class": "PreTrainedTokenizerFast", "bos": "<|begin_of_text|>", "eos": "<|end_of_text|>"},
    ),
}  # fmt: skip


def folder(root: Path, name: str, revision: str = "main") -> Path:
    """The folder of a revision of a repository."""
    return root / "models" / name / revision


def model(
    root: Path, name: str, texts: list[str], revision: str = "main", *, seed: int = 0, layers: int = LAYERS,
    like: str = "", **wider: int,
) -> Path:  # fmt: skip
    """Write a checkpoint of a family (of `like`, under another name), with weights so large that its layers differ.

    `wider`: keys of its configuration that differ.
    """
    logging.disable_progress_bar()
    of, shape, words = FAMILIES[like or name]
    shape = shape | wider
    place = folder(root, name, revision)
    place.mkdir(parents=True)
    vocabulary = tokenizer(place, words, texts)
    if of is GPTNeoConfig:
        shape = shape | {"attention_types": [[(["global", "local"] * layers)[:layers], 1]]}
    deep = "n_layer" if of is GPT2Config else "num_layers" if of is GPTNeoConfig else "num_hidden_layers"
    config = of(**shape, **{deep: layers, "vocab_size": vocabulary + 7, "max_position_embeddings": 64},
                initializer_range=0.3, bos_token_id=0, eos_token_id=0, pad_token_id=None)  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        for parameter in network.parameters():  # also of biases and norms
            parameter.data += 0.1 * torch.randn_like(parameter)
    network.save_pretrained(place)
    return place


def tokenizer(place: Path, words: dict[str, str], texts: list[str]) -> int:
    """Write a byte-level BPE whose post-processor and truncation no row may show; returns the number of its tokens."""
    raw = Tokenizer(algorithms.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys(words[key] for key in ("bos", "eos", "pad", "unk") if key in words))
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=[AddedToken(token, special=True) for token in special], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    raw.train_from_iterator(texts, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single=f"{words['bos']} $A", special_tokens=[(words["bos"], raw.token_to_id(words["bos"]))]
    )
    raw.enable_truncation(12)
    raw.save(str(place / "tokenizer.json"))
    if words["class"] == "GPT2Tokenizer":
        raw.model.save(str(place))
    named = {
        f"{key}_token": words[key] for key in ("bos", "eos", "unk") if key in words
    }  # no family has a padding token here
    (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": words["class"]} | named))
    return raw.get_vocab_size()


def planted(x: np.ndarray) -> dict[str, torch.Tensor]:
    """An SAE that reconstructs `x` (tokens, d): two features of opposite signs for half of its principal axes."""
    mean = x.mean(0)
    directions = np.linalg.svd(x - mean, full_matrices=False)[2][: x.shape[1] // 2]
    rows = torch.from_numpy(np.concatenate([directions, -directions]).astype(np.float32))
    return {"W_enc": rows.T.contiguous(), "W_dec": rows, "b_enc": torch.zeros(len(rows)),
            "b_dec": torch.from_numpy(mean.astype(np.float32))}  # fmt: skip


def drawn(d: int = D, n: int = WIDTH, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights of an SAE."""
    made = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (d, n), "W_dec": (n, d), "b_enc": (n,), "b_dec": (d,)}
    return {name: torch.randn(shape, generator=made) for name, shape in shapes.items()}


def sparsify(place: Path, weights: dict[str, torch.Tensor], k: int, **changes: Any) -> None:
    """Write an SAE in the layout of EleutherAI's repositories, in the folder of its hookpoint."""
    place.mkdir(parents=True)
    n, d = weights["W_dec"].shape
    config = {"expansion_factor": 32, "normalize_decoder": True, "num_latents": n, "k": k, "signed": False, "d_in": d}
    (place / "cfg.json").write_text(json.dumps(config | changes))
    save_file(
        {"encoder.weight": weights["W_enc"].T.contiguous(), "encoder.bias": weights["b_enc"],
         "W_dec": weights["W_dec"], "b_dec": weights["b_dec"]}, place / "sae.safetensors",
    )  # fmt: skip


def saelens(place: Path, weights: dict[str, torch.Tensor], hook: str, **changes: Any) -> None:
    """Write an SAE in the layout of SAELens releases before version 6."""
    place.mkdir(parents=True)
    d, n = weights["W_enc"].shape
    config = {"architecture": "standard", "d_in": d, "d_sae": n, "dtype": "torch.float32", "hook_point": hook,
              "model_name": "gpt2-small", "activation_fn_str": "relu", "apply_b_dec_to_input": True,
              "normalize_activations": "none", "context_size": 64}  # fmt: skip
    (place / "cfg.json").write_text(json.dumps(config | changes))
    save_file(weights, place / "sae_weights.safetensors")


def gemma_scope(place: Path, weights: dict[str, torch.Tensor], threshold: float) -> None:
    """Write an SAE in the layout of Gemma Scope."""
    place.mkdir(parents=True)
    arrays = {name: value.numpy() for name, value in weights.items()}
    np.savez(place / "params.npz", threshold=np.full(len(arrays["b_enc"]), threshold, np.float32), **arrays)


def llama_scope(place: Path, weights: dict[str, torch.Tensor], hook: str, scale: float) -> None:
    """Write an SAE in the layout of Llama Scope: it reads activations times `scale`, computed from their mean norm."""
    (place / "checkpoints").mkdir(parents=True)
    d, n = weights["W_enc"].shape
    config = {"d_model": d, "d_sae": n, "hook_point_in": hook, "jump_relu_threshold": 0.0,
              "dataset_average_activation_norm": {"in": d**0.5 / scale}}  # fmt: skip
    (place / "hyperparams.json").write_text(json.dumps(config))
    save_file(
        {"encoder.weight": (weights["W_enc"].T / scale).contiguous(),
         "encoder.bias": weights["b_enc"] - weights["b_dec"] @ weights["W_enc"],
         "decoder.weight": (weights["W_dec"].T * scale).contiguous(), "decoder.bias": weights["b_dec"] * scale},
        place / "checkpoints" / "final.safetensors",
    )  # fmt: skip


def vectors(folder: Path, name: str, words: Iterable[str], size: int = 300) -> None:
    """Write random word vectors into the cache of gensim's downloader, in word2vec's binary format."""
    place, model = folder / name, KeyedVectors(size)
    place.mkdir(parents=True)
    there = sorted(set(words))
    model.add_vectors(there, np.random.default_rng(0).standard_normal((len(there), size), np.float32))
    model.save_word2vec_format(str(place / f"{name}.gz"), binary=True)
    (place / "__init__.py").write_text("raise SystemExit('what comes with vectors must not be run')\n")
    bytes_ = (place / f"{name}.gz").stat().st_size
    listed = {name: {"file_name": f"{name}.gz", "file_size": bytes_, "license": "not found", "parts": 1}}
    (folder / "information.json").write_text(json.dumps({"corpora": {}, "models": listed}), "utf-8")


def cache(root: Path, home: Path) -> None:
    """Fill a cache with all repositories below `root`."""
    for place in (root / "models").glob("*/*/*"):
        name = "/".join(place.parts[-3:-1])
        store = home / f"models--{name.replace('/', '--')}"
        shutil.copytree(place, store / "snapshots" / commit("models", name, place.name))
        (store / "refs").mkdir(exist_ok=True)
        (store / "refs" / place.name).write_text(commit("models", name, place.name))
