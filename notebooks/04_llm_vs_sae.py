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
# # SAE features and the models' own neurons
#
# **Question.** Are the SAE features of two models arranged more alike than the models' own neurons?
#
# **In.** Replicates of the models A and B with their SAEs; of the layer that each SAE reads, the MLP neurons and the
# output dimensions of the MLP.
#
# **Out.** The excess similarity of each kind of unit at one n, with the words as they are and with words exchanged; the
# difference between features and neurons, at one n and at equal correlation. All of it is secondary to the primary
# analysis in notebook 07.
#
# **What would count as a no.** Neurons are arranged as much alike as SAE features, to within the threshold d, at the
# same n and at the same correlation.

# %% tags=["parameters"]
profile = "smoke"
beside = {
    "layers below": [["two_layer_block0", "three_layer_block0"]],
    "another seed": [["two_layer_0", "two_layer_1"]],
}
candidates = 16
minimum_firings = 5
counterpart = 0.5
fewest = 12
subsets = 3
secondary_measures = ["cka_debiased", "mutual_knn", "svcca_first_component"]
permutations = 19
caliper = 0.05

# %%
from itertools import product

import numpy as np
import pandas as pd
from scipy import optimize, stats

from sae_utils import correlate, inference, matching, measures, pipeline, profiles, replicates, report, significance
from sae_utils.profiles import seed
from sae_utils.studies.llm_vs_sae import crossed, drawing, scores, units
from sae_utils.tables import average

# %%
run = profiles.start(profile, "04_llm_vs_sae")
out = report.Report(run, "04_llm_vs_sae")
measure, d = run.common.primary.measure, run.common.primary.d("excess")
SAE, NEURONS, OUTPUTS = units.KINDS
places = units.places(run, beside)  # name -> pairs of dictionaries, one pair a replicate
cells = [(place, *pair) for place, pairs in places.items() for pair in pairs]
pipeline.features_of(run, dict.fromkeys(name for _, *pair in cells for name in pair))
exchanges = len(run.common.replicates) > 0  # without replicates no words are exchanged
if exchanges:
    replicates.prepare(run, places["primary"])

# %% [markdown]
# ## A correlation needs only sums
# Neurons are dense, and storing their activations would take too much space. So both models read the same rows of text
# side by side, and each window of rows adds to a few sums: x, x squared, and x times y for every pair of neurons.
# The sums alone give the correlations that numpy computes from all activations.

# %%
neurons = units.neurons_on(run, *run.pair, rows=8)  # (tokens, neurons) of A and of B
x, y = (side.double().cpu().numpy() for side in neurons)
windows = np.array_split(np.arange(len(x)), 3)
products = sum(x[at].T @ y[at] for at in windows)
means = [sum(side[at].sum(0) for at in windows) / len(x) for side in (x, y)]
squares = [sum((side[at] ** 2).sum(0) for at in windows) / len(x) for side in (x, y)]
sds = [np.sqrt(square - mean**2) for square, mean in zip(squares, means, strict=True)]
r = (products / len(x) - np.outer(*means)) / np.outer(*sds)

# %%
np.testing.assert_allclose(r, np.corrcoef(x.T, y.T)[: len(r), len(r) :], atol=1e-6)
sums = crossed.Sums(*neurons)
for at in windows:
    sums.add(*([side[at]] for side in neurons))
np.testing.assert_allclose(sums.r()[0], r, atol=1e-3)
pd.DataFrame({"tokens": [len(x)], "neurons of A": r.shape[0], "neurons of B": r.shape[1], "sums": r.size})

# %% [markdown]
# The number of *sums* stays as it is when more tokens are read, while the activations grow with the tokens.

# %% [markdown]
# ## Units are paired one-to-one
# Every unit of the smaller side gets a partner of its own, and the sum of the correlations is the largest possible. So
# few units are left out, and no unit is used twice. On 40 neurons of each side, scipy's assignment reaches the same sum
# as the library:

# %%
some_x, some_y = (side[:, side.std(0) > 0][:, :40] for side in (x, y))
r = np.corrcoef(some_x.T, some_y.T)[: some_x.shape[1], some_x.shape[1] :]
best = optimize.linear_sum_assignment(r, maximize=True)
pairs = matching.optimal(correlate.features(some_x, some_y, k=min(candidates, *r.shape)))
np.testing.assert_allclose(pairs.r.sum(), r[best].sum(), rtol=1e-4)
pd.DataFrame(
    {"pairs": [len(pairs)], "mean r, one-to-one": pairs.r.mean(), "mean r, best of all": r.max(1).mean()}
).round(2)

# %% [markdown]
# Compare the two means: the difference is what it costs that no unit is used twice.

# %% [markdown]
# Three kinds of unit are paired like this. An SAE feature has its decoder row; an MLP neuron has its output weights; an
# output dimension of the MLP has its incoming weights from all neurons, which the published study took for a neuron.
# One half of the documents chooses the pairs and the other half judges them; then the halves change places. In a second
# arm, B reads the text with words exchanged: what remains alike there does not need words to mean the same.


