"""The profile of two SAEs is accepted, holds what was asked, and replaces no other."""

import shutil

import pytest
import tiny_hub
import yaml

from sae_utils import profiles
from sae_utils.engine import params
from sae_utils.engine.build import addresses, pair_profile
from sae_utils.engine.build.addresses import Given
from sae_utils.engine.build.pair_profile import Options
from sae_utils.engine.core.spec import ProfileError

JB = "gpt2-small-res-jb:blocks.8.hook_resid_pre"
TOYS = ("demo:two_layer", "demo:three_layer")


pytestmark = pytest.mark.usefixtures("own_params")


@pytest.fixture
def saved(tmp_path, tiny):
    """A folder with a SAELens SAE of a tiny model beside it."""
    shutil.copytree(tiny_hub.folder(tiny, "EleutherAI/pythia-70m"), tmp_path / "model")
    tiny_hub.saelens(tmp_path / "sae", tiny_hub.drawn(), "blocks.1.hook_mlp_out", model_name="../model")
    return str(tmp_path / "sae")


def keys(a, b, **options):
    found = (addresses.find(Given(address, side)) for address, side in ((a, "a"), (b, "b")))
    return pair_profile.keys(*found, Options(**options))


def written(values):
    return pair_profile.write("mine", pair_profile.text(values, "sae-compare A B"))


def test_two_toys_are_the_same_models_and_saes_as_in_their_profile():
    """Their keys in the store hold the records and the names of models, so that nothing is trained again."""
    mine, demo = written(keys(*TOYS)), profiles.load("demo")
    assert mine.pair == ("two_layer_4", "three_layer_4") and mine.corpus == demo.corpus
    for name in mine.pair:
        assert mine.models[name] == demo.models[name] and mine.dictionaries[name] == demo.dictionaries[name]
        assert mine.training_corpus(name) == demo.training_corpus(name)
    assert set(mine.models) == set(mine.dictionaries) == set(mine.pair)
    assert mine.sections["05_semantic_subspaces"]["concept_set"] == "stories"
    assert not mine.sections["07c_twins"]["twins"] and not mine.common.primary.thresholds


def test_the_tokenizer_of_other_replicates_comes_first():
    mine = written(keys("demo:two_layer_7", "demo:three_layer_7"))
    assert list(mine.models) == ["two_layer_4", "two_layer_7", "three_layer_7"]


def test_controls_of_toys_are_their_own_recipe():
    mine = written(keys(*TOYS, controls=True))
    section, own = mine.sections["07c_twins"], mine.dictionaries["two_layer_4"]
    assert section["a"] == ["two_layer_4", "two_layer_4_seed1"]
    second, of_twin = (mine.dictionaries[name] for name in ("two_layer_4_seed1", "two_layer_4_random_blocks"))
    assert second == own.model_copy(update={"seed": own.seed + 1})
    assert of_twin == own.model_copy(update={"model": "two_layer_4_random_blocks"})
    assert mine.models[of_twin.model].random == "blocks"


def test_controls_of_released_saes_are_trained_in_all_arms():
    values = keys(JB, "pythia-70m-deduped-res-sm:blocks.3.hook_resid_post", controls=True)
    mine, section = written(values), values["07c_twins"]
    arms = [*section["a"], *section["b"], *(x for of in section["twins"]["random blocks"].values() for x in of)]
    records = [mine.dictionaries[name] for name in arms]
    assert {(x.kind, x.width, x.k, x.samples) for x in records} == {("trained", 2048, 32, 307_200)}
    assert {x.hook for x in records} == {"blocks.8.hook_resid_pre", "blocks.3.hook_resid_post"}
    assert mine.corpus.shares[0] >= 0.6 and not set(mine.pair) & set(arms)


def test_a_folder_and_a_file_are_read_on_a_text(saved, tmp_path):
    (tmp_path / "text.txt").write_text("".join(f"line {n} of a text that is long enough\n" for n in range(20_000)))
    mine = written(keys(saved, JB, text=str(tmp_path / "text.txt"), tokens=20_000))
    assert mine.corpus.unit == "line" and mine.corpus.context == 64  # the tiny model reads no more
    total = (tmp_path / "text.txt").stat().st_size // 4
    assert 2 * mine.corpus.shares[1] * total == pytest.approx(20_000, rel=0.01)


