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
# **Question.** At which layers are the features of two models arranged alike, how much of what two seeds of one model
# share is that, and does the answer depend on the measure?
#
# **In.** Codes, decoder rows and encoder rows of dictionaries at several depths of each model. **Out.** For every layer
# of one model with every layer of another: pairs and their held-out correlation; by every measure the score against a
# shuffled pairing, the excess at one n for all, what that is of the excess between seeds, and p corrected for the whole
# sweep. One cell of the sweep is the primary analysis, marked; all others are secondary.
#
# **What would count as a no.** No pair of layers beyond chance once the sweep is corrected for; the negative control as
# much alike as the models that are compared; one measure only that says yes.

# %% tags=["parameters"]
profile = "smoke"
pairs = {
    "two_layer x three_layer": [
        ["two_layer_block0_0", "two_layer_0"],
        ["three_layer_block0_0", "three_layer_block1_0", "three_layer_0"],
    ],
    "two_layer x seed": [["two_layer_block0_0", "two_layer_0"], ["two_layer_block0_1", "two_layer_1"]],
    "three_layer x seed": [
        ["three_layer_block0_0", "three_layer_block1_0", "three_layer_0"],
        ["three_layer_block0_1", "three_layer_block1_1", "three_layer_1"],
    ],
    "two_layer x scrambled": [["two_layer_block0_0", "two_layer_0"], ["scrambled"]],
}
ceilings = {"two_layer x three_layer": ["two_layer x seed", "three_layer x seed"]}
negatives = ["two_layer x scrambled"]
middle = ["two_layer_0", "three_layer_block1_0"]
candidates = 16
counterpart = 0.5
secondary_measures = ["rsa_pearson", "cka", "cka_debiased", "procrustes", "mutual_knn"]
other_estimators = ["cca", "pwcca", "second_order_cosine"]
neighbours = 5
permutations = 99
fewest = 10
subsets = 3
subset_draws = 9
seed = 0

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from sae_utils import measures, pipeline, profiles, report, sweep, tables
from sae_utils.inference import LEVEL
from sae_utils.studies.layer_sweep import cells, layers
from sae_utils.studies.llm_vs_sae import units

# %%
run = profiles.start(profile, "03_layer_sweep")
out = report.Report(run, "03_layer_sweep")
primary = run.common.primary
grid = layers.cells(run, "03_layer_sweep", pairs)
layers.check(run, "03_layer_sweep", pairs, ceilings, negatives)
main = layers.find(run, "primary.pair", grid, run.pair)
shown = layers.find(run, "03_layer_sweep.middle", grid, middle)
names = list(dict.fromkeys(name for cell in grid for name in (cell.a, cell.b)))
block = {name: units.place(run, name)[1] for name in names}  # as the model counts, from 0
blocks = {cell: f"{block[cell.a]}-{block[cell.b]}" for cell in grid}
numbers = {pair: [[block[name] for name in side] for side in sides] for pair, sides in pairs.items()}

# %% [markdown]
# ## Pairs of features at every pair of layers
# As in the primary analysis: mutual pairs, found on the matching documents. Their correlation is computed on the
# held-out documents and once more with the two roles exchanged, and the means of both are shown. *Retention* is the
# share of the live features that are paired. A *counterpart* is a mutual partner with a held-out correlation above the
# threshold; its share is of the live features of the side that has fewer.

# %%
codes = pipeline.features_of(run, names)
matched = sweep.run(
    lambda x: cells.matched(codes[x.a].kept, codes[x.b].kept, codes[x.a].sites, candidates, counterpart), grid, "pairs"
)
found = layers.matches(matched)

# %%
columns = {"of_a": "of A", "of_b": "of B", "r": "r matching", "held_out": "r held out"}
columns["counterparts"] = "counterparts, of fewer"
retained = found.assign(blocks=[blocks[cell] for cell in matched]).rename(columns=columns)
retained[["pair", "blocks", "n", *columns.values()]].round(2)

