"""Two builds are compared number by number, and only a verdict that turned from yes to no or back fails."""

import json
import math
import subprocess

import numpy as np
import pytest

from sae_utils import profiles, report
from sae_utils.engine.build import compare, results
from sae_utils.engine.build.compare import Build
from sae_utils.tables import number

FIRST, SECOND = "00_models_and_dictionaries", "01_feature_matching"
NUMBERS = {  # macro -> (before, now), each a value with its standard error, or None where the build has no such number
    "PairsSame": ((51, None), (51, None)),
    "ScoreSame": ((0.1761, 0.02), (0.1759, 0.02)),  # prints as the same
    "ScoreWithin": ((0.165, 0.02), (0.28, 0.02)),
    "ScoreOutside": ((0.165, 0.02), (0.2825, 0.02)),
    "MissingNow": ((0.5, 0.1), (None, None)),
    "PairsMoved": ((50, None), (55, None)),
    "PairsFew": ((4, None), (5, None)),
    "Gone": ((0.3, 0.1), None),
    "New": (None, (0.4, None)),
}
VERDICTS = {
    "Kept": ("yes", "yes"), "Unsettled": ("yes", "undetermined"), "Settled": ("undetermined", "no"),
    "Turned": ("yes", "no"), "Back": ("no", "yes"), "Untested": ("yes", "not tested"), "Later": (None, "no"),
}  # fmt: skip


def build(place: int, verdicts: dict = VERDICTS, numbers: dict = NUMBERS) -> Build:
    """A fake build: `place` 0 is before, 1 now."""
    held = {name: both[place] for name, both in numbers.items() if both[place]}
    said = {name: both[place] for name, both in verdicts.items() if both[place]}
    macros = {name: number(value, "{:.2f}" if isinstance(value, float) else "{}") for name, (value, _) in held.items()}
    macros |= {f"{name}Verdict": word for name, word in said.items()} | dict.fromkeys(said, "0.100")
    return Build(
        macros | {"Text": ["all 2", "1 of 2"][place], "TableSame": "1 & 2"},
        {name: {"value": value, "se": se} for name, (value, se) in held.items()},
        {name: {"estimate": 0.1, "low": -0.1, "high": 0.3, "d": 0.05, "word": word} for name, word in said.items()},
    )


def test_every_number_is_same_within_outside_or_without_uncertainty():
    found = {x.macro: x for x in compare.numbers(build(0, {}), build(1, {}))}
    assert {name: x.kind for name, x in found.items()} == {
        "PairsSame": compare.SAME, "ScoreSame": compare.SAME, "ScoreWithin": compare.WITHIN,
        "ScoreOutside": compare.OUTSIDE, "MissingNow": compare.OUTSIDE, "PairsMoved": compare.UNSTATED,
        "PairsFew": compare.UNSTATED, "Gone": compare.GONE, "New": compare.NEW,
    }  # fmt: skip
    # 99.9% of Student's t with 14 degrees of freedom, of a table
    assert found["ScoreWithin"].allowed == pytest.approx(4.140 * 0.02 * math.sqrt(2), rel=1e-3)
    assert found["PairsMoved"].relative == pytest.approx(0.1)


def test_the_estimate_of_a_verdict_is_a_number_too():
    both = [build(0, VERDICTS, {}), build(1, VERDICTS, {})]
    said = [{"Kept": both[0].verdicts["Kept"] | {"estimate": x, "se": 0.02}} for x in (0.1, 0.3)]
    shown = {"Kept": "0.100"}, {"Kept": "0.300"}
    (found,) = compare.numbers(*(Build(x, {}, y) for x, y in zip(shown, said, strict=True)))
    assert (found.macro, found.kind) == ("Kept", compare.OUTSIDE)


def test_builds_of_independent_seeds_are_within_their_uncertainty_999_times_in_1000():
    """Each number is a mean over eight normal draws, with the standard error of these draws."""
    generator = np.random.default_rng(0)
    drawn = generator.normal(size=(2, 20_000, 8))
    means, errors = drawn.mean(axis=2), drawn.std(axis=2, ddof=1) / math.sqrt(8)
    share = np.mean(np.abs(means[0] - means[1]) <= compare.quantile() * np.hypot(*errors))
    assert share == pytest.approx(0.999, abs=0.001)


