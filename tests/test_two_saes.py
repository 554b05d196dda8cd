"""The command writes a profile, says what it costs, runs what the page needs in order, and stops where it must."""

import importlib
import os
import sys
import tomllib

import pytest

from sae_utils import profiles
from sae_utils.engine.build import pair_profile, plan, speed, two_saes
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.core.spec import ProfileError

TOYS = ["smoke:two_layer", "smoke:three_layer"]


@pytest.fixture(autouse=True)
def here(own_params, tmp_path, monkeypatch):
    """A folder of the test in the place of `params/` and `build/`; every block is timed by one call."""
    for module in (two_saes, profiles):
        monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    monkeypatch.setattr(two_saes.store, "check", lambda: None)
    monkeypatch.setattr(speed, "DURATION", 0)
    return tmp_path


@pytest.fixture
def command(monkeypatch):
    """Runs the command line; returns what the package was called for."""
    called = []

    def run(*arguments):
        called.clear()
        monkeypatch.setattr(two_saes, "call", lambda label, asked, **_: called.append(asked))
        monkeypatch.setattr(sys, "argv", ["sae-compare", *arguments])
        two_saes.main()
        return called

    return run


def test_two_names_lead_to_a_page(command, capsys, here):
    called = command(*TOYS)
    name = "two_layer_0_x_three_layer_0"
    assert called[0] == ["execute", name, two_saes.FIRST] and called[-1] == ["page", name]
    assert sorted(x[2] for x in called[1:-1]) == sorted(two_saes.REST)
    out = capsys.readouterr().out
    assert f"the page: {here}/build/{name}/report.html" in out and "to fetch: 0.00 GB" in out and "minutes" in out
    assert "no verdict" in out


def test_what_is_only_priced_is_not_run(command, capsys):
    assert command(*TOYS, "--plan", "--name", "mine") == []
    assert profiles.load("mine").pair == ("two_layer_0", "three_layer_0")
    assert command("--name", "mine", "--plan") == []  # the profile as it is
    assert "the page:" not in capsys.readouterr().out


def test_controls_are_priced_and_set_d_before_a_notebook_runs(command, capsys, monkeypatch):
    asked = []

    def ceilings(run, seeds, measures, minimum):
        asked.append(seeds)
        return {measures[0]: [0.4]}

    monkeypatch.setattr(two_saes.arms, "ceilings", ceilings)
    called = command(*TOYS, "--controls", "--name", "mine")
    assert asked == [["two_layer_0", "two_layer_0_seed1"], ["three_layer_0", "three_layer_0_seed1"]]
    assert ["execute", "mine", "07c_twins"] in called
    out = capsys.readouterr().out
    assert out.index("controls: two_layer_0_seed1, ") < out.index("d = 0.06")
    assert profiles.load("mine").common.primary.thresholds["excess"].d == 0.06


def test_nothing_runs_where_something_is_missing(command, monkeypatch):
    monkeypatch.setattr(plan, "sources", lambda _: [plan.Source("models.x", "org/x", None, missing="org/x: gated")])
    with pytest.raises(SystemExit, match="something is missing, see above; nothing was run"):
        command(*TOYS)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], r"^error: no SAE is named; an SAE is a folder"),
        (TOYS[:1], r"^error: B= no SAE is named"),
        ([*TOYS, "--name", "demo"], r"^error: params/demo.yaml: exists, and says something else in "),
        ([*TOYS, "--name", "../x"], r"^error: --name ../x: letters"),
        (["--name", "mien"], r"^error: params/mien.yaml: no such profile"),
        ([TOYS[0], TOYS[0]], r"are one dictionary"),
    ],
)
def test_bad_input_is_one_message(command, arguments, message):
    with pytest.raises(SystemExit, match=message):
        command(*arguments)


@pytest.mark.parametrize("tokens", ["few", "10", "-5000"])
def test_a_number_of_tokens_is_one(command, tokens, capsys):
    with pytest.raises(SystemExit):
        command(*TOYS, f"--tokens={tokens}")
    assert "a number of tokens from 1,000 on" in capsys.readouterr().err


def test_a_notebook_is_current_until_something_it_rests_on_is_newer(here):
    profile = pair_profile.write("mine", "extends: pair\n")
    profiles.write(profile)
    copy, results = (here / "build" / "mine" / "x.ipynb", here / "paper" / "generated" / "mine" / "x.tex")
    (here / "build" / "mine" / "params" / "x.yaml").touch()
    assert not two_saes.is_current(profile, "02_one_to_one")
    for file in (copy.with_name("02_one_to_one.ipynb"), results.with_name("02_one_to_one.tex")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert two_saes.is_current(profile, "02_one_to_one")
    os.utime(here / "build" / "mine" / "params" / "02_one_to_one.yaml", (2**32, 2**32))
    assert not two_saes.is_current(profile, "02_one_to_one")


def test_a_command_that_fails_is_reported_with_its_output(capfd):
    with pytest.raises(ProfileError, match=r"^02 failed, see above; the same command goes on where it stopped"):
        two_saes.call("02", ["no-such-command"])
    assert "invalid choice" in capfd.readouterr().err


def test_the_console_script_is_this_command():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, name = project["scripts"]["sae-compare"].partition(":")
    assert getattr(importlib.import_module(module), name) is two_saes.main
