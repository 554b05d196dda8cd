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
# **What would count as a no.** Scores that a shuffled pairing inside the concept reaches as easily; or that random
# pairs and the pairs of lists of other words reach as easily, which would make all features alike, not concepts. Too
# few pairs for any answer is neither.

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
    "a": ["two_layer_0_block0", "two_layer_0"],
    "b": ["three_layer_block0", "three_layer_block1", "three_layer"],
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

from sae_utils import params, pipeline, report
from sae_utils.chance import comparison, corrections, nulls, significance
from sae_utils.pairing import labels
from sae_utils.studies import concepts, contexts, placebos, relatedness, relations, subspaces, unsupervised, words

# %%
run = params.start(profile, "05_semantic_subspaces")
out = report.Report(run, "05_semantic_subspaces")
primary = run.common.primary
name_a, name_b = primary.pair
features = pipeline.features_of(run, dict.fromkeys([*layers["a"], *layers["b"], name_a, name_b]))
both = pipeline.pair(features[name_a], features[name_b], pairing["candidates"])
a, b = both.a, both.b

# %% [markdown]
# ## Which words stand for a concept?
# Lists that were fixed beforehand, matched as whole words without regard to case; a word that the tokenizer splits
# counts at its last token. Beside the lists of the set stand unions of them, and single keywords. With the stories, a
# list holds some of the words of several true classes.

# %%
text = words.read(run, name_a, a.sites)
documents, classes = a.sites.array("documents"), a.sites.array("classes")
found = {
    name: concepts.evidence(x.codes, text, documents, both.on_matching, k=labelling["tops"])
    for name, x in features.items()
}
base = concepts.read(concept_set)
lists = concepts.combined(base, unions, keywords, where=f"params/{profile}.yaml: 05_semantic_subspaces")
listed = {concept: concepts.member(list_, found[name_a]) for concept, list_ in lists.items()}
is_single = {concept: concept not in base and concept not in unions for concept in lists}
whole = [concept for concept in lists if not is_single[concept]]
nothing = pd.DataFrame({"result": ["none: too few pairs or features"]})  # for a table without rows

# %%
absent = {concept: concepts.absent(lists[concept], found[name_a]) for concept in lists}
told_lists = pd.DataFrame(
    {
        "concept": concept,
        "words": len(lists[concept]),
        "absent": len(absent[concept]),
        "tokens": 100 * found[name_a].occurs[listed[concept]].sum() / both.on_matching.sum(),
        "such as": " ".join(lists[concept][:5]),
    }
    for concept in lists
)
out.table("lists", told_lists, {"tokens": "{:.1f}"})
out.number("concepts", len(base), "{:d}")
out.number("listed words", sum(map(len, base.values())), "{:,}")
out.number("absent words", sum(len(absent[concept]) for concept in base), "{:,}")
absent

# %% [markdown]
# ## How well does a rule find a concept's features?
# A rule looks at what a feature fires on in the matching documents; the first of the rules is in use. Where the true
# class of every token is known, a feature is truly about a concept if it spends at least a given share of its
# activation, on held-out documents, on the true classes of the concept's words, listed or not. Features that hardly
# fire are left out.

# %%
live = {name: x.firings >= labelling["minimum_firings"] for name, x in found.items()}
known = bool((classes >= 0).any())
true = {
    (name, concept): concepts.spent(x.codes, classes, concepts.true_classes(lists[concept]), both.on_held_out)
    >= labelling["truth_share"]
    if known
    else None
    for (name, x), concept in product(features.items(), whole)
}
chosen_rule = concepts.rule(rules[0])

# %%
judged = {
    (number, name): [
        concepts.judge(
            concepts.about(found[name], listed[concept], concepts.rule(value)) & live[name],
            true[name, concept] & live[name] if known else None,
        )
        for concept in base
    ]
    for (number, value), name in product(enumerate(rules), (name_a, name_b))
}

