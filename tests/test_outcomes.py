"""Answers use corrected p, a union must exceed its parts, and words agree with the answers."""

import math

import numpy as np
import pytest

from sae_utils import inference, significance
from sae_utils.matching import Pairs
from sae_utils.studies.semantic_subspaces import outcomes
from sae_utils.studies.semantic_subspaces.outcomes import Answer

RNG = np.random.default_rng(0)


def chosen(a, b=None) -> Pairs:
    return Pairs.of(a, a if b is None else b, np.ones(len(a)), 99, 99)


def result(observed: float, movable: float = 1.0, n: int = 12) -> significance.Result:
    drawn = RNG.standard_normal(199) / 10
    return significance.summarise(observed, drawn, measure="rsa", null="shuffled pairing", n=n, movable=movable)


@pytest.mark.parametrize(
    ("answer", "beyond", "alike", "mark", "words"),
    [
        (Answer(0.01), True, True, "*", "alike"),
        (Answer(0.2), False, False, "", "not alike"),
        (Answer(0.01, 0.01), True, True, "*", "alike"),
        (Answer(0.01, 0.3), True, False, "°", "no more than its parts"),
        (Answer(0.01, math.nan), True, False, "°", "no more than its parts"),
        (Answer(0.3, 0.01), False, False, "", "not alike"),
    ],
)
def test_a_union_must_exceed_its_parts(answer, beyond, alike, mark, words):
    assert (answer.beyond, answer.alike, answer.mark) == (beyond, alike, mark)
    some = np.array([True, False])
    assert outcomes.outcome(some, some, True, answer) == words


def test_p_is_corrected_over_both_tests():
    shuffled = {"one": {"rsa": result(0.9), "cka": result(0.0)}, "two": {"rsa": result(0.9), "cka": result(0.9)}}
    within = {"two": {"rsa": result(0.05), "cka": result(0.0)}}
    found, corrected = outcomes.answers(shuffled, within, "rsa")
    family = inference.maximum_of_z({(0, key): x for key, x in shuffled.items()} | {(1, "two"): within["two"]})
    assert found == {
        "one": Answer(family[0, "one"]["rsa"]),
        "two": Answer(family[0, "two"]["rsa"], family[1, "two"]["rsa"]),
    }
    assert corrected == {key: family[0, key] for key in shuffled}
    assert found["one"].alike and found["two"].mark == "°"


def test_a_shuffle_that_moves_few_pairs_gives_no_p():
    shuffled, stuck = {"x": {"rsa": result(0.9)}}, {"x": {"rsa": result(0.9, movable=0.4)}}
    answer = outcomes.answers(shuffled, stuck, "rsa")[0]["x"]
    assert math.isnan(answer.within) and answer.beyond and not answer.alike


def test_without_tests_there_are_no_answers():
    assert outcomes.answers({}, {}, "rsa") == ({}, {})


def test_columns_have_the_null_or_too_few():
    found = significance.summarise(0.5, np.array([0.0, 0.2, 0.1, 0.1]), measure="x", null="y", n=12)
    words = {"n": "12", "score": "0.50", "null": "0.10 ± 0.08"}
    assert outcomes.columns(chosen(np.arange(12)), found, Answer(0.2)) == words | {"p": "0.200"}
    assert outcomes.columns(chosen(np.arange(12)), found, Answer(0.001, 0.3))["p"] == "0.001 / 0.300"
    assert outcomes.columns(chosen(np.arange(12)), found, Answer(0.001, math.nan))["p"] == "0.001 / n/a"
    few = {"score": "too few", "null": "", "p": ""}
    assert outcomes.columns(chosen([3]), None, None) == {"n": "1"} | few
    assert outcomes.columns(chosen(np.arange(26), np.arange(26) // 4), None, None) == {"n": "26/7"} | few


def test_every_outcome_has_its_words():
    some, none = np.array([True, False]), np.array([False, False])
    assert outcomes.outcome(some, none, False, None) == "no feature in B"
    assert outcomes.outcome(none, none, False, Answer(0.01)) == "no feature in A and B"
    assert outcomes.outcome(some, some, False, None) == "too few pairs"
    assert outcomes.outcome(some, some, True, None) == "too few partners"


def test_the_verdict_counts_what_could_be_tested():
    one, both, neither = Answer(0.01, 0.6), Answer(0.01, 0.01), Answer(0.4, 0.01)
    assert outcomes.verdict({}, {}) == "no concept and no union could be tested"
    three = {"x": Answer(0.01), "y": Answer(0.3), "z": Answer(0.02)}
    assert outcomes.verdict(three, {}) == "three concepts could be tested, and two beat a shuffled pairing"
    assert outcomes.verdict({}, {"x": one, "y": neither}) == (
        "no concept could be tested; two unions could be tested: one beats a shuffled pairing, but not a shuffle "
        "within the parts"
    )
    assert outcomes.verdict({"x": Answer(0.3)}, {"y": both}) == (
        "one concept could be tested, and it does not beat a shuffled pairing; one union could be tested: it beats a "
        "shuffled pairing and a shuffle within the parts"
    )
    unions = outcomes.verdict({}, {"x": one, "y": both, "z": neither}).partition("; ")[2]
    assert unions == (
        "three unions could be tested: two beat a shuffled pairing, and one of them a shuffle within the parts as well"
    )
    assert outcomes.verdict({}, {"x": neither}).endswith("it does not beat a shuffled pairing")


def test_the_verdict_on_placebos():
    assert outcomes.placebo_verdict(0, 0) == "no subspace could be tested"
    assert outcomes.placebo_verdict(1, 0) == "one subspace could be tested, and it is not more alike"
    assert outcomes.placebo_verdict(3, 0) == "three subspaces could be tested, and none is more alike"
    assert outcomes.placebo_verdict(3, 2) == "three subspaces could be tested, and two are more alike"
