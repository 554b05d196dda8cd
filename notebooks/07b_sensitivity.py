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
# # Sensitivity
#
# **Question.** Does the answer of the primary analysis depend on its choices: measure, matching, thresholds, number of
# pairs, SAEs? And what does the share of features with a counterpart measure?
#
# **In.** The replicates of both models with their SAEs, read on text and on exchanged words; further SAEs. **Out.** The
# difference D between the true and the control arm by every choice, over replicates; the share with a counterpart as a
# curve, beside a planted truth; partners that are judged on other topics.
#
# **What would count as a no.** A choice that turns the verdict; a share that reads the planted truth at every noise;
# partners that fail on topics which did not choose them.

# %% tags=["parameters"]
profile = "smoke"
alternatives = {
    "measure": ["rsa_pearson", "cka_debiased", "mutual_knn_3", "mutual_knn"],
    "matching": ["mutual", "greedy"],
    "least_r": [0.1, 0.3],
    "minimum_firings": [5, 50],
    "n": [10, 12],
}
other_dictionaries = {
    "half the width": ["two_layer_narrow", "three_layer_narrow"],
    "half the k": ["two_layer_k12", "three_layer_k12"],
}
crossed = [{"matching": "mutual", "least_r": 0.3}, {"matching": "mutual", "measure": "mutual_knn"}]
subsets = 2
counterpart = 0.5
planted = {"shared": 0.37, "noise": [0.2, 0.45, 0.65], "features": 100, "tokens": 8000}

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from sae_utils import inference, pipeline, profiles, replicates, report, sweep, tables
from sae_utils.engine.text import corpora
from sae_utils.engine.text.stories import TOPICS
from sae_utils.profiles import seed
from sae_utils.studies import feature_matching
from sae_utils.studies.sensitivity import choices, readings

# %%
run = profiles.start(profile, "07b_sensitivity")
out = report.Report(run, "07b_sensitivity")
out.needs(run.common.replicates, "no replicates of its models")
primary, d = run.common.primary, run.common.primary.thresholds["excess"].d
sets = {"": primary.pair, **other_dictionaries}
pairs = {name: replicates.of(run, *pair) for name, pair in sets.items()}
base = choices.Choice(measure=primary.measure)
replicates.prepare(run, [names for of in pairs.values() for names in of])

# %% [markdown]
# ## One choice by hand
# The primary choice, in the first replicate, with A's features as choosers. Content features of A that fire often
# enough are matched one-to-one to features of B, by the largest total correlation. In the *true arm* both models read
# the same text. In the *control arm* B reads that text with its words exchanged where A reads it as it is, and the
# reverse. First the correlations of both arms, of a few features.

# %%
sides = replicates.sides(run, pairs[""][0])
first = readings.views(sides)[0]
x, y = ([block[:, :40].toarray() for block in side.blocks["matching"]] for side in sides)
with np.errstate(invalid="ignore"):
    true = np.corrcoef(np.vstack(x).T, np.vstack(y).T)[:40, 40:]
    control = np.corrcoef(np.vstack(x).T, np.vstack(y[::-1]).T)[:40, 40:]
np.testing.assert_allclose(first.r[:, :40, :40], [true, control], atol=1e-6)

# %% [markdown]
# Then the score of either arm: the Spearman correlation of the dissimilarities 1 - r of all decoder rows. Its null mean
# over shuffled pairings is 0, so that it is its own excess.

# %%
takes_part = np.flatnonzero(first.content & (first.firings >= base.minimum_firings))
scores = []
for r in first.r:
    live = np.flatnonzero(np.isfinite(r).any(axis=0))
    i, j = linear_sum_assignment(r[np.ix_(takes_part, live)], maximize=True)
    x, y = np.corrcoef(first.rows[takes_part[i]]), np.corrcoef(first.others[live[j]])
    above = np.triu_indices(len(i), 1)
    scores.append(np.corrcoef(rankdata(x[above]), rankdata(y[above]))[0, 1])
spearman = base.model_copy(update={"measure": "rsa_spearman"})
library = choices.differences([first], [spearman], subsets=subsets, seed=seed(run, "subsets"))[spearman]
np.testing.assert_allclose(scores, [library.true, library.control], atol=1e-6)
both_roles = choices.differences(readings.views(sides), [base], subsets=subsets, seed=seed(run, "subsets"))[base]
arms = replicates.arms(run, pairs[""][0], [primary.measure])
np.testing.assert_allclose(both_roles.value, arms.difference(primary.measure))
library

