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
# # Level and power: can the tests be trusted?
#
# **Question.** Do the tests keep their level where nothing is shared, and do they find what is shared? Where does a
# naive null fail?
#
# **In.** Planted pairs of rows: unrelated ones, weak truths, and traps, in which nothing is shared but pairs are not
# exchangeable. No model is read.
#
# **Out.** How often each test rejects unrelated rows (its level) and finds a weak truth (its power); how often it
# rejects in the traps, by shuffling and by the null that fits; what remains of a confounder that is held fixed.
#
# **What would count as a no.** A test fails if it rejects unrelated rows more often than it says. A null that should
# fit fails if it rejects too often in its trap. A truth that no test finds would be too weak for all of them.

# %% tags=["parameters"]
profile = "smoke"
measures = [
    "svcca_first_component", "svcca", "cka", "cka_debiased", "rsa_pearson", "procrustes", "mutual_knn", "rsa_spearman",
]  # fmt: skip
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

# %%
import numpy as np
import pandas as pd
from scipy import stats

from sae_utils import inference, nulls, profiles, report, sweep, tables
from sae_utils.inference import LEVEL
from sae_utils.measures import dissimilarities, measure, partial_rsa
from sae_utils.profiles import seed
from sae_utils.studies.known_truth import calibration, drawing, synthetic

# %%
run = profiles.start(profile, "06b_level_and_power")
out = report.Report(run, "06b_level_and_power")
where = f"params/{profile}.yaml: 06b_level_and_power"
battery = {"unrelated": synthetic.UNRELATED} | synthetic.worlds(weak_truths, f"{where}.weak_truths")
trap = synthetic.worlds({name: x["world"] for name, x in traps.items()}, f"{where}.traps")
size = calibration.Size(n=small["n"], d_a=small["d_a"], d_b=small["d_b"])
draws, repeats, naive_repeats, too_often = (small[x] for x in ("draws", "repeats", "naive_repeats", "too_often"))
label = {name: measure(name).label for name in [*measures, *trapped]}

# %% [markdown]
# ## What is the level of a permutation test?
# A permutation test scores the pairs, then scores them again after shuffling which row of B belongs to which row of A.
# Its p is the share of pairings, the observed one among them, that score at least as high. Pearson RSA is the
# correlation between the correlations of A's rows and those of B's rows.


# %%
def rsa(a, b):
    upper = np.triu_indices(len(a), 1)
    return np.corrcoef(np.corrcoef(a)[upper], np.corrcoef(b)[upper])[0, 1]


def p_value(a, b, orders):
    as_high = sum(rsa(a, b[order]) >= rsa(a, b) for order in orders)
    return (as_high + 1) / (len(orders) + 1)


def shuffles(m, n, use):
    return np.random.default_rng(use).permuted(np.tile(np.arange(n), (m, 1)), axis=1)


# %%
def p_of(repeat, use, world=synthetic.UNRELATED):
    a, b, _ = world.draw(np.random.default_rng([use, repeat]), size.n, size.d_a, size.d_b)
    return p_value(a, b, shuffles(draws, size.n, [use, repeat, 1]))


use = seed(run, "by hand")
p = np.array([p_of(repeat, use) for repeat in range(20)])
counted = calibration.rejections(synthetic.UNRELATED, "shuffled", size, ["rsa_pearson"], draws, 20, use)
np.testing.assert_equal((p <= LEVEL + 1e-9).sum(), counted.meta["rsa_pearson"])
print(*np.sort(p).round(2))

# %% [markdown]
# These are the p of twenty data sets in which nothing is shared. A valid p takes each of its values equally often, so
# that one data set in twenty should have p at .05 or below. The share that does is the level of the test.

# %%
count, most = 1, 20
low, high = stats.beta.ppf(0.005, count, most - count + 1), stats.beta.ppf(0.995, count + 1, most - count)
np.testing.assert_allclose([count / most, low, high], calibration.rate(count, most))
print(f"{count} of {most}: {count / most:.2f}, interval {low:.3f} to {high:.3f}")

# %% [markdown]
# The exact interval of 99% (Clopper and Pearson) shows how little a few data sets say about a level: look at its width.
# The parameters therefore ask for many more.

# %% [markdown]
# ## Do the tests keep their level, and what do they find?
# The same count for every measure: on unrelated rows it is the level, on each weak truth it is the power. The verdict
# is on the test that rejects most unrelated data sets; its interval is not adjusted for that choice. Its d is the level
# that would be too high.

