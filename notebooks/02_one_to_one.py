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
# # One to one
#
# **Question.** Does it matter how features are paired? Many-to-one or one-to-one, greedy or optimal, filtered before or
# after: is the answer about their arrangement the same?
#
# **In.** The codes and decoder rows of the primary pair of dictionaries. **Out.** Six matchings side by side, each
# against the null that fits it; curves over the least correlation and over the size of hubs; the order of filters.
# All of it is secondary to the primary analysis.
#
# **What would count as a no.** An answer that holds under one way of pairing only; a difference between ways that is a
# difference in the number of pairs.

# %% tags=["parameters"]
profile = "smoke"
candidates = 16
counterpart = 0.5
permutations = 199
curve_draws = 19
subsets = 3
least_r = [0.0, 0.3, 0.6, 0.9]
hub_thresholds = [1, 10, 100, 1000]
strongest = [0.25, 0.5, 0.75]
null_draws = 9
seed = 0

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sae_utils import filters, inference, matching, measures, pipeline, profiles, report, significance, tables
from sae_utils.studies import one_to_one

# %%
run = profiles.start(profile, "02_one_to_one")
out = report.Report(run, "02_one_to_one")
primary = run.common.primary
a, b = (pipeline.features(run, name) for name in run.pair)
both = pipeline.correlated(a, b, candidates)
found = both.found
live_a, live_b = found.live

# %% [markdown]
# ## The matchings
# *Many-to-one* gives every feature of one side its best partner. *Mutual* keeps those that are each other's best.
# *Greedy* takes the best remaining pair until nothing remains, *optimal* the one-to-one pairs with the largest sum of
# correlations, with a proof for the full matrix. *Soft* shares every feature out among several at the least cost
# (optimal transport). The seconds are of this run and enter nothing that is saved.

# %%
methods = {
    "many-to-one, A to B": lambda: matching.many_to_one(found, "a_to_b"),
    "many-to-one, B to A": lambda: matching.many_to_one(found, "b_to_a"),
    "mutual": lambda: matching.mutual(found),
    "greedy": lambda: matching.greedy(found),
    "optimal": lambda: matching.optimal(found),
    "soft": lambda: matching.soft(found),
}
made = {}
for name, match in methods.items():
    begun = time.perf_counter()
    made[name] = match()
    print(f"{name}: {time.perf_counter() - begun:.3f} s")

# %%
optimal, soft = made["optimal"], made["soft"]
pairs = made
weights = dict.fromkeys(pairs) | {"soft": soft.weight}
held_out = {name: both.held_out(p) for name, p in pairs.items()}
out.number("live a", live_a, "{:,}")
out.number("live b", live_b, "{:,}")
out.text("certificate", "is certified" if optimal.proof.certified else "could not be certified")
out.number("primal", optimal.proof.primal, "{:.2f}")
out.number("greedy of optimal", 100 * pairs["greedy"].r.sum(dtype=np.float64) / optimal.proof.primal, "{:.1f}")

# %%
reaching = {name: np.nan_to_num(r) >= counterpart for name, r in held_out.items()}
sides = pd.DataFrame(
    {
        "matching": name,
        "pairs": len(p.a),
        "of A": len(np.unique(p.a)) / live_a,
        "of B": len(np.unique(p.b)) / live_b,
        "r matching": tables.average(p.r, weights[name]),
        "r held out": tables.average(held_out[name], weights[name]),
        "counterparts, of pairs": tables.average(reaching[name].astype(float), weights[name]),
    }
    for name, p in pairs.items()
)
out.table("methods", sides, {"pairs": "{:,}", **dict.fromkeys(sides.columns[2:], "{:.2f}")})

# %%
forward, mutual = pairs["many-to-one, A to B"], pairs["mutual"]
out.number("counterpart threshold", counterpart, "{:.1f}")
out.number("mutual in optimal", 100 * len(matching.common(mutual, optimal)) / len(mutual.a), "{:.0f}")
for name in ("greedy", "optimal"):
    p = pairs[name]
    out.number(f"r beyond mutual {name}", tables.average(np.delete(p.r, matching.common(p, mutual))))
out.number("greedy in optimal", 100 * len(matching.common(pairs["greedy"], optimal)) / len(optimal), "{:.0f}")

# %% [markdown]
# ## Are the pairs arranged alike, whichever they are?
# Each set of pairs against the null that fits it. One-to-one pairs are shuffled. Where many share a partner, those that
# do are given another partner together, which makes p too small where *hub size* goes with geometry. Of the soft
# matching one pair a feature is scored, the heaviest first. No score is free of n, so that every set is scored again on
# random subsets of the size of the smallest. Family-wise p by Holm.