# %%
widths = {name: len(b) for name, (_, b) in pairs.items()}
heat = {"vmin": 0, "vmax": 1, "cmap": "Blues", "annot": True, "fmt": ".2f", "annot_kws": {"size": 7}, "cbar": False}
ticks = ("yticklabels", "xticklabels")
figure, axes = report.bands(widths)
quantities = {"retention": found[["of_a", "of_b"]].max(axis=1), "counterparts": found.counterparts}
for row, (quantity, values) in enumerate(quantities.items()):
    for name, column in axes.items():
        part = found.assign(value=values)[found.pair == name].pivot(index="i", columns="j", values="value")
        sns.heatmap(part, ax=column[row], **heat | dict(zip(ticks, numbers[name], strict=True)))
        side = f"{quantity}\nblock of A" if column[row].get_subplotspec().is_first_col() else ""
        column[row].set(xlabel="", ylabel=side, title="" if row else name.replace(" x ", " x\n"))
        column[1].set_xlabel("block of B")
out.figure("retention", figure)

# %%
of_main, of_negatives = found[found.pair == main.pair], found[found.pair.isin(negatives)]
out.text("pair", main.pair)
out.number("pairs of models", len(pairs), "{:d}")
out.number("cells", len(grid), "{:d}")
out.number("counterpart threshold", counterpart, "{:.1f}")
for name, part in (("main", of_main), ("negative", of_negatives)):
    out.number(f"least counterparts {name}", 100 * part.counterparts.min(), "{:.0f}")
    out.number(f"most counterparts {name}", 100 * part.counterparts.max(), "{:.0f}")

# %% [markdown]
# ## All measures, at every pair of layers
# Each cell: all measures on decoder rows and on encoder rows, held against the same shuffled pairings; cells have
# shuffles of their own. No score is free of n, so that excesses are compared at the n of the smallest cell, averaged
# over random subsets; a cell with fewer pairs than `fewest` is not scored.
#
# Ideal is 10,000 permutations. They are fewer here because the sweep has so many cells, each of which decomposes
# matrices in every draw (SVCCA, Procrustes), and is to run on a laptop in a minute; p cannot fall below 1 / (m + 1).
# The primary analysis keeps its own, larger number. A family-wise p by Holm would ask for 20 draws a test; the maximum
# of z takes the same draws for all tests of a family, however many they are.

# %%
battery = cells.Battery(
    measures=list(dict.fromkeys([primary.measure, *secondary_measures, "svcca", "svcca_first_component"])),
    neighbours=neighbours,
    permutations=permutations,
    subsets=subsets,
    subset_draws=subset_draws,
)
n = layers.common_n(matched, fewest)
trained = {name: pipeline.reader(run, name).dictionary for name in names}
scored = sweep.run(
    lambda x: cells.scored(matched[x], trained[x.a], trained[x.b], battery, n, [seed, grid.index(x)]),
    [cell for cell in grid if matched[cell].meta["pairs"] >= n],
    "scores",
)

# %%
scores = {cell: cells.read(kept) for cell, kept in scored.items()}
lines = layers.table(scores, ceilings)
family = len(battery.measures) * len(cells.ROWS) * sum(cell.pair == main.pair for cell in scores)
out.number("common n", n, "{:,}")
out.number("unscored", len(grid) - len(scores), "{:d}")
out.number("fewest", fewest, "{:d}")
out.number("subsets", subsets, "{:d}")
out.number("subset draws", subset_draws, "{:d}")
out.number("permutations", permutations, "{:,}")
out.number("primary permutations", primary.permutations, "{:,}")
out.number("least p", 1 / (permutations + 1), "{:.3f}")
out.number("measures", len(battery.measures), "{:d}")
out.number("family", family, "{:d}")
out.number("holm asks", 20 * family, "{:,}")

