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
# # Are the pairs arranged alike?
#
# **Question.** Are features that are paired by what they fire on also arranged alike: if two features of A have similar
# directions, do their partners in B?
#
# **In.** Mutual pairs and decoder rows of their features, in every replicate; for the last measure, tokens. **Out.**
# Similarity scores against a shuffled pairing; which neighbours a feature shares with its partner; the same with
# near-duplicates moved together, and with tokens in place of features. The verdict is over replicates. (The primary
# analysis compares the same features in two arms: notebook 07.)
#
# **What would count as a no.** A similarity that a shuffled pairing reaches as easily; one that vanishes when families
# of near-duplicates change places as wholes; over replicates, an excess whose interval lies below the threshold d.

# %% tags=["parameters"]
profile = "smoke"
candidates = 16
secondary_measures = ["svcca", "svcca_first_component", "rsa_pearson"]
permutations = 199
near = [0.7, 0.6, 0.5]
instances = 300
neighbours = 5
named = 4
subsets = 2

# %%
import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from sae_utils import inference, labels, matching, measures, nulls, pipeline, profiles, replicates, report, significance
from sae_utils.inference import LEVEL
from sae_utils.profiles import seed
from sae_utils.studies.feature_matching import drawing, readings, replicated
from sae_utils.tables import among, formats

# %%
run = profiles.start(profile, "01c_arranged_alike")
out, primary = report.Report(run, "01c_arranged_alike"), run.common.primary
a, b = (pipeline.features(run, name) for name in run.pair)
both = pipeline.correlated(a, b, candidates)
mutual = matching.mutual(both.found)
pipeline.enough(run, mutual)
rows = a.decoder[mutual.a], b.decoder[mutual.b]  # (pairs, d_a), (pairs, d_b)

# %% [markdown]
# ## One score
# The two models have different dimensions, so that a row of A cannot be compared with a row of B. What can be compared
# is how rows lie to each other. Representational similarity (RSA) takes the dissimilarities, 1 - Pearson, between all
# pairs of rows on either side, ranks them, and correlates both lists.


# %%
def rsa(x, y):
    above = np.triu_indices(len(x), 1)
    ranks = [rankdata((1 - np.corrcoef(side))[above].round(12)) for side in (x, y)]
    return np.corrcoef(*ranks)[0, 1]


some = [side[:60] for side in rows]
np.testing.assert_allclose(rsa(*some), measures.score(*some, "rsa_spearman"), atol=1e-6)
print(f"RSA of {len(some[0])} pairs: {rsa(*some):.3f}")

# %% [markdown]
# A score says little by itself: 1 would be the same arrangement, but chance is not 0 for every measure.

# %% [markdown]
# ## Its null
# Shuffling which row of B goes with which row of A keeps both sets of rows and breaks only the pairing. z counts
# standard deviations of the null, p the draws that reach the score, and the *excess* says how far the score is from
# chance towards 1.

# %%
shuffles = nulls.permutations(np.random.default_rng(1), 99, len(some[0]))
draws = np.array([rsa(some[0], some[1][order]) for order in shuffles])
p = (1 + np.sum(draws >= rsa(*some))) / (1 + len(draws))
excess = (rsa(*some) - draws.mean()) / (1 - draws.mean())
tested = significance.test(*some, ["rsa_spearman"], m=99, seed=1, closed_form=False)["rsa_spearman"]
np.testing.assert_allclose([p, excess], [tested.p, tested.excess], atol=1e-5)
pd.Series({"p": p, "excess": excess}).round(3)

# %% [markdown]
# p is small and the excess above 0 where the shuffles rarely reach the score.

# %% [markdown]
# ## All mutual pairs
# The same for all mutual pairs of the first replicate, by the primary measure and by others. Of SVCCA, the published
# estimator (`svcca_first_component`) keeps only the first principal component of each side.

# %%
asked = list(dict.fromkeys([primary.measure, *secondary_measures]))
results = significance.test(*rows, asked, m=primary.permutations, seed=seed(run, "first pair"))
first = results[primary.measure]
scores = readings.similarity(results, primary.measure)
out.table("similarity", scores, formats(scores) | {"p": "{:.4f}"})

# %% [markdown]
# Compare `observed` with `null`; `k` is the number of components that SVCCA keeps of A and of B. `times chance` is
# their ratio, where the null is told from 0: a measure may score high and still be hardly above its chance.

# %%
out.figure("similarity", drawing.similarity(results))

# %% [markdown]
# A blue point to the right of its grey bar is a similarity that shuffled pairings do not reach.

