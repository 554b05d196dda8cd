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
# **Question.** Do the features about one concept (time, people, nature, ...) form subspaces that are arranged alike in
# two models, more than pairs about anything else are?
#
# **In.** Lists of words; codes and decoder rows of dictionaries at several depths of two models; with the stories the
# true class of every word. **Out.** How well words find a concept's features; three ways to a subspace, each
# many-to-one and one-to-one; their scores against a shuffled pairing, other pairs and placebo lists; every pair of
# layers; relations inside concepts; how related the words of the features are; what they fire on, side by side.
#
# **What would count as a no.** Scores that a shuffled pairing inside the concept reaches as easily; of a union of
# concepts, that a pairing shuffled within its parts reaches as easily, which would say no more than that the parts lie
# apart; or that the pairs of lists of random words reach as easily, which would make all features alike, not
# concepts. Too few pairs for any answer is neither.

# %% tags=["parameters"]
profile = "smoke"
concept_set = "stories"
unions = {
    "things": ["creatures", "places", "goods", "devices"],
    "humans": ["people", "expression"],
    "said of things": ["deeds", "qualities"],
}
keywords = {"single": ["she", "he", "once"], "mismatched": [["once", "she"], ["once", "he"], ["she", "he"]]}
rules = [{"kind": "mass", "share": 0.2}, {"kind": "top", "top": 5, "least": 1}, {"kind": "top", "top": 10, "least": 3}]
labelling = {"tops": 10, "minimum_firings": 5, "truth_share": 0.5}
layers = {
    "a": ["two_layer_block0_0", "two_layer_0"],
    "b": ["three_layer_block0_0", "three_layer_block1_0", "three_layer_0"],
}
pairing = {"candidates": 16, "least_r": 0.1}
scoring = {"measures": ["rsa_spearman", "cka_debiased", "mutual_knn"], "neighbours": 3}
draws = {"permutations": 99, "placebo_lists": 49, "relatedness": 49}
power_curve = {"sizes": [5, 10, 20, 40], "trials": 10, "draws": 39, "wanted": 0.5}
clustering = {"clusters": 4, "least": 3, "folds": 3}
relation = {
    "share": 0.1,
    "words": {
        "woman to man": [["queen", "king"], ["woman", "man"], ["princess", "prince"], ["mother", "father"]],
        "noun to its verb": [["fox", "prowled"], ["owl", "soared"], ["fish", "swam"], ["happy", "smiled"]],
    },
}
vectors = {"kind": "corpus", "size": 16, "window": 5, "epochs": 1, "seed": 0}
seed = 0

# %%
from functools import partial
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from sae_utils import inference, labels, pipeline, profiles, report, significance, tables
from sae_utils.matching import Pairs
from sae_utils.studies.semantic_subspaces import (
    concepts,
    outcomes,
    placebos,
    relatedness,
    relations,
    subspaces,
    unsupervised,
    word2vec,
)

# %%
run = profiles.start(profile, "05_semantic_subspaces")
out = report.Report(run, "05_semantic_subspaces")
primary = run.common.primary
name_a, name_b = run.pair
features = pipeline.features_of(run, dict.fromkeys([*layers["a"], *layers["b"], name_a, name_b]))
both = pipeline.correlated(features[name_a], features[name_b], pairing["candidates"])
a, b = both.a, both.b
level = inference.LEVEL

# %% [markdown]
# ## Which words stand for a concept?
# Lists that were fixed beforehand, matched as whole words without regard to case; a word that the tokenizer splits
# counts at its last token. Beside the lists of the set stand unions of them, and single keywords. With the stories, a
# list holds some of the words of several true classes.

# %%
text = pipeline.words(run, name_a, a.sites)
documents, classes = a.sites.array("documents"), a.sites.array("classes")
found = {
    name: concepts.evidence(x.codes, text, documents, both.on_matching, k=labelling["tops"])
    for name, x in features.items()
}
base = concepts.word_lists(concept_set)
lists = concepts.combine(base, unions, keywords, where=f"params/{profile}.yaml: 05_semantic_subspaces")
listed = {concept: concepts.word_mask(list_, found[name_a]) for concept, list_ in lists.items()}
all_concepts = [*base, *unions]

# %%
absent = {concept: concepts.absent_words(lists[concept], found[name_a]) for concept in lists}
list_table = pd.DataFrame(
    {
        "concept": concept,
        "words": len(lists[concept]),
        "absent": len(absent[concept]),
        "tokens": 100 * found[name_a].occurs[listed[concept]].sum() / both.on_matching.sum(),
        "such as": " ".join(lists[concept][:5]),
    }
    for concept in lists
)
out.table("lists", list_table, {"tokens": "{:.1f}"})
out.number("concepts", len(base), "{:d}")
out.number("listed words", sum(map(len, base.values())), "{:,}")
missing = sorted({word for concept in lists for word in absent[concept]})
out.number("absent words", sum(len(absent[concept]) for concept in base), "{:,}")
out.text("absent list", ", ".join(missing) or "none")
absent

