"""A dataset of the hub is read like any corpus; a server on this machine is the hub of a process of its own."""

import gzip
import itertools
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hub_server import commit, serve
from pyarrow import parquet

from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.text import corpora

FIELDS = {"name": "org/tales", "revision": "v1", "documents": 12, "context": 8, "shares": [0.6, 0.2, 0.2]}
# sleeping is counted, not done: the seconds show retries
READER = """
import json, sys, time
from pathlib import Path
slept = []
time.sleep = slept.append
from sae_utils import store
from sae_utils.engine.text import corpora
store.use(threads=1, root=Path(sys.argv[1]))
for fields in json.loads(sys.argv[2]):
    slept.clear()
    try:
        source = corpora.text(corpora.HubDataset(kind="hub", split_seed=3, **fields))
        texts = [text for block in corpora.blocks(source) for text in block.texts]
        answer = {"folder": str(source.path), "texts": texts}
    except corpora.ProfileError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer | {"slept": sum(slept)}))
"""
READ = {
    "jsonl": {},
    "two files": {"documents": 25},
    "another revision": {"revision": "v2"},
    "by commit": {"revision": commit("datasets", "org/tales", "v1")},
    "parquet": {"name": "org/table"},
    "another column": {"field": "title"},
    "compressed": {"name": "org/pile", "documents": 25},
    "null rows": {"name": "org/odd", "documents": 30},
}
ODD = [None, "one", "", "a \ufffd b", None, "\ufeff two\r\n", "three \U0001f98a", "nul \0", "four"]
REFUSED = {
    "column": ({"field": "txt"}, r"corpus\.field: org/tales has no text in column 'txt', found None; .*`text`\?"),
    "not text": ({"field": "number"}, r"corpus\.field: org/tales has no text in column 'number', found 0; valid: text"),
    "dataset": (
        {"name": "org/none"},
        r"the dataset org/none at revision v1 could not .* \(RepositoryNotFound.*check name",
    ),
    "revision": (
        {"revision": "v9"},
        r"the dataset org/tales at revision v9 could not .* \(RevisionNotFound.*check name, rev",
    ),
    "part": ({"part": "test"}, r"org/tales .*Available splits: \['train'\]"),
    "config": ({"config": "tiny"}, r"org/tales .*'tiny' not found"),
    "cut gz": ({"name": "org/half_gz", "documents": 5000}, r"the dataset org/half_gz at revision v1 could not be read"),
    "cut zst": ({"name": "org/half_zst", "documents": 5000}, r"the dataset org/half_zst at .* could not be read"),
    "surrogate": ({"name": "org/surrogate"}, r"org/surrogate at revision v1 could not be read \(.*surrogate"),
    "damaged": ({"name": "org/damaged"}, r"the dataset org/damaged at revision v1 could not be read"),
}


PART = "".join(json.dumps({"text": f"{n} {n**5 % 9973} {n**7 % 9967}"}) + "\n" for n in range(5000))


