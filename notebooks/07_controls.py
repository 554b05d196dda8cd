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
# # Controls
#
# **Question.** Are the features of two models arranged alike, beyond what the same model gives on exchanged words,
# beyond random weights, beyond random blocks, and beyond what tokens and frequencies explain?
#
# **In.** Replicates of both models of the primary pair, each with its SAE, read on text and on the same text with its
# words exchanged; twins with random weights; further SAEs. **Out.** The primary verdict; one figure of every control on
# one scale, with its spread over replicates; what trivial accounts explain.
#
# **What would count as a no.** Over replicates, the similarity of the two models exceeds that of the control by less
# than the threshold d: the whole interval lies below it. An interval on both sides of d decides nothing.

# %% tags=["parameters"]
profile = "smoke"
sae_seeds = ["two_layer_seed1", "two_layer_seed2", "two_layer_seed3"]
twins = {"random weights": "random", "random blocks": "random_blocks"}
frozen = ["frozen_decoder"]
trained = ["scrambled"]
counterpart = 0.5
neighbours = 5
minimum_firings = 10
top = 10
window = 5
size = 16
strata = 3
calipers = [0.1, 1.0]
least_r = [0.0, 0.3]

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import rankdata

from sae_utils import inference, measures, profiles, replicates, report, sweep, tables
from sae_utils.studies.controls import accounts, facts, measured, partners, reading, scores

# %%
run = profiles.start(profile, "07_controls")
out = report.Report(run, "07_controls")
out.needs(run.common.replicates, "no replicates of its models")
primary = run.common.primary
d = primary.thresholds["excess"].d
asked = measures.chosen([primary.measure, "mutual_knn"], neighbours)
settings = measured.Settings(asked, counterpart, top, window, size, strata, calipers, least_r, minimum_firings)

# %% [markdown]
# ## Two arms of one replicate
# Every replicate has a model A, a model B, and a permutation of words that exchanges words of equal frequency and
# different classes. Both models read a text followed by the same text with its words exchanged. In the *true arm* they
# read the same half at the same time; in the *control arm* B reads the other half. A model of the world of exchanged
# words would be such a B, so that this control needs no training. Features of A, text and n are the same in both arms.
#
# *Content features* have over 80% of their activation on content words. They are paired with features of B one-to-one,
# with the largest total correlation on one part of the documents, and no pair is left out for its correlation.

# %%
pairs = replicates.of(run, *primary.pair)
cells = partners.cells(run, sae_seeds, twins, frozen, trained)
reading.prepare(run, cells)
true, exchanged = reading.views(run, pairs[0], settings)
first = true[0]
pd.DataFrame({"true arm": first.held_out, "control arm": exchanged[0].held_out}).describe().round(2)

# %% [markdown]
# Their similarity is Spearman RSA: the correlation of ranked dissimilarities, 1 - Pearson, between all pairs of decoder
# rows of A and those of their partners in B. A shuffled pairing has a mean of 0.

# %%
above = np.triu_indices(len(first.left), 1)
ranks = [rankdata((1 - np.corrcoef(rows))[above].round(12)) for rows in first.rows]
by_hand = np.corrcoef(ranks)[0, 1]
assert np.isclose(by_hand, measures.score(*first.rows, "rsa_spearman"))
by_hand

# %% [markdown]
# ## Every comparison
# Another SAE of the same model is the ceiling. Random weights and random blocks are twins of B: the first has learnt
# nothing, the second keeps B's embeddings. A frozen random decoder fits the same activations with random directions.
# All comparisons of one A are over the same content features of A, read on the text; in the control arm B reads it
# with its words exchanged. Scores are means over both roles of the documents, which pair and which judge.

# %%
groups = reading.by_dictionary(cells)
of_groups = sweep.run(lambda key: reading.arms(run, groups[key], settings), groups, "comparisons")
arms = {cell: arm for found in of_groups.values() for cell, arm in found.items()}

# %%
shown = [partners.SAE_SEED, partners.MODEL_SEED, partners.DEPTH, partners.EXCHANGED, *twins, partners.FROZEN]
shown = [label for label in shown if label in {cell.label for cell in cells}]
scored = partners.table(arms, shown, {name: what.label for name, what in asked.items()})
out.table("arms", scored, {"n": "{:.0f}", "r held out": "{:.2f}", "counterparts": "{:.2f}"})

# %%
figure, axes = plt.subplots(1, len(asked), figsize=(5.5, 0.4 + 0.3 * len(shown)), sharey=True, squeeze=False)
for axis, (name, what) in zip(axes[0], asked.items(), strict=True):
    for row, label in enumerate(shown):
        values, found = partners.spread(arms, label, name)
        colour = report.PAIRED if label == partners.DEPTH else report.NULL
        axis.scatter(values, np.full(len(values), row), s=8, color=colour, alpha=0.6, linewidths=0)
        axis.plot([found.low, found.high], [row + 0.25] * 2, color=colour)
        axis.plot(found.estimate, row + 0.25, "|", color=colour, markersize=8)
    axis.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    axis.set(xlabel=f"excess, {what.label}")
axes[0, 0].set(yticks=range(len(shown)), yticklabels=shown, ylim=(len(shown) - 0.4, -0.6))
out.figure("controls", figure)

# %% [markdown]
# ## The primary verdict
# D is the similarity of the true arm minus that of the control one, within each replicate: a mean over features of A
# and of B, on both texts. The interval is Student's over replicates. *Yes* where it lies above the threshold d, *no*
# where it lies below, else *undetermined*; d was set from other seeds. Random weights follow, then random blocks, over
# features of A on the text alone, each only after a yes of the one before. Random blocks ask whether the blocks add to
# the embeddings, through which two models may well share their features.

