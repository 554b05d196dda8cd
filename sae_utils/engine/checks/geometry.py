"""The sections of the notebooks on geometry, as `sections.SHAPES`.

In: the types of `sections`. Out: shapes of the sections.
Never: a value.
"""

from typing import Annotated, Any

from pydantic import Field

from sae_utils.engine.checks.sections import (
    ConceptSet,
    Dictionary,
    DictionaryOrNone,
    Different,
    Draws,
    Share,
    Size,
    Spread,
    _record,
)
from sae_utils.engine.core.spec import Count, Rate
from sae_utils.studies.semantic_subspaces.concepts import WordList

Part = Annotated[float, Field(gt=0, lt=1)]  # of a part of a cover, that overlaps the next
Noise = Annotated[float, Field(ge=0)]

SHAPES: dict[str, dict[str, Any]] = {
    "10_geometry": {
        "concepts": dict[str, Annotated[WordList, Field(min_length=1)]],
        "about": _record(share=Rate, firings=Count),
        "planted": _record(items=Annotated[int, Field(ge=8, lt=100)], dimensions=Size, noise=Noise, draws=Count),
    },
    "10b_topology": {
        "planted": _record(points=Annotated[int, Field(ge=20, lt=1000)], dimensions=Size, noise=Noise, draws=Count),
        "twin": DictionaryOrNone,
        "sae_seeds": Different[Dictionary],
        "labelling": _record(concept_set=ConceptSet, share=Share, fewest=Size),
        "cover": _record(parts=Spread, overlap=Part),
        "neuron_rows": Count,
        "most": Annotated[int, Field(ge=20, lt=2000)],
        "draws": Spread,
        "permutations": Draws,
    },
    "10c_families": {
        "planted": _record(features=Size, groups=Spread, tokens=Count, draws=Count),
        "strengths": Annotated[Different[Share], Field(min_length=1)],
        "twin": DictionaryOrNone,
        "sae_seeds": Different[Dictionary],
        "most": Annotated[int, Field(ge=20, lt=20000)],
    },
}
