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
# after: is the answer about their arrangement the same? And do features that are stable across seeds match more often?
#
# **In.** The codes and decoder rows of the primary pair, in every replicate, in the true and in the control arm.
# **Out.** Six matchings side by side over replicates; curves over the least correlation and over the size of hubs; the
# order of filters; two dictionaries as wholes. All of it is secondary to the primary analysis.
#
# **What would count as a no.** An answer that holds under one way of pairing only: a matching whose true arm is not
# more alike than its control by more than the threshold, or less alike than the mutual pairs by more than it.

# %% tags=["parameters"]
profile = "smoke"
candidates = 16
counterpart = 0.5
draws = 9
subsets = 3
least_r = [0.0, 0.3, 0.6]
hub_thresholds = [1, 3, 10]
strongest = [0.25, 0.5, 0.75]
bins = 3

# %%
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sae_utils import inference, matching, measures, profiles, replicates, report, tables
from sae_utils.profiles import seed
from sae_utils.studies import one_to_one

# %%
run = profiles.start(profile, "02_one_to_one")
out = report.Report(run, "02_one_to_one")
primary = run.common.primary
d = {scale: x.d for scale, x in primary.thresholds.items()}  # {} for a profile without replicates: no verdicts
cells = replicates.of(run, *primary.pair)
settings = one_to_one.Settings(primary.measure, candidates, counterpart, draws, subsets, seed(run, "matchings"))
if run.common.replicates:
    replicates.prepare(run, cells)

# %% [markdown]
# ## The matchings
# *Many-to-one* gives every feature of one side its best partner. *Mutual* keeps those that are each other's best.
# *Greedy* takes the best remaining pair until nothing remains, *optimal* the one-to-one pairs with the largest sum of
# correlations. *Soft* shares every feature out among several at the least cost (optimal transport); of it, one pair a
# feature is kept, the heaviest first. Mutual pairs of the first replicate, by hand from all correlations:

# %%
both = one_to_one.arms(run, cells[0], candidates)["true"]
a, b = (side[both.on_matching].astype(np.float64).toarray() for side in (both.a.codes, both.b.codes))
mutual = matching.mutual(both.found)
some = slice(0, 20)
by_hand = [np.corrcoef(a[:, i], b[:, j])[0, 1] for i, j in zip(mutual.a[some], mutual.b[some], strict=True)]
assert np.allclose(by_hand, mutual.r[some], atol=1e-3)
del a, b, both

# %%
found = replicates.over(
    lambda names: one_to_one.of_replicate(run, names, settings, least_r, hub_thresholds, strongest),
    cells,
    "matchings of replicates",
)

tables_of = {
    part: pd.concat([x[part].assign(replicate=number) for number, x in enumerate(found.values())])
    for part in found[cells[0]]
}

# %%
made = tables_of["matchings"]
shown = ["pairs", "of A", "of B", "r matching", "r held out", "counterparts", "in optimal", "excess"]
methods = made[made.arm == "true"].groupby("matching", sort=False)[shown].mean().reset_index()
out.table("methods", methods, {"pairs": "{:,.0f}", **dict.fromkeys(shown[1:-1], "{:.2f}"), "excess": "{:.3f}"})
out.number("counterpart threshold", counterpart, "{:.1f}")
out.number("replicates", len(cells), "{:d}")
out.number("mutual in optimal", 100 * methods.set_index("matching")["in optimal"]["mutual"], "{:.0f}")

# %% [markdown]
# ## Are the pairs arranged alike, whichever they are?
# The excess over a shuffled pairing, in the true and in the control arm. Where many share a partner, the null gives
# those that do another partner together. No score is free of n, so that all matchings of both arms are cut to the
# smallest of them in random subsets. The difference of the arms is over replicates.

# %%
at_one_n = made.pivot(index="replicate", columns=["arm", "matching"], values="at one n")
true = at_one_n["true"]
difference = true - (at_one_n["control"] if "control" in at_one_n else np.nan)  # (replicates, matchings)
gap = {name: inference.over_replicates(difference[name]) for name in one_to_one.METHODS}
beside = {name: inference.over_replicates(difference[name] - difference["mutual"]) for name in gap if name != "mutual"}
pd.DataFrame(gap, index=inference.Replicated._fields).T

# %%
words = {}
for name, x in gap.items() if d else ():
    no = "An interval below d."
    question = f"{name}: is the true arm more alike than the control?"
    words[name] = out.verdict(f"alike {name}", question, x, d["excess"], no)
for name, x in beside.items() if d else ():
    no = "An interval of either sign within d."
    question = f"{name}: does the difference of the arms depart from that of mutual pairs?"
    words["beside", name] = out.verdict(f"beside {name}", question, inference.size(x), d["excess"], no)
