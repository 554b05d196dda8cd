"""A record with replicates becomes a family of plain records, one for each seed, as do the records that read it."""

import pytest

from sae_utils.engine import families
from sae_utils.engine.core.spec import ProfileError

TOY = {"kind": "toy", "seed": 0, "trained_on": {"documents": 9}}
SAE = {"kind": "trained", "seed": 10}


def expand(models=None, dictionaries=None, replicates=(3, 5, 8), kind="stories"):
    values = {"corpus": {"kind": kind}, "replicates": list(replicates), "models": models or {}}
    return families.expand(values | {"dictionaries": dictionaries or {}}, "params/x.yaml")


def test_every_member_has_its_seed_and_stories_and_reads_its_own_model():
    values, found = expand(
        {"a": TOY | {"replicates": "all"}, "twin": {"kind": "twin", "of": "a", "seed": 100}},
        {"a": SAE | {"model": "a"}, "again": {"kind": "checkpoint", "of": "a", "number": 1}},
    )
    assert found == {name: (f"{name}_3", f"{name}_5", f"{name}_8") for name in ("a", "twin", "again")}
    assert list(values["models"]) == ["a_3", "a_5", "a_8", "twin_3", "twin_5", "twin_8"]
    assert values["models"]["a_5"] == TOY | {"seed": 5, "trained_on": {"documents": 9, "seed": 5}}
    assert values["models"]["twin_8"] == {"kind": "twin", "of": "a_8", "seed": 108}
    assert values["dictionaries"]["a_5"] == SAE | {"model": "a_5", "seed": 15}
    assert values["dictionaries"]["again_3"] == {"kind": "checkpoint", "of": "a_3", "number": 1}


@pytest.mark.parametrize(("asked", "members"), [(1, ["a_3"]), (2, ["a_3", "a_5"]), (9, ["a_3", "a_5", "a_8"])])
def test_a_number_takes_the_first_ones_as_far_as_there_are_any(asked, members):
    values, found = expand({"a": TOY | {"replicates": asked}})
    assert list(values["models"]) == members and found == {"a": tuple(members)}


def test_fewer_of_a_family():
    _, found = expand({"a": TOY | {"replicates": "all"}}, {"deep": SAE | {"model": "a", "replicates": 2}})
    assert found["deep"] == ("deep_3", "deep_5")


def test_the_first_keeps_its_plain_name():
    values, found = expand(
        {"a": TOY | {"replicates": "all"}, "start": {"kind": "checkpoint", "of": "a", "step": 1, "replicates": "first"},
         "other": TOY | {"replicates": "first", "trained_on": {"world": "scrambled"}}},
        {"seed1": SAE | {"model": "a", "replicates": "first"}, "other": SAE | {"model": "other"}},
    )  # fmt: skip
    assert list(found) == ["a"]
    assert values["models"]["start"] == {"kind": "checkpoint", "of": "a_3", "step": 1}
    assert values["models"]["other"]["trained_on"] == {"world": "scrambled", "seed": 3, "permutation": 3}
    assert values["dictionaries"]["seed1"] == SAE | {"model": "a_3", "seed": 13}
    assert values["dictionaries"]["other"] == SAE | {"model": "other", "seed": 13}


def test_plain_records_and_text_stay_as_they_are():
    plain = {"a": TOY, "b": {"kind": "pretrained", "source": "x"}}
    values, found = expand(plain, {"b": {"kind": "saelens", "model": "b"}})
    assert values["models"] == plain and found == {}
    values, _ = expand({"a": TOY | {"replicates": "all"}}, kind="text")
    assert values["models"]["a_3"] == TOY | {"seed": 3}


TOYS = {"a": TOY | {"replicates": "all"}, "b": TOY}


@pytest.mark.parametrize(
    ("models", "dictionaries", "message"),
    [
        (TOYS | {"a_5": TOY}, {}, "models.a: its member a_5 has the name of another record"),
        (
            TOYS,
            {"s": SAE | {"model": "b", "replicates": 2}},
            r"dictionaries.s.replicates: 2, but models.b is no family",
        ),
        (TOYS, {"s": SAE | {"model": "c"}}, r"dictionaries.s.model: nothing is called 'c'"),
        (TOYS, {"s": SAE | {"model": "a", "replicates": 0}}, "s.replicates: expected `all`, `first` or a number"),
        (TOYS, {"s": SAE | {"model": "a", "replicates": "two"}}, "found 'two'"),
        (TOYS, {"a": SAE | {"model": "a", "replicates": 2}}, "the family of models of this name has 3 members"),
        (TOYS, {"b": SAE | {"model": "a"}}, "models.b: a family has this name too"),
        ({"a": {"kind": "pretrained", "replicates": "all"}}, {}, "only models trained here have replicates"),
        ({"a": TOY | {"replicates": "all", "trained_on": {"seed": 1}}}, {}, r"a.trained_on.seed: every replicate"),
    ],
)
def test_refusals(models, dictionaries, message):
    with pytest.raises(ProfileError, match=message):
        expand(models, dictionaries)


def test_seeds_are_different_and_there_are_some():
    with pytest.raises(ProfileError, match=r"replicates: \[1, 1\]: a seed stands twice"):
        expand({}, replicates=(1, 1))
    with pytest.raises(ProfileError, match=r"a\.replicates: 'all', but `replicates` of the profile lists no seed"):
        expand({"a": TOY | {"replicates": "all"}}, replicates=())
