"""Numbers, texts, tables and figures reach the paper unchanged, and results that are stale or altered are named."""

import json
import re
import shutil

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sae_utils import inference, profiles, report
from sae_utils.engine import params
from sae_utils.engine.build import results
from sae_utils.engine.core import sources
from tests.test_tables import printed

FIRST, SECOND = "00_models_and_dictionaries", "01_feature_matching"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "GENERATED", tmp_path / "generated")
    monkeypatch.setattr(report, "FIGURES", tmp_path / "figures")
    with matplotlib.rc_context():
        yield tmp_path
    plt.close("all")


@pytest.fixture(scope="module")
def smoke():
    """The smoke profile, of two notebooks only."""
    profile = profiles.load("smoke")
    return profile._replace(sections={name: profile.sections[name] for name in (FIRST, SECOND)})


def macros(file) -> dict[str, str]:
    """The macros of a saved file, read as TeX reads them: braces balance, `%` ends a line unless escaped."""
    text = re.sub(r"(?<!\\)%.*\n", "", file.read_text("utf-8"))
    found, position = {}, 0
    for match in re.finditer(r"\\newcommand\{\\([A-Za-z]+)\}\{", text):
        assert not text[position : match.start()].strip()
        depth, position = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(text[position], 0) * (text[position - 1] != "\\")
            position += 1
        found[match[1]] = text[match.end() : position - 1]
    assert not text[position:].strip()
    return found


# --- numbers and texts


def saved_file(out):
    out.save()
    return out.file


def test_numbers_and_texts_become_macros(smoke):
    out = report.Report(smoke, SECOND)
    out.number("pairs", 12345, "{:,}")
    out.number("r held out", 0.12345)
    out.number("excess", -0.5, "{:.3f}")
    out.number("nothing", -0.001)
    out.number("share", 0.5, "{:.0%}")
    out.text("verdict", "100% of A & B_1 agree")
    assert macros(saved_file(out)) == {
        "FeatureMatchingPairs": "12,345",
        "FeatureMatchingRHeldOut": "0.12",
        "FeatureMatchingExcess": r"\ensuremath{-0.500}",
        "FeatureMatchingNothing": "0.00",
        "FeatureMatchingShare": r"50\%",
        "FeatureMatchingVerdict": r"100\% of A \& B\_1 agree",
    }


def test_numbers_are_saved_with_their_standard_errors(smoke):
    out = report.Report(smoke, SECOND)
    out.number("pairs", np.int64(12345), "{:,}")
    out.number("excess", np.float32(-0.1), se=1 / 3)
    out.number("nothing", -0.0)
    out.number("missing", float("nan"), se=float("inf"))
    out.text("word", "yes")
    found = json.loads(saved_file(out).with_suffix(".json").read_text("utf-8"))
    assert found == {
        "numbers": {
            "FeatureMatchingPairs": {"value": 12345, "se": None},
            "FeatureMatchingExcess": {"value": -0.100000001, "se": 0.333333333},
            "FeatureMatchingNothing": {"value": 0.0, "se": None},
            "FeatureMatchingMissing": {"value": None, "se": None},
        },
        "verdicts": {},
    }


def test_a_name_can_be_reported_only_once(smoke):
    out = report.Report(smoke, SECOND)
    out.number("pairs", 1)
    for again in (lambda: out.number("pairs", 1), lambda: out.text("Pairs", "x"), lambda: out.number("pairs 2", 1)):
        with pytest.raises(ValueError, match=rf"{SECOND}: '[Pp]airs.*' is reported twice"):
            again()
    out.table("pairs", pd.DataFrame({"a": [1]}))
    with pytest.raises(ValueError, match="is reported twice"):
        out.table("pairs", pd.DataFrame({"a": [1]}))


def test_a_table_prints_the_frame(smoke):
    frame = pd.DataFrame(
        {
            "name & kind": ["one_layer", "50%", "#1 {x} \\"],
            "n": [1234, 5, 60000],
            "r": [0.5, -0.25, -0.0001],
            "p value": [float("nan"), 1.0, 0.05],
        }
    )
    before = frame.copy()
    out = report.Report(smoke, SECOND)
    shown = out.table("pairs", frame, {"n": "{:,}", "r": "{:.2f}"})
    pd.testing.assert_frame_equal(frame, before)
    for cell in ("name &amp; kind", "1,234", ">0.50<", "-0.25", "n/a"):
        assert cell in shown.to_html()
    saved = pd.read_csv(report.GENERATED / "smoke" / f"{SECOND}-pairs.csv")
    pd.testing.assert_frame_equal(saved, frame)
    table = macros(saved_file(out))["FeatureMatchingTablePairs"]
    assert re.match(r"\\begin\{tabular\}\{lrrr\}\s*\\toprule", table)
    assert table.count(r"\midrule") == table.count(r"\bottomrule") == 1
    body = re.search(r"\\toprule(.*?)\\midrule(.*?)\\bottomrule", table, re.S)
    rows = [re.split(r"(?<!\\)&", row) for part in body.groups() for row in part.split(r"\\") if row.strip()]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [printed(cell) for cell in cells[0]] == list(frame.columns)
    assert [printed(row[0]) for row in cells[1:3]] == ["one_layer", "50%"]
    assert [row[1] for row in cells[1:3]] == ["1,234", "5"]
    assert [row[2] for row in cells[1:3]] == ["0.50", r"\ensuremath{-0.25}"]
    assert cells[1][3] == "n/a" and "60,000 & 0.00 & 0.05" in table
    assert r"\#1 \{x\} \textbackslash{}" in table


