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
# **Question.** Are the features of two models arranged alike, beyond what exchanged words, random weights and random
# blocks give, and beyond what tokens and frequencies explain?
#
# **In.** Replicates of a model A and a model B, each with its SAE; copies of B with random weights; further SAEs. All
# read one text; A and B also read it with its words exchanged. **Out.** The primary verdict; every control on one scale
# with its spread over replicates; a heat map of models by models; what trivial accounts explain.
#
# **What would count as a no.** D is the similarity of A and B minus that of A and the control. Its 95% interval over
# replicates lies wholly below the threshold d. An interval on both sides of d decides nothing.

# %% tags=["parameters"]
profile = "smoke"
sae_seeds = ["two_layer_seed1", "two_layer_seed2", "two_layer_seed3"]
twins = {"random weights": "random", "random blocks": "random_blocks"}
models = {"A": "two_layer", "B": "three_layer", "one layer": "one_layer", "B random blocks": "random_blocks"}
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
import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata
from scipy.stats import t as student

from sae_utils import inference, measures, profiles, replicates, report, sweep, tables
from sae_utils.studies.controls import accounts, drawing, measured, partners, reading, scores

# %%
run = profiles.start(profile, "07_controls")
out = report.Report(run, "07_controls")
out.needs(run.common.replicates, "no replicates of its models")
primary, d = run.common.primary, run.common.primary.thresholds["excess"].d
asked = measures.chosen([primary.measure, "mutual_knn"], neighbours)
settings = measured.Settings(asked, counterpart, top, window, size, strata, calipers, least_r, minimum_firings)
pairs = replicates.of(run, *primary.pair)
cells, grid = partners.cells(run, sae_seeds, twins, frozen, trained), partners.grid(run, models)
reading.prepare(run, cells + [cell for of in grid.values() for cell in of])

# %% [markdown]
# ## Content features
# A and B read a text, and the same text with words of equal frequency and different classes exchanged. *Content
# features* of A fire often enough, and have over 80% of their activation on content words.

# %%
a, b = replicates.sides(run, pairs[0])
codes, classes = a.blocks["matching"], a.classes["matching"]  # of the text and of the exchanged text
on_content = sum(x[word_class >= 0].sum(axis=0) for x, word_class in zip(codes, classes, strict=True))
often = sum((x > 0).sum(axis=0) for x in codes) >= minimum_firings
content = np.flatnonzero(often & (on_content > 0.8 * sum(x.sum(axis=0) for x in codes)))
np.testing.assert_array_equal(content, replicates.content_features(codes, classes, minimum_firings))
print(f"{len(content)} content features of {codes[0].shape[1]}")

# %% [markdown]
# These are the features that take part; with fewer than 10 nothing is scored.

# %% [markdown]
# ## Two arms
# In the *true arm* A and B read the same words at the same time. In the *control arm* B reads the exchanged text where
# A reads the text, and the reverse: B stands for a model of a world of exchanged words, without training. A's features,
# the texts and n are the same in both arms.

# %%
texts = b.blocks["matching"], b.blocks["matching"][::-1]  # B's codes in the true and in the control arm
r_true, r_control = (replicates.correlate(codes, read).r for read in texts)  # (features of A, features of B)
x = np.vstack([block[:, content[:40]].toarray() for block in codes])
for r, read in zip((r_true, r_control), texts, strict=True):
    y = np.vstack([block[:, :40].toarray() for block in read])
    with np.errstate(invalid="ignore"):  # a feature that never fires
        by_hand = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]
    np.testing.assert_allclose(r[content[:40], :40], by_hand, atol=1e-6)

# %% [markdown]
# ## One partner each
# Content features get one partner in B each, with the largest total r. No pair is left out for its r.

# %%
true, control = reading.views(run, pairs[0], settings)  # each of both roles and both halves of the documents
first, other = true[0], control[0]
for r, view in ((r_true, first), (r_control, other)):
    live = np.flatnonzero(np.isfinite(r).any(axis=0))  # features of B that fire
    row, column = linear_sum_assignment(r[np.ix_(content, live)], maximize=True)
    partner = dict(zip(content[row], live[column], strict=True))
    assert [partner[feature] for feature in view.left] == view.right.tolist()
