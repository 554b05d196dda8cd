"""Positions are shared ends of words, and codes there are those of the tokens of a word."""

import numpy as np
import pytest
from scipy import sparse
from transformers import AutoTokenizer

from sae_utils import matching, pipeline, profiles, replicates, store
from sae_utils.engine import tokens
from sae_utils.engine.saes import activations, aligned
from sae_utils.engine.text import alignment, corpora, tokenization
from sae_utils.studies.across_tokenizers import shared
from sae_utils.studies.layer_sweep import cells  # fmt: skip

STORIES = {"kind": "stories", "documents": 40, "context": 112, "shares": [0.4, 0.3, 0.3], "split_seed": 0}


@store.artefact
def planted(folder, sites, labels: list[int], width: int):
    """Codes in which every token fires the feature of its label, with activation 1 + its number modulo 3."""
    np.save(folder / "indices.npy", np.array(labels, np.int32))
    np.save(folder / "values.npy", (1 + np.arange(len(labels)) % 3).astype(np.float32))
    np.save(folder / "indptr.npy", np.arange(len(labels) + 1))
    return {"features": width, "sites": sites.key}


class Side:
    """One tokenization of the stories."""

    def __init__(self, source, kind: str, vocabulary: int, context: int = 112, skip: int = 1, packed=False) -> None:
        self.tokenizer = tokenization.train(source, kind, vocabulary)
        self.loaded = AutoTokenizer.from_pretrained(self.tokenizer.path, trust_remote_code=False)
        self.spans = alignment.spans(source, self.tokenizer)
        self.rows = tokenization.rows(source, self.tokenizer, context, packed)
        self.sites = activations.sites(self.rows, skip)

    def text(self, first: int, last: int) -> str:
        """The text of the sites from first to last."""
        tokens = self.sites.array("tokens")[first : last + 1]
        return self.loaded.decode(tokens, clean_up_tokenization_spaces=False).strip()


def stories(seed: int = 3):
    return corpora.text(corpora.Stories(seed=seed, **STORIES))


def placed(a: Side, b: Side, at: str = "words"):
    return aligned.positions(a.spans, b.spans, a.rows, b.rows, a.sites, b.sites, at)


@pytest.fixture
def words():
    return Side(stories(), "word", 4000)


@pytest.fixture
def pieces():
    return Side(stories(), "bpe", 400)


# --- positions


@pytest.mark.parametrize(("context", "packed"), [(40, False), (6, False), (40, True)])
def test_special_tokens_in_the_text_are_no_positions(tmp_path, context, packed):
    """All other positions are shared as without them."""
    lines = [f"<bos> the fox{n} ran <pad> home . <bos> an owl{n % 7} sang <bos>" for n in range(30)]
    (tmp_path / "texts.txt").write_text("\n".join(lines))
    spec = {"context": 40, "shares": STORIES["shares"], "split_seed": 0}
    source = corpora.text(corpora.TextFiles(kind="text", path=str(tmp_path / "texts.txt"), unit="line", **spec))
    a, b = Side(source, "word", 400, 40), Side(source, "bpe", 320, context, packed=packed)
    kept = placed(a, b)
    judged = int((source.array("split") > 0).sum())
    words = ["the", "ran", "home", ".", "an", "sang"]
    spelt = [a.text(int(i), int(i)) for i in kept.array("last_a")]
    assert {*spelt} <= {*words, *(f"fox{n}" for n in range(30)), *(f"owl{n}" for n in range(7)), "<unk>"}
    assert all(spelt.count(word) == judged for word in words) and len(spelt) == 8 * judged
    for first, last, word in zip(kept.array("first_b"), kept.array("last_b"), spelt, strict=True):
        assert word in ("<unk>", b.text(int(first), int(last)))


