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
# **In.** Planted pairs of rows: unrelated ones, noisy and rotated copies, clusters, one shared direction, families of
# near-duplicates, shared partners, a confounder. The null means that the published study reports. **Out.** Raw
# score and excess of every measure by n and width; how often each test rejects, with and without a truth to be found;
# what naive nulls and a naive interval get wrong; which estimator the published null means belong to.
#
# **What would count as a no.** A test that rejects what is unrelated more often than it says; a score that reports
# something where nothing is shared, also after chance was taken off; a truth that a measure does not see.

# %% tags=["parameters"]
profile = "smoke"
measures = ["svcca_first_component", "svcca", "cka", "cka_debiased", "rsa_pearson", "procrustes", "mutual_knn"]
only_tested = ["rsa_spearman"]
truths = {
    "unrelated": {"kind": "copies", "shared": 0.0},
    "noisy copy": {"kind": "copies", "shared": 0.5},
    "rotated copy": {"kind": "copies", "shared": 1.0},
    "clustered copy": {"kind": "grouped", "groups": 10, "centres": 1.0, "alike_a": 0.5, "alike_b": 0.5},
    "one direction": {"kind": "one_direction", "strength": 0.3},
}
grids = [{"d_a": 32, "d_b": 48, "n": [30, 100, 300]}, {"d_a": 16, "d_b": 24, "n": [30, 100, 300]}]
grid_repeats = {"rows": 300, "most": 3, "draws": 9}
small = {"n": 48, "d_a": 8, "d_b": 12, "draws": 19, "repeats": 20, "naive_repeats": 20}
weak_truths = {
    "noisy copy": {"kind": "copies", "shared": 0.3},
    "clustered copy": {"kind": "grouped", "groups": 8, "centres": 1.0, "alike_a": 0.3, "alike_b": 0.3},
    "one direction": {"kind": "one_direction", "strength": 0.3},
}
traps = {
    "shared partners": {"kind": "grouped", "groups": 16, "centres": 0.0, "alike_a": 0.9, "alike_b": 1.0},
    "families": {"kind": "grouped", "groups": 16, "centres": 0.0, "alike_a": 0.9, "alike_b": 0.9},
    "confounder": {"kind": "grouped", "groups": 3, "centres": 0.0, "alike_a": 0.7, "alike_b": 0.7},
}
right_nulls = {"shared partners": "reassigned", "families": "blocks", "confounder": "strata"}
trapped = ["rsa_spearman", "mutual_knn"]
interval = {"measures": ["rsa_pearson", "mutual_knn"], "resamples": 39, "repeats": 5}
seed = 0

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from sae_utils import profiles, report, sweep, tables
from sae_utils.measures import measure
from sae_utils.studies.known_truth import calibration, synthetic
from sae_utils.studies.published_tables import published

# %%
run = profiles.start(profile, "06_known_truth")
out = report.Report(run, "06_known_truth")
where = f"params/{profile}.yaml: 06_known_truth"
planted = synthetic.worlds(truths, f"{where}.truths")
weak = synthetic.worlds(weak_truths, f"{where}.weak_truths")
trap = synthetic.worlds(traps, f"{where}.traps")
size, tested = (small["n"], small["d_a"], small["d_b"]), [*measures, *only_tested]
draws, repeats, naive_repeats = small["draws"], small["repeats"], small["naive_repeats"]
grid_draws, intervals_of, interval_repeats = grid_repeats["draws"], interval["measures"], interval["repeats"]

# %% [markdown]
# ## What do the measures report of a known truth?
# At two widths and many n: the raw score, and the excess over a shuffled pairing. The truth does not depend on n; a
# score that does cannot be compared between sets of different size. Small n are repeated, and the mean is shown.