# %%
use = seed(run, "rates")
rejected = sweep.run(
    lambda truth: calibration.rejections(battery[truth], "shuffled", size, measures, draws, repeats, use),
    battery,
    "level and power",
)
rates = {(truth, x): calibration.rate(found.meta[x], repeats) for truth, found in rejected.items() for x in measures}
out.figure("tests", drawing.tests(rates, label))

# %% [markdown]
# Left: the bars should cross the line at 5%; a bar wholly to its right is a test that rejects too often. Right: the
# further a marker lies to the right, the more often the test finds that truth.

# %%
level = [rates["unrelated", name] for name in measures]
tests = pd.DataFrame({"measure": [label[x] for x in measures], "scope": [measure(x).scope for x in measures]})
tests["level, %"] = [100 * x.share for x in level]
tests["99% interval"] = [f"{100 * x.low:.1f} to {100 * x.high:.1f}" for x in level]
for truth in weak_truths:
    tests[f"{truth}, %"] = [100 * rates[truth, name].share for name in measures]
out.table("tests", tests, {"level, %": "{:.1f}"} | {f"{truth}, %": "{:.0f}" for truth in weak_truths})

# %% [markdown]
# The level should be near 5 in every row. Compare the columns of the truths down the rows: no measure need be best at
# all of them, and a test that misses a kind of truth says little where it does not reject.

# %%
rejects = max(rejected["unrelated"].meta[name] for name in measures)
most_often = calibration.rate(rejects, repeats, level=1 - LEVEL).interval(repeats)
question, no = "Does a test reject unrelated rows too often?", "Even the test that rejects most rejects less than d."
word = out.verdict("level", question, most_often, too_often, no)
for name, value in (("small n", size.n), ("repeats", repeats), ("draws", draws)):
    out.number(name, value, "{:,}")
out.text("small width", f"{size.d_a} and {size.d_b}")
out.number("too often", 100 * too_often, "{:.0f}")
for name in ("rsa_spearman", "svcca", "svcca_first_component"):
    for truth in ("noisy copy", "clustered copy"):
        power = rates[truth, name].share if (truth, name) in rates else np.nan
        out.number(f"power {truth} {name}", 100 * power, "{:.0f}")

# %% [markdown]
# ## Where does a naive null fail?
# Shuffling assumes that pairs are exchangeable. *Families* break that: near-duplicates lie together on both sides, so
# that their pairs repeat each other. The shuffle tears them apart, and its null is too narrow. The right null moves
# whole families.

# %%
families = synthetic.Grouped(kind="grouped", groups=16, centres=0.0, alike_a=0.9, alike_b=0.9)
a, b, family = families.draw(np.random.default_rng(2), 48, 8, 12)
members = [np.flatnonzero(family == f) for f in range(16)]
rng = np.random.default_rng(3)
moved = np.array([np.concatenate([members[f] for f in rng.random(16).argsort()]) for _ in range(199)])
np.testing.assert_array_equal(moved, nulls.blocks(family).draw(np.random.default_rng(3), 199, 48))
orders = {"pairs shuffled": shuffles(199, 48, 3), "families moved": moved}
sd = {name: np.std([rsa(a, b[order]) for order in of]) for name, of in orders.items()}
pd.DataFrame({"SD of the null": sd, "p": {name: p_value(a, b, of) for name, of in orders.items()}}).round(3)

# %% [markdown]
# Nothing is shared between the families of A and of B. Compare the spread of the two nulls: the score is judged by it,
# and a null that is too narrow calls chance a finding.

# %% [markdown]
# The other two traps. *Shared partners*: features of A that chose one partner are alike, so that all of them must get
# another partner together. *Confounder*: one label places both sides, so that rows may change places only with rows
# of their own label. The figure and the table below count rejections by shuffling and by the null that fits.

# %%
group = np.repeat(np.arange(3), 4)
within = np.lexsort((np.random.default_rng(4).random(12), group))  # by label, at random within
np.testing.assert_array_equal(within, nulls.strata(group).draw(np.random.default_rng(4), 1, 12)[0])
first = np.unique(group, return_index=True)[1]  # one row of B for every partner
jointly = first[np.random.default_rng(4).permuted(np.arange(3))][group]
np.testing.assert_array_equal(jointly, nulls.reassigned(group).draw(np.random.default_rng(4), 1, 12)[0])
pd.DataFrame({"group": group, "within strata": within, "reassigned": jointly}).T

# %% [markdown]
# One column a row of A, and the row of B that it is paired with. Within strata, a partner never leaves its label.
# Reassigned, all rows of a group have one partner.

