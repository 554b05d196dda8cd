"""What the explorer shows of the features of both sides of the primary pair.

In: a checked profile. Out: two `Side`s of live features, which refer to each other by position; the match table.
Never: HTML; a feature that is dead on the documents that choose pairs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sae_utils import labels, matching, pipeline
from sae_utils.engine.core.progress import bar
from sae_utils.engine.pairs import Pairs
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import correlations, releases
from sae_utils.labels import SPACE, Labels
from sae_utils.page.arrangement import arranged
from sae_utils.pipeline import Correlated, Features
from sae_utils.studies.semantic_subspaces import concepts

TOKENS, CONTEXTS, CHARACTERS = 5, 2, 40  # a feature: different top tokens, contexts, characters of each
LOOKED_AT = 16  # strongest positions of a feature, among which different tokens are looked for
LISTED = 10  # nearest neighbours of a feature
KINDS = ("no partner", "one way", "mutual")  # a best partner may prefer another feature

Context = tuple[str, str, str]  # before the token, the token, after it


class Side(NamedTuple):
    """The live features of a dictionary; arrays are (features,) unless noted."""

    name: str
    width: int  # features, dead ones included
    ids: NDArray[np.int32]  # number of the feature in its dictionary
    rate: NDArray[np.float32]  # share of the tokens on which it fires
    partner: NDArray[np.int32]  # position of its best partner on the other side, -1 without
    r: NDArray[np.float32]  # correlation with it on the documents that chose it
    held_out: NDArray[np.float32]  # and on held-out ones, NaN where one of the two is dead there
    kind: NDArray[np.uint8]  # of `KINDS`
    tokens: list[list[str]]  # strongest first
    contexts: list[list[Context]]
    concept: NDArray[np.uint8]  # 1 + place in the profile's concepts, 0 for none
    family: NDArray[np.int32]  # 1 for the largest family, 0 for none
    near: NDArray[np.int32]  # (features, k) positions of neighbours by cosine of decoder rows
    maps: dict[str, np.ndarray]  # (features, 2) coordinates
    link: str  # address of a feature on Neuronpedia without its number, ""


class Explored(NamedTuple):
    """Both sides, and what they share."""

    a: Side
    b: Side
    concepts: list[str]
    near: float  # cosine from which neighbours are of one family


def of(profile: Profile) -> Explored:
    """Both sides of the primary pair. Raises ProfileError as `pipeline.features`."""
    a, b = (pipeline.features(profile, name) for name in profile.pair)
    k = profile.sections["01_feature_matching"]["candidates"]
    both = pipeline.correlated(a, b, k)
    kept = correlations.correlated(a.kept, b.kept, a.sites, "matching", k)
    ways = [matching.many_to_one(both.found, way) for way in ("a_to_b", "b_to_a")]
    mutual = matching.mutual(both.found)
    near = profile.sections["01c_arranged_alike"]["near"][0]
    lists = concepts.word_lists(profile.sections["05_semantic_subspaces"]["concept_set"])
    made = []
    for place, (name, side, way) in enumerate(zip(profile.pair, (a, b), ways, strict=True)):
        found = described(profile, name, side, both, lists)
        found |= {"link": neuronpedia(profile.dictionaries[name])}
        found |= _arranged(arranged(pipeline.reader(profile, name).dictionary, kept, "ab"[place]), near)
        made.append(_side(name, both, way, mutual, place, found))
    return Explored(Side(**made[0]), Side(**made[1]), list(lists), near)


def _side(name: str, both: Correlated, way: Pairs, mutual: Pairs, place: int, found: dict[str, Any]) -> dict[str, Any]:
    """The partners of the features of one side."""
    live = [both.found.a.live, both.found.b.live]
    own, other = live[place], np.cumsum(live[1 - place]) - 1
    mine, yours = (way.a, way.b) if place == 0 else (way.b, way.a)
    partner, r, held_out = (np.full(len(own), x, dtype) for x, dtype in ((-1, int), (np.nan, float), (np.nan, float)))
    partner[mine], r[mine], held_out[mine] = other[yours], way.r, both.held_out(way)
    kind = np.where(partner >= 0, 1, 0)
    kind[mutual.a if place == 0 else mutual.b] = 2
    return found | {
        "name": name, "width": len(own), "ids": np.flatnonzero(own).astype(np.int32),
        "partner": partner[own].astype(np.int32),
        "r": r[own].astype(np.float32), "held_out": held_out[own].astype(np.float32),
        "kind": kind[own].astype(np.uint8),
    }  # fmt: skip


def _arranged(found: Any, near: float) -> dict[str, Any]:
    index, cosine = found.array("near"), found.array("cosine")
    maps = {name: np.array(found.array(f"map-{number}")) for number, name in enumerate(found.meta["maps"])}
    return {"near": np.array(index[:, :LISTED]), "family": families(index, cosine, near), "maps": maps}


def families(index: np.ndarray, cosine: np.ndarray, near: float) -> NDArray[np.int32]:
    """Families of features that hang together by neighbours of a cosine of at least `near`.

    `index`, `cosine` (n, k): neighbours of every feature. 1 is the largest family, then in the order of their first
    feature; 0 for a feature by itself.
    """
    n = len(index)
    of, place = np.nonzero(cosine >= near)
    graph = coo_array((np.ones(len(of)), (of, index[of, place])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    size = np.bincount(component, minlength=1)
    order = np.argsort(-size, kind="stable")  # components are numbered by their first feature
    number = np.empty(len(size), np.int32)
    number[order] = np.where(size[order] > 1, np.arange(1, len(size) + 1), 0)
    return number[component]


# --- words


def described(
    profile: Profile, name: str, side: Features, both: Correlated, lists: dict[str, tuple[str, ...]]
) -> dict[str, Any]:
    """Tokens, contexts, firing rates and concepts of the live features of a dictionary."""
    at, live = np.flatnonzero(both.on_matching), (both.found.a if side is both.a else both.found.b).live
    tokens, documents = (side.sites.array(part)[at] for part in ("tokens", "documents"))
    found = labels.label(side.codes[at], tokens, documents, k=LOOKED_AT)
    vocabulary = pipeline.vocabulary(profile, name)
    evidence = concepts.evidence(
        side.codes, pipeline.words(profile, name, side.sites), side.sites.array("documents"), both.on_matching, k=1
    )
    least = profile.sections["05_semantic_subspaces"]["labelling"]["shares"][0]
    chosen = np.flatnonzero(live)
    return {
        "tokens": top(found, chosen, vocabulary), "contexts": contexts(found, chosen, vocabulary),
        "rate": (found.firings[chosen] / len(at)).astype(np.float32),
        "concept": about(evidence, lists, least)[chosen],
    }  # fmt: skip


def top(found: Labels, features: np.ndarray, vocabulary: Sequence[str]) -> list[list[str]]:
    """The `TOKENS` first different tokens of each feature, without surrounding spaces."""
    spelled = labels.spell(found.token, labels.unspaced(vocabulary))[features]
    return [list(dict.fromkeys(word for word in row.tolist() if word))[:TOKENS] for row in spelled]


def contexts(found: Labels, features: np.ndarray, vocabulary: Sequence[str]) -> list[list[Context]]:
    """The `CONTEXTS` first different contexts of each feature, of `CHARACTERS` characters."""
    spelled = labels.spell(found.context[features][:, : 2 * CONTEXTS], vocabulary)
    between = "" if any(word.startswith(SPACE) for word in vocabulary) else " "
    made = []
    for rows, token in bar(zip(spelled, found.token[features], strict=True), "contexts"):
        different = dict.fromkeys(
            _context(row.tolist(), between) for row, x in zip(rows, token, strict=False) if x >= 0
        )
        made.append(list(different)[:CONTEXTS])
    return made


def _context(row: list[str], between: str) -> Context:
    """The texts before and after the middle token of a row, cut to `CHARACTERS` characters in all."""
    middle = len(row) // 2
    before, after = (between.join(filter(None, part)) for part in (row[:middle], row[middle + 1 :]))
    before, token, after = (x.replace(SPACE, " ") for x in (before + between, row[middle], between + after))
    reach = max(0, CHARACTERS - len(token)) // 2
    return before[max(0, len(before) - reach) :], token, after[:reach]


def about(found: concepts.Evidence, lists: dict[str, tuple[str, ...]], least: float) -> NDArray[np.uint8]:
    """The concept (features,) on whose words most of a feature's activation is, from a share of `least` on; else 0."""
    shares = np.array([concepts.share(found, concepts.word_mask(words, found)) for words in lists.values()])
    return np.where(shares.max(0) >= least, 1 + shares.argmax(0), 0).astype(np.uint8)


