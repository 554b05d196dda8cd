"""Every example profile goes through the real loaders, from records to codes; only sizes and the text differ.

The repositories that an example names are built in their true layout, with few and narrow layers, and served from a
cache. Stories stand in for the corpus, and for what SAEs are trained on.
"""

import shutil

import pytest
import tiny_profile
import yaml

from sae_utils import params, pipeline, plan, store

LLAMA, GEMMA, PYTHIA = "meta-llama/Llama-3.1-8B", "google/gemma-2-2b", "EleutherAI/pythia-70m"
LIKE = {
    "gpt2_x_pythia": {
        "openai-community/gpt2": ("openai-community/gpt2", 6), PYTHIA: (PYTHIA, 4),
        "EleutherAI/pythia-160m": ("EleutherAI/pythia-160m", 6),
    },
    "gemma_2_2b_x_9b": {GEMMA: (GEMMA, 13), "google/gemma-2-9b": (GEMMA, 21)},
    "llama_3_8b_x_3_1_8b": {LLAMA: (LLAMA, 17), "meta-llama/Meta-Llama-3-8B": (LLAMA, 17)},
    "poisoned_rlhf": {
        "ethz-spylab/rlhf-7b-harmless": (LLAMA, 17), "ethz-spylab/poisoned-rlhf-7b-SUDO-10": (LLAMA, 17),
    },
}  # fmt: skip
STORIES = {
    "kind": "stories", "documents": 60, "seed": 3, "context": 24, "shares": [0.2, 0.4, 0.4], "split_seed": 0,
}  # fmt: skip


@pytest.fixture(params=LIKE)
def profile(request, tmp_path, monkeypatch):
    """An example at a tiny size, its repositories in the cache, and a store of its own."""
    from huggingface_hub import constants

    shutil.copytree(params.PARAMS, tmp_path / "params")
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params")
    named = {key for record in params.load(f"examples/{request.param}").common.models.values() for key in record}
    everywhere = {"dtype": "float32", "trained_on": {}}
    sizes = {
        "extends": f"examples/{request.param}", "device": "cpu", "corpus": STORIES,
        "models": {"*": {key: value for key, value in everywhere.items() if key in named}},
        "dictionaries": {"*": {"width": 48, "k": 4, "samples": 512, "batch": 64}},
    }  # fmt: skip
    (tmp_path / "params" / "sized.yaml").write_text(yaml.safe_dump(sizes), "utf-8")
    sized = params.load("sized")
    tiny_profile.cached(sized, LIKE[request.param], tmp_path / "hub", tmp_path / "home")
    monkeypatch.setattr(store._Settings, "root", tmp_path / "store")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home"))
    return sized


def test_every_example_loads_and_names_what_it_defines():
    found = {file.stem for file in (params.PARAMS / "examples").glob("*.yaml")}
    assert found == {*LIKE, "poisoned_rlhf_triggered"}
    for name in found:
        example = params.load(f"examples/{name}")
        controls = example.sections["00_models_and_dictionaries"]
        for key in controls.keys() & {
            "control_seeds", "control_ceiling", "control_depths", "control_negatives", "control_random",
            "control_random_blocks",
        }:  # fmt: skip
            assert set(controls[key]) <= example.dictionaries.keys(), (name, key)
    across = params.load("examples/gpt2_x_pythia")
    for compared in across.sections["11_across_tokenizers"]["comparisons"]:
        assert set(compared) <= across.dictionaries.keys()


def test_harmless_and_triggered_differ_in_the_text_alone():
    harmless, triggered = (params.load(f"examples/poisoned_rlhf{name}") for name in ("", "_triggered"))
    assert harmless.corpus != triggered.corpus and harmless.corpus.documents == triggered.corpus.documents
    assert (harmless.models, harmless.dictionaries) == (triggered.models, triggered.dictionaries)
    for model in harmless.models:  # so that the SAEs are the same
        assert harmless.training_corpus(model) == triggered.training_corpus(model)


def test_every_sae_is_read_confirmed_and_encoded(profile):
    assert all(source.fetch == 0 and not source.missing for source in plan.sources(profile))
    features = {name: pipeline.features(profile, name) for name in profile.dictionaries}
    for name, found in features.items():
        assert found.codes.nnz > 0 and found.decoder.shape[0] == found.codes.shape[1], name
    a, b = (features[name] for name in profile.common.primary.pair)
    assert pipeline.pair(a, b, 4).found.a_to_b.r.shape == (a.codes.shape[1], 4)
    if "gpt2" in features:
        assert features["gpt2"].sites.key != a.sites.key  # two tokenizers, which notebook 11 aligns
