"""Sets the paper from what the notebooks wrote.

In: `paper/`, `paper/generated/<profile>/`, `figures/<profile>/`. Out: `build/<profile>/paper.pdf`, the same bytes for
the same inputs.
Never: a number; a PDF that looks finished when LaTeX failed.

`python -m sae_utils typeset PROFILE [--anonymous]`; with TEX=skip in the environment nothing is set.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import yaml

from sae_utils.engine.core import files
from sae_utils.tables import escape
from sae_utils.engine.core.sources import REPOSITORY

PAPER, FIGURES = REPOSITORY / "paper", REPOSITORY / "figures"
INSTALL = (
    "figures, tables and numbers are done; for the PDF install latexmk with LaTeX (Debian, Ubuntu: apt-get install "
    "latexmk texlive-latex-recommended texlive-fonts-recommended) or tectonic, and run the same command again"
)


def _git(*arguments: str) -> str:
    """What git says, or nothing where there is no repository or no git."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def notebook_url() -> str:
    """Web address of the notebooks at the last commit that touched what they compute, as LaTeX; empty if unknown."""
    commit = _git("log", "-1", "--format=%H", "--", "notebooks", "params", "sae_utils")
    site = web_address(_git("remote", "get-url", "origin"))
    return f"{site}/blob/{commit}/notebooks".replace("%", r"\%") if commit and site else ""


def web_address(remote: str) -> str:
    """Where a git remote (https, ssh, git, or host:path as scp writes it) can be read on the web; empty if nowhere.

    User, password, parameters, query and fragment are left out, and a port that is not the web's. The rest is quoted
    as addresses are, so that no sign in it but % means anything to LaTeX.
    """
    copied = re.fullmatch(r"(?:[^@/\s]*@)?([^@:/\s]+):(?!//)(.+)", remote)
    try:
        parts = urlsplit(f"ssh://{copied[1]}/{copied[2]}" if copied else remote)
        host, port, kind = parts.hostname or "", parts.port, parts.scheme.split("+")[-1]
    except ValueError:  # no port, no host
        return ""
    path = quote(unquote(parts.path.partition(";")[0])).strip("/").removesuffix(".git")
    if (
        kind not in ("https", "http", "ssh", "git")
        or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", host, re.ASCII)
        or not path
    ):
        return ""
    web = {"ssh": "https", "git": "https"}.get(kind, kind)
    return f"{web}://{host}{f':{port}' if port and web == kind else ''}/{path}"


def wrapper(profile: str, stamp: str, anonymous: bool) -> str:
    """The file that LaTeX is given: what differs between builds, then the paper."""
    lines = [rf"\newcommand{{\profile}}{{{profile}}}", rf"\newcommand*{{\stamp}}{{{escape(stamp)}}}"]
    if not anonymous:
        lines += [r"\newcommand*{\final}{}", rf"\newcommand*{{\notebookurl}}{{{notebook_url()}}}"]
    return "\n".join([*lines, *left_out(profile), r"\input{main}"]) + "\n"


def left_out(profile: str) -> list[str]:
    """Definitions of the macros that the paper asks for, of studies that the profile leaves out: a dash each."""
    written = "".join(file.read_text("utf-8") for file in (PAPER / "generated" / profile).glob("*.tex"))
    asked = "".join(file.read_text("utf-8") for file in [*PAPER.glob("*.tex"), *PAPER.glob("sections/**/*.tex")])
    defined = set(re.findall(r"\\newcommand\{\\([A-Za-z]+)\}", written))
    absent = tuple(macro.removesuffix("Absent") for macro in defined if macro.endswith("Absent"))
    dashes = {macro for macro in re.findall(r"\\([A-Za-z]+)", asked) if macro.startswith(absent)} - defined
    return [rf"\newcommand{{\{macro}}}{{---}}" for macro in sorted(dashes)]


def typeset(profile: str, anonymous: bool = False) -> str:
    """Set the paper; returns an error message, empty if all went well."""
    folder = REPOSITORY / "build" / profile
    told = sorted((folder / "params").glob("*.yaml"))
    if not told:
        return f"no notebook was run with profile {profile}; `make paper PROFILE={profile}` runs them"
    stamp = yaml.safe_load(told[0].read_text("utf-8"))["common"]["stamp"]
    with files.explained(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="paper-") as fresh:
        return _set(wrapper(profile, stamp, anonymous), Path(fresh), folder)


def _set(content: str, fresh: Path, build: Path) -> str:
    """Set the paper in an empty folder, where no killed run left half a file, and move the PDF and the log from there.

    Copies of what LaTeX reads lie in it, and all names are relative: LaTeX trips over characters that the path of a
    checkout may hold, and writes a digest of the path of its output into the PDF.
    """
    for folder in (PAPER, FIGURES):
        if folder.is_dir():
            skipped = shutil.ignore_patterns(".*", "*.png", "*.aux")
            shutil.copytree(folder, fresh / folder.name, ignore=skipped, ignore_dangling_symlinks=True)
    source = fresh / "paper" / "paper.tex"
    source.write_text(content, "utf-8")
    if shutil.which("latexmk"):  # -norc: nobody's own settings
        command = ["latexmk", "-norc", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "-silent", source.name]
    elif shutil.which("tectonic"):
        command = ["tectonic", "-X", "compile", "--keep-logs", source.name]
    else:
        return INSTALL
    moment = _git("log", "-1", "--format=%ct", "--", "notebooks", "params", "sae_utils", "paper") or "0"
    environment = os.environ | {"SOURCE_DATE_EPOCH": moment, "FORCE_SOURCE_DATE": "1", "max_print_line": "1000"}
    done = subprocess.run(
        command, cwd=source.parent, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace",
    )  # fmt: skip
    log, pdf = build / "paper.log", build / "paper.pdf"
    said = done.stdout + done.stderr
    made = source.with_suffix(".log")
    files.write(log, made.read_text("utf-8", errors="replace") if made.exists() else said)
    if done.returncode == 0 and source.with_suffix(".pdf").exists():
        with files.draft(pdf) as draft:
            shutil.copyfile(source.with_suffix(".pdf"), draft)
        return ""
    pdf.unlink(missing_ok=True)
    return f"LaTeX failed:\n{complaint(log, said)}\nthe whole log: {log}"


def complaint(log: os.PathLike[str], otherwise: str) -> str:
    """The lines of a LaTeX log that say what is wrong and where."""
    try:
        lines = open(log, encoding="utf-8", errors="replace").read().splitlines()
    except OSError:
        lines = []
    found = [number for number, line in enumerate(lines) if line.startswith("!")]
    return "\n".join(line for number in found[:3] for line in lines[number : number + 6]) or otherwise[-2000:]


def main() -> None:
    """Typeset the paper of a profile."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils typeset", description=main.__doc__)
    parser.add_argument("profile", help="name of a file in params/, without .yaml")
    parser.add_argument("--anonymous", action="store_true", help="without authors and links, for review")
    arguments = parser.parse_args()
    if os.environ.get("TEX") == "skip":
        print("figures, tables and numbers are done; TEX=skip leaves out the PDF")
        return
    try:
        problem = typeset(arguments.profile, arguments.anonymous)
    except files.WriteError as error:
        problem = str(error)
    if problem:
        sys.exit(f"error: {problem}")
    print(f"the paper: build/{arguments.profile}/paper.pdf")


if __name__ == "__main__":
    main()
