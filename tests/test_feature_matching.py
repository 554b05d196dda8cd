import numpy as np
import pytest
from scipy import sparse
from scipy.stats import binom, t

from sae_utils import correlate, inference, matching, nulls
from sae_utils.studies import feature_matching
from sae_utils.studies.feature_matching import readings


def codes(generator, tokens, width, density=0.1):
    return np.where(generator.random((tokens, width)) < density, generator.random((tokens, width)) + 0.5, 0)


def csr(dense):
    return sparse.csr_array(dense.astype(np.float32))


@pytest.fixture(scope="module")
def world():
    """A world of 40 documents of unequal length; b is a permuted copy of a with noise of growing strength."""
    generator = np.random.default_rng(0)
    document = np.repeat(np.arange(40), generator.integers(30, 70, 40))
    a = codes(generator, len(document), 12)
    order = generator.permutation(12)
    strength = np.linspace(0, 3, 12)
    b = a[:, order] + codes(generator, len(document), 12) * strength[order]
    return csr(a), csr(b), document, order


def test_a_curve_is_the_jackknife_by_hand(world):
    a, b, document, _ = world
    rows = np.flatnonzero(document >= 15)
    chosen = matching.many_to_one(correlate.features(a, b, k=12, rows=document < 15))
    thresholds = [0.0, 0.5, 0.9]
    found = feature_matching.curve(a, b, chosen, document, rows, thresholds)
    x, y = a.toarray()[rows][:, chosen.a], b.toarray()[rows][:, chosen.b]
    group = inference.grouped(document[rows])

    def shares(kept):
        r = np.diag(np.corrcoef(x[kept].T, y[kept].T)[:12, 12:])
        return np.array([np.mean(r >= r0) for r0 in thresholds])

    share = shares(group >= 0)
    deleted = np.array([shares(group != g) for g in range(20)])
    reach = t.ppf(0.975, 19) * np.sqrt(19 / 20 * ((deleted - deleted.mean(0)) ** 2).sum(0))
    np.testing.assert_allclose(found.share, share)
    np.testing.assert_allclose(found.low, np.clip(share - reach - 1 / 12, 0, 1))
    np.testing.assert_allclose(found.high, np.clip(share + reach + 1 / 12, 0, 1))
    assert 0 < found.share[2] < found.share[0] == 1
    assert (found.judged, found.unjudged, found.documents, found.groups) == (12, 0, 25, 20)
    masked = feature_matching.curve(a, b, chosen, document, document >= 15, thresholds)
    np.testing.assert_array_equal(masked.low, found.low)


def test_a_feature_dead_among_the_judges_is_counted_and_not_judged(world):
    a, b, document, _ = world
    dense = a.toarray()
    dense[document >= 20, 4] = 0
    chosen = matching.many_to_one(correlate.features(csr(dense), b, k=12, rows=document < 20))
    assert len(chosen.a) == 12
    found = feature_matching.curve(csr(dense), b, chosen, document, document >= 20, [-1.0])
    assert found.share == found.high == 1 and found.low == 1 - 1 / 11 and (found.judged, found.unjudged) == (11, 1)


def same(width):
    """Feature i with feature i."""
    return pairs(np.arange(width), np.arange(width))


def test_a_dictionary_has_a_counterpart_in_itself_though_each_feature_is_in_one_document():
    generator = np.random.default_rng(0)
    document, home = np.repeat(np.arange(200), 30), generator.integers(200, size=100)
    a = csr((document[:, None] == home) * generator.random((6000, 100)))
    found = feature_matching.curve(a, a, same(100), document, document >= 0, [0.5, 0.99])
    assert found.share.tolist() == found.high.tolist() == [1, 1] and found.low.tolist() == [0.99, 0.99]


def words(generator):
    """Detectors of single words of a Zipf text; each side misses some of the tokens of its word."""
    share = 1 / np.arange(1, 201)
    document, word = np.repeat(np.arange(100), 40), generator.choice(200, 4000, p=share / share.sum())
    detects = np.random.default_rng(9).uniform(0.3, 1, (2, 200))
    fires = (word[:, None] == np.arange(200)) & (generator.random((2, 4000, 1)) < detects[:, None])
    return csr(fires[0]), csr(fires[1]), document


def bursts(generator):
    """Features that fire three times in each of few of 40 documents; b repeats a burst, or has one elsewhere."""
    chance, repeats = np.exp(np.linspace(np.log(0.02), np.log(0.2), 100)), np.random.default_rng(8).random(100)
    a, b = np.zeros((2, 40, 50, 100), np.float32)
    for d, f in np.argwhere(generator.random((40, 100)) < chance):
        at = generator.permutation(50)[:6]
        a[d, at[:3], f] = generator.random(3) + 0.5
        b[d, at[:3] if generator.random() < repeats[f] else at[3:], f] = generator.random(3) + 0.5
    return csr(a.reshape(2000, 100)), csr(b.reshape(2000, 100)), np.repeat(np.arange(40), 50)


