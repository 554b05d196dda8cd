"""An address leads to the records of an SAE and of its model, or to an error that says what to do."""

import json
import shutil

import pytest
import tiny_hub
from hub_server import serve
from huggingface_hub import constants
from safetensors.torch import save_file

from sae_utils.engine.build import addresses
from sae_utils.engine.build.addresses import Given
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.inputs.hub import Files

MAPPING = """
hook: blocks.1.hook_resid_post
architecture: topk
k: 4
subtract_b_dec: true
keys: {W_enc: W_enc, b_enc: b_enc, W_dec: W_dec, b_dec: b_dec}
"""


pytestmark = pytest.mark.usefixtures("own_params")


@pytest.fixture
def folder(tmp_path, tiny):
    """Folders of SAEs in every layout, beside a model."""
    root = tmp_path / "saes"
    shutil.copytree(tiny_hub.folder(tiny, "EleutherAI/pythia-70m"), root / "model")
    tiny_hub.saelens(root / "old", tiny_hub.drawn(), "blocks.1.hook_mlp_out")
    tiny_hub.saelens(root / "here", tiny_hub.drawn(), "blocks.1.hook_mlp_out", model_name="../model")
    tiny_hub.saelens(root / "nameless", tiny_hub.drawn(), "blocks.1.hook_mlp_out", model_name="toy")
    new = {"model_name": "EleutherAI/pythia-160m", "hook_name": "blocks.2.hook_resid_post",
           "model_from_pretrained_kwargs": {"revision": "step7"}}  # fmt: skip
    tiny_hub.saelens(root / "new", tiny_hub.drawn(), "", model_name="", metadata=new)
    tiny_hub.sparsify(root / "run" / "layers.1.mlp", tiny_hub.drawn(), 4)
    (root / "run" / "config.json").write_text(json.dumps({"model": "EleutherAI/pythia-70m", "batch_size": 1}))
    tiny_hub.sparsify(root / "bare" / "layers.1", tiny_hub.drawn(), 4)
    tiny_hub.gemma_scope(root / "scope", tiny_hub.drawn(), 0.1)
    save_file(tiny_hub.drawn(), root / "mine.safetensors")
    (root / "mine.yaml").write_text("model: ./model\n" + MAPPING)
    save_file(tiny_hub.drawn(), root / "bare.safetensors")
    return root


def only(records):
    (record,) = records.values()
    return record


@pytest.mark.parametrize(
    "name, record, model, hook",
    [
        ("old", {"kind": "saelens", "source": "{}/old"}, {"source": "gpt2"}, "blocks.1.hook_mlp_out"),
        ("here", {"kind": "saelens", "source": "{}/here"}, {"source": "{}/model"}, "blocks.1.hook_mlp_out"),
        (
            "new",
            {"kind": "saelens", "source": "{}/new"},
            {"source": "EleutherAI/pythia-160m", "revision": "step7"},
            "blocks.2.hook_resid_post",
        ),
        (
            "run/layers.1.mlp",
            {"kind": "sparsify", "source": "{}/run", "hookpoint": "layers.1.mlp"},
            {"source": "EleutherAI/pythia-70m"},
            "blocks.1.hook_mlp_out",
        ),
        ("mine.safetensors", {"kind": "mapped", "k": 4, "path": "{}/mine.safetensors"}, {"source": "{}/model"},
         "blocks.1.hook_resid_post"),
        ("mine.yaml", {"kind": "mapped", "k": 4, "path": "{}/mine.safetensors"}, {"source": "{}/model"},
         "blocks.1.hook_resid_post"),
    ],
)  # fmt: skip
def test_files_say_what_reads_which_model_where(folder, name, record, model, hook):
    found = addresses.find(Given(str(folder / name), "a"))
    expected = {key: value.format(folder) if isinstance(value, str) else value for key, value in record.items()}
    sae = only(found.saes)
    assert sae.items() >= expected.items() and sae["model"] in found.model.records
    read = {key: value.format(folder) for key, value in model.items()}
    assert only(found.model.records) == {"kind": "pretrained", **read} and found.hook == hook
    assert found.origin is None


def test_options_say_what_files_do_not(folder):
    found = addresses.find(Given(str(folder / "scope"), "b", "EleutherAI/pythia-70m@step9", "blocks.1.hook_mlp_out"))
    assert only(found.saes).items() >= {"kind": "gemma_scope", "path": "scope", "hook": found.hook}.items()
    assert only(found.model.records)["revision"] == "step9"


