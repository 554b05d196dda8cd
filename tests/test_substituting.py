"""The map of a pair is least squares; losses are those of the network whose activations are changed."""

import numpy as np
import pytest
import torch
from scipy import sparse

from sae_utils import pipeline
from sae_utils.engine.lms import batching, cross_entropy, models
from sae_utils.engine.text import tokenization
from sae_utils.studies.function import substituting


def test_the_map_is_least_squares_through_0():
    rng = np.random.default_rng(0)
    left, right = rng.random((50, 3)), rng.random((50, 3))
    right[:, 2] = 0
    found = substituting.slopes(*(sparse.csc_array(x) for x in (left, right)))
    wanted = [np.linalg.lstsq(right[:, [i]], left[:, i])[0][0] for i in range(2)]
    np.testing.assert_allclose(found, [*wanted, 0])


def test_losses_of_changes(world):
    """Nothing changed gives the model's loss; all codes taken off gives that of what the SAE leaves."""
    reader, x = pipeline.reader(world, "two_layer"), pipeline.features(world, "two_layer")
    judge = x.sites.array("split") == 2
    every = np.arange(x.codes.shape[1])
    changes = {"clean": None, "none": sparse.csr_array(x.codes.shape, dtype=np.float32), "ablated": -x.codes}
    found = substituting.losses(world, "two_layer", x, changes, every, judge, 6)
    assert found["none"] == pytest.approx(found["clean"], abs=1e-6)
    chosen = tokenization.spread_rows(reader.rows, np.unique(x.sites.array("rows")[judge]), 6)
    bridge, decoder = models.load(reader.model), torch.from_numpy(x.decoder)
    assert found["clean"] == pytest.approx(cross_entropy.mean(bridge, reader.rows, chosen), abs=1e-5)
    total = count = 0
    for row in chosen:
        tokens, mask = batching.take(reader.rows, np.array([row]))
        sites = np.flatnonzero(x.sites.array("rows") == row)
        wrote = torch.zeros(1, tokens.shape[1], decoder.shape[1])
        wrote[0, x.sites.array("positions")[sites]] = torch.from_numpy(x.codes[sites].toarray()) @ decoder
        hooks = [(reader.hook, lambda value, hook, wrote=wrote: value - wrote)]
        losses = cross_entropy.next_token(bridge, tokens, mask, hooks)
        total, count = total + losses.sum().item(), count + len(losses)
    assert found["ablated"] == pytest.approx(total / count, abs=1e-5)