# %%
by_rule = pd.DataFrame(
    {
        "rule": concepts.told(concepts.rule(rules[number])),
        "side": "A" if name == name_a else "B",
        "features": sum(x.n for x in judged[number, name]),
        "concepts found": sum(x.n > 0 for x in judged[number, name]),
        "precision": comparison.average(np.array([x.precision for x in judged[number, name]])),
        "recall": comparison.average(np.array([x.recall for x in judged[number, name]])),
    }
    for number, name in judged
)
out.table("rules", by_rule, dict.fromkeys(["precision", "recall"], "{:.2f}"))
out.text("rule", concepts.told(chosen_rule))
out.text("truth known", "is known" if known else "is not known")

# %%
about = {
    (name, concept): concepts.about(found[name], listed[concept], chosen_rule) & live[name]
    for name, concept in product(features, lists)
}
own = [concepts.judge(about[name, concept], true[name, concept]) for name in (name_a, name_b) for concept in base]
out.number("precision", comparison.average(np.array([x.precision for x in own])))
out.number("recall", comparison.average(np.array([x.recall for x in own])))
out.number("truth share", 100 * labelling["truth_share"], "{:.0f}")
pd.DataFrame({name: {concept: about[name, concept].sum() for concept in lists} for name in features})

# %% [markdown]
# ## How deep do a concept's features lie?
# Share of the live features of every dictionary that are about a concept.

# %%
depth = pd.DataFrame(
    {name: {concept: about[name, concept].sum() / live[name].sum() for concept in whole} for name in features}
)
figure, axes = plt.subplots(figsize=(0.75 * len(features) + 1.6, 0.24 * len(whole) + 1.2))
sns.heatmap(100 * depth, annot=True, fmt=".0f", cmap="Blues", ax=axes, cbar_kws={"label": "% of live features"})
axes.set_xticks(np.arange(len(features)) + 0.5, [name.replace("_", " ") for name in features], rotation=30, ha="right")
out.figure("depth", figure)

# %%
first_a, last_a, first_b, last_b = (
    depth[name].mean() for name in (layers["a"][0], layers["a"][-1], layers["b"][0], layers["b"][-1])
)
for name, value in (("first a", first_a), ("last a", last_a), ("first b", first_b), ("last b", last_b)):
    out.number(f"depth {name}", 100 * value, "{:.0f}")

# %% [markdown]
# ## Are the words of a concept's features related?
# By word2vec, which neither model had a part in: mean cosine of two different words among the top tokens of a concept's
# features, against as many random features of the same dictionary.

# %%
spelt = {name: relatedness.words_of(x.top, x.words) for name, x in found.items()}
every_word = sorted(set().union(*(words_ for name in found for words_ in spelt[name])))
known_vectors = relatedness.vectors(vectors, run.corpus, every_word)
related = {
    (name, concept): relatedness.related(
        np.flatnonzero(about[name, concept]),
        np.flatnonzero(live[name]),
        spelt[name],
        known_vectors,
        m=draws["relatedness"],
        seed=seed,
    )
    for name, concept in product(features, whole)
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
        "random ": x.centroid.null_mean,
        "p ": x.centroid.p,
    }
    for concept in whole
    for side, x in (("A", related[name_a, concept]), ("B", related[name_b, concept]))
    if x
)
cosines = dict.fromkeys(["pairwise", "random", "centroid", "random "], "{:.2f}")
relatedness_shown = {"unknown": "{:.0f}", **cosines, "p": "{:.3f}", "p ": "{:.3f}"}
out.table("relatedness", *((relatedness_table, relatedness_shown) if len(relatedness_table) else (nothing,)))

# %%
scored = [related[name, c] for name, c in product((name_a, name_b), base) if related[name, c]]
out.number("related sets", len(scored), "{:d}")
out.number("related found", sum(x.pairwise.p < 0.05 for x in scored), "{:d}")
out.number("unknown words", 100 * (1 - len(known_vectors.place) / max(len(every_word), 1)), "{:.0f}")
out.text("vectors", {"corpus": "trained on the corpus", "file": "from a file"}.get(vectors["kind"], "downloaded"))

