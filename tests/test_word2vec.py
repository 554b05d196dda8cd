"""Vectors come from the corpus, gensim's downloader or a file; bad files are refused."""

import gzip
import json
import zlib

import numpy as np
import pytest
import tiny_hub
from gensim.models import KeyedVectors, Word2Vec

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import corpora
from sae_utils.studies.semantic_subspaces import word2vec

TRAINED = {"kind": "corpus", "size": 8, "window": 3, "epochs": 1, "seed": 0}
WORDS = [f"word{number}" for number in range(40)]


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(len(WORDS), 8)).astype(np.float32)


@pytest.fixture(scope="module")
def written(tmp_path_factory, vectors) -> dict[str, bytes]:
    """Files of the vectors as gensim writes them, by their ending."""
    saved = KeyedVectors(vectors.shape[1])
    saved.add_vectors(WORDS, vectors)
    folder = tmp_path_factory.mktemp("written")
    for ending in ("txt", "bin", "txt.gz", "bin.gz"):
        saved.save_word2vec_format(str(folder / f"v.{ending}"), binary=ending.startswith("bin"))
    return {ending: (folder / f"v.{ending}").read_bytes() for ending in ("txt", "bin", "txt.gz", "bin.gz")}


def read(folder, ending: str, content: bytes):
    (folder / f"v.{ending}").write_bytes(content)
    return word2vec.read(folder / f"v.{ending}", {*WORDS, "word", "caf\ufffd"})


@pytest.mark.parametrize("ending", ["txt", "bin", "txt.gz", "bin.gz"])
def test_files_of_gensim_are_read(tmp_path, written, vectors, ending):
    found = read(tmp_path, ending, written[ending])
    assert list(found) == WORDS
    np.testing.assert_allclose(list(found.values()), vectors, rtol=1e-5, atol=1e-7)


def test_a_binary_file_like_that_of_google_is_read(tmp_path, vectors):
    """It has a line break after every vector, Latin-1 in a word, and a word twice."""
    words = [b"word", b"caf\xe9", b"word"]
    rows = b"".join(word + b" " + row.tobytes() + b"\n" for word, row in zip(words, vectors, strict=False))
    found = read(tmp_path, "bin", b"3 8\n" + rows)
    assert list(found) == ["word", "caf\ufffd"] and (np.array(list(found.values())) == vectors[:2]).all()


def announced(content: bytes, words: int, size: int = 8) -> bytes:
    return b"%d %d\n" % (words, size) + content.partition(b"\n")[2]


HARM = {
    "cut": lambda data: data[: len(data) * 2 // 3],
    "cut by a vector": lambda data: data[: -(len(data) // 40)],
    "cut in the first line": lambda data: data[:2],
    "empty": lambda data: b"",
    "announces more": lambda data: announced(data, 41),
    "announces terabytes": lambda data: announced(data, 10**11, 10**5),
    "announces fewer": lambda data: announced(data, 30),
    "announces none": lambda data: announced(data, 0),
    "announces fewer dimensions": lambda data: announced(data, 40, 5),
    "announces more dimensions": lambda data: announced(data, 40, 9),
    "announces a negative number": lambda data: announced(data, -40),
    "no first line": lambda data: data.partition(b"\n")[2],
    "something else": lambda data: b"\x80\x04\x95 a pickle",
    "HTML": lambda data: b"<!DOCTYPE html>\n<title>404</title>\n" * 50,
}


@pytest.mark.parametrize("ending", ["txt", "bin", "txt.gz", "bin.gz"])
@pytest.mark.parametrize("how", HARM)
def test_a_file_that_breaks_its_announcement_is_refused(tmp_path, written, ending, how):
    harmed = HARM[how](written[ending.removesuffix(".gz")])
    harmed = gzip.compress(harmed) if ending.endswith(".gz") else harmed
    with pytest.raises(ProfileError, match=rf"vectors\.path: .*v\.{ending} is not in word2vec's (binary|text) format"):
        read(tmp_path, ending, harmed)


def test_a_line_with_one_number_is_refused(tmp_path, written):
    cut = written["txt"].rstrip()
    while len(cut.splitlines()[-1].split()) > 2:
        cut = cut.rpartition(b" ")[0]
    with pytest.raises(ProfileError, match="announces 40 words of 8 dimensions, and one has fewer or more"):
        read(tmp_path, "txt", cut)
    assert len(read(tmp_path, "txt", written["txt"].replace(b"\n", b" \n"))) == 40  # as fastText ends its lines


@pytest.mark.parametrize(
    ("ending", "of", "message"),
    [
        ("bin", "txt", "announces 40 words"),
        ("txt", "bin", "."),
        ("bin", "bin.gz", "it is gzipped, name it .gz"),
        ("txt", "txt.gz", "it is gzipped, name it .gz"),
        ("txt.gz", "txt", "it is not gzipped"),
    ],
)
def test_a_file_named_for_another_format_is_refused(tmp_path, written, ending, of, message):
    with pytest.raises(ProfileError, match=message) as caught:
        read(tmp_path, ending, written[of])
    assert str(caught.value).endswith("`save_word2vec_format` of gensim writes it, and .bin names the binary one")


@pytest.mark.parametrize("ending", ["txt.gz", "bin.gz"])
def test_a_damaged_archive_is_refused(tmp_path, written, ending):
    data = written[ending]
    for harmed in (data[: len(data) // 2], data[:-4], data[:40] + b"\x00\xff" * 20 + data[80:]):
        with pytest.raises(ProfileError, match="is not in word2vec's"):
            read(tmp_path, ending, harmed)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("ending", ["txt", "bin"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, ending, value):
    saved = KeyedVectors(2)
    saved.add_vectors(["a", "b"], np.array([[1, 2], [value, 4]], np.float32))
    saved.save_word2vec_format(str(tmp_path / f"v.{ending}"), binary=ending == "bin")
    with pytest.raises(ProfileError, match="NaN or infinite"):
        word2vec.read(tmp_path / f"v.{ending}", {"a", "b"})


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
    read = word2vec.vectors(spec, None, ["she", "anna", "usa", "nobody"])
    assert list(read.place) == ["she", "anna", "usa"]
    expected = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [13, 14, 15, 16]], float)  # usa before USA
    np.testing.assert_allclose(read.unit, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "no file .*none.txt; give one in word2vec's"),
        ("v.kv", None, "v.kv is not in word2vec's text format.*`save_word2vec_format` of gensim writes it"),
        ("x.txt", "no vectors here\nat all", "x.txt is not in word2vec's text format"),
        ("x.txt", "", "not in word2vec's text format"),
        ("x.bin", "2 4\nshe \x01\x02", "not in word2vec's binary format"),
    ],
)
def test_bad_files_are_refused_with_a_remedy(saved, name, content, message):
    if content is not None:
        (saved / name).write_text(content)
    with pytest.raises(ProfileError, match=message):
        word2vec.vectors({"kind": "file", "path": str(saved / name)}, None, ["she"])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ProfileError, match="did you mean `file`"):
        word2vec.vectors({"kind": "fil", "path": "x"}, None, [])


GOOGLE = "word2vec-google-news-300"


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """A cache of gensim's downloader, and no network."""
    import gensim.downloader

    def refuse(*_):
        raise OSError("no network")

    tiny_hub.vectors(tmp_path, GOOGLE, ["she", "Anna", "fox"])
    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(tmp_path))
    monkeypatch.setattr(gensim.downloader, "urlopen", refuse)
    monkeypatch.setattr(gensim.downloader.urllib, "urlretrieve", refuse)
    return tmp_path


