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
# **Question.** Do the features of two SAEs, trained on two models, pair up by what they fire on, and are the paired
# features also arranged alike?
#
# **In.** The codes of the primary pair of dictionaries on matching and held-out documents, in every replicate; their
# decoder rows; the tokens. **Out.** Over replicates: retention, correlation on documents that did not choose the pairs,
# the share of features with a counterpart, and the similarity of the decoder rows of mutual pairs at one n against a
# shuffled pairing. For the first replicate, in pictures: what chance would give, who is in the pairs, and who is
# filtered out. (The primary analysis compares the same features in two arms: notebook 07.)
#
# **What would count as a no.** Correlations that vanish on held-out documents, or that documents which do not belong
# together reach as easily; partners that change from one half of the documents to the other; a similarity that a
# shuffled pairing reaches as easily.

# %% tags=["parameters"]
profile = "smoke"
candidates = 16
counterpart = 0.5
secondary_measures = ["svcca", "svcca_first_component", "rsa_pearson"]
permuted = 19
permutations = 199
firing_bins = 3
hub = 2
filters_in_order = [
    ["rare", {"minimum": 20}],
    ["weak", {"r": 0.1}],
    [
        "non_concept",
        {
            "tokens": [".", ",", "!", "?", ":", ";", '"', "'", "-", "\\n", "<bos>", "<unk>", "<pad>"],
            "top": 5,
            "most": 2,
        },
    ],
    ["no_shared_token", {"top": 5}],
    ["hubs", {"more_than": 3, "keep": "best"}],
]
near = [0.7, 0.6, 0.5]
instances = 300
neighbours = 5
subsets = 2

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sae_utils import (
    correlate,
    filters,
    inference,
    labels,
    matching,
    nulls,
    pipeline,
    profiles,
    replicates,
    report,
    significance,
    store,
    tables,
)
from sae_utils.inference import LEVEL
from sae_utils.measures import measure
from sae_utils.profiles import seed
from sae_utils.studies import feature_matching

# %%
run = profiles.start(profile, "01_feature_matching")
out = report.Report(run, "01_feature_matching")
primary = run.common.primary
a, b = (pipeline.features(run, name) for name in run.pair)
both = pipeline.correlated(a, b, candidates)

# %% [markdown]
# ## Over replicates
# The outcome of this notebook, over all replicates: each has its own models, SAEs and stories. *Mutual* pairs are two
# features that are each other's best partner by correlation. Matching and held-out documents change their roles once,
# and numbers are means over both. Scores are of random subsets of one size, that of the smallest replicate.

# %%
cells = replicates.of(run, *primary.pair)
pipeline.features_of(run, dict.fromkeys(name for names in cells for name in names))
paired = replicates.over(
    lambda names: feature_matching.of_replicate(run, names, candidates, counterpart), cells, "pairs of replicates"
)
for x in paired.values():
    pipeline.enough(run, min(x.mutual, key=len))
one_n = min(x.n for x in paired.values())
settings = {"subsets": subsets, "m": permutations, "seed": seed(run, "replicates")}
alike = replicates.over(
    lambda names: feature_matching.similarity(run, names, paired[names].mutual, primary.measure, one_n, **settings),
    cells,
    "scores of replicates",
)

# %%
by_replicate = pd.DataFrame(
    {
        "A": names[0],
        "B": names[1],
        "mutual pairs": paired[names].n,
        "retention": paired[names].retention,
        "r held out": paired[names].r,
        "counterparts, A": paired[names].share_a,
        "counterparts, B": paired[names].share_b,
        "similarity": alike[names]["observed"],
        "null": alike[names]["null_mean"],
        "excess": alike[names]["excess"],
        "p": alike[names]["p"],
    }
    for names in cells
)
out.table(
    "replicates",
    by_replicate,
    dict.fromkeys(by_replicate.columns[3:7], "{:.2f}") | dict.fromkeys(by_replicate.columns[7:], "{:.3f}"),
)