# %% [markdown]
# ## How many pairs does an answer take?
# Features are paired one-to-one (greedily: the best first) or each of A with its best of B, above a least correlation.
# Random subsets of all pairs are tested by the primary measure as a subspace would be. The fewest pairs that find the
# similarity of all pairs often enough are the fewest that are tested here; a smaller subspace has *too few*.

# %%
matchings = ["one-to-one", "many-to-one"]
every = {how: subspaces.everything(both.found, how, pairing["least_r"]) for how in matchings}
pool = {how: subspaces.kept(p, live[name_a], live[name_b], sides="both") for how, p in every.items()}
rows = a.decoder, b.decoder
power = {
    how: subspaces.power(
        p,
        *rows,
        primary.measure,
        power_curve["sizes"],
        neighbours=scoring["neighbours"],
        trials=power_curve["trials"],
        m=power_curve["draws"],
        level=0.05,
        seed=seed,
    )
    for how, p in pool.items()
}
fewest = {how: subspaces.fewest(power_curve["sizes"], x, power_curve["wanted"]) for how, x in power.items()}

# %%
figure, axes = plt.subplots(figsize=(3.4, 2.2))
for (how, x), color in zip(power.items(), (report.PAIRED, "C1"), strict=True):
    axes.plot(power_curve["sizes"], x, "o-", markersize=3, color=color, label=how)
axes.axhline(power_curve["wanted"], color=report.NULL, linewidth=0.8)
axes.axhline(0.05, color=report.NULL, linewidth=0.8, linestyle=":")
axes.set(xlabel="pairs", ylabel="share with p at most 0.05", ylim=(-0.03, 1.03), xscale="log")
axes.set_xticks(power_curve["sizes"], map(str, power_curve["sizes"]))
axes.minorticks_off()
axes.legend()
out.figure("power", figure)
for how in matchings:
    out.number(f"fewest {how}", fewest[how], "{:d}")
    out.number(f"all {how}", len(pool[how].a), "{:,}")
out.number("power", 100 * power_curve["wanted"], "{:.0f}")
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
        ("1, both sides", partial(subspaces.kept, every[how], sides="both")),
        ("1, either side", partial(subspaces.kept, every[how], sides="either")),
        ("2", partial(subspaces.within, both.found, how=how, least=pairing["least_r"])),
    )
}
subspace = {
    (concept, *way): step(about[name_a, concept], about[name_b, concept])
    for concept, (way, step) in product(whole, ways.items())
}
pd.Series({key: len(x.a) for key, x in subspace.items()}).unstack([1, 2]).loc[whole]

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
naming = {way: found_ if way == "LDA" else unsupervised.named(found_, label[here]) for way, found_ in clustered.items()}
subspace |= {
    (concept, f"3, {way}", how): unsupervised.carried(here[names == number], pool[how])
    for (way, names), how, (number, concept) in product(naming.items(), matchings, enumerate(base))
}

