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
# # Circles: do ordered words lie in the order of their calendar?
#
# **Question.** Do features arrange months, weekdays and numbers on a circle, in calendar order, in each of two models
# and alike in both?
#
# **In.** Lists of words in their order; two models with their SAEs, over replicates where there are any. **Out.** How
# well the angles of the words agree with the calendar in the best plane, and how much of their variance a circle
# explains, against random words that repeat the search; how alike both models arrange the words; verdicts.
#
# **What would count as a no.** The 95% interval over replicates lies below d, which is 15% of the way from random words
# to a perfect circle. An order that is no better than shuffles *within* the true lists of the stories (seasons, say)
# shows the lists, not the calendar.

# %% tags=["parameters"]
profile = "smoke"
concepts = {
    "months": ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october"],
    "weekdays": ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"],
}
minimum = 5
about = {"share": 0.2, "firings": 5}
permutations = 49
planted = {"items": 12, "dimensions": 16, "noise": 0.15, "draws": 10}
d = 0.15

# %%
import numpy as np
import pandas as pd

from sae_utils import inference, pipeline, profiles, replicates, report
from sae_utils.profiles import seed
from sae_utils.studies.geometry import circles, drawing, items, shapes
from sae_utils.studies.geometry import planted as truths

# %%
run = profiles.start(profile, "10_geometry")
out = report.Report(run, "10_geometry")
out.needs(concepts, "no ordered concepts")
cells = replicates.of(run, *run.common.primary.pair)  # (A, B) of every replicate
if run.common.replicates:
    replicates.prepare(run, cells)

# %% [markdown]
# ## When are items on a circle?
# Twelve points on a planted circle in 16 dimensions, with noise. In every plane of two of the first six principal
# components, the angles of the items are ranked. Their agreement with the calendar is the length of the mean of
# exp(i(rank - calendar)), in the better direction; the best plane counts.

# %%
rng = np.random.default_rng(seed(run, "circle"))
rows = shapes.draw("circle", planted["items"], planted["dimensions"], planted["noise"], rng)
calendar = 2 * np.pi * np.arange(len(rows)) / len(rows)
scores = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
scores = scores[0][:, :6] * scores[1][:6]
agreement = []
for i, j in zip(*np.triu_indices(6, 1), strict=True):
    angle = np.arctan2(scores[:, j], scores[:, i])
    rank = 2 * np.pi * angle.argsort().argsort() / len(angle)
    agreement.append(max(abs(np.exp(1j * (rank - turn * calendar)).mean()) for turn in (1, -1)))
np.testing.assert_allclose(max(agreement), circles.best(rows).agreement)
print(f"agreement in the best plane {max(agreement):.2f}, in the worst {min(agreement):.2f}")

# %% [markdown]
# 1 means that the angles have the calendar's order. The best of 15 planes is high for random points too, so that
# whatever is compared must search as often.
#
# Agreement reads the order alone. The variance that a circle explains also asks for equal distances: the best turn and
# scale of (cos, sin) is a Procrustes problem, in which no plane needs to be chosen.

# %%
centred = rows - rows.mean(0)
target = np.stack([np.cos(calendar), np.sin(calendar)], axis=1)
u, s, vt = np.linalg.svd(target.T @ centred, full_matrices=False)
circle = s.sum() / len(rows) * target @ u @ vt
variance = 1 - ((centred - circle) ** 2).sum() / (centred**2).sum()
np.testing.assert_allclose(variance, circles.statistics(rows, np.arange(len(rows))[None])["variance"][0])
print(f"the best circle explains {variance:.0%} of the variance")

# %% [markdown]
# The rest is noise in all dimensions.

# %% [markdown]
# ## Does it find a circle, and nothing in nothing?
# Shapes whose items follow the calendar. *Found* is the share of draws with p <= .05 under a shuffled order; *in lists*
# the same where items change places only within four lists of neighbours, as months within seasons.

# %%
SHOWN = ("circle", "figure-eight", "line", "clusters in a row", "nothing")
sizes = [planted[key] for key in ("items", "dimensions", "noise", "draws")]
rates = pd.DataFrame({x: truths.circle(x, *sizes, 99, seed(run, x)) for x in SHOWN}).T.rename_axis("planted")
out.table("planted", rates.reset_index(), dict.fromkeys(rates.columns, "{:.2f}"))

# %% [markdown]
# *Nothing* should be found in about 5% of the draws. *Clusters in a row* are found under a shuffled order, although no
# item has a place within its cluster: only the null within lists tells them from a circle.

# %% [markdown]
# ## Which order does the text hold?
# In the generated stories, words of an ordered class come in twos, each with the *next* of its class, the first after
# the last. So the text holds a circle of numbers and weekdays as well as of months: what follows what. It never says
# that january stands for a time.

# %%
text = items.read(run, cells[0])
found = {name: items.concept(run, words, text, minimum) for name, words in concepts.items()}
own = pipeline.features(run, cells[0][0])
of = pipeline.words(run, cells[0][0], own.sites).of
kept = pd.DataFrame({"words": [len(x.items) for x in found.values()]}, index=pd.Index(found, name="concept"))
kept["rare"] = [len(x.rare) for x in found.values()]
kept["lists"] = [0 if x.lists is None else len(set(x.lists)) for x in found.values()]
counted = [items.features_about(own.codes, of, x.items, about["share"], about["firings"]) for x in found.values()]
kept[["features", "of one word"]] = counted
out.table("words", kept.reset_index())

