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
# # Feature matching
#
# **Question.** Do the features of two SAEs, trained on two models, pair up by what they fire on?
#
# **In.** The codes of the primary pair of dictionaries on matching and on held-out documents, in every replicate.
# **Out.** Pairs, their correlation on documents that did not choose them, the share of features with a counterpart,
# and what chance gives. The first replicate shows each step; the last section has the numbers over replicates.
#
# **What would count as a no.** Correlations that vanish on held-out documents; correlations that unrelated documents
# reach as easily; partners that change from one half of the documents to the other.

# %% tags=["parameters"]
profile = "smoke"
candidates = 16
counterpart = 0.5
permuted = 19
permutations = 199
firing_bins = 3

# %%
import numpy as np
import pandas as pd
from scipy.stats import t as student

from sae_utils import correlate, inference, matching, pipeline, profiles, replicates, report, store, tables
from sae_utils.profiles import seed
from sae_utils.studies import feature_matching as study
from sae_utils.studies.feature_matching import drawing, readings

# %%
run = profiles.start(profile, "01_feature_matching")
out = report.Report(run, "01_feature_matching")
a, b = (pipeline.features(run, name) for name in run.pair)
both = pipeline.correlated(a, b, candidates)
found, documents = both.found, pipeline.articles(run, a.sites)  # whole articles, where documents are parts of them
at, at_held_out = np.flatnonzero(both.on_matching), np.flatnonzero(both.on_held_out)

# %% [markdown]
# ## Correlation
# Two features are alike if they fire on the same tokens. Their likeness is the Pearson correlation r of their codes
# over the tokens of the matching documents. Here it is for twenty features of A and twenty of B.

# %%
i, j = (np.flatnonzero(side.live)[:20] for side in (found.a, found.b))
x, y = (s.codes[at][:, k].toarray().astype(float) for s, k in ((a, i), (b, j)))  # (tokens, 20) each
x, y = ((z - z.mean(0)) / z.std(0) for z in (x, y))
r = x.T @ y / len(at)
np.testing.assert_allclose(r, found.block(i, j), atol=1e-4)
pd.DataFrame(r, i, j).iloc[:6, :6].round(2)

# %% [markdown]
# Most entries should be near 0, as two features chosen at random fire on different tokens.

# %% [markdown]
# ## Pairs
# In a *many-to-one* pairing every feature takes its best partner, which many may share. A *mutual* pair is two features
# that are each other's best: the best partner's own best partner is the feature itself.

# %%
some = np.flatnonzero(found.a.live)[:50]
best = np.nanargmax(found.block(some), axis=1)  # the best partners in B
partners, number = np.unique(best, return_inverse=True)
back = np.nanargmax(found.block(None, partners), axis=0)[number]  # the best in A of these partners
mutual = matching.mutual(found)
np.testing.assert_array_equal(some[back == some], mutual.a[np.isin(mutual.a, some)])

# %%
forward, backward = (matching.many_to_one(found, way) for way in ("a_to_b", "b_to_a"))
pairs = {"many-to-one, A to B": forward, "many-to-one, B to A": backward, "mutual": mutual}
pipeline.enough(run, mutual)

# %% [markdown]
# The largest of many correlations is too large on the documents that chose it. Every pair is therefore correlated again
# on held-out documents, which chose nothing.

# %%
held_out = {name: both.held_out(p) for name, p in pairs.items()}
first = [side.codes[at_held_out][:, [p[0]]].toarray()[:, 0] for side, p in ((a, forward.a), (b, forward.b))]
with np.errstate(invalid="ignore"):  # a feature may be dead there
    np.testing.assert_allclose(np.corrcoef(*first)[0, 1], held_out["many-to-one, A to B"][0], atol=1e-4)

# %%
strength = readings.strength(pairs, held_out, found.live[0], counterpart)
out.table("pairs", strength, {"n": "{:,}", **dict.fromkeys(strength.columns[2:], "{:.2f}")})

