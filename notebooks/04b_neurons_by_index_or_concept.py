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
# # Neurons paired by their index, or selected by a concept
#
# **Question.** Do neurons show a common space if their index pairs them, or if one concept selects them?
#
# **In.** The MLP neurons of the layers that the SAEs of A and B read, and the SAE features, in every replicate; models
# that may have kept the index of their neurons; lists of words.
#
# **Out.** The correlation of neurons of equal index, beside that of neurons that correlation pairs. By concept, how
# alike its neurons and its features are arranged, against two nulls: shuffled pairings, and random selections of as
# many pairs.
#
# **What would count as a no.** For the index: a correlation that a shuffled index reaches as easily. For a concept: an
# excess over either null by less than the threshold d.

# %% tags=["parameters"]
profile = "smoke"
by_index = {"two_layer_0": ["two_layer_start", "two_layer_1"]}
candidates = 16
minimum_firings = 5
fewest = 12
subsets = 3
permutations = 99
subspaces_of = {"concepts": "stories", "share": 0.2, "fewest": 10}

# %%
import numpy as np
import pandas as pd

from sae_utils import inference, measures, nulls, pipeline, profiles, replicates, report
from sae_utils.profiles import seed
from sae_utils.studies.llm_vs_sae import drawing, heard, indexed, scores, units
from sae_utils.studies.semantic_subspaces import concepts
from sae_utils.tables import average

# %%
run = profiles.start(profile, "04b_neurons_by_index_or_concept")
out = report.Report(run, "04b_neurons_by_index_or_concept")
measure, d = run.common.primary.measure, run.common.primary.d("excess")
SAE, NEURONS = both = scores.CONTRASTED
cells = replicates.of(run, *run.common.primary.pair)  # (A, B) of every replicate
pipeline.features_of(run, dict.fromkeys(name for names in cells for name in names))
exchanges = len(run.common.replicates) > 0
if exchanges:
    replicates.prepare(run, cells)

# %% [markdown]
# ## Pairs by index and pairs by correlation
# Two trainings that began with the same weights may keep neuron i as neuron i; then no correlation is needed to pair
# them. By index, the correlations of pairs are the diagonal of the matrix of all correlations. By correlation, the
# partner of neuron i is the largest value in row i on one half of the documents, read off on the other half.


# %%
def by_hand(name, other):
    chosen, held_out = indexed.correlated(run, name, other).array("r")[:, 0]  # (neurons, neurons) each
    live = np.flatnonzero(np.isfinite(np.diag(chosen)) & np.isfinite(np.diag(held_out)))
    by_own_index, partner = np.diag(held_out)[live], np.nanargmax(chosen[live], axis=1)
    library = indexed.compare(indexed.correlated(run, name, other), m=permutations, seed=seed(run, "by index"))
    np.testing.assert_allclose(by_own_index, library.r)
    np.testing.assert_allclose(np.mean(partner == live), library.own)
    return {"r by index": by_own_index.mean(), "r by correlation": held_out[live, partner].mean()}


# %%
listed = [replicates.of(run, name, other)[0] for name, others in by_index.items() for other in others]
pd.DataFrame({f"{name} and {other}": by_hand(name, other) for name, other in listed}).T.round(2)

# %% [markdown]
# Where *r by index* is as large as *r by correlation*, the index alone pairs these neurons as well as correlation does.

# %% [markdown]
# Each line is a model beside its own start, or beside a model that began with other weights, in the first replicate.
# Now with a test: *shuffled* is the mean r by a shuffled index, and p is the share of indices, the true one among them,
# that reach *r by index*. *Own* is the share of neurons whose best partner has their index. The last two columns are
# about mutual pairs, which are two neurons that are each other's best partner.


# %%
def compared(name, other):
    x = indexed.compare(indexed.correlated(run, name, other), m=permutations, seed=seed(run, "by index"))
    shown = {"r by index": average(x.r), "shuffled": x.shuffled.null_mean, "p": x.shuffled.p, "own": x.own}
    shares = {"by correlation": average(x.mutual_r), "own, by correlation": x.mutual_own}
    return {"layer of": name, "model": other, "neurons": len(x.unit)} | shown | shares


