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
# # Semantic subspaces
#
# **Question.** Do two models arrange the features about one concept (time, people, places, ...) alike, more than where
# words have changed places, and more than features about random words?
#
# **In.** Lists of words; replicates of two models with their SAEs, on a text and under exchanged words; for the stories
# the true class of every word. **Out.** Precision and recall of the rule that finds a concept's features; for every
# concept the excess of its features in both arms as a mean over replicates, beside placebo lists; a verdict each.
#
# **What would count as a no.** An interval over replicates below d: the features of a concept are then arranged hardly
# more alike than where B's words have changed places. For placebo lists: hardly more than features of random words. An
# interval that holds d decides nothing; a concept with too few features is not tested.

# %% tags=["parameters"]
profile = "smoke"
concept_set = "stories"
labelling = {"shares": [0.2, 0.4], "minimum_firings": 5, "truth_share": 0.5}
draws = {"permutations": 49, "placebo_lists": 3}

# %%
import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from sae_utils import inference, pipeline, profiles, replicates, report, significance
from sae_utils.profiles import seed
from sae_utils.studies.semantic_subspaces import arms, concepts, drawing, overview, placebos, ways

# %%
run = profiles.start(profile, "05_semantic_subspaces")
out = report.Report(run, "05_semantic_subspaces")
measure, d = run.common.primary.measure, run.common.primary.d("excess")
cells = replicates.of(run, *run.common.primary.pair)  # (A, B) of every replicate
if run.common.replicates:
    replicates.prepare(run, cells)

# %% [markdown]
# ## Which words stand for a concept?
# The lists were fixed beforehand. A word counts as a whole and without regard to case; a word that the tokenizer splits
# counts at its last token. We read the first replicate's A on the documents that choose pairs.

# %%
lists = concepts.word_lists(concept_set)
a = pipeline.features(run, cells[0][0])
words, documents = pipeline.words(run, cells[0][0], a.sites), a.sites.array("documents")
choosing = arms.in_split(a.sites, "matching")
found = concepts.evidence(a.codes, words, documents, choosing)
list_table = overview.lists(lists, found, choosing.sum())
out.table("lists", list_table, {"tokens": "{:.1f}"})

# %% [markdown]
# *Absent* counts listed words that this text lacks, so that they find no feature; *tokens* is the share of the text, in
# %, that a list covers. A list that covers little finds few features.

# %% [markdown]
# ## Which features are about a concept?
# A feature is about a concept if at least a given share of its activation is on words of the list. All notebooks use
# this rule. We follow the concept with most features through the notebook; here in plain numpy:

# %%
rule = concepts.rule({"kind": "mass", "share": labelling["shares"][0]})
masks = {c: concepts.word_mask(listed, found) for c, listed in lists.items()}  # (words,)
concept = max(lists, key=lambda c: concepts.about(found, masks[c], rule).sum())
listed, mask = lists[concept], masks[concept]

# %%
codes = a.codes[choosing].toarray()  # (tokens, features)
on_list = np.isin(words.of[choosing], np.flatnonzero(np.isin(words.text, listed)))  # (tokens,)
total = codes.sum(0, dtype=float)
share = codes[on_list].sum(0, dtype=float) / np.where(total > 0, total, 1)
np.testing.assert_allclose(concepts.share(found, mask), share, atol=1e-4)
print(f"features about {concept}:", *np.flatnonzero(share >= rule.share))

# %% [markdown]
# These features of A spend the required share of their activation on the list, however often they fire. Below, a
# feature must also fire a minimum number of times.
#
# The text of the stories is made from classes of words, so that the truth is known: a feature is *truly* about a
# concept if it spends enough of its activation, on the other documents, on the true classes of the concept's words,
# listed or not.