# %%
in_b = {
    (way, how, number): unsupervised.compact(
        x.b, pool[how].b, b.decoder, m=draws["permutations"], seed=[seed, 3, number]
    )
    for (way, found_), how in product(clustered.items(), matchings)
    for number in np.unique(found_[found_ >= 0])
    for x in [unsupervised.carried(here[found_ == number], pool[how])]
}
carried = pd.DataFrame(
    {
        "clusters of A by": way,
        "matching": how,
        "clusters": len(mine),
        "in one": 100 * np.mean(clustered[way] >= 0),
        "two in B": sum(x is not None for x in mine),
        "cosine in B": comparison.average(np.array([x.observed for x in mine if x])),
        "random": comparison.average(np.array([x.null_mean for x in mine if x])),
        "p < .05": sum(x.p < 0.05 for x in mine if x),
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
# pairs outside the concept. *Corrected*: by the largest z over all concepts, ways and measures.

# %%
recovered = {key: subspaces.recovered(x, true[name_a, key[0]], true[name_b, key[0]]) for key, x in subspace.items()}

# %%
tested = {
    key: subspaces.arranged(
        x, *rows, scoring["measures"], neighbours=scoring["neighbours"], m=draws["permutations"], seed=[seed, number]
    )
    for number, (key, x) in enumerate(subspace.items())
    if subspaces.enough(x, fewest[key[2]])
}
for number, key in enumerate(subspace):
    if key in tested:
        fitted = subspaces.aligned_test(
            subspace[key], pool["one-to-one"], *rows, m=draws["permutations"], seed=[seed, number]
        )
        tested[key] |= {fitted.measure: fitted}
adjusted = corrections.maximum_of_z(tested)

# %%
by_way = pd.DataFrame(
    {
        "way": way,
        "matching": how,
        "pairs": np.median([len(subspace[key].a) for key in keys]),
        "r held out": comparison.average(np.concatenate([both.held_out(subspace[key]) for key in keys])),
        "precision": comparison.average(np.array([recovered[key].precision for key in keys])),
        "recall": comparison.average(np.array([recovered[key].recall for key in keys])),
        "tested": sum(key in tested for key in keys),
        "p < .05": sum(tested[key][primary.measure].p < 0.05 for key in keys if key in tested),
        "corrected": sum(adjusted[key][primary.measure] < 0.05 for key in keys if key in tested),
    }
    for way, how in dict.fromkeys(key[1:] for key in subspace)
    for keys in [[key for key in subspace if key[1:] == (way, how)]]
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
        "n": len(subspace[concept, shown_way, how].a),
        "measure": name.replace("_", " "),
        "observed": x.observed,
        "null": x.null_mean,
        "null SD": x.null_sd,
        "excess": x.excess,
        "z": x.z,
        "p": x.p,
        "corrected": adjusted[concept, shown_way, how][name],
    }
    for (concept, way, how), results in tested.items()
    for name, x in results.items()
    if way == shown_way
)
shown = dict.fromkeys(["observed", "null", "null SD", "excess"], "{:.2f}")
p_shown = {"p": "{:.3f}", "corrected": "{:.3f}"}
out.table("arranged", *((arranged, {**shown, "z": "{:.1f}", **p_shown}) if len(arranged) else (nothing,)))

# %%
overview = pd.DataFrame(
    {
        "concept": concept,
        **{
            f"{what}, {short}": value
            for how, short in zip(matchings, ("1-1", "m-1"), strict=True)
            for what, value in subspaces.told(
                subspace[concept, shown_way, how],
                tested.get((concept, shown_way, how), {}).get(primary.measure),
            ).items()
        },
        "related": related[name_a, concept].pairwise.observed if related[name_a, concept] else np.nan,
    }
    for concept in whole
)
out.table("overview", overview, {"related": "{:.2f}"})

# %%
main_keys = [key for key in tested if key[1] == shown_way]
for how in matchings:
    here_tested = [key for key in main_keys if key[2] == how]
    out.number(f"tested {how}", len(here_tested), "{:d}")
    out.number(f"found {how}", sum(tested[key][primary.measure].p < 0.05 for key in here_tested), "{:d}")
    out.number(f"corrected {how}", sum(adjusted[key][primary.measure] < 0.05 for key in here_tested), "{:d}")
out.number("sets", len(whole), "{:d}")
out.number("permutations", draws["permutations"], "{:,}")
out.number("family", sum(map(len, tested.values())), "{:d}")

# %% [markdown]
# ## Is it the concept, or would any such pairs do?
# Four other things to hold a subspace against, each of as many pairs: pairs of other concepts; random pairs (two-sided:
# a concept may be arranged *less* alike); and placebo lists, other words of like frequency whose features are labelled
# and paired anew, kept where they are like the concept's pairs in firings and correlation; placebos that are too far
# from the concept's in either are no null of it.

# %%
named = {how: subspaces.union([subspace[c, shown_way, how] for c in base]) for how in matchings}
others = {
    (concept, how): subspaces.without(named[how], subspace[concept, shown_way, how])
    for concept, how in product(whole, matchings)
}
beside = {
    (key, name): subspaces.random_subsets(
        subspace[key],
        drawn_from,
        *rows,
        scoring["measures"],
        name=name,
        neighbours=scoring["neighbours"],
        m=draws["permutations"],
        seed=[seed, 1, number],
    )
    for number, key in enumerate(tested)
    if key[1] == shown_way
    for name, drawn_from in (("random pairs", pool[key[2]]), ("other concepts", others[key[0], key[2]]))
    if len(drawn_from.a) > len(subspace[key].a)
}

# %%
lists_drawn = {
    key: placebos.drawn(
        subspace[key],
        (found[name_a], found[name_b]),
        (live[name_a], live[name_b]),
        listed[key[0]],
        chosen_rule,
        ways[key[1:]],
        m=draws["placebo_lists"],
        seed=seed,
    )
    for key in tested
    if key[1] == shown_way
}
held_against = {
    key: placebos.against(
        subspace[key], x, *rows, scoring["measures"], pool["one-to-one"], neighbours=scoring["neighbours"]
    )
    for key, x in lists_drawn.items()
    if x.apart <= placebos.TOO_FAR
}

# %%
nulls_of = {
    key: {
        "shuffled": tested[key],
        "others": beside.get((key, "other concepts"), {}),
        "random": beside.get((key, "random pairs"), {}),
        "placebo": held_against.get(key, {}),
    }
    for key in lists_drawn
}
secondary = pd.DataFrame(
    {
        "concept": key[0],
        "matching": key[2],
        "n": len(subspace[key].a),
        "measure": name.replace("_", " "),
        "observed": tested[key][name].observed,
        **{f"{null}": x[name].null_mean if name in x else np.nan for null, x in held.items()},
        **{
            f"p {null}": np.nan if name not in x else subspaces.two_sided(x[name]) if null == "random" else x[name].p
            for null, x in held.items()
        },
    }
    for key, held in nulls_of.items()
    for name in tested[key]
)
if len(secondary):
    primary_only = secondary[secondary.measure == primary.measure.replace("_", " ")].drop(columns="measure")
    two, three = (list(primary_only.columns[i:j]) for i, j in ((3, 8), (8, 12)))
    out.table("secondary", primary_only, {**dict.fromkeys(two, "{:.2f}"), **dict.fromkeys(three, "{:.3f}")})
else:
    out.table("secondary", nothing)
secondary

# %%
alike = pd.DataFrame(
    {
        "concept": key[0],
        "matching": key[2],
        "lists": len(x.a),
        "failed": x.failed,
        "apart": x.apart,
        "r": x.wanted[1],
        "r of placebos": x.alike[:, 1].mean() if len(x.a) else np.nan,
        "firings": np.expm1(x.wanted[0]),
        "firings of placebos": np.expm1(x.alike[:, 0].mean()) if len(x.a) else np.nan,
    }
    for key, x in lists_drawn.items()
)
columns = {
    "apart": "{:.2f}",
    "r": "{:.2f}",
    "r of placebos": "{:.2f}",
    "firings": "{:,.0f}",
    "firings of placebos": "{:,.0f}",
}
out.table("placebos", *((alike, columns) if len(alike) else (nothing,)))
out.number("placebo lists", draws["placebo_lists"], "{:,}")
beaten = list(held_against)
out.number("placebos tested", len(beaten), "{:d}")
out.number("placebos beaten", sum(held_against[key][primary.measure].p < 0.05 for key in beaten), "{:d}")

# %% [markdown]
# ## Is a union more than its parts?
# That the parts of a union lie apart in both models makes it alike, however the pairs of a part are arranged. Beside
# the shuffled pairing stands one that shuffles within the parts only; features about none of them are a part of
# their own.

# %%
in_union = [key for key in tested if key[0] in unions and key[2] == "one-to-one" and key[1] == shown_way]
within_parts = {
    key[0]: significance.test(
        *(side[index] for side, index in zip(rows, subspace[key][:2], strict=True)),
        [primary.measure],
        null=nulls.strata(label[subspace[key].a], name="shuffled within the parts"),
        m=draws["permutations"],
        seed=[seed, 7],
    )[primary.measure]
    for key in in_union
}
parts = pd.DataFrame(
    {
        "union": key[0],
        "n": within_parts[key[0]].n,
        "observed": within_parts[key[0]].observed,
        "null": tested[key][primary.measure].null_mean,
        "p": tested[key][primary.measure].p,
        "null within parts": within_parts[key[0]].null_mean,
        "p within parts": within_parts[key[0]].p,
        "can move": within_parts[key[0]].movable,
    }
    for key in in_union
)
parts_shown = {
    **dict.fromkeys(["observed", "null", "null within parts", "can move"], "{:.2f}"),
    **dict.fromkeys(["p", "p within parts"], "{:.3f}"),
}
out.table("parts", *((parts, parts_shown) if len(parts) else (nothing,)))
out.number("parts tested", len(within_parts), "{:d}")
out.number("parts found", sum(x.p < 0.05 and not x.undetermined for x in within_parts.values()), "{:d}")

# %% [markdown]
# ## At every pair of layers
# The first way, both sides, at every pair of dictionaries: excess over a shuffled pairing by the primary measure, and
# the pairs in each cell; grey where there are too few. *Corrected* here is over concepts, layers and measures.

# %%
layer_pairs = {
    (x, y): pipeline.pair(features[x], features[y], pairing["candidates"]) for x, y in product(layers["a"], layers["b"])
}
cells = {
    (concept, how, x, y): subspaces.kept(paired, about[x, concept], about[y, concept], sides="both")
    for ((x, y), met), how in product(layer_pairs.items(), matchings)
    for paired in [subspaces.everything(met.found, how, pairing["least_r"])]
    for concept in whole
}
decoders = {name: x.decoder for name, x in features.items()}
by_layer = {
    key: subspaces.arranged(
        pairs,
        decoders[key[2]],
        decoders[key[3]],
        scoring["measures"],
        neighbours=scoring["neighbours"],
        m=draws["permutations"],
        seed=[seed, 2, number],
    )
    for number, (key, pairs) in enumerate(cells.items())
    if subspaces.enough(pairs, fewest[key[1]])
}
corrected = corrections.maximum_of_z(by_layer)

# %%
columns = [f"A{x + 1} x B{y + 1}" for x, y in np.ndindex(len(layers["a"]), len(layers["b"]))]
excess, pairs_in = (
    {
        how: pd.DataFrame([[value(c, how, x, y) for x, y in layer_pairs] for c in whole], index=whole, columns=columns)
        for how in matchings
    }
    for value in (
        lambda *key: by_layer[key][primary.measure].excess if key in by_layer else np.nan,
        lambda *key: len(cells[key].a),
    )
)

# %%
figure, axes = plt.subplots(1, 2, figsize=(5.5, 0.27 * len(whole) + 1.2), sharey=True)
for axis, how in zip(axes, matchings, strict=True):
    axis.set_facecolor("#e5e5e5")
    scale = {"vmin": 0, "vmax": 0.6, "cbar": how == matchings[-1], "cbar_kws": {"label": "excess"}}
    sns.heatmap(excess[how], cmap="viridis", ax=axis, **scale)
    for (row, column), value in np.ndenumerate(excess[how].to_numpy(float)):
        shown_text = (f"{value:.2f}\n" if np.isfinite(value) else "") + f"n {pairs_in[how].iloc[row, column]}"
        color = "white" if value < 0.35 else "black"
        axis.text(column + 0.5, row + 0.5, shown_text, ha="center", va="center", fontsize=5, color=color)
    axis.tick_params(axis="x", rotation=30)
    axis.tick_params(axis="y", rotation=0)
    axis.set(title=how)
out.figure("layers", figure)

# %%
for side, layers_ in layers.items():
    numbered = ", ".join(f"{side.upper()}{i} {name.replace('_', ' ')}" for i, name in enumerate(layers_, 1))
    out.text(f"layers {side}", numbered)

# %%
layers_table = pd.DataFrame(
    {
        "A": x.replace("_", " "),
        "B": y.replace("_", " "),
        "concept": c,
        "matching": how,
        "n": by_layer[c, how, x, y][primary.measure].n,
        "score": by_layer[c, how, x, y][primary.measure].observed,
        "null": by_layer[c, how, x, y][primary.measure].null_mean,
        "p": by_layer[c, how, x, y][primary.measure].p,
        "corrected": corrected[c, how, x, y][primary.measure],
        "related A": related[x, c].pairwise.observed if related[x, c] else np.nan,
        "related B": related[y, c].pairwise.observed if related[y, c] else np.nan,
    }
    for (x, y), how, c in product(layer_pairs, matchings, whole)
    if (c, how, x, y) in by_layer
)
two = dict.fromkeys(["score", "null", "related A", "related B"], "{:.2f}")
out.table("layers", *((layers_table, {**two, **p_shown}) if len(layers_table) else (nothing,)))
out.number("cells", len(whole) * len(layer_pairs) * len(matchings), "{:d}")
out.number("cells tested", len(layers_table), "{:d}")
out.number("cells found", (layers_table.corrected < 0.05).sum() if len(layers_table) else 0, "{:d}")

# %% [markdown]
# ## Single keywords, and keywords that do not belong together
# Features about one keyword, on both sides the same; and features about one keyword in A against those about another in
# B, paired all the same. A mismatched pair that correlates as well as a matched one would say that pairs follow
# something else than the word.

# %%
keyword_pairs = [(f"'{x}'", f"'{x}'") for x in keywords["single"]] + [
    (f"'{x}'", f"'{y}'") for x, y in keywords["mismatched"]
]
met = {
    key: subspaces.within(both.found, about[name_a, key[0]], about[name_b, key[1]], how="many-to-one", least=-1.0)
    for key in keyword_pairs
}
keyword_table = pd.DataFrame(
    {
        "in A": one.strip("'"),
        "in B": other.strip("'"),
        "features A": about[name_a, one].sum(),
        "features B": about[name_b, other].sum(),
        "r": comparison.average(met[one, other].r),
        "r held out": comparison.average(both.held_out(met[one, other])),
        "best r": met[one, other].r.max() if len(met[one, other].r) else np.nan,
    }
    for one, other in keyword_pairs
)
out.table("keywords", keyword_table, dict.fromkeys(["r", "r held out", "best r"], "{:.2f}"))
matched_r, mismatched_r = (
    comparison.average(keyword_table["r held out"][(keyword_table["in A"] == keyword_table["in B"]) == same].to_numpy())
    for same in (True, False)
)
out.number("matched keywords r", matched_r)
out.number("mismatched keywords r", mismatched_r)


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
        "words without": len(x.without),
        "one feature": x.merged,
        "shared": x.shared,
        **relations.told(x, parallel.get(name)),
    }
    for name, x in asked.items()
)
out.table("relations", relation_table)

