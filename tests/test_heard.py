"""Neurons by word are what their activations say at the tokens at which the words end."""

import numpy as np
import torch

from sae_utils import pipeline
from sae_utils.engine.lms import models
from sae_utils.engine.saes import activations, correlations
from sae_utils.studies.llm_vs_sae import heard, units
from sae_utils.studies.semantic_subspaces import concepts

LISTS = {"creatures": ("fox", "Owl", "nowhere"), "small words": ("the", "a", "and")}
RULE = concepts.rule({"kind": "mass", "share": 0.07})


def stored(world, name: str):
    """The neurons at all sites, the mask of the matching documents and the words, as for any codes."""
    x = pipeline.reader(world, name)
    sites, hook = activations.sites(x.rows, x.skip), f"blocks.{models.block_of(x.hook)}.mlp.hook_post"
    with torch.no_grad():
        stream = models.stream(models.load(x.model), x.rows, activations.judged(x.rows), [hook], x.skip)
        values = torch.cat([window[hook] for window in stream]).numpy()
    return values, correlations.in_split(sites, "matching"), pipeline.words(world, name, sites), sites


def test_sums_by_word_are_those_of_the_activations(world):
    values, on, words, sites = stored(world, "two_layer")
    whole = concepts.evidence(values, words, sites.array("documents"), on, k=1)
    found = heard.of_neurons(world, "two_layer", LISTS)
    assert found.words == ("a", "and", "fox", "nowhere", "owl", "the")
    for place, word in enumerate(found.words):
        there = words.text.index(word) if word in words.text else None
        mass = whole.mass[[there]].toarray()[0] if there is not None else 0
        np.testing.assert_allclose(found.mass[[place]].toarray()[0], mass, rtol=1e-4, atol=1e-4)
        assert found.occurs[place] == (whole.occurs[there] if there is not None else 0)
    np.testing.assert_allclose(found.total, whole.total, rtol=1e-4)
    np.testing.assert_array_equal(found.firings, whole.firings)


def test_one_rule_for_neurons_and_features(world):
    values, on, words, sites = stored(world, "two_layer")
    codes = pipeline.features(world, "two_layer").codes
    for kind, of in ((units.NEURONS, values), (units.SAE, codes)):
        whole = concepts.evidence(of, words, sites.array("documents"), on, k=1)
        found = heard.about(world, "two_layer", kind, LISTS, RULE)
        for concept, listed in LISTS.items():
            expected = concepts.about(whole, concepts.word_mask(listed, whole), RULE)
            np.testing.assert_array_equal(found[concept], expected)
        assert 0 < expected.sum() < len(expected), "of the last list"
