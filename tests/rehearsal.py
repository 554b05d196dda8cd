"""The paper profile from end to end, without hub or GPU: every notebook, then the PDF.

In: `params/paper.yaml`, or a profile that extends it; tiny repositories in the true layout of all that it names, on a
hub of this machine, and tiny word vectors where gensim keeps its own. Out: exit status 0, and a folder with all that
was made.
Never: the repository's own store, figures or results; a number that means anything.

`python tests/rehearsal.py [PROFILE] [--into FOLDER] [--only NOTEBOOK]`
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

import paper_hub
import yaml
from hub_server import serve

from sae_utils import profiles, store
from sae_utils.engine import params
from sae_utils.engine.core.sources import REPOSITORY

PROFILE = "rehearsal"


def copy(into: Path, profile: str) -> None:
    """A copy of the repository in which the profile `PROFILE` is `profile`, but for sizes."""
    for part in ("sae_utils", "notebooks", "params", "paper"):
        shutil.copytree(REPOSITORY / part, into / part, ignore=shutil.ignore_patterns("__pycache__", "generated"))
    told = paper_hub.sized(profile) | {"stamp": "TINY RANDOM MODELS, NOT A RESULT"}
    (into / "params" / f"{PROFILE}.yaml").write_text(yaml.safe_dump(told, sort_keys=False), "utf-8")


def main() -> None:
    """Rehearse a profile; the exit status is that of the first step that fails."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("profile", nargs="?", default="paper", help="a profile of models of the hub")
    parser.add_argument("--into", type=Path, help="folder to keep; a temporary one unless told")
    parser.add_argument("--only", nargs="*", help="notebooks, all unless told")
    given = parser.parse_args()
    into = given.into or Path(tempfile.mkdtemp(prefix="rehearsal-"))
    work, hub = into / "repository", into / "hub"
    if not work.exists():
        copy(work, given.profile)
    params.PARAMS = work / "params"
    profile = profiles.load(PROFILE)
    store.use(threads=profile.common.threads, root=into / "unused")
    if not hub.exists():
        paper_hub.build(hub, profile)
    with serve(hub) as served:
        told = {"HF_ENDPOINT": served.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1",
                "HF_HOME": str(into / "home"), "GENSIM_DATA_DIR": str(hub / "gensim"), "PYTHONPATH": str(work),
                "MPLBACKEND": "Agg", "TQDM_DISABLE": "1"}  # fmt: skip
        steps = [["execute", PROFILE, notebook] for notebook in given.only or params.notebooks()]
        begin = [["profile", PROFILE], ["plan", PROFILE]]
        for step in steps if given.only else [*begin, *steps, ["typeset", PROFILE]]:
            began = time.perf_counter()
            command = [sys.executable, "-m", "sae_utils", *step]
            status = subprocess.run(command, cwd=work, env=os.environ | told).returncode
            print(f"== {' '.join(step)}: {time.perf_counter() - began:.0f} s", flush=True)
            if status:
                sys.exit(status)
    print(f"rehearsed in {into}")


if __name__ == "__main__":
    main()
