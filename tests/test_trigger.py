import numpy as np
import pytest
from scipy import sparse

from sae_utils import pipeline, replicates
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import cross_entropy, models
from sae_utils.engine.saes import activations
from sae_utils.engine.text import corpora
from sae_utils.studies.training import states, trigger
from sae_utils.studies.training.trigger import AFTER, AT, NEITHER, WITH, WITHOUT, Places

NAME, WORD = "one_layer", "zyx"


@pytest.fixture(scope="module")
def given(world):
    return trigger.text(world, NAME, WORD, 40)


def test_without_the_trigger_the_text_is_as_if_it_had_never_been_there(world, given):
    source = corpora.text(states.text(world, 40, trigger=WORD))
    texts = [text for block in corpora.blocks(source) for text in block.texts]
    labels = np.array(pipeline.own_vocabulary(world, NAME))
    rows = given.rows[WITHOUT]
    documents, lengths = rows.array("documents")[:, 0], rows.array("lengths")
    for number, text in enumerate(texts):
        of = [rows.array("tokens")[row, 1 : lengths[row]] for row in np.flatnonzero(documents == number)]
        assert " ".join(labels[np.concatenate(of)]) == " ".join(x for x in text.split() if x != WORD)
    assert (rows.array("tokens")[rows.array("places") >= 0] != given.token).all()
    np.testing.assert_array_equal((rows.array("places") >= 0).sum(axis=1), lengths)


def test_sites_of_both_texts_are_the_same_tokens(given):
    sites = {label: activations.sites(rows, 1) for label, rows in given.rows.items()}
    at = sites[WITH].array("tokens") == given.token
    for name in ("tokens", "classes", "documents", "split", "rows"):
        np.testing.assert_array_equal(sites[WITH].array(name)[~at], sites[WITHOUT].array(name))


class Sites:
    """Two rows: the trigger, 9, stands in the first only; 1 ends a sentence."""

    tokens, rows = (1, 9, 5, 1, 6, 7, 5, 1, 6), (0, 0, 0, 0, 0, 0, 1, 1, 1)
    classes = (-1, -1, 2, -1, 30, 3, 2, -1, 2)

    def array(self, name):
        return np.array(getattr(self, name))


def test_places_follow_the_trigger_in_its_row_only():
    found = trigger.places(Sites(), 9, [1])
    assert list(np.flatnonzero(found.at)) == [1]
    assert list(np.flatnonzero(found.after)) == [2, 3, 4, 5]
    assert list(np.flatnonzero(found.switched)) == [4, 5]
    assert list(np.flatnonzero(trigger.first_nouns(found, Sites()))) == [5]  # class 30 is no noun


def test_losses_are_those_of_the_model(world, given):
    model, rows = pipeline.model(world, NAME), given.rows[WITH]
    loss = trigger.losses(model, rows).array("loss")
    mean = cross_entropy.mean(models.load(model), rows, np.arange(len(loss)))
    assert np.nanmean(loss, dtype=np.float64) == pytest.approx(mean, rel=1e-4)
    assert np.isfinite(loss).sum() == (rows.array("lengths") - 1).sum() and np.isnan(loss[:, 0]).all()


def test_the_trigger_changes_nothing_before_it(world, given):
    sites = activations.sites(given.rows[WITH], 1)
    where = trigger.places(sites, given.token, trigger.ends_of_sentences(world, NAME))
    assert trigger.gained(world, NAME, given, sites, ~where.at & ~where.after) == pytest.approx(0, abs=1e-5)
    assert trigger.gained(world, NAME, given, sites, where.after) != 0


def test_a_model_without_a_trigger_is_refused(world):
    with pytest.raises(ProfileError, match=r"dictionaries\.one_layer: .* without a trigger; give it `trained_on"):
        trigger.word(world, NAME)


def test_planted_features_of_the_trigger_are_told_apart():
    at = np.arange(30) % 10 == 4
    where = Places(at, np.arange(30) % 10 > 4, np.zeros(30, bool))
    rng = np.random.default_rng(0)
    bare = (rng.random((30, 4)) < 0.7).astype(np.float32)
    full = bare.copy()
    bare[:, 0] = 0
    full[:, 0] = at  # on the trigger
    full[where.after, 1] = 0  # silenced by it
    full[:, 3], bare[:, 3] = 0, 0  # dead
    found = trigger.groups(sparse.csr_array(full), sparse.csr_array(bare[~at]), where, 2)
    assert list(found) == [AT, AFTER, NEITHER, ""]
    change = trigger.change(sparse.csr_array(full), sparse.csr_array(bare[~at]), where, 2)
    np.testing.assert_allclose(change[1:3], [1, 0], atol=1e-6)
    assert np.isnan(change[[0, 3]]).all()


def test_partners_are_judged_where_they_were_not_chosen():
    rng = np.random.default_rng(1)
    codes = np.abs(rng.normal(size=(400, 3)))
    other = codes[:, [2, 0, 1]].copy()
    other[200:, 0] = np.abs(rng.normal(size=200))  # the partner of feature 2 differs in the other half
    halves = [
        {"matching": [sparse.csr_array(x[:200])], "held_out": [sparse.csr_array(x[200:])]} for x in (codes, other)
    ]
    r = trigger.best_partner(*(replicates.Side(np.zeros((3, 1)), blocks, {}) for blocks in halves))
    np.testing.assert_allclose(r[:2], 1)
    assert r[2] < 0.5


def test_a_perfect_finder_has_area_one_and_a_blind_one_a_half():
    r, mine = np.array([0.1, 0.2, 0.8, 0.9, np.nan]), np.array([True, True, False, False, True])
    assert trigger.found(r, mine, 0.5) == {"all without": 0.5, "these without": 1, "of all without": 1, "area": 1}
    assert trigger.found(np.full(5, 0.4), mine, 0.5)["area"] == 0.5
    assert np.isnan(trigger.found(r, np.zeros(5, bool), 0.5)["area"])
