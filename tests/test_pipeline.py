"""A name gives its artefact; dictionaries of one model share a pass over it, and are the same as one by one."""

import numpy as np
import pytest

from sae_utils import matching, pipeline, profiles
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import models, toys
from sae_utils.engine.saes import activations, trainer
from sae_utils.studies.llm_vs_sae import units


@pytest.fixture
def wide(world, request):
    """The world with more dictionaries of its two-layer model; a `skip` of its own, so that the store has none."""
    first = world.dictionaries["two_layer"]
    more = {
        "below": first.model_copy(update={"hook": "blocks.0.hook_mlp_out"}),
        "again": first.model_copy(update={"seed": 1}),
    }
    common = world.common.model_copy(update={"skip": request.param})
    return world._replace(common=common, dictionaries=world.dictionaries | more)


@pytest.fixture
def passes(monkeypatch):
    """The hooks of every pass over a model."""
    seen, harvest = [], models.harvest

    def counted(bridge, rows, batches, hooks, *others):
        batches = list(batches)
        if len(batches) > 1 or len(batches[0]) > 1:  # not the single row that `models.passes` runs
            seen.append(sorted(hooks))
        return harvest(bridge, rows, iter(batches), hooks, *others)

    monkeypatch.setattr(models, "harvest", counted)
    return seen


BOTH = ["blocks.0.hook_mlp_out", "blocks.1.hook_mlp_out"]


@pytest.mark.parametrize("wide", [7], indirect=True)
def test_dictionaries_of_one_model_share_a_pass(wide, passes):
    found = pipeline.readers(wide, ["below", "again", "two_layer"])
    assert passes == [BOTH]
    for name, made in found.items():
        assert pipeline.reader(wide, name).dictionary is made.dictionary
    assert passes == [BOTH]


@pytest.mark.parametrize("wide", [8], indirect=True)
def test_codes_of_one_model_share_a_pass(wide, passes):
    names = ["again", "below", "two_layer"]
    pipeline.readers(wide, names)
    passes.clear()
    found = pipeline.features_of(wide, names)
    assert list(found) == names and passes and all(hooks == BOTH for hooks in passes)
    for name in names:
        source = pipeline.reader(wide, name)
        bridge, sae = models.load(source.model), activations.dictionaries.load(source.dictionary)
        rows = activations.judged(source.rows)[:20]
        x = next(models.stream(bridge, source.rows, rows, [source.hook], source.skip))[source.hook]
        expected = sae.encode(x).detach().numpy()
        np.testing.assert_allclose(found[name].codes[: len(x)].toarray(), expected, atol=2e-5)


@pytest.mark.parametrize("wide", [9], indirect=True)
def test_both_kinds_of_units_share_a_pass(wide, passes):
    pipeline.readers(wide, ["one_layer", "two_layer"])
    passes.clear()
    units.matched(wide, "one_layer", "two_layer", units.NEURONS, 4)
    assert {tuple(hooks) for hooks in passes} == {
        (f"blocks.{block}.hook_mlp_out", f"blocks.{block}.mlp.hook_post") for block in (0, 1)
    }
    passes.clear()
    units.matched(wide, "one_layer", "two_layer", units.OUTPUTS, 4)
    assert passes == []


def test_a_name_that_a_section_has_wrong():
    smoke = profiles.load("smoke")
    for call in (pipeline.reader, pipeline.features):
        with pytest.raises(ProfileError, match="is called 'three_layr'; did you mean `three_layer_1`"):
            call(smoke, "three_layr")
    with pytest.raises(ProfileError, match="is called 'zzz'"):
        pipeline.readers(smoke, ["zzz"])


def test_pairs_too_few_for_any_measure_name_the_remedy(world):
    why = np.zeros(9, np.int8)
    pairs = matching.Pairs(np.arange(2), np.arange(2), np.ones(2, np.float32), why, why)
    with pytest.raises(ProfileError, match=r"params/world\.yaml: primary\.pair: 2 mutual pairs .* more documents"):
        pipeline.enough(world, pairs)
    pipeline.enough(world, matching.Pairs(np.arange(3), np.arange(3), np.ones(3, np.float32), why, why))


# --- checkpoints


NAMES = ("one_layer", "two_layer")


@pytest.fixture(scope="module")
def grown(world):
    """The small world with a checkpoint of a model and of a dictionary."""
    kept = pipeline.model(world, "one_layer").meta["checkpoints"]
    several = world.dictionaries["one_layer"].model_copy(update={"checkpoints": 3})
    return world._replace(
        models=world.models | {"early": toys.ToyCheckpoint(kind="checkpoint", of="one_layer", step=kept[0])},
        dictionaries=world.dictionaries
        | {"several": several, "first": trainer.SaeCheckpoint(kind="checkpoint", of="several", number=0)},
    )


def test_the_origin_of_derived_and_other_records(grown):
    assert pipeline.origin(grown.models, "early") is pipeline.origin(grown.models, "one_layer")
    assert pipeline.origin(grown.dictionaries, "first") is grown.dictionaries["several"]
    records = {"a": grown.models["early"].model_copy(update={"of": "b"}), "b": grown.models["early"]} | grown.models
    assert pipeline.origin(records, "a") is grown.models["one_layer"]


def test_a_checkpoint_of_a_dictionary_has_the_same_inputs_and_other_rows(grown):
    last, early = (pipeline.reader(grown, name) for name in ("several", "first"))
    assert early.dictionary.key != last.dictionary.key
    assert early._replace(dictionary=None) == last._replace(dictionary=None)
    of_last, of_early = (pipeline.features(grown, name) for name in ("several", "first"))
    assert of_early.sites.key == of_last.sites.key and of_early.decoder.shape == of_last.decoder.shape
    assert not np.allclose(of_early.decoder, of_last.decoder)
    samples = early.dictionary.meta["samples"]
    assert samples == last.dictionary.meta["checkpoints"][0] < grown.dictionaries["several"].samples


def test_a_checkpoint_of_a_model_has_its_tokens_and_a_higher_loss(grown):
    assert pipeline.tokenizer(grown, "early").key == pipeline.tokenizer(grown, "one_layer").key
    assert pipeline.training_rows(grown, "early").key == pipeline.training_rows(grown, "one_layer").key
    early, trained = (pipeline.losses(grown, name, 50).meta for name in ("early", "one_layer"))
    assert early["model"] > trained["model"] and early["unigram"] == trained["unigram"]


def test_a_dictionary_has_the_tokenizer_of_its_model(grown):
    for name in (*NAMES, "first"):
        model = pipeline.origin(grown.dictionaries, name).model
        assert pipeline.tokenizer_of(grown, name).key == pipeline.tokenizer(grown, model).key


def test_features_of_other_tokens_are_refused(grown):
    one, two = (pipeline.features(grown, name) for name in NAMES)
    with pytest.raises(ValueError, match="have different tokens: their models need one tokenizer"):
        pipeline.correlated(one, two._replace(sites=two.kept), 4)