# %%
out.number("relations tested", len(parallel), "{:d}")
out.number("relations asked", len(asked), "{:d}")
out.number("relation share", 100 * relation["share"], "{:.0f}")
{name: x.words for name, x in asked.items()}, {name: x.without for name, x in asked.items()}

# %% [markdown]
# ## What do paired features fire on?
# For every concept the pair of the first way with the highest correlation on held-out documents, with the strongest
# token of either feature in its context; *about*: whether both features are about the concept, or one of them.

# %%
at = np.flatnonzero(both.on_matching)
tokens, spellings = a.sites.array("tokens")[at], contexts.vocabulary(run, name_a)
told = [labels.label(x.codes[at], tokens, documents[at]) for x in (a, b)]
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
        "A": contexts.distinct(told[0], [x.a[i]], spellings, most=2)[0],
        "A in context": contexts.quote(told[0], [x.a[i]], spellings, reach=2)[0],
        "B": contexts.distinct(told[1], [x.b[i]], spellings, most=2)[0],
        "B in context": contexts.quote(told[1], [x.b[i]], spellings, reach=2)[0],
    }
    for concept, (x, r_x, i, way) in best.items()
)
out.table("examples", *((examples, {"r": "{:.2f}"}) if len(examples) else (nothing,)))

# %% [markdown]
# ## The published estimator
# The published concept tables give RSA and the correlation of the two first principal components
# (`svcca_first_component`). Of the one-to-one pairs, against a shuffled pairing. The full SVCCA is left out: with as
# many components as pairs it is near 1 whatever the rows hold.

