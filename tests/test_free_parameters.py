"""Every list of every notebook may be one element longer or shorter, or the profile is refused for a stated reason."""

import pytest
import varied

from sae_utils import profiles
from sae_utils.engine import params
from sae_utils.engine.checks import requirements, sections
from sae_utils.engine.core.spec import ProfileError

SMOKE = profiles.load("smoke")
CASES = [
    pytest.param(notebook, path, how, id=f"{notebook}.{'.'.join(map(str, path))} {how}")
    for notebook, section in SMOKE.sections.items()
    for path in varied.free(notebook, section)
    for how in ("longer", "shorter")
]


def check(notebook: str, section: dict) -> None:
    """As `profiles.load` checks a section."""
    names = {"model": SMOKE.models, "dictionary": SMOKE.dictionaries, "set of concepts": params.read("concepts")}
    sections.check(notebook, section, params.parameters(notebook), names, f"params/smoke.yaml: {notebook}")
    requirements.check(SMOKE._replace(sections=SMOKE.sections | {notebook: section}))


@pytest.mark.parametrize("notebook", SMOKE.sections)
def test_every_list_is_known(notebook):
    """A new list gets its further element, or is declared to be of fixed length."""
    free = varied.free(notebook, SMOKE.sections[notebook])
    known = {path for path in free if varied.matches(path, varied.SHORTER_ONLY.get(notebook, []))}
    assert set(free) - known <= set(varied.MORE[notebook])


@pytest.mark.parametrize(("notebook", "path", "how"), CASES)
def test_a_list_may_be_longer_or_shorter(notebook, path, how):
    section = varied.change(notebook, SMOKE.sections[notebook], path, how)
    if section is None:
        pytest.skip("nothing to take away, or a further SAE would be needed")
    if reason := varied.reason(notebook, path, how):
        with pytest.raises(ProfileError, match=reason):
            check(notebook, section)
    else:
        check(notebook, section)


@pytest.mark.parametrize("how", ["longer", "shorter"])
def test_all_lists_may_be_longer_or_shorter_at_once(how):
    """As `tests/rehearsal.py --vary` runs the notebooks."""
    changed = varied.profile(SMOKE.sections, how)
    for notebook, section in SMOKE.sections.items():
        check(notebook, section | changed[notebook])
