"""Saved results on the page: every notebook has a part, also one without results; no result brings markup."""

import re

import explored
import pytest

from sae_utils import profiles, report
from sae_utils.engine import params
from sae_utils.page import assembly, results, summary


@pytest.fixture(scope="module")
def demo():
    return profiles.load("demo")


@pytest.fixture(scope="module")
def found(demo):
    return results.studies(demo)


def test_every_notebook_stands_in_one_part(found):
    assert [x.name for x in found] == params.notebooks()
    assert sum(len(x) for x in results.by_topic(found).values()) == len(found)
    assert results.topic("01c_arranged_alike") != results.topic("01_feature_matching")


def test_every_notebook_says_what_it_asks(found):
    assert all(x.title and x.question and x.would_be_no for x in found), [x.name for x in found if not x.would_be_no]


def test_verdicts_are_those_of_the_json(found):
    for study in found:
        file = report.GENERATED / "demo" / f"{study.name}.json"
        words = re.findall(r'"word": "([a-z ]+)"', file.read_text("utf-8")) if file.exists() else []
        assert [x.word for x in study.verdicts] == words


def test_a_profile_without_results_says_what_is_missing(demo, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "GENERATED", tmp_path)
    monkeypatch.setattr(report, "FIGURES", tmp_path)
    studies = results.studies(demo)
    made = summary.of(demo, studies, explored.planted())
    assert made.missing == params.notebooks() and not made.verdicts
    assert summary.NO_VERDICT in made.sentences
    page = assembly.rendered(demo, explored.planted(), ("a", "b"), 3)
    assert "was not run for this profile" in page and "make paper PROFILE=demo" in page


def test_a_result_cannot_bring_markup(demo, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "GENERATED", tmp_path / "generated")
    monkeypatch.setattr(report, "FIGURES", tmp_path / "figures")
    out = report.Report(demo, "01_feature_matching")
    out.table("bad", report.pd.DataFrame({"<b>": [explored.HOSTILE]}))
    out.save()
    page = assembly.rendered(demo, explored.planted(), (explored.HOSTILE, "b"), 3)
    assert explored.HOSTILE not in page and page.count("&lt;/script&gt;&lt;img") >= 2


def test_features_that_are_left_out_are_counted():
    side = explored.planted(60, 40).a
    said = summary.left_out(side, "A")
    assert said.startswith("A: of 63 features, 3 never vary on the documents that choose partners")
    assert "20 have no live partner, 0 a best partner that prefers another, 40 are in a mutual pair" in said


def test_the_page_is_the_same_every_time(demo, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "FIGURES", tmp_path)
    one, two = (assembly.rendered(demo, explored.planted(), ("a", "b"), 3) for _ in range(2))
    assert one == two
    markup, _, scripts = one.partition('<script type="application/json"')
    assert not re.search(r'(src|href)="(https?:)?//', markup) and "<script src" not in scripts