# %% [markdown]
# Means over replicates with 95% intervals (a jackknife over replicates, Student's t). The verdict is *yes* where the
# interval of the excess lies above the threshold of the profile, *no* where it lies below it.

# %%
overall = {name: inference.over_replicates(by_replicate[name].to_numpy()) for name in by_replicate.columns[2:10]}
for name, scale in (("retention", 100), ("r held out", 1), ("counterparts, A", 100), ("counterparts, B", 100)):
    x, form = overall[name], "{:.0f}" if scale == 100 else "{:.2f}"
    out.number(f"mean {name}", scale * x.estimate, form, se=scale * x.se)
    out.number(f"mean {name} low", scale * x.low, form)
    out.number(f"mean {name} high", scale * x.high, form)
out.number("mean pairs", overall["mutual pairs"].estimate, "{:.0f}", se=overall["mutual pairs"].se)
out.number("replicates", len(cells), "{:d}")
out.number("one n", one_n, "{:,}")
pd.DataFrame({name: x._asdict() for name, x in overall.items()}).T.round(3)

# %%
question, answer = "Are mutual pairs arranged more alike than shuffled pairs?", "none"
if "excess" in primary.thresholds:
    d = primary.thresholds["excess"].d
    answer = out.verdict("arranged", question, overall["excess"], d, f"their excess lies below {d:g}")
else:
    out.absent("arranged", "no threshold for a verdict")
out.number("replicates beyond", (by_replicate.p < LEVEL).sum(), "{:d}")
answer

# %% [markdown]
# ## Correlation
# From here on the first replicate is shown, step by step. Pearson correlation of every feature of A with every feature
# of B, over the tokens of the matching documents. Each feature keeps its best candidates, in both directions.

# %%
found, on_matching, on_held_out = both.found, both.on_matching, both.on_held_out
live_a, live_b = found.live

# %%
out.number("matching tokens", on_matching.sum(), "{:,}")
out.number("held out tokens", on_held_out.sum(), "{:,}")
out.number("live a", live_a, "{:,}")
out.number("live b", live_b, "{:,}")
live_a, live_b

# %% [markdown]
# ## Pairs
# *Many-to-one*: every feature takes its best partner, which many may share. *Mutual*: two features that are each
# other's best. *Retention* is the share of the live features of A that are kept; *unique*, the share of the pairs
# with a partner of their own.

# %%
pairs = {
    "many-to-one, A to B": matching.many_to_one(found, "a_to_b"),
    "many-to-one, B to A": matching.many_to_one(found, "b_to_a"),
    "mutual": matching.mutual(found),
}
pipeline.enough(run, pairs["mutual"])
held_out = {name: both.held_out(p) for name, p in pairs.items()}

# %%
strength = pd.DataFrame(
    {
        "pairing": name,
        "n": len(p.a),
        "retention": len(np.unique(p.a)) / live_a,
        "unique": min(len(np.unique(p.a)), len(np.unique(p.b))) / len(p.a),
        "r matching": p.r.mean(),
        "r held out": np.nanmean(held_out[name]),
        "counterparts, of pairs": np.mean(held_out[name] >= counterpart),
    }
    for name, p in pairs.items()
)
out.table("pairs", strength, {"n": "{:,}", **dict.fromkeys(strength.columns[2:], "{:.2f}")})

# %%
mutual, r = pairs["mutual"], held_out["mutual"]
out.number("mutual pairs", len(mutual.a), "{:,}")
out.number("retention", 100 * len(mutual.a) / live_a, "{:.0f}")
out.number("r matching", mutual.r.mean())
out.number("r held out", np.nanmean(r))
out.number("counterpart threshold", counterpart, "{:.1f}")

# %%
figure, axes = plt.subplots(figsize=(2.8, 2.6))
axes.plot([0, 1], [0, 1], color=report.NULL, linewidth=1)
axes.scatter(mutual.r, r, s=4, alpha=0.5, color=report.PAIRED, linewidths=0)
axes.set(xlabel="r on the documents that chose the pair", ylabel="r on held-out documents", aspect="equal")
out.figure("held-out", figure)

