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
# # Across tokenizers
#
# **Question.** Can the features of two models be compared when the models cut the text into different tokens, and what
# does that cost?
#
# **In.** Codes and decoder rows of dictionaries whose models read words and pieces of words; of one more with the
# tokenizer of the first, and of a negative control; the text. **Out.** The positions that two tokenizations share, and
# the share of tokens that is; at these positions, by each way to join the codes of a word's pieces: pairs, their
# held-out correlation, and the similarity of their decoder rows against a shuffled pairing, beside the same for one
# tokenizer and for the negative control. All of it is secondary to the primary analysis.
#
# **What would count as a no.** Few shared positions; correlations that positions which do not belong together reach as
# easily; a similarity that a shuffled pairing, or the negative control, reaches as easily; an answer that depends on
# how the codes of pieces are joined.

# %% tags=["parameters"]
profile = "smoke"
comparisons = [
    ["one_layer_0", "bpe", "two_layer_block0_0", "scrambled"],
    ["two_layer_0", "bpe", "one_layer_0", "scrambled"],
]
tokenizers = {"words": ["word", 4000], "pieces": ["bpe", 1000], "small pieces": ["bpe", 400]}
at = "words"
candidates = 16
counterpart = 0.5
permuted = 9
permutations = 199
fewest = 8
subsets = 3
subset_draws = 19
near = 0.7
bins = 3
seed = 0

# %%
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sae_utils import correlate, inference, labels, matching, measures, pipeline, profiles, report, significance, tables
from sae_utils.engine.text import alignment, corpora, tokenization
from sae_utils.studies import across_tokenizers, feature_matching
from sae_utils.studies.layer_sweep import cells

# %%
run = profiles.start(profile, "11_across_tokenizers")
out = report.Report(run, "11_across_tokenizers")
out.needs(comparisons, "no models with different tokenizers")
measure, source = run.common.primary.measure, corpora.text(run.corpus)
compared = {}
for a, across, within, negative in comparisons:
    name = f"{a} x {across}"
    name += f" ({within}, {negative})" if name in compared else ""
    compared[name] = {"a": a, "across": across, "within": within, "negative": negative}

# %% [markdown]
# ## Where do two tokenizations meet?
# Tokens are aligned by the characters at which they end: there, both models have read the same text. A *position* is
# an end of a token on both sides (*ends*), or only one at which a word ends as well (*words*). The text since the
# position before is its *unit*, which is *in pieces* where it is several tokens of one side. With itself, every
# tokenizer must share every token, with no unit in pieces.

# %%
spans = {
    name: alignment.load(alignment.spans(source, tokenization.train(source, kind, vocabulary)))
    for name, (kind, vocabulary) in tokenizers.items()
}
both_ways = list(itertools.product(itertools.combinations_with_replacement(spans, 2), ("ends", "words")))
units = {(a, b, kind): alignment.share(spans[a], spans[b], kind) for (a, b), kind in both_ways}

# %%
shares = pd.DataFrame(
    {
        "A": a,
        "B": b,
        "positions": kind,
        "n": len(x.last_a),
        "of A": len(x.last_a) / len(spans[a].ends),
        "of B": len(x.last_b) / len(spans[b].ends),
        "in pieces": x.several().mean(),
    }
    for (a, b, kind), x in units.items()
)
shares.round(2)

# %%
itself = shares[(shares.A == shares.B) & (shares.positions == "ends")].set_index("A")
same = itself.index[(itself[["of A", "of B", "in pieces"]] == [1, 1, 0]).all(axis=1)]
out.text("identity", tables.among(list(tokenizers), same))
itself

# %% [markdown]
# ## The positions of the models
# The same for the models that are compared, on the judged documents, without what is masked. A long document becomes
# several rows, and not at the same words for both models: *same opening* is the share of the positions at which both
# rows begin at one character, so that both models have read the same text.

# %%
positions = {name: across_tokenizers.align(run, x["a"], x["across"], at) for name, x in compared.items()}
fields = {"tokens": "n", "of_a": "of A", "of_b": "of B", "pieces": "in pieces", "same_opening": "same opening"}
placed = pd.DataFrame(
    {"A": x["a"], "B": x["across"], **{column: positions[name].meta[field] for field, column in fields.items()}}
    for name, x in compared.items()
)
for column in placed.columns[3:]:
    out.number(column, 100 * placed[column][0], "{:.0f}")
out.number("positions", placed.n[0], "{:,}")
out.text("at", {"ends": "where tokens of both end", "words": "where tokens of both end and a word does"}[at])
placed

# %% [markdown]
# Units in pieces, in the first comparison: the tokens of A and of B.

