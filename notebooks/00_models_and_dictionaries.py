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
# neighbouring hook better than its own, does not describe its model.

# %% tags=["parameters"]
profile = "smoke"
judged_rows = 64
fvu_rows = 32
truth_tokens = 2000
curve = "two_layer"

# %%
import numpy as np
import pandas as pd
import torch
from scipy import special

from sae_utils import pipeline, profiles, report, sweep, tables
from sae_utils.engine.lms import batching, cross_entropy, models
from sae_utils.engine.saes import activations, dictionaries
from sae_utils.engine.text import corpora, stories, tokenization
from sae_utils.studies.models_and_dictionaries import description, drawing, singled_out

# %%
run = profiles.start(profile, "00_models_and_dictionaries")
out = report.Report(run, "00_models_and_dictionaries")

# %% [markdown]
# ## The corpus
# Its documents are dealt to three splits once and for all: one trains models and SAEs, one pairs features, one judges
# the pairs.

# %%
text = corpora.text(run.corpus)
print(next(corpora.blocks(text)).texts[0])

# %% [markdown]
# This is the first document. Read whether it looks like the text that you want to speak about.

# %%
split = pd.Series(text.array("split")).map(dict(enumerate(corpora.SPLITS))).value_counts()
split.to_frame("documents").T

# %% [markdown]
# No document is in two splits. *Matching* and *held out* should be about equal, because their roles are exchanged.

# %%
out.text("corpus", run.corpus.description)
out.text("toys", tables.yes(description.all_toys(run)))
out.text("classes known", tables.yes(description.classes_known(run)))
out.text("models are", description.models(run))
out.text("dictionaries are", description.dictionaries(run))
out.text("released", ", ".join(description.released(run)))
out.text("scope", description.scope(run))
out.text("limits", description.limits(run))
out.number("documents", text.meta["documents"], "{:,}")
for name in corpora.SPLITS:
    out.number(f"documents {name}", split[name], "{:,}")

# %% [markdown]
# ## The loss of a language model
# The loss is the surprise at the next token, -log p in nats, on held-out documents. We compute it by hand for the model
# of A on four rows of tokens.

# %%
made = pipeline.models(run, run.models)
out.text("pair", description.pair(run, *run.pair))
name = description.model_of(run, run.pair[0])
rows, bridge = pipeline.training_rows(run, name), models.load(made[name])
few = tokenization.spread_rows(rows, batching.rows_in(rows, "held_out"), 4)


def surprise(row, hooks=()):
    """-log p(token | those before it) of every token of a row but the first: (length - 1,)."""
    tokens, _ = batching.take(rows, np.array([row]))
    logits = bridge.run_with_hooks(tokens, fwd_hooks=list(hooks))[0, :-1].detach().float().cpu().numpy()
    log_p = logits - special.logsumexp(logits, axis=1, keepdims=True)  # (length - 1, vocabulary)
    return -log_p[np.arange(len(log_p)), tokens[0, 1:].cpu().numpy()]


# %% [markdown]
# Two baselines are fitted on the training documents. The unigram knows how frequent each token is. The bigram knows the
# previous token as well: it takes a discount from every pair that it saw, and gives it to the unigram.


# %%
def follow(chosen):
    """Every token of some rows but the last, and the token after it."""
    tokens, lengths = rows.array("tokens")[chosen], rows.array("lengths")[chosen]
    inside = np.arange(1, tokens.shape[1]) < lengths[:, None]
    return tokens[:, :-1][inside], tokens[:, 1:][inside]


first, second = follow(batching.rows_in(rows, "training"))
unigram = np.bincount(second, minlength=bridge.cfg.d_vocab) + 1.0
unigram /= unigram.sum()


# %%
def bigram(token):
    """p(next token | token), interpolated with the unigram: (vocabulary,)."""
    seen = np.bincount(second[first == token], minlength=len(unigram))
    rest = cross_entropy.DISCOUNT * (seen > 0).sum()
    return (np.maximum(seen - cross_entropy.DISCOUNT, 0) + rest * unigram) / seen.sum() if seen.any() else unigram


pairs = list(zip(*follow(few), strict=True))
by_hand = {
    "model": np.mean(np.concatenate([surprise(row) for row in few])),
    "bigram": -np.mean([np.log(bigram(token)[after]) for token, after in pairs]),
    "unigram": -np.mean([np.log(unigram[after]) for _, after in pairs]),
}

# %%
library = pipeline.losses(run, name, len(few)).meta
for key, loss in by_hand.items():
    np.testing.assert_allclose(loss, library[key], rtol=1e-3)
pd.Series(by_hand).round(3).to_frame("nats a token").T

# %% [markdown]
# A model that has learnt more than pairs of words lies below the bigram, and the bigram below the unigram.

# %% [markdown]
# ## All language models
# The library does the same for every model, each on held-out documents of its own world. Twins with random weights
# should do no better than the unigram. Models that differ by their seed alone are one row: the mean, and the smallest
# and largest.