def copies(generator):
    """Copies with noise of growing strength in 15 documents of unequal length."""
    document = np.repeat(np.arange(15), generator.integers(20, 80, 15))
    a = codes(generator, len(document), 60)
    return csr(a), csr(a + codes(generator, len(document), 60) * np.linspace(0, 2, 60)), document


@pytest.mark.parametrize("draw", [words, bursts, copies])
def test_intervals_of_a_share_hold_its_expected_value(draw):
    """Of 300 repeats 99% to 100% do, here of 60; the share itself always lies within."""
    found = []
    for seed in range(60):
        a, b, document = draw(np.random.default_rng([1, seed]))
        found.append(feature_matching.curve(a, b, same(a.shape[1]), document, document >= 0, [0.3, 0.5, 0.7])[1:4])
    share, low, high = np.array(found).transpose(1, 0, 2)
    truth = share.mean(axis=0)
    assert ((low <= share) & (share <= high)).all()
    assert (np.mean((low <= truth) & (truth <= high), axis=0) >= 0.9).all()


def test_a_curve_refuses_too_little(world):
    a, b, document, _ = world
    chosen = matching.many_to_one(correlate.features(a, b, k=12))
    with pytest.raises(ValueError, match="2 documents judge 12 pairs"):
        feature_matching.curve(a, b, chosen, document, document < 2, [0.5])
    silent = csr(np.where(document[:, None] < 5, 0, a.toarray()))
    with pytest.raises(ValueError, match="rows asks for token"):
        feature_matching.curve(a, b, chosen, document, [len(document)], [0.5])
    with pytest.raises(ValueError, match="of which 0 fire there"):
        feature_matching.curve(silent, b, chosen, document, document < 5, [0.5])


def test_documents_move_undivided():
    document = np.array([3, 3, 4, 7, 7, 7, 9])
    for row in feature_matching.documents_permuted(document).draw(np.random.default_rng(0), 50, 7):
        assert sorted(row) == list(range(7))
        moved = document[row]
        edges = np.flatnonzero(np.diff(moved))
        assert len(edges) == 3, "a document was torn apart"
        assert all((np.diff(row)[np.diff(moved) == 0]) == 1), "tokens within a document changed places"
    drawn = feature_matching.documents_permuted(document).draw(np.random.default_rng(0), 400, 7)
    first = np.bincount(document[drawn[:, 0]])[[3, 4, 7, 9]]
    assert (first > 60).all(), "some document never comes first"


@pytest.mark.parametrize("document", [[0, 0, 0], [1, 0, 2]])
def test_documents_that_cannot_be_permuted(document):
    with pytest.raises(ValueError, match="at least 2, in nondecreasing order"):
        feature_matching.documents_permuted(document)


def test_documents_of_other_tokens_are_refused():
    with pytest.raises(ValueError, match="built from 3 tokens, but there are 4"):
        feature_matching.documents_permuted([0, 0, 1]).draw(np.random.default_rng(0), 1, 4)


def test_maxima_and_ordinary_correlations_are_those_of_the_permuted_matrix(world):
    a, b, document, _ = world
    rows = np.flatnonzero(document < 20)
    both = feature_matching.both_nulls(document[rows])
    chosen = matching.mutual(correlate.features(a, b, k=5))
    ordinary = feature_matching.unrelated(a, b, chosen, rows, document, m=3, seed=5)
    generator = np.random.default_rng(5)
    for null, drawn in zip(both, ordinary, strict=True):
        state = generator.bit_generator.state
        for s in range(3):
            moved = rows[null.draw(generator, 1, len(rows))[0]]
            r = np.corrcoef(a.toarray()[rows].T, b.toarray()[moved].T)[:12, 12:]
            np.testing.assert_allclose(drawn[s], r[chosen.a, chosen.b], atol=1e-5)
        again = np.random.default_rng()
        again.bit_generator.state = state
        found = feature_matching.maxima(a, b, rows, null, m=3, seed=again)
        np.testing.assert_allclose(found.a[2], r.max(1), atol=1e-5)
        np.testing.assert_allclose(found.b[2], r.max(0), atol=1e-5)
    with pytest.raises(ValueError, match="repeats tokens"):
        feature_matching.maxima(a, b, rows, nulls.reassigned(document[rows]), m=3, seed=5)


def test_a_conjunction_is_the_largest_p_by_hand():
    drawn = [[[0.1, 0.5, 0.2], [0.4, 0.1, np.nan], [0.3, 0.2, 0.1]], [[0.0, 0.0, 0.0]] * 3]
    assert feature_matching.conjunction([0.3, 0.6, 0.9], drawn).tolist() == [3 / 4, 1 / 4, 2 / 4]
    assert feature_matching.conjunction([np.nan], np.zeros((2, 4, 1))) == 1


