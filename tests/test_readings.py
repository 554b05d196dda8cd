"""Two sides read in two arms: correlations against numpy, shares and topics against plain counting."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils import replicates
from sae_utils.engine.text import corpora
from sae_utils.studies.sensitivity import choices, readings

PLACES = 4000  # tokens of a reading; documents of 50 tokens belong to the splits and to three topics in turn
DOCUMENT = np.arange(PLACES) // 50
SPLIT, TOPICS = DOCUMENT // 10 % 2, np.arange(80) % 3


SITES = {"split": np.array([corpora.SPLITS.index(split) for split in readings.SPLITS])[SPLIT], "documents": DOCUMENT}
BY_SPLIT = {split: TOPICS[DOCUMENT[number == SPLIT]] for number, split in enumerate(readings.SPLITS)}


class Sites:
    """As an artefact of sites."""

    def array(self, name):
        return SITES[name]


def side(decoder, codes):
    """As `replicates.side`; every second token has a class."""
    cut = [(split, number == SPLIT) for number, split in enumerate(readings.SPLITS)]
    classes = np.where(np.arange(PLACES) % 2, 3, -1)
    blocks = {split: [sparse.csr_array(x[on]) for x in codes] for split, on in cut}
    return replicates.Side(decoder, blocks, {split: [classes[on]] * 2 for split, on in cut})


@pytest.fixture(scope="module")
def sides():
    """12 features; B is A with noise in both readings, which are unrelated. The first 8 fire on words with a class."""
    generator = np.random.default_rng(0)
    readings_of_a, readings_of_b = [], []
    for _ in "tp":
        a = generator.random((PLACES, 12)) * (generator.random((PLACES, 12)) < 0.2)
        a[::2, :8] = 0
        readings_of_a.append(a)
        readings_of_b.append(np.where(generator.random((PLACES, 12)) < 0.02, generator.random((PLACES, 12)), a))
    rows = generator.normal(size=(2, 12, 5))
    return tuple(map(side, rows, (readings_of_a, readings_of_b)))


def dense(side, split):
    return [block.toarray() for block in side.blocks[readings.SPLITS[split]]]


def by_numpy(sides, split, exchanged=False, on=slice(None)):
    a, b = ([x[on] for x in dense(side, split)] for side in sides)
    return np.corrcoef(np.vstack(a).T, np.vstack(b[::-1] if exchanged else b).T)[:12, 12:]


def test_views_hold_both_arms_both_roles_and_both_halves(sides):
    for place, view in enumerate(readings.views(sides)):
        split, role = divmod(place, 2)
        arms = [by_numpy(sides, split, exchanged) for exchanged in (False, True)]
        np.testing.assert_allclose(view.r, [x.T if role else x for x in arms], atol=1e-6)
        firings = sum((x > 0).sum(axis=0) for x in dense(sides[role], split))
        np.testing.assert_array_equal(view.firings, firings)
        assert view.rows is sides[role].decoder and view.others is sides[1 - role].decoder
        assert view.content[:8].all() and not view.content[8:].any()


@pytest.mark.parametrize("content", [True, False])
def test_share_curves_are_plain_counts(sides, content):
    thresholds = [0.0, 0.5, 0.8]
    found = readings.share_curves(readings.views(sides), thresholds, content=content)
    by_hand = np.zeros((3, 4, 3))
    for place, view in enumerate(readings.views(sides)):
        split, role = divmod(place, 2)
        others = sum((x > 0).sum(axis=0) for x in dense(sides[1 - role], split))
        near = abs(np.log(view.firings)[:, None] - np.log(others)).argmin(axis=1)
        for kind, exchanged in enumerate((False, True, False)):
            r, of = (by_numpy(sides, part, exchanged) for part in (split, 1 - split))
            r, of = (r.T, of.T) if role else (r, of)
            partner = near if kind == 2 else r.argmax(axis=1)
            values = of[np.arange(12), partner][: 8 if content else 12]
            by_hand[kind, place] = [np.mean(values >= r0) for r0 in thresholds]
    np.testing.assert_allclose(found, by_hand.mean(axis=1))
    assert found[0, 1] == 1 and found[1, 1] == 0


def test_partners_are_judged_by_the_other_documents_in_both_roles():
    choose = np.array([[0.9, 0.1, 0.3], [0.2, 0.1, 0.8]])
    judge = np.array([[0.6, 0.9, 0.2], [0.9, np.nan, 0.4]])
    found = readings.judged(choose, judge, 0.5)
    to_b, to_a = [0.6, 0.4], [0.6, 0.9, 0.4]  # the second of B ties, and takes the first of A
    assert found.r == pytest.approx((np.mean(to_b) + np.mean(to_a)) / 2)
    assert found.share == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_topics_belong_to_the_documents_of_the_tokens():
    found = readings.topics_of(Sites(), TOPICS)
    assert all((found[split] == of).all() for split, of in BY_SPLIT.items())


def test_topics_apart_choose_and_judge_on_their_own_documents(sides):
    groups = [[0], [1, 2]]
    found = readings.apart(sides, BY_SPLIT, groups, 0.5)

    def on(split, group):
        return by_numpy(sides, split, on=np.isin(BY_SPLIT[readings.SPLITS[split]], groups[group]))

    for name, other in (("the same topics", 0), ("other topics", 1)):
        values = [
            readings.judged(on(split, group), on(1 - split, group ^ other), 0.5) for split in (0, 1) for group in (0, 1)
        ]
        assert found[name] == pytest.approx(np.mean(values, axis=0).tolist(), abs=1e-6)


def test_a_replicate_is_measured_by_all_of_these(sides):
    base = choices.Choice(measure="rsa_spearman", minimum_firings=5)
    found = readings.measure(sides, [base], [0.0, 0.5], BY_SPLIT, [[0], [1, 2]], subsets=2, seed=0)
    assert set(found.differences) == {base} and found.shares.shape == (2, 3, 2)
    np.testing.assert_array_equal(
        found.shares[1], readings.share_curves(readings.views(sides), [0.0, 0.5], content=True)
    )
    assert found.topics == readings.apart(sides, BY_SPLIT, [[0], [1, 2]], 0.5)