def test_downloaded_code_is_not_run(fetched, capfd):
    """The cache holds an `__init__.py`, which gensim would import, and which ends the process."""
    read = word2vec.vectors({"kind": "download", "name": GOOGLE}, None, ["she", "anna", "nobody"])
    assert list(read.place) == ["she", "anna"] and read.unit.shape == (2, 300)
    np.testing.assert_allclose(np.linalg.norm(read.unit, axis=1), 1, rtol=1e-5)
    assert not capfd.readouterr().err  # of a network that does not answer


def test_a_failed_download_is_refused_with_a_remedy(fetched):
    for name in ("nothing", "gone"):
        with pytest.raises(ProfileError, match=rf"vectors\.name: gensim could not download '{name}'.*kind: file"):
            word2vec.vectors({"kind": "download", "name": name}, None, ["she"])
        listed = json.loads((fetched / "information.json").read_text())
        listed["models"]["gone"] = listed["models"][GOOGLE]  # on the list, but not here
        (fetched / "information.json").write_text(json.dumps(listed))


def test_sizes_are_known_without_fetching(fetched):
    file = fetched / GOOGLE / f"{GOOGLE}.gz"
    here = word2vec.available(GOOGLE)
    assert here.sizes == {file.name: file.stat().st_size} and here.cached == {file.name: str(file)}
    assert here.terms == "licence unknown" and not here.refusal
    (fetched / "information.json").rename(fetched / "list")
    assert word2vec.available(GOOGLE).sizes == here.sizes and "does not answer" in word2vec.available(GOOGLE).refusal
    (fetched / "list").rename(fetched / "information.json")
    file.unlink()
    assert word2vec.available(GOOGLE)._replace(cached={}) == here._replace(cached={})  # as the list has it
    assert not word2vec.available(GOOGLE).cached
    assert "no vectors called 'word2vec-google'; did you mean `word2vec-google-news-300`" in (
        word2vec.available("word2vec-google").refusal
    )


def test_vectors_trained_on_the_corpus(world):
    """The artefact holds the vectors that gensim trains on the training documents."""
    read = word2vec.vectors(TRAINED, world.corpus, ["fox", "growled", "anna", "nowhere"])
    assert list(read.place) == ["fox", "growled", "anna"] and read.unit.shape == (3, 8)
    kept = word2vec.skipgram(corpora.text(world.corpus), word2vec.SkipGram(**TRAINED))
    assert json.loads((kept.path / "words.json").read_text())[0] in {"the", "a"}
    texts = [
        [word.casefold() for word in word2vec.WORD.findall(text)]
        for block in corpora.blocks(corpora.text(world.corpus), "training")
        for text in block.texts
        if text
    ]
    again = Word2Vec(
        texts, vector_size=8, window=3, epochs=1, seed=0, sg=1, min_count=5, workers=1,
        hashfxn=lambda word: zlib.crc32(word.encode()),
    )  # fmt: skip
    np.testing.assert_array_equal(kept.array("vectors"), again.wv.vectors)
    assert not list(kept.path.glob("*.pkl"))
