"""Vectors come from where the profile says, without pickle; related words are told from any."""

import json

import numpy as np
import pytest
import tiny_hub
from gensim.models import KeyedVectors, Word2Vec

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import corpora
from sae_utils.studies.semantic_subspaces import relatedness

WORDS = [f"w{i}" for i in range(40)]
TRAINED = {"kind": "corpus", "size": 8, "window": 3, "epochs": 1, "seed": 0}


@pytest.fixture(scope="module")
def known():
    """Words 0 to 9 lie near one direction, the rest anywhere."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 12))
    rows[:10] = rng.standard_normal(12) * 2 + 0.3 * rows[:10]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return relatedness.Vectors({word: i for i, word in enumerate(WORDS)}, unit.astype(np.float32))


# --- where vectors come from


@pytest.fixture
def saved(tmp_path):
    vectors = KeyedVectors(4)
    vectors.add_vectors(["she", "Anna", "USA", "usa"], np.arange(16, dtype=np.float32).reshape(4, 4) + 1)
    vectors.save_word2vec_format(str(tmp_path / "v.txt"))
    vectors.save_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    vectors.save(str(tmp_path / "v.kv"))
    return tmp_path


@pytest.mark.parametrize("name", ["v.txt", "v.bin"])
def test_a_file_of_either_format(saved, name):
    spec = {"kind": "file", "path": str(saved / name)}
    read = relatedness.vectors(spec, None, ["she", "anna", "usa", "nobody"])
    assert list(read.place) == ["she", "anna", "usa"]
    expected = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [13, 14, 15, 16]], float)  # usa before USA
    np.testing.assert_allclose(read.unit, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "no file .*none.txt; give one in word2vec's"),
        ("v.kv", None, "pickle and can run code; save it with `save_word2vec_format`"),
        ("x.txt", "no vectors here\nat all", "x.txt is not in word2vec's text format"),
        ("x.txt", "", "not in word2vec's text format"),
        ("x.bin", "2 4\nshe \x01\x02", "not in word2vec's binary format"),
    ],
)
def test_bad_files_say_what_to_do(saved, name, content, message):
    if content is not None:
        (saved / name).write_text(content)
    with pytest.raises(ProfileError, match=message):
        relatedness.vectors({"kind": "file", "path": str(saved / name)}, None, ["she"])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ProfileError, match="did you mean `file`"):
        relatedness.vectors({"kind": "fil", "path": "x"}, None, [])


GOOGLE = "word2vec-google-news-300"


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """What gensim's downloader finds where it has been before, and no network."""
    import gensim.downloader

    def refuse(*_):
        raise OSError("no network")

    tiny_hub.vectors(tmp_path, GOOGLE, ["she", "Anna", "fox"])
    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(tmp_path))
    monkeypatch.setattr(gensim.downloader, "urlopen", refuse)
    monkeypatch.setattr(gensim.downloader.urllib, "urlretrieve", refuse)
    return tmp_path


def test_the_downloader_gives_a_path_and_runs_nothing(fetched, capfd):
    """The folder of gensim's own layout; its `__init__.py`, which gensim would import, ends whoever runs it."""
    read = relatedness.vectors({"kind": "download", "name": GOOGLE}, None, ["she", "anna", "nobody"])
    assert list(read.place) == ["she", "anna"] and read.unit.shape == (2, 300)
    np.testing.assert_allclose(np.linalg.norm(read.unit, axis=1), 1, rtol=1e-5)
    assert not capfd.readouterr().err  # of a network that does not answer


def test_vectors_that_cannot_be_downloaded_say_what_to_do(fetched):
    for name in ("nothing", "gone"):
        with pytest.raises(ProfileError, match=rf"vectors\.name: gensim could not download '{name}'.*kind: file"):
            relatedness.vectors({"kind": "download", "name": name}, None, ["she"])
        listed = json.loads((fetched / "information.json").read_text())
        listed["models"]["gone"] = listed["models"][GOOGLE]  # on the list, but not here
        (fetched / "information.json").write_text(json.dumps(listed))


