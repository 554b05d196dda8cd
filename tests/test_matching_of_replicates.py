"""The mutual pairs of a replicate in numbers, held against the calls of which they are means."""

import numpy as np
import pytest

from sae_utils import correlate, matching, pipeline, significance
from sae_utils.engine.text import corpora
from sae_utils.studies import feature_matching
from sae_utils.studies.feature_matching import replicated


def test_a_replicate_in_numbers_is_the_mean_of_both_roles_of_the_documents(world):
    names = ("one_layer", "two_layer")
    found = feature_matching.of_replicate(world, names, 8, 0.2)
    expected, a, b = [], *(pipeline.features(world, name) for name in names)
    for choose, judge in (("matching", "held_out"), ("held_out", "matching")):
        first, second = (np.flatnonzero(a.sites.array("split") == corpora.SPLITS.index(x)) for x in (choose, judge))
        r = correlate.features(a.codes, b.codes, k=8, rows=first)
        mutual = matching.mutual(r)
        best = [matching.many_to_one(r, way) for way in ("a_to_b", "b_to_a")]
        held = [correlate.pairs(a.codes, b.codes, x.a, x.b, rows=second) for x in (mutual, *best)]
        shares = [np.mean(x[np.isfinite(x)] >= 0.2) for x in held[1:]]
        expected.append([len(mutual) / r.live[0], np.nanmean(held[0]), *shares])
    assert found[:4] == pytest.approx(tuple(np.mean(expected, axis=0)), rel=1e-5)
    assert found.n == min(len(x) for x in found.mutual)
    assert list(found.named().values()) == [found.n, *found[:4]]
    for one, two in zip(replicated.mutual(world, names, 8), found.mutual, strict=True):
        np.testing.assert_array_equal(one.a, two.a)


def test_similarity_of_all_pairs_is_their_score(world):
    names = ("one_layer", "two_layer")
    mutual = matching.Pairs.of(np.arange(12), np.arange(12)[::-1], np.zeros(12), 32, 32)
    settings = {"subsets": 3, "m": 19, "seed": 0}
    found = feature_matching.similarity(world, names, (mutual, mutual), "rsa_spearman", len(mutual), **settings)
    rows = [pipeline.features(world, x).decoder[side] for x, side in zip(names, (mutual.a, mutual.b), strict=True)]
    result = significance.test(*rows, ["rsa_spearman"], m=0)["rsa_spearman"]
    assert found["observed"] == pytest.approx(result.observed) and found["excess"] == pytest.approx(result.excess)
