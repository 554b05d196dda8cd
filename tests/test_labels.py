"""Top tokens of features against sorting the whole column."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils import labels
from sae_utils.engine.kernels import sides


def store(seed, tokens=500, features=20):
    rng = np.random.default_rng(seed)
    codes = (rng.integers(1, 30, (tokens, features)) / 8 * (rng.random((tokens, features)) < 0.1)).astype(np.float32)
    codes[:, 3] = 0
    codes[:, 4] = 0
    codes[[7, 300], 4] = 2
    return codes, rng.integers(0, 90, tokens), np.sort(rng.integers(0, 12, tokens))


@pytest.mark.parametrize("block", [4096, 33, 1])
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_by_sorting(monkeypatch, block, kind):
    monkeypatch.setattr(sides, "BLOCK", block)
    codes, token, document = store(0)
    found = labels.label(sparse.csr_array(codes) if kind == "sparse" else codes, token, document, k=5, window=2)
    for j in range(codes.shape[1]):
        order = np.argsort(-codes[:, j], kind="stable")[:5]
        order = order[codes[order, j] > 0]
        n = len(order)
        np.testing.assert_array_equal(found.position[j], np.append(order, np.full(5 - n, -1)))
        np.testing.assert_array_equal(found.token[j, :n], token[order])
        np.testing.assert_array_equal(found.activation[j], np.append(codes[order, j], np.zeros(5 - n)))
        assert (found.token[j, n:] == -1).all() and (found.context[j, n:] == -1).all()
        for place, context in zip(order, found.context[j], strict=False):
            for offset in range(-2, 3):
                t = place + offset
                inside = 0 <= t < 500 and document[t] == document[place]
                assert context[offset + 2] == (token[t] if inside else -1)
    np.testing.assert_array_equal(found.firings, (codes > 0).sum(0))


def test_negative_activations_of_neurons_do_not_fire():
    codes = np.array([[-3.0, 1.0], [-1.0, 2.0]], np.float16)
    found = labels.label(codes, [5, 6], [0, 0], k=2, window=0)
    assert found.firings.tolist() == [0, 2] and found.token.tolist() == [[-1, -1], [6, 5]]


def test_spelling():
    assert labels.spell(np.array([[1, -1], [0, 2]]), ["a", "b", "c"]).tolist() == [["b", ""], ["a", "c"]]


def test_bad_input_is_named():
    codes, token, document = store(1)
    with pytest.raises(ValueError, match="codes have 500 rows"):
        labels.label(sparse.csr_array(codes), token[:-1], document)
    with pytest.raises(ValueError, match="k = 0"):
        labels.label(sparse.csr_array(codes), token, document, k=0)
    codes[3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite activations, first in row 3, column 3"):
        labels.label(sparse.csr_array(codes), token, document)
