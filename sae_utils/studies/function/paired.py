"""The features of two dictionaries with their partners, their logits and their text, read from the store.

In: a checked profile and the names of a replicate. Out: pairs in both arms; one record of all that notebook 08b asks
of them.
Never: a score, an interval, a verdict.

**The control arm of logits.** In the control arm B reads exchanged words, and stands for a model of the world in which
they have changed places. Such a model writes "cat" where B writes the word that changes places with it. So B's logits
are read through the same exchange: word w of A is compared with the word that changes places with w in B.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import matching, pipeline, replicates
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.geometry.registry import Floats
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import dictionaries
from sae_utils.labels import SPACE
from sae_utils.studies.controls import facts
from sae_utils.studies.function import attribution, heads, sites
from sae_utils.studies.function.attribution import Space
from sae_utils.studies.function.heads import Shared
from sae_utils.studies.function.sites import Told

Ints = NDArray[np.int64]
TRUE, CONTROL = "true", "control"
FEWEST = 3  # pairs of a view


class Paired(NamedTuple):
    """Features of one side with their partners on the other."""

    left: Ints  # (n,)
    right: Ints  # (n,)
    r: np.ndarray  # (n,) held-out correlation of their activations, NaN where one is dead there


class View(NamedTuple):
    """Pairs of one role of the sides and of the documents, in each arm."""

    role: str  # the side of `left`: "a" or "b"
    arms: dict[str, Paired]  # without replicates only the true one


def views(run: Profile, names: Sequence[str], minimum: int, candidates: int) -> list[View]:
    """The pairs of (A, B), whose control exchanges words, or of (A, B, twin of B), in both roles of the documents.

    With replicates: content features with one partner each, the same features in both arms (`replicates.matched`).
    Without: mutual pairs, of A and B, and of A and the twin. Views with fewer than `FEWEST` pairs in an arm are left
    out. Raises ProfileError where none is left.
    """
    made = _views(run, names, minimum, candidates)
    if kept := [view for view in made if min(len(x.left) for x in view.arms.values()) >= FEWEST]:
        return kept
    most = max(min(len(x.left) for x in view.arms.values()) for view in made)
    raise ProfileError(
        f"params/{run.name}.yaml: {' and '.join(names)}: {most} pairs of features, too few to compare their "
        "logits; give the corpus more documents, the SAEs more samples, or lower `minimum_firings`"
    )


def _views(run: Profile, names: Sequence[str], minimum: int, candidates: int) -> list[View]:
    if run.common.replicates:
        _, found = replicates.matched(run, tuple(names), minimum)
        return [
            View(
                x.role,
                {TRUE: Paired(x.features, x.true, x.r_true), CONTROL: Paired(x.features, x.control, x.r_control)},
            )
            for x in found
        ]
    a, *others = (pipeline.features(run, name) for name in names)
    roles = ({arm: _mutual(a, b, candidates, swapped) for arm, b in zip((TRUE, CONTROL), others, strict=False)}
             for swapped in (False, True))  # fmt: skip
    return [View("a", arms) for arms in roles]


def _mutual(a: pipeline.Features, b: pipeline.Features, candidates: int, swapped: bool) -> Paired:
    both = pipeline.correlated(a, b, candidates, swapped=swapped)
    pairs = matching.mutual(both.found)
    return Paired(pairs.a.astype(np.int64), pairs.b.astype(np.int64), both.held_out(pairs))


# --- one side


class Side(NamedTuple):
    """A dictionary: its directions, and what is known of its features from all texts that it reads."""

    decoder: NDArray[np.float32]  # (features, d)
    u: NDArray[np.float32]  # (words, d) effective unembedding of the shared words
    counts: sparse.csr_array  # (features, words) next words where a feature fires
    share: Floats  # (words,) of all next words
    mass: sparse.csr_array  # (features, labels) activation on the top tokens
    labels: list[str]  # of tokens; of words where there are two tokenizers
    classes: Ints  # (features,) the class with most of its activation, -1 for none
    firings: Ints  # (features,)
    mean_code: Floats  # (features,) where it fires

    @property
    def classed(self) -> bool:
        """Whether classes of words are known."""
        return bool((self.classes >= 0).any())

    @property
    def top(self) -> Ints:
        """(features,) the token with the most activation, -1 for a dead feature."""
        return largest(self.mass)

    def told(self, features: Ints, words: Ints | None = None) -> Told:
        """What some features promote, and what the text says at their sites; with the words in another order."""
        counts = self.counts[features]
        if words is None:
            return Told(self.decoder[features], self.u, counts, self.share)
        return Told(self.decoder[features], self.u[words], counts[:, words], self.share[words])


def largest(mass: sparse.csr_array) -> Ints:
    """(rows,) the column with the largest value of each row, -1 for an empty one."""
    found = np.full(mass.shape[0], -1, np.int64)
    for row in np.flatnonzero(np.diff(mass.indptr)):
        span = slice(mass.indptr[row], mass.indptr[row + 1])
        found[row] = mass.indices[span][mass.data[span].argmax()]
    return found


def side(run: Profile, name: str, own: Ints, words: Sequence[str], readings: Sequence[int | None], top: int) -> Side:
    """A dictionary on the text and its other `readings`; `own` (words,) are its tokens of the shared `words`.

    Raises ProfileError for a dictionary that does not write to the residual stream.
    """
    source = pipeline.reader(run, name)
    heads.check_hook(name, source.hook)
    read = [pipeline.features(run, name, reading) for reading in readings]
    codes = sparse.csr_array(sparse.vstack([x.codes for x in read], format="csr"))
    labels = pipeline.vocabulary(run, name)
    place = _place(own, words, labels, pipeline.one_tokenizer(run))
    following = np.concatenate([sites.next_places(x.sites, place) for x in read])
    tokens, classes = (np.concatenate([x.sites.array(key) for x in read]) for key in ("tokens", "classes"))
    firings = np.bincount(codes.indices, minlength=codes.shape[1])
    return Side(
        decoder=read[0].decoder,
        u=heads.head(source.model).effective(own),
        counts=sites.counts(codes, following, len(words)),
        share=sites.totals([following], len(words)),
        mass=facts.top_tokens(facts.token_mass(codes, tokens, len(labels)), top),
        labels=[label.strip(SPACE) or label for label in labels],
        classes=largest(facts.token_mass(codes[classes >= 0], classes[classes >= 0], int(classes.max(initial=0)) + 1)),
        firings=firings,
        mean_code=np.asarray(codes.sum(axis=0)).ravel() / np.maximum(firings, 1),
    )


def _place(own: Ints, words: Sequence[str], labels: Sequence[str], one_tokenizer: bool) -> Ints:
    """(labels,) the shared word of every label of the sites, -1 for none."""
    if one_tokenizer:
        found = np.full(len(labels), -1, np.int64)
        found[own] = np.arange(len(own))
        return found
    of = {word: i for i, word in enumerate(words)}
    return np.array([of.get(label, -1) for label in labels], np.int64)


# --- both sides of a replicate


class Both(NamedTuple):
    """A and B, or A and a twin of B, in one space of logits for each arm."""

    a: Side
    b: Side
    shared: Shared
    units: dict[str, tuple[np.ndarray, np.ndarray]]  # arm -> unit rows (features, k) of A and of B
    spaces: dict[str, Space]

    def sides(self, role: str) -> tuple[Side, Side]:
        """The side of the left features, and that of the right ones."""
        return (self.a, self.b) if role == "a" else (self.b, self.a)

    def similar(self, role: str, arm: str, x: Paired) -> np.ndarray:
        """(n, n) correlations of the logits of every left feature with those of every right one."""
        left, right = self.units[arm] if role == "a" else self.units[arm][::-1]
        return np.asarray(left[x.left] @ right[x.right].T)

    def told(self, role: str, arm: str, x: Paired) -> tuple[Told, Told]:
        """What the left and the right features promote and meet, B's words exchanged in the control arm."""
        words = self.shared.partner if arm == CONTROL else None
        one, two = (x.left, x.right) if role == "a" else (x.right, x.left)
        found = self.a.told(one), self.b.told(two, words)
        return found if role == "a" else found[::-1]

    def strengths(self, role: str, x: Paired) -> Floats:
        """(n,) the geometric mean of how far the two features of a pair move the logits where they fire."""
        one, two = (x.left, x.right) if role == "a" else (x.right, x.left)
        maps = self.spaces[TRUE]
        of_a, of_b = (
            attribution.strength(side.decoder[at], into, side.mean_code[at])
            for side, at, into in zip((self.a, self.b), (one, two), maps, strict=True)
        )
        return np.sqrt(of_a * of_b)


def both(run: Profile, names: Sequence[str], top: int) -> Both:
    """A and B of a replicate on all texts that they read. Raises ProfileError as `side` and `heads.shared`."""
    exchanged = replicates.seed(run, names[0]) if run.common.replicates else None
    readings = [None] if exchanged is None else [None, exchanged]
    shared = heads.shared(run, names[0], names[1], exchanged)
    a, b = (side(run, x, own, shared.words, readings, top) for x, own in zip(names, (shared.a, shared.b), strict=True))
    spaces = {TRUE: attribution.space(a.u, b.u)}
    if exchanged is not None:
        spaces[CONTROL] = attribution.space(a.u, b.u[shared.partner])
    units = {arm: (attribution.unit(a.decoder, x.a), attribution.unit(b.decoder, x.b)) for arm, x in spaces.items()}
    return Both(a, b, shared, units, spaces)


def beside_twin(run: Profile, a: Side, twin: str, shared: Shared) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows of A and of a twin of B, in one space of logits on the shared words."""
    source = pipeline.reader(run, twin)
    found = attribution.space(a.u, heads.head(source.model).effective(shared.b))
    return attribution.unit(a.decoder, found.a), attribution.unit(dictionaries.decoder(source.dictionary), found.b)
