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
# # One to one
#
# **Question.** Does it matter how features are paired? Many-to-one or one-to-one, greedy or optimal, filtered before or
# after: is the answer about their arrangement the same?
#
# **In.** The codes and decoder rows of the primary pair, in every replicate, in the true and in the control arm.
# **Out.** Six matchings side by side over replicates; curves over the least correlation and over the size of hubs; the
# order of filters. All of it is secondary to the primary analysis.
#
# **What would count as a no.** One way of pairing gives another answer: with some matching the true arm is not more
# alike than its control by the threshold d, or the difference of the arms is not that of mutual pairs, by more than d.

# %% tags=["parameters"]
profile = "smoke"
candidates = 16
counterpart = 0.5
draws = 9
subsets = 3
least_r = [0.0, 0.3, 0.6]
hub_thresholds = [1, 3, 10]
strongest = [0.25, 0.5, 0.75]

# %%
import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment, linprog

from sae_utils import correlate, filters, inference, matching, measures, nulls, profiles, replicates, report, tables
from sae_utils.profiles import seed
from sae_utils.studies.one_to_one import drawing, matchings

# %%
run = profiles.start(profile, "02_one_to_one")
out = report.Report(run, "02_one_to_one")
primary = run.common.primary
d = {scale: x.d for scale, x in primary.thresholds.items()}  # {} for a profile without replicates: no verdicts
cells = replicates.of(run, *primary.pair)
settings = matchings.Settings(primary.measure, candidates, counterpart, draws, subsets, seed(run, "matchings"))
if run.common.replicates:
    replicates.prepare(run, cells)
both = matchings.arms(run, cells[0], candidates)["true"]  # two correlated dictionaries, on all texts

# %% [markdown]
# ## Five matchings of one matrix
# Every matching starts from the correlations of all features of A with all features of B, over the tokens of the
# matching documents. Here are the first live features of both sides, by `np.corrcoef` and by the library.

# %%
found = both.found
some_a, some_b = np.flatnonzero(found.a.live)[:16], np.flatnonzero(found.b.live)[:24]
x = both.a.codes[both.on_matching][:, some_a].toarray()  # (tokens, features of A)
y = both.b.codes[both.on_matching][:, some_b].toarray()
small = correlate.features(x, y, k=len(some_a))
r = small.block(np.arange(len(some_a)), np.arange(len(some_b)))  # (features of A, features of B)
np.testing.assert_allclose(np.corrcoef(x.T, y.T)[: len(some_a), len(some_a) :], r, atol=1e-4)

# %% [markdown]
# *Many-to-one* gives every feature of one side its best partner; several may have the same. *Mutual* keeps the pairs
# that are each other's best.

# %%
best, back = r.argmax(axis=1), r.argmax(axis=0)  # of every feature of A, of every feature of B
chooses_back = back[best] == np.arange(len(best))
np.testing.assert_array_equal(matching.many_to_one(small).b, best)
np.testing.assert_array_equal(matching.mutual(small).a, np.flatnonzero(chooses_back))


# %% [markdown]
# *Greedy* takes the best remaining pair until one side is used up.


# %%
def greedy(r):
    """The places of greedy pairs: take the largest r that is left, then strike out its row and its column."""
    left, pairs = r.copy(), []
    for _ in range(min(r.shape)):
        i, j = np.unravel_index(left.argmax(), left.shape)
        pairs.append((i, j))
        left[i, :] = left[:, j] = -np.inf
    return np.array(sorted(pairs)).T


np.testing.assert_array_equal(np.array([matching.greedy(small).a, matching.greedy(small).b]), greedy(r))

# %% [markdown]
# *Optimal* takes the one-to-one pairs with the largest sum of correlations. The library solves it on the best
# candidates of each feature, and then proves that no pair beyond these would help.

# %%
pairs = {"mutual": (np.flatnonzero(chooses_back), best[chooses_back]), "greedy": greedy(r)}
pairs["optimal"] = linear_sum_assignment(r, maximize=True)
np.testing.assert_allclose(matching.optimal(small).r.sum(), r[pairs["optimal"]].sum(), rtol=1e-5)
pd.DataFrame({name: {"pairs": len(at[0]), "sum of r": r[tuple(at)].sum()} for name, at in pairs.items()}).T

