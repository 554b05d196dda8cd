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
# tokenizer of the first. **Out.** The positions that two tokenizations share, and there the similarity of paired
# features in two arms, across tokenizers and with one. All of it is secondary to the primary analysis.
#
# **What would count as a no.** Few shared positions; paired features that exceed their control by less than the
# threshold d, or are less alike across tokenizers than with one.

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

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from sae_utils import inference, matching, measures, pipeline, profiles, replicates, report, sweep, tables
from sae_utils.engine.saes.aligned import AGGREGATIONS
from sae_utils.engine.text import alignment, corpora, tokenization
from sae_utils.studies.across_tokenizers import drawing, shared

# %%
run = profiles.start(profile, "11_across_tokenizers")
out = report.Report(run, "11_across_tokenizers")
out.needs(comparisons, "no models with different tokenizers")
compared = shared.compared(run, comparisons)
titles, first = list(dict.fromkeys(x.name for x in compared)), compared[0]
measure, source = run.common.primary.measure, corpora.text(run.corpus)
given = run.common.primary.thresholds.get("excess")
d = given.d if given else 0.0

# %% [markdown]
# ## One sentence, cut in two ways
# A model that reads words and a model that reads pieces of words have no tokens in common, but both read the same
# characters. We align tokens by the character at which they end: there, both models have read the same text. Below, the
# tokenizers of the first comparison cut the opening of the text.

# %%
sentence = next(corpora.blocks(source)).texts[0][:60].rpartition(" ")[0]
a, b = (shared.cut(sentence, pipeline.tokenizer_of(run, name)) for name in (first.a, first.across))
print("A:", *a.ends, "\nB:", *b.ends)

# %% [markdown]
# Tokens end at these characters. A number in both lists is a *position* (*ends*), or only where a word ends too
# (*words*). The text since the position before is its *unit*, *in pieces* where it is several tokens of one side.


# %%
def units_of(x, ends):
    """The first and the last token of every unit of one side."""
    last = np.searchsorted(x.ends, ends, side="right") - 1
    return np.append(0, last[:-1] + 1), last


ends = np.intersect1d(a.ends, b.ends)
if at == "words":
    ends = ends[alignment.ends_a_word(sentence)[ends]]
by_hand = [*units_of(a, ends), *units_of(b, ends)]
for mine, its in zip(by_hand, alignment.share(a, b, at), strict=True):
    np.testing.assert_array_equal(mine, its)
spelt = {side: drawing.spelt(sentence, x, *units_of(x, ends)) for side, x in (("tokens of A", a), ("tokens of B", b))}
pd.DataFrame(spelt | {"position": ends}).T

# %% [markdown]
# Each column is a unit: both rows spell the same characters. A bar marks a unit in pieces; no token is in two units.

# %% [markdown]
# ## Where do two tokenizations meet?
# The library does the same for whole texts. We align tokenizers that were trained on the corpus, without any model.
# With itself, every tokenizer must share every token, with no unit in pieces.

# %%
trains = corpora.text(pipeline.training_text(run, run.pair[0]))
spans = {
    name: alignment.load(alignment.spans(source, tokenization.train(trains, kind, vocabulary)))
    for name, (kind, vocabulary) in tokenizers.items()
}


def meet(x, y, kind):
    """Shared positions: their number, and as shares of the tokens of both; the share of units in pieces."""
    units = alignment.share(spans[x], spans[y], kind)
    n = len(units.last_a)
    of = {"of A": n / len(spans[x].ends), "of B": n / len(spans[y].ends)}
    return {"A": x, "B": y, "positions": kind, "n": n, **of, "in pieces": units.several().mean()}


# %%
both_ways = itertools.product(itertools.combinations_with_replacement(spans, 2), ("ends", "words"))
shares = pd.DataFrame(meet(*names, kind) for names, kind in both_ways)
shares.round(2)

# %% [markdown]
# *Of A* and *of B*: the share of the tokens that can be compared at all. For a tokenizer with itself (*ends*) both must
# be 1, and *in pieces* 0. (*Words* is a tokenizer in columns A and B, and a kind of position in the third.)

# %% [markdown]
# ## The positions of the models
# The same for the models that are compared, on the judged documents, without masked tokens. A long document becomes
# several rows, and those of two models need not begin at the same word: *same opening* is the share of positions whose
# rows do, so that both models have read the same text.

# %%
aligned = sweep.run(lambda x: shared.places(run, x.a, x.across, at, exchange=not x.negative), compared, "positions")
placed = drawing.placed(aligned)
placed.round(2)

# %% [markdown]
# Where *same opening* is small, the models read different contexts, and a low similarity says nothing about features.

# %%
kept = aligned[first][0].positions
drawing.in_pieces(run, kept, {"a": first.a, "b": first.across})

# %% [markdown]
# These are units of the first comparison; the side with a plus has the word in pieces.

