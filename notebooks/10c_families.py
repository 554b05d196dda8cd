# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Families: do features that belong together in one model belong together in the other?
#
# **Question.** Features that fire together, or whose decoder rows are alike, make families. Does a second model divide
# the partners of these features into the same families?
#
# **In.** Planted families; two models with their SAEs, over replicates where there are any, and a control in which B
# reads exchanged words, or a twin of B. **Out.** Communities of two graphs of features in either model, and their
# adjusted Rand index through the pairs, against shuffled pairings and the control; a verdict each.
#
# **What would count as a no.** The 95% interval over replicates, of the index of the true arm less that of the control,
# lies below d: partners then share families hardly more than they do where words have changed places.

# %% tags=["parameters"]
profile = "smoke"
planted = {"features": 60, "groups": 6, "tokens": 1000, "draws": 2}
strengths = [0.3, 0.1, 0.0]
minimum_firings = 5
most = 60
twin = ""
sae_seeds = ["two_layer_seed1", "two_layer_seed2"]
neighbours = 5
permutations = 49
d = 0.1

# %%
from itertools import combinations

import networkx
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from sae_utils import inference, profiles, replicates, report
from sae_utils.profiles import seed
from sae_utils.studies.geometry import drawing, families, paired, spaces
from sae_utils.studies.geometry import planted as truths

# %%
run = profiles.start(profile, "10c_families")
out = report.Report(run, "10c_families")
cells = replicates.of(run, *run.common.primary.pair)  # (A, B) of every replicate
if run.common.replicates and not twin:
    replicates.prepare(run, cells)
start = seed(run, "louvain")

# %% [markdown]
# ## From features to families
# Every feature is linked to its most similar others, with the similarity as the weight. Louvain's method moves features
# between communities as long as modularity rises: the weight inside communities, less what the features' total weights
# would give by chance. Planted features of one group fire together.

# %%
rng = np.random.default_rng(seed(run, "planted"))
part = truths.codes(planted["features"], planted["groups"], planted["tokens"], 0.3, rng)
similar = families.similarity(part, families.COFIRING)
dense = part.codes.toarray()
np.testing.assert_allclose(similar[0, 1:], np.corrcoef(dense.T)[0, 1:], atol=1e-6)
edges = {frozenset((i, int(j))) for i, row in enumerate(similar) for j in np.argsort(-row)[:neighbours] if row[j] > 0}
graph = networkx.Graph([(*sorted(edge), {"weight": similar[tuple(sorted(edge))]}) for edge in edges])
family = families.communities(similar, neighbours, start)
parts = [set(np.flatnonzero(family == number)) & set(graph) for number in range(family.max() + 1)]
print(f"{family.max() + 1} families, modularity {networkx.community.modularity(graph, filter(None, parts)):.2f}")

# %% [markdown]
# Modularity is positive for random graphs too, so that it does not tell whether there are families.

# %% [markdown]
# Two divisions of the same features are compared by the adjusted Rand index: the share of pairs of features on which
# they agree, scaled so that equal divisions have 1, and random ones 0 on average.

# %%
of = np.arange(planted["features"]) * planted["groups"] // planted["features"]
same = [x[:, None] == x[None] for x in (family, of)]
upper = np.triu_indices(len(of), 1)
both, one, two = (x[upper].sum() for x in (same[0] & same[1], *same))
chance = one * two / len(upper[0])
np.testing.assert_allclose(families.rand(family, of), (both - chance) / ((one + two) / 2 - chance))
np.testing.assert_allclose(families.rand(family, of), adjusted_rand_score(family, of))
print(f"found and planted families: {families.rand(family, of):.2f}")

# %% [markdown]
# ## Does it find families, and none in nothing?
# *Strength* is the share of the variance that the features of one planted group have in common, in what drives them and
# in their rows. *Across* compares two models that are drawn independently around the same groups.

# %%
sizes = [planted[key] for key in ("features", "groups", "tokens")]
rates = {x: truths.family(x, *sizes, neighbours, planted["draws"], seed(run, "draws")) for x in strengths}
found = pd.DataFrame(rates).T.rename_axis("strength").reset_index()
out.table("planted", found, {"strength": "{:g}"} | dict.fromkeys(found.columns[1:], "{:.2f}"))

