"""The final norm and the unembedding of networks of several families, and the words that two vocabularies share."""

import numpy as np
import pytest
import torch
from networks import network_of

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import lexicon
from sae_utils.studies.function import heads

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 70}


def network(family: str, tied: bool):
    """A random network with a scale and a bias of its norm that tell dimensions apart."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **SIZES, intermediate_size=32, head_dim=8, tie_word_embeddings=tied,
                                  num_key_value_heads=2, max_position_embeddings=32)  # fmt: skip
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, trust_remote_code=False).eval()
    for name, parameter in made.named_parameters():
        if "norm" in name or "ln_f" in name:
            torch.nn.init.normal_(parameter, 0.5, 0.3)
    return made


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["gpt_neox", "llama", "gemma3_text", "gpt2"])
def test_a_small_step_of_the_stream_moves_logits_as_its_direction_says(family, tied):
    made = network(family, tied)
    head = heads.of_network(made)
    run = heads.hooking.run_with_torch_hooks(made)
    stream = run.outputs[run.blocks[-1]][0, -1].double()
    norm = next(x for name, x in made.named_modules() if name.split(".")[-1] in ("final_layer_norm", "norm", "ln_f"))
    made.double()
    rng = np.random.default_rng(0)
    step = torch.from_numpy(rng.standard_normal(16))
    stream = (stream - stream.mean()).detach()
    step -= (step @ stream) / (stream @ stream) * stream  # along the stream the norm takes a step away
    with torch.no_grad():
        far = [made.get_output_embeddings()(norm((stream + sign * 1e-4 * step)[None, None]))[0, 0] for sign in (1, -1)]
    moved = (far[0] - far[1]).numpy()
    u = head.effective(np.arange(70))
    assert np.corrcoef(moved, u @ step.numpy())[0, 1] > 1 - 1e-6
    assert head.centred == (family in ("gpt_neox", "gpt2"))


def test_the_head_of_a_stored_model_is_that_of_its_network(world):
    model = pipeline.model(world, "one_layer")
    found, made = heads.head(model), network_of(model)
    np.testing.assert_array_equal(found.weight, made.get_output_embeddings().weight.detach().numpy())
    np.testing.assert_allclose(
        found.scale, made.gpt_neox.final_layer_norm.weight.detach().numpy(), rtol=1e-3, atol=1e-3
    )


# --- shared words


def vocabulary(*texts: bytes) -> dict[int, bytes]:
    return dict(enumerate(texts))


def test_one_tokenizer_shares_all_its_tokens():
    texts = [f" word{i}".encode() for i in range(heads.FEWEST)]
    found = heads.by_string(vocabulary(*texts), vocabulary(*texts))
    assert found.words[7] == "word7" and found.share == (1, 1)
    np.testing.assert_array_equal(found.a, found.b)
    pieces = heads.by_string(vocabulary(*texts, b"word7"), vocabulary(*texts, b"word7"))
    assert len(pieces.words) == heads.FEWEST + 1 and {"word7", " word7"} <= set(pieces.words)


def test_two_tokenizers_share_whole_words_only(monkeypatch):
    monkeypatch.setattr(heads, "FEWEST", 2)
    a = vocabulary(b" cat", b" the", b"the", b" dog", b"ing", b" .")
    b = vocabulary(b" dog", b"cat", b" the", b" cow", b"the", b" cat")
    found = heads.by_string(a, b)
    assert found.words == ["cat", "the", "dog"]
    assert (found.a.tolist(), found.b.tolist()) == ([0, 1, 3], [5, 2, 0])
    assert found.share == (3 / 6, 3 / 6)
    words = vocabulary(b"cat", b"the", b"cow", b".")  # a tokenizer of words writes no spaces
    assert heads.by_string(a, words).words == ["cat", "the"]


def test_vocabularies_without_overlap_are_refused():
    a, b = (vocabulary(*(f" {letter}{i}x".encode() for i in range(80))) for letter in "ab")
    with pytest.raises(ProfileError, match=r"mine: 0 words are one token of both models.*need 50; compare models"):
        heads.by_string(a, b, where="mine")


def test_the_exchange_of_words_is_its_own_inverse_and_that_of_the_lexicon():
    words = [*lexicon.load_lexicon().words, "zyx"]
    found = heads.exchange(words, 4)
    np.testing.assert_array_equal(found[found], np.arange(len(words)))
    expected = lexicon.exchange(4)
    np.testing.assert_array_equal(found[: len(expected)], expected)
    assert found[-1] == len(words) - 1
    one = int(np.flatnonzero(expected != np.arange(len(expected)))[0])
    assert heads.exchange([words[one]], 4)[0] == -1
    np.testing.assert_array_equal(heads.exchange([" " + words[one], " " + words[expected[one]]], 4), [1, 0])


def test_words_whose_partner_is_missing_are_left_out(monkeypatch):
    monkeypatch.setattr(heads, "FEWEST", 1)
    words, expected = lexicon.load_lexicon().words, lexicon.exchange(4)
    one = int(np.flatnonzero(expected != np.arange(len(expected)))[0])
    texts = vocabulary(*(f" {word}".encode() for word in (words[one], "zyx", words[expected[one]])))
    found = heads.by_string(texts, texts, 4)
    assert found.partner.tolist() == [2, 1, 0]
    less = {0: texts[0], 1: texts[1]}
    assert heads.by_string(less, less, 4).words == ["zyx"]


def test_a_hook_that_does_not_write_to_the_stream_is_refused():
    for hook in ("blocks.1.hook_mlp_out", "blocks.0.hook_resid_post", "blocks.0.attn.hook_out"):
        heads.check_hook("mine", hook)
    for hook in ("blocks.1.mlp.hook_post", "blocks.0.attn.hook_z", "blocks.0.ln2.hook_normalized"):
        with pytest.raises(ProfileError, match=r"dictionaries\.mine: it reads"):
            heads.check_hook("mine", hook)
