"""A crosscoder is compared with SAEs by counts that are planted; affine maps are least squares."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils import replicates
from sae_utils.store import Artefact
from sae_utils.studies.joint import carried, crosscoders, norms, texts


def r(matrix):
    return {split: np.array(matrix, float) for split in crosscoders.SPLITS}


def test_matched_pairs_are_mutual_and_hold_on_other_documents():
    of = {"matching": np.array([[0.9, 0.1], [0.8, 0.7], [0.2, 0.9]]), "held_out": np.full((3, 2), 0.6)}
    np.testing.assert_array_equal(crosscoders.pairs(of, 0.5), [[0, 0], [2, 1]])
    of["held_out"][2, 1] = np.nan
    np.testing.assert_array_equal(crosscoders.pairs(of, 0.5), [[0, 0]])
    np.testing.assert_array_equal(crosscoders.counterparts(of, 0.5), [0, 0, -1])


def planted(kinds):
    """Codes of a crosscoder whose latent i is feature i of A, and of B, as its kind says; both SAEs have all."""
    generator = np.random.default_rng(0)
    codes = {
        split: sparse.csr_array(sparse.random(3000, 6, 0.1, random_state=generator)) for split in crosscoders.SPLITS
    }
    side = replicates.Side(np.eye(6), {split: [x] for split, x in codes.items()}, {})

    class Made:
        def rows(self, place):
            import torch

            size = {norms.ONLY_A: (1, 0), norms.SHARED: (1, 1), norms.ONLY_B: (0, 1)}
            return torch.eye(6) * torch.tensor([[size[kind][place]] for kind in kinds])

    bounds = norms.Bounds(exclusive=0.1, shared=0.3)
    return crosscoders.compared(Made(), np.ones(6, bool), codes, (side, side), bounds, 0.5, {"a": 0.1, "b": 0.2})


def test_all_shared_stand_for_all_pairs_and_back():
    found = planted([norms.SHARED] * 6)
    assert found.found == (6, 1.0, 0.0) and found.back == (6, 1.0, 0.0)
    assert found.own.n == 0 and np.isnan(found.own.share)


def test_exclusive_latents_that_the_other_has_are_told():
    found = planted([norms.SHARED] * 4 + [norms.ONLY_A, norms.ONLY_B])
    assert found.shares == pytest.approx({norms.SHARED: 2 / 3, norms.ONLY_A: 1 / 6, norms.ONLY_B: 1 / 6, "between": 0})
    assert found.other == (2, 1.0, 1.0) and found.found.share == pytest.approx(2 / 3)


def test_an_affine_map_is_least_squares_also_of_sparse_codes():
    generator = np.random.default_rng(1)
    x = sparse.random(500, 8, 0.3, "csr", random_state=generator)
    y = x.toarray() @ generator.normal(size=(8, 3)) + 2
    for given in (x, x.toarray()):
        matrix, offset = carried.affine(given, y)
        assert carried.unexplained(y, given @ matrix + offset) < 1e-6
    with pytest.raises(ValueError, match="5 tokens for a map from 8 dimensions: give at least 9"):
        carried.affine(x[:5], y[:5])


def stored(path, tokens, value):
    for split in crosscoders.SPLITS:
        (path / split).mkdir(parents=True)
        np.save(path / split / "values.npy", np.full((tokens, 2), value, np.float16))
        np.save(path / split / "classes.npy", np.zeros(tokens, np.int64))
    return Artefact(str(path), path, {})


def test_texts_of_different_lengths_are_refused(tmp_path):
    one, two, short = (stored(tmp_path / name, n, 1) for name, n in (("a", 6), ("b", 6), ("c", 5)))
    assert texts.Texts((one,), (two,)).activations("matching")[0].shape == (6, 2)
    with pytest.raises(ValueError, match=r"\[6\] and \[5\] tokens of A and B"):
        texts.Texts((one,), (short,)).activations("matching")


def test_apart_b_is_at_tokens_of_no_other_arm(tmp_path):
    """Two readings of four tokens: swapped as wholes they would be the arm of exchanged words."""
    one, *two = (stored(tmp_path / name, 4, 1) for name in "abc")
    for start, of in enumerate(two):
        np.save(of.path / "matching" / "values.npy", np.arange(4, dtype=np.float16)[:, None] + 4 * start)
    _, b = texts.Texts((one, one), tuple(two), apart=True).activations("matching")
    codes = [sparse.csr_array(np.arange(4.0)[:, None] + start) for start in (0, 4)]
    rolled = np.vstack([x.toarray() for x in texts._in_arm(codes, texts.APART)])
    np.testing.assert_array_equal(rolled, b)
    for arm in (texts.TRUE, texts.EXCHANGED):
        assert (np.vstack([x.toarray() for x in texts._in_arm(codes, arm)]) != b).all()
    assert sorted(b[:, 0]) == list(range(8))
