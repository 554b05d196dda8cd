"""An artefact is complete or absent, has the contents that its key stands for, and is made once."""

import errno
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sae_utils import store
from sae_utils.engine.core import files
from sae_utils.engine.core.spec import Spec

MADE: list[tuple] = []


class Size(Spec):
    rows: int
    name: str = "x"


class Width(Spec):
    rows: int
    name: str = "x"


@store.artefact
def numbers(folder: Path, size: int, scale: float = 1.0, of: object = None) -> dict:
    MADE.append((size, scale))
    np.save(folder / "values.npy", scale * np.random.default_rng(0).normal(size=size))
    (folder / "inner").mkdir()
    (folder / "inner" / "words.json").write_text('["a"]')
    return {"size": size, "scale": scale}


@store.artefact
def unruly(folder: Path, error: object) -> None:
    np.save(folder / "half.npy", np.zeros(10))
    raise ERRORS[error]


ERRORS = {
    "wrong": ValueError("no such thing"),
    "interrupted": KeyboardInterrupt(),
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "full, as numpy says it": OSError("100000 requested and 8176 written"),
    "full, as Rust says it": RuntimeError("I/O error: No space left on device (os error 28)"),
    "denied": PermissionError(errno.EACCES, "Permission denied"),
}


@store.artefact
def overflowing(folder: Path, writer: str) -> None:
    """Write 800 kB where the system takes 100: the disk then holds the first part of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        if writer == "save":
            np.save(folder / "x.npy", np.zeros(100_000))
        with store.Appender(folder / "x.npy", np.float64) as out:
            for _ in range(100):
                out.append(np.zeros(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (folder / "x.npy").stat().st_size == 100_000


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """An empty store for each test, and none opened before."""
    monkeypatch.setattr(store._Settings, "root", tmp_path / "store")
    forget(monkeypatch)
    MADE.clear()
    return tmp_path / "store"


def forget(monkeypatch) -> None:
    """Forget what was opened, as a new process."""
    monkeypatch.setattr(store, "_opened", {})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def finished(root: Path) -> list[Path]:
    """Everything in the store but its locks."""
    return sorted(path for path in root.glob("*") if path.suffix != ".lock") if root.exists() else []


# --- the key


def test_the_same_call_is_made_once(monkeypatch):
    first = numbers(5)
    assert numbers(5) is first and numbers(size=5) is first and numbers(5, 1.0, None) is first
    forget(monkeypatch)
    again = numbers(5, scale=1.0)
    assert MADE == [(5, 1.0)]
    assert again == first and hash(again) == hash(first) and again != numbers(6) and again != again.key
    assert (again.key, again.path, again.meta) == (first.key, first.path, {"size": 5, "scale": 1.0})
    np.testing.assert_array_equal(again.array("values"), np.random.default_rng(0).normal(size=5))


def test_an_array_is_mapped_and_read_only():
    values = numbers(5).array("values")
    assert isinstance(values, np.memmap) and not values.flags.writeable


def test_a_difference_makes_another_artefact(monkeypatch):
    found = [
        numbers(5),
        numbers(6),
        numbers(5, 2.0),
        numbers(5, of="1"),
        numbers(5, of=1),
        numbers(5, of=1.5),
        numbers(5, of=True),
        numbers(5, of=[1]),
        numbers(5, of=["1"]),
        numbers(5, of=[[1]]),
        numbers(5, of={"a": 1}),
        numbers(5, of=Size(rows=1)),
        numbers(5, of=Size(rows=2)),
        numbers(5, of=Size(rows=1, name="y")),
        numbers(5, of=Width(rows=1)),
        numbers(5, of=Size(rows=1).model_dump()),
        numbers(5, of=numbers(5)),
        numbers(5, of=numbers(6)),
        numbers(5, of=[numbers(5), numbers(6)]),
        numbers(5, of=numbers(5).key),
    ]
    monkeypatch.setattr(store._Settings, "threads", 2)
    found.append(numbers(5))
    monkeypatch.setattr(store._Settings, "device", "cuda")
    found.append(numbers(5))
    monkeypatch.setattr("torch.__version__", "0.0")
    found.append(numbers(5))
    assert len({artefact.key for artefact in found}) == len({artefact.path for artefact in found}) == len(found)


def test_equal_values_make_the_same_artefact():
    assert numbers(5, of=(1, 2)) is numbers(5, of=[1, 2])
    assert numbers(5, of={"a": 1, "b": 2}) is numbers(5, of={"b": 2, "a": 1})
    assert numbers(5, of=Size(rows=1)) is numbers(5, of=Size(rows=1, name="x"))


@pytest.mark.parametrize(
    "value",
    [np.zeros(2), np.int64(3), Path("x"), {1}, object(), print, [1, {"a": b"bytes"}]],
    ids=lambda value: type(value).__name__,
)
def test_values_without_a_key_are_refused(value, root):
    with pytest.raises(TypeError, match="cannot be keyed by"):
        numbers(5, of=value)
    assert finished(root) == []


def test_code_is_part_of_the_key(tmp_path):
    """An edit of the producing module makes another artefact; an edit of a docstring there does not."""

    def key(doc: str, number: int) -> str:
        file = tmp_path / "producer.py"
        file.write_text(PRODUCER.format(doc=doc, number=number))
        return runpy.run_path(str(file), run_name="producer")["make"]().key

    plain = key("One.", 1)
    assert key("One, in other words.", 1) == plain
    assert key("One.", 2) != plain


PRODUCER = '''
import numpy as np
from sae_utils import store

@store.artefact
def make(folder):
    """{doc}"""
    np.save(folder / "x.npy", np.full(3, {number}))
'''


def test_without_an_open_profile_nothing_is_made(monkeypatch, root):
    monkeypatch.setattr(store._Settings, "threads", None)
    with pytest.raises(RuntimeError, match=r"no profile is open: call `profiles\.start"):
        numbers(5)
    assert finished(root) == []


def test_use_sets_threads_device_and_root(tmp_path, monkeypatch):
    import torch

    store.use(threads=2, root=tmp_path / "other")
    try:
        assert (store.threads(), store.device(), torch.get_num_threads()) == (2, "cpu", 2)
        assert numbers(5).path.parent == tmp_path / "other"
    finally:
        store.use(threads=1)
    assert torch.get_num_threads() == 1
    assert store._Settings.root == store.REPOSITORY / "build" / "store"


# --- damage


def flip(file: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["values.npy", "inner/words.json", "meta.json"])
@pytest.mark.parametrize("how", ["bit", "truncated", "emptied", "missing"])
def test_damage_is_reported_and_repaired(name, how, monkeypatch):
    first = numbers(5)
    before = contents(first.path)
    file = first.path / name
    match how:
        case "bit":
            flip(file, len(before[name]) // 2)
        case "truncated":
            file.write_bytes(before[name][:-1])
        case "emptied":
            file.write_bytes(b"")
        case "missing":
            file.unlink()
    forget(monkeypatch)
    if (name, how) == ("meta.json", "missing"):  # there is no artefact, hence no warning
        again = numbers(5)
    else:
        with pytest.warns(UserWarning, match=rf"is damaged \({name}\); computing it again"):
            again = numbers(5)
    assert len(MADE) == 2 and contents(again.path) == before
    assert (again.key, again.meta) == (first.key, first.meta)


@pytest.mark.filterwarnings("ignore:store:UserWarning")
def test_no_flipped_bit_changes_a_reported_number(monkeypatch):
    """Every byte of `meta.json` is checked as well: it alone holds the reported numbers."""
    first = numbers(5)
    file, expected = first.path / "meta.json", first.meta
    good = file.read_bytes()
    for position in range(len(good)):
        flip(file, position)
        forget(monkeypatch)
        found = store._open(store._Slot(first.path, first.key, {}))
        assert found is None or found.meta == expected, good[position - 20 : position + 20]
        file.write_bytes(good)
    forget(monkeypatch)
    assert store._open(store._Slot(first.path, first.key, {})) is not None


def test_the_files_of_another_artefact_are_noticed(monkeypatch):
    """Its files were copied into the folder of another key."""
    five, six = numbers(5), numbers(6)
    for file in ("values.npy", "meta.json"):
        (five.path / file).write_bytes((six.path / file).read_bytes())
    forget(monkeypatch)
    with pytest.warns(UserWarning, match="damaged"):
        assert numbers(5).meta["size"] == 5


ADDED = {
    "file": lambda folder: (folder / "special_tokens_map.json").write_text("{}"),
    "hidden file": lambda folder: (folder / ".extra").write_text(""),
    "file in a subfolder": lambda folder: (folder / "inner" / "more.json").write_text("{}"),
    "subfolder": lambda folder: (folder / "templates").mkdir(),
    "subfolder with a file": lambda folder: [(folder / "a" / "b").mkdir(parents=True), (folder / "a/b/c").touch()],
    "link": lambda folder: (folder / "twin.npy").symlink_to(folder / "values.npy"),
    "dangling link": lambda folder: (folder / "gone.npy").symlink_to("nowhere"),
    "link to a folder": lambda folder: (folder / "root").symlink_to("/"),
}


@pytest.mark.parametrize("how", ADDED)
@pytest.mark.parametrize("process", ["a new process", "the same process"])
def test_an_added_file_is_noticed(how, process, monkeypatch):
    """A library may read it: transformers would take special tokens from a file that nobody recorded."""
    first = numbers(5)
    before = contents(first.path)
    ADDED[how](first.path)
    if process == "a new process":
        forget(monkeypatch)
    with pytest.warns(UserWarning, match=r"is damaged \(.+ was added.*\); computing it again"):
        again = numbers(5)
    assert len(MADE) == 2 and contents(again.path) == before
    assert {path.name for path in again.path.rglob("*")} == {
        "inner", "words.json", "values.npy", "meta.json", "meta.sha256",
    }  # fmt: skip


def test_a_change_after_opening_is_noticed():
    first = numbers(5)
    flip(first.path / "values.npy", 150)
    with pytest.warns(UserWarning, match=r"is damaged \(values\.npy\)"):
        again = numbers(5)
    assert again.array("values").tobytes() == np.random.default_rng(0).normal(size=5).tobytes()
    shutil.rmtree(again.path)  # `make clean` beside an open notebook
    assert numbers(5).path.exists() and len(MADE) == 3


@pytest.mark.parametrize("what", ["file", "link", "dangling link"])
def test_a_file_or_link_in_the_place_of_an_artefact_is_replaced(what, tmp_path, root):
    """Else the build would fail after hours."""
    place = numbers(5).path
    shutil.rmtree(place)
    (tmp_path / "elsewhere").mkdir()
    if what == "file":
        place.write_text("x")
    else:
        place.symlink_to(tmp_path / ("elsewhere" if what == "link" else "nowhere"))
    assert numbers(5).array("values").size == 5 and not place.is_symlink()
    assert (tmp_path / "elsewhere").is_dir()


# --- a place that cannot be had


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("file", "store: a file stands in the way; move it away"),
        ("dangling link", "store: a link that leads nowhere stands in the way; move it away"),
        ("below a file", "above: a file stands in the way; move it away"),
        ("circle of links", "store: a link that leads nowhere stands in the way; move it away"),
    ],
)
def test_a_store_that_is_no_folder_is_reported_at_once(what, message, tmp_path, monkeypatch):
    root = tmp_path / "store"
    match what:
        case "file":
            root.write_text("precious")
        case "dangling link":
            root.symlink_to(tmp_path / "unmounted" / "disk")
        case "circle of links":
            root.symlink_to(root)
        case "below a file":
            (tmp_path / "above").write_text("x")
            monkeypatch.setattr(store._Settings, "root", tmp_path / "above" / "store")
    for call in (store.check, lambda: numbers(5)):
        with pytest.raises(OSError, match=message) as caught:
            call()
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert MADE == [] and (what != "file" or root.read_text() == "precious")


def test_a_store_that_is_a_link_to_a_folder_is_used(tmp_path, root):
    (tmp_path / "big disk").mkdir()
    root.symlink_to(tmp_path / "big disk")
    assert numbers(5).path.parent == root and finished(tmp_path / "big disk")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOSPC, errno.EDQUOT])
def test_a_store_that_refuses_files_is_reported_at_once(number, root, monkeypatch):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(root / "x"))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    message = "disk full; free" if number in (errno.ENOSPC, errno.EDQUOT) else f"access refused .*{os.strerror(number)}"
    with pytest.raises(files.WriteError, match=rf"store/x: {message}") as caught:
        numbers(5)
    assert MADE == [] and caught.value.errno == number


def test_a_finished_store_is_read_where_it_cannot_be_written(monkeypatch):
    """For example from the disk of another user."""
    first = numbers(5)
    forget(monkeypatch)
    monkeypatch.setattr(files, "probe", lambda folder: pytest.fail("nothing is to be written"))
    assert numbers(5).key == first.key


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act for another user")
def test_the_owner_of_a_closed_store_is_named(tmp_path_factory):
    place = Path("/tmp", f"{tmp_path_factory.getbasetemp().name}-{os.getpid()}")  # pytest's own folders are closed
    place.mkdir(mode=0o755)
    try:
        (place / "store").mkdir(mode=0o700)
        test = f"import os; os.setuid(65534); from pathlib import Path; files.probe(Path({str(place / 'store')!r}))"
        code = f"from sae_utils.engine.core import files\ntry:\n exec({test!r})\nexcept files.WriteError as e: print(e)"
        message = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    finally:
        shutil.rmtree(place)
    assert "store" in message and "access refused (Permission denied" in message and "belongs to root" in message


# --- failure


@pytest.mark.parametrize("error", ["wrong", "interrupted", "denied"])
def test_a_producer_that_fails_leaves_nothing(error, root):
    with pytest.raises(type(ERRORS[error])) as caught:
        unruly(error)
    assert caught.value is ERRORS[error]
    assert finished(root) == []


@pytest.mark.parametrize("error", [name for name in ERRORS if name.startswith("full")])
def test_a_full_disk_is_reported_and_damages_nothing(error, root):
    kept = numbers(5)
    before = contents(kept.path)
    with pytest.raises(OSError, match=r"disk full while making test_store\.unruly.*free some space") as caught:
        unruly(error)
    assert caught.value.errno == errno.ENOSPC
    assert finished(root) == [kept.path] and contents(kept.path) == before


@pytest.mark.parametrize(
    ("writer", "message"), [("save", "disk full while making"), ("appender", os.strerror(errno.EFBIG))]
)
def test_a_short_write_leaves_nothing(writer, message, root):
    """Numpy reports a short write by its counts only, as on a full disk; a stream reports the reason."""
    kept = numbers(5)
    with pytest.raises(OSError, match=message):
        overflowing(writer)
    assert finished(root) == [kept.path]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_or_link_in_the_place_of_a_draft_is_removed(kind, tmp_path):
    first = numbers(23)
    store._opened.clear()
    files.remove(first.path)
    draft = first.path.with_name(f".{first.path.name}.draft")
    draft.touch() if kind == "file" else draft.symlink_to(tmp_path / "nowhere")
    assert numbers(23).array("values").size == 23 and not os.path.lexists(draft)


def test_the_draft_of_a_killed_build_is_removed(monkeypatch):
    first = numbers(5)
    before = contents(first.path)
    draft = first.path.with_name(f".{first.path.name}.draft")
    first.path.rename(draft)
    (draft / "meta.json").unlink()
    (draft / "values.npy").write_bytes(b"half")
    (draft / "rubbish.npy").write_bytes(b"of an older kind")
    forget(monkeypatch)
    assert contents(numbers(5).path) == before
    assert not draft.exists()


# --- several of one pass

PASSES: list[list[str]] = []


@store.artefacts
def letters(folders: dict[str, Path], length: int, fails: str = ""):
    """One artefact for each letter, in the reverse order, as any order is allowed."""
    PASSES.append(list(folders))
    for item in reversed(folders):
        np.save(folders[item] / "values.npy", np.full(length, ord(item)))
        if item == fails:
            raise ERRORS["wrong"]
        yield item, {"letter": item}


@pytest.fixture
def passes():
    PASSES.clear()
    return PASSES


def test_a_pass_makes_what_is_missing(passes, monkeypatch):
    assert letters([], 3) == {}
    (single,) = letters(["b"], 3).values()
    found = letters(["a", "b", "c", "a"], 3)
    assert passes == [["b"], ["a", "c"]]
    assert {item: made.meta["letter"] for item, made in found.items()} == {"a": "a", "b": "b", "c": "c"}
    assert found["b"] is single and len({made.key for made in found.values()}) == 3
    assert letters(["c"], length=3)["c"] is found["c"]
    forget(monkeypatch)
    np.testing.assert_array_equal(letters(["a", "c"], 3)["c"].array("values"), [99, 99, 99])
    assert len(passes) == 2
    assert letters(["c"], 4)["c"].key != found["c"].key


def test_one_pass_or_several_make_the_same_bytes(passes, root):
    joint = letters("abc", 3)
    before = {item: contents(made.path) for item, made in joint.items()}
    for item, made in joint.items():
        (made.path / "values.npy").write_bytes(b"")
        store._opened.clear()
        with pytest.warns(UserWarning, match="damaged"):
            again = letters([item], 3)[item]
        assert again.key == made.key and contents(again.path) == before[item]
    assert passes == [["a", "b", "c"], ["a"], ["b"], ["c"]]


def test_a_pass_that_fails_keeps_what_it_finished(passes, root):
    with pytest.raises(ValueError, match="no such thing"):
        letters("abc", 3, "b")
    assert [path.name.partition("-")[0] for path in finished(root)] == ["test_store.letters"]
    assert letters("ac", 3, "b")["c"].meta == {"letter": "c"} and passes[1:] == [["a"]]


# --- several processes

SCRIPT = """
import os, sys, time
from pathlib import Path
from sae_utils import store  # first, which pins the CPU code path
import numpy as np
store.use(threads=1, root=Path("store").resolve())


