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
# # Geometry between classes
#
# **Question.** Do two models arrange the classes of words alike: is the place of animals among tools, deeds and months
# the same in both?
#
# **In.** The true class of every word of the stories, and the lists into which hidden attributes divide the classes;
# replicates of two models with their SAEs, on a text and under exchanged words. **Out.** The centroid of every class in
# either model; how alike the centroids are arranged, against two controls, as a mean over replicates; a verdict each.
#
# **What would count as a no.** An interval over replicates below d, for the excess above the control arm: classes are
# then arranged hardly more alike than where words have changed places. The same above *overlap*: the likeness then
# comes from features that several classes share, wherever these lie. An interval that holds d decides nothing.

# %% tags=["parameters"]
profile = "smoke"

# %%
from itertools import product

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from sae_utils import inference, profiles, replicates, report
from sae_utils.profiles import seed
from sae_utils.studies.semantic_subspaces import centroids, drawing

# %%
run = profiles.start(profile, "05c_class_geometry")
out = report.Report(run, "05c_class_geometry")
out.needs(run.common.replicates, "no replicates, in which words of known classes change places")
measure, d = run.common.primary.measure, run.common.primary.d("excess")
cells = replicates.of(run, *run.common.primary.pair)  # (A, B) of every replicate
replicates.prepare(run, cells)

# %% [markdown]
# ## How much of a feature belongs to a class?
# No pairs of features are needed here: classes are paired by their names. A feature belongs to a class by the share of
# its activation on words of the class. We read the first replicate on the text and on the text with its words
# exchanged.

# %%
classes, exchange = centroids.names("classes"), replicates.seed(run, cells[0][0])
a, b = (centroids.side(run, name, exchange, "classes") for name in cells[0])
share = centroids.shares(a.codes, a.read, len(classes))  # (features, classes)
with np.errstate(invalid="ignore"):  # dead features
    by_hand = a.codes[a.read == 0].sum(0, dtype=float) / a.codes.sum(0, dtype=float)
np.testing.assert_allclose(share[:, 0], by_hand, rtol=1e-5)  # codes are float32
pd.Series(share[~np.isnan(share[:, 0])].max(1)).describe()[["count", "25%", "50%", "75%", "max"]].round(2)

# %% [markdown]
# These are the largest shares of the live features. Where they are small, most features fire on several classes, so
# that features must be weighted, not assigned.

# %% [markdown]
# ## Where does a class lie?
# The centroid of a class is the mean of all unit decoder rows, weighted by the share of each feature on the class:

# %%
unit = a.rows / np.linalg.norm(a.rows, axis=1, keepdims=True)  # (features, d)
weight = np.nan_to_num(share)
with np.errstate(invalid="ignore"):  # classes without activation
    by_hand = weight.T @ unit / weight.sum(0)[:, None]  # (classes, d)
np.testing.assert_allclose(centroids.centroids(a.rows, share), by_hand, atol=1e-6)

# %% [markdown]
# ## Are two models alike in it?
# The score is RSA: the dissimilarities, 1 - Pearson, of any two centroids in A, correlated by rank with those of the
# same two classes in B. With shuffled classes its mean is 0, so that the score is also the excess.
#
# Two controls show what else would make centroids alike. In the *control arm*, features of one model are weighted by
# the words that the other reads there, so that classes no longer correspond. For *overlap*, decoder rows are shuffled
# among the features of each model: what is left is that two classes with many features in common have close centroids
# in any model.

# %%
generator = np.random.default_rng(seed(run, "classes"))
of_a, of_b = (centroids.of_side(side, len(classes), generator) for side in (a, b))
between = centroids.between(of_a, of_b, "rsa_spearman")
known = ~np.isnan(np.hstack([of_a.true, of_b.true])).any(axis=1)
rsa = spearmanr(*(pdist(x.true[known], "correlation") for x in (of_a, of_b))).statistic
assert not between.n >= replicates.FEWEST or np.isclose(between.true, rsa, atol=1e-6)
pd.Series(between._asdict()).round(3).to_frame().T

# %%
of_other = centroids.shares(b.codes, b.other, len(classes))  # B's features by the words that A reads
np.testing.assert_allclose(of_b.control, centroids.centroids(b.rows, of_other))
moved = np.setdiff1d(np.arange(len(a.rows)), np.flatnonzero(np.isnan(share[:, 0])))
rows = a.rows.copy()
rows[moved] = a.rows[np.random.default_rng(seed(run, "classes")).permutation(moved)]
np.testing.assert_allclose(of_a.overlap, centroids.centroids(rows, share))

# %% [markdown]
# *True* should exceed both controls. All three arms at once, every point two classes:

# %%
arms = {"true arm": (of_a.true, of_b.true), "control arm": (of_a.true, of_b.control)}
figure = drawing.dissimilarities(arms | {"overlap": (of_a.overlap, of_b.overlap)})

# %% [markdown]
# A rising cloud means that two classes which are close in A are close in B. A cloud without slope means that they are
# arranged independently.

# %% [markdown]
# ## Classes and lists in every replicate
# The same for the finer lists, into which hidden attributes divide the classes; both as means over replicates.


# %%
def measured(level):
    def one(pair):
        return centroids.measured(run, pair, level, measure, seed(run, level))

    of_level = replicates.over(one, cells, f"centroids of {level}")
    return pd.DataFrame(of_level.values(), columns=centroids.Between._fields, dtype=float)


frames = {level: measured(level) for level in ("classes", "lists")}
centres = pd.DataFrame({"of": level, **x.mean()} for level, x in frames.items())
out.table("between", centres, {"n": "{:.0f}", **dict.fromkeys(["true", "control", "overlap"], "{:.2f}")})

# %% [markdown]
# Compare *true* with *control* and with *overlap* in each row; *n* counts the classes, or lists, with a centroid in
# both models.

# %% [markdown]
# ## Verdicts

# %%
beyond, verdicts = {"control": "", "overlap": ", beyond features that they share"}, {}
for (level, x), (arm, more) in product(frames.items(), beyond.items()):
    over, question = inference.over_replicates(x.true - x[arm]), f"Are the {level} of words arranged alike{more}?"
    no = f"an excess above that of the {arm} by less than d"
    verdicts[f"{level} {arm}"] = out.verdict(f"{level} {arm}", question, over, d, no, form="{:.2f}", tested=over.n > 2)
verdicts

# %% [markdown]
# ## Save

# %%
out.save()
