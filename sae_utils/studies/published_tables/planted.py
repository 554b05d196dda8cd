"""Two models whose SAEs were planted, not trained: the true partners are known, and whether they are arranged alike.

In: a world of `synthetic`, which gives the paired directions; what their groups follow; sizes. Out: codes on any text,
`views.Sides`, and the true partners.
Never: a model.

Words express concepts. Each model has one direction for each concept, and more concepts than
dimensions. Its SAE holds the true directions of most concepts. The input of the block holds the same concepts along
other directions. At the beginning of sequence and at padding all activations are one large vector.
"""

import math
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from pydantic import Field
from scipy import sparse
from scipy.special import ndtri

from sae_utils.arrays import unit
from sae_utils.engine.core.spec import Count, ProfileError, Rate, Spec
from sae_utils.engine.kernels.sides import Codes
from sae_utils.matching import Pairs
from sae_utils.studies.known_truth.synthetic import PairedRows, World, rotation
from sae_utils.studies.published_tables import views
from sae_utils.studies.published_tables.views import CODES, HOOK, MASK, PUBLISHED, Sides

Along: TypeAlias = Literal["chance", "frequency", "topics"]

SPECIAL = ("<pad>", "<bos>", ".")
THRESHOLD = 0.1  # subtracted before the ReLU
MASSIVE = 8.0  # length of the activations at beginning of sequence and padding, where a concept has about 1
INPUT_COSINE = 0.6  # of a concept's direction at the input of the block with that at its output
NOISE = 0.3  # length of the noise in activations
ON_TOPIC = 0.5  # share of a document's tokens that are words of its topic


class Gradient(Spec):
    """Rows that share one direction, along which their order runs; nothing else. As `synthetic.OneDirection`."""

    kind: Literal["gradient"]
    strength: float = Field(ge=0, le=1)  # share of the variance of either side that lies along it

    def draw(self, rng: np.random.Generator, n: int, d_a: int, d_b: int) -> PairedRows:
        """`n` pairs of `d_a` and `d_b` dimensions; places along the direction are quantiles of the normal law."""
        place = ndtri((np.arange(n) + 0.5) / n)[:, None]
        along = [math.sqrt(self.strength * d) * place @ rotation(rng, 1, d) for d in (d_a, d_b)]
        a, b = (x + math.sqrt(1 - self.strength) * rng.normal(size=x.shape) for x in along)
        return PairedRows(a, b, np.arange(n))


class Sizes(Spec):
    """Sizes of a planted pair."""

    concepts: Count  # directions in either model
    kept: Rate  # share of them that has a feature in either SAE
    words: Count
    expressed: Count  # concepts that a word expresses, and features active at a token after TopK
    documents: Count
    length: Count  # of the longest document, beginning of sequence included
    d_a: Count
    d_b: Count


class PlantedPair(NamedTuple):
    """Two planted sides."""

    sides: Sides
    partner: np.ndarray  # (features_a,) the true partner of every feature of A, -1 where B has none

    def true(self, pairs: Pairs) -> float:
        """Share of the pairs that were planted; NaN without pairs."""
        return float(np.mean(self.partner[pairs.a] == pairs.b)) if len(pairs) else np.nan


class Text(NamedTuple):
    """Planted tokens, every array (positions,)."""

    tokens: np.ndarray
    documents: np.ndarray
    inside: np.ndarray  # neither beginning of sequence nor padding


class Model(NamedTuple):
    """A planted model and its SAE."""

    express: sparse.csr_array  # (words, concepts) the concepts that a word expresses
    output: np.ndarray  # (concepts, d) directions at the block's output, of length 1
    before: np.ndarray  # (concepts, d) at its input
    constant: np.ndarray  # (1, d) activations at the beginning of sequence and at padding
    held: np.ndarray  # (features,) the concepts that have a feature
    k: int  # features active at a token after TopK

    @property
    def rows(self) -> np.ndarray:
        """Decoder rows (features, d)."""
        return self.output[self.held]


class Plan(NamedTuple):
    """Two planted models, the text that both read, and the true partners."""

    text: Text
    models: tuple[Model, Model]
    partner: np.ndarray  # as in `PlantedPair`
    words: list[str]


def draw(world: World | Gradient, sizes: Sizes, top: int, seed: int) -> PlantedPair:
    """A planted pair whose partners are arranged as `world` says; features have `top` top tokens."""
    rng = np.random.default_rng(seed)
    made = plan(rng, world, sizes)
    return PlantedPair(sides(made, codes(rng, made, made.text.tokens), top), made.partner)


def plan(
    rng: np.random.Generator, world: World | Gradient, sizes: Sizes, along: Along = "chance", *, partners: bool = True
) -> Plan:
    """Two planted models whose concepts are arranged as `world` says.

    `along`: what the order of the concepts follows, and so the groups of the world: chance, how often a concept is
    expressed, or the topics of the documents. Without `partners`, words express other concepts in B than in A.
    Raises ProfileError where a topic has fewer concepts than a word expresses.
    """
    directions = world.draw(rng, sizes.concepts, sizes.d_a, sizes.d_b)
    topic_of = directions.groups if along == "topics" else np.zeros(sizes.concepts, int)  # of every concept
    topics = rng.permutation(np.arange(sizes.words) % (topic_of.max() + 1))  # of every word
    text = _text(rng, sizes, topics)
    express = [_expressed(rng, sizes, topics, topic_of) for _ in range(1 if partners else 2)]
    if along == "frequency":
        express = [x[:, np.argsort(_frequency(sizes) @ x, kind="stable")] for x in express]
    number = int(sizes.kept * sizes.concepts)
    held = [rng.permutation(sizes.concepts)[:number] for _ in range(2)]
    models = tuple(_model(rng, express[side % len(express)], directions[side], held[side], sizes) for side in (0, 1))
    place = np.full(sizes.concepts, -1)
    place[held[1]] = np.arange(number) if partners else -1
    words = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), sizes.words))]
    return Plan(text, (models[0], models[1]), place[held[0]], words)


