"""Matching by direction: cosines, the orthogonal map, scores of two dictionaries."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from sae_utils import arrays, matching
from sae_utils.engine.pairing import directions


def rows(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def cosine(a, b):
    a, b = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


def test_cosines_by_numpy():
    a, b = rows(40, 8, 0), 3 * rows(30, 8, 1)
    live = np.arange(40) != 5
    a[7] = 0
    found = directions.cosines(a, b, k=4, live_a=live)
    whole = found.block()
    assert np.isnan(whole[[5, 7]]).all()
    taking = found.a.live
    np.testing.assert_allclose(whole[taking], cosine(a[taking], b), atol=1e-6)
    np.testing.assert_array_equal(found.a_to_b.index[taking, 0], whole[taking].argmax(1))
    np.testing.assert_allclose(directions.mmcs(found), whole[taking].max(1).mean(), atol=1e-6)
    i, j = linear_sum_assignment(whole[taking], maximize=True)
    np.testing.assert_allclose(directions.pw_mcc(found), whole[taking][i, j].mean(), atol=1e-6)


def test_a_dictionary_against_itself_in_another_order():
    a = rows(200, 32, 2)
    order = np.random.default_rng(3).permutation(200)
    found = directions.cosines(a, 5 * a[order], k=3)
    np.testing.assert_array_equal(order[matching.mutual(found).b], np.arange(200))
    assert directions.mmcs(found) == pytest.approx(1) and directions.pw_mcc(found) == pytest.approx(1)


@pytest.mark.parametrize("d_a, d_b", [(12, 12), (8, 12), (12, 8)])
def test_an_orthogonal_map_is_found_again(d_a, d_b):
    """Fitted on half of the pairs, it carries the other half; where b is narrower, the part that it keeps."""
    wide, narrow = max(d_a, d_b), min(d_a, d_b)
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(wide, wide)))[0][:narrow]
    small = rows(100, narrow, 5)
    a, b = (small, small @ turn) if d_a <= d_b else (small @ turn, small)
    half = np.arange(50, dtype=np.int32)
    pairs = matching.Pairs(half, half, np.ones(50, np.float32), np.zeros(100, np.int8), np.zeros(100, np.int8))
    np.testing.assert_allclose(directions.align(a, b, pairs), b, atol=1e-4)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="align them first"):
        directions.cosines(rows(5, 3, 6), rows(5, 4, 7), k=2)
    with pytest.raises(ValueError, match="k = 9"):
        directions.cosines(rows(5, 3, 6), rows(5, 3, 7), k=9)
    broken = rows(5, 3, 8)
    broken[2, 0] = np.nan
    with pytest.raises(ValueError, match=r"rows of side b hold NaN or infinity \(first: row 2\), there in column 0"):
        directions.cosines(rows(5, 3, 6), broken, k=2)
    with pytest.raises(ValueError, match="side a has no live row"):
        directions.cosines(np.zeros((5, 3)), rows(5, 3, 6), k=2)
    few = matching.Pairs(*(np.arange(2, dtype=np.int32),) * 2, np.ones(2), np.zeros(5, np.int8), np.zeros(5, np.int8))
    with pytest.raises(ValueError, match="2 pairs for a map"):
        directions.align(rows(5, 3, 6), rows(5, 3, 7), few)


def test_unit_rows_keep_their_direction_and_zeros_stay():
    given = rows(6, 4, 0)
    given[2] = 0
    made = arrays.unit(given.astype(np.float32))
    assert made.dtype == np.float64 and (made[2] == 0).all()
    assert np.linalg.norm(np.delete(made, 2, 0), axis=1) == pytest.approx(np.ones(5))
    assert np.einsum("ij,ij->i", made, given) == pytest.approx(np.linalg.norm(given, axis=1), rel=1e-6)
