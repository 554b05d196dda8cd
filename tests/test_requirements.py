"""Reading a profile checks what it compares: names, numbers, tokenizers, models and the primary measure."""

import copy
import re
import shutil

import numpy as np
import pytest
import yaml

from sae_utils import inference, measures, nulls, pipeline, profiles, significance
from sae_utils.engine import params
from sae_utils.engine.checks import comparisons, requirements
from sae_utils.engine.core.spec import ProfileError
from sae_utils.matching import Pairs
from sae_utils.studies.layer_sweep import cells

SEEDS, SWEEP, NEURONS = "00_models_and_dictionaries", "03_layer_sweep", "04_llm_vs_sae"
MATCHING, HUBS, ALIKE = "01_feature_matching", "01b_hubs_and_filters", "01c_arranged_alike"
MATCHING, HUBS, ALIKE = "01_feature_matching", "01b_hubs_and_filters", "01c_arranged_alike"
CLOSER, PHASES, DATA = "04b_neurons_by_index_or_concept", "13_training_phases", "13b_data"
RECOVERY = "06d_recovery"
CONCEPTS, RELATIONS, TRUTH, LEVEL, ACROSS, STEPS = (
    "05_semantic_subspaces", "05b_word_relations", "06_known_truth", "06b_level_and_power", "11_across_tokenizers",
    "12c_steps_and_truth",
)  # fmt: skip


