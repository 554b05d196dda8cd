"""Text files are found by their names, decoded or refused at a named byte, and cut as the profile says."""

import bz2
import gzip
import lzma
import re

import numpy as np
import pytest
import zstandard

from sae_utils.engine.core import spec
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import corpora, reading

SHARES = [0.6, 0.2, 0.2]


def of_text(path, unit="line", **changes) -> corpora.TextFiles:
    return corpora.TextFiles(kind="text", path=str(path), unit=unit, context=8, shares=SHARES, split_seed=0, **changes)


def texts(source) -> list[str]:
    return [text for block in corpora.blocks(source) for text in block.texts]


# --- paths


@pytest.mark.parametrize(
    ("files", "path", "expected"),
    [
        (["texts [2024]/a.txt", "texts [2024]/b.txt", "texts 2/c.txt"], "texts [2024]/*.txt", 2),
        (["notes[1].txt", "notes1.txt"], "notes[1].txt", 1),
        (["notes1.txt", "notes2.txt", "notes3.txt"], "notes[12].txt", 2),
        (["what?.txt", "whats.txt"], "what?.txt", 1),
        (["*.txt", "other.txt"], "*.txt", 1),
        (["a/x [y]/z.txt", "b/x [y]/z.txt"], "*/x [y]/z.txt", 2),
        (["a/b/c.txt", "a/d.txt", "a/b [e]/f.txt"], "a/**/*.txt", 3),
        (["a/b/c.txt", "a/d.txt"], "a/**", 2),
        (["{a,b}.txt", "a.txt"], "{a,b}.txt", 1),
        (["über~%$HOME #&.txt"], "über~%$HOME #&.txt", 1),
    ],
)
def test_a_path_means_the_file_of_that_name_or_what_matches(tmp_path, files, path, expected):
    root = tmp_path / "a checkout [of 2024] {x}"
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("text")
    (root / "folder.txt").mkdir()  # folders and dead links are left out
    (root / "gone.txt").symlink_to(root / "nowhere")
    for asked in (path, str(root / path)):
        found = reading.find_files(asked, root)
        assert len(found) == expected and found == sorted(found) and {*found} <= {root / name for name in files}
    if (root / path).exists() and not path.endswith("**"):
        assert found == [root / path]


def test_a_tilde_is_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.txt").write_text("text")
    assert reading.find_files("~/x.txt", tmp_path / "elsewhere") == [tmp_path / "x.txt"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~nobody_of_that_name/x.txt", r"corpus\.path: '~nobody_of_that_name/x\.txt' names no file"),
        ("a\0b.txt", r"corpus\.path: 'a\\x00b\.txt' names no file|no file matches"),
        ("nothing [1].txt", r"corpus\.path: no file matches .*nothing \[1\]\.txt$"),
        ("folder", r"no file matches .*folder, which is a folder; name its files, e\.g\. .*folder/\*\.txt"),
        ("", r"which is a folder; name its files"),
        (300 * "x", r"no file matches .*xxx$"),
    ],
)
def test_a_path_without_files_is_refused(tmp_path, path, message):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ProfileError, match=message):
        reading.find_files(path, tmp_path)


# --- bytes

