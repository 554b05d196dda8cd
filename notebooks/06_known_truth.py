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
# # Known truth: what the measures report
#
# **Question.** What does each measure report where the truth is known, because we planted it? Which measure should a
# reader choose?
#
# **In.** Pairs of Gaussian rows: unrelated ones, and the truths that the parameters name. No model is read. The last
# section also reads the null means that the published study printed.
#
# **Out.** The raw score and the excess of every measure, by the number of pairs n and by width (two figures); one table
# to choose a measure by; the estimator to which the published null means belong.
#
# **What would count as a no.** A measure fails if it reports an excess where nothing is shared, if its excess moves
# with n although the truth does not, or if it misses what both sides share.

# %% tags=["parameters"]
profile = "smoke"
measures = ["svcca_first_component", "svcca", "cka", "cka_debiased", "rsa_pearson", "procrustes", "mutual_knn"]
truths = {
    "noisy copy": {"kind": "copies", "shared": 0.5},
    "rotated copy": {"kind": "copies", "shared": 1.0},
    "clustered copy": {"kind": "grouped", "groups": 10, "centres": 1.0, "alike_a": 0.5, "alike_b": 0.5},
    "one direction": {"kind": "one_direction", "strength": 0.3},
}
grids = [{"d_a": 32, "d_b": 48, "n": [30, 100, 300]}, {"d_a": 16, "d_b": 24, "n": [30, 100, 300]}]
grid_repeats = {"rows": 300, "most": 3, "draws": 9}

# %%
import numpy as np
import pandas as pd

from sae_utils import profiles, report, significance, sweep, tables
from sae_utils.measures import measure, svcca
from sae_utils.profiles import seed
from sae_utils.studies.known_truth import calibration, drawing, synthetic
from sae_utils.studies.published_tables import published

# %%
run = profiles.start(profile, "06_known_truth")
out = report.Report(run, "06_known_truth")
planted = {"unrelated": synthetic.UNRELATED} | synthetic.worlds(truths, f"params/{profile}.yaml: 06_known_truth.truths")
label = {name: measure(name).label for name in [*measures, "svcca_first_component", "svcca"]}
reference = next(iter(truths))  # the truth by which measures are compared

# %% [markdown]
# ## How a truth is planted
# A *copy* gives both sides the same latent rows. Side B sees them through a random rotation, so that no dimension of B
# is a dimension of A. Each side then adds noise of its own. `shared` is the part of the variance that is not noise: 1
# makes a rotated copy, 0 makes unrelated rows. The cell does this in numpy, and the library draws the same numbers.

# %%
n, d_a, d_b, shared = 2000, 3, 4, 0.5
rng = np.random.default_rng(0)
latent = rng.normal(size=(n, d_a))
q, r = np.linalg.qr(rng.normal(size=(d_b, d_a)))
turn = (q * np.sign(np.diag(r))).T  # (d_a, d_b), orthonormal rows
a, b = (np.sqrt(shared) * x + np.sqrt(1 - shared) * rng.normal(size=x.shape) for x in (latent, latent @ turn))
drawn = synthetic.Copies(kind="copies", shared=shared).draw(np.random.default_rng(0), n, d_a, d_b)
np.testing.assert_allclose(a, drawn.a)
np.testing.assert_allclose(b, drawn.b)
pd.DataFrame(np.corrcoef(a.T, turn @ b.T)[:d_a, d_a:]).round(2)

# %% [markdown]
# Rows of the table are directions of A, columns are the same directions of B, turned back. The diagonal should be near
# `shared`, and everything else near 0.

# %% [markdown]
# *Clusters* are copies with few distinct rows: both sides scatter around the same centres. *One direction* gives both
# sides a single number for every pair, and nothing else.

# %%
rng, truth = np.random.default_rng(1), {"groups": 5, "centres": 1.0, "alike_a": 0.5, "alike_b": 0.5}
centres = synthetic.Copies(kind="copies", shared=truth["centres"]).draw(rng, truth["groups"], d_a, d_b)
group = np.arange(n) * truth["groups"] // n
clustered = np.sqrt(0.5) * centres.a[group] + np.sqrt(0.5) * rng.normal(size=(n, d_a))
drawn = synthetic.Grouped(kind="grouped", **truth).draw(np.random.default_rng(1), n, d_a, d_b)
np.testing.assert_allclose(clustered, drawn.a)

# %%
rng, strength = np.random.default_rng(2), 0.3
latent, direction = rng.normal(size=(n, 1)), synthetic.rotation(rng, 1, d_a)
single = np.sqrt(strength * d_a) * latent @ direction + np.sqrt(1 - strength) * rng.normal(size=(n, d_a))
drawn = synthetic.OneDirection(kind="one_direction", strength=strength).draw(np.random.default_rng(2), n, d_a, d_b)
np.testing.assert_allclose(single, drawn.a)

