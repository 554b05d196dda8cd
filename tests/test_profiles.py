"""A profile loads as written or is refused with file, key and remedy; a notebook's defaults are those of smoke."""

import copy
import os
import sys

import pytest
import yaml

from sae_utils import profiles, store
from sae_utils.engine import params
from sae_utils.engine.core.spec import ProfileError

PROFILES = sorted(
    file.stem
    for file in params.PARAMS.glob("*.yaml")
    if file.stem != "lexicon" and not file.stem.startswith("concepts")
)
FIRST, SECOND = "00_models_and_dictionaries", "01_feature_matching"
GONE = object()


@pytest.fixture
def folder(own_params, monkeypatch):
    """A copy of `params/` for edits; what a profile writes goes beside it."""
    monkeypatch.setattr(profiles, "REPOSITORY", own_params.parent)
    return own_params


def smoke_keys() -> dict:
    """The keys of the smoke profile, inherited ones included."""
    return copy.deepcopy(params.read("smoke"))


def complaint(name: str = "edited") -> str:
    with pytest.raises(ProfileError) as caught:
        profiles.load(name)
    return str(caught.value)


# --- the real ones


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_loads(name):
    profile = profiles.load(name)
    assert profile.name == name and list(profile.sections) == params.notebooks()
    assert len({profile.digest(notebook) for notebook in profile.sections}) == len(profile.sections)
    assert set(profile.pair) <= set(profile.dictionaries)


def words(value) -> set[str]:
    """Every text in a value, keys included."""
    if isinstance(value, dict):
        return words([*value, *value.values()])
    return set().union(*map(words, value)) if isinstance(value, list) else {value} if isinstance(value, str) else set()


@pytest.mark.parametrize("name", [*PROFILES, *(f"examples/{file.stem}" for file in params.PARAMS.glob("examples/*"))])
def test_no_section_names_what_the_profile_has_not_taken_over(name):
    demo, profile = profiles.load("demo"), profiles.load(name)
    gone = (demo.models.keys() | demo.dictionaries.keys()) - {*profile.models, *profile.dictionaries, *profile.families}
    for notebook, values in profile.sections.items():
        named = words([value for key, value in values.items() if key != "tokenizers"])  # `bpe` is a kind there
        assert not named & gone, notebook


def test_the_profiles_that_are_promised_are_there():
    assert {"smoke", "demo", "text"} <= set(PROFILES)
    assert profiles.load("demo").common.stamp == "" != profiles.load("smoke").common.stamp


@pytest.mark.parametrize("notebook", params.notebooks())
def test_a_notebook_opened_by_hand_is_the_smoke_run(notebook):
    defaults = params.parameters(notebook)
    assert defaults.pop("profile") == "smoke"
    assert defaults == profiles.load("smoke").sections[notebook]


# --- inheritance


def test_a_common_key_is_replaced_completely_and_a_section_key_by_key(folder):
    base = profiles.load("smoke")
    changes = {"primary": smoke_keys()["primary"] | {"permutations": 77}, SECOND: {"candidates": 7}}
    (folder / "mine.yaml").write_text(yaml.safe_dump({"extends": "smoke", "stamp": "MINE", **changes}))
    mine = profiles.load("mine")
    assert (mine.common.stamp, mine.common.primary.permutations) == ("MINE", 77)
    assert mine.sections[SECOND] == base.sections[SECOND] | {"candidates": 7}
    assert mine.sections[FIRST] == base.sections[FIRST]
    assert (mine.corpus, mine.models, mine.dictionaries) == (base.corpus, base.models, base.dictionaries)

    (folder / "mine.yaml").write_text(yaml.safe_dump({"extends": "smoke", "primary": {"permutations": 77}}))
    assert "params/mine.yaml: primary.pair: missing" in complaint("mine")


def test_a_star_changes_every_model_that_has_the_key(folder):
    base = profiles.load("smoke")
    text = {"extends": "smoke", "models": {"*": {"learning_rate": 0.125}}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(text))
    mine = profiles.load("mine")
    assert list(mine.models) == list(base.models)
    for name, model in base.models.items():
        expected = model.model_dump() | ({"learning_rate": 0.125} if "learning_rate" in model.model_dump() else {})
        assert mine.models[name].model_dump() == expected


