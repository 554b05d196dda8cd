import itertools
import math

import numpy as np
import pytest

from sae_utils import correlate, matching, pipeline, significance, store
from sae_utils.engine.core.spec import ProfileError
from sae_utils.significance import UNSCORED
from sae_utils.studies.layer_sweep import cells, layers
from sae_utils.studies.layer_sweep.cells import ROWS, Battery, Scores
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


def found(x, y, seed, measures=("rsa_pearson", "procrustes"), m=99, one_n=math.nan) -> Scores:
    results = significance.test(x, y, measures, m=m, seed=seed)
    alike = {name: UNSCORED._replace(n=10, excess=one_n, excess_sd=0.0) for name in measures}
    return Scores(dict.fromkeys(ROWS, results), dict.fromkeys(ROWS, alike))


@store.artefact
def some_pairs(folder, n):
    """As `cells.matched` leaves them: n features of a with other ones of b."""
    np.save(folder / "a.npy", np.arange(n))
    np.save(folder / "b.npy", np.arange(n)[::-1])
    return {"pairs": n}


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


def test_scores_come_back_from_the_store_as_they_were(world):
    readers = [pipeline.reader(world, name).dictionary for name in ("one_layer", "two_layer")]
    pairs, n, asked = some_pairs(20), 15, battery(measures=["rsa_spearman", "cka"])
    kept = cells.read(cells.scored(pairs, *readers, asked, n, [0, 7]))
    for kind in ROWS:
        x, y = (cells.rows(reader, kind)[pairs.array(side)] for reader, side in zip(readers, "ab", strict=True))
        expected = significance.test(x, y, asked.measures, m=39, seed=[0, 7])
        assert list(kept.results[kind]) == asked.measures
        for name, result in expected.items():
            mine = kept.results[kind][name]
            np.testing.assert_array_equal(mine.draws, result.draws)
            np.testing.assert_equal(mine._replace(draws=None), result._replace(draws=None))
        alike = cells.at_n(x, y, asked, n, seed=[0, 7])
        np.testing.assert_equal(kept.at_one_n[kind], alike)
        assert list(alike) == asked.measures and math.isnan(alike["cka"].p), "known in closed form: no draws"
    decoder, encoder = (cells.rows(readers[0], kind) for kind in ROWS)
    assert encoder.shape == decoder.shape and not np.allclose(encoder, decoder)


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


