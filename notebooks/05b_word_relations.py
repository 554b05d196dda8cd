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
# # Relations between words
#
# **Question.** Do features keep the relations of words: is the step from the feature of queen to that of king like the
# step from mother to father, and are these steps arranged alike in two models?
#
# **In.** Pairs of words or of groups of words that stand in one relation; the lists of words of the concepts; vectors
# of words (word2vec) in which neither model had a part; replicates of two models with their SAEs. **Out.** How related
# the words are on which a concept's features fire; for every relation how parallel its steps are in one model, and how
# alike two models arrange them, with the words as they are and exchanged; a verdict a relation.
#
# **What would count as a no.** An interval over replicates below d: the steps of a relation are then arranged hardly
# more alike than where words have changed places. An interval that holds d decides nothing; a relation with fewer than
# three steps is not tested.

# %% tags=["parameters"]
profile = "smoke"
concept_set = "stories"
labelling = {"share": 0.2, "minimum_firings": 5}
draws = {"permutations": 49, "relatedness": 19}
relation = {
    "share": 0.05,
    "words": {
        "women to men": [
            ["queen princess", "king prince"],
            ["mother sister", "father brother"],
            ["Anna Mia", "Tom Ben"],
        ],
        "nouns to their verbs": [["fox dog", "prowled growled"], ["owl crow", "soared"], ["fish trout", "swam"]],
    },
}
vectors = {"kind": "corpus", "size": 16, "window": 5, "epochs": 1, "seed": 0}

# %%
import numpy as np
import pandas as pd

from sae_utils import inference, nulls, pipeline, profiles, replicates, report
from sae_utils.profiles import seed
from sae_utils.studies.semantic_subspaces import (
    concepts,
    drawing,
    overview,
    relatedness,
    relations,
    word2vec,
    word_arms,
)  # fmt: skip

# %%
run = profiles.start(profile, "05b_word_relations")
out = report.Report(run, "05b_word_relations")
d = run.common.primary.d("excess")
cells = replicates.of(run, *run.common.primary.pair)  # (A, B) of every replicate
if run.common.replicates:
    replicates.prepare(run, cells)
role = word_arms.roles(run, cells[0], labelling["minimum_firings"])[0]  # words choose features of A

# %% [markdown]
# ## Do the features about a concept fire on related words?
# A feature is about a concept if enough of its activation is on words of the concept's list (notebook 05). Its words
# are those at its ten strongest tokens, listed or not. They are *related* if their vectors point the same way: the mean
# cosine of any two. Chance is the same mean for as many random features. For one concept, in A:

# %%
lists = concepts.word_lists(concept_set)
rule = concepts.rule({"kind": "mass", "share": labelling["share"]})
of = {c: concepts.about(role.found, concepts.word_mask(x, role.found), rule) & role.live for c, x in lists.items()}
concept = max(of, key=lambda c: of[c].sum())  # the one with most features
about = np.flatnonzero(of[concept])
spelt = relatedness.words_of(role.found.top, role.found.words)  # of every feature the set of its words
word_vectors = word2vec.vectors(vectors, pipeline.training_text(run, run.pair[0]), role.found.words)

# %%
known = sorted(set().union(*(spelt[i] for i in about)) & word_vectors.place.keys())
unit = word_vectors.unit[[word_vectors.place[word] for word in known]].astype(float)  # (words, size)
above = np.triu_indices(len(known), 1)
m = {"m": draws["relatedness"], "seed": seed(run, "relatedness")}
near = relatedness.related(about, np.flatnonzero(role.live), spelt, word_vectors, **m)
if near:
    np.testing.assert_allclose(near.pairwise.observed, (unit @ unit.T)[above].mean(), atol=1e-5)
    print(f"{concept}, {len(known)} words: {near.pairwise.observed:.3f}; random {near.pairwise.null_mean:.3f}")

# %% [markdown]
# The first number should exceed the second: the concept's features then fire on words that also stand together in text.

# %% [markdown]
# ## Which feature stands for a word?
# A relation is a list of pairs, of single words or of groups. The feature of a word is the live one that spends most of
# its activation there, and at least a given share. For the first relation, in A:

# %%
name, pairs = next(iter(relation["words"].items()))
steps = relations.find(role.found, role.live, pairs, share=relation["share"])
for (first, second), *features in zip(steps.words, steps.first, steps.second, strict=True):
    for word, feature in zip((first, second), features, strict=True):
        share = np.where(role.live, concepts.share(role.found, concepts.word_mask(word.split(), role.found)), 0)
        assert share.argmax() == feature and share.max() >= relation["share"]
pd.DataFrame(steps.words, columns=["from", "to"]).assign(**{"feature": steps.first, "feature of to": steps.second})

# %% [markdown]
# A pair without a feature of its own for each word has no row. If two pairs share a feature, only the better evidenced
# one has: steps with a feature in common are alike in any model.

