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
# # Neurons and other baselines
#
# **Question.** Do SAE features of two models pair up, and are the pairs arranged alike, beyond what the models' own
# neurons show, or directions that nobody learnt?
#
# **In.** Dictionaries, and of the layer that each reads the MLP neurons, the MLP output dimensions and three bases.
# **Out.** Correlation and retention of each kind of unit; similarity of SAE features and neurons at one n and at equal
# correlation; subspaces of concepts. All of it is secondary to the primary analysis.
#
# **What would count as a no.** Neurons that are arranged alike as much as SAE features are, at the same n and the same
# correlation; random directions that keep as many partners.
#
# Out of scope: how related BERT finds the labels, since its baseline is too high to tell labels apart; and labels
# written by GPT.

# %% tags=["parameters"]
profile = "smoke"
layers = [["two_layer_0"], ["three_layer_block1_0", "three_layer_0"]]
seeds = {"two_layer_0": "two_layer_1", "three_layer_0": "three_layer_1"}
controls = {"scrambled world": ["two_layer_0", "scrambled"], "random weights": ["two_layer_0", "random_0"]}
by_index = {"two_layer_0": ["two_layer_start", "two_layer_1"]}
partners = {"candidates": 16, "counterpart": 0.5}
permuted = 3
permutations = 99
fewest = 12
subsets = 5
secondary_measures = ["cka_debiased", "mutual_knn", "svcca_first_component"]
caliper = 0.05
near = 0.7
subspaces_of = {"concepts": "stories", "top": 5, "fewest": 5}
seed = 0

# %%
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import SymmetricalLogLocator

from sae_utils import inference, measures, pipeline, profiles, report, significance, sweep, tables
from sae_utils.inference import LEVEL
from sae_utils.studies import feature_matching
from sae_utils.studies.llm_vs_sae import indexed, units
from sae_utils.studies.semantic_subspaces import concepts, subspaces

# %%
run = profiles.start(profile, "04_llm_vs_sae")
out = report.Report(run, "04_llm_vs_sae")
primary, measure = run.pair, run.common.primary.measure
candidates, counterpart = partners["candidates"], partners["counterpart"]
SAE, NEURONS, OUTPUTS = units.SAE, units.NEURONS, units.OUTPUTS
grid = {
    (a, b): f"{units.place(run, a)[1]} x {units.place(run, b)[1]}{', primary' if (a, b) == primary else ''}"
    for a, b in [*itertools.product(*layers), primary]
}
beside = {pair: f"seed: {pair[0]}" for pair in seeds.items()} | {tuple(pair): name for name, pair in controls.items()}
for name in itertools.chain(*beside):
    units.place(run, name)  # complains of a name that nothing defines before anything runs
cells = [(*pair, kind) for pair in grid for kind in units.KINDS]
cells += [(*pair, kind) for pair in beside for kind in (SAE, NEURONS)]
units.prepare(run, [(name, kind) for *pair, kind in cells for name in pair])
found = sweep.run(lambda cell: units.compare(units.pair(run, *cell, candidates), cell[2]), cells, "layer pairs")

# %% [markdown]
# ## Are the pairs arranged alike? SAE features and neurons at one n
# What stands for a decoder row: of a neuron its output weights, which it adds to the MLP's output as it fires. No score
# is free of n. All sets are scored on random subsets of one n, the smallest that any of them has; sets below the fewest
# do not set it and are not scored. Shown is the null of one subset, of which the mean over subsets would vary less. The
# same layer of the same model with another seed is the ceiling.

# %%
scored = {cell: x for cell, x in found.items() if cell[2] in (SAE, NEURONS)}
n = min([x.n for x in scored.values() if x.n >= fewest], default=fewest)
settings = {"subsets": subsets, "m": permutations, "seed": seed}
at_n = {cell: significance.rows_at_n(x.rows, measure, n, **settings) for cell, x in scored.items() if x.n >= n}
for name, value in {"n": n, "fewest": fewest, "subsets": subsets, "layer pairs": len(grid)}.items():
    out.number(name, value, "{:d}")

