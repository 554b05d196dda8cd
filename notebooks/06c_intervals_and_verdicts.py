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
# # Intervals and verdicts: is the verdict right?
#
# **Question.** Does a 95% interval hold the true value, and is the verdict over replicates right where the truth is
# known?
#
# **In.** Planted pairs of rows: unrelated ones, a weak truth, and worlds in which some pairs are noisy copies. No model
# is read.
#
# **Out.** How often a bootstrap of pairs and a jackknife hold the true excess; how often the verdict is "yes", "no" or
# "undetermined", by the planted share; the differences that so many replicates can tell.
#
# **What would count as a no.** An interval fails if it holds the true value less often than it says. The verdict fails
# if it is seldom "yes" where all is shared, or seldom "no" where nothing is.

# %% tags=["parameters"]
profile = "smoke"
truths = {"noisy copy": {"kind": "copies", "shared": 0.3}}
interval = {"measures": ["rsa_pearson", "mutual_knn"], "n": 48, "d_a": 8, "d_b": 12, "resamples": 39, "repeats": 5}
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
import numpy as np
import pandas as pd
from scipy import stats

from sae_utils import inference, profiles, report, significance, sweep, tables
from sae_utils.inference import LEVEL
from sae_utils.measures import measure
from sae_utils.profiles import seed
from sae_utils.studies.known_truth import calibration, drawing, synthetic

# %%
run = profiles.start(profile, "06c_intervals_and_verdicts")
out = report.Report(run, "06c_intervals_and_verdicts")
where = f"params/{profile}.yaml: 06c_intervals_and_verdicts"
planted = {"unrelated": synthetic.UNRELATED} | synthetic.worlds(truths, f"{where}.truths")
size, of_verdict = (calibration.Size(n=x["n"], d_a=x["d_a"], d_b=x["d_b"]) for x in (interval, verdict))
label = {name: measure(name).label for name in interval["measures"]}

# %% [markdown]
# ## Where does a naive interval fail?
# A bootstrap draws pairs with replacement. A pair that is drawn twice is its own nearest neighbour on both sides, and
# the resample reports that as shared geometry. The cell takes these duplicates out again. The measure is Pearson RSA,
# whose null mean is 0, so that the score is the excess.


# %%
def rsa(a, b):
    upper = np.triu_indices(len(a), 1)
    return np.corrcoef(np.corrcoef(a)[upper], np.corrcoef(b)[upper])[0, 1]


# %%
a, b, _ = synthetic.UNRELATED.draw(np.random.default_rng(6), size.n, size.d_a, size.d_b)
rows = np.random.default_rng(7).integers(size.n, size=size.n)  # a bootstrap of the pairs
upper = np.triu_indices(size.n, 1)
twice = (rows[:, None] == rows)[upper]
x, y = (np.corrcoef(side[rows])[upper] for side in (a, b))
library = significance.test(a[rows], b[rows], ["rsa_pearson"], m=0)["rsa_pearson"]
np.testing.assert_allclose(np.corrcoef(x, y)[0, 1], library.excess)
without = np.corrcoef(x[~twice], y[~twice])[0, 1]
pd.Series({"all pairs": rsa(a, b), "resample": library.excess, "its duplicates taken out": without}).round(3)

# %% [markdown]
# Nothing is shared. The resample should lie near the score of all pairs; see how far above it lies, and whether it
# comes back when pairs of a row with itself are left out.

# %% [markdown]
# The jackknife duplicates nothing. It leaves out one family at a time, and takes the standard error from how the score
# moves. Unrelated rows have no families, so that each row is its own.

# %%
deleted = np.array([rsa(np.delete(a, i, axis=0), np.delete(b, i, axis=0)) for i in range(size.n)])
se = np.sqrt((size.n - 1) / size.n * ((deleted - deleted.mean()) ** 2).sum())
half = stats.t.ppf(1 - LEVEL / 2, size.n - 1) * se
library = inference.jackknife(lambda kept: rsa(a[kept], b[kept]), np.arange(size.n))
np.testing.assert_allclose([rsa(a, b) - half, rsa(a, b) + half], [library.low, library.high])
print(f"{rsa(a, b):.3f}, interval {library.low:.3f} to {library.high:.3f}")

# %% [markdown]
# The true excess of unrelated rows is 0: the interval should hold it in 95% of data sets. The table counts that for
# both intervals, for unrelated rows and for the weak truths of the parameters.

