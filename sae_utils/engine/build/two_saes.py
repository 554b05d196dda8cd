"""One command from two SAEs to a page.

In: two SAEs as a user names them, or the name of a profile. Out: `params/<name>.yaml`; the executed notebooks that the
page needs; `build/<name>/report.html`, whose path is printed.
Never: a download, or an hour of work, that was not announced; a verdict without controls.

`python -m sae_utils compare A B`, `sae-compare A B`, `make compare A=... B=...`
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sae_utils import profiles, store, sweep
from sae_utils.engine.build import addresses, cost, pair_profile, plan
from sae_utils.engine.build.addresses import Given
from sae_utils.engine.build.pair_profile import Options
from sae_utils.engine.checks.requirements import TWINS
from sae_utils.engine.core import files
from sae_utils.engine.core.sources import PACKAGE, REPOSITORY
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.params import NOTEBOOKS, Profile, script
from sae_utils.studies.twins import arms

FIRST = "00_models_and_dictionaries"  # makes models, SAEs and what the others read
REST = ("01_feature_matching", "01c_arranged_alike", "04_llm_vs_sae", "05_semantic_subspaces")
SCRIPT = "sae-compare"  # of pyproject.toml
JOBS = 4  # notebooks at once, at most: each takes a GB


def notebooks(profile: Profile) -> list[str]:
    """The notebooks that the page of a pair needs; with twins, that of their verdict."""
    return [FIRST, *REST, *([TWINS] if profile.sections[TWINS]["twins"] else [])]


def prepare(asked: argparse.Namespace) -> Profile:
    """The profile that the arguments name or describe, written to `params/`.

    Raises ProfileError as `addresses.find`, `pair_profile.keys` and `pair_profile.write`.
    """
    if not NOTEBOOKS.is_dir():
        raise ProfileError(f"no notebooks beside {PACKAGE}: run this in a clone, after `pip install --editable .`")
    if not (asked.a or asked.b):
        if not asked.name:
            raise ProfileError(f"no SAE is named; an SAE is {addresses.FORMS}")
        return profiles.load(asked.name)
    a, b = (addresses.find(Given(getattr(asked, x) or "", x, getattr(asked, f"model_{x}"), getattr(asked, f"hook_{x}")))
            for x in "ab")  # fmt: skip
    name = asked.name or "_x_".join(next(iter(x.saes)) for x in (a, b))
    pair_profile.check_name(name)
    options = Options(asked.text, asked.tokens, asked.device, asked.controls)
    command = shlex.join([SCRIPT, *(x for x in sys.argv[1:] if x not in ("--overwrite", "--plan"))])
    content = pair_profile.text(pair_profile.keys(a, b, options), command)
    return pair_profile.write(name, content, overwrite=asked.overwrite)


# --- what it costs


def announce(profile: Profile) -> bool:
    """Print what is compared, fetched and used; whether nothing is missing. Raises ProfileError as `plan.show`."""
    print(f"params/{profile.name}.yaml: {' and '.join(profile.pair)} on {profile.corpus.description}")
    complete = plan.show(profile, notebooks(profile))
    print("Less is done where the store already holds models, SAEs and codes.")
    section = profile.sections[TWINS]
    if section["twins"]:
        print(f"controls: {controls_price(profile)}")
    else:
        print("without controls (--controls, make: CONTROLS=1): scores and their nulls, and no verdict")
    return complete


def controls_price(profile: Profile) -> str:
    """What twins and second SAE seeds add, in words."""
    trained = cost.names_in(profile, profile.sections[TWINS]) - set(profile.pair)
    extra = [name for name in profile.dictionaries if name in trained]
    kept = {name: x for name, x in profile.dictionaries.items() if name not in extra}
    twins = {profile.dictionaries[name].model for name in extra} - {getattr(x, "model", "") for x in kept.values()}
    models = {name: x for name, x in profile.models.items() if name not in twins}
    without = profile._replace(models=models, dictionaries=kept)
    sizes = {source.key: source.parameters for source in plan.sources(profile)}
    both = cost.Build(profile, sizes, only=notebooks(profile))
    alone = cost.Build(without, sizes, only=[FIRST, *REST])
    minutes = (both.seconds - alone.seconds) / 60
    return f"{', '.join(extra)} are trained, and {TWINS} is run: {minutes:.1f} of these minutes on one core"


# --- running


def run(profile: Profile) -> Path:
    """Execute what the page needs and write it; return its path.

    Raises ProfileError where a step fails, whose output is printed.
    """
    profiles.write(profile)
    if profile.sections[TWINS]["twins"] and not profile.common.primary.thresholds:
        profile = with_threshold(profile)
    wanted = notebooks(profile)
    execute(profile, FIRST, processes=sweep.processes())
    jobs = max(1, min(JOBS, sweep.processes()))
    with ThreadPoolExecutor(jobs) as pool:
        done = [pool.submit(execute, profile, name, max(1, sweep.processes() // jobs)) for name in wanted[1:]]
        for one in done:
            one.result()
    call("the page", ["page", profile.name])
    return REPOSITORY / "build" / profile.name / "report.html"


def with_threshold(profile: Profile) -> Profile:
    """The profile with d, from the excess between two SAE seeds of each model; nothing else is compared for it."""
    print("== the excess between SAE seeds, which sets d")
    store.use(threads=profile.common.threads, device=profiles.device(profile))
    section, measure = profile.sections[TWINS], profile.common.primary.measure
    found = [arms.ceilings(profile, section[side], [measure], section["minimum_firings"])[measure] for side in "ab"]
    d = pair_profile.set_threshold(profile.name, [x for values in found for x in values])
    print(f"d = {d}" if d else "no d: SAE seeds of one model are no more alike than chance; no verdict is given")
    profile = profiles.load(profile.name)
    profiles.write(profile)
    return profile


def execute(profile: Profile, notebook: str, processes: int) -> None:
    """Execute a notebook in a process of its own, unless its copy is newer than all that it rests on."""
    if is_current(profile, notebook):
        print(f"== {notebook}: unchanged")
        return
    call(notebook, ["execute", profile.name, notebook], PROCESSES=str(processes))


def is_current(profile: Profile, notebook: str) -> bool:
    """Whether the executed copy is newer than the notebook, its parameters and the code."""
    folder = REPOSITORY / "build" / profile.name
    copy = folder / f"{notebook}.ipynb"
    results = REPOSITORY / "paper" / "generated" / profile.name / f"{notebook}.tex"
    made_from = [script(notebook), folder / "params" / f"{notebook}.yaml", *PACKAGE.rglob("*.py")]
    if not (copy.is_file() and results.is_file()):
        return False
    return all(file.is_file() and file.stat().st_mtime <= copy.stat().st_mtime for file in made_from)


def call(label: str, arguments: Sequence[str], **environment: str) -> None:
    """Run a command of the package. Raises ProfileError if it fails, with the end of what it printed."""
    start = time.monotonic()
    print(f"== {label}", flush=True)
    command = [sys.executable, "-m", "sae_utils", *arguments]
    found = {"PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH", ""))))}
    errors = None if sys.stderr.isatty() else subprocess.STDOUT  # with the progress bars
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **found, **environment}, text=True, stdout=subprocess.PIPE,
        stderr=errors,
    )  # fmt: skip
    if done.returncode:
        print(done.stdout[-4000:], file=sys.stderr)
        raise ProfileError(f"{label} failed, see above; the same command goes on where it stopped")
    print(f"   {label}: {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    """Compare two SAEs: write a profile, say what it costs, run the notebooks of its page, print the page's path."""
    asked = parser().parse_args()
    try:
        profile = prepare(asked)
        store.check()
        if not announce(profile):
            sys.exit("error: something is missing, see above; nothing was run")
        if asked.plan:
            return
        page = run(profile)
    except (ProfileError, files.WriteError) as error:
        sys.exit(f"error: {error}")
    print(f"the page: {page}\nto repeat, after an edit of params/{profile.name}.yaml: "
          f"make compare NAME={profile.name}")  # fmt: skip


