"""What the models of a profile read: tokenizers, token rows, and the positions at which features are compared.

In: a checked profile and a name of its models or dictionaries. Out: artefacts of tokens and positions; labels, words.
Never: a model, a dictionary, a code.

**Where features are compared.** `primary.pair` decides for the whole profile. If its two models have one tokenizer,
features are compared at every token. If they have two, every comparison of the profile is at the ends of words that
both tokenizers share: also that of two SAEs of one model, of a twin, of other layers, so that all have the same n and
the same text. There a feature has the code of the last token of the word (`aligned.DEFAULT`), and the label of a
position is its word. A model with a third tokenizer can be compared with neither.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sae_utils.engine.core.spec import ProfileError, nearest
from sae_utils.engine.lms import pretrained, toys
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import activations, aligned
from sae_utils.engine.text import alignment, corpora, stories, tokenization
from sae_utils.engine.text.words import Words, find_words, token_labels, token_texts
from sae_utils.store import Artefact


@contextlib.contextmanager
def about(profile: Profile, key: str) -> Iterator[None]:
    """Add the key of the profile to errors."""
    try:
        yield
    except ProfileError as error:
        raise ProfileError(f"params/{profile.name}.yaml: {key}: {error}") from error


def origin(records: Mapping[str, Any], name: str) -> Any:
    """The record of a model or dictionary; of a derived one (`of`), the record from which it derives.

    Raises ProfileError if no record has that name.
    """
    if name not in records:
        raise ProfileError(f"no model or dictionary of the profile is called {name!r}; {nearest(name, records)}")
    record = records[name]
    return origin(records, record.of) if hasattr(record, "of") else record


def tokenizer(profile: Profile, name: str) -> Artefact:
    """The tokenizer of a model; models that cut text into the same tokens share it.

    A toy's is trained on the training documents of the first toy with such a tokenizer, and knows every word of the
    stories.
    """
    record = origin(profile.models, name)
    if isinstance(record, pretrained.Pretrained):
        with about(profile, f"models.{name}"):
            return pretrained.tokenizer(pretrained.tokenizer_spec(record))
    alike = (x for x, toy in profile.models.items() if isinstance(toy, toys.Toy) and toy.cuts_like(record))
    corpus = profile.training_corpus(next(alike))
    known = stories.WORDS if isinstance(corpus, corpora.Stories) else ()
    return tokenization.train(corpora.text(corpus), record.tokenizer, record.vocabulary, known)


def tokenizer_of(profile: Profile, dictionary: str) -> Artefact:
    """The tokenizer of the model that a dictionary reads."""
    return tokenizer(profile, origin(profile.dictionaries, dictionary).model)


def _loaded_tokenizer(profile: Profile, dictionary: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_of(profile, dictionary).path, trust_remote_code=False)


def same_tokenizer(profile: Profile, a: str, b: str, *, fetch: bool = True) -> bool | None:
    """Whether two models have one tokenizer.

    None where only files of the hub could tell that are not cached, and that without `fetch` are not fetched.
    """
    one, two = (origin(profile.models, name) for name in (a, b))
    if isinstance(one, toys.Toy) and isinstance(two, toys.Toy):
        return one.cuts_like(two)
    if isinstance(one, toys.Toy) or isinstance(two, toys.Toy):
        return False
    if one.identity() == two.identity():
        return True
    found = [
        pretrained.tokenizer_spec(record) if fetch else pretrained.local_tokenizer_spec(record) for record in (one, two)
    ]
    return None if None in found else found[0] == found[1]


def one_tokenizer(profile: Profile) -> bool:
    """Whether the models of the primary pair have one tokenizer, so that features are compared at every token."""
    return same_tokenizer(profile, *(model_of(profile, name) for name in profile.pair)) is True


def model_of(profile: Profile, dictionary: str) -> str:
    """The model that a dictionary reads."""
    return str(origin(profile.dictionaries, dictionary).model)


# --- labels and words


def vocabulary(profile: Profile, dictionary: str) -> list[str]:
    """The label of every token of the sites at which a dictionary is compared; of every word, with two tokenizers."""
    if one_tokenizer(profile):
        return own_vocabulary(profile, dictionary)
    return aligned.words_of(lexis(profile))


def own_vocabulary(profile: Profile, dictionary: str) -> list[str]:
    """The label of every token that the model of a dictionary reads."""
    return token_labels(_loaded_tokenizer(profile, dictionary))


def words(profile: Profile, dictionary: str, sites: Artefact) -> Words:
    """The words at the sites at which a dictionary is compared."""
    if "lexis" in sites.meta:
        return aligned.find_words(aligned.words_of(lexis(profile)), sites.array("tokens"))
    texts = token_texts(_loaded_tokenizer(profile, dictionary))
    return find_words(texts, *(sites.array(name) for name in ("tokens", "rows", "positions")))


def lexis(profile: Profile) -> Artefact:
    """The words of the text; those of stories all, since exchanged words may be others."""
    return aligned.lexis(corpora.text(profile.corpus), _known_words(profile.corpus))


def _known_words(corpus: corpora.Corpus) -> tuple[str, ...]:
    return tuple(stories.WORDS) if isinstance(corpus, corpora.Stories) else ()


# --- token rows


def rows(profile: Profile, name: str, corpus: corpora.Corpus | None = None) -> Artefact:
    """The corpus of the profile, or another, in the tokens of a model."""
    corpus = corpus or profile.corpus
    return tokenization.rows(corpora.text(corpus), tokenizer(profile, name), corpus.context, corpus.packed)


def exchanged_rows(profile: Profile, name: str, seed: int) -> Artefact:
    """The corpus of the profile in the tokens of a model, its content words exchanged by `lexicon.exchange(seed)`.

    Raises ProfileError if the corpus is not of stories, and as `tokenization.exchanged`.
    """
    if not isinstance(profile.corpus, corpora.Stories):
        raise ProfileError(f"params/{profile.name}.yaml: corpus: only the words of stories can change places")
    return tokenization.exchanged(rows(profile, name), tokenizer(profile, name), seed)


def articles(profile: Profile, sites: Artefact) -> np.ndarray:
    """(tokens,) the article of every site: what lies in one split, and is left out or exchanged whole."""
    found: np.ndarray = corpora.text(profile.corpus).array("articles")[sites.array("documents")]
    return found


def training_text(profile: Profile, dictionary: str) -> corpora.Corpus:
    """The corpus on which a dictionary and its model are trained."""
    return profile.training_corpus(origin(profile.dictionaries, dictionary).model)


def training_rows(profile: Profile, name: str) -> Artefact:
    """The token rows that train a model and its dictionaries."""
    return rows(profile, name, profile.training_corpus(name))


def read_rows(profile: Profile, model: str, exchanged: int | None) -> Artefact:
    """The rows that a model reads, plain or with words exchanged by a seed.

    A model of words reads exchanged tokens, a model of pieces of words the text of the scrambled world.
    """
    if exchanged is not None and getattr(origin(profile.models, model), "tokenizer", "") == "word":
        return exchanged_rows(profile, model, exchanged)
    return rows(profile, model, read_corpus(profile, exchanged))


def read_corpus(profile: Profile, exchanged: int | None) -> corpora.Corpus:
    """The corpus of a profile, or of stories the one whose words have changed places by a seed."""
    if exchanged is None:
        return profile.corpus
    return profile.corpus.model_copy(update={"world": "scrambled", "permutation": exchanged})


# --- positions


def positions(profile: Profile, exchanged: int | None = None) -> Artefact | None:
    """The positions at which all features of a profile are compared; None where that is every token.

    `exchanged`: seed of the exchange of words. Their `tokens` are words, labelled by `vocabulary`. Raises ProfileError
    if the words of the exchanged text are at other places.
    """
    if one_tokenizer(profile):
        return None
    found = _worded(profile, exchanged)
    if exchanged is not None:
        plain = _worded(profile, None)
        if found.array("documents").tobytes() != plain.array("documents").tobytes():
            raise ProfileError(
                f"params/{profile.name}.yaml: corpus.context: {profile.corpus.context} tokens cut documents into rows, "
                "and with exchanged words at other places; give room for whole documents"
            )
    return found


def _worded(profile: Profile, exchanged: int | None) -> Artefact:
    shared = align(profile, *profile.pair, aligned.AT, exchanged)
    return aligned.worded(shared, corpora.text(read_corpus(profile, exchanged)), lexis(profile))


def align(profile: Profile, a: str, b: str, at: alignment.At, exchanged: int | None = None) -> Artefact:
    """The `aligned.positions` that the models of two dictionaries share on the text of a profile."""
    source = corpora.text(read_corpus(profile, exchanged))
    spans_a, spans_b = (alignment.spans(source, tokenizer_of(profile, name)) for name in (a, b))
    rows_a, rows_b = (read_rows(profile, model_of(profile, name), exchanged) for name in (a, b))
    sites_a, sites_b = (activations.sites(x, profile.common.skip) for x in (rows_a, rows_b))
    return aligned.positions(spans_a, spans_b, rows_a, rows_b, sites_a, sites_b, at)


def side_of(profile: Profile, dictionary: str) -> aligned.Side:
    """The side of `positions` whose tokens a dictionary reads.

    Raises ProfileError if its model has neither tokenizer of the primary pair.
    """
    model = model_of(profile, dictionary)
    for side, name in zip(aligned.SIDES, profile.pair, strict=True):
        if same_tokenizer(profile, model, model_of(profile, name)):
            return side
    raise ProfileError(
        f"params/{profile.name}.yaml: dictionaries.{dictionary}: {model} has a third tokenizer; all models that are "
        f"compared have one of those of primary.pair ({', '.join(profile.pair)})"
    )
