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
# # Attribution
#
# **Question.** Features of two models are paired because they fire alike. Do they also promote the same next tokens?
#
# **In.** Decoder rows, the final norm and the unembedding of A and B; their features with one partner each, in both
# arms of every replicate. No intervention: what a direction adds to the logits at once, and not through later layers.
#
# **Out.** The correlation of the logits of paired features, against partners that share what is trivial; attribution
# and the meaning of top tokens as criteria of matching, beside activation; the next tokens of hubs.
#
# **What would count as a no.** Own partners are not more alike in their logits than partners of equal firing rate and
# word class, than partners under exchanged words, or than the text at their sites, by the threshold d. The 95% interval
# over replicates lies wholly below d.

# %% tags=["parameters"]
profile = "smoke"
sae_seeds = ["two_layer_seed1"]
minimum_firings = 10
candidates = 16
top = 10
strata = 3
caliper = 0.1
permutations = 99
subsets = 3
twins = {"random blocks": "random_blocks"}
vectors = {"kind": "corpus", "size": 16, "window": 5, "epochs": 1, "seed": 0}
period = "."
hub = 2
d = 0.03

# %%
import numpy as np
import pandas as pd
from scipy.stats import rankdata

from sae_utils import inference, profiles, report, sweep
from sae_utils.profiles import seed
from sae_utils.studies.function import attribution, compared, criteria, heads, measured, paired, sites
from sae_utils.studies.function import drawing_attribution as drawing

# %%
run = profiles.start(profile, "08b_attribution")
out = report.Report(run, "08b_attribution")
out.needs(heads.writes(run, run.pair), "no SAEs that write to the residual stream")
settings = measured.Settings(
    minimum_firings, candidates, top, strata, caliper, permutations, subsets, run.common.primary.measure, vectors,
    period, hub, seed(run, "attribution"),
)  # fmt: skip
cells = measured.prepare(run, list(twins.values()))  # of each replicate A, B and the twins of B
first = cells[0][:2]
both = paired.both(run, first, top)
print(f"{len(both.shared.words)} words: {both.shared.share[0]:.0%} of the tokens of A, {both.shared.share[1]:.0%} of B")

# %% [markdown]
# ## What does a direction promote?
# A feature writes its decoder row to the residual stream. The final norm scales each dimension, the unembedding turns
# the result into logits. We keep the words that both models have as one token, and subtract the mean logit, which a
# softmax does not see.

# %%
head = heads.head(measured.model_of(run, first[0]))
view = paired.views(run, first, minimum_firings, candidates)[0]
true = view.arms[paired.TRUE]
written = both.a.decoder[true.left[0]]
centred = written - written.mean() if head.centred else written  # LayerNorm centres, RMSNorm does not
logits = head.weight[both.shared.a] @ (head.scale * centred)
logits -= logits.mean()
np.testing.assert_allclose(both.a.u @ written, logits, atol=1e-4)

# %% [markdown]
# The strongest pairs: the tokens that they fire on, and the words that either feature promotes.

# %%
strong = np.argsort(-np.nan_to_num(true.r))[:6]
promoted = [
    attribution.promoted(side.decoder[at[strong]], side.u, 5)
    for side, at in ((both.a, true.left), (both.b, true.right))
]
fires = [both.a.labels[token] for token in both.a.top[true.left[strong]]]
named = {
    side: [" ".join(both.shared.words[i] for i in row) for row in of] for side, of in zip("AB", promoted, strict=True)
}
examples = pd.DataFrame({"fires on": fires, "A promotes": named["A"], "B promotes": named["B"], "r": true.r[strong]})
out.table("examples", examples, {"r": "{:.2f}"})

# %% [markdown]
# Compare the two lists of a row: one list in other words means one function with other details.

# %% [markdown]
# ## How alike are two features in what they promote?
# The Pearson correlation of both logit vectors over the shared words. All such correlations follow from the products of
# the columns of both unembeddings, so that no feature needs a vector over the vocabulary.

# %%
by_hand = np.corrcoef(both.a.decoder[true.left[:8]] @ both.a.u.T, both.b.decoder[true.right[:8]] @ both.b.u.T)[:8, 8:]
similar = both.similar("a", paired.TRUE, true)  # (features of A, their partners)
np.testing.assert_allclose(similar[:8, :8], by_hand, atol=1e-4)
print(f"own partner {np.diag(similar).mean():.3f}, any partner {similar.mean():.3f}, {len(similar)} pairs")

