"""A profile from end to end in a copy of the repository: every notebook, then the PDF.

In: `params/paper.yaml`, or a profile that extends it: it needs neither hub nor GPU, since a hub on this machine serves
tiny repositories in the true layout of all that the profile names, and tiny word vectors lie where gensim keeps its
own. With `--vary`, the smoke profile with every list one element longer, then one shorter. Out: exit status 0, and a
folder with all that was made.
Never: the repository's own store, figures or results; a number that means anything.

`python tests/rehearsal.py [PROFILE] [--into FOLDER] [--only NOTEBOOK]`
`python tests/rehearsal.py --vary [--into FOLDER] [--only NOTEBOOK]`
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import paper_hub
import varied
import yaml
from hub_server import serve

from sae_utils import profiles, store
from sae_utils.engine import params
from sae_utils.engine.core.sources import REPOSITORY

PROFILE = "rehearsal"


def copy(into: Path) -> None:
    """A copy of the repository without results."""
    for part in ("sae_utils", "notebooks", "params", "paper"):
        shutil.copytree(REPOSITORY / part, into / part, ignore=shutil.ignore_patterns("__pycache__", "generated"))


def write(work: Path, name: str, keys: dict[str, Any]) -> None:
    """A profile in the copy."""
    (work / "params" / f"{name}.yaml").write_text(yaml.safe_dump(keys, sort_keys=False), "utf-8")


def run(work: Path, profile: str, only: list[str] | None, environment: dict[str, str], plan: bool) -> None:
    """Every step of a profile in the copy. Exits with the status of the first step that fails."""
    steps = [["execute", profile, notebook] for notebook in only or params.notebooks()]
    if not only:
        begin = [["profile", profile], *([["plan", profile]] if plan else [])]
        steps = [*begin, *steps, ["typeset", profile]]
    environment = {"PYTHONPATH": str(work), "MPLBACKEND": "Agg", "TQDM_DISABLE": "1"} | environment
    for step in steps:
        began = time.perf_counter()
        command = [sys.executable, "-m", "sae_utils", *step]
        status = subprocess.run(command, cwd=work, env=os.environ | environment).returncode
        print(f"== {' '.join(step)}: {time.perf_counter() - began:.0f} s", flush=True)
        if status:
            sys.exit(status)


def rehearse(into: Path, name: str, only: list[str] | None) -> None:
    """A profile of models of the hub, but for sizes."""
    work, hub = into / "repository", into / "hub"
    write(work, PROFILE, paper_hub.sized(name) | {"stamp": "TINY RANDOM MODELS, NOT A RESULT"})
    params.PARAMS = work / "params"
    profile = profiles.load(PROFILE)
    store.use(threads=profile.common.threads, root=into / "unused")
    if not hub.exists():
        paper_hub.build(hub, profile)
    with serve(hub) as served:
        environment = {
            "HF_ENDPOINT": served.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1",
            "HF_HOME": str(into / "home"), "GENSIM_DATA_DIR": str(hub / "gensim"),
        }  # fmt: skip
        run(work, PROFILE, only, environment, plan=True)


def vary(into: Path, only: list[str] | None) -> None:
    """The smoke profile with every list longer, then shorter; both use one store."""
    work, smoke = into / "repository", profiles.load("smoke")
    for how in ("longer", "shorter"):
        write(work, how, varied.profile(smoke.sections, how) | {"stamp": f"EVERY LIST {how.upper()}, NOT A RESULT"})
        run(work, how, only, {"TEX": "skip"}, plan=False)


def main() -> None:
    """Rehearse a profile; the exit status is that of the first step that fails."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("profile", nargs="?", default="paper", help="a profile of models of the hub")
    parser.add_argument("--into", type=Path, help="folder to keep; a temporary one by default")
    parser.add_argument("--only", nargs="*", help="notebooks; all by default")
    parser.add_argument("--vary", action="store_true", help="smoke with longer and with shorter lists instead")
    given = parser.parse_args()
    into = given.into or Path(tempfile.mkdtemp(prefix="rehearsal-"))
    if not (into / "repository").exists():
        copy(into / "repository")
    if given.vary:
        vary(into, given.only)
    else:
        rehearse(into, given.profile, given.only)
    print(f"rehearsed in {into}")


if __name__ == "__main__":
    main()