def test_shares_that_are_reached_leave_out_what_cannot_be_judged():
    drawn = np.array([[[0.1, 0.5, np.nan], [0.6, 0.4, np.nan]], [[0.2, 0.9, 0.3], [0.0, 0.0, 0.9]]])
    found = feature_matching.reached(drawn, [0.4, 0.55])
    np.testing.assert_array_equal(found, [[[0.5, 0], [1, 0.5]], [[0.5, 0.5], [0, 0]]])


def topics(generator):
    """Features of a and of b prefer the same documents, and nothing else ties them."""
    document = np.repeat(np.arange(60), 20)
    chance = 1 / (1 + np.exp(2.5 - 1.2 * generator.normal(size=(60, 40))[document]))
    return *(csr(generator.random((1200, 40)) < chance) for _ in "ab"), document


def runs(generator):
    """Features of a and of b fire on six tokens in a row, whatever the document."""
    starts = generator.random((2, 60, 20, 40)) < 0.03
    fires = np.stack([np.roll(starts, late, axis=2) * (np.arange(20)[:, None] >= late) for late in range(6)]).any(0)
    return *(csr(side.reshape(1200, 40)) for side in fires), np.repeat(np.arange(60), 20)


@pytest.mark.parametrize(("draw", "misled"), [(topics, 0), (runs, 1)])
def test_only_both_nulls_together_reject_at_the_nominal_rate(draw, misled):
    """800 unrelated pairs at .05: a null that breaks what they share by their topic, or by running on, rejects more."""
    single, joint = [[], []], []
    for seed in range(20):
        a, b, document = draw(np.random.default_rng([7, seed]))
        r = correlate.pairs(a, b, np.arange(40), np.arange(40))
        drawn = feature_matching.unrelated(a, b, same(40), np.arange(1200), document, m=19, seed=seed)
        joint.append(feature_matching.conjunction(r, drawn))
        for one, draws in zip(single, drawn, strict=True):
            one.append(feature_matching.conjunction(r, draws[None]))
    share = [np.mean(np.array(p) <= 0.05) for p in (*single, joint)]
    high = binom.ppf(0.995, 800, 0.05) / 800  # of a 99% interval
    assert share[misled] > 0.2 and share[1 - misled] <= high and share[2] <= high


def test_true_pairs_exceed_chance_and_rare_features_have_the_larger_maxima():
    generator = np.random.default_rng(1)
    document = np.repeat(np.arange(100), 40)
    dense = np.concatenate([codes(generator, 4000, 20, 0.2), codes(generator, 4000, 20, 0.002)], axis=1)
    a, b = csr(dense), csr(dense[:, ::-1])
    rows = np.arange(4000)
    for null in feature_matching.both_nulls(document):
        drawn = feature_matching.maxima(a, b, rows, null, m=9, seed=0).a
        assert (drawn < 0.9).all()
        assert drawn[:, 20:].mean() > 1.5 * drawn[:, :20].mean()
        chosen = matching.many_to_one(correlate.features(a, b, k=5))
        assert (chosen.r > drawn.max(0)).all()
        ordinary = feature_matching.unrelated(a, b, chosen, rows, document, m=9, seed=0)
        assert ordinary.shape == (2, 9, 40)
        assert abs(ordinary.mean()) < 0.04 < drawn.mean()  # one token in 40 stays in its place
        assert (feature_matching.conjunction(chosen.r, ordinary) == 0.1).all()


def test_halves_share_out_whole_documents(world):
    _, _, document, _ = world
    rows = np.flatnonzero(document >= 7)
    first, second = feature_matching.document_halves(document, rows, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), rows)
    homes = [set(document[half]) for half in (first, second)]
    assert not homes[0] & homes[1]
    assert [len(home) for home in homes] == [16, 17]


def pairs(a, b):
    nobody = np.zeros(9, np.int8)
    return matching.Pairs(np.array(a, np.int32), np.array(b, np.int32), np.zeros(len(a), np.float32), nobody, nobody)


def test_agreement_counts_the_features_in_both_and_knows_its_chance():
    first = pairs([0, 1, 2, 3, 5], [4, 4, 4, 7, 8])
    second = pairs([1, 2, 3, 4, 5], [4, 4, 6, 7, 8])
    found = feature_matching.agreement(first, second, "a", m=4000, seed=0)
    assert (found.n, found.observed) == (4, 0.75)
    # partners 4 4 7 8 against 4 4 6 8: chance is (2 x 2 + 1) / 4^2
    assert found.null_mean == pytest.approx(5 / 16, abs=0.01)
    # as many agree if both 4 stand first (2 of 12 arrangements) and 8 last (1 of 2)
    assert found.p == pytest.approx(1 / 12, abs=0.02)
    with pytest.raises(ValueError, match="features of b have several partners"):
        feature_matching.agreement(first, second, "b", m=10, seed=0)
    with pytest.raises(ValueError, match="nothing can agree"):
        feature_matching.agreement(pairs([0], [1]), pairs([2], [1]), "a", m=10, seed=0)


