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
# # Two given models
#
# **Question.** A released model has no second seed, and real text has no words that can change places. Can two such
# models still be told to be more alike than one of them is with a *twin* of the other, whose blocks are random?
#
# **In.** Several SAEs of each of two models, which differ in their seed alone, and SAEs of twins. **Out.** The
# difference D between B and each twin, with an interval over SAE seeds and documents, between a ceiling and a floor.
#
# **What would count as a no.** The 95% interval of D lies below the threshold d. The answer is about this pair, this
# text and this recipe of SAEs: the models themselves are not drawn again.

# %% tags=["parameters"]
profile = "smoke"
a = ["two_layer_0", "two_layer_seed1", "two_layer_seed2"]
b = ["three_layer_0"]
twins = {"random weights": {"b": ["random_0"]}, "random blocks": {"b": ["random_blocks_0"]}}
minimum_firings = 10
neighbours = 5

# %%
import numpy as np
import pandas as pd

from sae_utils import inference, measures, profiles, replicates, report
from sae_utils.studies.twins import arms, drawing

# %%
run = profiles.start(profile, "07c_twins")
out = report.Report(run, "07c_twins")
out.needs(twins, "no twin of its models")
primary = run.common.primary
threshold = primary.thresholds.get("excess")
asked = measures.chosen([primary.measure, "mutual_knn"], neighbours)
cells = arms.cells(a, b, twins)

# %% [markdown]
# ## One feature, one partner, in every arm
# A's features take part that fire often enough and, where the classes of words are known, fire on content words. Each
# gets one partner in B and one in the twin, by the largest total correlation. So the features of A and n are the same
# in both arms, and no pair is left out for its r.

# %%
first = cells[0]
own, others = arms.side(run, first.a), {arm: arms.side(run, name) for arm, name in first.others}
mine, theirs = own.parts[first.choose], {arm: x.parts[first.choose] for arm, x in others.items()}
features = replicates.content_features([mine.codes], [mine.classes], minimum_firings)
r = {arm: replicates.correlate([mine.codes], [x.codes]) for arm, x in theirs.items()}
partners = {arm: replicates.partners(x.r, features, x.live[1]) for arm, x in r.items()}
print(f"{len(features)} features of {first.a}, of {own.decoder.shape[0]}")

# %% [markdown]
# With fewer than 10 features nothing is scored.

# %%
kept = np.all([x >= 0 for x in partners.values()], axis=0)
by_hand = {arm: (own.decoder[features[kept]], others[arm].decoder[x[kept]]) for arm, x in partners.items()}
excess = {arm: replicates.excesses(rows, [primary.measure])[primary.measure] for arm, rows in by_hand.items()}
library = arms.compare(own, others, [primary.measure], minimum_firings, first.choose, first.judge)
for arm, value in excess.items():
    np.testing.assert_allclose(value, library.excess[arm][primary.measure][0], equal_nan=True)
pd.Series(excess).round(3).to_frame("excess")

# %% [markdown]
# *A and B* minus a twin is D of one SAE seed, on one half of the documents.

# %% [markdown]
# ## What other documents would give
# Partners are chosen by the documents at hand. The jackknife leaves out one group of articles after another, pairs the
# features anew, and sees how far D moves. Correlations without a group follow from sums: those of all tokens minus
# those of the group.

# %%
group = mine.groups == 0
whole = replicates.sums([mine.codes], [theirs[arms.TRUE].codes])
part = replicates.sums([mine.codes[group]], [theirs[arms.TRUE].codes[group]])
again = replicates.correlate([mine.codes[~group]], [theirs[arms.TRUE].codes[~group]])
np.testing.assert_allclose(whole.without(part).correlations().r, again.r, atol=1e-6)
twin = list(others)[-1]
gap = library.excess[arms.TRUE][primary.measure] - library.excess[twin][primary.measure]
pd.Series(gap[1:]).describe()[["count", "mean", "std", "min", "max"]].round(3).to_frame(f"D to {twin}")

# %% [markdown]
# *std* is small where no group of articles carries D; *count* is the number of groups in one half of the documents.

# %% [markdown]
# ## Every SAE seed, both roles, both halves
# The features of A, and where a twin of A is given those of B, are paired in turn; either half of the documents
# chooses partners. *Other documents* pairs A with B at tokens of another document: what choosing partners alone gives.

