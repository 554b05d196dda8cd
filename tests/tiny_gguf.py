"""A tiny Llama in a GGUF file, as llama.cpp writes one, and the network and tokenizer from which it was made.

In: texts for the tokenizer. Out: the file; the network that a reader must find in it.
Never: a file from elsewhere; weights that mean anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

D, LAYERS, HEADS, KV_HEADS, D_MLP, CONTEXT = 32, 2, 4, 2, 64, 128
SPECIAL = ["<unk>", "<s>", "</s>"]
BLOCK = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}  # fmt: skip


class Made(NamedTuple):
    """A GGUF file and what is in it."""

    file: Path
    network: Any
    tokenizer: Tokenizer


def write(
    file: Path, texts: Iterable[str], seed: int = 0, tied: bool = True, layers: int = LAYERS, **header: Any
) -> Made:  # fmt: skip
    """Write a Llama with 8-bit weights; `header` replaces values of the header, e.g. `block_count=3`."""
    words = _tokenizer(texts)
    torch.manual_seed(seed)
    network = LlamaForCausalLM(LlamaConfig(
        vocab_size=words.get_vocab_size(), hidden_size=D, num_hidden_layers=layers, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, intermediate_size=D_MLP, max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied, bos_token_id=1, eos_token_id=2, rms_norm_eps=1e-5,
    )).eval()  # fmt: skip
    writer = gguf.GGUFWriter(file, "llama")
    _describe(writer, {"block_count": layers} | header, words)
    for name, weight in network.named_parameters():
        _add(writer, name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Made(file, network, words)


def _describe(writer: gguf.GGUFWriter, header: dict[str, Any], words: Tokenizer) -> None:
    sizes = {"embedding_length": D, "feed_forward_length": D_MLP, "context_length": CONTEXT,
             "head_count": HEADS, "head_count_kv": KV_HEADS, "license": "mit"} | header  # fmt: skip
    writer.add_name("Tiny")
    for key, value in sizes.items():
        getattr(writer, f"add_{key}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(D // HEADS)
    writer.add_vocab_size(words.get_vocab_size())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    tokens = [words.id_to_token(n) for n in range(words.get_vocab_size())]
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if x in SPECIAL else gguf.TokenType.NORMAL for x in tokens])
    writer.add_token_merges([" ".join(pair) for pair in _merges(words)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


@torch.no_grad()
def _add(writer: gguf.GGUFWriter, name: str, weight: torch.nn.Parameter) -> None:
    """Add a tensor in 8 bits if it is a matrix; the network's own then holds the rounded values."""
    *_, block, part = name.removesuffix(".weight").rpartition("layers.")
    number, _, part = part.partition(".")
    own = f"blk.{number}.{BLOCK[part]}" if block else {"model.embed_tokens": "token_embd", "model.norm": "output_norm",
                                                       "lm_head": "output"}[name.removesuffix(".weight")]  # fmt: skip
    values = weight.numpy()
    if values.ndim == 1:
        writer.add_tensor(f"{own}.weight", values.astype(np.float32))
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    weight.copy_(torch.from_numpy(gguf.dequantize(gguf.quantize(values, kind), kind)))
    values = weight.numpy()
    if "attn_q" in own or "attn_k" in own:  # llama.cpp turns other pairs of dimensions than transformers does
        heads = HEADS if "attn_q" in own else KV_HEADS
        values = values.reshape(heads, 2, -1, D).swapaxes(1, 2).reshape(values.shape)
    writer.add_tensor(f"{own}.weight", gguf.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)


def _merges(words: Tokenizer) -> list[list[str]]:
    return [
        pair if isinstance(pair, list) else pair.split(" ") for pair in json.loads(words.to_str())["model"]["merges"]
    ]


def _tokenizer(texts: Iterable[str]) -> Tokenizer:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    raw.train_from_iterator(texts, trainer)
    return raw