# %% [markdown]
# *Retention* is the share of the live features of A in a pair, *unique* the number of distinct features per pair, on
# the side that has fewer: 1 where no partner is shared. Compare `r matching` with `r held out`: the difference is what
# choosing the largest adds.

# %%
out.figure("held-out", drawing.held_out(mutual.r, held_out["mutual"]))

# %% [markdown]
# Points below the line are mutual pairs that lose correlation where they were not chosen.

# %%
bins = study.bins(held_out)
out.table("bins", bins, dict.fromkeys(bins.columns[1:], "{:.3f}"))

# %% [markdown]
# The first row is the share of pairs with a held-out correlation of 0 or below: partners in name only. The mean alone
# would not tell many middling pairs from a mixture of strong and empty ones.

# %%
out.number("matching tokens", len(at), "{:,}")
out.number("held out tokens", len(at_held_out), "{:,}")
out.number("live a", found.live[0], "{:,}")
out.number("live b", found.live[1], "{:,}")
out.number("mutual pairs", len(mutual), "{:,}")
out.number("retention", 100 * len(mutual) / found.live[0], "{:.0f}")
out.number("r matching", mutual.r.mean())
out.number("r held out", np.nanmean(held_out["mutual"]))
out.number("counterpart threshold", counterpart, "{:.1f}")
out.number("at zero", 100 * bins["mutual"].iloc[0], "{:.1f}")
out.number("at zero many to one", 100 * bins["many-to-one, A to B"].iloc[0], "{:.1f}")
out.number("both ways forward", 100 * len(mutual) / len(forward), "{:.0f}")
out.number("both ways backward", 100 * len(mutual) / len(backward), "{:.0f}")

# %% [markdown]
# ## Is a best partner better than chance?
# A maximum over many candidates is above 0 by chance, the more so the rarer a feature. Two nulls permute the tokens of
# B. *Documents permuted* puts whole documents in another order: it keeps what follows what, and breaks topics. *Tokens
# permuted within documents* keeps topics, and breaks what follows what. Only a correlation that exceeds both is more
# than a shared topic and more than features that fire in runs.

# %%
home, rng = documents[at], np.random.default_rng(seed(run, "by hand"))
order = np.concatenate([np.flatnonzero(home == d) for d in rng.permutation(np.unique(home))])  # documents permuted
within = np.lexsort((rng.random(len(home)), home))  # tokens permuted within documents
np.testing.assert_array_equal(home[within], home)
pd.DataFrame({"document": home, "documents permuted": home[order], "tokens permuted": within}).head()

# %% [markdown]
# Each column is one draw: the row of the codes of A, beside the document or the row of the codes of B that it meets.
# The largest correlation of a feature of A with all features of B at one such order is one draw of the null.

# %%
chance = {
    null.name: study.maxima(a.codes, b.codes, at, null, m=permuted, seed=seed(run, "maxima"), threads=store.threads())
    for null in study.both_nulls(home)
}
null, live = study.both_nulls(home)[0], np.flatnonzero(found.b.live)
order = null.draw(np.random.default_rng(seed(run, "maxima")), 1, len(at))[0]
x = a.codes[at][:, [forward.a[0]]].toarray()[:, 0].astype(float)
r = ((x - x.mean()) @ b.codes[at[order]])[live] / (len(x) * x.std() * found.b.sd[live])
np.testing.assert_allclose(r.max(), chance[null.name].a[0, forward.a[0]], atol=1e-4)

# %% [markdown]
# p of a feature counts the draws that reach its best correlation, and is the larger of the two nulls'.

# %%
drawn = {name: x.a[:, forward.a] for name, x in chance.items()}  # (draws, pairs)
reaching = [(x >= forward.r).sum(axis=0) for x in drawn.values()]
p = (1 + np.maximum(*reaching)) / (permuted + 1)
np.testing.assert_allclose(p, study.conjunction(forward.r, list(drawn.values())))
p_backward = study.conjunction(backward.r, [x.b[:, backward.b] for x in chance.values()])