def test_what_vectors_would_take_is_told_without_fetching(fetched):
    file = fetched / GOOGLE / f"{GOOGLE}.gz"
    here = relatedness.offered(GOOGLE)
    assert here.sizes == {file.name: file.stat().st_size} and here.cached == {file.name: str(file)}
    assert here.terms == "licence unknown" and not here.refusal
    (fetched / "information.json").rename(fetched / "list")
    assert relatedness.offered(GOOGLE).sizes == here.sizes and "does not answer" in relatedness.offered(GOOGLE).refusal
    (fetched / "list").rename(fetched / "information.json")
    file.unlink()
    assert relatedness.offered(GOOGLE)._replace(cached={}) == here._replace(cached={})  # as the list has it
    assert not relatedness.offered(GOOGLE).cached
    assert "no vectors called 'word2vec-google'; did you mean `word2vec-google-news-300`" in (
        relatedness.offered("word2vec-google").refusal
    )


def test_vectors_trained_on_the_corpus(world):
    """The artefact holds what gensim trains on the training documents, and the same again."""
    read = relatedness.vectors(TRAINED, world.corpus, ["fox", "growled", "anna", "nowhere"])
    assert list(read.place) == ["fox", "growled", "anna"] and read.unit.shape == (3, 8)
    kept = relatedness.trained(corpora.text(world.corpus), relatedness.Corpus(**TRAINED))
    assert json.loads((kept.path / "words.json").read_text())[0] in {"the", "a"}
    texts = [
        [word.casefold() for word in relatedness.WORD.findall(text)]
        for block in corpora.blocks(corpora.text(world.corpus), "training")
        for text in block.texts
        if text
    ]
    again = Word2Vec(
        texts, vector_size=8, window=3, epochs=1, seed=0, sg=1, min_count=5, workers=1,
        hashfxn=lambda word: relatedness.zlib.crc32(word.encode()),
    )  # fmt: skip
    np.testing.assert_array_equal(kept.array("vectors"), again.wv.vectors)
    assert not list(kept.path.glob("*.pkl"))


# --- how related


def test_cosines_by_hand(known):
    words = [frozenset({"w1", "w2", "nobody"}), frozenset({"w2", "w30"}), *[frozenset()] * 5]
    pairwise, centroid, n, unknown = relatedness._cosines(np.array([0, 1]), words, known)
    rows = known.unit[[1, 2, 30]].astype(float)
    middle = rows.mean(0) / np.linalg.norm(rows.mean(0))
    assert pairwise == pytest.approx((rows @ rows.T)[np.triu_indices(3, 1)].mean(), abs=1e-6)
    assert centroid == pytest.approx((rows @ middle).mean(), abs=1e-6)
    assert (n, unknown) == (3, 0.25)


def test_related_words_are_told_from_any(known):
    words = [frozenset({f"w{i}", f"w{(i + 1) % 10 if i < 10 else i}"}) for i in range(40)]
    near = relatedness.related(np.arange(6), np.arange(40), words, known, m=199, seed=0)
    far = relatedness.related(np.arange(20, 26), np.arange(40), words, known, m=199, seed=0)
    assert near.pairwise.p == near.centroid.p == 1 / 200 and far.pairwise.p > 0.05
    assert near.words == 7 and near.unknown == 0 and near.features == 6


def test_words_nobody_knows_give_no_score(known):
    nothing = [frozenset({"x"})] * 40
    assert relatedness.related(np.arange(3), np.arange(40), nothing, known, m=9, seed=0) is None
    assert relatedness.related(np.arange(3), np.arange(2), [frozenset(WORDS)] * 40, known, m=9, seed=0) is None


def test_words_of_features():
    top = np.array([[0, 0, 2], [-1, 1, -1], [-1, -1, -1]])
    assert relatedness.words_of(top, ("a", "b", "c")) == [{"a", "c"}, {"b"}, frozenset()]


def test_sets_drawn_at_random_that_nobody_knows_give_no_score(known):
    words = [frozenset({"w1", "w2"}), frozenset({"w3", "w4"}), *[frozenset({"nobody"})] * 6]
    assert relatedness.related(np.array([0, 1]), np.arange(2, 8), words, known, m=9, seed=0) is None
