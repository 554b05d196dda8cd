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
# # Hubs and filters
#
# **Question.** Do a few features that many choose, or a few rules that drop pairs, decide what a pairing looks like?
#
# **In.** The many-to-one pairs from A to B of the first replicate, their codes, decoder rows and tokens. **Out.** How
# many features choose the same partner, what such *hubs* fire on, whether the pairs are arranged alike without them,
# and what each filter of the published study removes.
#
# **What would count as a no.** Hubs that take few of the pairs, and pairs that are arranged alike without them; filters
# that drop only weak pairs.

# %% tags=["parameters"]
profile = "smoke"
candidates = 16
permutations = 199
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

# %%
import numpy as np
import pandas as pd

from sae_utils import correlate, filters, labels, matching, measures, nulls, pipeline, profiles, report, significance
from sae_utils.inference import LEVEL
from sae_utils.profiles import seed
from sae_utils.studies.feature_matching import drawing, readings
from sae_utils.tables import average, formats

# %%
run = profiles.start(profile, "01b_hubs_and_filters")
out, measure = report.Report(run, "01b_hubs_and_filters"), run.common.primary.measure
a, b = (pipeline.features(run, name) for name in run.pair)
both = pipeline.correlated(a, b, candidates)
found, at = both.found, np.flatnonzero(both.on_matching)
forward, backward = (matching.many_to_one(found, way) for way in ("a_to_b", "b_to_a"))
r = both.held_out(forward)

# %% [markdown]
# ## What do the features fire on?
# A feature is named by the tokens on which it fires most: its largest codes on the matching documents, with the tokens
# at these positions.

# %%
tokens, documents = (a.sites.array(name)[at] for name in ("tokens", "documents"))
of_a, of_b = (labels.label(side.codes[at], tokens, documents) for side in (a, b))
words = pipeline.vocabulary(run, run.pair[0])
feature = np.argmax(of_a.firings)  # the one that fires most
code = a.codes[at][:, [feature]].toarray()[:, 0]
top = np.argsort(-code, kind="stable")[:10]  # equal codes in the order of their positions
np.testing.assert_array_equal(top, of_a.position[feature])
pd.DataFrame({"token": [words[x] for x in tokens[top]], "code": code[top]})

# %% [markdown]
# The tokens of the strongest codes say what the feature is about; a frequent feature may fire on anything.

# %% [markdown]
# ## How many map to one?
# Features of B are chosen by none of A's, by one, or by many. A *hub* is chosen by more than `hub`.

# %%
chosen_by = np.bincount(forward.b, minlength=b.codes.shape[1])  # (features of B,)
to_hub = chosen_by[forward.b] > hub  # (pairs,)
live = chosen_by[found.b.live]
pd.Series({"none": np.mean(live == 0), "one": np.mean(live == 1), "hub": np.mean(live > hub)}).round(3)

# %% [markdown]
# Were partners chosen evenly, `one` would be near 1 where both sides have as many live features.

# %%
largest = readings.hubs(forward, chosen_by, of_b, words, most=6)
out.table("hubs", largest, {"mean r": "{:.2f}", "firings": "{:,}"})

# %% [markdown]
# Look at `mean r` and `top tokens`. Where `mean r` is large, the features of A that choose the hub are a family about
# one thing; where it is small, they are features without a counterpart.

# %%
chosen = {
    "B, chosen by A": readings.sizes(forward.b, found, "b"),
    "A, chosen by B": readings.sizes(backward.a, found, "a"),
}
out.figure("hubs", drawing.hubs(chosen))

# %% [markdown]
# The further a line reaches to the right, the larger the hubs of that side.

# %%
out.number("hub threshold", hub, "{:d}")
out.number("chosen by none", 100 * np.mean(live == 0), "{:.0f}")
out.number("chosen by one", 100 * np.mean(live == 1), "{:.0f}")
out.number("hubs", (chosen_by > hub).sum(), "{:d}")
out.number("largest hub", chosen_by.max(), "{:d}")
out.number("share to hubs", 100 * to_hub.mean(), "{:.0f}")
out.number("r to hubs", average(r[to_hub]))
out.number("r to others", average(r[~to_hub]))

# %% [markdown]
# ## Are the pairs arranged alike without the hubs?
# Features that choose the same partner have the same row of B. If they are alike in A too, a shuffle of single rows
# separates them and calls their likeness shared geometry. The null that fits gives all features of A that share a
# partner another partner *together*: groups stay, and only which row of B a group has changes.