# %%
out.number("observed", first.observed, "{:.3f}")
out.number("null mean", first.null_mean, "{:.3f}")
out.number("null sd", first.null_sd, "{:.3f}")
out.number("excess", first.excess, "{:.3f}")
out.number("z", first.z, "{:.1f}")
out.number("p", first.p, "{:.4f}")
out.number("permutations", first.m, "{:,}")
out.text("measure", measures.measure(primary.measure).label)

# %% [markdown]
# ## Which neighbours are shared?
# The overlap of neighbours is a local measure. For each pair, find the `neighbours` rows of largest cosine on either
# side, and count those that are the same pairs.

# %%
unit = [side.astype(float) / np.linalg.norm(side, axis=1, keepdims=True) for side in rows]
cosine = [x @ x.T - 3 * np.eye(len(x)) for x in unit]  # a row is not its own neighbour
nearest = tuple(np.argsort(-x, axis=1, kind="stable")[:, :neighbours] for x in cosine)  # (pairs, k) each
shared = [len(set(x) & set(y)) for x, y in zip(*nearest, strict=True)]
knn = measures.measure("mutual_knn", k=neighbours)
np.testing.assert_allclose(np.mean(shared) / neighbours, measures.score(*rows, knn), atol=1e-3)
print(f"{np.mean(shared):.2f} of {neighbours} neighbours are shared")

# %% [markdown]
# The number is the mean count of shared neighbours. The table names them for the `named` pairs of largest held-out
# correlation, one pair a word, each feature by its top token.

# %%
at = np.flatnonzero(both.on_matching)
tokens, documents = (a.sites.array(name)[at] for name in ("tokens", "documents"))
of = [labels.label(side.codes[at], tokens, documents) for side in (a, b)]
words = labels.unspaced(pipeline.vocabulary(run, run.pair[0]))
names = tuple(labels.summary(x, p, words, most=1) for x, p in zip(of, (mutual.a, mutual.b), strict=True))
r = np.nan_to_num(both.held_out(mutual), nan=-1)
best = {name: x for x in np.argsort(r, kind="stable") if (name := names[0][x]).isalpha()}  # the strongest of a word
strongest = sorted(best.values(), key=lambda x: -r[x])[:named]
out.table("neighbours", readings.neighbours(nearest, strongest, names))

# %% [markdown]
# A star marks a neighbour that the feature has in both models: do the starred ones belong together by meaning or by
# grammar, and are those without a star of another kind?

# %% [markdown]
# ## Near-duplicates
# Features that say nearly the same, paired with features that say nearly the same, are pairs that are not independent.
# Pairs whose rows have a cosine of at least `near` in either model form one *family*, and so on from pair to pair.
# Whole families change places with families of their size.

# %%
of_family = {least: inference.families(rows, least) for least in near}
family = connected_components((np.maximum(*cosine) >= near[0]).astype(int), directed=False)[1]
np.testing.assert_array_equal(family, of_family[near[0]])
order = nulls.blocks(family).draw(np.random.default_rng(seed(run, "by hand")), 1, len(family))[0]
size = np.bincount(family)[family]
np.testing.assert_array_equal(size[order], size)
pd.DataFrame(
    {"pair": np.arange(len(family)), "family": family, "partner of": order, "its family": family[order]}
).head()

# %% [markdown]
# The last two columns are one draw: members of one family get partners from one other family of that size.

# %%
moved = {
    least: significance.test(
        *rows, [primary.measure], null=nulls.blocks(x), m=primary.permutations, seed=seed(run, f"families at {least}")
    )[primary.measure]
    for least, x in of_family.items()
}
duplicates = readings.families(of_family, moved)
out.table("families", duplicates, formats(duplicates) | {"near": "{:.1f}", "p": "{:.4f}"})

# %% [markdown]
# Look at `excess` as `near` falls and families grow. A row is n/a where less than half of the pairs can move.

# %%
free = {least: x for least, x in moved.items() if not (x.undefined or x.undetermined)}
holding = {least for least, x in free.items() if x.p < LEVEL and x.excess > 0}
out.text("families holding", among(list(free), holding))

# %% [markdown]
# ## Tokens as instances
# Secondary: are tokens arranged alike, instead of features? The instances are held-out tokens, described by all
# features of A and by all of B; no pairing of features enters. Do a token's nearest neighbours agree?