def test_inheritance_goes_through_several_files(folder):
    (folder / "one.yaml").write_text("extends: smoke\nstamp: one\nskip: 3\n")
    (folder / "two.yaml").write_text("extends: one\nstamp: two\n")
    two = profiles.load("two")
    assert (two.common.stamp, two.common.skip, two.common.threads) == ("two", 3, profiles.load("smoke").common.threads)


def test_digest_speaks_of_common_and_own_parameters_only(folder):
    def digests(**changes) -> tuple[str, str]:
        (folder / "edited.yaml").write_text(yaml.safe_dump({"extends": "smoke", **changes}))
        profile = profiles.load("edited")
        return profile.digest(FIRST), profile.digest(SECOND)

    first, second = digests()
    assert digests() == (first, second)
    other = digests(**{SECOND: {"candidates": 7}})
    assert other[0] == first and other[1] != second
    other = digests(stamp="X")
    assert other[0] != first and other[1] != second


# --- refusals

EDITS = [
    (["thread"], 2, ["thread: unknown key", "did you mean `threads`?"]),
    (["zzz"], 2, ["zzz: unknown key", "valid: ", "corpus", "primary", FIRST]),
    ([1], 2, ["1: unknown key"]),
    (["01_feature_matchin"], {}, ["01_feature_matchin: unknown key", f"did you mean `{SECOND}`?"]),
    ([SECOND, "candidate"], 3, [f"{SECOND}.candidate: unknown key", "did you mean `candidates`?"]),
    ([SECOND, "profile"], "x", [f"{SECOND}.profile: unknown key"]),
    ([SECOND, "candidates"], "many", [f"{SECOND}.candidates:", "integer", "found 'many'"]),
    ([SECOND, "candidates"], GONE, [f"{SECOND}.candidates: missing"]),
    ([SECOND, "counterpart"], "5e-1", [f"{SECOND}.counterpart:", "found '5e-1'", "write 1.0e-3"]),
    ([SECOND], GONE, [f"{SECOND}.", "missing"]),
    ([SECOND], [1], [f"{SECOND}: expected a mapping of keys, found [1]"]),
    (["stamp"], GONE, [": stamp: missing; add it, or inherit it with `extends: demo`"]),
    (["threads"], "two", [": threads:", "integer", "found 'two'"]),
    (["threads"], 0, [": threads:", "greater than 0", "found 0"]),
    (["device"], "gpu", [": device:", "'cpu'", "'cuda'", "'auto'", "found 'gpu'"]),
    (["corpus"], "stories", [": corpus:", "found 'stories'"]),
    (["corpus", "kind"], "storys", [": corpus.kind: unknown kind 'storys'", "did you mean `stories`?"]),
    (["corpus", "kind"], GONE, [": corpus.kind: unknown kind"]),
    (["corpus", "document"], 9, [": corpus.document: unknown key", "did you mean `documents`?"]),
    (["corpus", "documents"], 9.5, [": corpus.documents:", "found 9.5"]),
    (["corpus", "shares"], [0.5, 0.5], [": corpus.shares:", "at least 3"]),
    (["corpus", "shares"], [0.6, 0.3, 0.2], [": corpus.shares: three positive shares that sum to 1"]),
    (["primary", "measure"], "rsa", [": primary.measure: no measure is called 'rsa'", "valid: ", "rsa_spearman"]),
    (["models"], {}, [": models:", "at least 1"]),
    (["models", "MODEL", "layer"], 3, [": models.MODEL.layer: unknown key", "did you mean `layers`?"]),
    (["models", "MODEL", "kind"], "toi", [": models.MODEL.kind: unknown kind 'toi'", "did you mean `toy`?"]),
    (["models", "MODEL", "heads"], GONE, [": models.MODEL.heads: missing"]),
    (["models", "MODEL", "learning_rate"], "1e-3", [": models.MODEL.learning_rate:", "'1e-3'", "write 1.0e-3"]),
    (["models", "MODEL", "tokenizer"], "char", [": models.MODEL.tokenizer:", "'word'", "'bpe'", "found 'char'"]),
    (["dictionaries", "SAE", "widht"], 3, [": dictionaries.SAE.widht: unknown key", "did you mean `width`?"]),
    (["dictionaries", "SAE", "width"], True, [": dictionaries.SAE.width:", "integer", "found True"]),
    (["dictionaries", "SAE", "model"], "MODELL", [": dictionaries.SAE.model: nothing is called 'MODELL'", "`MODEL`?"]),
    (["primary", "pair"], ["SAE", "SAEE"], [": primary.pair: nothing is called 'SAEE'", "did you mean `SAE`?"]),
    (["primary", "pair"], ["SAE"], [": primary.pair:", "at least 2"]),
    (["primary", "permutation"], 99, [": primary.permutation: unknown key", "did you mean `permutations`?"]),
    (["primary", "thresholds", "excess", "d"], 0.0, [": primary.thresholds.excess.d:", "greater than 0"]),
    (["primary", "thresholds", "excess", "d"], "small", [": primary.thresholds.excess.d:", "number"]),
    (["primary", "thresholds", "excess", "date"], "27 November", [": primary.thresholds.excess.date:", "27 November"]),
    (["primary", "thresholds", "excess", "date"], "20261127", [": primary.thresholds.excess.date:", "as 2026-11-27"]),
    (["primary", "thresholds", "excess", "date"], "2026-11-31", [": primary.thresholds.excess.date:", "day"]),
    (["primary", "thresholds", "share", "reason"], "", [": primary.thresholds.share.reason:", "at least 1"]),
    (["primary", "thresholds", "share", "reason"], GONE, [": primary.thresholds.share.reason: missing"]),
    (["primary", "permutations"], 18, [": primary.permutations:", "19", "found 18"]),
]


