"""Tokenizers of every kind, trained on one sentence."""

import string

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXT = (
    "The queen said: she'd seen the sheen of a shed. She, Éloïse, and Zoë 😀 ate naïve “crêpes”; SHE laughed in 1984!"
)
SPECIAL = ["<pad>", "<bos>", "<unk>"]
KINDS = ("word", "wordpiece", "byte", "bytes and digits", "unigram", "byte fallback", "end of word")


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of one of `KINDS`; it adds no token to a text."""
    raw = _untrained(kind)
    shared = {"special_tokens": SPECIAL, "show_progress": False}
    match kind:
        case "word":
            trainer = trainers.WordLevelTrainer(**shared)
        case "wordpiece":
            trainer = trainers.WordPieceTrainer(vocab_size=60, **shared)
        case "unigram":
            trainer = trainers.UnigramTrainer(vocab_size=70, unk_token="<unk>", **shared)
        case "end of word":
            trainer = trainers.BpeTrainer(vocab_size=90, end_of_word_suffix="</w>", **shared)
        case _:
            trainer = trainers.BpeTrainer(
                vocab_size=280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **shared
            )
    if kind != "byte fallback":
        raw.train_from_iterator([TEXT] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<bos>", pad_token="<pad>", unk_token="<unk>")


def _untrained(kind: str) -> Tokenizer:
    byte, digits = pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.Digits(individual_digits=True)
    letters = [*SPECIAL, *(f"<0x{n:02X}>" for n in range(256)), *string.ascii_letters, "▁", ":", ".", "é"]
    model, before, decoder = {
        "word": (models.WordLevel(unk_token="<unk>"), pre_tokenizers.Whitespace(), None),
        "wordpiece": (models.WordPiece(unk_token="<unk>"), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()),
        "byte": (models.BPE(), byte, decoders.ByteLevel()),
        "bytes and digits": (
            models.BPE(), pre_tokenizers.Sequence([digits, byte]), decoders.Sequence([decoders.ByteLevel()])
        ),
        "unigram": (models.Unigram(), pre_tokenizers.Metaspace(), decoders.Metaspace()),
        "byte fallback": (
            models.BPE({letter: n for n, letter in enumerate(letters)}, [], unk_token="<unk>", byte_fallback=True),
            pre_tokenizers.Metaspace(),
            decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
        ),
        "end of word": (
            models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
            pre_tokenizers.Whitespace(),
            decoders.BPEDecoder(),
        ),
    }[kind]  # fmt: skip
    raw = Tokenizer(model)
    raw.pre_tokenizer = before
    if decoder:
        raw.decoder = decoder
    return raw
