"""Ordered words: their vectors, the words that are left out, and a planted circle that both models hold."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from sae_utils.engine.text import corpora
from sae_utils.studies.geometry import items, shapes
from sae_utils.studies.geometry.items import Concept, Read

N, D, OTHERS = 12, 16, 60


def read(a, b, exchanged=None):
    words = tuple(f"w{number:02}" for number in range(len(a)))
    return Read(words, np.full(len(a), 30), a, b, exchanged)


def planted(rng, noise=0.1):
    """Words of which the first twelve lie on a circle in both models, where the others lie anywhere."""

    def rows():
        return np.vstack([shapes.draw("circle", N, D, noise, rng), rng.normal(size=(OTHERS, D)) / np.sqrt(D)])

    return read(rows(), rows(), rng.normal(size=(N + OTHERS, D)))


MONTHS = Concept(np.arange(N), (), np.arange(N) // 3)


def test_the_vector_of_a_word_is_the_mean_of_what_features_write_there():
    rng = np.random.default_rng(0)
    codes, decoder = sparse.random(50, 8, 0.4, "csr", random_state=rng), rng.normal(size=(8, 5))
    of = rng.integers(-1, 4, 50)
    count = np.bincount(of[of >= 0], minlength=5)
    found = items.means(sparse.csr_array(codes), of, count, decoder)
    for word in range(4):
        assert found[word] == pytest.approx(codes.toarray()[of == word].mean(0) @ decoder)
    assert (found[4] == 0).all()  # it never occurs


def test_rare_words_are_named_and_left_out():
    run = SimpleNamespace(corpus=None)
    text = read(np.zeros((4, 2)), np.zeros((4, 2)))._replace(occurs=np.array([30, 5, 30, 30]))
    found = items.concept(run, ["W00", "w01", "w02", "absent"], text, 10)
    assert found.items.tolist() == [0, 2] and found.rare == ("w01", "absent") and not found.tested
    assert found.lists is None and items.measured(text, found, 19, 0) is None


def test_lists_are_those_of_the_stories():
    run = SimpleNamespace(corpus=corpora.Stories.model_construct())
    found = items.lists(run, ["december", "january", "march", "february"])
    assert found[0] == found[1] == found[3] != found[2]
    assert items.lists(run, ["december", "zyx"]) is None


def test_a_circle_in_both_models_is_found_and_alike_and_its_control_is_not():
    found = items.measured(planted(np.random.default_rng(0)), MONTHS, 99, 0)
    for model in "AB":
        assert all(x.p <= 0.02 and x.excess > 0.5 for x in found.random[model].values())
        assert found.within[model]["agreement"].p <= 0.05
    assert found.alike.excess > 0.7 and found.alike.p <= 0.02 and abs(found.control) < 0.4


def test_random_words_are_in_no_order():
    rng, p = np.random.default_rng(1), []
    for seed in range(60):
        text = read(*(rng.normal(size=(N + OTHERS, D)) for _ in "ab"))
        p.append(items.measured(text, MONTHS, 39, seed).random["A"]["agreement"].p)
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_random_words_occur_about_as_often():
    text = read(np.zeros((6, 2)), np.zeros((6, 2)))._replace(occurs=np.array([20, 20, 10, 40, 9, 41]))
    assert items.pool(text, np.array([0, 1])).tolist() == [2, 3]


def test_tables_hold_means_over_models_and_replicates():
    text = planted(np.random.default_rng(0))
    frame = items.frame({"months": items.measured(text, MONTHS, 19, 0)}).assign(replicate=0)
    assert frame.model.tolist() == ["A", "B"] and (frame.n == N).all()
    both = items.by_concept(frame)
    assert both.order[0] == pytest.approx(frame.order.mean()) and len(both) == 1
    summary = items.summary(frame)
    assert summary["below .05"].tolist() == ["1 of 1"] * 2 and summary.agreement[0] == frame.agreement[0]
    empty = items.frame({}).assign(replicate=0)
    assert len(items.summary(empty)) == len(items.by_concept(empty)) == 0


def test_features_about_a_concept_are_counted():
    """Of three features one fires on one word, one on all words of the concept, one elsewhere too."""
    of = np.repeat([0, 1, 2], 10)
    codes = np.zeros((30, 3))
    codes[:10, 0], codes[:20, 1], codes[:, 2] = 1, 1, 1
    found = items.features_about(sparse.csr_array(codes), of, np.array([0, 1]), 0.7, 5)
    assert found == (2, 1)
