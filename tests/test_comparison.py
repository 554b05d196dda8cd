import numpy as np
import pytest

from sae_utils import matching, significance
from sae_utils.engine.pairing import comparison


def pairs(a, b, r=None, widths=(60, 60)):
    r = np.linspace(0.2, 0.9, len(a)) if r is None else r
    whys = (np.zeros(width, np.int8) for width in widths)
    return matching.Pairs(np.array(a, np.int32), np.array(b, np.int32), np.array(r, np.float32), *whys)


def rows(generator, n=60, d=8):
    return generator.normal(size=(n, d)).astype(np.float32)


def shared(seed, n=60, d=8, noise=1.0):
    """Paired rows that share an arrangement, the less the larger the noise."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, d))
    return x, x @ np.linalg.qr(generator.normal(size=(d, d)))[0] + noise * generator.normal(size=(n, d))


def test_one_to_one_pairs_are_shuffled_and_many_to_one_reassigned():
    generator = np.random.default_rng(0)
    x, y = rows(generator), rows(generator)
    one = comparison.geometry(pairs(range(30), range(30)), x, y, "rsa_pearson", m=20, seed=0)
    many = comparison.geometry(pairs(range(30), np.arange(30) // 2), x, y, "rsa_pearson", m=20, seed=0)
    back = comparison.geometry(pairs(np.arange(30) // 2, range(30)), y, x, "rsa_pearson", m=20, seed=0)
    assert one.null == "shuffled pairing" and one.closed_form
    assert many.null == back.null == "reassigned among groups"
    assert back.observed == pytest.approx(many.observed)
    np.testing.assert_array_equal(back.draws, many.draws)


def test_the_null_of_many_to_one_holds_its_level_where_a_shuffle_does_not():
    """Features of A that chose the same partner are alike, and B's directions are unrelated to A's."""
    fits, naive = [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        group = np.repeat(np.arange(12), 4)
        x = rows(generator, 12)[group] + 0.3 * rows(generator, 48)
        y, many = rows(generator, 12), pairs(range(48), group, widths=(48, 12))
        fits.append(comparison.geometry(many, x, y, "rsa_pearson", m=39, seed=seed).p)
        naive.append(significance.test(x, y[group], ["rsa_pearson"], m=39, seed=seed)["rsa_pearson"].p)
    assert np.mean(np.array(fits) <= 0.05) <= 0.2
    assert np.mean(np.array(naive) <= 0.05) >= 0.9


def test_what_cannot_be_scored():
    x = rows(np.random.default_rng(0))
    both = pairs([*range(20), 0], [*range(19), 0, 5])
    with pytest.raises(ValueError, match="features of both sides repeat"):
        comparison.geometry(both, x, x, "rsa_pearson", m=9, seed=0)
    few = pairs(range(30), np.arange(30) % 9)
    assert not comparison.enough(few)
    found = comparison.geometry(few, x, x, "rsa_pearson", m=9, seed=0)
    assert found.undefined and found.note.startswith(
        "undefined: 30 pairs hold fewer than 10 features of a side: too few"
    )
    assert np.isnan(comparison.excess(few, x, x, "rsa_pearson", m=9, seed=0))
    assert comparison.excess(pairs(range(30), range(30)), x, x, "rsa_pearson", m=9, seed=0) == pytest.approx(1)


def test_at_one_n_scores_subsets_of_that_size():
    generator = np.random.default_rng(0)
    x, y = rows(generator), rows(generator)
    every = pairs(range(60), range(60))
    whole = comparison.pairs_at_n(every, x, y, "rsa_pearson", 60, subsets=3, m=9, seed=0)
    assert whole.n == 60 and whole.excess_sd == 0
    assert whole.excess == pytest.approx(comparison.excess(every, x, y, "rsa_pearson", m=9, seed=0))
    assert comparison.pairs_at_n(every, x, x, "rsa_pearson", 20, subsets=3, m=9, seed=0).excess == pytest.approx(1)
    part = comparison.pairs_at_n(every, x, y, "rsa_pearson", 20, subsets=8, m=9, seed=0)
    assert part.excess_sd > 0
    few = comparison.pairs_at_n(every, x, y, "rsa_pearson", 9, subsets=3, m=9, seed=0)
    assert few == comparison.UNSCORED and few.n == 0 and np.isnan(few[1:]).all()


def test_all_pairs_are_scored_once():
    x, y = shared(0)
    found = comparison.rows_at_n((x, y), "rsa_pearson", 60, subsets=5, m=49, seed=3)
    expected = significance.test(x, y, ["rsa_pearson"], m=49, seed=(3, 0))["rsa_pearson"]
    for field in ("n", "observed", "null_mean", "null_sd", "excess", "z", "p"):
        assert getattr(found, field) == pytest.approx(getattr(expected, field))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected.draws, [0.025, 0.975])))
    assert found.excess_sd == 0


def test_subsets_have_the_size_asked_for_and_are_averaged():
    x, y = shared(0)
    found = comparison.rows_at_n((x, y), "mutual_knn", 25, subsets=8, m=19, seed=0)
    assert found.n == 25 and found.excess_sd > 0
    whole = comparison.rows_at_n((x, y), "mutual_knn", 60, subsets=8, m=19, seed=0)
    assert found.null_mean == pytest.approx(10 / 24) and whole.null_mean == pytest.approx(10 / 59)
    assert found.low < found.null_mean < found.high
    copied = comparison.rows_at_n((x, x), "rsa_pearson", 25, subsets=4, m=19, seed=0)
    assert copied.excess == pytest.approx(1) and copied.p == pytest.approx(2 / 20)
    with pytest.raises(ValueError, match="60 pairs cannot be cut to n = 61"):
        comparison.rows_at_n((x, y), "rsa_pearson", 61, subsets=2, m=9, seed=0)


def test_twice_the_mean_p_holds_its_level():
    p = []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        unrelated = generator.normal(size=(40, 6)), generator.normal(size=(40, 6))
        p.append(comparison.rows_at_n(unrelated, "rsa_pearson", 20, subsets=4, m=19, seed=seed).p)
    assert np.mean(np.array(p) <= 0.1) <= 0.15 and max(p) <= 1


def test_a_closed_form_alone_has_no_span_and_no_p():
    x, y = shared(0)
    exact = {"rsa_pearson": 0}

    def score(places, number):
        return significance.test(x[places], y[places], ["rsa_pearson"], m_of=exact) if number else {}

    found = comparison.at_n(60, 30, score, subsets=3, seed=0)["rsa_pearson"]  # the first subset is left out
    generator = np.random.default_rng(0)
    parts = [np.sort(generator.choice(60, 30, replace=False)) for _ in range(3)][1:]
    excess = [significance.test(x[at], y[at], ["rsa_pearson"], m_of=exact)["rsa_pearson"].excess for at in parts]
    assert found.excess == pytest.approx(np.mean(excess)) and found.excess_sd == pytest.approx(np.std(excess))
    assert np.isnan([found.low, found.high, found.p]).all() and np.isfinite(found.z)