# %% [markdown]
# ## Every choice
# One choice differs from the primary analysis at a time; a few specifications differ in two. All of them use the same
# correlations of a replicate. Both arms always have one number of pairs.

# %%
where = f"params/{profile}.yaml: 07b_sensitivity"
specifications = choices.specifications(base, alternatives | {"dictionaries": list(other_dictionaries)}, crossed, where)
asked = {name: [x.choice for x in specifications if x.choice.dictionaries == name] for name in sets}
cells = [(name, number) for name in sets for number in range(len(pairs[name]))]
thresholds = np.append(np.linspace(0, 0.95, 20), counterpart)
groups = [range(start, len(TOPICS), 2) for start in (0, 1)]
sites = pipeline.features(run, pairs[""][0][0]).sites
topics = readings.topics_of(sites, corpora.text(run.corpus).array("topic"))
measured = sweep.run(
    lambda cell: readings.measure(
        replicates.sides(run, pairs[cell[0]][cell[1]]), asked[cell[0]], thresholds, topics, groups,
        subsets=subsets, seed=seed(run, "subsets"),
    ),
    cells,
    "specifications",
)  # fmt: skip

# %%
by_choice = {
    x: [measured[cell].differences[x.choice] for cell in cells if cell[0] == x.choice.dictionaries]
    for x in specifications
}
over = {x: inference.over_replicates([difference.value for difference in of]) for x, of in by_choice.items()}
verdicts = {x: inference.verdict(found.low, found.high, d) if found.n else "too few" for x, found in over.items()}
specified = pd.DataFrame(
    {"choice": x.label, "pairs": np.mean([difference.n for difference in by_choice[x]]), "replicates": found.n,
     "true": inference.over_replicates([difference.true for difference in by_choice[x]]).estimate, "D": found.estimate,
     "low": found.low, "high": found.high, "p": found.p, "verdict": verdicts[x]}
    for x, found in over.items()
)  # fmt: skip
forms = {"pairs": "{:.0f}", "p": "{:.3f}", **dict.fromkeys(["true", "D", "low", "high"], "{:.2f}")}
out.table("specifications", specified, forms)

# %%
tested = [x for x in specifications if over[x].n]
for word in ("yes", "no", "undetermined"):
    out.text(f"verdicts {word}", tables.among(tested, [x for x in tested if verdicts[x] == word]))
out.number("specifications", len(specifications), "{:d}")
out.number("least", np.nanmin(specified.D))
out.number("largest", np.nanmax(specified.D))
out.number("d", d)
pd.Series(verdicts.values()).value_counts()

# %% [markdown]
# The specification curve: D and its 95% interval over replicates, the primary analysis on top and as a band; dashed,
# the threshold d. On the right, the pairs of each arm and the verdict.

# %%
figure, axes = plt.subplots(figsize=(5.4, 0.17 * len(over) + 0.7))
main = over[specifications[0]]
axes.axvspan(main.low, main.high, color=report.PAIRED, alpha=0.12, linewidth=0)
axes.axvline(0, color=report.NULL, linewidth=0.6)
axes.axvline(d, color=report.NULL, linewidth=0.8, linestyle="--")
for y, (x, found) in enumerate(over.items()):
    color = report.PAIRED if x == specifications[0] else "black"
    axes.hlines(y, found.low, found.high, color=color, linewidth=1)
    axes.plot(found.estimate, y, "D" if x == specifications[0] else "o", color=color, markersize=3.5)
    note = f"{specified.pairs[y]:.0f}  {verdicts[x]}"
    axes.text(1.02, y, note, transform=axes.get_yaxis_transform(), va="center", fontsize=7)
axes.set_yticks(range(len(over)), specified.choice, fontsize=7)
axes.set(ylim=(len(over) - 0.4, -0.6), xlabel="D: excess of the true arm - excess of the control arm")
out.figure("curve", figure)

# %% [markdown]
# ## What does the share with a counterpart read?
# A feature has a counterpart if its best partner on the documents that choose reaches a correlation on the documents
# that judge. In a planted world, a known share of the features is in both sides. Only the noise of their activations
# differs; how large is the share that is read?