# %%
scored = pairs | {"soft": soft.heaviest()}
rows = a.decoder, b.decoder
results = {
    name: significance.test_pairs(p, *rows, primary.measure, m=permutations, seed=(seed, number))
    for number, (name, p) in enumerate(scored.items())
}
family_wise = inference.holm([x.p for x in results.values()], m=permutations)

# %%
smallest = min(len(p.a) for p in scored.values())
alike_n = {
    name: significance.pairs_at_n(p, *rows, primary.measure, smallest, subsets=subsets, m=curve_draws, seed=seed)
    for name, p in scored.items()
}

# %%
geometry = pd.DataFrame(
    {
        "matching": name + (" (primary)" if name == primary.matching else ""),
        "n": x.n,
        "observed": x.observed,
        "null": x.null_mean,
        "null SD": x.null_sd,
        "excess": x.excess,
        "at one n": alike_n[name].excess,
        "z": x.z,
        "p": x.p,
        "Holm": p,
        "hub size": tables.hub_size(x),
    }
    for (name, x), p in zip(results.items(), family_wise, strict=True)
)
shown = dict.fromkeys(["observed", "null", "null SD", "excess", "at one n"], "{:.3f}")
out.table("geometry", geometry, {"n": "{:,}", **shown, "z": "{:.1f}", "p": "{:.3f}", "Holm": "{:.3f}"})

# %%
figure, axes = plt.subplots(figsize=(4.2, 2.2))
low, high = np.array([np.quantile(x.draws, [0.025, 0.975]) for x in results.values()]).T
axes.hlines(list(results), low, high, color=report.NULL, linewidth=6, label="95% of the null that fits")
axes.scatter([x.observed for x in results.values()], list(results), s=18, color=report.PAIRED, label="paired", zorder=2)
axes.set(xlabel=f"{measures.measure(primary.measure).label} of decoder rows")
axes.invert_yaxis()
figure.legend(loc="outside lower center", ncols=2)
out.figure("geometry", figure)

# %%
holding = {name for name, p in zip(results, family_wise, strict=True) if p < 0.05 and results[name].excess > 0}
excesses = [x.excess for x in alike_n.values()]
out.number("smallest n", smallest, "{:,}")
out.number("least excess at one n", np.nanmin(excesses))
out.number("largest excess at one n", np.nanmax(excesses))
out.number("permutations", permutations, "{:,}")
out.number("subsets", subsets, "{:d}")
out.number("curve draws", curve_draws, "{:d}")
defined = {name for name, x in results.items() if not x.undefined}
out.text("holding", tables.among_tested(list(results), defined, holding))
verdict = "does not depend" if len(holding) in (0, len(defined)) else "depends"
out.text("verdict", verdict if len(defined) > 1 else "cannot be shown to depend, for want of pairs,")
holding

# %% [markdown]
# ## Only pairs that correlate by so much
# As the least correlation on the matching documents rises, fewer pairs are kept. Are they better aligned, or only
# fewer? Dashed: as many pairs of the optimal matching drawn at random.

# %%
cut = {(name, r): filters.weak(p, r) for name, p in scored.items() for r in least_r}
curves = pd.DataFrame(
    {
        "matching": name,
        "least r": r,
        "n": len(p.a),
        "of A": len(np.unique(p.a)) / live_a,
        "r held out": tables.average(held_out[name][matching.common(pairs[name], p)]),
        "excess": significance.test_pairs(p, *rows, primary.measure, m=curve_draws, seed=seed).excess,
    }
    for (name, r), p in cut.items()
)

# %%
best = scored["optimal"]
at_random = {
    r: significance.pairs_at_n(best, *rows, primary.measure, len(p.a), subsets=subsets, m=curve_draws, seed=seed)
    for (name, r), p in cut.items()
    if name == "optimal" and significance.enough(p)
}
mean, sd = (np.array([getattr(x, field) for x in at_random.values()]) for field in ("excess", "excess_sd"))

# %%
figure, axes = plt.subplots(1, 3, figsize=(5.5, 2.4), sharex=True)
quantities = {"of A": "share of live A", "r held out": "held-out r", "excess": "excess"}
for axis, (quantity, title) in zip(axes, quantities.items(), strict=True):
    for name, x in curves.groupby("matching", sort=False):
        axis.plot(x["least r"], x[quantity], marker="o", markersize=2, linewidth=1, label=name)
    axis.set(xlabel="least r", title=title)
