"""Edits do what a plain torch hook and nnsight do; strength 0 does nothing; bad strengths are refused."""

import numpy as np
import pytest
import torch
from networks import network_of

from sae_utils import pipeline
from sae_utils.engine.lms import models
from sae_utils.engine.saes import dictionaries
from sae_utils.studies.function import acting, resuming
from sae_utils.studies.function.acting import Edit

HOOK = "blocks.1.hook_mlp_out"


@pytest.fixture(scope="module")
def case(world):
    """Contexts of the two-layer model at its SAE's hook, the SAE, and its codes (contexts, length, features)."""
    reader = pipeline.reader(world, "two_layer")
    rows, sae = reader.rows, dictionaries.load(reader.dictionary)
    given = resuming.contexts(rows, np.arange(5), rows.array("lengths")[:5] - 1)
    bridge = models.load(reader.model)
    with torch.no_grad():
        _, cache = bridge.run_with_cache(given.tokens, names_filter=[HOOK])
        codes = sae.encode(cache[HOOK])
    return reader.model, bridge, given, sae, codes


def by_torch(model, given, change):
    """Log-probabilities of transformers' network with a plain hook on the MLP of its last block."""
    network = network_of(model)
    network.gpt_neox.layers[1].mlp.register_forward_hook(lambda module, args, out: change(out))
    with torch.no_grad():
        logits = network(given.tokens).logits
    return logits[torch.arange(len(given.at)), given.at].log_softmax(-1)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


def test_strength_0_changes_nothing_exactly(case):
    _, bridge, given, sae, _ = case
    for hook in (HOOK, "blocks.0.hook_mlp_out"):
        at = resuming.resume(bridge, given, hook)
        found = acting.log_probabilities(bridge, given, hook, sae.W_dec[:3], strengths=0.0)
        assert torch.equal(found, at.clean.expand(3, *at.clean.shape))


def test_adding_is_a_plain_hook(case):
    model, bridge, given, sae, _ = case
    found = acting.log_probabilities(bridge, given, HOOK, sae.W_dec[:2], strengths=[3.0, -1.0], batch=3)
    for number, strength in enumerate((3.0, -1.0)):
        close(found[number], by_torch(model, given, lambda x, n=number, s=strength: x + s * sae.W_dec[n]))


def test_ablating_a_feature_subtracts_its_contribution(case):
    model, bridge, given, sae, codes = case
    at = resuming.resume(bridge, given, HOOK)
    feature = int((codes > 0).sum((0, 1)).argmax())
    (found,) = acting.effects(at, [Edit("ablate", sae.W_dec[feature], codes=codes[..., feature])])
    without = codes.clone()
    without[..., feature] = 0  # of an SAE whose decoder is linear
    close(found + at.clean, by_torch(model, given, lambda x: x + sae.decode(without) - sae.decode(codes)))


def test_clamping_sets_the_code(case):
    model, bridge, given, sae, codes = case
    at = resuming.resume(bridge, given, HOOK)
    (found,) = acting.effects(at, [Edit("clamp", sae.W_dec[4], 2.5, codes=codes[..., 4])])
    clamped = codes.clone()
    clamped[..., 4] = 2.5
    close(found + at.clean, by_torch(model, given, lambda x: x + sae.decode(clamped) - sae.decode(codes)))


def test_replacing(case):
    model, bridge, given, _, _ = case
    at = resuming.resume(bridge, given, HOOK)
    (found,) = acting.effects(at, [Edit("replace", change=torch.zeros_like)])
    close(found + at.clean, by_torch(model, given, torch.zeros_like))


def test_places(case):
    """Only the last place, only some places, all: at a hook whose value later places read."""
    _, bridge, given, sae, _ = case
    hook, length = "blocks.0.hook_mlp_out", given.tokens.shape[1]
    last = torch.arange(length) == given.at[:, None]
    found = {
        name: acting.log_probabilities(bridge, given, hook, sae.W_dec[:1], strengths=2.0, positions=at)
        for name, at in {"all": "all", "last": "last", "mask": last, "others": ~last}.items()
    }
    assert torch.equal(found["last"], found["mask"])
    for name in ("all", "others"):  # attention to other places, which is weak in so small a model
        assert (found[name] - found["last"]).abs().max() > 1e-5


def test_it_is_what_nnsight_computes(case):
    nnsight = pytest.importorskip("nnsight")
    model, bridge, given, sae, _ = case
    network = nnsight.NNsight(network_of(model))
    added = 4.0 * sae.W_dec[7].detach()
    with torch.no_grad(), network.trace(given.tokens):
        network.gpt_neox.layers[1].mlp.output = network.gpt_neox.layers[1].mlp.output + added
        logits = network.output.logits.save()
    wanted = logits[torch.arange(len(given.at)), given.at].log_softmax(-1)
    (found,) = acting.log_probabilities(bridge, given, HOOK, sae.W_dec[7:8], strengths=4.0)
    close(found, wanted)


def test_cases_that_are_listed_are_those_of_the_grid(case):
    _, bridge, given, sae, _ = case
    at = resuming.resume(bridge, given, HOOK)
    edits = [Edit("add", row, 2.0) for row in sae.W_dec[:3]]
    grid = acting.effects(at, edits)
    among = [torch.tensor([4, 0]), torch.tensor([], dtype=torch.long), torch.tensor([2])]
    found = list(acting.over(at, edits, among, batch=2))
    edit, context = torch.cat([x.edit for x in found]), torch.cat([x.context for x in found])
    assert list(zip(edit.tolist(), context.tolist(), strict=True)) == [(0, 4), (0, 0), (2, 2)]
    close(torch.cat([x.log_probabilities for x in found]) - at.clean[context], grid[edit, context])


def test_a_reduction(case):
    _, bridge, given, sae, _ = case
    at = resuming.resume(bridge, given, HOOK)
    edits = [Edit("add", row, 2.0) for row in sae.W_dec[:3]]
    divergence = acting.effects(at, edits, lambda new, old: (old.exp() * (old - new)).sum(-1), batch=4)
    assert divergence.shape == (3, 5)
    assert (divergence > 0).all()


def test_nan_names_the_strength(case):
    _, bridge, given, sae, _ = case
    with pytest.raises(
        ValueError, match=r"blocks\.1\.hook_mlp_out: an edit \(add, strength 1e\+38\).*lower the strength"
    ):
        acting.log_probabilities(bridge, given, HOOK, sae.W_dec[:1] * 10, strengths=torch.tensor([1e38]))


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number(strength):
    with pytest.raises(ValueError, match="give a finite number"):
        Edit("add", torch.ones(3), strength)


def test_an_edit_lacks_a_part():
    with pytest.raises(ValueError, match="an edit that is to ablate needs codes"):
        Edit("ablate", torch.ones(3))