# %%
figure = drawing.worlds(planted, min(grids[0]["n"]), grids[0]["d_a"], grids[0]["d_b"], seed(run, "picture"))

# %% [markdown]
# Each square holds the correlations between rows of one side. A truth can be seen where the square below repeats the
# pattern of the square above; for unrelated rows the two squares should have nothing in common.

# %% [markdown]
# ## Score, null and excess
# A score says little by itself. We shuffle the pairing many times, and take the mean score of the shuffles as chance:
# excess = (score - null mean) / (1 - null mean). It is 0 at chance and 1 at most. The cell does this for biased CKA on
# unrelated rows, and holds it against `significance.test`, which the notebooks use.

# %%
n, d_a, d_b = 60, grids[0]["d_a"], grids[0]["d_b"]
a, b, _ = planted["unrelated"].draw(np.random.default_rng(0), n, d_a, d_b)
x, y = a - a.mean(axis=0), b - b.mean(axis=0)
orders = np.random.default_rng(1).permuted(np.tile(np.arange(n), (99, 1)), axis=1)
size = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
score, *null = (np.linalg.norm(x.T @ y[order]) ** 2 / size for order in [np.arange(n), *orders])
excess = (score - np.mean(null)) / (1 - np.mean(null))
found = significance.test(a, b, ["cka"], m=99, seed=1, closed_form=False)["cka"]
np.testing.assert_allclose([score, np.mean(null), excess], [found.observed, found.null_mean, found.excess], rtol=1e-5)
pd.Series({"raw score": score, "null mean": np.mean(null), "excess": excess}).round(3)

# %% [markdown]
# Nothing is shared here. Compare the raw score with the null mean: what the raw score reports above 0 is chance, and
# the excess should be near 0.

# %% [markdown]
# ## What do the measures report, by n and by width?
# The truth does not depend on n. A score that does cannot be compared between sets of different size. Small n are
# repeated with fresh data sets, and we show the mean.

# %%
cells = [
    (truth, calibration.Size(n=n, d_a=widths["d_a"], d_b=widths["d_b"]))
    for widths in grids
    for truth in planted
    for n in widths["n"]
]