def tales(revision: str, count: int = 40) -> list[dict[str, object]]:
    return [{"text": f"Tale {n} of {revision}: grün.", "title": f"Title {n}", "number": n} for n in range(count)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Datasets of two files: one in two revisions, the second with a card; one cut off; one of parquet, one damaged.

    And one laid out as the Pile is: a folder of compressed parts for training, the other splits beside it.
    """
    root = tmp_path_factory.mktemp("hub") / "datasets" / "org"
    for repository, second in (("tales/v1", "train-1"), ("tales/v2", "train-1"), ("cut/v1", "train-cut")):
        (root / repository / "data").mkdir(parents=True)
        lines = [json.dumps(record) + "\n" for record in tales(repository[-2:])]
        for name, part in (("train-0", lines[:20]), (second, lines[20:])):
            (root / repository / "data" / f"{name}.jsonl").write_text("".join(part))
    (root / "tales/v2/README.md").write_text("---\nlicense: mit\n---\nTales, told again.\n")
    for repository in ("table", "damaged"):
        (root / repository / "v1").mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(tales("v1", 30)), root / "table/v1/train.parquet")
    (root / "damaged/v1/train.jsonl").write_text('{"text": "whole"}\n{"text": "ha')
    (root / "pile/v1/train").mkdir(parents=True)
    lines = [json.dumps(record | {"meta": {"pile_set_name": "Tales"}}) + "\n" for record in tales("v1")]
    for name, part in (("train/00", lines[:20]), ("train/01", lines[20:]), ("val", lines[:3]), ("test", lines[:3])):
        (root / f"pile/v1/{name}.jsonl.zst").write_bytes(zstandard.compress("".join(part).encode()))
    for name, rows in (("odd", ODD), ("surrogate", [*ODD, "a \ud800 b"])):
        (root / name / "v1").mkdir(parents=True)
        (root / name / "v1/train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    for ending, content in (("zst", zstandard.compress(PART.encode())), ("gz", gzip.compress(PART.encode()))):
        (root / f"half_{ending}/v1").mkdir(parents=True)
        (root / f"half_{ending}/v1/train.jsonl.{ending}").write_bytes(content[: len(content) // 2])
    with serve(root.parents[1], broken=["train-cut.jsonl"]) as served:
        yield served


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Reads corpora in a process of its own; all such processes share one cache."""
    folder = tmp_path_factory.mktemp("reader")
    number = itertools.count()

    def run(endpoint, cases, **environment):
        own = {
            **{"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"},
            **{"HF_HOME": str(folder / "home"), "PYTHONPATH": str(REPOSITORY)},
        }
        fields = json.dumps([FIELDS | case for case in cases])
        done = subprocess.run(
            [sys.executable, "-c", READER, str(folder / f"store_{next(number)}"), fields],
            env=os.environ | own | environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.fixture(scope="module")
def answers(hub, read):
    """The answer for each of `READ` and `REFUSED`."""
    cases = READ | {name: changes for name, (changes, _) in REFUSED.items()}
    return dict(zip(cases, read(hub.url, cases.values()), strict=True))


@pytest.fixture(scope="module")
def nowhere(answers):
    """An address without a hub, on a port that was free a moment ago; the cache already holds the datasets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def column(name: str, count: int, revision: str = "v1") -> list[object]:
    return [record[name] for record in tales(revision)[:count]]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("jsonl", column("text", 12)),
        ("two files", column("text", 25)),
        ("another revision", column("text", 12, "v2")),
        ("by commit", column("text", 12)),
        ("parquet", column("text", 12)),
        ("another column", column("title", 12)),
        ("compressed", column("text", 25)),
        ("null rows", ["one", "a \ufffd b", "two", "three \U0001f98a", "nul \0", "four"]),
    ],
)
def test_the_first_documents_are_read_in_order(answers, case, expected):
    assert answers[case].get("texts", answers[case]) == expected


def test_only_the_needed_files_are_fetched(hub, read):
    before = len(hub.requests)
    read(hub.url, [{}])
    fetched = [request for request in hub.requests[before:] if request.startswith("GET") and ".jsonl" in request]
    assert fetched and all("train-0.jsonl" in request for request in fetched)


def test_a_text_file_of_the_same_documents_gives_the_same_arrays(answers, tmp_path):
    (tmp_path / "tales.txt").write_text("\n".join(map(str, column("text", 25))), "utf-8")
    spec = {"context": 8, "shares": FIELDS["shares"], "split_seed": 3}
    same = corpora.text(corpora.TextFiles(kind="text", path=str(tmp_path / "tales.txt"), unit="line", **spec))
    names = {file.name for file in same.path.glob("*.npy")}
    folder = Path(answers["two files"]["folder"])
    assert len(names) == 8 and {file.name for file in folder.glob("*.npy")} == names
    for name in names:
        np.testing.assert_array_equal(np.load(folder / name), np.load(same.path / name), err_msg=name)
    assert set(np.load(folder / "split.npy")) == {0, 1, 2}


def test_revisions_are_artefacts_of_their_own(answers):
    assert len({answers[case]["folder"] for case in READ}) == len(READ)


@pytest.mark.parametrize("case", REFUSED)
def test_unavailable_datasets_are_refused(answers, case):
    assert re.search(REFUSED[case][1], answers[case].get("error", "read"))
    assert answers[case]["slept"] < 1


def test_without_a_hub_nothing_is_waited_for(read, nowhere):
    """Nor is another revision taken from the cache."""
    for answer in read(nowhere, [{}, {"revision": "v2"}]):
        assert re.search(
            r"org/tales at revision v. could .*\(Connect.*check name, revision and network", answer["error"]
        )
        assert answer["slept"] == 0


def test_offline_nothing_is_requested(hub, read):
    before = len(hub.requests)
    [answer] = read(hub.url, [{}], HF_HUB_OFFLINE="1")
    assert re.search(r"org/tales at revision v1 .*\(OfflineModeIsEnabled.*HF_HUB_OFFLINE is not 1", answer["error"])
    assert answer["slept"] == 0 and len(hub.requests) == before


def test_a_hub_that_stops_answering_is_given_up_soon(hub, read):
    [answer] = read(hub.url, [{"name": "org/cut", "documents": 25}])
    assert "the dataset org/cut at revision v1 could not be read" in answer["error"]
    assert 1 < answer["slept"] < 60
