import numpy as np
import pytest

from sae_utils.chance import comparison, significance
from sae_utils.pairing import filters, matching


def pairs(a, b, r=None, widths=(60, 60)):
    r = np.linspace(0.2, 0.9, len(a)) if r is None else r
    whys = (np.zeros(width, np.int8) for width in widths)
    return matching.Pairs(np.array(a, np.int32), np.array(b, np.int32), np.array(r, np.float32), *whys)


def rows(generator, n=60, d=8):
    return generator.normal(size=(n, d)).astype(np.float32)


def facts(width=60):
    return filters.Facts(np.ones(width, int), np.ones(width, int), np.full((width, 1), ""), np.full((width, 1), ""))


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
    whole = comparison.at_one_n(every, x, y, "rsa_pearson", 60, subsets=3, m=9, seed=0)
    assert whole.n == 60 and whole.sd == pytest.approx(0)
    assert whole.mean == pytest.approx(comparison.excess(every, x, y, "rsa_pearson", m=9, seed=0))
    assert comparison.at_one_n(every, x, x, "rsa_pearson", 20, subsets=3, m=9, seed=0).mean == pytest.approx(1)
    part = comparison.at_one_n(every, x, y, "rsa_pearson", 20, subsets=8, m=9, seed=0)
    assert part.sd > 0
    assert np.isnan(comparison.at_one_n(every, x, y, "rsa_pearson", 9, subsets=3, m=9, seed=0).mean)


def test_the_heaviest_pair_of_a_soft_matching():
    soft = matching.Soft(
        pairs([0, 0, 1, 1, 2], [0, 1, 1, 2, 2], r=[0.5, 0.9, 0.8, 0.3, 0.2]), np.array([0.3, 0.1, 0.2, 0.2, 0.4]), 0.0
    )
    found = comparison.heaviest(soft, facts())
    assert list(zip(found.a, found.b, strict=True)) == [(0, 0), (1, 1), (2, 2)]  # 2-2, 0-0, then r decides for 1
    assert found.r == pytest.approx([0.5, 0.8, 0.2]), "the correlation, not the weight"


def test_common_pairs():
    first, second = pairs([0, 1, 2], [5, 6, 7]), pairs([2, 1, 0, 9], [7, 5, 5, 9])
    assert comparison.common(first, second).tolist() == [0, 2]
    assert comparison.common(second, first).tolist() == [0, 2]
    assert comparison.common(first, pairs([], [])).tolist() == []


def test_averages_of_what_is_defined():
    values = np.array([1.0, np.nan, 4.0])
    assert comparison.average(values) == 2.5
    assert comparison.average(values, np.array([2.0, 5.0, 1.0])) == 2
    assert np.isnan(comparison.average(np.full(2, np.nan)))
    assert np.isnan(comparison.average(np.zeros(0)))


def test_how_many_in_words():
    names = ["x", "y", "z"]
    assert [comparison.among(names, held) for held in (names, [], ["y"])] == ["all 3", "none of 3", "1 of 3"]
    assert [comparison.among(few, ["x"]) for few in (["x"], ["y"], [])] == ["1 of 1", "none of 1", "none of 0"]
