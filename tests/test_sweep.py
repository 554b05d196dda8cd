"""A sweep calls every cell once and keeps what precedes a failure, in one process and in several, with equal bytes."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sae_utils import pipeline, store, sweep
from sae_utils.engine.core import sources
from sae_utils.engine.core.spec import ProfileError

MADE: list[int] = []
BROKEN: list = [None]


@store.artefact
def square(folder: Path, number: int) -> dict:
    MADE.append(number)
    if number == BROKEN[0]:
        raise ValueError("no such square")
    return {"square": number**2}


@store.artefact
def slow(folder: Path, number: int, marks: str, wait: float) -> dict:
    (folder / "half").write_text("made")
    Path(marks, f"{number}-{os.getpid()}").touch()
    time.sleep(wait)
    return {"number": number}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(store._Settings, "root", tmp_path / "store")
    monkeypatch.setattr(store, "_opened", {})
    monkeypatch.setenv("PROCESSES", "1")
    MADE.clear()
    BROKEN[0] = None


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setenv("PROCESSES", "2")


def test_results_stand_by_cell_in_the_order_of_the_cells():
    found = sweep.run(square, (n for n in (3, 1, 2)), "squares")
    assert [(cell, result.meta["square"]) for cell, result in found.items()] == [(3, 9), (1, 1), (2, 4)]
    assert MADE == [3, 1, 2]
    assert sweep.run(len, [], "nothing") == {}
    pairs = sweep.run(lambda pair: pair[0] + pair[1], [("a", "b"), ("b", "a")], "pairs")
    assert pairs == {("a", "b"): "ab", ("b", "a"): "ba"}


def test_a_failure_names_its_cell_and_costs_no_other():
    BROKEN[0] = 2
    with pytest.raises(ValueError, match="no such square") as caught:
        sweep.run(square, [0, 1, 2, 3], "squares")
    assert caught.value.__notes__ == ["in squares, at 2"]
    assert MADE == [0, 1, 2]
    BROKEN[0] = None
    assert list(sweep.run(square, [0, 1, 2, 3], "squares")) == [0, 1, 2, 3]
    assert MADE == [0, 1, 2, 2, 3]


# --- in several processes


def test_two_processes_give_the_results_of_one_in_the_order_of_the_cells(two):
    offset, cells = 10, [(3, "a"), (1, "b"), (2, "c")]
    found = sweep.run(lambda cell: (os.getpid(), cell[0] + offset), cells, "sums")
    assert [(cell, result) for cell, (_, result) in found.items()] == [(cell, cell[0] + 10) for cell in cells]
    assert os.getpid() not in {process for process, _ in found.values()}
    again = sweep.run(lambda cell: os.getpid(), cells, "the same processes")
    assert len({*again.values(), *(process for process, _ in found.values())}) <= 2
    assert MADE == []
    assert [kept.meta["square"] for kept in sweep.run(square, [3, 4], "squares").values()] == [9, 16]


def test_a_process_works_as_its_parent_does(two):
    def seen(_):
        import torch

        from sae_utils.engine.core import cpu

        return store.settings(), torch.get_num_threads(), cpu.path(), os.environ.get("NUMBA_CACHE_DIR")

    (found, other) = sweep.run(seen, "ab", "settings").values()
    from sae_utils.engine.core import cpu

    threads = store.settings()[0] or 1
    assert found == other == (store.settings(), threads, cpu.path(), os.environ["NUMBA_CACHE_DIR"])


def test_a_sweep_inside_a_sweep_is_a_plain_loop(two):
    inner = sweep.run(lambda _: (os.getpid(), sweep.run(lambda _: os.getpid(), "xyz", "inner")), "ab", "outer")
    assert all(set(found.values()) == {process} for process, found in inner.values())


def test_a_failure_in_a_process_names_its_cell_and_finished_cells_are_kept(two, tmp_path):
    def fail(number):
        if number == 3:
            raise ProfileError("params/x.yaml: no such square")
        return square(number)

    with pytest.raises(ProfileError, match="no such square") as caught:
        sweep.run(fail, [0, 1, 2, 3], "squares")
    assert caught.value.__notes__ == ["in squares, at 3"]
    kept = [folder for folder in (tmp_path / "store").iterdir() if not folder.name.startswith(".")]
    assert len(kept) >= 1
    assert [x.meta["square"] for x in sweep.run(square, [0, 1, 2, 3], "squares").values()] == [0, 1, 4, 9]


class Unreadable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def test_an_exception_that_no_other_process_can_read_keeps_its_text(two):
    def fail(_):
        raise Unreadable("this", "that")

    with pytest.raises(RuntimeError, match="Unreadable: this and that") as caught:
        sweep.run(fail, "ab", "failures")
    assert re.fullmatch("in failures, at [ab]", caught.value.__notes__[0])


def test_a_killed_process_is_told_as_such_and_leaves_no_lock(two, tmp_path):
    def killed(number):
        if number == 1:
            Path(tmp_path, "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return slow(number, str(tmp_path), 0.0)

    with pytest.raises(RuntimeError, match=r"numbers: a process was killed.*memory; PROCESSES=1"):
        sweep.run(killed, [0, 1, 2, 3], "numbers")
    found = sweep.run(lambda number: slow(number, str(tmp_path), 0.0), [0, 1, 2, 3], "numbers")
    assert [kept.meta["number"] for kept in found.values()] == [0, 1, 2, 3]


INTERRUPTED = """
import sys, test_sweep
from pathlib import Path
from sae_utils import store, sweep
store.use(threads=1, root=Path(sys.argv[1], "store"))
wait = float(sys.argv[2])
print({n: kept.meta["number"] for n, kept in
       sweep.run(lambda n: test_sweep.slow(n, sys.argv[1], wait * n), [0, 2, 1], "numbers").items()})
