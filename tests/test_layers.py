import math

import numpy as np
import pytest

from sae_utils import correlate, inference, matching, pipeline, replicates, significance
from sae_utils.engine.core.spec import ProfileError
from sae_utils.studies.layer_sweep import cells, layers
from sae_utils.studies.layer_sweep.cells import CONTROL, ROWS, TRUE, Arm, Battery, Paired, Scores
from sae_utils.studies.layer_sweep.layers import Cell

MEASURES = ["rsa_pearson", "procrustes", "mutual_knn", "svcca"]


def battery(**changes) -> Battery:
    given = {"measures": MEASURES, "neighbours": 3, "permutations": 39, "subsets": 4, "subset_draws": 9}
    return Battery(**given | changes)


def planted(seed, n, noise, d=6):
    """Paired rows: a turned, noisy copy."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, d))
    turn = np.linalg.qr(generator.normal(size=(d, d)))[0]
    return x, x @ turn + noise * generator.normal(size=(n, d))


class Kept:
    """Stands for an artefact: what it told of itself."""

    def __init__(self, **meta):
        self.meta = meta


# --- one cell


def test_a_cell_of_the_small_world(world):
    one, two = (pipeline.features(world, name) for name in ("one_layer", "two_layer"))
    made = cells.matched(one.kept, two.kept, one.sites, 8, 0.3)
    both = pipeline.correlated(one, two, 8)
    pairs = matching.mutual(both.found)
    np.testing.assert_array_equal(made.array("a"), pairs.a)
    np.testing.assert_array_equal(made.array("b"), pairs.b)
    held, r = [both.held_out(pairs)], [pairs.r.mean()]
    back = pipeline.correlated(one, two, 8, swapped=True)
    swapped = matching.mutual(back.found)
    held.append(correlate.pairs(one.codes, two.codes, swapped.a, swapped.b, rows=both.on_matching))
    r.append(swapped.r.mean())
    assert made.meta["r"] == pytest.approx(np.mean(r), abs=1e-6)
    assert made.meta["held_out"] == pytest.approx(np.mean([np.nanmean(x) for x in held]), abs=1e-6)
    fewer = [min(x.found.live) for x in (both, back)]
    shares = [np.sum(x >= 0.3) / live for x, live in zip(held, fewer, strict=True)]
    assert made.meta["counterparts"] == pytest.approx(np.mean(shares))
    assert (made.meta["pairs"], made.meta["live_a"]) == (len(pairs.a), both.found.a.live.sum())


def without_replicates(profile):
    return profile._replace(common=profile.common.model_copy(update={"replicates": []}), families={})


def test_without_replicates_pairs_are_mutual_and_have_no_control(world):
    (found,) = cells.paired(without_replicates(world), "one_layer", "two_layer", 5, 8)
    one, two = (pipeline.features(world, name) for name in ("one_layer", "two_layer"))
    pairs = matching.mutual(pipeline.correlated(one, two, 8).found)
    assert list(found.arms) == [TRUE]
    np.testing.assert_array_equal(np.stack(found.arms[TRUE]), np.stack([pairs.a, pairs.b]))
    assert 0 < found.retention <= 1


def test_with_replicates_both_arms_have_the_features_of_one_side(world):
    profile = world._replace(common=world.common.model_copy(update={"replicates": [0]}))
    found = cells.paired(profile, "one_layer", "two_layer", 2, 8)
    _, expected = replicates.matched(profile, ("one_layer", "two_layer"), 2)
    assert len(found) == len(expected) == 4
    for mine, theirs in zip(found, expected, strict=True):
        fixed, free = ("a", "b") if theirs.role == "a" else ("b", "a")
        for arm, partners in ((TRUE, theirs.true), (CONTROL, theirs.control)):
            np.testing.assert_array_equal(getattr(mine.arms[arm], fixed), theirs.features)
            np.testing.assert_array_equal(getattr(mine.arms[arm], free), partners)


def test_scores_of_both_arms_are_those_of_their_rows():
    x, y = planted(0, 40, 0.3)
    order = np.random.default_rng(1).permutation(40)
    arms = {TRUE: Arm(np.arange(40), np.arange(40)), CONTROL: Arm(np.arange(40), order)}
    asked = battery(measures=["rsa_spearman", "cka"])
    sides = {"decoder": (x, y), "encoder": (x, -2 * y)}
    found = cells.scored([Paired(arms, 1.0, 1.0)], sides, asked, 40, 7, ["procrustes"])
    for arm, at in ((TRUE, np.arange(40)), (CONTROL, order)):
        expected = significance.test(x, y[at], ["rsa_spearman", "cka", "procrustes"], m=39, seed=7)
        assert list(found.results[arm]["decoder"]) == list(expected)
        for name, result in expected.items():
            np.testing.assert_array_equal(found.results[arm]["decoder"][name].draws, result.draws)
        for name in asked.measures:
            assert found.at_one_n[arm]["decoder"][name] == pytest.approx(expected[name].excess)
            assert found.at_one_n[arm]["encoder"][name] == pytest.approx(expected[name].excess)
    assert found.at_one_n[TRUE]["decoder"]["rsa_spearman"] > 0.5 > found.at_one_n[CONTROL]["decoder"]["rsa_spearman"]
    assert not cells.scored([Paired(arms, 1.0, 1.0)], sides, asked, 40, 0, tested=False).results


def test_choices_of_partners_are_averaged_and_arms_share_their_subsets():
    x, y = planted(0, 60, 0.3)
    every = Arm(np.arange(60), np.arange(60))
    choices = [Paired({TRUE: Arm(*(side[:n] for side in every)), CONTROL: Arm(*(side[:n] for side in every))}, 1.0, 1.0)
               for n in (40, 60)]  # fmt: skip
    found = cells.scored(choices, {"decoder": (x, y)}, battery(measures=["rsa_pearson"]), 30, 0, tested=False)
    assert found.at_one_n[TRUE] == found.at_one_n[CONTROL]
    alone = [
        cells.at_n(x[:n], y[:n], battery(measures=["rsa_pearson"]), 30, seed=[0, i])["rsa_pearson"].excess
        for i, n in enumerate((40, 60))
    ]
    assert found.at_one_n[TRUE]["decoder"]["rsa_pearson"] == pytest.approx(np.mean(alone))


def test_rows_are_read_from_the_dictionaries(world):
    sides = cells.sides_of(world, "one_layer", "two_layer")
    reader = pipeline.reader(world, "two_layer")
    for kind in ROWS:
        np.testing.assert_array_equal(sides[kind][1], cells.rows(reader.dictionary, kind))
    assert sides["decoder"][0].shape == sides["encoder"][0].shape
    assert not np.allclose(sides["decoder"][0], sides["encoder"][0])


def test_other_tokens_are_refused(world):
    one, two = (pipeline.features(world, name) for name in ("one_layer", "two_layer"))
    with pytest.raises(ValueError, match="need one tokenizer"):
        cells.matched.__wrapped__(None, one.kept, Kept(sites="others"), one.sites, 8, 0.3)
    with pytest.raises(ValueError, match="need one tokenizer"):
        cells.matched.__wrapped__(None, one.kept, two.kept, two.kept, 8, 0.3)


def test_excess_at_one_n_depends_on_the_pairs_and_not_on_how_many_there_are():
    """The raw kNN overlap of a noisy copy falls with n; at one n, copies of unlike sizes are equal."""
    small, large = planted(0, 40, 0.5), planted(1, 400, 0.5)
    asked = battery(measures=["mutual_knn", "procrustes"], subsets=30)
    raw = [significance.test(x, y, ["procrustes"], m=9)["procrustes"].null_mean for x, y in (small, large)]
    assert raw[0] - raw[1] > 0.1
    alike = [cells.at_n(x, y, asked, 30, seed=[0]) for x, y in (small, large)]
    for name in asked.measures:
        assert alike[0][name].excess == pytest.approx(alike[1][name].excess, abs=0.1)
        assert alike[0][name].n == 30 and alike[1][name].excess_sd > 0


def test_at_n_of_all_pairs_it_is_the_excess_of_all_pairs():
    x, y = planted(0, 40, 0.5)
    asked = battery(measures=["rsa_pearson"])
    expected = cells.at_n(x, y, asked, 40, seed=[0])["rsa_pearson"]
    assert expected.excess == pytest.approx(significance.test(x, y, ["rsa_pearson"], m=9)["rsa_pearson"].excess)
    assert expected.excess_sd == 0


def test_no_excess_where_canonical_correlations_are_one_whatever_the_rows_hold():
    x, y = planted(0, 60, 0.5)
    assert math.isnan(cells.at_n(x, y, battery(), 10, seed=[0])["svcca"].excess)
    assert math.isfinite(cells.at_n(x, y, battery(), 40, seed=[0])["svcca"].excess)


def test_a_subset_larger_than_the_pairs_is_refused():
    with pytest.raises(ValueError, match="12 pairs cannot be cut to n = 13"):
        cells.at_n(*planted(0, 12, 0.5), battery(), 13, seed=[0])


def test_a_battery_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="unknown measure 'rsa'"):
        battery(measures=["rsa"]).chosen()
    with pytest.raises(ValueError, match="permutations"):
        battery(permutations=9)
    assert [measure.k for measure in battery(measures=["mutual_knn"], neighbours=4).chosen()]
    assert battery(measures=["mutual_knn"], neighbours=4).chosen()[0].name == "mutual_knn_4"


# --- the cells of a profile


PAIRS = {"x": [["one_layer"], ["one_layer", "two_layer"]], "y": [["one_layer"], ["two_layer"]]}


def test_every_layer_with_every_layer(world):
    grid = layers.cells(world, "03_layer_sweep", PAIRS)
    assert grid == [
        Cell("x", 0, 0, 0, 0, "one_layer", "one_layer"),
        Cell("x", 0, 0, 0, 1, "one_layer", "two_layer"),
        Cell("y", 0, 0, 0, 0, "one_layer", "two_layer"),
    ]
    assert layers.find(world, "primary.pair", grid, ["one_layer", "two_layer"]) == grid[1]
    assert layers.ceilings(grid) == {"A": [], "B": []}


def families(world, **members):
    records = {name: world.dictionaries["one_layer"] for of in members.values() for name in of}
    return world._replace(families=members, dictionaries={**world.dictionaries, **records})


def test_families_give_a_cell_a_replicate_as_far_as_all_have_members(world):
    profile = families(world, a=("a4", "a5", "a6"), b0=("b04", "b05"), b=("b4", "b5", "b6"))
    grid = layers.cells(profile, "03_layer_sweep", {"x": [["a"], ["b0", "b"]]})
    assert [(cell.one, cell.i, cell.j, cell.a, cell.b) for cell in grid] == [
        (0, 0, 0, "a4", "b04"), (0, 0, 1, "a4", "b4"), (1, 0, 0, "a5", "b05"), (1, 0, 1, "a5", "b5"),
    ]  # fmt: skip


def test_a_ceiling_is_the_same_layer_in_two_replicates(world):
    profile = families(world, a=("a4", "a5", "a6"), b0=("b04", "b05", "b06"), b=("b4", "b5", "b6"))
    found = layers.ceilings(layers.cells(profile, "03_layer_sweep", {"x": [["a"], ["b0", "b"]], "y": [["b"], ["a"]]}))
    assert [(cell.a, cell.b) for cell in found["A"]] == [("a4", "a5"), ("a4", "a6"), ("a5", "a6")]
    assert [(cell.i, cell.a, cell.b) for cell in found["B"] if cell.one == 0] == [
        (0, "b04", "b05"), (0, "b04", "b06"), (1, "b4", "b5"), (1, "b4", "b6"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({}, "world.yaml: 03_layer_sweep.pairs: no pair of models"),
        ({"x": ["one_layer", "two_layer"]}, "pairs.x: expected two lists of dictionaries by depth"),
        ({"x": [["one_layer"]]}, "pairs.x: expected two lists"),
        ({"x": [["one_layer"], []]}, "pairs.x: expected two lists"),
        ({"x": [["one_layer"], ["two_layers"]]}, "called 'two_layers'; did you mean `two_layer`"),
        ({"x": [["one_layer"], [["two_layer"]]]}, "no dictionary is called"),
    ],
)
def test_pairs_that_cannot_be_run(world, pairs, message):
    with pytest.raises(ProfileError, match=message):
        layers.cells(world, "03_layer_sweep", pairs)


def test_a_cell_that_is_not_there(world):
    grid = layers.cells(world, "03_layer_sweep", PAIRS)
    message = "world.yaml: primary.pair: two_layer x one_layer is no cell of the sweep"
    with pytest.raises(ProfileError, match=message):
        layers.find(world, "primary.pair", grid, ["two_layer", "one_layer"])


def counted(*counts: int) -> list[Paired]:
    return [Paired({TRUE: Arm(np.arange(n), np.arange(n))}, 1.0, 1.0) for n in counts]


def test_the_common_n_is_that_of_the_smallest_cell_that_is_large_enough():
    grid = [Cell("x", 0, 0, 0, j, "a", "b") for j in range(3)]
    found = dict(zip(grid, (counted(40, 44), counted(30, 25), counted(90, 9)), strict=True))
    assert layers.common_n(found, 10) == 25
    assert layers.common_n(found, 5) == 9
    with pytest.raises(ValueError, match="no cell has 50 pairs, the most are 40"):
        layers.common_n(found, 50)


# --- within a replicate


def sweep_of(seed, noises, pair="x", replicate=0, measures=("rsa_pearson", "procrustes"), m=99):
    """One cell a noise; None: rows that have nothing to do with each other."""
    made = {}
    for j, noise in enumerate(noises):
        rows = planted((seed, j), 20, noise) if noise is not None else unrelated((seed, j))
        tested = significance.test(*rows, measures, m=m, seed=(seed, j, 5))
        made[Cell(pair, replicate, replicate, 0, j, "a", f"b{j}")] = Scores({TRUE: dict.fromkeys(ROWS, tested)}, {})
    return made


def unrelated(seed, n=20, d=6):
    return tuple(np.random.default_rng([*np.atleast_1d(seed), side]).normal(size=(n, d)) for side in (0, 1))


def test_the_maximum_over_layers_is_held_against_the_null_of_the_maximum():
    """Without any relation the p of the maximum stays at its level, the smallest p of the layers does not."""
    maximum, smallest = [], []
    for seed in range(100):
        swept = sweep_of(seed, [None] * 6, measures=("procrustes",), m=39)
        found = layers.maxima(swept)
        maximum.append(found.p[0])
        smallest.append(min(score.results[TRUE]["decoder"]["procrustes"].p for score in swept.values()))
        best = max(swept.items(), key=lambda item: item[1].results[TRUE]["decoder"]["procrustes"].z)[0]
        assert (found.a[0], found.b[0]) == (best.i, best.j)
    assert np.mean(np.array(maximum) <= 0.05) <= 0.11
    assert np.mean(np.array(smallest) <= 0.05) >= 0.15


def test_a_planted_layer_is_found_among_the_unrelated():
    found = layers.maxima(sweep_of(0, [None, 0.1, None]))
    assert len(found) == 2 * 2 and (found.b == 1).all() and (found.p <= 0.02).all()


def test_families_are_the_layers_of_a_replicate():
    one, other = sweep_of(0, [1.0, None]), sweep_of(3, [None] * 4, replicate=1)
    alone, both = layers.maxima(one), layers.maxima(one | other)
    assert both[both.replicate == 0].equals(alone) and len(both) == 2 * len(alone)


def test_maxima_are_counted_over_the_replicates_that_were_tested():
    swept = sweep_of(0, [0.1, None]) | sweep_of(1, [None, None], replicate=1)
    found = layers.maxima(swept)
    found.loc[(found.replicate == 1) & (found.measure == "procrustes"), "p"] = math.nan
    counts = layers.reached(found, 0.05).set_index(["rows", "measure"])[TRUE]
    expected = int((found[found.measure == "rsa_pearson"].p < 0.05).sum() / 2)
    assert counts["decoder", "rsa_pearson"] == f"{expected} of 2"
    assert counts["encoder", "procrustes"] == "1 of 1"


# --- over replicates


def scores_of(true: np.ndarray, control: np.ndarray | None) -> dict[Cell, Scores]:
    """Scores of given excesses (replicates, layers of A, layers of B)."""
    made = {}
    for r, i, j in np.ndindex(true.shape):
        if not math.isnan(true[r, i, j]):
            arms = {TRUE: true[r, i, j]} | ({} if control is None else {CONTROL: control[r, i, j]})
            at = {arm: {"decoder": {"cka": float(value)}} for arm, value in arms.items()}
            made[Cell("x", r, r, i, j, f"a{i}", f"b{j}")] = Scores({}, at)
    return made


def test_values_stand_by_replicate_and_layers():
    true, control = np.random.default_rng(0).normal(size=(2, 3, 2, 4))
    true[1, 0, 2] = math.nan
    found = scores_of(true, control)
    np.testing.assert_array_equal(layers.values(found, TRUE, "decoder", "cka"), true)
    assert np.isnan(layers.values(found, CONTROL, "decoder", "cka")[1, 0, 2])
    assert np.isnan(layers.values(found, TRUE, "encoder", "cka")).all()
    assert np.isnan(layers.values(scores_of(true, None), CONTROL, "decoder", "cka")).all()
    assert layers.values({}, TRUE, "decoder", "cka").size == 0


def test_the_table_has_an_interval_and_a_verdict_for_every_pair_of_layers():
    rng = np.random.default_rng(0)
    control = rng.normal(0.1, 0.01, (3, 1, 3))
    gain = np.array([0.4, 0.0, 0.1]) + np.array([[-0.01, 0.0, 0.2], [0.0, 0.001, -0.2], [0.01, -0.001, 0.0]])
    found = layers.table(control + gain[:, None, :], control, 0.05).set_index("j")
    assert found.verdict.tolist() == ["yes", "no", "undetermined"]
    expected = inference.over_replicates(gain[:, 0])
    assert found.loc[0, ["difference", "low", "high"]].tolist() == pytest.approx(expected[0:1] + expected[2:4])
    assert found.SD[2] == pytest.approx(gain[:, 2].std(ddof=1))
    assert found.control[0] == pytest.approx(control[..., 0].mean())


def test_without_a_control_there_is_no_verdict():
    true = np.full((1, 1, 2), 0.5)
    found = layers.table(true, true * math.nan, 0.05)
    assert (found.verdict == "not tested").all() and found.true.tolist() == [0.5, 0.5]
    assert layers.over_replicates(true * math.nan).n == 0


def test_mean_and_spread_over_replicates():
    values = np.random.default_rng(0).normal(size=(3, 2, 2))
    values[0, 0, 0], values[:2, 1, 1] = math.nan, math.nan
    mean, sd = layers.spread(values)
    np.testing.assert_allclose(mean, np.nanmean(values, axis=0))
    assert sd[0, 0] == pytest.approx(values[1:, 0, 0].std(ddof=1)) and math.isnan(sd[1, 1])


def test_the_pair_that_others_choose_shows_nothing_where_all_are_equal():
    """The best of a replicate by itself exceeds the rest; judged by another replicate it does not."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(400, 3, 2, 3))
    judged = np.concatenate([layers.chosen_by_others(of) for of in drawn])
    own = [of.reshape(3, -1).max(axis=1) - of.reshape(3, -1).mean(axis=1) for of in drawn]
    assert abs(judged.mean()) < 0.1 and np.mean(own) > 1
    better = drawn.copy()
    better[:, :, 1, 2] += 3
    assert np.concatenate([layers.chosen_by_others(of) for of in better]).mean() == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize(
    ("layers_a", "layers_b", "pairs"),
    [
        (2, 3, [(0, 0), (1, 2)]),
        (3, 2, [(0, 0), (2, 1)]),
        (3, 3, [(0, 0), (1, 1), (2, 2)]),
        (3, 5, [(0, 0), (1, 2), (2, 4)]),
        (1, 4, []),
    ],
)
def test_layers_of_the_same_relative_depth(layers_a, layers_b, pairs):
    found = layers.same_depth(layers_a, layers_b)
    assert found.shape == (layers_a, layers_b) and list(zip(*np.nonzero(found), strict=True)) == pairs


