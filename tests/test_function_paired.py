"""Pairs with their logits from the store: one model on both sides, what the arms read, dead ends."""

import numpy as np
import pytest

from sae_utils import pipeline, replicates
from sae_utils.engine.core.spec import ProfileError
from sae_utils.studies.function import attribution, measured, paired
from sae_utils.studies.function.paired import CONTROL, TRUE

SETTINGS = measured.Settings(
    minimum=1, candidates=8, top=5, strata=2, caliper=0.2, permutations=19, subsets=2, measure="rsa_spearman",
    vectors={"kind": "corpus", "size": 8, "window": 3, "epochs": 1, "seed": 0}, period=".", hub=1, seed=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def same(world):
    """One dictionary on both sides."""
    return paired.both(world, ("one_layer", "one_layer"), 5)


@pytest.fixture(scope="module")
def two(world):
    return paired.both(world, ("one_layer", "two_layer"), 5)


def test_identical_models_promote_the_same(world, same):
    alone = world._replace(common=world.common.model_copy(update={"replicates": []}))
    for view in paired.views(alone, ("one_layer", "one_layer"), 3, 8):
        x = view.arms[TRUE]
        np.testing.assert_array_equal(x.left, x.right)
        found = measured.of_view(same, view, SETTINGS)
        assert found["logits, true"] == pytest.approx(1, abs=1e-5)
        assert found["overlap"] == 1 and found["weighted logits, true"] == pytest.approx(1, abs=1e-5)
        assert found["own text, true"] == pytest.approx(found["text, true"])


def test_a_side_counts_what_follows_its_firings(world, same):
    codes = (
        pipeline.features(world, "one_layer", None),
        pipeline.features(world, "one_layer", replicates.seed(world, "one_layer")),
    )
    feature = int(same.a.firings.argmax())
    word_of = {token: i for i, token in enumerate(same.shared.a.tolist())}
    count = np.zeros(len(same.shared.words))
    for read in codes:
        tokens, rows, positions = (read.sites.array(name) for name in ("tokens", "rows", "positions"))
        fires = np.flatnonzero(read.codes[:, [feature]].toarray().ravel()[:-1])
        for at in fires:
            follows = rows[at + 1] == rows[at] and positions[at + 1] == positions[at] + 1
            if follows and int(tokens[at + 1]) in word_of:
                count[word_of[int(tokens[at + 1])]] += 1
    np.testing.assert_array_equal(same.a.counts[[feature]].toarray()[0], count)
    assert same.a.firings[feature] == sum((x.codes[:, [feature]] > 0).sum() for x in codes)


def test_the_control_arm_reads_logits_and_text_through_the_exchange(two):
    x, partner = paired.Paired(np.array([0, 4, 2]), np.array([3, 1, 5]), np.zeros(3)), two.shared.partner
    assert (partner != np.arange(len(partner))).any() and (partner[partner] == np.arange(len(partner))).all()
    logits = two.a.decoder[x.left] @ two.a.u.T, (two.b.decoder[x.right] @ two.b.u.T)[:, partner]
    n = len(x.left)
    np.testing.assert_allclose(two.similar("a", CONTROL, x), np.corrcoef(*logits)[:n, n:], atol=1e-4)
    told = two.told("a", CONTROL, x)[1]
    np.testing.assert_array_equal(told.counts.toarray(), two.b.counts[x.right].toarray()[:, partner])
    there = two.similar("b", TRUE, paired.Paired(x.right, x.left, x.r))
    np.testing.assert_allclose(there, two.similar("a", TRUE, x).T, atol=1e-6)


def test_strengths_are_those_of_both_features(two):
    x = paired.Paired(np.array([1, 2]), np.array([3, 4]), np.zeros(2))
    of_a = np.linalg.norm(two.a.decoder[x.left] @ two.a.u.T, axis=1) * two.a.mean_code[x.left]
    of_b = np.linalg.norm(two.b.decoder[x.right] @ two.b.u.T, axis=1) * two.b.mean_code[x.right]
    np.testing.assert_allclose(two.strengths("a", x), np.sqrt(of_a * of_b), rtol=1e-4)


def test_a_twin_that_is_b_itself_is_as_like_as_b(world, two):
    units = paired.beside_twin(world, two.a, "two_layer", two.shared)
    np.testing.assert_allclose(units[0] @ units[1].T, two.units[TRUE][0] @ two.units[TRUE][1].T, atol=1e-5)


def test_without_replicates_mutual_pairs_have_one_arm(world):
    single = world._replace(common=world.common.model_copy(update={"replicates": []}))
    names = ("one_layer", "one_layer")
    found = paired.views(single, names, 3, 8)
    assert [view.role for view in found] == ["a", "a"] and all(view.arms.keys() == {TRUE} for view in found)
    both = paired.both(single, names, 5)
    assert both.units.keys() == {TRUE} and (both.shared.partner == np.arange(len(both.shared.partner))).all()
    result = measured.of_replicate(single, names, [], SETTINGS)
    assert "logits, control" not in result.numbers and set(result.criteria.arm) == {TRUE}
    assert result.criteria.set_index("criterion").agree["attribution"] == 1


def test_one_replicate_is_measured_with_both_arms(world, monkeypatch):
    monkeypatch.setattr(replicates, "CONTENT", -1)  # all features take part: the world is too small for others
    found = measured.of_replicate(world, ("one_layer", "two_layer", "two_layer"), ["the same"], SETTINGS)
    assert found.numbers["the same, true"] == pytest.approx(found.numbers["the same, control"], abs=1e-5)
    assert set(found.criteria.arm) == {TRUE, CONTROL} and set(found.along.arm) == {TRUE, CONTROL}
    assert found.criteria.set_index(["arm", "criterion"]).agree[TRUE, "activation"] == 1
    assert list(found.hubs["features that"])[-1] == "all"


def test_too_few_pairs_are_refused(world):
    with pytest.raises(ProfileError, match=r"0 pairs of features, too few.*lower `minimum_firings`"):
        paired.views(world, ("one_layer", "two_layer"), 10**6, 8)


def test_the_largest_of_a_row():
    from scipy import sparse

    assert paired.largest(sparse.csr_array(np.array([[0, 2, 1], [0, 0, 0], [3, 0, 0]]))).tolist() == [1, -1, 0]


def test_a_dictionary_inside_the_mlp_has_no_logits(world):
    inside = world.dictionaries["one_layer"].model_copy(update={"hook": "blocks.0.mlp.hook_post"})
    other = world._replace(dictionaries=world.dictionaries | {"one_layer": inside})
    with pytest.MonkeyPatch.context() as patch:
        source = pipeline.reader(world, "one_layer")._replace(hook=inside.hook)
        patch.setattr(pipeline, "reader", lambda profile, name: source)
        with pytest.raises(ProfileError, match=r"dictionaries\.one_layer: it reads blocks\.0\.mlp\.hook_post"):
            paired.side(other, "one_layer", np.arange(5), ["a"] * 5, [None], 5)
    with pytest.raises(ValueError, match="residual stream"):
        attribution.unit(np.ones((2, 5), np.float32), np.ones((7, 3)))