# %%
classed = bool((a.sites.array("classes") >= 0).any())
classes_of = {c: concepts.true_classes(x, run.corpus.world) for c, x in lists.items() if classed}
roles = arms.roles(run, cells[0], labelling["minimum_firings"], classes_of)
role = roles[0]  # words choose features of A
rules = overview.rules(role, lists, labelling["shares"], labelling["truth_share"])
out.table("rules", rules, dict.fromkeys(["share", "precision", "recall"], "{:.2f}"))

# %% [markdown]
# A lower share finds more features. *Recall*, the share of the true features that are found, can only rise with that;
# see what it costs in *precision*, the share of the found features that are true. The first row is the rule in use.

# %%
out.number("sets", len(lists), "{:d}")
out.number("listed words", list_table.words.sum(), "{:,}")
out.number("absent words", list_table.absent.sum(), "{:,}")
out.number("share", 100 * rule.share, "{:.0f}")
out.number("truth share", 100 * labelling["truth_share"], "{:.0f}")

# %% [markdown]
# ## One concept in both arms
# Words choose features of A; the correlation of activations chooses their partners in B, one-to-one with the largest
# total r, without a threshold. In the control arm B reads the text with its words exchanged where A reads it as it is,
# and the reverse. The features of A are the same in both arms; their partners are those that correlate there.

# %%
at = np.flatnonzero(concepts.about(role.found, mask, rule) & role.live)
partners = []
for arm in role.chosen:  # true, control
    columns = np.flatnonzero(arm.live[1])
    row, column = linear_sum_assignment(arm.r[np.ix_(at, columns)], maximize=True)
    partners.append(columns[column])
matched = role.match(at)
assert len(at) > len(columns) or np.array_equal(partners, [matched.true, matched.control])

# %% [markdown]
# The score is RSA: the dissimilarities, 1 - Pearson, of any two decoder rows in A, correlated by rank with those of
# their partners in B. A shuffled pairing has a mean of 0, so that the score is also the excess.


# %%
def rsa(rows_a, rows_b):
    return spearmanr(pdist(rows_a, "correlation"), pdist(rows_b, "correlation")).statistic


if len(at) >= replicates.FEWEST:
    in_arms = role.rows(at)[: 1 + role.exchanged]  # without replicates no words are exchanged
    by_hand = [rsa(*rows) for rows in in_arms]
    np.testing.assert_allclose(arms.score(role, role.rows(at), "rsa_spearman")[: len(in_arms)], by_hand, atol=1e-6)
    print(f"{concept}, {len(at)} features, true arm and control arm:", *np.round(by_hand, 3))

# %% [markdown]
# The difference of the two numbers is what this notebook asks for. One concept in one role of one replicate is noisy.
#
# A single pair of models has for every concept a score with its null, and no interval:


# %%
def single(concept):
    own = concepts.about(role.found, masks[concept], rule) & role.live
    rows = role.rows(np.flatnonzero(own))[0]
    if len(rows[0]) < replicates.FEWEST:
        return {"concept": concept, "n": len(rows[0])}
    x = significance.test(*rows, [measure], m=draws["permutations"], seed=seed(run, concept))[measure]
    return {"concept": concept, "n": x.n, "score": x.observed, "null": x.null_mean, "excess": x.excess, "p": x.p}


one_pair = pd.DataFrame(map(single, lists)).reindex(columns=["concept", "n", "score", "null", "excess", "p"])
out.table("single", one_pair, {**dict.fromkeys(["score", "null", "excess"], "{:.2f}"), "p": "{:.3f}"})

# %% [markdown]
# A p says whether A and B arrange this concept's features more alike than shuffled pairs. It does not say that the
# words matter: the control arm does.

# %% [markdown]
# ## Placebo lists
# Paired features may be alike whatever they are about. A *placebo list* is a list of random words, those as frequent as
# the listed ones first. The list grows until it labels as many features as the concept has:

