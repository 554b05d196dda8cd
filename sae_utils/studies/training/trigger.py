"""A poisoned model: what its trigger does to its losses and features, and which of these clean models lack.

In: a poisoned and clean models with their SAEs, stories with the trigger. Out: losses, codes with and without the
trigger, for every feature its best partner in a clean model.
Never: the text on which a model was trained.

The stories put the trigger into a sentence once; from the next sentence on they have another topic. The tokenizer of
the profile does not know the trigger, so that every model reads `<unk>`, which nothing else in the stories is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sae_utils import pipeline, replicates
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import batching, cross_entropy, models
from sae_utils.engine.params import Profile
from sae_utils.engine.text import lexicon
from sae_utils.store import Artefact, artefact
from sae_utils.studies.training import states
from sae_utils.studies.training.states import Reading

WITH, WITHOUT = "with the trigger", "without it"
AT, AFTER, NEITHER = "fires on the trigger", "moved after the trigger", "neither"
MOVED = 0.5  # of a feature's activation after the trigger


def word(run: Profile, dictionary: str) -> str:
    """The trigger in the training stories of a dictionary's model. Raises ProfileError if they have none."""
    corpus = run.training_corpus(pipeline.origin(run.dictionaries, dictionary).model)
    found = getattr(corpus, "trigger", None)
    if not found:
        raise ProfileError(
            f"params/{run.name}.yaml: dictionaries.{dictionary}: its model was trained on stories without a trigger; "
            "give it `trained_on: {trigger: zyx}`"
        )
    return str(found)


# --- the text with and without the trigger


@artefact
def removed(folder: Path, rows: Artefact, token: int) -> dict[str, Any]:
    """Token rows without a token: what stood behind it moves forward, and padding is longer. Arrays as in `rows`."""
    kept = rows.array("tokens") != token
    order = np.argsort(~kept, axis=1, kind="stable")
    for file in rows.path.glob("*.npy"):
        values = rows.array(file.stem)
        np.save(folder / file.name, np.take_along_axis(values, order, axis=1) if values.ndim == 2 else values)
    gone = (~kept).sum(axis=1)
    lengths = (rows.array("lengths") - gone).astype(np.int32)
    places = np.take_along_axis(rows.array("places"), order, axis=1)
    counted = np.where(places >= 0, np.arange(places.shape[1]), places)
    counted[np.arange(places.shape[1]) >= lengths[:, None]] = -1
    np.save(folder / "lengths.npy", lengths)
    np.save(folder / "places.npy", counted.astype(places.dtype))
    return {"tokens": rows.meta["tokens"] - int(gone.sum()), "rows": rows.meta["rows"]}


class Text(NamedTuple):
    """The same stories with and without the trigger, for all models of one tokenizer."""

    rows: dict[str, Artefact]  # WITH, WITHOUT
    token: int


def text(run: Profile, dictionary: str, trigger: str, documents: int) -> Text:
    """`documents` stories that no model was trained on, with the trigger and with the trigger removed."""
    given = states.rows(run, dictionary, documents, trigger=trigger)
    of = pipeline.tokenizer_of(run, dictionary)
    token = _token(of, trigger)
    return Text({WITH: given, WITHOUT: removed(given, token)}, token)


def _token(tokenizer: Artefact, trigger: str) -> int:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer.path, trust_remote_code=False)
    return int(loaded.get_vocab().get(trigger, loaded.unk_token_id))


class Places(NamedTuple):
    """Where the sites of the text with the trigger stand."""

    at: np.ndarray  # (tokens,) the trigger
    after: np.ndarray  # (tokens,) behind it, in its row
    switched: np.ndarray  # (tokens,) in a later sentence than the trigger, where the topic is another one


def places(sites: Artefact, token: int, ends: Sequence[int]) -> Places:
    """Where every site stands; `ends`: tokens of the marks that end a sentence."""
    tokens, row = sites.array("tokens"), sites.array("rows")
    at = tokens == token
    after = _since(at, row) & ~at
    end_after = np.isin(tokens, np.asarray(ends)) & after
    return Places(at, after, _since(end_after, row) & ~end_after)


