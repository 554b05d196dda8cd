"""A notebook that succeeds leaves one copy, the same each time; one that fails leaves a copy under another name."""

import errno
import os
import subprocess
import sys

import nbformat
import pytest

from sae_utils import profiles
from sae_utils.engine import params
from sae_utils.engine.build import execute
from sae_utils.engine.core.spec import ProfileError

TOY = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Toy

# %% tags=["parameters"]
profile = "smoke"
size = 1
fail = False

# %%
import os
import sys
import time

from tqdm import tqdm

# %%
for _ in tqdm(range(size)):
    print(time.time(), file=sys.stderr)
print(profile, size, os.environ["OMP_NUM_THREADS"], os.path.basename(os.getcwd()))

# %%
if not size:
    raise SystemExit  # as `Report.needs` does

# %%
if fail:
    raise ValueError("no such " + "luck")
size + 1
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of one notebook; changes of the environment are undone."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "toy.py").write_text(TOY)
    monkeypatch.setattr(params, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(execute, "REPOSITORY", tmp_path)
    before = dict(os.environ)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def smoke():
    return profiles.load("smoke")


def with_parameters(smoke, **parameters) -> params.Profile:
    return smoke._replace(sections={"toy": {"size": 3, "fail": False} | parameters})


def run_main(monkeypatch, profile, notebook: str = "toy") -> None:
    monkeypatch.setattr(profiles, "load", lambda name: profile)
    monkeypatch.setattr(sys, "argv", ["execute", "smoke", notebook])
    execute.main()


def test_a_failure_is_kept_separately_and_a_success_is_repeatable(repository, smoke, monkeypatch):
    build = repository / "build" / "smoke"
    build.mkdir(parents=True)

    with pytest.raises(SystemExit) as caught:
        run_main(monkeypatch, with_parameters(smoke, fail=True))
    message = str(caught.value.code)  # a text: exit status 1, on standard error
    assert "ValueError: no such luck" in message
    assert message.endswith("error: notebooks/toy.py failed; its copy up to that cell is build/smoke/toy.failed.ipynb")
    assert [file.name for file in build.iterdir()] == ["toy.failed.ipynb"]
    failed = nbformat.read(build / "toy.failed.ipynb", as_version=4)
    errors = [output for cell in failed.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert [(error.ename, error.evalue) for error in errors] == [("ValueError", "no such luck")]

    run_main(monkeypatch, with_parameters(smoke))
    assert [file.name for file in build.iterdir()] == ["toy.ipynb"]
    first = (build / "toy.ipynb").read_bytes()
    assert execute.run(with_parameters(smoke), "toy") == build / "toy.ipynb"
    assert (build / "toy.ipynb").read_bytes() == first

    copy = nbformat.reads(first.decode(), as_version=4)
    nbformat.validate(copy)
    outputs = [output for cell in copy.cells for output in cell.get("outputs", [])]
    threads, here = smoke.common.threads, repository.name
    assert [output.get("text") or output["data"]["text/plain"] for output in outputs] == [
        f"smoke 3 {threads} {here}\n",
        "4",
    ]
    injected = [cell.source for cell in copy.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert len(injected) == 1 and "size = 3" in injected[0] and 'profile = "smoke"' in injected[0]
    assert (repository / "notebooks" / "toy.py").read_text() == TOY


SIDE_BY_SIDE = """
import sys
from pathlib import Path
from sae_utils.engine import params
from sae_utils.engine.build import execute
execute.REPOSITORY = Path(sys.argv[1])
params.NOTEBOOKS = execute.REPOSITORY / "notebooks"
common = params.Common.model_construct(threads=1)
profile = params.Profile("smoke", common, None, {}, {}, sections={"toy": {"size": 2}}, families={})
print(execute.run(profile, "toy").name)
"""
WAITS = """
import os, time
from pathlib import Path
Path(f"started-{os.getpid()}").touch()
until = time.monotonic() + 60
while len(list(Path().glob("started-*"))) < 2 and time.monotonic() < until:
    time.sleep(0.02)
print(len(list(Path().glob("started-*"))))
"""


def test_two_builds_of_one_notebook_at_once_both_end_well(repository):
    """A cell of each waits until the other has started."""
    toy = TOY.replace("raise SystemExit  # as `Report.needs` does", "pass")
    (repository / "notebooks" / "toy.py").write_text(f"{toy}\n# %%\n{WAITS}")
    command = [sys.executable, "-c", SIDE_BY_SIDE, str(repository)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert [out for out, _ in outputs] == ["toy.ipynb\n"] * 2
    build = repository / "build" / "smoke"
    assert [file.name for file in build.iterdir()] == ["toy.ipynb"]
    copy = nbformat.read(build / "toy.ipynb", as_version=4)
    nbformat.validate(copy)
    assert copy.cells[-1].outputs[0].text == "2\n"


def test_a_place_that_cannot_be_written_is_reported_in_a_line(repository, smoke, monkeypatch):
    (repository / "build").write_text("in the way")
    with pytest.raises(SystemExit) as caught:
        run_main(monkeypatch, with_parameters(smoke))
    assert caught.value.code == f"error: {repository}/build: a file stands in the way; move it away and run again"


def test_a_full_disk_is_reported_in_a_line(repository, smoke, monkeypatch):
    """If the disk is full before the kernel starts, nothing is left behind, and an earlier copy stays."""
    done = repository / "build" / "smoke" / "toy.ipynb"
    done.parent.mkdir(parents=True)
    done.write_text("of an earlier run")

    def full(notebook, file):
        file.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nbformat, "write", full)
    with pytest.raises(SystemExit, match=r"^error: .*toy\.ipynb: disk full; free some space and run again: [^\n]*$"):
        run_main(monkeypatch, with_parameters(smoke))
    assert [file.read_text() for file in done.parent.iterdir()] == ["of an earlier run"]


@pytest.mark.parametrize("kind", ["ProfileError", "WriteError"])
def test_what_a_cell_refuses_is_reported_in_a_line(kind, repository, smoke, monkeypatch):
    """The messages of these errors are complete; a traceback would add nothing."""
    line = {
        "ProfileError": "from sae_utils.engine.core.spec import ProfileError; "
        "raise ProfileError('no such model; name another')",
        "WriteError": "from sae_utils.engine.core.files import WriteError; "
        "raise WriteError(28, 'no such model; name another')",
    }[kind]
    (repository / "notebooks" / "toy.py").write_text(TOY.replace('raise ValueError("no such " + "luck")', line))
    with pytest.raises(SystemExit) as caught:
        run_main(monkeypatch, with_parameters(smoke, fail=True))
    assert caught.value.code == "error: notebooks/toy.py: no such model; name another"


def test_a_notebook_that_ends_early_is_finished(repository, smoke, monkeypatch, capsys):
    run_main(monkeypatch, with_parameters(smoke, size=0, fail=True))
    assert capsys.readouterr().out == "wrote build/smoke/toy.ipynb\n"
    assert [file.name for file in (repository / "build" / "smoke").iterdir()] == ["toy.ipynb"]
    last = nbformat.read(repository / "build" / "smoke" / "toy.ipynb", as_version=4).cells[-1]
    assert last.source.startswith("if fail") and last.execution_count is None and not last.outputs


def test_no_kernel_is_reported(repository, smoke, monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    def missing(self, name):
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", missing)
    with pytest.raises(ProfileError, match=r"no Jupyter kernel `python3`; .*ipykernel install"):
        execute.run(with_parameters(smoke), "toy")
    with pytest.raises(SystemExit, match="error: no Jupyter kernel"):
        run_main(monkeypatch, with_parameters(smoke))
    assert not (repository / "build" / "smoke" / "toy.ipynb").exists()


def test_main_names_the_notebooks_that_there_are(smoke, monkeypatch):
    with pytest.raises(SystemExit, match="error: no such notebook: tpy; there are toy"):
        run_main(monkeypatch, with_parameters(smoke), "tpy")


def test_a_kernel_that_dies_is_reported_with_its_likely_cause(repository, smoke, monkeypatch):
    from nbclient.exceptions import DeadKernelError

    def die(profile, notebook):
        raise DeadKernelError("Kernel died")

    monkeypatch.setattr(execute, "run", die)
    with pytest.raises(SystemExit, match=r"the kernel of notebooks/toy\.py died, most often for lack of memory"):
        run_main(monkeypatch, with_parameters(smoke))