pd.DataFrame({"true arm": first.held_out, "control arm": other.held_out}).describe().round(2)

# %% [markdown]
# Compare the two arms: r on documents that did not choose the partners.

# %% [markdown]
# ## The difference D of one replicate
# Similarity is Spearman RSA: rank the dissimilarities 1 - r between all decoder rows of A, rank those between their
# partners in B, and correlate the ranks. A shuffled pairing has a mean of 0, so that the score is its own *excess*.


# %%
def dissimilar(rows):
    """1 - Pearson r of every two rows, each pair once."""
    return (1 - np.corrcoef(rows))[np.triu_indices(len(rows), 1)].round(12)


def rsa(rows, others):
    """Spearman correlation of the dissimilarities of two sets of rows."""
    return np.corrcoef(rankdata(dissimilar(rows)), rankdata(dissimilar(others)))[0, 1]


np.testing.assert_allclose(rsa(*first.rows), measures.score(*first.rows, "rsa_spearman"))
found = [[rsa(*x.rows) for x in arms] for arms in zip(true, control, strict=True)]
both_arms = pd.DataFrame(found, columns=["true arm", "control arm"])
library = replicates.arms(run, pairs[0], ["rsa_spearman"], minimum_firings)
np.testing.assert_allclose(np.subtract(*both_arms.mean()), library.difference("rsa_spearman"))
both_arms.round(3)

# %% [markdown]
# D is the mean of the first column minus that of the second, over both roles and both halves of the documents.

# %% [markdown]
# ## D over replicates
# The 95% interval is Student's over replicates. The verdict is *yes* where it lies above the threshold d, *no* where it
# lies below, else *undetermined*. Other seeds set d.

# %%
both = replicates.over(lambda names: measured.beside(*reading.views(run, names, settings), settings), pairs, "arms")
beside = list(both.values())
D = np.array([x.selections[measured.EVERY].difference for x in beside])
half = student.ppf(0.975, len(D) - 1) * D.std(ddof=1) / np.sqrt(len(D)) if len(D) > 2 else np.nan
gaps = {partners.EXCHANGED: partners.difference(beside, measured.EVERY)}
found = gaps[partners.EXCHANGED]
np.testing.assert_allclose([D.mean(), D.mean() - half, D.mean() + half], [found.estimate, found.low, found.high])
pd.DataFrame({"replicate": run.common.replicates[: len(D)], "D": D.round(3)}).T

# %% [markdown]
# See whether D lies on one side of d in all replicates.

# %% [markdown]
# ## Every comparison
# Other dictionaries take the place of B. Another SAE of A, or another seed of A, is the ceiling. *Random weights* have
# learnt nothing. *Random blocks* keep B's embeddings. A *frozen random decoder* fits A's activations with random
# directions. All comparisons of one A have the same content features, read on the text alone.


# %%
def scored(cells):
    """The scores of comparisons, those of one dictionary over the same of its features."""
    groups = reading.by_dictionary(cells)
    found = sweep.run(lambda key: reading.arms(run, groups[key], settings), groups, "comparisons")
    return {cell: arm for arms in found.values() for cell, arm in arms.items()}


arms = scored(cells)
shown = [partners.SAE_SEED, partners.MODEL_SEED, partners.DEPTH, partners.EXCHANGED, *twins, partners.FROZEN]
shown = [label for label in shown if label in {cell.label for cell in cells}]
by_label = partners.table(arms, shown, {name: what.label for name, what in asked.items()})
out.table("arms", by_label, {"n": "{:.0f}", "r held out": "{:.2f}", "counterparts": "{:.2f}"})

# %% [markdown]
# Read the last two columns: "another depth" is A and B, the rows above it are ceilings, those below it controls.

# %% [markdown]
# ## The verdicts
# Random weights are tested after a yes for exchanged words, random blocks after a yes for random weights. Random blocks
# ask whether B's blocks add to its embeddings, through which two models may well share what they share.

