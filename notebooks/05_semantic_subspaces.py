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
# **Question.** Are the features about one concept (time, people, places, ...) arranged alike in two models, more than
# where words have changed places, and more than features about any words are?
#
# **In.** Lists of words; replicates of two models with their SAEs, on a text and under exchanged words; with the
# stories the true class of every word. **Out.** How well words find a concept's features; for every concept and every
# relation (queen - king) its excess over a shuffled pairing, with the words as they are and exchanged, as a mean over
# replicates, beside placebo lists; how related the words of the features are; what they fire on, side by side.
#
# **What would count as a no.** An interval over replicates below d: the features of a concept are then arranged hardly
# more alike than where B's words have changed places. For placebo lists: hardly more than features of random words. An
# interval that holds d is neither; a concept with too few features is not tested.

# %% tags=["parameters"]
profile = "smoke"
concept_set = "stories"
labelling = {"shares": [0.2, 0.4], "minimum_firings": 5, "truth_share": 0.5}
draws = {"permutations": 49, "placebo_lists": 3, "relatedness": 19}
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
from functools import partial
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sae_utils import inference, labels, pipeline, profiles, replicates, report, significance
from sae_utils.profiles import seed
from sae_utils.studies.semantic_subspaces import arms, centroids, concepts, relatedness, word2vec

# %%
run = profiles.start(profile, "05_semantic_subspaces")
out = report.Report(run, "05_semantic_subspaces")
measure, d = run.common.primary.measure, run.common.primary.thresholds["excess"].d
cells = replicates.of(run, *run.common.primary.pair)  # (A, B) of every replicate
if exchanges := bool(run.common.replicates):
    replicates.prepare(run, cells)

# %% [markdown]
# ## Which words stand for a concept?
# Lists that were fixed beforehand, matched as whole words without regard to case; a word that the tokenizer splits
# counts at its last token. With the stories, a list holds some of the words of several true classes.

# %%
lists = concepts.word_lists(concept_set)
a = pipeline.features(run, cells[0][0])
words, classes, documents = pipeline.words(run, cells[0][0], a.sites), *map(a.sites.array, ("classes", "documents"))
on_matching = arms.in_split(a.sites, "matching")
found = concepts.evidence(a.codes, words, documents, on_matching)
absent = {concept: concepts.absent_words(listed, found) for concept, listed in lists.items()}
list_table = pd.DataFrame(
    {
        "concept": concept,
        "words": len(listed),
        "absent": len(absent[concept]),
        "tokens": 100 * found.occurs[concepts.word_mask(listed, found)].sum() / on_matching.sum(),
        "such as": " ".join(listed[:5]),
    }
    for concept, listed in lists.items()
)
out.table("lists", list_table, {"tokens": "{:.1f}"})

# %%
out.number("sets", len(lists), "{:d}")
out.number("listed words", sum(map(len, lists.values())), "{:,}")
out.number("absent words", sum(map(len, absent.values())), "{:,}")

# %% [markdown]
# ## A feature is about a concept by the share of its activation
# A feature is about a concept if at least a given share of its activation is on the words of the list; the same rule
# holds in all notebooks. On the first replicate's A, in plain numpy:

# %%
rule = concepts.rule({"kind": "mass", "share": labelling["shares"][0]})
concept, listed = next(iter(lists.items()))
codes = a.codes[on_matching].toarray()
on_list = np.isin(words.of[on_matching], np.flatnonzero(np.isin(words.text, listed)))
total = codes.sum(0, dtype=float)
share = np.divide(codes[on_list].sum(0, dtype=float), total, out=np.zeros(len(total)), where=total > 0)
about = concepts.about(found, concepts.word_mask(listed, found), rule)
assert np.mean(about == (share >= rule.share)) > 0.99  # equal up to rounding at the threshold
out.number("share", 100 * rule.share, "{:.0f}")
concept, int(about.sum())

# %% [markdown]
# Where the true class of every token is known, a feature is truly about a concept if it spends enough of its
# activation, on the documents that do not choose, on the true classes of the concept's words, listed or not. Precision
# and recall of the rule with several shares, on the first replicate's A (the table of concepts has all replicates):