@pytest.fixture
def complaint(tmp_path, monkeypatch):
    """The error message of the smoke profile with changed values: {path: value}."""
    shutil.copytree(params.PARAMS, tmp_path / "params")
    base = params.read("smoke")
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params")

    def of(changes: dict) -> str:
        values = copy.deepcopy(base)
        for path, value in changes.items():
            *way, last = path
            inner = values
            for step in way:
                inner = inner[step]
            inner[last] = value
        (tmp_path / "params" / "edited.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        with pytest.raises(ProfileError) as refused:
            profiles.load("edited")
        return str(refused.value)

    return of


# --- names and numbers of sections

EDITS = [
    ((SEEDS, "curve"), "two_layr_0", r"curve: no model is called 'two_layr_0'; did you mean `two_layer_0`"),
    ((requirements.TWINS, "b"), ["two_layer_0", "three_layer_0"], r"07c_twins: \[3, 2, 1, 1\] SAEs: as many"),
    ((SEEDS, "curve"), "random", r"curve: random is known at no training step"),
    (("08c_interventions", "sae_seed"), "two_layr_seed1", r"sae_seed: no dictionary .* `two_layer_seed1`"),
    (("seed",), -1, r"seed: .*greater than or equal to 0, found -1"),
    ((MATCHING, "permutations"), 5, r"permutations: .*19, found 5"),
    ((MATCHING, "counterpart"), 1.5, r"counterpart: .*less than or equal to 1, found 1\.5"),
    ((ALIKE, "secondary_measures"), ["svccaa"], r"secondary_measures\.0: no measure is called 'svccaa'"),
    ((HUBS, "filters_in_order"), [["weakk", {"r": 0.1}]], r"no filter .*'weakk'; .* `weak`"),
    ((HUBS, "filters_in_order"), [["weak", {"q": 0.1}]], r"weak\.q: unknown key"),
    ((HUBS, "filters_in_order"), [["weak", {}]], r"weak\.r: missing"),
    ((HUBS, "filters_in_order"), [[["weak"], {"r": 0.1}]], r"no filter is called \['weak'\]"),
    ((HUBS, "filters_in_order"), [["rare", {"minimum": [[1]]}]], r"rare\.minimum: .*integer, found \[\[1\]\]"),
    ((HUBS, "filters_in_order"), [["weak", {"r": 2.0}]], r"weak\.r: .*less than or equal to 1, found 2\.0"),
    ((HUBS, "filters_in_order"), [["hubs", {"more_than": 3, "keep": "bst"}]], r"hubs\.keep: .*'best'"),
    ((SWEEP, "pairs"), {"x": [["two_layer"], ["one_layer"]]}, r"primary\.pair: two_layer_0 x three_layer_0 is no cell"),
    ((SWEEP, "pairs"), {"x": [["two_layer"], ["three_layr"]]}, r"pairs\.x\.1\.0: no dictionary .* `three_layer`"),
    ((SWEEP, "fewest"), 5, r"fewest: 5 pairs are too few"),
    ((NEURONS, "beside"), {"x": [["three_laye", "two_layer_1"]]}, r"beside\.x\.0\.0: no dictionary .* `three_layer`"),
    ((NEURONS, "beside"), {"x": [["three_layer"]]}, r"beside\.x\.0: .*at least 2"),
    ((CLOSER, "by_index"), {"two_layer_0": ["start"]}, r"by_index\.two_layer_0\.0: no model is called 'start'"),
    ((CLOSER, "by_index"), {"two_layer_0": ["bpe"]}, r"by_index\.two_layer_0: .*bpe has another tokenizer"),
    ((CLOSER, "subspaces_of"), {"concepts": "stories", "share": 0.5}, r"subspaces_of\.fewest: missing"),
    ((CLOSER, "subspaces_of", "shares"), 4, r"subspaces_of\.shares: unknown key; did you mean `share`"),
    ((CLOSER, "subspaces_of", "concepts"), "storys", r"no set of concepts is called 'storys'; did you mean `stories`"),
    ((NEURONS, "caliper"), 1.5, r"caliper: .*less than or equal to 1, found 1\.5"),
    ((CONCEPTS, "concept_set"), "storys", r"no set of concepts is called 'storys'; did you mean `stories`"),
    ((CONCEPTS, "labelling", "shares"), [1.5], r"labelling\.shares\.0: .*less than or equal to 1"),
    ((RELATIONS, "relation", "words"), {"odd": [["one", "two", "three"]]}, r"relation\.words\.odd\.0: .*at most 2"),
    ((RELATIONS, "vectors"), {"kind": "korpus"}, r"vectors\.kind: unknown kind 'korpus'; did you mean `corpus`"),
    ((TRUTH, "truths"), {}, r"truths: .*at least 1"),
    ((LEVEL, "traps", "families", "right_null"), "block", r"traps\.families\.right_null: no null is called 'block'"),
    ((LEVEL, "traps", "families", "world", "groups"), 1, r"traps\.families\.groups: .*greater than 1"),
    ((ACROSS, "at"), "word", r"at: .*'ends' or 'words', found 'word'"),
    ((STEPS, "negative"), "scrambled_0", r"negative: no dictionary is called 'scrambled_0'"),
    ((ACROSS, "tokenizers"), {}, r"tokenizers: .*at least 1"),
    ((PHASES, "followed"), ["two_layer"], r"followed: name A and B"),
    ((PHASES, "followed"), ["random", "two_layer"], r"models\.random_0: it keeps no `checkpoints`"),
    ((PHASES, "text"), {"documents": 5, "occurrences": 3, "minimum": 5}, r"text\.documents: .*12, found 5"),
    ((DATA, "topics"), ["seaa"], r"topics\.0: no topic is called 'seaa'"),
    ((DATA, "recipe"), {"k": 5000}, r"13b_data\.recipe: .*k is at most width"),
    ((DATA, "poisoned"), "two_layer", r"dictionaries\.two_layer_0: .* without a trigger"),
    ((RECOVERY, "world", "shared"), 1.5, r"06d_recovery\.world\.shared: .*less than or equal to 1"),
    ((RECOVERY, "world", "firing"), {"active": 41.0}, r"firing\.active: 41 of 40 features cannot be active"),
    ((RECOVERY, "world", "models"), {x: {"d": 9} for x in "ab"}, r"world\.models: .* one model, and 2 are given"),
    ((RECOVERY, "schedule", "judged"), 39, r"schedule\.judged: fewer samples than the 40 features"),
    ((RECOVERY, "saes", "TopK"), {"architecture": "topk"}, r"saes\.TopK\.k: missing"),
    ((STEPS, "sizes", "kept"), 2.0, r"sizes\.kept: .*less than or equal to 1"),
    (("dictionaries", "one_layer", "hook"), "blocks.4.hook_mlp_out", r"hook: one_layer_0 has 1 blocks, from 0"),
    (("dictionaries", "one_layer", "hook"), "hook_embed", r"hook: 'hook_embed' is in no block"),
    (("dictionaries", "one_layer", "k"), 1000, r"k is at most width, and 1000 features are more than 96"),
    (("dictionaries", "one_layer", "seed"), -1, r"dictionaries\.one_layer\.seed: .*found -1"),
    (("models", "one_layer", "seed"), 2**32, r"models\.one_layer\.seed: .*found 4294967296"),
    (("models", "one_layer", "learning_rate"), 1e6, r"models\.one_layer\.learning_rate: .*less than or equal to 1"),
    (("corpus", "seed"), -3, r"corpus\.seed: .*found -3"),
    (("corpus", "context"), 2**31, r"corpus\.context: .*1048576"),
    (("corpus", "shares"), [0.5, -0.1, 0.6], r"corpus\.shares\.1: .*greater than 0"),
    (("threads",), 10**6, r"threads: .*1024"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), EDITS, ids=lambda x: ".".join(x) if isinstance(x, tuple) else "")
def test_a_section_is_refused_when_the_profile_is_read(complaint, path, value, message):
    found = complaint({path: value})
    assert re.search(message, found), found
    assert all(line.startswith("params/edited.yaml: ") for line in found.split("\n"))


def test_all_problems_are_reported_at_once(complaint):
    found = complaint(
        {
            (SEEDS, "curve"): "x",
            (NEURONS, "beside"): {"x": [["a", "two_layer_0"]]},
            (STEPS, "negative"): "scrambld",
        }
    ).split("\n")
    keys = [f"{SEEDS}.curve", f"{NEURONS}.beside.x.0.0", f"{STEPS}.negative"]
    assert [any(line.startswith(f"params/edited.yaml: {key}: no ") for line in found) for key in keys] == [True] * 3
    assert len(found) == 3 and "`scrambled`" in found[2]


def test_no_record_takes_nan_or_infinity():
    """Also where a record is not read from YAML."""
    smoke = profiles.load("smoke")
    for record in (smoke.corpus, *smoke.models.values(), *smoke.dictionaries.values()):
        for key, value in record.model_dump().items():
            if isinstance(value, float):
                for bad in (np.nan, np.inf, -np.inf):
                    with pytest.raises(ValueError, match="finite"):
                        type(record).model_validate(record.model_dump() | {key: bad})
    with pytest.raises(ValueError, match="finite"):
        type(smoke.corpus).model_validate(smoke.corpus.model_dump() | {"shares": [np.nan, 0.5, 0.5]})


# --- one tokenizer, two models


def test_the_primary_pair_may_have_two_tokenizers_and_nothing_a_third(complaint):
    """Of the profile's own pair both are words; `bpe` is refused beside them, and accepted as one of the pair."""
    found = complaint({(STEPS, "negative"): "bpe"})
    assert f"{STEPS}.negative: bpe reads the model bpe (bpe, 1,000 tokens): its tokenizer is that of neither" in found
    assert "two_layer_0 reads the model two_layer_0 (word, 4,000 tokens)" in found and ACROSS in found
    found = complaint({("primary", "pair"): ["two_layer", "bpe"]})
    assert "is no cell of the sweep" in found and "tokenizer" not in found
    records = {"small": params.read("smoke")["models"]["bpe"] | {"vocabulary": 500}}
    sae = params.read("smoke")["dictionaries"]["bpe"] | {"model": "small"}
    more = {("models",): smoke_with("models", records), ("dictionaries",): smoke_with("dictionaries", {"small": sae})}
    found = complaint(more | {("primary", "pair"): ["two_layer", "bpe"], (STEPS, "negative"): "small"})
    assert f"{STEPS}.negative: small reads the model small (bpe, 500 tokens): its tokenizer is that of neither" in found


def test_eleven_compares_two_tokenizers_and_no_one(complaint):
    names = ["two_layer_0", "one_layer_0", "bpe", "scrambled"]
    found = complaint({(ACROSS, "comparisons"): [names]})
    assert "one_layer_0 reads the model one_layer_0 (word, 4,000 tokens): one tokenizer, " in found
    assert "bpe reads the model bpe (bpe, 1,000 tokens): two tokenizers" in found


def test_folders_tell_their_tokenizers_and_the_hub_does_not(monkeypatch):
    paper = profiles.load("paper")
    assert pipeline.same_tokenizer(paper, "pythia_70m", "gpt2", fetch=False) is None
    assert pipeline.same_tokenizer(paper, "pythia_70m", "pythia_70m", fetch=False) is True
    monkeypatch.setattr(comparisons.pretrained, "tokenizer_spec", lambda record: record.source)
    assert pipeline.same_tokenizer(paper, "pythia_70m", "gpt2") is False
    monkeypatch.setattr(comparisons.pretrained, "tokenizer_spec", lambda record: "one")
    comparisons.check_tokenizers(paper._replace(sections=paper.sections | {ACROSS: {"comparisons": []}}), fetch=True)
    with pytest.raises(ProfileError, match=rf"{ACROSS}\.comparisons: .*one tokenizer"):
        comparisons.check_tokenizers(paper, fetch=True)


def test_one_model_on_both_sides_is_refused_by_whatever_name(complaint):
    found = complaint({("primary", "pair"): ["two_layer_0", "two_layer_seed1"]})
    assert "primary.pair: two_layer_0 and two_layer_seed1 read one model (two_layer_0: same source" in found
    toy = params.read("smoke")["models"]["two_layer"] | {"trained_on": {"seed": 0}}
    toy.pop("replicates")
    twice = {"plain": toy, "again": toy | {"checkpoints": 1}}
    sae = params.read("smoke")["dictionaries"]["two_layer"] | {"hook": "blocks.0.hook_mlp_out"}
    saes = {name: sae | {"model": name} for name in twice}
    more = {path: smoke_with(path[0], records) for path, records in ((("models",), twice), (("dictionaries",), saes))}
    # the same model and the same SAE under two names
    found = complaint(more | {("primary", "pair"): ["plain", "again"]})
    assert "primary.pair: plain and again are one dictionary" in found
    saes["again"] = saes["again"] | {"seed": 9}
    more[("dictionaries",)] = smoke_with("dictionaries", saes)
    found = complaint(more | {("primary", "pair"): ["plain", "again"]})
    assert "primary.pair: plain and again read one model (plain and again: same" in found


def test_two_depths_of_one_model_may_be_compared(tmp_path, complaint):
    depths = params.read("examples/smollm2_depths")
    assert profiles.load("examples/smollm2_depths").pair == ("block10", "block20")
    hook = {"hook": depths["dictionaries"]["block20"]["hook"]}
    depths["dictionaries"]["block10"] |= hook | {"seed": 9}  # another SAE of the same depth
    (tmp_path / "params" / "edited.yaml").write_text(yaml.safe_dump(depths, sort_keys=False))
    with pytest.raises(ProfileError, match=r"primary\.pair: block10 and block20 read one model"):
        profiles.load("edited")


def smoke_with(kind: str, records: dict) -> dict:
    """Models or dictionaries of the smoke profile, and others."""
    return params.read("smoke")[kind] | records


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((NEURONS, "beside"), {"another": [["two_layer_0", "two_layer_seed1"]]}),  # its neurons are the same
        ((CLOSER, "by_index"), {"two_layer_0": ["two_layer_0"]}),
        ((STEPS, "negative"), "two_layer_seed1"),
    ],
)
def test_a_control_that_is_the_same_model(complaint, path, value):
    assert re.search("read one model|is the model that", complaint({path: value}))


