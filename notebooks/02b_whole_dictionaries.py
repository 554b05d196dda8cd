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
# # Whole dictionaries
#
# **Question.** How much of a dictionary recurs in another? Are two dictionaries alike as wholes, and do the features
# that recur across SAE seeds also recur across models?
#
# **In.** The codes and decoder rows of the primary pair, in every replicate and both arms; further SAEs of A's model.
# **Out.** A table of scores that need no given pairs, in both arms and beside a ceiling; the share of features with a
# counterpart by their stability. All of it is secondary to the primary analysis.
#
# **What would count as a no.** The stable half of A's features has a counterpart in B no more often than the other
# half: the interval of the difference of shares lies below d. The scores of wholes have no threshold, and no verdict.

# %% tags=["parameters"]
profile = "smoke"
candidates = 16
counterpart = 0.5
bins = 3

# %%
import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from sae_utils import arrays, correlate, inference, matching, pipeline, profiles, replicates, report
from sae_utils.profiles import seed
from sae_utils.studies.one_to_one import drawing, matchings, wholes

# %%
run = profiles.start(profile, "02b_whole_dictionaries")
out = report.Report(run, "02b_whole_dictionaries")
d = {scale: x.d for scale, x in run.common.primary.thresholds.items()}  # {} without replicates: no verdicts
cells = replicates.of(run, *run.common.primary.pair)
if run.common.replicates:
    replicates.prepare(run, cells)
both = matchings.arms(run, cells[0], candidates)["true"]  # two correlated dictionaries, on all texts

# %% [markdown]
# ## Distances between activations
# *Permutation Procrustes* asks how far the activations of A are from those of B when the features of B are put into the
# best order. Activations are centred and divided by their norm; what one side has too many of is held against 0. On the
# first live features of both sides, by hand:

# %%
some_a, some_b = np.flatnonzero(both.found.a.live)[:16], np.flatnonzero(both.found.b.live)[:24]
x = both.a.codes[both.on_matching][:, some_a].toarray().astype(np.float64)  # (tokens, features of A)
y = both.b.codes[both.on_matching][:, some_b].toarray().astype(np.float64)
small = correlate.features(x, y, k=len(some_a))
x, y = ((z - z.mean(axis=0)) / np.linalg.norm(z - z.mean(axis=0)) for z in (x, y))
i, j = linear_sum_assignment(x.T @ y, maximize=True)
unpaired = np.delete(y, j, axis=1)
distance = np.sqrt(np.linalg.norm(x[:, i] - y[:, j]) ** 2 + np.linalg.norm(unpaired) ** 2)
np.testing.assert_allclose(distance, matching.permutation(small).distance, rtol=1e-4)
print(f"distance {distance:.3f}; the largest possible one is {np.sqrt(2):.3f}")

# %% [markdown]
# The distance is 0 for a copy in another order, and largest where no feature of A correlates with any of B. These few
# features say little about the two dictionaries: most have their partners elsewhere.

# %% [markdown]
# *Soft matching* is the same distance if every feature counts alike and may be shared out among several partners
# (notebook 02 has it by hand).

# %% [markdown]
# ## Cosines between decoder rows
# *MMCS* is the mean over A of the largest cosine with any row of B. *PW-MCC* is the mean cosine of the best one-to-one
# pairs. The rows of two models lie in different spaces: an orthogonal map carries A's to B's. It is fitted on one half
# of the optimal pairs, and the other half is scored.

# %%
pairs = matching.optimal(both.found)
x, y = arrays.unit(both.a.decoder[pairs.a]), arrays.unit(both.b.decoder[pairs.b])  # (pairs, d)


def fitted(fit, rest):
    """MMCS and PW-MCC of the pairs at `rest`, under the orthogonal map of the pairs at `fit`."""
    left, _, right = np.linalg.svd(x[fit].T @ y[fit], full_matrices=False)
    cosine = arrays.unit(x[rest] @ left @ right) @ y[rest].T  # (rest, rest)
    best = linear_sum_assignment(cosine, maximize=True)
    return cosine.max(axis=1).mean(), cosine[best].mean()


