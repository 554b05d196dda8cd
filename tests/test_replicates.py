"""Both arms of a replicate, on planted worlds whose truth is known, and on trained models."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from sae_utils import pipeline, profiles, replicates
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import lexicon

WORDS, CLASSES, FUNCTION, D = 120, 12, 30, 16
MEASURE = "rsa_spearman"


def exchange(rng) -> np.ndarray:
    """Content words change places in pairs between classes (class of a word: its number modulo `CLASSES`)."""
    partner = np.arange(WORDS + FUNCTION)
    first, second = rng.permutation(WORDS).reshape(2, -1)
    while (same := np.flatnonzero(first % CLASSES == second % CLASSES)).size:
        other = rng.integers(len(second))
        second[[same[0], other]] = second[[other, same[0]]]
    partner[first], partner[second] = second, first
    return partner


def side(decoder, texts, rng) -> replicates.Side:
    """A dictionary with a feature for every word, which fires where the word stands; `texts`: split -> readings."""

    def codes(tokens):
        fires = (1 + rng.random(len(tokens)), (np.arange(len(tokens)), tokens))
        return sparse.csr_array(fires, (len(tokens), WORDS + FUNCTION))

    blocks = {split: [codes(tokens) for tokens in readings] for split, readings in texts.items()}
    classes = {split: [np.where(t < WORDS, t % CLASSES, -1) for t in readings] for split, readings in texts.items()}
    return replicates.Side(decoder, blocks, classes)


def planted(seed: int, shared: bool, readings: int = 2):
    """Two dictionaries whose rows are arranged by the classes of words, or those of the second at random."""
    rng = np.random.default_rng(seed)
    partner, centres = exchange(rng), rng.normal(size=(CLASSES, D))
    texts = {}
    for split in ("matching", "held_out"):
        text = rng.integers(WORDS + FUNCTION, size=20_000)
        texts[split] = [text, partner[text]][:readings]
    of = np.arange(WORDS + FUNCTION) % CLASSES
    rows = [centres[of] + 0.3 * rng.normal(size=(WORDS + FUNCTION, D)) for _ in range(2)]
    turned = rows[1] @ np.linalg.qr(rng.normal(size=(D, D)))[0] if shared else rng.normal(size=rows[1].shape)
    return [side(decoder, texts, rng) for decoder in (rows[0], turned)], texts, partner


def test_exchanged_words_take_away_what_is_shared_and_nothing_else():
    own, _, partner = planted(0, shared=True)
    found = replicates.match_all(tuple(own), 20)
    assert [x.role for x in found] == ["a", "b", "a", "b"]
    for x in found:
        assert (x.features == np.arange(WORDS)).all()  # the function words are not content
        assert (x.true == x.features).all() and (x.control == partner[x.features]).all()
        assert (x.r_true > 0.9).all() and (x.r_control > 0.9).all()
        assert x.retention == pytest.approx(WORDS / (WORDS + FUNCTION))
    arms = replicates.scored(tuple(own), found, [MEASURE])
    assert arms.n == WORDS and arms.true[MEASURE] > 0.5 and abs(arms.control[MEASURE]) < 0.05
    assert arms.r_true == pytest.approx(arms.r_control, abs=0.01)


def test_nothing_shared_is_no_difference():
    differences = []
    for seed in range(6):
        own, *_ = planted(seed, shared=False)
        arms = replicates.scored(tuple(own), replicates.match_all(tuple(own), 20), [MEASURE])
        differences.append(arms.difference(MEASURE))
    assert abs(np.mean(differences)) < 0.03 and np.ptp(differences) > 0


def test_a_twin_takes_the_place_of_b_for_features_of_a():
    (a, b), texts, _ = planted(1, shared=True, readings=1)
    rng = np.random.default_rng(2)
    twin = side(rng.normal(size=(WORDS + FUNCTION, D)), texts, rng)
    own = (a, b, twin)
    found = replicates.match_all(own, 20)
    assert [x.role for x in found] == ["a", "a"]
    arms = replicates.scored(own, found, [MEASURE])
    assert arms.true[MEASURE] > 0.5 and abs(arms.control[MEASURE]) < 0.05


def test_correlations_are_those_of_the_joined_texts():
    rng = np.random.default_rng(0)
    blocks = [[sparse.random_array((n, 7), density=0.4, rng=rng, format="csr") for n in (30, 50)] for _ in range(2)]
    for block in blocks[0]:
        block.data[block.indices == 3] = 0  # dead
    found = replicates.correlate(*blocks)
    a, b = (np.vstack([x.toarray() for x in side]) for side in blocks)
    with np.errstate(invalid="ignore"):
        expected = np.corrcoef(a.T, b.T)[:7, 7:]
    assert found.live[0].tolist() == [i != 3 for i in range(7)] and found.live[1].all()
    assert np.isnan(found.r[3]).all()
    np.testing.assert_allclose(found.r[found.live[0]], expected[found.live[0]], atol=1e-12)


@pytest.mark.parametrize("columns", [4, 6])
def test_partners_have_the_largest_total(columns):
    rng = np.random.default_rng(columns)
    r, features = rng.normal(size=(8, columns + 1)), np.array([1, 4, 5, 7])
    live = np.arange(columns + 1) != 2
    total = max(r[features, list(x)].sum() for x in itertools.permutations(np.flatnonzero(live), 4))
    found = replicates.partners(r, features, live)
    assert len(set(found)) == 4 and 2 not in found and r[features, found].sum() == pytest.approx(total)


def test_a_feature_without_a_partner_is_in_neither_arm():
    rng = np.random.default_rng(0)
    r = [rng.normal(size=(6, 4)) for _ in range(4)]
    found = replicates.match(
        "a",
        np.arange(6),
        *(
            tuple(replicates.Correlations(x, (np.ones(6, bool), np.ones(4, bool))) for x in pair)
            for pair in (r[:2], r[2:])
        ),
    )
    true, control = (replicates.partners(x, np.arange(6), np.ones(4, bool)) for x in r[:2])
    assert found.features.tolist() == np.flatnonzero((true >= 0) & (control >= 0)).tolist()
    assert found.r_control.tolist() == [r[3][i, control[i]] for i in found.features]


# --- names, and trained models


def test_replicates_go_together_as_far_as_all_families_reach():
    smoke = profiles.load("smoke")
    two, three = smoke.members("two_layer"), smoke.members("three_layer")
    assert replicates.of(smoke, "two_layer", "three_layer") == list(zip(two, three, strict=True))
    assert replicates.of(smoke, "two_layer", "two_layer_seed1") == [(two[0], "two_layer_seed1")]
    assert [replicates.seed(smoke, name) for name in (*two, "bpe")] == [0, 1, 0]
    with pytest.raises(ProfileError, match="nothing in the profile is called 'two_laye'; did you mean `two_layer`"):
        replicates.of(smoke, "two_laye")
    with pytest.raises(ProfileError, match=r"params/pair\.yaml: replicates: none"):
        replicates.seed(profiles.load("pair"), "a")


def test_a_second_reading_has_the_same_places_and_exchanged_words(world_of_words):
    run = world_of_words
    plain, other = (pipeline.features(run, "one_layer", exchanged) for exchanged in (None, 1))
    for name in ("rows", "positions", "documents", "split", "classes"):
        assert (plain.sites.array(name) == other.sites.array(name)).all()
    words = np.array(pipeline.vocabulary(run, "one_layer"))
    before, after = (words[x.sites.array("tokens")] for x in (plain, other))
    content, partner = lexicon.load_lexicon().words, lexicon.exchange(1)
    expected = dict(zip(content, np.array(content)[partner], strict=False))
    assert all(expected.get(x, x) == y for x, y in zip(before, after, strict=True)) and (before != after).mean() > 0.1


def test_arms_of_trained_models(world_of_words, monkeypatch):
    monkeypatch.setattr(replicates, "CONTENT", 0.2)  # the SAEs of the tests are hardly trained
    found = replicates.arms(world_of_words, ("one_layer", "two_layer"), [MEASURE], minimum=3)
    assert 0 < found.n and 0 < found.retention <= 1 and abs(found.r_true) <= 1 and MEASURE in found.control
    with pytest.raises(ValueError, match="1 names"):
        replicates.arms(world_of_words, ("one_layer",), [MEASURE])


@pytest.fixture
def world_of_words(world):
    """The trained world, with a seed for its exchange of words."""
    return world._replace(common=world.common.model_copy(update={"replicates": [1]}))