def codes(rng: np.random.Generator, made: Plan, tokens: np.ndarray, *, last: bool = False) -> list[dict[str, Codes]]:
    """Codes (positions, features) of both SAEs at every position, by the view that takes them; `last`: TopK only.

    `tokens`: those that both models read, in the place of the text's. Partners are equally strong at a position.
    """
    x, y = (model.express[tokens] for model in made.models)
    same = made.models[0].express is made.models[1].express
    x.data *= rng.lognormal(sigma=0.3, size=x.nnz)
    y.data *= x.data if same else rng.lognormal(sigma=0.3, size=y.nnz)
    return [_codes(rng, *side, made.text.inside, last=last) for side in zip(made.models, (x, y), strict=True)]


def sides(made: Plan, found: list[dict[str, Codes]], top: int) -> Sides:
    """The four views of the published procedure and ours; `found`: `codes` on the plan's own text."""
    text, seen = made.text, {}
    for name, of, inside in ((PUBLISHED, MASK, False), (MASK, MASK, True), (HOOK, HOOK, True), (CODES, CODES, True)):
        at = np.flatnonzero(text.inside) if inside else np.arange(len(text.tokens))
        seen[name] = views.view(found[0][of], found[1][of], at, text.tokens, text.documents, top)
    return Sides(seen, made.words, (made.models[0].rows, made.models[1].rows))


def exchanged(made: Plan) -> np.ndarray:
    """The text's tokens (positions,) with words of nearly equal frequency exchanged, the first with the second, etc."""
    first, words = len(SPECIAL), np.arange(len(made.words))
    swapped = first + ((words[first:] - first) ^ 1)
    words[first:] = np.where(swapped < len(words), swapped, words[first:])
    return np.asarray(words[made.text.tokens])


def _model(
    rng: np.random.Generator, express: sparse.csr_array, directions: np.ndarray, held: np.ndarray, sizes: Sizes
) -> Model:
    output = unit(directions)
    before = unit(INPUT_COSINE * output + np.sqrt(1 - INPUT_COSINE**2) * unit(rng.normal(size=output.shape)))
    constant = MASSIVE * unit(rng.normal(size=(1, output.shape[1])))
    return Model(express, output, before, constant, held, sizes.expressed)


def _codes(
    rng: np.random.Generator, model: Model, express: sparse.csr_array, inside: np.ndarray, *, last: bool
) -> dict[str, Codes]:
    """Codes of one SAE at every position: from the block's input, from its output, and after TopK."""
    found: dict[str, Codes] = {}
    for name, along in ((HOOK, model.output),) if last else ((MASK, model.before), (HOOK, model.output)):
        x = np.where(inside[:, None], express @ along, model.constant)
        x += NOISE / np.sqrt(x.shape[1]) * rng.normal(size=x.shape)
        found[name] = np.maximum(x.astype(np.float32) @ model.rows.T.astype(np.float32) - np.float32(THRESHOLD), 0)
    dense = found[HOOK]
    least = np.partition(dense, -model.k, axis=1)[:, -model.k][:, None]
    found[CODES] = sparse.csr_array(np.where(dense >= least, dense, 0))
    return found


def _frequency(sizes: Sizes) -> np.ndarray:
    """The share of tokens that each word is (words,): Zipf's law, the full stop the most frequent."""
    frequency = np.append([0.0, 0.0], 1 / np.arange(1, sizes.words - 1))  # none for <pad> and <bos>
    return frequency / frequency.sum()


def _text(rng: np.random.Generator, sizes: Sizes, topics: np.ndarray) -> Text:
    """Documents of several lengths, padded; each has a topic, where there are several."""
    frequency, shape = _frequency(sizes), (sizes.documents, sizes.length)
    tokens = rng.choice(sizes.words, size=shape, p=frequency)
    if topics.any():
        for row, topic in zip(tokens, rng.integers(topics.max() + 1, size=sizes.documents), strict=True):
            own = frequency * (topics == topic)
            on_topic = rng.random(sizes.length) < ON_TOPIC
            row[on_topic] = rng.choice(sizes.words, size=on_topic.sum(), p=own / own.sum())
    place, lengths = np.arange(sizes.length), rng.integers(sizes.length // 2, sizes.length + 1, sizes.documents)
    tokens[:, 0], tokens[place >= lengths[:, None]] = 1, 0
    tokens = tokens.ravel()
    return Text(tokens, np.repeat(np.arange(sizes.documents), sizes.length), tokens > 1)


def _expressed(rng: np.random.Generator, sizes: Sizes, topics: np.ndarray, topic_of: np.ndarray) -> sparse.csr_array:
    """Which concepts a word expresses, all of its own topic: (words, concepts).

    `topics` (words,), `topic_of` (concepts,). Raises ProfileError where a topic has too few concepts.
    """
    if np.bincount(topic_of).min() < sizes.expressed:
        raise ProfileError(f"a word expresses {sizes.expressed} concepts, which is more than a topic has")
    order = np.where(topics[:, None] == topic_of, rng.random((sizes.words, sizes.concepts)), 2)
    concepts = np.argsort(order, axis=1)[:, : sizes.expressed]
    word = np.repeat(np.arange(sizes.words), sizes.expressed)
    return sparse.csr_array((np.ones(len(word)), (word, concepts.ravel())), (sizes.words, sizes.concepts))
