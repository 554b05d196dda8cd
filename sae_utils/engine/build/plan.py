"""What a profile would use: bytes to fetch, memory, hours, and what is missing, before a byte of a file is fetched.

In: a profile; the lists of files of the hub and of gensim's downloader where they answer, their caches where they do
not. Out: a table and a few lines.
Never: a file of a repository, an artefact.

What a build costs is told by `cost`, with a block of each model and a step of each SAE timed now (`pace`).
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NamedTuple

import pandas as pd

from sae_utils.engine.build import cost
from sae_utils.engine.inputs import hub
from sae_utils import profiles, store
from sae_utils.engine.lms import pretrained
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import quality, releases
from sae_utils.engine.core.spec import ProfileError, choose
from sae_utils.studies.semantic_subspaces import word2vec


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
        _source(f"models.{name}", record.wanted())
        for name, record in profile.models.items()
        if isinstance(record, pretrained.Pretrained)
    ]
    for name, record in profile.dictionaries.items():
        if isinstance(record, releases.Released):
            try:
                found.append(_source(f"dictionaries.{name}", record.wanted()))
            except ProfileError as error:
                found.append(Source(f"dictionaries.{name}", "", None, 0, "", 0, str(error)))
    for notebook, told in profile.sections.items():
        if told.get("vectors", {}).get("kind") == "download":
            found.append(_vectors(f"{notebook}.vectors", told["vectors"]))
    return found


def _vectors(key: str, value: dict[str, Any]) -> Source:
    try:
        spec = choose(word2vec.KINDS, value, key)
    except ProfileError as error:
        return Source(key, "", None, 0, "", 0, str(error))
    assert isinstance(spec, word2vec.Download)
    known = word2vec.available(spec.name)
    fetch = sum(size for name, size in known.sizes.items() if name not in known.cached)
    cached = sum(known.sizes[name] for name in known.cached)
    missing = "" if cached else known.refusal
    return Source(key, f"gensim: {spec.name}", None if missing else fetch, cached, known.terms, 0, missing)


def _source(key: str, wanted: tuple[str, str, list[list[str]], list[str]]) -> Source:
    source, revision, need, also = wanted
    known = hub.listing(source, revision, [*(name for group in need for name in group), *also])
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


def said(profile: Profile, found: list[Source], device: str) -> list[str]:
    """Lines on memory, disk, time, and trainings that cannot work."""
    whole = cost.cost(profile, {source.key: source.parameters for source in found})
    parts: dict[str, float] = {}
    for work in whole.works:
        parts[work.label] = parts.get(work.label, 0.0) + work.seconds
    least = "at least " if any(source.fetch is None for source in found) else "about "
    threads = profile.common.threads if device == "cpu" else 1
    clock = "" if threads == 1 else f", {_time(whole.seconds / threads)} to that by the clock with {threads} threads"
    lines = [
        f"memory on {device}: {least}{whole.memory / 1e9:.1f} GB at most at once; disk: {whole.disk / 1e9:.1f} GB",
        f"time: {least}{_time(whole.seconds)} on one core{clock}, of {cost.tokens(profile.corpus):,} tokens:",
    ]
    shown = sorted((seconds, label) for label, seconds in parts.items() if seconds > whole.seconds / 50)
    lines += [f"  {_time(seconds)}: {label}" for seconds, label in reversed(shown)]
    warning = quality.warning(profile.dictionaries, cost.available(profile))
    return lines + ([f"warning: {warning}"] if warning else [])


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.1f} minutes"


def main() -> None:
    """Print what a profile would use, and leave with 1 if something is missing."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils plan", description=main.__doc__)
    parser.add_argument("profile", help="name of a file in params/, without .yaml")
    try:
        profile = profiles.load(parser.parse_args().profile)
        cost.tokens(profile.corpus)
        device = profiles.device(profile)
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
    store.use(threads=profile.common.threads, device=device)
    print(*said(profile, found, device), sep="\n")
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
