"""The profile of the hub's models runs through the real loaders, from records to correlated pairs, at tiny sizes.

Every repository that `params/paper.yaml` names is built in its true layout, with few and narrow layers, and read from a
cache. Stories replace the corpora, which would need the network; `tests/rehearsal.py` serves these too, and runs all
notebooks.
"""

import shutil

import numpy as np
import paper_hub
import pytest
import tiny_hub
import yaml

from sae_utils import pipeline, profiles, store
from sae_utils.engine import params
from sae_utils.engine.build import plan
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.saes import releases
from sae_utils.studies.models_and_dictionaries import description
from sae_utils.studies.semantic_subspaces import word2vec


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("params")
    shutil.copytree(params.PARAMS, folder, dirs_exist_ok=True)
    (folder / "sized.yaml").write_text(yaml.safe_dump(paper_hub.on_stories("paper")), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(params, "PARAMS", folder)
        return profiles.load("sized")


@pytest.fixture(scope="module")
def home(profile, tmp_path_factory):
    """A cache that holds every repository of the profile."""
    root, home = tmp_path_factory.mktemp("paper"), tmp_path_factory.mktemp("home")
    paper_hub.build(root, profile)
    tiny_hub.cache(root, home)
    shutil.move(root / "gensim", home)
    return home


@pytest.fixture
def cached(home, monkeypatch):
    """That cache, and an own store: other tests have other weights under the same commits."""
    import gensim.downloader
    from huggingface_hub import constants

    monkeypatch.setattr(store._Settings, "root", home / "store")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(home / "gensim"))


def test_an_sae_of_every_repository_is_read_confirmed_and_encoded(profile, cached):
    released = {x.source: name for name, x in profile.dictionaries.items() if isinstance(x, releases.Released)}
    names = {*released.values(), *profile.common.primary.pair, "tinystories", "random_70m"}
    features = {name: pipeline.features(profile, name) for name in names}
    for name, found in features.items():
        assert found.codes.nnz > 0 and found.decoder.shape[0] == found.codes.shape[1], name
    for family in (("pythia", "random"), ("gpt2", "tinystories"), ("gemma",)):  # one tokenizer each
        assert len({found.sites.key for name, found in features.items() if name.startswith(family)}) == 1
    a, b = (features[name] for name in profile.common.primary.pair)
    assert pipeline.correlated(a, b, 4).found.a_to_b.r.shape == (a.codes.shape[1], 4)


def test_models_have_losses_and_random_twins(profile, cached):
    for name in ("pythia_70m", "random_70m", "gemma_2_2b"):
        assert np.isfinite(pipeline.losses(profile, name, 8).meta["model"])


def test_training_steps_are_those_of_the_revisions(profile, cached):
    found = description.checkpoints(profile, "pythia_70m")
    assert list(found) == [64, 512, 4000, 32000, 143000]
    assert len({x.key for x in found.values()}) == 5
    assert description.size(profile, "pythia_70m_step512") == (6, 32, description.size(profile, "random_70m")[2], 512)
    assert np.isnan(description.size(profile, "pythia_70m").steps)
    assert description.size(profile, "random_70m").steps == 0
    with pytest.raises(ProfileError, match=r"models\.gpt2: none of its checkpoints is known.*revision: step1000"):
        description.checkpoints(profile, "gpt2")


def test_word_vectors_are_those_of_google_news(profile, cached):
    given = profile.sections["05b_word_relations"]["vectors"]
    assert given == {"kind": "download", "name": "word2vec-google-news-300"}
    assert word2vec.vectors(given, profile.corpus, ["fox", "nobody"]).unit.shape == (1, 300)


def test_only_sizes_differ(profile):
    """The sections that the profile sets itself are run as they are."""
    paper = params.read("paper")
    demo = params.read("demo")
    kept = {
        (section, key): profile.sections[section][key]
        for section in params.notebooks()
        for key in paper[section]
        if paper[section][key] != demo[section][key]
    }
    assert len(kept) > 15 and all(value == paper[section][key] for (section, key), value in kept.items())
    assert profile.models.keys() == paper["models"].keys()
    assert profile.dictionaries.keys() == paper["dictionaries"].keys()


def test_a_profile_that_extends_it_can_be_opened():
    assert profiles.load("tinystories").common.primary.pair == ["gpt2", "tinystories"]


def test_the_plan_finds_all_of_it_in_the_cache(profile, cached):
    found = plan.sources(profile)
    vectors = "05b_word_relations.vectors"
    assert {source.key for source in found} >= {"models.gemma_2_2b", "dictionaries.pythia_160m", vectors}
    assert all(source.fetch == 0 and not source.missing and source.cached > 1000 for source in found)
    assert "GB at most at once" in plan.report(profile, found, "cpu")[0]
