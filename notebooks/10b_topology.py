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
# # Shapes: do two feature spaces have the same pieces, loops and distances?
#
# **Question.** Seen as sets of points, do the features of two models have one shape: the same pieces and loops around
# a concept, small transport distances, Mapper graphs alike?
#
# **In.** Planted shapes; two models with their SAEs, over replicates where there are any, and a control in which B
# reads exchanged words, or a twin of B. **Out.** Bottleneck distances of persistent homology, optimal transport by what
# features fire on, Gromov-Wasserstein by geometry alone, Mapper graphs of features and of neurons; verdicts.
#
# **What would count as a no.** The 95% interval over replicates, of the control arm less the true arm, lies below d:
# transport between partners is then hardly cheaper, and their diagrams hardly nearer, than where words have changed
# places. Mapper graphs stand beside their null without a p.

# %% tags=["parameters"]
profile = "smoke"
planted = {"points": 60, "dimensions": 16, "noise": 0.03, "draws": 3}
labelling = {"concept_set": "stories", "share": 0.2, "fewest": 5}
minimum_firings = 5
most = 60
twin = ""
sae_seeds = ["two_layer_seed1", "two_layer_seed2"]
draws = 3
permutations = 19
cover = {"parts": 5, "overlap": 0.4}
neuron_rows = 16
d = 0.1

# %%
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import minimum_spanning_tree

from sae_utils import inference, profiles, replicates, report
from sae_utils.profiles import seed
from sae_utils.studies.geometry import drawing, homology, mapper, paired, shapes, spaces, transport
from sae_utils.studies.geometry import planted as truths
from sae_utils.studies.semantic_subspaces import concepts

# %%
run = profiles.start(profile, "10b_topology")
out = report.Report(run, "10b_topology")
cells = replicates.of(run, *run.common.primary.pair)  # (A, B) of every replicate
if run.common.replicates and not twin:
    replicates.prepare(run, cells)
fewest, lists = labelling["fewest"], concepts.word_lists(labelling["concept_set"])
size = [planted[key] for key in ("points", "dimensions", "noise", "draws")]

# %% [markdown]
# ## Pieces and loops of planted shapes
# Balls around the points grow. Pieces merge, loops appear and are filled; a bar lasts from birth to death. All pieces
# are born at 0, and die at the lengths of the edges of the minimum spanning tree, which scipy finds as well.

# %%
rng, bars = np.random.default_rng(seed(run, "shapes")), {}
for name in ("circle", "figure-eight", "two clusters", "nothing"):
    points = shapes.draw(name, *size[:3], rng)
    found = homology.diagrams(points)
    of = [np.column_stack([np.full(len(x), dimension), x]) for dimension, x in enumerate(found)]
    bars[name] = points, np.vstack(of)
    tree = minimum_spanning_tree(homology.distances(points)).data
    np.testing.assert_allclose(np.sort(found[0][:, 1]), np.sort(tree), rtol=1e-5)
out.figure("shapes", drawing.barcodes(bars))

# %% [markdown]
# Long blue bars are loops: one for the circle, two for the figure-eight. A long grey bar that stands out is a gap
# between pieces. Short bars are noise.

# %% [markdown]
# Whether a bar is long is decided by Gaussian points with the same covariance, which have the same axes and no other
# shape. Mapper cuts the first principal axis into overlapping parts, clusters the points of each, and links clusters
# that share points.

# %%
rates = pd.DataFrame({x: truths.shape(x, *size, permutations, seed(run, x)) for x in bars}).T.rename_axis("planted")
out.table(
    "planted", rates.reset_index(), dict.fromkeys(homology.SIZES, "{:.2f}") | {"pieces": "{:g}", "cycles": "{:g}"}
)

# %% [markdown]
# The first three columns are shares of draws with p <= .05; *pieces* and *cycles* are those of the median Mapper graph.
# *Nothing* should have about 5% in each.

# %% [markdown]
# ## Transport, with and without a pairing
# Every feature of A gets a partner in B by the largest total correlation, as in 07. On documents that did not choose,
# optimal transport moves A's features to those of B at the cost 1 - r. With equal masses it is an assignment:

# %%
own = spaces.features(run, *cells[0], twin, minimum_firings, most, seed(run, "features"))
r = own.r(paired.TRUE)
row, column = linear_sum_assignment(-r)
np.testing.assert_allclose(transport.by_correlation(r), (1 - r[row, column]).mean(), rtol=1e-5, atol=1e-7)
print(f"{len(r)} features: transport {(1 - r[row, column]).mean():.3f}, partners {(1 - np.diag(r)).mean():.3f}")

# %% [markdown]
# Transport costs at most as much as the partners do, which other documents chose.
#
# Gromov-Wasserstein sees no correlation. It moves A's features to B's so that cosine distances within A match those
# within B. Planted: a turned copy of 40 points, with more and more noise.

# %%
points, turn = rng.normal(size=(40, 16)), np.linalg.qr(rng.normal(size=(16, 16)))[0]
inside, planned = transport.cosine_distances(points), {}
for noise in (0.0, 0.1, 0.3, 1.0):
    other = transport.cosine_distances(points @ turn + noise * rng.normal(size=points.shape))
    planned[noise] = plan = transport.gromov(inside, other)
    i, j = np.nonzero(plan.mass > 1e-12)
    loss = (inside[np.ix_(i, i)] - other[np.ix_(j, j)]) ** 2
    np.testing.assert_allclose(plan.distance**2, plan.mass[i, j] @ loss @ plan.mass[i, j], atol=1e-8)
