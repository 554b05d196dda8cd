"""All published numbers are read, and compared at the right n."""

import numpy as np
import pandas as pd
import pytest

from sae_utils.engine.core.spec import ProfileError
from sae_utils.studies.published_tables import published


def test_scores_are_read_once_a_pair_of_layers():
    scores = published.layer_scores()
    raw = pd.read_csv(published.SOURCE)
    quantities = raw.quantity.unique()
    assert scores[quantities].notna().sum().sum() == len(raw)
    one = scores[(scores.pairing == "one-to-one (first B per A)") & (scores.layer_a == 3) & (scores.layer_b == 5)]
    line = raw[
        raw.pairing.str.startswith("one-to-one")
        & (raw.layer_a == 3)
        & (raw.layer_b == 5)
        & (raw.quantity == "rsa_paired")
    ]
    assert one.rsa_paired.tolist() == line.value.tolist()


@pytest.mark.parametrize("m", [1, 5, 20])
def test_the_number_of_draws_follows_from_the_scatter(m):
    rng = np.random.default_rng(m)
    drawn = np.abs(rng.normal(size=(4000, m))).mean(axis=1) / np.sqrt(2 / np.pi)
    assert published.draws_by_scatter(pd.Series(drawn)) == pytest.approx(m, rel=0.1)


# --- what can be checked without the models


def test_every_published_null_is_checked_once():
    scores = published.layer_scores()
    checks = published.checks(scores)
    for name in ("svcca", "rsa"):
        mine = checks[checks.score == name.upper()]
        assert len(mine) == scores[f"{name}_rand_mean"].notna().sum() == scores[f"{name}_rand_pval"].notna().sum()
        assert sorted(mine.published) == sorted(scores[f"{name}_paired"][scores[f"{name}_rand_mean"].notna()])
    svcca = checks[checks.score == "SVCCA"].reset_index(drop=True)
    assert svcca.drop(columns="unique").notna().all().all() and svcca["set"].nunique() == 5
    assert (svcca.unique[svcca["set"].str.contains("pythia-70m, one-to-one")] == 1).all()
    assert svcca.expected.to_numpy() == pytest.approx(np.sqrt(2 / (np.pi * svcca.n)))
    assert not checks.expected[checks.score == "RSA"].any()


@pytest.mark.parametrize(
    "shares, m", [([0, 1, 0], 1), ([0, 0.5], 2), ([0.1, 0.8, 0], 10), ([0.05, 0.65], 20), ([0.333, 0.667], 3)]
)
def test_shares_give_the_fewest_draws(shares, m):
    assert published.draws_by_p(pd.Series(shares)) == m


def test_shares_of_no_number_of_draws_are_refused():
    with pytest.raises(ValueError, match="no number of draws up to 20"):
        published.draws_by_p(pd.Series([0.123]))


def test_a_set_is_described_by_its_fewest_shuffles():
    """Two pairs of layers: half of the shares are 0, so that two shuffles are enough; features of A are .5 and 1."""
    checks = pd.DataFrame({
        "set": ["one"] * 4, "score": ["SVCCA", "SVCCA", "RSA", "RSA"], "n": [100, 50, 100, 50],
        "unique": [0.5, 1.0, 0.5, 1.0], "p": [0.0, 0.5, 0.0, 0.5], "null mean": [1.5, 0.5, 0.0, 0.0], "expected": 1.0,
    })  # fmt: skip
    (found,) = published.by_set(checks).to_dict("records")
    scatter = (np.pi / 2 - 1) / 0.25
    assert found == {
        "set": "one", "cells": 2, "n from": 50, "n to": 100, "unique": 0.75, "p = 0": "2 of 4", "draws, by p": 2,
        "by scatter": pytest.approx(scatter), "p at best": pytest.approx(1 / 3),
    }  # fmt: skip


def test_p_of_one_component_is_that_of_many_shuffles():
    rng = np.random.default_rng(0)
    n = 300
    x, y = rng.normal(size=(2, n))
    drawn = np.array([abs(np.corrcoef(x, rng.permutation(y))[0, 1]) for _ in range(4000)])
    r = pd.Series(np.quantile(drawn, [0.2, 0.5, 0.9, 0.98]))
    assert published.p_of_one_component(r, pd.Series([n] * 4)) == pytest.approx([0.8, 0.5, 0.1, 0.02], abs=0.025)


