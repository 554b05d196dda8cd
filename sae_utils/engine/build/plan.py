"""The needs of a profile, before any file is fetched: download size, memory, time, and missing files.

In: a profile; the lists of files of the hub and of gensim's downloader where they answer, their caches where they do
not. Out: a table and a few lines.
Never: a file of a repository, an artefact.

`cost` estimates the build from speeds that `speed` measures now.
"""

import argparse
import re
import sys
from collections.abc import Collection
from typing import Any, NamedTuple

import pandas as pd

from sae_utils import profiles, store, sweep
from sae_utils.engine.build import cost
from sae_utils.engine.core.spec import ProfileError, choose
from sae_utils.engine.inputs import hub, packages
from sae_utils.engine.lms import pretrained, quantised
from sae_utils.engine.params import Profile
from sae_utils.engine.saes import quality, releases
from sae_utils.engine.text import wikipedia
from sae_utils.studies.semantic_subspaces import word2vec


class Source(NamedTuple):
    """One model, SAE, dump or file of word vectors of a profile; without `fetch` its size is unknown."""

    key: str
    source: str = ""
    fetch: int | None = None  # bytes still to be fetched
    cached: int = 0
    terms: str = ""
    parameters: int = 0
    missing: str = ""  # why it cannot be used; empty if nothing is missing


def sources(profile: Profile) -> list[Source]:
    """All models, SAEs and word vectors from the hub, folders or gensim's downloader, and dumps of a wiki."""
    records = {f"models.{name}": record for name, record in profile.models.items()}
    records |= {f"dictionaries.{name}": record for name, record in profile.dictionaries.items()}
    found = [_dump(profile.corpus)] if isinstance(profile.corpus, wikipedia.Wikipedia) else []
    for key, record in records.items():
        if isinstance(record, pretrained.Pretrained | releases.Released):
            try:
                file = pretrained.gguf(record) if isinstance(record, pretrained.Pretrained) else None
                found.append(_gguf(key, file) if file else _files(key, *record.wanted()))
            except ProfileError as error:
                found.append(Source(key, missing=str(error)))
    for notebook, section in profile.sections.items():
        if section.get("vectors", {}).get("kind") == "download":
            found.append(_vectors(f"{notebook}.vectors", section["vectors"]))
    return found


def _dump(corpus: wikipedia.Wikipedia) -> Source:
    """The dump from which the text comes."""
    try:
        size = sum(file.stat().st_size for file in corpus.files())
    except ProfileError as error:
        return Source("corpus", corpus.path, missing=str(error))
    return Source("corpus", corpus.path, 0, size, corpus.licence)


def _vectors(key: str, value: dict[str, Any]) -> Source:
    """Word vectors of gensim's downloader."""
    try:
        spec = choose(word2vec.KINDS, value, key)
    except ProfileError as error:
        return Source(key, missing=str(error))
    assert isinstance(spec, word2vec.Download)
    listed = word2vec.available(spec.name)
    fetch = sum(size for name, size in listed.sizes.items() if name not in listed.cached)
    cached = sum(listed.sizes[name] for name in listed.cached)
    missing = "" if cached else listed.refusal
    return Source(key, f"gensim: {spec.name}", None if missing else fetch, cached, listed.terms, 0, missing)


def _gguf(key: str, file: quantised.Gguf) -> Source:
    """A GGUF file of the user, or in packages, whose sizes no registry tells in one way."""
    path, packaged = file.here(), file.packaged
    cached = path.stat().st_size if path else 0
    if packaged is None:
        return Source(key, f"{file.title}.gguf", 0, cached)
    terms = packaged.licence
    if not packaged.is_open and packaged.terms:
        terms += f" ({packaged.terms.file.rpartition('/')[2]} in {packaged.terms.package})"
    first, *more = packaged.package
    source = f"{first} and {len(more)} more" if more else first
    if path or packaged.accepted:
        return Source(key, source, 0 if path else None, cached, terms)
    why = packages.unaccepted(packaged, quantised.downloads())
    return Source(key, source, None, 0, terms, missing=why)