# %% [markdown]
# The last row should be 0. Weak groups are found in both models before they are found alike.

# %% [markdown]
# ## Families of real features
# A's content features, and their partners in B by the largest total correlation, as in 07. The matching documents
# choose the pairs; co-firing is read on the others.

# %%
own = spaces.features(run, *cells[0], twin, minimum_firings, most, seed(run, "features"))
divided = {
    kind: [families.of(x, kind, neighbours, start) for x in (own.a, own.b[paired.TRUE])] for kind in families.KINDS
}
pd.DataFrame(
    {kind: [x.max() + 1 for x in pair] + [families.rand(*pair)] for kind, pair in divided.items()},
    index=["families of A", "families of B", "adjusted Rand"],
).round(2)

# %%
order = np.argsort(divided[families.COFIRING][0], kind="stable")
borders = np.flatnonzero(np.diff(divided[families.COFIRING][0][order])) + 1
sides = {"A": own.a, "B": own.b[paired.TRUE]} | ({"control": own.b[paired.CONTROL]} if paired.CONTROL in own.b else {})
seen = {kind: {name: families.similarity(x, kind) for name, x in sides.items()} for kind in families.KINDS}
out.figure("matrices", drawing.matrices(seen, order, borders))

# %% [markdown]
# All panels have one order, in which A's co-firing families stand together. Where B has the same families, its panels
# show the same blocks; cosines show whether firing together goes with rows that are alike.

# %% [markdown]
# ## Both arms in every replicate
# B's families are found anew from its own codes and rows. Some likeness in co-firing follows from the pairing itself:
# partners correlate, so that features which fire together have partners that do. The control has partners too, which
# were chosen in the same way, and correlate less. Cosines have no such link to the codes.


# %%
def measured(cell):
    own = spaces.features(run, *cell, twin, minimum_firings, most, seed(run, "features"))
    return families.compare(own, neighbours, permutations, start)


# %%
results = replicates.over(measured, cells, "families")
frame = families.frame(results)
ceiling = {}
for pair in combinations(sae_seeds, 2):
    own = paired.pair(paired.sides(run, *pair, exchange=False), minimum_firings, most, seed(run, "features"))
    ceiling[pair] = families.compare(own, neighbours, permutations, start)
both = pd.concat([families.frame(ceiling).assign(arm="SAE seeds"), frame], ignore_index=True)
shown = families.summary(both)
out.table("families", shown, dict.fromkeys(["rand", "again", "within"], "{:.2f}"))

# %% [markdown]
# *Rand* is the index across the two models, a mean over replicates, whose shuffled pairings have 0; *below .05* counts
# those with p <= .05. *Again* compares A's families with those of another seed of Louvain: no index across models can
# be expected above it. *Within* compares A's co-firing families with A's cosine families.

# %%
wide = families.by_kind(both)
colors = {"SAE seeds": report.COLORS[2], paired.TRUE: report.PAIRED, paired.CONTROL: report.NULL}
out.figure(
    "rand",
    drawing.arms(wide, {x: x for x in families.KINDS}, {x: c for x, c in colors.items() if (wide.arm == x).any()}),
)

# %% [markdown]
# Compare the blue row with the grey control below it, and with two SAEs of one model above.

# %% [markdown]
# ## Verdicts

# %%
gap, answers = families.gaps(frame), {}
for kind in families.KINDS if len(gap) > 1 else ():
    question = f"Do partners share families of {kind}, more than under the control?"
    no = "The whole interval of the difference to the control lies below d."
    answers[question] = out.verdict(kind, question, inference.over_replicates(gap[kind]), d, no, form="{:.2f}")
if not answers:
    out.absent("verdicts", "a single pair of models")
pd.Series(answers, name="answer", dtype=object).to_frame()

# %% [markdown]
# A *yes* for co-firing with a *no* for cosines says that models agree on what fires together, and not on where it lies.

# %%
out.number("n", frame.n.mean(), "{:.0f}")
out.number("families", frame[frame.kind == families.COFIRING].families.mean(), "{:.0f}")
out.number("replicates", len(cells), "{:d}")
out.number("within", frame[frame.arm == paired.TRUE].within.mean(), "{:.2f}")
out.save()