# %%
itself = shares[(shares.A == shares.B) & (shares.positions == "ends")].set_index("A")
same = itself.index[(itself[["of A", "of B", "in pieces"]] == [1, 1, 0]).all(axis=1)]
out.text("identity", tables.among(list(tokenizers), same))
for column in placed.columns[2:]:
    out.number(column, 100 * placed[column][0], "{:.0f}")
out.number("positions", placed.n[0], "{:,}")
out.text("at", {"ends": "where tokens of both end", "words": "where tokens of both end and a word does"}[at])

# %% [markdown]
# ## The codes of a word in pieces
# A unit needs one code of every feature, and a unit in pieces has several. We take that of its *last* token, which has
# read the whole word, or their *mean* or *max*. For one unit by hand:

# %%
unit = int(np.flatnonzero(kept.array("pieces"))[0]) if kept.array("pieces").any() else 0
begin, end = kept.array("first_b")[unit], kept.array("last_b")[unit]
tokens = pipeline.alone(run, first.across).codes[begin : end + 1].toarray()  # (pieces, features)
by_hand = {"last": tokens[-1], "mean": tokens.mean(axis=0), "max": tokens.max(axis=0)}
for how, codes in by_hand.items():
    its = shared.features(run, first.across, aligned[first][0], how).codes[[unit]].toarray()[0]
    np.testing.assert_allclose(codes, its, rtol=1e-5)
pd.DataFrame({"features that fire": {how: (codes > 0).sum() for how, codes in by_hand.items()}})

# %% [markdown]
# *Mean* and *max* fire wherever a piece does: compare how many features they add to those of the last token.

# %% [markdown]
# ## The two arms
# From here on nothing differs from models with one tokenizer. In the *true arm*, features of A meet those of B on the
# same text. The *control arm* breaks the correspondence of words and nothing else: A reads the text t where B reads
# pi(t), whose words of equal frequency have changed places, and the reverse. (Where no words can be exchanged, a twin
# takes the place of A.) Both arms take the same content features of A. Each gets a partner of its own, by the largest
# total r on the matching documents; the held-out documents judge the pairs.


# %%
def sides(x, kind):
    """Codes of both dictionaries of a comparison (and of a twin) by split: [those on t, those on pi(t)]."""
    how = "last" if kind == shared.ONE else kind
    own = [[shared.features(run, name, where, how) for where in aligned[x]] for name in x.pair(kind)]
    return tuple(map(replicates.side, own))


def opposite(own, arm, split):
    """Codes that the first side meets in an arm."""
    b = own[1].blocks[split]
    return b if arm == "true" else b[::-1] if len(own) == 2 else own[2].blocks[split]


# %%
own, chosen = sides(first, "mean"), {}
its = replicates.match_all(own, minimum_firings)[0]
for arm in ("true", "control"):
    found = replicates.correlate(own[0].blocks["matching"], opposite(own, arm, "matching"))
    live = np.flatnonzero(found.live[1])
    row, column = linear_sum_assignment(found.r[np.ix_(its.features, live)], maximize=True)
    chosen[arm] = pd.Series(live[column], its.features[row]).head(8)
    np.testing.assert_array_equal(chosen[arm], getattr(its, arm)[:8])


# %%
def r_of(arm):
    """Pearson's r of the chosen pairs over the held-out positions of both texts."""
    pairs, blocks = chosen[arm], (own[0].blocks["held_out"], opposite(own, arm, "held_out"))
    x = np.vstack([block[:, pairs.index].toarray() for block in blocks[0]])
    y = np.vstack([block[:, pairs.to_numpy()].toarray() for block in blocks[1]])
    return np.corrcoef(x.T, y.T).diagonal(len(pairs))


r = pd.DataFrame({arm: r_of(arm) for arm in chosen}, index=its.features[:8])
np.testing.assert_allclose(r, np.transpose([its.r_true, its.r_control])[:8], atol=1e-6)
r.T.round(2)

# %% [markdown]
# Each column is a feature of A. The features pair by the words that they fire on if the upper row lies above the lower.

# %% [markdown]
# ## Are paired features arranged alike?
# The library does this for either half of the documents and for content features of either side, and takes the excess
# of the primary measure over a shuffled pairing (as in `01c_arranged_alike`) in both arms. The yardstick is *one
# tokenizer*: the same A, at the same positions, with a dictionary whose model has A's tokenizer. Numbers are means over
# replicates; a model without replicates speaks for itself alone.

# %%
kinds = [*AGGREGATIONS, shared.ONE]


def arms(cell):
    """Both arms of one replicate and one way to join codes."""
    own = sides(*cell)
    return replicates.scored(own, replicates.match_all(own, minimum_firings), [measure])


found = sweep.run(arms, itertools.product(compared, kinds), "comparisons")

# %%
scores = drawing.by_replicate(found, measure)
gaps = {key: inference.over_replicates(x.gap.to_numpy()) for key, x in scores.groupby(["pair", "codes"], sort=False)}
shown = drawing.means(scores, gaps)
out.table("arms", shown, {"n": "{:.0f}", **dict.fromkeys(shown.columns[3:], "{:.2f}")})