# %% [markdown]
# Compare the sums of the last two rows: greedy can at most reach the sum of optimal, and the gap is what the early
# choices cost. There are never more mutual than greedy pairs, and each mutual pair is also a greedy one.

# %% [markdown]
# *Soft* matching gives every feature one unit of mass, and sends it to the features of the other side at the least cost
# 1 - r: a problem of optimal transport, which a linear program solves. The root of twice the cost is the soft matching
# distance. Of the plan one pair a feature is kept, the heaviest first.

# %%
n, m = r.shape
leaves, arrives = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))  # mass of each feature of A, of B
mass = np.append(np.full(n, 1 / n), np.full(m, 1 / m))
least = linprog(1 - r.ravel(), A_eq=np.vstack([leaves, arrives]), b_eq=mass)
np.testing.assert_allclose(np.sqrt(2 * least.fun), matching.soft(small).distance, rtol=1e-4)

# %% [markdown]
# ## One n and one null for all matchings
# Two steps make the excess of matchings comparable. First, no score is free of n: every matching is cut to the size of
# the smallest one, in random subsets whose excess is averaged.

# %%
chosen, n = matching.optimal(found), len(matching.mutual(found))
rng = np.random.default_rng(settings.seed)
drawn = [chosen.subset(np.sort(rng.choice(len(chosen), n, replace=False))) for _ in range(subsets)]
by_hand = np.mean([settings.excess(pairs, both) for pairs in drawn])
np.testing.assert_allclose(by_hand, settings.at_n(chosen, both, n))
pd.Series({"all optimal pairs": settings.excess(chosen, both), "as many as mutual pairs": by_hand}).round(3)

# %% [markdown]
# The distance between the two rows says how much the number of pairs alone moves the score.

# %% [markdown]
# Second, a null must break only the pairing. Features of A that share a partner are often alike for that reason; a
# shuffle would separate them and call the rest shared geometry. So they get another partner together.

# %%
many = matching.many_to_one(found)
partners, group = np.unique(many.b, return_inverse=True)  # the chosen features of B, and the place of each pair's own
order = nulls.permutations(np.random.default_rng(0), 1, len(partners))[0]
moved = partners[order][group]  # (pairs,)
of_library = nulls.reassigned(many.b).draw(np.random.default_rng(0), 1, len(many))[0]
np.testing.assert_array_equal(many.b[of_library], moved)


# %% [markdown]
# ## Six matchings in every replicate
# One replicate gives both arms. In the true arm both models read the same text at a time; in the control arm one of
# them reads exchanged words. Cuts and orders, of the sections below, are of the true arm.


# %%
def of_replicate(names):
    """The tables of one replicate."""
    both = matchings.arms(run, names, candidates)
    made = {arm: {name: pair(x.found) for name, pair in matchings.METHODS.items()} for arm, x in both.items()}
    n = min(len(pairs) for of_arm in made.values() for pairs in of_arm.values())
    scored = [matchings.by_matching(made[arm], x, settings, n).assign(arm=arm) for arm, x in both.items()]
    true, pairs = both["true"], made["true"]
    forward, cut = pairs[matchings.FORWARD], {name: pairs[name] for name in (matchings.FORWARD, "mutual", "optimal")}
    return {"matchings": pd.concat(scored), "least r": matchings.cut_by_r(cut, true, settings, least_r),
            "hubs": matchings.cut_hubs(forward, true, settings, hub_thresholds),
            "orders": matchings.orders(forward, true, settings, strongest)}  # fmt: skip


# %%
by_replicate = list(replicates.over(of_replicate, cells, "matchings of replicates").values())
tables_of = {
    part: pd.concat([x[part].assign(replicate=number) for number, x in enumerate(by_replicate)])
    for part in by_replicate[0]
}

