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
# # Known truth
#
# **Question.** What do the measures, tests and intervals of this paper report where the truth is known because it was
# planted? Which measure should a reader choose?
#
# **In.** Planted pairs of rows: unrelated ones, always; and what the parameters name, such as copies, clusters, one
# shared direction, families of near-duplicates. The null means that the published study reports. **Out.** Raw
# score and excess of every measure by n and width; how often each test rejects, with and without a truth to be found;
# what naive nulls and a naive interval get wrong; how often the verdict over replicates is right; which estimator the
# published null means belong to.
#
# **What would count as a no.** A test that rejects what is unrelated more often than it says; a score that reports
# something where nothing is shared, also after chance was taken off; a truth that a measure does not see; a verdict
# that misses what is shared altogether, or not at all.

# %% tags=["parameters"]
profile = "smoke"
measures = ["svcca_first_component", "svcca", "cka", "cka_debiased", "rsa_pearson", "procrustes", "mutual_knn"]
only_tested = ["rsa_spearman"]
truths = {
    "noisy copy": {"kind": "copies", "shared": 0.5},
    "rotated copy": {"kind": "copies", "shared": 1.0},
    "clustered copy": {"kind": "grouped", "groups": 10, "centres": 1.0, "alike_a": 0.5, "alike_b": 0.5},
    "one direction": {"kind": "one_direction", "strength": 0.3},
}
grids = [{"d_a": 32, "d_b": 48, "n": [30, 100, 300]}, {"d_a": 16, "d_b": 24, "n": [30, 100, 300]}]
grid_repeats = {"rows": 300, "most": 3, "draws": 9}
small = {"n": 48, "d_a": 8, "d_b": 12, "draws": 19, "repeats": 20, "naive_repeats": 20, "too_often": 0.08}
weak_truths = {
    "noisy copy": {"kind": "copies", "shared": 0.3},
    "clustered copy": {"kind": "grouped", "groups": 8, "centres": 1.0, "alike_a": 0.3, "alike_b": 0.3},
    "one direction": {"kind": "one_direction", "strength": 0.3},
}
traps = {
    "shared partners": {
        "right_null": "reassigned",
        "world": {"kind": "grouped", "groups": 16, "centres": 0.0, "alike_a": 0.9, "alike_b": 1.0},
    },
    "families": {
        "right_null": "blocks",
        "world": {"kind": "grouped", "groups": 16, "centres": 0.0, "alike_a": 0.9, "alike_b": 0.9},
    },
    "confounder": {
        "right_null": "strata",
        "world": {"kind": "grouped", "groups": 3, "centres": 0.0, "alike_a": 0.7, "alike_b": 0.7},
    },
}
trapped = ["rsa_spearman", "mutual_knn"]
interval = {"measures": ["rsa_pearson", "mutual_knn"], "resamples": 39, "repeats": 5}
verdict = {
    "measure": "rsa_spearman",
    "shares": [0.25, 0.5, 0.75],
    "alike": 0.5,
    "n": 40,
    "d_a": 32,
    "d_b": 24,
    "replicates": 4,
    "repeats": 5,
    "of_ceiling": 0.15,
    "wanted": 0.8,
}

# %%
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from sae_utils import inference, profiles, report, sweep, tables
from sae_utils.inference import LEVEL
from sae_utils.measures import measure
from sae_utils.profiles import seed
from sae_utils.studies.known_truth import calibration, synthetic
from sae_utils.studies.published_tables import published

# %%
run = profiles.start(profile, "06_known_truth")
out = report.Report(run, "06_known_truth")
where = f"params/{profile}.yaml: 06_known_truth"
unrelated = {"unrelated": synthetic.UNRELATED}
planted = {**unrelated, **synthetic.worlds(truths, f"{where}.truths")}
weak = synthetic.worlds(weak_truths, f"{where}.weak_truths")
trap = synthetic.worlds({name: x["world"] for name, x in traps.items()}, f"{where}.traps")
size = calibration.Size(n=small["n"], d_a=small["d_a"], d_b=small["d_b"])
tested = list(dict.fromkeys([*measures, *only_tested]))
label = {name: measure(name).label for name in [*tested, *trapped, *interval["measures"]]}
draws, repeats, naive_repeats, too_often = (small[x] for x in ("draws", "repeats", "naive_repeats", "too_often"))

