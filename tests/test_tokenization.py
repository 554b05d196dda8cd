"""Rows hold every token of the documents, never mixed, and classes stay with their words."""

import re

import numpy as np
import pytest
from transformers import AutoTokenizer

from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import corpora, stories, tokenization

STORIES = corpora.Stories(kind="stories", documents=200, seed=3, context=112, shares=[0.6, 0.2, 0.2], split_seed=0)
PLAIN = "The fox, it's said,  ran!\nÜber den Fluß; 日本語 \U0001f98a e\u0301 \t<pad>.\r"


@pytest.fixture
def source():
    return corpora.text(STORIES)


@pytest.fixture
def plain(tmp_path):
    """Text unlike the stories: other scripts, double spaces, the name of a special token."""
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(f"{name} " + 20 * PLAIN, newline="")
    spec = corpora.TextFiles(
        kind="text", path=str(tmp_path / "*.txt"), unit="file", context=8, shares=[0.6, 0.2, 0.2], split_seed=0
    )
    return corpora.text(spec)


def read(artefact):
    return AutoTokenizer.from_pretrained(artefact.path, trust_remote_code=False)


def documents_of(rows) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Tokens and classes of each document, from all of its rows, without openings and padding."""
    tokens, classes, documents, places = (rows.array(name) for name in ("tokens", "classes", "documents", "places"))
    read = (places > 0) | (places == tokenization.MASKED)
    at = {number: (documents == number) & read for number in np.unique(documents)}
    return {int(number): (tokens[here], classes[here]) for number, here in at.items()}


@pytest.mark.parametrize("context", [4, 9, 112])
def test_words_keep_their_class(source, context):
    tokenizer = tokenization.train(source, "word", 4000)
    rows = tokenization.rows(source, tokenizer, context)
    words, vocabulary = read(tokenizer), set()
    for document, split in zip(stories.stream(seed=3, documents=200), source.array("split"), strict=True):
        if corpora.SPLITS[split] == "training":
            vocabulary |= set(document.text.split())
    found, unknown, total = documents_of(rows), 0, 0
    assert sorted(found) == list(range(200))
    for number, document in enumerate(stories.stream(seed=3, documents=200)):
        tokens, classes = found[number]
        spoken = words.convert_ids_to_tokens(tokens)
        expected = [word if word in vocabulary else tokenization.UNKNOWN for word in document.text.split()]
        assert spoken == expected
        np.testing.assert_array_equal(classes, document.classes)
        unknown += expected.count(tokenization.UNKNOWN)
        total += len(expected)
    assert (rows.meta["tokens"], rows.meta["unknown"]) == (total, unknown) and unknown > 0


@pytest.mark.parametrize("vocabulary", [280, 500, 3000])
def test_the_class_of_a_token_is_that_of_the_word_in_which_it_ends(source, vocabulary):
    tokenizer = tokenization.train(source, "bpe", vocabulary)
    assert len(read(tokenizer)) <= vocabulary
    rows = tokenization.rows(source, tokenizer, 300)
    pieces, found, split_words = read(tokenizer), documents_of(rows), 0
    for number, document in enumerate(stories.stream(seed=3, documents=200)):
        tokens, classes = found[number]
        assert pieces.decode(tokens, clean_up_tokenization_spaces=False) == document.text
        label = np.full(len(document.text), -1)  # of every character; a space is in no word
        for word, of in zip(re.finditer(r"\S+", document.text), document.classes, strict=True):
            label[word.start() : word.end()] = of
        ends = np.cumsum([len(pieces.decode([token])) for token in tokens])
        np.testing.assert_array_equal(classes, label[ends - 1])
        split_words += len(tokens) > len(document.classes)
    assert split_words > 50


@pytest.mark.parametrize("context", [3, 8, 50])
def test_a_long_document_is_cut_without_loss(plain, context):
    tokenizer = tokenization.train(plain, "bpe", 300)
    rows = tokenization.rows(plain, tokenizer, context)
    pieces, found = read(tokenizer), documents_of(rows)
    full = [text for block in corpora.blocks(plain) for text in block.texts]
    assert len(rows.array("lengths")) > 20 * len(full) / context
    for number, text in enumerate(full):
        assert pieces.decode(found[number][0], clean_up_tokenization_spaces=False) == text
        assert (found[number][1] == -1).all()


@pytest.mark.parametrize(("kind", "context"), [("word", 9), ("word", 112), ("bpe", 9), ("bpe", 300)])
def test_a_row_is_one_document_opened_and_filled(source, kind, context):
    tokenizer = tokenization.train(source, kind, 500)
    rows, words = tokenization.rows(source, tokenizer, context), read(tokenizer)
    tokens, lengths, documents = (rows.array(name) for name in ("tokens", "lengths", "documents"))
    assert tokens.shape == rows.array("classes").shape == documents.shape == (rows.meta["rows"], context)
    assert (tokens.dtype, lengths.dtype, documents.dtype) == (np.int32, np.int32, np.int32)
    inside = np.arange(context) < lengths[:, None]
    np.testing.assert_array_equal(rows.array("places"), np.where(inside, np.arange(context), -1))
    assert (documents == documents[:, :1]).all()
    documents = documents[:, 0]
    assert lengths.min() >= 2 and lengths.max() <= context
    assert (tokens[:, 0] == words.bos_token_id).all()
    assert (tokens[~inside] == words.pad_token_id).all() and (rows.array("classes")[~inside] == -1).all()
    assert not np.isin(tokens[:, 1:][inside[:, 1:]], [words.bos_token_id, words.pad_token_id]).any()
    assert (np.diff(documents) >= 0).all()
    same = documents[1:] == documents[:-1]
    assert (lengths[:-1][same] == context).all()  # only the last row of a document is short
    np.testing.assert_array_equal(rows.array("split"), source.array("split")[documents])
    assert int((lengths - 1).sum()) == rows.meta["tokens"]


@pytest.mark.parametrize("context", [9, 64, 300])
def test_packed_rows_hold_the_same_documents_and_little_padding(source, context):
    tokenizer = tokenization.train(source, "bpe", 500)
    padded, packed = (tokenization.rows(source, tokenizer, context, pack) for pack in (False, True))
    padded_documents, packed_documents = documents_of(padded), documents_of(packed)
    assert sorted(padded_documents) == sorted(packed_documents) and packed.meta["tokens"] == padded.meta["tokens"]
    for number, arrays in padded_documents.items():
        for mine, yours in zip(arrays, packed_documents[number], strict=True):
            np.testing.assert_array_equal(mine, yours)
    lengths, places, tokens = (packed.array(name) for name in ("lengths", "places", "tokens"))
    assert sum(lengths < context - 1) <= 3  # the last row of each split; one place cannot hold an opening and a token
    assert packed.meta["rows"] < padded.meta["rows"]
    np.testing.assert_array_equal(places >= 0, np.arange(context) < lengths[:, None])
    np.testing.assert_array_equal(places == 0, (tokens == read(tokenizer).bos_token_id) & (places >= 0))
    # an opening stands where a row or a document begins, and nowhere else
    documents = packed.array("documents")
    begins = np.diff(documents, axis=1, prepend=-1) != 0
    np.testing.assert_array_equal(places == 0, begins & (places >= 0))
    counted = np.where(places > 0, np.roll(places, 1, axis=1) + 1, places)
    np.testing.assert_array_equal(places, counted)
    assert (source.array("split")[documents] == packed.array("split")[:, None]).all()


@pytest.mark.parametrize("packed", [False, True])
def test_the_size_of_blocks_does_not_matter(source, monkeypatch, tmp_path, packed):
    tokenizer = tokenization.train(source, "word", 500)
    full = tokenization.rows(source, tokenizer, 20, packed)
    monkeypatch.setattr(corpora, "BLOCK", 7)
    meta = tokenization.rows.__wrapped__(tmp_path, source, tokenizer, 20, packed)
    assert meta == full.meta
    for name in ("tokens", "classes", "lengths", "documents", "places", "split"):
        assert (tmp_path / f"{name}.npy").read_bytes() == (full.path / f"{name}.npy").read_bytes()


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_a_tokenizer_is_trained_on_training_documents_only(tmp_path, kind):
    """It does not know a word of the other splits."""
    secret = "zyxwvu"
    split = corpora.deal(40, [0.6, 0.2, 0.2], 0)
    lines = ["plain words here", f"{secret} {secret} {secret}"]
    (tmp_path / "x.txt").write_text("\n".join(lines[int(s > 0)] for s in split))
    spec = corpora.TextFiles(
        kind="text", path=str(tmp_path / "x.txt"), unit="line", context=8, shares=[0.6, 0.2, 0.2], split_seed=0
    )
    words = read(tokenization.train(corpora.text(spec), kind, 400))
    assert len(words.tokenize("plain words here")) == 3
    found = words.tokenize(secret)
    assert found == [tokenization.UNKNOWN] if kind == "word" else found == list(secret)


def test_training_twice_gives_the_same_files(source, tmp_path):
    for kind in ("word", "bpe"):
        trained = tokenization.train(source, kind, 400)
        (tmp_path / kind).mkdir()
        tokenization.train.__wrapped__(tmp_path / kind, source, kind, 400)
        for file in (tmp_path / kind).iterdir():
            assert file.read_bytes() == (trained.path / file.name).read_bytes()
        assert read(trained).pad_token_id == 0 and read(trained).bos_token_id == 1


def test_a_corpus_shorter_than_one_context_is_refused(tmp_path):
    (tmp_path / "x.txt").write_text("one two\nthree\nfour five")
    spec = corpora.TextFiles(
        kind="text", path=str(tmp_path / "x.txt"), unit="line", context=6, shares=[0.4, 0.3, 0.3], split_seed=0
    )
    source = corpora.text(spec)
    tokenizer = tokenization.train(source, "word", 100)
    with pytest.raises(ProfileError, match="corpus: 5 tokens in all, fewer than one context of 6"):
        tokenization.rows(source, tokenizer, 6)
    assert tokenization.rows(source, tokenizer, 5).meta["rows"] == 3


@pytest.mark.parametrize("lacking", ["bos_token", "pad_token"])
def test_a_tokenizer_without_special_tokens_is_refused(source, tmp_path, lacking):
    words = read(tokenization.train(source, "word", 400))
    setattr(words, lacking, None)
    with pytest.raises(ValueError, match="no beginning-of-sequence or padding token"):
        tokenization.write_rows(tmp_path, source, words, 20)


# --- special tokens in the text

MARKED = {
    "gpt2": ("<|endoftext|>", "<|endoftext|>{0}<|endoftext|> the fox ran {0}<|endoftext|>"),
    "llama": ("<s>", "<s>{0} the fox ran</s> {0}<s>"),
    "bert": ("[CLS]", "[CLS]{0} the [MASK] ran[SEP]{0}"),
    "toy": ("<bos>", "{0} <bos> the fox<pad> ran <unk> {0}"),
}


def tokenizer_with(kind: str, opening: str, extra: list[str], corpus: list[str]):
    """A new tokenizer; with `word`, unknown words become its unknown token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    names = list(dict.fromkeys([opening, "<pad>", "<unk>", *extra]))
    if kind == "word":
        raw, trainer = Tokenizer(models.WordLevel(unk_token="<unk>")), trainers.WordLevelTrainer(special_tokens=names)
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
    else:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        raw = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=names, initial_alphabet=alphabet)
        raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.train_from_iterator(corpus, trainer)
    raw.add_tokens([AddedToken("   ", normalized=False)])  # a run of spaces, as GPT-NeoX has them: text
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=opening, pad_token="<pad>", unk_token="<unk>")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["word", "bpe"])
@pytest.mark.parametrize("family", MARKED)
def test_special_tokens_in_the_text_are_masked_and_nothing_else(tmp_path, capsys, family, kind, packed):
    """Oracle: the same text without its special tokens has the same sites in the same order."""
    opening, form = MARKED[family]
    extra = ["</s>", "[SEP]", "[MASK]"]
    fillers = ["a   tale of  owls", "stone and water", "she <b>went</b> home", "why not", "xylophone zebra"]
    texts = [form.format(filler) for filler in fillers]
    words = tokenizer_with(kind, opening, extra, [*fillers[:4], "the fox ran"])  # the last filler has unknown words
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    spec = corpora.TextFiles(
        kind="text", path=str(tmp_path / "texts.txt"), unit="line", context=7, shares=[0.4, 0.3, 0.3], split_seed=0
    )
    meta = tokenization.write_rows(tmp_path, corpora.text(spec), words, 7, packed)
    tokens, places, documents = (np.load(tmp_path / f"{name}.npy") for name in ("tokens", "places", "documents"))
    names = {words.convert_tokens_to_ids(name): name for name in (opening, "<pad>", "<unk>", *extra)}
    for number, text in enumerate(texts):
        here = documents == number
        literal = sum(text.count(name) for name in names.values())
        assert (places[here] == tokenization.MASKED).sum() == literal > 0
        masked = {names[token] for token in tokens[here & (places == tokenization.MASKED)]}
        assert masked == {name for name in names.values() if name in text}
        plain = re.sub("|".join(map(re.escape, names.values())), "\0", text)
        parts = words.backend_tokenizer.encode_batch(plain.split("\0"), add_special_tokens=False)
        np.testing.assert_array_equal(tokens[here & (places > 0)], [token for part in parts for token in part.ids])
    assert meta["masked"] == (places == tokenization.MASKED).sum()
    if kind == "word":
        assert meta["unknown"] > 0  # unknown words are text, and stay
    assert f"{meta['masked']} of {meta['tokens']} tokens are special tokens" in capsys.readouterr().err


