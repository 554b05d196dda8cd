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
# # Published tables
#
# **Question.** What do the published scores say once their null, their p and their procedure are looked at; and which
# step of the procedure changes what?
#
# **In.** The published scores of every pair of layers (numbers, no models). The replicates of this profile's primary
# pair on a few rows of text, and planted pairs whose truth is known. **Out.** What the published nulls and p could say;
# a ladder from the published procedure to this paper's, one correction a step, for A with B and for a control; our
# numbers beside the published ones where the profile holds the models.
#
# **What would count as a no.** Published null means that are not those of one component; p that their draws could give;
# a step at which A and B exceed their control by less than the threshold, over replicates; a ladder that finds
# something where nothing was planted.

# %% tags=["parameters"]
profile = "smoke"
negative = ""
positions = 10_000
few = 30
draws = 20
permutations = 99
tokens = [".", "\\n", "␣", "''", "'", "-", ",", "!", "?", "<|endoftext|>", "<bos>", "<pad>"]
top = 5
least_r = 0.1
fvu_rows = 32
truths = {
    "shared": {"kind": "copies", "shared": 0.8},
    "one direction": {"kind": "one_direction", "strength": 0.3},
}
sizes = {
    "concepts": 80,
    "kept": 0.75,
    "words": 160,
    "expressed": 3,
    "documents": 40,
    "length": 40,
    "d_a": 16,
    "d_b": 24,
}
repeats = 3
published_layers = {}

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sae_utils import inference, pipeline, profiles, replicates, report, tables
from sae_utils.engine.core import spec
from sae_utils.engine.lms import models
from sae_utils.inference import LEVEL
from sae_utils.profiles import seed
from sae_utils.studies.known_truth import calibration, synthetic
from sae_utils.studies.published_tables import arms, ladder, planted, published, views

# %%
run = profiles.start(profile, "12_published_tables")
out = report.Report(run, "12_published_tables")
where = f"params/{profile}.yaml: 12_published_tables"
scores = published.layer_scores()
settings = ladder.Settings(
    tokens=tokens, top=top, least_r=least_r, draws=draws, permutations=permutations, seed=seed(run, "ladder")
)
worlds = {**synthetic.worlds(truths, f"{where}.truths"), "nothing": synthetic.UNRELATED}
size = spec.build(planted.Sizes, sizes, f"{where}.sizes")

# %% [markdown]
# ## What can be checked without the models: null means
# The mean |r| of one pair of components over shuffled pairings is sqrt(2 / (pi n)); a mean over hundreds of components
# would lie far above. RSA has the null mean 0. How do the published null means compare, pair of layers by pair of
# layers?

# %%
checks = published.checks(scores)
svcca, rsa = (checks[checks.score == name] for name in ("SVCCA", "RSA"))
ratio = svcca["null mean"] / svcca.expected
out.number("cells", len(svcca), "{:d}")
out.number("null ratio", ratio.median())
out.number("null ratio mean", ratio.mean())
out.number("null ratio se", ratio.std() / len(ratio) ** 0.5)

# %%
out.number("rsa cells", len(rsa), "{:d}")
out.number("rsa null mean", rsa["null mean"].mean(), "{:.4f}")
out.number("rsa null most", abs(rsa["null mean"][rsa.n >= few]).max(), "{:.3f}")
out.number("rsa null most few", abs(rsa["null mean"][rsa.n < few]).max())
out.number("few", few, "{:d}")
out.number("few cells", (svcca.n < few).sum(), "{:d}")
out.number("few n", svcca.n[svcca.n < few].max(), "{:d}")
one_component = abs(ratio.mean() - 1) < 2.6 * ratio.std() / len(ratio) ** 0.5
out.text("null verdict", "are those of one component" if one_component else "are not those of one component")

# %% [markdown]
# ## What can be checked without the models: p
# A share of m draws can only be a multiple of 1/m, and counting the observed pairing among the draws, no p is below
# 1/(m + 1). How many draws are behind the published p, by their multiples, and by how far the null means scatter?

# %%
by_set = pd.DataFrame(
    {
        "set": name,
        "cells": len(x) // x.score.nunique(),
        "n from": x.n.min(),
        "n to": x.n.max(),
        "p = 0": f"{(x.p == 0).sum()} of {len(x)}",
        "draws, by p": published.draws_by_p(x.p),
        "by scatter": published.draws_by_scatter((x["null mean"] / x.expected)[x.score == "SVCCA"]),
        "p at best": 1 / (published.draws_by_p(x.p) + 1),
    }
    for name, x in checks.groupby("set", sort=False)
)
out.table("sets", by_set, {"n from": "{:,}", "n to": "{:,}", "by scatter": "{:.1f}", "p at best": "{:.3f}"})

