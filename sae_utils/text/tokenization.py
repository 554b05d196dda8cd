"""Documents become rows of tokens.

In: a text artefact and a tokenizer (trained here, or a model's own). Out: an artefact of token rows that never mix
two documents.
Never: model weights.

A token artefact holds `tokens` (rows, context), `lengths` (rows,), `documents` (rows,), `split` (rows,): an index
into `corpora.SPLITS`, and `classes` (rows, context): the true class of each token, -1 where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm import tqdm

from sae_utils.spec import ProfileError
from sae_utils.store import Appender, Artefact, artefact
from sae_utils.text import corpora

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS, PAD, UNKNOWN = "<bos>", "<pad>", "<unk>"
Kind = Literal["word", "bpe"]


@artefact
def trained(folder: Path, source: Artefact, kind: Kind, vocabulary: int) -> dict[str, Any]:
    """Train a tokenizer on the training documents of a text artefact.

    Args:
        folder: where the tokenizer's files go, as transformers saves them.
        source: the text.
        kind: `word` (split at white space and punctuation) or `bpe` (byte-level).
        vocabulary: largest number of tokens, special ones included.
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers import models as algorithms
    from transformers import PreTrainedTokenizerFast

    special = [PAD, BOS, UNKNOWN]
    if kind == "word":
        raw = Tokenizer(algorithms.WordLevel(unk_token=UNKNOWN))
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer: Any = trainers.WordLevelTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    else:
        raw = Tokenizer(algorithms.BPE(unk_token=None))
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    raw.train_from_iterator(_training_texts(source), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=BOS, pad_token=PAD, unk_token=UNKNOWN)
    tokenizer.save_pretrained(folder)
    return {"vocabulary": len(tokenizer)}


def _training_texts(source: Artefact) -> Iterator[list[str]]:
    for block in corpora.blocks(source, "training"):
        yield [text for text in block.texts if text]


@artefact
def rows(folder: Path, source: Artefact, tokenizer: Artefact, context: int) -> dict[str, Any]:
    """Cut each document of `source` into rows of at most `context` tokens, each opened by the beginning of sequence.

    Raises:
        ValueError: the tokenizer lacks a beginning-of-sequence or padding token.
        ProfileError: the corpus is shorter than one context.
    """
    from transformers import AutoTokenizer

    return write_rows(folder, source, AutoTokenizer.from_pretrained(tokenizer.path), context)


def write_rows(folder: Path, source: Artefact, tokenizer: PreTrainedTokenizerFast, context: int) -> dict[str, Any]:
    """As `rows`, with a loaded tokenizer."""
    opening, padding = tokenizer.bos_token_id, tokenizer.pad_token_id
    if opening is None or padding is None:
        raise ValueError(
            f"{tokenizer.name_or_path}: the tokenizer has no beginning-of-sequence or padding token; name both in "
            "its tokenizer_config.json (Pythia has <|endoftext|> for both)"
        )
    body = context - 1
    total = unknown = 0
    with (
        Appender(folder / "tokens.npy", np.int32, (context,)) as out,
        Appender(folder / "classes.npy", np.int8, (context,)) as out_classes,
        Appender(folder / "lengths.npy", np.int32) as out_lengths,
        Appender(folder / "documents.npy", np.int32) as out_documents,
        tqdm(total=source.meta["documents"], desc="tokens", unit=" documents", leave=False) as bar,
    ):
        for block in corpora.blocks(source):
            pieces, labels, owners = [], [], []
            encodings = tokenizer.backend_tokenizer.encode_batch(block.texts, add_special_tokens=False)
            for number, encoding in enumerate(encodings):
                ids = np.array(encoding.ids, np.int32)
                truth = _classes(encoding, block.starts[number], block.classes[number])
                for start in range(0, len(ids), body):
                    pieces.append(ids[start : start + body])
                    labels.append(truth[start : start + body])
                    owners.append(block.first + number)
                total += len(ids)
                unknown += int((ids == tokenizer.unk_token_id).sum())
            lengths = np.array([len(piece) for piece in pieces], np.int32)
            inside = np.arange(body) < lengths[:, None]
            tokens = np.full((len(pieces), context), padding, np.int32)
            classes = np.full((len(pieces), context), -1, np.int8)
            tokens[:, 0] = opening
            tokens[:, 1:][inside] = np.concatenate(pieces) if pieces else []
            classes[:, 1:][inside] = np.concatenate(labels) if labels else []
            out.append(tokens)
            out_classes.append(classes)
            out_lengths.append(lengths + 1)
            out_documents.append(np.array(owners))
            bar.update(len(block.texts))
    if total < context:
        raise ProfileError(
            f"corpus: {total} tokens in all, fewer than one context of {context}; add text or lower `context`"
        )
    np.save(folder / "split.npy", source.array("split")[np.load(folder / "documents.npy")])
    return {"tokens": total, "rows": out.length, "unknown": unknown}


def _classes(encoding: Any, starts: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The class of each token: that of the word in which it ends."""
    if not len(starts):
        return np.full(len(encoding.ids), -1, np.int8)
    last = np.array(encoding.offsets, np.int64).reshape(-1, 2)[:, 1] - 1
    owner = classes[np.searchsorted(starts, last, side="right") - 1]
    return np.where(np.isin(last + 1, starts), -1, owner)  # the space before a word is in none