# %% [markdown]
# ## How well does a rule find a concept's features?
# A rule looks at what a feature fires on in the matching documents; the first of the rules is in use. Where the true
# class of every token is known, a feature is truly about a concept if it spends at least a given share of its
# activation, on held-out documents, on the true classes of the concept's words, listed or not. Features that hardly
# fire are left out.

# %%
live = {name: x.firings >= labelling["minimum_firings"] for name, x in found.items()}
classed = bool((classes >= 0).any())
classes_of = {concept: concepts.true_classes(lists[concept], run.corpus.world) for concept in all_concepts if classed}
true = {
    (name, concept): concepts.class_share(x.codes, classes, classes_of[concept], both.on_held_out)
    >= labelling["truth_share"]
    if classed
    else None
    for (name, x), concept in product(features.items(), all_concepts)
}
chosen_rule = concepts.rule(rules[0])

# %%
judged = {
    (number, name): [
        concepts.recovery(
            concepts.about(found[name], listed[concept], concepts.rule(value)) & live[name],
            true[name, concept] & live[name] if classed else None,
        )
        for concept in base
    ]
    for (number, value), name in product(enumerate(rules), (name_a, name_b))
}

# %%
by_rule = pd.DataFrame(
    {
        "rule": concepts.describe(concepts.rule(rules[number])),
        "side": "A" if name == name_a else "B",
        "features": sum(x.n for x in judged[number, name]),
        "concepts found": sum(x.n > 0 for x in judged[number, name]),
        "precision": tables.average(np.array([x.precision for x in judged[number, name]])),
        "recall": tables.average(np.array([x.recall for x in judged[number, name]])),
    }
    for number, name in judged
)
out.table("rules", by_rule, dict.fromkeys(["precision", "recall"], "{:.2f}"))
out.text("rule", concepts.describe(chosen_rule))
out.text("truth known", "is known" if classed else "is not known")

# %%
about = {
    (name, concept): concepts.about(found[name], listed[concept], chosen_rule) & live[name]
    for name, concept in product(features, lists)
}
own = [concepts.recovery(about[name, concept], true[name, concept]) for name in (name_a, name_b) for concept in base]
out.number("precision", tables.average(np.array([x.precision for x in own])))
out.number("recall", tables.average(np.array([x.recall for x in own])))
out.number("truth share", 100 * labelling["truth_share"], "{:.0f}")
pd.DataFrame({name: {concept: about[name, concept].sum() for concept in lists} for name in features})

# %% [markdown]
# ## How deep do a concept's features lie?
# Share of the live features of every dictionary that are about a concept; A1 is the first dictionary of A.

# %%
places = [(f"{side.upper()}{i}", name) for side, names in layers.items() for i, name in enumerate(names, 1)]
depth = pd.DataFrame(
    {
        place: {concept: about[name, concept].sum() / live[name].sum() for concept in all_concepts}
        for place, name in places
    }
)
figure, axes = plt.subplots(figsize=(0.24 * len(places) + 1.5, 0.16 * len(all_concepts) + 0.5))
sns.heatmap(100 * depth, annot=True, fmt=".0f", annot_kws={"size": 7}, cmap="Blues", ax=axes, cbar=False)
axes.tick_params(length=0, labelsize=7, labelrotation=0)
axes.set(title="% of live features")
out.figure("depth", figure)

# %%
for side, names in layers.items():
    for which, place in (("first", 1), ("last", len(names))):
        share = depth.loc[list(base), f"{side.upper()}{place}"].mean()
        out.number(f"depth {which} {side}", 100 * share, "{:.1f}")
    out.text(f"layers {side}", ", ".join(f"{x} {name}" for x, name in places if x[0] == side.upper()).replace("_", " "))

# %% [markdown]
# ## Are the words of a concept's features related?
# By word2vec, which neither model had a part in: mean cosine of two different words among the top tokens of a concept's
# features, against as many random features of the same dictionary.

# %%
spelt = {name: relatedness.words_of(x.top, x.words) for name, x in found.items()}
every_word = sorted(set().union(*(words_ for name in found for words_ in spelt[name])))
word_vectors = word2vec.vectors(vectors, run.corpus, every_word)
related = {
    (name, concept): relatedness.related(
        np.flatnonzero(about[name, concept]),
        np.flatnonzero(live[name]),
        spelt[name],
        word_vectors,
        m=draws["relatedness"],
        seed=seed,
    )
    for name, concept in product(features, all_concepts)
}

# %%
relatedness_table = pd.DataFrame(
    {
        "concept": concept,
        "side": side,
        "features": x.features,
        "words": x.words,
        "unknown": 100 * x.unknown,
        "pairwise": x.pairwise.observed,
        "random": x.pairwise.null_mean,
        "p": x.pairwise.p,
        "centroid": x.centroid.observed,
        "random, centroid": x.centroid.null_mean,
        "p, centroid": x.centroid.p,
    }
    for concept in all_concepts
    for side, x in (("A", related[name_a, concept]), ("B", related[name_b, concept]))
    if x
)
cosines = dict.fromkeys(["pairwise", "random", "centroid", "random, centroid"], "{:.2f}")
relatedness_shown = {"unknown": "{:.0f}", **cosines, "p": "{:.3f}", "p, centroid": "{:.3f}"}
out.table("relatedness", relatedness_table, relatedness_shown)

