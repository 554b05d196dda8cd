"""What a profile would use: bytes to fetch, memory, hours, and what is missing, before a byte of a file is fetched.

In: a profile; the lists of files of the hub and of gensim's downloader where they answer, their caches where they do
not. Out: a table and a few lines.
Never: a file of a repository, an artefact.

Hours are those of the floating-point operations of forward passes, SAEs and training, at a third of the speed of a
matrix product timed now (`SHARE`), on as many tokens as the corpus is assumed to have: they tell minutes from days.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import Any, NamedTuple

import pandas as pd

from sae_utils import hub, params
from sae_utils.lms import pretrained, toys
from sae_utils.params import Profile
from sae_utils.saes import dictionaries, releases
from sae_utils.spec import ProfileError, choose
from sae_utils.studies import relatedness
from sae_utils.text import corpora

SHARE = 1 / 3  # of a matrix product's speed that a small model's pass reaches
PASSES = 4  # over the corpus for an SAE: codes, its quality and hook, its inputs where it is trained here
D = 1024  # read by an SAE that is trained here
TOKENS = {corpora.Hub: 1000, corpora.Stories: 62}  # a document of OpenWebText, of the stories


class Source(NamedTuple):
    """One model, SAE or file of word vectors of a profile."""

    key: str
    source: str
    fetch: int | None
    """bytes still to be fetched, None where nobody tells"""
    cached: int
    terms: str
    parameters: int
    missing: str


def sources(profile: Profile) -> list[Source]:
    """All that comes from the hub, from folders or from gensim's downloader; of the text nobody tells."""
    found = [
        _source(f"models.{name}", pretrained.wanted(record))
        for name, record in profile.models.items()
        if isinstance(record, pretrained.Pretrained)
    ]
    for name, record in profile.dictionaries.items():
        if isinstance(record, releases.Released):
            try:
                found.append(_source(f"dictionaries.{name}", releases.wanted(record)))
            except ProfileError as error:
                found.append(Source(f"dictionaries.{name}", "", None, 0, "", 0, str(error)))
    for notebook, told in profile.sections.items():
        if told.get("vectors", {}).get("kind") == "download":
            found.append(_vectors(f"{notebook}.vectors", told["vectors"]))
    return found


def _vectors(key: str, value: dict[str, Any]) -> Source:
    try:
        spec = choose(relatedness.KINDS, value, key)
    except ProfileError as error:
        return Source(key, "", None, 0, "", 0, str(error))
    assert isinstance(spec, relatedness.Download)
    known = relatedness.offered(spec.name)
    fetch = sum(size for name, size in known.sizes.items() if name not in known.cached)
    cached = sum(known.sizes[name] for name in known.cached)
    missing = "" if cached else known.refusal
    return Source(key, f"gensim: {spec.name}", None if missing else fetch, cached, known.terms, 0, missing)


def _source(key: str, wanted: tuple[str, str, list[list[str]], list[str]]) -> Source:
    source, revision, need, also = wanted
    known = hub.ask(source, revision, [*(name for group in need for name in group), *also])
    chosen = [next((name for name in group if name in known.sizes), "") for group in need]
    named = {name for name in (*chosen, *also) if name in known.sizes}
    if pretrained.INDEX in chosen:
        named |= {name for name in known.sizes if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)}
    cached = sum(known.sizes[name] for name in named & known.cached.keys())
    complete = all(any(name in known.cached for name in group) for group in need)
    missing = [" or ".join(group) for group, name in zip(need, chosen, strict=True) if not name]
    fetch: int | None = sum(known.sizes[name] for name in named - known.cached.keys())
    if complete:
        fetch, missing = 0, []
    elif known.refusal:
        fetch = None
    where = source if hub.is_local(source) else f"{source} at {revision}"
    said = f"{where}: no {', no '.join(missing)}" if missing and not known.refusal else ""
    parameters = (
        known.parameters or sum(known.sizes[name] for name in named if name.endswith((".safetensors", ".npz"))) // 4
    )
    return Source(key, source, fetch, cached, known.terms, parameters, "" if complete else known.refusal or said)


def tokens(corpus: corpora.Corpus) -> int:
    """How many tokens a corpus is assumed to have."""
    if isinstance(corpus, corpora.Text):
        return sum(file.stat().st_size for file in corpora._files(corpus)) // 4
    assert isinstance(corpus, corpora.Hub | corpora.Stories)
    return corpus.documents * TOKENS[type(corpus)]