def test_the_same_depth_is_held_against_the_rest():
    values = np.random.default_rng(0).normal(size=(3, 2, 3))
    expected = [(x[0, 0] + x[1, 2]) / 2 - (x[0, 1] + x[0, 2] + x[1, 0] + x[1, 1]) / 4 for x in values]
    np.testing.assert_allclose(layers.at_the_same_depth(values), expected)
    values[1, 0, 1] = math.nan  # left out of every replicate
    expected = [(x[0, 0] + x[1, 2]) / 2 - (x[0, 2] + x[1, 0] + x[1, 1]) / 3 for x in values]
    np.testing.assert_allclose(layers.at_the_same_depth(values), expected)
    assert len(layers.at_the_same_depth(np.zeros((3, 1, 3)))) == 0
    assert len(layers.at_the_same_depth(values * math.nan)) == 0


def test_both_tests_of_layers_stand_in_one_row():
    """One measure is higher at the same depth, the other nowhere."""
    rng = np.random.default_rng(0)
    flat = 0.001 * rng.normal(size=(4, 2, 3))
    deep = flat + np.where(layers.same_depth(2, 3), 1.0, 0.0)
    found = layers.layer_tests({("decoder", "deep"): deep, ("encoder", "flat"): flat}).set_index(["rows", "measure"])
    row = found.loc["decoder", "deep"]
    assert row["same depth low"] < row["same depth estimate"] == pytest.approx(1, abs=0.01)
    assert row["best estimate"] == pytest.approx(0.8, abs=0.01)  # the rest has one more of them among five
    assert found.loc["encoder", "flat"].abs().max() < 0.01