# %%
scored = [related[name, c] for name, c in product((name_a, name_b), base) if related[name, c]]
out.number("related sets", len(scored), "{:d}")
out.number("related found", sum(x.pairwise.p < level for x in scored), "{:d}")
out.number("unknown words", 100 * (1 - len(word_vectors.place) / max(len(every_word), 1)), "{:.0f}")
out.text("vectors", {"corpus": "trained on the corpus", "file": "from a file"}.get(vectors["kind"], "downloaded"))

# %% [markdown]
# ## How many pairs does an answer take?
# Features are paired one-to-one (greedily: the best first) or each of A with its best of B, above a least correlation.
# Random subsets of all pairs are tested by the primary measure as a subspace would be. The fewest pairs that find the
# similarity of all pairs often enough are the fewest that are tested here. A smaller subspace has *too few*, and so has
# one with fewer different features on either side than can be rearranged.

# %%
matchings = subspaces.MATCHINGS
colors = dict(zip(matchings, (report.PAIRED, "C1"), strict=True))
every = {how: subspaces.all_pairs(both.found, how, pairing["least_r"]) for how in matchings}
pool = {how: subspaces.pairs_about(p, live[name_a], live[name_b], sides="both") for how, p in every.items()}
rows = a.decoder, b.decoder
scored_by = list(dict.fromkeys([primary.measure, *scoring["measures"]]))
scorer = subspaces.Scoring(*rows, scored_by, scoring["neighbours"], pool["one-to-one"])
curve = {"trials": power_curve["trials"], "m": power_curve["draws"], "seed": seed}
power = {how: subspaces.power(p, scorer, power_curve["sizes"], **curve) for how, p in pool.items()}
fewest = {how: subspaces.fewest_pairs(power_curve["sizes"], x, power_curve["wanted"]) for how, x in power.items()}

# %%
figure, axes = plt.subplots(figsize=(2.7, 2.3))
for how, x in power.items():
    axes.plot(power_curve["sizes"], x, "o-", markersize=3, color=colors[how], label=how)
axes.axhline(power_curve["wanted"], color=report.NULL, linewidth=0.8)
axes.axhline(level, color=report.NULL, linewidth=0.8, linestyle=":")
axes.set(xlabel="pairs", ylabel=f"share with p at most {level}", ylim=(-0.03, 1.03), xscale="log")
axes.set_xticks(power_curve["sizes"], map(str, power_curve["sizes"]))
axes.minorticks_off()
axes.legend()
out.figure("power", figure)

# %%
for how in matchings:
    out.number(f"fewest {how}", fewest[how], "{:d}")
    out.number(f"all {how}", len(pool[how].a), "{:,}")
out.number("power", 100 * power_curve["wanted"], "{:.0f}")
out.number("fewest features", significance.FEWEST, "{:d}")
fewest

# %% [markdown]
# ## Two ways that know the words
# Way 1: pair all features, then keep the pairs about the concept, on both sides or on either. Way 2: find the concept's
# features on each side, then pair them among themselves.

# %%
ways = {
    (way, how): step
    for how in matchings
    for way, step in (
        ("1, both sides", partial(subspaces.pairs_about, every[how], sides="both")),
        ("1, either side", partial(subspaces.pairs_about, every[how], sides="either")),
        ("2", partial(subspaces.pairs_among, both.found, how=how, least=pairing["least_r"])),
    )
}
subspace = {
    (concept, *way): step(about[name_a, concept], about[name_b, concept])
    for concept, (way, step) in product(all_concepts, ways.items())
}
pd.Series({key: len(x.a) for key, x in subspace.items()}).unstack([1, 2]).loc[all_concepts]

# %% [markdown]
# ## The way that does not
# Way 3: decoder rows of A in clusters (k-means, HDBSCAN), each then named by what most of its features are about; or
# named by directions that linear discriminant analysis learnt from other features of the concepts. The pairs carry
# every cluster to B. Is it a cluster there: are its partners' decoder rows nearer to each other than random partners'?

# %%
label = np.full(len(a.decoder), -1)
for number, concept in enumerate(base):
    label[about[name_a, concept] & (label < 0)] = number
here = np.flatnonzero(live[name_a])
clustered = {
    "k-means": unsupervised.kmeans(a.decoder[here], clustering["clusters"], seed),
    "HDBSCAN": unsupervised.hdbscan(a.decoder[here], clustering["least"]),
    "LDA": unsupervised.lda(a.decoder[here], label[here], clustering["folds"], seed),
}
naming = {
    way: found_ if way == "LDA" else unsupervised.majority_label(found_, label[here])
    for way, found_ in clustered.items()
}
subspace |= {
    (concept, f"3, {way}", how): pool[how].subset(np.isin(pool[how].a, here[names == number]))
    for (way, names), how, (number, concept) in product(naming.items(), matchings, enumerate(base))
}

