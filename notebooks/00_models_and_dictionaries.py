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
# # Models and dictionaries
#
# **Question.** Are the language models and the sparse autoencoders (SAEs) that everything else compares any good?
#
# **In.** The corpus, models and dictionaries of the profile. **Out.** The trained models and SAEs in the store; tables
# of their quality; a learning curve.
#
# **What would count as a no.** A model that does not beat a bigram has learnt nothing that a table of word pairs does
# not hold. An SAE that leaves most of the variance unexplained, most of whose features never fire, or that fits a
# neighbouring hook better than its own, is not a description of its model.

# %% tags=["parameters"]
profile = "smoke"
judged_rows = 64
fvu_rows = 32
truth_tokens = 2000
curve = "two_layer"

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sae_utils import pipeline, profiles, report, sweep, tables
from sae_utils.engine.lms import cross_entropy
from sae_utils.engine.saes import activations
from sae_utils.engine.text import corpora, stories
from sae_utils.studies.models_and_dictionaries import description, singled_out

# %%
run = profiles.start(profile, "00_models_and_dictionaries")
out = report.Report(run, "00_models_and_dictionaries")

# %% [markdown]
# ## The corpus
# Its documents are dealt to three splits once and for all: one trains models and SAEs, one pairs features, one judges
# the pairs. What the paper may say of its models depends on the profile: small ones trained here, or released ones.

# %%
text = corpora.text(run.corpus)
print(next(corpora.blocks(text)).texts[0])

# %%
split = pd.Series(text.array("split")).map(dict(enumerate(corpora.SPLITS))).value_counts()
out.text("corpus", run.corpus.description)
out.text("toys", tables.yes(description.all_toys(run)))
out.text("classes known", tables.yes(description.classes_known(run)))
out.text("models are", description.models(run))
out.text("dictionaries are", description.dictionaries(run))
out.text("released", ", ".join(description.released(run)))
out.text("scope", description.scope(run))
out.text("pair", description.pair(run, *run.pair))
out.number("documents", text.meta["documents"], "{:,}")
for name in corpora.SPLITS:
    out.number(f"documents {name}", split[name], "{:,}")
split

# %% [markdown]
# ## Language models
# Each is trained here, or of the hub, and read by one call. Its loss on held-out documents of its own world
# stands beside a unigram and a bigram fitted on the same training documents. Twins with random weights should do no
# better than the unigram.

# %%
losses = sweep.run(lambda name: pipeline.losses(run, name, judged_rows), run.models, "language models")
sizes = {name: description.size(run, name) for name in losses}
language_models = pd.DataFrame(
    {
        "model": name,
        **sizes[name]._asdict(),
        "loss": found.meta["model"],
        "bigram": found.meta["bigram"],
        "unigram": found.meta["unigram"],
    }
    for name, found in losses.items()
)

# %% [markdown]
# Models that differ by their seed alone are one row: the mean, and the smallest and largest.

# %%
nats = dict.fromkeys(["loss", "bigram", "unigram"], "{:.3f}")
out.table("models", description.by_family(run, language_models, {"parameters": "{:,}", "steps": "{:.0f}", **nats}))

# %%
trained = language_models[[description.finished(run, name) for name in losses]]  # not what it was on the way
beating = (trained.loss < trained.bigram).sum()
out.number("trained models", len(trained), "{:d}")
out.number("models beating the bigram", beating, "{:d}")
out.number("predictions", next(iter(losses.values())).meta["predictions"], "{:,}")
f"{beating} of {len(trained)} trained models beat the bigram"

# %% [markdown]
# ## Learning
# One model's loss at its checkpoints: when does it pass the baselines? Of a family, the first member is drawn.

# %%
drawn = run.members(curve)[0] if curve else ""
rows = pipeline.training_rows(run, drawn) if curve else None
checkpoints = description.checkpoints(run, drawn) if curve else {}
learning = {step: cross_entropy.held_out(x, rows, judged_rows).meta["model"] for step, x in checkpoints.items()}

# %%
if curve:
    figure, axes = plt.subplots(figsize=(3.4, 1.9))
    axes.plot(list(learning), list(learning.values()), marker="o", markersize=3, color=report.PAIRED, label=drawn)
    for baseline, line in (("unigram", ":"), ("bigram", "-")):
        axes.axhline(losses[drawn].meta[baseline], color=report.NULL, linestyle=line, label=baseline, zorder=0)
    axes.set(xscale="log", xlabel="training steps", ylabel="held-out loss (nats a token)")
    axes.legend(loc="center left")
    out.figure("learning", figure)
else:
    out.absent("learning", "no model at several training steps")