# %% [markdown]
# The *gap* is the excess less that of the control arm: compare it, with its interval, between the rows of one pair. The
# last row says what the same A reaches where both models have its tokenizer.

# %%
out.figure("scores", drawing.scores(scores, gaps, d, measures.measure(measure).label))

# %% [markdown]
# In the last panel, an interval right of the dashed line is a *yes*, left of it a *no*; across it decides nothing.

# %% [markdown]
# ## What does the other tokenizer cost?
# We subtract the gap across two tokenizers (*mean*) from that with one, replicate by replicate.

# %%
wide = scores[scores.pair == titles[0]].assign(replicate=lambda x: x.groupby("codes").cumcount())
wide = wide.pivot(index="replicate", columns="codes", values="gap")
wide["cost"] = wide[shared.ONE] - wide["mean"]
wide.round(3)

# %% [markdown]
# A row is a replicate. The tokenizer matters more than the seed of A if the cost is above zero in every row.

# %%
out.number("replicates", len(wide), "{:d}")
for name, kind in (("across", "mean"), ("within", shared.ONE)):
    part = scores[(scores.pair == titles[0]) & (scores.codes == kind)]
    for column in ("n", "r", "r, control"):
        x = inference.over_replicates(part[column].to_numpy(float))
        out.number(f"{column} {name}", x.estimate, "{:.0f}" if column == "n" else "{:.2f}", x.se)
out.number("minimum", minimum_firings, "{:d}")

# %% [markdown]
# ## Is it the words in pieces?
# If so, the features of A that fire on words in pieces lose most. We give every feature of A its best partner on one
# half of the documents and read its r on the other, both ways.


# %%
def best_r(x, kind):
    """Held-out r of every live feature of A with its best partner, averaged over both roles of the documents."""
    how, other = ("last", x.within) if kind == shared.ONE else (kind, x.across)
    a, b = (shared.features(run, name, aligned[x][0], how) for name in (x.a, other))
    both = [pipeline.correlated(a, b, candidates, swapped=swapped) for swapped in (False, True)]
    best = [matching.many_to_one(roles.found, "a_to_b") for roles in both]
    once, again = (pd.Series(roles.held_out(pairs), pairs.a) for roles, pairs in zip(both, best, strict=True))
    return (once + again) / 2


# %% [markdown]
# We deal the features of A to bins of equal size by the share of their firings on units in pieces. Such words are rare,
# and their features may correlate less anyway: the same bins with one tokenizer show how much less.


# %%
def by_pieces(x):
    """Mean r of the features in each bin, a column for every way to join codes."""
    a = shared.features(run, x.a, aligned[x][0], "last")
    fires = (a.codes > 0).astype(np.float32)
    share = fires.T @ a.sites.array("pieces") / np.maximum(fires.sum(axis=0), 1)
    frame = pd.DataFrame({"in pieces": pd.Series(share), **{kind: best_r(x, kind) for kind in kinds}}).dropna()
    bin_of = pd.qcut(frame["in pieces"], bins, labels=False, duplicates="drop").rename("bin")
    return frame.groupby(bin_of).mean().reset_index().assign(pair=x.name)


pieces = pd.concat(sweep.run(by_pieces, compared, "pieces").values())
by_bin = pieces.groupby(["pair", "bin"], sort=False)[["in pieces", *kinds]].mean().reset_index()
by_bin.round(2)

# %% [markdown]
# Read down a column: r falls with *in pieces* if pieces are what is lost. The last column is the fall without pieces.

# %%
out.figure("pieces", drawing.pieces(by_bin, kinds))

# %% [markdown]
# The distance from the dashed line is what the pieces cost; look whether it grows to the right.

# %%
out.number("bins", bins, "{:d}")
of_first = pieces[pieces.pair == titles[0]]
for (end, at_end), kind in itertools.product({"whole": "min", "broken": "max"}.items(), ("mean", shared.ONE)):
    x = inference.over_replicates(of_first[of_first.bin == of_first.bin.agg(at_end)][kind].to_numpy(float))
    out.number(f"r {end} {kind}", x.estimate, se=x.se)

# %% [markdown]
# ## Verdict
# The estimate is the gap of the first comparison. An interval above the threshold d is a *yes*, one below it a *no*.

# %%
no, verdicts = "A gap below d: they are as alike where words are exchanged.", {}
for kind in kinds:
    how = "with one tokenizer" if kind == shared.ONE else f"across tokenizers, codes of pieces by {kind}"
    question = f"Are paired features more alike than in the control, {how}?"
    verdicts[kind] = out.verdict(kind, question, gaps[titles[0], kind], d, no)
cost, question = inference.over_replicates(wide.cost.to_numpy()), "Are they less alike across tokenizers than with one?"
verdicts["cost"] = out.verdict("cost", question, cost, d, "A difference below d.")
pd.DataFrame({"verdict": verdicts}).T

# %% [markdown]
# *Last*, *mean* and *max* answer whether models with different tokenizers can be compared; *one tokenizer* says whether
# the procedure finds anything at these positions at all; *cost* is what the other tokenizer takes away.

# %%
out.save()