# %%
clusters = {
    (way, how, number): pool[how].subset(np.isin(pool[how].a, here[found_ == number]))
    for (way, found_), how in product(clustered.items(), matchings)
    for number in np.unique(found_[found_ >= 0])
}
in_b = {
    key: unsupervised.compactness(x.b, pool[key[1]].b, b.decoder, m=draws["permutations"], seed=[seed, 3, number])
    for number, (key, x) in enumerate(clusters.items())
}
in_b_corrected = inference.maximum_of_z({key: {"cosine": x} for key, x in in_b.items() if x})
carried = pd.DataFrame(
    {
        "clusters of A by": way,
        "matching": how,
        "clusters": len(mine),
        "in one": 100 * np.mean(clustered[way] >= 0),
        "two in B": sum(x is not None for x in mine),
        "cosine in B": tables.average(np.array([x.observed for x in mine if x])),
        "random": tables.average(np.array([x.null_mean for x in mine if x])),
        f"p < {level}".replace("0.", "."): sum(x.p < level for x in mine if x),
        "corrected": sum(p["cosine"] < level for key, p in in_b_corrected.items() if key[:2] == (way, how)),
    }
    for way, how in product(clustered, matchings)
    for mine in [[x for key, x in in_b.items() if key[:2] == (way, how)]]
)
out.table("carried", carried, {"in one": "{:.0f}", "cosine in B": "{:.2f}", "random": "{:.2f}"})

# %% [markdown]
# ## What the ways find, and which of it is arranged alike
# Precision: pairs of which both features are truly about the concept. Recall: features of A that truly are, and that
# are in a pair of the subspace. The test is a shuffled pairing inside the concept; where pairs share a partner, all
# that share one are given another together. `procrustes_outside` is the cosine after a rotation that was fitted on the
# pairs outside the concept. That the parts of a union lie apart in both models makes it alike, however the pairs of a
# part are arranged: a union is also held against a pairing shuffled within its parts, where partners change places with
# those of the same part only (the part on which a feature spends most of its activation; features that are not about
# the union are a part of their own). *Corrected*: by the largest z over all concepts, ways, measures and both tests.

# %%
recovered = {key: subspaces.pair_recovery(x, true[name_a, key[0]], true[name_b, key[0]]) for key, x in subspace.items()}
part_of = {
    (name, union): subspaces.main_part(found[name], [listed[part] for part in unions[union]], about[name, union])
    for name, union in product([*layers["b"], name_b], unions)
}
m = draws["permutations"]

# %%
tested = {
    key: subspaces.arrangement(x, scorer, m=m, seed=[seed, number])
    for number, (key, x) in enumerate(subspace.items())
    if subspaces.enough(x, fewest[key[2]])
}
within_parts = {
    key: subspaces.arrangement(subspace[key], scorer, m=m, seed=[seed, 7, number], part=part_of[name_b, key[0]])
    for number, key in enumerate(tested)
    if key[0] in unions
}
# %%
answered, adjusted = outcomes.answers(tested, within_parts, primary.measure)
out.number("family", sum(map(len, [*tested.values(), *within_parts.values()])), "{:d}")

# %%
by_way = pd.DataFrame(
    {
        "way": way,
        "matching": how,
        "pairs": np.median([len(subspace[key].a) for key in keys]),
        "r held out": tables.average(np.concatenate([both.held_out(subspace[key]) for key in keys])),
        "precision": tables.average(np.array([recovered[key].precision for key in keys])),
        "recall": tables.average(np.array([recovered[key].recall for key in keys])),
        "tested": sum(key in tested for key in keys),
        f"p < {level}".replace("0.", "."): sum(tested[key][primary.measure].p < level for key in keys if key in tested),
        "corrected": sum(answered[key].beyond for key in keys if key in tested),
    }
    for way, how in dict.fromkeys(key[1:] for key in subspace)
    for keys in [[key for key in subspace if key[1:] == (way, how) and key[0] in base]]
)
out.table("ways", by_way, {"pairs": "{:.0f}", **dict.fromkeys(["r held out", "precision", "recall"], "{:.2f}")})

# %% [markdown]
# ## Concept by concept
# The first way, both sides: all measures, then the primary one beside how related the words of the features are.

# %%
shown_way = "1, both sides"
arranged = pd.DataFrame(
    {
        "concept": concept,
        "matching": how,
        "n": outcomes.pair_count(subspace[concept, shown_way, how]),
        "measure": name.replace("_", " "),
        **tables.columns(x),
        "corrected": adjusted[concept, shown_way, how][name],
        "hub size": tables.hub_size(x),
    }
    for (concept, way, how), results in tested.items()
    for name, x in results.items()
    if way == shown_way
)
shown = dict.fromkeys(["observed", "null", "null SD", "excess"], "{:.2f}")
p_shown = {"p": "{:.3f}", "corrected": "{:.3f}"}
out.table("arranged", arranged, {**shown, "z": "{:.1f}", **p_shown})