# %%
gaps |= {label: partners.gap(arms, label, primary.measure) for label in twins}
verdicts = inference.in_order(gaps, d)
for label, found in gaps.items():
    question, no = f"More alike than {label}?", f"excess larger by less than {d:g}"
    out.verdict(f"than {label}", question, found, d, no, tested=verdicts[label] != "not tested")
out.figure("controls", drawing.comparisons(arms, shown, asked, gaps, verdicts, d))

# %% [markdown]
# Compare the blue row, A and B, with the ceilings above and the controls below; right of the dashed d is a yes.

# %% [markdown]
# ## Every model with every model
# The content features of each model (rows) get partners in each model (columns). A model meets the next seed of itself
# on the diagonal.

# %%
of_grid = scored([cell for of in grid.values() for cell in of])
maps = {
    f"excess, {settings.primary.label}": partners.matrix(of_grid, grid, lambda arm: arm.excess[primary.measure]),
    "mean held-out r": partners.matrix(of_grid, grid, lambda arm: arm.r),
}
if grid:
    out.figure("models", drawing.heat_maps(maps))
else:
    out.absent("models", "no models to compare with one another")

# %% [markdown]
# Compare a cell with the diagonal of its row, two seeds of one model: how much is left with another model?

# %% [markdown]
# ## A model that was trained on exchanged words
# The control arm stands for a model of the world of exchanged words. One such model was trained. Does its excess lie in
# the 95% prediction interval of one more control arm, mean +- t SD sqrt(1 + 1/R) over R replicates?

# %%
of_twin = tables.average(partners.of(arms, partners.TRAINED, lambda arm: arm.excess[primary.measure]))
of_arms = partners.of(arms, partners.EXCHANGED, lambda arm: arm.excess[primary.measure])
low, high = accounts.predicted(of_arms)
pd.Series({"trained": of_twin, "low": low, "high": high}).round(3)

# %% [markdown]
# See whether the trained model lies between the two ends. Outside, the control arm could not stand for it; inside, one
# model cannot show that the two agree, only that nothing speaks against it.

# %% [markdown]
# ## What trivial accounts explain
# Features may be arranged alike because their words are, because they fire equally often, or together. Each such fact
# gives dissimilarities of the features on either side. The *partial* RSA correlates what least squares on the ranks of
# both facts leaves. Here the fact is the mean embedding of a feature's top tokens, in its own model.


# %%
def by_tokens(facts, features, embeddings):
    """1 - cosine of the mean embeddings of the features' top tokens, weighted by activation."""
    mass = facts.tokens[features].toarray()  # (n, vocabulary): total activation on the top tokens, 0 elsewhere
    means = mass @ embeddings.astype(float) / mass.sum(axis=1, keepdims=True)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return (1 - means @ means.T)[np.triu_indices(len(features), 1)]


# %%
embedded = reading.embeddings(run, pairs[0])
given = map(by_tokens, first.facts, (first.left, first.right), embedded)
design = np.column_stack([np.ones(len(dissimilar(first.rows[0]))), *map(rankdata, given)])
ranks = np.column_stack([rankdata(dissimilar(rows)) for rows in first.rows])
left = ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]
partial = scores.explained(first)["token embeddings"].partial
np.testing.assert_allclose(np.corrcoef(left.T)[0, 1], partial, atol=1e-6)
print(f"RSA {rsa(*first.rows):.3f}, given token embeddings {partial:.3f}")

# %% [markdown]
# The second number is what the embeddings leave of the first.

# %% [markdown]
# Shuffles would break the ties of a fact to both sides, and give no p. The same partial RSA is computed in the control
# arm, and the difference of the arms is what is *left* of D given the fact, over replicates.

# %%
for name, found in partners.left(beside).items():
    out.verdict(f"given {name}", f"Beyond exchanged words, given {name}?", found, d, f"less than {d:g} is left")
explained = partners.explained(beside)
out.table("explained", explained, dict.fromkeys(explained.columns[1:], "{:.2f}"))

