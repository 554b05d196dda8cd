"""One small trained world for all tests, in a store of their own; `build/` stays untouched."""

import os
import shutil

# before torch and BLAS are loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["TQDM_DISABLE"] = "1"
os.environ["PROCESSES"] = "1"  # tests run side by side already

import pytest
import two

from sae_utils import store
from sae_utils.engine import params


@pytest.fixture(scope="session")
def store_root(tmp_path_factory):
    """The store of this test session; the workers of pytest-xdist share it, which its locks allow."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "store"


def set_store(patch, root):
    """Point the store at `root`, with one thread on the CPU."""
    for name, value in {"root": root, "threads": 1, "device": "cpu"}.items():
        patch.setattr(store._Settings, name, value)


@pytest.fixture(scope="session", autouse=True)
def session_store(store_root):
    """Fixtures of modules do not use the repository's store."""
    with pytest.MonkeyPatch.context() as patch:
        set_store(patch, store_root)
        yield


@pytest.fixture(autouse=True)
def own_store(store_root, monkeypatch):
    """No test reads or writes the repository's store, or passes its settings on to the next."""
    set_store(monkeypatch, store_root)


@pytest.fixture
def own_params(tmp_path, monkeypatch):
    """A copy of `params/` for edits, in the folder of the test."""
    shutil.copytree(params.PARAMS, tmp_path / "params")
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params")
    return tmp_path / "params"


WORLD = """
extends: smoke
corpus: {kind: stories, documents: 400, seed: 0, context: 112, shares: [0.6, 0.2, 0.2], split_seed: 0}
models:
  one_layer: &toy {kind: toy, layers: 1, d_model: 16, heads: 2, d_mlp: 32, tokenizer: word, vocabulary: 4000, seed: 0,
                   epochs: 1, batch: 8, learning_rate: 0.01, tied: false, checkpoints: 3}
  two_layer: {<<: *toy, layers: 2, tied: true, checkpoints: 0}
dictionaries:
  one_layer: &sae {kind: trained, model: one_layer, hook: blocks.0.hook_mlp_out, width: 32, k: 4, seed: 0,
                   samples: 6400, batch: 64, learning_rate: 0.003}
  two_layer: {<<: *sae, model: two_layer, hook: blocks.1.hook_mlp_out}
primary: {pair: [one_layer, two_layer], matching: mutual, measure: rsa_spearman, permutations: 99}
"""


@pytest.fixture(scope="session")
def world(store_root, tmp_path_factory):
    """A profile of 400 stories, a one-layer and a two-layer model, and an SAE for each."""
    from sae_utils import profiles

    store.use(threads=1, root=store_root)
    folder = tmp_path_factory.mktemp("params")
    for file in params.PARAMS.glob("*.yaml"):
        shutil.copy(file, folder)
    (folder / "world.yaml").write_text(WORLD + two.sections("one_layer", "two_layer", curve="one_layer"), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(params, "PARAMS", folder)
        return profiles.load("world")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of the repositories of a hub: a tiny checkpoint of every family, Pythia's in two revisions."""
    import tiny_hub

    from sae_utils.engine.text import stories

    root = tmp_path_factory.mktemp("tiny")
    texts = [document.text for document in stories.stream(seed=0, documents=40)]
    for seed, name in enumerate(tiny_hub.FAMILIES):
        tiny_hub.model(root, name, texts, seed=seed)
    tiny_hub.model(root, "EleutherAI/pythia-70m", texts, "step1000", seed=9)
    return root


@pytest.fixture(scope="session")
def hub_home(tiny, tmp_path_factory):
    """A cache of huggingface_hub that holds `tiny` in its first state."""
    import tiny_hub

    home = tmp_path_factory.mktemp("hub_home")
    tiny_hub.cache(tiny, home)
    return home


@pytest.fixture
def cached(hub_home, monkeypatch):
    """Make huggingface_hub read that cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub_home))
    return hub_home
