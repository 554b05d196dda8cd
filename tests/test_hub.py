"""Files of the hub are fetched once, kept by commit, and refused with a remedy; a server on this machine is the hub."""

import json
import os
import re
import socket
import subprocess
import sys

import pytest
import tiny_hub
from hub_server import commit, serve

from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.inputs import hub

PYTHIA, GPT2 = "EleutherAI/pythia-70m", "openai-community/gpt2"
# sleeping is counted, not done: the seconds show retries
READER = """
import json, sys, time
slept = []
time.sleep = slept.append
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = 4096  # a tiny file is shorter than the usual 10 MB
from sae_utils.engine.inputs import hub
for source, revision, need, also in json.loads(sys.argv[1]):
    slept.clear()
    try:
        found = hub.find(source, revision, need, also)
        answer = found.model_dump() | {"paths": found.paths}
    except hub.ProfileError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer | {"slept": sum(slept)}))
"""
NEED = [["config.json"], ["model.safetensors", "model.safetensors.index.json"]]
REFUSED = {
    "repository": ((PYTHIA + "m", "main"), r"pythia-70mm at main: the hub has no such repository, .*check its name"),
    "no id": (("a b", "main"), r"a b at main: the hub has no such repository"),
    "revision": ((PYTHIA, "step7"), r"pythia-70m at step7: the repository has no such revision; see https"),
    "gated": (("org/gated", "main"), r"org/gated at main is gated: accept .* at https://huggingface\.co/org/gated,"),
    "pickles": (("org/pickled", "main"), r"weights are pickles \(pytorch_model\.bin\), .* refused; convert"),
    "other files": (("org/other", "main"), r"no model\.safetensors or model\.safetensors\.index\.json; there are"),
    "cut off": (("org/short", "main"), r"model\.safetensors: cut off, \d+ bytes of \d+; delete it and fetch it again"),
    "damaged": (("org/noise", "main"), r"cut off at 2048 bytes, or not a safetensors file; delete it"),
    "connection": (("org/dropped", "main"), r"org/dropped at main: the hub does not answer"),
}  # fmt: skip


@pytest.fixture(scope="module")
def served(tiny):
    """The families' checkpoints, and repositories with one fault each."""
    weights = (tiny_hub.folder(tiny, GPT2) / "model.safetensors").read_bytes()
    spoilt = {
        "gated": {"model.safetensors": weights},
        "pickled": {"pytorch_model.bin": b"\x80\x04."},
        "other": {"model.gguf": b"x"},
        "short": {"model.safetensors": weights[:-100]},
        "noise": {"model.safetensors": bytes(range(256)) * 8},
        "dropped": {"model.safetensors.index.json": b"{}", "dropped.safetensors": weights},
        "halting": {"halting.safetensors": weights},
    }
    for name, files in spoilt.items():
        place = tiny_hub.folder(tiny, f"org/{name}")
        place.mkdir(parents=True, exist_ok=True)
        (place / "config.json").write_text("{}")
        for file, content in files.items():
            (place / file).write_bytes(content)
    with serve(tiny, broken=["dropped.safetensors"], gated=["org/gated"], halting=["halting.safetensors"]) as found:
        yield found


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Runs requests in a process of its own; all such processes share one cache."""
    home = tmp_path_factory.mktemp("home")

    def run(endpoint, cases, **environment):
        own = {
            **{"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"},
            **{"HF_HOME": str(home), "PYTHONPATH": str(REPOSITORY), "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        }
        done = subprocess.run(
            [sys.executable, "-c", READER, json.dumps(cases)], env=os.environ | own | environment,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.fixture(scope="module")
def answers(served, asked):
    """The answers for a model, for one of its revisions by name and by commit, and for each of `REFUSED`."""
    step = commit("models", PYTHIA, "step1000")
    good = [[PYTHIA, "main", NEED, ["tokenizer.json", "none.json"]], [PYTHIA, "step1000", NEED, []]]
    good += [[PYTHIA, step, NEED, []], ["org/halting", "main", [["halting.safetensors"]], []]]
    bad = [[*of, [["config.json"], ["dropped.safetensors"]] if name == "connection" else NEED, []]
           for name, (of, _) in REFUSED.items()]  # fmt: skip
    found = asked(served.url, good + bad)
    return {"main": found[0], "step": found[1], "commit": found[2], "halting": found[3],
            **dict(zip(REFUSED, found[4:], strict=True))}  # fmt: skip


@pytest.fixture
def nowhere(answers):
    """An address without a hub, on a port that was free a moment ago; the cache already holds the models."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_files_are_fetched_unchanged(answers, tiny):
    found = answers["main"]
    assert found["source"] == PYTHIA and found["commit"] == commit("models", PYTHIA, "main")
    assert set(found["paths"]) == {"config.json", "model.safetensors", "tokenizer.json"}
    for name, path in found["paths"].items():
        with open(path, "rb") as stream:
            assert stream.read() == (tiny_hub.folder(tiny, PYTHIA) / name).read_bytes()