"""


def test_an_interrupt_leaves_nothing_half_written_and_no_process(tmp_path):
    environment = os.environ | {"PROCESSES": "2", "PYTHONPATH": f"{sources.REPOSITORY}:{Path(__file__).parent}"}
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background of a shell ignores it
    run = subprocess.Popen(
        [*command, "600"], env=environment, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=heeds
    )
    deadline = time.monotonic() + 300  # two processes import torch, however busy the machine
    while len(marks := list(tmp_path.glob("[012]-*"))) < 3 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(marks) == 3, run.communicate(timeout=1)[1].decode() if run.poll() is not None else marks
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    assert b"KeyboardInterrupt" in run.communicate(timeout=60)[1] and run.returncode
    workers = {int(mark.name.split("-")[1]) for mark in marks}
    deadline = time.monotonic() + 30
    while (left := [x for x in workers if Path(f"/proc/{x}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    finished = [folder.name for folder in (tmp_path / "store").iterdir() if not folder.name.startswith(".")]
    assert len(finished) == 1
    done = subprocess.run([*command, "0"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "{0: 0, 2: 2, 1: 1}\n"


def test_arrays_of_the_store_travel_by_name(two, tmp_path):
    np.save(tmp_path / "codes.npy", np.zeros((2000, 1000)))
    codes = np.load(tmp_path / "codes.npy", mmap_mode="r")
    found = sweep.run(lambda _: (str(codes.filename), codes.flags.writeable), "ab", "arrays")
    assert set(found.values()) == {(str(tmp_path / "codes.npy"), False)}
    (one, two_) = sweep.run(lambda i: codes[i:], [0, 1], "arrays back").values()
    assert isinstance(one, np.memmap) and one.shape == (2000, 1000) and two_.shape == (1999, 1000)


def test_two_processes_train_to_the_bytes_of_one(world, tmp_path, monkeypatch):
    digests = []
    for number in ("1", "2"):
        store.use(threads=1, root=tmp_path / number)
        monkeypatch.setenv("PROCESSES", number)
        found = sweep.run(lambda name: pipeline.reader(world, name), ["one_layer", "two_layer"], "dictionaries")
        made = [x for kept in found.values() for x in (kept.model, kept.dictionary)]
        assert all(kept.path.is_relative_to(tmp_path / number) for kept in made)
        digests.append([(kept.key, sources.digest(sorted(kept.path.rglob("*.safetensors")))) for kept in made])
    assert digests[0] == digests[1]


# --- their number


@pytest.mark.parametrize(
    ("environment", "cores", "threads", "device", "expected"),
    [
        ({"PROCESSES": "3"}, 8, 1, "cpu", 3),
        ({}, 8, 1, "cpu", 8),
        ({}, 8, 2, "cpu", 4),
        ({}, 1, 2, "cpu", 1),
        ({}, 8, None, "cpu", 8),
        ({"PROCESSES": "3"}, 8, 1, "cuda", 1),
        ({"MAKEFLAGS": " -j2 --jobserver-auth=3,4 -- PROFILE=smoke"}, 8, 1, "cpu", 4),
        ({"MAKEFLAGS": "s -j16 --jobserver-auth=fifo:/tmp/x"}, 8, 1, "cpu", 1),
        ({"MAKEFLAGS": "s -- PROFILE=a-j4"}, 8, 1, "cpu", 8),
    ],
)
def test_the_number_of_processes(environment, cores, threads, device, expected, monkeypatch):
    monkeypatch.delenv("PROCESSES")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("joblib.cpu_count", lambda: cores)
    monkeypatch.setattr(store._Settings, "threads", threads)
    monkeypatch.setattr(store._Settings, "device", device)
    assert sweep.processes() == expected


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5"])
def test_a_number_that_is_none_is_refused(given, monkeypatch):
    monkeypatch.setenv("PROCESSES", given)
    with pytest.raises(ValueError, match=f"PROCESSES={given}: expected a number"):
        sweep.run(len, ["a"], "lengths")
