"""Tokenizers, and token rows of documents.

In: a text artefact and a tokenizer (trained here, or a model's own). Out: an artefact of token rows that never mix
two documents.
Never: model weights.

**Special tokens in the text** (`<|endoftext|>` between documents, `[CLS]`, what was added as special) are masked: the
model reads them, but they are no sites, and activations at them neither train a dictionary nor count in its FVU. Where
they separate documents, the corpus removes them (`separator`). Tokens for unknown words, and tokens added without
being special (runs of spaces), are text.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sae_utils.engine.core.progress import tqdm
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.text import corpora, lexicon
from sae_utils.store import Appender, Artefact, artefact

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS, PAD, UNKNOWN = "<bos>", "<pad>", "<unk>"
Kind = Literal["word", "bpe"]
MASKED = -2  # place of a special token that stands in the text


@artefact
def train(folder: Path, source: Artefact, kind: Kind, vocabulary: int, words: Sequence[str] = ()) -> dict[str, Any]:
    """Train a tokenizer of at most `vocabulary` tokens, special ones included, on the training documents of a text.

    `kind`: `word` (split at white space and punctuation) or `bpe` (byte-level). `words` are counted once more each, so
    that a vocabulary with room for them has those that the text lacks. Saved as transformers does.
    """
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers import models as algorithms
    from transformers import PreTrainedTokenizerFast

    shared: dict[str, Any] = {"special_tokens": [PAD, BOS, UNKNOWN], "show_progress": False, "vocab_size": vocabulary}
    if kind == "word":
        raw = Tokenizer(algorithms.WordLevel(unk_token=UNKNOWN))
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer: Any = trainers.WordLevelTrainer(**shared)
    else:
        raw = Tokenizer(algorithms.BPE(unk_token=None))
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **shared)
    texts = ([text for text in block.texts if text] for block in corpora.blocks(source, "training"))
    raw.train_from_iterator(itertools.chain(texts, [list(words)]), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=BOS, pad_token=PAD, unk_token=UNKNOWN)
    tokenizer.save_pretrained(folder)
    return {"vocabulary": len(tokenizer)}


@artefact
def rows(folder: Path, source: Artefact, tokenizer: Artefact, context: int, packed: bool = False) -> dict[str, Any]:
    """Cut each document of `source` into rows of at most `context` tokens, each opened by the beginning of sequence.

    With `packed`, a row continues with the next documents of its split, each after its own opening.

    Arrays (rows, context): `tokens`; `classes`, the true class of each token, -1 where there is none; `documents`, for
    padding that of the token before it; `places`, counted from the last opening, which has 0; -1 for padding, `MASKED`
    for a special token in the text.
    Arrays (rows,): `lengths`; `split`, index into `corpora.SPLITS`; `articles`. Raises ValueError if the tokenizer
    lacks a beginning-of-sequence or padding token, and ProfileError if the corpus is shorter than one context.
    """
    from transformers import AutoTokenizer

    return write_rows(
        folder, source, AutoTokenizer.from_pretrained(tokenizer.path, trust_remote_code=False), context, packed
    )


def write_rows(
    folder: Path, source: Artefact, tokenizer: PreTrainedTokenizerFast, context: int, packed: bool = False
) -> dict[str, Any]:
    """As `rows`, with a loaded tokenizer."""
    opening, padding = tokenizer.bos_token_id, tokenizer.pad_token_id
    if opening is None or padding is None:
        raise ValueError(
            f"{tokenizer.name_or_path}: the tokenizer has no beginning-of-sequence or padding token; name both in "
            "its tokenizer_config.json (Pythia has <|endoftext|> for both)"
        )
    total = unknown = masked = 0
    rows = _Rows(context, opening, padding)
    splits = corpora.SPLITS if packed else (None,)  # a packed row has one split
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=source.meta["documents"], desc="tokens", unit=" documents", leave=False))
        out = {name: stack.enter_context(Appender(folder / f"{name}.npy", *kind)) for name, kind in rows.kinds.items()}
        for split in splits:
            for number, ids, classes, special in _tokenized(source, tokenizer, split, bar):
                rows.add(number, ids, classes, special)
                if not packed:
                    rows.close()
                if len(rows.full) >= corpora.BLOCK:
                    rows.write(out)
                total, masked = total + len(ids), masked + int(special.sum())
                unknown += int(((ids == tokenizer.unk_token_id) & ~special).sum())
            rows.close()
        rows.write(out)
        count = out["lengths"].length
    if total < context:
        raise ProfileError(
            f"corpus: {total} tokens in all, fewer than one context of {context}; add text or lower `context`"
        )
    first = np.load(folder / "documents.npy")[:, 0]
    for name in ("articles", "split"):
        np.save(folder / f"{name}.npy", source.array(name)[first])
    if masked:
        print(
            f"corpus: {masked} of {total} tokens are special tokens that stand in the text; they are masked. If they "
            "separate documents, name them in corpus.separator",
            file=sys.stderr,
        )
    return {"tokens": total, "rows": count, "unknown": unknown, "masked": masked}


@artefact
def exchanged(folder: Path, rows: Artefact, tokenizer: Artefact, seed: int) -> dict[str, Any]:
    """Token rows of stories whose content words have changed places by `lexicon.exchange(seed)`, all else as in `rows`.

    `classes` are those of the places, as in the scrambled world. Raises ProfileError if a content word is no token.
    """
    from transformers import AutoTokenizer

    known = AutoTokenizer.from_pretrained(tokenizer.path, trust_remote_code=False).get_vocab()
    partner = lexicon.exchange(seed)
    content = lexicon.load_lexicon().words[: len(partner)]
    if missing := [word for word in content if word not in known]:
        raise ProfileError(
            f"replicates: words change places token by token, and {missing[0]!r} is no token of this tokenizer; give "
            "the models `tokenizer: word` and a larger `vocabulary`"
        )
    ids = np.array([known[word] for word in content])
    replaced = np.arange(max(known.values()) + 1, dtype=np.int32)
    replaced[ids] = ids[partner]
    for file in rows.path.glob("*.npy"):
        shutil.copyfile(file, folder / file.name)
    np.save(folder / "tokens.npy", replaced[rows.array("tokens")])
    return {"tokens": rows.meta["tokens"], "rows": rows.meta["rows"]}


def _tokenized(
    source: Artefact, tokenizer: PreTrainedTokenizerFast, split: str | None, bar: Any
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """For each document its number and, per token, the id, the true class and whether it is special."""
    roles, unknown = special_tokens(tokenizer), tokenizer.unk_token_id
    for block in corpora.blocks(source, split):
        encodings = tokenizer.backend_tokenizer.encode_batch(block.texts, add_special_tokens=False)
        for number, (encoding, text) in enumerate(zip(encodings, block.texts, strict=True)):
            classes = _classes(encoding, block.starts[number], block.classes[number])
            special = _is_special(encoding, text, roles, unknown)
            yield block.first + number, np.array(encoding.ids, np.int32), classes, special
            bar.update(bool(text))


def _classes(encoding: Any, starts: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(tokens,) the class of the word in which each token ends."""
    if not len(starts):
        return np.full(len(encoding.ids), -1, np.int8)
    last = np.array(encoding.offsets, np.int64).reshape(-1, 2)[:, 1] - 1
    owner = classes[np.searchsorted(starts, last, side="right") - 1]
    return np.where(np.isin(last + 1, starts), -1, owner)  # the space before a word is in no word


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    """Tokens that are not text, by id: those with a role (opening, padding, unknown) and added special tokens."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    found = {token: entry.content for token, entry in added.items() if entry.special}
    return found | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


def _is_special(encoding: Any, text: str, special: Mapping[int, str], unknown: int | None) -> np.ndarray:
    """(tokens,) whether each is a special token that the text names, not a word that the tokenizer does not know."""
    found = np.isin(encoding.ids, list(special))
    for at in np.flatnonzero(found & (np.array(encoding.ids) == unknown)):
        first, last = encoding.offsets[at]
        found[at] = text[first:last].strip() == special[encoding.ids[at]]
    return found


class _Rows:
    """Rows that are filled from the left, one after another."""

    def __init__(self, context: int, opening: int, padding: int) -> None:
        self.context, self.opening = context, opening
        self.empty = {"tokens": padding, "classes": -1, "documents": -1, "places": -1}
        self.kinds: dict[str, Any] = dict.fromkeys(self.empty, (np.int32, (context,)))
        self.kinds |= {"classes": (np.int8, (context,)), "lengths": (np.int32,)}
        self.row: dict[str, Any] = {}
        self.used = 0
        self.full: list[dict[str, Any]] = []

    def add(self, document: int, ids: np.ndarray, classes: np.ndarray, special: np.ndarray) -> None:
        """Add the tokens of a document, with an opening before them in every row that they reach."""
        while len(ids):
            if self.used > self.context - 2:  # no room for an opening and a token
                self.close()
            if not self.used:
                self.row = {name: np.full(self.context, value, np.int32) for name, value in self.empty.items()}
            n = min(self.context - self.used - 1, len(ids))
            inside = slice(self.used + 1, self.used + 1 + n)
            self.row["tokens"][self.used], self.row["tokens"][inside] = self.opening, ids[:n]
            self.row["classes"][inside] = classes[:n]
            self.row["documents"][self.used :] = document
            self.row["places"][self.used] = 0
            self.row["places"][inside] = np.where(special[:n], MASKED, np.arange(1, n + 1))
            self.used, ids, classes, special = inside.stop, ids[n:], classes[n:], special[n:]

    def close(self) -> None:
        """End the row; further tokens go to a new one."""
        if self.used:
            self.full.append(self.row | {"lengths": self.used})
            self.used = 0

    def write(self, out: Mapping[str, Appender]) -> None:
        """Append the full rows to files."""
        if self.full:
            for name, file in out.items():
                file.append(np.array([row[name] for row in self.full]))
            self.full.clear()


def spread_rows(rows: Artefact, chosen: np.ndarray, count: int) -> np.ndarray:
    """`count` of the token rows `chosen`, in their order, spread over articles: one row of each, then a second, ...

    The choice of articles and rows is random with a fixed seed.
    """
    mixed = np.random.default_rng(0).permutation(chosen)
    article = rows.array("articles")[mixed]
    order = np.argsort(article, kind="stable")
    turn = np.empty(len(mixed), np.int64)
    turn[order] = np.arange(len(mixed)) - np.searchsorted(article[order], article[order])
    return np.sort(mixed[np.argsort(turn, kind="stable")[:count]])