# %% [markdown]
# The table holds all pairs of each set that has enough, against all their shuffles, with the family-wise p of the whole
# table (maximum of z). Output dimensions of the MLP
# have rows too, in the published way: the incoming weights of a dimension from all neurons. They are few: *at small n*
# is their smallest n. A set with more pairs finds more, so that counts of sets above chance come with their n. The
# three bases are left out, since orthonormal rows are all equally far from each other: whether
# they are arranged alike is undefined, or trivially so.

# %%
geometric = (SAE, NEURONS, OUTPUTS)
sets = {cell: x for cell, x in found.items() if cell[2] in geometric and x.n >= significance.FEWEST}
tested = {
    cell: significance.test(*x.rows, [measure], m=permutations, seed=(seed, number))
    for number, (cell, x) in enumerate(sets.items())
}
family = inference.maximum_of_z(tested)
small = min([x.n for cell, x in sets.items() if cell[2] == OUTPUTS], default=n)
at_small = {
    cell: significance.rows_at_n(x.rows, measure, small, **settings) for cell, x in sets.items() if x.n >= small
}
ceiling = {(name, cell[2]): x.excess for cell, x in at_n.items() for name in seeds if cell[:2] == (name, seeds[name])}
relative = {
    (a, b, kind): significance.relative(x.excess, ceiling.get((a, kind)), ceiling.get((b, kind)))
    for (a, b, kind), x in at_n.items()
    if (a, b) in grid
}

# %%
labels = {pair: label.replace("_", " ") for pair, label in (grid | beside).items()}
there = [cell for cell in found if cell[2] in geometric]
similarity = pd.DataFrame(
    [
        {"layers": labels[cell[:2]], "units": cell[2], "d": found[cell].d, "n": found[cell].n}
        | {"held out": tables.average(found[cell].held_out)}
        | tables.columns(tested.get(cell, {}).get(measure), family.get(cell, {}).get(measure))
        | {
            "at one n": at_n.get(cell, significance.UNSCORED).excess,
            "at small n": at_small.get(cell, significance.UNSCORED).excess,
        }
        | {"relative": relative.get(cell, np.nan)}
        for cell in there
    ],
    index=pd.MultiIndex.from_tuples(there),
)
inside = np.array([cell[:2] in grid for cell in similarity.index])
ours, theirs = similarity[inside], similarity[~inside].drop(columns="relative")
out.table("similarity", ours, tables.formats(ours))
out.table("controls", theirs, tables.formats(theirs))

# %% [markdown]
# Every set at one n beside its own null; filled where all pairs of the set exceed chance, family-wise. A null around 0
# has no logarithm: the axis is linear where the nulls are and logarithmic beyond.

# %%
own = {x: f"{side}{units.place(run, x)[1]}" for side, names in zip("AB", layers, strict=True) for x in names}
ticks = {pair: label.partition(",")[0].replace(" x ", "-") for pair, label in grid.items()}
ticks |= {pair: own.get(pair[0], pair[0]) for pair in seeds.items()}
ticks |= {tuple(pair): name.replace(" ", "\n", 1) for name, pair in controls.items()}
groups = {"two models": [*grid], "another seed": [*seeds.items()]}
groups |= {"controls": [tuple(pair) for pair in controls.values()]}
groups = {group: pairs for group, pairs in groups.items() if pairs}
room = {group: 1.8 if group == "controls" else 1 for group in groups}  # its names are long
starts = dict(zip(groups, np.cumsum([0, *(room[x] * len(groups[x]) + 0.5 for x in groups)]), strict=False))
where = {pair: starts[x] + room[x] * k for x, pairs in groups.items() for k, pair in enumerate(pairs)}
looks = {SAE: ("o", report.PAIRED, -0.19), NEURONS: ("s", "#de8f05", 0.19)}
beyond = {cell for cell in family if family[cell][measure] < LEVEL}

# %%
figure, axes = plt.subplots(figsize=(5.5, 2.9))
axes.axhline(0, color=report.NULL, linewidth=0.5, zorder=0)
for kind, (marker, colour, shift) in looks.items():
    at = {x + shift: at_n.get((*pair, kind), significance.UNSCORED) for pair, x in where.items()}
    # the last bits of a null may differ between runs, and a pixel with them
    score = pd.DataFrame(at.values(), index=list(at), columns=significance.AtN._fields).round(4)
    axes.vlines(list(at), score.low, score.high, color=report.NULL, linewidth=6, alpha=0.5)
    face = [colour if (*pair, kind) in beyond else "w" for pair in where]
    axes.scatter(list(at), score.observed, s=20, marker=marker, c=face, edgecolors=colour, label=kind, zorder=2)
    for x in score.index[score.n == 0]:
        axes.text(x, 0, "too few", rotation=90, ha="center", va="center", fontsize=6, color=colour)
