"""The paper's words on its models are those of the profile."""

import pytest

from sae_utils import profiles
from sae_utils.engine.build import wording
from sae_utils.engine.saes import releases
from sae_utils.studies.models_and_dictionaries import training


@pytest.fixture
def sizes(monkeypatch):
    """No model is made to know its size."""
    monkeypatch.setattr(training, "size", lambda profile, name: training.Size(1 + ("two" in name), 64, 10, 5))


@pytest.mark.parametrize("name", ["smoke", "demo", "text"])
def test_toys_are_called_toys_and_nothing_else_is_claimed(name):
    profile = profiles.load(name)
    assert wording.toys(profile) and wording.released(profile) == []
    assert wording.models(profile) == "small ones, trained on the spot"
    assert wording.dictionaries(profile) == "trained here"
    assert "nothing here has been run on Pythia" in wording.scope(profile)


@pytest.mark.parametrize("name", ["paper", "tinystories"])
def test_released_models_are_named_and_never_called_toys(name):
    profile = profiles.load(name)
    assert not wording.toys(profile)
    assert wording.models(profile) == "released ones"
    assert wording.dictionaries(profile) == "released ones and, where none is released, trained here"
    said = wording.scope(profile)
    assert "toys" not in said and "nothing here" not in said
    assert "EleutherAI/pythia-70m" in wording.released(profile)
    assert len(set(wording.released(profile))) == len(wording.released(profile))


def test_a_toy_beside_released_models_is_told():
    profile = profiles.load("paper")
    mixed = profile._replace(models=profile.models | {"mine": profiles.load("demo").models["one_layer"]})
    assert not wording.toys(mixed)
    assert wording.models(mixed) == "released ones, and small ones trained on the spot"


def test_models_of_folders_are_not_called_released(sizes):
    paper = profiles.load("paper")
    own = [paper.models[name].model_copy(update={"source": f"/home/someone/{name}"}) for name in ("pythia_70m", "gpt2")]
    sae = releases.Saelens(kind="saelens", model="a", source="~/saes/a")
    other = releases.Mapped(kind="mapped", model="b", path="~/b.safetensors", hook="blocks.0.hook_mlp_out",
                            architecture="relu", keys={}, subtract_b_dec=True)  # fmt: skip
    profile = paper._replace(models=dict(zip("ab", own, strict=True)), dictionaries={"a": sae, "b": other})
    assert wording.models(profile) == wording.dictionaries(profile) == "read from folders"
    assert wording.released(profile) == ["pythia_70m", "gpt2"]  # and nobody's home
    assert wording.pair(profile, "a", "b") == "pythia_70m and gpt2"
    assert wording.side(profile, "a", 8).startswith("pythia_70m (")
    trained = profiles.load("demo").dictionaries["random"]
    mixed = profile._replace(dictionaries={"a": sae, "random": trained})
    assert wording.dictionaries(mixed) == "read from folders and, where none is given, trained here"
    hubs = profile._replace(models=profile.models | {"c": paper.models["pythia_160m"]})
    assert wording.models(hubs) == "released ones and others read from folders"


def test_classes_are_known_in_stories_only():
    known = {name: wording.classes_known(profiles.load(name)) for name in ("demo", "text", "paper")}
    assert known == {"demo": True, "text": False, "paper": False}


@pytest.mark.parametrize(
    ("profile", "name", "said"),
    [
        ("demo", "scrambled_0", "scrambled stories"),
        ("demo", "random", "with random weights"),
        ("demo", "random_blocks", "trained embeddings and random blocks"),
        ("text", "random_1", "with random weights"),
        ("paper", "random_70m", "with random weights"),
        ("demo", "three_layer", "should arrange its features otherwise"),
    ],
)
def test_a_negative_control_is_what_its_model_is(profile, name, said):
    assert said in wording.negative(profiles.load(profile), name)


def test_a_side_is_called_by_its_source_or_its_name(sizes):
    demo, paper = profiles.load("demo"), profiles.load("paper")
    assert wording.side(demo, "two_layer_0", 320) == "two_layer_0 (2 layers of width 64, 320 features)"
    assert wording.side(demo, "two_layer_0_early", 320).startswith("two_layer_0_early (2 layers")
    assert wording.side(demo, "one_layer", 1200) == "one_layer (1 layer of width 64, 1,200 features)"
    assert wording.side(paper, "pythia_70m", 32768).startswith("EleutherAI/pythia-70m (")


def test_a_pair_is_named_by_its_sources_or_its_depths(sizes):
    assert wording.pair(profiles.load("paper"), "pythia_70m", "pythia_160m") == (
        "EleutherAI/pythia-70m and EleutherAI/pythia-160m"
    )
    assert wording.pair(profiles.load("demo"), "two_layer_0", "one_layer") == "two models of 2 and 1 layers"


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("blocks.1.hook_mlp_out", "the output of the MLP of a block"),
        ("blocks.11.hook_resid_post", "the residual stream after a block"),
        ("blocks.0.mlp.hook_post", "the neurons of an MLP"),
        ("blocks.0.attn.hook_z", "blocks.0.attn.hook_z"),
    ],
)
def test_a_hook_in_words(hook, said):
    assert wording.site(hook) == said


def test_what_differs_besides_is_said_of_what_differs():
    demo, paper = profiles.load("demo"), profiles.load("paper")
    assert wording.limits(demo) == ""
    said = wording.limits(paper)
    assert "may differ in more than what is asked about" in said and "So may their SAEs" in said
    seeds = paper._replace(
        common=paper.common.model_copy(
            update={"primary": paper.common.primary.model_copy(update={"pair": ["pythia_70m", "pythia_70m_seed1"]})}
        )
    )
    assert "The SAE of B alone was trained here" in wording.limits(seeds)


def test_a_measure_in_words():
    assert wording.measure("rsa_spearman") == "Spearman RSA" and wording.measure("pwcca") == "pwcca"