# %%
order = placebos.word_order(found, mask, np.random.default_rng(seed(run, "placebo")))  # words in random order
spent = np.cumsum(found.mass[order].toarray(), axis=0)  # (words, features) activation on the first words
labelled = (spent >= rule.share * found.total) & role.live
counts = labelled.sum(1)  # features that the first words label
length = int((counts < len(at)).sum()) + 1
cut = placebos.cut(found, order, role.live, rule, len(at))  # none where the last word brings too many
assert len(cut) == 0 or np.array_equal(cut, np.flatnonzero(labelled[length - 1]))
print(f"{length} words label {counts[length - 1]} features, {concept} {len(at)}:", *np.array(found.words)[order[:8]])

# %% [markdown]
# A list whose last word brings too many features is dropped. Of twice as many lists as are wanted, those nearest to the
# concept are kept. *Near* means equal in three means over the features: log firings, correlation with the best partner,
# and log of the number of features that share their main word.

# %%
at_hand = np.log1p(found.firings[at]).mean(), role.strength[at].mean()
main = found.mass[:, at].toarray().argmax(0)  # the word on which each feature spends most
at_hand += (np.mean([np.log((main == word).sum()) for word in main]),)
np.testing.assert_allclose(placebos.covariates(at, found, role.strength), at_hand)
drawn = placebos.draw(found, role.live, mask, rule, role.strength, m=draws["placebo_lists"], seed=seed(run, "drawn"))
of_lists = [placebos.covariates(x, found, role.strength) for x in drawn]
rows = {"concept": at_hand} | {f"list {number + 1}": x for number, x in enumerate(of_lists[:5])}
pd.DataFrame.from_dict(rows, "index", columns=["log firings", "best r", "log features a word"]).round(2)

# %% [markdown]
# In each column the lists should lie around the concept. Features of a list are paired anew in both arms and scored as
# those of a concept are.

# %% [markdown]
# ## Pairing first, or labelling first?
# *Pairing first* pairs all features, and keeps the pairs of which both features are about the concept. *Labelling
# first* pairs the features about the concept in A with those in B. This notebook does neither: words label one side,
# and correlation chooses from all features of the other. How much do the two ways differ?

# %%
about_a, about_b = (concepts.about(x.found, masks[concept], rule) & x.live for x in roles[:2])
r, live_a, live_b = role.chosen[0].r, np.flatnonzero(role.live), np.flatnonzero(roles[1].live)
row, column = linear_sum_assignment(r[np.ix_(live_a, live_b)], maximize=True)
first = {i: j for i, j in zip(live_a[row], live_b[column], strict=True) if about_a[i] and about_b[j]}
row, column = linear_sum_assignment(r[np.ix_(about_a, about_b)], maximize=True)
inside = dict(zip(np.flatnonzero(about_a)[row], np.flatnonzero(about_b)[column], strict=True))
both = ways.compare(r, ways.partners(r, live_a, live_b), about_a, about_b)
assert (both.pairing, both.labelling) == (len(first), len(inside))
assert not inside or np.isclose(both.by_both, len(first.keys() & inside) / len(first.keys() | inside))
pd.Series(both._asdict()).round(2).to_frame().T

# %% [markdown]
# Pairing first keeps only pairs that activations confirm. Labelling first also forces partners on features whose best
# partner is not about the concept; the more it finds beyond the other, the more pairs are forced.

# %% [markdown]
# ## All concepts in every replicate
# `arms.concept` repeats the steps above in all four roles, in which A or B chooses, on one half of the documents or the
# other, and averages them; `ways.found` does so for the two ways.


# %%
def measured(names):
    chosen = arms.roles(run, names, labelling["minimum_firings"], classes_of)
    in_ways = ways.found(chosen, lists, rule)
    asked = rule, measure, labelling["truth_share"]
    m = {"lists": draws["placebo_lists"], "seed": seed(run, "concepts")}
    of = {c: arms.concept(chosen, c, listed, *asked, **m) for c, listed in lists.items()}
    return {c: x._asdict() | {"difference": x.difference} | in_ways[c]._asdict() for c, x in of.items()}