axes.scatter([], [], s=20, c="w", edgecolors="k", label="not above chance")

# %%
edge = np.nanmax([0.01, *(x.high for x in at_n.values())])
axes.set_yscale("symlog", linthresh=edge, linscale=0.6)
axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=10 ** np.floor(np.log10(edge)), subs=(1, 2, 5)))
axes.yaxis.set_major_formatter("{x:g}")
axes.set_ylim(top=3 * axes.get_ylim()[1])
axes.set_xticks(list(where.values()), [ticks[pair] for pair in where], fontsize=7)
axes.set(ylabel=f"similarity ({measures.measure(measure).label}), n = {n}", xlim=(-0.6, None))

# %%
for group, pairs in groups.items():
    left, place = starts[group] - 0.5 * room[group], {"transform": axes.get_xaxis_transform(), "va": "top"}
    axes.axvline(left - 0.1, color=report.NULL, linewidth=0.5)
    axes.text(left, 1, group, weight="bold", **place)
    for line, (kind, (_, colour, _)) in enumerate(looks.items()):
        count = tables.among(pairs, {pair for pair in pairs if (*pair, kind) in beyond})
        pairs_n = tables.span(sets[*pair, kind].n for pair in pairs if (*pair, kind) in sets)
        note = f"{count} above chance" + f", n {pairs_n}" * (pairs_n != "none")
        axes.text(left, 0.93 - 0.07 * line, note, color=colour, fontsize=6, **place)
axes.vlines([], 0, 0, color=report.NULL, linewidth=6, alpha=0.5, label="95% of shuffled pairings")
figure.legend(loc="outside lower center", ncols=4, fontsize=7, handletextpad=0.2)
out.figure("similarity", figure)
figure

# %%
for name, kind in {"sae": SAE, "neurons": NEURONS, "outputs": OUTPUTS}.items():
    mine = similarity[inside & (similarity.units == kind)]
    scored, beating = (set(mine.index[which]) for which in (mine.p.notna(), mine.p < LEVEL))
    out.text(f"holding {name}", tables.among_tested(list(mine.index), scored, beating))
    out.text(f"holding n {name}", tables.span(mine.n[mine.p.notna()]))
    out.number(f"excess small {name}", mine["at small n"].mean())
    if kind != OUTPUTS:
        out.number(f"excess {name}", mine["at one n"].mean())
        out.number(f"relative {name}", mine.relative.mean())
    if kind == NEURONS:
        outcome = "does not hold" if (mine.p < LEVEL).any() else "holds"
        out.text("published", outcome if mine.p.notna().any() else "cannot be told")

# %%
for short, kind in {"sae": SAE, "neurons": NEURONS}.items():
    mine = similarity[inside & (similarity.units == kind)]["at one n"]
    against = similarity[~inside & (similarity.units == kind)]["at one n"]
    seeded = np.array([cell[:2] in seeds.items() for cell in against.index], bool)
    unlike = against[~seeded].dropna()
    out.number(f"ceiling {short}", against[seeded].mean())
    out.number(f"control {short}", unlike.max())
    out.text(f"controls {short}", " and ".join(labels[cell[:2]] for cell in unlike.index) or "none")
    scored, above = (set(mine.index[x]) for x in (mine.notna() & np.isfinite(unlike.max()), mine > unlike.max()))
    out.text(f"above control {short}", tables.among_tested(list(mine.index), scored, above))
    passing = {cell for cell in mine.index if at_n.get(cell, significance.UNSCORED).p < LEVEL}
    out.text(f"at one n {short}", tables.among_tested(list(mine.index), at_n, passing))
numbers = {"small n": small, "tests": len(tested), "permutations": permutations, "enough": significance.FEWEST}
for name, value in numbers.items():
    out.number(name, value, "{:,}")

