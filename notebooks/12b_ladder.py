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
# # The ladder
#
# **Question.** What does each step from the published procedure to this paper's do to the pairs, to the largest hub
# and to the score?
#
# **In.** The first replicate of this profile's primary pair, on a few rows of text. **Out.** Ten steps, one correction
# each, in plain numpy; the table of all. `12c_steps_and_truth` takes them over replicates and against a control.
#
# **What would count as a no.** A step by hand that differs from the library's; a largest hub that no step makes
# smaller before pairs are one-to-one.

# %% tags=["parameters"]
profile = "smoke"
positions = 10_000
draws = 20
permutations = 99
tokens = [".", "\\n", "␣", "''", "'", "-", ",", "!", "?", "<|endoftext|>", "<bos>", "<pad>"]
top = 5
least_r = 0.1
fvu_rows = 32

# %%
import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from sae_utils import pipeline, profiles, replicates, report, significance
from sae_utils.engine.lms import models
from sae_utils.matching import Pairs
from sae_utils.profiles import seed
from sae_utils.studies.published_tables import ladder, views
from sae_utils.studies.published_tables.looked import looked

# %%
run = profiles.start(profile, "12b_ladder")
out = report.Report(run, "12b_ladder")
out.needs(pipeline.one_tokenizer(run), "two tokenizers, where the published procedure needs one")
settings = ladder.Settings(
    tokens=tokens, top=top, least_r=least_r, draws=draws, permutations=permutations, seed=seed(run, "ladder")
)
names = replicates.of(run, *run.common.primary.pair)[0]
sides = views.sides(run, *names, positions, top)
a, b = (looked(run, name, positions) for name in names)
near = np.arange(min(200, len(sides.rows[0]), len(sides.rows[1])))  # the features that are compared by hand

# %% [markdown]
# ## 0. The published pairs
# The published procedure looks at every position, also at padding. It gives the SAE the input of the block, although
# the SAE was trained on another hook, and takes features before TopK: ReLU of the pre-activations. Every feature of B
# chooses the feature of A with the largest correlation. Here are eight choices, against the first 200 features of A.


# %%
def before_topk(side, x, some):  # (positions, features); a feature's scale changes no correlation
    z = side.sae.process_sae_in(x) @ side.sae.W_enc[:, some] + side.sae.b_enc[some]
    return torch.relu(z).numpy(force=True).astype(np.float64)


def correlations(x, y):  # (features of A, features of B)
    x, y = ((z - z.mean(0)) / np.maximum(z.std(0), 1e-12) for z in (x, y))
    return x.T @ y / len(x)


def choices(view, codes, x_a, x_b):
    pairs = sides.views[view].b_to_a
    chosen = pairs.subset(np.linspace(0, len(pairs) - 1, 8).astype(int))
    of_a = np.union1d(chosen.a, near)
    r = correlations(codes(a, x_a, of_a), codes(b, x_b, chosen.b))
    np.testing.assert_allclose(r.max(0), chosen.r, atol=2e-3)  # no other feature correlates more than the choice
    return pd.DataFrame({"feature of B": chosen.b, "its choice in A": of_a[r.argmax(0)], "r": r.max(0)}).T


# %%
choices(ladder.PUBLISHED, before_topk, a.block_input, b.block_input).round(2)

# %% [markdown]
# Each column is a choice; r is the largest there is. Nothing forbids that a choice in A is made many times.
#
# Filters then drop pairs: those with a listed token among the top tokens of either feature, and those without a shared
# one. Of the features of B that chose one feature of A the first is kept, and then r must reach `least_r`.


# %%
def by_token(pairs, view):
    facts = sides.views[view].facts(sides.words)
    top_a, top_b = facts["top_a"][pairs.a], facts["top_b"][pairs.b]  # (pairs, top) words
    listed = np.isin(top_a, tokens).any(1) | np.isin(top_b, tokens).any(1)
    shared = [bool(set(x) & set(y) - {""}) for x, y in zip(top_a, top_b, strict=True)]
    return pairs.subset(~listed & np.array(shared, bool))


def first_each(pairs):  # pairs are sorted by a, then b
    return pairs.subset(np.unique(pairs.a, return_index=True)[1])


def check(step, pairs):
    kept, found = pairs.subset(pairs.r >= least_r), ladder.choose(sides, step, settings)
    np.testing.assert_array_equal([kept.a, kept.b], [found.a, found.b])
    return len(kept)


# %%
many = sides.views[ladder.PUBLISHED].b_to_a
print(f"{len(many)} choices, {check(ladder.PUBLISHED, first_each(by_token(many, ladder.PUBLISHED)))} pairs kept")

