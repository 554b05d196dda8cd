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
# **Question.** Are the SAE features of two models arranged more alike than the models' own neurons, beyond chance?
#
# **In.** Replicates of A and of B with their SAEs; of the layer that each SAE reads, the MLP neurons and MLP outputs.
# **Out.** The excess similarity of each kind of unit at one n, in the true arm and with words exchanged; the difference
# between features and neurons, also at equal correlation; neurons by index; subspaces of concepts. All of it is
# secondary to the primary analysis.
#
# **What would count as a no.** Neurons that are arranged as much alike as SAE features are, to within the threshold d,
# at the same n and at the same correlation.

# %% tags=["parameters"]
profile = "smoke"
beside = {
    "layers below": [["two_layer_block0", "three_layer_block0"]],
    "another seed": [["two_layer_0", "two_layer_1"]],
}
by_index = {"two_layer_0": ["two_layer_start", "two_layer_1"]}
candidates = 16
minimum_firings = 5
counterpart = 0.5
fewest = 12
subsets = 3
secondary_measures = ["cka_debiased", "mutual_knn", "svcca_first_component"]
permutations = 19
caliper = 0.05
subspaces_of = {"concepts": "stories", "share": 0.2, "fewest": 10}

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from sae_utils import inference, measures, pipeline, profiles, replicates, report, tables
from sae_utils.profiles import seed
from sae_utils.studies.llm_vs_sae import crossed, heard, indexed, scores, units
from sae_utils.studies.semantic_subspaces import concepts

# %%
run = profiles.start(profile, "04_llm_vs_sae")
out = report.Report(run, "04_llm_vs_sae")
measure, d = run.common.primary.measure, run.common.primary.thresholds["excess"].d
SAE, NEURONS, OUTPUTS = units.KINDS
places = units.places(run, beside)  # name -> pairs of dictionaries, one of each replicate
cells = [(place, *pair) for place, pairs in places.items() for pair in pairs]
pipeline.features_of(run, dict.fromkeys(name for _, *pair in cells for name in pair))
exchanges = len(run.common.replicates) > 0  # without replicates there is one arm
if exchanges:
    replicates.prepare(run, places["primary"])

# %% [markdown]
# ## Neurons are correlated while the models run
# Neurons are dense, and their activations are not stored. Both models read the same rows side by side; of each window
# of rows only sums are kept: of x, of x squared, and of x times y for all pairs of neurons. On a slice, these sums give
# the correlations of numpy.

# %%
x, y = units.neurons_on(run, *run.pair, rows=8)  # (tokens, neurons) of A and of B
sums = crossed.Sums(x, y)
for part in np.array_split(np.arange(len(x)), 3):
    sums.add([x[part]], [y[part]])
r = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]
assert np.allclose(sums.r()[0], r, atol=1e-3, equal_nan=True)
x.shape, y.shape

# %% [markdown]
# ## Pairs
# Units are paired one-to-one with the largest sum of correlations, which leaves out fewest, on one split of the
# documents, and judged on the other; then the splits change places, and results are averaged. In the second arm each
# token of A's text is set beside the same token of B's text with words exchanged: what remains there does not need the
# words to mean the same. What stands for a decoder row: of a neuron its output weights; of an output dimension of the
# MLP its incoming weights from all neurons, which the published study took for a neuron.


# %%
found = replicates.over(lambda cell: scores.pairs(run, cell, candidates, minimum_firings), cells, "pairs of units")

# %% [markdown]
# ## The excess at one n
# No score is free of n: all sets are scored on random subsets of one n, the smallest of any set with enough pairs. The
# score is the rank correlation of all dissimilarities between rows; its mean over shuffled pairings is known exactly,
# and the excess is what exceeds it. On a slice:

# %%
a, b = (side[:30] for side in found[cells[0]]["one-to-one", SAE][0].rows)
upper = np.triu_indices(len(a), 1)
dissimilar = [1 - np.corrcoef(side)[upper] for side in (a, b)]
observed = stats.spearmanr(*dissimilar).statistic
assert measure != "rsa_spearman" or np.isclose(observed, measures.score(a, b, measure))


# %%
scoring = scores.Scoring(measure, subsets, fewest, seed(run, "subsets"))
scored = scores.at_one_n(found, "one-to-one", scoring, counterpart)
n = int(scored.n.max())

# %% [markdown]
# Function words are the same in both arms, so that the second arm is a control of content words only. *Content units*
# are the pairs whose unit of A has more than 80% of its activation on content words, at an n of their own.

# %%
if exchanges:
    of_content = scores.at_one_n(found, "one-to-one", scoring, counterpart, part=units.Matched.of_content)
    of_content = of_content[of_content.place == "primary"].assign(place="content units")
    scored = pd.concat([scored, of_content[of_content.units != OUTPUTS]], ignore_index=True)
    out.number("content n", of_content.n.max(), "{:.0f}")

