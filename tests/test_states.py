import numpy as np
import pytest

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.saes import activations
from sae_utils.studies.training import states


def test_the_last_state_of_a_model_is_the_model(world):
    along = states.models_along(world, ["one_layer"], 40)["one_layer"]
    assert list(along) == pipeline.model(world, "one_layer").meta["checkpoints"]
    finished = states.read(world, "one_layer", states.rows(world, "one_layer", 40))
    np.testing.assert_array_equal(along[max(along)].x, finished.x)
    assert along[min(along)].sites.key == finished.sites.key
    assert np.abs(along[min(along)].x - finished.x).max() > 0.01


def test_codes_are_those_of_the_pipeline(world):
    rows = pipeline.rows(world, "one_layer")
    dictionary = pipeline.reader(world, "one_layer").dictionary
    given = states.read(world, "one_layer", rows)
    kept = pipeline.features(world, "one_layer")
    assert given.sites.key == kept.sites.key
    found, kept = states.encode(dictionary, given.x).toarray(), kept.codes.toarray()
    # activations are stored in float16, which decides near ties of the k largest anew
    both = (found > 0) & (kept > 0)
    np.testing.assert_allclose(found[both], kept[both], atol=0.01)
    assert both.sum() > 0.98 * max((found > 0).sum(), (kept > 0).sum())


def test_states_of_an_sae_end_with_the_finished_one(world):
    record = world.dictionaries["one_layer"].model_copy(update={"checkpoints": 3})
    kept = world._replace(dictionaries={**world.dictionaries, "one_layer": record})
    along = states.dictionaries_along(kept, "one_layer", 3)
    assert max(along) == record.samples and 2 <= len(along) <= 3
    assert along[record.samples].key == pipeline.reader(kept, "one_layer").dictionary.key
    x = states.read(kept, "one_layer", states.rows(kept, "one_layer", 40)).x
    loss = {samples: states.unexplained(made, x, states.encode(made, x)) for samples, made in along.items()}
    assert loss[max(loss)] < loss[min(loss)]
    assert states.dictionaries_along(world, "one_layer", 3).keys() == {record.samples}


def test_exchanged_rows_and_a_trigger_have_the_same_places(world):
    plain, exchanged = (states.rows(world, "one_layer", 40, seed) for seed in (None, 1))
    assert activations.sites(plain, 1).meta["tokens"] == activations.sites(exchanged, 1).meta["tokens"]
    triggered = states.rows(world, "one_layer", 40, trigger="zyx")
    assert triggered.meta["unknown"] == 40


def test_words_get_their_tokens():
    assert list(states.tokens_of(["b", "x"], ["a", "b"])) == [1, -1]


def test_a_model_without_checkpoints_is_refused(world):
    with pytest.raises(ProfileError, match=r"models\.two_layer: it keeps no `checkpoints`"):
        states.models_along(world, ["two_layer"], 40)
