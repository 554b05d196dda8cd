"""The arms of a replicate, read from the store: their paired rows, correlations and facts.

In: a profile and names of dictionaries. Out: scores of every comparison of one dictionary; the views of both arms.
Never: an interval over replicates.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sae_utils import pipeline, replicates
from sae_utils.engine.geometry.registry import Floats
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import aligned
from sae_utils.replicates import Correlations, Matched, Side
from sae_utils.significance import Rows
from sae_utils.store import Artefact
from sae_utils.studies.controls import facts, measured
from sae_utils.studies.controls.facts import Facts
from sae_utils.studies.controls.measured import Arm, Settings
from sae_utils.studies.controls.partners import Cell
from sae_utils.studies.controls.scores import View


def prepare(run: Profile, cells: Iterable[Cell]) -> None:
    """Make all that the cells read: one pass over a model and a text for all of its dictionaries."""
    cells = list(cells)
    pipeline.features_of(run, dict.fromkeys(itertools.chain(*((cell.a, cell.b) for cell in cells))))
    replicates.prepare(run, [(cell.a, cell.b) for cell in cells if cell.exchanged])


def arms(run: Profile, cells: Sequence[Cell], settings: Settings) -> dict[Cell, Arm]:
    """The scores of the comparisons of one dictionary: the same content features, and their text, in all of them.

    The dictionary reads the text, and so does every other; the control ones read it with exchanged words.
    """
    own = _side(run, cells[0].a)
    decoders, correlated = {}, {}
    for cell in cells:
        other = _side(run, cell.b, replicates.seed(run, cell.a) if cell.exchanged else None)
        decoders[cell] = other.decoder
        for split, _ in replicates.SPLITS:
            correlated[cell, split] = replicates.correlate(own.blocks[split], other.blocks[split])
    found: dict[Cell, list[tuple[Rows, np.ndarray]]] = {cell: [] for cell in cells}
    for choose, judge in replicates.SPLITS:
        content = replicates.content_features(own.blocks[choose], own.classes[choose], settings.minimum)
        partners = {cell: _partners(correlated[cell, choose], content) for cell in cells}
        kept = np.all([partner >= 0 for partner in partners.values()], axis=0)
        for cell in cells:
            left, right = content[kept], partners[cell][kept]
            rows = own.decoder[left], decoders[cell][right]
            found[cell].append((rows, correlated[cell, judge].r[left, right]))
    return {cell: measured.arm(views, settings) for cell, views in found.items()}


def _side(run: Profile, name: str, exchanged: int | None = None) -> Side:
    return replicates.side([pipeline.features(run, name, exchanged)])


def _partners(found: Correlations, content: NDArray[np.int64]) -> NDArray[np.int64]:
    """Partners (content,) of content features, -1 where there is none."""
    return replicates.partners(found.r, content, found.live[1])


# --- both arms of a replicate, with facts


def views(run: Profile, names: tuple[str, str], settings: Settings) -> tuple[list[View], list[View]]:
    """The true and the control arm of a replicate (A, B), both read on the text and under exchanged words.

    They have a view a role and split of documents, with the same content features in both arms.
    """
    own, found = replicates.matched(run, names, settings.minimum)
    known = _facts(run, names, settings)
    judged = [replicates.correlate(own[0].blocks[judge], own[1].blocks[judge]).r for _, judge in replicates.SPLITS]
    roles = len(found) // len(judged)
    pairs = [_both(own, x, known, judged[place // roles]) for place, x in enumerate(found)]
    return [true for true, _ in pairs], [control for _, control in pairs]


def _both(own: tuple[Side, ...], x: Matched, known: tuple[Facts, ...], judged: np.ndarray) -> tuple[View, View]:
    true, control = replicates.rows(own, x)
    here, there, r = (known[0], known[1], judged) if x.role == "a" else (known[1], known[0], judged.T)
    return (
        View(x.features, x.true, true, x.r_true, (here, there), r),
        View(x.features, x.control, control, x.r_control, (here, there), r),
    )


def _facts(run: Profile, names: tuple[str, str], settings: Settings) -> tuple[Facts, ...]:
    """The facts of both dictionaries over both readings."""
    readings = (None, replicates.seed(run, names[0]))
    of_names = [[pipeline.features(run, name, reading) for reading in readings] for name in names]
    embedded = embeddings(run, names)
    words = cooccurrence(of_names[0][0].sites, len(embedded[0]), settings)
    found = []
    for read, rows in zip(of_names, embedded, strict=True):
        codes = sparse.csr_array(sparse.vstack([x.codes for x in read], format="csr"))
        tokens = np.concatenate([x.sites.array("tokens") for x in read])
        found.append(facts.of(codes, tokens, {"token embeddings": rows, "co-occurrence of words": words}, settings.top))
    return tuple(found)


def cooccurrence(sites: Artefact, vocabulary: int, settings: Settings) -> Floats:
    """Word vectors (vocabulary, size) of the text alone: PPMI of words that stand together, by SVD."""
    counts = facts.together(sites.array("tokens"), sites.array("rows"), settings.window, vocabulary)
    return facts.word_vectors(facts.ppmi(counts), settings.size)


def embeddings(run: Profile, names: tuple[str, str]) -> list[np.ndarray]:
    """The embeddings of what both dictionaries of a replicate read, each (vocabulary, d).

    Of tokens, where their models have one tokenizer. Else of words: the mean over the tokens of all occurrences.
    """
    found = [token_embeddings(pipeline.reader(run, name).model) for name in names]
    if pipeline.one_tokenizer(run):
        return found
    return [_of_words(run, name, replicates.seed(run, names[0]), rows) for name, rows in zip(names, found, strict=True)]


def _of_words(run: Profile, name: str, exchange: int, rows: np.ndarray) -> np.ndarray:
    """Word embeddings from token embeddings, over both readings; 0 for a word that occurs in neither."""
    side, counts = pipeline.side_of(run, name), sparse.csr_array((0, 0))
    for number, reading in enumerate((None, exchange)):
        where, own = pipeline.positions(run, reading), pipeline.alone(run, name, reading).sites
        assert where is not None
        found = aligned.spelt(where, own, side, len(rows))
        counts = counts + found if number else found
    return np.asarray(counts @ rows) / np.maximum(np.asarray(counts.sum(axis=1)), 1)[:, None]


def token_embeddings(model: Artefact) -> np.ndarray:
    """The token embeddings of a model, float32 (vocabulary, d)."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model.path, use_safetensors=True, trust_remote_code=False)
    found: np.ndarray = network.get_input_embeddings().weight.detach().float().numpy()
    return found


def by_dictionary(cells: Iterable[Cell]) -> Mapping[tuple[int, str], list[Cell]]:
    """Cells by replicate and by the dictionary whose content features they compare."""
    found: dict[tuple[int, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.number, cell.a), []).append(cell)
    return found
