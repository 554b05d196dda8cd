"""A file is complete, however many processes write it, and errors of the system come with their remedy."""

import errno
import os
import subprocess
import sys
import time

import pytest

from sae_utils.engine.core import files


def names(folder) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_draft_becomes_the_file_or_is_removed(tmp_path):
    file = tmp_path / "new" / "a.b.txt"
    files.write(file, "one")
    assert file.read_text() == "one"
    with pytest.raises(KeyboardInterrupt), files.draft(file) as draft:
        draft.write_text("half")
        assert draft.suffix == ".txt"  # matplotlib chooses the format by it
        raise KeyboardInterrupt
    assert file.read_text() == "one" and names(file.parent) == ["a.b.txt"]


WRITER = """
import sys
from pathlib import Path
from sae_utils.engine.core import files
for number in range(200):
    files.write(Path("x.txt"), sys.argv[1] * 200_000)
"""


def test_two_writers_never_leave_half_a_file(tmp_path):
    both = [subprocess.Popen([sys.executable, "-c", WRITER, letter], cwd=tmp_path) for letter in "ab"]
    contents = set()
    while any(process.poll() is None for process in both):
        if (tmp_path / "x.txt").exists():
            contents.add((tmp_path / "x.txt").read_text())
    assert [process.returncode for process in both] == [0, 0]
    assert contents <= {"a" * 200_000, "b" * 200_000} and names(tmp_path) == ["x.txt"]


def test_drafts_of_killed_processes_are_removed_after_a_day(tmp_path):
    old, new, other = (tmp_path / name for name in (".x[1].7.draft.txt", ".x[1].8.draft.txt", ".y.7.draft.txt"))
    for file, age in ((old, 2), (new, 0.5), (other, 2)):
        file.touch()
        os.utime(file, (time.time() - age * files.DAY,) * 2)
    files.write(tmp_path / "x[1].txt", "")
    assert names(tmp_path) == sorted([new.name, other.name, "x[1].txt"])


REFUSED = {
    errno.ENOSPC: r"disk full; free some space",
    errno.EDQUOT: r"disk full; free some space",
    errno.EACCES: r"access refused \(Permission denied; .* belongs to .*\); have it made writable",
    errno.EROFS: r"access refused \(Read-only file system; .*copy the repository to a folder of your own",
    errno.EPERM: r"access refused \(Operation not permitted",
}


@pytest.mark.parametrize("number", REFUSED)
def test_errors_of_the_system_come_with_a_remedy(number, tmp_path, monkeypatch):
    file = tmp_path / "x.txt"
    files.write(file, "before")

    def refuse(self, *_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    with pytest.raises(files.WriteError, match=rf"^{file}: {REFUSED[number]}[^\n]*$") as caught:
        files.write(file, "after")
    assert caught.value.errno == number and file.read_text() == "before" and names(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("what", ["a file", "a link that leads nowhere", "a folder"])
def test_an_obstacle_is_named(what, tmp_path):
    place = tmp_path / "build"
    match what:
        case "a file":
            place.touch()
        case "a folder":
            (tmp_path / "build" / "demo" / "x.txt" / "y").mkdir(parents=True)
            place = tmp_path / "build" / "demo" / "x.txt"
        case _:
            place.symlink_to("nowhere")
    with pytest.raises(files.WriteError, match=rf"^{place}: {what} stands in the way; move it away and run again$"):
        files.write(tmp_path / "build" / "demo" / "x.txt", "x")


def test_errors_of_other_kinds_are_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError), files.draft(tmp_path / "x"):
        open(tmp_path / "none")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a disk that is always full")
def test_a_disk_that_is_full(tmp_path):
    with pytest.raises(files.WriteError, match=r"x\.txt: disk full"), files.draft(tmp_path / "x.txt") as draft:
        draft.symlink_to("/dev/full")
        draft.write_text("x" * 100_000)
    assert names(tmp_path) == []
