"""Keywords are asked about as a profile says, and no feature counts under two of them."""

import numpy as np
import pytest

from sae_utils.spec import ProfileError
from sae_utils.studies import keywords

WHERE = "params/x.yaml: 05_semantic_subspaces.keywords"


def test_every_keyword_against_itself_then_the_mismatched():
    value = {"single": ["she", "he"], "mismatched": [["she", "he"]]}
    assert keywords.asked(value, WHERE) == [("she", "she"), ("he", "he"), ("she", "he")]
    assert keywords.asked({"single": [], "mismatched": []}, WHERE) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"single": ["she"], "mismatched": [["she", "hee"]]},
            "mismatched: 'hee' is not in single: list it there.*`she`",
        ),
        ({"single": [], "mismatched": [["she", "he"]]}, "mismatched: 'she' is not in single: .*none"),
        ({"single": ["she"], "mismatched": [["she"]]}, r"mismatched: \['she'\] is no pair; write \[keyword"),
        ({"single": ["she"], "mismatched": ["he"]}, "mismatched: 'he' is no pair"),
        ({"single": ["she"]}, "expected the keys single and mismatched"),
    ],
)
def test_what_cannot_be_asked_names_file_and_key(value, message):
    with pytest.raises(ProfileError, match=f"^params/x.yaml: 05_semantic_subspaces.keywords.*{message}"):
        keywords.asked(value, WHERE)


def test_alone_is_about_no_other_keyword():
    about = {"she": np.array([1, 1, 0, 0], bool), "he": np.array([0, 1, 1, 0], bool)}
    assert keywords.alone(about, "she").tolist() == [True, False, False, False]
    assert keywords.alone({"she": about["she"]}, "she").tolist() == about["she"].tolist()
