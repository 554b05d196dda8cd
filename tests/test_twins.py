"""Two given models: a planted pair and its twin, leaving out documents for real, and the coverage of the interval."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils import inference
from sae_utils.studies.twins import arms

FEATURES, WIDTH, TOKENS, GROUPS = 40, 16, 1200, 5
SPLITS = ("matching", "held_out")


def side(codes, decoder, groups):
    parts = {
        split: arms.Part(sparse.csr_array(of), np.full(len(of), -1), groups)
        for split, of in zip(SPLITS, codes, strict=True)
    }
    return arms.Side(decoder, parts)


@pytest.fixture(scope="module")
def planted():
    """A; a copy of A, its features and axes in another order, that fires with noise; a twin that only fires alike."""
    rng = np.random.default_rng(0)
    codes = [np.maximum(rng.standard_normal((TOKENS, FEATURES)) - 0.5, 0) for _ in SPLITS]
    decoder = rng.standard_normal((FEATURES, WIDTH))
    axes, order = rng.permutation(WIDTH), rng.permutation(FEATURES)
    noisy = [np.maximum(x[:, order] + 0.3 * rng.standard_normal(x.shape), 0) for x in codes]
    groups = np.sort(rng.integers(GROUPS, size=TOKENS))
    return (
        side(codes, decoder, groups),
        side(noisy, decoder[order][:, axes], groups),
        side(noisy, rng.standard_normal((FEATURES, WIDTH)), groups),
    )


def compared(a, b, twin, **options):
    return arms.compare(a, {arms.TRUE: b, "twin": twin}, ["rsa_spearman"], 20, *SPLITS, **options)


def test_a_copy_is_told_from_a_twin_that_only_fires_alike(planted):
    a, b, twin = planted
    found = compared(a, b, twin)
    assert found.n == FEATURES and found.retention == 1
    assert found.excess[arms.TRUE]["rsa_spearman"] == pytest.approx(np.ones(1 + GROUPS))
    assert abs(found.excess["twin"]["rsa_spearman"][0]) < 0.2
    assert found.r[arms.TRUE] == found.r["twin"] > 0.8


def test_on_other_documents_partners_correlate_by_chance_only(planted):
    a, b, _ = planted
    found = arms.compare(a, {arms.TRUE: arms.permuted(b)}, ["rsa_spearman"], 20, *SPLITS, leave_out=False)
    assert abs(found.r[arms.TRUE]) < 0.05


def test_leaving_a_group_out_is_as_if_its_documents_had_not_been_read(planted):
    rng = np.random.default_rng(1)
    a, b, twin = planted
    loud = []  # with so much noise that partners change with the documents
    for x in (b, twin):
        codes = [part.codes.toarray() + 60 * rng.random(part.codes.shape) for part in x.parts.values()]
        loud.append(side(codes, x.decoder, a.parts["matching"].groups))
    found = compared(a, *loud)
    for group in range(GROUPS):
        kept = a.parts["matching"].groups != group
        without = [
            x._replace(parts={s: arms.Part(p.codes[kept], p.classes[kept], p.groups[kept]) for s, p in x.parts.items()})
            for x in (a, *loud)
        ]
        alone = compared(*without, leave_out=False)
        for arm in (arms.TRUE, "twin"):
            expected = alone.excess[arm]["rsa_spearman"][0]
            assert found.excess[arm]["rsa_spearman"][1 + group] == pytest.approx(expected, abs=1e-9)
    assert len(set(found.excess[arms.TRUE]["rsa_spearman"].round(6))) > 2


def test_sides_with_other_tokens_are_refused(planted):
    a, b, twin = planted
    other = b._replace(parts={s: p._replace(groups=p.groups[::-1]) for s, p in b.parts.items()})
    with pytest.raises(ValueError, match="different tokens"):
        compared(a, other, twin)


def test_every_seed_is_compared_in_the_roles_whose_twins_are_given():
    twins = {"weights": {"a": ["ta"], "b": ["tb0", "tb1"]}, "blocks": {"b": ["sb0", "sb1"]}}
    found = arms.cells(["a0", "a1"], ["b"], twins)
    assert {(x.role, x.seed, x.choose) for x in found} == {("a", seed, split) for seed in (0, 1) for split in SPLITS}
    assert found[-1].others == ((arms.TRUE, "b"), ("weights", "tb1"), ("blocks", "sb1"))
    both = arms.cells(["a0"], ["b0"], {"weights": {"a": ["ta"], "b": ["tb"]}})
    assert {(x.role, x.a, x.others[1][1]) for x in both} == {("a", "a0", "tb"), ("b", "b0", "ta")}
    for a, b in ((["a0", "a1", "a2"], ["b0", "b1"]), ([], ["b0"])):
        with pytest.raises(ValueError, match="as many of each"):
            arms.cells(a, b, twins)
    with pytest.raises(ValueError, match="no role takes part"):
        arms.cells(["a0"], ["b0"], {"weights": {"a": ["ta"]}, "blocks": {"b": ["tb"]}})


def test_without_variance_over_documents_the_interval_is_that_over_seeds():
    values = [0.1, 0.3, 0.2]
    found, of_seeds = (
        inference.over_seeds_and_documents(values, [np.full(10, 0.2)] * 2),
        inference.over_replicates(values),
    )
    assert (found.low, found.high, found.units) == pytest.approx((of_seeds.low, of_seeds.high, 3))


def test_with_one_seed_and_one_part_the_interval_is_the_jackknife():
    values = np.random.default_rng(0).standard_normal(12)
    jackknife = inference.jackknife(lambda at: float(values[at].mean()), np.arange(12))
    deleted = [(values.sum() - value) / 11 for value in values]
    found = inference.over_seeds_and_documents([values.mean()], [deleted])
    assert found[1:4] == pytest.approx((jackknife.se, jackknife.low, jackknife.high))


@pytest.mark.parametrize("of_seeds, of_documents", [(1.0, 0.2), (0.3, 1.0), (1.0, 1.0)])
def test_the_interval_over_seeds_and_documents_holds_the_truth_in_95_of_100(of_seeds, of_documents):
    rng, held, repeats = np.random.default_rng(2), 0, 2000
    for _ in range(repeats):
        parts = of_documents * rng.standard_normal((2, 10))  # group means of each half
        values = of_seeds * rng.standard_normal(3) + parts.mean()
        means = parts.mean(axis=1)
        deleted = [
            values.mean() + ((part.sum() - part) / 9 - mean) / 2 for part, mean in zip(parts, means, strict=True)
        ]
        found = inference.over_seeds_and_documents(values, deleted)
        held += found.low <= 0 <= found.high
    assert 0.93 <= held / repeats <= 0.985


@pytest.mark.parametrize("values, deleted", [([], [[1, 2, 3]]), ([1.0], []), ([1.0], [[1, 2]])])
def test_too_little_for_an_interval_is_refused(values, deleted):
    with pytest.raises(ValueError, match="give 1 and 3 or more"):
        inference.over_seeds_and_documents(values, deleted)
