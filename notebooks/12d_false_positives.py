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
# # False positives of the ladder
#
# **Question.** How often do the steps of the published ladder, and the primary analysis, find something in two models
# that share nothing, or only something trivial?
#
# **In.** Planted pairs of models, whose codes are made and not trained (`12c_steps_and_truth`). They share nothing, one
# trivial thing, or all directions. No model is read. **Out.** For each world the share of draws in which p is below
# 0.05 at every step, with its exact interval; the verdicts of the primary analysis over planted replicates.
#
# **What would count as a no.** A step finds nothing too often if the interval of its share of draws lies below
# `too_often` where nothing is shared. It has no power if that holds where all directions are shared.

# %% tags=["parameters"]
profile = "smoke"
worlds = {
    "no partners": {"world": {"kind": "copies", "shared": 0.0}, "partners": False, "draws": 4},
    "only frequency": {"world": {"kind": "gradient", "strength": 0.3}, "along": "frequency", "draws": 4},
    "only topics": {
        "world": {"kind": "grouped", "groups": 8, "centres": 1.0, "alike_a": 0.5, "alike_b": 0.5},
        "along": "topics",
        "draws": 4,
    },
}
ends = {"nothing": 4, "all": 4, "shared": 0.8}
sizes = {
    "concepts": 80,
    "kept": 0.75,
    "words": 160,
    "expressed": 3,
    "documents": 40,
    "length": 40,
    "d_a": 12,
    "d_b": 16,
}
tokens = [".", "\\n", "␣", "''", "'", "-", ",", "!", "?", "<|endoftext|>", "<bos>", "<pad>"]
top = 5
least_r = 0.1
draws = 20
permutations = 39
replicates = 4
of_ceiling = 0.15
too_often = 0.1

# %%
import numpy as np
import pandas as pd
from scipy import stats

from sae_utils import inference, measures, profiles, report
from sae_utils.engine.core import spec
from sae_utils.inference import LEVEL
from sae_utils.profiles import seed
from sae_utils.studies.published_tables import drawing, false_positives, ladder, planted, rates

# %%
run = profiles.start(profile, "12d_false_positives")
out = report.Report(run, "12d_false_positives")
where = f"params/{profile}.yaml: 12d_false_positives"
given = false_positives.worlds(false_positives.with_ends(worlds, **ends), f"{where}.worlds")
size = spec.build(planted.Sizes, sizes, f"{where}.sizes")
settings = ladder.Settings(
    tokens=tokens, top=top, least_r=least_r, draws=draws, permutations=permutations, seed=seed(run, "planted pairs")
)

# %% [markdown]
# ## The worlds
# In each world words express concepts, and either model has a direction for every concept. A world says how the
# directions of the two models are arranged, and what the order of the concepts follows: chance, how often a concept is
# expressed (*frequency*), or the topics of the documents. Without *partners*, words express other concepts in B than in
# A. *Nothing*: the words express the same concepts, and directions are unrelated; *all*: directions are noisy copies.

# %%
pd.DataFrame([{"shared": name, **x.world, "along": x.along, "partners": x.partners} for name, x in given.items()])

# %% [markdown]
# One draw: `plan` plants both models and their text, `codes` makes what their SAEs say at every position. The control
# of the primary analysis reads words that have changed places with words of nearly equal frequency: the fourth with the
# fifth, and so on (the first three are special).

# %%
rng = np.random.default_rng(0)
made = planted.plan(rng, false_positives.arrangement(given["all"].world, where), size)
codes = planted.codes(rng, made, made.text.tokens)
place = made.text.tokens
by_hand = np.where(place < 3, place, np.where(place % 2, place + 1, place - 1))
by_hand = np.where(by_hand < size.words, by_hand, place)
np.testing.assert_array_equal(by_hand, planted.exchanged(made))
print(f"{len(place):,} positions, {(by_hand != place).mean():.0%} of them with another word")

# %% [markdown]
# The partners are arranged alike here. RSA of the true partners by hand: rank the dissimilarities of either side, and
# correlate them.

# %%
paired = np.flatnonzero(made.partner >= 0)
rows = made.models[0].rows[paired], made.models[1].rows[made.partner[paired]]
upper = np.triu_indices(len(paired), 1)
x, y = (stats.rankdata(-np.corrcoef(side)[upper]) for side in rows)
library = measures.rsa(*rows, comparison="spearman")
np.testing.assert_allclose(np.corrcoef(x, y)[0, 1], library, rtol=1e-6)
print(f"RSA of {len(paired)} planted partners: {library:.2f}")

# %% [markdown]
# ## All draws
# Each draw climbs the whole ladder, and gives the difference of the two arms of the primary analysis. Draws run side by
# side, as many together as make one verdict.

# %%
found = false_positives.drawn(given, size, settings, replicates)
p = found["nothing"].p["RSA"][ladder.PUBLISHED]
assert found["nothing"].found("RSA", ladder.PUBLISHED) == ((p < LEVEL).sum(), np.isfinite(p).sum())
pd.DataFrame({name: pd.Series(x.p["RSA"][ladder.ALL][:4]) for name, x in found.items()}).round(2)