# %%
losses = sweep.run(lambda name: pipeline.losses(run, name, judged_rows), run.models, "language models")
language_models = description.by_model(run, losses)
nats = dict.fromkeys(["loss", "bigram", "unigram"], "{:.3f}")
out.table("models", description.by_family(run, language_models, {"parameters": "{:,}", "steps": "{:.0f}", **nats}))

# %% [markdown]
# Compare *loss* with *bigram* row by row. Models of 0 steps have random weights; a model of one step is kept as the
# start of another, and is not counted among the trained ones.

# %%
trained = language_models[[description.finished(run, name) for name in losses]]  # not what it was on the way
beating = (trained.loss < trained.bigram).sum()
out.number("trained models", len(trained), "{:d}")
out.number("models beating the bigram", beating, "{:d}")
out.number("predictions", next(iter(losses.values())).meta["predictions"], "{:,}")

# %% [markdown]
# ## Learning
# When does a model pass the baselines? We draw one model's loss at its checkpoints; of a family, the first member.

# %%
if curve:
    drawn = run.members(curve)[0]
    own_rows, checkpoints = pipeline.training_rows(run, drawn), description.checkpoints(run, drawn)
    learning = {step: cross_entropy.held_out(x, own_rows, judged_rows).meta["model"] for step, x in checkpoints.items()}
    out.figure("learning", drawing.learning(learning, losses[drawn].meta, drawn))
else:
    out.absent("learning", "no model at several training steps")

# %% [markdown]
# The curve should cross the bigram. If it still falls steeply at its end, the model would learn more with more steps.

# %% [markdown]
# ## The quality of one SAE
# An SAE turns the activations x at a hook into codes, few of which are active, and the codes into a reconstruction x'.
# *FVU* is the fraction of the variance that x' leaves unexplained, *L0* the number of features active at a token,
# *dead* the share of features that fire at none of the tokens judged. By hand, for the SAE of A on the four rows:

# %%
readers = pipeline.readers(run, run.dictionaries)
own = readers[run.pair[0]]
sae = dictionaries.load(own.dictionary)
x = next(models.stream(bridge, rows, few, [own.hook], own.skip))[own.hook]  # (tokens, d)
if dictionaries.is_centred(sae):
    x = x - x.mean(-1, keepdim=True)
codes = sae.encode(x)  # (tokens, features)
x, codes, rebuilt = (part.detach().double().cpu().numpy() for part in (x, codes, sae.decode(codes)))