# %%
label = [f"{x.pair}  {blocks[x.cell]}  n {x.n}" for x in lines.itertuples()]
overview = lines.assign(label=label, stars=np.where(lines.family < LEVEL, "*", ""))
heat["vmax"] = lines.one_n.max()  # one scale for all excesses
figure, axes = plt.subplots(1, len(cells.ROWS), figsize=(5.5, max(2.0, 1.4 + 0.17 * len(scores))), sharey=True)
for axis, (kind, part) in zip(axes, overview.groupby("rows", sort=False), strict=True):
    shape = {"index": "label", "columns": "measure", "sort": False}
    values, stars = (part.pivot_table(values=x, aggfunc="first", dropna=False, **shape) for x in ("one_n", "stars"))
    texts = values.map("{:.2f}".format).replace("nan", "-") + stars
    sns.heatmap(values, ax=axis, **heat | {"annot": texts, "fmt": "", "annot_kws": {"size": 5}})
    axis.set(xlabel="", ylabel="", title=f"{kind} rows", facecolor="0.93")
    axis.set_xticklabels([measures.measure(x).label for x in values], rotation=60, ha="right", fontsize=6)
    axis.tick_params(axis="y", labelsize=6, rotation=0)
out.figure("measures", figure)
lines.drop(columns=["cell", "note"]).round(3)

# %% [markdown]
# ## The primary measure
# Excess at one n by the primary measure; framed: the cell of the primary analysis, whose answer is the paper's. In a
# block whose attention and MLP work side by side, as in GPT-NeoX, the first MLP sees the token alone, so that two first
# layers may agree on no more than which words are alike.

# %%
by_primary = lines[lines.measure == primary.measure]
figure, axes = report.bands(widths)
for row, kind in enumerate(cells.ROWS):
    for name, column in axes.items():
        part = by_primary[(by_primary.rows == kind) & (by_primary.pair == name)]
        layers_a, layers_b = (range(len(side)) for side in pairs[name])
        values = part.pivot(index="i", columns="j", values="one_n").reindex(index=layers_a, columns=layers_b)
        sns.heatmap(values.astype(float), ax=column[row], **heat | dict(zip(ticks, numbers[name], strict=True)))
        side = f"{kind} rows\nblock of A" if column[row].get_subplotspec().is_first_col() else ""
        column[row].set(xlabel="", ylabel=side, title="" if row else name.replace(" x ", " x\n"), facecolor="0.93")
        column[1].set_xlabel("block of B")
of_primary = axes[main.pair][cells.ROWS.index("decoder")]
of_primary.add_patch(plt.Rectangle((main.j, main.i), 1, 1, fill=False, linewidth=1.5))
out.figure("excess", figure)

# %%
decoders = by_primary[by_primary.rows == "decoder"]
is_primary = decoders.cell == main
retention = found.set_index(["pair", "i", "j"])[["of_a", "of_b"]].max(axis=1)
table = pd.DataFrame(
    {
        "pair": decoders.pair,
        "blocks": [blocks[cell] for cell in decoders.cell] + np.where(is_primary, "*", "").astype(object),
        "n": decoders.n,
        "kept": [retention[x.pair, x.i, x.j] for x in decoders.itertuples()],
        "observed": decoders.observed,
        "null": decoders.null,
        "null SD": decoders.sd,
        "excess": decoders.excess,
        "z": decoders.z,
        "p": decoders.p,
        "family": decoders.family,
        "at one n": decoders.one_n,
        "relative": decoders.relative,
    }
)
formats = dict.fromkeys(["p", "family"], "{:.3f}") | {"z": "{:.1f}"}
out.table("primary", table, dict.fromkeys(table.columns[3:], "{:.2f}") | formats)

# %%
encoders = by_primary[by_primary.rows == "encoder"]
holding = set(decoders.cell[(decoders.family < LEVEL) & (decoders.excess > 0)])
mine, negative = decoders[decoders.pair == main.pair], decoders[decoders.pair.isin(negatives)]
for name, part, members in (("main", mine, [main.pair]), ("negative", negative, negatives)):
    asked = [cell for cell in grid if cell.pair in members]
    out.text(f"holding {name}", tables.among_tested(asked, scores, holding))
    out.number(f"least {name}", part.one_n.min())
    out.number(f"most {name}", part.one_n.max())
out.number("least relative", mine.relative.min())
out.number("most relative", mine.relative.max())
out.number("mean decoder", mine.one_n.mean())
out.number("mean encoder", encoders[encoders.pair == main.pair].one_n.mean())
out.number("primary at one n", decoders[is_primary].one_n.mean())
out.number("primary relative", decoders[is_primary].relative.mean())