def test_agreement_of_the_other_side():
    found = feature_matching.agreement(pairs([4, 4, 6], [0, 1, 2]), pairs([4, 5, 6], [0, 1, 2]), "b", m=10, seed=0)
    assert (found.n, found.observed) == (3, pytest.approx(2 / 3))


# --- readings


def test_bins_hold_their_upper_end_and_leave_out_what_cannot_be_judged():
    found = feature_matching.bins({"mutual": [-0.3, 0.0, 0.05, 0.1, 0.95, 1.0000001, np.nan], "other": [0.3]})
    assert found.columns.tolist() == ["held-out r", "mutual", "other"] and len(found) == 11
    by_bin = found.set_index("held-out r")
    expected = {"0 or below": 2 / 6, "0.0 to 0.1": 2 / 6, "0.9 to 1.0": 2 / 6}
    assert by_bin["mutual"].to_dict() == pytest.approx({name: expected.get(name, 0) for name in by_bin.index})
    assert by_bin["other"]["0.2 to 0.3"] == 1


def test_neighbours_are_named_by_their_own_side_and_shared_ones_marked():
    near = (np.array([[1, 2], [0, 2], [0, 1]]), np.array([[2, 3], [0, 3], [3, 0]]))
    found = readings.neighbours(near, [0, 2], (["a0", "a1", "a2", "a3"], ["b0", "b1", "b2", "b3"]))
    assert found["side"].tolist() == ["A", "B"] * 2 and found["feature"].tolist() == ["a0", "b0", "a2", "b2"]
    assert found["shared"].tolist() == [1, 1, 1, 1]
    assert found["nearest features"].tolist() == ["a1 a2*", "b2* b3", "a0* a1", "b3 b0*"]


def test_sizes_count_the_choosers_of_live_features(world):
    a, b, *_ = world
    found = correlate.features(a, b, k=3)
    assert readings.sizes(np.array([0, 0, 5]), found, "b").tolist() == [2, 0, 0, 0, 0, 1, *[0] * 6]


# --- the share as a reading


def test_a_share_from_all_correlations_is_that_of_the_pairs(world):
    a, b, document, _ = world
    choose = correlate.features(a, b, k=12, rows=document < 15)
    judge = correlate.blocks(a, b, rows=document >= 15)()
    found = feature_matching.share(judge, feature_matching.best(choose.block()), [0.0, 0.5, 0.9])
    pairs = matching.many_to_one(choose)
    by_curve = feature_matching.curve(a, b, pairs, document, document >= 15, [0.0, 0.5, 0.9])
    np.testing.assert_allclose(found, by_curve.share)


def test_features_without_partner_or_judge_are_in_no_share():
    choose = np.array([[0.1, 0.9], [np.nan, np.nan], [0.8, np.nan], [0.2, 0.3]])
    judge = np.array([[0.0, 0.6], [0.9, 0.9], [0.4, 0.0], [0.9, np.nan]])
    assert feature_matching.best(choose).tolist() == [1, -1, 0, 1]
    assert feature_matching.share(judge, feature_matching.best(choose), [0.5, 0.3]).tolist() == [0.5, 1]


def correlations(a, b):
    return np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]


def reading(noise, seed, threshold=0.5):
    a, b = feature_matching.planted_share(0.37, noise, features=100, tokens=20_000, seed=seed)
    partner = feature_matching.best(correlations(a[:10_000], b[:10_000]))
    return feature_matching.share(correlations(a[10_000:], b[10_000:]), partner, [threshold])[0]


def test_the_share_reads_the_noise_where_the_truth_stays():
    """37 of 100 features are shared at each noise level; the correlation of a shared one is 1 - its share of noise."""
    low, middle, high = (np.mean([reading(noise, seed) for seed in range(3)]) for noise in (0.1, 0.45, 0.75))
    assert low == pytest.approx(0.37, abs=0.01) and high < 0.01
    assert middle == pytest.approx(0.37 * 0.2 / 0.3, abs=0.06)  # of noise within .15 of .45, two thirds are below .5


def test_the_shared_features_are_the_first_and_the_others_unrelated():
    a, b = feature_matching.planted_share(0.37, 0.15, features=100, tokens=20_000, seed=0)
    r = np.diag(correlations(a, b))
    assert r[:37].min() > 0.6 and abs(r[37:]).max() < 0.05
    assert (a > 0).mean() == pytest.approx(0.02, abs=0.001) and (b > 0).mean() == pytest.approx(0.02, abs=0.001)