def test_every_verdict_is_same_unsettled_or_turned():
    found = {x.macro: x.kind for x in compare.verdicts(build(0), build(1))}
    assert found == {
        "Kept": compare.SAME, "Unsettled": compare.UNSETTLED, "Settled": compare.UNSETTLED, "Turned": compare.TURNED,
        "Back": compare.TURNED, "Untested": compare.UNSETTLED, "Later": compare.NEW,
    }  # fmt: skip


def test_other_macros_are_texts():
    found = {x.macro: x.kind for x in compare.texts(build(0), build(1))}
    assert found == {"Text": compare.OTHER, "TableSame": compare.SAME}


def test_equal_builds_have_no_details():
    assert results.details(build(0), build(0)) == ""
    assert results.summary(build(0), build(0)) == "numbers: 14 same\nverdicts: 6 same\ntexts and tables: 2 same"


def test_the_summary_counts_and_the_table_lists_what_moved():
    said = results.summary(build(0), build(1)).splitlines()
    assert said[0].startswith("numbers: 8 same, 1 within its uncertainty, 2 outside, 2 no uncertainty stated")
    assert said[-1] == "largest change without an uncertainty: PairsFew, 4 -> 5"
    rows = [line.split()[0] for line in results.details(build(0), build(1)).splitlines()[1:]]
    verdicts = ["Unsettled", "Settled", "Turned", "Back", "Untested", "Later"]
    assert rows == [*verdicts, "ScoreOutside", "MissingNow", "Gone", "New", "PairsFew"]


