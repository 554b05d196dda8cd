"""A plan lists what would be fetched and what is missing, and fetches nothing."""

import contextlib
import io
import json
import re
import sys

import pytest
import tiny_hub
import two
from hub_server import serve
from huggingface_hub import constants

from sae_utils.engine import params
from sae_utils.engine.build import plan, speed
from sae_utils.engine.inputs import hub, packages
from sae_utils.engine.lms import pretrained, quantised

PROFILE = """
extends: smoke
models:
  pythia: {kind: pretrained, source: EleutherAI/pythia-70m}
  early: {kind: pretrained, source: EleutherAI/pythia-70m, revision: step7}
  gemma: {kind: pretrained, source: google/gemma-2-2b}
  pickled: {kind: pretrained, source: org/pickled}
dictionaries:
  pythia: {kind: sparsify, model: pythia, source: org/saes, hookpoint: layers.1}
  lacking: {kind: sparsify, model: pythia, source: org/saes, hookpoint: layers.2}
  unknown: {kind: saelens, model: pythia, source: gpt2-small-res-jp, id: x}
  early: {kind: sparsify, model: early, source: org/saes, hookpoint: layers.1}
primary: {pair: [pythia, early], matching: mutual, measure: rsa_spearman, permutations: 99}
"""


@pytest.fixture(scope="module", autouse=True)
def briefly():
    """Every block and step is timed by one call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "DURATION", 0)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("params")
    for file in params.PARAMS.glob("*.yaml"):
        (folder / file.name).write_text(file.read_text("utf-8"), "utf-8")
    (folder / "own.yaml").write_text(PROFILE + two.sections("pythia", "early"), "utf-8")
    return folder


@pytest.fixture(scope="module")
def printed(folder, tiny, tmp_path_factory):
    """The output with a hub, the requests to the hub, and the output without a hub."""
    home = tmp_path_factory.mktemp("home")
    if not (tiny_hub.folder(tiny, "org/saes")).exists():
        tiny_hub.sparsify(tiny_hub.folder(tiny, "org/saes") / "layers.1", tiny_hub.drawn(), 4)
    pickled = tiny_hub.folder(tiny, "org/pickled")
    pickled.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "pytorch_model.bin"):
        (pickled / name).write_text("{}")

    def run(endpoint: str, offline: bool) -> tuple[int, str]:
        written = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(written):
            for name, value in {"ENDPOINT": endpoint, "HF_HUB_OFFLINE": offline, "HF_HUB_CACHE": str(home)}.items():
                patch.setattr(constants, name, value)
            patch.setattr(params, "PARAMS", folder)
            patch.setattr(sys, "argv", ["plan", "own"])
            with pytest.raises(SystemExit) as left:
                plan.main()
        return left.value.code, written.getvalue()

    with serve(tiny, gated=["google/gemma-2-2b"]) as hub:
        return run(hub.url, False), list(hub.requests), run(hub.url, True)


def gigabytes(text: str, key: str) -> str:
    return re.search(rf"^ *{re.escape(key)} .*?(unknown|\d+\.\d\d)", text, re.MULTILINE)[1]


def test_nothing_is_fetched(printed):
    _, requests, _ = printed
    assert requests and all(request.startswith("GET /api/") for request in requests)


def test_what_is_missing_is_named(printed):
    (code, text), _, _ = printed
    assert code == 1
    assert re.search(r"models\.early: EleutherAI/pythia-70m at step7: the repository has no such revision", text)
    assert re.search(r"dictionaries\.lacking: org/saes at main: no layers\.2/cfg\.json, no layers\.2/sae", text)
    assert re.search(r"dictionaries\.unknown: SAELens knows no release", text)
    assert re.search(r"models\.pickled: .*no model\.safetensors or model\.safetensors\.index\.json", text)
    assert "licence unknown, gated" in text
    assert gigabytes(text, "models.pythia") == "0.00" and gigabytes(text, "models.early") == "unknown"


def test_without_a_hub_it_is_reported(printed):
    _, _, (code, text) = printed
    assert code == 1 and "of unknown size" in text and "at least" in text
    assert "the hub does not answer (OfflineModeIsEnabled)" in text


def test_word_vectors_are_counted_or_missing(folder, tmp_path, monkeypatch, capsys):
    import gensim.downloader

    name = "word2vec-google-news-300"
    (folder / "vectors.yaml").write_text(
        f"extends: smoke\n05b_word_relations: {{vectors: {{kind: download, name: {name}}}}}\n", "utf-8"
    )
    monkeypatch.setattr(params, "PARAMS", folder)
    monkeypatch.setattr(sys, "argv", ["plan", "vectors"])
    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(tmp_path))

    def printed_for(listed: dict) -> tuple[int, str]:
        answer = json.dumps({"corpora": {}, "models": listed}).encode()
        monkeypatch.setattr(gensim.downloader, "urlopen", lambda _: io.BytesIO(answer))
        with pytest.raises(SystemExit) as left:
            plan.main()
        return left.value.code, capsys.readouterr().out

    code, text = printed_for({name: {"file_name": f"{name}.gz", "file_size": 1743563840, "license": "not found"}})
    assert code == 0 and "to fetch: 1.74 GB; cached: 0.00 GB" in text and "licence unknown" in text
    assert gigabytes(text, "05b_word_relations.vectors") == "1.74"
    code, text = printed_for({"word2vec-other": {}})
    assert code == 1 and "05b_word_relations.vectors: gensim's downloader has no vectors called" in text


def test_a_profile_that_needs_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["plan", "smoke"])
    with pytest.raises(SystemExit) as left:
        plan.main()
    text = capsys.readouterr().out
    assert left.value.code == 0 and "nothing is missing" in text
    assert re.search(r"^memory on cpu: about \d\.\d GB at most at once; disk: \d\.\d GB$", text, re.MULTILINE)
    assert re.search(r"^time: about \d+\.\d minutes on one core, of 39,680 tokens:$", text, re.MULTILINE)
    alone = float(re.search(r"about (\d+\.\d) minutes on one core", text)[1])
    monkeypatch.setenv("PROCESSES", "4")
    with pytest.raises(SystemExit):
        plan.main()
    side_by_side = capsys.readouterr().out
    found = re.search(r"on one core, at least (\d+\.\d) minutes by the clock in 4 processes, of", side_by_side)
    assert alone / 4.5 < float(found[1]) < alone
    assert re.search(r"^warning: (\d+) of \1 SAEs take fewer than 1,000 steps \(the least 80\)", text, re.MULTILINE)


PACKED = f"""
extends: smoke
replicates: []
models:
  open: {{kind: pretrained, package: tiny-open==1.0, file: tiny/x.gguf, sha256: "{"1" * 64}", licence: mit}}
  own: {{kind: pretrained, package: [tiny-a==1.0, tiny-b==1.0], file: [x.part0, x.part1], sha256: "{"2" * 64}",
        licence: own, terms: {{package: tiny-terms==1.0, file: tiny/TERMS.html}}}}
