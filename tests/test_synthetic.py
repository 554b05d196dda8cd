"""What was planted is there, to the strength that was asked for, and nothing else."""

import numpy as np
import pytest
import scipy.linalg
from scipy.stats import kstest

from sae_utils import measures
from sae_utils.engine.core.spec import ProfileError
from sae_utils.studies.known_truth import synthetic


def draw(n: int = 4000, d_a: int = 6, d_b: int = 9, seed: int = 0, **value: object) -> synthetic.PairedRows:
    return synthetic.worlds({"x": value}, "here")["x"].draw(np.random.default_rng(seed), n, d_a, d_b)


@pytest.mark.parametrize("shared", [0.0, 0.4, 0.8, 1.0])
@pytest.mark.parametrize("widths", [(6, 9), (9, 6)])
def test_every_direction_of_a_copy_has_the_canonical_correlation_asked_for(shared, widths):
    planted = draw(20_000, *widths, kind="copies", shared=shared)
    whitened = [scipy.linalg.orth(rows - rows.mean(0)) for rows in planted[:2]]
    found = np.linalg.svd(whitened[0].T @ whitened[1], compute_uv=False)
    assert found == pytest.approx(np.full(6, shared), abs=0.06)
    assert (planted.groups == np.arange(20_000)).all()


def test_a_rotated_copy_is_one():
    a, b, _ = draw(100, 6, 9, kind="copies", shared=1.0)
    assert np.allclose(a @ a.T, b @ b.T)
    assert measures.procrustes(a, b) == pytest.approx(1, abs=1e-12)
    assert not np.allclose(a, b[:, :6])


def test_one_direction_is_shared_and_no_other():
    a, b, _ = draw(20_000, 10, 12, kind="one_direction", strength=0.3)
    share = [np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2 for rows in (a, b)]
    for spectrum, d in zip(share, (10, 12), strict=True):
        assert spectrum[0] / spectrum.sum() == pytest.approx(0.3 + 0.7 / d, abs=0.02)
    bases = [np.linalg.svd(rows - rows.mean(0), full_matrices=False)[0] for rows in (a, b)]
    correlations = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
    expected = np.sqrt([0.3 * d / (0.3 * d + 0.7) for d in (10, 12)]).prod()  # of a direction seen through noise
    assert correlations[0] == pytest.approx(expected, abs=0.02)
    assert correlations[1] < 0.06


def test_groups_scatter_around_their_centres():
    a, b, groups = draw(6000, 20, 30, kind="grouped", groups=300, centres=1.0, alike_a=0.7, alike_b=1.0)
    assert np.bincount(groups).tolist() == [20] * 300 and (np.diff(groups) >= 0).all()
    within = [np.mean([rows[groups == g].var(axis=0, ddof=1).mean() for g in range(300)]) for rows in (a, b)]
    assert within[0] == pytest.approx(0.3, abs=0.01) and within[1] == pytest.approx(0, abs=1e-12)
    assert a.var() == pytest.approx(1, abs=0.05)
    centres = [np.stack([rows[groups == g].mean(0) for g in range(300)]) for rows in (a, b)]
    assert measures.procrustes(*centres) > 0.95
    unrelated = draw(6000, 20, 30, kind="grouped", groups=300, centres=0.0, alike_a=0.7, alike_b=1.0)
    centres = [np.stack([rows[groups == g].mean(0) for g in range(300)]) for rows in unrelated[:2]]
    assert abs(measures.rsa(*centres)) < 0.05


def test_groups_of_uneven_number_differ_by_one():
    groups = draw(50, 3, 3, kind="grouped", groups=8, centres=0.0, alike_a=0.5, alike_b=0.5).groups
    assert sorted(set(np.bincount(groups))) == [6, 7] and groups.max() == 7


def test_a_rotation_is_orthonormal_and_uniform():
    rng = np.random.default_rng(0)
    turn = synthetic.rotation(rng, 4, 7)
    assert turn.shape == (4, 7) and np.allclose(turn @ turn.T, np.eye(4))
    # an entry of a uniform unit vector in 3 dimensions is uniform on [-1, 1]
    entries = [synthetic.rotation(rng, 2, 3)[1, 2] for _ in range(2000)]
    assert kstest(entries, "uniform", args=(-1, 2)).pvalue > 0.01
    with pytest.raises(ValueError, match="8 orthonormal rows do not fit in 7 dimensions"):
        synthetic.rotation(rng, 8, 7)


def test_same_generator_same_rows():
    for value in (
        {"kind": "copies", "shared": 0.3},
        {"kind": "one_direction", "strength": 0.3},
        {"kind": "grouped", "groups": 5, "centres": 0.5, "alike_a": 0.5, "alike_b": 0.5},
    ):
        one, two, other = (draw(30, seed=seed, **value) for seed in (1, 1, 2))
        assert (one.a == two.a).all() and (one.b == two.b).all() and not np.allclose(one.a, other.a)
        assert one.a.shape == (30, 6) and one.b.shape == (30, 9)


def test_bad_worlds_are_named():
    with pytest.raises(ProfileError, match=r"here\.x\.shared: .* less than or equal to 1, found 1\.5"):
        draw(kind="copies", shared=1.5)
    with pytest.raises(ProfileError, match=r"here\.x\.kind: unknown kind 'copy'; did you mean `copies`"):
        draw(kind="copy", shared=0.5)
    with pytest.raises(ProfileError, match=r"here\.x\.strength: missing"):
        draw(kind="one_direction")
    with pytest.raises(ValueError, match="n = 5 pairs in 8 groups"):
        draw(5, kind="grouped", groups=8, centres=0.0, alike_a=0.5, alike_b=0.5)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_pairs_are_copies_and_the_others_unrelated(share):
    a, b, _ = draw(8000, 6, 9, kind="partly_copied", share=share, shared=0.8)
    copied = round(8000 * share)
    for part, canonical in ((slice(0, copied), 0.8), (slice(copied, None), 0.0)):
        if len(a[part]):
            whitened = [scipy.linalg.orth(rows[part] - rows[part].mean(0)) for rows in (a, b)]
            found = np.linalg.svd(whitened[0].T @ whitened[1], compute_uv=False)
            assert found == pytest.approx(np.full(6, canonical), abs=0.07)
    assert b[: 8000 // 4].var() == pytest.approx(b[8000 // 4 :].var(), abs=0.05)  # rows of both kinds are as long