# %% [markdown]
# ## Which of the two is arranged more alike?
# The difference of the two excesses at one n, with a standard error from a jackknife over families of near rows: pairs
# whose rows have a cosine of at least `near` on either side, and so on from pair to pair, are left out together. It
# says how sure the difference is of these models and SAEs, not of others.

# %%
duels = [pair for pair in grid if (*pair, SAE) in at_n and (*pair, NEURONS) in at_n]
spread = {
    (*pair, kind): inference.excess_interval(found[*pair, kind].rows, measure, near).se
    for pair in duels
    for kind in (SAE, NEURONS)
}
difference = pd.DataFrame(
    [
        {
            "blocks": grid[pair],
            "d": found[*pair, SAE].d,
            "n": n,
            SAE: at_n[*pair, SAE].excess,
            NEURONS: at_n[*pair, NEURONS].excess,
            "difference": at_n[*pair, SAE].excess - at_n[*pair, NEURONS].excess,
            "SE": np.hypot(spread[*pair, SAE], spread[*pair, NEURONS]),
        }
        for pair in duels
    ],
    columns=["blocks", "d", "n", SAE, NEURONS, "difference", "SE"],
)

# %%
out.table("difference", difference, dict.fromkeys(difference.columns[3:], "{:.2f}"))
more, less = ({*difference.index[sign * difference.difference > 2 * difference.SE]} for sign in (1, -1))
out.text("more", tables.among(list(difference.index), more))
out.text("less", tables.among(list(difference.index), less))
out.number("near", near, "{:.1f}")
most = len(difference) / 2
verdict = "are not clearly arranged more alike than neurons, nor less"
if difference.empty:
    verdict = "cannot be compared with neurons, for want of pairs"
elif len(more) > most and not less:
    verdict = "are arranged more alike than neurons"
elif len(less) > most and not more:
    verdict = "are arranged less alike than neurons"
out.text("verdict", verdict)
difference

# %% [markdown]
# ## At equal correlation
# The pairs of one kind may be arranged more alike because they correlate more. To each pair of SAE features the pair of
# neurons is taken that has nearly the same correlation on held-out documents (nearest neighbours without replacement,
# within a caliper): two sets with one n and one r.

# %%
places = {
    pair: inference.alike_in_r(found[*pair, SAE].held_out, found[*pair, NEURONS].held_out, caliper) for pair in grid
}
alike = {
    (*pair, kind): tuple(rows[part] for rows in found[*pair, kind].rows)
    for pair, parts in places.items()
    for kind, part in zip((SAE, NEURONS), parts, strict=True)
    if len(part) >= fewest
}
equally = {
    cell: significance.test(*rows, [measure], m=permutations, seed=(seed, 1, number))
    for number, (cell, rows) in enumerate(alike.items())
}

# %%
parts = {(*pair, kind): part for pair in grid for kind, part in zip((SAE, NEURONS), places[pair], strict=True)}
equal = pd.DataFrame(
    {"blocks": grid[cell[:2]], "units": cell[2], "d": found[cell].d, "n": len(part)}
    | {"held out": tables.average(found[cell].held_out[part])}
    | tables.columns(equally.get(cell, {}).get(measure))
    for cell, part in parts.items()
)
out.table("equal", equal, tables.formats(equal))
by_kind = equal.pivot(index="blocks", columns="units", values="excess").dropna()
gain = by_kind[SAE] - by_kind[NEURONS]
out.text("more at equal r", tables.among(list(gain.index), set(gain.index[gain > 0])))
out.number("gain at equal r", gain.mean())
out.number("caliper", caliper)

# %% [markdown]
# ## Other matchings and measures
# The primary pair of layers by the primary measure and others, the published estimator among them, for mutual pairs and
# for the one-to-one pairs with the largest sum of correlations; p not corrected.