# %%
using = interval["measures"], interval["resamples"], interval["repeats"], seed(run, "intervals")
covered = sweep.run(lambda truth: calibration.coverage(planted[truth], size, *using), planted, "intervals")
kinds = "bootstrap", "jackknife"
held = {
    (truth, name, kind): calibration.rate(covered[truth].meta[name][kind], interval["repeats"])
    for truth in planted
    for name in interval["measures"]
    for kind in kinds
}

# %%
intervals_table = pd.DataFrame(
    {
        "truth": truth,
        "measure": label[name],
        "excess": covered[truth].meta[name]["truth"],
        "of resamples": covered[truth].meta[name]["resampled"],
        **{f"{x}, %": "{:.0f} ({:.0f} to {:.0f})".format(*100 * np.array(held[truth, name, x])) for x in kinds},
    }
    for truth in planted
    for name in interval["measures"]
)
out.table("intervals", intervals_table, {"excess": "{:.3f}", "of resamples": "{:.3f}"})

# %% [markdown]
# Compare *excess* with *of resamples*: the gap is what duplicates manufacture. The last columns should hold 95 within
# their intervals; an interval that ends below 95 fails.

# %%
for kind in kinds:
    shares = [100 * x.share for key, x in held.items() if key[2] == kind]
    out.number(f"{kind} least", min(shares), "{:.0f}")
    out.number(f"{kind} most", max(shares), "{:.0f}")
out.number("interval repeats", interval["repeats"], "{:,}")
out.number("resamples", interval["resamples"], "{:d}")
jackknives = {key: x.high >= 0.95 for key, x in held.items() if key[2] == "jackknife"}
out.text("jackknife verdict", tables.among(jackknives, [x for x in jackknives if jackknives[x]]))

# %% [markdown]
# ## What does one replicate say?
# A share of the pairs are noisy copies; the others pair rows that were drawn for someone else. The control arm pairs
# the same rows at random. One replicate gives the difference between the excess of both arms. The measure is Spearman
# RSA, whose null mean is 0 as well.


# %%
def spearman_rsa(a, b):
    upper = np.triu_indices(len(a), 1)
    x, y = (stats.rankdata(-np.corrcoef(side)[upper]) for side in (a, b))
    return np.corrcoef(x, y)[0, 1]


# %%
n, copied, rng = verdict["n"], verdict["n"] // 2, np.random.default_rng([8, 0])
copies = synthetic.Copies(kind="copies", shared=verdict["alike"])
a, b, _ = copies.draw(rng, 2 * n - copied, verdict["d_a"], verdict["d_b"])
a, b = a[:n], np.concatenate([b[:copied], b[n:]])  # the later pairs are no copies: b holds partners of other rows
control = np.random.default_rng([8, 0, 1]).permuted(np.arange(n))
difference = spearman_rsa(a, b) - spearman_rsa(a, b[control])
half_copied = synthetic.PartlyCopied(kind="partly_copied", share=copied / n, shared=verdict["alike"])
library = calibration.differences(half_copied, of_verdict, "rsa_spearman", 1, 1, 8).meta["values"]
np.testing.assert_allclose(difference, library[0][0], rtol=1e-5)
print(f"pairs {spearman_rsa(a, b):.3f}, control {spearman_rsa(a, b[control]):.3f}, difference {difference:.3f}")

# %% [markdown]
# The difference should be above 0, because half of the pairs are copies. A single difference has no interval: that
# takes replicates.

# %% [markdown]
# ## How is a verdict made?
# Replicates are drawn anew, each with rows of its own. Their mean difference gets an interval by Student's t, which for
# a mean is what the jackknife gives. The threshold d is a given part of the difference where all pairs are copies. The
# verdict is "yes" where the whole interval lies above d, "no" where it lies below, else "undetermined".

# %%
shares = sorted({0.0, *verdict["shares"], 1.0})
recipe = {"kind": "partly_copied", "shared": verdict["alike"]}
partly = synthetic.worlds({f"{share:g}": recipe | {"share": share} for share in shares}, f"{where}.verdict")
using = verdict["measure"], verdict["replicates"], verdict["repeats"], seed(run, "verdicts")
made = sweep.run(lambda share: calibration.differences(partly[f"{share:g}"], of_verdict, *using), shares, "verdicts")
differences = {share: np.array(found.meta["values"]) for share, found in made.items()}  # (repeats, replicates)
d = verdict["of_ceiling"] * differences[1.0].mean()