# %% [markdown]
# How far do the two directions agree? Pairs found from A to B and from B to A are the mutual ones.

# %%
forward, backward = pairs["many-to-one, A to B"], pairs["many-to-one, B to A"]
r_forward = held_out["many-to-one, A to B"]
for name, p in (("forward", forward), ("backward", backward)):
    out.number(f"both ways {name}", 100 * len(mutual.a) / len(p.a), "{:.0f}")

# %% [markdown]
# ## Is a best partner better than chance?
# A maximum over many candidates is above zero by chance, the more so the rarer a feature. Two nulls of that maximum,
# both on the matching documents: the documents of B in another order (what follows what stays, but two features that
# prefer the same documents exceed it), and the tokens of B permuted within each document (what a document is about
# stays, but two features that fire in runs exceed it). Only what exceeds *both* is more than a shared topic and runs.

# %%
documents = a.sites.array("documents")
at, at_held_out = np.flatnonzero(on_matching), np.flatnonzero(on_held_out)
chance = {
    null.name: feature_matching.maxima(
        a.codes, b.codes, at, null, m=permuted, seed=seed(run, "maxima"), threads=store.threads()
    )
    for null in feature_matching.both_nulls(documents[at])
}

# %%
p_forward = feature_matching.conjunction(forward.r, [drawn.a[:, forward.a] for drawn in chance.values()])
p_backward = feature_matching.conjunction(backward.r, [drawn.b[:, backward.b] for drawn in chance.values()])
least_p = 1 / (permuted + 1)  # of what exceeds every draw of both
by_feature = pd.DataFrame({"firings": found.a.count[forward.a], "r": forward.r, "above both": p_forward <= least_p})
out.number("above both", 100 * by_feature["above both"].mean(), "{:.0f}")
out.number("above both backward", 100 * np.mean(p_backward <= least_p), "{:.0f}")
out.number("permuted", permuted, "{:d}")
out.number("permuted p", least_p, "{:.3f}")

# %%
short = dict(zip(chance, ("documents", "tokens"), strict=True))
bins = pd.qcut(by_feature.firings, firing_bins, duplicates="drop")
maximum = pd.DataFrame(
    {
        "firings": f"{x.firings.min():,} to {x.firings.max():,}",
        "n": len(x),
        "best r": x.r.mean(),
        **{
            f"{short[name]}, {what}": value(drawn.a[:, forward.a[x.index]])
            for name, drawn in chance.items()
            for what, value in (("mean", np.mean), ("95%", lambda draws: np.quantile(draws, 0.95)))
        },
        "above both": x["above both"].mean(),
    }
    for _, x in by_feature.groupby(bins, observed=True)
)
out.table("maximum", maximum, {"n": "{:,}", **dict.fromkeys(maximum.columns[2:], "{:.2f}")})

# %%
figure, axes = plt.subplots(figsize=(3.6, 2.6))
axes.scatter(by_feature.firings, by_feature.r, s=5, color=report.PAIRED, linewidths=0, label="best partner")
for name, marker in zip(chance, ("_", "x"), strict=True):
    drawn = chance[name].a[:, forward.a]
    axes.scatter(
        by_feature.firings,
        np.quantile(drawn, 0.95, axis=0),
        s=6,
        marker=marker,
        linewidths=0.6,
        color=report.NULL,
        label=f"95%, {name}",
    )
axes.set(xscale="log", xlabel="firings of the feature of A", ylabel="largest correlation")
figure.legend(loc="outside lower center", ncols=1)
out.figure("maximum", figure)

# %% [markdown]
# ## Do two halves of the documents choose the same partners?
# The matching documents are dealt to two halves at random, and each half chooses on its own. Chance is how many agree
# when the partners of one half are shuffled among them: hubs make that more than one in the number of features.