@pytest.mark.parametrize(
    ("context", "packed"),
    [(112, False), (9, False), (150, True)],
    ids=["whole documents", "documents in rows", "rows of documents"],
)
def test_the_sites_of_a_unit_spell_its_word(words, context, packed):
    other = Side(stories(), "bpe", 400, context, packed=packed)
    kept = placed(words, other)
    ranges = [kept.array(name) for name in ("first_a", "last_a", "first_b", "last_b")]
    words_in_vocabulary = 0
    for first_a, last_a, first_b, last_b in zip(*(x[:400] for x in ranges), strict=True):
        word = words.text(first_a, last_a)
        assert word in (other.text(first_b, last_b), tokenization.UNKNOWN)
        words_in_vocabulary += word != tokenization.UNKNOWN
    assert words_in_vocabulary > 200 and kept.meta["of_a"] == 1 and 0.2 < kept.meta["of_b"] < 1
    np.testing.assert_array_equal(kept.array("classes"), other.sites.array("classes")[kept.array("last_b")])
    for name in ("documents", "split"):
        np.testing.assert_array_equal(kept.array(name), words.sites.array(name)[kept.array("last_a")])
        np.testing.assert_array_equal(kept.array(name), other.sites.array(name)[kept.array("last_b")])
    assert kept.meta["pieces"] == kept.array("pieces").mean() == np.mean(kept.array("first_b") < kept.array("last_b"))


def test_the_share_of_rows_with_the_same_opening(words):
    """It is 1 for whole documents, and small for rows of 9 tokens."""
    assert placed(words, Side(stories(), "bpe", 400, 400)).meta["same_opening"] == 1
    short = Side(stories(), "bpe", 400, 9)
    assert placed(short, short, "ends").meta["same_opening"] == 1
    kept = placed(Side(stories(), "word", 4000, 9), short)
    documents, position = kept.array("documents"), kept.array("positions")
    opens = np.append(True, documents[1:] != documents[:-1])
    assert opens.sum() / len(documents) < kept.meta["same_opening"] < 0.5 and (position[opens] == 1).all()


def test_a_unit_with_a_masked_token_is_left_out(words):
    """A mask of the first two tokens of every row removes their units and no others."""
    unmasked, masked = (Side(stories(), "bpe", 400, 9, skip) for skip in (1, 3))
    every_unit, kept = placed(words, unmasked), placed(words, masked)
    seen = unmasked.sites.array("positions") >= 3
    ranges = zip(every_unit.array("first_b"), every_unit.array("last_b"), strict=True)
    expected = [bool(seen[first : last + 1].all()) for first, last in ranges]
    assert 0.3 < np.mean(expected) < 0.8
    np.testing.assert_array_equal(kept.array("last_a"), every_unit.array("last_a")[expected])
    numbers = np.cumsum(seen) - 1
    np.testing.assert_array_equal(kept.array("last_b"), numbers[every_unit.array("last_b")[expected]])
    np.testing.assert_array_equal(kept.array("first_b"), numbers[every_unit.array("first_b")[expected]])


def test_positions_that_are_all_masked_are_refused(words):
    with pytest.raises(ValueError, match=r"all of the \d+ shared positions are masked on one side: lower `skip`"):
        placed(words, Side(stories(), "bpe", 400, 9, 9))


def test_other_texts_are_refused(words):
    with pytest.raises(ValueError, match="of different texts: give both models one corpus"):
        placed(words, Side(stories(seed=4), "bpe", 400))


def test_rows_of_another_tokenizer_are_refused(words, pieces):
    with pytest.raises(ValueError, match=r"the rows hold \d+ tokens where the tokenizer gives \d+"):
        aligned.positions(words.spans, pieces.spans, words.rows, words.rows, words.sites, words.sites, "words")


# --- codes


