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
# **In.** The replicates of both models with their SAEs, read on text and on exchanged words (`07_controls` shows both
# arms step by step); further SAEs. **Out.** The difference D of the two arms by every choice, over replicates; the
# share with a counterpart as a curve, beside a planted truth; partners that are judged on other topics.
#
# **What would count as a no.** The answer does not depend on the choices where no choice turns the verdict. The share
# does not count shared features where it differs between planted worlds that share equally many.

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
import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from sae_utils import inference, pipeline, profiles, replicates, report, sweep, tables
from sae_utils.engine.text import corpora
from sae_utils.engine.text.stories import TOPICS
from sae_utils.profiles import seed
from sae_utils.studies import feature_matching
from sae_utils.studies.sensitivity import choices, drawing, readings

# %%
run = profiles.start(profile, "07b_sensitivity")
out = report.Report(run, "07b_sensitivity")
out.needs(run.common.replicates, "no replicates of its models")
primary, d = run.common.primary, run.common.primary.d("excess")
sets = {"": primary.pair, **other_dictionaries}
pairs = {name: replicates.of(run, *pair) for name, pair in sets.items()}
replicates.prepare(run, [names for of in pairs.values() for names in of])

# %% [markdown]
# ## One specification by hand
# In the first replicate, content features of A that fire at least 20 times are matched one-to-one to features of B.
# *Optimal*, the primary choice, takes the pairs with the largest total r; *mutual* those that are each other's best. In
# the true arm both models read the same words; in the control arm B reads exchanged words.

# %%
sides = replicates.sides(run, pairs[""][0])
first = readings.views(sides)[0]  # A's features choose, on one half of the documents
features = np.flatnonzero(first.content & (first.firings >= 20))
optimal, mutual = {}, {}
for arm, r in zip(("true", "control"), first.r, strict=True):
    live = np.flatnonzero(np.isfinite(r).any(axis=0))
    block = r[np.ix_(features, live)]
    best, back = block.argmax(axis=1), block.argmax(axis=0)
    i, j = linear_sum_assignment(block, maximize=True)
    optimal[arm] = features[i], live[j]
    i = np.flatnonzero(back[best] == np.arange(len(features)))
    mutual[arm] = features[i], live[best[i]]

# %%
for how, found in (("optimal", optimal), ("mutual", mutual)):
    for arm, (a, b) in enumerate(found.values()):
        library = choices.matched(first, arm, how, 20)
        np.testing.assert_array_equal([a, b], [library.features, library.others])
n = {how: [len(a) for a, _ in found.values()] for how, found in (("optimal", optimal), ("mutual", mutual))}
pd.DataFrame(n, index=["true arm", "control arm"])

# %% [markdown]
# Compare the two arms: where one has more pairs, both are cut to the smaller number, by random subsets.

# %% [markdown]
# The score of an arm is Spearman RSA of the paired decoder rows. Its mean over shuffled pairings is 0, so that it is
# its own excess; D is that of the true arm less that of the control arm.


# %%
def rsa(a, b):
    """Spearman correlation of the dissimilarities of decoder rows."""
    x, y = np.corrcoef(first.rows[a]), np.corrcoef(first.others[b])
    above = np.triu_indices(len(a), 1)
    return np.corrcoef(rankdata((1 - x)[above].round(12)), rankdata((1 - y)[above].round(12)))[0, 1]


# %%
base = choices.Choice(measure=primary.measure)
spearman = base.model_copy(update={"measure": "rsa_spearman"})
found = choices.differences([first], [spearman], subsets=subsets, seed=seed(run, "subsets"))[spearman]
np.testing.assert_allclose([rsa(*x) for x in optimal.values()], [found.true, found.control], atol=1e-6)
whole = choices.differences(readings.views(sides), [base], subsets=subsets, seed=seed(run, "subsets"))[base]
arms = replicates.arms(run, pairs[""][0], [primary.measure])
np.testing.assert_allclose(whole.value, arms.difference(primary.measure))
pd.DataFrame([found, whole], index=["by hand, one half and role", "all halves and roles"]).round(3)

# %% [markdown]
# `value` is D; the second row is what the primary analysis of `07_controls` takes from this replicate.

# %% [markdown]
# ## Every choice
# Each specification differs from the primary analysis in one choice, a few in two. All of them use the same
# correlations of a replicate.

# %%
where = f"params/{profile}.yaml: 07b_sensitivity"
asked = alternatives | {"dictionaries": list(other_dictionaries)}
specifications = choices.specifications(base, asked, crossed, where)
thresholds = np.append(np.linspace(0, 0.95, 20), counterpart)
groups = [range(start, len(TOPICS), 2) for start in (0, 1)]  # every second topic
sites = pipeline.features(run, pairs[""][0][0]).sites
topics = readings.topics_of(sites, corpora.text(run.corpus).array("topic"))


# %%
def measure(cell):
    """All that one replicate of one set of SAEs says."""
    name, number = cell
    own, wanted = replicates.sides(run, pairs[name][number]), choices.of(specifications, name)
    drawn = {"subsets": subsets, "seed": seed(run, "subsets")}
    return readings.measure(own, wanted, thresholds, topics, groups, **drawn)