# %% [markdown]
# ## Where are two models most alike?
# The largest z over all pairs of layers, measure by measure, against the null of that maximum: in every draw the
# largest z that chance gives in any of the layers.

# %%
maxima = layers.maxima(scores)
maxima["blocks"] = [f"{numbers[x.pair][0][x.a]}-{numbers[x.pair][1][x.b]}" for x in maxima.itertuples()]
sides = [maxima[maxima.rows == kind].set_index(["pair", "measure"])[["blocks", "z", "p"]] for kind in cells.ROWS]
most = sides[0].join(sides[1].rename(columns="{}, encoder".format)).reset_index()
most["measure"] = [measures.measure(name).label + "*" * (name == primary.measure) for name in most.measure]
most.round(3)

# %%
beyond = maxima[(maxima.p < LEVEL) & (maxima.z > 0)].set_index(["pair", "rows", "measure"]).index
for name, members in (("main", [main.pair]), ("negative", negatives)):
    asked = [(pair, kind, measure) for pair in members for kind in cells.ROWS for measure in battery.measures]
    out.text(f"maxima {name}", tables.among(asked, beyond))

# %% [markdown]
# ## Profiles along depth
# How the excess at one n changes with the layer of B, for every layer of A; bars are the SD over random subsets, which
# overlap, and no standard error. Whether a profile rises or falls is description, not a test: the layers of a model
# depend on each other, and there are few.

# %%
figure, axes = plt.subplots(1, len(pairs), figsize=(6.4, 2.3), sharey=True, squeeze=False)
for axis, name in zip(axes[0], pairs, strict=True):
    for i, part in decoders[decoders.pair == name].groupby("i"):
        axis.errorbar(
            part.j,
            part.one_n,
            part.one_n_sd,
            marker="o",
            markersize=3,
            linewidth=1,
            label=f"block {numbers[name][0][i]} of A",
        )
    axis.axhline(0, color=report.NULL, linewidth=0.8)
    axis.set(title=name.replace(" x ", " x\n"), xlabel="block of B")
    axis.set_xticks(range(len(pairs[name][1])), numbers[name][1])
axes[0, 0].set_ylabel("excess, decoder rows")
longest = max(axes[0], key=lambda axis: len(axis.get_legend_handles_labels()[1]))
figure.legend(*longest.get_legend_handles_labels(), loc="outside lower center", ncols=4)
out.figure("profiles", figure)

# %%
closest = {name: layers.closest(decoders[decoders.pair == name], "one_n") for name in pairs}
itself = [i == j for name in {x for both in ceilings.values() for x in both if x} for i, j in closest[name].items()]
a_is, b_is = numbers[main.pair]
phrases = [f"block {a_is[i]} of A is most like block {b_is[j]} of B" for i, j in closest[main.pair].items()]
out.text("closest", "; ".join(phrases) or "no layer was scored")
out.text("itself", tables.among(range(len(itself)), np.flatnonzero(itself)) if itself else "none")
closest

# %% [markdown]
# ## Two estimators called SVCCA, and others
# SVCCA averages the canonical correlations of the k components that hold 99% of the variance; the published estimator
# keeps one component of each side. With fewer rows than components of both sides some canonical correlations are 1
# whatever the rows hold, and no excess at one n is given; neither should be trusted where n is not several times k.
# Beside them stand other estimators of what two sets of rows share, at the layers of the pair that is compared. They
# are a family of their own, against the same shuffled pairings.

# %%
others = battery.model_copy(update={"measures": other_estimators})
scored_by_others = sweep.run(
    lambda x: cells.scored(matched[x], trained[x.a], trained[x.b], others, n, [seed, grid.index(x)]),
    [cell for cell in scores if cell.pair == main.pair and other_estimators],
    "other estimators",
)
by_others = layers.table({cell: cells.read(kept) for cell, kept in scored_by_others.items()}, {})