def test_an_undefined_measure_leaves_the_others_as_they_are():
    """Of orthonormal rows nothing is left that the debiased CKA could divide by."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    x, y = np.eye(12) @ turn, planted(0, 12, 0.5)[1]
    asked = battery(measures=["cka_debiased", "rsa_pearson", "rsa_spearman"])
    found = cells.at_n(x, y, asked, 11, seed=[0])
    assert found["cka_debiased"] is UNSCORED and all(math.isfinite(found[name].excess) for name in asked.measures[1:])
    results = significance.test(x, y, asked.measures, m=39)
    cell = Cell("x", 0, 0, "a", "b")
    lines = layers.table({cell: Scores(dict.fromkeys(ROWS, results), dict.fromkeys(ROWS, found))}, {})
    decoder = lines[lines.rows == "decoder"].set_index("measure")
    assert decoder.note["cka_debiased"] == "undefined: the score is not finite" and math.isnan(
        decoder.family["cka_debiased"]
    )
    assert decoder.drop(index="cka_debiased")[["p", "family", "one_n"]].notna().all(axis=None)
    most = layers.maxima({cell: Scores(dict.fromkeys(ROWS, results), dict.fromkeys(ROWS, found))})
    assert most[most.measure == "cka_debiased"].p.isna().all() and most[most.measure != "cka_debiased"].p.notna().all()


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
        Cell("x", 0, 0, "one_layer", "one_layer"),
        Cell("x", 0, 1, "one_layer", "two_layer"),
        Cell("y", 0, 0, "one_layer", "two_layer"),
    ]
    assert layers.find(world, "primary.pair", grid, ["one_layer", "two_layer"]) == grid[1]


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
    message = "world.yaml: 03_layer_sweep.middle: two_layer x one_layer is no cell of the sweep"
    with pytest.raises(ProfileError, match=message):
        layers.find(world, "03_layer_sweep.middle", grid, ["two_layer", "one_layer"])


@pytest.mark.parametrize(
    ("ceilings", "message"),
    [
        ({"z": ["", ""]}, "ceilings.z: no such pair"),
        ({"x": ["y"]}, "ceilings.x: expected the ceiling of A and that of B"),
        ({"x": ["w", ""]}, "no pair is called 'w'"),
        ({"x": ["", "y"]}, "'y' is no ceiling of"),
        ({"y": ["x", ""]}, "'x' is no ceiling of"),
    ],
)
def test_ceilings_that_are_none(world, ceilings, message):
    with pytest.raises(ProfileError, match=message):
        layers.check(world, "03_layer_sweep", PAIRS, ceilings, ["y"])
    layers.check(world, "03_layer_sweep", PAIRS, {"x": ["y", ""]}, ["y"])


@pytest.mark.parametrize(("negatives", "message"), [([], "no negative control"), (["yy"], "'yy'; did you mean `y`")])
def test_negatives_that_are_none(world, negatives, message):
    with pytest.raises(ProfileError, match=f"03_layer_sweep.negatives: .*{message}"):
        layers.check(world, "03_layer_sweep", PAIRS, {}, negatives)


def test_the_common_n_is_that_of_the_smallest_cell_that_is_large_enough():
    counts = [Kept(pairs=n) for n in (40, 25, 9)]
    grid = [Cell("x", 0, j, "a", "b") for j in range(3)]
    assert layers.common_n(dict(zip(grid, counts, strict=True)), 10) == 25
    assert layers.common_n(dict(zip(grid, counts, strict=True)), 5) == 9
    with pytest.raises(ValueError, match="no cell has 50 pairs, the most are 40"):
        layers.common_n(dict(zip(grid, counts, strict=True)), 50)


# --- many cells together


def sweep_of(seed, noises, pair="x", **settings):
    """One cell a noise; None: rows that have nothing to do with each other."""
    return {
        Cell(pair, 0, j, "a", f"b{j}"): found(
            *(planted((seed, j), 20, noise) if noise is not None else unrelated((seed, j))), (seed, j, 5), **settings
        )
        for j, noise in enumerate(noises)
    }


def unrelated(seed, n=20, d=6):
    return tuple(np.random.default_rng([*np.atleast_1d(seed), side]).normal(size=(n, d)) for side in (0, 1))


def test_the_maximum_over_layers_is_held_against_the_null_of_the_maximum():
    """Without any relation the p of the maximum stays at its level, the smallest p of the layers does not."""
    maximum, smallest = [], []
    for seed in range(100):
        swept = sweep_of(seed, [None] * 6, measures=("procrustes",), m=39)
        maxima = layers.maxima(swept)
        maximum.append(maxima.p[0])
        smallest.append(min(score.results["decoder"]["procrustes"].p for score in swept.values()))
        best = max(swept.items(), key=lambda item: item[1].results["decoder"]["procrustes"].z)[0]
        assert (maxima.a[0], maxima.b[0]) == (best.i, best.j)
    assert np.mean(np.array(maximum) <= 0.05) <= 0.11
    assert np.mean(np.array(smallest) <= 0.05) >= 0.15


def test_a_planted_layer_is_found_among_the_unrelated():
    swept = sweep_of(0, [None, 0.1, None])
    maxima = layers.maxima(swept)
    assert len(maxima) == 2 * 2 and (maxima.b == 1).all() and (maxima.p <= 0.02).all()
    adjusted = layers.family_wise(swept)
    assert [min(p["decoder"].values()) < 0.05 for p in adjusted.values()] == [False, True, False]


def test_families_are_pairs_of_models():
    """Corrected p never falls below p, grows with the family, and does not see the other pair of models."""
    one, other = sweep_of(0, [1.0, None]), sweep_of(3, [None] * 4, pair="y")
    one_family, both = layers.family_wise(one), layers.family_wise(one | other)
    assert one_family == {cell: both[cell] for cell in one}
    for (cell, score), kind in itertools.product(one.items(), ROWS):
        for name, result in score.results[kind].items():
            single = layers.family_wise({cell: score})[cell][kind][name]
            assert result.p - 1e-12 <= single <= one_family[cell][kind][name]


def test_relative_is_by_the_ceilings_of_both_layers():
    cell = {
        **sweep_of(0, [0.5, 0.5, 0.5], one_n=0.3),
        Cell("A", 0, 0, "a", "a'"): found(*planted(9, 20, 0.1), 1, one_n=0.9),
        Cell("B", 0, 0, "b0", "c0"): found(*planted(8, 20, 0.1), 2, one_n=0.4),
        Cell("B", 0, 1, "b0", "c1"): found(*planted(8, 20, 0.1), 3, one_n=0.8),
        Cell("B", 1, 1, "b1", "c1"): found(*planted(7, 20, 0.1), 4, one_n=0.01),
    }
    lines = layers.table(cell, {"x": ["A", "B"]})
    relative = lines[
        (lines["pair"] == "x") & (lines["rows"] == "decoder") & (lines["measure"] == "procrustes")
    ].relative
    assert relative.iloc[0] == pytest.approx(0.3 / math.sqrt(0.9 * 0.4))
    assert relative.iloc[1:].isna().all()  # a ceiling near 0, and none at all
    assert lines[lines["pair"] != "x"].relative.isna().all()
    assert layers.table(cell, {"x": ["", "B"]}).relative.isna().all()


def test_the_table_says_what_was_scored():
    swept = sweep_of(0, [0.5, None], measures=("rsa_pearson", "mutual_knn"))
    lines = layers.table(swept, {})
    assert len(lines) == 2 * 2 * 2
    first, result = lines.iloc[1], next(iter(swept.values())).results["decoder"]["mutual_knn"]
    assert (first["rows"], first["measure"], first["k"], first["n"]) == ("decoder", "mutual_knn", "10 x 10", 20)
    assert (first["observed"], first["null"], first["sd"]) == (result.observed, result.null_mean, result.null_sd)
    assert lines.iloc[0]["k"] == "-"


def test_matches_and_retention():
    kept = Kept(pairs=10, live_a=40, live_b=20, r=0.9, held_out=0.8, counterparts=0.25)
    line = layers.matches({Cell("x", 0, 1, "a", "b"): kept}).iloc[0]
    assert (line.n, line.of_a, line.of_b, line.held_out, line.j) == (10, 0.25, 0.5, 0.8, 1)


def test_the_closest_layer():
    swept = sweep_of(0, [None, 0.1, None]) | {
        Cell("x", 1, 0, "a1", "b0"): found(*unrelated(4), 4),
    }
    lines = layers.table(swept, {})
    decoder = lines[(lines["rows"] == "decoder") & (lines["measure"] == "procrustes")]
    assert layers.closest(decoder, "excess") == {0: 1, 1: 0}
    assert layers.closest(decoder, "one_n") == {}, "nothing was scored at one n"


# --- the answer, in words


def test_a_sweep_says_what_was_tested():
    assert layers.verdict([], 4) == "cannot be compared: no pair of layers has pairs of features enough"
    assert layers.verdict([True, True], 2) == "are alike at every pair of layers"
    assert layers.verdict([False], 3) == (
        "are alike at no pair of layers that was tested; 2 of 3 have too few pairs of features"
    )
    assert layers.verdict([False, True], 2) == "are alike at some pair of layers"


@pytest.mark.parametrize(
    ("mine", "control", "sentence"),
    [
        ([0.15, 0.22], [0.12, 0.28], "no pair of layers exceeds the control's best (0.28), with 0.22 at most"),
        ([0.15, 0.22], [0.12, np.nan], "every pair of layers exceeds the control's best (0.12), with 0.15 at least"),
        ([0.15, 0.22], [0.18], "1 of 2 pairs of layers exceed the control's best (0.18), with 0.22 at most"),
        ([0.15], [np.nan], "no pair of layers of the negative control has pairs of features enough to be compared"),
        ([], [0.1], "no pair of layers of the two models has pairs of features enough to be compared"),
    ],
)
def test_excesses_beside_the_control_come_with_their_numbers(mine, control, sentence):
    assert layers.beside_control(np.array(mine, float), np.array(control, float)) == sentence


def test_what_the_control_teaches_agrees_with_its_z():
    one, two = (Cell("control", 0, j, "a", "b") for j in (0, 1))
    assert "has too few pairs" in layers.lesson(set(), {})
    assert layers.lesson({one}, {one: 5.0, two: 1.0}) == "what exceeds a shuffled pairing need not be shared meaning"
    assert "z up to 6.8), if not after correction" in layers.lesson(set(), {one: 6.8, two: 0.1})
    assert "not told from a shuffled pairing (z at most 1.2)" in layers.lesson(set(), {one: 1.2, two: np.nan})
