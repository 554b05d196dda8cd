"""Without tqdm loops run as they do with it, and show nothing."""

import os
import re
import subprocess
import sys

import pytest

from sae_utils.engine.core import progress, sources

SWEEP = """
import sys
sys.modules["tqdm"] = None  # its import fails
from sae_utils import sweep
print(sweep.run(abs, [-1, 2], "absolute values"))
"""


def test_a_sweep_runs_without_tqdm():
    done = subprocess.run([sys.executable, "-c", SWEEP], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{-1: 1, 2: 2}\n", "")


HIDDEN = """
from sae_utils.engine.core import progress
from tqdm.auto import tqdm
progress.hide()
list(progress.bar([1]))
list(tqdm([1], disable=False))
list(progress.tqdm([1], disable=None))
"""


def test_a_process_that_works_for_another_shows_no_bar():
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    for code, shown in ((HIDDEN, False), (HIDDEN.replace("progress.hide()", ""), True)):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0 and bool(done.stderr) is shown


def methods() -> set[str]:
    """Methods of a bar that the package calls."""
    return {name for file in sources.PACKAGE.rglob("*.py") for name in re.findall(r"\bbar\.(\w+)\(", file.read_text())}


@pytest.mark.parametrize("name", sorted({*methods(), "close"}))
def test_both_kinds_of_bar_have_every_method_that_is_called(name):
    assert callable(getattr(progress.tqdm, name)) and callable(getattr(progress._Hidden, name))


def test_the_hidden_bar_is_a_loop_and_a_context():
    assert list(progress._Hidden([1, 2], "title", 2, leave=False)) == [1, 2]
    with progress._Hidden(total=3) as bar:
        bar.update(2)
        bar.set_postfix_str("cell")
        bar.close()
    assert list(bar) == []
