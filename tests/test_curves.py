import numpy as np
import pytest

from sae_utils import replicates
from sae_utils.studies.training import curves

NAMES, MEASURE = ("one_layer", "two_layer"), "rsa_spearman"


@pytest.fixture(scope="module", autouse=True)
def more_content():
    """Features of so small an SAE are seldom about content words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replicates, "CONTENT", 0.2)
        yield


@pytest.fixture(scope="module")
def rows(world, more_content):
    return curves.of_replicate(world, NAMES, [400, 1200, 10**7], 5, MEASURE).meta["rows"]


def test_the_last_point_is_the_whole_text(world, rows):
    own, (first, *_) = replicates.matched(world, NAMES, 5)
    whole = sum(block.shape[0] for block in own[0].blocks["matching"])
    assert [row["tokens"] for row in rows] == [400, 1200, whole]
    assert (first.role, rows[-1]["n"]) == ("a", len(first.features))
    assert rows[-1]["r held out"] == pytest.approx(np.nanmean(first.r_true), abs=1e-9)
    assert rows[-1]["control"] == pytest.approx(np.nanmean(first.r_control), abs=1e-9)
    scored = replicates.scored(own, [first], [MEASURE])
    assert rows[-1]["true"] == pytest.approx(scored.true[MEASURE], nan_ok=True)


def test_few_tokens_overstate_their_own_correlation(rows):
    assert rows[0]["r chosen"] > rows[0]["r held out"]
    assert all(0 <= row["retention"] <= 1 for row in rows)


def test_cumulated_sums_are_those_of_the_tokens_together(world):
    own = replicates.sides(world, NAMES)
    a, b = (x.blocks["matching"] for x in own)
    tokens, sums = curves._cumulative(a, b, [400, 1200])
    for size, (true, control) in zip(tokens[:2], sums, strict=False):
        cut = [[block[: size // 2] for block in blocks] for blocks in (a, b, b[::-1])]
        for found, other in ((true, cut[1]), (control, cut[2])):
            for x, y in zip(found, replicates.sums(cut[0], other), strict=True):
                np.testing.assert_allclose(x, y)