out.text("alike", tables.among(list(gap), {name for name in gap if words.get(name) == "yes"}))
departs = {name: [x for x in beside if words.get(("beside", x)) == name] for name in ("yes", "no")}
out.text("departing", tables.among(list(beside), departs["yes"]))
out.text("agreeing", tables.among(list(beside), departs["no"]))
out.number("smallest n", made.n.mean(), "{:,.0f}")
words

# %%
figure, axes = plt.subplots(figsize=(4.2, 2.2))
for arm, color, shift in (("true", report.PAIRED, -0.12), ("control", report.NULL, 0.12)):
    of_arm = at_one_n[arm] if arm in at_one_n else at_one_n["true"] * np.nan
    for place, name in enumerate(gap):
        x = inference.over_replicates(of_arm[name])
        axes.scatter(of_arm[name], np.full(len(of_arm), place + shift), s=6, color=color, alpha=0.4, linewidths=0)
        axes.hlines(place + shift, x.low, x.high, color=color, linewidth=2)
        axes.scatter(x.estimate, place + shift, s=22, color=color, label=f"{arm} arm" if not place else None)
axes.set(xlabel=f"excess of {measures.measure(primary.measure).label}, at one n", yticks=range(len(gap)))
axes.set_yticklabels(list(gap))
axes.invert_yaxis()
figure.legend(loc="outside lower center", ncols=2)
out.figure("geometry", figure)

# %% [markdown]
# ## Only pairs that correlate by so much
# As the least correlation on the matching documents rises, fewer pairs are kept. Are they better aligned, or only
# fewer? Lines are means over replicates, bands 95% intervals; dashed: as many optimal pairs drawn at random.

# %%
cut = tables_of["least r"]
figure, axes = plt.subplots(1, 3, figsize=(5.5, 2.4), sharex=True)
quantities = {"of A": "share of live A", "r held out": "held-out r", "excess": "excess"}
for axis, (quantity, title) in zip(axes, quantities.items(), strict=True):
    for (name, x), color in zip(cut.groupby("matching", sort=False), itertools.cycle(report.COLORS)):
        report.band(axis, x, "least r", quantity, marker="o", color=color, label=name)
    axis.set(xlabel="least r", title=title)
best = cut[cut.matching == "optimal"]
report.band(axes[2], best, "least r", "as many", linestyle="--", color=report.NULL, label="optimal, as many at random")
axes[2].axhline(0, color=report.NULL, linewidth=0.6)
figure.legend(*axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=3)
out.figure("least-r", figure)

# %%
scored = best.groupby("least r")[["excess", "as many"]].apply(lambda x: x.notna().all(axis=None))
strict = max(scored.index[scored], default=min(least_r))  # with enough pairs in every replicate
at_strict = best[best["least r"] == strict]
better = inference.over_replicates(at_strict["excess"] - at_strict["as many"])
if d:
    question = "Are the strongest optimal pairs better aligned than as many at random?"
    out.verdict("strong", question, better, d["excess"], "An interval below d.")
out.number("strictest r", strict, "{:.1f}")
out.number("strictest n", at_strict.n.mean(), "{:,.0f}")
best.groupby("least r")[["n", "excess", "as many"]].mean()

# %% [markdown]
# ## Only partners that few have chosen
# A hub that more than so many have chosen is cut from the many-to-one pairs from A to B: its best pair is kept, its
# first (the lowest feature of A, the published rule), or none.

# %%
hubs = tables_of["hubs"]
figure, axes = plt.subplots(1, 3, figsize=(5.5, 2.1))
for axis, (quantity, title) in zip(axes, quantities.items(), strict=True):
    for (keep, x), color in zip(hubs.groupby("keep", sort=False), itertools.cycle(report.COLORS)):
        labelled = x.assign(above=[f"{most:,}" if most else "uncut" for most in x.most])
        report.band(axis, labelled, "above", quantity, marker="o", color=color, label=keep)
    axis.set(xlabel="hubs above", title=title)
figure.legend(*axes[0].get_legend_handles_labels(), title="kept of a hub", loc="outside lower center", ncols=3)
out.figure("hubs", figure)
out.number("largest hub", hubs.largest.max(), "{:d}")

# %% [markdown]
# ## One-to-one first, or the strongest first?
# The many-to-one pairs from A to B are made one-to-one, and the strongest share of them is kept: in either order. Two
# rules make them one-to-one: keep the best pair of every hub, or its first. Keeping the best decides a pair by stronger
# pairs alone, so that both orders keep the same one-to-one pairs down to some correlation.