# %% [markdown]
# The two counts say how much of the choices the published score is about.
#
# The score is the |r| of the first principal component of either side's decoder rows, reported as SVCCA, and RSA: the
# Spearman correlation of the cosines within A with those within B. p is the share of a few shuffled pairings that reach
# the score. So that there are pairs enough, both are shown here without the filters by token.


# %%
def first_component(x, y):
    u, v = (np.linalg.svd(z - z.mean(0), full_matrices=False)[0][:, 0] for z in (x, y))
    return abs(u @ v)


def rsa(x, y):
    upper = np.triu_indices(len(x), 1)
    return spearmanr(np.corrcoef(x)[upper], np.corrcoef(y)[upper]).statistic


shown = first_each(many).subset(np.arange(min(300, len(np.unique(many.a)))))
if not significance.enough(shown):  # any pairs show the formulas
    shown = Pairs.of(near, near, np.ones(len(near)), *map(len, sides.rows))
x, y = sides.rows[0][shown.a].astype(float), sides.rows[1][shown.b].astype(float)
published = ladder.score(sides.rows, shown, ladder.LADDER[ladder.PUBLISHED], settings)
np.testing.assert_allclose(first_component(x, y), published[ladder.FIRST].value, atol=1e-4)
np.testing.assert_allclose(rsa(x, y), published[ladder.RSA].value, atol=1e-4)

# %%
chance = significance.test(x, y, [ladder.RSA], m=draws, seed=settings.seed).get(ladder.RSA)
assert published[ladder.RSA].p == np.mean(chance.draws >= chance.observed)
pd.DataFrame(published, index=ladder.Score._fields).T.round(3)

# %% [markdown]
# `value` is to be compared with `null_mean` and the 95% of shuffles between `low` and `high`; p may be 0.
#
# ## 1 to 3. Mask, hook and TopK
# Each of three steps changes what the correlation sees. *Mask* leaves out padding and the beginning of sequence. *Hook*
# gives the SAE the activations that it was trained on. *TopK* takes codes after the SAE's nonlinearity, which sets
# most of them to 0 and leaves the others as they are.


# %%
def after_topk(side, x, some):
    with torch.no_grad():
        return torch.cat([side.sae.encode(part)[:, some] for part in x.split(2048)]).numpy(force=True).astype(float)


own = a.own_hook[a.inside], b.own_hook[b.inside]
every = np.arange(len(sides.rows[0]))
before, after = before_topk(a, own[0][:64], every), after_topk(a, own[0][:64], every)
assert (before[after > 0] > 0).all()
print(f"features above 0 at a position: {(before > 0).mean():.1%} before, {(after > 0).mean():.1%} after")

# %%
by_view = {
    ladder.MASK: choices(ladder.MASK, before_topk, a.block_input[a.inside], b.block_input[b.inside]),
    ladder.HOOK: choices(ladder.HOOK, before_topk, *own),
    ladder.CODES: choices(ladder.CODES, after_topk, *own),
}
pd.concat(by_view).round(2)

# %% [markdown]
# The first output says how sparse codes are before and after. In the second, compare r by step.
#
# Whether a hook is the SAE's own shows in the FVU: the share of the variance that the SAE leaves unexplained.

# %%
fvu = {}
for side, name in zip("ab", names, strict=True):
    source = pipeline.reader(run, name)
    found = source.locate(fvu_rows).meta["fvu"]
    fvu[side] = {"own hook": found[source.hook], "block input": found[models.block_input(source.hook)]}
pd.DataFrame(fvu).round(2)

# %% [markdown]
# An FVU near 0 is that of the hook of the training; near 1 the SAE explains nothing of what it is given.
#
# ## Where do the largest hubs come from?
# For each way of taking codes: the largest hub, that is the most features of B that chose one feature of A; the share
# of distinct choices; the number of positions at which the hub and a median feature of A are above 0; and the hub's top
# tokens.


# %%
def hub(name):
    view = sides.views[name]
    times = np.bincount(view.b_to_a.a)
    largest, words = times.argmax(), [sides.words[token] for token in view.top[0][times.argmax()] if token >= 0]
    rung = ladder.rung(sides, name, settings)
    assert (rung.hub, rung.unique) == (times.max(), (times > 0).sum() / times.sum())
    fires = view.firings[0]
    return [name, times.sum(), rung.hub, rung.unique, fires[largest], np.median(fires[fires > 0]), " ".join(words)]


columns = ["codes", "choices", "largest hub", "unique", "hub fires", "median feature fires", "top tokens of the hub"]
hubs = pd.DataFrame(map(hub, views.VIEWS), columns=columns)
hubs.round(2)

