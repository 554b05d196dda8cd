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
# **In.** Codes and decoder rows of dictionaries whose models read words and pieces of words, and of one more with the
# tokenizer of the first; the text, plain and with words exchanged. **Out.** The positions that two tokenizations share;
# at these positions, by each way to join the codes of a word's pieces: the similarity of paired features over
# replicates, beside a control and beside one tokenizer. All of it is secondary to the primary analysis.
#
# **What would count as a no.** Few shared positions; pairs that exceed their control by less than the threshold; a
# similarity across tokenizers that lies below that with one tokenizer.

# %% tags=["parameters"]
profile = "smoke"
comparisons = [["one_layer", "bpe", "two_layer_block0", ""]]
tokenizers = {"words": ["word", 4000], "pieces": ["bpe", 1000], "small pieces": ["bpe", 400]}
at = "words"
minimum_firings = 5
candidates = 16
bins = 3

# %%
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sae_utils import inference, measures, pipeline, profiles, report, sweep, tables
from sae_utils.engine.text import alignment, corpora, tokenization
from sae_utils.studies import across_tokenizers

# %%
run = profiles.start(profile, "11_across_tokenizers")
out = report.Report(run, "11_across_tokenizers")
out.needs(comparisons, "no models with different tokenizers")
measure, source = run.common.primary.measure, corpora.text(run.corpus)
given = run.common.primary.thresholds.get("excess")
d = given.d if given else 0.0
compared = across_tokenizers.compared(run, comparisons)
titles = list(dict.fromkeys(x.name for x in compared))
pd.DataFrame(compared)

# %% [markdown]
# ## Where do two tokenizations meet?
# Tokens are aligned by the characters at which they end: there, both models have read the same text. A *position* is
# an end of a token on both sides (*ends*), or only one at which a word ends as well (*words*). The text since the
# position before is its *unit*, which is *in pieces* where it is several tokens of one side. With itself, every
# tokenizer must share every token, with no unit in pieces.

