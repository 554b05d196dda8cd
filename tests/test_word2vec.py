"""Vectors are read as gensim wrote them, or the file is refused with what is wrong."""

import gzip

import numpy as np
import pytest

from sae_utils.engine.core.spec import ProfileError
from sae_utils.studies.semantic_subspaces import word2vec

WORDS = [f"word{number}" for number in range(40)]


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(len(WORDS), 8)).astype(np.float32)


@pytest.fixture(scope="module")
def written(tmp_path_factory, vectors) -> dict[str, bytes]:
    """The same vectors as gensim writes them, ending -> content."""
    from gensim.models import KeyedVectors

    saved = KeyedVectors(vectors.shape[1])
    saved.add_vectors(WORDS, vectors)
    folder = tmp_path_factory.mktemp("written")
    for ending in ("txt", "bin", "txt.gz", "bin.gz"):
        saved.save_word2vec_format(str(folder / f"v.{ending}"), binary=ending.startswith("bin"))
    return {ending: (folder / f"v.{ending}").read_bytes() for ending in ("txt", "bin", "txt.gz", "bin.gz")}


def read(folder, ending: str, content: bytes):
    (folder / f"v.{ending}").write_bytes(content)
    return word2vec.read(folder / f"v.{ending}")


@pytest.mark.parametrize("ending", ["txt", "bin", "txt.gz", "bin.gz"])
def test_what_gensim_writes_is_read(tmp_path, written, vectors, ending):
    found = read(tmp_path, ending, written[ending])
    assert found.index_to_key == WORDS
    np.testing.assert_allclose(found.vectors, vectors, rtol=1e-5, atol=1e-7)


def test_a_binary_file_as_google_wrote_its_own_is_read(tmp_path, vectors):
    """With a line's end after every vector, Latin-1 in a word, and a word twice."""
    words = [b"word", b"caf\xe9", b"word"]
    rows = b"".join(word + b" " + row.tobytes() + b"\n" for word, row in zip(words, vectors, strict=False))
    found = read(tmp_path, "bin", b"3 8\n" + rows)
    assert found.key_to_index == {"word": 0, "caf\ufffd": 1} and (found.vectors[:2] == vectors[:2]).all()


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
def test_what_is_not_as_announced_is_refused(tmp_path, written, ending, how):
    harmed = HARM[how](written[ending.removesuffix(".gz")])
    harmed = gzip.compress(harmed) if ending.endswith(".gz") else harmed
    with pytest.raises(ProfileError, match=rf"vectors\.path: .*v\.{ending} is not in word2vec's (binary|text) format"):
        read(tmp_path, ending, harmed)


def test_a_line_with_one_number_is_not_a_vector_of_it(tmp_path, written):
    """Numpy would repeat the number."""
    cut = written["txt"].rstrip()
    while len(cut.splitlines()[-1].split()) > 2:
        cut = cut.rpartition(b" ")[0]
    with pytest.raises(ProfileError, match="announces 8 dimensions, and a line has fewer: cut off"):
        read(tmp_path, "txt", cut)
    assert len(read(tmp_path, "txt", written["txt"].replace(b"\n", b" \n"))) == 40  # as fastText ends its lines


@pytest.mark.parametrize(
    ("ending", "of", "said"),
    [
        ("bin", "txt", "announces 40 words and holds others"),
        ("txt", "bin", "."),
        ("bin", "bin.gz", "it is gzipped, name it .gz"),
        ("txt", "txt.gz", "it is gzipped, name it .gz"),
        ("txt.gz", "txt", "it is not gzipped"),
    ],
)
def test_a_name_that_says_another_format_is_refused(tmp_path, written, ending, of, said):
    with pytest.raises(ProfileError, match=said) as caught:
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
def test_numbers_that_are_none_are_refused(tmp_path, ending, value):
    from gensim.models import KeyedVectors

    saved = KeyedVectors(2)
    saved.add_vectors(["a", "b"], np.array([[1, 2], [value, 4]], np.float32))
    saved.save_word2vec_format(str(tmp_path / f"v.{ending}"), binary=ending == "bin")
    with pytest.raises(ProfileError, match="NaN or infinite"):
        word2vec.read(tmp_path / f"v.{ending}")
