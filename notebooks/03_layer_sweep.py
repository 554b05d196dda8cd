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
# # Layer sweep
#
# **Question.** Are the features of two models arranged alike at every pair of their layers, more than when one of them
# reads exchanged words? Are some pairs of layers more alike than others? Does the answer depend on the measure?
#
# **In.** Dictionaries at several depths of each model, in several replicates. **Out.** For every layer of A with every
# layer of B: the excess of every measure at one n in both arms, their difference over replicates with a verdict; the
# layers with the largest z in each replicate, against the null of that maximum. All of it is secondary but for the cell
# of the primary pair, whose answer is that of the primary analysis.
#
# **What would count as a no.** The difference between the arms lies below the threshold. For the second question: the
# pair of layers that other replicates choose is no more alike than the rest.

# %% tags=["parameters"]
profile = "smoke"
pairs = {
    "two_layer x three_layer": [
        ["two_layer_block0", "two_layer"],
        ["three_layer_block0", "three_layer_block1", "three_layer"],
    ]
}
minimum_firings = 5
candidates = 16
secondary_measures = ["rsa_pearson", "cka_debiased", "mutual_knn"]
other_estimators = ["cka", "procrustes", "svcca", "svcca_first_component", "cca", "pwcca"]
neighbours = 5
permutations = 99
fewest = 6
subsets = 3
subset_draws = 9

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from sae_utils import inference, measures, pipeline, profiles, replicates, report, sweep, tables
from sae_utils.profiles import seed
from sae_utils.studies.layer_sweep import cells, layers
from sae_utils.studies.llm_vs_sae import units

# %%
run = profiles.start(profile, "03_layer_sweep")
out = report.Report(run, "03_layer_sweep")
primary, d = run.common.primary, run.common.primary.thresholds["excess"].d
grid = layers.cells(run, "03_layer_sweep", pairs)
main = layers.find(run, "primary.pair", grid, run.pair)
ceilings = layers.ceilings(grid)
every = [*grid, *ceilings["A"], *ceilings["B"]]
block = {cell.a: units.place(run, cell.a)[1] for cell in grid} | {cell.b: units.place(run, cell.b)[1] for cell in grid}
places = {(cell.pair, cell.i, cell.j): f"{block[cell.a]}-{block[cell.b]}" for cell in grid}  # blocks count from 0
pd.DataFrame(grid)

# %% [markdown]
# ## Pairs of features at every pair of layers
# As in the primary analysis: content features of either side, with one-to-one partners of the largest total
# correlation and no threshold, by either part of the documents. In the *control arm* B reads exchanged words; the
# features are the same. Where a profile has no replicates, mutual pairs are taken, and there is no control. Another
# seed of the same model, at the same layer, is the ceiling. Scores are compared at one n: that of the smallest cell.

# %%
names = [(cell.a, cell.b) for cell in every]
if run.common.replicates:
    replicates.prepare(run, names)
else:
    pipeline.features_of(run, dict.fromkeys(name for both in names for name in both))
found = sweep.run(lambda x: cells.paired(run, x.a, x.b, minimum_firings, candidates), every, "pairs")
n = layers.common_n(found, fewest)
scored = [cell for cell in every if layers.least(found[cell]) >= n]

# %%
matched = pd.DataFrame(
    {
        "pair": cell.pair,
        "blocks": places.get((cell.pair, cell.i, cell.j), "same layer"),
        "n": layers.least(found[cell]),
        "retention": np.mean([x.retention for x in found[cell]]),
        "held-out r": np.mean([x.held_out for x in found[cell]]),
    }
    for cell in every
)
means = matched.groupby(["pair", "blocks"], sort=False).mean().reset_index()
means.round(2)

# %%
mine = [cell for cell in grid if cell.pair == main.pair]
of_main = matched[matched.pair == main.pair]
out.text("pair", main.pair)
out.number("replicates", len({cell.one for cell in mine}), "{:d}")
out.number("layer pairs", len({(cell.i, cell.j) for cell in mine}), "{:d}")
out.number("common n", n, "{:,}")
out.number("fewest", fewest, "{:d}")
out.number("unscored", len(every) - len(scored), "{:d}")
out.number("cells", len(every), "{:d}")
out.number("least r", of_main["held-out r"].min())
out.number("most r", of_main["held-out r"].max())