# %% [markdown]
# The row at which `largest hub` falls most is the step that takes away what made the hubs. If a median feature also
# fires at far fewer positions from that row on, hubs come from dense codes; if the row is *mask*, they come from
# padding.
#
# ## 4 and 5. Filters last, one-to-one
# *Filters last*: one feature of B is chosen for each feature of A first, and then pairs are dropped by token, so that
# a filter does not choose. *One-to-one*: a pair is kept if each feature is the other's best, so that there is no hub.

# %%
codes = sides.views[ladder.CODES]
last = check(ladder.ORDER, by_token(first_each(codes.b_to_a), ladder.CODES))
mutual = codes.mutual.subset(np.arange(min(8, len(codes.mutual))))
of_a, of_b = np.union1d(mutual.a, near), np.union1d(mutual.b, near)
r = correlations(after_topk(a, own[0], of_a), after_topk(b, own[1], of_b))
np.testing.assert_array_equal(of_b[r[np.isin(of_a, mutual.a)].argmax(1)], mutual.b)  # the best of A's feature
best_a = of_a[r[:, np.searchsorted(of_b, mutual.b)].argmax(0)]
np.testing.assert_array_equal(best_a, mutual.a)  # and the best of B's
print(f"{last} pairs with filters last, {check(ladder.ONE, by_token(codes.mutual, ladder.CODES))} one-to-one")

# %% [markdown]
# Pairs are lost where the first feature of B that chose a feature of A was not its best.
#
# ## 6 to 9. Estimator, shuffles, excess, no filters
# *Estimator*: SVCCA is the mean of all canonical correlations of the components that hold 99% of the variance. With
# fewer pairs than components these are 1 whatever the rows hold, so the ladder asks for several pairs a dimension.


# %%
def svcca(x, y, variance=0.99):
    kept = []
    for u, s, _ in (np.linalg.svd(z - z.mean(0), full_matrices=False) for z in (x, y)):
        k = np.searchsorted(np.cumsum(s**2) / np.sum(s**2), variance * (1 - 1e-12)) + 1
        kept.append(u[:, :k])
    return np.linalg.svd(kept[0].T @ kept[1], compute_uv=False).mean()


np.testing.assert_allclose(svcca(x, y), significance.test(x, y, ["svcca"], m=2)["svcca"].observed, atol=1e-4)
print(f"n = {len(x)}, d = {x.shape[1]} and {y.shape[1]}: {svcca(x, y):.2f}; shuffled: {svcca(x, y[::-1]):.2f}")

# %% [markdown]
# If the second score is near the first, the estimator says nothing at this n.
#
# *Shuffles*: with the observed pairing counted among m shuffles, p = (b + 1) / (m + 1) is never 0. *Excess*: 0 is
# chance and 1 the most there can be. *No filters*: all mutual pairs.

# %%
chance = significance.test(x, y, [ladder.RSA], m=permutations, seed=settings.seed).get(ladder.RSA)
p = (np.sum(chance.draws >= chance.observed) + 1) / (permutations + 1)
excess = (rsa(x, y) - chance.draws.mean()) / (1 - chance.draws.mean())
corrected = ladder.score(sides.rows, shown, ladder.LADDER[ladder.EXCESS], settings)[ladder.RSA]
np.testing.assert_allclose([excess, p], [corrected.value, corrected.p], atol=1e-4)
np.testing.assert_array_equal(ladder.choose(sides, ladder.ALL, settings).a, codes.mutual.a)
ladder.table(ladder.rungs(sides, settings))

# %% [markdown]
# From column to column one thing changes: n and the mean r say which pairs are left, the scores and p what they say.
# Whether the same happens where words are exchanged is the question of `12c_steps_and_truth`.

# %%
out.number("outside", 100 * (1 - a.inside.mean()), "{:.0f}")
for side, found in fvu.items():
    out.number(f"fvu {side}", found["own hook"])
    out.number(f"fvu {side} input", found["block input"])
out.number("dense before", 100 * (before > 0).mean(), "{:.0f}")
out.number("dense after", 100 * (after > 0).mean(), "{:.0f}")

# %% [markdown]
# ## Verdict
# Every step by hand agrees with the library's, or an assertion would have stopped the notebook. The step with the
# largest fall is named below, of those before *one-to-one*.

# %%
largest = hubs["largest hub"].to_numpy()
falls = largest[:-1] - largest[1:]
print(f"largest hub by step: {', '.join(map(str, largest))}")
print(f"largest fall: {views.VIEWS[falls.argmax() + 1]}" if falls.max() > 0 else "no step makes the hub smaller: no")
out.save()