def test_without_a_text_wikipedia_is_read(saved):
    mine = written(keys(saved, JB))
    assert mine.corpus.kind == "wikipedia" and mine.corpus.packed and sum(mine.corpus.shares) == pytest.approx(1)


def test_the_text_of_a_profile(saved):
    assert written(keys(saved, JB, text="demo")).corpus == profiles.load("demo").corpus


def test_a_dataset_has_documents_for_the_tokens(saved):
    mine = written(keys(saved, JB, text="hub:org/texts@abc", tokens=80_000))
    assert (mine.corpus.name, mine.corpus.revision, mine.corpus.documents) == ("org/texts", "abc", 100)


@pytest.mark.parametrize(
    "b, options, message",
    [
        ("text:three_layer", {}, r"^B=three_layer: A and B are trained on two texts .*name two SAEs of one profile"),
        (TOYS[1], {"text": "x.txt"}, r"^--text: a model or SAE of a profile is trained on its text"),
        (TOYS[1], {"tokens": 5000}, r"^--tokens: a model or SAE of a profile"),
    ],
)
def test_saes_that_cannot_be_read_on_one_text_are_refused(b, options, message):
    with pytest.raises(ProfileError, match=message):
        keys(TOYS[0], b, **options)


@pytest.mark.parametrize(
    "text, message",
    [
        ("nowhere.txt", r"nowhere.txt"),
        ("hub:org/texts", r"--text hub:org/texts: a dataset is read at a commit or tag; write"),
        ("bare", r"--text bare: the folder holds no .txt file"),
        ("empty.txt", r"--text empty.txt: it holds no text"),
    ],
)
def test_a_text_that_is_not_there_is_refused(saved, text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "bare").mkdir()
    with pytest.raises(ProfileError, match=message):
        keys(saved, JB, text=text)


def test_controls_need_to_know_the_hook(saved):
    a = addresses.find(Given(saved, "a"))._replace(hook="")
    with pytest.raises(ProfileError, match=r"--hook-a \(make: HOOK_A=\)"):
        pair_profile.keys(a, addresses.find(Given(JB, "b")), Options(controls=True))


def test_a_file_that_says_something_else_is_kept():
    values = keys(*TOYS)
    written(values)
    file = params.PARAMS / "mine.yaml"
    edited = file.read_text().replace("permutations: 9999", "permutations: 99")
    file.write_text(edited)
    with pytest.raises(
        ProfileError, match=r"params/mine.yaml: exists, and says something else in primary; .*OVERWRITE"
    ):
        written(values)
    assert file.read_text() == edited
    pair_profile.write("mine", pair_profile.text(values, "x"), overwrite=True)
    assert "9999" in file.read_text()


def test_a_file_that_says_the_same_is_not_touched():
    values = keys(*TOYS)
    written(values)
    file = params.PARAMS / "mine.yaml"
    file.write_text("# a comment\n" + file.read_text())
    written(values)
    assert file.read_text().startswith("# a comment")


def test_one_model_on_both_sides_is_refused_and_leaves_no_file():
    with pytest.raises(ProfileError, match=r"read one model"):
        written(keys("demo:two_layer_4", "demo:two_layer_seed1"))
    assert not (params.PARAMS / "mine.yaml").exists()


def test_the_threshold_is_a_share_of_the_ceiling_and_survives_the_next_run():
    values = keys(*TOYS, controls=True)
    written(values)
    assert pair_profile.set_threshold("mine", [0.3, 0.5]) == pytest.approx(0.06)
    assert written(values).common.primary.thresholds["excess"].d == 0.06
    assert pair_profile.set_threshold("mine", [0.1]) is None  # it has one


@pytest.mark.parametrize("ceilings", [[], [-0.1], [float("nan")]])
def test_no_threshold_without_a_ceiling(ceilings):
    written(keys(*TOYS, controls=True))
    assert pair_profile.set_threshold("mine", ceilings) is None
    assert "thresholds" not in yaml.safe_load((params.PARAMS / "mine.yaml").read_text())["primary"]


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x"])
def test_a_name_is_that_of_a_file(name):
    with pytest.raises(ProfileError, match=r"letters, digits, _ and - only"):
        pair_profile.check_name(name)