@pytest.mark.parametrize(("path", "value", "expected"), EDITS)
def test_a_refusal_names_file_key_and_remedy(folder, path, value, expected):
    values = smoke_keys()
    model = next(name for name, record in values["models"].items() if record["kind"] == "toy")
    sae = next(name for name, record in values["dictionaries"].items() if record["kind"] == "trained")

    def named(x):
        if isinstance(x, str):
            return x.replace("MODEL", model).replace("SAE", sae)
        return [named(y) for y in x] if isinstance(x, list) else x

    *way, last = named(path)
    inner = values
    for step in way:
        inner = inner[step]
    if value is GONE:
        del inner[last]
    else:
        inner[last] = named(value)
    (folder / "edited.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    message = complaint()
    assert message.startswith("params/edited.yaml: ")
    assert all(part in message for part in named(expected)), message


def test_the_text_profile_says_what_a_text_lacks(folder):
    values = copy.deepcopy(params.read("text"))
    values["corpus"]["unit"] = "sentence"
    (folder / "edited.yaml").write_text(yaml.safe_dump(values))
    assert all(part in complaint() for part in ("params/edited.yaml: corpus.unit:", "'paragraph'", "found 'sentence'"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stamp: x\nthreads: [1\nskip: 1\n", ["params/edited.yaml, line ", "not YAML"]),
        ("stamp: x\n\tthreads: 1\n", ["params/edited.yaml, line 2: not YAML", "a tab"]),
        ("stamp: x\n? [1, 2]\n: 1\n", ["params/edited.yaml, line 2: not YAML: a key that is a list"]),
        ("a: 1\nb: 2\na: 3\n", ["params/edited.yaml, line 3:", "`a` stands twice"]),
        ("extends: smoke\nmodels:\n  x: {kind: toy}\n  x: {kind: toy}\n", ["edited.yaml, line 4:", "`x` stands twice"]),
        ("", ["params/edited.yaml: expected keys with values, found None"]),
        ("- a\n- b\n", ["params/edited.yaml: expected keys with values, found ['a', 'b']"]),
        ("extends: smok\n", ["params/smok.yaml: no such profile (params/edited.yaml: extends)", "`smoke`?"]),
        ("extends: edited\n", ["params/edited.yaml: extends: goes in a circle: edited -> edited"]),
        ("extends: smoke\nmodels: {'*': {d_modle: 3}}\n", ["edited.yaml: models.*.d_modle: unknown key", "`d_model`?"]),
    ],
)
def test_a_file_that_is_no_profile(folder, text, expected):
    (folder / "edited.yaml").write_text(text)
    message = complaint()
    assert all(part in message for part in expected), message


def test_a_key_written_twice_may_come_from_elsewhere(folder):
    """A key from a YAML merge may be overridden."""
    text = "extends: smoke\nstamp: &s x\nprimary:\n  <<: &p {matching: mutual, permutations: 99}\n  permutations: 88\n"
    (folder / "edited.yaml").write_text(f"{text}  pair: {smoke_keys()['primary']['pair']}\n  measure: rsa_spearman\n")
    assert profiles.load("edited").common.primary.permutations == 88


def test_a_circle_of_three_is_shown_completely(folder):
    for name, base in {"a": "b", "b": "c", "c": "a"}.items():
        (folder / f"{name}.yaml").write_text(f"extends: {base}\n")
    assert complaint("a") == "params/a.yaml: extends: goes in a circle: a -> b -> c -> a"


def test_a_profile_that_is_not_there(folder):
    assert complaint("dmo") == "params/dmo.yaml: no such profile; did you mean `demo`?"
    assert all(name in complaint("zzzzzz") for name in PROFILES)


# --- the parameters cell

HEAD = "# %% [markdown]\n# # Toy\n\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('# %%\nprofile = "smoke"\n', "no cell is tagged `parameters`"),
        ('# %% tags=["parameters"]\nsize = 2 * 3\n', "must hold `name = literal` only"),
        ('# %% tags=["parameters"]\nimport os\n', "must hold `name = literal` only"),
        ('# %% tags=["parameters"]\na, b = 1, 2\n', "must hold `name = literal` only"),
        ('# %% tags=["parameters"]\nprint(1)\n', "must hold `name = literal` only"),
    ],
)
def test_a_cell_that_is_no_schema(tmp_path, monkeypatch, body, expected):
    (tmp_path / "toy.py").write_text(HEAD + body)
    monkeypatch.setattr(params, "NOTEBOOKS", tmp_path)
    with pytest.raises(ProfileError, match=rf"notebooks/toy\.py: .*{expected}"):
        params.parameters("toy")