# %%
cells = [
    (truth, n, grid["d_a"], grid["d_b"], int(np.clip(grid_repeats["rows"] // n, 1, grid_repeats["most"])))
    for grid in grids
    for truth in truths
    for n in grid["n"]
]
reported = sweep.sweep(
    lambda cell: calibration.estimated(planted[cell[0]], *cell[1:4], measures, grid_draws, cell[4], seed),
    cells,
    "planted truths",
)

# %%
grid = pd.DataFrame(
    {"truth": truth, "d": f"{d_a} and {d_b}", "n": n, "measure": name, **found.meta[name]}
    for (truth, n, d_a, d_b, _), found in reported.items()
    for name in measures
)
wide, narrow = (f"{x['d_a']} and {x['d_b']}" for x in grids)
colors = dict(zip(truths, plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
styles, ticks = {wide: "-o", narrow: ":"}, grids[0]["n"][::2]
out.text("wide", wide)
out.text("narrow", narrow)
out.number("least n", grid.n.min(), "{:,}")
out.number("largest n", grid.n.max(), "{:,}")
out.number("grid draws", grid_draws, "{:d}")
out.number("shared", truths["noisy copy"]["shared"])
out.number("strength", 100 * truths["one direction"]["strength"], "{:.0f}")
out.number("clusters", truths["clustered copy"]["groups"], "{:d}")

# %%
for quantity in ("raw", "excess"):
    figure, axes = plt.subplots(2, 4, figsize=(5.5, 3.2), sharex=True, sharey=True)
    for axis, name in zip(axes.flat, measures, strict=False):
        for (truth, d), x in grid[grid.measure == name].groupby(["truth", "d"], sort=False):
            label = truth if d == wide else None
            axis.plot(x.n, x[quantity], styles[d], color=colors[truth], markersize=2, linewidth=1, label=label)
        axis.set(title=name.replace("_", " "), xscale="log", ylim=(-0.15, 1.05))
        axis.set_xticks(ticks, [f"{x:,}" for x in ticks])
        axis.minorticks_off()
    axes.flat[7].axis("off")
    axes.flat[7].legend(*axes.flat[0].get_legend_handles_labels(), loc="center")
    figure.supxlabel("n pairs", fontsize=8)
    figure.supylabel({"raw": "raw score", "excess": "excess"}[quantity], fontsize=8)
    out.figure(f"grid-{quantity}", figure)

# %% [markdown]
# The same as numbers, at the larger width: what is reported where nothing is shared, and the excess of a noisy copy, at
# the least and the largest n. Undefined is an excess whose null is 1 already: there are fewer pairs than components.

# %%
at = grid[grid.d == wide].set_index(["truth", "measure", "n"]).sort_index()
sizes = sorted(grid[grid.d == wide].n.unique())
middle, most = sizes[len(sizes) // 2], sizes[-1]
by_n = pd.DataFrame(
    {
        "measure": name,
        **{f"unrelated, raw, {n:,}": at.raw["unrelated", name, n] for n in (sizes[0], most)},
        **{f"{truth}, {n:,}": at.excess[truth, name, n] for truth in list(truths)[1:] for n in (middle, most)},
    }
    for name in measures
)
by_n

# %%
defined = at.excess["unrelated"].dropna()
spread = at.excess["noisy copy"].unstack("n")[[n for n in sizes if n >= middle]]
drift = (spread.max(axis=1) - spread.min(axis=1)).where(spread.notna().all(axis=1))
largest = defined.abs().groupby("measure").max()
out.number("largest excess of nothing", largest.max())
out.number("raw of nothing svcca", at.raw["unrelated", "svcca", middle])
out.number("raw of nothing cka", at.raw["unrelated", "cka", middle])
out.number("middle n", middle, "{:,}")
out.text("steadiest", drift.idxmin().replace("_", " "))
out.number("steadiest drift", drift.min())
for name in ("svcca_first_component", "svcca", "rsa_pearson"):
    out.number(f"one direction {name}", at.excess["one direction", name, most])
    out.number(f"noisy {name}", at.excess["noisy copy", name, most])

# %%
copied = at.excess["noisy copy"].unstack("n").loc[measures]
above = [name for name in measures if at.excess["one direction", name, most] > copied.loc[name, most]]
out.text("one direction above", tables.among(measures, above))
blind = copied.loc["svcca_first_component", most] < copied.loc["svcca", most] / 2
out.text("published verdict", "misses" if blind else "sees")
copied

# %% [markdown]
# ## Do the tests keep their level, and what do they find?
# A test at 5% must reject 5% of data sets in which nothing is shared. Beside it, the share of weak truths that it
# finds. Intervals are Clopper and Pearson's, of 99%.

# %%
battery = {"unrelated": planted["unrelated"], **weak}
rejections = sweep.sweep(
    lambda name: calibration.rejected(battery[name], "shuffled", *size, tested, draws, repeats, seed),
    battery,
    "level and power",
)
rates = {
    (truth, name): calibration.rate(found.meta[name], repeats) for truth, found in rejections.items() for name in tested
}

# %%
out.number("small n", small["n"], "{:d}")
out.text("small width", f"{small['d_a']} and {small['d_b']}")
out.number("repeats", repeats, "{:,}")
out.number("draws", draws, "{:d}")
for name in ("rsa_spearman", "svcca", "svcca_first_component"):
    for truth in ("noisy copy", "clustered copy"):
        out.number(f"power {truth} {name}", 100 * rates[truth, name].share, "{:.0f}")
liberal = [name for name in tested if rates["unrelated", name].low > calibration.LEVEL]
listed = ", ".join(name.replace("_", " ") for name in liberal)
out.text("level verdict", f"rejects too often: {listed}" if liberal else "no test rejects more often than it says")

# %%
figure, axes = plt.subplots(1, 2, figsize=(5.5, 2.3), sharey=True, width_ratios=[1, 1.6])
names = [name.replace("_", " ") for name in tested]
level = np.array([rates["unrelated", name] for name in tested]) * 100
axes[0].hlines(names, level[:, 1], level[:, 2], color=report.NULL, linewidth=4, label="99% interval")
axes[0].scatter(level[:, 0], names, s=14, color=report.PAIRED, zorder=2)
axes[0].axvline(5, color="black", linewidth=0.6)
axes[0].set(xlabel="% rejected, unrelated", xlim=(0, None))
for truth, marker in zip(weak, "osD", strict=True):
    axes[1].scatter(
        [100 * rates[truth, name].share for name in tested],
        names,
        s=18,
        marker=marker,
        color=colors[truth],
        label=truth,
    )
axes[1].set(xlabel="% rejected, something is shared", xlim=(-3, 103))
axes[0].invert_yaxis()
figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
out.figure("tests", figure)

# %% [markdown]
# ## Which measure?
# One row a measure. *Level*: share of unrelated data sets that its test rejects. *Power*: share of weak truths found.
# *Of nothing*: the largest excess, either way, that it reports of unrelated rows at any n. *Drift*: how far the excess
# of one noisy copy moves as n grows from the middle of the grid on, both at the larger width.

# %%
choice = pd.DataFrame(
    {
        "measure": name,
        "scope": measure(name).scope,
        "level": f"{100 * rates['unrelated', name].share:.1f}",
        **{truth: f"{100 * rates[truth, name].share:.0f}" for truth in weak},
        "of nothing": f"{largest[name]:.2f}" if name in measures else "",
        "excess": f"{at.excess['noisy copy', name, most]:.2f}" if name in measures else "",
        "drift": f"{drift[name]:.2f}" if name in measures and np.isfinite(drift[name]) else "",
    }
    for name in tested
)
out.table("choice", choice)

# %% [markdown]
# ## Where a naive null fails
# Geometry is unrelated in all three, but pairs are not exchangeable. *Shared partners*: features of A that chose one
# partner are alike. *Families*: near-duplicates lie together on both sides. *Confounder*: both sides are placed by one
# label. Shuffling the pairs tears apart what belongs together; beside it the null that does not.

# %%
checks = [(name, null) for name in traps for null in ("shuffled", right_nulls[name])]
trapped_counts = sweep.sweep(
    lambda check: calibration.rejected(
        trap[check[0]], check[1], *size, trapped, draws, naive_repeats if check[1] == "shuffled" else repeats, seed
    ),
    checks,
    "naive and right nulls",
)

# %%
trap_rates = {
    (name, null, measure): calibration.rate(found.meta[measure], naive_repeats if null == "shuffled" else repeats)
    for (name, null), found in trapped_counts.items()
    for measure in trapped
}
nulls_table = pd.DataFrame(
    {
        "world": name,
        "measure": measure,
        "% by shuffling": f"{100 * trap_rates[name, 'shuffled', measure].share:.1f}",
        "right null": right_nulls[name],
        "% by it": f"{100 * (rate := trap_rates[name, right_nulls[name], measure]).share:.1f}",
        "99% interval": f"{100 * rate.low:.1f} to {100 * rate.high:.1f}",
    }
    for name in traps
    for measure in trapped
)
out.table("nulls", nulls_table)

# %%
naive = {key: x for key, x in trap_rates.items() if key[1] == "shuffled"}
right = {key: x for key, x in trap_rates.items() if key[1] != "shuffled"}
failing, keeping = (
    {key for key, x in naive.items() if x.low > calibration.LEVEL},
    {key for key, x in right.items() if x.low <= calibration.LEVEL},
)
out.text("naive verdict", tables.among(list(naive), failing))
out.text("right verdict", tables.among(list(right), keeping))
out.number("naive least", 100 * min(x.share for x in naive.values()), "{:.0f}")
out.number("naive largest", 100 * max(x.share for x in naive.values()), "{:.0f}")
out.number("right largest", 100 * max(x.share for x in right.values()), "{:.1f}")
out.number("naive repeats", naive_repeats, "{:,}")

# %%
figure, axes = plt.subplots(figsize=(4.2, 2.0))
labels = [f"{name}, {measure.replace('_', ' ')}" for name in traps for measure in trapped]
for found, color, label in ((naive, report.NULL, "pairs shuffled"), (right, report.PAIRED, "the null that fits")):
    shares = 100 * np.array(list(found.values()))
    axes.hlines(labels, shares[:, 1], shares[:, 2], color=color, linewidth=3)
    axes.scatter(shares[:, 0], labels, s=16, color=color, label=label, zorder=2)
axes.axvline(5, color="black", linewidth=0.6)
axes.set(xlabel="% of unrelated worlds rejected", xlim=(0, 103))
axes.invert_yaxis()
figure.legend(loc="outside lower center", ncols=2)
out.figure("nulls", figure)

# %% [markdown]
# A confounder can also be held fixed in the score: the partial correlation of dissimilarities, an effect size without
# a p.

# %%
partial = calibration.partialled(trap["confounder"], *size, naive_repeats, seed).meta
for name, value in partial.items():
    out.number(f"confounded {name}", value)
out.text("partial verdict", "vanishes" if abs(partial["partial"]) < abs(partial["rsa"]) / 5 else "remains in part")
partial

# %% [markdown]
# ## Where a naive interval fails
# A bootstrap draws pairs with replacement. A pair drawn twice is its own nearest neighbour on both sides, and is
# reported as shared geometry. Deleting one family at a time duplicates nothing. How often does a 95% interval of the
# excess hold the true value, and where do the resamples lie?

# %%
interval_truths = {"unrelated": planted["unrelated"], "noisy copy": weak["noisy copy"]}
coverage = sweep.sweep(
    lambda truth: calibration.covered(
        interval_truths[truth], *size, intervals_of, interval["resamples"], interval_repeats, seed
    ),
    interval_truths,
    "intervals",
)
kinds = "bootstrap", "jackknife"
held = {
    (truth, measure, kind): calibration.rate(found.meta[measure][kind], interval_repeats)
    for truth, found in coverage.items()
    for measure in intervals_of
    for kind in kinds
}

# %%
intervals_table = pd.DataFrame(
    {
        "truth": truth,
        "measure": measure,
        "excess": coverage[truth].meta[measure]["truth"],
        "of resamples": coverage[truth].meta[measure]["resampled"],
        **{
            f"{kind}, %": "{:.0f} ({:.0f} to {:.0f})".format(*100 * np.array(held[truth, measure, kind]))
            for kind in kinds
        },
    }
    for truth in interval_truths
    for measure in intervals_of
)
out.table("intervals", intervals_table, {"excess": "{:.3f}", "of resamples": "{:.3f}"})

# %%
for kind in kinds:
    shares = [x.share for key, x in held.items() if key[2] == kind]
    out.number(f"{kind} least", 100 * min(shares), "{:.0f}")
    out.number(f"{kind} most", 100 * max(shares), "{:.0f}")
out.number("interval repeats", interval_repeats, "{:,}")
out.number("resamples", interval["resamples"], "{:d}")
holding = {key for key, x in held.items() if key[2] == "jackknife" and x.high >= 0.95}
out.text("jackknife verdict", tables.among([key for key in held if key[2] == "jackknife"], holding))

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
out.number("svcca null", at.null["unrelated", "svcca", most])
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
    axes.plot(sizes, [at.null["unrelated", name, x] for x in sizes], style, linewidth=1, label=f"planted, {name}")
for (name, x), marker in zip(null_means.groupby("set", sort=False), "o^sDv", strict=False):
    axes.scatter(x.n, x["null mean"], s=6, marker=marker, linewidths=0, label=name)
axes.set(xscale="log", yscale="log", ylim=(3e-4, 1.3), xlabel="n pairs", ylabel="null mean")
figure.legend(loc="outside right center", fontsize=6.5, labelspacing=0.9)
out.figure("published", figure)

# %%
out.save()