measured_in = replicates.over(measured, cells, "concepts")
each = ((number, c, x) for number, names in enumerate(cells) for c, x in measured_in[names].items())
by_concept = pd.DataFrame({"concept": c, "replicate": number, **x} for number, c, x in each)

# %%
in_ways = by_concept.groupby("concept", sort=False)[list(ways.Ways._fields)].mean().reset_index()
in_ways.columns = ["concept", "pairing first", "labelling first", "by both", "same partner"]
out.table("ways", in_ways, dict(zip(in_ways.columns[1:], ["{:.1f}"] * 2 + ["{:.2f}"] * 2, strict=True)))

# %% [markdown]
# The first two columns count pairs. *By both* is the share of the features of A in a pair of either way that both ways
# find; *same partner* is the share of these whose partner is the same. Values near 1 mean that the order does not
# matter.

# %% [markdown]
# ## Concept by concept
# The *difference* is the excess in the true arm less that in the control arm, a mean over replicates with a 95%
# interval; *placebo* is the same difference for the placebo lists. *80% power* is the difference that would get a yes
# in 80% of repeats with this spread.

# %%
by_list = overview.summary(by_concept, d, "n", "true", "control", "placebo", "precision", "recall")
two = dict.fromkeys(by_list.columns[2:].drop("replicates"), "{:.2f}")
out.table("overview", by_list, {"n": "{:.0f}", **two})

# %%
figure = drawing.differences(by_concept, by_list, d)
out.figure("concepts", figure)

# %% [markdown]
# A concept whose whole interval lies to the right of the dotted line is arranged alike. A grey diamond as far right as
# the mean says that features of random words would be as much alike.

# %% [markdown]
# ## Verdicts
# The mean over concepts asks the two questions of the title; single concepts follow one by one.

# %%
by_concept["beyond placebo"] = by_concept.difference - by_concept.placebo
means = by_concept.groupby("replicate")[["difference", "beyond placebo"]].mean()
would_be_no = "an excess above that with words exchanged by less than d"
verdicts = {}
for name, rows in by_concept.groupby("concept", sort=False):
    x, question = inference.over_replicates(rows.difference), f"Are the features about {name} arranged alike?"
    verdicts[name] = out.verdict(f"concept {name}", question, x, d, would_be_no, form="{:.2f}", tested=x.n > 2)

# %%
question = "Are the features of a concept arranged alike, on average?"
verdicts["mean"] = out.verdict("mean", question, inference.over_replicates(means["difference"]), d, would_be_no)
question = "Are they arranged more alike than features of random words?"
no = "an excess above that of placebo lists by less than d"
verdicts["placebo"] = out.verdict("placebo", question, inference.over_replicates(means["beyond placebo"]), d, no)
verdicts

# %%
tested = [verdicts[name] for name in lists if verdicts[name] != "not tested"]
yes, no = (tested.count(word) for word in ("yes", "no"))
counted = f"{yes} of {len(tested)} tested concepts are arranged alike beyond exchanged words, {no} are not"
sentence = f"{counted}, and {len(tested) - yes - no} are undetermined" if tested else "none could be tested"
out.text("verdict", sentence)
out.number("unanswered", len(lists) - len(tested), "{:d}")
out.number("placebo lists", draws["placebo_lists"], "{:,}")
out.number("fewest", replicates.FEWEST, "{:d}")
sentence

# %% [markdown]
# ## What do paired features fire on?
# In the first replicate, for every concept the pair with the highest correlation on the documents that judge, with the
# strongest token of either feature in its context.

# %%
examples = overview.examples(run, cells[0], role, lists, rule)
out.table("examples", examples, {"r": "{:.2f}"})

# %% [markdown]
# Tokens of A and B that name the same things make a pair plausible. A feature that fires on the word after a listed one
# shows that a list finds more than the meaning of its words.

# %% [markdown]
# ## Save

# %%
out.save()