def test_the_cell_is_read_and_not_run(tmp_path, monkeypatch):
    text = '# %% tags=["parameters"]\n# why\nprofile = "smoke"\nsizes = [1, -2]\nrate = 1e-3\n\n# %%\n1 / 0\n'
    (tmp_path / "toy.py").write_text(HEAD + text)
    monkeypatch.setattr(params, "NOTEBOOKS", tmp_path)
    assert params.parameters("toy") == {"profile": "smoke", "sizes": [1, -2], "rate": 0.001}


# --- families


def test_a_family_may_be_named_wherever_its_members_may(folder):
    smoke = profiles.load("smoke")
    assert smoke.members("two_layer") == ["two_layer_0", "two_layer_1"] and smoke.members("bpe") == ["bpe"]
    assert smoke.common.primary.pair == ["two_layer", "three_layer"] and smoke.pair == ("two_layer_0", "three_layer_0")
    with pytest.raises(ProfileError, match="nothing in the profile is called 'two_laye'; did you mean `two_layer`"):
        smoke.members("two_laye")
    assert {smoke.training_corpus(name).seed for name in smoke.members("three_layer")} == {0, 1}


def test_no_model_is_trained_on_the_stories_that_judge_it(folder):
    values = {"extends": "smoke", "corpus": smoke_keys()["corpus"] | {"seed": 1}}
    (folder / "edited.yaml").write_text(yaml.safe_dump(values))
    assert "models.two_layer_1.trained_on: stories of seed 1, as `corpus`, but dealt to the splits" in complaint()


# --- what make compares