@pytest.mark.parametrize(
    "name, message",
    [
        ("", r"^A= no SAE is named"),
        ("demo:two_layr", r"`dictionaries` of params/demo.yaml has no 'two_layr'; did you mean `two_layer`"),
        ("{}/nowhere", r"no such folder, .safetensors file or .yaml file"),
        ("{}", r"no SAE: cfg.json with sae_weights.safetensors .* is expected; found bare, "),
        ("{}/nameless", r"the model 'toy' is no folder, .*--model-a \(make: MODEL_A=\)"),
        ("{}/bare/layers.1", r"its configuration names no model; .*--model-a \(make: MODEL_A=\)"),
        ("{}/scope", r"does not say where it reads; add --hook-a \(make: HOOK_A=\)"),
        ("{}/bare.safetensors", r"it holds W_dec \(24, 16\), .*Write .*bare.yaml, for example:\n  model: "),
        ("gpt2-small-res-jp:x", r"no folder, profile or SAELens release .*; did you mean `gpt2-small-res-jb`"),
        ("gpt2-small-res-jb:blocks.8.hook_resid", r"has no SAE .*did you mean `blocks.8.hook_resid_pre`"),
        ("EleutherAI/saes", r"name the SAE's folder in the repository as well, as EleutherAI/saes:layers.3"),
        ("EleutherAI/saes:layers.3", r"^A=EleutherAI/saes:layers.3: the hub does not answer"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_with_the_remedy(folder, name, message):
    with pytest.raises(ProfileError, match=message):
        addresses.find(Given(name.format(folder), "a"))


@pytest.mark.parametrize(
    "line, message",
    [("model: ./model", r"mine.yaml: model: missing; add it .*--model-a"), ("k: 4", ""), ("keys", r"mine.yaml.keys: ")],
)
def test_a_mapping_is_checked_with_its_file(folder, line, message):
    file = folder / "mine.yaml"
    file.write_text("\n".join(x for x in file.read_text().split("\n") if not x.startswith(line)))
    if message:
        with pytest.raises(ProfileError, match=message):
            addresses.find(Given(str(file), "a"))
    else:
        assert only(addresses.find(Given(str(file), "a")).saes)["architecture"] == "topk"


def test_a_release_of_saelens_names_its_model():
    found = addresses.find(Given("gpt2-small-res-jb:blocks.8.hook_resid_pre", "a"))
    assert only(found.model.records) == {"kind": "pretrained", "source": "gpt2"}
    assert found.hook == only(found.saes)["id"] == "blocks.8.hook_resid_pre"


def test_a_repository_is_asked_for_its_configuration_only(tiny, tmp_path, monkeypatch):
    place = tiny_hub.folder(tiny, "org/own")
    if not place.exists():
        tiny_hub.sparsify(place / "layers.2", tiny_hub.drawn(), 4)
        (place / "config.json").write_text(json.dumps({"model": "EleutherAI/pythia-70m"}))
    fetched = []

    def find(source, revision, need):
        fetched.extend(name for group in need for name in group)
        return Files(source=source, commit="", paths={name: str(place / name) for name in fetched})

    monkeypatch.setattr(addresses.hub, "find", find)
    with serve(tiny) as hub:
        for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_CACHE": str(tmp_path)}.items():
            monkeypatch.setattr(constants, name, value)
        found = addresses.find(Given("org/own:layers.2", "a"))
        with pytest.raises(ProfileError, match=r"it has no folder 'layers.3'; did you mean `layers.2`"):
            addresses.find(Given("org/own:layers.3", "a"))
    assert fetched == ["config.json", "layers.2/cfg.json"]
    assert only(found.saes).items() >= {"kind": "sparsify", "source": "org/own", "hookpoint": "layers.2"}.items()
    assert found.hook == "blocks.2.hook_resid_post"
    assert only(found.model.records)["source"] == "EleutherAI/pythia-70m"


def test_a_profile_gives_an_sae_with_all_it_derives_from():
    found = addresses.find(Given("demo:random_blocks", "a"))
    assert list(found.saes) == ["random_blocks_4"] and list(found.model.records) == ["random_blocks_4", "three_layer_4"]
    assert found.model.records["random_blocks_4"]["of"] == "three_layer_4"
    assert found.origin and found.origin.bound and found.origin.corpus["kind"] == "stories"


def test_the_tokenizer_of_a_toy_is_that_of_its_profile():
    assert addresses.find(Given("demo:two_layer_4", "a")).model.tokenizers == {}
    assert list(addresses.find(Given("demo:two_layer_7", "a")).model.tokenizers) == ["two_layer_4"]