# %%
halves = [
    correlate.features(a.codes, b.codes, k=candidates, rows=half, threads=store.threads())
    for half in feature_matching.document_halves(documents, at, seed=seed(run, "halves"))
]
ways = {
    "A to B": ("a", [matching.many_to_one(half, "a_to_b") for half in halves]),
    "B to A": ("b", [matching.many_to_one(half, "b_to_a") for half in halves]),
    "mutual": ("a", [matching.mutual(half) for half in halves]),
}
agreed = {
    name: feature_matching.agreement(*both, side, m=permutations, seed=seed(run, "agreement"))
    for name, (side, both) in ways.items()
}

# %%
stability = pd.DataFrame(
    {"pairing": name, "n": x.n, "same partner": x.observed, "null": x.null_mean, "null SD": x.null_sd, "p": x.p}
    for name, x in agreed.items()
)
for name, x in agreed.items():
    out.number(f"same {name}", 100 * x.observed, "{:.0f}")
out.number("same chance", 100 * agreed["A to B"].null_mean, "{:.0f}")
stability.round(3)

# %% [markdown]
# ## What do the features fire on?
# The top tokens of every feature on the matching documents, with their contexts.

# %%
tokens = a.sites.array("tokens")[at]
labelled = [labels.label(x.codes[at], tokens, documents[at]) for x in (a, b)]
words = pipeline.vocabulary(run, run.pair[0])
top_a, top_b = (labels.top_tokens(x, words) for x in labelled)
facts = {"firings_a": labelled[0].firings, "firings_b": labelled[1].firings, "top_a": top_a, "top_b": top_b}

# %% [markdown]
# ## How many map to one?
# In the many-to-one pairing from A to B, features of B are chosen by none, by one or by many. A *hub* is chosen by more
# than `hub`. What are the largest?

# %%
chosen_by = np.bincount(forward.b, minlength=b.codes.shape[1])
live = np.flatnonzero(found.b.live)
largest = live[np.argsort(-chosen_by[live], kind="stable")][:6]
hubs = pd.DataFrame(
    {
        "chosen by": chosen_by[largest],
        "mean r": [forward.r[forward.b == x].mean() for x in largest],
        "firings": labelled[1].firings[largest],
        "top tokens": labels.summary(labelled[1], largest, words, most=3),
        "in context": labels.quote(labelled[1], largest, words, reach=2),
    }
)
out.table("hubs", hubs, {"mean r": "{:.2f}", "firings": "{:,}"})

# %%
to_hub = chosen_by[forward.b] > hub
out.number("hub threshold", hub, "{:d}")
out.number("chosen by none", 100 * np.mean(chosen_by[live] == 0), "{:.0f}")
out.number("chosen by one", 100 * np.mean(chosen_by[live] == 1), "{:.0f}")
out.number("hubs", (chosen_by > hub).sum(), "{:d}")
out.number("largest hub", chosen_by.max(), "{:d}")
out.number("share to hubs", 100 * to_hub.mean(), "{:.0f}")
out.number("r to hubs", tables.average(r_forward[to_hub]))
out.number("r to others", tables.average(r_forward[~to_hub]))

# %%
figure, axes = plt.subplots(figsize=(3.0, 1.8))
for choosers, color, name in (
    (forward.b, report.PAIRED, "B, chosen by A"),
    (backward.a, report.NULL, "A, chosen by B"),
):
    width, alive = (b.codes.shape[1], live) if name[0] == "B" else (a.codes.shape[1], np.flatnonzero(found.a.live))
    sizes = np.bincount(choosers, minlength=width)[alive]
    axes.plot(
        np.arange(sizes.max() + 1),
        [np.mean(sizes >= x) for x in range(sizes.max() + 1)],
        drawstyle="steps-mid",
        color=color,
        label=name,
    )
axes.set(yscale="log", xlabel="chosen by at least", ylabel="share of live features")
axes.legend()
out.figure("hubs", figure)

# %% [markdown]
# Without the hubs: the pairs that go to them taken away, or only the best pair of each kept. The null gives all
# features of A that share a partner another partner together; shuffling the rows one by one would call it shared
# geometry that features which chose the same partner are alike. It needs hubs whose size has nothing to do with where
# their rows lie: where it has (*hub size*), p is too small.

