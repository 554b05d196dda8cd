"""The page put together: results, summary and explorer in one template.

In: a checked profile. Out: `build/<profile>/report.html`, and the match table beside it as `pairs.csv`.
Never: a score; text that is not escaped (the template escapes all that it is given, but for files of this package).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sae_utils import pipeline, profiles
from sae_utils.engine.core import files
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.core.spec import ProfileError
from sae_utils.engine.params import Profile
from sae_utils.page import maps, payload, results, sides, summary
from sae_utils.page.sides import Explored
from sae_utils.report import COLORS, NULL
from sae_utils.studies.models_and_dictionaries import description

HERE = Path(__file__).parent
GROUPS = [*COLORS, "#fbafe4", "#ece133", "#56b4e9"]  # seaborn's colour-blind palette without its grey
STEPS = 128  # of the scale of colours


def write(profile: Profile) -> Path:
    """Write the page of a profile and its match table, and return the page's path.

    Notebooks without results are named on the page. What the primary pair needs is made if the store does not have it.
    Raises ProfileError as `pipeline.features`, WriteError where a file cannot be written.
    """
    folder = REPOSITORY / "build" / profile.name
    found = sides.of(profile)
    table = sides.table(found)
    files.write(folder / "pairs.csv", table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    files.write(folder / "report.html", rendered(profile, found, titled(profile), len(table)))
    return folder / "report.html"


def rendered(profile: Profile, explored: Explored, titles: tuple[str, str], pairs: int) -> str:
    """The page as HTML; `titles` of both maps, `pairs`: rows of the match table."""
    studies = results.studies(profile)
    return environment().get_template("page.html").render(
        profile=profile, title="{} and {}".format(*profile.pair), studies=studies, citation=citation(),
        summary=summary.of(profile, studies, explored), topics=results.by_topic(studies), css=asset("page.css"),
        **explorer(explored, titles, pairs),
    )  # fmt: skip


def explorer(explored: Explored, titles: tuple[str, str], pairs: int) -> dict[str, Any]:
    """What the template needs to show the explorer."""
    return {
        "explored": explored, "titles": titles, "pairs": pairs, "data": payload.packed(explored, titles),
        "figures": maps.items(), "looks": looks(), "bokeh": maps.scripts(), "script": asset("explorer.js"),
    }  # fmt: skip


def environment() -> Environment:
    """The templates of this package, which escape what they are given."""
    loader = FileSystemLoader(HERE)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def asset(name: str) -> str:
    """A file of this package."""
    return (HERE / name).read_text("utf-8")


def looks() -> str:
    """JSON of the colours and the range of the maps."""
    import matplotlib
    from matplotlib.colors import to_hex

    scale = [to_hex(matplotlib.colormaps["viridis"](i / (STEPS - 1))) for i in range(STEPS)]
    return json.dumps({"none": NULL, "groups": GROUPS, "scale": scale, "range": maps.RANGE})


def titled(profile: Profile) -> tuple[str, str]:
    """Headings of both maps: model, size, place in the model."""
    readers = {name: pipeline.reader(profile, name) for name in profile.pair}
    a, b = (
        f"{description.side(profile, name, found.width)}, {description.site(found.hook)}"
        for name, found in readers.items()
    )
    return a, b


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
