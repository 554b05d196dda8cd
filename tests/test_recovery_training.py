"""A small SAE recovers an easy truth, and its artefact says what it is."""

import numpy as np
import pytest

from sae_utils import store
from sae_utils.studies.recovery import recovered, training, worlds
from sae_utils.studies.recovery.recovered import Dictionary

EASY = worlds.world(
    {"features": 12, "shape": {"kind": "sphere"}, "firing": {"active": 1.0}, "models": {"model": {"d": 24}}}, "here"
)
TOPK = training.Kind(architecture="topk", k=2, learning_rate=0.02)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store.use(threads=1, root=tmp_path_factory.mktemp("store"))
    schedule = training.Schedule(samples=128 * 200, batch=128, checkpoints=2, judged=1000)
    return training.recovered(EASY, 3, TOPK, 16, schedule)


def test_an_easy_truth_is_recovered(made):
    truth = training.truth(EASY, 3)[1].rows
    decoders, live = made.array("decoders"), made.array("live")
    assert decoders.shape == (3, 16, 24) and live.shape == (3, 16)
    steps = [recovered.found(truth, Dictionary(*state), 0.9, 0) for state in zip(decoders, live, strict=True)]
    assert steps[-1].share >= 0.9 > steps[-1].chance + 0.2
    assert made.meta["samples"][-1] == 128 * 200 and sorted(made.meta["samples"]) == made.meta["samples"]
    assert len(made.meta["loss"]) == len(made.meta["l0"]) == 3 and made.meta["loss"][-1] < made.meta["loss"][0]


def test_its_loss_is_that_of_its_weights(made):
    x = training.judged(EASY, 3, 1000).x
    decoder, bias = made.array("decoders")[-1], made.array("decoder_bias")
    before = np.maximum((x - bias) @ made.array("encoder") + made.array("encoder_bias"), 0)
    scaled = before * np.linalg.norm(decoder, axis=1)
    latents = np.where(scaled >= np.sort(scaled, axis=1)[:, [-2]], before, 0)
    loss = ((latents @ decoder + bias - x) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    assert loss == pytest.approx(made.meta["loss"][-1], rel=1e-3)
    assert (latents > 0).any(axis=0).tolist() == made.array("live")[-1].tolist()
    assert (latents > 0).sum(axis=1).mean() == pytest.approx(made.meta["l0"][-1])
