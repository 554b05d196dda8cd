"""The profile of the hub's models goes through the real loaders, from records to correlated pairs; only sizes differ.

Every repository that `params/paper.yaml` names is built in its true layout, with few and narrow layers, and served from
a cache. What the profile needs of the network is one corpus, for which stories stand in here.
"""

import shutil

import numpy as np
import pytest
import tiny_profile

from sae_utils import params, pipeline, plan, store

LIKE = {
    "EleutherAI/pythia-70m": ("EleutherAI/pythia-70m", 4),
    "EleutherAI/pythia-70m-deduped": ("EleutherAI/pythia-70m", 4),
    "EleutherAI/pythia-160m": ("EleutherAI/pythia-160m", 6), "google/gemma-2b": ("google/gemma-2b", 13),
    "google/gemma-2-2b": ("google/gemma-2-2b", 13),
}  # fmt: skip
SIZES = """
extends: paper
device: cpu
corpus: {kind: stories, documents: 60, seed: 3, context: 24, shares: [0.2, 0.4, 0.4], split_seed: 0}
models:
  "*": {dtype: float32}
dictionaries:
  "*": {width: 48, k: 4, samples: 512, batch: 64}
"""


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("params")
    shutil.copytree(params.PARAMS, folder, dirs_exist_ok=True)
    (folder / "sized.yaml").write_text(SIZES, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(params, "PARAMS", folder)
        return params.load("sized")


@pytest.fixture(scope="module")
def home(profile, tmp_path_factory):
    """A cache that holds every repository of the profile."""
    root, home = tmp_path_factory.mktemp("paper"), tmp_path_factory.mktemp("home")
    tiny_profile.cached(profile, LIKE, root, home)
    return home


@pytest.fixture
def cached(home, monkeypatch):
    """That cache, and a store of its own: other tests have other weights under the same commits."""
    from huggingface_hub import constants

    monkeypatch.setattr(store._Settings, "root", home / "store")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))


def test_every_sae_is_read_confirmed_and_encoded(profile, cached):
    features = {name: pipeline.features(profile, name) for name in profile.dictionaries}
    for name, found in features.items():
        assert found.codes.nnz > 0 and found.decoder.shape[0] == found.codes.shape[1], name
    pythias = {found.sites.key for name, found in features.items() if "gemma" not in name}
    assert len(pythias) == 1  # one tokenizer
    a, b = (features[name] for name in profile.common.primary.pair)
    assert pipeline.pair(a, b, 4).found.a_to_b.r.shape == (a.codes.shape[1], 4)


def test_models_have_losses_and_random_twins(profile, cached):
    for name in ("pythia_70m", "random_70m", "gemma_2_2b"):
        assert np.isfinite(pipeline.losses(profile, name, 8).meta["model"])


def test_the_plan_finds_all_of_it_in_the_cache(profile, cached):
    found = plan.sources(profile)
    assert {source.key for source in found} >= {"models.gemma_2_2b", "dictionaries.pythia_160m"}
    assert all(source.fetch == 0 and not source.missing and source.cached > 1000 for source in found)
    assert plan.memory(profile, found) > 0 and plan.tokens(profile.corpus) == 60 * plan.TOKENS[type(profile.corpus)]