# --- saved builds


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Results of a profile of two notebooks in a repository with one commit; `main` may change them."""
    smoke = profiles.load("smoke")
    smoke = smoke._replace(sections={name: smoke.sections[name] for name in (FIRST, SECOND)})
    for module in (compare, results):
        monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    monkeypatch.setattr(report, "GENERATED", tmp_path / "paper" / "generated")
    monkeypatch.setattr(report, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(profiles, "load", lambda name: smoke)
    write(smoke)
    (tmp_path / "README.md").write_text("0.5<!-- Macro --> is of the demo\n", "utf-8")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "results"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    return smoke


def write(profile, score: float = 0.165, word: str = "yes") -> None:
    report.Report(profile, FIRST).save()
    out = report.Report(profile, SECOND)
    out.number("score", score, se=0.02)
    out.text("verdict", word)
    out._verdicts["FeatureMatching"] = {"estimate": score, "low": 0.1, "high": 0.2, "d": 0.05, "word": word}
    out.save()


def main(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["results", "smoke", *arguments])
    results.main()


def test_results_are_compared_with_the_last_commit(saved, monkeypatch, capsys):
    main(monkeypatch)
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "numbers: 2 same",
        "verdicts: 1 same",
        "texts and tables: none",
    ]
    write(saved, score=0.2, word="undetermined")
    main(monkeypatch)
    shown = capsys.readouterr().out
    assert "numbers: 1 within its uncertainty" in shown
    assert "FeatureMatching  yes (0.165, 0.1 to 0.2)  undetermined (0.2, 0.1 to 0.2)  to or from undetermined" in shown
    write(saved, score=0.4, word="no")
    with pytest.raises(SystemExit, match="error: verdicts turned from yes to no or back: FeatureMatching"):
        main(monkeypatch)
    assert "numbers: 1 outside" in capsys.readouterr().out


def test_results_are_compared_with_another_folder(saved, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other"
    (report.GENERATED / "smoke").rename(other)
    write(saved, word="no")
    with pytest.raises(SystemExit, match="turned"):
        main(monkeypatch, "--against", str(other))
    with pytest.raises(SystemExit, match=r"error: .*nowhere"):
        main(monkeypatch, "--against", "nowhere")


def test_older_results_are_listed_and_do_not_fail(saved, monkeypatch, capsys):
    sections = saved.sections | {SECOND: saved.sections[SECOND] | {"candidates": 3}}
    monkeypatch.setattr(profiles, "load", lambda name: saved._replace(sections=sections))
    main(monkeypatch)
    assert f"older than code, parameters or libraries: {SECOND};" in capsys.readouterr().out


def test_edited_results_fail(saved, monkeypatch):
    file = report.GENERATED / "smoke" / f"{SECOND}.json"
    file.write_text(file.read_text("utf-8").replace("0.165", "0.2"), "utf-8")
    with pytest.raises(SystemExit, match=rf"not what the notebooks wrote .*: generated/smoke/{SECOND}\.json"):
        main(monkeypatch)


def test_an_unknown_profile_is_refused(monkeypatch):
    monkeypatch.setattr("sys.argv", ["results", "smokee"])
    with pytest.raises(SystemExit, match=r"error: params/smokee\.yaml: no such profile"):
        results.main()


def test_builds_stand_side_by_side(saved, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other"
    (report.GENERATED / "smoke").rename(other)
    write(saved, score=-0.2, word="no")
    named = ["--table", f"pinned={other}", f"default={report.GENERATED / 'smoke'}"]
    main(monkeypatch, *named, "--macros", "FeatureMatchingScore")
    assert capsys.readouterr().out.splitlines() == [
        "|  | pinned | default |",
        "| --- | --- | --- |",
        "| `01_feature_matching` | yes (0.165, 0.1 to 0.2) | no (-0.2, 0.1 to 0.2) |",
        "| `01_feature_matching` score | 0.17 | -0.20 |",
    ]
    with pytest.raises(SystemExit, match="error: x=nowhere: NAME=FOLDER"):
        main(monkeypatch, "--table", "x=nowhere")


# --- numbers in a text

CLAIM = "RSA {}<!-- ScoreWithin -->, n = {}<!-- PairsMoved -->: {}<!-- UnsettledVerdict -->"


@pytest.mark.parametrize("said", [("0.17", "50", "yes"), ("0.28", "55", "undetermined"), ("0.17", "55", "yes")])
def test_a_text_may_state_either_of_two_builds_that_nothing_tells_apart(said):
    assert compare.unsupported(CLAIM.format(*said), "demo", build(0), build(1)) == []


@pytest.mark.parametrize("said", ["0.16", "0.170", "10.17", "-0.17", "about"])
def test_a_text_states_a_number_exactly(said):
    found = compare.unsupported(f"RSA {said}<!-- ScoreWithin -->", "demo", build(0), build(0))
    assert found == [f"'RSA {said}' is stated of ScoreWithin, which is '0.17'"]


@pytest.mark.parametrize("said", ["0.17<!-- ScoreOutside -->", "yes<!-- TurnedVerdict -->", "0.30<!-- Gone -->"])
def test_a_text_may_not_state_what_the_results_now_deny(said):
    assert compare.unsupported(said, "demo", build(0), build(0)) == []
    assert len(compare.unsupported(said, "demo", build(0), build(1))) == 1


def test_a_claim_is_of_the_profile_that_it_names():
    said = "0.5<!-- A --> here, 0.6<!-- released: A --> there"
    assert list(compare.claims(said, "demo")) == [("0.5", "A")]
    assert list(compare.claims(said, "released")) == [(" here, 0.6", "A")]


def test_numbers_are_read_as_they_print():
    for value, form, shown in ((-1234.5, "{:,.1f}", "-1,234.5"), (0.5, "{:.0%}", "50%"), (-0.25, "{:.2f}", "-0.25")):
        assert compare.plain(number(value, form)) == shown


def test_macros_are_read_with_their_tables():
    tex = "% x%\n\\newcommand{\\A}{1\\%}%\n\\newcommand{\\B}{\\begin{x}\n1 \\\\\n\\end{x}}%\n"
    assert compare.parse(tex, "").macros == {"A": r"1\%", "B": "\\begin{x}\n1 \\\\\n\\end{x}"}
    assert compare.parse(tex, json.dumps({"numbers": {"A": 1}, "verdicts": {}})).numbers == {"A": 1}
