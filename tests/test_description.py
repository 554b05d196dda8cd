"""The paper's words on its models are those of the profile."""

import pandas as pd
import pytest

from sae_utils import pipeline, profiles
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import pretrained, toys
from sae_utils.engine.saes import releases
from sae_utils.studies.models_and_dictionaries import description


@pytest.fixture
def sizes(monkeypatch):
    """No model is made to know its size."""
    monkeypatch.setattr(description, "size", lambda profile, name: description.Size(1 + ("two" in name), 64, 10, 5))


@pytest.mark.parametrize("name", ["smoke", "demo", "text"])
def test_toys_are_called_toys_and_nothing_else_is_claimed(name):
    profile = profiles.load(name)
    assert description.all_toys(profile) and description.released(profile) == []
    assert description.models(profile) == "small ones, trained on the spot"
    assert description.dictionaries(profile) == "trained here"
    assert "nothing here has been run on Pythia" in description.scope(profile)


@pytest.mark.parametrize("name", ["paper", "tinystories"])
def test_released_models_are_named_and_never_called_toys(name):
    profile = profiles.load(name)
    assert not description.all_toys(profile)
    assert description.models(profile) == "released ones"
    assert description.dictionaries(profile) == "released ones and, where none is released, trained here"
    sentences = description.scope(profile)
    assert "toys" not in sentences and "nothing here" not in sentences
    assert "EleutherAI/pythia-70m" in description.released(profile)
    assert len(set(description.released(profile))) == len(description.released(profile))


def test_a_toy_beside_released_models_is_reported():
    profile = profiles.load("paper")
    mixed = profile._replace(models=profile.models | {"mine": profiles.load("demo").models["one_layer_4"]})
    assert not description.all_toys(mixed)
    assert description.models(mixed) == "released ones, and small ones trained on the spot"


def test_models_of_folders_are_not_called_released(sizes):
    paper = profiles.load("paper")
    own = [paper.models[name].model_copy(update={"source": f"/home/someone/{name}"}) for name in ("pythia_70m", "gpt2")]
    sae = releases.Saelens(kind="saelens", model="a", source="~/saes/a")
    other = releases.Mapped(kind="mapped", model="b", path="~/b.safetensors", hook="blocks.0.hook_mlp_out",
                            architecture="relu", keys={}, subtract_b_dec=True)  # fmt: skip
    profile = paper._replace(models=dict(zip("ab", own, strict=True)), dictionaries={"a": sae, "b": other})
    assert description.models(profile) == description.dictionaries(profile) == "read from folders"
    assert description.released(profile) == ["pythia_70m", "gpt2"]  # and nobody's home
    assert description.pair(profile, "a", "b") == "pythia_70m and gpt2"
    assert description.side(profile, "a", 8).startswith("pythia_70m (")
    trained = profiles.load("demo").dictionaries["random_4"]
    mixed = profile._replace(dictionaries={"a": sae, "random": trained})
    assert description.dictionaries(mixed) == "read from folders and, where none is given, trained here"
    hubs = profile._replace(models=profile.models | {"c": paper.models["pythia_160m"]})
    assert description.models(hubs) == "released ones and others read from folders"


def test_classes_are_known_in_stories_only():
    by_profile = {name: description.classes_known(profiles.load(name)) for name in ("demo", "text", "paper")}
    assert by_profile == {"demo": True, "text": False, "paper": False}


def test_a_side_is_called_by_its_source_or_its_name(sizes):
    demo, paper = profiles.load("demo"), profiles.load("paper")
    assert description.side(demo, "two_layer_4", 320) == "two_layer_4 (2 layers of width 64, 320 features)"
    assert description.side(demo, "one_layer_5", 1200) == "one_layer_5 (1 layer of width 64, 1,200 features)"
    assert description.side(paper, "pythia_70m", 32768).startswith("EleutherAI/pythia-70m (")


def test_a_pair_is_named_by_its_sources_or_its_depths(sizes):
    assert description.pair(profiles.load("paper"), "pythia_70m", "pythia_160m") == (
        "EleutherAI/pythia-70m and EleutherAI/pythia-160m"
    )
    assert description.pair(profiles.load("demo"), "two_layer_4", "one_layer_4") == "two models of 2 and 1 layers"


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("blocks.1.hook_mlp_out", "the output of the MLP of a block"),
        ("blocks.11.hook_resid_post", "the residual stream after a block"),
        ("blocks.0.mlp.hook_post", "the neurons of an MLP"),
        ("blocks.0.attn.hook_z", "blocks.0.attn.hook_z"),
    ],
)
def test_a_hook_in_words(hook, words):
    assert description.site(hook) == words


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("org/pythia-70m", "org/pythia-70m"), ("/x/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct (Q4_1)"),
        ("/x/gemma-3-270m-q4_k_m.gguf", "gemma-3-270m (Q4_K_M)"), ("/x/tiny.f16.gguf", "tiny (F16)"),
    ],
)  # fmt: skip
def test_how_weights_are_stored_follows_the_name(source, title):
    assert description.title(pretrained.Pretrained(kind="pretrained", source=source)) == title