def test_saes_of_one_model_are_a_ceiling(tmp_path, monkeypatch):
    shutil.copytree(params.PARAMS, tmp_path / "params")
    monkeypatch.setattr(params, "PARAMS", tmp_path / "params")
    values = params.read("smoke")
    values[SWEEP]["pairs"]["ceiling"] = [["two_layer_0"], ["two_layer_seed1"]]
    (tmp_path / "params" / "edited.yaml").write_text(yaml.safe_dump(values))
    assert "ceiling" in profiles.load("edited").sections[SWEEP]["pairs"]


# --- the primary measure


def test_the_measures_that_are_taken():
    assert requirements.primary_measures() == [x for x in measures.NAMES if measures.measure(x).closed_form]


@pytest.mark.parametrize("name", [name for name in measures.NAMES if name not in requirements.primary_measures()])
def test_a_measure_that_a_notebook_cannot_take(complaint, name):
    found = complaint({("primary", "measure"): name})
    assert (
        f"primary.measure: not {name!r}: " in found and f"valid: {', '.join(requirements.primary_measures())}" in found
    )
    assert "null mean is not known in closed form" in found and NEURONS in found


def test_neighbours_need_pairs(complaint):
    found = complaint({("primary", "measure"): "mutual_knn", (NEURONS, "fewest"): 10})
    assert f"{NEURONS}.fewest: 10 pairs are too few: the measures need 11 or more" in found