# %%
partners, group = np.unique(forward.b, return_inverse=True)
draw = nulls.permutations(np.random.default_rng(seed(run, "by hand")), 1, len(partners))[0]
moved = partners[draw][group]  # (pairs,) the new partner of each feature of A
index = nulls.reassigned(forward.b).draw(np.random.default_rng(seed(run, "by hand")), 1, len(forward))[0]
np.testing.assert_array_equal(moved, forward.b[index])
rows = a.decoder[forward.a], b.decoder[forward.b]
one_draw = measures.score(rows[0], b.decoder[moved], measure)
pd.Series({"similarity": measures.score(*rows, measure), "one draw": one_draw}).round(3)

# %% [markdown]
# The first number is the similarity of the decoder rows of all pairs, the second one draw of its null (01c explains the
# measure). The null needs hubs whose size has nothing to do with where their rows lie. Where it has, `hub size` says
# so, and p is too small.

# %%
left = {
    "all": forward,
    "best pair of a hub": filters.hubs(forward, hub, keep="best"),
    "no hub": filters.hubs(forward, hub, keep="none"),
}
scores = {
    name: significance.test_pairs(x, a.decoder, b.decoder, measure, m=permutations, seed=seed(run, "hubs"))
    for name, x in left.items()
}
np.testing.assert_array_equal(left["no hub"].a, forward.a[~to_hub])

# %%
without = readings.without_hubs(forward, r, left, scores)
out.table("without hubs", without, formats(without))

# %% [markdown]
# If hubs carried the similarity, `excess` would fall to 0 in the last row.

# %%
naive = significance.test(*rows, [measure], m=permutations, seed=seed(run, "naive"))[measure]
pd.Series({"z, partners moved together": scores["all"].z, "z, rows shuffled": naive.z}).round(1)

# %% [markdown]
# The second z is larger where features that share a partner are alike: it tests the wrong hypothesis.

# %%
out.number("many to one z", scores["all"].z, "{:.1f}")
out.number("many to one naive z", naive.z, "{:.1f}")
out.number("permutations", permutations, "{:,}")
survives = "remains" if scores["no hub"].p < LEVEL else "does not remain"
too_few = "cannot be tested without the hubs, which leaves too few pairs"
verdict = too_few if scores["no hub"].undefined else f"{survives} without the hubs"
out.text("hub verdict", verdict)

# %% [markdown]
# ## What does each filter remove?
# A filter keeps pairs by a rule on their features. This one keeps the pairs whose features have one of their five top
# tokens in common.

# %%
top_a, top_b = (labels.top_tokens(x, words) for x in (of_a, of_b))  # (features, 10) as text
kept = [bool(set(top_a[i, :5]) & set(top_b[j, :5]) - {""}) for i, j in zip(forward.a, forward.b, strict=True)]
np.testing.assert_array_equal(filters.no_shared_token(forward, top_a, top_b, top=5).a, forward.a[kept])
print(f"{np.mean(kept):.0%} of the pairs share a top token")

# %% [markdown]
# The number is the share of pairs that this filter would keep. The filters of the published study apply one after
# another, and each is counted on what the one before left.

# %%
facts = {"firings_a": of_a.firings, "firings_b": of_b.firings, "top_a": top_a, "top_b": top_b}
last, steps = filters.apply(forward, filters_in_order, **facts)
dropped = [correlate.pairs(a.codes, b.codes, x.a, x.b, rows=both.on_held_out) for x in steps]
removed = readings.filtered(steps, dropped, (of_a, of_b), words)
out.table("filters", removed, dict.fromkeys(["r", "r held out"], "{:.2f}"))

# %% [markdown]
# Compare `r held out` of what is dropped with that of what is kept, below: a filter that drops pairs as strong as those
# it keeps is not one of quality. The last two columns name the strongest pair that it drops.

# %%
filtered_r = average(r[matching.common(forward, last)])
pd.Series({"kept": len(last), "r held out of the kept": filtered_r, "of all": average(r)}).round(2)

# %% [markdown]
# Where the first r is well above the second, the filters select strong pairs.

# %%
out.number("filtered pairs", len(last), "{:,}")
out.number("filtered share", 100 * len(last) / len(forward), "{:.0f}")
out.number("filtered r", filtered_r)

# %% [markdown]
# ## Verdict
# Hubs do not decide the answer if the similarity remains without them, with p below .05. A larger p would not show that
# it is gone.

# %%
print(f"The similarity of many-to-one pairs {verdict}; filters leave {len(last) / len(forward):.0%} of the pairs.")
out.save()
