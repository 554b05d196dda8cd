"""Models of the tests' world as plain networks of transformers, and what they hold at a hook."""

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from sae_utils import pipeline
from sae_utils.engine.text import corpora, tokenization


def network_of(model):
    """The network, without TransformerLens."""
    return AutoModelForCausalLM.from_pretrained(model.path, trust_remote_code=False).eval()


def seen(world, name: str, judged: int) -> np.ndarray:
    """Activations of `judged` held-out rows, (tokens, d): row by row, by a plain torch hook."""
    reader = pipeline.reader(world, name)
    network = network_of(reader.model)
    found = []
    network.gpt_neox.layers[-1].mlp.register_forward_hook(lambda module, given, out: found.append(out[0]))
    parts = []
    held_out = np.flatnonzero(reader.rows.array("split") == corpora.SPLITS.index("held_out"))
    for row in tokenization.spread_rows(reader.rows, held_out, judged):
        tokens = reader.rows.array("tokens")[row, : reader.rows.array("lengths")[row]]
        with torch.no_grad():
            network(torch.from_numpy(tokens.astype(np.int64))[None])
        parts.append(found.pop().numpy()[reader.skip :])
    return np.concatenate(parts)