# %%
firings, least_p = found.a.count[forward.a], 1 / (permuted + 1)  # the least p: above every draw of both nulls
maximum = readings.maximum(firings, forward, chance, p <= least_p, firing_bins)
out.table("maximum", maximum, {"n": "{:,}", **dict.fromkeys(maximum.columns[2:], "{:.2f}")})

# %% [markdown]
# Compare `best r` with both columns of 95%: do features that fire less need a larger correlation? `above both` is the
# share of features that no draw of either null reaches.

# %%
out.figure("maximum", drawing.maxima(firings, forward.r, drawn))

# %% [markdown]
# Blue points above both kinds of marks are features whose best partner is no accident.

# %%
out.number("above both", 100 * np.mean(p <= least_p), "{:.0f}")
out.number("above both backward", 100 * np.mean(p_backward <= least_p), "{:.0f}")
out.number("permuted", permuted, "{:d}")
out.number("permuted p", least_p, "{:.3f}")

# %% [markdown]
# ## Do two halves of the documents choose the same partners?
# The matching documents are dealt to two halves at random, and each half chooses on its own. Chance is how many agree
# when the partners of one half are shuffled; it is larger where many features share one partner.

# %%
halves = [
    correlate.features(a.codes, b.codes, k=candidates, rows=half, threads=store.threads())
    for half in study.document_halves(documents, at, seed=seed(run, "halves"))
]
one, two = (matching.many_to_one(half, "a_to_b") for half in halves)
_, x, y = np.intersect1d(one.a, two.a, return_indices=True)  # features that both halves pair
same = one.b[x] == two.b[y]
pd.Series({"same partner": same.mean(), "one draw": np.mean(one.b[x] == rng.permutation(two.b[y]))}).round(3)

# %% [markdown]
# The first number is the share of features with the same partner, the second is one draw of its null.

# %%
ways = {
    "A to B": ("a", [one, two]),
    "B to A": ("b", [matching.many_to_one(half, "b_to_a") for half in halves]),
    "mutual": ("a", [matching.mutual(half) for half in halves]),
}
agreed = {
    name: study.agreement(*of_halves, side, m=permutations, seed=seed(run, "agreement"))
    for name, (side, of_halves) in ways.items()
}
np.testing.assert_allclose(same.mean(), agreed["A to B"].observed)
tables.on_screen(readings.agreement(agreed), tables.FORMATS | {"same partner": "{:.3f}"})

# %% [markdown]
# Partners are stable where `same partner` is far above `null`. Mutual pairs count only features that both halves pair.

# %%
for name, x in agreed.items():
    out.number(f"same {name}", 100 * x.observed, "{:.0f}")
out.number("same chance", 100 * agreed["A to B"].null_mean, "{:.0f}")

# %% [markdown]
# ## How many features have a counterpart?
# A feature has a *counterpart* if its best partner reaches the correlation $r_0$ on held-out documents. The interval is
# a jackknife: leave out one of 20 groups of documents after another, and see by how much the share varies. The pairs
# stay fixed. A pair is in no share if one of its features does not fire on these documents.

# %%
group = inference.grouped(documents[at_held_out])  # (tokens,) whole documents


def share(kept):
    r = correlate.pairs(a.codes, b.codes, forward.a, forward.b, rows=at_held_out[kept])
    return np.mean(r[np.isfinite(r)] >= counterpart)


deleted = np.array([share(group != g) for g in range(group.max() + 1)])
reach = student.ppf(0.975, group.max()) * np.sqrt(group.max() * deleted.var())
pd.Series({"share": share(group >= 0), "half the interval": reach}).round(3)

# %% [markdown]
# The second number is half the width of the interval. The library makes it wider by one pair, as near 0 and 1 all
# groups may agree. Chance is the larger share that the same pairs reach by the two nulls on held-out documents.