def operations(profile: Profile, sizes: dict[str, int]) -> float:
    """Floating-point operations of all passes; `sizes` gives the parameters of pretrained models and SAEs by key."""
    total = 0.0
    count = tokens(profile.corpus)

    def size(name: str) -> int:
        record = profile.models[name]
        if isinstance(record, toys.Toy):
            return record.layers * (4 * record.d_model**2 + 2 * record.d_model * record.d_mlp)
        return size(record.of) if hasattr(record, "of") else sizes.get(f"models.{name}", 0)

    for name, record in profile.models.items():
        if isinstance(record, toys.Toy):
            total += 6 * size(name) * count * record.epochs
    for name, record in profile.dictionaries.items():
        if isinstance(record, releases.Released | dictionaries.Trained):
            total += 2 * PASSES * count * (size(record.model) + sizes.get(f"dictionaries.{name}", 0))
        if isinstance(record, dictionaries.Trained):
            total += 6 * record.samples * 2 * record.width * D
    return total


def speed(device: str, size: int = 1024) -> float:
    """Floating-point operations a second of a matrix product, timed for a moment."""
    import torch

    one = torch.randn(size, size, device=device)
    ended, rounds, started = 0.0, 0, time.perf_counter()
    while ended - started < 0.3:
        one @ one
        if device == "cuda":
            torch.cuda.synchronize()
        ended, rounds = time.perf_counter(), rounds + 1
    return 2 * size**3 * rounds / (ended - started)


def memory(profile: Profile, found: list[Source]) -> int:
    """Bytes of the largest model with the largest SAE, and as much again for activations."""
    widths = {"float32": 4, "bfloat16": 2, "float16": 2}
    of = {source.key: source.parameters for source in found}
    models = [widths[record.dtype] * of[f"models.{name}"] for name, record in profile.models.items()
              if isinstance(record, pretrained.Pretrained)]  # fmt: skip
    saes = [4 * size for key, size in of.items() if key.startswith("dictionaries.")]
    return 2 * (max(models, default=0) + max(saes, default=0))


def _time(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{max(60 * hours, 1):.0f} minutes"


def main() -> None:
    """Print what a profile would use, and leave with 1 if something is missing."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils.plan", description=main.__doc__)
    parser.add_argument("profile", help="name of a file in params/, without .yaml")
    try:
        profile = params.load(parser.parse_args().profile)
        count = tokens(profile.corpus)
    except ProfileError as error:
        sys.exit(f"error: {error}")
    found = sources(profile)
    if found:
        print(_table(found))
    unknown = sum(source.fetch is None for source in found)
    print(
        f"to fetch: {sum(source.fetch or 0 for source in found) / 1e9:.2f} GB"
        + (f", and {unknown} sources of unknown size" if unknown else "")
        + f"; cached: {sum(source.cached for source in found) / 1e9:.2f} GB"
    )
    device = params.device(profile)
    hours = operations(profile, {source.key: source.parameters for source in found}) / SHARE / speed(device) / 3600
    least = "at least " if unknown else ""
    most = max(memory(profile, found) / 1e9, 0.1)
    print(f"memory on {device}: {least}{most:.1f} GB for the largest model with its SAE")
    print(
        f"time: {least or 'about '}{_time(hours)} of models and SAEs on {count:,} tokens, after what is to be fetched; "
        "beside that each notebook takes up to some minutes"
    )
    missing: dict[str, list[str]] = {}
    for source in found:
        if source.missing:
            missing.setdefault(source.missing, []).append(source.key)
    print("missing:" if missing else "nothing is missing")
    for why, keys in missing.items():
        print(f"  {', '.join(keys)}: {why}")
    sys.exit(bool(missing))


def _table(found: list[Source]) -> str:
    lines = [
        {
            "": source.key,
            "source": source.source,
            "to fetch (GB)": "unknown" if source.fetch is None else f"{source.fetch / 1e9:.2f}",
            "cached (GB)": f"{source.cached / 1e9:.2f}",
            "licence": source.terms,
        }
        for source in found
    ]
    return pd.DataFrame(lines).to_string(index=False)


if __name__ == "__main__":
    main()