# %% [markdown]
# ## Every measure, in both arms
# Decoder rows are what features write, encoder rows what they read. At the common n the excess is a mean over random
# subsets, which both arms share, and over all choices of partners. All pairs of the first choice are held against
# shuffled pairings as well, by these measures and by others whose null mean is not known.

# %%
battery = cells.Battery(
    measures=list(dict.fromkeys([primary.measure, *secondary_measures])),
    neighbours=neighbours,
    permutations=permutations,
    subsets=subsets,
    subset_draws=subset_draws,
)
scores = sweep.run(
    lambda x: cells.scored(
        found[x], cells.sides_of(run, x.a, x.b), battery, n, seed(run, f"{x}"), other_estimators, x in grid
    ),
    scored,
    "scores",
)

# %%
of_pair = {
    name: {cell: scores[cell] for cell in scored if cell.pair == name} for name in dict.fromkeys(x.pair for x in every)
}
arms = {
    (name, kind, measure): [layers.values(of, arm, kind, measure) for arm in (cells.TRUE, cells.CONTROL)]
    for name, of in of_pair.items()
    for kind in cells.ROWS
    for measure in battery.measures
}
true, control = arms[main.pair, "decoder", primary.measure]
true.shape  # replicates, layers of A, layers of B

# %% [markdown]
# ## The primary measure on decoder rows
# Few replicates make wide intervals: with three of them Student's t takes over four standard errors to each side. A
# verdict on a pair of layers is *yes* where the interval of the difference lies above the threshold, *no* where it
# lies below, else *undetermined*. The verdicts on pairs of layers are not adjusted for their number.

# %%
by_layers = layers.table(true, control, d)
by_layers.insert(0, "blocks", [places[main.pair, row.i, row.j] for row in by_layers.itertuples()])
at_main = (by_layers.i == main.i) & (by_layers.j == main.j)
by_layers["blocks"] += np.where(at_main, "*", "")
shown = by_layers.drop(columns=["i", "j", "p"])
out.table("layers", shown, dict.fromkeys(shown.columns[2:-1], "{:.2f}") | {"replicates": "{:d}"})

# %%
panels = {"true arm": true, "control arm": control, "difference": true - control}
top = np.nanmax(true)
figure, axes = plt.subplots(1, 3, figsize=(6.2, 0.9 + 0.45 * true.shape[1]), sharey=True)
for axis, (title, values) in zip(axes, panels.items(), strict=True):
    mean, sd = layers.spread(values)
    texts = [[f"{m:.2f}\n± {s:.2f}" for m, s in zip(*of, strict=True)] for of in zip(mean, sd, strict=True)]
    sns.heatmap(mean, ax=axis, vmin=0, vmax=top, cmap="Blues", annot=texts, fmt="", annot_kws={"size": 6}, cbar=False)
    axis.set(xlabel="block of B", title=title, facecolor="0.93")
    axis.set_xticklabels([block[cell.b] for cell in mine[: true.shape[2]]])
axes[0].set(ylabel="block of A")
axes[0].set_yticklabels([block[cell.a] for cell in mine[: true.shape[1] * true.shape[2] : true.shape[2]]])
axes[2].add_patch(plt.Rectangle((main.j, main.i), 1, 1, fill=False, linewidth=1.5))
out.figure("excess", figure)

# %% [markdown]
# ## More alike than under exchanged words?
# The mean over all pairs of layers, then over replicates: so no pair is chosen.

# %%
overall = layers.over_replicates(true - control)
out.verdict(
    "difference",
    "Mean over layer pairs: true arm minus exchanged words",
    overall,
    d,
    "the interval lies below the threshold",
)

# %%
words = by_layers.verdict.value_counts()
for word in ("yes", "no", "undetermined"):
    out.number(word, words.get(word, 0), "{:d}")
out.number("tested", (by_layers.replicates > 0).sum(), "{:d}")
out.number("false ones", inference.false_at_most(len(by_layers)), "{:.1f}")
out.number("true mean", tables.average(true))
out.number("control mean", tables.average(control))
words.to_dict()

# %% [markdown]
# ## Are some pairs of layers more alike than others?
# The best of several is better than the rest whatever the truth. So the other replicates choose the best pair of
# layers, and the one that is left judges it: its difference there minus its mean over the rest. By hand:

# %%
flat = (true - control).reshape(len(true), -1)
by_hand = []
for r in range(len(flat) if len(flat) > 1 and np.isfinite(flat).all() else 0):
    best = np.delete(flat, r, axis=0).mean(axis=0).argmax()
    by_hand.append(flat[r, best] - np.delete(flat[r], best).mean())
chosen = layers.chosen_by_others(true - control)
if by_hand:
    np.testing.assert_allclose(chosen, by_hand)
chosen

# %%
out.verdict(
    "best",
    "The layer pair that other replicates choose minus the rest",
    inference.over_replicates(chosen),
    d,
    "the interval lies below the threshold",
)

# %% [markdown]
# ## Beside another seed of the same model
# The same layer of two replicates of one model, both arms. Two replicates that share a seed are left out together.

# %%
ceiling = {}
for side in ceilings:
    given = of_pair.get(f"two seeds of {side}", {})
    pair_of_arms = [layers.values(given, arm, "decoder", primary.measure) for arm in (cells.TRUE, cells.CONTROL)]
    ceiling[side] = [layers.crossed(given, x) for x in (pair_of_arms[0], pair_of_arms[0] - pair_of_arms[1])]
    out.number(f"ceiling {side}", ceiling[side][1].estimate, se=ceiling[side][1].se)
pd.DataFrame({side: {"true arm": x.estimate, "difference": y.estimate} for side, (x, y) in ceiling.items()}).round(3)

# %% [markdown]
# ## Does the answer depend on the measure?
# The difference between the arms by every measure whose null mean is known, on both kinds of rows; a line is a
# replicate.

# %%
figure, axes = plt.subplots(
    len(cells.ROWS), len(battery.measures), figsize=(6.4, 3.2), sharex=True, sharey="col", squeeze=False
)
labels = [places[main.pair, i, j] for i, j in np.ndindex(true.shape[1:])]
for axis, (kind, name) in zip(axes.ravel(), [(k, m) for k in cells.ROWS for m in battery.measures], strict=True):
    one, two = arms[main.pair, kind, name]
    axis.plot(labels, (one - two).reshape(len(one), -1).T, color=report.PAIRED, alpha=0.6, marker=".", linewidth=0.8)
    axis.axhline(0, color=report.NULL, linewidth=0.8)
    axis.tick_params(axis="x", labelsize=6, rotation=60)
    axis.set_title(f"{measures.measure(name).label}, {kind}", fontsize=6.5)
axes[0, 0].set_ylabel("true - control")
axes[1, 0].set_ylabel("true - control")
out.figure("measures", figure)

# %%
overview = pd.DataFrame(
    {
        "pair": name,
        "rows": kind,
        "measure": measures.measure(measure).label + "*" * (measure == primary.measure),
        **dict(zip(("true", "control"), map(tables.average, both), strict=True)),
        **layers.over_replicates(both[0] - both[1])._asdict(),
    }
    for (name, kind, measure), both in arms.items()
    if name in pairs
)
overview.round(3)

# %%
of_rows = overview[overview.pair == main.pair].drop(columns=["pair", "p"])
renamed = of_rows.rename(columns={"estimate": "difference", "n": "replicates"})
out.table("measures", renamed, dict.fromkeys(["true", "control", "difference", "se", "low", "high"], "{:.3f}"))

# %% [markdown]
# ## Where are two models most alike?
# In each replicate the largest z over all pairs of layers, measure by measure, against the null of that maximum: in
# every draw the largest z that chance gives in any pair of layers. SVCCA averages the canonical correlations of the
# components that hold 99% of the variance; the published estimator keeps one component of each side.

# %%
maxima = layers.maxima({cell: scores[cell] for cell in scored if cell in grid})
reached = layers.reached(maxima[maxima.pair == main.pair], inference.LEVEL)
reached["measure"] = [measures.measure(name).label + "*" * (name == primary.measure) for name in reached.measure]
arms_named = {arm: f"beyond chance, {arm} arm" for arm in (cells.TRUE, cells.CONTROL)}
out.number("permutations", permutations, "{:,}")
out.table("maxima", reached.rename(columns=arms_named))

# %%
maxima["blocks"] = [places[x.pair, x.a, x.b] for x in maxima.itertuples()]
maxima.drop(columns=["a", "b"]).round(3)

# %%
out.save()