# %%
published = {
    concept: significance.test(
        *(side[index] for side, index in zip(rows, subspace[concept, shown_way, "one-to-one"][:2], strict=True)),
        ["svcca_first_component", "rsa_spearman"],
        m=draws["permutations"],
        seed=[seed, 6, number],
    )
    for number, concept in enumerate(whole)
    if len(subspace[concept, shown_way, "one-to-one"].a) >= fewest["one-to-one"]
}
published_table = pd.DataFrame(
    {
        "concept": concept,
        "n": len(subspace[concept, shown_way, "one-to-one"].a),
        **{
            f"{short}{what}": f"{getattr(published[concept][name], field):.3f}" if concept in published else empty
            for short, name in (("first component", "svcca_first_component"), ("RSA", "rsa_spearman"))
            for what, field, empty in (("", "observed", "too few"), (", null", "null_mean", ""), (", p", "p", ""))
        },
    }
    for concept in whole
)
out.table("published", published_table)
out.number("published tested", len(published), "{:d}")
out.number("published first", sum(x["svcca_first_component"].p < 0.05 for x in published.values()), "{:d}")

# %% [markdown]
# ## What failed, and the verdict
# A concept is left without an answer where its features are too few, or are not in pairs; a way fails where it finds
# other features than the true ones.