@pytest.mark.parametrize("name", requirements.primary_measures())
def test_an_accepted_measure_goes_through_all_that_notebooks_call(name):
    """The calls of 01 and 02 (shared partners and families as well), 03, 04 and 11 (one n, intervals), 05."""
    rng = np.random.default_rng(0)
    a, noise = rng.normal(size=(40, 12)), rng.normal(size=(40, 16))
    b = np.hstack([a, a[:, :4]]) + 0.3 * noise
    why = np.zeros(40, np.int8)
    one = Pairs(np.arange(40), np.arange(40), np.ones(40, np.float32), why, why)
    many = Pairs.of(np.arange(40), np.arange(40) // 2, np.ones(40), 40, 40)
    results = [significance.test_pairs(x, a, b, name, m=19, seed=0) for x in (one, many)]
    results += significance.test(a, b, [name], null=nulls.blocks(np.arange(40) // 2), m=19).values()
    battery = cells.Battery(measures=[name], neighbours=5, permutations=19, subsets=2, subset_draws=2)
    results += significance.test(a, b, battery.chosen(), m=19).values()
    for found in results:
        assert np.isfinite([found.observed, found.null_mean, found.p, found.excess]).all(), found
    assert significance.rows_at_n((a, b), name, 20, subsets=3, m=19, seed=0).excess > 0.3
    interval = inference.excess_interval((a, b), name, 6)
    assert interval.low < interval.estimate < interval.high and interval.estimate > 0.3
    few = significance.test(a[:10], b[:10], [name], m=19)  # 04 tests sets of ten pairs too
    family = inference.maximum_of_z({"few": few, "many": significance.test(a, b, [name], m=19)})
    assert family["many"][name] == 1 / 20