# %%
grid, of = np.append(np.linspace(0, 0.95, 20), counterpart), {"A to B": forward, "B to A": backward}
curves = {name: study.curve(a.codes, b.codes, p, documents, at_held_out, grid) for name, p in of.items()}
x = curves["A to B"]
np.testing.assert_allclose(x.low[-1], max(0, share(group >= 0) - reach - 1 / x.judged))
by_chance = {
    name: study.reached(
        study.unrelated(a.codes, b.codes, p, at_held_out, documents, m=permuted, seed=seed(run, name)), grid
    )  # (nulls, draws, thresholds)
    for name, p in of.items()
}

# %%
larger = {name: x.mean(axis=1).max(axis=0) for name, x in by_chance.items()}
out.figure("counterparts", drawing.counterparts(curves, larger, counterpart))

# %% [markdown]
# At the grey line a partner counts as a counterpart: compare each curve with its dotted line there. The share depends
# on that threshold and on noise. It does not count what two models share: 07b draws it beside a planted truth.

# %%
for name, x in curves.items():
    out.number(f"share {name}", 100 * x.share[-1], "{:.0f}")
    out.number(f"share {name} low", 100 * x.low[-1], "{:.0f}")
    out.number(f"share {name} high", 100 * x.high[-1], "{:.0f}")
    out.number(f"share {name} null", 100 * larger[name][-1], "{:.1f}")
    out.number(f"unjudged {name}", x.unjudged, "{:,}")
out.number("held out documents", curves["A to B"].documents, "{:,}")
out.number("document groups", curves["A to B"].groups, "{:d}")
above = all(x.low[-1] > by_chance[name][..., -1].max() for name, x in curves.items())
verdict = f"{'more' if above else 'not more'} than chance gives in both directions"
out.text("counterpart verdict", verdict)

# %% [markdown]
# ## Over replicates
# All of this is of one pair of models. Each replicate has its own models, SAEs and stories. Here matching and held-out
# documents also change their roles, and each number is the mean of both.

# %%
cells = replicates.of(run, *run.common.primary.pair)
pipeline.features_of(run, dict.fromkeys(name for names in cells for name in names))
paired = replicates.over(lambda x: study.of_replicate(run, x, candidates, counterpart), cells, "pairs of replicates")
np.testing.assert_array_equal(paired[cells[0]].mutual[0].a, mutual.a)

# %%
values = [x.named() for x in paired.values()]
by_replicate = readings.replicates(cells, values)
out.table("replicates", by_replicate, dict.fromkeys(by_replicate.columns[3:], "{:.2f}"))

# %% [markdown]
# The rows differ only by chance of training and text: look at how far apart they are in each column.

# %%
overall = {name: inference.over_replicates(by_replicate[name].to_numpy()) for name in values[0]}
pd.DataFrame({name: x._asdict() for name, x in overall.items()}).T.round(3)

# %% [markdown]
# These are means over replicates with 95% intervals (a jackknife over replicates with Student's t). `p` is that of
# flipped signs; for numbers that cannot be negative it says nothing.

# %%
for name, scale in (("retention", 100), ("r held out", 1), ("counterparts, A", 100), ("counterparts, B", 100)):
    x, form = overall[name], "{:.0f}" if scale == 100 else "{:.2f}"
    out.number(f"mean {name}", scale * x.estimate, form, se=scale * x.se)
    out.number(f"mean {name} low", scale * x.low, form)
    out.number(f"mean {name} high", scale * x.high, form)
out.number("mean pairs", overall["mutual pairs"].estimate, "{:.0f}", se=overall["mutual pairs"].se)
out.number("replicates", len(cells), "{:d}")

# %% [markdown]
# ## Verdict
# The features pair up if, in both directions, the interval of the share with a counterpart lies above every draw of
# both nulls. Whether the pairs are also arranged alike is the question of 01c.

# %%
print(f"The share of features with a counterpart is {verdict}.")
out.save()