# %%
numbered = pd.DataFrame([compared(*names) for names in listed])
if listed:
    digits = dict.fromkeys(numbered.columns[3:], "{:.2f}") | {"p": "{:.3f}"}
    shown = out.table("by index", numbered, digits)
else:
    shown = out.absent("by index", "no two models that may have begun with the same weights")
shown

# %% [markdown]
# Compare *r by index* with *shuffled*, row by row: the row of a model that began with other weights shows what an index
# says where nothing ties neuron i to neuron i.

# %% [markdown]
# ## Neurons about a concept
# A unit is about a concept if at least a given share of its activation lies on the words of the concept. All notebooks
# share this rule, for features and neurons alike; of a neuron only activations above 0 count. On the neurons of the
# first replicate's A, at some rows of text:

# %%
lists = concepts.word_lists(subspaces_of["concepts"])
rule = concepts.rule({"kind": "mass", "share": subspaces_of["share"]})
x = np.maximum(units.neurons_on(run, *cells[0], rows=8)[0].cpu().numpy(), 0)  # (tokens, neurons)
sites = pipeline.features(run, cells[0][0]).sites
at = np.flatnonzero(sites.array("split") == 1)[: len(x)]  # the same tokens; split 1 are the matching documents
words = pipeline.words(run, cells[0][0], sites)
text = words._replace(of=words.of[at])

# %%
concept, listed_words = next(iter(lists.items()))
on_list = np.isin(np.array([*text.text, ""])[text.of], listed_words)  # (tokens,)
share = x[on_list].sum(0) / np.maximum(x.sum(0), 1e-9)
evidence = concepts.evidence(x, text, sites.array("documents")[at], np.ones(len(at), bool), k=1)
about = concepts.about(evidence, concepts.word_mask(listed_words, evidence), rule)
np.testing.assert_array_equal(about, share >= rule.share)
pd.Series(share).describe().rename(f"share of a neuron's activation on {concept}").to_frame().T.round(2)

# %% [markdown]
# Compare the largest shares with the threshold of the rule: only neurons that reach it are about the concept.

# %% [markdown]
# ## Pairs of a concept
# Features and neurons are paired one-to-one as in notebook 04. A pair belongs to a concept if either of its units is
# about it, by the rule on all matching documents.


# %%
def paired(names):
    exchange = replicates.seed(run, names[0]) if exchanges else None
    how = {"exchanged": exchange, "minimum": minimum_firings}
    return {kind: units.matched(run, *names, kind, candidates, **how)[0] for kind in both}


def masked(names):
    return {kind: [heard.about(run, name, kind, lists, rule) for name in names] for kind in both}


# %%
found = replicates.over(paired, cells, "pairs of units")
masks = replicates.over(masked, cells, "units about concepts")

# %%
pairs, of_units = found[cells[0]], masks[cells[0]]
places = {(kind, concept): scores.about(pairs[kind], of_units[kind], concept) for kind in both for concept in lists}
counts = pd.Series({key: len(at) for key, at in places.items()}).unstack(0)[[*both]]
counts.loc[[*lists]]

# %% [markdown]
# Only concepts with enough pairs in both columns can be compared; see which concepts hardly any neuron is about.

# %% [markdown]
# ## Two nulls
# *Shuffled pairings* keep the concept's units and break who is paired with whom. *Random selections* keep partners and
# break the concept: they are as many pairs of neurons, chosen at random from all. The score of a concept should exceed
# both. For the concept with most neurons, in plain numpy:

# %%
largest = counts[NEURONS].idxmax()
a, b = pairs[NEURONS].rows  # output weights of all paired neurons
at = places[NEURONS, largest]
if len(at) < subspaces_of["fewest"]:
    largest, at = "no concept", np.arange(len(a))[: subspaces_of["fewest"]]
generator = np.random.default_rng(seed(run, "nulls"))
shuffled = [
    measures.score(a[at], b[at][order], measure) for order in nulls.permutations(generator, permutations, len(at))
]

# %%
generator = np.random.default_rng(seed(run, "nulls"))
selections = [generator.choice(len(a), len(at), replace=False) for _ in range(permutations)]
selected = [measures.score(a[random], b[random], measure) for random in selections]
observed = measures.score(a[at], b[at], measure)

