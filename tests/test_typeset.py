"""A PDF is complete or absent, an anonymous one names nobody, and errors are shown in LaTeX's own lines."""

import errno
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from sae_utils.engine.build import typeset
from sae_utils.engine.core.sources import REPOSITORY

LATEX = shutil.which("latexmk") and shutil.which("pdflatex")
LOG = r"""This is pdfTeX, Version 3.141592653
(./main.tex
LaTeX Font Info: External font
! Undefined control sequence.
l.17 Of the \FeatureMatchingPairz
                                  \ pairs
The control sequence at the end of the top line
of your error message was never \def'ed.

Overfull \hbox (3.0pt too wide)
!  ==> Fatal error occurred, no output PDF file produced!
Transcript written on paper.log.
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository in which the profile `toy` was run; its PATH holds git and no other program."""
    monkeypatch.setattr(typeset, "REPOSITORY", tmp_path)
    monkeypatch.setattr(typeset, "PAPER", tmp_path / "paper")
    monkeypatch.setattr(typeset, "FIGURES", tmp_path / "figures")
    (tmp_path / "paper").mkdir()
    (tmp_path / "bin").mkdir()
    parameters = tmp_path / "build" / "toy" / "params" / "00_first.yaml"
    parameters.parent.mkdir(parents=True)
    parameters.write_text(yaml.safe_dump({"common": {"stamp": "50% DONE"}}))
    (tmp_path / "bin" / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("TEX", raising=False)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def program(repository, name: str, body: str) -> None:
    """Put a Python script on the PATH, under the name of a program."""
    file = repository / "bin" / name
    file.write_text(f"#!{sys.executable}\nimport os, sys\nfrom pathlib import Path\n{body}\n")
    file.chmod(0o755)


def git(repository, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@e.invalid", "-c", "init.defaultBranch=main"]
    environment = os.environ | {"GIT_AUTHOR_DATE": "@1234567890 +0000", "GIT_COMMITTER_DATE": "@1234567890 +0000"}
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=repository, env=environment, check=True, capture_output=True, text=True).stdout


def commit(repository, name: str) -> str:
    file = repository / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{name}\n")
    git(repository, "add", name)
    git(repository, "commit", "-qm", name)
    return git(repository, "rev-parse", "HEAD").strip()


# --- links


@pytest.mark.parametrize(
    ("remote", "site"),
    [
        ("https://github.com/owner/name.git", "https://github.com/owner/name"),
        ("https://github.com/owner/name", "https://github.com/owner/name"),
        ("git@github.com:owner/name.git", "https://github.com/owner/name"),
        ("ssh://git@github.com/owner/name.git", "https://github.com/owner/name"),
        ("https://user:token@github.com/owner/name.git", "https://github.com/owner/name"),
        ("https://token@github.com/owner/name", "https://github.com/owner/name"),
        ("ssh://me:pw@example.org:2222/owner/name.git/", "https://example.org/owner/name"),
        ("git+ssh://git@example.org/owner/name", "https://example.org/owner/name"),
        ("git://example.org/owner/name.git", "https://example.org/owner/name"),
        ("example.org:owner/name.git", "https://example.org/owner/name"),
        ("me@example.org:/owner/name.git?token=secret", "https://example.org/owner/name"),
        ("https://example.org:8443/owner/name.git?private_token=secret#secret", "https://example.org:8443/owner/name"),
        ("https://me:p%40ss@example.org/owner/name;token=secret", "https://example.org/owner/name"),
        ("http://me:pw@example.org:8080/owner/name", "http://example.org:8080/owner/name"),
        ("https://example.org/a%20b/50%25_~$&#x", "https://example.org/a\\%20b/50\\%25_~\\%24\\%26"),
        ("https://example.org/o{w}n\\er^/n'am\"e", "https://example.org/o\\%7Bw\\%7Dn\\%5Cer\\%5E/n\\%27am\\%22e"),
        ("https://example.org:port/owner/name", None),
        ("https://[::1/owner/name", None),
        ("https://example.org", None),
        ("work:owner/name.git", None),
        ("C:/owner/name", None),
        ("/srv/git/name.git", None),
        ("../name", None),
        ("file:///srv/name", None),
        (None, None),
    ],
)
def test_the_link_is_that_of_the_remote_at_the_commit_of_the_notebooks(repository, remote, site):
    git(repository, "init", "-q")
    first = commit(repository, "notebooks/a.py")
    commit(repository, "README.md")  # results do not depend on it
    if remote:
        git(repository, "remote", "add", "origin", remote)
    assert typeset.notebook_url() == (f"{site}/blob/{first}/notebooks" if site else "")
    later = commit(repository, "sae_utils/b.py")
    assert typeset.notebook_url() == (f"{site}/blob/{later}/notebooks" if site else "")


def test_there_is_no_link_without_a_commit_a_repository_or_git(repository):
    assert typeset.notebook_url() == ""
    git(repository, "init", "-q")
    git(repository, "remote", "add", "origin", "https://github.com/owner/name")
    assert typeset.notebook_url() == ""
    (repository / "bin" / "git").unlink()
    assert typeset.notebook_url() == ""


def test_an_anonymous_paper_names_nobody(repository):
    git(repository, "init", "-q")
    commit(repository, "notebooks/a.py")
    git(repository, "remote", "add", "origin", "git@github.com:owner/name.git")
    named, anonymous = (typeset.wrapper("toy", "50% DONE", anonymous) for anonymous in (False, True))
    assert r"\newcommand*{\final}{}" in named and "https://github.com/owner/name/blob/" in named
    assert r"\final" not in anonymous and "http" not in anonymous and "owner" not in anonymous
    for content in (named, anonymous):
        assert content.startswith("\\newcommand{\\profile}{toy}\n") and content.endswith("\n\\input{main}\n")
        assert r"\newcommand*{\stamp}{50\% DONE}" in content


def test_numbers_of_what_is_left_out_are_dashes(repository):
    """Only of studies, or parts of them, that report their absence; any other missing macro is an error of LaTeX."""
    paper, written = repository / "paper", repository / "paper" / "generated" / "toy"
    (paper / "sections").mkdir()
    written.mkdir(parents=True)
    (paper / "main.tex").write_text(r"\FirstShare, \FirstShareLow{} and \FirstTypo; \Second, \ThirdVerdict.")
    (paper / "sections" / "a.tex").write_text(r"\FirstShareLow\% of \SecondPairs, \SecondTableAll")
    (written / "00_first.tex").write_text("\\newcommand{\\FirstShareAbsent}{no}%\n\\newcommand{\\FirstShare}{1}%\n")
    (written / "01_second.tex").write_text("\\newcommand{\\SecondAbsent}{no}%\n")
    dashes = [
        rf"\newcommand{{\{name}}}{{---}}" for name in ("FirstShareLow", "Second", "SecondPairs", "SecondTableAll")
    ]
    assert typeset.absent_macros("toy") == dashes
    assert typeset.wrapper("toy", "", True).splitlines()[-5:] == [*dashes, r"\input{main}"]
    assert typeset.absent_macros("other") == []


# --- programs

FAILING = f"""
Path("paper.log").write_text({LOG!r})
Path("paper.pdf").write_text("half a page")
sys.exit(12)
"""
WORKING = """
told = [os.environ["SOURCE_DATE_EPOCH"], os.environ["FORCE_SOURCE_DATE"], Path(sys.argv[-1]).read_text()]
told += sorted(str(file.relative_to("..")) for file in Path("..").rglob("*") if file.is_file())
assert "-norc" in sys.argv
Path("paper.aux").write_text("half")
Path("paper.log").write_text("all is well")
Path("paper.pdf").write_text("|".join(told))
"""
TECTONIC = """
assert sys.argv[1:3] == ["-X", "compile"]
Path(sys.argv[-1]).with_suffix(".pdf").write_text("by tectonic")
"""


def test_a_failure_is_reported_in_latex_words_and_leaves_no_pdf(repository, monkeypatch):
    program(repository, "latexmk", FAILING)
    pdf = repository / "build" / "toy" / "paper.pdf"
    pdf.write_text("of an earlier build")
    message = typeset.set_paper("toy")
    assert message.startswith("LaTeX failed:\n! Undefined control sequence.\nl.17 Of the \\FeatureMatchingPairz\n")
    assert "Font Info" not in message
    assert message.endswith(f"the whole log: {repository / 'build' / 'toy' / 'paper.log'}")
    assert not pdf.exists()
    monkeypatch.setattr(sys, "argv", ["typeset", "toy"])
    with pytest.raises(SystemExit, match="error: LaTeX failed"):
        typeset.main()


def test_without_a_log_the_output_of_latexmk_is_shown(repository):
    program(repository, "latexmk", 'print("Missing file main.tex"); sys.exit(1)')
    assert "Missing file main.tex" in typeset.set_paper("toy")


def test_a_copy_of_the_paper_is_set_at_the_time_of_its_commit(repository, monkeypatch, capsys):
    program(repository, "latexmk", WORKING)
    pdf = repository / "build" / "toy" / "paper.pdf"
    (repository / "paper" / "main.tex").touch()
    (repository / "figures" / "toy").mkdir(parents=True)
    for name in ("a.pdf", "a.png", ".b.7.draft.pdf"):
        (repository / "figures" / "toy" / name).touch()
    monkeypatch.setattr(sys, "argv", ["typeset", "toy", "--anonymous"])
    typeset.main()
    assert capsys.readouterr().out == "the paper: build/toy/paper.pdf\n"
    wrapper = typeset.wrapper("toy", "50% DONE", anonymous=True)
    assert pdf.read_text() == "|".join(["0", "1", wrapper, "figures/toy/a.pdf", "paper/main.tex", "paper/paper.tex"])
    git(repository, "init", "-q")
    commit(repository, "notebooks/a.py")
    assert typeset.set_paper("toy", anonymous=True) == ""
    assert pdf.read_text().startswith("1234567890|1|")


def remains(repository) -> set[str]:
    return {file.name for file in (repository / "build" / "toy").iterdir()} - {"params"}


def test_what_a_killed_run_left_is_not_read(repository):
    """Otherwise a truncated .aux would make every later run fail."""
    program(repository, "latexmk", WORKING)
    assert typeset.set_paper("toy") == "" and remains(repository) == {"paper.pdf", "paper.log"}
    pdf = repository / "build" / "toy" / "paper.pdf"
    first = pdf.read_bytes()
    for ending in ("aux", "fls", "fdb_latexmk", "out", "bbl", "toc", "pdf"):
        pdf.with_suffix(f".{ending}").write_text(r"\newlabel{a}{{1}{")
    typeset.PAPER.joinpath("old.pdf").symlink_to("nowhere")
    assert typeset.set_paper("toy") == "" and pdf.read_bytes() == first


def test_a_run_that_is_killed_leaves_the_pdf_that_was_there(repository):
    """LaTeX and its caller are killed at once, as when a machine goes down."""
    program(repository, "latexmk", WORKING)
    assert typeset.set_paper("toy") == ""
    pdf = repository / "build" / "toy" / "paper.pdf"
    first = pdf.read_bytes()
    killing = 'Path(os.environ["HALF"]).touch(); os.kill(os.getppid(), 9)'
    program(repository, "latexmk", WORKING.replace('"|".join(told)', '"half a page"') + killing)
    setting = (
        "from pathlib import Path; from sae_utils.engine.build import typeset\n"
        f"typeset.REPOSITORY = Path({str(repository)!r})\n"
        "typeset.PAPER = typeset.REPOSITORY / 'paper'; typeset.set_paper('toy')"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HALF": str(repository / "half")}
    done = subprocess.run([sys.executable, "-c", setting], env=environment, capture_output=True)
    assert done.returncode == -9 and (repository / "half").exists()
    assert pdf.read_bytes() == first and remains(repository) == {"paper.pdf", "paper.log"}
    program(repository, "latexmk", WORKING)
    assert typeset.set_paper("toy") == "" and pdf.read_bytes() == first


def test_a_program_that_ends_well_without_a_pdf_has_failed(repository):
    program(repository, "latexmk", 'print("nothing to do")')
    assert "nothing to do" in typeset.set_paper("toy")
    assert remains(repository) == {"paper.log"}


def test_a_full_disk_is_reported_in_a_line(repository, monkeypatch):
    program(repository, "latexmk", WORKING)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(sys, "argv", ["typeset", "toy"])
    with pytest.raises(SystemExit, match=r"^error: .*paper\.pdf: disk full; free some space and run again"):
        typeset.main()
    assert "paper.pdf" not in remains(repository)


MAIN = r"""\documentclass{article}
\begin{document}\tableofcontents\section{One}\label{one}See \ref{one}. \input{generated/toy/00_first}\end{document}
"""


@pytest.mark.skipif(not LATEX, reason="needs latexmk and LaTeX")
def test_with_the_real_programs_a_cut_file_does_no_harm(repository, monkeypatch):
    """Also where the path of the checkout holds characters that are special to TeX."""
    monkeypatch.setenv("PATH", os.path.dirname(LATEX) + os.pathsep + os.environ["PATH"])
    odd = repository / "a 50% of {x} ~y $z#"
    pdfs = []
    for place in (repository, odd):
        if place == odd:
            shutil.copytree(repository / "build", place / "build")
        (place / "paper" / "generated" / "toy").mkdir(parents=True)
        (place / "paper" / "main.tex").write_text(MAIN)
        (place / "paper" / "generated" / "toy" / "00_first.tex").write_text("A number: 5.")
        monkeypatch.setattr(typeset, "REPOSITORY", place)
        monkeypatch.setattr(typeset, "PAPER", place / "paper")
        for ending in ("aux", "toc", "fls", "fdb_latexmk"):
            (place / "build" / "toy" / f"paper.{ending}").write_text(r"\@writefile{toc}{\contentsline {sect")
        assert typeset.set_paper("toy") == ""
        pdfs.append((place / "build" / "toy" / "paper.pdf").read_bytes())
    assert pdfs[0] == pdfs[1] and pdfs[0].startswith(b"%PDF")


def test_tectonic_does_as_well(repository):
    program(repository, "tectonic", TECTONIC)
    assert typeset.set_paper("toy") == ""
    assert (repository / "build" / "toy" / "paper.pdf").read_text() == "by tectonic"
    program(repository, "latexmk", WORKING)
    assert typeset.set_paper("toy") == ""
    assert (repository / "build" / "toy" / "paper.pdf").read_text() != "by tectonic"


def test_without_latex_one_line_says_what_to_install(repository, monkeypatch):
    message = typeset.set_paper("toy")
    assert message == typeset.INSTALL and "\n" not in message
    assert all(word in message for word in ("latexmk", "texlive", "tectonic", "apt-get install", "same command again"))
    (repository / "bin" / "git").unlink()
    monkeypatch.setattr(sys, "argv", ["typeset", "toy"])
    with pytest.raises(SystemExit, match="error: figures, tables and numbers are done; for the PDF install latexmk"):
        typeset.main()


def test_a_pdf_that_is_not_wanted(repository, monkeypatch, capsys):
    monkeypatch.setenv("TEX", "skip")
    monkeypatch.setattr(sys, "argv", ["typeset", "toy"])
    typeset.main()
    assert "TEX=skip leaves out the PDF" in capsys.readouterr().out
    assert not (repository / "build" / "toy" / "paper.tex").exists()


def test_a_profile_of_which_nothing_was_run(repository, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["typeset", "other"])
    with pytest.raises(SystemExit, match="error: no notebook was run with profile other; `make paper PROFILE=other`"):
        typeset.main()


# --- logs


def test_a_complaint_is_the_lines_that_say_what_and_where(tmp_path):
    log = tmp_path / "paper.log"
    log.write_text(LOG)
    lines = typeset.errors_in(log, "otherwise").splitlines()
    assert lines[:2] == ["! Undefined control sequence.", r"l.17 Of the \FeatureMatchingPairz"]
    assert "!  ==> Fatal error occurred, no output PDF file produced!" in lines
    assert not any("pdfTeX" in line or "main.tex" in line or "Font" in line for line in lines)


def test_a_log_without_complaint_or_none_at_all(tmp_path):
    log = tmp_path / "paper.log"
    assert typeset.errors_in(log, "x" * 3000) == "x" * 2000
    log.write_bytes(b"all is well \xff\n")
    assert typeset.errors_in(log, "killed") == "killed"
    log.write_bytes(b"! Odd bytes \xff\nl.1 x\n")
    assert typeset.errors_in(log, "killed").splitlines()[1] == "l.1 x"


def test_a_hundred_errors_are_cut_short(tmp_path):
    log = tmp_path / "paper.log"
    log.write_text("".join(f"! Error {n}.\nl.{n} x\n\n\n\n\n\n" for n in range(100)))
    message = typeset.errors_in(log, "")
    assert "! Error 0." in message and "! Error 99." not in message and len(message) < 1000
