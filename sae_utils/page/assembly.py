"""The page put together: results, summary and explorer in one template.

In: a checked profile. Out: `build/<profile>/report.html`.
Never: a computation; text that is not escaped (the template escapes all that it is given).
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sae_utils import profiles
from sae_utils.engine.core import files
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.params import Profile
from sae_utils.page import results, summary

HERE = Path(__file__).parent


def write(profile: Profile) -> Path:
    """Write the page of a profile and its match table, and return the page's path.

    Notebooks without results are named on the page. Raises ProfileError as `pipeline.features`, WriteError where a file
    cannot be written.
    """
    page = REPOSITORY / "build" / profile.name / "report.html"
    files.write(page, rendered(profile))
    return page


def rendered(profile: Profile) -> str:
    """The page as HTML."""
    found = results.studies(profile)
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        profile=profile, summary=summary.of(profile, found), topics=results.by_topic(found), studies=found,
        citation=citation(), css=asset("page.css"), title=title(profile),
    )  # fmt: skip


def asset(name: str) -> str:
    """A file of this package."""
    return (HERE / name).read_text("utf-8")


def title(profile: Profile) -> str:
    """The two dictionaries that the page is about."""
    return "{} and {}".format(*profile.pair)


def citation() -> dict[str, Any]:
    """The keys of CITATION.cff; {} where the package lies outside its repository."""
    file = REPOSITORY / "CITATION.cff"
    found = yaml.safe_load(file.read_text("utf-8")) if file.is_file() else {}
    return found if isinstance(found, dict) else {}


def main() -> None:
    """Write the page of a profile: one file that needs no network."""
    parser = argparse.ArgumentParser(prog="python -m sae_utils page", description=main.__doc__)
    parser.add_argument("profile", help="name of a file in params/, without .yaml")
    try:
        profile = profiles.start(parser.parse_args().profile, "01_feature_matching")
        print(f"the page: {write(profile).relative_to(REPOSITORY)}")
    except (ProfileError, files.WriteError) as error:
        sys.exit(f"error: {error}")
