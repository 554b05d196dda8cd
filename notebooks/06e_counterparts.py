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
# # What the share with a counterpart means
#
# **Question.** How far is the share of features with a counterpart from the share that two models truly have in common,
# and does its interval hold either?
#
# **In.** Planted models that have a share of their features in common, with latents planted beside the features. No
# model is read, no SAE is trained. **Out.** By threshold r0, noise and planted share: the share with a counterpart, its
# distance from the truth, and how often its interval holds the expected share and the truth. The same in a world in
# which nothing is shared and words follow Zipf's law.
#
# **What would count as a no.** The share does not measure what is shared if it moves with the noise, or if it is large
# where nothing is shared. The interval fails if it holds the expected share less often than it says.

# %% tags=["parameters"]
profile = "smoke"
shares = [0.0, 0.37, 1.0]
noise = [0.5, 3.0]
thresholds = [0.3, 0.5]
world = {
    "features": 60,
    "shape": {"kind": "sphere"},
    "firing": {"active": 3.0, "decay": 2.0},
    "models": {"a": {"d": 48}, "b": {"d": 64}},
}
recovery = {"latents": 60, "found": 0.9, "least": 0.9, "near": 0.9, "k": 3}
text = {"tokens": 1600, "documents": 40, "words": 200}
repeats = 4
least_coverage = 0.9

# %%
import numpy as np
import pandas as pd

from sae_utils import profiles, report, sweep
from sae_utils.engine.core import spec
from sae_utils.profiles import seed
from sae_utils.studies.recovery import counterparts, readings, worlds

# %%
run = profiles.start(profile, "06e_counterparts")
out = report.Report(run, "06e_counterparts")
where = f"params/{profile}.yaml: 06e_counterparts"
of = spec.build(counterparts.Recovery, recovery, f"{where}.recovery")
on = spec.build(counterparts.Text, text, f"{where}.text")
cells = counterparts.cells(world, shares, noise, on, where)

# %% [markdown]
# ## One world
# Either model holds the shared features and features of its own; each has its own rotation and dimensions. Latents lie
# beside true features that are chosen at random, at a cosine of `least` or more; the other latents have random
# directions. A latent of A is *truly shared* if the feature next to it (cosine of `near` or more) is in both models and
# has a latent in both.

# %%
name = next(reversed([x for x in cells if not x.words]))  # the largest share, the most noise
truth = cells[name].world.draw(0)
rng = np.random.default_rng(0)
a, b = (counterparts.latents(rng, truth.models[side], of) for side in "ab")
cosines = [x.rows @ truth.models[side].rows.T for x, side in ((a, "a"), (b, "b"))]
beside = [np.where(x.max(axis=1) >= of.near, x.argmax(axis=1), -1) for x in cosines]  # the first ones are shared
by_hand = [(feature in beside[1]) and 0 <= feature < truth.shared for feature in beside[0]]
shared = worlds.truly_shared(a.place, b.place, truth.shared)
np.testing.assert_array_equal(by_hand, shared)
print(f"{name}: {shared.mean():.0%} of the latents of A are truly shared")

# %% [markdown]
# Less than the planted share of the features is truly shared, because not every feature has a latent in both models.
#
# ## One reading
# Codes are the `k` largest projections of the activations on the latents. Even documents choose the partner of every
# latent by correlation, odd ones judge it: a counterpart correlates by r0 or more. A shared feature is active in both
# models at once, with a magnitude of its own in each: if it is uniform on (0, 2), no r is much above 3/4.

# %%
x = counterparts.activations(truth, cells[name].text, 3, 0)
codes = []
for side, rows in (("a", a.rows), ("b", b.rows)):
    projected = np.maximum(x[side] @ rows.T, 0)
    codes.append(np.where(projected >= np.sort(projected, axis=1)[:, [-of.k]], projected, 0))
document = np.arange(on.tokens) * on.documents // on.tokens

# %%
n = of.latents
choose, judge = (np.corrcoef(*(side[document % 2 == half].T for side in codes))[:n, n:] for half in (0, 1))
alive = np.isfinite(choose).any(axis=1)
r = judge[np.arange(n), np.nan_to_num(choose, nan=-1).argmax(axis=1)]
r = r[alive & np.isfinite(r)]
by_hand = [(r >= r0).mean() for r0 in thresholds]
read = counterparts.read(x, (a, b), shared, of.k, cells[name].text, thresholds)
np.testing.assert_allclose(by_hand, read.share)
pd.DataFrame([read.share, read.low, read.high], ["share", "low", "high"], [f"r0 = {r0:g}" for r0 in thresholds]).round(
    2
)