# %%
first_name, first = next(iter(compared.items()))
kept, shown = positions[first_name], {}
several = np.flatnonzero(kept.array("pieces"))[:100]
for side, name in (("a", first["a"]), ("b", first["across"])):
    words, tokens = pipeline.vocabulary(run, name), pipeline.features(run, name).sites.array("tokens")
    ranges = zip(kept.array(f"first_{side}")[several], kept.array(f"last_{side}")[several], strict=True)
    shown[side.upper()] = [" + ".join(words[t] for t in tokens[begin : end + 1]) for begin, end in ranges]
pd.DataFrame(shown).drop_duplicates()[:5]

# %% [markdown]
# ## Pairs at shared positions
# The codes of a unit are those of its *last* token, or their *mean* or *max* over all of its tokens. From here on
# nothing differs from models with one tokenizer: mutual pairs, found on the matching documents and judged on the
# held-out ones, and once more with the two roles exchanged (means of both). *One tokenizer*: the same A with a
# dictionary whose model reads what A's does, at the same positions. *Negative control*: the same B with a dictionary of
# a model that should arrange its features otherwise. Two checks on the held-out documents: *one off*, the r of the same
# pairs with B one position later; *by chance*, their |r|, the larger of two nulls: with the documents of B in another
# order, which ignores topics, and with its positions permuted within documents, which ignores runs of firing.

# %%
one_tokenizer, control = "one tokenizer", "negative control"
kinds = {kind: (kind, "a", "across") for kind in across_tokenizers.AGGREGATIONS}
kinds |= {one_tokenizer: ("last", "a", "within"), control: ("last", "negative", "across")}
of = {(name, kind): (x[a], x[b]) for name, x in compared.items() for kind, (_, a, b) in kinds.items()}
sides = {
    (name, kind): [across_tokenizers.features(run, x, positions[name], kinds[kind][0]) for x in both]
    for (name, kind), both in of.items()
}
both = {key: pipeline.correlated(*features, candidates) for key, features in sides.items()}
mutual = {key: matching.mutual(x.found) for key, x in both.items()}
found = {key: cells.matched(a.kept, b.kept, a.sites, candidates, counterpart) for key, (a, b) in sides.items()}
across = [key for key in found if key[1] in across_tokenizers.AGGREGATIONS]

# %%
off, chance = {}, {}
for key, (a, b) in sides.items():
    held_out, p = np.flatnonzero(both[key].on_held_out), mutual[key]
    off[key] = correlate.pairs(a.codes, b.codes, p.a, p.b, rows=held_out[:-1], rows_b=held_out[1:])
    documents = a.sites.array("documents")
    drawn = feature_matching.unrelated(a.codes, b.codes, p, held_out, documents, m=permuted, seed=seed)
    chance[key] = max(tables.average(np.abs(r)) for r in drawn)

# %%
pairs = pd.DataFrame(
    {
        "A": of[key][0],
        "B": of[key][1],
        "codes": key[1],
        "n": x.meta["pairs"],
        "of A": x.meta["pairs"] / x.meta["live_a"],
        "of B": x.meta["pairs"] / x.meta["live_b"],
        "r": x.meta["r"],
        "held out": x.meta["held_out"],
        "counterparts": x.meta["counterparts"],
        "one off": tables.average(off[key]),
        "by chance": chance[key],
    }
    for key, x in found.items()
)
pair_table = pairs.rename(columns={"counterparts": "counterparts, of fewer"})
out.table("pairs", pair_table, {"n": "{:,}", **dict.fromkeys(pair_table.columns[4:], "{:.2f}")})

# %%
groups = {
    "across": across,
    **{name: [(x, kind) for x in compared] for name, kind in (("within", one_tokenizer), ("control", control))},
}
for name, members in groups.items():
    part = pairs[[key in members for key in found]]
    for column, scale, form in (("counterparts", 100, "{:.0f}"), ("held out", 1, "{:.2f}")):
        out.number(f"least {column} {name}", scale * part[column].min(), form)
        out.number(f"most {column} {name}", scale * part[column].max(), form)
out.number("most one off", pairs["one off"].max())
out.number("most by chance", pairs["by chance"].max())
out.number("counterpart threshold", counterpart, "{:.1f}")
out.number("permuted", permuted, "{:d}")
share = {key: x.meta["counterparts"] for key, x in found.items()}
ahead = {name: max(across_tokenizers.AGGREGATIONS, key=lambda kind: share[name, kind]) for name in compared}
out.text("ahead", ", ".join(f"{kind} ({name.replace(' x ', ' with ')})" for name, kind in ahead.items()))
ahead

# %% [markdown]
# Some of the pairs of the first comparison, from the highest held-out correlation to the lowest: the words on which
# both fire most, spelt in the tokens of A.