# %% [markdown]
# One column is one world, with the p of RSA at the top of the ladder in its first draws. A draw without pairs enough
# has none.
#
# A share of draws gets the exact interval of Clopper and Pearson, from quantiles of the beta distribution:

# %%
below, scored = found["nothing"].found("RSA", ladder.ALL)
low = stats.beta.ppf(LEVEL / 2, below, scored - below + 1) if below else 0.0
high = stats.beta.ppf(1 - LEVEL / 2, below + 1, scored - below) if below < scored else 1.0
np.testing.assert_allclose(rates.rate(below, scored)[1:], [low, high])
print(f"p < {LEVEL:g} in {below} of {scored} draws: 95% interval {low:.3f} to {high:.3f}")

# %%
out.table("rsa", rates.by_step(found, "RSA"))

# %% [markdown]
# Read the columns of *nothing* and *no partners*: a test that keeps its level finds something in at most 5%. In the
# next columns something is shared, but not the arrangement of single features. A test of shuffled pairs cannot tell
# that from *all*, in the last column.

# %%
out.table("svcca", rates.by_step(found, "SVCCA"))

# %% [markdown]
# The same for SVCCA: by the published estimator up to *one-to-one*, then by 99% of the variance.

# %%
out.figure("rates", drawing.rates(found, too_often))

# %% [markdown]
# Marks left of the line at 5% in the first panels are what a valid test gives. A mark far to the right there is a step
# that finds what is not there.

# %%
asked = {"published": ladder.PUBLISHED, "mask": ladder.MASK, "hook": ladder.HOOK, "topk": ladder.CODES}
asked |= {"no filters": ladder.ALL}
no = "The interval of the share of draws lies below d."
for name, step in asked.items():
    interval = rates.interval(*found["nothing"].found("RSA", step))
    question = f"Where nothing is shared, is p of RSA below {LEVEL:g} too often at the step \u201c{step}\u201d?"
    print(question, out.verdict(f"nothing {name}", question, interval, too_often, no, form="{:.2f}"))

# %% [markdown]
# A *yes* says that the step finds something too often where nothing is shared.

# %%
for world in ("nothing", "only frequency", "only topics", "all"):
    for name in ("published", "no filters"):
        out.text(f"{world} {name} share", rates.sentence(*rates.of(found, world, "RSA", asked[name])))
for name in ("mask", "hook", "topk"):
    out.text(f"nothing {name} share", rates.sentence(*found["nothing"].found("RSA", asked[name])))

# %% [markdown]
# ## The primary analysis
# It asks for a difference between arms that hold the same features, over replicates, and not for a p. Draws of a world
# are its replicates. Its threshold d is a part of the difference where all directions are shared. The verdict of the
# first replicates by hand:

# %%
d = of_ceiling * np.mean(found["all"].differences["primary"])
x = found["all"].differences["primary"][:replicates]
half = stats.t.ppf(1 - LEVEL / 2, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5
first = found["all"].replicated("primary", replicates)[0]
np.testing.assert_allclose([x.mean() - half, x.mean() + half], [first.low, first.high])
print(f"{x.mean():.3f} ({first.low:.3f} to {first.high:.3f}), d = {d:.3f}: {inference.verdict(*first[2:4], d)}")

# %%
forms = {"difference": "{:.3f}", "SD": "{:.3f}"}
primary = rates.verdicts(found, "primary", replicates, d)
out.table("primary", primary, forms)

# %% [markdown]
# One row is one world; a verdict is made of as many draws as the profile says. *yes* should be rare in the rows of
# *nothing* and *no partners*. A *yes* in the rows between says that the primary analysis cannot tell that trivial thing
# from a shared arrangement. The next table holds the firing rates of both sides fixed, by partial RSA.

# %%
given_rates = rates.verdicts(found, "given firing rate", replicates, d)
out.table("given rates", given_rates, forms)

# %% [markdown]
# If firing rates explained what frequency arranges, the difference of *only frequency* would be 0 here.

# %%
for world in ("nothing", "no partners", "only frequency", "only topics", "all"):
    row = primary[primary.shared == world]
    out.text(f"{world} primary", f"{row.yes.sum()} of {row.n.sum()}")
for name, frame in (("primary", primary), ("given rates", given_rates)):
    row = frame[frame.shared == "only frequency"]
    out.number(f"frequency difference {name}", row.difference.mean(), "{:.3f}")

# %%
for name, value in {"replicates": replicates, "permutations": permutations, "published draws": draws}.items():
    out.number(name, value, "{:d}")
for name in ("concepts", "documents", "d_a", "d_b"):
    out.number({"d_a": "narrow", "d_b": "wide"}.get(name, name), sizes[name], "{:d}")
out.number("d", d, "{:.3f}")
out.number("too often", 100 * too_often, "{:.0f}")

# %% [markdown]
# ## Verdict
# Where nothing is shared: how often the published procedure, the top of the ladder and the primary analysis find
# something.

# %%
row = primary[primary.shared == "nothing"]
pd.Series(
    {
        "published procedure, RSA": rates.shown(*found["nothing"].found("RSA", ladder.PUBLISHED)),
        "all corrections, RSA": rates.shown(*found["nothing"].found("RSA", ladder.ALL)),
        "primary analysis": row["yes, %"].iloc[0],
    }
).to_frame("% of draws, of verdicts")

# %%
out.save()
