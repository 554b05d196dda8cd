"""A view of two SAEs is what a direct computation gives at the same positions."""

import numpy as np
import pytest
import torch
from scipy import sparse

from sae_utils import correlate, matching, pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import batching, models
from sae_utils.engine.saes import activations, dictionaries
from sae_utils.studies.published_tables import ladder, published, views

POSITIONS = 2500


@pytest.fixture(scope="module")
def source(world):
    return pipeline.reader(world, "two_layer")


@pytest.fixture(scope="module")
def where(world, source):
    return views.positions(source.rows, POSITIONS, source.skip)


def test_topk_of_the_rectified_pre_activations_gives_the_codes(world, source):
    sae = dictionaries.load(source.dictionary)
    x = torch.randn(50, sae.cfg.d_in, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = views.rectified(sae, x), sae.encode(x)
    kept = torch.topk(before, sae.cfg.k, dim=1)
    assert torch.allclose(torch.zeros_like(before).scatter(1, kept.indices, kept.values), after, atol=1e-6)
    assert (before > 0).sum() > (after > 0).sum()  # or TopK would change nothing here


def test_positions_are_all_tokens_and_inside_are_the_sites(source, where):
    sites = activations.sites(source.rows, source.skip)
    inside = where.array("inside")
    mine = np.isin(sites.array("rows"), where.array("chosen"))
    assert np.array_equal(where.array("tokens")[inside], sites.array("tokens")[mine])
    assert np.array_equal(where.array("documents")[inside], sites.array("documents")[mine])
    lengths = source.rows.array("lengths")[where.array("chosen")]
    assert len(inside) == lengths.max() * len(lengths) and inside.sum() == (lengths - source.skip).sum()


@pytest.mark.parametrize("most", [112, 500, 3333, 10_000, 10**6])
def test_no_more_positions_are_viewed_than_asked_for(source, most):
    found = views.positions(source.rows, most, source.skip)
    matching = np.flatnonzero(source.rows.array("split") == 1)
    chosen, lengths = found.array("chosen"), source.rows.array("lengths")
    assert np.array_equal(chosen, matching[: len(chosen)]) and 0 < found.meta["tokens"] <= most
    # one more row would not have fitted, with the padding of a whole batch
    width = lengths[matching].max()
    assert len(chosen) == len(matching) or found.meta["tokens"] + 64 * width > most
    for name in ("tokens", "documents", "inside"):
        assert (
            len(found.array(name))
            == found.meta["tokens"]
            == sum(len(batch) * lengths[batch].max() for batch in batching.in_order(chosen))
        )


def test_too_few_positions_for_one_row_are_refused(source):
    with pytest.raises(ProfileError, match=r"12_published_tables\.positions: 20 are fewer than a row"):
        views.positions(source.rows, 20, source.skip)


def test_one_pass_over_a_model_serves_all_its_dictionaries(world, monkeypatch):
    """It serves both hooks, both pairs, and every published cell."""
    passed, harvest = [], models.harvest
    names = ("one_layer", "two_layer")
    for name in names:
        pipeline.features(world, name)
    monkeypatch.setattr(models, "harvest", lambda *given, **more: passed.append(given[3]) or harvest(*given, **more))
    for pair in (names, names[::-1]):
        views.sides(world, *pair, 3000, 5)
    assert sorted(passed) == [
        ["blocks.0.hook_resid_post", "blocks.1.hook_mlp_out"],
        ["blocks.0.hook_resid_pre", "blocks.0.hook_mlp_out"],
    ]
    settings = ladder.Settings(tokens=["."], top=3, least_r=0.1, draws=20, permutations=99, seed=0)
    cells = [published.Cell("m", "m", 1, 2, *pair) for pair in (names, names[::-1])]
    assert list(ladder.cells(world, cells, 2900, settings)) == cells and len(passed) == 4


@pytest.mark.parametrize("name", [views.PUBLISHED, views.MASK, views.HOOK])
def test_partners_are_those_of_a_direct_computation(world, source, where, name):
    hook = source.hook if name == views.HOOK else models.block_input(source.hook)
    x = views.source(source, views.Texts([source.rows], [where]))
    kept = views.partners([x, x], [where], 3, [name])
    bridge, sae = models.load(source.model), dictionaries.load(source.dictionary)
    (part,) = models.harvest(bridge, source.rows, iter([where.array("chosen")]), [hook], 0)
    with torch.no_grad():
        dense = torch.relu(sae.process_sae_in(part.activations[hook].flatten(0, 1)) @ sae.W_enc + sae.b_enc).numpy()
    at = slice(None) if name == views.PUBLISHED else where.array("inside")
    found = views.read(kept, name)
    expected = matching.mutual(correlate.features(*[sparse.csr_array(dense[at])] * 2, k=1))
    assert np.array_equal(found.mutual.a, expected.a) and np.array_equal(found.mutual.b, expected.b)
    assert np.array_equal(found.firings[0], (dense[at] > 0).sum(0))
    assert not [file for file in kept.path.iterdir() if file.is_dir()]  # no pre-activations are kept


def test_the_control_reads_exchanged_words_at_the_same_places(world):
    """Both arms after TopK, from the stored codes of both texts; the tokens are those that A reads."""
    names, half = ("one_layer", "two_layer"), POSITIONS // 2
    true, control = views.arms(world, *names, seed=5, most=2 * half, top=3)
    plain, exchanged = ([pipeline.features(world, name, seed) for name in names] for seed in (None, 5))
    chosen = views.positions(pipeline.reader(world, names[0]).rows, half, 1).array("chosen")
    at = np.flatnonzero(np.isin(plain[0].sites.array("rows"), chosen))
    tokens = [x[0].sites.array("tokens")[at] for x in (plain, exchanged)]
    assert (tokens[0] != tokens[1]).mean() > 0.2
    documents = plain[0].sites.array("documents")[at]
    for arm, order in ((true, (plain, exchanged)), (control, (exchanged, plain))):
        a = sparse.vstack([x[0].codes[at] for x in (plain, exchanged)], format="csr")
        b = sparse.vstack([x[1].codes[at] for x in order], format="csr")
        both = np.concatenate(tokens), np.concatenate([documents, documents + documents.max() + 1])
        expected = views.view(a, b, np.arange(2 * len(at)), *both, 3)
        for kind in ("b_to_a", "mutual"):
            found, wanted = getattr(arm.views[views.CODES], kind), getattr(expected, kind)
            assert np.array_equal(found.a, wanted.a) and np.array_equal(found.b, wanted.b)
            assert np.allclose(found.r, wanted.r, atol=1e-4)