def estimated(cell):
    truth, size = cell
    repeats = int(np.clip(grid_repeats["rows"] // size.n, 1, grid_repeats["most"]))
    use = seed(run, "planted truths")
    return calibration.estimates(planted[truth], size, measures, grid_repeats["draws"], repeats, use)


# %%
estimates = sweep.run(estimated, cells, "planted truths")
grid = pd.DataFrame(
    {"truth": truth, "d": f"{x.d_a} and {x.d_b}", "n": x.n, "measure": name, **found.meta[name]}
    for (truth, x), found in estimates.items()
    for name in measures
)
out.figure("grid-raw", drawing.by_n(grid, "raw", label))

# %% [markdown]
# Follow the line of unrelated rows: where it lies above 0, the raw score reports chance. A line that falls with n shows
# a score that cannot be read without its n. Solid lines are the first widths of the parameters, dotted the second.

# %%
out.figure("grid-excess", drawing.by_n(grid, "excess", label))

# %% [markdown]
# Now the line of unrelated rows should lie at 0 at every n. A flat line is an excess that can be compared between sets
# of different n. A line is missing where chance alone gives 1, because there are fewer pairs than components.

# %%
width, sizes = grid.d.unique(), sorted(grid[grid.d == grid.d[0]].n.unique())
middle, most = sizes[len(sizes) // 2], sizes[-1]
out.text("wide", width[0])
out.text("narrow", width[-1])
for name, n in (("least n", grid.n.min()), ("middle n", middle), ("largest n", grid.n.max())):
    out.number(name, n, "{:,}")
out.number("grid draws", grid_repeats["draws"], "{:d}")
out.number("clusters", truths.get("clustered copy", {}).get("groups", np.nan), "{:.0f}")
out.number("strength", 100 * truths.get("one direction", {}).get("strength", np.nan), "{:.0f}")
out.number("shared", truths[reference].get("shared", np.nan))

# %% [markdown]
# ## Which measure?
# One row a measure, at the first widths. *Of nothing*: the raw score of unrelated rows at the middle n, and the largest
# excess of unrelated rows, of either sign, at any n. Then the excess of each truth at the largest n. *Drift*: how far
# the excess of the first truth moves from the middle n on.

# %%
at = grid[grid.d == width[0]].set_index(["measure", "n", "truth"])
raw, excess = (at[quantity].unstack("truth") for quantity in ("raw", "excess"))
of_nothing = excess["unrelated"].abs().groupby("measure").max()
moved = excess[reference].unstack("n")[[n for n in sizes if n >= middle]]
drift = moved.max(axis=1, skipna=False) - moved.min(axis=1, skipna=False)

# %%
choice = pd.DataFrame({"measure": label[name], "scope": measure(name).scope} for name in measures)
choice["of nothing, raw"] = raw["unrelated"].xs(middle, level="n")[measures].to_numpy()
choice["of nothing, excess"] = of_nothing[measures].to_numpy()
choice[list(truths)] = excess.xs(most, level="n").loc[measures, list(truths)].to_numpy()
choice["drift"] = drift[measures].to_numpy()
out.table("choice", choice, dict.fromkeys(choice.columns[2:], "{:.2f}"))

# %% [markdown]
# A measure to choose has a small excess of nothing and a small drift. The columns of the truths show what a measure
# asks: a measure that scores one direction above a copy in all directions weighs directions by their variance.

# %%
last = excess.xs(most, level="n")
for name in ("svcca_first_component", "svcca", "rsa_pearson"):
    for shown, truth in (("one direction", "one direction"), ("noisy", reference)):
        out.number(f"{shown} {name}", last[truth].get(name, np.nan) if truth in last else np.nan)
above = [x for x in measures if "one direction" in truths and last["one direction"][x] > last[reference][x]]
out.text("one direction above", tables.among(measures if "one direction" in truths else [], above))
for name in ("svcca", "cka"):
    out.number(f"raw of nothing {name}", raw["unrelated"].get((name, middle), np.nan))
out.number("largest excess of nothing", of_nothing.max())
out.text("steadiest", label[drift.idxmin()] if drift.notna().any() else "n/a")
out.number("steadiest drift", drift.min())
as_published, right = (last[reference].get(x, np.nan) for x in ("svcca_first_component", "svcca"))
sees = "misses" if as_published < right / 2 else "sees"
out.text("published verdict", sees if np.isfinite([as_published, right]).all() else "n/a")

# %% [markdown]
# ## To which estimator do the published null means belong?
# The study reports the mean of shuffled pairings beside every score that it calls SVCCA. Its code correlates only the
# first principal component of either side. For one component the null mean is known: |r| of n shuffled pairs has a mean
# near sqrt(2 / (pi n)).

# %%
a, b, _ = planted["unrelated"].draw(np.random.default_rng(0), 500, d_a, d_b)
one, other = (np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[0][:, 0] for x in (a, b))
np.testing.assert_allclose(abs(one @ other), svcca(a, b, estimator="first_component").score)
shuffles = np.random.default_rng(1).permuted(np.tile(other, (2000, 1)), axis=1)
pd.Series({"mean of shuffles": np.abs(shuffles @ one).mean(), "law": np.sqrt(2 / np.pi / 500)}).round(4)

# %% [markdown]
# The two numbers should agree. The published null means are now held against the same law; SVCCA with all components of
# 99% of the variance has another null mean, which the grid above gives at its first widths.

# %%
null_means = published.checks(published.layer_scores()).query("score == 'SVCCA'")
null_means = null_means.assign(ratio=null_means["null mean"] / null_means.expected)
ratio = null_means.groupby("set", sort=False).ratio
off = abs(ratio.mean() - 1) / (ratio.std() / ratio.size() ** 0.5)
pd.DataFrame({"pairs of layers": ratio.size(), "median": ratio.median(), "mean": ratio.mean(), "SE off": off}).round(2)

# %% [markdown]
# One row a set of published scores: the ratio of the printed null mean to the law of one component. A mean near 1, less
# than 2.6 standard errors off, is what one component would give; a set further off would be a no.

# %%
null = {
    label[x]: at.null.unstack("truth").unrelated.get(x) for x in ("svcca_first_component", "svcca") if x in measures
}
out.figure("published", drawing.published(null_means, null))

# %% [markdown]
# The published null means belong to the estimator whose curve they follow: the black line of one component, or the
# dashed curve of SVCCA with all components. The band shows where a single shuffle would fall.

# %%
out.number("svcca null", null.get(label["svcca"], {}).get(most, np.nan))
out.text("published null verdict", tables.among(list(off.index), set(off.index[off < 2.6])))

# %% [markdown]
# ## Verdict
# This notebook describes measures, and draws no verdict with an interval. The answers to its question stand together
# here. `06b_level_and_power` asks whether the tests of these measures can be trusted, `06c_intervals_and_verdicts` asks
# the same of the verdict over replicates.

# %%
answers = {
    "largest excess where nothing is shared": f"{of_nothing.max():.2f}",
    "excess moves least with n": label[drift.idxmin()] if drift.notna().any() else "n/a",
    "measures that score one direction above a copy": ", ".join(label[x] for x in above) or "none",
    "sets of null means that fit one component": tables.among(list(off.index), set(off.index[off < 2.6])),
}
pd.Series(answers).to_frame("answer")

# %% [markdown]
# The first row answers the first no: a measure that reports much where nothing is shared cannot be used. The second row
# names the measure whose excess can best be compared between sets of different n.

# %%
out.save()