# %%
summary = pd.DataFrame(
    {"place": place, "arm": arm, "units": kind, "replicates": len(part)}
    | part[["pairs", "held out", "counterparts"]].mean().to_dict()
    | dict(zip(["excess", "low", "high"], np.array(inference.over_replicates(part.excess))[[0, 2, 3]], strict=True))
    | {"null sd": part["null sd"].mean()}
    for (place, arm, kind), part in scored.groupby(["place", "arm", "units"], sort=False)
)
forms = {"pairs": "{:.0f}"} | dict.fromkeys(summary.columns[4:], "{:.2f}") | {"null sd": "{:.3f}"}
out.table("similarity", summary, forms)

# %% [markdown]
# ## Features beside neurons
# Dots are replicates, bars their mean with its interval; grey, 95% of the shuffled pairings of one pair of models.

# %%
groups = sorted(
    dict.fromkeys(zip(summary.place, summary.arm, strict=True)), key=lambda x: x[0] not in ("primary", "content units")
)
colours = dict(zip(units.KINDS, (report.PAIRED, "#de8f05", "#029e73"), strict=True))

# %%
figure, axes = plt.subplots(figsize=(5.5, 2.9))
for mean in summary.itertuples():
    at = groups.index((mean.place, mean.arm)) + 0.27 * (units.KINDS.index(mean.units) - 1)
    axes.vlines(at, *(1.96 * mean[-1] * np.array([-1, 1])), color=report.NULL, linewidth=8, alpha=0.5)
    dots, ends = (
        scores.excess(scored, mean.units, mean.arm, mean.place),
        abs(np.array([[mean.low], [mean.high]]) - mean.excess),
    )
    axes.scatter(np.full(len(dots), at - 0.05), dots, s=9, color=colours[mean.units], alpha=0.6, linewidths=0)
    axes.errorbar(at + 0.05, mean.excess, ends, fmt="_", color=colours[mean.units], markersize=6, linewidth=1.5)
axes.axhline(0, color=report.NULL, linewidth=0.5, zorder=0)
axes.set_xticks(range(len(groups)), [units.title(*group) for group in groups], fontsize=7)
axes.set(ylabel=f"excess similarity\n({measures.measure(measure).label})", xlim=(-0.6, len(groups) - 0.4))

# %%
for kind, colour in colours.items():
    axes.scatter([], [], s=15, color=colour, label=kind)
axes.vlines([], 0, 0, color=report.NULL, linewidth=7, alpha=0.5, label="95% of shuffled pairings")
figure.legend(loc="outside lower center", ncols=4, fontsize=7, handletextpad=0.2, columnspacing=1)
out.figure("similarity", figure)
figure

# %%
SHORT = {"sae": SAE, "neurons": NEURONS, "outputs": OUTPUTS}
for name, kind in SHORT.items():
    mean = inference.over_replicates(scores.excess(scored, kind))
    out.number(f"excess {name}", mean.estimate, "{:.2f}", mean.se)
    part = scored[(scored.units == kind) & (scored.place == "primary") & (scored.arm == "true")]
    out.number(f"held out {name}", part["held out"].mean(), "{:.2f}")
for name, value in {"n": n, "subsets": subsets, "replicates": len(places["primary"])}.items():
    out.number(name, value, "{:d}")

# %% [markdown]
# ## Verdicts
# Differences are taken within replicates.

# %%
for name, kind in {"neurons": NEURONS, "outputs": OUTPUTS}.items():
    out.verdict(
        f"beyond {name}",
        f"Are SAE features arranged more alike than {kind}?",
        inference.over_replicates(scores.excess(scored, SAE) - scores.excess(scored, kind)),
        d,
        f"an excess of features above that of {kind} by less than d",
    )

# %%
for name, kind in SHORT.items():
    question = f"Are {kind} arranged more alike than shuffled pairings?"
    out.verdict(
        f"chance {name}", question, inference.over_replicates(scores.excess(scored, kind)), d, "an excess below d"
    )

# %%
controls = [(name, kind, "primary") for name, kind in SHORT.items()]
controls += [(f"content {name}", SHORT[name], "content units") for name in ("sae", "neurons")]
for name, kind, place in controls if exchanges else ():
    kind_of = f"{kind} of content words" if place == "content units" else kind
    out.verdict(
        f"control {name}",
        f"Are {kind_of} arranged more alike where words are the same than where they are exchanged?",
        inference.over_replicates(
            scores.excess(scored, kind, "true", place) - scores.excess(scored, kind, "exchanged", place)
        ),
        d,
        "an excess above that with words exchanged by less than d",
    )

# %% [markdown]
# ## At equal correlation
# Features may be arranged more alike because they correlate more. To each pair of features the pair of neurons is taken
# that has nearly the same correlation on the other split (nearest neighbours without replacement, within a caliper):
# two sets with one n and one r. Below the fewest pairs a replicate has no value.