WANTED = ["Ein Fuchs.", "Eine schöne Eule:", "日本語 \U0001f98a", "Ende"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_byte_order_marks_and_line_ends_are_no_text(tmp_path, newline, mark, unit):
    between = {"line": "\n", "paragraph": "\n\n"}[unit]
    content = mark + between.join(WANTED) + "\n"
    (tmp_path / "x.txt").write_bytes(content.replace("\n", newline).encode())
    assert texts(corpora.text(of_text(tmp_path / "x.txt", unit))) == WANTED


def test_byte_order_marks_inside_a_file_are_no_text(tmp_path):
    (tmp_path / "x.txt").write_text("".join(f"\ufeff{text}\n" for text in WANTED))
    assert texts(corpora.text(of_text(tmp_path / "x.txt"))) == WANTED


PLAIN = "schön " * 50
NOT_UTF8 = {
    "latin": (b"sch" + "\xf6n".encode("latin-1"), "not UTF-8 at byte 3; .*`iconv -f LATIN1 -t UTF-8`"),
    "cut": ("a schö".encode()[:-1], "not UTF-8 at byte 5; "),
    "surrogate": (b"ab\xed\xa0\x80", "not UTF-8 at byte 2; "),
    "later": ("schön".encode() + b"\xff", "not UTF-8 at byte 6; "),
    "utf-16": (PLAIN.encode("utf-16"), "not UTF-8 at byte 0; it is UTF-16, .*`iconv -f UTF-16 -t UTF-8`"),
    "utf-16 be": (b"\xfe\xff" + PLAIN.encode("utf-16-be"), "it is UTF-16, "),
    "utf-32": (PLAIN.encode("utf-32"), "it is UTF-32, .*`iconv -f UTF-32"),
    "utf-16 without a mark": ("plain".encode("utf-16-le"), "a NUL, .* at byte 1; .*`iconv -f UTF-16LE"),
    "nul": ("schö\0n".encode(), r"a NUL, .* at byte 5; .*`tr -d '\\000'`"),
    "gz": (gzip.compress(PLAIN.encode()), "not UTF-8 at byte 1; it is compressed; unpack it with `gunzip -k`"),
    "cut gz": (gzip.compress(PLAIN.encode())[:-9], "unpack it with `gunzip -k`"),
    "zst": (zstandard.compress(PLAIN.encode()), "unpack it with `unzstd -k`"),
    "cut zst": (zstandard.compress(PLAIN.encode())[:-9], "unpack it with `unzstd -k`"),
    "xz": (lzma.compress(PLAIN.encode()), "unpack it with `unxz -k`"),
    "bz2": (bz2.compress(PLAIN.encode()), "unpack it with `bunzip2 -k`"),
}


@pytest.mark.parametrize("kind", NOT_UTF8)
def test_other_encodings_are_refused_with_file_byte_and_remedy(tmp_path, kind):
    content, message = NOT_UTF8[kind]
    (tmp_path / "odd.txt").write_bytes(content)
    with pytest.raises(ProfileError, match=rf"odd\.txt: {message}|odd\.txt: .*{message}"):
        corpora.text(of_text(tmp_path / "odd.txt"))


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x.txt").write_text("a\nb\nc\n")

    def refuse(files):
        raise PermissionError(13, "Permission denied", str(files[0]))

    monkeypatch.setattr(corpora, "digest", refuse)
    with pytest.raises(ProfileError, match=r"corpus\.path: .*x\.txt cannot be read \(Permission denied\)"):
        corpora.text(of_text(tmp_path / "x.txt"))


def test_empty_files_are_no_documents(tmp_path):
    for name, content in {"a": "one", "b": "", "c": " \n\ufeff\n", "d": "two", "e": "three"}.items():
        (tmp_path / f"{name}.txt").write_text(content)
    assert texts(corpora.text(of_text(tmp_path / "*.txt", "file"))) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("\udc00", "\ufffd"),
        ("end \ud83e", "end \ufffd"),
        ("\ud83e\udd8a", "\U0001f98a"),
        ("x\ud83e\ud83e\udd8a\udd8ay", "x\ufffd\U0001f98a\ufffdy"),
        ("  \ufeff \n plain \ufeff", "plain"),
    ],
)
def test_every_document_can_be_encoded(text, expected):
    assert reading.clean(text) == expected
    expected.encode()


# --- separators


def test_an_endless_search_for_a_separator_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE", 1)
    (file := tmp_path / "x.txt").write_text(60 * "=" + "!")
    with pytest.raises(ProfileError, match=r"'\(=\+\)\+\$' was sought in .*x\.txt for 1 s; it repeats"):
        list(reading.documents([file], "file", reading.check_separator("(=+)+$")))


ARTICLES = ["The first.\n\nIts second paragraph.", "Another\n\nin three\n\nparts", "A third = no title", "The last."]


@pytest.mark.parametrize(
    ("form", "separator"),
    [
        ("{}\n<|endoftext|>\n", r"<\|endoftext\|>"),
        ("<|endoftext|>{}", r"<\|endoftext\|>"),
        ("{}\n=====\n", "^=+$"),
        ("{}\n--- 12 ---\n", r"^-+ (\d+) -+$"),  # a group is not a document
        ("{}\n\n\n", r"\n{3,}"),
        ("{}\nEND", r"\nend(?i:)|\nEND"),
        ("{}\n\n*** \n\n", r"\*\*\*"),
    ],
)
@pytest.mark.parametrize("unit", ["file", "paragraph", "line"])
def test_a_separator_cuts_a_file(tmp_path, form, separator, unit):
    (tmp_path / "all.txt").write_text("".join(map(form.format, ARTICLES)))
    source = corpora.text(of_text(tmp_path / "all.txt", unit, separator=separator))
    between = {"file": "\0", "paragraph": "\n\n", "line": r"\n+"}[unit]
    expected = [re.split(between, article) for article in ARTICLES]
    assert texts(source) == [part for article in expected for part in article]
    article_of = np.repeat(np.arange(4), list(map(len, expected)))
    np.testing.assert_array_equal(source.array("articles"), article_of)
    np.testing.assert_array_equal(source.array("split"), corpora.deal(4, SHARES, 0)[article_of])


