"""`python -m sae_utils COMMAND`: help lists the commands, each has a `main`, and `run` runs any other program."""

import importlib
import subprocess
import sys

import pytest

from sae_utils import __main__ as commands


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "sae_utils", *arguments], capture_output=True, text=True)


def test_help_lists_every_command():
    shown = run("--help")
    assert shown.returncode == 0
    for name, (_, purpose) in commands.COMMANDS.items():
        assert f"{name:<12} {purpose}" in shown.stdout


def test_an_unknown_command_is_refused():
    refused = run("profle")
    assert refused.returncode == 2 and "invalid choice: 'profle'" in refused.stderr


def test_run_replaces_the_process_and_needs_a_program():
    assert run("run", sys.executable, "-c", "print(6 * 7)").stdout == "42\n"
    refused = run("run")
    assert refused.returncode == 2 and "run: name a command" in refused.stderr


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_command_explains_itself_under_its_own_name(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sae_utils", name, "--help"])
    with pytest.raises(SystemExit) as left:
        commands.main()
    assert left.value.code == 0
    shown = capsys.readouterr().out
    module = importlib.import_module(f"sae_utils.{commands.COMMANDS[name][0]}")
    assert f"usage: python -m sae_utils {name}" in shown and module.main.__doc__.split()[0] in shown


def test_a_library_that_is_not_installed_is_named_with_the_extras_that_bring_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'pydantic'", name="pydantic")

    monkeypatch.setattr(importlib, "import_module", missing)
    monkeypatch.setattr(sys, "argv", ["sae_utils", "profile", "demo"])
    with pytest.raises(SystemExit, match=r"error: pydantic is not installed; `pip install \.\[models,paper\]`"):
        commands.main()