# %%
equal = np.array([scores.alike(found[cell], scoring, caliper) for cell in cells if cell[0] == "primary"])
out.verdict(
    "equal r",
    "Are SAE features arranged more alike than neurons that correlate as much?",
    inference.over_replicates(equal[:, 2]),
    d,
    "an excess of features above that of neurons by less than d",
)

# %%
out.number("equal n", tables.average(equal[:, 0]), "{:.0f}")
out.number("equal held out", tables.average(equal[:, 1]))
out.number("caliper", caliper)
pd.DataFrame(equal, columns=["pairs", "held-out r", "features minus neurons"])

# %% [markdown]
# ## Other matchings and measures
# Means over replicates of the primary pair, and features minus neurons with its interval. Each matching has its own n.

# %%
closed = {name: 0 if measures.measure(name).closed_form else permutations for name in [measure, *secondary_measures]}
variants = []
for how, (name, m) in [(how, x) for how in units.MATCHINGS for x in closed.items()]:
    table = scores.at_one_n(found, how, scoring, counterpart, measure=name, m=m)
    table = table[(table.place == "primary") & (table.arm == "true")]
    by_kind = table.pivot(index="replicate", columns="units", values="excess")
    gain = inference.over_replicates(by_kind[SAE] - by_kind[NEURONS])
    variants.append(
        {"matching": how, "measure": name, "n": int(table.n.iloc[0])}
        | by_kind[list(units.KINDS)].mean().to_dict()
        | {"features minus neurons": gain.estimate, "low": gain.low, "high": gain.high}
    )
variants = pd.DataFrame(variants)
out.table("variants", variants, {"n": "{:d}"} | dict.fromkeys(variants.columns[3:], "{:.2f}"))

# %% [markdown]
# ## Neurons by their index
# Two trainings that began with the same weights may keep neuron i as neuron i, for which no correlation is needed. This
# describes the first replicate: a model beside its own start, and beside a model that began with other weights.
# *Shuffled*: the mean held-out r with a shuffled index; *own*: the share of neurons whose best partner has their index.

# %%
listed = [replicates.of(run, name, other)[0] for name, others in by_index.items() for other in others]
numbered = []
for name, other in listed:
    x = indexed.compare(indexed.correlated(run, name, other), m=max(permutations, 99), seed=seed(run, "by index"))
    shares = {"own": x.own, "by correlation": tables.average(x.mutual_r), "own, by correlation": x.mutual_own}
    shown = {"r by index": tables.average(x.r), "shuffled": x.shuffled.null_mean, "p": x.shuffled.p}
    numbered.append({"layer of": name, "model": other, "neurons": len(x.unit)} | shown | shares)
numbered = pd.DataFrame(numbered)
if listed:
    out.table("by index", numbered, {"neurons": "{:d}", "p": "{:.3f}"} | dict.fromkeys(
        ["r by index", "shuffled", "own", "by correlation", "own, by correlation"], "{:.2f}"))  # fmt: skip
else:
    out.absent("by index", "no two models that may have begun with the same weights")

# %% [markdown]
# ## Subspaces of concepts
# A unit is about a concept if a share of its activation lies on the words of the concept, by one rule for features and
# neurons. Pairs of which either side is about the concept are its subspace, scored at the smaller n of both kinds. A
# replicate's value is the mean over the concepts that have enough pairs of both kinds.

# %%
lists = concepts.word_lists(subspaces_of["concepts"])
rule = concepts.rule({"kind": "mass", "share": subspaces_of["share"]})
both = (SAE, NEURONS)
masks = replicates.over(
    lambda pair: {kind: [heard.about(run, name, kind, lists, rule) for name in pair] for kind in both},
    places["primary"],
    "units about concepts",
)


# %%
spaces = pd.DataFrame(
    [
        {"replicate": pair[0]} | row
        for pair in places["primary"]
        for row in scores.within_concepts(found["primary", *pair], masks[pair], scoring, subspaces_of["fewest"])
    ],
    columns=["replicate", "concept", "n", *both],
)

# %%
by_replicate = spaces.groupby("replicate")[[*both]].mean()
tested = len(spaces.groupby("concept"))
out.verdict(
    "concepts",
    "Within a concept, are SAE features arranged more alike than neurons?",
    inference.over_replicates(by_replicate[SAE] - by_replicate[NEURONS]),
    d,
    "a mean excess of features above that of neurons by less than d",
)
out.text("concepts tested", f"{tested} of {len(lists)}")
out.number("concept share", 100 * subspaces_of["share"], "{:.0f}")

# %%
of_concepts = spaces.groupby("concept", sort=False)[["n", *both]].agg("mean").reset_index()
of_concepts.insert(1, "replicates", spaces.groupby("concept", sort=False).size().to_numpy())
out.table("concepts", of_concepts, {"n": "{:.0f}"} | dict.fromkeys(both, "{:.2f}"))

# %% [markdown]
# ## Save

# %%
out.save()