# %% [markdown]
# *Features* are those of A with so much of their activation on the concept, *of one word* on a single word of it. There
# are hardly any, so that the items cannot be features. They are words, as features write them: the vector of a word is
# the mean of codes times decoder rows over its occurrences.

# %%
names = [name for name, x in found.items() if x.tested]
untested = [f"{name} ({len(found[name].items)} words)" for name in found if name not in names]
out.text("untested", ", ".join(untested) or "none")
word = found[names[0]].items[0] if names else 0
by_hand = own.codes[of == word].mean(axis=0) @ own.decoder
np.testing.assert_allclose(text.a[word], np.ravel(by_hand), rtol=1e-4, atol=1e-5)
print(f"{text.words[word]}: {text.occurs[word]} occurrences; not tested: {untested or 'none'}")

# %% [markdown]
# A concept with fewer than five words has no order that chance would not often have; it is named here, and not tested.

# %%
best = {
    model: {name: circles.best(vectors[found[name].items]) for name in names}
    for model, vectors in (("A", text.a), ("B", text.b))
}
if names:
    shown = {name: [text.words[i] for i in found[name].items] for name in names}
    out.figure("planes", drawing.planes(best, shown))
else:
    out.absent("planes", "too few words of any ordered concept")

# %% [markdown]
# The grey line joins the words in calendar order, the first replicate. On a circle it would run once around; the number
# is the agreement in the plane shown, which is the best of 15.

# %% [markdown]
# ## Against random words, in every replicate
# The null draws as many other words that occur about as often, in random order, and repeats the search. *Excess* is
# (observed - null mean) / (1 - null mean): 0 as random words, 1 for a perfect circle.


# %%
def measured(cell):
    text = items.read(run, cell)
    of = {name: items.concept(run, words, text, minimum) for name, words in concepts.items()}
    results = {name: items.measured(text, x, permutations, seed(run, f"{name} {cell[0]}")) for name, x in of.items()}
    return items.frame({name: x for name, x in results.items() if x is not None})


# %%
frames = replicates.over(measured, cells, "ordered words")
frame = pd.concat([x.assign(replicate=number) for number, x in enumerate(frames.values())], ignore_index=True)
shown = items.summary(frame)
forms = dict.fromkeys(["agreement", "random", "within lists", "variance", "random variance"], "{:.2f}")
out.table("circles", shown, forms)

# %% [markdown]
# Compare *agreement* with *random*, and *variance* with *random variance*: means over replicates. *Below .05* counts
# replicates with p <= .05 against random words; *within lists* is the excess over orders within the true lists.

# %% [markdown]
# ## Alike in both models?
# RSA correlates the distances between the words of a concept in A with those in B. In the control, B reads other words
# at the same places, as words have changed places.

# %%
both = items.by_concept(frame)
columns = {"order": "order", "within": "order within lists", "alike": "alike in A and B", "control": "alike, exchanged"}
given = {key: title for key, title in columns.items() if len(both) and both[key].notna().any()}
if given:
    out.figure("excess", drawing.replicated(both, "concept", given, {key: d for key in given if key != "control"}))
else:
    out.absent("excess", "too few words of any ordered concept")
excesses = both.groupby("concept", sort=False)[list(columns)].mean().rename(columns=columns)
largest = frame.groupby("concept", sort=False)[["p", "alike p"]].max()
excesses = excesses.join(largest.rename(columns={"p": "largest p", "alike p": "largest p, alike"})).reset_index()
out.table(
    "excess", excesses, dict.fromkeys(columns.values(), "{:.2f}") | dict.fromkeys(excesses.columns[-2:], "{:.3f}")
)

# %% [markdown]
# A dot is a replicate, a mean of A and B; the dashed line is d. Compare *alike in A and B* with *alike, exchanged*. The
# table has the means, and the largest p of any replicate and model.

# %% [markdown]
# ## Verdicts

# %%
answers, gaps = {}, both.assign(alike=both.alike - both.control)
QUESTIONS = {
    "order": "Do {} lie in calendar order?",
    "within": "Do {} lie in calendar order within their lists?",
    "alike": "Are {} arranged alike in A and B, beyond exchanged words?",
}
replicated = len(cells) > 1
for name in names if replicated else []:
    for key, asks in QUESTIONS.items():
        values = inference.over_replicates(gaps[gaps.concept == name][key])
        no = "The whole interval of the excess lies below d."
        answers[asks.format(name)] = out.verdict(f"{name} {key}", asks.format(name), values, d, no, form="{:.2f}")
if not answers:
    out.absent("verdicts", "a single pair of models" if names else "too few words of any ordered concept")
pd.Series(answers, name="answer", dtype=object).to_frame()

# %% [markdown]
# A *yes* for order with a *no* within lists says that the lists lie around the circle, not their words. A single pair
# of models has no verdict; its p stand in the table above.

# %%
out.number("items least", circles.FEWEST, "{:d}")
out.number("replicates", len(cells), "{:d}")
out.save()