def test_a_title_may_stay_with_its_article(tmp_path):
    (tmp_path / "all.txt").write_text("= One\nfirst\n= Two\nsecond\n= Three\nthird\n")
    source = corpora.text(of_text(tmp_path / "all.txt", "file", separator="^(?== )"))
    assert texts(source) == ["= One\nfirst", "= Two\nsecond", "= Three\nthird"]


@pytest.mark.parametrize(
    ("separator", "message"),
    [
        ("[", "not a regular expression: unterminated character set"),
        ("(", "not a regular expression: missing \\), unterminated subpattern at position 0"),
        ("*", "not a regular expression: nothing to repeat"),
        ("a{99999999999999}", "not a regular expression: "),
        ("(" * 5000 + ")" * 5000, "not a regular expression: "),
        ("", "matches the empty text"),
        ("x*", "matches the empty text"),
        ("^", "matches the empty text"),
        ("<|endoftext|>", r"\| means `or` in a regular expression; write <\\\|endoftext\\\|>"),
    ],
)
def test_a_wrong_separator_is_refused_when_the_profile_is_read(separator, message):
    fields = {"kind": "text", "path": "x", "unit": "file", "context": 8, "shares": SHARES, "split_seed": 0}
    with pytest.raises(ProfileError, match=rf"corpus\.separator: .*{message}"):
        spec.choose(corpora.KINDS, fields | {"separator": separator}, "params/x.yaml: corpus")


def test_a_separator_that_matches_nothing_is_refused(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("one\n---\ntwo" if name == "b" else "one")
    assert len(texts(corpora.text(of_text(tmp_path / "*.txt", "file", separator="^---$")))) == 4
    with pytest.raises(ProfileError, match=r"corpus\.separator: '\^===\$' matches nowhere"):
        corpora.text(of_text(tmp_path / "*.txt", "file", separator="^===$"))
    (tmp_path / "two.md").write_text("one\ntwo\n---\nthree")
    with pytest.raises(ProfileError, match=r"corpus\.separator: '\^---\$' leaves 2 article\(s\) with text"):
        corpora.text(of_text(tmp_path / "two.md", "line", separator="^---$"))


# --- articles and splits


@pytest.mark.parametrize("seed", range(5))
def test_no_article_is_in_two_splits(tmp_path, seed):
    for n in range(20):
        (tmp_path / f"{n:02}.txt").write_text("\n\n".join(f"{n} {m}" for m in range(1 + 3 * n % 11)))
    spec = of_text(tmp_path / "*.txt", "paragraph").model_copy(update={"split_seed": seed})
    source = corpora.text(spec)
    split, article = source.array("split"), source.array("articles")
    by_text = np.array([int(text.split()[0]) for text in texts(source)])
    np.testing.assert_array_equal(article, by_text)
    assert all(len(set(split[by_text == n])) == 1 for n in range(20))
    np.testing.assert_array_equal(np.bincount(split[np.unique(by_text, return_index=True)[1]]), [12, 4, 4])


def test_paragraphs_of_one_file_are_dealt_one_by_one_with_a_message(tmp_path, capsys):
    (tmp_path / "x.txt").write_text("\n\n".join(map(str, range(50))))
    lines, paragraphs = (corpora.text(of_text(tmp_path / "x.txt", unit)) for unit in ("line", "paragraph"))
    for source in (lines, paragraphs):
        np.testing.assert_array_equal(source.array("articles"), np.arange(50))
        np.testing.assert_array_equal(source.array("split"), corpora.deal(50, SHARES, 0))
    message = capsys.readouterr().err
    assert re.search(r"corpus: 1 file\(s\) only: the 50 documents .*one by one; .*`separator`", message)
    assert message.count("\n") == 1, "lines are articles, and give no message"