# %%
fires = np.flatnonzero(both.on_held_out & (np.diff(a.codes.indptr) > 0) & (np.diff(b.codes.indptr) > 0))
rng = np.random.default_rng(seed(run, "instances"))
instance = np.sort(rng.choice(fires, min(instances, len(fires)), replace=False))
few = np.sort(rng.choice(instance, min(len(mutual), len(instance)), replace=False))
described = {name: (a.codes[x].toarray(), b.codes[x].toarray()) for name, x in (("few", few), ("all", instance))}

# %% [markdown]
# Two tokens of the same word are near in any model. A second null therefore exchanges only tokens of the same word:
# what exceeds it is more than that both models see the same word.

# %%
word = a.sites.array("tokens")[instance]
same_word = nulls.strata(word, name="shuffled within a word")
order = same_word.draw(np.random.default_rng(seed(run, "by hand")), 1, len(word))[0]
np.testing.assert_array_equal(word[order], word)
sets = {
    "features": (rows, nulls.shuffled()),
    "tokens, same n": (described["few"], nulls.shuffled()),
    "tokens": (described["all"], nulls.shuffled()),
    "tokens, same word": (described["all"], same_word),
}

# %%
overlaps = {
    name: significance.test(*x, [knn], null=null, m=permutations, seed=seed(run, "instances"))[knn.name]
    for name, (x, null) in sets.items()
}
of_tokens = readings.instances(overlaps)
out.table("instances", of_tokens, formats(of_tokens))

# %% [markdown]
# Compare the first two rows, which have one n. Then compare the last two: the difference of `null` is what the same
# word explains. A large p in the last row would not show that the word explains all.

# %%
beyond = overlaps["tokens, same word"]
out.number("neighbours", neighbours, "{:d}")
out.number("excess features", overlaps["features"].excess)
out.number("excess tokens", overlaps["tokens, same n"].excess)
more = "more" if beyond.p < LEVEL else "no more"
out.text("tokens verdict", "undetermined" if beyond.undetermined else f"{more} than the same word explains")

# %% [markdown]
# ## Over replicates
# All of this is of one pair of models. Each replicate has its own models, SAEs and stories. Scores depend on n, so that
# they are means over random subsets of one size, that of the smallest replicate. One subset of the first replicate:

# %%
cells = replicates.of(run, *primary.pair)
pipeline.features_of(run, dict.fromkeys(name for names in cells for name in names))
paired = replicates.over(lambda x: replicated.mutual(run, x, candidates), cells, "pairs of replicates")
for roles in paired.values():
    pipeline.enough(run, min(roles, key=len))
one_n = min(len(pairs) for roles in paired.values() for pairs in roles)
subset = np.sort(rng.choice(len(mutual), one_n, replace=False))
of_subset = significance.test(*(side[subset] for side in rows), [primary.measure], m=permutations)[primary.measure]
print(f"excess of {one_n} pairs: {of_subset.excess:.3f}")

# %% [markdown]
# The library takes `subsets` of these in each replicate, and swaps the roles of matching and held-out documents.

# %%
settings = {"subsets": subsets, "m": permutations, "seed": seed(run, "replicates")}
alike = replicates.over(
    lambda x: replicated.similarity(run, x, paired[x], primary.measure, one_n, **settings), cells, "scores"
)
by_replicate = readings.replicates(cells, list(alike.values()))
out.table("replicates", by_replicate, dict.fromkeys(by_replicate.columns[2:], "{:.3f}"))

# %% [markdown]
# Look at `excess`: its spread over the rows is what the interval below is made of. The p of the subsets depend on each
# other, so that twice their mean is given, and the same once more for the two roles.

# %%
overall = inference.over_replicates(by_replicate["excess"].to_numpy())
question, answer = "Are mutual pairs arranged more alike than shuffled pairs?", "none"
if "excess" in primary.thresholds:
    d = primary.thresholds["excess"].d
    answer = out.verdict("replicated", question, overall, d, f"their excess lies below {d:g}")
else:
    out.absent("replicated", "no threshold for a verdict")
out.number("replicates beyond", (by_replicate.p < LEVEL).sum(), "{:d}")
out.number("replicates", len(cells), "{:d}")
out.number("one n", one_n, "{:,}")
words_for = {"yes": "are arranged more alike than", "no": "are hardly arranged more alike than"}
out.text("verdict", words_for.get(answer, "are not clearly arranged more alike than"))

# %% [markdown]
# ## Verdict
# *Yes* where the whole interval of the excess lies above the threshold d of the profile, *no* where it lies below, else
# *undetermined*.

# %%
print(f"{question} {answer}: excess {overall.estimate:.3f}, {overall.low:.3f} to {overall.high:.3f}.")
out.save()