def program() -> str:
    """The command as it was typed: the console script, or the command of the package."""
    return SCRIPT if Path(sys.argv[0]).name == SCRIPT else "python -m sae_utils compare"


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    forms = f"An SAE is {addresses.FORMS}."
    found = argparse.ArgumentParser(prog=program(), description=main.__doc__, epilog=forms)
    found.add_argument("a", nargs="?", help="the first SAE; without both, --name is a profile that is run as it is")
    found.add_argument("b", nargs="?", help="the second SAE")
    found.add_argument("--name", default="", help="of the profile and its folders; made of the two SAEs' by default")
    found.add_argument("--text", default="", help="a .txt file (a document a line), a folder or glob of them, a dump "
                       "of a wiki, hub:dataset@revision, or a profile; 107 Wikipedia articles by default")  # fmt: skip
    found.add_argument("--tokens", type=_count, help="that pair features and judge pairs (default: "
                       f"{pair_profile.TOKENS:,}, or all of a shorter text)")  # fmt: skip
    found.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    for side in "ab":
        found.add_argument(f"--model-{side}", default="", help="the model that it reads, where its files do not say so")
        found.add_argument(f"--hook-{side}", default="", help="where it reads, where its files do not say so")
    found.add_argument("--controls", action="store_true", help="train what a verdict needs: twins, a second SAE seed")
    found.add_argument("--overwrite", action="store_true", help="replace a profile of this name that differs")
    found.add_argument("--plan", action="store_true", help="write the profile, say what it costs, and stop")
    return found


def _count(value: str) -> int:
    if not (number := value.replace(",", "").replace("_", "")).isdigit() or int(number) < 1000:
        raise argparse.ArgumentTypeError(f"a number of tokens from 1,000 on, found {value!r}")
    return int(number)