def test_saving_twice_writes_the_same_bytes(smoke):
    def saved() -> bytes:
        out = report.Report(smoke, FIRST)
        out.number("b", 1)
        out.number("a", 2)
        return saved_file(out).read_bytes()

    first = saved()
    values = (report.GENERATED / "smoke" / f"{FIRST}.json").read_bytes()
    assert saved() == first
    file = report.GENERATED / "smoke" / f"{FIRST}.tex"
    assert {path.name for path in file.parent.iterdir()} == {file.name, f"{FIRST}.json"}
    assert file.with_suffix(".json").read_bytes() == values
    assert list(macros(file)) == ["ModelsAndDictionariesB", "ModelsAndDictionariesA"]
    # every line ends in a comment sign, so that an input in the middle of a sentence adds no space
    assert all(line.endswith("%") for line in file.read_text().splitlines())


# --- parts that a profile leaves out


def test_a_part_that_is_left_out_has_a_sentence_and_figures_with_it(smoke):
    out = report.Report(smoke, FIRST)
    out.absent("learning", "no steps, & no runs")
    assert macros(saved_file(out)) == {
        "ModelsAndDictionariesLearningAbsent": r"Not in this edition, which has no steps, \& no runs."
    }
    assert {file.name for file in (report.FIGURES / "smoke").iterdir()} == {
        f"{FIRST}-learning.{ending}" for ending in ("pdf", "png")
    }


def test_a_study_that_is_left_out_ends_its_notebook(capsys):
    last = "11_across_tokenizers"
    out = report.Report(profiles.load("smoke"), last)
    out.needs([["a", "b"]], "nothing")
    assert not (report.GENERATED / "smoke").exists()
    with pytest.raises(SystemExit) as ended:
        out.needs([], "one tokenizer")
    assert ended.value.code is None  # the exit status of a success
    assert capsys.readouterr().out == "not in this edition, which has one tokenizer\n"
    written = macros(report.GENERATED / "smoke" / f"{last}.tex")
    assert written == {"AcrossTokenizersAbsent": "Across tokenizers: not in this edition, which has one tokenizer."}
    text = (params.NOTEBOOKS / f"{last}.py").read_text("utf-8")
    drawn = {f"{last}-{name}.pdf" for name in re.findall(r'out\.figure\(\s*"([^"]+)"', text)}
    assert {file.name for file in (report.FIGURES / "smoke").glob("*.pdf")} == drawn and len(drawn) > 1


# --- figures


def drawn(profile, name: str = "x", height: float = 1.0):
    out = report.Report(profile, FIRST)
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.plot([0, 1], [0, height], label="Fuß $r^2$")
    axes.set(xlabel="r")
    axes.legend()
    out.figure(name, figure)
    return {file.suffix: file.read_bytes() for file in (report.FIGURES / profile.name).glob(f"{FIRST}-{name}.*")}


def test_equal_figures_are_equal_bytes(smoke):
    first = drawn(smoke)
    assert set(first) == {".pdf", ".png"}
    assert drawn(smoke) == first
    other = drawn(smoke, height=1.5)
    assert all(other[ending] != first[ending] for ending in first)
    assert not list((report.FIGURES / "smoke").glob(".*"))


def test_many_panels_continue_in_a_further_band():
    widths = {f"pair {number}": 1 + number % 3 for number in range(7)}
    figure, axes = report.bands(widths, across=4)
    figure.canvas.draw()
    assert list(axes) == list(widths) and all(len(column) == 2 for column in axes.values())
    spots = {name: [axis.get_position() for axis in column] for name, column in axes.items()}
    for upper, lower in spots.values():
        assert upper.y0 > lower.y1 and upper.x0 == pytest.approx(lower.x0)
    first = [name for name, column in axes.items() if column[0].get_subplotspec().is_first_col()]
    assert first == ["pair 0", "pair 4"]
    height = figure.get_size_inches()[1]
    assert height == 2 * report.bands({"one": 3})[0].get_size_inches()[1]
    plt.close("all")


