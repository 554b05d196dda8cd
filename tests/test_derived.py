"""From a name in a profile to its artefact: what derives from another reads what that one reads."""

import numpy as np
import pytest

from sae_utils import pipeline
from sae_utils.engine.lms import toys
from sae_utils.engine.saes import trainer

NAMES = ("one_layer", "two_layer")


@pytest.fixture(scope="module")
def grown(world):
    """The small world with a model and a dictionary as they were on the way."""
    kept = pipeline.model(world, "one_layer").meta["checkpoints"]
    several = world.dictionaries["one_layer"].model_copy(update={"checkpoints": 3})
    return world._replace(
        models=world.models | {"early": toys.ToyCheckpoint(kind="checkpoint", of="one_layer", step=kept[0])},
        dictionaries=world.dictionaries
        | {"several": several, "first": trainer.SaeCheckpoint(kind="checkpoint", of="several", number=0)},
    )


def test_the_origin_of_what_derives_and_of_what_does_not(grown):
    assert pipeline.origin(grown.models, "early") is pipeline.origin(grown.models, "one_layer")
    assert pipeline.origin(grown.dictionaries, "first") is grown.dictionaries["several"]
    records = {"a": grown.models["early"].model_copy(update={"of": "b"}), "b": grown.models["early"]} | grown.models
    assert pipeline.origin(records, "a") is grown.models["one_layer"]


def test_a_checkpoint_of_a_dictionary_reads_the_same_and_has_other_rows(grown):
    whole, early = (pipeline.reader(grown, name) for name in ("several", "first"))
    assert early.dictionary.key != whole.dictionary.key
    assert early._replace(dictionary=None) == whole._replace(dictionary=None)
    of_whole, of_early = (pipeline.features(grown, name) for name in ("several", "first"))
    assert of_early.sites.key == of_whole.sites.key and of_early.decoder.shape == of_whole.decoder.shape
    assert not np.allclose(of_early.decoder, of_whole.decoder)
    samples = early.dictionary.meta["samples"]
    assert samples == whole.dictionary.meta["checkpoints"][0] < grown.dictionaries["several"].samples


def test_a_checkpoint_of_a_model_has_its_tokens_and_is_worse(grown):
    assert pipeline.tokenizer(grown, "early").key == pipeline.tokenizer(grown, "one_layer").key
    assert pipeline.training_rows(grown, "early").key == pipeline.training_rows(grown, "one_layer").key
    early, trained = (pipeline.losses(grown, name, 50).meta for name in ("early", "one_layer"))
    assert early["model"] > trained["model"] and early["unigram"] == trained["unigram"]


def test_a_dictionary_has_the_tokenizer_of_its_model(grown):
    for name in (*NAMES, "first"):
        model = pipeline.origin(grown.dictionaries, name).model
        assert pipeline.tokenizer_of(grown, name).key == pipeline.tokenizer(grown, model).key


def test_features_of_other_tokens_are_not_paired(grown):
    one, two = (pipeline.features(grown, name) for name in NAMES)
    with pytest.raises(ValueError, match="look at different tokens: their models need one tokenizer"):
        pipeline.correlated(one, two._replace(sites=two.kept), 4)