# %%
overview = pd.DataFrame(
    {
        "concept": concept,
        **{
            f"{what}, {short}": value
            for how, short in zip(matchings, ("1-1", "m-1"), strict=True)
            for key in [(concept, shown_way, how)]
            for what, value in outcomes.columns(
                subspace[key], tested.get(key, {}).get(primary.measure), answered.get(key)
            ).items()
        },
        "related": related[name_a, concept].pairwise.observed if related[name_a, concept] else np.nan,
    }
    for concept in all_concepts
)
out.table("overview", overview, {"related": "{:.2f}"})

# %%
main_keys = [key for key in tested if key[1] == shown_way]
for how in matchings:
    here_tested = [key for key in main_keys if key[2] == how]
    out.number(f"tested {how}", len(here_tested), "{:d}")
    out.number(f"found {how}", sum(tested[key][primary.measure].p < level for key in here_tested), "{:d}")
    out.number(f"corrected {how}", sum(answered[key].beyond for key in here_tested), "{:d}")
other_ways = [key for key in tested if key[1] != shown_way]
out.number("other ways tested", len(other_ways), "{:d}")
out.number("other ways alike", sum(answered[key].alike for key in other_ways), "{:d}")
other_precision = tables.average(np.array([recovered[key].precision for key in other_ways]))
out.number("other ways precision", other_precision)
out.number("sets", len(all_concepts), "{:d}")
out.number("permutations", draws["permutations"], "{:,}")

# %%
parts = pd.DataFrame(
    {
        "union": key[0],
        "way": key[1],
        "matching": key[2],
        "n": outcomes.pair_count(subspace[key]),
        "observed": x.observed,
        "null": tested[key][primary.measure].null_mean,
        "p": answered[key].shuffled,
        "null within parts": x.null_mean,
        "p within parts": x.p,
        "corrected": answered[key].within,
        "can move": x.movable,
    }
    for key, tests in within_parts.items()
    for x in [tests[primary.measure]]
)
two = dict.fromkeys(["observed", "null", "null within parts", "can move"], "{:.2f}")
three = dict.fromkeys(["p", "p within parts", "corrected"], "{:.3f}")
out.table("parts", parts, {**two, **three})

# %%
in_unions = [key for key in main_keys if key in within_parts]
out.number("parts tested", len(in_unions), "{:d}")
out.number("parts found", sum(answered[key].alike for key in in_unions), "{:d}")
out.number("parts uncorrected", sum(within_parts[key][primary.measure].p < level for key in in_unions), "{:d}")

# %% [markdown]
# ## Is it the concept, or would any such pairs do?
# Three other things to hold a subspace against, each of as many pairs. Placebo lists are random words of like frequency
# whose features are labelled and paired anew. A list is taken if all its pairs are just as many as the concept's, so
# that no word loses a feature, and of these the lists nearest to the concept in firings, correlation and pairs a word;
# placebos that are too far from the concept's in one of them are no null of it. Corrected by the largest z over
# concepts, matchings and measures. A placebo is not matched in whether it falls into classes, as a union does: it does
# not stand in for the shuffle within parts. Pairs of other concepts and random pairs are baselines without a p: drawn
# singly, they tear apart the features of one word, which are alike.

# %%
named = {how: Pairs.union(*(subspace[c, shown_way, how] for c in base)) for how in matchings}
others = {
    (concept, how): named[how].without(subspace[concept, shown_way, how])
    for concept, how in product(all_concepts, matchings)
}
beside = {
    (key, name): subspaces.random_subsets(len(subspace[key]), drawn_from, scorer, m=m, seed=[seed, 1, number, which])
    for number, key in enumerate(main_keys)
    for which, (name, drawn_from) in enumerate(
        (("random pairs", pool[key[2]]), ("other concepts", others[key[0], key[2]]))
    )
    if len(drawn_from.a) > len(subspace[key].a)
}

# %%
lists_drawn = {
    key: placebos.draw(
        subspace[key],
        (found[name_a], found[name_b]),
        (live[name_a], live[name_b]),
        listed[key[0]],
        chosen_rule,
        ways[key[1:]],
        m=draws["placebo_lists"],
        seed=[seed, 4, number],
    )
    for number, key in enumerate(main_keys)
}
held_against = {
    key: placebos.test(subspace[key], x, scorer) for key, x in lists_drawn.items() if x.distance <= placebos.TOO_FAR
}

# %%
placebo_corrected = inference.maximum_of_z(held_against)
means = {
    "shuffled": {key: x[primary.measure].null_mean for key, x in tested.items()},
    "placebo": {key: x[primary.measure].null_mean for key, x in held_against.items()},
    "others": {key: x[primary.measure].mean for (key, name), x in beside.items() if name == "other concepts"},
    "random": {key: x[primary.measure].mean for (key, name), x in beside.items() if name == "random pairs"},
}
secondary = pd.DataFrame(
    {
        "concept": key[0],
        "matching": key[2],
        "n": outcomes.pair_count(subspace[key]),
        "observed": tested[key][primary.measure].observed,
        **{name: values.get(key, np.nan) for name, values in means.items()},
        "p shuffled": answered[key].shuffled,
        "p placebo": placebo_corrected.get(key, {}).get(primary.measure, np.nan),
    }
    for key in main_keys
)
secondary_shown = dict.fromkeys(["observed", *means], "{:.2f}") | dict.fromkeys(["p shuffled", "p placebo"], "{:.3f}")
out.table("secondary", secondary, secondary_shown)

