import numpy as np
import pytest
from scipy.stats import rankdata, t

from sae_utils import measures
from sae_utils.studies.controls import accounts


def distances(rows):
    return measures.dissimilarities(rows, "euclidean")


def random_matrices(seed, count, n=12):
    generator = np.random.default_rng(seed)
    return [distances(generator.normal(size=(n, 3))) for _ in range(count)]


@pytest.mark.parametrize("facts", [1, 2, 3])
def test_an_account_is_the_regression_of_ranks(facts):
    x, y, *given = random_matrices(facts, 2 + facts)
    x, y = x + given[0], y + 0.5 * given[0]
    found = accounts.account(x, y, given)
    assert found.raw == pytest.approx(measures.mantel(x, y, comparison="spearman"))
    assert found.partial == pytest.approx(measures.partial_rsa(x, y, given, comparison="spearman"))
    above = np.triu_indices(len(x), 1)
    ranks = [rankdata(matrix[above]) for matrix in (x, y, *given)]
    design = np.column_stack([np.ones(len(above[0])), *ranks[2:]])
    fits = [design @ np.linalg.lstsq(design, side, rcond=None)[0] for side in ranks[:2]]
    sds = ranks[0].std() * ranks[1].std()
    assert found.explained == pytest.approx(np.cov(*fits, ddof=0)[0, 1] / sds)
    left = [side - fit for side, fit in zip(ranks, fits, strict=False)]
    assert found.raw - found.explained == pytest.approx(np.cov(*left, ddof=0)[0, 1] / sds)


def test_facts_that_repeat_or_say_nothing_change_nothing():
    x, y, fact = random_matrices(0, 3)
    once = accounts.account(x, y, [fact])
    flat = np.ones_like(fact) - np.eye(len(fact))
    assert accounts.account(x, y, [fact, 2 * fact, flat]) == pytest.approx(once)
    alone = accounts.account(x, y, [])
    assert alone.explained == 0 and alone.partial == pytest.approx(alone.raw) == once.raw
    assert np.isnan(accounts.account(x, flat, [fact])).all()
    assert np.isnan(accounts.account(x, y, [x]).partial)  # the fact is a side: nothing is left


def arms(seed, shared, n=120):
    """Partial and raw difference of a world between its own pairs and pairs of a permuted world, over one draw.

    Every feature of A has an embedding that its partner has too, and a structure of its own. Where `shared`, B's own
    structure is A's, rotated. In the control arm A's partner is a feature of unrelated embedding and structure.
    """
    generator = np.random.default_rng(seed)
    embeddings, own, other = (generator.normal(size=(2 * n, 6)) for _ in range(3))
    turn = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    structure = own @ turn if shared else other
    squared = [np.square(distances(rows)) / np.square(distances(rows)).mean() for rows in (embeddings, own, structure)]
    of_a, of_b = squared[0] + squared[1], squared[0] + squared[2]
    found = []
    for partner in (np.arange(n), np.arange(n, 2 * n)):
        given = [squared[0][:n, :n], squared[0][np.ix_(partner, partner)]]
        found.append(accounts.account(of_a[:n, :n], of_b[np.ix_(partner, partner)], given))
    return found[0].partial - found[1].partial, found[0].raw - found[1].raw


def test_similarity_that_goes_through_embeddings_alone_is_explained():
    partial, raw = np.mean([arms(seed, shared=False) for seed in range(8)], axis=0)
    assert raw > 0.3 and abs(partial) < 0.05


def test_shared_structure_beyond_the_embeddings_stays():
    partial, raw = np.mean([arms(seed, shared=True) for seed in range(8)], axis=0)
    assert raw > 0.8 and partial > 0.6


def test_a_missing_correlation_is_no_counterpart():
    assert accounts.share(np.array([0.5, 0.49, np.nan, 0.9]), 0.5) == 0.5
    assert accounts.share(np.array([np.nan]), 0.0) == 0


def test_nearest_in_firings_compares_ratios():
    assert accounts.nearest_in_firings(np.array([10, 100]), np.array([1, 40, 95, 95])).tolist() == [1, 2]
    assert accounts.nearest_in_firings(np.array([19]), np.array([10, 40])).tolist() == [0]  # 1.9 and 2.1 times


def test_shuffles_stay_within_their_stratum():
    firings = np.random.default_rng(0).permutation(60)
    places = accounts.shuffled_in_strata(firings, 3, seed=0)
    assert sorted(places) == list(range(60)) and (firings[places] // 20 == firings // 20).all()
    assert (places != np.arange(60)).all()
    counts = np.zeros((6, 6))
    for seed in range(3000):
        counts[np.arange(6), accounts.shuffled_in_strata(np.arange(6), 2, seed)] += 1
    expected = (1 - np.eye(3)) / 2
    assert np.allclose(counts[:3, :3] / 3000, expected, atol=0.04) and counts[:3, 3:].sum() == 0


def test_where_a_value_lies():
    assert [accounts.lies(x, 0, 1) for x in (-0.1, 0, 0.5, 1.1)] == ["below", "inside", "inside", "above"]
    assert accounts.lies(np.nan, 0, 1) == accounts.lies(0.5, np.nan, np.nan) == "where it cannot be told"


def test_attenuation_is_taken_away():
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(2, 200_000))
    truth[1] = 0.6 * truth[0] + 0.8 * truth[1]
    read = truth[:, None] + generator.normal(size=(2, 2, 200_000))  # each truth read twice, with noise
    ceilings = [np.corrcoef(twice)[0, 1] for twice in read]
    assert accounts.attenuated(np.corrcoef(read[0, 0], read[1, 0])[0, 1], *ceilings) == pytest.approx(0.6, abs=0.01)
    assert np.isnan(accounts.attenuated(0.3, 0.5, -0.1))


def test_a_prediction_interval_holds_the_next_value():
    generator = np.random.default_rng(0)
    draws = generator.normal(size=(4000, 6))
    inside = [low <= row[5] <= high for row in draws for low, high in [accounts.predicted(row[:5])]]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.01)
    low, high = accounts.predicted([1.0, 2.0, 3.0])
    assert (low + high) / 2 == pytest.approx(2) and (high - low) / 2 == pytest.approx(t.ppf(0.975, 2) * np.sqrt(4 / 3))
    assert np.isnan(accounts.predicted([1.0, 2.0])).all()
