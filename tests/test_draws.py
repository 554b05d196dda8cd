"""Draws do not depend on threads, batches or precision."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from sae_utils import measures, significance
from sae_utils.engine.chance import draws
from tests.test_measures import related


@pytest.mark.parametrize("n", [100, 300])
def test_draws_do_not_depend_on_threads_or_batches(monkeypatch, n):
    a, b = related(4, n=n)
    monkeypatch.setattr(draws, "_WORTH_THREADS", 0)
    found = []
    for count, size in ((1, 1 << 26), (3, 1 << 26), (2, 1 << 18)):
        monkeypatch.setattr(draws, "_BATCH_BYTES", size)
        with threadpool_limits(count):
            assert draws._threads() == count
            found.append(significance.test(a, b, measures.NAMES, m=20, seed=1))
    for other in found[1:]:
        for name, result in found[0].items():
            assert np.allclose(result.draws, other[name].draws, rtol=0, atol=1e-12 if n < 256 else 5e-7), name


@pytest.mark.parametrize("n", [100, 300])
def test_the_observed_pairing_among_the_draws_scores_what_was_observed(n):
    """A null that leaves every row where it is gives p = 1, in float32 too."""
    a, b = related(5, n=n)
    still = significance.Null("still", lambda rng, m, n: np.tile(np.arange(n), (m, 1)))
    for result in significance.test(a, b, measures.NAMES, null=still, m=5).values():
        assert result.p == 1.0 and np.allclose(result.draws, result.observed, atol=1e-6), result.measure
        assert np.isnan(result.z) and result.note == "the null does not vary"
