"""Every document is stored unchanged, in exactly one split."""

import itertools

import numpy as np
import pytest

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import corpora, stories

SHARES = [0.6, 0.2, 0.2]


def of_stories(**changes) -> corpora.Stories:
    values = {"documents": 300, "seed": 0, "context": 112, "shares": SHARES, "split_seed": 0}
    return corpora.Stories(kind="stories", **values | changes)


def of_text(path, unit, **changes) -> corpora.TextFiles:
    values = {"context": 8, "shares": SHARES, "split_seed": 0}
    return corpora.TextFiles(kind="text", path=str(path), unit=unit, **values | changes)


def texts(source, split=None) -> list[str]:
    return [text for block in corpora.blocks(source, split) for text in block.texts]


# --- splits


@pytest.mark.parametrize("shares", [SHARES, [0.5, 0.001, 0.499], [0.001, 0.001, 0.998], [0.998, 0.001, 0.001]])
def test_every_split_has_a_document_and_its_share(shares):
    for count in (*range(3, 60), 1000, 12345):
        split = corpora.deal(count, shares, seed=0)
        dealt = np.bincount(split, minlength=3)
        assert split.shape == (count,) and dealt.sum() == count
        assert dealt.min() >= 1 and len(dealt) == 3, (count, shares)
        wanted = np.clip(np.array(shares) * count, 1, None)
        assert np.abs(dealt - wanted).max() <= 2


def test_splits_depend_only_on_number_shares_and_seed():
    first = corpora.deal(1000, SHARES, 0)
    np.testing.assert_array_equal(first, corpora.deal(1000, SHARES, 0))
    other = corpora.deal(1000, SHARES, 1)
    assert (first != other).mean() > 0.3
    np.testing.assert_array_equal(np.bincount(first), np.bincount(other))
    scrambled, true = (corpora.text(of_stories(world=world)) for world in ("scrambled", "true"))
    np.testing.assert_array_equal(scrambled.array("split"), true.array("split"))
    np.testing.assert_array_equal(true.array("split"), corpora.deal(300, SHARES, 0))
    assert texts(scrambled) != texts(true)


def test_every_document_is_in_one_split():
    source = corpora.text(of_stories())
    documents = texts(source)
    parts = [texts(source, split) for split in corpora.SPLITS]
    for document, pieces in enumerate(zip(*parts, strict=True)):
        present = [bool(piece) for piece in pieces]
        assert sum(present) == 1 and "".join(pieces) == documents[document]
        assert present.index(True) == source.array("split")[document]


def test_the_deal_is_random():
    """Of neighbouring documents about sum(share^2) = 44% are in one split."""
    split = corpora.deal(5000, SHARES, 0)
    assert (split[1:] == split[:-1]).mean() == pytest.approx(0.44, abs=0.03)


@pytest.mark.parametrize("shares", [[0.5, 0.5, 0.5], [0.8, 0.2, 0.0], [1.2, -0.1, -0.1]])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ProfileError, match=r"corpus\.shares: three positive shares that sum to 1"):
        corpora.deal(10, shares, 0)


# --- stories


def test_stories_are_stored_with_their_truth(monkeypatch):
    monkeypatch.setattr(corpora, "BLOCK", 64)  # so that there are several blocks
    source = corpora.text(of_stories())
    expected = list(stories.stream(seed=0, documents=300))
    assert source.meta["documents"] == 300
    assert source.meta["bytes"] == sum(len(document.text.encode()) for document in expected)
    assert np.array_equal(source.array("topic"), [document.topic for document in expected])
    firsts = [block.first for block in corpora.blocks(source)]
    assert firsts == list(range(0, 300, 64))
    for block in corpora.blocks(source):
        for number, text in enumerate(block.texts):
            document = expected[block.first + number]
            assert text == document.text
            assert np.array_equal(block.starts[number], document.starts)
            assert np.array_equal(block.classes[number], document.classes)


def test_a_corpus_is_made_once_and_another_seed_is_another():
    assert corpora.text(of_stories()) is corpora.text(of_stories())
    assert texts(corpora.text(of_stories(seed=1))) != texts(corpora.text(of_stories()))
    scrambled = [texts(corpora.text(of_stories(world="scrambled", permutation=seed))) for seed in (0, 1)]
    assert scrambled[0] == texts(corpora.text(of_stories(world="scrambled"))) != scrambled[1]


