"""How a model turns a direction of its residual stream into logits, on the words that two models share.

In: a model's artefact, its tokenizer; a checked profile and two dictionaries. Out: the effective unembedding, the
words that both models have as tokens, and the exchange of these words.
Never: logits of a text; a position of a text.

The final norm multiplies every direction by the same positive number at a position, and by a scale of its own in every
dimension. The first does not change a correlation of logits, so that only the second is read.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sae_utils import pipeline
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import hooking
from sae_utils.engine.params import Profile
from sae_utils.engine.text import lexicon, tokenization
from sae_utils.engine.text.words import WORD, token_texts
from sae_utils.store import Artefact

Ints = NDArray[np.int64]
WRITES = re.compile(r"hook_(resid_(pre|mid|post)|attn_out|mlp_out|out)$")  # hooks whose value is added to the stream
FEWEST = 50  # shared words; a correlation over fewer says little


class Head(NamedTuple):
    """The final norm and the unembedding of a model."""

    scale: NDArray[np.float64]  # (d,) of the final norm, ones where there is none
    centred: bool  # whether the norm subtracts the mean over d, as LayerNorm does
    weight: NDArray[np.float32]  # (vocabulary, d) of the unembedding

    def effective(self, tokens: Ints) -> NDArray[np.float32]:
        """The logits of `tokens` as a linear map of a direction, less their mean: (tokens, d)."""
        found = self.weight[tokens] * self.scale
        if self.centred:
            found -= found.mean(axis=1, keepdims=True)
        return np.asarray(found - found.mean(axis=0), np.float32)


def head(model: Artefact) -> Head:
    """The final norm and the unembedding of a model, tied or not.

    Raises ProfileError if no module of the network is its final norm.
    """
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model.path, use_safetensors=True, trust_remote_code=False).float()
    return of_network(network)


@torch.no_grad()
def of_network(network: Any) -> Head:
    """`head` of a network as transformers loads it."""
    run, last = hooking.run_with_torch_hooks(network), network.get_output_embeddings()
    modules = dict(network.named_modules())
    given = run.inputs[next(name for name, module in modules.items() if module is last)]
    weight: NDArray[np.float32] = last.weight.float().cpu().numpy()
    if _same(given, run.outputs[run.blocks[-1]]):
        return Head(np.ones(weight.shape[1]), False, weight)
    leaves = [name for name in run.outputs if name in run.inputs and not list(modules[name].children())]
    for name in leaves:
        if _same(run.outputs[name], given) and not _same(run.inputs[name], given):
            return Head(*_probed(modules[name], weight.shape[1]), weight)
    kind = network.config.model_type
    raise ProfileError(f"{kind}: no module of the network is its final norm, so that no direction has known logits; "
                       "take a model of another family")  # fmt: skip


def _same(one: torch.Tensor, two: torch.Tensor) -> bool:
    return one.shape == two.shape and torch.allclose(one.float(), two.float(), rtol=1e-4, atol=1e-5)


def _probed(norm: Any, d: int) -> tuple[NDArray[np.float64], bool]:
    """The scale of a norm, and whether it subtracts the mean: from its values, as families write the scale differently.

    The odd part of the norm has no bias; x has mean 0 and a mean square of 1, so that norms of both kinds agree on it.
    """
    x = torch.linspace(1, 2, d, dtype=torch.float64)
    x[1::2] *= -1
    x = ((x - x.mean()) / (x - x.mean()).square().mean().sqrt()).to(next(norm.parameters()))
    odd = (norm(x[None, None]) - norm(-x[None, None]))[0, 0] / 2
    shifted = (norm(x[None, None] + 1) - norm(-x[None, None] - 1))[0, 0] / 2
    centred = bool((shifted - odd).abs().max() < 1e-2 * odd.abs().max())
    return (odd / x).double().cpu().numpy(), centred


# --- the words that two models share


class Shared(NamedTuple):
    """Words that are one token in both models, in the order of A's tokens."""

    words: list[str]
    a: Ints  # (words,) their tokens in A
    b: Ints  # (words,) in B
    share: tuple[float, float]  # of the tokens of A and of B that are text
    partner: Ints  # (words,) the place of the word with which each changes places in the control arm