def test_a_figure_embeds_its_fonts_and_names_its_notebook_and_parameters(smoke):
    made = drawn(smoke)
    pdf = made[".pdf"]
    assert b"/Type3" not in pdf and b"/CIDFontType2" in pdf
    assert b"/CreationDate" not in pdf and smoke.digest(FIRST).encode() in pdf
    with Image.open(report.FIGURES / "smoke" / f"{FIRST}-x.png") as picture:
        assert picture.info["Comment"] == f"{FIRST}, parameters {smoke.digest(FIRST)}"


# --- stale results


@pytest.fixture
def saved(smoke):
    for notebook in smoke.sections:
        report.Report(smoke, notebook).save()
    return smoke


def test_fresh_results_are_not_stale(saved):
    assert results.stale(saved) == []


def test_missing_results_are_stale(saved):
    (report.GENERATED / "smoke" / f"{SECOND}.tex").unlink()
    assert results.stale(saved) == [SECOND]


def test_a_changed_parameter_makes_its_notebook_stale(saved):
    sections = saved.sections | {SECOND: saved.sections[SECOND] | {"candidates": 3}}
    assert results.stale(saved._replace(sections=sections)) == [SECOND]
    common = saved.common.model_copy(update={"skip": 7})
    assert results.stale(saved._replace(common=common)) == list(saved.sections)


