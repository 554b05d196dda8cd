"""Targets: classes of the stories, relations, placebos, and the exchange of words."""

import pytest

from sae_utils.engine.core.spec import ProfileError
from sae_utils.studies.function import targets

CLASSES = targets.known("")


def test_a_class_has_its_nouns_and_their_verbs_should_rise():
    animals = CLASSES["animals"]
    assert {"fox", "owl", "trout"} <= animals.words and {"growled", "soared", "swam"} <= animals.rises
    assert {"shaggy", "fox", "growled"} <= animals.left_out and not animals.words & animals.rises
    assert len(CLASSES) == 13 and "months" not in CLASSES


def test_classes_share_no_word():
    words = [word for concept in CLASSES.values() for word in concept.left_out]
    assert len(words) == len(set(words))


def test_of_a_listed_concept_its_own_words_should_rise():
    months = targets.known("published")["MonthNames"]
    assert months.words == months.rises == months.left_out and "march" in months.words


def test_further_lists_stand_beside_a_set():
    found = targets.known("published", {"women": ["She", "queen"]})
    assert found["women"] == targets.listed(["she", "queen"]) and "Countries" in found


def test_a_relation_leaves_out_both_classes():
    relation = targets.target("women - men", CLASSES)
    assert relation.minus == CLASSES["men"]
    assert relation.left_out == CLASSES["women"].left_out | CLASSES["men"].left_out


@pytest.mark.parametrize(
    "names, why",
    [
        (["animal", "tools"], "no concept is called 'animal'.*animals"),
        (["women - women", "tools - food"], "is no relation"),
        (["women - men", "tools"], "the placebo of a relation is a relation"),
        (["animals", "animals"], "should rise with both"),
    ],
)
def test_what_cannot_be_compared_is_refused(names, why):
    with pytest.raises(ProfileError, match=f"here: .*{why}"):
        targets.groups([names], CLASSES, "here")


def test_an_exchange_is_its_own_inverse_and_leaves_the_class():
    animals = CLASSES["animals"]
    other = targets.exchanged(animals.words, 3)
    assert targets.exchanged(other, 3) == animals.words
    assert len(other) == len(animals.words) and len(other & animals.words) <= 3  # of each frequency one may stay
