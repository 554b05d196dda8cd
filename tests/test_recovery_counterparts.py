"""Planted latents are shared where their features are; the share with a counterpart is that of its correlations."""

import numpy as np
import pytest

from sae_utils.engine.core.spec import ProfileError
from sae_utils.studies.recovery import counterparts, readings, worlds
from sae_utils.studies.recovery.counterparts import Cell, Recovery, Text

WORLD = {
    "features": 60,
    "shape": {"kind": "sphere"},
    "firing": {"active": 3.0, "decay": 2.0},
    "models": {"a": {"d": 96}, "b": {"d": 128}},
}
OF = Recovery(latents=60, found=0.9, least=0.9, near=0.9, k=3)
TEXT = Text(tokens=1600, documents=40, words=200)
R0 = [0.3, 0.5]


def planted(shared, seed=0, of=OF, **changed):
    truth = worlds.world(WORLD | {"shared": shared} | changed, "here").draw(seed)
    rng = np.random.default_rng(seed)
    return truth, tuple(counterparts.latents(rng, truth.models[side], of) for side in "ab")


def test_latents_lie_beside_as_many_features_as_asked_for():
    truth, (a, _) = planted(0.5)
    cosine = a.rows @ truth.models["a"].rows.T
    np.testing.assert_allclose(np.linalg.norm(a.rows, axis=1), 1, rtol=1e-5)
    beside = np.sort(cosine.max(axis=1))[::-1]
    assert beside[53] >= 0.899 and beside[54] < 0.7  # 54 of 60, at a cosine of 0.9 or more
    assert (a.place >= 0).sum() == (beside >= 0.9).sum()
    for latent in np.flatnonzero(a.place >= 0):
        assert truth.models["a"].place[cosine[latent].argmax()] == a.place[latent]


@pytest.mark.parametrize("shared", [0.0, 0.37, 1.0])
def test_shared_is_what_both_models_have_and_both_recover(shared):
    truth, (a, b) = planted(shared)
    found = worlds.truly_shared(a.place, b.place, truth.shared)
    by_hand = [place in set(b.place) and 0 <= place < truth.shared for place in a.place]
    assert found.tolist() == by_hand
    # both have a latent for nine of ten features, independently
    assert found.mean() == pytest.approx(0.9 * 0.9 * shared, abs=0.12) and (shared > 0) == found.any()


def test_without_noise_and_with_perfect_latents_the_share_is_the_truth():
    wide = {"a": {"d": 1500}, "b": {"d": 1600}}  # so that features hardly disturb each other
    truth, (a, b) = planted(0.5, of=OF.model_copy(update={"found": 1.0, "least": 1.0}), models=wide)
    shared = worlds.truly_shared(a.place, b.place, truth.shared)
    assert shared.mean() == 0.5
    x = counterparts.activations(truth, TEXT.model_copy(update={"words": 0}), 3, 0)
    found = counterparts.read(x, (a, b), shared, 10, TEXT, R0)
    assert found.share.tolist() == [0.5, 0.5]
    assert (found.shared == 1).all() and (found.private == 0).all()
    assert (found.low <= found.share).all() and (found.share <= found.high).all()


def test_zipf_alone_makes_counterparts_where_nothing_is_shared():
    truth, (a, b) = planted(0.0)
    shared = worlds.truly_shared(a.place, b.place, truth.shared)
    assert not shared.any()
    reads = {}
    for words in (0, 200):
        x = counterparts.activations(truth, TEXT.model_copy(update={"words": words}), 3, 0)
        reads[words] = counterparts.read(x, (a, b), shared, 3, TEXT, R0)
    assert reads[0].share[0] < 0.05 and reads[200].share[0] > 0.15
    np.testing.assert_array_equal(reads[200].private, reads[200].share)
    assert np.isnan(reads[200].shared).all()


def test_words_activate_the_same_features_in_every_text():
    truth, _ = planted(0.0)
    for number, model in enumerate(truth.models.values()):
        word = np.array([0, 5, 0, 5])
        x, y = (counterparts._of_words(np.random.default_rng(s), model, word, (number, 200, 3)) for s in (0, 1))
        for one, other in zip(x, y, strict=True):  # three features each, of other magnitudes
            near = [np.argsort(-(model.rows @ v))[:3] for v in (one, other)]
            assert len(set(near[0]) & set(near[1])) >= 2


def test_topk_keeps_the_largest():
    x, rows = np.random.default_rng(0).normal(size=(2, 50, 8))
    found, projected = counterparts.topk(x, rows, 3).toarray(), np.maximum(x @ rows.T, 0)
    assert ((found > 0).sum(axis=1) <= 3).all()
    for kept, all_of_them in zip(found, projected, strict=True):
        assert sorted(kept)[-3:] == sorted(all_of_them)[-3:]


# --- all worlds


def test_repeats_are_read_into_one_frame():
    cells = counterparts.cells(WORLD, [0.0, 0.5], [0.5], TEXT, "here")
    assert list(cells) == [Cell(0.0, 0.5, False), Cell(0.5, 0.5, False), Cell(0.0, 0.5, True)]
    assert [x.text.words for x in cells.values()] == [0, 0, 200]
    made = {cell: counterparts.repeated(x.world, OF, x.text, R0, 3, 0) for cell, x in cells.items()}
    found = readings.frame(made, R0)
    half = found[(found.planted == 0.5) & (found.r0 == 0.3)].iloc[0]
    share, low, high = (made[Cell(0.5, 0.5, False)].array(name)[:, 0] for name in ("share", "low", "high"))
    assert half.share == share.mean() and half.bias == share.mean() - half.true and half.sd == share.std(ddof=1)
    assert half.expected == sum(a <= share.mean() <= b for a, b in zip(low, high, strict=True))
    assert half["true held"] == sum(a <= half.true <= b for a, b in zip(low, high, strict=True))
    for table in (readings.bias(found), readings.parts(found), readings.coverage(found, 3)):
        assert table.columns.tolist() == ["world", "true", "r0 = 0.3", "r0 = 0.5"]
        assert table.world.tolist() == [str(cell) for cell in cells]
    assert readings.parts(found)["r0 = 0.3"][0].startswith("n/a / ")
    interval = readings.covered(found, "expected", 3)
    assert interval.units == 9 and interval.estimate == pytest.approx(found.expected.mean() / 3, abs=0.06)


SECTION = {
    "shares": [0.5], "noise": [1.0], "world": WORLD, "recovery": OF.model_dump(), "text": TEXT.model_dump()
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shares": [1.5]}, r"here\.world\.shared: input should be less than or equal to 1"),
        ({"world": WORLD | {"models": {"a": {"d": 8}}}}, r"here\.world\.models: a; give `a` and `b`"),
        ({"recovery": OF.model_dump() | {"latents": 90}}, r"recovery\.latents: 90, of which 90% would lie beside 60"),
        ({"recovery": OF.model_dump() | {"k": 61}}, r"recovery\.k: 61 of 60 latents"),
        ({"text": TEXT.model_dump() | {"tokens": 30}}, r"text\.tokens: 30; give as many"),
    ],
)
def test_sections_that_do_not_fit(changed, message):
    counterparts.check(SECTION, "here")
    with pytest.raises(ProfileError, match=message):
        counterparts.check(SECTION | changed, "here")


def test_more_latents_than_features():
    with pytest.raises(ValueError, match="81 latents beside 60 features"):
        planted(0.5, of=OF.model_copy(update={"latents": 90}))