@store.artefact
def slow(folder, signal):
    with open("count", "a") as count:
        count.write("made\\n")
    with store.Appender(folder / "x.npy", np.float64, (3,)) as out:
        out.append(np.random.default_rng(0).normal(size=(1000, 3)))
        if sys.argv[1:] == ["wait"]:
            print("half", flush=True)
            while not Path("go").exists():
                time.sleep(0.01)
        out.append(np.random.default_rng(1).normal(size=(1000, 3)))
    return {"rows": 2000}

made = slow("x")
print(made.path)
"""


def script(folder: Path) -> list[str]:
    (folder / "producer.py").write_text(SCRIPT)
    return [sys.executable, str(folder / "producer.py")]


def start(command: list[str], folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*command, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_make_it_once(tmp_path):
    command = script(tmp_path)
    first = start(command, tmp_path, "wait")
    assert first.stdout.readline() == "half\n"
    second = start(command, tmp_path)
    assert second.stderr.readline().startswith("store: waiting for another build that is making __main__.slow")
    (tmp_path / "go").touch()
    paths = [process.communicate(timeout=60)[0].strip() for process in (first, second)]
    assert first.returncode == second.returncode == 0
    assert paths[0] == paths[1] and (tmp_path / "count").read_text() == "made\n"


def test_a_build_after_a_killed_one_gives_the_same_bytes(tmp_path):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    undisturbed.mkdir(), disturbed.mkdir()
    (undisturbed / "go").touch()
    first = start(script(undisturbed), undisturbed)
    killed = start(script(disturbed), disturbed, "wait")
    assert killed.stdout.readline() == "half\n"
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(60) == -signal.SIGKILL
    assert not [path for path in finished(disturbed / "store") if not path.name.startswith(".")]
    again = start(script(disturbed), disturbed)
    paths = [Path(process.communicate(timeout=60)[0].strip()) for process in (first, again)]
    assert contents(paths[0]) == contents(paths[1])
    assert (disturbed / "count").read_text() == "made\n" * 2
    assert finished(disturbed / "store") == [paths[1]]


# --- growing files


@pytest.mark.parametrize("row", [(), (3,), (2, 5)])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.float16, np.float32, np.int64])
@pytest.mark.parametrize("sizes", [[], [0], [4], [1, 0, 7], [9, 90, 901]])
def test_an_appended_file_is_what_numpy_saves(tmp_path, row, dtype, sizes):
    generator = np.random.default_rng(0)
    blocks = [(100 * generator.normal(size=(size, *row))).astype(dtype) for size in sizes]
    first = np.concatenate([np.empty((0, *row), dtype), *blocks])
    np.save(tmp_path / "saved.npy", first)
    with store.Appender(tmp_path / "appended.npy", dtype, row) as out:
        for block in blocks:
            out.append(block)
        assert out.length == sum(sizes)
    assert (tmp_path / "appended.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()
    mapped = np.load(tmp_path / "appended.npy", mmap_mode="r", allow_pickle=False)
    assert mapped.shape == first.shape and mapped.dtype == dtype and np.array_equal(mapped, first)


def test_blocks_of_another_type_or_memory_order_are_converted(tmp_path):
    block = np.arange(12.0).reshape(3, 4).T  # Fortran order, float64
    with store.Appender(tmp_path / "x.npy", np.int32, (3,)) as out:
        out.append(block)
        out.append(block[::-1])
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), np.concatenate([block, block[::-1]]))


def test_rows_of_another_shape_are_refused(tmp_path):
    with store.Appender(tmp_path / "x.npy", np.float32, (3,)) as out:
        out.append(np.ones((2, 3)))
        with pytest.raises(ValueError, match=r"rows of shape \(4,\) do not belong in a file of rows \(3,\)"):
            out.append(np.ones((2, 4)))
    assert np.load(tmp_path / "x.npy").shape == (2, 3)