axes[2].fill_between(list(at_random), mean - sd, mean + sd, color=report.NULL, alpha=0.3, linewidth=0)
axes[2].plot(list(at_random), mean, color=report.NULL, linestyle="--", label="optimal, as many at random")
axes[2].axhline(0, color=report.NULL, linewidth=0.6)
figure.legend(*axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=3)
out.figure("least-r", figure)

# %%
by_r = curves[curves.matching == "optimal"].set_index("least r")
strict = max(at_random, default=min(least_r))  # without any, that cut is not scored
as_many = at_random.get(strict, significance.UNSCORED)
out.number("strictest r", strict, "{:.1f}")
out.number("strictest n", by_r.n[strict], "{:,}")
out.number("strictest excess", by_r.excess[strict])
out.number("strictest at random", as_many.excess)
out.number("strictest at random sd", as_many.excess_sd)
gained = by_r.excess[strict] > as_many.excess + 2 * as_many.excess_sd
out.text("least r verdict", "are better aligned" if gained else "are not clearly better aligned")
curves.pivot(index="least r", columns="matching", values="n")

# %% [markdown]
# ## Only partners that few have chosen
# A hub that more than so many have chosen is cut from the many-to-one pairs from A to B: its best pair is kept, its
# first (the lowest feature of A, the published rule), or none.

# %%
r_forward = held_out["many-to-one, A to B"]
hub_pairs = {
    (keep, most): filters.hubs(forward, most, keep=keep) if most else forward
    for keep in ("best", "first", "none")
    for most in (*hub_thresholds, 0)
}
uncut = results["many-to-one, A to B"]
hub_scores = {
    key: significance.test_pairs(p, *rows, primary.measure, m=permutations, seed=seed)
    if len(p.a) < len(forward.a)
    else uncut
    for key, p in hub_pairs.items()
    if significance.enough(p)
}

# %%
hubs = pd.DataFrame(
    {
        "hubs above": f"{most:,}" if most else "none cut",
        "n": x.n,
        "largest": np.bincount(hub_pairs[keep, most].b).max(),
        "r held out": tables.average(r_forward[matching.common(forward, hub_pairs[keep, most])]),
        **tables.columns(x),
        "hub size": tables.hub_size(x),
    }
    for (keep, most), x in hub_scores.items()
    if keep == "best"
)
shown = dict.fromkeys(["observed", "null", "null SD", "excess"], "{:.3f}")
out.table("hubs", hubs, {"n": "{:,}", "r held out": "{:.2f}", **shown, "z": "{:.1f}", "p": "{:.3f}"})

# %%
cuts = pd.DataFrame(
    {
        "keep": keep,
        "hubs above": f"{most:,}" if most else "none cut",
        "of A": len(p.a) / live_a,
        "r held out": tables.average(r_forward[matching.common(forward, p)]),
        "excess": hub_scores[keep, most].excess if (keep, most) in hub_scores else np.nan,
    }
    for (keep, most), p in hub_pairs.items()
)
out.number("largest hub", np.bincount(forward.b).max(), "{:d}")
out.number("published rule n", len(filters.hubs(forward, 1, keep="first")), "{:,}")
cuts.pivot(index="hubs above", columns="keep", values="excess")

# %%
figure, axes = plt.subplots(1, 3, figsize=(5.5, 2.1))
for axis, (quantity, title) in zip(axes, quantities.items(), strict=True):
    for style, (keep, x) in zip(("-o", "--s", ":^"), cuts.groupby("keep", sort=False), strict=True):
        axis.plot(x["hubs above"], x[quantity], style, markersize=3, linewidth=1, label=keep)
    axis.set(xlabel="hubs above", title=title)
    axis.tick_params(axis="x", rotation=45)
figure.legend(*axes[0].get_legend_handles_labels(), title="kept of a hub", loc="outside lower center", ncols=3)
out.figure("hubs", figure)

# %% [markdown]
# ## One-to-one first, or the strongest first?
# The many-to-one pairs from A to B are made one-to-one, and the strongest share of them is kept: in either order. Two
# rules make them one-to-one: keep the best pair of every hub, or its first.

# %%
rules = {"best": [("one_to_one", {})], "first": [("hubs", {"more_than": 1, "keep": "first"})]}
orders = {
    (rule, share, first): filters.apply(forward, [*one, cut_to] if first == "one-to-one" else [cut_to, *one])[0]
    for rule, one in rules.items()
    for share in strongest
    for cut_to in [("strongest", {"share": share})]
    for first in ("one-to-one", "strongest")
}
other = {"one-to-one": "strongest", "strongest": "one-to-one"}
shared = {(x, y, first): len(matching.common(p, orders[x, y, other[first]])) for (x, y, first), p in orders.items()}