# %%
placebo_table = pd.DataFrame(
    {
        "concept": key[0],
        "matching": key[2],
        "lists": len(x.a),
        "apart": x.distance,
        "r": x.target[1],
        "r of placebos": x.covariates[:, 1].mean() if len(x.a) else np.nan,
        "firings": np.expm1(x.target[0]),
        "firings of placebos": np.expm1(x.covariates[:, 0].mean()) if len(x.a) else np.nan,
        "a word": np.exp(x.target[3]),
        "a word of placebos": np.exp(x.covariates[:, 3].mean()) if len(x.a) else np.nan,
        "tried": x.tried,
    }
    for key, x in lists_drawn.items()
)
columns = {
    "apart": "{:.2f}",
    "r": "{:.2f}",
    "r of placebos": "{:.2f}",
    "firings": "{:,.0f}",
    "firings of placebos": "{:,.0f}",
    "a word": "{:.1f}",
    "a word of placebos": "{:.1f}",
    "tried": "{:,}",
}
out.table("placebos", placebo_table, columns)
out.number("placebo lists", draws["placebo_lists"], "{:,}")
out.number("placebo apart", placebos.TOO_FAR, "{:.1f}")

# %% [markdown]
# ## At every pair of layers
# The first way, both sides, at every pair of dictionaries: excess over a shuffled pairing by the primary measure, and
# the pairs in each cell (after a slash: different partners); grey where there are too few. Corrected, here over
# concepts, layers, measures and both tests: a star for what is alike, a ring for a union that is beyond a shuffled
# pairing, but not beyond one shuffled within its parts.

# %%
layer_pairs = {
    (x, y): pipeline.correlated(features[x], features[y], pairing["candidates"])
    for x, y in product(layers["a"], layers["b"])
}
cells = {
    (concept, how, x, y): subspaces.pairs_about(paired, about[x, concept], about[y, concept], sides="both")
    for ((x, y), correlated), how in product(layer_pairs.items(), matchings)
    for paired in [subspaces.all_pairs(correlated.found, how, pairing["least_r"])]
    for concept in all_concepts
}
layer_scorer = {
    (x, y): scorer._replace(
        rows_a=features[x].decoder,
        rows_b=features[y].decoder,
        pool=subspaces.pairs_about(
            subspaces.all_pairs(correlated.found, "one-to-one", pairing["least_r"]), live[x], live[y], sides="both"
        ),
    )
    for (x, y), correlated in layer_pairs.items()
}
enough_pairs = {key: pairs for key, pairs in cells.items() if subspaces.enough(pairs, fewest[key[1]])}

# %%
by_layer = {
    key: subspaces.arrangement(pairs, layer_scorer[key[2:]], m=m, seed=[seed, 2, number])
    for number, (key, pairs) in enumerate(enough_pairs.items())
}
within_layer = {
    key: subspaces.arrangement(pairs, layer_scorer[key[2:]], m=m, seed=[seed, 8, number], part=part_of[key[3], key[0]])
    for number, (key, pairs) in enumerate(enough_pairs.items())
    if key[0] in unions
}
layer_answers = outcomes.answers(by_layer, within_layer, primary.measure)[0]

# %%
columns = [f"A{x + 1}\nB{y + 1}" for x, y in np.ndindex(len(layers["a"]), len(layers["b"]))]
by_cell = {how: [[(c, how, x, y) for x, y in layer_pairs] for c in all_concepts] for how in matchings}
excess = {
    how: pd.DataFrame(
        [[by_layer[key][primary.measure].excess if key in by_layer else np.nan for key in row] for row in keys],
        index=all_concepts,
        columns=columns,
    )
    for how, keys in by_cell.items()
}
top = np.ceil(10 * max([0.1, *(x[primary.measure].excess for x in by_layer.values())])) / 10

# %%
figure, axes = plt.subplots(1, 2, figsize=(5.5, 0.27 * len(all_concepts) + 1.2), sharey=True)
for axis, how in zip(axes, matchings, strict=True):
    axis.set_facecolor("#e5e5e5")
    scale = {"vmin": 0, "vmax": top, "cbar": how == matchings[-1], "cbar_kws": {"label": "excess"}}
    sns.heatmap(excess[how], cmap="viridis", ax=axis, **scale)
    for (row, column), value in np.ndenumerate(excess[how].to_numpy(float)):
        key = by_cell[how][row][column]
        score = f"{value:.2f}{layer_answers[key].mark}\n" if key in by_layer else ""
        color = "white" if value < 0.6 * top else "black"
        shown_text = score + outcomes.pair_count(cells[key])
        axis.text(column + 0.5, row + 0.5, shown_text, ha="center", va="center", fontsize=6, color=color)
    axis.tick_params(rotation=0)
    axis.set(title=how)