def test_a_revision_is_found_by_name_and_by_commit(answers):
    assert answers["step"] == answers["commit"] | {"slept": answers["step"]["slept"]}
    assert answers["step"]["commit"] == commit("models", PYTHIA, "step1000") != answers["main"]["commit"]


def test_cached_files_are_not_requested_again(served, asked, answers, nowhere):
    before = len(served.requests)
    by_commit = [PYTHIA, answers["main"]["commit"], NEED, ["tokenizer.json"]]
    [again] = asked(served.url, [by_commit])
    [offline] = asked(nowhere, [by_commit])
    assert again["paths"] == offline["paths"] == answers["main"]["paths"] and len(served.requests) == before


def test_a_name_is_resolved_once(served, asked, answers, nowhere):
    [offline] = asked(nowhere, [[PYTHIA, "step1000", NEED, []]])
    assert offline["commit"] == answers["step"]["commit"] and offline["slept"] == 0


def test_an_interrupted_download_is_resumed(answers, served, tiny):
    with open(answers["halting"]["paths"]["halting.safetensors"], "rb") as stream:
        assert stream.read() == (tiny_hub.folder(tiny, "org/halting") / "halting.safetensors").read_bytes()
    assert served.resumed == ["halting.safetensors"]


def test_files_fetched_later_are_of_the_same_commit(asked, served, answers, tiny):
    """A branch may have moved since."""
    before = len(served.requests)
    [found] = asked(served.url, [[PYTHIA, "main", [["tokenizer_config.json"]], []]])
    assert found["commit"] == answers["main"]["commit"]
    assert not any("/main" in request for request in served.requests[before:] if "pythia" in request)


@pytest.mark.parametrize("case", REFUSED)
def test_unavailable_files_are_refused_with_a_remedy(answers, case):
    assert re.search(REFUSED[case][1], answers[case].get("error", "found"))
    assert answers[case]["slept"] < (60 if case == "connection" else 1)


@pytest.mark.parametrize("offline", ["0", "1"])
def test_without_a_network_the_missing_files_are_named(asked, nowhere, offline):
    [answer] = asked(nowhere, [[GPT2, "main", NEED, []]], HF_HUB_OFFLINE=offline)
    assert re.search(
        r"gpt2 at main: the cache misses config\.json, model\.safetensors or model\.safetensors\.index\.json and the "
        r"hub does not answer \((Connect|OfflineMode).*HF_HUB_OFFLINE=0, .*`hf download openai-community/gpt2 --rev",
        answer["error"],
    )
    assert answer["slept"] == 0


# --- folders


def test_files_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/x.json", "y.json", "z.json"):
        (tmp_path / name).write_text(name)
    found = hub.find(str(tmp_path), "", [["a/x.json"], ["none", "y.json"]], ["z.json", "w.json"])
    assert found["a/x.json"] == tmp_path / "a/x.json" and set(found.paths) == {"a/x.json", "y.json", "z.json"}
    assert found.source == "" and len(found.commit) == 64
    (tmp_path / "y.json").write_text("other")
    assert hub.find(str(tmp_path), "", [["a/x.json"], ["y.json"]], ["z.json"]).commit != found.commit
    assert "paths" not in found.model_dump()  # no part of a key
    with pytest.raises(ProfileError, match=r"there is no q\.json, no p or r; there are a/x\.json, y\.json, z\.json"):
        hub.find(str(tmp_path), "", [["q.json"], ["p", "r"]])
    with pytest.raises(ProfileError, match=r"none: no such folder"):
        hub.find(str(tmp_path / "none"), "", [])


@pytest.mark.parametrize("source", ["./x", "../x", "~/x", "/x"])
def test_local_sources_begin_with_a_mark(source):
    assert hub.is_local(source) and not hub.is_local("org/x")


def test_the_listing_of_a_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    listing = hub.listing(str(tmp_path), "", ["config.json", "model.safetensors"])
    assert listing.sizes == {"config.json": 2} and list(listing.cached) == ["config.json"] and not listing.refusal
    assert hub.listing(str(tmp_path / "gone"), "", ["config.json"]).refusal.endswith("no such folder")
    assert "no such repository" in hub.listing("a b", "main", []).refusal


def test_an_unknown_user_is_refused(tmp_path):
    with pytest.raises(ProfileError, match=r"~nobody-of-that-name/x: no such user; write the path out"):
        hub.find("~nobody-of-that-name/x", "", [])