# %% [markdown]
# One column is one threshold, with the share and its interval; the truth is the number of the section before.
#
# ## Bias
# Each world is drawn once, and its text many times. The bias is the mean share over texts less the true share.

# %%
made = sweep.run(
    lambda x: counterparts.repeated(cells[x].world, of, cells[x].text, thresholds, repeats, seed(run, str(x))),
    cells,
    "worlds",
)
found = readings.frame(made, thresholds)
one = found[(found.world == str(name)) & (found.r0 == thresholds[0])].iloc[0]
mean = made[name].array("share")[:, 0].mean()
np.testing.assert_allclose([mean, mean - made[name].meta["true"]], [one.share, one.bias])
out.table("bias", readings.bias(found), readings.forms(thresholds))

# %% [markdown]
# One row is one world; *true*: the share that is truly shared. In the columns of r0 stands the mean share with a
# counterpart. If it measured what is shared, it would be the true one at every noise and at some r0.

# %%
out.figure("bias", readings.drawn(found))

# %% [markdown]
# Marks on the diagonal read the truth. The vertical distance of the colors is what the noise alone does. The cross is
# the world of Zipf's law, in which nothing is shared.
#
# Why is the share off? A counterpart can be missed, and a latent that is not shared can have one.

# %%
out.table("parts", readings.parts(found), readings.forms(thresholds))

# %% [markdown]
# The first number of a cell is the share with a counterpart among the latents that are truly shared (it should be 1),
# the second among the others (it should be 0).
#
# ## Coverage
# In how many texts does the 95% interval hold the expected share, the mean over all texts? In how many the true share?

# %%
low, high = (made[name].array(end)[:, 0] for end in ("low", "high"))
assert one.expected == ((low <= mean) & (mean <= high)).sum()
assert one["true held"] == ((low <= one.true) & (one.true <= high)).sum()
out.table("coverage", readings.coverage(found, repeats))

# %% [markdown]
# The first number of a cell is the percent of texts whose interval holds the expected share, and should be near 95; the
# second is that for the true share. A second number near 0 is a bias that no interval shows.

# %%
answers = {}
for held, what in (("expected", "the expected share"), ("true held", "the true share")):
    interval = readings.covered(found, held, repeats)
    question = (
        f"Does the 95% interval hold {what} in at least {100 * least_coverage:.0f}% of texts, all worlds together?"
    )
    no = "The interval of the share of texts lies below d."
    answers[question] = out.verdict(held, question, interval, least_coverage, no, form="{:.2f}")
answers

# %% [markdown]
# A *no* for the true share says that the share with a counterpart is not an estimate of what is shared. Nothing is
# corrected by these curves: in real models neither noise nor truth is known.

# %%
planted = found[~found.zipf]
for end, of_all in (("least", planted.groupby("r0").bias.min()), ("most", planted.groupby("r0").bias.max())):
    out.number(f"bias {end} first", of_all.iloc[0])
    out.number(f"bias {end} last", of_all.iloc[-1])
confounded = found[found.zipf].groupby("r0").share.max()
out.number("zipf first", confounded.iloc[0])
out.number("zipf last", confounded.iloc[-1])
for name, value in {"first": thresholds[0], "last": thresholds[-1]}.items():
    out.number(f"threshold {name}", value, "{:.1f}")

# %%
for name, value in {
    "worlds": planted.world.nunique(),
    "repeats": repeats,
    "features": world["features"],
    "tokens": on.tokens,
}.items():
    out.number(name, value, "{:,}")
out.text("noise", ", ".join(f"{x:g}" for x in noise))
out.number("near", of.near)
out.number("least coverage", 100 * least_coverage, "{:.0f}")

# %% [markdown]
# ## Verdict
# The largest distance from the truth at each threshold, in worlds that differ in nothing but noise and the planted
# share, and the share that Zipf's law alone makes.

# %%
by_threshold = planted.groupby("r0").bias.agg(["min", "max"]).assign(zipf=confounded)
by_threshold.round(2)

# %%
out.save()