out.figure("layers", figure)

# %%
place_of = dict(zip(layer_pairs, product(*([x for x, _ in places if x[0] == side] for side in "AB")), strict=True))
layers_table = pd.DataFrame(
    {
        "A": place_of[x, y][0],
        "B": place_of[x, y][1],
        "concept": c,
        "matching": how,
        "n": outcomes.pair_count(cells[c, how, x, y]),
        "score": by_layer[c, how, x, y][primary.measure].observed,
        "null": by_layer[c, how, x, y][primary.measure].null_mean,
        "p": layer_answers[c, how, x, y].shuffled,
        "null within parts": within_layer[c, how, x, y][primary.measure].null_mean if c in unions else np.nan,
        "p within parts": layer_answers[c, how, x, y].within if c in unions else np.nan,
        "related A": related[x, c].pairwise.observed if related[x, c] else np.nan,
        "related B": related[y, c].pairwise.observed if related[y, c] else np.nan,
    }
    for (x, y), how, c in product(layer_pairs, matchings, all_concepts)
    if (c, how, x, y) in by_layer
)
two = dict.fromkeys(["score", "null", "null within parts", "related A", "related B"], "{:.2f}")
three = dict.fromkeys(["p", "p within parts"], "{:.3f}")
out.table("layers", layers_table, {**two, **three})

# %%
for kind, of_kind in (("single", base), ("union", unions)):
    mine = [answer for key, answer in layer_answers.items() if key[0] in of_kind]
    out.number(f"cells {kind}", len(mine), "{:d}")
    out.number(f"cells {kind} alike", sum(answer.alike for answer in mine), "{:d}")
out.number("cells union beyond", sum(x.beyond for key, x in layer_answers.items() if key[0] in unions), "{:d}")

# %% [markdown]
# ## Single keywords, and keywords that do not belong together
# Features about one keyword and no other, on both sides the same; and features about one keyword in A against those
# about another in B, paired all the same. A mismatched pair that correlates as well as a matched one would say that
# pairs follow something else than the word.

# %%
keyword_pairs = [*((word, word) for word in keywords["single"]), *map(tuple, keywords["mismatched"])]
words_about = {name: {word: about[name, f"'{word}'"] for word in keywords["single"]} for name in (name_a, name_b)}
keyword_subspace = {
    (x, y): subspaces.pairs_among(
        both.found,
        subspaces.only_about(words_about[name_a], x),
        subspaces.only_about(words_about[name_b], y),
        how="one-to-one",
        least=-1.0,
    )
    for x, y in keyword_pairs
}
keyword_tested = {
    key: subspaces.arrangement(x, scorer._replace(pool=None), m=m, seed=[seed, 9, number])[primary.measure]
    for number, (key, x) in enumerate(keyword_subspace.items())
    if subspaces.enough(x, fewest["one-to-one"])
}
keyword_table = pd.DataFrame(
    {
        "in A": x,
        "in B": y,
        "features A": words_about[name_a][x].sum(),
        "alone A": subspaces.only_about(words_about[name_a], x).sum(),
        "features B": words_about[name_b][y].sum(),
        "alone B": subspaces.only_about(words_about[name_b], y).sum(),
        "pairs": len(keyword_subspace[x, y].a),
        "r held out": tables.average(both.held_out(keyword_subspace[x, y])),
        "score": f"{keyword_tested[x, y].observed:.2f}" if (x, y) in keyword_tested else "too few",
        "p": f"{keyword_tested[x, y].p:.3f}" if (x, y) in keyword_tested else "",
    }
    for x, y in keyword_pairs
)
out.table("keywords", keyword_table, {"r held out": "{:.2f}"})
out.number("keywords asked", len(keyword_pairs), "{:d}")
out.number("keywords without", sum(not len(x) for x in keyword_subspace.values()), "{:d}")
out.number("keywords tested", len(keyword_tested), "{:d}")

# %% [markdown]
# ## Relations inside a concept
# King - queen against man - woman: the difference of two words' features, in either model. Are the differences of a
# relation parallel, and are they arranged alike in both models? The features of a word, or of a group of words, are
# the pair that spends most of its activation on it. Differences with a feature in common are alike in any model: of
# relations that share one the best evidenced alone counts. The null shuffles which features belong to which word and
# rebuilds the differences. In the stories women and men do the same things, so that there that relation has nothing to
# be found.

# %%
one_to_one = pool["one-to-one"]
pair_rows = rows[0][one_to_one.a], rows[1][one_to_one.b]
asked = {
    name: relations.find(one_to_one, (found[name_a], found[name_b]), pairs_, share=relation["share"])
    for name, pairs_ in relation["words"].items()
}
parallel = {
    name: relations.test(x, *pair_rows, m=draws["permutations"], seed=[seed, 5, number])
    for number, (name, x) in enumerate(asked.items())
    if len(x.words) >= relations.FEWEST
}
relation_table = pd.DataFrame(
    {
        "relation": name,
        "asked": len(relation["words"][name]),
        "words without": len(x.missing),
        "one feature": x.merged,
        "shared": x.shared,
        **relations.columns(x, parallel.get(name)),
    }
    for name, x in asked.items()
)
out.table("relations", relation_table)