# %%
failures = pd.DataFrame(
    {
        "concept": concept,
        "features A": about[name_a, concept].sum(),
        "features B": about[name_b, concept].sum(),
        "truly A": true[name_a, concept].sum() if known else np.nan,
        "truly B": true[name_b, concept].sum() if known else np.nan,
        "pairs, 1-1": len(subspace[concept, shown_way, "one-to-one"].a),
        "pairs, m-1": len(subspace[concept, shown_way, "many-to-one"].a),
        "outcome": subspaces.outcome(
            about[name_a, concept],
            about[name_b, concept],
            *(tested.get((concept, shown_way, how), {}).get(primary.measure) for how in matchings),
        ),
    }
    for concept in whole
)
out.table("failures", failures, {"truly A": "{:.0f}", "truly B": "{:.0f}"})
out.number("unanswered", sum("too few" in x or "no feature" in x for x in failures.outcome), "{:d}")
out.number("empty subspaces", (failures["pairs, m-1"] == 0).sum(), "{:d}")

# %%
answers = {key[0]: key for key in sorted(main_keys, key=lambda key: key[2] == "one-to-one")}  # which counts, if tested
alike = [concept for concept, key in answers.items() if adjusted[key][primary.measure] < 0.05]
held = [concept for concept, key in answers.items() if key in held_against]
special = [concept for concept in held if held_against[answers[concept]][primary.measure].p < 0.05]
out.text(
    "verdict",
    f"{comparison.among(list(answers), alike)} sets with pairs enough are arranged more alike than a shuffled pairing, "
    "corrected for all tests"
    if answers
    else "no set has pairs enough for an answer",
)
out.text(
    "special verdict",
    f"{comparison.among(held, special)} that could be held against placebo lists are so beyond them"
    if held
    else "none could be held against placebo lists",
)
answers, alike, special

# %% [markdown]
# ## Save

# %%
out.save()
