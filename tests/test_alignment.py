"""Positions are the characters at which tokens of both end; a unit is the same text on both sides."""

import numpy as np
import pytest
from transformers import AutoTokenizer, ByT5Tokenizer

from sae_utils.engine.text import alignment, corpora, tokenization
from sae_utils.engine.text.alignment import Spans

PLAIN = "The fox, it's said,  ran!\nÜber den Fluß; 日本語 \U0001f98a e\u0301 \t<pad>. Don't \"stop\" x_1 3rd.\r"
KINDS = [("word", 4000), ("bpe", 280), ("bpe", 400), ("bpe", 2000)]


@pytest.fixture
def story():
    return corpora.text(
        corpora.Stories(kind="stories", documents=60, seed=3, context=112, shares=[0.5, 0.2, 0.3], split_seed=0)
    )


@pytest.fixture
def plain(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(f"{name} " + 3 * PLAIN, newline="")
    path = str(tmp_path / "*.txt")
    return corpora.text(
        corpora.TextFiles(kind="text", path=path, unit="file", context=8, shares=[0.5, 0.25, 0.25], split_seed=0)
    )


@pytest.fixture(params=["story", "plain"])
def source(request):
    return request.getfixturevalue(request.param)


def made(source, kind: str, vocabulary: int) -> Spans:
    return alignment.load(alignment.spans(source, tokenization.train(source, kind, vocabulary)))


def judged_texts(source) -> dict[int, str]:
    texts = [text for block in corpora.blocks(source) for text in block.texts]
    return {n: text for n, text in enumerate(texts) if source.array("split")[n] != corpora.SPLITS.index("training")}


def hand(documents, ends, word_ends=None) -> Spans:
    words = np.ones(len(ends), bool) if word_ends is None else np.array(word_ends, bool)
    return Spans(np.array(documents, np.int32), np.array(ends, np.int32), words)


def test_units_by_hand():
    """Documents 0 ("the cats ran", of A as the/cats/ran, of B as the/cat/s/ran) and 2, where only the end is shared."""
    a = hand([0, 0, 0, 2, 2], [3, 8, 12, 4, 9])
    b = hand([0, 0, 0, 0, 2, 2, 2], [3, 7, 8, 12, 2, 6, 9], [1, 0, 1, 1, 1, 1, 1])
    units = alignment.share(a, b, "ends")
    assert [places.tolist() for places in units] == [[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 3, 4], [0, 2, 3, 6]]
    assert units.several().tolist() == [False, True, False, True]


@pytest.mark.parametrize("at", ["ends", "words"])
@pytest.mark.parametrize("first", KINDS, ids=str)
@pytest.mark.parametrize("second", KINDS, ids=str)
def test_units_are_what_a_plain_search_finds(source, first, second, at):
    a, b = made(source, *first), made(source, *second)
    units, expected = alignment.share(a, b, at), []
    for document, text in judged_texts(source).items():
        here = [np.flatnonzero(x.documents == document) for x in (a, b)]
        ends = [{int(x.ends[i]): int(i) for i in places} for x, places in zip((a, b), here, strict=True)]
        done = [int(places[0]) for places in here]
        for character in sorted(ends[0].keys() & ends[1].keys()):
            if at == "words" and not alignment.ends_a_word(text)[character]:
                continue
            last = [side[character] for side in ends]
            expected.append((done[0], last[0], done[1], last[1]))
            done = [place + 1 for place in last]
    assert list(zip(*(places.tolist() for places in units), strict=True)) == expected


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_identical_tokenizers_give_the_identity(story, kind):
    spans = made(story, *kind)
    units = alignment.share(spans, spans, "ends")
    for places in units:
        np.testing.assert_array_equal(places, np.arange(len(spans.ends)))
    assert not units.several().any()


def test_a_unit_is_one_text_on_both_sides(source):
    """The tokens of either side spell the same characters, except white space that one of them drops."""
    spelt = []
    names = [tokenization.train(source, *kind) for kind in (("word", 4000), ("bpe", 300))]
    a, b = (alignment.load(alignment.spans(source, name)) for name in names)
    units = alignment.share(a, b, "ends")
    loaded = AutoTokenizer.from_pretrained(names[1].path, trust_remote_code=False)
    ids = [i for text in judged_texts(source).values() for i in loaded.encode(text, add_special_tokens=False)]
    for first, last in zip(units.first_b, units.last_b, strict=True):
        spelt.append("".join(loaded.decode(ids[first : last + 1], clean_up_tokenization_spaces=False).split()))
    texts = judged_texts(source)
    for number, (first, last) in enumerate(zip(units.first_a, units.last_a, strict=True)):
        document = a.documents[first]
        begin = a.ends[first - 1] if first and a.documents[first - 1] == document else 0
        assert spelt[number] == "".join(texts[document][begin : a.ends[last]].split())


def test_exchanged_sides_give_exchanged_units(story):
    a, b = made(story, "word", 4000), made(story, "bpe", 400)
    one, two = alignment.share(a, b, "words"), alignment.share(b, a, "words")
    np.testing.assert_array_equal([one.first_a, one.last_a, one.first_b], [two.first_b, two.last_b, two.first_a])


def test_every_word_of_a_story_is_shared_and_some_are_in_pieces(story):
    """The words of a story stand between spaces, which no piece crosses."""
    a, b = made(story, "word", 4000), made(story, "bpe", 400)
    units = alignment.share(a, b, "ends")
    np.testing.assert_array_equal(units.last_a, np.arange(len(a.ends)))
    np.testing.assert_array_equal(units.first_b[1:], units.last_b[:-1] + 1)
    assert 0.1 < units.several().mean() < 0.9 and a.word_ends.all() and not b.word_ends.all()


def test_two_vocabularies_of_pieces_share_positions_inside_words(story):
    """A smaller vocabulary of the same text cuts where the larger one does, and more often."""
    small, large = made(story, "bpe", 300), made(story, "bpe", 900)
    ends, words = (alignment.share(small, large, at) for at in ("ends", "words"))
    np.testing.assert_array_equal(ends.last_b, np.arange(len(large.ends)))
    assert len(words.last_a) < len(ends.last_a) < len(small.ends)
    assert set(words.last_b) < set(ends.last_b)


def test_a_character_of_several_tokens_ends_with_the_last():
    """The bytes of one character all have its offset."""
    units = alignment.share(hand([0, 0, 0], [1, 1, 2]), hand([0, 0], [1, 2]), "ends")
    assert [places.tolist() for places in units] == [[0, 2], [1, 2], [0, 1], [0, 1]]


def test_words_end_as_the_word_tokenizer_says(story):
    loaded = AutoTokenizer.from_pretrained(tokenization.train(story, "word", 4000).path, trust_remote_code=False)
    texts = [
        PLAIN.replace("\u0301", "").replace("<pad>", ""),
        "it's  ok, 3_d!!",
        " Fluß\n\n日本語\U0001f98a?",
        *judged_texts(story).values(),
    ]
    for text, ends in zip(texts, alignment.offsets(texts, loaded), strict=True):
        np.testing.assert_array_equal(np.flatnonzero(alignment.ends_a_word(text)), ends)
    assert np.flatnonzero(alignment.ends_a_word(texts[1])).tolist() == [2, 3, 4, 8, 9, 13, 15]
    assert not alignment.ends_a_word("").any()


def test_only_judged_documents_are_read(story):
    spans = made(story, "word", 4000)
    np.testing.assert_array_equal(np.unique(spans.documents), sorted(judged_texts(story)))


# --- bad input


def test_texts_without_a_shared_position_are_refused():
    with pytest.raises(ValueError, match=r"no position is shared .*2 tokens of A and 1 of B.*same text"):
        alignment.share(hand([0, 0], [3, 6]), hand([0], [4]), "ends")
    with pytest.raises(ValueError, match="at = 'words'"):
        alignment.share(hand([0], [3], [0]), hand([0], [3], [0]), "words")
    with pytest.raises(ValueError, match="no position is shared"):
        alignment.share(hand([], []), hand([0], [4]), "ends")


def test_an_unknown_kind_of_position_is_refused():
    with pytest.raises(ValueError, match="at = 'starts': 'ends' of tokens"):
        alignment.share(hand([0], [3]), hand([0], [3]), "starts")  # type: ignore[arg-type]


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(ValueError, match=r"ByT5Tokenizer: .*no character offsets.*use_fast=True"):
        alignment.offsets(["a"], ByT5Tokenizer())


class Odd:
    """A fast tokenizer with the given offsets."""

    is_fast, name_or_path = True, "odd/tokenizer"

    def __init__(self, *ends):
        self.ends = ends
        self.backend_tokenizer = self

    def encode_batch(self, texts, add_special_tokens):
        return [type("Encoding", (), {"offsets": [(0, end) for end in self.ends]}) for _ in texts]


@pytest.mark.parametrize("ends", [(0, 0), (4, 2), (2, 9)], ids=["none", "backwards", "beyond the text"])
def test_wrong_offsets_are_refused(ends):
    with pytest.raises(
        ValueError, match=r"odd/tokenizer: .*offsets are missing or not in the order of the text 'some'"
    ):
        alignment.offsets(["some"], Odd(*ends))
    assert alignment.offsets(["some"], Odd(2, 4))[0].tolist() == [2, 4]