# %%
out.number("relations tested", len(parallel), "{:d}")
out.number("relations asked", len(asked), "{:d}")
out.number("relation share", 100 * relation["share"], "{:.0f}")
{name: x.words for name, x in asked.items()}, {name: x.missing for name, x in asked.items()}

# %% [markdown]
# ## What do paired features fire on?
# For every concept the pair of the first way with the highest correlation on held-out documents, with the strongest
# token of either feature in its context; *about*: whether both features are about the concept, or one of them.

# %%
at = np.flatnonzero(both.on_matching)
tokens, spellings = a.sites.array("tokens")[at], pipeline.vocabulary(run, name_a)
tops = [labels.label(x.codes[at], tokens, documents[at]) for x in (a, b)]
best = {
    concept: (x, r_x, int(np.nanargmax(r_x)), way)
    for concept in base
    for way in ("1, either side", shown_way)  # the later one counts
    for x in [subspace[concept, way, "many-to-one"]]
    for r_x in [both.held_out(x)]
    if np.isfinite(r_x).any()
}
examples = pd.DataFrame(
    {
        "concept": concept,
        "about": "both" if way == shown_way else "one",
        "r": r_x[i],
        "A": labels.summary(tops[0], [x.a[i]], spellings, most=2)[0],
        "A in context": labels.quote(tops[0], [x.a[i]], spellings, reach=2)[0],
        "B": labels.summary(tops[1], [x.b[i]], spellings, most=2)[0],
        "B in context": labels.quote(tops[1], [x.b[i]], spellings, reach=2)[0],
    }
    for concept, (x, r_x, i, way) in best.items()
)
out.table("examples", examples, {"r": "{:.2f}"})

# %% [markdown]
# ## The published estimator
# The published concept tables give RSA and the correlation of the two first principal components
# (`svcca_first_component`). Of the one-to-one pairs, against a shuffled pairing. The full SVCCA is left out: with as
# many components as pairs it is near 1 whatever the rows hold.

# %%
published = {
    concept: significance.test(
        rows[0][pairs.a],
        rows[1][pairs.b],
        ["svcca_first_component", "rsa_spearman"],
        m=draws["permutations"],
        seed=[seed, 6, number],
    )
    for number, concept in enumerate(all_concepts)
    for pairs in [subspace[concept, shown_way, "one-to-one"]]
    if subspaces.enough(pairs, fewest["one-to-one"])
}
published_table = pd.DataFrame(
    {
        "concept": concept,
        "n": len(subspace[concept, shown_way, "one-to-one"].a),
        **{
            f"{short}{what}": getattr(x[name], field)
            for short, name in (("first component", "svcca_first_component"), ("RSA", "rsa_spearman"))
            for what, field in (("", "observed"), (", null", "null_mean"), (", p", "p"))
        },
    }
    for concept, x in published.items()
)
three = {name: "{:.3f}" for name in published_table if name not in ("concept", "n")}
out.table("published", published_table, three)
out.number("published tested", len(published), "{:d}")
out.number("published first", sum(x["svcca_first_component"].p < level for x in published.values()), "{:d}")

# %% [markdown]
# ## What failed, and the verdict
# A concept is left without an answer where its features are too few, or are not in pairs; a way fails where it finds
# other features than the true ones.

# %%
answers = {
    key[0]: key for key in sorted(main_keys, key=lambda key: key[2] == "one-to-one")
}  # which counts, if both are tested
failures = pd.DataFrame(
    {
        "concept": concept,
        "features A": about[name_a, concept].sum(),
        "features B": about[name_b, concept].sum(),
        "truly A": true[name_a, concept].sum() if classed else np.nan,
        "truly B": true[name_b, concept].sum() if classed else np.nan,
        "pairs, 1-1": len(subspace[concept, shown_way, "one-to-one"].a),
        "pairs, m-1": outcomes.pair_count(subspace[concept, shown_way, "many-to-one"]),
        "outcome": outcomes.outcome(
            about[name_a, concept],
            about[name_b, concept],
            any(len(subspace[concept, shown_way, how].a) >= fewest[how] for how in matchings),
            answered.get(answers.get(concept)),
        ),
    }
    for concept in all_concepts
)
out.table("failures", failures, {"truly A": "{:.0f}", "truly B": "{:.0f}"})
out.number("unanswered", len(all_concepts) - len(answers), "{:d}")

# %%
singles, joined = ({c: answered[key] for c, key in answers.items() if c in group} for group in (base, unions))
out.text("verdict", outcomes.verdict(singles, joined))
held = [concept for concept, key in answers.items() if key in held_against]
special = [c for c in held if placebo_corrected[answers[c]][primary.measure] < level]
out.text("placebo verdict", outcomes.placebo_verdict(len(held), len(special)))
answers, singles, joined, special

# %% [markdown]
# ## Save

# %%
out.save()