# %%
ordered = tables_of["orders"]
middle = strongest[len(strongest) // 2]
out.number("order share", 100 * middle, "{:.0f}")
for rule, x in ordered[ordered.share == middle].groupby("rule", sort=False):
    changed = inference.over_replicates(x.difference)
    out.number(f"order {rule} both", 100 * x["in both"].mean(), "{:.0f}")
    out.number(f"order {rule} n", x.n.mean(), "{:,.0f}")
    out.number(f"order {rule} reversed n", x["reversed n"].mean(), "{:,.0f}")
    if d:
        question = f"Does the order of filters change the excess, keeping the {rule} pair of a hub?"
        no = "An interval of either sign within d."
        out.verdict(f"order {rule}", question, inference.size(changed), d["excess"], no)
ordered.groupby(["rule", "share"], sort=False)[["n", "reversed n", "in both", "difference"]].mean()

# %% [markdown]
# ## Two dictionaries as wholes
# Some scores look for the best partners themselves. *Permutation Procrustes* and *soft matching* are distances between
# activations after the best matching. *MMCS* is the mean largest cosine between decoder rows, *PW-MCC* the mean cosine
# of the best one-to-one pairs; *fitted* means after an orthogonal map that was fitted on the other half of the optimal
# pairs. *IMD* compares the neighbour graphs of the rows without any pairing. *Clusters* are the connected components
# when every feature points at its best partner. Features that mutual pairs leave out are matched once more. As a
# ceiling stands another SAE of A's model in the first replicate, where the profile has one.

# %%
seeds = one_to_one.other_seeds(run, cells[0][0])
ceiling = pd.Series(np.nan, found[cells[0]]["wholes"].index)
if seeds:
    same = one_to_one.arms(run, (cells[0][0], seeds[0]), candidates)["true"]
    ceiling = ceiling.fillna(pd.Series(one_to_one.wholes(same, seed=seed(run, "wholes"))))
wholes = tables_of["wholes"].rename_axis("score").reset_index()
by_score = {score: x for score, x in wholes.groupby("score", sort=False)}

# %%
rows = []
for score, x in by_score.items():
    apart = inference.over_replicates(x.true - x.get("control", np.nan))
    control = x.control.mean() if "control" in x else np.nan
    interval = f"{apart.low:.2g} to {apart.high:.2g}"
    means = {"another SAE of A": ceiling[score], "true arm": x.true.mean(), "control arm": control}
    rows.append({"score": score, **means, "difference": apart.estimate, "interval": interval, "p": apart.p})
as_wholes = pd.DataFrame(rows)
out.table("dictionaries", as_wholes, {**dict.fromkeys(as_wholes.columns[1:5], "{:.2g}"), "p": "{:.3f}"})

# %% [markdown]
# ## Do features that are stable across seeds match across models more often?
# Other SAEs of A's model differ in their seed only. The stability of a feature is its mean held-out correlation with
# its best partner in each of them. The verdict compares the more stable half of the features with the other half, over
# the replicates of B. All of it is about one model A, that of the first replicate.

# %%
first, others = cells[0][0], [names[1] for names in cells]
pairs = [(first, other) for other in (*seeds, *others)] if seeds else []
best_r = replicates.over(lambda names: one_to_one.best_r(run, *names, candidates), pairs, "stable features")
if seeds:
    stable = np.mean([best_r[first, other] for other in seeds], axis=0)  # (features of A,)
    shares, halves = (
        np.array([one_to_one.by_stability(stable, best_r[first, other], counterpart, number) for other in others])
        for number in (bins, 2)
    )
    more = inference.over_replicates(halves[:, 1] - halves[:, 0])
    out.number("stable seeds", len(seeds), "{:d}")
    out.number("stable least", 100 * shares[:, 0].mean(), "{:.0f}")
    out.number("stable most", 100 * shares[:, -1].mean(), "{:.0f}")

# %%
if seeds and d:
    question = "Do the stable half of A's features have a counterpart in B more often?"
    out.verdict("stable", question, more, d["share"], "An interval of the difference of shares below d.", form="{:.2f}")

# %%
if seeds:
    figure, (left, right) = plt.subplots(1, 2, figsize=(5.5, 2.2))
    left.scatter(stable, best_r[first, others[0]], s=4, color=report.PAIRED, alpha=0.5, linewidths=0)
    left.axhline(counterpart, color="black", linewidth=0.6)
    left.set(xlabel="r across seeds of A's SAE", ylabel="r across models")
    long = pd.DataFrame(100 * shares).melt(var_name="bin", value_name="share")
    report.band(right, long.assign(bin=long.bin + 1), "bin", "share", marker="o", color=report.PAIRED)
    right.set(xlabel="features by stability, least first", ylabel="% with a counterpart", ylim=(0, 103))
    right.set_xticks(range(1, bins + 1))
    out.figure("stable", figure)
else:
    out.absent("stable", "no other SAE of A's model")

# %% [markdown]
# ## Save

# %%
out.save()
