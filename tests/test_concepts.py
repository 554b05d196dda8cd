"""Bad lists of words are refused; rules, precision and recall give what counting by hand gives."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils.engine import params
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import stories
from sae_utils.engine.text.words import Words
from sae_utils.studies.semantic_subspaces import concepts

RNG = np.random.default_rng(0)


# --- lists


@pytest.fixture
def lists(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "PARAMS", tmp_path)

    def write(text: str) -> None:
        (tmp_path / "concepts.yaml").write_text(text, "utf-8")

    return write


HEAD = "toy:\n  about: for a test\n  disjoint: true\n  concepts:\n"


def test_every_concept_set_of_the_repository_is_valid():
    assert {"stories", "published", "published_2024"} <= set(params.read("concepts"))
    for name in params.read("concepts"):
        assert all(concepts.word_lists(name).values())


def test_a_list_of_the_stories_holds_words_of_several_classes():
    from sae_utils.engine.text import stories

    classes = {word.casefold(): place[0] for word, place in stories.membership().items()}
    owner: dict[str, str] = {}
    for concept, listed in concepts.word_lists("stories").items():
        mine = {classes[word] for word in listed}  # a KeyError is a word that no story has
        assert len(mine) > 1, f"{concept} is one true class"
        for name in mine:
            assert owner.setdefault(name, concept) == concept, f"{name} is in {owner[name]} and {concept}"
            of_class = {word for word, of in classes.items() if of == name}
            assert not of_class <= set(listed), f"{concept} holds all of {name}"


def test_words_are_case_folded(lists):
    lists(HEAD + "    names: [Anna, BEN]\n")
    assert concepts.word_lists("toy") == {"names": ("anna", "ben")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "    a: [x, y]\n    b: [y, z]\n", r"toy\.concepts: 'y' stands in a and in b; remove it from one"),
        (HEAD + "    a: []\n", r"toy\.concepts\.a"),
        (HEAD + "    a: [x, X]\n", "'X' stands twice"),
        (HEAD + "    a: ['two words']\n", "'two words' is not one word"),
        (HEAD + "    a: [x, true]\n", r"concepts\.a\.1: .*string.*True.*quotes"),
        (HEAD + "    a: [x,\n  y\n", "line [67]: not YAML"),
        (HEAD + "    a: [x]\n    a: [y]\n", "line 6: not YAML: the key `a` stands twice"),
        ("toy: {about: x, disjoint: true}\n", r"concepts\.yaml: toy\.concepts: missing"),
        ("other: {}\n", "no set is called 'toy'"),
        ("- x\n", "expected keys"),
    ],
)
def test_bad_lists_are_refused_with_place_and_remedy(lists, text, message):
    lists(text)
    with pytest.raises(ProfileError, match=message) as error:
        concepts.word_lists("toy")
    assert "concepts" in str(error.value)


def test_lists_may_overlap_where_the_set_says_so(lists):
    lists(HEAD.replace("disjoint: true", "disjoint: false") + "    a: [x, y]\n    b: [y, z]\n")
    assert concepts.word_lists("toy")["b"] == ("y", "z")


BASE = {"a": ("x",), "b": ("y", "x"), "c": ("z",)}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"kind": "mas"}, "did you mean `mass`"),
        ({"kind": "mass"}, "share: missing"),
        ({"kind": "mass", "share": 0.0}, "greater than 0"),
    ],
)
def test_a_wrong_rule_is_refused(bad, message):
    with pytest.raises(ProfileError, match=message):
        concepts.rule(bad)


@pytest.fixture(scope="module")
def world():
    """Random codes of 12 features on 400 tokens of 30 words, and a mask of half of the tokens."""
    rng = np.random.default_rng(1)
    dense = rng.random((400, 12)).astype(np.float32) * (rng.random((400, 12)) < 0.2)
    dense[:, 7] = 0  # dead
    of = rng.integers(-1, 30, 400).astype(np.int32)
    words = Words(tuple(f"w{i:02d}" for i in range(30)), of)
    return dense, words, np.repeat(np.arange(40), 10), np.arange(400) % 20 < 10


def brute(dense, words, on, listed):
    """Activation on listed words, and on all, feature by feature."""
    masses = []
    for column in dense.T:
        at = [t for t in range(len(dense)) if on[t] and column[t] > 0]
        hit = sum(float(column[t]) for t in at if words.of[t] >= 0 and words.text[words.of[t]] in listed)
        masses.append((hit, sum(float(column[t]) for t in at)))
    return np.array(masses)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_the_rule_gives_what_counting_by_hand_gives(world, kind):
    dense, words, documents, on = world
    codes = sparse.csr_array(dense) if kind == "sparse" else dense.astype(np.float16)
    if kind == "dense":
        codes[:, 3] -= 0.3  # a neuron that is often below zero
    values = codes.toarray() if kind == "sparse" else np.maximum(codes.astype(np.float32), 0)
    listed = [f"W{i:02d}" for i in range(8)]
    found = concepts.evidence(codes, words, documents, on, k=6)
    mask = concepts.word_mask(listed, found)
    masses = brute(values, words, on, {word.casefold() for word in listed})
    for share in (0.1, 0.3, 0.6):
        rule = concepts.rule({"kind": "mass", "share": share})
        expected = (masses[:, 1] > 0) & (masses[:, 0] >= share * masses[:, 1])
        np.testing.assert_array_equal(concepts.about(found, mask, rule), expected)
    assert not concepts.about(found, mask, concepts.rule({"kind": "mass", "share": 0.1}))[7]
    assert 0 < mask.sum() < 30 and (masses[:, 0] > 0).sum() > 3


def test_evidence_ignores_tokens_outside_the_mask(world):
    dense, words, documents, on = world
    changed = np.where(on[:, None], dense, RNG.random(dense.shape).astype(np.float32))
    one, two = (concepts.evidence(sparse.csr_array(x), words, documents, on, k=6) for x in (dense, changed))
    np.testing.assert_array_equal(one.top, two.top)
    assert (one.mass != two.mass).nnz == 0


def test_absent_words_match_no_whole_word(world):
    dense, words, documents, on = world
    found = concepts.evidence(sparse.csr_array(dense), words, documents, on, k=3)
    assert concepts.absent_words(["W01", "w0", "nowhere"], found) == ["w0", "nowhere"]  # w0 is only a part of w01
    assert concepts.word_mask(["w0"], found).sum() == 0


def test_class_share_by_hand(world):
    dense, _, _, on = world
    classes = np.random.default_rng(2).integers(-1, 4, 400)
    expected = [
        column[on & np.isin(classes, [1, 3])].sum() / column[on].sum() if column[on].sum() else np.nan
        for column in dense.T.astype(float)
    ]
    for codes in (sparse.csr_array(dense), dense):
        np.testing.assert_allclose(concepts.class_share(codes, classes, [1, 3], on), expected, rtol=1e-6)


def test_precision_and_recall_by_hand():
    chosen, true = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 1, 1, 0], bool)
    assert concepts.recovery(chosen, true) == (3, 2 / 3, 2 / 3)
    assert np.isnan(concepts.recovery(~chosen & chosen, true).precision)
    assert np.isnan(concepts.recovery(chosen, np.zeros(5, bool)).recall)


def test_true_classes_are_the_classes_of_all_listed_words():
    membership = stories.membership("true")
    one, other = (next(word for word, (name, _) in membership.items() if name == stories.CLASSES[c]) for c in (0, 3))
    assert concepts.true_classes([one.upper(), other, "nowhere"], "true") == [0, 3]
    assert concepts.true_classes(["nowhere"], "true") == []


def test_true_classes_depend_on_the_world():
    moved = [word for word, (name, _) in stories.membership("scrambled").items() if name == stories.CLASSES[2]]
    assert concepts.true_classes(moved, "scrambled") == [2] != concepts.true_classes(moved, "true")


def test_without_a_truth_there_is_no_precision_or_recall():
    judged = concepts.recovery(np.array([True, False, True]), None)
    assert judged.n == 2 and np.isnan([judged.precision, judged.recall]).all()