# %% [markdown]
# An interval of `left` below d means that the fact explains the answer; `explained` is what goes through the fact.

# %% [markdown]
# ## Counterparts
# A feature has a *counterpart* if its partner has a held-out r at or above the threshold. The share of such features
# reads threshold and noise as well as what is shared. So it stands beside partners that fire about as often.

# %%
assert np.mean(np.nan_to_num(first.held_out, nan=-1) >= counterpart) == accounts.share(first.held_out, counterpart)
shares = partners.shares(arms, beside)
out.table("shares", shares, dict.fromkeys(shares.columns[1:], "{:.2f}"))

# %% [markdown]
# Compare the first row with the other three: what lies above them is more than exchanged words or equal rates give.

# %% [markdown]
# Training noise lowers r of A and B as it lowers r of two seeds. The ratio divides it by the root of the product of the
# other two.

# %%
depth, seed_a, seed_b = (partners.over(arms, x, lambda arm: arm.r) for x in (partners.DEPTH, *partners.SEEDS))
attenuated = accounts.attenuated(depth.estimate, seed_a.estimate, seed_b.estimate)
pd.Series({"A and B": depth.estimate, "A": seed_a.estimate, "B": seed_b.estimate, "ratio": attenuated}).round(2)

# %% [markdown]
# At a ratio of 1, features of A and B correlate as those of two seeds do.

# %% [markdown]
# ## Which pairs carry the difference
# Secondary. Does D hold for features whose true partner shares no top token with them? Does it hold among pairs of the
# two arms that are alike in held-out r and in firings? Nearest pairs within the calipers are taken, each once.

# %%
tokens = [facts.tokens[of] > 0 for facts, of in zip(first.facts, (first.left, first.right), strict=True)]
apart = tokens[0].multiply(tokens[1]).sum(axis=1) == 0
assert apart.sum() == scores.without_shared_token(first, other, settings.primary).n
r_and_firings = [np.column_stack([x.held_out, np.log(x.facts[0].firings[x.left])]) for x in (first, other)]
here, there = inference.alike(*r_and_firings, calipers)
assert (np.abs(r_and_firings[0][here] - r_and_firings[1][there]) <= calipers).all()
print(f"{apart.sum()} pairs share no top token, {len(here)} pairs of either arm are alike")

# %% [markdown]
# Where a count is small, the row of these pairs in the next table says little.

# %%
questions = {"no token": "without a top token in common", "equal r": "at equal held-out r and firings"}
for name, selection in zip(questions, ("no top token in common", "alike in r and firings"), strict=True):
    found, no = partners.difference(beside, selection), f"excess larger by less than {d:g}"
    out.verdict(name, f"Beyond exchanged words, {questions[name]}?", found, d, no)
selected = partners.selected(beside)
out.table("selected", selected, {"n": "{:.0f}"} | dict.fromkeys(selected.columns[2:7], "{:.2f}"))

# %% [markdown]
# Compare `difference` across rows; rows that are cut by r differ between the arms in their features and n.

# %% [markdown]
# ## What the toys answer

# %%
for name, value in (("trained", of_twin), ("predicted low", low), ("predicted high", high), ("d", d)):
    out.number(name, value, "{:.3f}")
for name, found in (("depth", depth), ("seed", seed_a), ("seed of b", seed_b)):
    out.number(f"r {name}", found.estimate, se=found.se)
out.number("r attenuated", attenuated)
out.number("counterpart threshold", counterpart, "{:.1f}")
out.number("replicates", len(pairs), "{:d}")
out.text("trained lies", accounts.lies(of_twin, low, high))
out.text("date", primary.thresholds["excess"].date)
for answer in ("yes", "no", "undetermined", "not tested"):
    out.text(f"said {answer}", ", ".join(x for x, found in verdicts.items() if found == answer) or "none")
pd.Series(verdicts, name="more alike than").to_frame()

# %% [markdown]
# The first row answers the question; the rows below say which further controls the answer survives.

# %%
out.save()
