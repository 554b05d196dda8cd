"""The saved results of a profile: which are older than the code, and which are not what a notebook wrote.

In: a checked profile; `paper/generated/<profile>/` and `figures/<profile>/`. Out: names of notebooks and of files.
Never: a change to a result.

`python -m sae_utils results PROFILE`
"""

import argparse
import re
import sys
from pathlib import Path

from sae_utils import profiles, report
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.params import Profile

WRITTEN = re.compile(r"^% (drew|numbers) (.+): (\w+)%$", re.MULTILINE)


def stale(profile: Profile) -> list[str]:
    """Notebooks whose saved results were not made by today's code and parameters."""
    old = []
    for notebook in profile.sections:
        file = report.GENERATED / profile.name / f"{notebook}.tex"
        if report.read(file)[0] != report.header(profile, notebook):
            old.append(notebook)
    return old


def altered(profile: Profile) -> list[str]:
    """Saved results that differ from those a notebook wrote: edited, cut off, missing, or of no notebook."""
    texts, figures = report.GENERATED / profile.name, report.FIGURES / profile.name
    written: dict[Path, str] = {}
    for notebook in profile.sections:
        file = texts / f"{notebook}.tex"
        _, written[file], body = report.read(file)
        folders = {"drew": figures, "numbers": texts}
        written |= {folders[kind] / name: sha for kind, name, sha in WRITTEN.findall(body)}
    kinds = {texts: ("tex", "json"), figures: ("pdf", "png")}
    there = {file for folder, endings in kinds.items() for ending in endings for file in folder.glob(f"[!.]*.{ending}")}
    found = sorted(there | written.keys())
    return ["/".join(file.parts[-3:]) for file in found if written.get(file) != report.fingerprint(file)]


def main() -> None:
    """List saved results that are stale or edited; exit status 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils results", description=main.__doc__)
    parser.add_argument("profile", help="name of a file in params/, without .yaml")
    profile = parser.parse_args().profile
    try:
        loaded = profiles.load(profile)
    except ProfileError as error:
        sys.exit(f"error: {error}")
    if old := stale(loaded):
        sys.exit(f"stale: {', '.join(old)}; run `make paper PROFILE={profile}` and commit the results")
    if other := altered(loaded):
        sys.exit(
            f"not what the notebooks wrote (edited, cut off, missing or left over): {', '.join(other)}; restore them, "
            f"delete what is left over, or `rm build/{profile}/*.ipynb; make paper PROFILE={profile}`"
        )
    print(f"results of profile {profile}: up to date")