def test_limits_name_only_what_differs():
    demo, paper = profiles.load("demo"), profiles.load("paper")
    assert description.limits(demo) == ""
    sentences = description.limits(paper)
    assert "may differ in more than what is asked about" in sentences and "So may their SAEs" in sentences
    seeds = paper._replace(
        common=paper.common.model_copy(
            update={"primary": paper.common.primary.model_copy(update={"pair": ["pythia_70m", "pythia_70m_seed1"]})}
        )
    )
    assert "The SAE of B alone was trained here" in description.limits(seeds)


def test_the_checkpoints_of_a_toy(world):
    found = description.checkpoints(world, "one_layer")
    kept = pipeline.model(world, "one_layer").meta
    assert list(found) == kept["checkpoints"] and {x.meta["steps"] for x in found.values()} == set(found)
    assert description.size(world, "one_layer") == (1, 16, kept["parameters"], kept["steps"])


def test_what_was_trained_to_its_end(world):
    hub = {"kind": "pretrained", "source": "org/a"}
    models = world.models | {
        "early": toys.ToyCheckpoint(kind="checkpoint", of="one_layer", step=1),
        "random": toys.Twin(kind="twin", of="one_layer", random="all", seed=0),
        "a": pretrained.Pretrained(**hub), "a_100": pretrained.Pretrained(**hub, revision="step100"),
        "b_10": pretrained.Pretrained(**hub | {"source": "org/b"}, revision="step10"),
        "b_9": pretrained.Pretrained(**hub | {"source": "org/b"}, revision="step9"),
    }  # fmt: skip
    profile = world._replace(models=models)
    assert {name for name in models if description.finished(profile, name)} == {"one_layer", "two_layer", "a", "b_10"}


def test_a_toy_that_kept_none(world):
    with pytest.raises(ProfileError, match=r"models.two_layer: none of its checkpoints is known; give a toy"):
        description.checkpoints(world, "two_layer")


def test_doubts_about_an_sae_are_listed_or_none(world):
    made = pipeline.reader(world, "one_layer").dictionary
    assert description.doubts(made, {"dead": 0.5}) == "100 steps, many dead"
    released = type("Released", (), {"meta": {"hook": "blocks.0.hook_mlp_out"}})
    assert description.doubts(released, {"dead": 0.1}) == "none"


def test_massive_dimensions_in_words():
    found = {"massive": [3, 9], "massive_share": 0.553, "fvu_rest": 0.2}
    assert description.massive(found) == "2 with 55%, else FVU 0.200"
    assert description.massive(found | {"massive": []}) == "none"


def test_the_rows_of_models_and_dictionaries(world):
    """Every value is that of the artefacts of its own name."""
    names = ["one_layer", "two_layer"]
    losses = {
        name: type("Losses", (), {"meta": {"model": n, "bigram": 5, "unigram": 6}}) for n, name in enumerate(names)
    }
    found = description.by_model(world, losses).set_index("model")
    assert found.loss.tolist() == [0, 1] and found.layers.tolist() == [1, 2] and (found.bigram < found.unigram).all()
    readers = {name: pipeline.reader(world, name) for name in names}
    judged = {name: {"fvu": n, "l0": 1, "dead": 0.5, "recovered": 1, "massive": []} for n, name in enumerate(names)}
    located = dict(zip(names, ({"best": readers[name].hook} for name in names), strict=True))
    shown = description.by_dictionary(readers, judged, located).set_index("dictionary")
    assert shown.FVU.tolist() == [0, 1] and (shown.hook == shown["fits best at"]).all()
    assert shown.doubts["one_layer"] == description.doubts(readers["one_layer"].dictionary, judged["one_layer"])


def test_members_of_a_family_are_one_row():
    smoke = profiles.load("smoke")
    frame = pd.DataFrame(
        {"model": ["two_layer_0", "bpe", "two_layer_1"], "layers": [2, 1, 2], "loss": [1.0, 3.0, 2.0],
         "doubts": ["none", "none", "few steps"]}
    )  # fmt: skip
    assert description.by_family(smoke, frame, {"loss": "{:.1f}"}).to_numpy().tolist() == [
        ["two_layer", 2, "2", "1.5 (1.0 to 2.0)", "none, few steps"],
        ["bpe", 1, "1", "3.0", "none"],
    ]
