"""The section of notebook 08b: names that the profile must define, and its word vectors.

In: a checked profile. Out: nothing, or a ProfileError that names the key.
Never: a model, a tokenizer.
"""

from sae_utils.engine.core.spec import check_defined, choose
from sae_utils.engine.params import Profile
from sae_utils.studies.semantic_subspaces import word2vec

ATTRIBUTION = "08b_attribution"


def check(profile: Profile, where: str) -> None:
    """Refuse SAE seeds and twins that are no dictionary, and vectors of no known kind."""
    section, key = profile.sections[ATTRIBUTION], f"{where}{ATTRIBUTION}"
    names = [*profile.dictionaries, *(x for x, of in profile.families.items() if of[0] in profile.dictionaries)]
    for at, name in enumerate(section["sae_seeds"]):
        check_defined("dictionary", name, names, f"{key}.sae_seeds.{at}")
    for label, name in section["twins"].items():
        check_defined("dictionary", name, names, f"{key}.twins.{label}")
    choose(word2vec.KINDS, section["vectors"], f"{key}.vectors")
