"""Steering transfer between planted models: logits are a linear map of activations, whose classes are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sae_utils.engine.text.words import Words
from sae_utils.studies.function import carrying, places, scoring, transfer, transferred
from sae_utils.studies.function.carrying import CONTROL, SHUFFLED, TRUE
from sae_utils.studies.function.targets import Concept, Target
from sae_utils.studies.semantic_subspaces import concepts

D, CLASSES, EACH, PLACES = 8, 6, 3, 3000
WORDS = [f"{letter}{i}" for letter in "abcdef" for i in range(EACH)]  # three words of each class
HOW = carrying.Labelling(0.5, 1)


def target(letter):
    own = frozenset(word for word in WORDS if word[0] == letter)
    return Target(letter, Concept(own, own, own), None)


GROUP = target("a"), target("b")


class Planted:
    """Words in random order; the activation is that of the word with noise, and promotes words of its class."""

    def __init__(self, seed=0, turn=None):
        rng = np.random.default_rng(seed)
        classes = rng.standard_normal((CLASSES, D))
        self.of_word = np.repeat(classes, EACH, 0) + 0.3 * rng.standard_normal((len(WORDS), D))
        self.at = rng.integers(len(WORDS), size=PLACES)
        self.x = self.of_word[self.at] + 0.3 * rng.standard_normal((PLACES, D))
        self.u = np.repeat(classes, EACH, 0).T  # (d, words)
        if turn is not None:
            self.x, self.u, self.of_word = self.x @ turn, turn.T @ self.u, self.of_word @ turn

    def read(self):
        part = np.arange(PLACES) * 3 // PLACES
        articles, rows = np.arange(PLACES) // 20, np.arange(PLACES) // 20
        following = places.following(self.at, rows, articles)
        return places.Read(
            None, None, np.arange(PLACES), Words(tuple(WORDS), self.at), following, articles, articles, part
        )  # fmt: skip

    def side(self, control=False):
        read = self.read()
        fitted, mean = np.flatnonzero(read.part == 0), np.flatnonzero(read.part == 1)
        readings, x = (read,), (self.x[fitted],)
        if control:  # each word in the place of another
            other = np.roll(np.arange(len(WORDS)), 7)[self.at]
            again = read._replace(
                words=read.words._replace(of=other), next=places.following(other, read.documents, read.documents)
            )
            readings, x = (read, again), (self.x[fitted], self.of_word[other][fitted])
        decoder = self.of_word / np.linalg.norm(self.of_word, axis=1, keepdims=True)
        codes = np.eye(len(WORDS))[self.at]  # a feature a word
        found = concepts.evidence(codes, read.words, read.documents, read.part == 1)
        texts = [f" {word}" for word in WORDS]
        weight = torch.from_numpy(self.u.T.astype(np.float32))
        network = SimpleNamespace(get_output_embeddings=lambda: SimpleNamespace(weight=weight))
        bridge = SimpleNamespace(original_model=network, tokenizer=texts)
        return carrying.Side(readings, bridge, x, self.x[mean], decoder, found), carrying.Chosen(fitted, mean)


class Resumed:
    """The planted model at some places, as `acting` reads it."""

    def __init__(self, model, at):
        self.values = torch.from_numpy(model.x[at].astype(np.float32))[:, None]
        self.u = torch.from_numpy(model.u.astype(np.float32))
        self.clean = self.log_probabilities(None, self.values)

    def log_probabilities(self, _, values):
        return (values[:, 0] @ self.u).log_softmax(-1)


@pytest.fixture
def compared(monkeypatch):
    """Transfer from one planted model to another by kind of vector and map."""

    def compare(a, b, control=False):
        monkeypatch.setattr(transfer, "resumed", lambda side, at: (Resumed(b, at), side.readings[0].next[at]))
        monkeypatch.setattr(transfer, "token_texts", lambda texts: [text.encode() for text in texts])
        monkeypatch.setattr(transfer.targets, "exchanged", lambda words, seed: words)
        (one, at), (two, _) = a.side(control), b.side(control)
        plan = transfer.Plan([GROUP], {}, {"calibration": 60, "judge": 200}, [0.1, 0.3, 1, 3], 0.2, HOW, 1e-8)
        return transfer.group_of(one, two, at, GROUP, plan, 0 if control else None, [0])

    return compare


def test_identical_models_give_transfer_1(compared):
    frame = compared(Planted(), Planted())
    for kind in carrying.KINDS:
        found = transferred.transfer(transferred.compared(frame, kind, "affine"))
        assert not found.undefined and found.above.estimate > 1
        assert found.true.estimate == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("way", carrying.MAPS)
def test_a_rotated_copy_gives_1_through_the_fitted_map(compared, way):
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((D, D)))[0]
    frame = compared(Planted(turn=turn), Planted())
    found = transferred.transfer(transferred.compared(frame, "means", way))
    assert found.true.estimate == pytest.approx(1, abs=0.02)
    assert abs(transferred.transfer(transferred.compared(frame, "means", SHUFFLED)).true.estimate) < 0.8


def test_without_corresponding_words_less_is_carried(compared):
    frame = compared(Planted(), Planted(), control=True)
    found = transferred.transfer(transferred.compared(frame, "means", "affine"))
    assert found.true.estimate == pytest.approx(1, abs=0.02) and found.control.estimate < 0.6
    assert found.difference.low > 0


def test_vectors_are_compared_at_one_divergence_and_nothing_changes_nothing(compared):
    frame = compared(Planted(), Planted())
    nothing = frame[frame.way == transfer.NOTHING]
    assert (nothing.rise == 0).all() and nothing.kl.abs().max() < 1e-6
    reached = frame[frame.way != transfer.NOTHING].groupby(["vector", "kind", "way"]).kl.mean()
    assert reached.between(0.1, 0.4).all()


def test_the_left_out_class_does_not_enter_the_fit():
    a, b = Planted(), Planted(seed=1)
    (one, at), (two, _) = a.side(), b.side()
    left_out = target("a").left_out
    near = one.readings[0].about(left_out) | two.readings[0].about(left_out)
    changed = two._replace(fitted=(np.where(near[at.fitted][:, None], 1e6, two.fitted[0]),))
    before, after = (carrying.fit(one, x, at.fitted, left_out, 0.1, 0) for x in (two, changed))
    assert near.any() and all(np.array_equal(before[key].weights, after[key].weights) for key in before)


def test_a_place_is_near_a_word_that_ends_there_or_comes_next():
    read = Planted().read()
    near = read.about(["a0"])
    assert near.tolist() == ((read.words.of == 0) | (read.next == 0)).tolist()


def test_the_next_word_stays_in_its_row_and_document():
    of, rows, documents = (np.array(x) for x in ([0, -1, 2, 3, 4], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]))
    assert places.following(of, rows, documents).tolist() == [2, 2, -1, -1, -1]


def test_the_three_sets_share_no_article():
    articles = np.repeat(np.arange(10), 4)
    found = places.parts(articles < 4, articles)
    assert [set(articles[found == part]) for part in range(3)] == [{0, 1, 2, 3}, {4, 5, 6}, {7, 8, 9}]


def test_matched_strengths_lie_between_those_of_the_grid():
    kl = np.array([[0.01, 0.04, 0.16], [1.0, 2.0, 3.0], [0.001, 0.002, 0.003]])
    found = scoring.matched(kl, [1.0, 2.0, 4.0], 0.08)
    assert found == pytest.approx([2 * np.sqrt(2), 1.0, 4.0])  # of a square law; the ends of the grid


def test_divergence_and_total_agree_with_plain_numpy():
    p, q = (np.random.default_rng(i).dirichlet(np.ones(7), size=3) for i in (0, 1))
    found = scoring.divergence(*(torch.from_numpy(np.log(x)) for x in (p, q)))
    np.testing.assert_allclose(found, (p * np.log(p / q)).sum(1))
    total = scoring.log_total(torch.from_numpy(np.log(p)), torch.tensor([1, 4]))
    np.testing.assert_allclose(total, np.log(p[:, [1, 4]].sum(1)))


def test_a_denominator_whose_interval_holds_0_is_undefined(compared):
    frame = compared(Planted(), Planted())
    rng = np.random.default_rng(0)
    noise = transferred.compared(frame, "means", "affine").assign(own=lambda x: x.placebo + rng.normal(size=len(x)))
    found = transferred.transfer(noise)
    assert found.undefined and np.isnan(found.true.estimate) and np.isfinite(found.above.low)


def test_tokens_of_words_are_whole_words_in_any_case():
    assert transfer.tokens_of(frozenset(["fox"]), [b" Fox", b"fox", b" foxes", b" fox"]).tolist() == [0, 3]
    assert not len(transfer.tokens_of(frozenset(["owl"]), [b" fox"]))


def test_words_that_are_no_tokens_have_no_rise():
    sets = transfer.Sets(
        [torch.tensor([1]), torch.tensor([], dtype=torch.long)], {("x", TRUE): (0, None), ("y", TRUE): (0, 1)}
    )
    total = np.zeros((2, 3, 4))
    assert not np.isnan(sets.rise(total, "x", TRUE)).any() and np.isnan(sets.rise(total, "y", TRUE)).all()


def test_arms_pair_readings_straight_or_crosswise():
    assert carrying.correspondences(2, TRUE) == [(0, 0), (1, 1)] and carrying.correspondences(2, CONTROL) == [
        (0, 1),
        (1, 0),
    ]