# %%
found = arms.over(run, cells, list(asked), minimum_firings)
labels = [arms.TRUE, *twins, arms.PERMUTED]
ceiling = arms.ceilings(run, a, list(asked), minimum_firings)


def by_seed(arm, name):
    """The excess of an arm by SAE seed, a mean over roles and halves."""
    frame = pd.DataFrame([(cell.seed, x.excess[arm][name][0]) for cell, x in found.items()], columns=["seed", "excess"])
    return frame.groupby("seed")["excess"].mean().to_numpy()


values = {drawing.CEILING: {name: np.array(ceiling[name]) for name in asked}} if len(a) > 1 else {}
values |= {label: {name: by_seed(label, name) for name in asked} for label in labels}

# %%
r_of = {label: np.mean([x.r[label] for x in found.values()]) for label in labels}
rows = [
    {"compared": label, "n": np.mean([x.n for x in found.values()]), "r held out": r_of.get(label, np.nan)}
    | {what.label: float(np.mean(of[name])) for name, what in asked.items()}
    for label, of in values.items()
]
forms = {"n": "{:.0f}", "r held out": "{:.2f}"} | {what.label: "{:.3f}" for what in asked.values()}
out.table("arms", pd.DataFrame(rows), forms)

# %% [markdown]
# Read the last columns from above: the ceiling, then A and B, then what a twin gives, then what no model gives.

# %% [markdown]
# ## D, and its interval
# Two things vary: the SAE's seed, and the documents. Their variances add up. Those of the two halves of the documents
# come from the jackknife, that of the seeds from D of each seed.

# %%
gaps = {label: arms.difference(found, primary.measure, label) for label in twins}
chosen = [cell for cell in found if cell.choose == first.choose]
of_seeds = by_seed(arms.TRUE, primary.measure) - by_seed(twin, primary.measure)
sources = {"SAE seeds": of_seeds.var(ddof=1) / len(of_seeds) if len(of_seeds) > 1 else 0.0}
for choose, _ in replicates.SPLITS:
    of = [found[cell] for cell in found if cell.choose == choose]
    left_out = np.mean([x.excess[arms.TRUE][primary.measure] - x.excess[twin][primary.measure] for x in of], axis=0)[1:]
    sources[f"documents, {choose}"] = (len(left_out) - 1) * (left_out / 2).var()
np.testing.assert_allclose(np.sqrt(sum(sources.values())), gaps[twin].se)
pd.Series(sources).pow(0.5).round(4).to_frame("standard error")

# %% [markdown]
# The largest row says what would narrow the interval most: more SAEs, or more text.

# %%
verdicts = {}
if threshold:
    verdicts = inference.in_order(gaps, threshold.d)
    no = f"excess larger by less than {threshold.d:g}"
    for label, gap in gaps.items():
        question = f"Are A and B more alike than A and a twin of B with {label}?"
        out.verdict(f"than {label}", question, gap, threshold.d, no, tested=verdicts[label] != "not tested")
else:
    out.absent("verdicts", "no threshold for a verdict")
out.figure("arms", drawing.scales(values, gaps, [x.label for x in asked.values()], threshold and threshold.d))

# %% [markdown]
# Right of the dashed d is a yes. Compare the blue row with the ceiling above it and the controls below.

# %% [markdown]
# ## For the paper

# %%
out.number("seeds", len(of_seeds), "{:d}")
out.number("features", np.mean([x.n for x in found.values()]), "{:.0f}")
out.number("retention", 100 * np.mean([x.retention for x in found.values()]), "{:.0f}")
out.number("r", r_of[arms.TRUE])
out.number("r by chance", r_of[arms.PERMUTED])
out.number("ceiling", np.mean(ceiling[primary.measure]) if len(a) > 1 else np.nan, "{:.3f}")
out.number("excess", np.mean(values[arms.TRUE][primary.measure]), "{:.3f}")
pd.Series(verdicts or {"none": "no threshold"}, name="more alike than").to_frame()

# %% [markdown]
# A yes says that training beyond the embeddings makes these two models more alike than it makes one of them and the
# twin; it says nothing about other models.

# %%
out.save()