# %%
x = differences[1.0][0]  # the replicates of one repeat
half = stats.t.ppf(1 - LEVEL / 2, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5
low, high = x.mean() - half, x.mean() + half
word = "yes" if low > d else "no" if high < d else "undetermined"
replicated = inference.over_replicates(x)
np.testing.assert_allclose([low, high], [replicated.low, replicated.high])
np.testing.assert_equal(word, inference.verdict(replicated.low, replicated.high, d))
print(f"{x.mean():.3f}, interval {low:.3f} to {high:.3f}, d = {d:.3f}: {word}")

# %% [markdown]
# Compare the interval with d. All pairs are copies here, so that "yes" is the right word.

# %% [markdown]
# ## How often is the verdict right?
# The same for every repeat and every planted share. Each line is the interval of one repeat; the vertical line is d.

# %%
replicated = {share: [inference.over_replicates(x) for x in values] for share, values in differences.items()}
figure = drawing.intervals(replicated, d)

# %% [markdown]
# In the first panel nothing is shared, and the lines should lie left of d; in the last panel all is shared, and they
# should lie right of it. Grey lines cross d: they decide nothing, which is no error.

# %%
words = list(drawing.WORDS)
said = pd.DataFrame(0.0, index=shares, columns=words)
for share, repeats in replicated.items():
    for found in repeats:
        said.loc[share, inference.verdict(found.low, found.high, d)] += 1 / len(repeats)
said.rename_axis("share of copies").round(2)

# %% [markdown]
# One row a planted share, in each row the share of repeats that got each word. "no" should be most frequent at the
# top, "yes" at the bottom.

# %% [markdown]
# ## Which differences can so many replicates tell?
# If differences are normal, the noncentral t distribution gives the chance of each word from a true difference, the
# spread over replicates, d and their number. A simulation shows the same. This is how the power of the primary verdict
# is computed.

# %%
R, true, sd = verdict["replicates"], 2 * d, d
x = np.random.default_rng(9).normal(true, sd, size=(20_000, R))
half = stats.t.ppf(1 - LEVEL / 2, R - 1) * x.std(axis=1, ddof=1) / R**0.5
yes, no = (x.mean(axis=1) - half > d).mean(), (x.mean(axis=1) + half < d).mean()
expected = inference.chances(true, sd, d, R)
np.testing.assert_allclose([yes, no], expected[:2], atol=0.015)
pd.DataFrame({"simulated": [yes, no], "noncentral t": expected[:2]}, index=["yes", "no"]).round(3)

# %% [markdown]
# The two columns should agree. The figure holds the noncentral t (dotted) against the shares of repeats (lines).

# %%
spread = {share: values.std(axis=1, ddof=1).mean() for share, values in differences.items()}
expected = pd.DataFrame(
    [inference.chances(x.mean(), spread[share], d, R) for share, x in differences.items()], index=shares
)
out.figure("verdicts", drawing.verdicts(said, expected, verdict["wanted"]))

# %% [markdown]
# Read where the blue line crosses the horizontal one: from that planted share on, the verdict is "yes" as often as
# wanted. Lines that follow their dots show that the formula can be used to plan a study.

# %% [markdown]
# ## Verdict
# Is the verdict mostly right at the two ends, where the truth leaves no doubt? The share of right repeats gets an exact
# interval, and d is the share that is wanted. *Told*: from that true difference on a "yes" comes in 80% of repeats, and
# up to the other a "no".

# %%
answers = {}
for name, share, right in (("all shared", 1.0, "yes"), ("nothing shared", 0.0, "no")):
    count = round(said[right][share] * verdict["repeats"])
    found = calibration.rate(count, verdict["repeats"], level=1 - LEVEL).interval(verdict["repeats"])
    question = f"Is the verdict mostly \u201c{right}\u201d with {name}?"
    no = "The whole interval of the share of repeats lies below d."
    word = out.verdict(name, question, found, verdict["wanted"], no, form="{:.2f}")
    answers[question] = f"{word}: {found.estimate:.2f}, {found.low:.2f} to {found.high:.2f}, d = {verdict['wanted']}"
told = inference.detectable(spread[1.0], d, R)
answers |= {"true difference told as yes": f"{told.yes:.3f}", "true difference told as no": f"{told.no:.3f}"}
pd.Series(answers).to_frame("answer")

# %% [markdown]
# A "yes" in both rows says that the verdict is usually right. Between the two differences of the last rows most
# verdicts are "undetermined": so many replicates cannot tell them.

# %%
out.number("verdict d", d, "{:.3f}")
se = differences[1.0].std() / differences[1.0].size ** 0.5
out.number("verdict ceiling", differences[1.0].mean(), "{:.3f}", se=se)
out.number("verdict spread", spread[1.0], "{:.3f}")
out.number("told yes", told.yes, "{:.3f}")
out.number("told no", told.no, "{:.3f}")
for name in ("n", "replicates", "repeats"):
    out.number(f"verdict {name}", verdict[name], "{:d}")
out.save()