# %%
both = lines[lines.measure.isin(["svcca", "svcca_first_component"]) & (lines.rows == "decoder")]
estimators = pd.concat([both[both.pair == main.pair], by_others[by_others.rows == "decoder"]])
estimators["estimator"] = [measures.measure(name).label for name in estimators.measure]
estimators["blocks"] = [blocks[cell] for cell in estimators.cell]
estimators = estimators.sort_values(["i", "j"], kind="stable").rename(columns={"sd": "null SD", "one_n": "at one n"})
asked = ["blocks", "estimator", "n", "k", "observed", "null", "null SD", "excess", "z", "family", "at one n"]
formats = dict.fromkeys(["observed", "null", "null SD", "excess", "at one n"], "{:.2f}")
out.table("svcca", estimators[asked], formats | {"z": "{:.1f}", "family": "{:.3f}"})

# %%
components = [score.results["decoder"]["svcca"] for score in scores.values()]
sized = [f"n = {x.n}, k = {x.k[0]} x {x.k[1]}" for x in components]
figure, axes = plt.subplots(1, 2, figsize=(6.2, 1.2 + 0.17 * len(scores)), sharey=True)
for axis, (name, title) in zip(
    axes, {"svcca": "SVCCA", "svcca_first_component": "first component"}.items(), strict=True
):
    results = [score.results["decoder"][name] for score in scores.values()]
    low, high = np.array([np.quantile(x.draws, [0.025, 0.975]) for x in results]).T
    places = [f"{cell.pair}  {blocks[cell]}  ({size})" for cell, size in zip(scores, sized, strict=True)]
    axis.hlines(places, low, high, color=report.NULL, linewidth=5, label="95% of shuffled pairings")
    axis.scatter([x.observed for x in results], places, s=14, color=report.PAIRED, label="paired", zorder=2)
    axis.set(xlabel=title, xlim=(0, 1.02), xticks=[0, 0.5, 1])
    axis.tick_params(axis="y", labelsize=5.5)
axes[0].invert_yaxis()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
out.figure("svcca", figure)

# %%
full, first = (both[both.measure == name] for name in ("svcca", "svcca_first_component"))
ks = np.array([x.split(" x ") for x in full.k], int)
out.number("least k", ks.min(), "{:d}")
out.number("most k", ks.max(), "{:d}")
out.number("saturated", (full.note != "").sum(), "{:d}")
out.number("roomy", (full.n.to_numpy() >= 3 * ks.sum(1)).sum(), "{:d}")
for name, part in (("full", full), ("first", first)):
    reaching = set(part.cell[(part.family < LEVEL) & (part.excess > 0)])
    asked = [cell for cell in grid if cell.pair == main.pair]
    out.text(f"svcca {name}", tables.among_tested(asked, scores, reaching))

# %% [markdown]
# ## One pair of layers, all measures
# A pair of layers in the middle, decoder rows: each measure beside what shuffled pairings give.

# %%
results = scores[shown].results["decoder"] if shown in scores else {}
figure, axes = plt.subplots(figsize=(4.8, 2.5))
places = np.arange(len(results))
null = np.array([x.null_mean for x in results.values()])
low, high = np.array([np.quantile(x.draws, [0.025, 0.975]) for x in results.values()]).reshape(-1, 2).T
axes.bar(places - 0.2, [x.observed for x in results.values()], 0.38, color=report.PAIRED, label="paired")
axes.bar(places + 0.2, null, 0.38, color=report.NULL, label="shuffled pairings, mean and 95%")
axes.vlines(places + 0.2, low, high, color="black", linewidth=1)
axes.set(ylabel="similarity", title=str(shown))
axes.set_xticks(places, [measures.measure(x).label for x in results], rotation=30, ha="right")
axes.axhline(0, color="black", linewidth=0.6)
figure.legend(loc="outside lower center", ncols=2)
out.figure("middle", figure)

# %% [markdown]
# ## The answer

# %%
holds = [cell in holding for cell in scores if cell.pair == main.pair]
out.text("verdict", layers.verdict(holds, sum(cell.pair == main.pair for cell in grid)))
out.text("negative verdict", layers.beside_control(mine.one_n.to_numpy(), negative.one_n.to_numpy()))
out.text("negative lesson", layers.lesson(holding, negative.set_index("cell").z.to_dict()))
sum(holds), len(holds)

# %%
out.save()