def test_means_over_layers_are_those_of_both_arms():
    true, control = np.random.default_rng(1).normal(size=(2, 3, 2, 4))
    found = layers.means(scores_of(true, control), ["cka"]).set_index("rows")
    row = found.loc["decoder"]
    assert (row["true"], row["control"]) == pytest.approx((true.mean(), control.mean()))
    by_replicate = (true - control).mean(axis=(1, 2))
    assert row.difference == pytest.approx(by_replicate.mean()) and row.replicates == 3
    assert row.se == pytest.approx(by_replicate.std(ddof=1) / math.sqrt(3))
    assert found.loc["encoder"].replicates == 0 and list(found.pair) == ["x", "x"]


def test_cells_are_described_by_means_over_their_choices():
    grid = [Cell("x", r, r, 0, j, "a", "b") for r in range(2) for j in range(2)]
    found = {cell: [x._replace(held_out=0.1 * k, retention=0.5) for x in counted(30 + k, 20 + k)]
             for k, cell in enumerate(grid)}  # fmt: skip
    table = layers.described(found)
    assert table.n.tolist() == [20, 21, 22, 23] and table["held-out r"].tolist() == pytest.approx([0, 0.1, 0.2, 0.3])
    assert table.retention.tolist() == [0.5] * 4 and table[["i", "j"]].to_numpy().tolist() == [[0, 0], [0, 1]] * 2
    np.testing.assert_allclose(layers.held_out(found), [[[0, 0.1]], [[0.2, 0.3]]])