# %%
def paired(cell):
    place, a, b = cell
    exchange = replicates.seed(run, a) if exchanges and place == "primary" else None
    how_to = {"exchanged": exchange, "minimum": minimum_firings}
    return {
        (how, kind): units.matched(run, a, b, kind, candidates, how=how, **how_to)
        for how, kind in product(units.MATCHINGS, units.KINDS)
    }


# %%
found = replicates.over(paired, cells, "pairs of units")
first = {kind: found[cells[0]]["one-to-one", kind][0] for kind in units.KINDS}
pd.DataFrame({kind: {"pairs": x.n, "r held out": average(x.held_out)} for kind, x in first.items()}).T.round(2)

# %% [markdown]
# The number of pairs differs between the kinds, so that their scores cannot be compared as they stand. A kind with a
# larger held-out r has better partners, which the section on equal correlation takes into account.

# %% [markdown]
# ## Excess: the similarity beyond shuffled pairings
# Spearman RSA ranks the dissimilarities (1 - r) between the rows of all two units of A, and those between their
# partners in B, and correlates the ranks. The excess is what the score adds to its mean over shuffled pairings, as a
# share of the possible: (score - mean) / (1 - mean).


# %%
def rsa_excess(a, b, generator, shuffles=200):
    upper = np.triu_indices(len(a), 1)
    one, two = 1 - np.corrcoef(a), 1 - np.corrcoef(b)
    orders = [np.arange(len(a)), *(generator.permutation(len(a)) for _ in range(shuffles))]
    score, *null = [stats.spearmanr(one[upper], two[np.ix_(o, o)][upper]).statistic for o in orders]
    return score, np.mean(null), (score - np.mean(null)) / (1 - np.mean(null))


# %%
a, b = (side[:30] for side in first[SAE].rows)
score, null, excess = rsa_excess(a, b, np.random.default_rng(seed(run, "by hand")))
known = significance.test(a, b, ["rsa_spearman"], m=0)["rsa_spearman"]  # the exact mean over all shuffles
np.testing.assert_allclose(score, known.observed, atol=1e-5)
np.testing.assert_allclose([null, excess], [known.null_mean, known.excess], atol=5 * known.null_sd / np.sqrt(200))
pd.DataFrame({"by hand": [score, null, excess]}, index=["score", "mean of shuffles", "excess"]).T.round(3)

# %% [markdown]
# A mean of shuffles near 0 makes the excess nearly the score itself; other measures have larger means.

# %% [markdown]
# ## One n for neurons and features
# A score depends on the number of pairs, so all kinds are scored on random subsets of one n. The same function serves
# neurons and features; here both are scored at the n of the smaller kind.


# %%
def at_n(rows, n):
    generator = np.random.default_rng(scoring.seed)
    scored = []
    for _ in range(subsets if n < len(rows[0]) else 1):
        part = np.sort(generator.choice(len(rows[0]), n, replace=False))
        scored.append(significance.test(rows[0][part], rows[1][part], [measure], m=0)[measure].excess)
    return np.mean(scored)


# %%
scoring = scores.Scoring(measure, subsets, fewest, seed(run, "subsets"))
n = min(x.n for x in first.values())
by_hand = {kind: at_n(x.rows, n) for kind, x in first.items()}
np.testing.assert_allclose([*by_hand.values()], [scoring.at(x.rows, n).excess for x in first.values()])
pd.DataFrame(by_hand, index=[f"excess at n = {n}"]).round(3)

# %% [markdown]
# This is one replicate, chosen on one half of the documents: it shows the method, and its order of kinds is no result.

# %% [markdown]
# Now all replicates, arms and comparisons, at the smallest n of any set that has enough pairs. Function words stay in
# their place in the second arm, so it controls only for content words. *Content units* are therefore pairs whose unit
# of A has more than 80% of its activation on content words, at an n of their own.

# %%
scored = scores.at_one_n(found, "one-to-one", scoring, counterpart)
n = int(scored.n.max())
if exchanges:
    content = scores.at_one_n(found, "one-to-one", scoring, counterpart, part=units.Matched.of_content)
    content = content[(content.place == "primary") & (content.units != OUTPUTS)].assign(place="content units")
    scored = pd.concat([scored, content], ignore_index=True)
summary = scores.summary(scored)
forms = {"pairs": "{:.0f}"} | dict.fromkeys(summary.columns[4:], "{:.2f}") | {"null sd": "{:.3f}"}
out.table("similarity", summary, forms)

# %% [markdown]
# Compare the intervals (low to high) of the three kinds within the rows *primary, true*. *Counterparts* is the share of
# A's live units whose partner reaches the threshold of held-out r; *pairs* are counted before the cut to one n.

# %%
figure = drawing.excess(scored, summary, measures.measure(measure).label)
out.figure("similarity", figure)

# %% [markdown]
# In each group, SAE features (blue) above neurons (orange) by more than d would be a yes. Grey is the range of shuffled
# pairings of one pair of models. The groups *words exchanged* show how much similarity does not need equal words.