def random_codes(seed: int, tokens: int = 60, width: int = 7) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.where(generator.random((tokens, width)) < 0.3, generator.normal(size=(tokens, width)), 0).astype(
        np.float32
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("how", aligned.AGGREGATIONS)
def test_aggregation_equals_that_of_dense_rows(how, seed):
    """Codes may be negative, and tokens may be in no unit."""
    codes = random_codes(seed)
    first = np.sort(np.random.default_rng(seed).choice(60, 20, replace=False))
    last = np.maximum(first, np.append(first[1:], 60) - 1 - np.arange(20) % 2)
    found = aligned.aggregate(sparse.csr_array(codes), first, last, how)
    take = {"last": lambda x: x[-1], "mean": lambda x: x.mean(axis=0), "max": lambda x: x.max(axis=0)}[how]
    expected = np.array([take(codes[i : j + 1]) for i, j in zip(first, last, strict=True)])
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6, atol=1e-6)
    assert found.dtype == np.float32 and found.has_sorted_indices and (last > first).any()


@pytest.mark.parametrize("how", aligned.AGGREGATIONS)
def test_units_of_one_token_keep_their_codes(how):
    codes = sparse.csr_array(random_codes(0))
    found = aligned.aggregate(codes, np.arange(60), np.arange(60), how)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found, name), getattr(codes, name))


@pytest.mark.parametrize("how", aligned.AGGREGATIONS)
def test_empty_codes_stay_empty(how):
    found = aligned.aggregate(sparse.csr_array((6, 3), dtype=np.float32), np.array([0, 2]), np.array([1, 5]), how)
    assert found.shape == (2, 3) and found.nnz == 0


def test_codes_do_not_depend_on_the_size_of_blocks(words, pieces, monkeypatch):
    kept = placed(words, pieces)
    codes = planted(pieces.sites, (np.arange(pieces.sites.meta["tokens"]) % 11).tolist(), 11)
    matrix = activations.matrix(codes)
    for how in aligned.AGGREGATIONS:
        monkeypatch.setattr(aligned, "BLOCK", 7)
        found = activations.matrix(aligned.aggregated(codes, kept, "b", how))
        expected = aligned.aggregate(matrix, kept.array("first_b"), kept.array("last_b"), how)
        np.testing.assert_array_equal(found.toarray(), expected.toarray())


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(ValueError, match="how = 'sum': one of last, mean, max"):
        aligned.aggregate(sparse.csr_array((1, 1)), np.array([0]), np.array([0]), "sum")  # type: ignore[arg-type]


def test_codes_of_other_sites_are_refused(words, pieces):
    codes = planted(words.sites, [0] * words.sites.meta["tokens"], 1)
    with pytest.raises(ValueError, match="not over the sites of side b"):
        aligned.aggregated(codes, placed(words, pieces), "b", "last")


# --- what follows is unchanged


@pytest.mark.parametrize("how", aligned.AGGREGATIONS)
def test_features_of_the_same_class_are_paired_across_tokenizers(words, pieces, how):
    """A feature fires on every token of the words of its class; B has another order of features."""
    order = np.random.default_rng(0).permutation(1 + max(words.sites.array("classes")))
    kept, features = placed(words, pieces), []
    for side, numbering, name in ((words, np.arange(len(order)), "a"), (pieces, order, "b")):
        classes = np.asarray(side.sites.array("classes"))
        codes = planted(side.sites, np.append(numbering, len(order))[classes].tolist(), len(order) + 1)
        stored = aligned.aggregated(codes, kept, name, how)
        features.append(pipeline.Features(activations.matrix(stored), np.empty((0, 0)), kept, stored))
    both = pipeline.correlated(*features, 5)
    pairs = matching.mutual(both.found)
    live = both.found.a.live[:-1]
    assert live.sum() > 10
    for i in np.flatnonzero(live):
        assert pairs.b[pairs.a == i].tolist() == [order[i]]
    assert np.nanmin(both.held_out(pairs)) > 0.3


