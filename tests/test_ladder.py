"""The first rung is the published procedure, the last one is this repository's, and each step changes one thing."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from sae_utils import correlate, filters, matching, pipeline, significance
from sae_utils.studies.published_tables import ladder, published, views

WORDS = ["<pad>", "<bos>", ".", *(f"w{number}" for number in range(12))]
SETTINGS = ladder.Settings(tokens=[".", "<pad>", "<bos>"], top=3, least_r=0.1, draws=20, permutations=99, seed=0)


def codes(seed, tokens=400, a=25, b=30):
    """Two sides that share part of their activity, and the tokens at which it occurs."""
    rng = np.random.default_rng(seed)
    word = rng.integers(0, len(WORDS), tokens)
    common = rng.normal(size=(len(WORDS), 8))[word] + 0.5 * rng.normal(size=(tokens, 8))
    sides = [np.maximum(common @ rng.normal(size=(8, d)) + 2 * rng.normal(size=(tokens, d)) - 3, 0) for d in (a, b)]
    return *(sparse.csr_array(x.astype(np.float32)) for x in sides), word


def viewed(seed, **sizes):
    """The codes, their tokens, and both sides with the same view of them for every step."""
    a, b, word = codes(seed, **sizes)
    view = views.view(a, b, np.arange(len(word)), word, np.arange(len(word)) // 40, SETTINGS.top)
    return a, b, word, views.Sides(dict.fromkeys(views.VIEWS, view), WORDS, ())


def by_hand(a, b, word, *, choose_first):
    """The published procedure, feature by feature, on dense codes."""
    x, y = a.toarray().astype(np.float64), b.toarray().astype(np.float64)
    r = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]

    def top(codes, feature):
        at = [t for t in np.argsort(-codes[:, feature], kind="stable") if codes[t, feature] > 0]
        return [WORDS[word[t]] for t in at[: SETTINGS.top]]

    def token_filters(pairs):
        kept = []
        for i, j in pairs:
            one, two = top(x, i), top(y, j)
            if not set(one + two) & set(SETTINGS.tokens) and set(one) & set(two):
                kept.append((i, j))
        return kept

    def first(pairs):
        lowest = {}
        for i, j in pairs:
            lowest[i] = min(lowest.get(i, j), j)
        return sorted(lowest.items())

    found = [(int(np.argmax(r[:, j])), j) for j in range(y.shape[1])]
    found = token_filters(first(found)) if choose_first else first(token_filters(found))
    return [(i, j) for i, j in found if r[i, j] >= SETTINGS.least_r]


def as_list(pairs):
    return sorted(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))


def test_each_step_changes_what_it_names():
    assert ladder.LADDER[ladder.PUBLISHED] == ladder.Procedure()
    steps = list(ladder.LADDER.items())
    for (_, before), (step, after) in itertools.pairwise(steps):
        changed = {x.name for x in dataclasses.fields(after) if getattr(before, x.name) != getattr(after, x.name)}
        assert changed == set(ladder.CORRECTIONS[step])


@pytest.mark.parametrize("seed", range(4))
def test_the_pairs_of_a_step_are_those_found_by_hand(seed):
    a, b, word, sides = viewed(seed)
    found = {step: as_list(ladder.choose(sides, step, SETTINGS)) for step in ladder.STEPS}
    assert found[ladder.PUBLISHED] == by_hand(a, b, word, choose_first=False) != []
    assert found[ladder.ORDER] == by_hand(a, b, word, choose_first=True)
    assert found[ladder.ALL] == as_list(matching.mutual(correlate.features(a, b, k=1)))
    assert set(found[ladder.ONE]) < set(found[ladder.ALL])


def test_least_r_after_the_choice_loses_features_as_the_published_counts_show():
    """If least r came before the choice, every partner of a pair that passes all filters would keep a pair."""
    lost = 0
    for seed in range(6):
        *_, sides = viewed(seed, a=12, b=40)
        settings = SETTINGS.model_copy(update={"least_r": 0.4})
        kept = ladder.choose(sides, ladder.PUBLISHED, settings)
        view = sides.views[views.PUBLISHED]
        steps = [settings.filter(name) for name in ("non_concept", "no_shared_token", "weak")]
        before = filters.apply(view.b_to_a, steps, **view.facts(WORDS))[0]
        assert set(kept.a) <= set(before.a)
        lost += len(set(before.a)) - len(kept.a)
    assert lost > 0


# --- scores


def rows(seed, n=60, d=6, noise=0.7):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, x @ np.linalg.qr(rng.normal(size=(d, d)))[0] + noise * rng.normal(size=(n, d))


def identity(n):
    none = np.zeros(n, np.int8)
    return matching.Pairs(np.arange(n), np.arange(n), np.full(n, 0.5, np.float32), none, none)


def score(step, n=60):
    return ladder.score(rows(0), identity(n), ladder.LADDER[step], SETTINGS)


def test_published_p_can_be_zero_and_the_corrected_cannot():
    few, many = score(ladder.PUBLISHED), score(ladder.SHUFFLES)
    assert few[ladder.RSA].p == 0 and many[ladder.RSA].p == 0.01
    assert list(few) == [ladder.FIRST, ladder.RSA] and list(many) == [ladder.SVCCA, ladder.RSA]
    expected = significance.test(*rows(0), [ladder.RSA], m=20, seed=0)[ladder.RSA]
    assert few[ladder.RSA].value == pytest.approx(expected.observed)
    assert few[ladder.RSA].null_mean == pytest.approx(expected.draws.mean(), abs=1e-6)


def test_too_few_pairs_are_not_scored():
    assert score(ladder.PUBLISHED, 9) == {}
    assert list(score(ladder.ESTIMATOR, 17)) == [ladder.RSA]
    assert ladder.SVCCA in score(ladder.ESTIMATOR, 18)  # three a dimension


def test_excess_is_zero_at_chance_and_one_at_most():
    x = ladder.Score(value=0.6, null_mean=0.2, low=0.1, high=0.3, p=0.01)
    assert ladder.excess(x) == pytest.approx((0.5, 0.0, -0.125, 0.125, 0.01))
    assert ladder.excess(x._replace(value=1.0)).value == 1 and ladder.excess(x._replace(value=0.2)).value == 0
    assert np.isnan(ladder.excess(x._replace(null_mean=1.0))[:4]).all()
    before, after = score(ladder.SHUFFLES), score(ladder.EXCESS)
    assert after == {name: ladder.excess(x) for name, x in before.items()}


def test_the_conclusion_follows_from_p():
    x = ladder.Score(0.5, 0.0, -0.1, 0.1, 0.01)
    assert [ladder.conclusion(y) for y in (x, x._replace(p=0.05), None)] == [
        "more alike than chance gives",
        "no more alike than chance gives",
        "too few to be scored",
    ]


# --- on trained models


def test_the_last_rung_is_the_primary_analysis_where_all_documents_are_viewed(world):
    sides = views.sides(world, "one_layer", "two_layer", 10**6, 5)
    assert tuple(sides.views) == views.VIEWS
    rungs = ladder.rungs(sides, SETTINGS.model_copy(update={"top": 5}))
    assert [x.step for x in rungs] == list(ladder.STEPS)
    both = pipeline.correlated(*(pipeline.features(world, name) for name in ("one_layer", "two_layer")), 1)
    assert as_list(rungs[-1].pairs) == as_list(matching.mutual(both.found))
    shown = ladder.table(rungs)
    assert shown.columns.tolist() == ["", *ladder.STEPS]
    assert shown[""].tolist()[:2] == ["n", "mean r"] and shown[ladder.ALL][0] == str(len(rungs[-1].pairs))
    planted = ladder.table(rungs, dict.fromkeys(ladder.STEPS, 0.5))
    assert planted[""].tolist()[2] == "planted" and set(planted.iloc[2, 1:]) == {"0.50"}


def test_a_cell_has_every_quantity_that_is_compared(world):
    found = ladder.cell(world, "one_layer", "two_layer", 2500, SETTINGS)
    assert list(found) == list(published.COMPARED)
    assert found["num_feat_kept"] >= 0 and -1 <= found["mean_actv_corr"] <= 1


def test_models_of_two_tokenizers_are_refused(world, monkeypatch):
    monkeypatch.setattr(pipeline, "reader", lambda profile, name: SimpleNamespace(rows=SimpleNamespace(key=name)))
    with pytest.raises(ValueError, match="one_layer and two_layer look at different tokens"):
        ladder.cell(world, "one_layer", "two_layer", 2500, SETTINGS)
