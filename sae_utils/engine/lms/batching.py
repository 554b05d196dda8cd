"""Batches of token rows: their order, their tensors, and batch sizes that fit into memory.

In: a token artefact, row numbers. Out: batches of row numbers; tokens and masks on the run's device.
Never: a model.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

from sae_utils import store
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import corpora
from sae_utils.store import Artefact

WINDOW = 32  # batches whose rows are sorted by length, so that little padding is computed


def rows_in(rows: Artefact, split: str) -> np.ndarray:
    """Numbers of the rows of the documents in a split: `training`, `matching` or `held_out`."""
    return np.flatnonzero(rows.array("split") == corpora.SPLITS.index(split))


def shuffled(lengths: np.ndarray, batch: int, seed: Any) -> Iterator[np.ndarray]:
    """Batches of `batch` row numbers in random order; rows of similar length, `lengths` (rows,), are in one batch."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(lengths))
    window = WINDOW * batch
    batches: list[np.ndarray] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch] for i in range(0, len(part), batch)]
    yield from (batches[i] for i in generator.permutation(len(batches)))


def take(rows: Artefact, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (n, length) of rows, cut to the longest, and their mask, false at padding; on the run's device."""
    lengths = rows.array("lengths")[chosen]
    tokens = torch.from_numpy(rows.array("tokens")[chosen, : lengths.max()].astype(np.int64))
    mask = torch.arange(tokens.shape[1]) < torch.from_numpy(lengths)[:, None]
    return tokens.to(store.device()), mask.to(store.device())


def in_order(chosen: np.ndarray, batch: int = 64) -> Iterator[np.ndarray]:
    """Batches of row numbers in their order."""
    yield from (chosen[i : i + batch] for i in range(0, len(chosen), batch))


Result = TypeVar("Result")


def in_parts(batches: Iterator[np.ndarray], run: Callable[[np.ndarray], Result]) -> Iterator[Result]:
    """Results of `run` for batches of row numbers, in order; a batch that does not fit into memory is split.

    Raises torch.OutOfMemoryError, MemoryError or RuntimeError if a single row does not fit.
    """
    most: int | None = None
    for batch in batches:
        start = 0
        while start < len(batch):
            part = batch[start : start + (most or len(batch))]
            try:
                result = run(part)
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                most = -(-len(part) // 2)
            else:
                start += len(part)
                yield result
                continue
            torch.cuda.empty_cache()  # after the block, when the tensors of the failed run are freed


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error is a failed allocation; on the CPU, torch and oneDNN have no error type for it."""
    messages = r"can't allocate memory|not enough memory|bad_alloc|[Oo]ut of memory|could not create a memory"
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(re.search(messages, str(error)))


def refuse_rows(config: Any, rows: Artefact, label: str) -> None:
    """Refuse rows that a model cannot read.

    Raises ProfileError if a row is longer than the model's positions, or holds a token that the model does not embed.
    """
    text, longest = config.get_text_config(), int(rows.array("lengths").max())
    positions, highest = getattr(text, "max_position_embeddings", None), int(rows.array("tokens").max())
    if positions and longest > positions:
        raise ProfileError(
            f"{label}: rows have {longest} tokens, and the model was made for {positions} "
            f"(`max_position_embeddings` of its config.json); set `corpus.context` to at most {positions}"
        )
    if highest >= text.vocab_size:
        raise ProfileError(
            f"{label}: rows hold the token {highest}, and the model embeds {text.vocab_size} (`vocab_size` of its "
            "config.json): the tokenizer is of another model; name a folder or revision that holds both"
        )