# %%
order = np.random.default_rng(seed(run, "wholes")).permutation(len(pairs))
one, two = order[: len(order) // 2], order[len(order) // 2 :]
by_hand = np.mean([fitted(one, two), fitted(two, one)], axis=0)
known = wholes.cosines(both, pairs, one_space=False, seed=seed(run, "wholes"))
if len(one) >= min(x.shape[1], y.shape[1]):  # with fewer pairs than dimensions the library gives no score
    np.testing.assert_allclose(list(known.values()), by_hand, rtol=1e-4)
pd.Series(known).round(3)

# %% [markdown]
# MMCS can reuse a row of B, PW-MCC cannot: the distance of the two says how many rows of A want the same partner.

# %% [markdown]
# ## All scores, in both arms
# *IMD* compares the neighbour graphs of the rows without any pairing. *Clusters* are the connected components when
# every feature points at its best partner. *Leftovers* are features in no mutual pair, matched once more. The ceiling
# is another SAE of A's model in the first replicate, where the profile has one.


# %%
def both_arms(names):
    """The scores of one replicate: a row a score, a column an arm."""
    of_arms = matchings.arms(run, names, candidates)
    return pd.DataFrame({arm: wholes.scores(x, seed=seed(run, "wholes")) for arm, x in of_arms.items()})


found = replicates.over(both_arms, cells, "whole dictionaries")
seeds = wholes.other_seeds(run, cells[0][0])
ceiling = both_arms((cells[0][0], seeds[0]))["true"] if seeds else pd.Series(np.nan, found[cells[0]].index)

# %%
rows = []
for score in ceiling.index:
    values = pd.DataFrame(x.loc[score] for x in found.values()).reindex(columns=["true", "control"])
    apart = inference.over_replicates(values.true - values.control)
    means = {"another SAE of A": ceiling[score], "true arm": values.true.mean(), "control arm": values.control.mean()}
    interval = f"{apart.low:.3g} to {apart.high:.3g}"
    rows.append({"score": score, **means, "difference": apart.estimate, "interval": interval, "p": apart.p})
as_wholes = pd.DataFrame(rows)
out.table("dictionaries", as_wholes, {**dict.fromkeys(as_wholes.columns[1:5], "{:.3g}"), "p": "{:.3f}"})

# %% [markdown]
# A smaller distance is more alike, and so is a larger value of another score. Where *interval* excludes 0, the models
# share something that exchanged words destroy. The true arm against the ceiling says how much does not recur.

# %% [markdown]
# ## Features that are stable across seeds
# Other SAEs of A's model differ in their seed only. The *stability* of a feature is its r with its best partner in each
# of them, averaged. One set of documents chooses the partner, the other gives r. One feature of A in B by hand:

# %%
judged = pipeline.correlated(*(pipeline.features(run, name) for name in cells[0]), candidates)
feature = np.argmax(judged.found.a.count)


def r_with_all(on):
    """r of the feature with every feature of B, on the tokens `on`; NaN with a constant one."""
    x = judged.a.codes[on][:, [feature]].toarray().ravel().astype(np.float64)
    y = judged.b.codes[on].astype(np.float64)  # (tokens, features of B)
    mean, square = np.ravel(y.mean(axis=0)), np.ravel(y.multiply(y).mean(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (y.T @ x / len(x) - mean * x.mean()) / np.sqrt((square - mean**2) * x.var())


# %%
partner = np.nanargmax(r_with_all(judged.on_matching))
r_held_out = np.nan_to_num(r_with_all(judged.on_held_out)[partner])
np.testing.assert_allclose(r_held_out, wholes.best_r(run, *cells[0], candidates)[feature], atol=1e-4)
r_matching = r_with_all(judged.on_matching)[partner]
print(f"feature {feature} of A, {partner} of B: r {r_matching:.2f} on matching documents, {r_held_out:.2f} held out")

# %% [markdown]
# The first r is the largest of many, and so too large on average. The second is not: its documents had no part in the
# choice.

# %%
first, others = cells[0][0], [names[1] for names in cells]
asked = [(first, other) for other in (*seeds, *others)] if seeds else []
best_r = replicates.over(lambda names: wholes.best_r(run, *names, candidates), asked, "stable features")
if seeds:
    stable = np.mean([best_r[first, other] for other in seeds], axis=0)  # (features of A,)
    across = np.array([best_r[first, other] for other in others])  # (replicates of B, features of A)
    shares = np.array([wholes.by_stability(stable, x, counterpart, bins) for x in across])
    labels = {"seeds": "r across seeds of A's SAE", "models": "r across models"}
    out.figure("stable", drawing.stability(stable, across[0], counterpart, shares, labels))

# %% [markdown]
# Left: points near the diagonal recur across models as they do across seeds; the line is the threshold of a
# counterpart. Right: features in bins of equal size by their stability; a rising line says that stable features recur.

# %% [markdown]
# ## The verdict
# The features are cut into two halves by their stability. In either half, what share has a counterpart in B? All of it
# is about one model A, that of the first replicate, over the replicates of B. By hand for the first B:

# %%
if seeds:
    known = np.flatnonzero(np.isfinite(stable) & np.isfinite(across[0]))
    ranked = known[np.argsort(stable[known], kind="stable")]
    by_hand = [np.mean(across[0][half] >= counterpart) for half in np.array_split(ranked, 2)]
    np.testing.assert_allclose(wholes.by_stability(stable, across[0], counterpart, 2), by_hand)
    halves = np.array([wholes.by_stability(stable, x, counterpart, 2) for x in across])
    print(pd.DataFrame(halves, columns=["less stable half", "more stable half"]).round(3).to_string())

# %% [markdown]
# A row is a B. The verdict is on the difference of the columns: *yes* if its interval lies above d.

# %%
if seeds:
    out.number("stable seeds", len(seeds), "{:d}")
    out.number("stable least", 100 * shares[:, 0].mean(), "{:.0f}")
    out.number("stable most", 100 * shares[:, -1].mean(), "{:.0f}")
if seeds and "share" in d:
    question = "Do the stable half of A's features have a counterpart in B more often?"
    more = inference.over_replicates(halves[:, 1] - halves[:, 0])
    no = "An interval of the difference of shares below d."
    print(out.verdict("stable", question, more, d["share"], no, form="{:.2f}"))
for part in () if seeds else ("stable", "table verdicts"):
    out.absent(part, "no other SAE of A's model")
out.save()
