"""The quality of an SAE is that of the whole matrix; its losses are those of plain torch hooks."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import seen
from sae_lens import SAE
from transformers import AutoModelForCausalLM

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.saes import dictionaries, quality
from sae_utils.engine.text import corpora, tokenization

NAMES = ("one_layer", "two_layer")


JUDGED = 40  # held-out rows


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.mark.parametrize(
    ("steps", "passes", "dead", "expected"),
    [
        (1000, 1.0, 0.2, []),
        (999, 1.0, 0.2, ["999 steps"]),
        (5000, 1.64, 0.0, ["1.6 passes over its text"]),
        (244, 2.0, 0.52, ["244 steps", "2.0 passes over its text", "many dead"]),
        (float("nan"), float("nan"), 0.1, []),
    ],
)
def test_doubts_name_few_steps_many_passes_and_dead_features(steps, passes, dead, expected):
    assert quality.doubts(steps, passes, dead) == expected


def test_a_warning_is_one_line(world):
    records = {name: x.model_copy(update={"samples": 10**6, "batch": 4096}) for name, x in world.dictionaries.items()}
    text = quality.warning(records)
    assert "2 of 2 SAEs take fewer than 1,000 steps (the least 244)" in text and "\n" not in text
    enough = {name: x.model_copy(update={"batch": 1000}) for name, x in records.items()}
    assert quality.warning(enough) == quality.warning(enough, {"one_layer": 10**6, "two_layer": 10**7}) == ""
    short = quality.warning(enough, {"one_layer": 152_947, "two_layer": 10**6})
    assert short.startswith("1 of 2 see their text more than once (one_layer)")


def test_massive_dimensions_are_found_and_left_out():
    """Of 128 dimensions two carry 30% and 25% of the variance; the SAE halves those and drops another."""
    generator = np.random.default_rng(0)
    share = np.r_[0.3, 0.25, np.full(126, 0.45 / 126)]
    x = torch.from_numpy(generator.normal(5, np.sqrt(share), (20_000, 128)).astype(np.float32))
    sae = Planted(1.0)
    sae.cfg.d_in = sae.cfg.d_sae = 128
    sae.encode = lambda x: x
    sae.decode = lambda codes: codes * torch.tensor([0.5, 0.5, *[1.0] * 125, 0.0])
    tally = quality.Tally(sae)
    tally.add(x)
    assert tally.massive().nonzero().flatten().tolist() == [0, 1]
    assert tally.variance().sum().item() / len(x) == pytest.approx(1, abs=0.02)
    error, variance = (x - sae.decode(x)).square().sum(0), (x - x.mean(0)).square().sum(0)
    assert tally.fvu() == pytest.approx((error.sum() / variance.sum()).item(), rel=1e-4)
    assert tally.fvu(~tally.massive()) == pytest.approx((error[2:].sum() / variance[2:].sum()).item(), rel=1e-4)


def test_quality_is_that_of_the_whole_matrix(world, name):
    reader = pipeline.reader(world, name)
    found = reader.judge(JUDGED).meta
    x = seen(world, name, JUDGED).astype(np.float64)
    sae = SAE.load_from_disk(reader.dictionary.path)
    with torch.no_grad():
        codes = sae.encode(torch.from_numpy(x).float())
        rebuilt = sae.decode(codes).numpy().astype(np.float64)
    codes = codes.numpy()
    assert found["tokens"] == len(x)
    assert found["fvu"] == pytest.approx(((x - rebuilt) ** 2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-4)
    assert found["l0"] == pytest.approx((codes > 0).sum(1).mean(), rel=1e-4)
    assert found["dead"] == pytest.approx(1 - (codes > 0).any(0).mean(), abs=1e-6)
    assert 0 < found["l0"] <= world.dictionaries[name].k
    share = x.var(0) / x.var(0).sum()
    assert found["massive"] == np.flatnonzero(share > quality.TIMES / x.shape[1]).tolist()
    assert found["massive_share"] == pytest.approx(share[found["massive"]].sum(), rel=1e-4)
    rest = np.setdiff1d(np.arange(x.shape[1]), found["massive"])
    left = ((x - rebuilt)[:, rest] ** 2).sum() / ((x - x.mean(0))[:, rest] ** 2).sum()
    assert found["fvu_rest"] == pytest.approx(left, rel=1e-4)


def test_recovered_is_that_of_plain_torch_hooks(world, name):
    """Three cross-entropies, row by row, with the activations replaced by a plain torch hook."""
    reader = pipeline.reader(world, name)
    network, sae = (
        AutoModelForCausalLM.from_pretrained(reader.model.path, trust_remote_code=False).eval(),
        SAE.load_from_disk(reader.dictionary.path),
    )
    held_out = np.flatnonzero(reader.rows.array("split") == corpora.SPLITS.index("held_out"))
    chosen = tokenization.spread_rows(reader.rows, held_out, 30)

    def loss(change) -> float:
        def replaced(module, given, out):
            return torch.cat([out[:, : reader.skip], change(out[:, reader.skip :])], 1)

        handle, total, count = network.gpt_neox.layers[-1].mlp.register_forward_hook(replaced), 0.0, 0
        for row in chosen:
            tokens = reader.rows.array("tokens")[row, : reader.rows.array("lengths")[row]].astype(np.int64)
            given = torch.from_numpy(tokens)[None]
            with torch.no_grad():
                total += network(given, labels=given).loss.item() * (len(tokens) - 1)
            count += len(tokens) - 1
        handle.remove()
        return total / count

    clean, zero, rebuilt = loss(lambda x: x), loss(torch.zeros_like), loss(lambda x: sae.decode(sae.encode(x)))
    found = reader.judge(30).meta["recovered"]
    assert found == pytest.approx((zero - rebuilt) / (zero - clean), abs=1e-5 / abs(zero - clean))


class Planted:
    """An SAE that reconstructs `scale` times the activation."""

    def __init__(self, scale: float) -> None:
        metadata = SimpleNamespace(model_from_pretrained_kwargs=None)
        self.scale, self.cfg = scale, SimpleNamespace(d_in=16, d_sae=32, metadata=metadata)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.clamp(min=0), (-x).clamp(min=0)], -1) * (self.scale > 0)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return self.scale * (codes[..., :16] - codes[..., 16:])


@pytest.fixture
def planted(world, name, monkeypatch, tmp_path):
    def judge(scale: float) -> dict:
        monkeypatch.setattr(dictionaries, "load", lambda dictionary: Planted(scale))
        reader = pipeline.reader(world, name)
        parts = (reader.dictionary, reader.model, reader.own_rows, reader.hook, reader.skip)
        return quality.judge.__wrapped__(tmp_path, *parts, JUDGED)

    return judge


def test_a_perfect_sae(planted, world, name):
    found = planted(1.0)
    assert (found["fvu"], found["recovered"]) == (0, 1)
    assert found["l0"] == pytest.approx(16, rel=1e-3)
    x = seen(world, name, JUDGED)
    assert found["dead"] == pytest.approx(1 - np.concatenate([(x > 0).any(0), (x < 0).any(0)]).mean())


def test_an_sae_that_returns_nothing(planted, world, name):
    found = planted(0.0)
    x = seen(world, name, JUDGED).astype(np.float64)
    assert (found["recovered"], found["dead"], found["l0"]) == (0, 1, 0)
    assert found["fvu"] == pytest.approx((x**2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-5)


def test_half_of_the_activation_is_a_quarter_of_its_square(planted):
    assert planted(0.5)["fvu"] == pytest.approx(planted(0.0)["fvu"] / 4, rel=1e-4)


def test_a_slightly_better_neighbour_is_accepted(tmp_path):
    for fvu, refused in ((0.27, False), (0.22, True)):
        found = SimpleNamespace(meta={"fvu": {"here": 0.3, "there": fvu}, "best": "there"})
        with pytest.raises(ProfileError, match="fits there") if refused else contextlib.nullcontext():
            quality.confirm(found, "here")
