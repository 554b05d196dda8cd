"""What was planted is there: directions, rates, correlations, the shared share; nonsense is refused."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from sae_utils.engine.core.spec import ProfileError
from sae_utils.studies.recovery import firing, shapes, worlds

SPHERE = {"kind": "sphere"}


def truth(seed: int = 0, rows: np.ndarray | None = None, **changed: object) -> worlds.Truth:
    value = {"features": 40, "shape": SPHERE, "firing": {"active": 3.0, "decay": 2.0}, "models": {"a": {"d": 16}}}
    return worlds.world(value | changed, "here").draw(seed, rows)


PAIR = {"a": {"d": 24}, "b": {"d": 32}}
CORRELATED = {"active": 8.0, "decay": 1.5, "correlated": 0.8, "rank": 2}


def binomial(rate: np.ndarray, n: int) -> np.ndarray:
    """Five standard errors: none of some hundred counts goes beyond."""
    return 5 * np.sqrt(rate * (1 - rate) / n)


# --- firing


def test_rates_decay_exponentially_to_the_mean_number_asked_for():
    found = firing.rates(50, 4.0, 3.0)
    assert found.sum() == pytest.approx(4) and found[-1] / found[0] == pytest.approx(np.exp(-3))
    assert np.diff(np.log(found)) == pytest.approx(-3 / 49)
    capped = firing.rates(20, 8.0, 8.0)
    assert capped.sum() == pytest.approx(8) and capped.max() == 1 and (np.diff(capped) <= 0).all()
    assert firing.rates(5, 5.0, 2.0) == pytest.approx(1)
    with pytest.raises(ValueError, match="active = 6 of 5 features"):
        firing.rates(5, 6.0, 0.0)


@pytest.mark.parametrize("of", [{"active": 3.0, "decay": 2.0}, CORRELATED], ids=["independent", "correlated"])
def test_features_fire_at_their_rates(of):
    planted, n = truth(firing=of), 40_000
    fired = (planted.sample(n, 0)["a"].codes > 0).toarray()
    rates = planted.models["a"].rates
    assert (np.abs(fired.mean(axis=0) - rates) < binomial(rates, n)).all()
    number = fired.sum(axis=1)
    assert number.mean() == pytest.approx(of["active"], abs=5 * number.std() / n**0.5)


def test_pairs_fire_together_as_the_copula_says():
    planted, n = truth(firing=CORRELATED), 40_000
    fired = (planted.sample(n, 1)["a"].codes > 0).toarray()
    model, correlation = planted.models["a"], planted.root @ planted.root
    assert np.diag(correlation) == pytest.approx(1, abs=1e-5)
    strongest = np.argsort(np.abs(np.triu(correlation, 1)).ravel())[-20:]
    for i, j in zip(*np.unravel_index(strongest, correlation.shape), strict=True):
        bivariate = multivariate_normal([0, 0], [[1, correlation[i, j]], [correlation[i, j], 1]])
        both = bivariate.cdf(norm.ppf(model.rates[[i, j]]))  # symmetric: both above is both below
        assert abs((fired[:, i] & fired[:, j]).mean() - both) < binomial(np.array(both), n)
    assert np.abs(correlation[np.triu_indices(40, 1)]).max() > 0.7


def test_saelens_generator_fires_alike():
    """SAELens' synthetic module, given rates and correlations, has the same rates of features and of pairs."""
    from sae_lens.synthetic import ActivationGenerator

    planted, n = truth(firing=CORRELATED), 40_000
    rates, correlation = planted.models["a"].rates, torch.from_numpy(planted.root @ planted.root).fill_diagonal_(1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = ActivationGenerator(40, torch.from_numpy(rates).float(), correlation_matrix=correlation).sample(n)
    fired = [x.astype(np.float64) for x in ((theirs.numpy() > 0), (planted.sample(n, 2)["a"].codes > 0).toarray())]
    together = [x.T @ x / n for x in fired]
    assert (np.abs(together[0] - together[1]) <= 2**0.5 * binomial(np.maximum(together[1], 5 / n), n)).all()


@pytest.mark.parametrize("law", ["constant", "uniform", "exponential"])
def test_magnitudes_have_mean_one_and_are_above_zero(law):
    values = truth(firing={"active": 3.0, "magnitude": law}).sample(20_000, 0)["a"].codes.data.astype(float)
    assert values.min() > 0 and values.mean() == pytest.approx(1, abs=5 * values.std() / len(values) ** 0.5 + 1e-6)


def test_the_root_of_a_singular_covariance():
    loadings = np.random.default_rng(0).normal(size=(12, 3))
    covariance = loadings @ loadings.T
    sd = np.sqrt(np.diag(covariance))
    found = firing.root(covariance)
    assert found @ found == pytest.approx(covariance / sd / sd[:, None], abs=1e-5)


def test_what_is_no_covariance():
    negative = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    with pytest.raises(ValueError, match=r"not positive semi-definite \(smallest eigenvalue -0\.8\)"):
        firing.root(negative)
    with pytest.raises(ValueError, match="square and symmetric"):
        firing.root(np.array([[1.0, 0.5], [0.2, 1.0]]))
    with pytest.raises(ValueError, match="every variance"):
        firing.root(np.diag([1.0, 0.0]))


# --- samples


def test_activations_are_codes_times_rows_and_noise():
    planted = truth(models={"a": {"d": 16, "noise": 0.0}, "b": {"d": 16, "noise": 0.5}}, shared=1.0)
    found = planted.sample(3000, 0)
    for name, sample in found.items():
        rest = sample.x - sample.codes @ planted.models[name].rows
        assert rest.std() == pytest.approx({"a": 0, "b": 0.5 / 4}[name], abs=0.005)
        assert sample.x.dtype == sample.codes.dtype == np.float32


def test_the_same_samples_from_any_number_of_threads_and_in_batches():
    planted = truth(firing=CORRELATED, models={"a": {"d": 16, "noise": 0.1}, "b": {"d": 16}})
    one, two = (planted.sample(5000, 3, threads=threads) for threads in (1, 2))
    for name in "ab":
        assert (one[name].x == two[name].x).all() and (one[name].codes != two[name].codes).nnz == 0
    batches = planted.batches("b", 96, 3)
    assert (np.concatenate([next(batches) for _ in range(45)]) == one["b"].x[: 45 * 96]).all()
    assert not (planted.sample(5000, 4)["a"].x == one["a"].x).any()


def test_fewer_samples_than_features():
    with pytest.raises(ValueError, match="n = 39 samples of 40 features"):
        truth().sample(39, 0)


# --- what models share


@pytest.mark.parametrize("shared", [0.0, 0.1, 0.37, 1.0])
def test_the_shared_share_fires_at_once_and_is_arranged_alike(shared):
    planted = truth(shared=shared, models=PAIR, features=30)
    a, b = planted.models["a"], planted.models["b"]
    common = len(np.intersect1d(a.place, b.place))
    assert common == planted.shared == round(30 * shared) == (a.place == b.place).sum()
    one, two = a.rows[:common], b.rows[:common]
    assert one @ one.T == pytest.approx(two @ two.T, abs=1e-5)  # a rotation of each other
    assert common == 0 or not np.allclose(one, two[:, :24], atol=0.1)
    fired = [(x.codes > 0).toarray() for x in planted.sample(5000, 0).values()]
    assert (fired[0][:, :common] == fired[1][:, :common]).all()
    rest = np.corrcoef(*((x - x.mean(axis=0))[:, common:].ravel() for x in fired))[0, 1] if common < 30 else 0
    assert abs(rest) < 0.02


def test_sharing_does_not_go_with_frequency():
    rates = np.mean([truth(seed, shared=0.5).models["a"].rates for seed in range(40)], axis=0)
    assert rates[:20].mean() == pytest.approx(rates[20:].mean(), rel=0.1)


def test_three_models_share_the_same_features():
    planted = truth(shared=0.5, models=PAIR | {"c": {"d": 24}})
    places = [set(model.place) for model in planted.models.values()]
    assert places[0] & places[1] == places[0] & places[2] == places[1] & places[2] == set(range(20))
    assert planted.features == 80


def test_shared_features_without_their_relations():
    planted = truth(shared=1.0, models=PAIR, features=100, relations="own")
    a, b = (model.rows @ model.rows.T for model in planted.models.values())
    upper = np.triu_indices(100, 1)
    assert abs(np.corrcoef(a[upper], b[upper])[0, 1]) < 0.06
    fired = [(x.codes > 0).toarray() for x in planted.sample(500, 0).values()]
    assert (fired[0] == fired[1]).all()


def test_models_with_rates_and_correlations_of_their_own():
    of = {"active": 8.0, "decay": 1.5, "correlated": 0.5, "rank": 8}
    n, planted = 20_000, truth(shared=1.0, models=PAIR, firing=of, rates="own", covariance="own")
    a, b = planted.models.values()
    assert planted.root is None and not np.allclose(a.root, b.root, atol=0.1)
    assert sorted(a.rates) == pytest.approx(sorted(b.rates)) and not np.allclose(a.rates, b.rates)
    fired = [(x.codes > 0).toarray().astype(float) for x in planted.sample(n, 0).values()]
    for x, model in zip(fired, (a, b), strict=True):
        assert (np.abs(x.mean(axis=0) - model.rates) < binomial(model.rates, n)).all()
    between = np.corrcoef(*fired, rowvar=False)[:40, 40:]
    assert np.diag(between).mean() > 0.2 > 4 * np.abs(between[~np.eye(40, dtype=bool)]).mean()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shared": 1.2}, r"here\.shared: input should be less than or equal to 1, found 1\.2"),
        ({"shared": -0.1}, r"here\.shared: input should be greater than or equal to 0"),
        ({"models": {}}, r"here\.models"),
        ({"shape": {"kind": "ball"}}, r"here\.shape: input tag 'ball'.*'sphere'"),
        ({"firing": {"active": 0.0}}, r"here\.firing\.active"),
    ],
)
def test_bad_worlds(changed, message):
    with pytest.raises(ProfileError, match=message):
        truth(**changed)


