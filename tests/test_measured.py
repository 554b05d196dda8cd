"""Both arms of small planted replicates, held against matchings and correlations that are written out."""

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from sae_utils import measures, pipeline, replicates
from sae_utils.engine.text import corpora
from sae_utils.pipeline import Features
from sae_utils.studies.controls import accounts, measured, partners, reading, scores
from sae_utils.studies.controls.partners import Cell

ASKED = measures.chosen(["rsa_spearman", "mutual_knn"], 3)
SETTINGS = measured.Settings(ASKED, 0.5, 3, 2, 4, 2, [0.2, 2.0], [0.3], 5)
TOKENS, CHOOSE, JUDGE, WORDS = 2000, "matching", "held_out", 30


class Sites:
    """Half of the tokens choose and half judge; every second token is a content word."""

    def __init__(self, tokens):
        split = np.repeat([corpora.SPLITS.index(CHOOSE), corpora.SPLITS.index(JUDGE)], TOKENS // 2)
        classes = np.where(tokens % 2, -1, 0)
        self.arrays = {"tokens": tokens, "split": split, "classes": classes, "rows": np.arange(TOKENS) // 20}
        self.key = "sites"

    def array(self, name):
        return self.arrays[name]


def dictionary(seed, tokens, decoder, noise):
    """A dictionary whose feature f fires on word f, and now and then elsewhere; `tokens` of each of its readings."""
    generator = np.random.default_rng(seed)
    codes = []
    for read in tokens:
        fires = (read[:, None] == np.arange(WORDS)) | (generator.random((TOKENS, WORDS)) < noise)
        values = sparse.csr_array((fires * (1 + generator.random(fires.shape))).astype(np.float32))
        codes.append(Features(values, decoder, Sites(read), None))
    return codes


@pytest.fixture
def read(monkeypatch):
    """The text and the exchanged text, read by A, by B which shares words and geometry, by a twin with other rows."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, WORDS, TOKENS)
    exchanged = np.where(tokens % 2, tokens, (tokens + WORDS // 2 - 1) % WORDS // 2 * 2)
    rows, other = generator.normal(size=(2, WORDS, 8)).astype(np.float32)
    both = [tokens, exchanged]
    near = rows + 0.3 * generator.normal(size=rows.shape).astype(np.float32)
    made = {"a": dictionary(1, both, rows, 0.01), "b": dictionary(2, both, near, 0.01),
            "twin": dictionary(3, both, other, 0.05)}  # fmt: skip
    monkeypatch.setattr(pipeline, "features", lambda run, name, exchanged=None: made[name][exchanged is not None])
    monkeypatch.setattr(replicates, "seed", lambda run, name: 7)
    return made


def by_hand(own, other, read, measure):
    """Mean excess, n, held-out r and share of counterparts of A's content features over both roles of the halves."""
    found = []
    codes, theirs = own[0].codes.toarray(), other[read].codes.toarray()
    half = np.arange(TOKENS) < TOKENS // 2
    for choose in (half, ~half):
        content = own[0].sites.array("classes")[choose] >= 0
        mass, total = codes[choose][content].sum(0), codes[choose].sum(0)
        features = np.flatnonzero((mass > 0.8 * total) & ((codes[choose] > 0).sum(0) >= SETTINGS.minimum))
        r = np.corrcoef(codes[choose].T, theirs[choose].T)[:WORDS, WORDS:]
        _, partner = linear_sum_assignment(-r[features])
        held = np.corrcoef(codes[~choose].T, theirs[~choose].T)[:WORDS, WORDS:][features, partner]
        score = scores.excess((own[0].decoder[features], other[0].decoder[partner]), measure)
        found.append((score, len(features), held.mean(), np.mean(held >= SETTINGS.counterpart)))
    return np.mean(found, axis=0)


def test_every_comparison_of_a_dictionary_is_over_the_same_features(read):
    cells = [Cell(partners.DEPTH, 0, "a", "b"), Cell(partners.EXCHANGED, 0, "a", "b", True), Cell("t", 0, "a", "twin")]
    found = reading.arms(None, cells, SETTINGS)
    assert list(found) == cells and len({arm.n for arm in found.values()}) == 1
    for cell, reading_of_b in zip(cells, (0, 1, 0), strict=True):
        arm = found[cell]
        for name, measure in ASKED.items():
            expected = by_hand(read["a"], read[cell.b], reading_of_b, measure)
            values = [arm.excess[name], arm.n, arm.r, arm.share]
            assert values == pytest.approx(expected, abs=1e-5), cell
    true, control, twin = (arm.excess["rsa_spearman"] for arm in found.values())
    assert true > 0.7 and abs(control) < 0.4 and abs(twin) < 0.4
    assert reading.by_dictionary(cells) == {(0, "a"): cells}


@pytest.fixture
def views(read, monkeypatch):
    """Both arms as the notebook reads them."""

    class Reader:
        model = None

    monkeypatch.setattr(pipeline, "reader", lambda run, name: Reader)
    monkeypatch.setattr(
        reading, "embeddings", lambda run, names: [np.random.default_rng(5).normal(size=(WORDS, 6))] * 2
    )
    return reading.views(None, ("a", "b"), SETTINGS)


def test_the_views_are_the_arms_of_the_replicate(views):
    true, control = views
    assert len(true) == len(control) == 4
    assert all((x.left == y.left).all() for x, y in zip(true, control, strict=True))
    found = measured.beside(true, control, SETTINGS)
    every = found.selections[measured.EVERY]
    arms = replicates.arms(None, ("a", "b"), ["rsa_spearman"], SETTINGS.minimum)
    assert every.true == pytest.approx(arms.true["rsa_spearman"])
    assert every.control == pytest.approx(arms.control["rsa_spearman"])
    assert found.true["co-firing"].raw == pytest.approx(arms.true["rsa_spearman"])
    for x in true:  # the correlations of all features hold those of the pairs
        assert x.judged[x.left, x.right] == pytest.approx(x.held_out)


def test_a_summary_holds_means_over_views(views):
    true, control = views
    found = measured.beside(true, control, SETTINGS)
    assert list(found.selections) == [
        measured.EVERY, "no top token in common", "alike in r and firings", "r from 0.3"
    ]  # fmt: skip
    assert found.by_firings == pytest.approx(np.mean([scores.by_firings(view, 0.5) for view in true]))
    assert 0 <= found.in_strata < np.mean([accounts.share(view.held_out, 0.5) for view in true])
    assert set(found.true) == {
        "token embeddings", "co-occurrence of words", "firing frequency", "co-firing", scores.ALL
    }  # fmt: skip
    assert SETTINGS.primary.name == "rsa_spearman"


def test_words_that_stand_together_are_near():
    tokens = np.repeat(np.arange(TOKENS // 20) % 2 * 15, 20) + np.random.default_rng(0).integers(0, 15, TOKENS)
    found = reading.cooccurrence(Sites(tokens), WORDS, SETTINGS._replace(size=2))
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosine = unit @ unit.T  # which the signs of singular vectors do not change
    assert found.shape == (WORDS, 2) and cosine[:15, :15].min() > 0.8 and np.abs(cosine[:15, 15:]).max() < 0.2


def test_embeddings_are_those_of_the_model(world):
    from safetensors.numpy import load_file

    made = pipeline.model(world, "two_layer")
    weights = load_file(made.path / "model.safetensors")
    (name,) = [name for name in weights if name.endswith("embed_in.weight")]
    assert (reading.token_embeddings(made) == weights[name]).all()
