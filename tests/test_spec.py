"""Records refuse invalid values with messages that name key and remedy."""

from typing import Literal

import pytest
from pydantic import Field

from sae_utils.engine.core.spec import ProfileError, Spec, build, choose, nearest


class Inner(Spec):
    ratio: float = Field(gt=0)


class Round(Spec):
    kind: Literal["round"]
    radius: float
    inner: Inner | None = None


class Square(Spec):
    kind: Literal["square"]
    sides: int
    within: Inner
    many: list[Inner] = Field(default_factory=list)


def test_a_record_is_frozen_and_holds_the_given_values():
    record = build(Square, {"kind": "square", "sides": 4, "within": {"ratio": 1}}, "file")
    assert record == Square(kind="square", sides=4, within=Inner(ratio=1.0))
    with pytest.raises(ValueError, match="frozen"):
        record.sides = 5


SQUARE = {"kind": "square", "sides": 4, "within": {"ratio": 0.5}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"side": 4}, ["file: x.side: unknown key", "did you mean `sides`?"]),
        ({"within": {"ratio": 0.5, "rato": 1}}, ["file: x.within.rato: unknown key", "did you mean `ratio`?"]),
        ({"many": [{"ratio": 1.0, "rato": 1}]}, ["file: x.many.0.rato: unknown key", "did you mean `ratio`?"]),
        ({"within": {}}, ["file: x.within.ratio: missing; add it"]),
        ({"within": {"rato": 0.5}}, ["file: x.within.rato: unknown key", "did you mean `ratio`?"]),
        ({"within": {"ratio": "1e-3"}}, ["file: x.within.ratio:", "'1e-3'", "write 1.0e-3"]),
        ({"within": {"ratio": 0}}, ["file: x.within.ratio:", "greater than 0", "found 0"]),
        ({"sides": "four"}, ["file: x.sides:", "integer", "found 'four'"]),
        ({"sides": 4.0}, ["file: x.sides:", "found 4.0"]),
        ({"sides": True}, ["file: x.sides:", "integer", "found True"]),
        ({"sides": None}, ["file: x.sides:", "found None"]),
        ({1: 2}, ["file: x.1:"]),
    ],
)
def test_a_complaint_names_the_key_and_the_remedy(change, expected):
    with pytest.raises(ProfileError) as caught:
        build(Square, SQUARE | change, "file: x")
    assert all(part in str(caught.value) for part in expected), caught.value


def test_an_optional_record_is_asked_for_its_own_keys():
    with pytest.raises(ProfileError, match=r"x\.inner\.rato: unknown key; did you mean `ratio`"):
        build(Round, {"kind": "round", "radius": 1.0, "inner": {"ratio": 1.0, "rato": 1.0}}, "file: x")


def test_the_top_of_a_file_has_no_key_of_its_own():
    with pytest.raises(ProfileError, match=r"^params/x\.yaml: side: unknown key"):
        build(Square, SQUARE | {"side": 4}, "params/x.yaml: ")


@pytest.mark.parametrize("value", [None, 3, "text", [1]])
def test_only_a_mapping_is_a_record(value):
    with pytest.raises(ProfileError, match="file: x: expected a mapping"):
        build(Square, value, "file: x")
    with pytest.raises(ProfileError, match="file: x: expected a mapping with a `kind`"):
        choose({"square": Square}, value, "file: x")


def test_kind_chooses_the_record():
    kinds = {"round": Round, "square": Square}
    assert choose(kinds, SQUARE, "x") == Square(**SQUARE)
    assert choose(kinds, {"kind": "round", "radius": 1.0}, "x") == Round(kind="round", radius=1.0)
    with pytest.raises(ProfileError, match=r"x\.kind: unknown kind 'sqare'; did you mean `square`"):
        choose(kinds, {"kind": "sqare"}, "x")
    with pytest.raises(ProfileError, match=r"x\.kind: unknown kind 'None'; valid: round, square"):
        choose(kinds, {"sides": 4}, "x")


def test_nearest_offers_one_or_all():
    assert nearest("thread", ["device", "threads"]) == "did you mean `threads`?"
    assert nearest("zzz", ["b", "a"]) == "valid: a, b"
    assert nearest("zzz", []) == "valid: (none)"