def test_one_replicate_or_one_pair_of_layers_chooses_nothing():
    assert len(layers.chosen_by_others(np.zeros((1, 2, 2)))) == 0
    assert len(layers.chosen_by_others(np.zeros((3, 1, 1)))) == 0
    unscored = np.zeros((2, 1, 3))
    unscored[0, 0, 0], unscored[:, 0, 1] = math.nan, 1.0
    np.testing.assert_allclose(layers.chosen_by_others(unscored), [1, 1])


def test_a_ceiling_leaves_out_a_replicate_with_all_its_pairs():
    grid = [Cell("two seeds of A", r, s, i, i, "a", "b") for i in (0, 1) for r, s in ((0, 1), (0, 2), (1, 2))]
    values = {(0, 1): 0.4, (0, 2): 0.6, (1, 2): 0.5}
    scores = {c: Scores({}, {TRUE: {"decoder": {"cka": values[c.one, c.other] + c.i}}}) for c in grid}
    found = layers.values(scores, TRUE, "decoder", "cka")
    square = np.full((3, 3), np.nan)
    for (r, s), value in values.items():
        square[r, s] = value + 0.5
    assert layers.crossed(scores, found)[:5] == pytest.approx(inference.over_replicates(square)[:5])
    assert layers.crossed({}, np.empty((0, 0, 0))).n == 0