# %%
kinds = {kind: found[*primary, kind] for kind in units.KINDS}
both = {kind: units.pair(run, *primary, kind, candidates) for kind in kinds}
optimal = {kind: units.compare(x, kind, one_to_one="optimal") for kind, x in both.items()}
names = list(dict.fromkeys([measure, *secondary_measures]))
other = {
    (how, kind): those[kind]
    for how, those in {"mutual": kinds, "one-to-one": optimal}.items()
    for kind in geometric
    if those[kind].n >= max(fewest, n)
}
measured = pd.DataFrame(
    {"matching": how, "units": kind, "d": x.d, "n": x.n, "measure": name}
    | tables.columns(result)
    | {"at one n": significance.rows_at_n(x.rows, name, n, **settings).excess}
    for number, ((how, kind), x) in enumerate(other.items())
    for name, result in significance.test(*x.rows, names, m=permutations, seed=(seed, 2, number)).items()
)
out.table("measures", measured, tables.formats(measured))

# %% [markdown]
# ## Which units pair up?
# One matching for all: the units of two layers are paired if they are each other's best on the matching documents, and
# judged on the held-out ones. A neuron fires or does not, as an SAE feature does, and is paired by r; so are the output
# dimensions of the MLP, which take both signs, as published. A random direction or a principal component could as well
# point the other way. These are paired by |r|, and so are the axes of the residual stream and, once more, the output
# dimensions; the held-out r then carries the sign of the matching documents. Random directions and principal components
# are of the activations that the SAE reads, principal components of the matching documents alone.

# %%
pairing = pd.DataFrame(
    {
        "A": a,
        "B": b,
        "units": kind,
        "activations": units.KINDS[kind].activations,
        "by": "|r|" if units.KINDS[kind].either_sign else "r",
        "d": x.d,
        "of A": x.live[0],
        "of B": x.live[1],
        "n": x.n,
        "retained": x.retention,
        "chance": x.retention_by_chance,
        "r": tables.average(x.pairs.r),
        "held out": tables.average(x.held_out),
        "counterparts": x.kept(counterpart),
    }
    for (a, b, kind), x in found.items()
)
ours = pairing[[pair in grid for pair in zip(pairing.A, pairing.B, strict=True)]]