# %% [markdown]
# ## What do the measures report of a known truth?
# At several widths and many n: the raw score, and the excess over a shuffled pairing. The truth does not depend on n; a
# score that does cannot be compared between sets of different size. Small n are repeated, and the mean is shown.

# %%
cells = [
    (truth, calibration.Size(n=n, d_a=grid["d_a"], d_b=grid["d_b"]))
    for grid in grids
    for truth in planted
    for n in grid["n"]
]
times = {size: int(np.clip(grid_repeats["rows"] // size.n, 1, grid_repeats["most"])) for _, size in cells}
reported = sweep.run(
    lambda cell: calibration.estimates(
        planted[cell[0]], cell[1], measures, grid_repeats["draws"], times[cell[1]], seed(run, "planted truths")
    ),
    cells,
    "planted truths",
)

# %%
grid = pd.DataFrame(
    {"truth": truth, "d": f"{x.d_a} and {x.d_b}", "n": x.n, "measure": name, **found.meta[name]}
    for (truth, x), found in reported.items()
    for name in measures
)
widths = list(grid.d.unique())
styles = dict(zip(widths, cycle(["-o", ":", "--", "-."]), strict=False))
palette = cycle(plt.rcParams["axes.prop_cycle"].by_key()["color"])
colors = dict(zip(dict.fromkeys([*planted, *weak]), palette, strict=False))
ticks = grids[0]["n"][::2]
rows = -(-(len(measures) + 1) // 4)  # of four panels; one is the legend
out.text("wide", widths[0])
out.text("narrow", widths[-1])
out.number("least n", grid.n.min(), "{:,}")
out.number("largest n", grid.n.max(), "{:,}")
out.number("grid draws", grid_repeats["draws"], "{:d}")

# %%
for quantity in ("raw", "excess"):
    figure, axes = plt.subplots(rows, 4, figsize=(5.5, 1.6 * rows), sharex=True, sharey=True, squeeze=False)
    for axis, name in zip(axes.flat, measures, strict=False):
        for (truth, d), x in grid[grid.measure == name].groupby(["truth", "d"], sort=False):
            shown = truth if d == widths[0] else None
            axis.plot(x.n, x[quantity], styles[d], color=colors[truth], markersize=2, linewidth=1, label=shown)
        axis.set(title=label[name], xscale="log", ylim=(-0.15, 1.05))
        axis.set_xticks(ticks, [f"{x:,}" for x in ticks])
        axis.minorticks_off()
    for axis in axes.flat[len(measures) :]:
        axis.axis("off")
    axes.flat[len(measures)].legend(*axes.flat[0].get_legend_handles_labels(), loc="center")
    figure.supxlabel("n pairs", fontsize=8)
    figure.supylabel({"raw": "raw score", "excess": "excess"}[quantity], fontsize=8)
    out.figure(f"grid-{quantity}", figure)

# %% [markdown]
# The same as numbers, at the first width: what is reported where nothing is shared, and the excess of each truth, at
# the middle and the largest n. An excess is undefined where there are fewer pairs than components: its null is 1.

# %%
at = grid[grid.d == widths[0]].set_index(["truth", "measure", "n"]).sort_index()
sizes = sorted(grid[grid.d == widths[0]].n.unique())
middle, most = sizes[len(sizes) // 2], sizes[-1]
by_n = pd.DataFrame(
    {
        "measure": name,
        **{f"unrelated, raw, {n:,}": at.raw["unrelated", name, n] for n in (sizes[0], most)},
        **{f"{truth}, {n:,}": at.excess[truth, name, n] for truth in truths for n in (middle, most)},
    }
    for name in measures
)
by_n

# %% [markdown]
# The first truth of the parameters is the reference: how far does its excess move with n? Which measures report a
# larger excess of one shared direction? What the profile does not plant or does not measure is shown as n/a.

# %%
reference = next(iter(truths))
largest = at.excess["unrelated"].dropna().abs().groupby("measure").max()
spread = at.excess[reference].unstack("n")[[n for n in sizes if n >= middle]]
drift = (spread.max(axis=1) - spread.min(axis=1)).where(spread.notna().all(axis=1))
out.number("shared", truths[reference].get("shared", np.nan))
out.number("strength", 100 * truths.get("one direction", {}).get("strength", np.nan), "{:.0f}")
out.number("clusters", truths.get("clustered copy", {}).get("groups", np.nan), "{:g}")
out.number("largest excess of nothing", largest.max())
for name in ("svcca", "cka"):
    out.number(f"raw of nothing {name}", at.raw.get(("unrelated", name, middle), np.nan))
out.number("middle n", middle, "{:,}")
out.text("steadiest", label[drift.idxmin()] if drift.notna().any() else "n/a")
out.number("steadiest drift", drift.min())

# %%
excess = {
    (truth, name): at.excess.get((truth, name, most), np.nan)
    for truth in (reference, "one direction")
    for name in [*measures, "svcca", "svcca_first_component", "rsa_pearson"]
}
for name in ("svcca_first_component", "svcca", "rsa_pearson"):
    out.number(f"one direction {name}", excess["one direction", name])
    out.number(f"noisy {name}", excess[reference, name])
above = [name for name in measures if excess["one direction", name] > excess[reference, name]]
out.text("one direction above", tables.among(measures if "one direction" in truths else [], above))
as_published, right = excess[reference, "svcca_first_component"], excess[reference, "svcca"]
defined = np.isfinite([as_published, right]).all()
out.text("published verdict", ("misses" if as_published < right / 2 else "sees") if defined else "n/a")
at.excess[reference].unstack("n").loc[measures]

# %% [markdown]
# ## Do the tests keep their level, and what do they find?
# A test at 5% must reject 5% of data sets in which nothing is shared. Beside it, the share of weak truths that it
# finds. Intervals are Clopper and Pearson's, of 99%. The verdict is on the test that rejects most unrelated data sets.

# %%
battery = {**unrelated, **weak}
rejections = sweep.run(
    lambda name: calibration.rejections(battery[name], "shuffled", size, tested, draws, repeats, seed(run, "rates")),
    battery,
    "level and power",
)
rates = {
    (truth, name): calibration.rate(found.meta[name], repeats) for truth, found in rejections.items() for name in tested
}

# %%
out.number("small n", size.n, "{:d}")
out.text("small width", f"{size.d_a} and {size.d_b}")
out.number("repeats", repeats, "{:,}")
out.number("draws", draws, "{:d}")
for name in ("rsa_spearman", "svcca", "svcca_first_component"):
    for truth in ("noisy copy", "clustered copy"):
        found = rates.get((truth, name))
        out.number(f"power {truth} {name}", 100 * found.share if found else np.nan, "{:.0f}")
rejected = max(rejections["unrelated"].meta[name] for name in tested)
most_often = calibration.rate(rejected, repeats, level=1 - LEVEL).interval(repeats)
question, no = "Does a test reject unrelated rows too often?", "Even the test that rejects most rejects less than d."
out.verdict("level", question, most_often, too_often, no)
out.number("too often", 100 * too_often, "{:.0f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(5.5, 0.9 + 0.175 * len(tested)), sharey=True, width_ratios=[1, 1.6])
names = [label[name] for name in tested]
level = np.array([rates["unrelated", name] for name in tested]) * 100
axes[0].hlines(names, level[:, 1], level[:, 2], color=report.NULL, linewidth=4, label="99% interval")
axes[0].scatter(level[:, 0], names, s=14, color=report.PAIRED, zorder=2)
axes[0].axvline(100 * LEVEL, color="black", linewidth=0.6)
axes[0].set(xlabel="% rejected, unrelated", xlim=(0, None))
for truth, marker in zip(weak, cycle("osDv^P"), strict=False):
    shares = [100 * rates[truth, name].share for name in tested]
    axes[1].scatter(shares, names, s=18, marker=marker, color=colors[truth], label=truth)
axes[1].set(xlabel="% rejected, something is shared", xlim=(-3, 103))
axes[0].invert_yaxis()
figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
out.figure("tests", figure)

# %% [markdown]
# ## Which measure?
# One row a measure. *Level*: share of unrelated data sets that its test rejects. Then the share of each weak truth that
# it finds. *Of nothing*: the largest excess, either way, that it reports of unrelated rows at any n. *Excess*, *drift*:
# of the reference at the largest n, and how far it moves from the middle n on, both at the first width.

# %%
choice = pd.DataFrame(
    {
        "measure": label[name],
        "scope": measure(name).scope,
        "level": f"{100 * rates['unrelated', name].share:.1f}",
        **{truth: f"{100 * rates[truth, name].share:.0f}" for truth in weak},
        "of nothing": f"{largest[name]:.2f}" if name in largest else "",
        "excess": f"{excess[reference, name]:.2f}" if name in measures else "",
        "drift": f"{drift[name]:.2f}" if np.isfinite(drift.get(name, np.nan)) else "",
    }
    for name in tested
)
out.table("choice", choice)

# %% [markdown]
# ## Where a naive null fails
# Geometry is unrelated in every trap, but pairs are not exchangeable. *Shared partners*: features of A that chose one
# partner are alike. *Families*: near-duplicates lie together on both sides. *Confounder*: both sides are placed by one
# label. Shuffling the pairs tears apart what belongs together; beside it the null that does not.

# %%
checks = [(name, null) for name in traps for null in dict.fromkeys(["shuffled", traps[name]["right_null"]])]
times = {check: naive_repeats if check[1] == "shuffled" else repeats for check in checks}
counts = sweep.run(
    lambda x: calibration.rejections(trap[x[0]], x[1], size, trapped, draws, times[x], seed(run, "traps")),
    checks,
    "naive and right nulls",
)
trap_rates = {
    (*check, name): calibration.rate(counts[check].meta[name], times[check]) for check in checks for name in trapped
}

# %%
nulls_table = pd.DataFrame(
    {
        "world": name,
        "measure": label[measured],
        "% by shuffling": f"{100 * trap_rates[name, 'shuffled', measured].share:.1f}",
        "right null": x["right_null"],
        "% by it": f"{100 * (rate := trap_rates[name, x['right_null'], measured]).share:.1f}",
        "99% interval": f"{100 * rate.low:.1f} to {100 * rate.high:.1f}",
    }
    for name, x in traps.items()
    for measured in trapped
)
out.table("nulls", nulls_table)

# %%
naive = {(name, measured): trap_rates[name, "shuffled", measured] for name in traps for measured in trapped}
right = {(name, measured): trap_rates[name, traps[name]["right_null"], measured] for name, measured in naive}
failing = {key for key, x in naive.items() if inference.verdict(x.low, x.high, too_often) == "yes"}
keeping = {key for key, x in right.items() if inference.verdict(x.low, x.high, too_often) == "no"}
shares = {kind: [100 * x.share for x in found.values()] for kind, found in (("naive", naive), ("right", right))}
out.text("naive verdict", tables.among(list(naive), failing))
out.text("right verdict", tables.among(list(right), keeping))
out.number("naive least", min(shares["naive"], default=np.nan), "{:.0f}")
out.number("naive largest", max(shares["naive"], default=np.nan), "{:.0f}")
out.number("right largest", max(shares["right"], default=np.nan), "{:.1f}")
out.number("naive repeats", naive_repeats, "{:,}")

# %%
figure, axes = plt.subplots(figsize=(4.2, 0.8 + 0.2 * len(naive)))
rows = [f"{name}, {label[measured]}" for name, measured in naive]
for found, color, shown in ((naive, report.NULL, "pairs shuffled"), (right, report.PAIRED, "the null that fits")):
    percent = 100 * np.array(list(found.values())).reshape(-1, 3)
    axes.hlines(rows, percent[:, 1], percent[:, 2], color=color, linewidth=3)
    axes.scatter(percent[:, 0], rows, s=16, color=color, label=shown, zorder=2)
axes.axvline(100 * LEVEL, color="black", linewidth=0.6)
axes.set(xlabel="% of unrelated worlds rejected", xlim=(0, 103))
axes.invert_yaxis()
figure.legend(loc="outside lower center", ncols=2)
out.figure("nulls", figure)

# %% [markdown]
# A confounder, whose null shuffles within strata, can also be held fixed in the score: the partial correlation of
# dissimilarities is an effect size without a p. The text reports the first one.

# %%
strata = [name for name, x in traps.items() if x["right_null"] == "strata"]
partial = pd.DataFrame(
    {name: calibration.confounded(trap[name], size, naive_repeats, seed(run, "confounded")).meta for name in strata},
    index=["rsa", "rsa_sd", "partial", "partial_sd"],
)
first = partial[strata[0]] if strata else pd.Series(np.nan, partial.index)
for name, value in first.items():
    out.number(f"confounded {name}", value)
vanishes = abs(first.partial) < abs(first.rsa) / 5
out.text("partial verdict", ("vanishes" if vanishes else "remains in part") if strata else "n/a")
partial

# %% [markdown]
# ## Where a naive interval fails
# A bootstrap draws pairs with replacement. A pair drawn twice is its own nearest neighbour on both sides, and is
# reported as shared geometry. Deleting one family at a time duplicates nothing. How often does a 95% interval of the
# excess hold the true value, and where do the resamples lie? Shown for unrelated rows and the first weak truth.

# %%
interval_truths = dict([*unrelated.items(), *list(weak.items())[:1]])
coverage = sweep.run(
    lambda truth: calibration.coverage(
        interval_truths[truth],
        size,
        interval["measures"],
        interval["resamples"],
        interval["repeats"],
        seed(run, "intervals"),
    ),
    interval_truths,
    "intervals",
)
kinds = "bootstrap", "jackknife"
held = {
    (truth, name, kind): calibration.rate(found.meta[name][kind], interval["repeats"])
    for truth, found in coverage.items()
    for name in interval["measures"]
    for kind in kinds
}

# %%
intervals_table = pd.DataFrame(
    {
        "truth": truth,
        "measure": label[name],
        "excess": found.meta[name]["truth"],
        "of resamples": found.meta[name]["resampled"],
        **{
            f"{kind}, %": "{:.0f} ({:.0f} to {:.0f})".format(*100 * np.array(held[truth, name, kind])) for kind in kinds
        },
    }
    for truth, found in coverage.items()
    for name in interval["measures"]
)
out.table("intervals", intervals_table, {"excess": "{:.3f}", "of resamples": "{:.3f}"})

# %%
for kind in kinds:
    shares = [x.share for key, x in held.items() if key[2] == kind]
    out.number(f"{kind} least", 100 * min(shares), "{:.0f}")
    out.number(f"{kind} most", 100 * max(shares), "{:.0f}")
out.number("interval repeats", interval["repeats"], "{:,}")
out.number("resamples", interval["resamples"], "{:d}")
holding = {key for key, x in held.items() if key[2] == "jackknife" and x.high >= 0.95}
out.text("jackknife verdict", tables.among([key for key in held if key[2] == "jackknife"], holding))

# %% [markdown]
# ## Is the verdict right?
# Replicates of a planted world: a share of the pairs are noisy copies, the others unrelated. In the control arm the
# same rows are paired at random. The verdict is on the mean difference of both arms over replicates, with a threshold
# $d$ that is a given part of the difference where all pairs are copies. First one interval by hand.

# %%
shares = sorted({0.0, *verdict["shares"], 1.0})
recipe = {"kind": "partly_copied", "shared": verdict["alike"]}
partly = synthetic.worlds({f"{share:g}": recipe | {"share": share} for share in shares}, f"{where}.verdict")
of_verdict = calibration.Size(n=verdict["n"], d_a=verdict["d_a"], d_b=verdict["d_b"])
runs = verdict["replicates"], verdict["repeats"]
made = sweep.run(
    lambda share: calibration.differences(
        partly[f"{share:g}"], of_verdict, verdict["measure"], *runs, seed(run, "verdicts")
    ),
    shares,
    "verdicts",
)
differences = {share: np.array(found.meta["values"]) for share, found in made.items()}  # (repeats, replicates)

# %%
x = differences[1.0][0]
half = stats.t.ppf(1 - LEVEL / 2, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5
replicated = inference.over_replicates(x)
assert np.allclose([x.mean() - half, x.mean() + half], [replicated.low, replicated.high])
replicated

# %% [markdown]
# How often it says what. The lines are the shares of repeats, the dotted ones what the noncentral t distribution
# expects of the mean and spread of the differences: it gives the power of any verdict, also the primary one.

# %%
d = verdict["of_ceiling"] * differences[1.0].mean()
words = ["yes", "undetermined", "no"]
said = pd.DataFrame(0.0, index=shares, columns=words)
for share, values in differences.items():
    for found in map(inference.over_replicates, values):
        said.loc[share, inference.verdict(found.low, found.high, d)] += 1 / len(values)
spread = {share: values.std(axis=1, ddof=1).mean() for share, values in differences.items()}
expected = pd.DataFrame(
    [inference.chances(x.mean(), spread[share], d, runs[0]) for share, x in differences.items()], index=shares
)
pd.concat({"found": said, "expected": expected}, axis=1)

# %%
figure, axes = plt.subplots(figsize=(4.2, 2.2))
for word, marker, color in zip(words, "osD", (report.PAIRED, report.NULL, "#de8f05"), strict=True):
    axes.plot(said.index, 100 * said[word], marker=marker, markersize=3, linewidth=1, color=color, label=word)
    axes.plot(expected.index, 100 * expected[word], linestyle=":", linewidth=1, color=color)
axes.axhline(100 * verdict["wanted"], color="black", linewidth=0.6)
axes.set(xlabel="planted share of pairs that are copies", ylabel="% of repeats", ylim=(-3, 103))
figure.legend(loc="outside lower center", ncols=3)
out.figure("verdicts", figure)

# %%
for name, share, word in (("all shared", 1.0, "yes"), ("nothing shared", 0.0, "no")):
    right_word = calibration.rate(round(said[word][share] * runs[1]), runs[1], level=1 - LEVEL)
    question = f"Is the verdict mostly \u201c{word}\u201d with {name}?"
    no = "The whole interval of the share of repeats lies below d."
    out.verdict(name, question, right_word.interval(runs[1]), verdict["wanted"], no, form="{:.2f}")
told = inference.detectable(spread[1.0], d, runs[0])
out.number("verdict d", d, "{:.3f}")
out.number(
    "verdict ceiling", differences[1.0].mean(), "{:.3f}", se=differences[1.0].std() / differences[1.0].size ** 0.5
)
out.number("verdict spread", spread[1.0], "{:.3f}")
out.number("told yes", told.yes, "{:.3f}")
out.number("told no", told.no, "{:.3f}")
for name in ("n", "replicates", "repeats"):
    out.number(f"verdict {name}", verdict[name], "{:d}")

# %% [markdown]
# ## Which estimator do the published null means belong to?
# The study reports under the name of SVCCA, beside every score, the mean of shuffled pairings. The mean |r| of one
# component is sqrt(2 / (pi n)). Beside it, the null means of both estimators on unrelated rows as wide as the published
# models' (hundreds of components, where the corrected one keeps 99% of the variance).

# %%
null_means = published.checks(published.layer_scores()).query("score == 'SVCCA'")
null_means = null_means.assign(ratio=null_means["null mean"] / null_means.expected)
ratio = null_means.groupby("set", sort=False).ratio
off = abs(ratio.mean() - 1) / (ratio.std() / ratio.size() ** 0.5)
out.number("svcca null", at.null.get(("unrelated", "svcca", most), np.nan))
out.text("published null verdict", tables.among(list(off.index), set(off.index[off < 2.6])))
pd.DataFrame(
    {"pairs of layers": ratio.size(), "median": ratio.median(), "mean": ratio.mean(), "standard errors off": off}
)

# %%
figure, axes = plt.subplots(figsize=(5.5, 2.3))
n = np.geomspace(null_means.n.min(), null_means.n.max(), 100)
low, high = (stats.halfnorm.ppf(q) / n**0.5 for q in (0.025, 0.975))
axes.fill_between(n, low, high, color=report.NULL, alpha=0.3, linewidth=0, label="95% of one shuffle")
axes.plot(n, np.sqrt(2 / np.pi / n), color="black", linewidth=1, label=r"one component, $\sqrt{2/(\pi n)}$")
for name, style in (("svcca_first_component", "k+"), ("svcca", "k--x")):
    null = [at.null.get(("unrelated", name, x), np.nan) for x in sizes]
    axes.plot(sizes, null, style, linewidth=1, label=f"planted, {measure(name).label}")
for (name, x), marker in zip(null_means.groupby("set", sort=False), cycle("o^sDv"), strict=False):
    axes.scatter(x.n, x["null mean"], s=6, marker=marker, linewidths=0, label=name)
axes.set(xscale="log", yscale="log", ylim=(3e-4, 1.3), xlabel="n pairs", ylabel="null mean")
figure.legend(loc="outside right center", fontsize=6.5, labelspacing=0.9)
out.figure("published", figure)

# %%
out.save()