# %% [markdown]
# ## What do pairs trivially share?
# Features of one text imply like logits. So partners are shuffled among features that fire on the same kind of word
# about as often, and every feature is given the partners of pairs of equal r about another concept.

# %%
labels = measured.labels(both.a, true, strata)
found = measured.strata_of(similar, labels, settings)
own_rate = labels[measured.FIRING]
same = own_rate[:, None] == own_rate  # who may change places with whom
expected = (similar * same).sum(axis=1) / same.sum(axis=1)
null = found[measured.FIRING]
np.testing.assert_allclose(expected.mean(), null.null_mean, atol=5 * null.null_sd / np.sqrt(permutations) + 1e-6)
pd.DataFrame({name: {"null": x.null_mean, "can move": x.movable} for name, x in found.items()}).T.round(3)

# %% [markdown]
# A null mean near that of own partners says that the stratum explains the pairs. Below one half that can move, a null
# decides nothing.

# %% [markdown]
# ## What does the text say?
# Where a feature fires, some words follow more often than elsewhere. The *text* of a feature is the log of that ratio.
# Two features that fire at the same sites have like texts, and models that learnt the text have like logits.

# %%
one, two = both.told("a", paired.TRUE, true)
count = one.counts[[0]].toarray()[0]  # of the words that follow the first feature
of_text = np.log((count + 1) / (count.sum() * one.share + 1))
np.testing.assert_allclose(sites.lift(one.counts[[0]].toarray(), one.share)[0], of_text)
texts = [sites.lift(side.counts[[0]].toarray(), side.share)[0] for side in (one, two)]
vectors_of_pair = [one.u @ one.decoder[0], two.u @ two.decoder[0]]
design = np.column_stack([np.ones(len(count)), *texts])
left = [x - design @ np.linalg.lstsq(design, x, rcond=None)[0] for x in vectors_of_pair]
np.testing.assert_allclose(sites.explained(one, two).partial[0], np.corrcoef(left)[0, 1], atol=1e-3)

# %% [markdown]
# The partial correlation is what both texts leave of the likeness of logits. It is compared between the arms.

# %% [markdown]
# ## The control arm
# B reads exchanged words, and stands for a model of a world in which they have changed places. Such a model writes the
# exchanged word as well, so that B's logits are read through the same exchange.

# %%
partner = both.shared.partner  # the place of the word with which each changes places
if paired.CONTROL in view.arms:
    control = view.arms[paired.CONTROL]
    rows = both.a.decoder[control.left[0]] @ both.a.u.T, (both.b.decoder[control.right[0]] @ both.b.u.T)[partner]
    np.testing.assert_allclose(both.similar("a", paired.CONTROL, control)[0, 0], np.corrcoef(rows)[0, 1], atol=1e-4)
print(f"{(partner != np.arange(len(partner))).mean():.0%} of the shared words change places")

# %% [markdown]
# ## Every replicate, every comparison
# Random blocks: a twin of B with B's embeddings, final norm and unembedding, whose blocks have learnt nothing.

# %%
of_cells = sweep.run(lambda names: measured.of_replicate(run, names, list(twins), settings), cells, "replicates")
numbers = pd.DataFrame([x.numbers for x in of_cells.values()])
everything = compared.against(numbers, list(twins))
forms = dict.fromkeys(["can move", "own", "other", "difference", "low", "high"], "{:.2f}")
out.table("against", compared.table(everything), forms)

# %%
ceiling = measured.ceilings(run, first[0], sae_seeds, settings)
out.figure("pairs", drawing.pairs(everything, d, ceiling))

# %% [markdown]
# Left: how near do the grey rows come to the blue one? Right: right of the dashed d, the own partner is more alike than
# that row explains.

# %%
words = {}
for name, x in everything.items():
    question = f"More alike in logits than by {name}?"
    words[name] = out.verdict(f"than {name}", question, x.difference, d, f"a difference below {d:g}")
pd.Series(words).to_frame("more alike than by")

# %% [markdown]
# *Undetermined* is also the answer where less than half of the pairs can move; one pair of models gets no verdict.

# %% [markdown]
# ## Does a higher r mean more equal logits?

# %%
along = pd.concat([x.along.assign(replicate=i) for i, x in enumerate(of_cells.values())])
out.figure("along-r", drawing.along(along))

# %% [markdown]
# A rising blue line above the grey one: pairs that fire more alike also promote more alike.

