"""The foot of the ladder is the published procedure, its top is this repository's, and each step changes one thing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

from sae_utils import correlate, matching, pipeline, significance
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import batching, models
from sae_utils.engine.saes import activations, dictionaries
from sae_utils.studies.published_tables import ladder, published, views

WORDS = ["<pad>", "<bos>", ".", *(f"w{number}" for number in range(12))]
SETTINGS = ladder.Settings(tokens=(".", "<pad>", "<bos>"), top=3, least_r=0.1, draws=20, permutations=99, seed=0)


def codes(seed, tokens=400, a=25, b=30):
    """Two sides that share part of what they do, with the tokens it is done at."""
    rng = np.random.default_rng(seed)
    word = rng.integers(0, len(WORDS), tokens)
    common = rng.normal(size=(len(WORDS), 8))[word] + 0.5 * rng.normal(size=(tokens, 8))
    sides = [np.maximum(common @ rng.normal(size=(8, d)) + 2 * rng.normal(size=(tokens, d)) - 3, 0) for d in (a, b)]
    return *(sparse.csr_array(x.astype(np.float32)) for x in sides), word


def seen(seed, **sizes):
    a, b, word = codes(seed, **sizes)
    documents = np.arange(len(word)) // 40
    return a, b, word, views.see(a, b, np.arange(len(word)), word, documents, SETTINGS.top)


def by_hand(a, b, word, *, choose_first):
    """The published procedure, feature by feature, on dense codes."""
    x, y = a.toarray().astype(np.float64), b.toarray().astype(np.float64)
    r = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]

    def top(codes, feature):
        at = [t for t in np.argsort(-codes[:, feature], kind="stable") if codes[t, feature] > 0]
        return [WORDS[word[t]] for t in at[: SETTINGS.top]]

    found = [(int(np.argmax(r[:, j])), j) for j in range(y.shape[1])]

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

    found = token_filters(first(found)) if choose_first else first(token_filters(found))
    return [(i, j) for i, j in found if r[i, j] >= SETTINGS.least_r]


def as_list(pairs):
    return sorted(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_the_foot_is_the_published_procedure(seed):
    a, b, word, x = seen(seed)
    expected = by_hand(a, b, word, choose_first=False)
    assert as_list(ladder.chosen(x, x.facts(WORDS), SETTINGS)) == expected and expected


@pytest.mark.parametrize("seed", range(4))
def test_steps_change_what_they_name(seed):
    a, b, word, x = seen(seed)
    sides = ladder.Sides(dict.fromkeys((ladder.PUBLISHED, ladder.MASK, ladder.HOOK, ladder.CODES), x), WORDS, ())
    found = ladder.pairs(sides, SETTINGS)
    assert as_list(found[ladder.ORDER]) == by_hand(a, b, word, choose_first=True)
    mutual = as_list(matching.mutual(correlate.features(a, b, k=1)))
    assert as_list(found[ladder.ALL]) == mutual and set(as_list(found[ladder.ONE])) < set(mutual)
    assert as_list(found[ladder.CODES]) == as_list(found[ladder.PUBLISHED])


def test_least_r_after_the_choice_loses_features_as_the_published_counts_say():
    """Were it before, every partner of a pair that passes all filters would keep one."""
    lost = 0
    for seed in range(6):
        *_, x = seen(seed, a=12, b=40)
        facts = x.facts(WORDS)
        settings = SETTINGS._replace(least_r=0.4)
        kept = ladder.chosen(x, facts, settings)
        before = ladder._filtered(x.b_to_a, facts, [*ladder._by_token(settings), ("weak", {"r": 0.4})])
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


def test_published_p_can_be_zero_and_the_corrected_cannot():
    few = ladder.scores(rows(0), identity(60), [ladder.FIRST, ladder.RSA], 20, 0)
    many = ladder.scores(rows(0), identity(60), [ladder.SVCCA, ladder.RSA], 99, 0, corrected=True)
    assert few[ladder.RSA].p == 0 and many[ladder.RSA].p == 0.01
    assert list(few) == [ladder.FIRST, ladder.RSA] and list(many) == [ladder.SVCCA, ladder.RSA]
    expected = significance.test(*rows(0), [ladder.RSA], m=20, seed=0)[ladder.RSA]
    assert few[ladder.RSA].value == pytest.approx(expected.observed)
    assert few[ladder.RSA].null_mean == pytest.approx(expected.draws.mean(), abs=1e-6)


def test_too_few_pairs_are_not_scored():
    assert ladder.scores(rows(0), identity(9), [ladder.RSA], 20, 0) == {}
    assert list(ladder.scores(rows(0), identity(17), [ladder.SVCCA, ladder.RSA], 20, 0)) == [ladder.RSA]
    assert ladder.SVCCA in ladder.scores(rows(0), identity(18), [ladder.SVCCA], 20, 0)  # three a dimension


def test_excess_is_nothing_at_chance_and_one_at_most():
    x = ladder.Score(value=0.6, null_mean=0.2, low=0.1, high=0.3, p=0.01)
    found = ladder.excess(x)
    assert found == pytest.approx((0.5, 0.0, -0.125, 0.125, 0.01))
    assert ladder.excess(x._replace(value=1.0)).value == 1 and ladder.excess(x._replace(value=0.2)).value == 0
    assert np.isnan(ladder.excess(x._replace(null_mean=1.0)).value)


def test_largest_names_the_step_after_the_change():
    rungs = [ladder.Rung(step, identity(3), {}) for step in ladder.STEPS]
    assert ladder.largest(rungs, [5, 5, 9, 8, 8, 8, 8, 8, 8, 8]) == ladder.HOOK
    assert ladder.largest(rungs, [5, 5, 5, 5, 5, 5, 5, 5, 5, 0]) == ladder.ALL


def test_says_what_p_says():
    x = ladder.Score(0.5, 0.0, -0.1, 0.1, 0.01)
    assert [ladder.says(y) for y in (x, x._replace(p=0.05), None)] == [
        "more alike than chance gives",
        "no more alike than chance gives",
        "too few to be scored",
    ]


# --- on a trained world

POSITIONS = 2500


@pytest.fixture(scope="module")
def source(world):
    return pipeline.reader(world, "two_layer")


@pytest.fixture(scope="module")
def where(world, source):
    return views.positions(source.rows, POSITIONS, source.skip)


def test_topk_of_what_is_before_are_the_codes(world, source):
    sae = dictionaries.load(source.dictionary)
    x = torch.randn(50, sae.cfg.d_in, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = views.before(sae, x), sae.encode(x)
    kept = torch.topk(before, sae.cfg.k, dim=1)
    assert torch.allclose(torch.zeros_like(before).scatter(1, kept.indices, kept.values), after, atol=1e-6)
    assert (before > 0).sum() > (after > 0).sum()  # else TopK would change nothing here


def test_positions_are_all_tokens_and_inside_are_the_sites(source, where):
    sites = activations.sites(source.rows, source.skip)
    inside = where.array("inside")
    mine = np.isin(sites.array("rows"), where.array("chosen"))
    assert np.array_equal(where.array("tokens")[inside], sites.array("tokens")[mine])
    assert np.array_equal(where.array("documents")[inside], sites.array("documents")[mine])
    lengths = source.rows.array("lengths")[where.array("chosen")]
    assert len(inside) == lengths.max() * len(lengths) and inside.sum() == (lengths - source.skip).sum()


@pytest.mark.parametrize("most", [112, 500, 3333, 10_000, 10**6])
def test_no_more_positions_than_asked_for_are_looked_at(source, most):
    found = views.positions(source.rows, most, source.skip)
    matching = np.flatnonzero(source.rows.array("split") == 1)
    chosen, lengths = found.array("chosen"), source.rows.array("lengths")
    assert np.array_equal(chosen, matching[: len(chosen)]) and 0 < found.meta["tokens"] <= most
    # one more row would not have fitted, with the padding of a whole batch
    width = lengths[matching].max()
    assert len(chosen) == len(matching) or found.meta["tokens"] + 64 * width > most
    for name in ("tokens", "documents", "inside"):
        assert (
            len(found.array(name))
            == found.meta["tokens"]
            == sum(len(batch) * lengths[batch].max() for batch in batching.in_order(chosen))
        )


def test_not_even_a_row_is_said(source):
    with pytest.raises(ProfileError, match=r"12_published_tables\.positions: 20 are fewer than a row"):
        views.positions(source.rows, 20, source.skip)


def test_one_pass_over_a_model_feeds_all_that_read_it(world, monkeypatch):
    """At both hooks, in both pairs, and for every published cell."""
    passed, harvest = [], models.harvest
    names = ("one_layer", "two_layer")
    for name in names:
        pipeline.features(world, name)
    monkeypatch.setattr(models, "harvest", lambda *given, **more: passed.append(given[3]) or harvest(*given, **more))
    for pair in (names, names[::-1]):
        ladder.sides(world, *pair, 3000, 5)
    assert sorted(passed) == [
        ["blocks.0.hook_resid_post", "blocks.1.hook_mlp_out"],
        ["blocks.0.hook_resid_pre", "blocks.0.hook_mlp_out"],
    ]
    cells = [published.Cell("m", "m", 1, 2, *pair) for pair in (names, names[::-1])]
    assert list(ladder.cells(world, cells, 2900, SETTINGS)) == cells and len(passed) == 4


@pytest.mark.parametrize("right", [False, True])
def test_partners_are_those_of_a_direct_computation(world, source, where, right):
    kept = ladder.loose(world, "two_layer", "two_layer", POSITIONS, 3, right=right)
    hook = source.hook if right else models.block_input(source.hook)
    bridge, sae = models.load(source.model), dictionaries.load(source.dictionary)
    (part,) = models.harvest(bridge, source.rows, iter([where.array("chosen")]), [hook], 0)
    with torch.no_grad():
        dense = torch.relu(sae.process_sae_in(part.activations[hook].flatten(0, 1)) @ sae.W_enc + sae.b_enc).numpy()
    for name, at in (("all", slice(None)), ("inside", where.array("inside"))):
        x = views.read(kept, name)
        expected = correlate.features(*[sparse.csr_array(dense[at])] * 2, k=1)
        assert as_list(x.mutual) == as_list(matching.mutual(expected))
        assert np.array_equal(x.firings[0], (dense[at] > 0).sum(0))
    # nothing but the answer is kept
    assert not [file for file in kept.path.iterdir() if file.is_dir()]


def test_the_block_is_fed_with_the_output_of_the_block_before():
    assert models.block_input("blocks.1.hook_mlp_out") == "blocks.0.hook_resid_post"
    assert models.block_input("blocks.0.hook_mlp_out") == "blocks.0.hook_resid_pre"
    with pytest.raises(ValueError, match="is in no block"):
        models.block_input("hook_embed")


def test_the_top_is_the_primary_analysis_where_all_documents_are_looked_at(world):
    everything = ladder.sides(world, "one_layer", "two_layer", 10**6, 5)
    assert list(everything.seen) == [ladder.PUBLISHED, ladder.MASK, ladder.HOOK, ladder.CODES]
    rungs = ladder.climb(everything, SETTINGS._replace(top=5))
    assert [x.step for x in rungs] == list(ladder.STEPS)
    both = pipeline.correlated(*(pipeline.features(world, name) for name in ("one_layer", "two_layer")), 1)
    assert as_list(rungs[-1].pairs) == as_list(matching.mutual(both.found))
    shown = ladder.table(rungs)
    assert shown.columns.tolist() == ["", *ladder.STEPS]
    assert shown[""].tolist()[:2] == ["n", "mean r"] and shown[ladder.ALL][0] == str(len(rungs[-1].pairs.a))
    planted = ladder.table(rungs, dict.fromkeys(ladder.STEPS, 0.5))
    assert planted[""].tolist()[2] == "planted" and set(planted.iloc[2, 1:]) == {"0.50"}


def test_a_cell_has_all_that_is_compared(world):
    found = ladder.cell(world, "one_layer", "two_layer", POSITIONS, SETTINGS)
    assert list(found) == list(published.COMPARED)
    assert found["num_feat_kept"] >= 0 and -1 <= found["mean_actv_corr"] <= 1


def test_models_of_two_tokenizers_are_refused(world, monkeypatch):
    monkeypatch.setattr(pipeline, "reader", lambda profile, name: SimpleNamespace(rows=SimpleNamespace(key=name)))
    with pytest.raises(ValueError, match="one_layer and two_layer look at different tokens"):
        ladder.cell(world, "one_layer", "two_layer", POSITIONS, SETTINGS)