# %%
checks = [(name, null) for name in traps for null in dict.fromkeys(["shuffled", traps[name]["right_null"]])]
times = {check: naive_repeats if check[1] == "shuffled" else repeats for check in checks}
use = seed(run, "traps")
counts = sweep.run(
    lambda x: calibration.rejections(trap[x[0]], x[1], size, trapped, draws, times[x], use), checks, "nulls"
)
rate = {(*x, name): calibration.rate(counts[x].meta[name], times[x]) for x in checks for name in trapped}
naive = {(name, x): rate[name, "shuffled", x] for name in traps for x in trapped}
right = {(name, x): rate[name, traps[name]["right_null"], x] for name, x in naive}

# %%
rows = [f"{name}, {label[x]}" for name, x in naive]
out.figure("nulls", drawing.nulls(*(dict(zip(rows, of.values(), strict=True)) for of in (naive, right))))

# %% [markdown]
# Blue should lie at the line of 5%: that null keeps its level. The further a grey point lies to the right of its blue
# one, the more a shuffle of the pairs would claim.

# %%
nulls_table = pd.DataFrame(
    {
        "world": name,
        "measure": label[x],
        "% by shuffling": 100 * naive[name, x].share,
        "right null": traps[name]["right_null"],
        "% by it": 100 * right[name, x].share,
        "99% interval": f"{100 * right[name, x].low:.1f} to {100 * right[name, x].high:.1f}",
    }
    for name, x in naive
)
out.table("nulls", nulls_table, {"% by shuffling": "{:.1f}", "% by it": "{:.1f}"})

# %% [markdown]
# The last column should hold 5 in every row. A null whose interval lies above the level that is too high fails.

# %% [markdown]
# ## Can a confounder be held fixed in the score?
# A confounder can also be taken out of the score: the partial correlation of dissimilarities, given those of the
# label. It is an effect size without a p, because permuting rows also breaks the tie of the label to either side.

# %%
confounder = synthetic.Grouped(kind="grouped", groups=3, centres=0.0, alike_a=0.7, alike_b=0.7)
a, b, group = confounder.draw(np.random.default_rng(5), 48, 8, 12)
x, y, z = dissimilarities(a, "pearson"), dissimilarities(b, "pearson"), (group[:, None] != group).astype(float)
ranks = [stats.rankdata(side[np.triu_indices(48, 1)]) for side in (x, y, z)]
xy, xz, yz = np.corrcoef(ranks)[np.triu_indices(3, 1)]
partial = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
np.testing.assert_allclose(partial, partial_rsa(x, y, [z], comparison="spearman"))
pd.Series({"Spearman RSA": xy, "partial": partial}).round(3)

# %%
strata, use = [name for name, x in traps.items() if x["right_null"] == "strata"], seed(run, "confounded")
confounded = pd.DataFrame(
    {name: calibration.confounded(trap[name], size, naive_repeats, use).meta for name in strata},
    index=["rsa", "rsa_sd", "partial", "partial_sd"],
)
confounded.round(3)

# %% [markdown]
# First one data set, then means and SDs over many. Geometry is unrelated given the label: compare the partial score
# with 0, and with the score beside it, to see how much of the confounder it takes off.

# %%
fails = {key for key, x in naive.items() if inference.verdict(x.low, x.high, too_often) == "yes"}
keeps = {key for key, x in right.items() if inference.verdict(x.low, x.high, too_often) == "no"}
out.text("naive verdict", tables.among(list(naive), fails))
out.text("right verdict", tables.among(list(right), keeps))
by_shuffling, by_right = ([100 * x.share for x in of.values()] for of in (naive, right))
out.number("naive least", min(by_shuffling, default=np.nan), "{:.0f}")
out.number("naive largest", max(by_shuffling, default=np.nan), "{:.0f}")
out.number("right largest", max(by_right, default=np.nan), "{:.1f}")
out.number("naive repeats", naive_repeats, "{:,}")
given = confounded[strata[0]] if strata else pd.Series(np.nan, confounded.index)
for name, value in given.items():
    out.number(f"confounded {name}", value)
vanishes = abs(given.partial) < abs(given.rsa) / 5
out.text("partial verdict", ("vanishes" if vanishes else "remains in part") if strata else "n/a")

# %% [markdown]
# ## Verdict
# The first row is the verdict with an interval; the others count tests and intervals that were held against the same
# rule, one by one.

# %%
answers = {
    question: f"{word}: {most_often.estimate:.3f}, {most_often.low:.3f} to {most_often.high:.3f}, d = {too_often}",
    "tests that reject too often by shuffling": tables.among(list(naive), fails),
    "tests that keep their level by the null that fits": tables.among(list(right), keeps),
}
pd.Series(answers).to_frame("answer")

# %% [markdown]
# A "no" in the first row is the answer that a valid test gives. The second row counts the traps that a shuffle falls
# into; the last one counts the remedies that hold.

# %%
out.save()
