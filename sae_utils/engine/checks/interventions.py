"""The section of notebook 08c: a second SAE that the profile must define.

In: a checked profile. Out: nothing, or a ProfileError that names the key.
Never: a model, a dictionary.
"""

from sae_utils.engine.core.spec import check_defined
from sae_utils.engine.params import Profile

INTERVENTIONS = "08c_interventions"


def check(profile: Profile, where: str) -> None:
    """Refuse a second SAE that is no dictionary."""
    if name := profile.sections[INTERVENTIONS]["sae_seed"]:
        check_defined("dictionary", name, profile.dictionaries, f"{where}{INTERVENTIONS}.sae_seed")
