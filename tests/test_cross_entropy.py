"""Losses are those of transformers and of plain counting, also where the logits need more memory than there is."""

import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import tiny_hub
import torch
from networks import network_of
from transformers import AutoModelForCausalLM, Gemma2Config, GPTNeoXConfig, GraniteConfig

from sae_utils import pipeline
from sae_utils.engine.lms import batching, cross_entropy, models
from sae_utils.engine.text import corpora, tokenization

NAMES = ("one_layer", "two_layer")


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


def lines(rows, split: str, most: int | None = None) -> list[list[int]]:
    """The rows of a split as lists without padding; with `most`, at most so many, spread over the articles."""
    chosen = np.flatnonzero(rows.array("split") == corpora.SPLITS.index(split))
    chosen = chosen if most is None else tokenization.spread_rows(rows, chosen, most)
    return [rows.array("tokens")[row, : rows.array("lengths")[row]].tolist() for row in chosen]


def test_the_loss_is_that_of_transformers(world, name):
    rows, network = pipeline.rows(world, name), network_of(pipeline.model(world, name))
    chosen = np.array([5, 0, 17])
    tokens, mask = batching.take(rows, chosen)
    assert tokens.shape == mask.shape == (3, rows.array("lengths")[chosen].max())
    with torch.no_grad():
        output = network(tokens, labels=tokens.masked_fill(~mask, -100))
    ours = cross_entropy.next_token(models.load(pipeline.model(world, name)), tokens, mask)
    assert ours.shape == (int(mask.sum()) - 3,)
    torch.testing.assert_close(ours.mean(), output.loss)
    mean = cross_entropy.mean(models.load(pipeline.model(world, name)), rows, chosen)
    assert mean == pytest.approx(output.loss.item(), rel=1e-5)


def test_losses_are_those_of_plain_counting(world, name):
    """Unigram with one added to every count; bigram by absolute discounting, written out with dictionaries."""
    rows = pipeline.rows(world, name)
    found = pipeline.losses(world, name, 40).meta
    size = network_of(pipeline.model(world, name)).config.vocab_size
    training, held_out = lines(rows, "training"), lines(rows, "held_out", 40)

    ones = Counter(token for line in training for token in line[1:])
    twos = Counter(pair for line in training for pair in pairwise(line))
    firsts, followers = Counter(), Counter()
    for (a, _), count in twos.items():
        firsts[a] += count
        followers[a] += 1

    def unigram(b: int) -> float:
        return (ones[b] + 1) / (sum(ones.values()) + size)

    def bigram(a: int, b: int) -> float:
        if not firsts[a]:
            return unigram(b)
        return max(twos[a, b] - 0.75, 0) / firsts[a] + 0.75 * followers[a] / firsts[a] * unigram(b)

    pairs = [pair for line in held_out for pair in pairwise(line)]
    assert sum(bigram(pairs[0][0], b) for b in range(size)) == pytest.approx(1)
    assert found["predictions"] == len(pairs)
    assert found["unigram"] == pytest.approx(-np.mean([math.log(unigram(b)) for _, b in pairs]), rel=1e-9)
    assert found["bigram"] == pytest.approx(-np.mean([math.log(bigram(a, b)) for a, b in pairs]), rel=1e-9)
    assert found["bigram"] < found["unigram"]
    network = network_of(pipeline.model(world, name))
    with torch.no_grad():
        total = sum(
            network(torch.tensor([line]), labels=torch.tensor([line])).loss * (len(line) - 1) for line in held_out
        )
    assert found["model"] == pytest.approx(total.item() / len(pairs), rel=1e-5)


def test_activations_replaced_at_a_hook_change_the_loss(world, name):
    rows, bridge = pipeline.rows(world, name), models.load(pipeline.model(world, name))
    chosen = np.arange(20)
    hook = f"blocks.{world.models[name].layers - 1}.hook_resid_post"
    clean = cross_entropy.mean(bridge, rows, chosen)
    assert cross_entropy.mean(bridge, rows, chosen, hook, lambda x: x) == clean
    assert cross_entropy.mean(bridge, rows, chosen) == clean  # the hook is removed
    # without a residual stream only the bias of the final norm is unembedded
    network = network_of(pipeline.model(world, name))
    logits = network.get_output_embeddings()(network.gpt_neox.final_layer_norm.bias).log_softmax(-1)
    tokens, mask = batching.take(rows, chosen)
    expected = -logits[tokens[:, 1:][mask[:, 1:]]].mean().item()
    assert cross_entropy.mean(bridge, rows, chosen, hook, torch.zeros_like) == pytest.approx(expected, rel=1e-5)


def printed(script: str, *arguments: object) -> list[str]:
    """The lines that a script prints in its own process."""
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


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
batching.in_parts = lambda batches, run: map(run, batches)  # no second try with fewer rows
print(cross_entropy.mean(bridge, rows, np.arange(64), "blocks.0.hook_resid_post", lambda x: 0 * x))
"""


def written(folder, config, texts=("once upon a time",)):
    """A random network in a folder, with a tokenizer."""
    tiny_hub.tokenizer(folder, tiny_hub.FAMILIES["EleutherAI/pythia-70m"][2], list(texts))
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config, trust_remote_code=False).eval()
    network.save_pretrained(folder)
    return network


def test_logits_of_a_large_vocabulary_need_little_memory(tmp_path):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    network = written(tmp_path, GPTNeoXConfig(**shape, vocab_size=256_000))
    with torch.no_grad():  # without a residual stream only the bias of the final norm is unembedded
        logits = network.get_output_embeddings()(network.base_model.final_layer_norm.bias).log_softmax(-1)
    followers = np.arange(64 * 29).reshape(64, 29)[:, 1:]
    assert float(printed(WIDE, tmp_path)[-1]) == pytest.approx(-logits[followers.ravel()].mean().item(), rel=1e-6)


CAPPED = Gemma2Config(num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.5, query_pre_attn_scalar=8,
                      hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)  # fmt: skip
SCALED = GraniteConfig(num_key_value_heads=1, logits_scaling=0.1, hidden_size=16, num_hidden_layers=2,
                       num_attention_heads=2, intermediate_size=32)  # fmt: skip


@pytest.mark.parametrize("config", [CAPPED, SCALED], ids=["capped", "divided"])
def test_logits_in_parts_are_capped_and_scaled(config, tmp_path, monkeypatch):
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