# %%
library = scores.both_nulls(pairs[NEURONS], at, measure, m=permutations, seed=seed(run, "nulls"))
np.testing.assert_allclose(library[0].draws, shuffled, atol=1e-4)
np.testing.assert_allclose(library[1].draws, selected, atol=1e-4)
p = [(1 + np.sum(np.array(null) >= observed)) / (1 + permutations) for null in (shuffled, selected)]
index = [f"{largest}, {len(at)} pairs of neurons"]
shown = {"score": observed, "shuffled mean": np.mean(shuffled), "p": p[0]}
pd.DataFrame(shown | {"random mean": np.mean(selected), "p (random)": p[1]}, index=index).round(3)

# %% [markdown]
# The score lies above *shuffled mean* if the pairs are arranged alike at all, and above *random mean* only if the
# concept adds to what any neurons show.

# %% [markdown]
# Now all concepts, for both kinds of unit, in the first replicate. Each set is scored with all of its pairs, so their
# numbers differ, and dots of the two panels cannot be compared with each other.

# %%
held = {
    key: scores.both_nulls(pairs[key[0]], at, measure, m=permutations, seed=seed(run, key[1]))
    for key, at in places.items()
    if len(at) >= subspaces_of["fewest"]
}
figure = drawing.nulls(held, measures.measure(measure).label)
out.figure("nulls", figure)

# %% [markdown]
# A dot to the right of the grey bar exceeds shuffled pairings; a dot to the right of the black bar also exceeds random
# units of the same number. Concepts without enough pairs have no dot.

# %% [markdown]
# ## Within concepts, over replicates
# Both kinds are scored at the smaller n of both. The value of a replicate is its mean over the concepts that have
# enough pairs of both kinds. *Random* columns are means over random selections of n pairs of any concept.


# %%
def within(names):
    scoring = scores.Scoring(measure, subsets, fewest, seed(run, "subsets"))
    rows = scores.within_concepts(found[names], masks[names], scoring, subspaces_of["fewest"], permutations)
    return [{"replicate": names[0]} | row for row in rows]


# %%
columns = [f"{which}{kind}" for kind in both for which in ("", "random ")]
of_replicates = replicates.over(within, cells, "concepts")
spaces = pd.DataFrame(
    [row for rows in of_replicates.values() for row in rows], columns=["replicate", "concept", "n", *columns]
)
by_concept = spaces.groupby("concept", sort=False)
table = by_concept[["n", *columns]].mean().reset_index()
table.insert(1, "replicates", by_concept.size().to_numpy())
out.table("concepts", table, {"n": "{:.0f}"} | dict.fromkeys(columns, "{:.2f}"))

# %% [markdown]
# Compare *MLP neurons* with *random MLP neurons* in each row: the difference is what the concept adds.

# %% [markdown]
# ## Verdicts

# %%
means = spaces.groupby("replicate")[columns].mean()
beyond = {kind: means[kind] - means[f"random {kind}"] for kind in both}
asked = {
    "neurons beyond shuffled": (
        "Are neurons about a concept arranged more alike than shuffled pairings?",
        means[NEURONS],
    ),
    "neurons beyond random": ("Are they arranged more alike than random neurons of the same number?", beyond[NEURONS]),
    "features beyond random": ("Are features about a concept arranged more alike than random features?", beyond[SAE]),
    "concepts": ("Within a concept, are SAE features arranged more alike than neurons?", means[SAE] - means[NEURONS]),
}
no = "a mean difference of excess over the concepts by less than d"
{q: out.verdict(name, q, inference.over_replicates(values), d, no) for name, (q, values) in asked.items()}

# %% [markdown]
# The first two lines hold neurons against both nulls; only a *yes* in both would mean that a concept selects neurons
# with a common space of their own. The third line holds features against random ones, the last compares both kinds.

# %%
out.text("concepts tested", f"{len(table)} of {len(lists)}")
out.number("concept share", 100 * rule.share, "{:.0f}")
out.number("selections", permutations, "{:d}")

# %% [markdown]
# ## Save

# %%
out.save()