@pytest.mark.parametrize("how", aligned.AGGREGATIONS)
def test_alignment_changes_nothing_for_one_tokenizer(world, how):
    """Codes, pairs and scores are those without alignment."""
    kept = pipeline.align(world, "one_layer", "two_layer", "ends")
    where = shared.Place(None, kept)
    assert (kept.meta["of_a"], kept.meta["of_b"], kept.meta["pieces"], kept.meta["same_opening"]) == (1, 1, 0, 1)
    plain = [pipeline.features(world, name) for name in ("one_layer", "two_layer")]
    found = [shared.features(world, name, where, how) for name in ("one_layer", "two_layer")]
    for one, two in zip(plain, found, strict=True):
        for name in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(one.codes, name), getattr(two.codes, name))
        for name in ("tokens", "documents", "classes", "split", "positions", "rows"):
            np.testing.assert_array_equal(one.sites.array(name), two.sites.array(name))
        np.testing.assert_array_equal(one.decoder, two.decoder)
    matched = [cells.matched(a.kept, b.kept, a.sites, 8, 0.5) for a, b in (plain, found)]
    assert matched[0].meta == matched[1].meta and matched[0].meta["pairs"] > 0
    np.testing.assert_array_equal(matched[0].array("b"), matched[1].array("b"))


def test_a_dictionary_of_other_tokens_is_refused(world, words, pieces):
    with pytest.raises(ValueError, match="one_layer reads other tokens than the two models that were aligned"):
        shared.features(world, "one_layer", shared.Place(None, placed(words, pieces)), "last")


# --- replicates


def test_a_text_is_cut_as_the_stored_spans_are(pieces):
    """The first judged document."""
    source = stories()
    number = int(np.flatnonzero(source.array("split") > 0)[0])
    found = shared.cut(next(corpora.blocks(source)).texts[number], pieces.tokenizer)
    own = pieces.spans.array("documents") == number
    np.testing.assert_array_equal(found.ends, pieces.spans.array("ends")[own])
    np.testing.assert_array_equal(found.word_ends, pieces.spans.array("word_ends")[own])


def test_every_replicate_of_a_comparison_is_named():
    """A plain name is part of each; a missing twin stays missing."""
    found = shared.compared(profiles.load("smoke"), [["one_layer", "bpe", "two_layer_block0", ""]])
    assert [x[1:] for x in found] == [(f"one_layer_{n}", "bpe", f"two_layer_block0_{n}", "") for n in (0, 1)]
    one = found[0]
    assert one.pair("mean") == ("one_layer_0", "bpe") and one.pair(shared.ONE)[1] == "two_layer_block0_0"
    twin = one._replace(negative="random_0")
    assert twin.pair("mean") == ("bpe", "one_layer_0", "random_0")


def test_both_arms_are_those_of_one_tokenizer_where_nothing_is_in_pieces(world):
    names = ("one_layer", "two_layer")
    where = shared.places(world, *names, "words", exchange=True)
    assert [x.exchanged for x in where] == [None, replicates.seed(world, "one_layer")]
    assert where[0].positions.meta["tokens"] == where[1].positions.meta["tokens"]
    own = tuple(replicates.side([shared.features(world, name, x, "mean") for x in where]) for name in names)
    found = replicates.scored(own, replicates.match_all(own, 5), ["rsa_spearman"])
    expected = replicates.arms(world, names, ["rsa_spearman"], 5)
    assert found.n == expected.n and found.true == pytest.approx(expected.true, nan_ok=True)
    assert found.control == pytest.approx(expected.control, nan_ok=True)


def test_exchanged_stories_are_the_same_tokens_in_text_and_in_rows(world):
    """A model of words reads exchanged rows, a model of pieces the text of the scrambled world."""
    plain = pipeline.read_rows(world, "one_layer", None)
    exchanged = pipeline.read_rows(world, "one_layer", 3)
    text = pipeline.rows(world, "one_layer", tokens.read_corpus(world, 3))
    np.testing.assert_array_equal(exchanged.array("tokens"), text.array("tokens"))
    assert (exchanged.array("tokens") != plain.array("tokens")).mean() > 0.1