# %%
SHORT = {"sae": SAE, "neurons": NEURONS, "outputs": OUTPUTS}
for name, kind in SHORT.items():
    mean = inference.over_replicates(scores.excess(scored, kind))
    out.number(f"excess {name}", mean.estimate, "{:.2f}", mean.se)
    out.number(
        f"held out {name}",
        scored.set_index(["place", "arm", "units"]).loc[("primary", "true", kind), "held out"].mean(),
    )
for name, value in {"n": n, "subsets": subsets, "replicates": len(places["primary"])}.items():
    out.number(name, value, "{:d}")
if exchanges:
    out.number("content n", content.n.max(), "{:.0f}")

# %% [markdown]
# ## Verdicts
# A difference is taken within each replicate, and its interval over replicates is held against d. Yes: the interval
# lies above d. No: it lies below d.

# %%
words = {}
for name, kind in {"neurons": NEURONS, "outputs": OUTPUTS}.items():
    question, no = (
        f"Are SAE features arranged more alike than {kind}?",
        f"an excess of features above that of {kind} by less than d",
    )
    gain = inference.over_replicates(scores.excess(scored, SAE) - scores.excess(scored, kind))
    words[question] = out.verdict(f"beyond {name}", question, gain, d, no)
for name, kind in SHORT.items():
    question = f"Are {kind} arranged more alike than shuffled pairings?"
    over = inference.over_replicates(scores.excess(scored, kind))
    words[question] = out.verdict(f"chance {name}", question, over, d, "an excess below d")
words

# %% [markdown]
# The first line answers the question of this notebook; the last three say which kinds exceed chance by d. Next, each
# kind against its own control, the same units with words exchanged:

# %%
controls = [(name, kind, "primary", kind) for name, kind in SHORT.items()]
controls += [(f"content {x}", SHORT[x], "content units", f"{SHORT[x]} of content words") for x in ("sae", "neurons")]
words = {}
for name, kind, place, said in controls if exchanges else ():
    question = f"Are {said} arranged more alike where words are the same than where they are exchanged?"
    true, exchanged = (scores.excess(scored, kind, arm, place) for arm in units.ARMS)
    no = "an excess above that with words exchanged by less than d"
    words[question] = out.verdict(f"control {name}", question, inference.over_replicates(true - exchanged), d, no)
words

# %% [markdown]
# A *no* in the first three lines may come from function words, which both arms share; the last two lines leave function
# words out.

# %% [markdown]
# ## At equal correlation
# Units that correlate more may be arranged more alike for that reason alone. So each pair of features is set beside a
# pair of neurons with nearly the same held-out r: the nearest two first, each pair used once, never further apart than
# the caliper. This gives two sets with one n and one r. On a slice:


# %%
def nearest(one, two):
    distance = np.abs(one[:, None] - two)
    taken = []
    for place in np.argsort(distance, axis=None, kind="stable"):
        i, j = divmod(int(place), len(two))
        if distance[i, j] <= caliper and all(i != x and j != y for x, y in taken):
            taken.append((i, j))
    return taken


# %%
of_features, of_neurons = (first[kind].held_out[:40].astype(float) for kind in (SAE, NEURONS))
expected = inference.alike(of_features, of_neurons, caliper)
assert nearest(of_features, of_neurons) == [*zip(*expected, strict=True)]

# %%
equal = np.array([scores.alike(found[cell], scoring, caliper) for cell in cells if cell[0] == "primary"])
question = "Are SAE features arranged more alike than neurons that correlate as much?"
gain, no = inference.over_replicates(equal[:, 2]), "an excess of features above that of neurons by less than d"
print(question, out.verdict("equal r", question, gain, d, no))
pd.DataFrame(equal, columns=["pairs", "r held out", "features minus neurons"]).round(
    {"r held out": 2, "features minus neurons": 3}
)

# %% [markdown]
# In the last column, see on which side of d the replicates lie; a replicate with too few pairs has no value.

# %%
out.number("equal n", average(equal[:, 0]), "{:.0f}")
out.number("equal held out", average(equal[:, 1]))
out.number("caliper", caliper)

# %% [markdown]
# ## Other matchings and measures
# The difference should not hang on one matching or one measure. Mutual pairs are each other's best partner. Each
# matching has an n of its own; a measure whose null mean has no closed form is shuffled instead.


# %%
def variant(how, name):
    m = 0 if measures.measure(name).closed_form else permutations
    table = scores.at_one_n(found, how, scoring, counterpart, measure=name, m=m)
    by_kind = pd.DataFrame({kind: scores.excess(table, kind) for kind in units.KINDS})
    gain = inference.over_replicates(by_kind[SAE] - by_kind[NEURONS])
    names = {"matching": how, "measure": name, "n": int(table.n.iloc[0])} | by_kind.mean().to_dict()
    return names | {"features minus neurons": gain.estimate, "low": gain.low, "high": gain.high}


# %%
variants = pd.DataFrame(variant(*both) for both in product(units.MATCHINGS, [measure, *secondary_measures]))
out.table("variants", variants, {"n": "{:d}"} | dict.fromkeys(variants.columns[3:], "{:.2f}"))

# %% [markdown]
# See whether *features minus neurons* keeps its sign from row to row. The published study used `svcca_first_component`.

# %% [markdown]
# ## Save

# %%
out.save()