# %%
by_hand = {
    "fvu": ((x - rebuilt) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum(),
    "l0": (codes > 0).sum(axis=1).mean(),
    "dead": 1 - (codes > 0).any(axis=0).mean(),
}
library = own.judge(len(few)).meta
for key, value in by_hand.items():
    np.testing.assert_allclose(value, library[key], rtol=1e-3, atol=1e-6)
pd.Series(by_hand).round(3).to_frame(run.pair[0]).T

# %% [markdown]
# *Dead* depends on how many tokens were judged: on four rows many features have had no occasion to fire.
#
# *Recovered* asks whether the reconstruction keeps what the model needs. We put zeros, and then the reconstruction, in
# the place of the activations, and read the loss: recovered = (zero - rebuilt) / (zero - unchanged).


# %%
def put(change):
    """A hook that changes the activations behind the first masked positions."""

    def replace(value, hook):
        flat = value.flatten(2).float()
        return torch.cat([flat[:, : own.skip], change(flat[:, own.skip :])], 1).reshape(value.shape).to(value.dtype)

    return [(own.hook, replace)]


changes = {"zero": torch.zeros_like, "rebuilt": lambda x: sae.decode(sae.encode(x)), "unchanged": lambda x: x}
loss = {key: np.mean(np.concatenate([surprise(row, put(change)) for row in few])) for key, change in changes.items()}
recovered = (loss["zero"] - loss["rebuilt"]) / (loss["zero"] - loss["unchanged"])
np.testing.assert_allclose(recovered, library["recovered"], rtol=0.02, atol=1e-3)
pd.Series(loss | {"recovered": recovered}).round(3).to_frame(run.pair[0]).T

# %% [markdown]
# *Recovered* near 1 says that the model works as well from the reconstruction. Where zeros cost little, it says little.

# %% [markdown]
# ## All SAEs
# The library judges each on documents of the world it was trained on, and looks which hook near its own it fits best.
# *Massive* are the dimensions that hold over a tenth of the variance each and ten times the mean, with the FVU of all
# others: where one holds half of it, an FVU says little about the rest. If the members of a row differ, it lists all
# they have. *Doubts* are fewer than 1,000 steps of training, text that was seen again and again, and over 20% dead
# features.

# %%
judged = sweep.run(lambda name: readers[name].judge(judged_rows).meta, readers, "quality")
located = sweep.run(lambda name: readers[name].locate(fvu_rows).meta, readers, "best hooks")
quality = description.by_dictionary(readers, judged, located)
shares = dict.fromkeys(["FVU", "dead", "recovered"], "{:.3f}")
out.table("dictionaries", description.by_family(run, quality, {"L0": "{:.1f}", **shares}))

# %% [markdown]
# *Fits best at* should repeat *hook*; a small FVU with many dead features is a dictionary of fewer features than its
# width says.

# %%
at_home = (quality.hook == quality["fits best at"]).sum()
main = quality[quality.dictionary.isin([x for name in run.common.primary.pair for x in run.members(name)])]
out.number("dictionaries", len(quality), "{:d}")
out.number("dictionaries at home", at_home, "{:d}")
out.number("judged tokens", judged[run.pair[0]]["tokens"], "{:,}")
for letter, name in zip("ab", run.pair, strict=True):
    out.text(f"side {letter}", description.side(run, name, readers[name].width))
out.text("site", description.site(own.hook))
out.number("worst fvu", main.FVU.max(), "{:.3f}")
out.number("least recovered", main.recovered.min(), "{:.3f}")
out.number("least live", 100 - 100 * main.dead.max(), "{:.0f}")

# %% [markdown]
# ## Do single features single out true classes?
# In the stories the class of every word is known. A feature predicts a class where its code reaches a threshold; F1 is
# 2 x hits / (predicted + true). For each class, one half of the tokens chooses the feature (or neuron) and threshold
# with the highest F1, the other half judges them. One model is judged, the first of A.

# %%
features, classed = pipeline.alone(run, run.pair[0]), description.classes_known(run)
classes, sites = features.sites.array("classes"), features.sites.array("split")
fit, judge = (np.flatnonzero(sites == corpora.SPLITS.index(x))[:truth_tokens] for x in ("matching", "held_out"))


def f1(fires, truth):
    return 2 * (fires & truth).sum() / (fires.sum() + truth.sum())


# %%
if classed:
    by_feature = singled_out.best_f1(features.codes, classes, fit, judge, stories.CLASSES)
    best = by_feature.loc[by_feature.F1.idxmax()]
    code, truth = features.codes[:, [best.feature]].toarray()[:, 0], classes == stories.CLASSES.index(best["class"])
    thresholds = np.unique(code[fit][code[fit] > 0])
    scores = [f1(code[fit] >= threshold, truth[fit]) for threshold in thresholds]
    on_fit, on_judge = (f1(code[half] >= best.threshold, truth[half]) for half in (fit, judge))
    np.testing.assert_allclose([max(scores), on_fit, on_judge], [best.fit, best.fit, best.F1])
    drawing.thresholds(thresholds, scores, best)

# %% [markdown]
# The curve is one feature's F1 on the half that chooses, at every threshold; the cross is what the other half says of
# the best threshold. A cross far below the top would be a threshold that fits its own half only.

# %%
by_class = pd.DataFrame(columns=["class", "F1 feature", "F1 neuron"])
if classed:
    post = f"blocks.{models.block_of(own.hook)}.mlp.hook_post"
    neurons = activations.neurons([post], own.model, own.rows, features.sites, own.skip)[post].array("values")
    by_neuron = singled_out.best_f1(neurons, classes, fit, judge, stories.CLASSES)
    by_class = pd.merge(by_feature, by_neuron, on="class", suffixes=(" feature", " neuron"))
    out.figure("classes", drawing.classes(by_class))
else:
    out.absent("class", "no word of a known class")
by_class[["class", "F1 feature", "F1 neuron"]].sort_values("F1 feature", ascending=False).head(8).round(2)

# %% [markdown]
# A point is a class; above the diagonal, the best feature singles it out better than the best neuron. The table has the
# classes that a feature singles out best.

# %%
if classed:
    out.number("classes", len(by_class), "{:d}")
    out.number("class tokens", len(judge), "{:,}")
    for label in ("feature", "neuron"):
        out.number(f"class score {label}", by_class[f"F1 {label}"].mean(), "{:.2f}")
    out.number("classes better by feature", (by_class["F1 feature"] > by_class["F1 neuron"]).sum(), "{:d}")

# %% [markdown]
# ## Verdict
# We count the models and SAEs that pass each criterion of the first cell.

# %%
holds = {
    "trained models beat the bigram": trained.loss < trained.bigram,
    "SAEs explain most of the variance": quality.FVU < 0.5,
    "most features of an SAE fire": quality.dead < 0.5,
    "SAEs fit their own hook best": quality.hook == quality["fits best at"],
}
pd.DataFrame({key: {"hold": x.sum(), "of": len(x)} for key, x in holds.items()}).T

# %% [markdown]
# Where *hold* is less than *of*, the tables above say which model or SAE fails; what is said about it rests on little.

# %%
out.save()
