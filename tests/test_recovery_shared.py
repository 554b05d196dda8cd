"""Two SAEs that hold the true features are matched right, and what destroys relations takes the excess away."""

import numpy as np
import pytest

from sae_utils import correlate, matching
from sae_utils.engine.core.spec import ProfileError
from sae_utils.studies.recovery import shared, sharing
from sae_utils.studies.recovery.shared import Compared, Places

WORLD = {
    "features": 48,
    "shape": {"kind": "mixture", "groups": 8, "alike": 0.4},
    "firing": {"active": 2.0, "decay": 1.0},
    "models": {"a": {"d": 24, "noise": 0.1}, "b": {"d": 32, "noise": 0.1}},
}
SAE = {"architecture": "topk", "k": 2, "learning_rate": 0.01}
SCHEDULE = {"samples": 2560, "batch": 128, "checkpoints": 1, "judged": 800}


def conditions(shares=(0.5,), varied=None, **changed):
    return shared.conditions(WORLD | changed, SAE, SCHEDULE, list(shares), varied or {}, "here")


def perfect(share, **changed):
    """Both SAEs hold all true features of their models, and the codes are the true ones."""
    of = conditions([share], **changed)[f"{share:g} shared"]
    truth = of.world.draw(0)
    codes = [sample.codes.toarray() for sample in truth.sample(3000, 1).values()]
    found = correlate.features(codes[0], codes[1], k=48)
    rows = tuple(model.rows for model in truth.models.values())
    live = found.a.live, found.b.live
    place = [shared.place(truth.models[x], rows[i], live[i], 0.9) for i, x in enumerate("ab")]
    return Compared(found, rows, Places((place[0], place[1]), truth.shared))


def test_true_features_are_recovered_in_their_place():
    x = perfect(0.5)
    assert x.truth.place[0].tolist() == list(range(48))
    assert x.truth.place[1].tolist() == [*range(24), *range(48, 72)]
    assert x.truth.shared.tolist() == [True] * 24 + [False] * 24


@pytest.mark.parametrize("name", [*shared.MATCHINGS])
def test_every_matching_finds_the_true_partners(name):
    told = shared.matched(perfect(0.5))[name]
    assert told["found"] == 1
    assert told["right"] == pytest.approx(24 / told["pairs"])
    assert np.isnan(shared.matched(perfect(0.0))[name]["found"]) and shared.matched(perfect(0.0))[name]["right"] == 0


def test_excess_is_high_for_shared_pairs_and_gone_where_relations_are():
    told = shared.excesses(perfect(0.5), ["cka_debiased"], 39, 0)["cka_debiased"]
    assert told["shared"] > 0.9 and abs(told["private"]) < 0.25 and abs(told["shuffled"]) < 0.15
    assert told["rotated"] == pytest.approx(told["all"], abs=1e-5)
    own = shared.excesses(perfect(1.0, relations="own"), ["cka_debiased"], 39, 0)["cka_debiased"]
    assert abs(own["all"]) < 0.15 and np.isnan(own["private"])  # too few pairs are no partners


def test_distances_fall_as_more_is_shared():
    told = [shared.distances(perfect(share)) for share in (0.0, 0.5, 1.0)]
    for name in told[0]:
        assert told[0][name] > told[1][name] > told[2][name]
    constant = perfect(1.0, firing=WORLD["firing"] | {"magnitude": "constant"})  # so that the codes are equal
    assert shared.distances(constant) == pytest.approx(dict.fromkeys(told[0], 0), abs=1e-3)


def test_latents_far_from_every_feature_or_dead_have_no_place():
    model = conditions()["0.5 shared"].world.draw(0).models["a"]
    rows = np.concatenate([3 * model.rows[:2], np.zeros((1, 24)), -model.rows[2:3]])
    live = np.array([True, False, True, True])
    assert shared.place(model, rows, live, 0.99).tolist() == [0, -1, -1, -1]


def test_reads_become_tables():
    found = conditions([0.0, 1.0], {"wider": {"shared": 1.0, "width": 1.5}})
    assert [x.width for x in found.values()] == [48, 48, 72]
    reads = {
        (name, draw): shared.read(of, draw, 0.5, ["cka_debiased"], 19)
        for name, of in found.items()
        for draw in (0, 1, 2)
    }
    frame = sharing.frame(reads)
    table = sharing.means(frame, "matching", "right")
    assert table.condition.tolist() == list(found) and set(shared.MATCHINGS) <= set(table)
    of_last = [reads["1 shared", draw].matched["mutual"]["right"] for draw in (0, 1, 2)]
    assert table.set_index("condition").mutual["1 shared"] == pytest.approx(np.mean(of_last))
    gap = sharing.gap(frame, ["1 shared", "0 shared"], "cka_debiased", "all")
    apart = [reads["1 shared", i].excess["cka_debiased"]["all"] - reads["0 shared", i].excess["cka_debiased"]["all"]
             for i in (0, 1, 2)]  # fmt: skip
    assert gap.estimate == pytest.approx(np.mean(apart)) and gap.n == 3
    assert list(sharing.parts(frame, "cka_debiased")) == ["condition", *sharing.KINDS]
    assert len(matching.mutual(perfect(1.0).found)) == 48


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conditions(varied={"x": {"kind": 1}}), r"here\.varied\.x: 'kind' cannot be varied; one of k, noise"),
        (lambda: conditions(varied={"0.5 shared": {}}), r"here\.varied\.0\.5 shared: the name of a share"),
        (lambda: conditions([1.5]), r"shared: input should be less than or equal to 1"),
        (lambda: conditions(models={"a": {"d": 8}}), r"models: a; give `a` and `b`"),
    ],
)
def test_conditions_that_do_not_fit(call, message):
    with pytest.raises(ProfileError, match=message):
        call()
