"""What a large vocabulary would need at once is made in parts, and a failed allocation is met with fewer rows."""

import subprocess
import sys

import numpy as np
import pytest
import tiny_hub
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPTNeoXConfig, GraniteConfig

from sae_utils.engine.lms import batching, cross_entropy, models

# 64 rows of 29 tokens and 256,000 words: 1.8 GB of logits, of which a loss needs several copies
WIDE = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from sae_utils.engine.lms import batching, cross_entropy, models

resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, 3 * 2**30))
rows = SimpleNamespace(array={"lengths": np.full(64, 29), "tokens": np.arange(64 * 29).reshape(64, 29)}.get)
bridge = models.load(SimpleNamespace(path=Path(sys.argv[1]), meta={}))
batching.in_parts = lambda batches, run: map(run, batches)  # in one go: no second try with fewer rows
print(cross_entropy.mean(bridge, rows, np.arange(64), "blocks.0.hook_resid_post", lambda x: 0 * x))
"""

FAILS = """
import resource
import numpy as np, torch
from sae_utils.engine.lms import batching

resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, 3 * 2**30))
one = torch.ones(2**17, 1)
for run in (lambda: torch.empty(2**32), lambda: np.ones(2**32), lambda: one @ one.T, lambda: b"." * 2**32):
    try:
        run()
    except (RuntimeError, MemoryError) as error:
        print(batching.is_out_of_memory(error), error)
"""


def said(script: str, *arguments: object) -> list[str]:
    """What a process of its own prints, a line each."""
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


def written(folder, config, texts=("once upon a time",)):
    """A random network in a folder, with a tokenizer that nothing here asks."""
    tiny_hub.tokenizer(folder, tiny_hub.FAMILIES["EleutherAI/pythia-70m"][2], list(texts))
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config, trust_remote_code=False).eval()
    network.save_pretrained(folder)
    return network


def test_the_logits_of_a_large_vocabulary_fit_into_little_memory(tmp_path):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    network = written(tmp_path, GPTNeoXConfig(**shape, vocab_size=256_000))
    with torch.no_grad():  # what is left without a stream: the final norm's bias, unembedded
        logits = network.get_output_embeddings()(network.base_model.final_layer_norm.bias).log_softmax(-1)
    followers = np.arange(64 * 29).reshape(64, 29)[:, 1:]
    assert float(said(WIDE, tmp_path)[-1]) == pytest.approx(-logits[followers.ravel()].mean().item(), rel=1e-6)


CAPPED = Gemma2Config(num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.5, query_pre_attn_scalar=8,
                      hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)  # fmt: skip
SCALED = GraniteConfig(num_key_value_heads=1, logits_scaling=0.1, hidden_size=16, num_hidden_layers=2,
                       num_attention_heads=2, intermediate_size=32)  # fmt: skip


@pytest.mark.parametrize("config", [CAPPED, SCALED], ids=["capped", "divided"])
def test_a_part_of_the_logits_is_capped_and_scaled_as_all_are(config, tmp_path, monkeypatch):
    config.vocab_size, config.bos_token_id, config.eos_token_id, config.pad_token_id = 400, 0, 0, 0
    network, tokens = written(tmp_path, config), torch.arange(60).reshape(3, 20) * 5
    bridge = models.load(type("Made", (), {"path": tmp_path, "meta": {}}))
    mask = torch.arange(20) < torch.tensor([20, 7, 13])[:, None]
    with torch.no_grad():
        expected = network(tokens).logits[:, :-1].log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0]
    for logits in (cross_entropy.LOGITS, 4 * 400 * 5):
        monkeypatch.setattr(cross_entropy, "LOGITS", logits)
        found = cross_entropy.next_token(bridge, tokens, mask)
        torch.testing.assert_close(found, -expected[mask[:, 1:]], rtol=1e-4, atol=1e-4)


def test_an_allocation_that_fails_is_told_from_another_error():
    lines = said(FAILS)
    assert len(lines) == 4 and all(line.startswith("True") for line in lines), lines
    assert not any(map(batching.is_out_of_memory, [RuntimeError("shapes (3, 4) and (5, 6)"), RuntimeError()]))