# %% [markdown]
# ## Are the steps parallel, and are they arranged alike?
# A step is the difference of two decoder rows. Steps are *parallel* if they point the same way in one model: the mean
# cosine of any two. They are arranged alike *across* models if the cosines of any two in A correlate with those of
# their partners in B. Partners are chosen by correlation, one-to-one, as in notebook 05.


# %%
def cosines(rows):
    first, second = np.split(rows.astype(float), 2)
    unit = (first - second) / np.linalg.norm(first - second, axis=1, keepdims=True)  # (steps, d)
    return (unit @ unit.T)[np.triu_indices(len(unit), 1)]


in_a, in_b = role.rows(np.concatenate([steps.first, steps.second]))[0]  # of the true arm, (2 steps, d)
testable = len(steps.words) >= relations.FEWEST and len(in_a) == 2 * len(steps.words)
if testable:
    by_hand = cosines(in_a).mean(), np.corrcoef(cosines(in_a), cosines(in_b))[0, 1]
    tested = relations.test(in_a, in_b, m=draws["permutations"], seed=0)
    np.testing.assert_allclose([tested[x].observed for x in relations.SCORES], by_hand, atol=1e-6)

# %% [markdown]
# Any two steps of trained features have some cosine. The null shuffles which feature belongs to which word, and takes
# the steps anew:

# %%
if testable:
    orders = nulls.permutations(np.random.default_rng(0), draws["permutations"], len(in_a))
    chance = np.mean([cosines(in_a[order]).mean() for order in orders])
    np.testing.assert_allclose(tested["parallel"].null_mean, chance, atol=1e-6)
    shown = {x: (tested[x].observed, tested[x].null_mean, tested[x].excess) for x in relations.SCORES}
    print(name, pd.DataFrame(shown, ["observed", "null", "excess"]).T.round(3), sep="\n")

# %% [markdown]
# *Parallel* above its null says that A has one direction for the relation. *Across* says whether B arranges the steps
# as A does. With few steps both are noisy.

# %% [markdown]
# ## All concepts and relations in every replicate
# Means are over four roles: words choose features of A or of B, on one half of the documents or the other. The control
# arm has the same features of one model, and as partners those that correlate under exchanged words.


# %%
def measured(names):
    chosen, share = word_arms.roles(run, names, labelling["minimum_firings"]), relation["share"]
    related = {c: word_arms.related(chosen, listed, rule, word_vectors, **m) for c, listed in lists.items()}
    n = draws["permutations"]
    of = {x: word_arms.relation(chosen, w, share, m=n, seed=seed(run, x)) for x, w in relation["words"].items()}
    return related, of


# %%
def frame(place, kind):
    rows = [(n, name, x) for n, names in enumerate(cells) for name, x in measured_in[names][place].items()]
    return pd.DataFrame({kind: name, "replicate": n, **x._asdict(), "difference": x.difference} for n, name, x in rows)


measured_in = replicates.over(measured, cells, "relations")
by_concept, by_relation = frame(0, "concept"), frame(1, "relation")
related = overview.summary(by_concept, d, "words", "unknown", "related", "random").drop(columns="80% power")
forms = {"words": "{:.0f}", **dict.fromkeys(["unknown", "related", "random", "difference", "low", "high"], "{:.2f}")}
out.table("related", related, forms)

# %% [markdown]
# *Related* is the mean cosine of two words of the concept's features, *random* that of as many random features. An
# interval of their difference above 0 says that the features of a concept have a common meaning, which no model of the
# comparison has defined. *Unknown* is the share of words without a vector.

# %%
by_name = overview.summary(by_relation, d, "n", "true", "control", "parallel")
by_name.insert(1, "asked", [len(relation["words"][x]) for x in by_name.relation])
two = ["true", "control", "parallel", "difference", "low", "high", "80% power"]
out.table("relations", by_name, {"n": "{:.1f}", **dict.fromkeys(two, "{:.2f}")})

# %% [markdown]
# *n* of the pairs that were *asked* have features of their own. *True* and *control* are excesses of *across*; *80%
# power* is the difference that would get a yes in 80% of repeats with this spread. Where it is far above d, only a very
# large effect could be found.

# %%
figure = drawing.differences(by_relation, by_name, d)

# %% [markdown]
# An interval that reaches across the dotted line decides nothing.

# %% [markdown]
# ## Verdicts

# %%
would_be_no = "an excess above that with words exchanged by less than d"
verdicts = {}
for name, rows in by_relation.groupby("relation", sort=False):
    x, question = inference.over_replicates(rows.difference), f"Are the steps of {name} arranged alike?"
    verdicts[name] = out.verdict(f"relation {name}", question, x, d, would_be_no, form="{:.2f}", tested=x.n > 2)
verdicts

# %%
out.number("relations tested", sum(word != "not tested" for word in verdicts.values()), "{:d}")
out.number("relations asked", len(verdicts), "{:d}")
out.number("relation share", 100 * relation["share"], "{:.0f}")

# %% [markdown]
# ## Save

# %%
out.save()
