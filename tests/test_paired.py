"""Features and partners: a copy is paired with itself, and its control with what fires alike under exchanged words."""

import numpy as np
import pytest
from scipy import sparse

from sae_utils.replicates import SPLITS, Side
from sae_utils.studies.geometry import homology, paired, spaces, transport
from sae_utils.studies.geometry.paired import CONTROL, TRUE

N, TOKENS, D = 30, 800, 12


def side(decoder, readings):
    """A dictionary whose codes on either split are `readings`."""
    blocks = {split: [sparse.csr_array(x) for x in of] for (split, _), of in zip(SPLITS, readings, strict=True)}
    classes = {split: [np.zeros(x.shape[0], int) for x in of] for split, of in blocks.items()}
    return Side(decoder, blocks, classes)


@pytest.fixture
def planted():
    """A, and B: its features in another order, with a little noise, and rows turned."""
    rng = np.random.default_rng(0)
    order, rows = rng.permutation(N), rng.normal(size=(N, D))
    codes = [[np.maximum(rng.normal(size=(TOKENS, N)) - 1, 0) for _ in range(2)] for _ in SPLITS]
    noisy = [[np.maximum(x[:, order] + 0.1 * rng.normal(size=x.shape), 0) for x in of] for of in codes]
    turned = rows[order] @ np.linalg.qr(rng.normal(size=(D, D)))[0]
    return side(rows, codes), side(turned, noisy), order


def test_partners_are_the_copies_and_the_control_has_others(planted):
    a, b, order = planted
    found = paired.pair((a, b), 20, 100, 0)
    assert found.features.tolist() == list(range(N)) and (order[found.partners[TRUE]] == found.features).all()
    assert np.diag(found.r(TRUE)).min() > 0.9 and np.abs(found.r(CONTROL)).max() < 0.3
    assert found.a.codes.shape == (2 * TOKENS, N) and found.live == N


def test_at_most_so_many_are_kept_and_they_are_the_same_in_both_arms(planted):
    a, b, order = planted
    found = paired.pair((a, b), 20, 10, 0)
    assert len(found.features) == 10 and found.b[CONTROL].rows.shape == (10, D)
    assert (order[found.partners[TRUE]] == found.features).all()
    assert (paired.pair((a, b), 20, 10, 0).features == found.features).all()


def test_one_reading_has_no_control_and_a_twin_is_one(planted):
    a, b, _ = (x if isinstance(x, np.ndarray) else one_reading(x) for x in planted)
    assert set(paired.pair((a, b), 20, 100, 0).b) == {TRUE}
    rng = np.random.default_rng(1)
    twin = b._replace(decoder=rng.normal(size=(N, D)))
    found = paired.pair((a, b, twin), 20, 100, 0)
    assert (found.b[CONTROL].rows == twin.decoder[found.partners[CONTROL]]).all()
    assert (found.partners[CONTROL] == found.partners[TRUE]).all()  # it fires as B does


def one_reading(x):
    return Side(x.decoder, {s: of[:1] for s, of in x.blocks.items()}, {s: of[:1] for s, of in x.classes.items()})


def test_spaces_of_a_copy_are_equal_and_those_of_the_control_are_not(planted):
    a, b, _ = planted
    own = paired.pair((a, b), 20, 100, 0)
    found = spaces.compare(own, {"some": np.arange(N) < 12, "few": np.arange(N) < 3}, 10, 3, 0)
    true, control = found.arms[TRUE], found.arms[CONTROL]
    assert true.correlation < 0.1 < 0.6 < control.correlation
    assert true.gromov == pytest.approx(0, abs=1e-5) and true.on_partners == pytest.approx(1)
    assert control.on_partners < 0.5 and set(true.bottleneck) == {"some"}
    assert true.bottleneck["some"][homology.PIECES].excess == pytest.approx(1, abs=1e-4)
    frame = spaces.frame({("a", "b"): found})
    gap = spaces.gaps(frame)
    assert (gap[["transport", "on partners", "pieces"]].to_numpy() > 0.3).all()
    assert spaces.summary(frame).arm.tolist() == [TRUE, CONTROL]
    assert len(spaces.gaps(frame[frame.arm == TRUE])) == 0
    assert transport.uniform(4).sum() == 1


def test_the_size_of_a_unit_is_what_it_writes():
    part = paired.Part(np.array([[3.0, 4.0], [0.0, 1.0]]), sparse.csr_array([[1.0, 0.0], [1.0, 2.0]]))
    assert spaces.size(part) == pytest.approx([5, np.sqrt(2)])