# %% [markdown]
# ## Sparse autoencoders
# FVU is the fraction of variance left unexplained, L0 the number of features active at a token, *dead* the share of
# features that fire at none of the held-out tokens judged, *recovered* the share of the loss between the true
# activations and zeros that the reconstruction keeps. Each is judged on documents of the world it was trained on.
#
# *Massive* are the dimensions that hold over a tenth of the variance each and ten times the mean, with the FVU of all
# others: where one holds half of it, an FVU says little about the rest. *Doubts* are fewer than 1,000 steps of
# training, text that was seen again and again, and over 20% dead features.


# %%
readers = pipeline.readers(run, run.dictionaries)
judged = sweep.run(lambda name: readers[name].judge(judged_rows).meta, readers, "quality")
located = sweep.run(lambda name: readers[name].locate(fvu_rows).meta, readers, "best hooks")

# %%
dictionaries = pd.DataFrame(
    {
        "dictionary": name,
        "hook": readers[name].hook.removeprefix("blocks."),
        "FVU": found["fvu"],
        "L0": found["l0"],
        "dead": found["dead"],
        "recovered": found["recovered"],
        "fits best at": located[name]["best"].removeprefix("blocks."),
        "massive": description.massive(found),
        "doubts": description.doubts(readers[name].dictionary, found),
    }
    for name, found in judged.items()
)
shares = dict.fromkeys(["FVU", "dead", "recovered"], "{:.3f}")
out.table("dictionaries", description.by_family(run, dictionaries, {"L0": "{:.1f}", **shares}))

# %%
at_home = (dictionaries.hook == dictionaries["fits best at"]).sum()
main = dictionaries[dictionaries.dictionary.isin([x for name in run.common.primary.pair for x in run.members(name)])]
out.number("dictionaries", len(dictionaries), "{:d}")
out.number("dictionaries at home", at_home, "{:d}")
out.number("judged tokens", judged[run.pair[0]]["tokens"], "{:,}")
for letter, name in zip("ab", run.pair, strict=True):
    out.text(f"side {letter}", description.side(run, name, readers[name].width))
out.text("site", description.site(readers[run.pair[0]].hook))
out.number("worst fvu", main.FVU.max(), "{:.3f}")
out.number("least recovered", main.recovered.min(), "{:.3f}")
out.number("least live", 100 - 100 * main.dead.max(), "{:.0f}")

# %% [markdown]
# ## Do single features single out true classes?
# In the stories the class of every word is known. For each class the feature (or neuron) and threshold with the highest
# F1 on one half of the tokens is judged on the other half. One model is judged, the first of A.

# %%
name = run.pair[0]
x, features = readers[name], pipeline.features(run, name)
post = f"blocks.{x.hook.split('.')[1]}.mlp.hook_post"
fit, judge = (
    np.flatnonzero(features.sites.array("split") == corpora.SPLITS.index(name))[:truth_tokens]
    for name in ("matching", "held_out")
)
classes = features.sites.array("classes")
classed = description.classes_known(run)
if not classed:
    out.absent("class", "no word of a known class")

# %%
by_class = pd.DataFrame(columns=["class", "F1 feature", "F1 neuron"])
if classed:
    neurons = activations.neurons([post], x.model, x.rows, features.sites, x.skip)[post].array("values")
    singled = [
        singled_out.best_f1(values, classes, fit, judge, stories.CLASSES) for values in (features.codes, neurons)
    ]
    by_class = pd.merge(*singled, on="class", suffixes=(" feature", " neuron"))

# %%
if classed:
    out.number("classes", len(by_class), "{:d}")
    out.number("class tokens", len(judge), "{:,}")
    for label in ("feature", "neuron"):
        out.number(f"class score {label}", by_class[f"F1 {label}"].mean(), "{:.2f}")
    out.number("classes better by feature", (by_class["F1 feature"] > by_class["F1 neuron"]).sum(), "{:d}")
by_class[["class", "F1 feature", "F1 neuron"]].sort_values("F1 feature", ascending=False).head(10)

# %%
if classed:
    figure, axes = plt.subplots(figsize=(2.5, 2.4))
    axes.plot([0, 1], [0, 1], color=report.NULL, linewidth=1)
    axes.scatter(by_class["F1 neuron"], by_class["F1 feature"], s=8, color=report.PAIRED, linewidths=0)
    axes.set(xlabel="F1 of the best neuron", ylabel="F1 of the best feature", aspect="equal")
    out.figure("classes", figure)

# %%
out.text("limits", description.limits(run))

# %% [markdown]
# ## Save

# %%
out.save()