# %%
without = {
    "all": forward,
    "best pair of a hub": filters.hubs(forward, hub, keep="best"),
    "no hub": filters.hubs(forward, hub, keep="none"),
}
scores = {
    name: significance.test_pairs(p, a.decoder, b.decoder, primary.measure, m=permutations, seed=seed(run, "hubs"))
    for name, p in without.items()
}

# %%
hubless = pd.DataFrame(
    {
        "pairs": name,
        "n": len(p.a),
        "r held out": tables.average(r_forward[matching.common(forward, p)]),
        **tables.columns(scores[name]),
        "hub size": tables.hub_size(scores[name]),
    }
    for name, p in without.items()
)
shown = dict.fromkeys(["observed", "null", "null SD", "excess"], "{:.3f}")
out.table("without hubs", hubless, {"n": "{:,}", "r held out": "{:.2f}", **shown, "z": "{:.1f}", "p": "{:.3f}"})

# %%
naive = significance.test(
    a.decoder[forward.a], b.decoder[forward.b], [primary.measure], m=permutations, seed=seed(run, "naive")
)
out.number("many to one z", scores["all"].z, "{:.1f}")
out.number("many to one naive z", naive[primary.measure].z, "{:.1f}")
out.number("secondary permutations", permutations, "{:,}")
survives = "remains" if scores["no hub"].p < LEVEL else "does not remain"
too_few = "cannot be tested without the hubs, which leaves too few pairs"
out.text("hub verdict", too_few if scores["no hub"].undefined else f"{survives} without the hubs")
survives

# %% [markdown]
# ## What does each filter remove?
# Filters on the many-to-one pairs from A to B, one after another, each counted on what the one before left. The dropped
# pairs are told by their correlation and by the best of them.

# %%
last, steps = filters.apply(forward, filters_in_order, **facts)
dropped_r = [correlate.pairs(a.codes, b.codes, x.a, x.b, rows=on_held_out) for x in steps]
best = [int(np.argmax(x.r)) if x.removed else None for x in steps]
removed = pd.DataFrame(
    {
        "filter": x.name.replace("_", " "),
        "before": x.before,
        "removed": x.removed,
        "r": tables.average(x.r),
        "r held out": tables.average(r_x),
        "best dropped, A": labels.summary(labelled[0], [x.a[i]], words, most=2)[0] if i is not None else "",
        "best dropped, B": labels.summary(labelled[1], [x.b[i]], words, most=2)[0] if i is not None else "",
    }
    for x, r_x, i in zip(steps, dropped_r, best, strict=True)
)
out.table("filters", removed, dict.fromkeys(["r", "r held out"], "{:.2f}"))

# %%
out.number("filtered pairs", len(last.a), "{:,}")
out.number("filtered share", 100 * len(last.a) / len(forward.a), "{:.0f}")
out.number("filtered r", tables.average(r_forward[matching.common(forward, last)]))
matching.left_out(last)

# %% [markdown]
# ## How many features have a counterpart?
# Every live feature takes its best partner on the matching documents. Which share reaches the correlation $r_0$ on the
# held-out ones? The band is a jackknife over groups of held-out documents, the partners being fixed. A feature that
# does not fire on the held-out documents, or whose partner does not, cannot be judged and is in no share. Grey: the
# same partners by chance, the larger share of the two nulls.
# The share is a reading of the threshold and of noise, not of what is shared: 07b draws it beside a planted truth.

# %%
thresholds = np.linspace(0, 0.95, 20)
grid = np.append(thresholds, counterpart)
curves, unrelated = {}, {}
for name, p in (("A to B", forward), ("B to A", backward)):
    curves[name] = feature_matching.curve(a.codes, b.codes, p, documents, on_held_out, grid)
    unrelated[name] = feature_matching.unrelated(
        a.codes, b.codes, p, at_held_out, documents, m=permuted, seed=seed(run, name)
    )