# %%
order = {"index": "units", "columns": ["A", "B"], "sort": False}
titles = {"held out": "mean held-out r of the pairs", "counterparts": "share of A with a counterpart"}
figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.3), sharey=True)
for axis, (value, title) in zip(axes, titles.items(), strict=True):
    shown = ours.pivot_table(value, **order).loc[list(units.KINDS), list(grid)]
    axis.imshow(shown, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (i, j), number in np.ndenumerate(shown.to_numpy()):
        axis.text(j, i, f"{number:.2f}", ha="center", va="center", fontsize=7, color="w" if number < 0.55 else "k")
    axis.set(title=title, xlabel="block of A x block of B", xticks=range(len(grid)), yticks=range(len(shown)))
    axis.set_xticklabels([ticks[pair] for pair in grid], fontsize=7)
    axis.set_yticklabels(shown.index)
out.figure("pairing", figure)

# %% [markdown]
# ## What chance gives
# Mutual partners exist by chance: among |A| and |B| units with independent correlations, |B| / (|A| + |B| - 1) of A's
# are in a pair, about half. Retention alone says little; what counts is whether partners correlate on other documents.
# The primary pair of layers: *null r* is the mean absolute held-out correlation of the same pairs by chance, the larger
# of two nulls: the documents of B in another order, which ignores topics, and its tokens permuted within documents,
# which ignores runs of firing. *1:1*: counterparts by the one-to-one pairs with the largest sum of correlations.

# %%
at, documents = np.flatnonzero(both[SAE].on_held_out), both[SAE].a.sites.array("documents")
unrelated = {
    kind: feature_matching.unrelated(x.a.codes, x.b.codes, kinds[kind].pairs, at, documents, m=permuted, seed=seed)
    for kind, x in both.items()
}

# %%
first = pairing[(pairing.A == primary[0]) & (pairing.B == primary[1])].drop(columns=["A", "B"])
first = first.assign(
    **{"null r": [max(tables.average(np.abs(r)) for r in unrelated[kind]) for kind in first.units]},
    **{"1:1": [optimal[kind].kept(counterpart) for kind in first.units]},
)
counts = dict.fromkeys(["of A", "of B", "n"], "{:,}")
shown = first.rename(columns={"counterparts": "counterparts, of A", "1:1": "1:1, of A"})
out.table("pairing", shown, counts | dict.fromkeys(shown.columns[7:], "{:.2f}") | {"null r": "{:.3f}"})

# %%
figure, axes = plt.subplots(figsize=(4.8, 2.4))
levels = np.linspace(0, 1, 101)
for kind, x in kinds.items():
    style = ":" if units.KINDS[kind].either_sign else "-"
    axes.plot(levels, [x.kept(r) for r in levels], style, linewidth=1.3, label=kind)
axes.axvline(counterpart, color=report.NULL, linewidth=0.6)
axes.set(xlabel="least held-out correlation", ylabel="share of live units of A", ylim=(0, None))
figure.legend(loc="outside right center")
out.figure("retention", figure)

# %%
means = ours.groupby("units").counterparts.mean()
named = {"sae": SAE, "neurons": NEURONS, "random": units.RANDOM, "principal": units.PRINCIPAL}
for name, kind in named.items():
    out.number(f"counterparts {name}", 100 * means[kind], "{:.0f}")
kept = ours.pivot_table("counterparts", index=["A", "B"], columns="units", sort=False)
out.text("sae above neurons", tables.among(list(kept.index), set(kept.index[kept[SAE] > kept[NEURONS]])))
random_above = set(kept.index[kept[units.RANDOM] >= kept[SAE]])
out.text("random above sae", tables.among(list(kept.index), random_above))
out.number("highest by chance", first["null r"].max(), "{:.3f}")
out.number("by chance", 100 * ours.chance.mean(), "{:.0f}")
out.number("permuted", permuted, "{:d}")
kept

# %% [markdown]
# ## Units by their index
# Two trainings of one architecture that began with the same weights may keep unit i as unit i, for which no correlation
# is needed. A layer of A beside that layer in another model of its shape, both ways of pairing their neurons: by index,
# and by correlation as above. *Shuffled* is the mean held-out r with a shuffled index; *own* the share of units whose
# best partner on the matching documents has their index (of pairs by correlation: the share that have one index). The
# similarity is that of output weights against a shuffled pairing, with family-wise p, and its excess at the n of the
# smaller set. Where weights began apart, an index should say nothing.

# %%
beginnings = indexed.layers(run, "04_llm_vs_sae", by_index)
layers_of = {names: indexed.pair(run, *names, candidates) for names in beginnings}
by_position = {
    names: indexed.compare(x, m=permutations, seed=(seed, 5, number))
    for number, (names, x) in enumerate(layers_of.items())
}
ways = {
    (*names, how): (x, a, b)
    for names, x in by_position.items()
    for how, (a, b) in {"index": (x.unit, x.unit), "correlation": x.mutual}.items()
}
sides = {cell: (layers_of[cell[:2]].a.decoder[a], layers_of[cell[:2]].b.decoder[b]) for cell, (_, a, b) in ways.items()}
sides = {cell: rows for cell, rows in sides.items() if len(rows[0]) >= significance.FEWEST}
geometry = {
    cell: significance.test(*rows, [measure], m=permutations, seed=(seed, 4, number))
    for number, (cell, rows) in enumerate(sides.items())
}
index_p = {cell: p[measure] for cell, p in inference.maximum_of_z(geometry).items()}
both_n = {cell: min(len(sides[key][0]) for key in sides if key[:2] == cell[:2]) for cell in sides}
index_n = {cell: significance.rows_at_n(rows, measure, both_n[cell], **settings) for cell, rows in sides.items()}

# %%
numbered = pd.DataFrame(
    {"layer of A": name, "model B": other, "paired by": how, "n": len(a)}
    | {"r": tables.average(x.r if how == "index" else x.mutual_r)}
    | {"shuffled": x.shuffled.null_mean if how == "index" else np.nan}
    | {"own": x.own if how == "index" else x.mutual_own}
    | tables.columns(geometry.get((name, other, how), {}).get(measure), index_p.get((name, other, how)))
    | {"at one n": index_n.get((name, other, how), significance.UNSCORED).excess}
    for (name, other, how), (x, a, _) in ways.items()
)
in_order = inference.maximum_of_z({names: {"r": x.shuffled} for names, x in by_position.items()})
beyond = {names for names, p in in_order.items() if p["r"] < LEVEL}
alike = {cell[:2] for cell, p in index_p.items() if cell[2] == "index" and p < LEVEL}
verdict = f"Neurons of one index correlate beyond a shuffled index in {tables.among(beginnings, beyond)} layers"
verdict += f", and their output weights are arranged alike in {tables.among(beginnings, alike)}"
if by_index:
    out.table("by index", numbered, tables.formats(numbered) | dict.fromkeys(["r", "shuffled", "own"], "{:.2f}"))
    out.text("by index verdict", verdict)
else:
    out.absent("by index", "no two models that may have begun with the same weights")
numbered

# %% [markdown]
# ## Subspaces of concepts
# A unit is about a concept if one of its words is among the strongest tokens of the unit on the matching documents. Of
# an SAE feature the top few are looked at. A neuron is said to entangle several features, so that of a neuron as many
# are looked at and, once more, as many times the expansion of the SAE (its width by the d of what it reads). The
# one-to-one pairs with the largest sum, which leave out fewest units, of which either side is about the concept are its
# subspace, tested against a pairing shuffled within it, with the family-wise p of the table. *Both*: share of them with
# both sides about it. *At one n*: subsets of the smallest n that the concept has.

# %%
top, least_n = subspaces_of["top"], subspaces_of["fewest"]
lists, sites = concepts.word_lists(subspaces_of["concepts"]), both[SAE].a.sites
spoken = pipeline.words(run, primary[0], sites)
expansion = round(np.mean([side.codes.shape[1] / side.decoder.shape[1] for side in both[SAE][:2]]))
looked = {SAE: (SAE, top), NEURONS: (NEURONS, top)}
looked |= {f"{NEURONS}, expanded": (NEURONS, top * expansion)}
heard = {
    kind: [
        concepts.evidence(side.codes, spoken, sites.array("documents"), both[SAE].on_matching, k=strongest)
        for side in both[kind][:2]
    ]
    for kind, strongest in dict(sorted(looked.values())).items()  # a rule may look at fewer than were kept
}

# %%
chosen, rows = {}, {}
for concept, listed in lists.items():
    for name, (kind, strongest) in looked.items():
        rule = concepts.Top(kind="top", top=strongest, least=1)
        masks = [concepts.about(x, concepts.word_mask(listed, x), rule) for x in heard[kind]]
        pairs = optimal[kind].pairs
        either, agreeing = (subspaces.pairs_about(pairs, *masks, sides=sides) for sides in ("either", "both"))
        chosen[concept, name] = either, agreeing
        if len(either.a) >= least_n:
            rows[concept, name] = both[kind].a.decoder[either.a], both[kind].b.decoder[either.b]
within = {
    key: significance.test(*those, [measure], m=permutations, seed=(seed, 3, number))
    for number, (key, those) in enumerate(rows.items())
}
within_family = inference.maximum_of_z(within)
least = {concept: min(len(x[0]) for key, x in rows.items() if key[0] == concept) for concept, _ in rows}

# %%
within_n = {key: significance.rows_at_n(x, measure, least[key[0]], **settings) for key, x in rows.items()}
spaces = pd.DataFrame(
    {"concept": concept, "units": name, "d": kinds[looked[name][0]].d, "top": looked[name][1], "n": len(x.a)}
    | {"both": len(agreeing.a) / max(len(x.a), 1)}
    | tables.columns(within.get((concept, name), {}).get(measure), within_family.get((concept, name), {}).get(measure))
    | {"of": least.get(concept, 0), "at one n": within_n.get((concept, name), significance.UNSCORED).excess}
    for (concept, name), (x, agreeing) in chosen.items()
)
out.table("concepts", spaces, tables.formats(spaces))

# %%
for short, name in zip(("sae", "neurons", "expanded"), looked, strict=True):
    mine = spaces[(spaces.units == name) & spaces.p.notna()]
    beat = tables.among(list(mine.index), set(mine.index[mine.p < LEVEL]))
    out.text(f"concepts {short}", beat)
    out.text(f"concepts n {short}", tables.span(mine.n))
    out.number(f"concepts both {short}", 100 * spaces[spaces.units == name].both.mean(), "{:.0f}")
out.number("concepts", len(lists), "{:d}")
out.number("concept fewest", least_n, "{:d}")
out.number("concept top", top, "{:d}")
out.number("concept expanded", top * expansion, "{:d}")

# %% [markdown]
# ## Save

# %%
out.save()