# %%
out.number("zero p", (checks.p == 0).sum(), "{:d}")
out.number("all p", len(checks), "{:d}")
out.number("best p", by_set["p at best"].min(), "{:.3f}")
out.number("worst p", by_set["p at best"].max(), "{:.1f}")
single = svcca["set"].isin(by_set["set"][by_set["draws, by p"] == 1])
explained = (svcca["null mean"] >= svcca.published) == (svcca.p == 1)
out.number("single cells", single.sum(), "{:d}")
out.number("single explained", explained[single].sum(), "{:d}")
able = by_set["set"][by_set["p at best"] < LEVEL]
out.text("p verdict", tables.among(list(by_set["set"]), set(able)))
out.text("family verdict", "some" if any(by_set["p at best"] * by_set.cells < LEVEL) else "none")

# %% [markdown]
# The p that more draws would have given: of two given components, whose correlation over all pairings has mean 0 and
# variance 1/(n - 1). For the one-to-one pairs only, since a shuffle of pairs that share partners tests something else.

# %%
one_to_one = svcca[svcca["set"].str.contains("one-to-one")]
p = published.p_of_one_component(one_to_one.published, one_to_one.n)
out.number("one cells", len(p), "{:d}")
out.number("one above", (p < LEVEL).sum(), "{:d}")
out.number("one above family", (p * len(p) < LEVEL).sum(), "{:d}")
order = published.filter_order(scores)
out.number("order cells", len(order), "{:d}")
out.number("order fewer", (order.kept < order.partners).sum(), "{:d}")
out.number("order more", (order.kept > order.partners).sum(), "{:d}")

# %% [markdown]
# ## The ladder, on this profile's models
# The first step is the published procedure: it looks at every position, also at padding; SAEs read the input of the
# block whose output they were trained on; features are taken before TopK; filters by token come first, then of the
# features that share a partner the first is kept, then pairs below the least r are dropped; SVCCA is of the first
# components; there are few shuffles. Each step corrects one thing and keeps all corrections before it.
#
# In the control B reads the stories with words of equal frequency exchanged, as a model would that was trained where
# these words had changed places (or `negative` takes the place of B). Both arms hold the same texts and the same
# features. Everything is a mean over replicates.

# %%
names = replicates.of(run, *run.common.primary.pair, *([negative] if negative else []))
climbed = replicates.over(lambda x: arms.ladders(run, x, positions, settings), names, "ladders")
climbs = arms.frame(list(climbed.values()))
given = run.common.primary.thresholds.get("excess")
d = given.d if given else 0.0

# %% [markdown]
# The gap is the excess over the null in A with B, less that in the control. *hub*: the most features of B that chose
# one feature of A, before the filters; *unique*: features of A that were chosen, a choice.

# %%
by_step = arms.summary(climbs, d)
forms = dict.fromkeys(["n", "n, control", "hub"], "{:.0f}") | dict.fromkeys(["unique", *by_step.columns[5:]], "{:.2f}")
out.table("ladder", by_step, {**forms, "step": "{}"})

# %%
first = names[0][:2]
rows = pipeline.reader(run, first[0]).rows
looked = views.Texts.of([rows] if negative else [rows, rows], positions, run.common.skip).positions
out.number("documents", looked[0].meta["documents"], "{:,}")
out.number("positions", sum(x.meta["tokens"] for x in looked), "{:,}")
out.number("outside", 100 * (1 - looked[0].array("inside").mean()), "{:.0f}")
for side, name in zip("ab", first, strict=True):
    source = pipeline.reader(run, name)
    fvu = source.locate(fvu_rows).meta["fvu"]
    out.number(f"fvu {side}", fvu[source.hook])
    out.number(f"fvu {side} input", fvu[models.block_input(source.hook)])

# %%
out.number("replicates", len(names), "{:d}")
out.number("published draws", draws, "{:d}")
out.number("permutations", permutations, "{:,}")
out.number("several", ladder.SEVERAL, "{:d}")
unfiltered = climbs[(climbs.step == ladder.CODES) & (climbs.arm == arms.TRUE) & (climbs.score == "RSA")]
hub, unique = (inference.over_replicates(unfiltered[part].to_numpy(float)) for part in ("hub", "unique"))
out.number("hub", hub.estimate, "{:.0f}", hub.se)
out.number("unique", 100 * unique.estimate, "{:.0f}", 100 * unique.se)