# %%
key = first_name, ahead[first_name]
r, words, on_matching = both[key].held_out(mutual[key]), pipeline.vocabulary(run, first["a"]), both[key].on_matching
tokens, documents = (kept.array(field)[on_matching] for field in ("tokens", "documents"))
tops = [labels.label(x.codes[np.flatnonzero(on_matching)], tokens, documents) for x in sides[key]]
ranked = np.argsort(-np.nan_to_num(r), kind="stable")
places = ranked[np.linspace(0, len(ranked) - 1, min(6, len(ranked))).astype(int)]
words_of = {
    "A": labels.summary(tops[0], mutual[key].a[places], words),
    "B": labels.summary(tops[1], mutual[key].b[places], words),
}
pd.DataFrame({"held out": r[places]} | words_of).round(2)

# %% [markdown]
# ## Are the pairs arranged alike?
# Decoder rows of the pairs by the primary measure, against shuffled pairings; p is corrected for the whole table
# (maximum of z). No score is free of n: *at one n* is the excess on random subsets of the size of the smallest set; a
# set with fewer pairs than `fewest` is not scored. The standard error is a jackknife over families of near rows (pairs
# with a cosine of at least `near` on either side, and so on from pair to pair): it says how sure a difference is of
# these models and SAEs, not of others. There is one seed of each.

# %%
rows = {key: (a.decoder[mutual[key].a], b.decoder[mutual[key].b]) for key, (a, b) in sides.items()}
scored = {key: x for key, x in rows.items() if len(x[0]) >= fewest}
n = min([len(x) for x, _ in scored.values()], default=fewest)
tested = {
    key: significance.test(*x, [measure], m=permutations, seed=(seed, number))
    for number, (key, x) in enumerate(scored.items())
}
family = inference.maximum_of_z(tested)
at_n = dict.fromkeys(rows, significance.UNSCORED) | {
    key: significance.rows_at_n(x, measure, n, subsets=subsets, m=subset_draws, seed=seed) for key, x in scored.items()
}
error = {key: inference.excess_interval(x, measure, near).se for key, x in scored.items()}

# %%
geometry = pd.DataFrame(
    line[["A", "B", "codes", "n"]].to_dict()
    | tables.columns(tested[key][measure] if key in tested else None, family.get(key, {}).get(measure))
    | {"at one n": at_n[key].excess, "SE": error.get(key, np.nan)}
    for key, (_, line) in zip(rows, pairs.iterrows(), strict=True)
)
out.table("geometry", geometry, tables.formats(geometry) | {"SE": "{:.2f}"})

# %%
shown = [key for name in compared for key in ((name, kind) for kind in kinds)]
places = np.arange(len(shown)) + 0.6 * np.array([list(compared).index(name) for name, _ in shown])
figure, axes = plt.subplots(1, 2, figsize=(6.2, 0.9 + 0.2 * len(shown)), sharey=True)
values = pairs.set_index(pd.Index(found, tupleize_cols=False)).loc[shown]

# %%
axes[0].scatter(values["by chance"], places, s=40, marker="|", color=report.NULL, label="by chance")
axes[0].scatter(values["one off"], places, s=16, marker="x", color=report.NULL, label="B one position later")
axes[0].scatter(values["held out"], places, s=18, color=report.PAIRED, label="paired")
axes[1].hlines(places, *np.array([[at_n[key].low, at_n[key].high] for key in shown]).T, color=report.NULL, linewidth=6)
axes[1].scatter([at_n[key].observed for key in shown], places, s=18, color=report.PAIRED, zorder=2)
axes[1].axvline(0, color=report.NULL, linewidth=0.5, zorder=0)
for key, place in zip(shown, places, strict=True):
    if key not in scored:
        axes[1].text(0, place, f"too few pairs: {len(rows[key][0])}", va="center", fontsize=6)
axes[0].set(xlabel="mean held-out r of the pairs", xlim=(-0.15, 1), yticks=places)
axes[0].set_yticklabels([f"{x.A} x {x.B}, {x.codes}".replace("_", " ") for x in values.itertuples()], fontsize=7)
axes[1].set(xlabel=f"{measures.measure(measure).label} of rows, n = {n}\ngrey: 95% of shuffles")
axes[0].invert_yaxis()
figure.legend(loc="outside lower center", ncols=3)
out.figure("scores", figure)

# %%
holding = {key for key in tested if family[key][measure] < inference.LEVEL and tested[key][measure].excess > 0}
ahead_by = {
    (key, beside): (at_n[key].excess - at_n[key[0], beside].excess) / np.hypot(error[key], error[key[0], beside])
    for key in (*across, *groups["within"])
    for beside in (one_tokenizer, control)
    if key in scored and (key[0], beside) in scored
}
for name, members in {"holding": across, **{f"holding {x}": groups[x] for x in ("within", "control")}}.items():
    out.text(name, tables.among_tested(members, tested, holding))
