"""The ladder over replicates: the gap of two arms is told from what both share, and the control is the reading."""

import numpy as np
import pytest

from sae_utils import matching
from sae_utils.studies.published_tables import arms, ladder, views
from sae_utils.studies.published_tables.ladder import RSA, STEPS, Rung, Score

N = 20


def rungs(shift: float, noise: np.ndarray) -> list[Rung]:
    """A fake ladder whose RSA is `shift` at every step, with noise; the null mean is 0.1, so that excess is less."""
    none = np.zeros(N, np.int8)
    pairs = matching.Pairs(np.arange(N), np.arange(N), np.full(N, 0.5, np.float32), none, none)
    value = {step: shift + x for step, x in zip(STEPS, noise, strict=True)}
    scores = {step: Score(value[step], 0.1, 0.0, 0.2, 0.01) for step in STEPS}
    scores = {step: ladder.excess(x) if ladder.LADDER[step].excess else x for step, x in scores.items()}
    return [Rung(step, pairs, {RSA: x}, hub=3, unique=0.5) for step, x in scores.items()]


def frame(true: float, control: float, replicates: int = 8):
    noise = np.random.default_rng(0).normal(scale=0.02, size=(replicates, 2, len(STEPS)))
    found = [{arms.TRUE: rungs(true, x[0]), arms.CONTROL: rungs(control, x[1])} for x in noise]
    return arms.frame(found)


@pytest.mark.parametrize(
    ("true", "control", "word"), [(0.6, 0.3, "yes"), (0.3, 0.3, "no"), (0.3, 0.6, "no"), (0.6, 0.51, "undetermined")]
)
def test_the_verdict_of_every_step_is_that_of_the_planted_gap(true, control, word):
    """Scores of .6 and .51 over a null mean of .1 differ in excess by d = .1."""
    found = frame(true, control)
    rsa, svcca = (arms.by_step(found, score, d=0.1) for score in ("RSA", "SVCCA"))
    assert rsa.step.tolist() == [f"{number} {step}" for number, step in enumerate(STEPS)]
    assert rsa.verdict.tolist().count(word) >= 8 and set(svcca.verdict) == {"n/a"}
    assert np.allclose(rsa[arms.TRUE] - rsa[arms.CONTROL], (true - control) / 0.9, atol=0.03)


def test_choices_are_means_over_replicates_in_each_arm():
    """Hubs of 3 and 5 in the true arm of two replicates, of 7 in both controls."""
    noise = np.zeros(len(STEPS))
    found = [
        {arms.TRUE: [x._replace(hub=hub) for x in rungs(0.3, noise)],
         arms.CONTROL: [x._replace(hub=7, unique=0.25) for x in rungs(0.3, noise)]}
        for hub in (3, 5)
    ]  # fmt: skip
    shown = arms.choices(arms.frame(found))
    assert shown.columns.tolist()[1:] == [
        f"{name}{arm}" for name in ("n", "largest hub", "unique") for arm in ("", ", control")
    ]
    assert (shown.iloc[:, 1:] == [N, N, 4, 7, 0.5, 0.25]).all(axis=None)


def test_the_fall_of_the_hub_is_that_from_hook_to_topk():
    hubs = {views.HOOK: 40, views.CODES: 10}
    noise = np.zeros(len(STEPS))
    found = [
        {
            arm: [x._replace(hub=hubs.get(x.step, 1) + number) for x in rungs(0.3, noise)]
            for arm in (arms.TRUE, arms.CONTROL)
        }
        for number in range(8)
    ]
    fall = arms.hub_fall(arms.frame(found))
    assert (fall.estimate, fall.low, fall.high) == (30, 30, 30)


def test_the_shown_score_is_excess_only_where_the_step_says_so():
    means = {step: arms.means(frame(0.6, 0.3), step, "RSA")[arms.TRUE].estimate for step in STEPS}
    assert means[ladder.PUBLISHED] == pytest.approx(0.6, abs=0.03)
    assert means[ladder.ALL] == pytest.approx(0.5 / 0.9, abs=0.03)


def test_one_replicate_has_a_gap_and_no_verdict():
    found = arms.by_step(frame(0.6, 0.3, replicates=1), "RSA", d=0.1)
    assert set(found.verdict) == {"undetermined"} and "(" not in found.gap[0]


def test_significant_counts_replicates_that_are_scored():
    found = frame(0.6, 0.3)
    assert arms.significant(found, arms.TRUE, ladder.ALL, "RSA") == (8, 8)
    assert arms.significant(found, arms.TRUE, ladder.ALL, "SVCCA") == (0, 0)