# %%
classed = bool((classes >= 0).any())
classes_of = {c: concepts.true_classes(listed, run.corpus.world) for c, listed in lists.items() if classed}
truly = {c: concepts.class_share(a.codes, classes, of, ~on_matching) for c, of in classes_of.items()}
live = found.firings >= labelling["minimum_firings"]


def judged(concept, share):
    rule = concepts.rule({"kind": "mass", "share": share})
    own = concepts.about(found, concepts.word_mask(lists[concept], found), rule) & live
    return concepts.recovery(own, (truly[concept] >= labelling["truth_share"]) & live if classed else None)


# %%
by_share = {share: [judged(concept, share) for concept in lists] for share in labelling["shares"]}
rules = pd.DataFrame(
    {
        "share": share,
        "features": sum(x.n for x in of),
        "precision": arms.mean([x.precision for x in of]),
        "recall": arms.mean([x.recall for x in of]),
    }
    for share, of in by_share.items()
)
out.table("rules", rules, dict.fromkeys(["share", "precision", "recall"], "{:.2f}"))
out.number("truth share", 100 * labelling["truth_share"], "{:.0f}")

# %% [markdown]
# ## Both arms of one concept
# Words choose features of A; the correlation of activations chooses their partners in B, one-to-one, without a
# threshold. In the second arm B reads the text with words exchanged where A reads it as it is, and the reverse: the
# features of A are the same, their partners are those that correlate there. The roles of A and B and the documents that
# choose are exchanged, and results averaged. One role on one split:

# %%
chosen = arms.roles(run, cells[0], labelling["minimum_firings"], classes_of)
role = chosen[0]
at = np.flatnonzero(concepts.about(role.found, concepts.word_mask(listed, role.found), rule) & role.live)
pairs = role.rows(at)  # ((rows of A, rows of B), the same with words exchanged)
scores = arms.score(role, pairs, measure)
print(f"{concept}: {len(at)} features; excess {scores[0]:.3f}, with words exchanged {scores[1]:.3f}")

# %% [markdown]
# A single pair of models has a score and its null for every concept, and no interval:


# %%
def single(concept):
    own = concepts.about(role.found, concepts.word_mask(lists[concept], role.found), rule) & role.live
    rows = role.rows(np.flatnonzero(own))[0]
    if len(rows[0]) < replicates.FEWEST:
        return {"concept": concept, "n": len(rows[0])}
    x = significance.test(*rows, [measure], m=draws["permutations"], seed=seed(run, concept))[measure]
    return {"concept": concept, "n": x.n, "score": x.observed, "null": x.null_mean, "excess": x.excess, "p": x.p}


one_pair = pd.DataFrame(map(single, lists)).reindex(columns=["concept", "n", "score", "null", "excess", "p"])
out.table("single", one_pair, {**dict.fromkeys(["score", "null", "excess"], "{:.2f}"), "p": "{:.3f}"})
out.number("fewest", replicates.FEWEST, "{:d}")

# %% [markdown]
# ## All concepts and relations, in every replicate
# *Placebo lists* are random words of like frequency that label as many features, nearest to the concept's in firings,
# correlation and features a word. *Relatedness* is the mean cosine of two words on which the features fire, by
# word2vec, in which neither model had a part, less that of as many random features. *Relations* are differences of
# features: queen - king against mother - father. The feature of a word or of a group of words is the one that spends
# most of its activation there; no feature stands in two differences.

# %%
spelt = relatedness.words_of(found.top, found.words)
word_vectors = word2vec.vectors(vectors, pipeline.training_text(run, run.pair[0]), sorted(set().union(*spelt)))


def measured(names):
    chosen = arms.roles(run, names, labelling["minimum_firings"], classes_of)
    common = (rule, measure, labelling["truth_share"], word_vectors)
    m = {"lists": draws["placebo_lists"], "m": draws["relatedness"], "seed": seed(run, "concepts")}
    of_concepts = {c: arms.concept(chosen, c, listed, *common, **m) for c, listed in lists.items()}
    share, m = relation["share"], draws["permutations"]
    of_relations = {r: arms.relation(chosen, x, share, m=m, seed=seed(run, r)) for r, x in relation["words"].items()}
    return of_concepts, of_relations


