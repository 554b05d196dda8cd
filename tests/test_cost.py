"""An estimate counts the passes that a build makes, each to the block of its deepest hook."""

import math

import pytest
from transformers import AutoConfig

from sae_utils import pipeline, profiles, store
from sae_utils.engine import params
from sae_utils.engine.build import cost, speed
from sae_utils.engine.lms import models, pretrained
from sae_utils.engine.saes import releases, trainer
from sae_utils.engine.text import corpora

UNIT = speed.ModelSpeed(layers=2, d=16, d_mlp=32, vocabulary=0, parameters=0, block=1.0, head=0.0)  # a token in a block
SAMPLES = 14_000


@pytest.fixture
def profile(world):
    """`world` in full rows, 30 of which are judged, with a second SAE in an earlier block."""
    below = world.dictionaries["two_layer"].model_copy(update={"hook": "blocks.0.hook_mlp_out"})
    saes = {name: x.model_copy(update={"samples": SAMPLES}) for name, x in world.dictionaries.items()}
    section = world.sections["00_models_and_dictionaries"] | {"judged_rows": 30, "fvu_rows": 20, "curve": ""}
    sections = world.sections | {"00_models_and_dictionaries": section}
    saes |= {"below": below.model_copy(update={"samples": SAMPLES})}
    common = world.common.model_copy(update={"corpus": world.common.corpus | {"packed": True}})
    corpus = world.corpus.model_copy(update={"packed": True})
    return world._replace(common=common, corpus=corpus, dictionaries=saes, sections=sections)


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """A function: tokens that ran through blocks since its last call, counted once for each block."""
    store.use(threads=1, root=tmp_path)
    ran, load = [0], models.load

    def watched(model):
        bridge = load(model)
        for block in bridge.blocks:
            block.register_forward_pre_hook(lambda block, given: ran.append(given[0].shape[0] * given[0].shape[1]))
        return bridge

    monkeypatch.setattr(models, "load", watched)

    def since() -> int:
        found = sum(ran)
        ran.clear()
        return found

    return since


def test_the_passes_of_a_plan_are_those_of_a_build(profile, counted):
    speeds = {name: UNIT._replace(layers=record.layers) for name, record in profile.models.items()}
    build = cost.Build(profile, {}, speeds)
    expected: dict[str, float] = {}
    for label, seconds in (*build.model_works(), *build.passes()):
        expected[label] = expected.get(label, 0) + seconds

    def agrees(label: str) -> None:
        assert counted() == pytest.approx(expected[label], rel=0.2), label

    for name in profile.models:
        pipeline.losses(profile, name, 30)
    agrees("losses")
    readers = pipeline.readers(profile, profile.dictionaries)
    agrees("passes that train SAEs")
    for x in readers.values():
        x.judge(30)
        x.locate(20)
    agrees("quality")
    pipeline.features_of(profile, profile.dictionaries)
    agrees("passes for codes")


def test_a_pass_ends_at_the_block_of_its_hook():
    trained = {"kind": "trained", "model": "a", "width": 8, "k": 2, "seed": 0, "samples": 1, "batch": 1}
    released = {"model": "a", "source": "org/saes"}
    for record, blocks in {
        trainer.Trained(**trained, learning_rate=0.1, hook="blocks.8.hook_resid_post"): 9,
        releases.Sparsify(kind="sparsify", hookpoint="layers.3.mlp", **released): 4,
        releases.Saelens(kind="saelens", id="blocks.11.hook_resid_pre", **released): 12,
        releases.Saelens(kind="saelens", **released): 30,
        releases.GemmaScope(
            kind="gemma_scope", path="layer_12/width_16k/x", hook="blocks.12.hook_mlp_out", **released
        ): 13,
    }.items():
        assert cost.depth(record, 30) == blocks, record


def test_what_is_trained_longer_or_wider_costs_more(monkeypatch):
    monkeypatch.setattr(speed, "of_model", lambda *_: UNIT._replace(block=1e-5))
    monkeypatch.setattr(speed, "of_sae", lambda spec, d: (1e-7 * spec.width, 1e-8 * spec.width))
    smoke = profiles.load("smoke")

    def trained(**values) -> float:
        saes = {
            name: x.model_copy(update=values) if hasattr(x, "width") else x for name, x in smoke.dictionaries.items()
        }
        return cost.Build(smoke._replace(dictionaries=saes), {}).works["training SAEs"]

    plain = cost.Build(smoke, {})
    assert trained(samples=10**6) == pytest.approx(10 * trained(samples=10**5))
    assert trained(width=2000) == pytest.approx(2 * trained(width=1000))
    longer = smoke._replace(corpus=smoke.corpus.model_copy(update={"documents": 10 * smoke.corpus.documents}))
    grown = cost.Build(longer, {})
    assert plain.seconds < grown.seconds < 10 * plain.seconds and plain.disk < grown.disk < 10 * plain.disk


def test_a_shape_is_measured_by_its_blocks(tiny, monkeypatch):
    """For every family the parameters are those of its checkpoint, but for norms and biases; no weight is read."""
    import tiny_hub

    monkeypatch.setattr(speed, "DURATION", 0)
    for family in tiny_hub.FAMILIES:
        place = tiny_hub.folder(tiny, family)
        record = pretrained.Pretrained(kind="pretrained", source=str(place))
        profile = profiles.load("smoke")._replace(models={"a": record})
        found = speed.of_model(profile, "a", 0)
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        assert (found.layers, found.vocabulary) == (tiny_hub.LAYERS, config.vocab_size), family
        size = (place / "model.safetensors").stat().st_size / 4
        assert size / 1.5 < found.parameters < 1.5 * size, family
        assert found.block > 0 and found.head > 0 and found.d == config.hidden_size


def test_a_model_that_would_have_to_be_fetched_is_judged_by_its_parameters(monkeypatch):
    record = pretrained.Pretrained(kind="pretrained", source="org/none")
    profile = profiles.load("smoke")._replace(models={"a": record})
    monkeypatch.setattr(speed, "config", lambda *_: None)
    one, two = (speed.of_model(profile, "a", n) for n in (10**8, 2 * 10**8))
    assert two.block == pytest.approx(2 * one.block) and one.block > 0 and one.head == 0


def test_tokens_of_text_are_estimated_from_its_bytes(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 400)
    spec = corpora.TextFiles(
        kind="text", path=str(tmp_path / "a.txt"), unit="line", context=8, shares=[0.6, 0.2, 0.2], split_seed=0
    )
    assert cost.tokens(spec) == 100 and cost.of_rows(spec, 2) == 16 and math.isclose(cost.of_rows(spec, 100), 20)


def test_every_notebook_has_its_own_work():
    assert set(cost.OWN) == set(params.notebooks())