def test_no_site_is_at_a_special_token(tmp_path):
    from sae_utils.engine.saes import activations

    (tmp_path / "texts.txt").write_text("\n".join(f"the fox <bos> ran {n} <pad>" for n in range(9)))
    spec = corpora.TextFiles(
        kind="text", path=str(tmp_path / "texts.txt"), unit="line", context=6, shares=[0.4, 0.3, 0.3], split_seed=0
    )
    source = corpora.text(spec)
    tokenizer = tokenization.train(source, "word", 40)
    sites = activations.sites(tokenization.rows(source, tokenizer, 6), 1)
    roles = tokenization.special_tokens(read(tokenizer))
    unknown = read(tokenizer).unk_token_id  # numbers of the other splits
    assert set(sites.array("tokens")) & set(roles) <= {unknown}
    assert sites.meta["tokens"] == 4 * sites.meta["documents"]


# --- which rows are judged


def test_judged_rows_are_drawn_over_articles(tmp_path):
    """Articles have very different lengths; rows are spread over as many of them as possible."""
    for n in range(40):
        (tmp_path / f"{n:02}.txt").write_text("\n\n".join(f"word{n} " * (5 + 7 * (n % 9)) for _ in range(1 + n % 5)))
    spec = corpora.TextFiles(
        kind="text", path=str(tmp_path / "*.txt"), unit="paragraph", context=8, shares=[0.4, 0.3, 0.3], split_seed=0
    )
    source = corpora.text(spec)
    rows = tokenization.rows(source, tokenization.train(source, "word", 99), 8)
    article, chosen = rows.array("articles"), np.flatnonzero(rows.array("split") == 2)
    assert len(np.unique(article[chosen])) == 12
    have = np.bincount(article[chosen])
    for count in (1, 5, 12, 13, 30, len(chosen), len(chosen) + 9):
        found = tokenization.spread_rows(rows, chosen, count)
        np.testing.assert_array_equal(found, tokenization.spread_rows(rows, chosen, count))
        assert len(found) == min(count, len(chosen)) and (np.diff(found) > 0).all() and np.isin(found, chosen).all()
        drawn = np.bincount(article[found], minlength=len(have))
        level = drawn.max()
        assert (drawn >= np.minimum(have, level - 1)).all()  # no article has two more than another that has rows left
    few = tokenization.spread_rows(rows, chosen, 5)
    assert not np.array_equal(few, chosen[:5]) and article[few].max() > np.unique(article[chosen])[5]
