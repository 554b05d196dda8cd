import numpy as np
import pytest
from scipy import sparse

from sae_utils.chance import nulls
from sae_utils.pairing import correlation, matching
from sae_utils.studies import counterparts


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


def test_a_curve_is_the_bootstrap_by_hand(world):
    a, b, document, _ = world
    rows = np.flatnonzero(document >= 20)
    pairs = matching.many_to_one(correlation.correlate(a, b, k=12, rows=document < 20))
    thresholds = [0.0, 0.5, 0.9]
    found = counterparts.curve(a, b, pairs, document, rows, thresholds, m=60, seed=3, level=0.9)
    r = correlation.paired(a, b, pairs.a, pairs.b, rows=rows).r
    assert found.share.tolist() == [np.mean(r >= r0) for r0 in thresholds]
    assert 0 < found.share[2] < found.share[0] == 1
    times = np.random.default_rng(3).multinomial(20, np.full(20, 1 / 20), 60)
    shares, x, y = [], a.toarray()[:, pairs.a], b.toarray()[:, pairs.b]
    for drawn in times:
        tokens = np.repeat(np.arange(len(document)), np.append(np.zeros(20, int), drawn)[document])
        again = np.diag(np.corrcoef(x[tokens].T, y[tokens].T)[:12, 12:])
        shares.append([np.mean(again >= r0) for r0 in thresholds])
    np.testing.assert_allclose([found.low, found.high], np.quantile(shares, [0.05, 0.95], axis=0))
    assert (found.features, found.documents) == (12, 20)
    masked = counterparts.curve(a, b, pairs, document, document >= 20, thresholds, m=60, seed=3, level=0.9)
    np.testing.assert_array_equal(masked.low, found.low)


def test_a_feature_dead_among_the_judges_has_no_counterpart(world):
    a, b, document, _ = world
    dense = a.toarray()
    dense[document >= 20, 4] = 0
    pairs = matching.many_to_one(correlation.correlate(csr(dense), b, k=12, rows=document < 20))
    assert len(pairs.a) == 12
    found = counterparts.curve(csr(dense), b, pairs, document, document >= 20, [-1.0], m=10, seed=0)
    assert found.share == pytest.approx(11 / 12) == found.low == found.high


def test_a_curve_refuses_too_little(world):
    a, b, document, _ = world
    pairs = matching.many_to_one(correlation.correlate(a, b, k=12))
    with pytest.raises(ValueError, match="5 documents"):
        counterparts.curve(a, b, pairs, document, document < 5, [0.5], m=10, seed=0)


def test_documents_move_as_wholes():
    document = np.array([3, 3, 4, 7, 7, 7, 9])
    for row in counterparts.documents_permuted(document).draw(np.random.default_rng(0), 50, 7):
        assert sorted(row) == list(range(7))
        moved = document[row]
        edges = np.flatnonzero(np.diff(moved))
        assert len(edges) == 3, "a document was torn apart"
        assert all((np.diff(row)[np.diff(moved) == 0]) == 1), "tokens within a document changed places"
    drawn = counterparts.documents_permuted(document).draw(np.random.default_rng(0), 400, 7)
    first = np.bincount(document[drawn[:, 0]])[[3, 4, 7, 9]]
    assert (first > 60).all(), "some document never comes first"


@pytest.mark.parametrize("document", [[0, 0, 0], [1, 0, 2]])
def test_documents_that_cannot_be_permuted(document):
    with pytest.raises(ValueError, match="at least 2, in nondecreasing order"):
        counterparts.documents_permuted(document)


def test_documents_of_other_tokens_are_refused():
    with pytest.raises(ValueError, match="built from 3 tokens, but there are 4"):
        counterparts.documents_permuted([0, 0, 1]).draw(np.random.default_rng(0), 1, 4)


def test_maxima_and_ordinary_correlations_are_those_of_the_permuted_matrix(world):
    a, b, document, _ = world
    rows = np.flatnonzero(document < 20)
    null = nulls.within_documents(document[rows])
    found = counterparts.maxima(a, b, rows, null, m=3, seed=5)
    pairs = matching.mutual(correlation.correlate(a, b, k=5))
    ordinary = counterparts.unrelated(a, b, pairs, rows, null, m=3, seed=5)
    generator = np.random.default_rng(5)
    for s in range(3):
        moved = rows[null.draw(generator, 1, len(rows))[0]]
        r = np.corrcoef(a.toarray()[rows].T, b.toarray()[moved].T)[:12, 12:]
        np.testing.assert_allclose(found.a[s], r.max(1), atol=1e-5)
        np.testing.assert_allclose(found.b[s], r.max(0), atol=1e-5)
        np.testing.assert_allclose(ordinary[s], r[pairs.a, pairs.b], atol=1e-5)
    with pytest.raises(ValueError, match="repeats tokens"):
        counterparts.maxima(a, b, rows, nulls.reassigned(document[rows]), m=3, seed=5)


def test_true_pairs_exceed_chance_and_rare_features_have_the_larger_maxima():
    generator = np.random.default_rng(1)
    document = np.repeat(np.arange(100), 40)
    dense = np.concatenate([codes(generator, 4000, 20, 0.2), codes(generator, 4000, 20, 0.002)], axis=1)
    a, b = csr(dense), csr(dense[:, ::-1])
    rows = np.arange(4000)
    for null in (counterparts.documents_permuted(document), nulls.within_documents(document)):
        drawn = counterparts.maxima(a, b, rows, null, m=9, seed=0).a
        assert (drawn < 0.9).all()
        assert drawn[:, 20:].mean() > 1.5 * drawn[:, :20].mean()
        pairs = matching.many_to_one(correlation.correlate(a, b, k=5))
        assert (pairs.r > drawn.max(0)).all()
        ordinary = counterparts.unrelated(a, b, pairs, rows, null, m=9, seed=0)
        assert ordinary.shape == (9, 40)
        assert abs(ordinary.mean()) < 0.04 < drawn.mean()  # one token in 40 stays in its place


def test_halves_share_out_whole_documents(world):
    _, _, document, _ = world
    rows = np.flatnonzero(document >= 7)
    first, second = counterparts.document_halves(document, rows, seed=0)
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
    found = counterparts.agreement(first, second, "a", m=4000, seed=0)
    assert (found.n, found.observed) == (4, 0.75)
    # partners 4 4 7 8 against 4 4 6 8: chance is (2 x 2 + 1) / 4^2
    assert found.null_mean == pytest.approx(5 / 16, abs=0.01)
    # as many agree if both 4 stand first (2 of 12 arrangements) and 8 last (1 of 2)
    assert found.p == pytest.approx(1 / 12, abs=0.02)
    with pytest.raises(ValueError, match="features of b have several partners"):
        counterparts.agreement(first, second, "b", m=10, seed=0)
    with pytest.raises(ValueError, match="nothing can agree"):
        counterparts.agreement(pairs([0], [1]), pairs([2], [1]), "a", m=10, seed=0)


def test_agreement_of_the_other_side():
    found = counterparts.agreement(pairs([4, 4, 6], [0, 1, 2]), pairs([4, 5, 6], [0, 1, 2]), "b", m=10, seed=0)
    assert (found.n, found.observed) == (3, pytest.approx(2 / 3))
