"""Typesets the paper from the numbers, tables and figures that the notebooks wrote.

In: `paper/`, `paper/generated/<profile>/`, `figures/<profile>/`. Out: `build/<profile>/paper.pdf`, the same bytes for
the same inputs.
Never: a computed number; a PDF when LaTeX failed.

`python -m sae_utils typeset PROFILE [--anonymous]`; TEX=skip in the environment leaves out the PDF.
"""

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
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.tables import escape

PAPER, FIGURES = REPOSITORY / "paper", REPOSITORY / "figures"
INSTALL = (
    "figures, tables and numbers are done; for the PDF install latexmk with LaTeX (Debian, Ubuntu: apt-get install "
    "latexmk texlive-latex-recommended texlive-fonts-recommended) or tectonic, and run the same command again"
)


def _git(*arguments: str) -> str:
    """The output of a git command; empty where there is no repository or no git."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def notebook_url() -> str:
    """LaTeX of the notebooks' web address at the last commit that changed them or their code; empty if unknown."""
    commit = _git("log", "-1", "--format=%H", "--", "notebooks", "params", "sae_utils")
    site = web_address(_git("remote", "get-url", "origin"))
    return f"{site}/blob/{commit}/notebooks".replace("%", r"\%") if commit and site else ""


def web_address(remote: str) -> str:
    """The web page of a git remote (https, ssh, git, or host:path as scp writes it); empty if there is none.

    User, password, parameters, query and fragment are left out, and so is a port of another protocol. The rest is
    quoted as in web addresses, so that % is its only character that LaTeX treats as special.
    """
    copied = re.fullmatch(r"(?:[^@/\s]*@)?([^@:/\s]+):(?!//)(.+)", remote)
    try:
        parts = urlsplit(f"ssh://{copied[1]}/{copied[2]}" if copied else remote)
        host, port, kind = parts.hostname or "", parts.port, parts.scheme.split("+")[-1]
    except ValueError:  # of a malformed port or host
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
    """The source that LaTeX compiles: definitions of this build, then the paper."""
    lines = [rf"\newcommand{{\profile}}{{{profile}}}", rf"\newcommand*{{\stamp}}{{{escape(stamp)}}}"]
    if not anonymous:
        lines += [r"\newcommand*{\final}{}", rf"\newcommand*{{\notebookurl}}{{{notebook_url()}}}"]
    return "\n".join([*lines, *absent_macros(profile), r"\input{main}"]) + "\n"


def absent_macros(profile: str) -> list[str]:
    """LaTeX that defines the macros of studies which the profile leaves out, each as a dash."""
    written = "".join(file.read_text("utf-8") for file in (PAPER / "generated" / profile).glob("*.tex"))
    used = "".join(file.read_text("utf-8") for file in [*PAPER.glob("*.tex"), *PAPER.glob("sections/**/*.tex")])
    defined = set(re.findall(r"\\newcommand\{\\([A-Za-z]+)\}", written))
    absent = tuple(macro.removesuffix("Absent") for macro in defined if macro.endswith("Absent"))
    undefined = {macro for macro in re.findall(r"\\([A-Za-z]+)", used) if macro.startswith(absent)} - defined
    return [rf"\newcommand{{\{macro}}}{{---}}" for macro in sorted(undefined)]


def set_paper(profile: str, anonymous: bool = False) -> str:
    """Typeset the paper; returns an error message, empty on success."""
    folder = REPOSITORY / "build" / profile
    written = sorted((folder / "params").glob("*.yaml"))
    if not written:
        return f"no notebook was run with profile {profile}; `make paper PROFILE={profile}` runs them"
    stamp = yaml.safe_load(written[0].read_text("utf-8"))["common"]["stamp"]
    with files.explained(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="paper-") as fresh:
        return _set(wrapper(profile, stamp, anonymous), Path(fresh), folder)


def _set(content: str, fresh: Path, build: Path) -> str:
    """Compile the paper in an empty folder, free of partial files of killed runs, and copy PDF and log from there.

    The folder holds copies of all that LaTeX reads, and names are relative: LaTeX fails on some characters that the
    path of a checkout may hold, and it writes a digest of its output's path into the PDF.
    """
    for folder in (PAPER, FIGURES):
        if folder.is_dir():
            skipped = shutil.ignore_patterns(".*", "*.png", "*.aux")
            shutil.copytree(folder, fresh / folder.name, ignore=skipped, ignore_dangling_symlinks=True)
    source = fresh / "paper" / "paper.tex"
    source.write_text(content, "utf-8")
    if shutil.which("latexmk"):  # -norc: without the user's own settings
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
    output = done.stdout + done.stderr
    made = source.with_suffix(".log")
    files.write(log, made.read_text("utf-8", errors="replace") if made.exists() else output)
    if done.returncode == 0 and source.with_suffix(".pdf").exists():
        with files.draft(pdf) as draft:
            shutil.copyfile(source.with_suffix(".pdf"), draft)
        return ""
    pdf.unlink(missing_ok=True)
    return f"LaTeX failed:\n{errors_in(log, output)}\nthe whole log: {log}"


def errors_in(log: os.PathLike[str], otherwise: str) -> str:
    """The lines of a LaTeX log that name the first three errors; without any, the end of the text `otherwise`."""
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
        problem = set_paper(arguments.profile, arguments.anonymous)
    except files.WriteError as error:
        problem = str(error)
    if problem:
        sys.exit(f"error: {problem}")
    print(f"the paper: build/{arguments.profile}/paper.pdf")