# %% [markdown]
# ## Attribution and meaning as criteria of matching
# Mutual pairs by three criteria: how features fire, what they promote, and what their top tokens mean (mean word
# vectors). The columns are those of 02. Attribution reads decoder rows, so that it also selects how they are arranged:
# its excess is to be read beside that of the control arm.

# %%
made = pd.concat([x.criteria.assign(replicate=i) for i, x in enumerate(of_cells.values())])
shown = ["pairs", "agree", "retention", "r held out", "logits", "excess", "at one n"]
forms = {"pairs": "{:.0f}", **dict.fromkeys(shown[1:5], "{:.2f}"), **dict.fromkeys(shown[5:], "{:.3f}")}
out.table("criteria", compared.over_arms(made)[["arm", "criterion", *shown]], forms)

# %%
out.figure("criteria", drawing.by_criterion(made))

# %% [markdown]
# *Agree* is the share of a criterion's pairs that activation finds too. Compare the number of pairs of the two arms: a
# criterion that finds as many under exchanged words tells nothing about the models.

# %% [markdown]
# ## Pairs weighted by attribution
# A pair that moves the logits more where it fires gets more weight, in the mean of logits and in RSA.

# %%
weight = both.strengths("a", true)  # norm of the logits times the mean activation, of both features
rows = both.a.decoder[true.left], both.b.decoder[true.right]
upper = np.triu_indices(len(weight), 1)
ranks = [rankdata((1 - np.corrcoef(x))[upper].round(12)) for x in rows]
covariance = np.cov(ranks, aweights=np.outer(weight, weight)[upper])
by_hand = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
np.testing.assert_allclose(attribution.weighted_rsa(*rows, weight), by_hand, atol=1e-6)

# %%
of_arms = {
    name: compared.comparison(numbers[f"{name}, true"], numbers[f"{name}, control"])
    for name in ("logits", "weighted logits", "rsa", "weighted rsa")
    if f"{name}, control" in numbers
}
out.table(
    "weighted",
    compared.table(of_arms).drop(columns="can move"),
    dict.fromkeys(["own", "other", "difference", "low", "high"], "{:.3f}"),
)

# %% [markdown]
# *Own* is the true arm, *other* the control. Weights change the answer where a weighted row departs from the row above.

# %% [markdown]
# ## Do hubs carry different next-token information?
# Many features choose one partner, and many fire on the period. Are they one feature many times, or do they promote
# different words, and does the own partner in B know which?

# %%
groups = pd.concat([x.hubs.assign(replicate=i) for i, x in enumerate(of_cells.values())])
of_groups = groups.groupby("features that", sort=False).mean(numeric_only=True).drop(columns="replicate").reset_index()
forms = {
    "groups": "{:.0f}",
    "features": "{:.1f}",
    "pairs": "{:.1f}",
    **dict.fromkeys(["alike", "own", "others"], "{:.2f}"),
}
out.table("hubs", of_groups, forms)
out.figure("hubs", drawing.hubs(groups))

# %% [markdown]
# *Alike*: features of A with one another; 1 would be one feature many times. *Own* above *others*: the partner in B
# promotes what this feature promotes, rather than what all of the group promote.

# %%
of_period = groups[groups["features that"] == criteria.PERIOD]
stands_out = compared.comparison(of_period.own, of_period.others)
question = f"Do own partners stand out among the features that fire on {period!r}?"
out.verdict("period", question, stands_out.difference, d, f"a difference below {d:g}")

# %% [markdown]
# ## For the paper

# %%
means = {x: inference.over_replicates(numbers[x]) for x in numbers}
for name in ("logits", "own text", "text", "with r"):
    out.number(name, means[f"{name}, true"].estimate, "{:.2f}", se=means[f"{name}, true"].se)
for name in ("overlap", "overlap, shuffled"):
    out.number(name, means[name].estimate, "{:.2f}", se=means[name].se)
out.number("replicates", len(cells), "{:d}")
out.number("words", len(both.shared.words), "{:,}")
out.number("share of A", 100 * both.shared.share[0], "{:.0f}")
out.number("share of B", 100 * both.shared.share[1], "{:.0f}")
out.number("n", numbers.n.mean(), "{:.0f}")
out.number("top", top, "{:d}")
out.number("ceiling", np.mean(ceiling) if ceiling else np.nan, "{:.2f}")
out.number("period alike", of_period.alike.mean(), "{:.2f}")
out.save()