# %%
read_shares, n = {}, planted["features"]
for noise in planted["noise"]:
    x, y = feature_matching.planted_share(
        planted["shared"], noise, features=n, tokens=planted["tokens"], seed=seed(run, "planted")
    )
    parts = np.array_split(np.arange(len(x)), 2)
    choose, judge = (np.corrcoef(x[part].T, y[part].T)[:n, n:] for part in parts)
    read_shares[noise] = feature_matching.share(judge, feature_matching.best(choose), thresholds)
at_counterpart = [f"{shares[-1]:.2f}" for shares in read_shares.values()]
out.text("planted shares", ", ".join(at_counterpart))
out.text("planted noise", ", ".join(f"{noise:.2f}" for noise in planted["noise"]))
out.number("planted truth", planted["shared"])
out.number("counterpart", counterpart, "{:.1f}")
dict(zip(planted["noise"], at_counterpart, strict=True))

# %% [markdown]
# So the share is a reading of threshold and noise, not a count of what is shared. In the replicates it is therefore
# drawn as a curve, for all live features and for the content features alone: in the true arm, in the control arm, and
# with the partner that fires most nearly as often. Both roles, and both parts of the documents as choosers, are
# averaged.

# %%
replicated = [measured["", number].shares for number in range(len(pairs[""]))]  # (features, arms, thresholds) each
curves = [
    [[inference.over_replicates(values) for values in of_arm.T] for of_arm in of_features]
    for of_features in np.array(replicated).transpose(1, 2, 0, 3)
]
for of_features, name in zip(curves, ("all", "content"), strict=True):
    for of_arm, arm in zip(of_features, ("true", "control", "by rate"), strict=True):
        out.number(f"share {name} {arm}", 100 * of_arm[-1].estimate, "{:.0f}", se=100 * of_arm[-1].se)
    for end in ("low", "high"):
        out.number(f"share {name} {end}", 100 * getattr(of_features[0][-1], end), "{:.0f}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(6.4, 2.5), sharey=True)
for noise, shares in read_shares.items():
    axes[0].plot(thresholds[:-1], shares[:-1], label=f"noise {noise:.2f}")
axes[0].axhline(planted["shared"], color=report.NULL, linestyle="--", linewidth=0.8)
for axis, of_features in zip(axes[1:], curves, strict=True):
    for of_arm, color, arm in zip(of_features, (report.PAIRED, "C1", report.NULL), readings.SHARES, strict=True):
        mean, low, high = ([getattr(x, end) for x in of_arm[:-1]] for end in ("estimate", "low", "high"))
        axis.fill_between(thresholds[:-1], low, high, color=color, alpha=0.25, linewidth=0)
        axis.plot(thresholds[:-1], mean, color=color, label=arm)
for axis, title in zip(axes, ("planted (dashed: the truth)", "all live features", "content features"), strict=True):
    axis.set(xlabel="$r_0$, judging correlation", title=title, ylim=(-0.02, 1.02))
axes[0].set(ylabel="share with a counterpart")
axes[0].legend()
figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
out.figure("share", figure)

# %% [markdown]
# ## Do partners hold on other topics?
# Documents of every second topic choose the best partners; other documents judge them, once those of the same topics
# and once those of the other topics.

# %%
values = np.array([list(measured["", number].topics.values()) for number in range(len(replicated))])
values = np.concatenate(
    [values, values[:, :1] - values[:, 1:]], axis=1
)  # (replicates, same, other, difference; r, share)
judged = [[inference.over_replicates(x) for x in of.T] for of in values.transpose(1, 0, 2)]
apart = pd.DataFrame(
    {"judged on": name} | {
        what + end: getattr(x, field)
        for what, x in zip(("r", "share"), of, strict=True)
        for end, field in (("", "estimate"), (" low", "low"), (" high", "high"))
    }
    for name, of in zip(("the same topics", "other topics", "difference"), judged, strict=True)
)  # fmt: skip
out.table("topics", apart, dict.fromkeys(apart.columns[1:], "{:.2f}"))

# %%
out.verdict(
    "topics",
    "Is the share with a counterpart smaller on topics that did not choose the partners?",
    judged[2][1],
    primary.thresholds["share"].d,
    "it falls by less than d",
)

# %% [markdown]
# ## Save

# %%
out.save()