measured_in = replicates.over(measured, cells, "concepts")

# %%
frames = [
    pd.DataFrame(
        {kind: name, "replicate": number, **x._asdict(), "difference": x.difference}
        for number, cell in enumerate(cells)
        for name, x in measured_in[cell][place].items()
    )
    for place, kind in enumerate(("concept", "relation"))
]
by_concept, by_relation = frames


def over(frame, value="difference"):
    return {name: inference.over_replicates(rows[value]) for name, rows in frame.groupby(frame.columns[0], sort=False)}


# %% [markdown]
# ## Concept by concept
# Mean over replicates of the excess in the true arm less that under exchanged words, with a 95% interval; beside it the
# difference from which on a *yes* would come in 80% of repeats with this spread.


# %%
def told(x):
    return inference.detectable(x.sd, d, x.n).yes if x.n > 2 and x.se > 0 else np.nan


def summary(frame, *others):
    of, columns = over(frame), ("n", "true", "control", *others)
    means = frame.groupby(frame.columns[0], sort=False)[list(columns)].mean()
    added = {name: (x.estimate, x.low, x.high, x.n, told(x)) for name, x in of.items()}
    names = ["difference", "low", "high", "replicates", "80% power"]
    return means.join(pd.DataFrame.from_dict(added, "index", columns=names)).reset_index(names=frame.columns[0])


two = ["true", "control", "difference", "low", "high", "80% power", "placebo", "precision", "recall", "related"]
overview = summary(by_concept, "placebo", "precision", "recall", "related")
out.table("overview", overview, {"n": "{:.0f}", **dict.fromkeys(two, "{:.2f}")})

# %%
figure, axes = plt.subplots(figsize=(5.5, 2.6))
names = overview.concept.tolist()
dots = by_concept.set_index("concept").difference
for place, row in enumerate(overview.itertuples()):
    values = dots[[row.concept]].to_numpy()
    axes.scatter(np.full(len(values), place - 0.12), values, s=7, color=report.PAIRED, alpha=0.6)
    axes.errorbar(place + 0.08, row.difference, [[row.difference - row.low], [row.high - row.difference]], fmt="_k")
    axes.plot(place + 0.25, row.placebo, "D", color=report.NULL, markersize=4)
axes.axhline(d, color=report.NULL, linewidth=0.8, linestyle=":")
axes.axhline(0, color=report.NULL, linewidth=0.5)
axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
axes.set(ylabel="excess, true arm - words exchanged")
out.figure("concepts", figure)
figure

# %% [markdown]
# ## Verdicts on concepts

# %%
would_be_no = "an excess above that with words exchanged by less than d"
verdicts = {}
for name, x in over(by_concept).items():
    question = f"Are the features about {name} arranged alike?"
    verdicts[name] = out.verdict(f"concept {name}", question, x, d, would_be_no, form="{:.2f}", tested=x.n > 2)

# %%
by_concept["beyond placebo"] = by_concept.difference - by_concept.placebo
means = by_concept.groupby("replicate")[["difference", "beyond placebo"]].mean()
asked = {
    "mean": ("difference", "Are the features of a concept arranged alike, on average?", would_be_no),
    "placebo": (
        "beyond placebo",
        "Are they arranged more alike than features of random words?",
        "an excess above that of placebo lists by less than d",
    ),
}
for name, (column, question, no) in asked.items():
    out.verdict(name, question, inference.over_replicates(means[column]), d, no)

# %%
tested = [word for word in verdicts.values() if word != "not tested"]
yes, no = (tested.count(word) for word in ("yes", "no"))
counted = f"{yes} of {len(tested)} tested concepts are arranged alike beyond exchanged words, {no} are not"
sentence = f"{counted}, and {len(tested) - yes - no} are undetermined" if tested else "none could be tested"
out.text("verdict", sentence)
out.number("unanswered", len(lists) - len(tested), "{:d}")
out.number("placebo lists", draws["placebo_lists"], "{:,}")
sentence

# %% [markdown]
# ## Relations inside a concept
# King - queen against man - woman: *parallel* is the mean cosine of two differences in a model, over features shuffled
# among the words; *true* and *control* the excess of the correlation, between the models, of the cosines of all two
# differences, with the words as they are and exchanged.