# %%
made = tables_of["matchings"]
shown = ["pairs", "of A", "of B", "r matching", "r held out", "counterparts", "in optimal", "excess"]
methods = made[made.arm == "true"].groupby("matching", sort=False)[shown].mean().reset_index()
out.table("methods", methods, {"pairs": "{:,.0f}", **dict.fromkeys(shown[1:-1], "{:.2f}"), "excess": "{:.3f}"})

# %% [markdown]
# *of A* and *of B* are the shares of live features that are kept: they say what each matching leaves out. Compare *r
# matching* with *r held out*: the first is from the documents that chose the pairs, so it is too large. The column
# *excess* is of all pairs, whose numbers differ; the next section compares at one n.

# %%
out.number("counterpart threshold", counterpart, "{:.1f}")
out.number("replicates", len(cells), "{:d}")
out.number("mutual in optimal", 100 * methods.set_index("matching")["in optimal"]["mutual"], "{:.0f}")

# %% [markdown]
# ## Are the pairs arranged alike, whichever they are?
# All matchings of both arms are cut to the smallest of them. The difference of the arms, replicate by replicate, is
# held against d, and so is its distance from the difference of mutual pairs.

# %%
at_one_n = made.pivot(index="replicate", columns=["arm", "matching"], values="at one n")
true = at_one_n["true"]
difference = true - (at_one_n["control"] if "control" in at_one_n else np.nan)  # (replicates, matchings)
gap = {name: inference.over_replicates(difference[name]) for name in matchings.METHODS}
beside = {name: inference.over_replicates(difference[name] - difference["mutual"]) for name in gap if name != "mutual"}
pd.DataFrame(gap, index=inference.Replicated._fields).T.round(3)

# %% [markdown]
# Look at *low* and *high*: an interval above d says that the true arm is the more alike with this matching.

# %%
figure = drawing.both_arms(at_one_n, f"excess of {measures.measure(primary.measure).label}, at one n")
out.figure("geometry", figure)

# %% [markdown]
# In each line compare blue with grey: the answer depends on the matching where the distance of the two changes from
# line to line, not where both move together.

# %%
words, beside_words = {}, {}
for name, x in gap.items() if d else ():
    question = f"{name}: is the true arm more alike than the control?"
    words[name] = out.verdict(f"alike {name}", question, x, d["excess"], "An interval below d.")
for name, x in beside.items() if d else ():
    question = f"{name}: does the difference of the arms depart from that of mutual pairs?"
    no = "An interval of either sign within d."
    beside_words[name] = out.verdict(f"beside {name}", question, inference.size(x), d["excess"], no)
pd.DataFrame({"more alike than the control": words, "departs from mutual pairs": beside_words}).fillna("")

# %% [markdown]
# The left column has one word if all matchings give one answer. In the right column *no* means the same difference as
# with mutual pairs, within d.

# %%
departs = {word: [x for x in beside if beside_words.get(x) == word] for word in ("yes", "no")}
out.text("alike", tables.among(list(gap), {name for name in gap if words.get(name) == "yes"}))
out.text("departing", tables.among(list(beside), departs["yes"]))
out.text("agreeing", tables.among(list(beside), departs["no"]))
out.number("smallest n", made.n.mean(), "{:,.0f}")

# %% [markdown]
# ## Only pairs that correlate by so much
# As the least correlation on the matching documents rises, fewer pairs are kept. Are these better aligned, or only
# fewer? The dashed line has as many optimal pairs, drawn at random.

# %%
cut = tables_of["least r"]
out.figure("least-r", drawing.least_r(cut))

# %% [markdown]
# In the right panel compare the line of optimal pairs with the dashed one at the same threshold: only a rise above it
# is better alignment. The left panel says how few features the rise is about.

# %%
best = cut[cut.matching == "optimal"]
scored = best.groupby("least r")[["excess", "as many"]].apply(lambda x: x.notna().all(axis=None))
strict = max(scored.index[scored], default=min(least_r))  # with enough pairs in every replicate
at_strict = best[best["least r"] == strict]
better = inference.over_replicates(at_strict["excess"] - at_strict["as many"])
best.groupby("least r")[["n", "excess", "as many"]].mean().round(3)

