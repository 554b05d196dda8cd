import numpy as np
import pytest
from scipy import sparse

from sae_utils import params
from sae_utils.pairing import labels
from sae_utils.studies import contexts

WORDS = ["the", "cat", "sat", "down", "there"]


@pytest.fixture
def found():
    tokens, document = np.array([0, 1, 2, 3, 0, 1, 4, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    codes = np.zeros((8, 3), np.float32)
    codes[[1, 5, 2, 7], 0] = [3, 5, 4, 1]  # cat, sat, cat, cat
    codes[4, 1] = 1
    return labels.label(sparse.csr_array(codes), tokens, document, k=4, window=3)


def test_distinct_top_tokens_strongest_first(found):
    assert contexts.distinct(found, [0, 1, 2], WORDS) == ["cat sat", "the", ""]
    assert contexts.distinct(found, [0], WORDS, most=1) == ["cat"]
    assert contexts.top(found, WORDS)[0].tolist() == ["cat", "sat", "cat", "cat"]


def test_a_quote_stays_within_its_document(found):
    assert contexts.quote(found, [0, 1, 2], WORDS, reach=2) == ["the [cat] there cat", "[the] cat there", ""]
    assert contexts.quote(found, [1], WORDS, reach=1) == ["[the] cat"]
    with pytest.raises(ValueError, match="contexts hold 3 tokens either side"):
        contexts.quote(found, [1], WORDS, reach=4)


class Tokenizer:
    """As a byte-level one decodes: with a space before a word, a newline, nothing but space, half a character."""

    texts = (" cat", "\n", " ", "\ufffd")

    def __len__(self):
        return len(self.texts)

    def convert_ids_to_tokens(self, ids):
        return [f"name{i}" for i in ids]

    def decode(self, ids):
        return self.texts[ids[0]]


def test_the_vocabulary_is_text_that_can_be_compared(monkeypatch):
    import transformers

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda path, **_: Tokenizer())
    asked = []
    monkeypatch.setattr(
        contexts.pipeline, "tokenizer", lambda profile, model: asked.append(model) or type("Made", (), {"path": ""})
    )
    profile = params.load("smoke")
    assert contexts.vocabulary(profile, "two_layer_0_early") == ["cat", r"\n", "name2", "\ufffd"]
    assert asked == ["two_layer_0"], "a checkpoint reads what its dictionary reads"