columns = {"distance": [x.distance for x in planned.values()], "on partners": [x.on_partners for x in planned.values()]}
pd.DataFrame(columns, index=pd.Index(planned, name="noise")).round(3)

# %% [markdown]
# *On partners* is the mass that goes from a point to its own copy; by chance it is 1/40. The distance grows with the
# noise, but without a copy it does not become large: Gromov-Wasserstein always finds some plan that fits.

# %% [markdown]
# ## Both arms in every replicate
# A's features and the partners that they have in the true and in the control arm. The features about a concept have a
# diagram; its bottleneck distance to that of their partners is compared with partners of other features.


# %%
def compared(cell):
    own = spaces.features(run, *cell, twin, minimum_firings, most, seed(run, "features"))
    masks = spaces.about(run, cell[0], lists, labelling["share"])
    return spaces.compare(own, masks, fewest, draws, seed(run, cell[0]))


# %%
found = replicates.over(compared, cells, "feature spaces")
frame = spaces.frame(found)
ceiling = {}
for pair in combinations(sae_seeds, 2):
    two = paired.pair(paired.sides(run, *pair, exchange=False), minimum_firings, most, seed(run, "features"))
    ceiling[pair] = spaces.compare(two, {}, fewest, draws, seed(run, pair[0]))
two_saes = spaces.frame(ceiling).assign(arm="SAE seeds")
arms = pd.concat([two_saes, frame], ignore_index=True)
shown = spaces.summary(arms)
out.table("arms", shown, dict.fromkeys(shown.columns[2:], "{:.3f}"))

# %% [markdown]
# *Transport* is the mean 1 - r of the best plan; *gromov* the distance of the two geometries, and *on partners* the
# mass of its plan that finds the partner; *pieces* and *loops* are the shares by which partners' diagrams are nearer
# than those of other features (0 for none), means over concepts.

# %%
names = [arm for arm in ("SAE seeds", paired.TRUE, paired.CONTROL) if (arms.arm == arm).any()]
colors = {arm: report.NULL if arm == paired.CONTROL else report.COLORS[2 * (arm == "SAE seeds")] for arm in names}
out.figure("arms", drawing.arms(arms, spaces.PANELS, colors))

# %% [markdown]
# Compare the blue row with the control below it. Dots are replicates, or pairs of SAE seeds.

# %% [markdown]
# ## Mapper graphs side by side
# Features, and the neurons of the same layers, of the first pair, each with its partner in the other model. Three
# lenses: two principal components; how much a unit writes (log norm of its row times its activation); isomap, then
# UMAP. Colours are the lens of A, carried to B by the pairs.

# %%
units = {"features": (own.a, own.b[paired.TRUE])}
units["neurons"] = spaces.neurons(run, *cells[0], neuron_rows, most, seed(run, "neurons"))
graphs, shade, rows = {}, {}, []
for kind, sides in units.items():
    made = [spaces.graphs(part, mapper.Cover(**cover), seed(run, "lens")) for part in sides]
    for lens in mapper.LENSES:
        x = mapper.compare(*(side[lens][0] for side in made), len(sides[0].rows), permutations, seed(run, lens))
        rows.append({"units": kind, "lens": lens, "n": len(sides[0].rows)} | spaces.as_columns(x))
    graphs |= {f"{side}'s {kind}": {lens: x[0] for lens, x in of.items()} for side, of in zip("AB", made, strict=True)}
    shade[kind] = {lens: values[:, 0] for lens, (_, values) in made[0].items()}

# %%
out.figure("mapper", drawing.graphs(graphs, shade))
first = graphs["A's features"]["PCA"]
linked = [(i, j) for i, j in combinations(range(len(first.members)), 2) if first.members[i] & first.members[j]]
np.testing.assert_array_equal(first.edges, np.reshape(linked, (-1, 2)))

# %% [markdown]
# Every node is a cluster of units, every edge shared units. Look whether colours run through B's graph as through A's:
# then the pairs keep the lens.

# %%
of_graphs = pd.DataFrame(rows)
out.table("mapper", of_graphs, dict.fromkeys(["distance", "shuffled", "SD"], "{:.3f}"))

# %% [markdown]
# *Distance* is fused Gromov-Wasserstein: half the graph's path lengths, half which pairs two nodes have in common.
# *Shuffled* is its mean over shuffled pairs, with its SD. No p is given, since graphs depend on their cover.

# %% [markdown]
# ## Verdicts

# %%
ASKED = {
    "transport": "Is transport between partners cheaper than under the control?",
    "on partners": "Does geometry alone find more partners than under the control?",
    "pieces": "Are the pieces of concepts nearer between partners?",
    "loops": "Are the loops of concepts nearer between partners?",
}
gap, answers = spaces.gaps(frame), {}
for key, question in ASKED.items() if len(gap) > 1 else ():
    no = "The whole interval of the difference to the control lies below d."
    answers[question] = out.verdict(key, question, inference.over_replicates(gap[key]), d, no)
if not answers:
    out.absent("verdicts", "a single pair of models")
pd.Series(answers, name="answer", dtype=object).to_frame()

# %% [markdown]
# A *no* for geometry alone beside a *yes* for transport says: features fire alike, but their distances do not say which
# is which.

# %%
out.number("n", np.mean([x.n for x in found.values()]), "{:.0f}")
out.number("concepts", np.mean([len(x.arms[paired.TRUE].bottleneck) for x in found.values()]), "{:.1f}")
out.number("replicates", len(cells), "{:d}")
out.save()