# %%
settings = {"m": permutations, "seed": seed}
scores = {key: significance.test_pairs(p, *rows, primary.measure, **settings) for key, p in orders.items()}
ordered = pd.DataFrame(
    {
        "hub keeps": rule,
        "share": share,
        "first": first,
        "n": len(p.a),
        "in both": shared[rule, share, first],
        "least r": p.r.min(),
        "r held out": tables.average(r_forward[matching.common(forward, p)]),
        "null": x.null_mean,
        "null SD": x.null_sd,
        "excess": x.excess,
        "p": x.p,
    }
    for ((rule, share, first), p), x in zip(orders.items(), scores.values(), strict=True)
)
columns = dict.fromkeys(["share", "least r", "r held out"], "{:.2f}")
scores_shown = dict.fromkeys(["null", "null SD", "excess", "p"], "{:.3f}")
out.table("orders", ordered, {"n": "{:,}", "in both": "{:,}", **columns, **scores_shown})

# %% [markdown]
# Why they differ. Keeping the best pair of every hub decides a pair by stronger pairs alone. Both orders therefore keep
# the same one-to-one pairs down to some correlation, and differ only in how far down: a share of all pairs is not the
# same cut as that share of the one-to-one pairs, since the pairs of hubs are not spread evenly over correlations.
# Keeping the first pair of a hub decides by the order of storage, and the two orders keep different pairs.

# %%
nested = {
    rule: all(
        shared[rule, share, "strongest"] == min(len(orders[rule, share, first].a) for first in other)
        for share in strongest
    )
    for rule in rules
}
for rule, holds in nested.items():
    out.text(f"order {rule} verdict", "the smaller set is part of the larger" if holds else "neither holds the other")
nested

# %%
middle = strongest[len(strongest) // 2]
top = filters.strongest(forward, middle)
out.number("order share", 100 * middle, "{:.0f}")
out.number("unique among all", 100 * len(np.unique(forward.b)) / len(forward.a), "{:.0f}")
out.number("unique among strongest", 100 * len(np.unique(top.b)) / len(top.a), "{:.0f}")
out.number("order first both", shared["first", middle, "strongest"], "{:,}")
for first in other:
    out.number(f"order best {first} r", orders["best", middle, first].r.min())
    for rule in rules:
        out.number(f"order {rule} {first} n", len(orders[rule, middle, first].a), "{:,}")

# %% [markdown]
# ## Two dictionaries as wholes
# Some scores look for the best partners themselves. *Permutation Procrustes* and *soft matching* are distances between
# activations after the best matching. *MMCS* is the mean largest cosine between decoder rows, *PW-MCC* the mean cosine
# of the best one-to-one pairs; *fitted* means after an orthogonal map that was fitted on the other half of the optimal
# pairs. *IMD* compares the neighbour graphs of the rows without any pairing. *Clusters* are the connected components
# when every feature points at its best partner. Features that mutual pairs leave out are matched once more.
#
# Shuffling features changes none of these scores, so that each null breaks something else, which the table names. As a
# ceiling stands another SAE of A's model, which differs in its seed only, where the profile has one.

# %%
others = {"another SAE of A": one_to_one.another_seed(run, run.pair[0]), "primary": run.pair[1]}
dictionaries = {}
for label, other in others.items():
    if other:
        beside = pipeline.correlated(a, pipeline.features(run, other), candidates)
        same = label != "primary"
        dictionaries[label] = one_to_one.compare(beside, one_space=same, m=null_draws, seed=seed)

# %%
parts = [one_to_one.table(scores).assign(pair=label) for label, scores in dictionaries.items()]
as_wholes = pd.concat(parts)[["pair", "score", "n", "observed", "null", "null SD", "p", "null is"]]
shown = {"n": "{:,}", "p": "{:.2f}", **dict.fromkeys(["observed", "null", "null SD"], "{:.2g}")}
out.table("dictionaries", as_wholes, shown)
out.number("null draws", null_draws, "{:d}")
tested = as_wholes[(as_wholes.pair == "primary") & as_wholes.p.notna()]
beyond = set(tested.score[tested.p <= 1 / (null_draws + 1)])
out.text("dictionaries beyond", tables.among(list(tested.score), beyond))
as_wholes

# %% [markdown]
# ## Save

# %%
out.save()