# %% [markdown]
# The verdict takes the highest threshold at which every replicate has enough pairs for a score.

# %%
if d:
    question = "Are the strongest optimal pairs better aligned than as many at random?"
    words["strong"] = out.verdict("strong", question, better, d["excess"], "An interval below d.")
out.number("strictest r", strict, "{:.1f}")
out.number("strictest n", at_strict.n.mean(), "{:,.0f}")

# %% [markdown]
# ## Only partners that few have chosen
# A hub is a feature that many have chosen. From the many-to-one pairs, A to B, hubs above a size are cut: their best
# pair is kept, or their first (the lowest feature of A, the published rule), or none. The first two by hand:

# %%
order = np.lexsort((many.a, -many.r, many.b))  # by partner, then the largest r first
_, first = np.unique(many.b[order], return_index=True)
np.testing.assert_array_equal(filters.hubs(many, 1, keep="best").a, np.sort(many.a[order][first]))
_, first = np.unique(many.b, return_index=True)  # pairs are sorted by the feature of A
np.testing.assert_array_equal(filters.hubs(many, 1, keep="first").a, np.sort(many.a[first]))

# %%
hubs = tables_of["hubs"]
out.figure("hubs", drawing.hubs(hubs))
out.number("largest hub", hubs.largest.max(), "{:d}")

# %% [markdown]
# Read from right to left: the cut gets stricter. Where *best* and *first* part, the rule that keeps a pair matters, and
# not only that one is kept.

# %% [markdown]
# ## One-to-one first, or the strongest first?
# The many-to-one pairs from A to B are made one-to-one, and the strongest share of them is kept: in either order. With
# the *best* rule a pair is decided by stronger pairs alone, so that both orders agree down to some correlation. With
# the *first* rule the order in which features are stored decides. In the first replicate:

# %%
half, single = ("strongest", {"share": 0.5}), ("one_to_one", {})
one, two = (filters.apply(many, steps)[0] for steps in ([single, half], [half, single]))
strong = many.subset(np.argsort(-many.r, kind="stable")[: -(-len(many) // 2)])  # half of the pairs, rounded up
assert len(two) == len(np.unique(strong.b))  # one pair for every partner among them
pd.Series({"one-to-one first": len(one), "strongest first": len(two), "in both": len(matching.common(one, two))})

# %% [markdown]
# The share is taken of different numbers of pairs, so that the two sets differ in size; *in both* says whether the
# smaller lies in the larger.

# %%
ordered = tables_of["orders"]
middle = strongest[len(strongest) // 2]
ordered.groupby(["rule", "share"], sort=False)[["n", "reversed n", "in both", "difference"]].mean().round(3)

# %% [markdown]
# *n* counts the pairs with one-to-one first, *reversed n* those with the strongest first. *difference* is the excess of
# the first less that of the second: near 0 the order does not matter.

# %%
out.number("order share", 100 * middle, "{:.0f}")
for rule, x in ordered[ordered.share == middle].groupby("rule", sort=False):
    out.number(f"order {rule} both", 100 * x["in both"].mean(), "{:.0f}")
    out.number(f"order {rule} n", x.n.mean(), "{:,.0f}")
    out.number(f"order {rule} reversed n", x["reversed n"].mean(), "{:,.0f}")
    if d:
        question = f"Does the order of filters change the excess, keeping the {rule} pair of a hub?"
        changed = inference.size(inference.over_replicates(x.difference))
        no = "An interval of either sign within d."
        words[f"order, {rule}"] = out.verdict(f"order {rule}", question, changed, d["excess"], no)

# %% [markdown]
# ## The verdict
# How features are paired does not matter if the first six lines have one word, and *no* stands wherever two ways of
# pairing are compared (*order*, *departs*). *Strong* asks whether the strongest optimal pairs are better aligned.

# %%
print(pd.Series(words | {f"{name} departs from mutual": word for name, word in beside_words.items()}).to_string())
out.save()
