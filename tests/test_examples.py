"""Every example profile runs through the real loaders, from records to codes, at tiny sizes and on stories.

The repositories that an example names are built in their true layout, with few and narrow layers, and read from a
cache. Stories replace the corpus, and the texts on which SAEs were trained.
"""

import re
import shutil

import paper_hub
import pytest
import tiny_gguf
import tiny_hub
import yaml

from sae_utils import pipeline, profiles, store
from sae_utils.engine import params
from sae_utils.engine.build import plan
from sae_utils.engine.text import stories
from sae_utils.studies.layer_sweep import layers
from sae_utils.studies.published_tables import published

NAMES = ("gpt2_x_pythia", "gemma_2_2b_x_9b", "llama_3_8b_x_3_1_8b", "poisoned_rlhf")


@pytest.fixture(params=NAMES)
def profile(request, tmp_path, monkeypatch):
    """An example at a tiny size, its repositories in the cache, and a store of its own."""
    import gensim.downloader
    from huggingface_hub import constants

    shutil.copytree(params.PARAMS, tmp_path / "params")
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params")
    values = paper_hub.on_stories(f"examples/{request.param}")
    (tmp_path / "params" / "sized.yaml").write_text(yaml.safe_dump(values), "utf-8")
    sized = profiles.load("sized")
    paper_hub.build(tmp_path / "hub", sized)
    tiny_hub.cache(tmp_path / "hub", tmp_path / "home")
    monkeypatch.setattr(store._Settings, "root", tmp_path / "store")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home"))
    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(tmp_path / "hub" / "gensim"))
    return sized


PACKED = "smollm2_depths"  # its model lies in a package
EXAMPLES = [*NAMES, "poisoned_rlhf_triggered", PACKED]
every = pytest.mark.parametrize("name", EXAMPLES)


def names(value) -> set[str]:
    """All texts in a parameter, keys included; a pair `a x b` gives two."""
    if isinstance(value, dict):
        return names([*value, *value.values()])
    if isinstance(value, list):
        return set().union(*map(names, value))
    return set(value.split(" x ")) if isinstance(value, str) else set()


def test_every_example_is_tested():
    assert {file.stem for file in (params.PARAMS / "examples").glob("*.yaml")} == set(EXAMPLES)


@every
def test_no_section_names_what_only_the_paper_profile_defines(name):
    example, base = profiles.load(f"examples/{name}"), profiles.load("paper")
    foreign = {*base.models, *base.dictionaries} - {*example.models, *example.dictionaries}
    assert "pythia_70m_seed1" in foreign
    for section, values in example.sections.items():
        assert not foreign & names(values), (section, foreign & names(values))


@every
def test_what_a_section_names_is_a_dictionary(name):
    example = profiles.load(f"examples/{name}")
    units, across, steps = (
        example.sections[notebook]
        for notebook in ("04_llm_vs_sae", "11_across_tokenizers", "12c_steps_and_truth")
    )  # fmt: skip
    named = [[*units["beside"].values()], across["comparisons"], steps["negative"]]
    assert names(named) <= example.dictionaries.keys()


@every
def test_the_sweep_and_the_published_cells_can_be_made(name):
    example = profiles.load(f"examples/{name}")
    sweep = example.sections["03_layer_sweep"]
    grid = layers.cells(example, "03_layer_sweep", sweep["pairs"])
    assert layers.find(example, "asked", grid, example.common.primary.pair).pair == next(iter(sweep["pairs"]))
    given = example.sections["12_published_tables"]["published_layers"]
    cells = published.cells(published.layer_scores(), given, example.dictionaries, name)
    assert [(cell.a, cell.b) for cell in cells] == ([("pythia_70m", "pythia_160m")] if name == "gpt2_x_pythia" else [])


@every
def test_a_file_names_licences_access_and_the_size_of_downloads(name):
    text = (params.PARAMS / "examples" / f"{name}.yaml").read_text("utf-8")
    if name != "poisoned_rlhf_triggered":  # its models are those of another example
        assert re.search(r"MIT|Apache-2\.0|CC-BY-4\.0", text) and re.search(r"(?i)\bgated\b", text)
        assert re.search(r"To fetch: about \d+(\.\d)? GB", text) and re.search(r"\bblock\b", text)


def test_harmless_and_triggered_differ_only_in_the_text():
    harmless, triggered = (profiles.load(f"examples/poisoned_rlhf{name}") for name in ("", "_triggered"))
    assert harmless.corpus != triggered.corpus and harmless.corpus.documents == triggered.corpus.documents
    assert (harmless.models, harmless.dictionaries) == (triggered.models, triggered.dictionaries)
    # poisoning swaps the answers: the other column holds the answer of the harmless text
    assert (harmless.corpus.field, triggered.corpus.field) == ("chosen", "rejected")
    for model in harmless.models:  # the SAEs are the same
        assert harmless.training_corpus(model) == triggered.training_corpus(model)


def test_every_sae_is_read_confirmed_and_encoded(profile):
    assert all(source.fetch == 0 and not source.missing for source in plan.sources(profile))
    features = {name: pipeline.features(profile, name) for name in profile.dictionaries}
    for name, found in features.items():
        assert found.codes.nnz > 0 and found.decoder.shape[0] == found.codes.shape[1], name
    a, b = (features[name] for name in profile.common.primary.pair)
    assert pipeline.correlated(a, b, 4).found.a_to_b.r.shape == (a.codes.shape[1], 4)
    if "gpt2" in features:
        assert {x.sites.key for x in features.values()} == {a.sites.key}  # two tokenizers, aligned at the same words


def test_depths_of_one_model_are_encoded(tmp_path, monkeypatch):
    """With a tiny model of as many blocks in the place of the package's."""
    texts = [document.text for document in stories.stream(seed=0, documents=40)]
    tiny = tiny_gguf.write(tmp_path / "tiny.gguf", texts, layers=21)
    shutil.copytree(params.PARAMS, tmp_path / "params")
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params")
    values = paper_hub.on_stories(f"examples/{PACKED}")
    values["models"]["smollm2"] = {"kind": "pretrained", "source": str(tiny.file), "untrained": True}
    values["corpus"] = paper_hub.STORIES | {"context": 48}
    (tmp_path / "params" / "sized.yaml").write_text(yaml.safe_dump(values), "utf-8")
    sized = profiles.load("sized")
    monkeypatch.setattr(store._Settings, "root", tmp_path / "store")
    features = pipeline.features_of(sized, sized.dictionaries)
    assert all(found.codes.nnz > 0 for found in features.values())
    a, b = (features[name] for name in sized.common.primary.pair)
    assert a.sites.key == b.sites.key
    assert pipeline.correlated(a, b, 4).found.a_to_b.r.shape == (48, 4)