# %%
both = replicates.over(lambda names: measured.beside(*reading.views(run, names, settings), settings), pairs, "arms")
beside = list(both.values())
gaps = {partners.EXCHANGED: partners.difference(beside, measured.EVERY)}
gaps |= {label: partners.gap(arms, label, primary.measure) for label in twins}
verdicts = inference.in_order(gaps, d)
pd.DataFrame({label: {**found._asdict(), "verdict": verdicts[label]} for label, found in gaps.items()}).T

# %%
for label, found in gaps.items():
    out.verdict(
        f"than {label}",
        f"More alike than {label}?",
        found,
        d,
        f"excess larger by less than {d:g}",
        tested=verdicts[label] != "not tested",
    )

# %% [markdown]
# ## A model that was trained on exchanged words
# The control arm stands for a model of the world of exchanged words. One such model was trained. Does its similarity to
# A lie where one more control arm would lie, in the 95% prediction interval of those of the replicates?

# %%
of_twin = partners.of(arms, partners.TRAINED, lambda arm: arm.excess[primary.measure])
of_arms = partners.of(arms, partners.EXCHANGED, lambda arm: arm.excess[primary.measure])
low, high = accounts.predicted(of_arms)
for name, value in (("trained", tables.average(of_twin)), ("predicted low", low), ("predicted high", high)):
    out.number(name, value, "{:.3f}")
out.text("trained lies", accounts.lies(tables.average(of_twin), low, high))

# %% [markdown]
# ## What trivial accounts explain
# Features may be arranged alike because their words are, in both models' embeddings or in any count of which words
# stand together; because they fire equally often; because they fire together. For each such fact the dissimilarity of
# the features of A and that of their partners are given, and a partial correlation takes away what they predict:
#
# $$\rho_{xy} = c_x^\top C^{-1} c_y + \text{rest},\quad
# \text{partial} = \text{rest} / \sqrt{(1 - R_x^2)(1 - R_y^2)}$$
#
# with $c$ the correlations of a side with the facts and $C$ those among them. Shuffles would break the ties of a fact
# to both sides, and give no p. The same statistic is computed in the control arm, and the difference stands over
# replicates.

# %%
frequency = [
    facts.in_frequency(x.firings[of])[above] for x, of in zip(first.facts, (first.left, first.right), strict=True)
]
given = np.column_stack([np.ones(len(above[0])), *map(rankdata, frequency)])
left = [rank - given @ np.linalg.lstsq(given, rank, rcond=None)[0] for rank in ranks]
by_hand = np.corrcoef(left)[0, 1]
assert np.isclose(by_hand, scores.explained(first)["firing frequency"].partial)
by_hand

# %%
explained = partners.explained(beside)
out.table("explained", explained, dict.fromkeys(explained.columns[1:], "{:.2f}"))

# %%
for name, found in partners.left(beside).items():
    out.verdict(
        f"given {name}",
        f"Beyond exchanged words, given {name}?",
        found,
        d,
        f"less than {d:g} is left",
    )

# %% [markdown]
# ## Counterparts
# The share with a *counterpart* is the share of content features whose partner has a held-out correlation at or above
# the threshold. It reads threshold and noise as well as shared features. Beside it: the share that partners of about
# the same number of firings would have, the best one and shuffled ones. The correlation with the other model over the
# root of those between seeds of either model is what is left after the noise of training either.

# %%
shares = partners.shares(arms, beside)
out.table("shares", shares, dict.fromkeys(shares.columns[1:], "{:.2f}"))
depth, seed_a, seed_b = (partners.over(arms, x, lambda arm: arm.r) for x in (partners.DEPTH, *partners.SEEDS))
for name, found in (("depth", depth), ("seed", seed_a), ("seed of b", seed_b)):
    out.number(f"r {name}", found.estimate, se=found.se)
out.number("r attenuated", accounts.attenuated(depth.estimate, seed_a.estimate, seed_b.estimate))
out.number("counterpart threshold", counterpart, "{:.1f}")

# %% [markdown]
# ## Which pairs carry the difference
# Secondary, of the primary measure. *No top token in common*: features of A whose partner in the true arm shares none
# of its top tokens, the same in both arms. *Alike in r and firings*: equally many pairs of either arm, nearest in
# held-out correlation and in firings. *r from*: pairs cut by their held-out correlation in each arm; such sets differ
# in n and in their features.

# %%
selected = partners.selected(beside)
out.table("selected", selected, {"n": "{:.0f}"} | dict.fromkeys(selected.columns[2:7], "{:.2f}"))

# %%
secondary = {
    "no token": ("no top token in common", "Beyond exchanged words, without a top token in common?"),
    "equal r": ("alike in r and firings", "Beyond exchanged words, at equal held-out r and firings?"),
}
for name, (selection, question) in secondary.items():
    out.verdict(name, question, partners.difference(beside, selection), d, f"excess larger by less than {d:g}")

# %% [markdown]
# ## What the toys answer

# %%
for answer in ("yes", "no", "undetermined", "not tested"):
    out.text(f"said {answer}", ", ".join(x for x, found in verdicts.items() if found == answer) or "none")
out.number("replicates", len(pairs), "{:d}")
out.number("d", d, "{:.3f}")
out.text("date", primary.thresholds["excess"].date)
verdicts

# %% [markdown]
# ## Save

# %%
out.save()
