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
# # Published tables
#
# **Question.** What can the published scores say, given their null means, their p and their counts of pairs; and do our
# numbers agree where the profile holds the same models?
#
# **In.** The published scores of every pair of layers (numbers, no models). Dictionaries of this profile that are the
# published ones, if there are any. **Out.** The estimator, the number of shuffles and the order of filters that the
# published numbers imply; our numbers beside the published ones.
#
# **What would count as a no.** Null means that are not those of one component; p that their number of shuffles could
# give; as many one-to-one pairs as distinct partners, so that the order of filters does not matter.

# %% tags=["parameters"]
profile = "smoke"
few = 30
positions = 10_000
draws = 20
permutations = 99
tokens = [".", "\\n", "␣", "''", "'", "-", ",", "!", "?", "<|endoftext|>", "<bos>", "<pad>"]
top = 5
least_r = 0.1
published_layers = {}

# %%
import numpy as np
import pandas as pd

from sae_utils import filters, profiles, report, tables
from sae_utils.inference import LEVEL
from sae_utils.matching import Pairs
from sae_utils.profiles import seed
from sae_utils.studies.published_tables import ladder, published

# %%
run = profiles.start(profile, "12_published_tables")
out = report.Report(run, "12_published_tables")
scores = published.layer_scores()
checks = published.checks(scores)

# %% [markdown]
# ## Null means
# The study reports a score as SVCCA, and its mean over shuffled pairings. If the score is the |r| of one pair of
# components, shuffles give it the mean sqrt(2 / (pi n)), which falls as pairs are added. A mean over the canonical
# correlations of hundreds of components would lie far above that. Two unrelated columns show the law.

# %%
n, rng = 100, np.random.default_rng(seed(run, "one component"))
x, y = rng.normal(size=(2, n))
r = np.array([np.corrcoef(x, rng.permutation(y))[0, 1] for _ in range(4000)])
expected = np.sqrt(2 / np.pi / n)
np.testing.assert_allclose(np.abs(r).mean(), expected, rtol=0.05)
np.testing.assert_allclose(r.var(), 1 / (n - 1), rtol=0.1)  # exact over all pairings; r is near normal
np.testing.assert_allclose(np.mean(np.abs(r) >= 0.2), published.p_of_one_component(0.2, n), atol=0.015)

# %% [markdown]
# Each published null mean is divided by that law (`ratio`). RSA has the null mean 0.

# %%
svcca, rsa = (checks[checks.score == name] for name in ("SVCCA", "RSA"))
np.testing.assert_allclose(svcca.expected, np.sqrt(2 / np.pi / svcca.n))
ratio = svcca["null mean"] / svcca.expected
se = ratio.std() / len(ratio) ** 0.5
pd.DataFrame({"ratio, SVCCA": ratio.describe(), "null mean, RSA": rsa["null mean"].describe()}).round(3)

# %% [markdown]
# The mean and the median (50%) of the ratio are to be compared with 1, within some standard errors of the mean; those
# of RSA with 0.

# %%
one_component = abs(ratio.mean() - 1) < 2.6 * se
out.text("null verdict", "are those of one component" if one_component else "are not those of one component")
out.number("cells", len(svcca), "{:d}")
out.number("null ratio", ratio.median())
out.number("null ratio mean", ratio.mean())
out.number("null ratio se", se)
out.number("rsa cells", len(rsa), "{:d}")
out.number("rsa null mean", rsa["null mean"].mean(), "{:.4f}")
out.number("rsa null most", abs(rsa["null mean"][rsa.n >= few]).max(), "{:.3f}")
out.number("rsa null most few", abs(rsa["null mean"][rsa.n < few]).max())
out.number("few", few, "{:d}")
out.number("few cells", (svcca.n < few).sum(), "{:d}")
out.number("few n", svcca.n[svcca.n < few].max(), "{:d}")

# %% [markdown]
# ## How many shuffles are behind a p?
# A share of m shuffles is a multiple of 1/m, so the smallest m whose multiples hold all p of a set is the fewest
# shuffles behind it. A second way needs no p: a mean of m draws of |r| scatters around the law with the variance
# (pi/2 - 1) / m. Both are shown on one set of published scores.

# %%
one_set = next(iter(checks["set"].unique()))
mine = checks[checks["set"] == one_set]
p, ratio_here = mine.p.to_numpy(), ratio[mine.index[mine.score == "SVCCA"]]
fewest = next(m for m in range(1, published.MOST + 1) if np.allclose(np.round(p * m) / m, p, atol=5e-4))
by_scatter = (np.pi / 2 - 1) / np.mean((ratio_here - 1) ** 2)
assert fewest == published.draws_by_p(mine.p)
np.testing.assert_allclose(by_scatter, published.draws_by_scatter(ratio_here))
print(f"{one_set}: {fewest} by p, {by_scatter:.1f} by scatter")

# %% [markdown]
# The two numbers agree where the shuffles of different pairs of layers are independent. Counting the observed pairing
# among m shuffles, no p is below 1/(m + 1). The table has both ways for every set, and in `unique` the share of
# distinct features of A among the pairs that passed the filters.

