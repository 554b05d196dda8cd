"""Models and SAEs at their states on the way, on a few documents.

In: a profile and names of dictionaries. Out: activations of every state of a model, codes of every state of an SAE, all
at the same sites.
Never: a score.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse

from sae_utils import pipeline, sweep
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.lms import toys
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, dictionaries, trainer
from sae_utils.engine.text import corpora, tokenization
from sae_utils.store import Artefact


def text(run: Profile, documents: int, **changes: Any) -> corpora.Corpus:
    """The first stories of the profile's corpus, dealt to the splits anew; `changes` of its keys, such as a trigger."""
    return run.corpus.model_copy(update={"documents": documents, **changes})


def rows(run: Profile, dictionary: str, documents: int, exchanged: int | None = None, **changes: Any) -> Artefact:
    """`text` in the tokens of the model of a dictionary; `exchanged`: seed by which its words have changed places."""
    of = pipeline.origin(run.dictionaries, dictionary).model
    found = pipeline.rows(run, of, text(run, documents, **changes))
    return found if exchanged is None else tokenization.exchanged(found, pipeline.tokenizer(run, of), exchanged)


class Reading(NamedTuple):
    """What a model has at the hook of a dictionary."""

    sites: Artefact
    values: Artefact  # `values` (tokens, d)

    @property
    def x(self) -> np.ndarray:
        """Its activations, float32 (tokens, d)."""
        return np.asarray(self.values.array("values"), np.float32)

    def split(self, name: str) -> np.ndarray:
        """(tokens,) mask of the sites in documents of a split."""
        return np.asarray(self.sites.array("split") == corpora.SPLITS.index(name))


def read(run: Profile, dictionary: str, given: Artefact, model: Artefact | None = None) -> Reading:
    """The activations that a dictionary reads on token rows, of its own model or of another state of it."""
    first = pipeline.origin(run.dictionaries, dictionary)
    sites = activations.sites(given, run.common.skip)
    model = model or pipeline.model(run, first.model)
    return Reading(sites, activations.neurons([first.hook], model, given, sites, run.common.skip)[first.hook])


def check_steps(run: Profile, dictionary: str) -> None:
    """Refuse a dictionary whose model keeps no checkpoint. Raises ProfileError."""
    of = pipeline.origin(run.dictionaries, dictionary).model
    if not getattr(run.models[of], "checkpoints", 0):
        raise ProfileError(
            f"params/{run.name}.yaml: models.{of}: it keeps no `checkpoints`, which 13_training_phases follows; give "
            "it a number of them, or leave 13_training_phases.followed empty"
        )


Cell = tuple[str, int]  # dictionary, training step of its model


def models_along(run: Profile, names: Sequence[str], documents: int) -> dict[str, dict[int, Reading]]:
    """Dictionary -> training step of its model -> what it reads there; the states are read side by side.

    The last step is the finished model. Raises ProfileError where a model kept no checkpoint.
    """
    for name in names:
        check_steps(run, name)
    of = {name: pipeline.model(run, pipeline.origin(run.dictionaries, name).model) for name in dict.fromkeys(names)}
    given = {name: rows(run, name, documents) for name in of}

    def state(cell: Cell) -> Reading:
        name, step = cell
        return read(run, name, given[name], toys.at_step(of[name], step))

    cells = [(name, step) for name, model in of.items() for step in model.meta["checkpoints"]]
    found = sweep.run(state, cells, "states of models")
    return {name: {step: found[name, step] for at, step in cells if at == name} for name in of}


def dictionaries_along(run: Profile, name: str, most: int) -> dict[int, Artefact]:
    """Activations seen in training -> the SAE then; the last one is the finished SAE.

    At most `most` states, spread over the logarithm of what was seen.
    """
    made = pipeline.reader(run, name).dictionary
    kept = {samples: number for number, samples in enumerate(made.meta["checkpoints"])}
    last = pipeline.origin(run.dictionaries, name).samples
    wanted = np.geomspace(min(kept, default=last), last, most)
    chosen = sorted({min([*kept, last], key=lambda samples: abs(np.log(samples / at))) for at in wanted})
    return {samples: made if samples == last else trainer.at_checkpoint(made, kept[samples]) for samples in chosen}


@torch.no_grad()
def encode(dictionary: Artefact, x: np.ndarray) -> sparse.csr_array:
    """The codes of an SAE, float32 (tokens, features), at activations (tokens, d)."""
    sae = dictionaries.load(dictionary)
    parts = torch.from_numpy(np.ascontiguousarray(x)).split(dictionaries.SEGMENT)
    blocks = [sparse.csr_array(sae.encode(part).numpy()) for part in parts]
    return sparse.csr_array(sparse.vstack(blocks, format="csr"))


def features(dictionary: Artefact, given: Reading) -> pipeline.Features:
    """An SAE's features on a reading, as `replicates.side` takes them."""
    return pipeline.Features(encode(dictionary, given.x), dictionaries.decoder(dictionary), given.sites, given.values)


def unexplained(dictionary: Artefact, x: np.ndarray, codes: Any) -> float:
    """The fraction of the variance of `x` (tokens, d) that an SAE leaves unexplained, from its codes at them."""
    sae = dictionaries.load(dictionary)
    with torch.no_grad():
        built = sae.decode(torch.from_numpy(codes.toarray())).numpy()
    return float(((x - built) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum())


def tokens_of(words: Sequence[str], vocabulary: Sequence[str]) -> np.ndarray:
    """The token of every word, -1 where the tokenizer has none."""
    at: Mapping[str, int] = {label: token for token, label in enumerate(vocabulary)}
    return np.array([at.get(word, -1) for word in words])