# --- links


def neuronpedia(record: Any) -> str:
    """The address of a released SAE's features on Neuronpedia, to which their number is added; "" where it has none."""
    if not isinstance(record, releases.Saelens | releases.GemmaScope):
        return ""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    known = get_pretrained_saes_directory()
    if isinstance(record, releases.Saelens):
        name = known[record.source].neuronpedia_id.get(record.id) if record.source in known else None
    else:
        same = [x for x in known.values() if x.repo_id == record.source]
        names = [x.neuronpedia_id.get(id) for x in same for id, path in x.saes_map.items() if path == record.path]
        name = next(filter(None, names), None)
    return f"https://www.neuronpedia.org/{name}/" if name else ""


# --- the match table


def table(found: Explored) -> pd.DataFrame:
    """Every feature with its best partner, a row each; a mutual pair once."""
    forward, backward = (_rows(*sides, mine) for mine, sides in
                         (("a", (found.a, found.b)), ("b", (found.b, found.a))))  # fmt: skip
    backward = backward[backward["kind"] != "mutual"]
    columns = ["a", "b", *forward.columns.difference(["a", "b"], sort=False)]
    joined = pd.concat([forward, backward])[columns]
    return joined.sort_values(["r_held_out", "a", "b"], ascending=[False, True, True], kind="stable")


def _rows(own: Side, other: Side, mine: str) -> pd.DataFrame:
    at = np.flatnonzero(own.partner >= 0)
    to, yours = own.partner[at], "b" if mine == "a" else "a"
    kind = np.where(own.kind[at] == 2, "mutual", f"best of {mine}")
    frame: dict[str, Any] = {
        mine: own.ids[at], yours: other.ids[to], "kind": kind, "r_matching": own.r[at], "r_held_out": own.held_out[at],
        "shared_neighbours": [len(shared(own, other, int(i))) for i in at],
    }  # fmt: skip
    ordered: list[tuple[str, Side, Any]] = (
        [(mine, own, at), (yours, other, to)] if mine == "a" else [(yours, other, to), (mine, own, at)]
    )
    for name, side, places in ordered:
        words = [" ".join(side.tokens[i]) for i in places]
        frame |= {f"rate_{name}": side.rate[places], f"tokens_{name}": words}
    return pd.DataFrame(frame)


def shared(own: Side, other: Side, feature: int) -> list[int]:
    """Neighbours of a feature whose best partners are neighbours of its best partner."""
    around = set(other.near[own.partner[feature]].tolist())
    return [int(x) for x in own.near[feature] if int(own.partner[x]) in around]