# %%
by_set = published.by_set(checks)
forms = {"n from": "{:,}", "n to": "{:,}", "unique": "{:.2f}", "by scatter": "{:.1f}", "p at best": "{:.3f}"}
out.table("sets", by_set, forms)

# %% [markdown]
# The last column says which sets could have reached 0.05 at all. Where `unique` is far below 1, many features of B
# share a partner in A; `12b_ladder` asks where that comes from.
#
# The published p of one shuffle must be 1 exactly where its score reaches the observed one.

# %%
single = svcca["set"].isin(by_set["set"][by_set["draws, by p"] == 1])
explained = (svcca["null mean"] >= svcca.published) == (svcca.p == 1)
print(f"{explained[single].sum()} of {single.sum()} p of one shuffle are explained by its score")

# %% [markdown]
# All of them are explained if the two counts are equal.
#
# The law of one component also gives the p that any number of shuffles would approach: r has mean 0 and variance
# 1/(n - 1). This is computed for one-to-one pairs only, since a shuffle of pairs that share partners tests something
# else.

# %%
one_to_one = svcca[svcca["set"].str.contains("one-to-one")]
p = published.p_of_one_component(one_to_one.published, one_to_one.n)
print(f"p < {LEVEL:g}: {(p < LEVEL).sum()} of {len(p)}; after Bonferroni: {(p * len(p) < LEVEL).sum()}")

# %% [markdown]
# If the counts are near the number of scores, the published effect of one component is no matter of shuffles.

# %%
able = by_set["set"][by_set["p at best"] < LEVEL]
out.text("p verdict", tables.among(list(by_set["set"]), set(able)))
out.text("family verdict", "some" if any(by_set["p at best"] * by_set.cells < LEVEL) else "none")
out.number("zero p", (checks.p == 0).sum(), "{:d}")
out.number("all p", len(checks), "{:d}")
out.number("best p", by_set["p at best"].min(), "{:.3f}")
out.number("worst p", by_set["p at best"].max(), "{:.1f}")
out.number("single cells", single.sum(), "{:d}")
out.number("single explained", explained[single].sum(), "{:d}")
out.number("one cells", len(p), "{:d}")
out.number("one above", (p < LEVEL).sum(), "{:d}")
out.number("one above family", (p * len(p) < LEVEL).sum(), "{:d}")
out.number("unique", 100 * by_set.unique.min(), "{:.0f}")

# %% [markdown]
# ## The order of the filters
# The study keeps the first of the features of B that share a partner, and drops pairs below a least r. The order
# matters: if the choice comes first, a feature of A whose first pair is weak is lost, although a later pair is strong.

# %%
shared = Pairs.of(a=[0, 0], b=[1, 2], r=[least_r / 2, 0.9], features_a=1, features_b=3)
first = {"more_than": 1, "keep": "first", "side": "a"}
choice_first = filters.weak(filters.hubs(shared, **first), least_r)
least_r_first = filters.hubs(filters.weak(shared, least_r), **first)
assert (len(choice_first), len(least_r_first)) == (0, 1)

# %% [markdown]
# The published counts tell the order: with least r first, every distinct partner (`partners`) keeps one pair (`kept`).

# %%
order = published.filter_order(scores)
counts = order.assign(lost=order.partners - order.kept)[["partners", "kept", "lost"]]
counts.describe().loc[["count", "mean", "min", "50%", "max"]].round(1)

# %% [markdown]
# `lost` is 0 everywhere if least r came first, and never negative if the choice came first.

# %%
out.number("order cells", len(order), "{:d}")
out.number("order fewer", (order.kept < order.partners).sum(), "{:d}")
out.number("order more", (order.kept > order.partners).sum(), "{:d}")

# %% [markdown]
# ## Published cells beside ours
# Where the profile names dictionaries that are the published ones (`published_layers`: published model, layer, name of
# the dictionary), the published procedure is run on them, pair of layers by pair of layers. `12b_ladder` shows each
# part of that procedure in plain numpy.

# %%
where = f"params/{profile}.yaml: 12_published_tables.published_layers"
settings = ladder.Settings(
    tokens=tokens, top=top, least_r=least_r, draws=draws, permutations=permutations, seed=seed(run, "ladder")
)
cells = published.cells(scores, published_layers, run.dictionaries, where)
beside = published.compare(scores, ladder.cells(run, cells, positions, settings))
beside

# %% [markdown]
# Each row has a published number and ours. The table is empty where the profile holds none of the published models.
# The summary has one row a quantity, with the correlation over cells.

# %%
out.text("cells verdict", published.verdict(beside))
if len(beside):
    shown = dict.fromkeys(["published", "ours", "median apart"], "{:.4g}")
    out.table("cells", published.agreement(beside), {**shown, "r": "{:.2f}"})

# %% [markdown]
# ## Verdict
# The published numbers were tested against the law of one component, the number of shuffles that their p imply, and
# the order of filters that their counts imply.

# %%
print(f"Null means {'are' if one_component else 'are not'} those of one component.")
print(f"Sets of scores with shuffles enough for p < {LEVEL:g}: {tables.among(list(by_set['set']), set(able))}.")
print(f"Pairs of layers that lost a feature to the order of filters: {(order.kept < order.partners).sum()}.")
out.save()
