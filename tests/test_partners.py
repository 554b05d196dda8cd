"""Comparisons and their tables over replicates, from scores that are given."""

import numpy as np
import pytest

from sae_utils import inference
from sae_utils.engine.params import Primary
from sae_utils.studies.controls import measured, partners
from sae_utils.studies.controls.accounts import Account
from sae_utils.studies.controls.measured import Arm, Beside
from sae_utils.studies.controls.partners import Cell
from sae_utils.studies.controls.scores import Difference


class Profile:
    """Three replicates of A and B, two of a twin, one frozen SAE."""

    class common:
        primary = Primary(pair=["a", "b"], matching="mutual", measure="rsa_spearman", permutations=99)

    def __init__(self, replicates=3):
        numbers = range(1, replicates + 1)
        self.families = {name: [f"{name}_{i}" for i in numbers] for name in "ab"} | {"twin": ["twin_1", "twin_2"]}

    def members(self, name):
        return self.families.get(name, [name])


def test_every_comparison_is_listed_once():
    found = partners.cells(Profile(), ["again"], {"random": "twin"}, ["frozen"], ["trained"])
    ring = [("a_1", "a_2"), ("a_2", "a_3"), ("a_3", "a_1")]
    pairs = [("a_1", "b_1"), ("a_2", "b_2"), ("a_3", "b_3")]
    expected = [Cell(partners.SAE_SEED, 0, "a_1", "again")]
    expected += [Cell(partners.MODEL_SEED, i, *pair) for i, pair in enumerate(ring)]
    expected += [Cell(partners.SEED_OF_B, i, x.replace("a", "b"), y.replace("a", "b")) for i, (x, y) in enumerate(ring)]
    expected += [Cell(partners.DEPTH, i, *pair) for i, pair in enumerate(pairs)]
    expected += [Cell(partners.EXCHANGED, i, *pair, exchanged=True) for i, pair in enumerate(pairs)]
    expected += [Cell("random", 0, "a_1", "twin_1"), Cell("random", 1, "a_2", "twin_2")]
    expected += [Cell(partners.FROZEN, 0, "a_1", "frozen"), Cell(partners.TRAINED, 0, "a_1", "trained")]
    assert found == expected and len(set(found)) == len(found)


@pytest.mark.parametrize("replicates, pairs", [(1, 0), (2, 1), (3, 3)])
def test_a_ring_holds_no_pair_twice(replicates, pairs):
    found = partners.cells(Profile(replicates), [], {}, [], [])
    found = [cell for cell in found if cell.label == partners.MODEL_SEED]
    assert len({frozenset((cell.a, cell.b)) for cell in found}) == len(found) == pairs


def scored(label, values, **more):
    return {Cell(label, i, f"a_{i}", f"b_{i}"): Arm(20, {"rsa": x, "knn": x / 2}, x, x) for i, x in enumerate(values)}


TRUE, CONTROL, TWIN = [0.5, 0.6, 0.4, 0.7], [0.2, 0.1, 0.2, 0.1], [0.3, 0.3]
ARMS = scored(partners.DEPTH, TRUE) | scored(partners.EXCHANGED, CONTROL) | scored("twin", TWIN)


def test_a_gap_is_taken_within_replicates():
    found = partners.gap(ARMS, partners.EXCHANGED, "rsa")
    assert found == inference.over_replicates(np.subtract(TRUE, CONTROL))
    assert partners.gap(ARMS, "twin", "knn").estimate == pytest.approx(np.mean([0.2, 0.3]) / 2)
    assert partners.gap(ARMS, "twin", "rsa").n == 2 and np.isnan(partners.gap(ARMS, "twin", "rsa").low)


def test_the_interval_of_a_ring_leaves_out_both_pairs_of_a_seed():
    values = np.array([0.5, 0.6, 0.4, 0.7, 0.5])
    found = partners.over(scored(partners.MODEL_SEED, values), partners.MODEL_SEED, lambda arm: arm.r)
    without = np.array([np.delete(values, [i, (i - 1) % 5]).mean() for i in range(5)])  # pair i is of seeds i, i + 1
    assert found.estimate == pytest.approx(values.mean()) and found.n == 5
    assert found.se == pytest.approx(np.sqrt(4 / 5 * ((without - without.mean()) ** 2).sum()))
    two = partners.over(scored(partners.MODEL_SEED, [0.5]), partners.MODEL_SEED, lambda arm: arm.r)
    assert two.estimate == 0.5 and np.isnan(two.low)