beyond = {key for (key, beside), z in ahead_by.items() if beside == control and z > 2}

# %%
out.text(
    "less",
    tables.among_tested(
        across,
        {key for key, beside in ahead_by if beside == one_tokenizer},
        {key for (key, beside), z in ahead_by.items() if beside == one_tokenizer and z < -2},
    ),
)
out.text(
    "more",
    tables.among_tested(
        across,
        {key for key, beside in ahead_by if beside == one_tokenizer},
        {key for (key, beside), z in ahead_by.items() if beside == one_tokenizer and z > 2},
    ),
)
held = {key for key, beside in ahead_by if beside == control}
out.text("beyond", tables.among_tested(across, held, beyond))
out.text("beyond within", tables.among_tested(groups["within"], held, beyond))
# %%
for name, members in groups.items():
    excesses = [at_n[key].excess for key in members if key in scored]
    out.number(f"least excess {name}", min(excesses, default=np.nan))
    out.number(f"most excess {name}", max(excesses, default=np.nan))
for name, value in {"n": n, "fewest": fewest, "subsets": subsets, "permutations": permutations}.items():
    out.number(name, value, "{:,}")
out.number("near", near, "{:.1f}")

# %% [markdown]
# ## Is it the words in pieces?
# Every live feature of A takes its best partner on the matching documents; its r on the held-out ones, and the reverse,
# are averaged. Features of A are dealt to bins by the share of their firings on units in pieces. Words in pieces are
# rare words, whose features may correlate less anyway: one tokenizer shows how much less.

# %%
of_a, partner_r = [*across_tokenizers.AGGREGATIONS, one_tokenizer], {}
for key in ((name, kind) for name in compared for kind in of_a):
    roles = [pipeline.correlated(*sides[key], candidates, swapped=swapped) for swapped in (False, True)]
    best = [matching.many_to_one(x.found, "a_to_b") for x in roles]
    once, again = (pd.Series(x.held_out(p), p.a) for x, p in zip(roles, best, strict=True))
    partner_r[key] = (once + again) / 2

# %%
binned = []
for name, kept in positions.items():
    fires = (sides[name, one_tokenizer][0].codes > 0).astype(np.float32)
    in_pieces = fires.T @ kept.array("pieces") / np.maximum(fires.sum(axis=0), 1)
    by_feature = pd.DataFrame(
        {"in pieces": pd.Series(in_pieces)} | {kind: partner_r[name, kind] for kind in of_a}
    ).dropna()
    in_bins = by_feature.groupby(pd.qcut(by_feature["in pieces"], bins, duplicates="drop"), observed=True)
    binned.append(in_bins.mean().assign(pair=name, n=in_bins.size()))
pieces = pd.concat(binned)[["pair", "n", "in pieces", *of_a]]
pieces.round(2)

# %%
wide = 2.7 * max(2, len(compared))  # the legend has its room where one pair is compared
figure, axes = plt.subplots(1, len(compared), figsize=(wide, 2.3), sharey=True, squeeze=False)
for axis, (name, part) in zip(axes[0], pieces.groupby("pair", sort=False), strict=True):
    for kind, marker in zip(of_a, itertools.cycle("os^Dv")):
        style, color = ("--", report.NULL) if kind == one_tokenizer else (f"-{marker}", None)
        axis.plot(part["in pieces"], part[kind], style, markersize=3, linewidth=1, color=color, label=kind)
    axis.set(title=name.replace("_", " "), xlabel="share of firings on units in pieces")
axes[0, 0].set_ylabel("held-out r of the best partner")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
out.figure("pieces", figure)

# %%
ends = pieces.groupby("pair", sort=False)[of_a].agg(["first", "last"])
for kind in of_a:
    for end, which in (("whole", "first"), ("broken", "last")):
        out.number(f"r {end} {kind}", ends[kind, which][first_name])
lost = {(name, kind): ends.loc[name, (kind, "first")] - ends.loc[name, (kind, "last")] for name, kind in partner_r}
out.text("lose more", tables.among(across, {key for key in across if lost[key] > lost[key[0], one_tokenizer]}))
out.number("bins", bins, "{:d}")

# %% [markdown]
# ## The answer

# %%
asked, against = [[key for key in across if key in found_in] for found_in in (tested, held)]
out.text("verdict", across_tokenizers.verdict(asked, holding, len(across)))
out.text("control verdict", across_tokenizers.control_verdict(against, beyond))
aligned = all(x.meta["held_out"] > 2 * max(tables.average(off[key]), chance[key]) for key, x in found.items())
out.text("aligned verdict", "more than twice" if aligned else "not always twice")
asked, against, aligned

# %%
out.save()