def test_fewer_stories_are_the_first_of_more(world):
    assert texts(corpora.text(of_stories())) == texts(corpora.text(world.corpus))[:300]


def test_the_pipeline_uses_the_corpus_of_the_profile(world):
    split = pipeline.rows(world, "one_layer").array("split")
    documents = pipeline.rows(world, "one_layer").array("documents")[:, 0]
    np.testing.assert_array_equal(split, corpora.text(world.corpus).array("split")[documents])


# --- text

PROSE = "Ein Fuchs.\nIm Wald.\n\nEine Eule: schön!\n\n\n日本語 \U0001f98a\n   \nEnde\n"


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("line", ["Ein Fuchs.", "Im Wald.", "Eine Eule: schön!", "日本語 \U0001f98a", "Ende"]),
        ("paragraph", ["Ein Fuchs.\nIm Wald.", "Eine Eule: schön!", "日本語 \U0001f98a", "Ende"]),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_units_of_text(tmp_path, unit, expected, newline):
    (tmp_path / "prose.txt").write_bytes(PROSE.replace("\n", newline).encode())
    source = corpora.text(of_text(tmp_path / "prose.txt", unit))
    assert texts(source) == expected
    for block in corpora.blocks(source):
        assert not any(map(len, itertools.chain(block.starts, block.classes)))


def test_a_file_is_a_document(tmp_path):
    for name, content in {"c.txt": "third", "a.txt": "first\n\nstill first", "b.txt": "second", "d.md": "no"}.items():
        (tmp_path / name).write_text(content)
    assert texts(corpora.text(of_text(tmp_path / "*.txt", "file"))) == ["first\n\nstill first", "second", "third"]
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "z.txt").write_text("fourth")
    assert len(texts(corpora.text(of_text(tmp_path / "**" / "*.txt", "file")))) == 4


def test_changed_text_is_another_corpus(tmp_path):
    file = tmp_path / "prose.txt"
    file.write_text("a\nb\nc\n")
    before = corpora.text(of_text(file, "line"))
    file.write_text("a\nb\nd\n")
    after = corpora.text(of_text(file, "line"))
    assert (texts(before), texts(after)) == (["a", "b", "c"], ["a", "b", "d"])


def test_a_path_starts_at_the_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "REPOSITORY", tmp_path)
    (tmp_path / "here.txt").write_text("a\nb\nc\n")
    assert texts(corpora.text(of_text("here.txt", "line"))) == ["a", "b", "c"]


def test_a_corpus_of_news():
    datapath = pytest.importorskip("gensim.test.utils").datapath
    source = corpora.text(of_text(datapath("lee_background.cor"), "line"))
    found = texts(source)
    assert len(found) == 300 and found[0].startswith("Hundreds of people have been forced")
    assert np.bincount(source.array("split")).tolist() == [180, 60, 60]


def test_unreadable_text_is_refused(tmp_path):
    latin = tmp_path / "latin.txt"
    latin.write_bytes("schön".encode("latin-1"))
    with pytest.raises(ProfileError, match=r"latin\.txt: not UTF-8 at byte 3; convert it with `iconv"):
        corpora.text(of_text(latin, "line"))
    with pytest.raises(ProfileError, match=r"corpus\.path: no file matches .*nothing\.txt"):
        corpora.text(of_text(tmp_path / "nothing.txt", "line"))
    with pytest.raises(ProfileError, match="no file matches"):
        corpora.text(of_text(tmp_path, "line"))  # a folder


@pytest.mark.parametrize(("content", "count"), [("", 0), ("\n \n\n", 0), ("one", 1), ("one\ntwo", 2)])
def test_too_few_documents_are_refused(tmp_path, content, count):
    (tmp_path / "x.txt").write_text(content)
    with pytest.raises(ProfileError, match=rf"holds {count} document\(s\), and three splits need at least 3"):
        corpora.text(of_text(tmp_path / "x.txt", "line"))


def test_two_stories_are_refused():
    with pytest.raises(ProfileError, match="at least 3"):
        corpora.text(of_stories(documents=2))


def test_every_corpus_is_described(tmp_path):
    assert "permuted" in of_stories(world="scrambled").description
    assert of_stories().description != of_stories(world="scrambled").description
    assert of_text(tmp_path / "news.txt", "line").description == "every line of the text in news.txt"