# %% [markdown]
# How often is p below `LEVEL`, over the replicates of each arm, by the p that the step reports?

# %%
for name, arm in (("true", arms.TRUE), ("control", arms.CONTROL)):
    for step, score in ((ladder.PUBLISHED, "SVCCA"), (ladder.PUBLISHED, "RSA"), (ladder.ALL, "RSA")):
        below, scored = arms.significant(climbs, arm, step, score)
        out.text(f"{name} {score} {step}", f"{below} of {scored}" if scored else "none (too few pairs)")

# %%
asked = {
    "foot svcca": (ladder.PUBLISHED, "SVCCA", "by the published procedure and its SVCCA"),
    "foot rsa": (ladder.PUBLISHED, "RSA", "by the published procedure and RSA"),
    "head rsa": (ladder.EXCESS, "RSA", "with all corrections, filters kept"),
    "all rsa": (ladder.ALL, "RSA", "with all corrections and without filters"),
}
gaps = {score: arms.gaps(climbs, score) for score in arms.SCORES}
for name, (step, score, how) in asked.items():
    question = f"Are pairs of A and B more alike than those of the control, {how}?"
    out.verdict(
        name, question, gaps[score][step], d, "A gap below d: the step finds as much where words are exchanged."
    )

# %% [markdown]
# ## The ladder, on planted pairs
# Here directions, features and partners of two models were planted, so that the share of true pairs is known, and
# whether partners are arranged alike: as `truths` says, or not at all (*nothing*).

# %%
drawn = {name: planted.draw(world, size, top, seed(run, name)) for name, world in worlds.items()}
ladders = {name: ladder.rungs(x.sides, settings) for name, x in drawn.items()}
true = {name: {x.step: drawn[name].true(x.pairs) for x in ladders[name]} for name in drawn}

# %%
pd.concat({name: ladder.table(ladders[name], true.get(name)) for name in ladders})

# %% [markdown]
# The figure has the means over replicates with their 95% intervals, for both arms and for the gap of the excess; and
# one draw of each planted pair, beside 95% of its shuffled pairings.

# %%
titles = [arms.TRUE, arms.CONTROL, "gap", *ladders]
figure, axes = plt.subplots(1, len(titles), figsize=(1.05 * len(titles), 3.2), sharex=True, sharey=True)
figure.set_layout_engine("constrained", rect=(0, 0, 0.98, 1))  # a PDF's letters are wider than a PNG's
place = np.arange(len(ladder.STEPS))
for axis, name in zip(axes, titles, strict=True):
    axis.tick_params(left=axis is axes[0])
    axis.axvline(0, color=report.NULL, linewidth=0.5, zorder=0)
    axis.barh(place[1::2], 2.2, left=-0.6, height=1, color="#f2f2f2", zorder=-1)
    axis.set_title(f"planted:\n{name}" if name in ladders else name.replace(" and ", "\nand "), fontsize=7.5)

# %%
counts = climbs[climbs.score == "RSA"].groupby(["arm", "step"]).n.mean()
written = {arm: [f"{counts[arm, step]:.0f}" for step in ladder.STEPS] for arm in (arms.TRUE, arms.CONTROL)}
written |= {name: [f"{len(x.pairs):,}" for x in rungs] for name, rungs in ladders.items()}
for axis, name in zip(axes, titles, strict=True):
    right = [f"{100 * true[name][step]:.0f}%" for step in ladder.STEPS] if name in true else [""] * len(place)
    left = ["n", *written[name]] if name in written else ["", *[""] * len(place)]
    for x, texts in ((1.24, left), (1.66, ["true" if name in true else "", *right])):
        for height, text in zip([-1, *place], texts, strict=True):
            axis.text(x, height, text, transform=axis.get_yaxis_transform(), fontsize=6, ha="right", va="center")

# %%
marks = {ladder.FIRST: ("o", report.PAIRED, -0.18), ladder.SVCCA: ("D", report.PAIRED, -0.18)}
marks[ladder.RSA] = ("s", "#de8f05", 0.18)
named = {ladder.FIRST: "SVCCA as published", ladder.SVCCA: "SVCCA, 99% of variance", ladder.RSA: "RSA"}
for axis, rungs in zip(axes[3:], ladders.values(), strict=True):
    for measure, (marker, colour, shift) in marks.items():
        at = [number for number, x in enumerate(rungs) if measure in x.scores]
        found = [rungs[number].scores[measure] for number in at]
        # rounded: the last bits of a null may differ between runs
        low, high, value = (np.round([getattr(x, part) for x in found], 4) for part in ("low", "high", "value"))
        axis.hlines(place[at] + shift, low, high, color=report.NULL, linewidth=3.5, alpha=0.6)
        face = [colour if x.p < LEVEL else "w" for x in found]
        axis.scatter(value, place[at] + shift, s=12, marker=marker, c=face, edgecolors=colour, linewidths=0.8, zorder=2)

