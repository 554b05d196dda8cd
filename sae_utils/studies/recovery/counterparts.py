"""What the share with a counterpart reads where the shared features are known, at the level of codes.

In: a world of `worlds`, how well its features are recovered, how much text. Out: the share that is truly shared, and
for each repeat of the text the share with a counterpart and its interval.
Never: a trained SAE; a correction of a share.

Latents are planted beside the true features instead of trained. In the confounded world nothing is shared: words follow
one Zipf law, and every word activates features of its own in either model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field
from scipy import sparse

from sae_utils import correlate, matching
from sae_utils.arrays import unit
from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.core.spec import Count, ProfileError, Rate, Spec, build
from sae_utils.store import artefact
from sae_utils.studies import feature_matching
from sae_utils.studies.recovery import worlds
from sae_utils.studies.recovery.worlds import TrueModel, Truth, World

SIDES = ("a", "b")  # the models of a world: latents of A are asked for a counterpart in B


class Recovery(Spec):
    """How the latents of a model lie beside its true features."""

    latents: Count  # of either model
    found: Rate  # share of them that lie beside a true feature; the others have random directions
    least: float = Field(ge=0, le=1)  # cosines with the true features are uniform between this and 1
    near: float = Field(ge=0, le=1)  # cosine from which a latent recovers a feature
    k: Count  # latents active at a token


class Text(Spec):
    """How much text chooses partners and judges them."""

    tokens: Count  # of both halves together
    documents: Count  # of equal length; every other one judges
    # of the Zipf text of a confounded world; 0: features fire on their own
    words: int = Field(default=0, ge=0, lt=2**31)


class Latents(NamedTuple):
    """Planted latents of one model."""

    rows: np.ndarray  # (latents, d) float32 of norm 1
    place: np.ndarray  # (latents,) of the recovered feature in the world, -1 where none is near


def latents(rng: np.random.Generator, model: TrueModel, of: Recovery) -> Latents:
    """Latents beside true features chosen at random, and latents of random directions.

    Raises ValueError for more latents that lie beside a feature than there are features.
    """
    number, features = round(of.found * of.latents), len(model.rows)
    if number > features:
        raise ValueError(f"{number} latents beside {features} features: lower `latents` or `found`")
    beside = model.rows[rng.permutation(features)[:number]].astype(np.float64)
    cosine = rng.uniform(of.least, 1, (number, 1))
    off = rng.normal(size=beside.shape)
    off = unit(off - (off * beside).sum(axis=1, keepdims=True) * beside)
    elsewhere = unit(rng.normal(size=(of.latents - number, model.rows.shape[1])))
    rows = np.concatenate([cosine * beside + np.sqrt(1 - cosine**2) * off, elsewhere]).astype(np.float32)
    near = rows @ model.rows.T
    nearest = near.argmax(axis=1)
    return Latents(rows, np.where(near.max(axis=1) >= of.near, model.place[nearest], -1))


def topk(x: np.ndarray, rows: np.ndarray, k: int) -> sparse.csr_array:
    """Codes (tokens, latents): the `k` largest projections of `x` (tokens, d) on `rows` that are above 0."""
    found = np.maximum(x @ rows.T, 0)
    least = np.partition(found, -k, axis=1)[:, -k][:, None]
    return sparse.csr_array(np.where(found >= least, found, 0))


def activations(truth: Truth, text: Text, active: int, seed: int) -> dict[str, np.ndarray]:
    """Activations (tokens, d) of both models on one text.

    In a Zipf text every word activates `active` features of each model, which do not depend on the text.
    """
    if not text.words:
        return {name: sample.x for name, sample in truth.sample(text.tokens, seed).items()}
    frequency = 1 / np.arange(1, text.words + 1)
    rng = np.random.default_rng([seed, text.words])
    word = rng.choice(text.words, size=text.tokens, p=frequency / frequency.sum())
    models = enumerate(truth.models.items())
    return {name: _of_words(rng, model, word, (number, text.words, active)) for number, (name, model) in models}


def _of_words(rng: np.random.Generator, model: TrueModel, word: np.ndarray, of: tuple[int, int, int]) -> np.ndarray:
    """Activations (tokens, d) of one model; `of`: its number, words, features that each activates."""
    number, words, active = of
    features = len(model.rows)
    lexicon = np.random.default_rng([number, words]).random((words, features)).argsort(axis=1)[:, :active]
    at = np.repeat(np.arange(len(word)), active), lexicon[word].ravel()
    codes = sparse.csr_array((2 - 2 * rng.random(at[0].size, np.float32), at), shape=(len(word), features))
    x = codes @ model.rows
    return np.asarray(x + np.float32(model.noise) * rng.standard_normal(x.shape, np.float32))


class Read(NamedTuple):
    """The share with a counterpart on one text, by threshold."""

    share: np.ndarray  # (thresholds,) of the latents of A
    low: np.ndarray
    high: np.ndarray
    shared: np.ndarray  # (thresholds,) of those that are truly shared; NaN where none is
    private: np.ndarray  # (thresholds,) of the others; NaN where there is none


def read(
    x: dict[str, np.ndarray], planted: tuple[Latents, Latents], shared: np.ndarray, k: int, text: Text,
    thresholds: list[float],
) -> Read:  # fmt: skip
    """Partners that the even documents choose by correlation, judged by the odd ones (`feature_matching.curve`)."""
    a, b = (topk(x[name], of.rows, k) for name, of in zip(SIDES, planted, strict=True))
    document = np.arange(text.tokens) * text.documents // text.tokens
    judging = np.flatnonzero(document % 2)
    pairs = matching.many_to_one(correlate.features(a, b, k=1, rows=np.flatnonzero(document % 2 == 0)), "a_to_b")
    found = feature_matching.curve(a, b, pairs, document, judging, thresholds)
    r = correlate.pairs(a, b, pairs.a, pairs.b, rows=judging)
    parts = [_reached(r[shared[pairs.a] == kind], thresholds) for kind in (True, False)]
    return Read(found.share, found.low, found.high, *parts)


def _reached(r: np.ndarray, thresholds: list[float]) -> np.ndarray:
    known = r[np.isfinite(r)]
    return feature_matching.reached(known, thresholds) if len(known) else np.full(len(thresholds), np.nan)


@artefact
def repeated(
    folder: Path, world: World, of: Recovery, text: Text, thresholds: list[float], repeats: int, seed: int
) -> dict[str, Any]:
    """`repeats` texts of one draw of a world and its latents: arrays of `Read`'s names (repeats, thresholds).

    `true` in meta: the share of A's latents that are truly shared.
    """
    truth = world.draw(seed)
    rng = np.random.default_rng([seed, 1])
    a, b = (latents(rng, truth.models[name], of) for name in SIDES)
    shared = worlds.truly_shared(a.place, b.place, truth.shared)
    active = round(world.firing.active)
    found = [
        read(activations(truth, text, active, number), (a, b), shared, of.k, text, thresholds)
        for number in tqdm(range(repeats), "texts", leave=False)
    ]
    for name, values in zip(Read._fields, zip(*found, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.array(values))
    return {"true": float(shared.mean())}


# --- which worlds


class Cell(NamedTuple):
    """A planted world by what is varied."""

    shared: float
    noise: float
    words: bool  # whether words follow Zipf's law, and nothing is shared

    def __str__(self) -> str:
        return f"Zipf, noise {self.noise:g}" if self.words else f"{self.shared:g} shared, noise {self.noise:g}"


def check(section: Mapping[str, Any], where: str) -> None:
    """Refuse a section of 06e whose world, latents or text do not fit. Raises ProfileError."""
    of = build(Recovery, section["recovery"], f"{where}.recovery")
    text = build(Text, section["text"], f"{where}.text")
    found = cells(section["world"], section["shares"], section["noise"], text, where)
    features = next(iter(found.values())).world.features
    if round(of.found * of.latents) > features:
        raise ProfileError(f"{where}.recovery.latents: {of.latents}, of which {of.found:.0%} would lie beside "
                           f"{features} features; give fewer")  # fmt: skip
    if not 1 <= of.k <= of.latents:
        raise ProfileError(f"{where}.recovery.k: {of.k} of {of.latents} latents")
    if not text.documents <= text.tokens >= features:
        raise ProfileError(f"{where}.text.tokens: {text.tokens}; give as many as documents and features, or more")


class Setting(NamedTuple):
    """A world and the text that its models read."""

    world: World
    text: Text


def cells(
    value: Mapping[str, Any], shares: Sequence[float], noise: Sequence[float], text: Text, where: str
) -> dict[Cell, Setting]:
    """All worlds: every share at every noise without words, then nothing shared at every noise with them.

    `value`: a world, as a profile writes it, without `shared` and `noise`. Raises ProfileError for what is no world, a
    share outside [0, 1], models of other names than "a" and "b".
    """
    found = {}
    asked = [Cell(share, x, False) for share in shares for x in noise] + [Cell(0.0, x, True) for x in noise]
    for cell in asked:
        models = {name: {**model, "noise": cell.noise} for name, model in value["models"].items()}
        world = worlds.world({**value, "shared": cell.shared, "models": models}, f"{where}.world")
        if tuple(world.models) != SIDES:
            raise ProfileError(f"{where}.world.models: {', '.join(world.models)}; give `a` and `b`, in this order")
        found[cell] = Setting(world, text if cell.words else text.model_copy(update={"words": 0}))
    return found