def test_more_active_features_than_exist():
    with pytest.raises(ValueError, match="active = 41 of 40 features"):
        truth(firing={"active": 41.0})


# --- directions


def cosines(kind: str, features: int, d: int, **values: object) -> tuple[np.ndarray, np.ndarray]:
    rows, groups = getattr(shapes, kind.capitalize())(kind=kind, **values).draw(np.random.default_rng(0), features, d)
    assert rows.shape == (features, d) and np.linalg.norm(rows, axis=1) == pytest.approx(1)
    return rows @ rows.T, groups


def test_a_sphere_has_no_relations():
    close, groups = cosines("sphere", 300, 50)
    off = close[np.triu_indices(300, 1)]
    assert off.std() == pytest.approx(50**-0.5, rel=0.03) and abs(off.mean()) < 0.002
    assert len(set(groups)) == 300


def test_a_mixture_has_groups():
    close, groups = cosines("mixture", 240, 200, groups=12, alike=0.6)
    assert np.bincount(groups).tolist() == [20] * 12
    same = (groups[:, None] == groups)[np.triu_indices(240, 1)]
    off = close[np.triu_indices(240, 1)]
    assert off[same].mean() == pytest.approx(0.6, abs=0.03) and abs(off[~same].mean()) < 0.03
    _, uneven = cosines("mixture", 240, 200, groups=12, alike=0.6, even=False)
    assert np.bincount(uneven, minlength=12).std() > 5