# %%
trains = corpora.text(pipeline.training_text(run, run.pair[0]))
spans = {
    name: alignment.load(alignment.spans(source, tokenization.train(trains, kind, vocabulary)))
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
# rows begin at one character, so that both models have read the same text. Replicates read the same text.

# %%
aligned = sweep.run(
    lambda x: across_tokenizers.places(run, x.a, x.across, at, exchange=not x.negative), compared, "positions"
)
firsts = {name: next(x for x in compared if x.name == name) for name in titles}
fields = {"tokens": "n", "of_a": "of A", "of_b": "of B", "pieces": "in pieces", "same_opening": "same opening"}
meta = {name: aligned[x][0].positions.meta for name, x in firsts.items()}
placed = pd.DataFrame(
    {"pair": name} | {column: x[field] for field, column in fields.items()} for name, x in meta.items()
)
for column in placed.columns[2:]:
    out.number(column, 100 * placed[column][0], "{:.0f}")
out.number("positions", placed.n[0], "{:,}")
out.text("at", {"ends": "where tokens of both end", "words": "where tokens of both end and a word does"}[at])
placed

# %% [markdown]
# Units in pieces, in the first comparison: the tokens of A and of B.

# %%
first = firsts[titles[0]]
kept, shown = aligned[first][0].positions, {}
several = np.flatnonzero(kept.array("pieces"))[:100]
for side, name in (("a", first.a), ("b", first.across)):
    words, tokens = pipeline.vocabulary(run, name), pipeline.features(run, name).sites.array("tokens")
    ranges = zip(kept.array(f"first_{side}")[several], kept.array(f"last_{side}")[several], strict=True)
    shown[side.upper()] = [" + ".join(words[t] for t in tokens[begin : end + 1]) for begin, end in ranges]
pd.DataFrame(shown).drop_duplicates()[:5]

# %% [markdown]
# ## Are paired features arranged alike?
# The codes of a unit are those of its *last* token, or their *mean* or *max* over all of its tokens. From here on
# nothing differs from models with one tokenizer: content features of either side are matched one-to-one by the largest
# total correlation, on either half of the documents, without a threshold. In the control one side reads the text with
# words exchanged (or a twin takes the place of A). *One tokenizer*: the same A with a dictionary whose model reads what
# A's does, at the same positions. Numbers are means over replicates; where one model has no replicates, they are of
# that model.

# %%
kinds = {kind: kind for kind in across_tokenizers.AGGREGATIONS} | {across_tokenizers.ONE: "last"}
every = list(itertools.product(compared, kinds))
found = sweep.run(
    lambda x: across_tokenizers.arms(run, x[0].pair(x[1]), aligned[x[0]], kinds[x[1]], [measure], minimum_firings),
    every,
    "comparisons",
)

# %%
scores = pd.DataFrame(
    {"pair": x.name, "codes": kind, "n": arms.n, "retention": arms.retention, "r": arms.r_true}
    | {"r, control": arms.r_control, "excess": arms.true[measure], "excess, control": arms.control[measure]}
    | {"gap": arms.difference(measure)}
    for (x, kind), arms in found.items()
)
grouped = scores.groupby(["pair", "codes"], sort=False)
gaps = {key: inference.over_replicates(x.gap.to_numpy()) for key, x in grouped}
shown = grouped.mean().reset_index()
for end in ("low", "high"):
    shown[f"95%, {end}"] = [getattr(gaps[key], end) for key in zip(shown.pair, shown.codes, strict=True)]
out.table("arms", shown, {"n": "{:.0f}", **dict.fromkeys(shown.columns[3:], "{:.2f}")})

# %% [markdown]
# What the other tokenizer costs: the gap with one tokenizer less that across two, replicate by replicate, with the
# codes of pieces joined as their mean.

# %%
wide = scores[scores.pair == titles[0]].assign(replicate=lambda x: x.groupby("codes").cumcount())
wide = wide.pivot(index="replicate", columns="codes", values="gap")
cost = inference.over_replicates((wide[across_tokenizers.ONE] - wide["mean"]).to_numpy())
no = "A gap below d: they are as alike where words are exchanged."
for kind in kinds:
    how = "with one tokenizer" if kind == across_tokenizers.ONE else f"across tokenizers, codes of pieces by {kind}"
    out.verdict(kind, f"Are paired features more alike than in the control, {how}?", gaps[titles[0], kind], d, no)
out.verdict("cost", "Are they less alike across tokenizers than with one?", cost, d, "A difference below d.")

# %%
out.number("replicates", len(wide), "{:d}")
for name, kind in (("across", "mean"), ("within", across_tokenizers.ONE)):
    part = scores[(scores.pair == titles[0]) & (scores.codes == kind)]
    for column in ("n", "r", "r, control"):
        x = inference.over_replicates(part[column].to_numpy(float))
        out.number(f"{column} {name}", x.estimate, "{:.0f}" if column == "n" else "{:.2f}", x.se)
out.number("minimum", minimum_firings, "{:d}")

# %%
keys = list(gaps)
height = np.arange(len(keys))
figure, axes = plt.subplots(1, 2, figsize=(6.2, 1.2 + 0.25 * len(keys)), sharey=True)
for axis, column in zip(axes, ("r", "excess"), strict=True):
    arms_of = {"A and B": (column, report.PAIRED), "control": (f"{column}, control", report.NULL)}
    for label, (part, color) in arms_of.items():
        x = [inference.over_replicates(grouped.get_group(key)[part].to_numpy(float)) for key in keys]
        axis.hlines(height, [y.low for y in x], [y.high for y in x], color=color, linewidth=1)
        axis.scatter([y.estimate for y in x], height, s=18, color=color, label=label)
axes[0].set(xlabel="held-out r of the pairs", yticks=height)
axes[0].set_yticklabels([f"{pair}, {kind}".replace("_", " ") for pair, kind in keys], fontsize=7)
axes[1].set(xlabel=f"excess of {measures.measure(measure).label} of their rows")
axes[0].invert_yaxis()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
out.figure("scores", figure)

# %% [markdown]
# ## Is it the words in pieces?
# Every live feature of A takes its best partner on the matching documents; its r on the held-out ones, and the reverse,
# are averaged. Features of A are dealt to bins by the share of their firings on units in pieces. Words in pieces are
# rare words, whose features may correlate less anyway: one tokenizer shows how much less.

# %%
binned = sweep.run(
    lambda x: across_tokenizers.by_pieces(run, x, aligned[x][0], kinds, candidates, bins), compared, "pieces"
)
parts = [x.assign(pair=key.name).rename_axis("bin").reset_index() for key, x in binned.items()]
pieces = pd.concat(parts)
by_bin = pieces.groupby(["pair", "bin"], sort=False)[["in pieces", *kinds]].mean().reset_index()
by_bin.round(2)

# %%
wide_figure = 2.7 * max(2, len(titles))  # the legend has its room where one pair is compared
figure, axes = plt.subplots(1, len(titles), figsize=(wide_figure, 2.3), sharey=True, squeeze=False)
for axis, (name, part) in zip(axes[0], by_bin.groupby("pair", sort=False), strict=True):
    for kind, marker in zip(kinds, itertools.cycle("os^Dv")):
        style, color = ("--", report.NULL) if kind == across_tokenizers.ONE else (f"-{marker}", None)
        axis.plot(part["in pieces"], part[kind], style, markersize=3, linewidth=1, color=color, label=kind)
    axis.set(title=name.replace("_", " "), xlabel="share of firings on units in pieces")
axes[0, 0].set_ylabel("held-out r of the best partner")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
out.figure("pieces", figure)

# %%
of_first = pieces[pieces.pair == titles[0]]
for end, chosen in (("whole", of_first.bin.min()), ("broken", of_first.bin.max())):
    for kind in ("mean", across_tokenizers.ONE):
        x = inference.over_replicates(of_first[of_first.bin == chosen][kind].to_numpy(float))
        out.number(f"r {end} {kind}", x.estimate, se=x.se)
out.number("bins", bins, "{:d}")

# %%
out.save()