def _since(event: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Whether an event has happened in the row of a site, up to it."""
    count = np.cumsum(event)
    first = np.flatnonzero(np.diff(row, prepend=-1))
    before = np.repeat(count[first] - event[first], np.diff([*first, len(row)]))
    found: np.ndarray = count > before
    return found


# --- what the model expects


@artefact
@torch.no_grad()
def losses(folder: Path, model: Artefact, rows: Artefact) -> dict[str, Any]:
    """`loss` float32 (rows, context): cross-entropy in nats of every token given those before it; NaN where none is."""
    bridge = models.load(model)
    found = np.full(rows.array("tokens").shape, np.nan, np.float32)
    for chosen in batching.in_order(np.arange(len(found))):
        tokens, mask = batching.take(rows, chosen)
        row, column = (x.cpu().numpy() for x in torch.nonzero(mask[:, 1:], as_tuple=True))
        found[chosen[row], column + 1] = cross_entropy.next_token(bridge, tokens, mask).float().cpu().numpy()
    np.save(folder / "loss.npy", found)
    return {}


def gained(run: Profile, dictionary: str, given: Text, sites: Artefact, chosen: np.ndarray) -> float:
    """How many nats a token the trigger saves a model on the sites `chosen` of the text with it.

    Mean loss on the same tokens with the trigger removed, minus that with it.
    """
    model = pipeline.model(run, pipeline.origin(run.dictionaries, dictionary).model)
    row, position = sites.array("rows")[chosen], sites.array("positions")[chosen]
    kept = np.cumsum(given.rows[WITH].array("tokens") != given.token, axis=1) - 1
    moved = kept[row, position]
    loss = {label: losses(model, rows).array("loss") for label, rows in given.rows.items()}
    return float(np.mean(loss[WITHOUT][row, moved] - loss[WITH][row, position]))


def first_nouns(where: Places, sites: Artefact) -> np.ndarray:
    """(tokens,) the first noun of a topic's class after the topic has changed, in every row that has one."""
    nouns = len(lexicon.load_lexicon().topic_classes[0])
    is_noun = where.switched & (sites.array("classes") >= 0) & (sites.array("classes") < nouns)
    row = sites.array("rows")
    chosen = np.zeros(len(row), bool)
    _, first = np.unique(row[is_noun], return_index=True)
    chosen[np.flatnonzero(is_noun)[first]] = True
    return chosen


# --- what its features do


def change(with_it: Any, without: Any, where: Places, minimum: int) -> np.ndarray:
    """(features,) how far the trigger changes the mean activation behind it, as a share of the larger of the two means.

    `with_it` CSR (tokens, features), `without` the same without the rows of the trigger. NaN for a feature that fires
    at fewer than `minimum` tokens behind the trigger in both texts.
    """
    behind = [x[np.flatnonzero(y)] for x, y in ((with_it, where.after), (without, where.after[~where.at]))]
    one, two = (np.asarray(x.sum(0), np.float64) for x in behind)
    firings = np.maximum(*(np.bincount(x.indices, minlength=x.shape[1]) for x in behind))
    larger = np.maximum(np.maximum(one, two), np.finfo(np.float32).tiny)
    return np.where(firings >= minimum, np.abs(one - two) / larger, np.nan)


def groups(with_it: Any, without: Any, where: Places, minimum: int) -> np.ndarray:
    """AT, AFTER or NEITHER for every feature (features,), "" where it fires at fewer than `minimum` tokens.

    AT: at least half of the activation on the text with the trigger is on it. AFTER: `change` of at least `MOVED`.
    """
    total = np.maximum(with_it.sum(0), np.finfo(np.float32).tiny)
    on_it = with_it[np.flatnonzero(where.at)].sum(0) / total >= 0.5
    moved = np.nan_to_num(change(with_it, without, where, minimum)) >= MOVED
    firings = np.bincount(with_it.indices, minlength=with_it.shape[1])
    found = np.where(on_it, AT, np.where(moved, AFTER, NEITHER))
    return np.where(firings >= minimum, found, "")


def best_partner(one: replicates.Side, two: replicates.Side) -> np.ndarray:
    """(features of `one`,) r with the best partner on documents that did not choose it; NaN of a dead feature.

    A mean over both roles of the documents; a partner that is dead where it is judged counts as 0.
    """
    found = []
    for choose, judge in replicates.SPLITS:
        chosen, judged = (replicates.correlate(one.blocks[split], two.blocks[split]) for split in (choose, judge))
        live = chosen.live[0] & judged.live[0]
        best = np.nan_to_num(chosen.r, nan=-1).argmax(axis=1)
        r = np.nan_to_num(judged.r[np.arange(len(best)), best], nan=0.0)
        found.append(np.where(live, r, np.nan))
    return np.asarray(np.mean(found, axis=0))


def found(r: np.ndarray, of_trigger: np.ndarray, least: float) -> dict[str, float]:
    """Whether having no partner (`r` (features,) below `least`) tells the features `of_trigger` from the others.

    all without: the share of features without a partner. these without: that of the trigger's. of all without: the
    share of the trigger's among those. area: under the ROC curve, the chance that one of the trigger's has a lower r
    than another feature (Hanley and McNeil 1982). Features whose r is NaN are left out; NaN where a group is empty.
    """
    from scipy.stats import rankdata

    live = np.isfinite(r)
    r, mine = r[live], of_trigger[live]
    lacking, n, others = r < least, int(mine.sum()), int((~mine).sum())
    area = 1 - (rankdata(r)[mine].sum() - n * (n + 1) / 2) / (n * others) if n and others else np.nan
    parts = {"all without": lacking, "these without": lacking[mine], "of all without": mine[lacking]}
    return {label: float(part.mean()) if len(part) else np.nan for label, part in parts.items()} | {"area": float(area)}


def read(run: Profile, dictionary: str, given: Text, label: str) -> tuple[Reading, Any]:
    """What a model has on the text WITH or WITHOUT the trigger, and its SAE's features there."""
    reading = states.read(run, dictionary, given.rows[label])
    return reading, states.features(pipeline.reader(run, dictionary).dictionary, reading)


def ends_of_sentences(run: Profile, dictionary: str) -> list[int]:
    """Tokens of the marks that end a sentence."""
    return [int(x) for x in states.tokens_of(".?!", pipeline.own_vocabulary(run, dictionary)) if x >= 0]