# %%
by_chance = {name: feature_matching.reached(r, grid) for name, r in unrelated.items()}  # (nulls, draws, thresholds)
highest = {name: x[..., -1].max() for name, x in by_chance.items()}
for name, x in curves.items():
    out.number(f"share {name}", 100 * x.share[-1], "{:.0f}")
    out.number(f"share {name} low", 100 * x.low[-1], "{:.0f}")
    out.number(f"share {name} high", 100 * x.high[-1], "{:.0f}")
    out.number(f"share {name} null", 100 * by_chance[name][..., -1].mean(axis=1).max(), "{:.1f}")
    out.number(f"unjudged {name}", x.unjudged, "{:,}")
out.number("held out documents", curves["A to B"].documents, "{:,}")
out.number("document groups", curves["A to B"].groups, "{:d}")
above = all(x.low[-1] > highest[name] for name, x in curves.items())
out.text(
    "counterpart verdict",
    "more than chance gives in both directions" if above else "not more than chance gives in both directions",
)

# %%
figure, axes = plt.subplots(figsize=(3.4, 2.1))
for name, color in zip(curves, (report.PAIRED, "C1"), strict=True):
    x = curves[name]
    axes.fill_between(x.threshold[:-1], x.low[:-1], x.high[:-1], color=color, alpha=0.25, linewidth=0)
    axes.plot(x.threshold[:-1], x.share[:-1], color=color, label=name)
    axes.plot(thresholds, by_chance[name][..., :-1].mean(axis=1).max(axis=0), color=report.NULL, linestyle=":")
axes.axvline(counterpart, color=report.NULL, linewidth=0.6, zorder=0)
axes.set(xlabel="$r_0$, held-out correlation", ylabel="share with a counterpart", ylim=(-0.02, 1.02))
axes.legend()
out.figure("counterparts", figure)

# %% [markdown]
# ## Are the pairs arranged alike?
# The primary measure, and secondary ones, on the decoder rows of all mutual pairs of the first replicate; the null
# shuffles which row of A goes with which row of B. The published estimator keeps the first principal component of each
# side only.

# %%
measures = list(dict.fromkeys([primary.measure, *secondary_measures]))
results = significance.test(
    a.decoder[mutual.a], b.decoder[mutual.b], measures, m=primary.permutations, seed=seed(run, "first pair")
)
first = results[primary.measure]

# %%
arranged = pd.DataFrame(
    {
        "measure": name + (" (primary)" if name == primary.measure else ""),
        "n": x.n,
        "k": " x ".join(map(str, x.k)) or "-",
        **tables.columns(x),
    }
    for name, x in results.items()
)
out.table(
    "similarity",
    arranged,
    {**dict.fromkeys(["observed", "null", "null SD", "excess"], "{:.3f}"), "z": "{:.1f}", "p": "{:.4f}"},
)

# %%
figure, axes = plt.subplots(figsize=(4.2, 0.6 + 0.3 * len(results)))
names = [measure(name).label for name in results]
low, high = np.array([np.quantile(x.draws, [0.025, 0.975]) for x in results.values()]).T
axes.hlines(names, low, high, color=report.NULL, linewidth=6, label="95% of shuffled pairings")
axes.scatter([x.observed for x in results.values()], names, s=18, color=report.PAIRED, label="paired", zorder=2)
axes.set(xlabel="similarity of decoder rows")
axes.invert_yaxis()
figure.legend(loc="outside lower center", ncols=2)
out.figure("similarity", figure)

# %% [markdown]
# ## Near-duplicates
# Features that say nearly the same, paired with features that say nearly the same, are pairs that are not independent.
# Pairs whose rows have a cosine of at least `near` in either model are made one family, and so on from pair to pair;
# whole families change places with families of their size. Where less than half of the pairs can move, nothing is said.