# %%
for number, (step, procedure) in enumerate(ladder.LADDER.items()):
    for score in arms.SCORES:
        marker, colour, shift = marks[ladder.RSA if score == "RSA" else procedure.svcca]
        shown = arms.means(climbs, step, score) | {"gap": gaps[score][step]}
        for axis, name in zip(axes, titles[:3], strict=False):
            x = shown[name]
            axis.hlines(number + shift, x.low, x.high, color=colour, linewidth=1)
            axis.scatter(x.estimate, number + shift, s=12, marker=marker, c=colour, zorder=2)
axes[2].axvspan(-d, d, color=report.NULL, alpha=0.3, linewidth=0)

# %%
axes[0].set_yticks(place, [f"{step}  {number}" for number, step in enumerate(ladder.STEPS)])
axes[0].set(ylim=(len(place) - 0.5, -1.5), xlim=(-0.4, 1.1), xticks=[0, 1])
for measure, (marker, colour, _) in marks.items():
    axes[-1].scatter([], [], s=12, marker=marker, c=colour, label=named[measure])
axes[-1].scatter([], [], s=12, c="w", edgecolors="k", linewidths=0.8, label=f"hollow: p not below {LEVEL:g}")
axes[-1].hlines([], 0, 0, color=report.NULL, linewidth=3.5, alpha=0.6, label="95% of shuffled pairings; in gap: d")
axes[len(axes) // 2].set_xlabel("similarity; from step 8 on, and in gap, its excess over chance")
figure.legend(loc="outside lower center", ncols=3, fontsize=7, handletextpad=0.3)
out.figure("ladder", figure)

# %% [markdown]
# One draw of a planted pair could be luck. In how many draws of a pair that shares nothing is p below `LEVEL`, by the p
# that each step reports?

# %%
again = planted.repeated(worlds["nothing"], size, settings, repeats).meta["found"]
rates = pd.DataFrame(
    {"": name, **{step: f"{n} of {m}" if m else "too few pairs" for step, (n, m) in by_step.items()}}
    for name, by_step in again.items()
)
out.table("rates", rates)

# %%
for step in (ladder.PUBLISHED, ladder.HOOK, ladder.CODES, ladder.ALL):
    below, times = again["RSA"][step]
    out.number(f"false rsa {step}", below, "{:d}")
    out.number(f"scored rsa {step}", times, "{:d}")
    often = times > 0 and calibration.rate(below, times).low > LEVEL
    out.text(f"false rsa {step} verdict", "more than p allows" if often else "within what p allows")

# %% [markdown]
# ## What the ladder says of planted pairs
# A truth that the profile does not plant is shown as n/a.

# %%
for step in (ladder.PUBLISHED, ladder.HOOK, ladder.ONE):
    out.number(f"shared true {step}", 100 * true.get("shared", {}).get(step, np.nan), "{:.0f}")
one = {x.step: x.scores for x in ladders.get("one direction", [])}
out.text("one direction says foot", ladder.conclusion(one[ladder.PUBLISHED].get(ladder.FIRST)) if one else "n/a")
for name, measure in (("svcca", ladder.SVCCA), ("rsa", ladder.RSA)):
    found = one.get(ladder.EXCESS, {}).get(measure)
    out.number(f"one direction {name} excess", found.value if found else np.nan)
out.number("repeats", repeats, "{:d}")
out.number("shared", truths.get("shared", {}).get("shared", np.nan))
out.number("strength", 100 * truths.get("one direction", {}).get("strength", np.nan), "{:.0f}")

# %% [markdown]
# ## Published cells beside ours
# Where the profile names dictionaries that are the published ones (`published_layers`: published model, layer, name of
# the dictionary), the published procedure is run on them, cell by cell.

# %%
cells = published.cells(scores, published_layers, run.dictionaries, f"{where}.published_layers")
beside = published.compare(scores, ladder.cells(run, cells, positions, settings))
out.text("cells verdict", published.verdict(beside))
if len(beside):
    shown = dict.fromkeys(["published", "ours", "median apart"], "{:.4g}")
    out.table("cells", published.agreement(beside), {**shown, "r": "{:.2f}"})
beside

# %% [markdown]
# ## Save

# %%
out.save()
