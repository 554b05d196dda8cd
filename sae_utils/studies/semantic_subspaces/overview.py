"""Tables of the concepts and relations: lists of words, the rule against the truth, means over replicates, examples.

In: evidence, masks of features, frames with a row a replicate. Out: frames that `Report.table` sets.
Never: a score that no table shows.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sae_utils import inference, labels, pipeline
from sae_utils.engine.params import Profile
from sae_utils.engine.saes.correlations import in_split
from sae_utils.replicates import Names
from sae_utils.studies.semantic_subspaces import concepts
from sae_utils.studies.semantic_subspaces.arms import Role, mean
from sae_utils.studies.semantic_subspaces.concepts import Evidence, Mass

Lists = Mapping[str, Sequence[str]]


def lists(of: Lists, found: Evidence, tokens: int) -> pd.DataFrame:
    """Every list: its words, how many of them the text lacks, and the % of the `tokens` at which one of them ends."""
    return pd.DataFrame(
        {
            "concept": concept,
            "words": len(listed),
            "absent": len(concepts.absent_words(listed, found)),
            "tokens": 100 * found.occurs[concepts.word_mask(listed, found)].sum() / tokens,
            "such as": " ".join(listed[:5]),
        }
        for concept, listed in of.items()
    )


def rules(role: Role, of: Lists, shares: Sequence[float], truth: float) -> pd.DataFrame:
    """The rule with several shares: features that it finds for all lists, mean precision and recall over the lists.

    `truth`: least share on its true classes of a feature truly about a concept; NaN where classes are not known.
    """
    rows = []
    for share in shares:
        rule = concepts.rule({"kind": "mass", "share": share})
        found = []
        for concept, words in of.items():
            own = concepts.about(role.found, concepts.word_mask(words, role.found), rule) & role.live
            found.append(concepts.recovery(own, role.truly(concept, truth)))
        precision, recall = (mean([getattr(x, name) for x in found]) for name in ("precision", "recall"))
        rows.append({"share": share, "features": sum(x.n for x in found), "precision": precision, "recall": recall})
    return pd.DataFrame(rows)


def summary(frame: pd.DataFrame, d: float, *means: str) -> pd.DataFrame:
    """A row a concept or relation: means of columns, the mean difference over replicates with its 95% interval.

    `frame` has a row a replicate; its first column names the concept, `difference` is asked. `80% power`: the
    difference that would get a yes by `d` in 80% of repeats with this spread.
    """
    name = frame.columns[0]
    grouped = frame.groupby(name, sort=False)
    of = {key: inference.over_replicates(rows.difference) for key, rows in grouped}
    added = {key: (x.estimate, x.low, x.high, x.n, _power(x, d)) for key, x in of.items()}
    columns = ["difference", "low", "high", "replicates", "80% power"]
    asked = pd.DataFrame.from_dict(added, "index", columns=columns)
    return grouped[list(means)].mean().join(asked).reset_index(names=name)


def _power(x: inference.Replicated, d: float) -> float:
    return inference.detectable(x.sd, d, x.n).yes if x.n > 2 and x.se > 0 else float("nan")


def examples(run: Profile, names: Names, role: Role, of: Lists, rule: Mass) -> pd.DataFrame:
    """For every concept the pair with the highest r on the documents that judge, and what both of its features fire on.

    `role`: a role of A of the replicate `names`. A concept without such a pair has no row.
    """
    spellings, tops = pipeline.vocabulary(run, names[0]), []
    for side in (pipeline.features(run, name) for name in names):
        on = in_split(side.sites, "matching")
        tops.append(labels.label(side.codes[on], *(side.sites.array(x)[on] for x in ("tokens", "documents"))))
    rows = []
    for concept, words in of.items():
        own = concepts.about(role.found, concepts.word_mask(words, role.found), rule) & role.live
        pairs = role.match(np.flatnonzero(own))
        if not np.isfinite(pairs.r_true).any():
            continue
        best = int(np.nanargmax(pairs.r_true))
        row = {"concept": concept, "r": pairs.r_true[best]}
        for letter, top, feature in zip("AB", tops, (pairs.features[best], pairs.true[best]), strict=True):
            row |= {letter: labels.summary(top, [feature], spellings, most=2)[0]}
            row |= {f"{letter} in context": labels.quote(top, [feature], spellings, reach=2)[0]}
        rows.append(row)
    return pd.DataFrame(rows, columns=["concept", "r", "A", "A in context", "B", "B in context"])