# %%
rows = a.decoder[mutual.a], b.decoder[mutual.b]
of_family = {least: inference.families(rows, least) for least in near}
moved = {
    least: significance.test(
        *rows,
        [primary.measure],
        null=nulls.blocks(family),
        m=primary.permutations,
        seed=seed(run, f"families at {least}"),
    )[primary.measure]
    for least, family in of_family.items()
}
free = {least: x for least, x in moved.items() if not (x.undefined or x.undetermined)}
holding = {least for least, x in free.items() if x.p < LEVEL and x.excess > 0}
out.text("families holding", tables.among(list(free), holding))

# %%
duplicates = pd.DataFrame(
    {
        "near": least,
        "families": len(np.unique(of_family[least])),
        "largest": np.bincount(of_family[least]).max(),
        "can move": x.movable,
    }
    | tables.columns(free.get(least))
    for least, x in moved.items()
)
out.table("families", duplicates, tables.formats(duplicates) | {"near": "{:.1f}", "can move": "{:.2f}", "p": "{:.4f}"})
duplicates

# %% [markdown]
# ## Tokens as instances
# Secondary: are tokens arranged alike, instead of features? The instances are held-out tokens, described by all
# features of A and by all of B; no pairing of features enters. Do a token's nearest neighbours agree? Beside the
# shuffled pairing stands a null that only exchanges tokens of the same word: what is left is more than that both models
# see the same word. The features are scored at the same n.

# %%
knn = measure("mutual_knn", k=neighbours)
fires = np.flatnonzero(on_held_out & (np.diff(a.codes.indptr) > 0) & (np.diff(b.codes.indptr) > 0))
rng = np.random.default_rng(seed(run, "instances"))
instance = np.sort(rng.choice(fires, min(instances, len(fires)), replace=False))
few = np.sort(rng.choice(instance, min(len(mutual.a), len(instance)), replace=False))
sets = {
    "features": (a.decoder[mutual.a], b.decoder[mutual.b], nulls.shuffled()),
    "tokens, same n": (a.codes[few].toarray(), b.codes[few].toarray(), nulls.shuffled()),
    "tokens": (a.codes[instance].toarray(), b.codes[instance].toarray(), nulls.shuffled()),
}
same_word = nulls.strata(a.sites.array("tokens")[instance], name="shuffled within a word")
sets["tokens, same word"] = (*sets["tokens"][:2], same_word)
overlaps = {
    name: significance.test(x, y, [knn], null=null, m=permutations, seed=seed(run, "instances"))[knn.name]
    for name, (x, y, null) in sets.items()
}

# %%
instances_table = pd.DataFrame(
    {
        "instances": name,
        "null": x.null,
        "n": x.n,
        "can move": x.movable,
        "observed": x.observed,
        "null mean": x.null_mean,
        "null SD": x.null_sd,
        "excess": x.excess,
        "p": x.p,
    }
    for name, x in overlaps.items()
)
out.table(
    "instances",
    instances_table,
    {
        "n": "{:,}",
        "can move": "{:.2f}",
        **dict.fromkeys(["observed", "null mean", "null SD", "excess"], "{:.3f}"),
        "p": "{:.3f}",
    },
)

# %%
beyond = overlaps["tokens, same word"]
out.number("neighbours", neighbours, "{:d}")
out.number("excess features", overlaps["features"].excess)
out.number("excess tokens", overlaps["tokens, same n"].excess)
alike_words = "more" if beyond.p < LEVEL else "no more"
out.text("tokens verdict", "undetermined" if beyond.undetermined else f"{alike_words} than the same word explains")

# %% [markdown]
# ## The first replicate in numbers

# %%
out.number("observed", first.observed, "{:.3f}")
out.number("null mean", first.null_mean, "{:.3f}")
out.number("null sd", first.null_sd, "{:.3f}")
out.number("z", first.z, "{:.1f}")
out.number("p", first.p, "{:.4f}")
out.number("excess", first.excess, "{:.3f}")
out.number("permutations", first.m, "{:,}")
out.text("measure", measure(primary.measure).label)
words_for = {"yes": "are arranged more alike than", "no": "are hardly arranged more alike than"}
out.text("verdict", words_for.get(answer, "are not clearly arranged more alike than"))
answer

# %% [markdown]
# ## Save

# %%
out.save()