cells = [(name, number) for name in sets for number in range(len(pairs[name]))]
measured = sweep.run(measure, cells, "specifications")
by_choice = {
    x: [measured[cell].differences[x.choice] for cell in cells if cell[0] == x.choice.dictionaries]
    for x in specifications
}
specified = drawing.table(by_choice, d)
out.table("specifications", specified, drawing.FORMATS)

# %% [markdown]
# Read the last column: the answer depends on a choice if its row turns *yes* into *no* or back. *undetermined* does not
# turn it: look whether D moved or its interval grew. A single d holds for all rows, although measures differ in scale.

# %%
out.figure("curve", drawing.curve(specified, d))

# %% [markdown]
# See which intervals cross the dashed d, and whether they lie within the band of the primary analysis.

# %%
tested = specified[specified.verdict != drawing.FEW]
for word in ("yes", "no", "undetermined"):
    out.text(f"verdicts {word}", tables.among(list(tested.index), list(tested.index[tested.verdict == word])))
out.number("specifications", len(specifications), "{:d}")
out.number("least", np.nanmin(specified.D))
out.number("largest", np.nanmax(specified.D))
out.number("d", d)

# %% [markdown]
# ## What does the share with a counterpart read?
# A feature has a counterpart if its best partner on the documents that choose reaches a threshold of r on the documents
# that judge. In planted worlds the same share of features is in both sides, and only the noise of their activations
# differs. How large is the share that is read?

# %%
read_shares, n = {}, planted["features"]
worlds = {"features": n, "tokens": planted["tokens"], "seed": seed(run, "planted")}
for noise in planted["noise"]:
    x, y = feature_matching.planted_share(planted["shared"], noise, **worlds)
    parts = np.array_split(np.arange(len(x)), 2)
    choose, judge = (np.corrcoef(x[part].T, y[part].T)[:n, n:] for part in parts)
    reached = judge[np.arange(n), choose.argmax(axis=1)][:, None] >= thresholds  # (features, thresholds)
    read_shares[noise] = feature_matching.share(judge, feature_matching.best(choose), thresholds)
    np.testing.assert_allclose(read_shares[noise], reached.mean(axis=0))
pd.Series({f"noise {noise:g}": shares[-1] for noise, shares in read_shares.items()}).round(2)

# %% [markdown]
# Compare the shares with the truth, `planted["shared"]`: they differ only by noise.

# %% [markdown]
# The share is a reading of threshold and noise, not a count of what is shared. In the replicates it is therefore a
# curve: in the true arm, in the control arm, and with the partner that fires most nearly as often.

# %%
of_primary = [measured["", number] for number in range(len(pairs[""]))]
replicated = np.array([x.shares for x in of_primary])  # (replicates, all or content features, arms, thresholds)
curves = [
    [[inference.over_replicates(values) for values in of_arm.T] for of_arm in of_features]
    for of_features in replicated.transpose(1, 2, 0, 3)
]
without_last = [[of_arm[:-1] for of_arm in of_features] for of_features in curves]  # which is `counterpart`
drawn = {noise: shares[:-1] for noise, shares in read_shares.items()}
out.figure("share", drawing.shares(thresholds[:-1], drawn, planted["shared"], without_last))

# %% [markdown]
# Left, see where the curves leave the line of the truth; on the right, how far the blue curve lies above the others.

# %%
out.text("planted shares", ", ".join(f"{shares[-1]:.2f}" for shares in read_shares.values()))
out.text("planted noise", ", ".join(f"{noise:.2f}" for noise in planted["noise"]))
out.number("planted truth", planted["shared"])
out.number("counterpart", counterpart, "{:.1f}")
for of_features, name in zip(curves, ("all", "content"), strict=True):
    for of_arm, arm in zip(of_features, ("true", "control", "by rate"), strict=True):
        out.number(f"share {name} {arm}", 100 * of_arm[-1].estimate, "{:.0f}", se=100 * of_arm[-1].se)
    for end in ("low", "high"):
        out.number(f"share {name} {end}", 100 * getattr(of_features[0][-1], end), "{:.0f}")

# %% [markdown]
# ## Do partners hold on other topics?
# Documents of every second topic choose the best partners. Other documents judge them, once those of the same topics
# and once those of the other topics.

# %%
apart, judged = drawing.topics(np.array([list(x.topics.values()) for x in of_primary]))
out.table("topics", apart, dict.fromkeys(apart.columns[1:], "{:.2f}"))

# %% [markdown]
# The last row is what partners lose on topics that did not choose them: see whether its intervals lie above 0.

# %% [markdown]
# ## The verdict on topics
# The threshold d of shares decides, as for every share.

# %%
question = "Is the share with a counterpart smaller on topics that did not choose the partners?"
of_shares = primary.d("share")
out.verdict("topics", question, judged[2][1], of_shares, "it falls by less than d")

# %% [markdown]
# A yes means that best partners depend in part on the topics that chose them.

# %%
out.save()
