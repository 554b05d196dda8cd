"""Two dictionaries as wholes: a permuted, rotated copy is found by every score, and unrelated features by none."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils import correlate, profiles
from sae_utils.engine.kernels import sides
from sae_utils.pipeline import Correlated, Features
from sae_utils.studies import one_to_one

TOKENS, WIDTH, D = 4000, 40, 12
DISTANCES = {"permutation Procrustes", "soft matching"}


class Sites:
    """The splits and documents of made-up tokens."""

    split = np.repeat([1, 2], TOKENS // 2)
    documents = np.arange(TOKENS) // 20

    def array(self, name):
        return getattr(self, name)


def features(codes, decoder):
    return Features(sparse.csr_array(codes.astype(np.float32)), decoder.astype(np.float32), Sites(), kept=None)


def correlated(a, b):
    split = Sites.split
    judged = tuple(sides.prepare(x.codes, np.flatnonzero(split == 2), "of the test") for x in (a, b))
    return Correlated(
        a, b, correlate.features(a.codes, b.codes, k=WIDTH, rows=split == 1), split == 1, split == 2, judged
    )


@pytest.fixture(scope="module")
def scores():
    """Scores by name of A with a copy of it and with unrelated features."""
    generator = np.random.default_rng(0)

    def fire():
        return np.where(generator.random((TOKENS, WIDTH)) < 0.05, generator.random((TOKENS, WIDTH)) + 0.5, 0)

    codes, decoder = fire(), generator.normal(size=(WIDTH, D))
    order, turn = generator.permutation(WIDTH), np.linalg.qr(generator.normal(size=(D, D)))[0]
    a = features(codes, decoder)
    others = {
        "copy": features(codes[:, order], decoder[order] @ turn),
        "same space": features(codes[:, order], decoder[order]),
        "unrelated": features(fire(), generator.normal(size=(WIDTH, D))),
    }
    return {
        name: {x.name: x for x in one_to_one.compare(correlated(a, b), one_space=name != "copy", m=19, seed=0)}
        for name, b in others.items()
    }


def test_a_permuted_rotated_copy_is_as_alike_as_can_be(scores):
    found = scores["copy"]
    assert set(found) == DISTANCES | {"MMCS, fitted", "PW-MCC, fitted", "IMD", "clusters of best partners",
                                      "leftovers again, held-out r"}  # fmt: skip
    for name in (*DISTANCES, "IMD"):
        assert found[name].observed == pytest.approx(0, abs=2e-3) and not found[name].larger
    for name in ("MMCS, fitted", "PW-MCC, fitted"):
        assert found[name].observed == pytest.approx(1) and found[name].drawn.max() < 0.9
    assert found["clusters of best partners"].observed == WIDTH > found["clusters of best partners"].drawn.max()
    assert found["leftovers again, held-out r"].n == 0 and np.isnan(found["leftovers again, held-out r"].observed)


def test_directions_of_one_space_are_compared_as_they_are(scores):
    for name in ("MMCS", "PW-MCC"):
        assert scores["same space"][name].observed == pytest.approx(1) and scores["same space"][name].drawn.max() < 0.9


def test_a_table_has_a_p_for_every_score_that_is_tested(scores):
    copy, unrelated = (one_to_one.table(scores[name].values()).set_index("score") for name in ("copy", "unrelated"))
    tested = copy.p.dropna()
    assert (tested == 1 / 20).all() and set(copy.index[copy.p.isna()]) == {
        "IMD (distance)",
        "leftovers again, held-out r",
    }
    assert (copy.observed.drop(tested.index).isna() | (copy.observed.drop(tested.index) < 1e-3)).all()
    assert (unrelated.p.dropna() > 0.05).mean() >= 0.5 and len(unrelated.p.dropna()) == 8
    for name in DISTANCES:
        assert copy.null[f"{name} (distance)"] > copy.observed[f"{name} (distance)"] >= 0


def test_too_few_pairs_for_a_map_are_not_scored():
    generator = np.random.default_rng(1)
    codes = np.where(generator.random((TOKENS, WIDTH)) < 0.05, 1.0, 0)
    wide = features(codes, generator.normal(size=(WIDTH, 2 * WIDTH)))
    both = correlated(wide, wide)
    pairs = one_to_one.matching.optimal(both.found)
    assert [np.isnan(x.observed) for x in one_to_one.cosines(both, pairs, one_space=False, m=3, seed=0)] == [True, True]
    assert one_to_one.table(one_to_one.cosines(both, pairs, one_space=False, m=3, seed=0)).p.isna().all()


def test_sides_too_large_have_no_distances(monkeypatch):
    monkeypatch.setattr(one_to_one, "LARGEST", WIDTH - 1)
    codes = np.where(np.random.default_rng(2).random((TOKENS, WIDTH)) < 0.05, 1.0, 0)
    side = features(codes, np.eye(WIDTH))
    assert one_to_one.distances_of_codes(correlated(side, side), m=2, seed=0) == []


def test_another_seed_differs_in_nothing_else():
    demo = profiles.load("demo")
    assert one_to_one.another_seed(demo, "two_layer_0") == "two_layer_0_seed1"
    assert one_to_one.another_seed(demo, "two_layer_0_early") == one_to_one.another_seed(demo, "bpe") == ""