def test_changed_code_makes_the_notebooks_that_run_it_stale(saved, tmp_path, monkeypatch):
    """Prose does not count; cells of the notebook and imported modules do."""
    for source in (params.NOTEBOOKS, sources.PACKAGE):
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(params, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(sources, "PACKAGE", tmp_path / "sae_utils")
    assert results.stale(saved) == []

    def append(file: str, text: str) -> list[str]:
        with open(tmp_path / file, "a", encoding="utf-8") as stream:
            stream.write(text)
        return results.stale(saved)

    assert append(f"notebooks/{SECOND}.py", "\n# %% [markdown]\n# More prose.\n") == []
    assert append("sae_utils/engine/build/typeset.py", "\nx = 1\n") == []  # no notebook imports it
    assert append(f"notebooks/{SECOND}.py", "\n# %%\n1 + 1\n") == [SECOND]
    assert SECOND in append("sae_utils/matching.py", "\nx = 1\n")
    assert append("sae_utils/store.py", "\nx = 1\n") == list(saved.sections)


def at(suffix: str):
    if suffix in (".tex", ".json"):
        return report.GENERATED / "smoke" / f"{SECOND}{suffix}"
    if suffix == ".csv":
        return report.GENERATED / "smoke" / f"{SECOND}-x.csv"
    return report.FIGURES / "smoke" / f"{SECOND}-x{suffix}"


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


HARM = {
    "cut after its header": (".tex", lambda data: b"%\n".join(data.split(b"%\n")[:1]) + b"%\n"),
    "cut after its digest": (".tex", lambda data: b"%\n".join(data.split(b"%\n")[:2]) + b"%\n"),
    "cut in its digest": (".tex", lambda data: data[: data.index(b"% content") + 14]),
    "cut at a line's end": (".tex", lambda data: data.rpartition(b"\\newcommand")[0]),
    "cut in a line": (".tex", lambda data: data[:-4]),
    "a number changed": (".tex", lambda data: data.replace(b"{12}", b"{21}")),
    "a line more": (".tex", lambda data: data + b"\\newcommand{\\More}{1}%\n"),
    "a figure's digest changed": (".tex", lambda data: data.replace(b"% drew", b"% Drew")),
    "not text": (".tex", lambda data: data + b"\xff"),
    "numbers cut": (".json", cut),
    "a table cut": (".csv", cut),
    "a table gone": (".csv", lambda data: None),
    "another standard error": (".json", lambda data: data.replace(b'"se": null', b'"se": 0.1', 1)),
    "numbers gone": (".json", lambda data: None),
    "the numbers' digest changed": (".tex", lambda data: data.replace(b"% numbers", b"% Numbers")),
    "a figure cut": (".pdf", cut),
    "a picture cut": (".png", cut),
    "a figure emptied": (".pdf", lambda data: b""),
    "a picture gone": (".png", lambda data: None),
}


@pytest.fixture
def drew(saved):
    """Saved results; those of the second notebook hold numbers, a table and a figure."""
    out = report.Report(saved, SECOND)
    out.number("pairs", 12, "{}")
    out.number("r", 0.5)
    figure, axes = plt.subplots(figsize=(1, 1))
    axes.plot([0, 1])
    out.figure("x", figure)
    out.table("x", pd.DataFrame({"r": [0.25]}))
    out.save()
    return saved


@pytest.mark.parametrize("how", HARM)
def test_an_altered_file_is_named(how, drew):
    suffix, harm = HARM[how]
    file = at(suffix)
    assert results.altered(drew) == [] and results.stale(drew) == []
    changed = harm(file.read_bytes())
    file.unlink() if changed is None else file.write_bytes(changed)
    found = results.altered(drew)
    assert "/".join(file.parts[-3:]) in found
    assert suffix == ".tex" or len(found) == 1


def test_other_line_endings_are_the_same_text(drew):
    """Git may write them."""
    for suffix in (".tex", ".json", ".csv"):
        at(suffix).write_bytes(at(suffix).read_bytes().replace(b"\n", b"\r\n"))
    assert results.altered(drew) == [] and results.stale(drew) == []


def test_a_file_that_no_notebook_wrote_is_named(drew):
    (at(".pdf").with_name(f"{SECOND}-old.pdf")).write_bytes(b"%PDF")
    (at(".json").with_name("08_removed.json")).write_text("{}")
    (at(".tex").with_name("09_removed.tex")).write_text("% written by notebooks/09_removed.py")
    (at(".pdf").with_name(f".{SECOND}-x.7.draft.pdf")).touch()  # of a build that is running
    assert results.altered(drew) == [
        f"figures/smoke/{SECOND}-old.pdf", "generated/smoke/08_removed.json", "generated/smoke/09_removed.tex",
    ]  # fmt: skip


def test_a_table_without_rows_has_a_sentence(smoke):
    """With few documents a frame may have no records, and then has no columns for the formats."""
    out = report.Report(smoke, FIRST)
    out.table("empty", pd.DataFrame({"n": x} for x in ()), {"n": "{:,}"})
    assert "none: too few pairs or features" in saved_file(out).read_text()


# --- verdicts


def test_a_verdict_is_four_macros_and_a_row_of_a_table(smoke):
    out = report.Report(smoke, SECOND)
    found = inference.over_replicates([0.1, 0.2, 0.15, 0.12])
    assert out.verdict("primary", "Are they alike?", found, 0.03, "An interval below d.") == "yes"
    assert out.verdict("noisy", "And these?", found._replace(low=-0.1), 0.03, "The same.") == "undetermined"
    assert out.verdict("later", "And those?", found, 0.03, "The same.", tested=False) == "not tested"
    family = inference.jackknife(lambda rows: float(rows.mean()) - 9.0, np.arange(5))
    assert out.verdict("families", "By families?", family, 0.03, "The same.") == "no"
    written = macros(saved_file(out))
    assert written["FeatureMatchingPrimary"] == f"{found.estimate:.3f}" and len(written) == 17
    assert written["FeatureMatchingPrimaryLow"] == f"{found.low:.3f}"
    verdicts = [written[f"FeatureMatching{name}Verdict"] for name in ("Primary", "Noisy", "Later", "Families")]
    assert verdicts == ["yes", "undetermined", "not tested", "no"]
    table = written["FeatureMatchingTableVerdicts"]
    rows = [row for row in table.split(r"\\") if "?" in row]
    assert [row.rpartition("&")[2].strip() for row in rows] == verdicts
    assert f"{found.low:.3f} to {found.high:.3f} & 4 & 0.030 &" in rows[0]
    assert r"of 3 verdicts, at most 0.075 are expected to be false" in table


def test_two_replicates_have_no_interval_and_no_verdict(smoke):
    out = report.Report(smoke, SECOND)
    assert out.verdict("x", "Is it?", inference.over_replicates([0.5, 0.6]), 0.03, "No.") == "not tested"
    written = macros(saved_file(out))
    assert (written["FeatureMatchingXLow"], written["FeatureMatchingXHigh"]) == ("n/a", "n/a")
    assert "n/a to n/a & 2 &" in written["FeatureMatchingTableVerdicts"]


def test_a_band_is_the_interval_over_replicates():
    frame = pd.DataFrame({"x": [0, 0, 0, 1, 1, 1], "y": [0.1, 0.2, 0.4, 0.5, 0.7, 0.6]})
    _, axis = plt.subplots()
    report.band(axis, frame, "x", "y", color="black")
    found = [inference.over_replicates(frame.y[frame.x == x]) for x in (0, 1)]
    assert axis.lines[0].get_ydata() == pytest.approx([x.estimate for x in found])
    ends = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert ends.min() == pytest.approx(min(x.low for x in found))
    assert ends.max() == pytest.approx(max(x.high for x in found))
