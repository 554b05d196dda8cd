"""Units about a concept: SAE features and neurons by one rule, neurons without a stored activation.

In: a dictionary of a profile, a kind of unit, lists of words, a rule. Out: masks of the units.
Never: a list of words, a rule of its own (`semantic_subspaces.concepts` has both).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from transformers import AutoTokenizer

from sae_utils import pipeline
from sae_utils.engine.lms import batching, models
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, aligned, correlations
from sae_utils.engine.text.words import Words, find_words, token_texts
from sae_utils.store import Artefact, artefact
from sae_utils.studies.llm_vs_sae import across, units
from sae_utils.studies.llm_vs_sae.across import Read
from sae_utils.studies.semantic_subspaces import concepts
from sae_utils.studies.semantic_subspaces.concepts import Evidence, Mask, Mass


def about(profile: Profile, name: str, kind: str, lists: Mapping[str, Sequence[str]], rule: Mass) -> dict[str, Mask]:
    """By concept the mask (units,) of the SAE features or neurons that are about its words, on the matching documents.

    `rule`: one that looks at where the activation is, not at the strongest tokens.
    """
    found = of_features(profile, name) if kind == units.SAE else of_neurons(profile, name, lists)
    return {
        concept: concepts.about(found, concepts.word_mask(listed, found), rule) for concept, listed in lists.items()
    }


def of_features(profile: Profile, name: str) -> Evidence:
    """The words on which the features of a dictionary fire, on the matching documents."""
    x = pipeline.features(profile, name)
    words, on = pipeline.words(profile, name, x.sites), correlations.in_split(x.sites, "matching")
    return concepts.evidence(x.codes, words, x.sites.array("documents"), on, k=1)


def of_neurons(profile: Profile, name: str, lists: Mapping[str, Sequence[str]]) -> Evidence:
    """The listed words on which the neurons of the layer that a dictionary reads fire, on the matching documents."""
    x, (_, block) = pipeline.reader(profile, name), units.place(profile, name)
    listed = sorted({word.casefold() for words in lists.values() for word in words})
    hook, where = f"blocks.{block}.{units.HOOKS[units.NEURONS]}", pipeline.positions(profile)
    if where is None:
        sites, tokenizer = activations.sites(x.rows, x.skip), pipeline.tokenizer_of(profile, name)
        kept = heard(x.model, hook, x.rows, sites, tokenizer, x.skip, listed)
    else:
        read, lexicon = across.read(profile, name, [None]), pipeline.lexis(profile)
        kept = heard_across(x.model, hook, read, where, lexicon, x.skip, listed)
    total, firings, occurs = (kept.array(field) for field in ("total", "firings", "occurs"))
    nothing = np.empty((len(total), 0), np.int32)  # strongest tokens, which are not kept
    return Evidence(tuple(listed), nothing, sparse.csr_array(kept.array("mass")), total, firings, occurs)


@artefact
@torch.no_grad()
def heard(
    folder: Path, model: Artefact, hook: str, rows: Artefact, sites: Artefact, tokenizer: Artefact, skip: int,
    listed: Sequence[str],
) -> None:  # fmt: skip
    """Sums of the activation above 0 of the units at a hook, on the matching documents.

    `mass`, float64 (listed words, units): over the tokens at which the word ends. `total` (units,): over all tokens.
    `firings` (units,): tokens above 0. `occurs` (listed words,): of the word.
    """
    texts = token_texts(AutoTokenizer.from_pretrained(tokenizer.path, trust_remote_code=False))
    words = find_words(texts, *(sites.array(name) for name in ("tokens", "rows", "positions")))
    chosen = batching.rows_in(rows, "matching")
    stream = models.stream(models.load(model), rows, chosen, [hook], skip, label="neurons by word")
    _sum(folder, (window[hook] for window in stream), words, correlations.in_split(sites, "matching"), listed)


@artefact
@torch.no_grad()
def heard_across(
    folder: Path, model: Artefact, hook: str, read: Read, positions: Artefact, lexicon: Artefact, skip: int,
    listed: Sequence[str],
) -> None:  # fmt: skip
    """As `heard`, at the positions that two tokenizers share; their words are those of the `lexicon`."""
    words = aligned.find_words(aligned.words_of(lexicon), positions.array("tokens"))
    stream = across.windows(models.load(model), read, 0, positions, "matching", [hook], skip)
    _sum(folder, (window[hook] for window in stream), words, correlations.in_split(positions, "matching"), listed)


def _sum(folder: Path, windows: Iterable[torch.Tensor], words: Words, on: Mask, listed: Sequence[str]) -> None:
    """Write the sums of `heard` over windows of the tokens at which `on` (tokens,) holds."""
    place = {word: number for number, word in enumerate(listed)}
    number = np.array([*(place.get(word, -1) for word in words.text), -1])  # a token that ends no word is the last
    of = number[words.of[on]]
    found: dict[str, np.ndarray] = {"occurs": np.bincount(of[of >= 0], minlength=len(listed))}
    start = 0
    for window in windows:
        x = window.clamp(min=0).cpu().numpy()
        ends = np.flatnonzero(of[start : start + len(x)] >= 0)
        at = sparse.csr_array((np.ones(len(ends), np.float32), (of[start + ends], ends)), shape=(len(listed), len(x)))
        for name, values in {"mass": at @ x, "total": x.sum(0), "firings": (x > 0).sum(0)}.items():
            found[name] = found.get(name, 0) + values.astype(np.float64)
        start += len(x)
    for name, values in found.items():
        np.save(folder / f"{name}.npy", values)