def test_the_table_has_means_and_intervals_by_label_and_measure():
    found = partners.table(ARMS, [partners.DEPTH, "twin"], {"rsa": "RSA", "knn": "kNN"}).set_index("compared with")
    ends = inference.over_replicates(TRUE)
    assert found.loc[partners.DEPTH, ["pairs", "n"]].tolist() == [4, 20]
    assert found.loc[partners.DEPTH, "RSA"] == f"0.55 ({ends.low:.2f} to {ends.high:.2f})"
    assert found.loc["twin", ["pairs", "kNN"]].tolist() == [2, "0.15"]
    assert partners.interval(inference.over_replicates([-0.1, -0.2])) == "\u22120.15"
    values, spread = partners.spread(ARMS, "twin", "rsa")
    assert values.tolist() == TWIN and spread.estimate == pytest.approx(0.3)


def of_replicate(partial, difference):
    account, control = Account(0.5, 0.5 - partial, partial), Account(0.1, 0.0, 0.1)
    selections = {measured.EVERY: Difference(30, 0.2 + difference, 0.2)}
    return Beside({"words": account}, {"words": control}, selections, 0.1, 0.05)


BESIDE = [of_replicate(x, x / 2) for x in (0.4, 0.3, 0.5)]


def test_what_is_left_is_the_partial_similarity_of_both_arms_differenced():
    row = partners.explained(BESIDE).iloc[0]
    left = inference.over_replicates([0.3, 0.2, 0.4])
    assert row["given"] == "words" and row["raw"] == 0.5 and row["explained"] == pytest.approx(0.1)
    assert row["partial"] == pytest.approx(0.4) and row["partial, control"] == pytest.approx(0.1)
    assert row[["left", "low", "high"]].tolist() == pytest.approx([left.estimate, left.low, left.high])
    few = BESIDE[0]._replace(true={}, control={})
    assert partners.left([few, *BESIDE])["words"].n == 3
    assert partners.explained([few]).empty and partners.left([few]) == {}


def test_selections_and_shares_over_replicates():
    row = partners.selected(BESIDE).iloc[0]
    assert row[["pairs", "n", "replicates"]].tolist() == [measured.EVERY, 30, 3]
    assert row["difference"] == pytest.approx(0.2) == partners.difference(BESIDE, measured.EVERY).estimate
    assert row["true"] - row["control"] == pytest.approx(row["difference"])
    shares = partners.shares(ARMS, BESIDE).set_index("partner")["counterparts"]
    assert shares.tolist() == pytest.approx([0.55, 0.15, 0.1, 0.05])


def test_a_grid_holds_every_model_with_every_model_and_the_next_seed_of_itself():
    found = partners.grid(Profile(), {"A": "a", "twin of B": "twin"})
    assert list(found) == [("A", "A"), ("A", "twin of B"), ("twin of B", "A"), ("twin of B", "twin of B")]
    assert found["A", "A"] == [Cell("A", 0, "a_1", "a_2"), Cell("A", 1, "a_2", "a_1")]  # two replicates have the twin
    assert found["twin of B", "A"] == [Cell("A", 0, "twin_1", "a_1"), Cell("A", 1, "twin_2", "a_2")]
    alone = partners.grid(Profile(1), {"A": "a", "twin of B": "twin"})
    assert alone["A", "A"] == [] and alone["A", "twin of B"] == [Cell("twin of B", 0, "a_1", "twin_1")]
    assert partners.grid(Profile(), {}) == {}


def test_a_matrix_holds_the_means_of_rows_with_columns():
    grid = partners.grid(Profile(1), {"A": "a", "B": "b"})
    arms = {cell: Arm(20, {}, r, 0.0) for r, cells in enumerate(grid.values()) for cell in cells}
    found = partners.matrix(arms, grid, lambda arm: arm.r)
    assert list(found.index) == list(found.columns) == ["A", "B"]
    np.testing.assert_array_equal(found, [[np.nan, 1], [2, np.nan]])