# %%
of_relations = summary(by_relation, "parallel")
of_relations.insert(1, "asked", [len(relation["words"][name]) for name in of_relations.relation])
shown = dict.fromkeys([x for x in (*two, "parallel") if x in of_relations], "{:.2f}")
out.table("relations", of_relations, {"n": "{:.1f}", **shown})

# %%
related = over(by_relation)
for name, x in related.items():
    question = f"Are the differences of {name} arranged alike?"
    out.verdict(f"relation {name}", question, x, d, would_be_no, form="{:.2f}", tested=x.n > 2)
out.number("relations tested", sum(x.n > 2 for x in related.values()), "{:d}")
out.number("relations asked", len(related), "{:d}")
out.number("relation share", 100 * relation["share"], "{:.0f}")

# %% [markdown]
# ## What do paired features fire on?
# In the first replicate, for every concept the pair with the highest correlation on the documents that judge, with the
# strongest token of either feature in its context.

# %%
tokens, spellings = a.sites.array("tokens")[on_matching], pipeline.vocabulary(run, cells[0][0])
tops = [labels.label(pipeline.features(run, x).codes[on_matching], tokens, documents[on_matching]) for x in cells[0]]


def example(concept):
    own = concepts.about(role.found, concepts.word_mask(lists[concept], role.found), rule) & role.live
    pairs = replicates.match("a", np.flatnonzero(own), role.chosen, role.judged)
    if not np.isfinite(pairs.r_true).any():
        return {"concept": concept}
    best = int(np.nanargmax(pairs.r_true))
    found = {"concept": concept, "r": pairs.r_true[best]}
    for side, top, feature in zip("AB", tops, (pairs.features[best], pairs.true[best]), strict=True):
        found |= {side: labels.summary(top, [feature], spellings, most=2)[0]}
        found |= {f"{side} in context": labels.quote(top, [feature], spellings, reach=2)[0]}
    return found


examples = pd.DataFrame(map(example, lists)).reindex(columns=["concept", "r", "A", "A in context", "B", "B in context"])
out.table("examples", examples.dropna(), {"r": "{:.2f}"})

# %% [markdown]
# ## Between concepts
# The true classes of words, and the lists into which they fall, have a geometry of their own. The centroid of a class
# is the mean of all unit decoder rows, weighted by the share of a feature's activation on the class; classes are paired
# by name. *Control*: features of one model by the words that the other reads there. *Overlap*: decoder rows shuffled
# among features, so that only features of several classes make centroids alike. A share in plain numpy:

# %%
of_token = centroids.of_tokens(spellings, "classes")[a.sites.array("tokens")]
share = centroids.shares(a.codes, of_token, len(centroids.names("classes")))
with np.errstate(invalid="ignore"):
    by_hand = a.codes[of_token == 0].sum(0, dtype=float) / a.codes.sum(0, dtype=float)
np.testing.assert_allclose(share[:, 0], by_hand, atol=1e-6)

# %%
known, frames = cells if classed and exchanges else [], {}
for level in ("classes", "lists"):
    one = partial(centroids.measured, run, level=level, measure=measure, seed=seed(run, level))
    of_level = replicates.over(one, known, f"centroids of {level}")
    frames[level] = pd.DataFrame(of_level.values(), columns=centroids.Between._fields, dtype=float)
centres = pd.DataFrame({"of": level, **x.mean()} for level, x in frames.items())
out.table("between", centres, {"n": "{:.0f}", **dict.fromkeys(["true", "control", "overlap"], "{:.2f}")})

# %%
beyond = {"control": "", "overlap": ", beyond features that they share"}
for (level, x), (arm, more) in product(frames.items(), beyond.items()):
    found_here, question = inference.over_replicates(x.true - x[arm]), f"Are the {level} of words arranged alike{more}?"
    no, tested_here = f"an excess above that of the {arm} by less than d", found_here.n > 2
    out.verdict(f"{level} {arm}", question, found_here, d, no, form="{:.2f}", tested=tested_here)

# %% [markdown]
# ## Save

# %%
out.save()
