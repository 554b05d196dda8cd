"""Executes one notebook with the parameters of a profile.

In: a profile and the name of a notebook. Out: its executed copy, `build/<profile>/<notebook>.ipynb`; of a run that
failed, `build/<profile>/<notebook>.failed.ipynb`.
Never: a parameter that the notebook's parameters cell does not have.

`python -m sae_utils execute PROFILE NOTEBOOK`
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from sae_utils import profiles
from sae_utils.engine.core import files
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.params import Profile, script


def run(profile: Profile, notebook: str) -> Path:
    """Execute `notebooks/<notebook>.py` and return the executed copy; progress bars go to standard error.

    Raises papermill.PapermillExecutionError or nbclient.exceptions.DeadKernelError if a cell fails or the kernel dies;
    the copy up to that cell is kept. Raises ProfileError without a Jupyter kernel, and files.WriteError if the copy
    cannot be written.
    """
    import jupytext
    import nbformat
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    folder = REPOSITORY / "build" / profile.name
    failed, done = folder / f"{notebook}.failed.ipynb", folder / f"{notebook}.ipynb"
    values = {"profile": profile.name, **profile.sections[notebook]}
    source = jupytext.read(script(notebook))
    # set before the kernel loads BLAS: another number of threads gives other bytes
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(profile.common.threads))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")  # a log is not a terminal
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")  # SAELens' progress bar is text here
    with files.draft(done) as draft:
        nbformat.write(source, draft)
        try:
            papermill.execute_notebook(
                draft, draft, values, kernel_name="python3", cwd=REPOSITORY, stderr_file=sys.stderr, progress_bar=True,
                autosave_cell_every=0, config=Config({"KernelManager": {"transport_encryption": "auto"}}),
            )  # fmt: skip
        except NoSuchKernel:
            raise ProfileError(
                "no Jupyter kernel `python3`; `.venv/bin/python -m ipykernel install --sys-prefix` adds it"
            ) from None
        except (papermill.PapermillExecutionError, DeadKernelError):
            os.replace(draft, failed)
            raise
        _finish(draft)
    failed.unlink(missing_ok=True)
    return done


def _finish(file: Path) -> None:
    """Remove progress bars and times, so that equal runs leave equal copies."""
    import nbformat

    notebook: Any = nbformat.read(file, as_version=4)
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, file)


def main() -> None:
    """Execute a notebook with the parameters of a profile."""
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # its import takes a second, and nothing here needs it
    parser = argparse.ArgumentParser(prog="python -m sae_utils execute", description=main.__doc__)
    parser.add_argument("profile", help="name of a file in params/, without .yaml")
    parser.add_argument("notebook", help="name of a file in notebooks/, without .py")
    arguments = parser.parse_args()
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError

    copy = f"build/{arguments.profile}/{arguments.notebook}.failed.ipynb"
    try:
        profile = profiles.load(arguments.profile)
        if arguments.notebook not in profile.sections:
            raise ProfileError(f"no such notebook: {arguments.notebook}; there are {', '.join(profile.sections)}")
        print(f"wrote {run(profile, arguments.notebook).relative_to(REPOSITORY)}")
    except (ProfileError, files.WriteError) as error:
        sys.exit(f"error: {error}")
    except PapermillExecutionError as error:
        if error.ename in (ProfileError.__name__, files.WriteError.__name__):  # their message is complete
            sys.exit(f"error: notebooks/{arguments.notebook}.py: {error.evalue}")
        sys.exit(f"{error}\nerror: notebooks/{arguments.notebook}.py failed; its copy up to that cell is {copy}")
    except DeadKernelError:
        sys.exit(
            f"error: the kernel of notebooks/{arguments.notebook}.py died, most often for lack of memory; its copy up "
            f"to that cell is {copy}, and everything it had finished is in the store"
        )