def _files(key: str, source: str, revision: str, needed: list[list[str]], optional: list[str]) -> Source:
    """Files of a repository: one of each group in `needed`, and the `optional` ones that exist."""
    listed = hub.listing(source, revision, [*(name for group in needed for name in group), *optional])
    chosen = [next((name for name in group if name in listed.sizes), "") for group in needed]
    names = {name for name in (*chosen, *optional) if name in listed.sizes}
    if pretrained.INDEX in chosen:
        names |= {name for name in listed.sizes if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)}
    weights = [name for name in names if name.endswith((".safetensors", ".npz"))]
    parameters = listed.parameters or sum(listed.sizes[name] for name in weights) // 4
    cached = sum(listed.sizes[name] for name in names & listed.cached.keys())
    if all(any(name in listed.cached for name in group) for group in needed):
        return Source(key, source, 0, cached, listed.terms, parameters)
    if listed.refusal:
        return Source(key, source, None, cached, listed.terms, parameters, listed.refusal)
    absent = [" or ".join(group) for group, name in zip(needed, chosen, strict=True) if not name]
    where = source if hub.is_local(source) else f"{source} at {revision}"
    missing = f"{where}: no {', no '.join(absent)}" if absent else ""
    fetch = sum(listed.sizes[name] for name in names - listed.cached.keys())
    return Source(key, source, fetch, cached, listed.terms, parameters, missing)


def report(profile: Profile, found: list[Source], device: str, only: Collection[str] | None = None) -> list[str]:
    """Lines on memory, disk and time, of all notebooks or `only` some; warnings about trainings that are too short."""
    build = cost.Build(profile, {source.key: source.parameters for source in found}, only=only)
    about = "at least" if any(source.fetch is None for source in found) else "about"
    threads, processes = profile.common.threads if device == "cpu" else 1, sweep.processes()
    least = f", at least {_time(build.clock / threads)} by the clock in {processes} processes"
    least += f" of {threads} threads" if threads > 1 else ""
    clock = least if processes * threads > 1 else ""
    lines = [
        f"memory on {device}: {about} {build.memory / 1e9:.1f} GB at most at once; disk: {build.disk / 1e9:.1f} GB",
        f"time: {about} {_time(build.seconds)} on one core{clock}, of {cost.tokens(profile.corpus):,} tokens:",
    ]
    longest = sorted((seconds, label) for label, seconds in build.works.items() if seconds > build.seconds / 50)
    lines += [f"  {_time(seconds)}: {label}" for seconds, label in reversed(longest)]
    warning = quality.warning(profile.dictionaries, build.available)
    return lines + ([f"warning: {warning}"] if warning else [])


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.1f} minutes"


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


def show(profile: Profile, only: Collection[str] | None = None) -> bool:
    """Print what a profile would use, with all notebooks or `only` some; whether nothing is missing.

    Raises ProfileError for a text that is not there, and without the device that the profile asks for.
    """
    cost.tokens(profile.corpus)
    device, found = profiles.device(profile), sources(profile)
    if found:
        print(_table(found))
    unknown = sum(source.fetch is None for source in found)
    print(
        f"to fetch: {sum(source.fetch or 0 for source in found) / 1e9:.2f} GB"
        + (f", and {unknown} sources of unknown size" if unknown else "")
        + f"; cached: {sum(source.cached for source in found) / 1e9:.2f} GB"
    )
    store.use(threads=profile.common.threads, device=device)
    print(*report(profile, found, device, only), sep="\n")
    missing: dict[str, list[str]] = {}
    for source in found:
        if source.missing:
            missing.setdefault(source.missing, []).append(source.key)
    print("missing:" if missing else "nothing is missing")
    for why, keys in missing.items():
        print(f"  {', '.join(keys)}: {why}")
    return not missing


def main() -> None:
    """Print what a profile would use; exit status 1 if something is missing."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils plan", description=main.__doc__)
    parser.add_argument("profile", help="name of a file in params/, without .yaml")
    try:
        complete = show(profiles.load(parser.parse_args().profile))
    except ProfileError as error:
        sys.exit(f"error: {error}")
    sys.exit(not complete)