def shared(profile: Profile, a: str, b: str, exchanged: int | None = None) -> Shared:
    """The words that the models of two dictionaries share; with one tokenizer all of its tokens that are text.

    `exchanged`: seed of the exchange of words; a word whose partner is not shared is left out.
    Raises ProfileError for fewer than `FEWEST` words.
    """
    from transformers import AutoTokenizer

    paths = (pipeline.tokenizer_of(profile, name).path for name in (a, b))
    texts = []
    for read in (AutoTokenizer.from_pretrained(path, trust_remote_code=False) for path in paths):
        special = tokenization.special_tokens(read)
        texts.append({token: text for token, text in enumerate(token_texts(read)) if text and token not in special})
    return by_string(texts[0], texts[1], exchanged, f"params/{profile.name}.yaml: {a} and {b}")


def by_string(a: dict[int, bytes], b: dict[int, bytes], exchanged: int | None = None, where: str = "") -> Shared:
    """`shared` of two vocabularies, token -> text; with other texts, of the whole words that both have as one token."""
    if a == b:
        of_a = of_b = {text.removeprefix(b" "): token for token, text in reversed(a.items())}
        if len(of_a) < len(a):  # " cat" and "cat" are two tokens
            of_a = of_b = {text: token for token, text in reversed(a.items())}
    else:
        of_a, of_b = whole_words(a), whole_words(b)
    both = sorted((token, text) for text, token in of_a.items() if text in of_b)
    words = [text.decode("utf-8", "replace") for _, text in both]
    partner = np.arange(len(words)) if exchanged is None else exchange(words, exchanged)
    kept = np.flatnonzero(partner >= 0)
    if len(kept) < FEWEST:
        raise ProfileError(f"{where}: {len(kept)} words are one token of both models, and correlations of logits need "
                           f"{FEWEST}; compare models whose vocabularies have more words in common")  # fmt: skip
    tokens = [np.array([of[both[i][1]] for i in kept], np.int64) for of in (of_a, of_b)]
    number = np.full(len(words), -1)
    number[kept] = np.arange(len(kept))
    share = len(kept) / len(a), len(kept) / len(b)
    return Shared([words[i] for i in kept], tokens[0], tokens[1], share, number[partner[kept]])


def whole_words(texts: dict[int, bytes]) -> dict[bytes, int]:
    """Word -> its token, of the tokens that are a word with the space before it; without spaces, of all words.

    A tokenizer of pieces writes "the" in "lathe" without a space, and the word with one.
    """
    spaced = any(text.startswith(b" ") for text in texts.values())
    words = {token: text.removeprefix(b" ") for token, text in texts.items() if text.startswith(b" ") or not spaced}
    return {word: token for token, word in reversed(words.items()) if WORD.fullmatch(word.decode("utf-8", "replace"))}


def exchange(words: Sequence[str], seed: int) -> Ints:
    """The place of the word with which each changes places (words,): its own if it stays, -1 if the other is missing.

    Source of the exchange: `lexicon.exchange`.
    """
    replaced = lexicon.exchange(seed)
    content = lexicon.load_lexicon().words[: len(replaced)]
    other = dict(zip(content, (content[i] for i in replaced), strict=True))
    place = {word: i for i, word in enumerate(words)}
    found = (other.get(word.lstrip(" "), word) for word in words)
    spaced = (" " + new if old.startswith(" ") and new != old else new for old, new in zip(words, found, strict=True))
    return np.array([place.get(word, -1) for word in spaced], np.int64)


def writes(profile: Profile, names: Sequence[str]) -> bool:
    """Whether the decoders of all these dictionaries write to the residual stream."""
    return all(WRITES.search(pipeline.reader(profile, name).hook) for name in names)


def check_hook(name: str, hook: str) -> None:
    """Refuse a dictionary whose decoder does not write to the residual stream. Raises ProfileError."""
    if not WRITES.search(hook):
        raise ProfileError(
            f"dictionaries.{name}: it reads {hook}, whose value is not added to the residual stream, so that its "
            "directions have no logits; take hook_mlp_out, hook_attn_out or hook_resid_post"
        )
