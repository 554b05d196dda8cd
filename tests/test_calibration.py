"""Rates are exact, and every artefact of calibration gives what a loop written here gives."""

import numpy as np
import pytest
from scipy.stats import beta

from sae_utils import measures, nulls, significance
from sae_utils.studies.known_truth import calibration, synthetic

NOISY = synthetic.Copies(kind="copies", shared=0.6)
FAMILIES = synthetic.Grouped(kind="grouped", groups=8, centres=0.0, alike_a=0.95, alike_b=0.95)


def size(n, d_a, d_b):
    return calibration.Size(n=n, d_a=d_a, d_b=d_b)


@pytest.mark.parametrize(("count", "repeats"), [(0, 20), (3, 20), (20, 20), (52, 1000)])
def test_rate_is_the_interval_of_clopper_and_pearson(count, repeats):
    found = calibration.rate(count, repeats, level=0.9)
    low = beta.ppf(0.05, count, repeats - count + 1) if count else 0.0
    high = beta.ppf(0.95, count + 1, repeats - count) if count < repeats else 1.0
    assert found == pytest.approx((count / repeats, low, high))


def test_estimates_are_means_over_data_sets():
    names = ["rsa_pearson", "mutual_knn"]
    cell = calibration.estimates(NOISY, size(40, 6, 8), names, 19, 3, 5).meta
    results = []
    for repeat in range(3):
        a, b, _ = NOISY.draw(np.random.default_rng([5, 40, repeat]), 40, 6, 8)
        results.append(significance.test(a, b, names, m=19, seed=[5, 40, repeat, 1]))
    for name in names:
        assert cell[name]["raw"] == pytest.approx(np.mean([x[name].observed for x in results]))
        null = np.mean([x[name].draws.mean() for x in results])
        assert cell[name]["null"] == pytest.approx(null)
        assert cell[name]["null"] < cell[name]["excess"] + 0.3 and 0 < cell[name]["excess"] < cell[name]["raw"] + 0.1
        assert cell[name]["sd"] > 0


@pytest.mark.parametrize("null", list(calibration.NULLS))
def test_rejections_are_counted(null):
    count = calibration.rejections(FAMILIES, null, size(24, 4, 5), ["rsa_pearson"], 19, 12, 0).meta["rsa_pearson"]
    expected = 0
    for repeat in range(12):
        a, b, groups = FAMILIES.draw(np.random.default_rng([0, repeat]), 24, 4, 5)
        assert (groups == np.repeat(np.arange(8), 3)).all()
        rule = {
            "shuffled": nulls.shuffled(),
            "blocks": nulls.blocks(groups),
            "strata": nulls.strata(groups),
            "reassigned": nulls.reassigned(groups),
        }[null]
        expected += (
            significance.test(a, b, ["rsa_pearson"], null=rule, m=19, seed=[0, repeat, 1])["rsa_pearson"].p <= 0.05
        )
    assert count == expected
    if null == "shuffled":
        assert count > 4


def test_a_test_finds_what_is_there_and_not_what_is_not():
    names = ["cka", "svcca"]
    found, none = (
        calibration.rejections(world, "shuffled", size(40, 4, 5), names, 19, 40, 0).meta
        for world in (NOISY, synthetic.UNRELATED)
    )
    assert min(found.values()) == 40 and max(none.values()) < 8


def test_a_bootstrap_of_pairs_manufactures_similarity():
    found = calibration.coverage(synthetic.UNRELATED, size(30, 5, 6), ["rsa_pearson", "mutual_knn"], 39, 12, 0).meta
    for name, x in found.items():
        assert x["resampled"] > x["truth"] + 0.05, name
        assert x["bootstrap"] < x["jackknife"] <= 12, name
    assert found["rsa_pearson"]["bootstrap"] < 6 and found["rsa_pearson"]["jackknife"] > 9


def test_partial_rsa_given_the_groups_takes_a_confounder_away():
    confounder = synthetic.Grouped(kind="grouped", groups=3, centres=0.0, alike_a=0.8, alike_b=0.8)
    found = calibration.confounded(confounder, size(45, 5, 6), 40, 0).meta
    assert found["rsa"] > 0.4 and abs(found["partial"]) < 0.15
    a, b, _ = confounder.draw(np.random.default_rng([0, 0]), 45, 5, 6)
    one = calibration.confounded(confounder, size(45, 5, 6), 1, 0).meta
    assert one["rsa"] == pytest.approx(measures.rsa(a, b, comparison="spearman"))
    assert one["rsa_sd"] == 0


def test_a_difference_is_between_the_pairs_and_a_shuffled_pairing_of_the_same_rows():
    found = np.array(calibration.differences(NOISY, size(40, 6, 8), "rsa_pearson", 3, 2, 5).meta["values"])
    assert found.shape == (2, 3) and (found > 0).all()
    a, b, _ = NOISY.draw(np.random.default_rng([5, 4]), 40, 6, 8)
    x = significance.test(a, b, ["rsa_pearson"], m=2, seed=[5, 4, 1])["rsa_pearson"]
    assert found[1, 1] == pytest.approx(x.excess - (x.draws[0] - x.null_mean) / (1 - x.null_mean))