dictionaries:
  open: &sae {{kind: trained, model: open, hook: blocks.0.hook_mlp_out, width: 32, k: 4, seed: 0, samples: 640,
               batch: 64, learning_rate: 0.003}}
  own: {{<<: *sae, model: own}}
primary: {{pair: [open, own], matching: mutual, measure: rsa_spearman, permutations: 99}}
"""


def test_packages_are_listed_with_their_terms(folder, tmp_path, monkeypatch, capsys):
    (folder / "packed.yaml").write_text(PACKED + two.sections("open", "own"), "utf-8")
    monkeypatch.setattr(params, "PARAMS", folder)
    monkeypatch.setattr(sys, "argv", ["plan", "packed"])
    monkeypatch.setattr(quantised, "downloads", lambda: tmp_path)
    monkeypatch.setattr(packages, "_wheel", lambda *_: pytest.fail("a plan fetches nothing"))

    def printed() -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            plan.main()
        return left.value.code, capsys.readouterr().out

    code, text = printed()
    assert code == 1 and "and 2 sources of unknown size" in text
    assert re.search(r"models\.own +tiny-a==1\.0 and 1 more .*own \(TERMS\.html in tiny-terms==1\.0\)", text)
    assert re.search(r"models\.own: accept_terms: .*read tiny/TERMS\.html in the package .*ACCEPT_TERMS=own", text)
    monkeypatch.setenv("ACCEPT_TERMS", "own")
    (tmp_path / ("1" * 64)).write_bytes(bytes(10**7))
    code, text = printed()
    assert code == 0 and "cached: 0.01 GB" in text and "and 1 sources of unknown size" in text


def test_a_profile_that_is_none(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plan", "smoky"])
    with pytest.raises(SystemExit, match=r"error: params/smoky\.yaml: no such profile; did you mean `smoke`"):
        plan.main()


def test_a_text_that_is_not_there(folder, monkeypatch):
    corpus = "{kind: text, path: /no/*.txt, unit: line, context: 64, shares: [0.6, 0.2, 0.2], split_seed: 0}"
    (folder / "nowhere.yaml").write_text(f"extends: text\ncorpus: {corpus}\n", "utf-8")
    monkeypatch.setattr(params, "PARAMS", folder)
    monkeypatch.setattr(sys, "argv", ["plan", "nowhere"])
    with pytest.raises(SystemExit, match=r"error: corpus\.path: no file matches /no/"):
        plan.main()


def test_a_checkpoint_in_parts_is_counted_completely(monkeypatch):
    sizes = {"config.json": 10, pretrained.INDEX: 20, "model-00001-of-00002.safetensors": 400, "tokenizer.json": 30}
    sizes |= {"model-00002-of-00002.safetensors": 600, "pytorch_model.bin": 5000}
    cached = {"model-00001-of-00002.safetensors": "here"}
    monkeypatch.setattr(plan.hub, "listing", lambda *_: hub.Listing(sizes, cached, "mit", 0, ""))
    record = pretrained.Pretrained(kind="pretrained", source="org/large")
    found = plan._files("models.large", *record.wanted())
    assert (found.fetch, found.cached, found.parameters) == (10 + 20 + 30 + 600, 400, 1000 // 4)