def test_circles_are_closed_and_even():
    close, groups = cosines("circles", 28, 60, circles=4, lift=0.5)
    assert np.bincount(groups).tolist() == [7] * 4
    one = close[:7, :7]
    assert one == pytest.approx(np.roll(one, (1, 1), (0, 1)))  # every feature sees the same circle
    assert one[0] == pytest.approx(0.25 + 0.75 * np.cos(2 * np.pi * np.arange(7) / 7))


def test_a_grid_is_smooth():
    close, groups = cosines("grid", 100, 2000, reach=2.0)
    assert close[0, :4] == pytest.approx(np.exp(-(np.arange(4.0) ** 2) / 8), abs=0.08)
    assert close[0, 10:40:10] == pytest.approx(close[0, 1:4], abs=0.15) and abs(close[0, 99]) < 0.1
    assert groups[[0, 9, 10, 99]].tolist() == [0, 0, 1, 9]


def test_given_rows_are_taken_at_random():
    given = np.random.default_rng(1).normal(size=(90, 16)) * 3
    planted = truth(shape={"kind": "given"}, rows=given)
    model = planted.models["a"]
    assert len(set(model.groups)) == 40
    taken = given[model.groups] / np.linalg.norm(given[model.groups], axis=1, keepdims=True)
    assert model.rows @ model.rows.T == pytest.approx(taken @ taken.T, abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "rows", "message"),
    [
        ({"kind": "given"}, None, "pass `rows`"),
        ({"kind": "given"}, np.ones((39, 16)), "39"),
        ({"kind": "given"}, np.ones((40, 15)), "given rows have 15 dimensions"),
        ({"kind": "given"}, np.zeros((40, 16)), "norm 0"),
        ({"kind": "mixture", "groups": 41, "alike": 0.5}, None, "40 features in 41 groups"),
        ({"kind": "circles", "circles": 41}, None, "40 features on 41 circles"),
    ],
)
def test_shapes_that_do_not_fit(shape, rows, message):
    with pytest.raises(ValueError, match=message):
        truth(shape=shape, rows=rows)
