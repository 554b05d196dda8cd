import numpy as np
import pytest
from scipy import sparse

from sae_utils.studies.training import appearing, phases, states

NAMES = ("one_layer", "second")
SETTINGS = phases.Settings(documents=80, occurrences=2, minimum=5, measure="rsa_spearman", states=3)


@pytest.fixture(scope="module")
def kept(world):
    """The small world with checkpoints: another seed of its one-layer model, and an SAE at three states."""
    one, sae = world.models["one_layer"], world.dictionaries["one_layer"]
    models = {**world.models, "second": one.model_copy(update={"seed": 1})}
    saes = {
        "one_layer": sae.model_copy(update={"checkpoints": 3}),
        "second": sae.model_copy(update={"model": "second"}),
    }
    return world._replace(models=models, dictionaries=world.dictionaries | saes)


@pytest.fixture(scope="module")
def along(kept):
    return states.models_along(kept, NAMES, SETTINGS.documents)


def test_words_are_as_at_the_end_at_the_end(kept, along):
    found = phases.word_similarity(kept, NAMES, along, SETTINGS)
    wide = found.pivot_table(index=["words", "compared"], columns="step", values="excess")
    last = max(along[NAMES[0]])
    assert wide.loc[(phases.CONTENT, phases.TO_LAST), last] == pytest.approx(1)
    assert wide.loc[(phases.CONTENT, phases.TO_LAST)].iloc[0] < 0.9
    # two random starts share nothing
    assert abs(wide.loc[(phases.CONTENT, phases.ACROSS)].iloc[0]) < 0.1
    assert (phases.FUNCTION, phases.EXCHANGED) not in wide.index


def test_partners_are_exchanged_in_pairs(kept, along):
    words, partner = phases.chosen_words(kept, NAMES[0], along[NAMES[0]], 2)[phases.CONTENT]
    np.testing.assert_array_equal(partner[partner], np.arange(len(words)))
    assert (partner != np.arange(len(words))).any()


def test_the_last_state_holds_most_of_the_features_of_the_end(kept, along):
    found = phases.held(kept, NAMES, along, SETTINGS)
    live = found.kinds != ""
    own = np.nanmean(found.r[phases.OWN][:, live], axis=1)
    assert live.any() and own[-1] > own[0] and own[-1] > 0.5
    lines = found.by_kind(phases.OWN)
    assert set(lines) <= set(appearing.KINDS) and all(len(line) == len(found.steps) for line in lines.values())


def test_an_sae_arrives_at_itself(kept):
    found = phases.dictionary_states(kept, NAMES, SETTINGS, 0.5)
    assert [x.samples for x in found] == sorted(x.samples for x in found)
    last = found[-1]
    assert set(last.arrived.values()) == {1.0} and min(last.cosine.values()) == pytest.approx(1)
    assert found[0].unexplained > last.unexplained and 0 <= last.counterparts <= 1


def test_features_are_compared_by_index():
    codes = [sparse.random(300, 4, 0.5, "csr", random_state=seed) for seed in (0, 1)]
    by_hand = [np.corrcoef(*(x.toarray()[:, i] for x in codes))[0, 1] for i in range(4)]
    np.testing.assert_allclose(phases.by_index(*map(sparse.csr_array, codes)), by_hand)
    nothing = sparse.csr_array((300, 4))
    assert (phases.by_index(sparse.csr_array(codes[0]), nothing) == 0).all()
