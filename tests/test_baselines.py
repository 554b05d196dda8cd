"""A model must lie clearly below a bigram."""

import pytest

from sae_utils import pipeline, store
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import baselines, cross_entropy, toys


@pytest.mark.parametrize(
    ("loss", "passes"), [(2.0, True), (2.79, True), (2.81, False), (3.5, False), (float("nan"), False)]
)
def test_the_margin(world, monkeypatch, tmp_path, loss, passes):
    monkeypatch.setattr(
        cross_entropy, "held_out", lambda *_: store.Artefact("", tmp_path, {"model": loss, "bigram": 3.0})
    )
    model = store.Artefact("", tmp_path, {"source": "org/model"})
    rows = pipeline.training_rows(world, "one_layer")
    if passes:
        baselines.refuse_worse_than_bigram(model, rows)
        return
    with pytest.raises(
        ProfileError, match=rf"org/model: its loss on held-out text is {loss:.2f} nats .* reaches 3\.00"
    ):
        baselines.refuse_worse_than_bigram(model, rows)


def test_random_weights_are_refused(world):
    twin = toys.twin(pipeline.model(world, "one_layer"), "all", 0)
    named = store.Artefact(twin.key, twin.path, twin.meta | {"source": "the twin"})
    with pytest.raises(ProfileError, match="the twin: its loss"):
        baselines.refuse_worse_than_bigram(named, pipeline.training_rows(world, "one_layer"))
