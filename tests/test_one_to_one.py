"""Matchings in two arms: a permuted, rotated copy is found in the true arm, and an exchange of texts undoes it."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils import correlate, filters, matching, profiles, significance
from sae_utils.engine.kernels import sides
from sae_utils.pipeline import Correlated, Features
from sae_utils.studies.one_to_one import matchings, wholes

TOKENS, WIDTH, D = 4000, 40, 12
DISTANCES = {"permutation Procrustes (distance)", "soft matching (distance)"}
SETTINGS = matchings.Settings("rsa_spearman", 16, 0.5, 9, 3, 0)


class Sites:
    """The splits of made-up tokens."""

    split = np.repeat([1, 2], TOKENS // 2)


def features(codes, decoder):
    return Features(sparse.csr_array(codes.astype(np.float32)), decoder.astype(np.float32), Sites(), kept=None)


def correlated(a, b):
    split = Sites.split
    judged = tuple(sides.prepare(x.codes, np.flatnonzero(split == 2), "of the test") for x in (a, b))
    return Correlated(
        a, b, correlate.features(a.codes, b.codes, k=WIDTH, rows=split == 1), split == 1, split == 2, judged
    )


def fire(generator):
    return np.where(generator.random((TOKENS, WIDTH)) < 0.05, generator.random((TOKENS, WIDTH)) + 0.5, 0)


@pytest.fixture(scope="module")
def world():
    """A with a permuted, rotated copy, with a permuted one, and with unrelated features."""
    generator = np.random.default_rng(0)
    codes, decoder = fire(generator), generator.normal(size=(WIDTH, D))
    order, turn = generator.permutation(WIDTH), np.linalg.qr(generator.normal(size=(D, D)))[0]
    others = {
        "copy": features(codes[:, order], decoder[order] @ turn),
        "same space": features(codes[:, order], decoder[order]),
        "unrelated": features(fire(generator), generator.normal(size=(WIDTH, D))),
    }
    return {name: correlated(features(codes, decoder), b) for name, b in others.items()}


def test_a_permuted_rotated_copy_is_as_alike_as_can_be(world):
    found = wholes.scores(world["copy"], seed=0)
    assert set(found) == DISTANCES | {"MMCS, fitted", "PW-MCC, fitted", "IMD (distance)", "clusters of best partners",
                                      "leftovers again, held-out r"}  # fmt: skip
    for name in (*DISTANCES, "IMD (distance)"):
        assert found[name] == pytest.approx(0, abs=2e-3)
    for name in ("MMCS, fitted", "PW-MCC, fitted"):
        assert found[name] == pytest.approx(1)
    assert found["clusters of best partners"] == WIDTH and np.isnan(found["leftovers again, held-out r"])


def test_unrelated_dictionaries_are_less_alike_by_every_score(world):
    copy, unrelated = (wholes.scores(world[name], seed=0) for name in ("copy", "unrelated"))
    assert all(unrelated[name] > copy[name] + 0.1 for name in DISTANCES)
    assert unrelated["IMD (distance)"] > 10 * max(copy["IMD (distance)"], 1e-6)
    assert all(unrelated[f"{name}, fitted"] < 0.9 for name in ("MMCS", "PW-MCC"))
    assert unrelated["clusters of best partners"] < WIDTH and unrelated["leftovers again, held-out r"] < 0.2


def test_directions_of_one_space_are_compared_as_they_are(world):
    found = wholes.scores(world["same space"], one_space=True, seed=0)
    assert (found["MMCS"], found["PW-MCC"]) == pytest.approx((1, 1))


def test_too_few_pairs_for_a_map_are_not_scored():
    generator = np.random.default_rng(1)
    codes = np.where(generator.random((TOKENS, WIDTH)) < 0.05, 1.0, 0)
    wide = features(codes, generator.normal(size=(WIDTH, 2 * WIDTH)))
    both = correlated(wide, wide)
    found = wholes.cosines(both, matching.optimal(both.found), one_space=False, seed=0)
    assert list(found) == ["MMCS, fitted", "PW-MCC, fitted"] and np.isnan(list(found.values())).all()


def test_sides_too_large_have_no_distances(monkeypatch, world):
    monkeypatch.setattr(wholes, "LARGEST", WIDTH - 1)
    assert np.isnan(list(wholes.distances_of_codes(world["copy"]).values())).all()


def test_every_matching_of_a_copy_is_the_copy(world):
    both = world["same space"]  # a turn changes correlations between rows
    made = {name: method(both.found) for name, method in matchings.METHODS.items()}
    table = matchings.by_matching(made, both, SETTINGS, 20).set_index("matching")
    assert list(table.index) == list(matchings.METHODS) and (table.pairs == WIDTH).all()
    for column in ("of A", "of B", "r held out", "counterparts", "in optimal", "excess", "at one n"):
        assert table[column].to_numpy(float) == pytest.approx(np.ones(6), abs=1e-5), column
    none = matchings.by_matching({"optimal": made["optimal"]}, world["unrelated"], SETTINGS, WIDTH + 1)
    assert none["at one n"].isna().all() and none.counterparts[0] == 0


def test_cuts_are_those_of_the_filters(world):
    both = world["unrelated"]
    made = {"optimal": matching.optimal(both.found), "mutual": matching.mutual(both.found)}
    cut = matchings.cut_by_r(made, both, SETTINGS, [0.0, 0.02, 0.9]).set_index(["matching", "least r"])
    for (name, r), row in cut.iterrows():
        pairs = filters.weak(made[name], r)
        assert row.n == len(pairs)
        expected = significance.test_pairs(pairs, both.a.decoder, both.b.decoder, "rsa_spearman", m=2, seed=0).excess
        assert row.excess == pytest.approx(expected, nan_ok=True)
    assert np.isnan(cut.excess["optimal", 0.9]) and np.isnan(cut["as many"]["optimal", 0.9])
    assert cut["as many"]["optimal", 0.0] == pytest.approx(cut.excess["optimal", 0.0])  # as many are all


def test_the_strongest_of_the_best_are_the_best_of_the_strongest(world):
    both = world["unrelated"]
    forward = matching.many_to_one(both.found, "a_to_b")
    found = matchings.orders(forward, both, SETTINGS, [0.5, 1.0]).set_index(["rule", "share"])
    assert (found["in both"]["best"] == 1).all()
    whole = found.loc["best", 1.0]
    assert whole.n == whole["reversed n"] and whole.difference == pytest.approx(0)
    hubs = matchings.cut_hubs(forward, both, SETTINGS, [1]).set_index(["keep", "most"])
    assert hubs.largest.max() == np.bincount(forward.b).max()
    assert hubs["of A"]["best", 1] == hubs["of A"]["first", 1] > hubs["of A"]["none", 1]
    assert hubs["of A"]["best", 0] == 1


# --- arms and seeds


class Run:
    """A profile of two dictionaries with one replicate."""

    class common:
        replicates = (3,)


def test_the_control_arm_reads_exchanged_words(monkeypatch):
    """B is a copy of A on either text; A on the one and B on the other share nothing, with the same codes."""
    generator = np.random.default_rng(2)
    decoder, texts = generator.normal(size=(WIDTH, D)), {None: fire(generator), 3: fire(generator)}
    monkeypatch.setattr(matchings.replicates, "seed", lambda run, name: 3)
    monkeypatch.setattr(matchings.pipeline, "features", lambda run, name, words: features(texts[words], decoder))
    places = {"matching": 1, "held_out": 2}
    monkeypatch.setattr(matchings.correlations, "in_split", lambda sites, name: sites.split == places[name])
    both = matchings.arms(Run(), ("a", "b"), WIDTH)
    assert list(both) == ["true", "control"]
    pairs = {arm: matching.optimal(x.found) for arm, x in both.items()}
    assert (pairs["true"].a == pairs["true"].b).all() and both["true"].held_out(pairs["true"]).min() > 0.999
    assert np.abs(both["control"].held_out(pairs["control"])).mean() < 0.1
    sums = [np.sort(np.asarray(x.b.codes.sum(0)).ravel()) for x in both.values()]
    np.testing.assert_allclose(*sums, rtol=1e-5)
    monkeypatch.setattr(Run.common, "replicates", ())
    assert list(matchings.arms(Run(), ("a", "b"), WIDTH)) == ["true"]


def test_another_seed_differs_in_nothing_else():
    demo = profiles.load("demo")
    first = demo.members("two_layer")[0]
    assert wholes.other_seeds(demo, first) == ["two_layer_seed1", "two_layer_seed2", "two_layer_seed3"]
    assert wholes.other_seeds(demo, demo.members("bpe")[0]) == []


def test_shares_rise_with_stability_where_they_should():
    stable = np.array([0.9, 0.1, np.nan, 0.5, 0.2, 0.8, 0.7])
    across = np.array([0.9, 0.1, 0.99, 0.6, 0.0, 0.4, np.nan])
    # in order of stability: .1, 0, .6, .4, .9
    assert wholes.by_stability(stable, across, 0.5, 2).tolist() == [1 / 3, 1 / 2]
    assert wholes.by_stability(stable, across, 0.5, 5).tolist() == [0, 0, 1, 0, 1]