def test_a_parameter_file_is_rewritten_only_if_it_changed(folder, tmp_path):
    profiles.write(profiles.load("smoke"))
    files = sorted((tmp_path / "build" / "smoke" / "params").glob("*.yaml"))
    assert [file.stem for file in files] == params.notebooks()
    for file in files:
        os.utime(file, (1000, 1000))
    profiles.write(profiles.load("smoke"))
    assert [file.stat().st_mtime for file in files] == [1000] * len(files)

    text = (folder / "smoke.yaml").read_text()
    (folder / "smoke.yaml").write_text(text + "  # a remark\n")
    profiles.write(profiles.load("smoke"))
    assert [file.stat().st_mtime for file in files] == [1000] * len(files)

    values = yaml.safe_load(text)
    values[SECOND]["candidates"] += 1
    (folder / "smoke.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    profiles.write(profiles.load("smoke"))
    assert [file.stem for file in files if file.stat().st_mtime != 1000] == [SECOND]

    section = yaml.safe_load((tmp_path / "build" / "smoke" / "params" / f"{SECOND}.yaml").read_text())
    assert section["profile"] == "smoke" and section["parameters"]["candidates"] == values[SECOND]["candidates"]
    assert section["common"]["stamp"] == values["stamp"]


def test_main_writes_or_says_why_not(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["params", "smoke"])
    profiles.main()
    assert (tmp_path / "build" / "smoke" / "params" / f"{FIRST}.yaml").exists()
    monkeypatch.setattr(sys, "argv", ["params", "smokee"])
    with pytest.raises(SystemExit) as caught:
        profiles.main()
    assert caught.value.code == "error: params/smokee.yaml: no such profile; did you mean `smoke`?"
    assert not (tmp_path / "build" / "smokee").exists()


# --- opening


def test_start_sets_threads_and_refuses_what_is_not_there(folder, monkeypatch):
    used = []
    monkeypatch.setattr(store, "use", lambda **settings: used.append(settings))
    assert profiles.start("smoke", FIRST) == profiles.load("smoke")
    assert used == [{"threads": profiles.load("smoke").common.threads, "device": "cpu"}]
    with pytest.raises(ProfileError, match=f"no notebook is called '00_models_and'; did you mean `{FIRST}`"):
        profiles.start("smoke", "00_models_and")


@pytest.mark.parametrize(
    ("wanted", "there", "found"),
    [
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_the_device_is_that_of_the_profile(folder, monkeypatch, wanted, there, found):
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    (folder / "edited.yaml").write_text(f"extends: smoke\ndevice: {wanted}\n")
    assert profiles.device(profiles.load("edited")) == found


def test_a_device_that_is_not_here(folder, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (folder / "edited.yaml").write_text("extends: smoke\ndevice: cuda\n")
    with pytest.raises(ProfileError, match=r"params/edited\.yaml: device: this machine has no CUDA device"):
        profiles.start("edited", FIRST)


def test_a_circle_of_derived_models_is_shown_completely(folder):
    twin = "{kind: twin, random: all, seed: 0, of: "
    values = smoke_keys()
    (folder / "edited.yaml").write_text(yaml.safe_dump(values))
    (folder / "around.yaml").write_text(
        f"extends: edited\nmodels:\n  '*': {{}}\n  one: {twin}two}}\n  two: {twin}one}}\n"
    )
    assert complaint("around") == "params/around.yaml: models.two.of: goes in a circle: one -> two -> one"


def test_heads_that_do_not_divide_the_width(folder):
    values = smoke_keys()
    values["models"]["one_layer"]["heads"] = 3
    (folder / "edited.yaml").write_text(yaml.safe_dump(values))
    assert "models.one_layer: value error, heads must divide d_model" in complaint()


def test_the_pair_profile_asks_for_no_word_of_the_stories():
    """The profile is for any text, so it names no pair of words that only the generated stories have."""
    relation = profiles.load("pair").sections["05b_word_relations"]["relation"]["words"]
    assert "nouns to their verbs" not in relation and "heads to what follows" not in relation
    ends = {end for pairs in relation.values() for pair in pairs for end in pair}
    assert all(" " not in end for end in ends) and len(relation) >= 2
    assert not ends & {"prowled", "growled", "soared", "sniffed"}


@pytest.mark.parametrize(
    ("base", "child", "expected"),
    [
        (
            "extends: smoke\nmodels: [1]\n",
            "extends: edited\nmodels: {'*': {}}\n",
            "models.*: the inherited value is no mapping of records",
        ),
        ("extends: smoke\nmodels: {a: }\n", "extends: edited\nmodels: {'*': {}}\n", "is no mapping of records"),
        ("extends: smoke\n", "extends: edited\nmodels: {'*': }\n", "models.*: expected a mapping of keys, found None"),
        ("extends: smoke\n", "extends: edited\nmodels: {'*': {1: 2}}\n", "models.*.1: unknown key"),
        ("extends: smoke\n", "extends: 5\n", "params/5.yaml: no such profile (params/child.yaml: extends)"),
        ("extends: smoke\n", "extends: ../smoke\n", "params/../smoke.yaml: no such profile"),
        ("extends: smoke\n", 'extends: "a\\0b"\n', "no such profile"),
    ],
)
def test_what_is_inherited_must_fit(folder, base, child, expected):
    (folder / "edited.yaml").write_text(base)
    (folder / "child.yaml").write_text(child)
    assert expected in complaint("child")


def test_a_chain_of_profiles_ends(folder):
    for number in range(1200):
        (folder / f"c{number}.yaml").write_text(f"extends: c{number + 1}\n")
    assert "params/c0.yaml: extends: more than 32 profiles in a row" in complaint("c0")