def test_the_counts_show_pairs_lost_after_the_choice():
    at = {"model_a": "x", "model_b": "y", "direction": "B to A", "layer_a": 1, "layer_b": [0, 1, 0, 1]}
    scores = pd.DataFrame(
        {
            **at,
            "pairing": ["many-to-one"] * 2 + ["one-to-one (first B per A)"] * 2,
            "num_feat_A_unique": [50, 60, 49, 60],
            "num_feat_kept": [80, 90, 49, 60],
        }
    )
    found = published.filter_order(scores)
    assert found.values.tolist() == [[1, 0, 50, 49], [1, 1, 60, 60]]
    real = published.filter_order(published.layer_scores())
    assert len(real) == 60 and (real.kept <= real.partners).all()


# --- beside ours

LAYERS = {"pythia-70m": {3: "mine"}, "pythia-160m": {5: "yours", 6: "yours"}}


@pytest.mark.parametrize("key", [int, str])
def test_cells_are_those_whose_two_layers_are_named(key):
    scores = published.layer_scores()
    layers = {model: {key(layer): name for layer, name in named.items()} for model, named in LAYERS.items()}
    cells = published.cells(scores, layers, ["mine", "yours"], "here")
    assert [(c.layer_a, c.layer_b, c.a, c.b) for c in cells] == [(3, 5, "mine", "yours"), (3, 6, "mine", "yours")]
    assert published.cells(scores, {}, ["mine"], "here") == []
    assert published.cells(scores, {"pythia-70m": {3: "mine"}}, ["mine"], "here") == []


@pytest.mark.parametrize(
    "layers, message",
    [
        ({"pythia-71m": {3: "mine"}}, r"here\.pythia-71m: the study reports no such model; did you mean `pythia-70m`"),
        ({"pythia-70m": {9: "mine"}}, r"here\.pythia-70m\.9: the study reports layers \[1, 2, 3, 4, 5\]"),
        ({"pythia-70m": {3: "mime"}}, r"here\.pythia-70m\.3: no dictionary 'mime'; did you mean `mine`"),
    ],
)
def test_names_that_nothing_defines_are_refused(layers, message):
    with pytest.raises(ProfileError, match=message):
        published.cells(published.layer_scores(), layers, ["mine", "yours"], "here")


def test_ours_stand_beside_the_published():
    scores = published.layer_scores()
    cell = published.cells(scores, LAYERS, ["mine", "yours"], "here")[0]
    ours = dict.fromkeys(published.COMPARED, 0.25)
    beside = published.compare(scores, {cell: ours})
    assert beside.quantity.tolist() == list(published.COMPARED.values())
    assert set(beside.models) == {"pythia-70m x pythia-160m"} and set(beside.layers) == {"3 x 5"}
    assert beside.published[beside.quantity == "RSA"].item() == 0.2  # as in the published table
    assert (beside.ours == 0.25).all()
    assert "cells, 1 were made again" in published.verdict(beside)


def test_agreement_is_counted_where_both_are_defined():
    scores = published.layer_scores()
    cells = published.cells(scores, {"pythia-70m": {3: "x"}, "pythia-160m": {5: "x", 6: "x", 7: "x"}}, ["x"], "here")
    ours = {cell: dict.fromkeys(published.COMPARED, float("nan")) for cell in cells}
    for number, cell in enumerate(cells):
        ours[cell]["rsa_paired"] = 0.1 * number
    found = published.agreement(published.compare(scores, ours))
    row = found.iloc[0]
    assert found.quantity.tolist() == ["RSA"] and row.cells == 3
    assert row.published == pytest.approx((0.2 + 0.201 + 0.173) / 3) and row.ours == pytest.approx(0.1)
    assert row["median apart"] == pytest.approx(0.101)  # of 0.2, 0.101 and 0.027
    assert row.r == pytest.approx(np.corrcoef([0.2, 0.201, 0.173], [0, 0.1, 0.2])[0, 1])


def test_the_verdict_says_when_nothing_was_compared():
    nothing = published.compare(published.layer_scores(), {})
    assert published.verdict(nothing).startswith("None of the published cells has been made again")
    assert len(published.agreement(nothing)) == 0
