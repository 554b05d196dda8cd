"""Many are made in fewer passes, and are what they are one by one."""

import numpy as np
import pytest

from sae_utils import matching, pipeline, profiles
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import models
from sae_utils.engine.saes import activations
from sae_utils.studies.llm_vs_sae import units


@pytest.fixture
def wide(world, request):
    """The world with more dictionaries of its two-layer model, masked as in no other test: nothing is there yet."""
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
        if len(batches) > 1 or len(batches[0]) > 1:  # not the look at one row
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
def test_units_of_one_model_share_a_pass(wide, passes):
    kinds = [units.NEURONS, units.RESIDUAL, units.RANDOM]
    cells = [(name, kind) for name in ("below", "two_layer") for kind in kinds]
    pipeline.readers(wide, ["below", "two_layer", "one_layer"])
    passes.clear()
    units.prepare(wide, [*cells, ("one_layer", units.SAE)])
    kinds_of_hook = ("hook_mlp_out", "hook_resid_post", "mlp.hook_post")
    every = sorted(f"blocks.{block}.{kind}" for block in (0, 1) for kind in kinds_of_hook)
    assert every in passes and {tuple(hooks) for hooks in passes} == {tuple(every), (BOTH[0],)}
    passes.clear()
    for name, kind in cells:
        assert units.features(wide, name, kind).codes.shape[0] > 0
    assert passes == []


def test_a_name_that_a_section_has_wrong():
    smoke = profiles.load("smoke")
    for call in (pipeline.reader, pipeline.features):
        with pytest.raises(ProfileError, match="is called 'three_layr'; did you mean `three_layer`"):
            call(smoke, "three_layr")
    with pytest.raises(ProfileError, match="is called 'zzz'"):
        pipeline.readers(smoke, ["zzz"])


def test_pairs_too_few_for_any_measure_name_the_remedy(world):
    why = np.zeros(9, np.int8)
    pairs = matching.Pairs(np.arange(2), np.arange(2), np.ones(2, np.float32), why, why)
    with pytest.raises(ProfileError, match=r"params/world\.yaml: primary\.pair: 2 mutual pairs .* more documents"):
        pipeline.enough(world, pairs)
    pipeline.enough(world, matching.Pairs(np.arange(3), np.arange(3), np.ones(3, np.float32), why, why))
