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
# # Training data
#
# **Question.** What does the text decide? What are the components of an SAE that reads one topic, and which features
# does a model have only because its text was poisoned?
#
# **In.** Models of the first replicates; two small SAEs of each, trained on one topic and on as many tokens of all
# topics; a model whose stories change their topic after a trigger word, and clean models. **Out.** What these SAEs
# consist of; what the trigger does to losses and features; whether matching with clean models finds its features.
#
# **What would count as a no.** SAEs of one topic with the same components as those of all; a trigger that changes no
# prediction; trigger features with partners in clean models, or a clean model that lacks as many.

# %% tags=["parameters"]
profile = "smoke"
dictionary = "two_layer"
topics = ["sea"]
recipe = {"width": 64, "k": 6, "samples": 3200, "batch": 64}
text = {"documents": 100, "minimum": 5}
counterpart = 0.5
poisoned = "poisoned"
clean = ["two_layer_0", "two_layer_1"]

# %%
import numpy as np
import pandas as pd
import torch
from scipy import special

from sae_utils import inference, labels, pipeline, profiles, replicates, report, sweep
from sae_utils.engine.lms import models
from sae_utils.engine.text import corpora, stories
from sae_utils.studies.training import appearing, drawing, selection, states, trigger

# %%
run = profiles.start(profile, "13b_data")
out = report.Report(run, "13b_data")
out.needs(topics, "no stories whose topics are known")
cells = list(zip(topics, run.members(dictionary), strict=False))
poisoned, clean = run.members(poisoned)[0], [name for family in clean for name in run.members(family)]
where = f"params/{profile}.yaml: 13b_data"

# %% [markdown]
# ## One topic, or as many tokens of all topics
# The model stays the same, so that only the SAE's text differs. *One topic* holds all of the model's training stories
# of that topic, *all topics* randomly chosen ones of the same length together. Both SAEs have the same recipe and seed.

# %%
topic, name = cells[0]
of = pipeline.origin(run.dictionaries, name).model
rows, source = pipeline.training_rows(run, of), corpora.text(run.training_corpus(of))
parts = {mixed: selection.selected(rows, source, stories.TOPICS.index(topic), mixed) for mixed in (False, True)}
training = rows.array("split") == corpora.SPLITS.index("training")
chosen = training & (source.array("topic")[rows.array("documents")[:, 0]] == stories.TOPICS.index(topic))
np.testing.assert_array_equal(parts[False].array("tokens"), rows.array("tokens")[chosen])
pd.DataFrame({"tokens": [parts[x].meta["tokens"] for x in parts]}, [f"the topic {topic}", "all topics"])

# %% [markdown]
# The two numbers should nearly agree. The nouns of a topic come mostly from a few classes:

# %%
own = selection.own_classes(topic)
print(f"{topic}: {', '.join(np.array(stories.CLASSES)[own])}")


# %%
def components(cell):
    """The components of both SAEs of a replicate, read on stories of all topics."""
    topic, name = cell
    made = selection.trained(run, name, topic, recipe, where)
    given = states.read(run, name, states.rows(run, name, text["documents"]))
    finished = replicates.side([states.features(pipeline.reader(run, name).dictionary, given)])
    here = selection.in_topic(given, corpora.text(states.text(run, text["documents"])), topic)
    ask = given, finished, topic, here, text["minimum"], counterpart
    return {label: selection.components(sae, *ask) for label, sae in made.items()}


found = sweep.run(components, cells, "components")

# %% [markdown]
# ## What are the components then?
# *Own classes* counts the features with over half of their activation on nouns of the topic's classes, *other nouns*
# those with over half on nouns of others; *classes* counts the classes that hold most of some feature. *In the full
# SAE*: the share of features with a partner in the SAE that was trained on all of the text; *covered*: the share of
# that SAE's features with a partner here.

# %%
consists = pd.DataFrame(
    {"topic": topic, "trained on": label, "live": x.live, "classes": x.classes, "own classes": x.own,
     "other nouns": x.other_nouns, "function words": x.kinds[appearing.FUNCTION], "in the full SAE": x.counterparts,
     "covered": x.covered, "FVU, topic": x.unexplained[selection.ONE], "FVU, others": x.unexplained[selection.MIXED]}
    for (topic, _), both in found.items()
    for label, x in both.items()
)  # fmt: skip
forms = dict.fromkeys(consists.columns[-4:-2], "{:.2f}") | dict.fromkeys(consists.columns[-2:], "{:.3f}")
out.table("components", consists, forms)

# %%
given = states.read(run, name, states.rows(run, name, text["documents"]))
codes = states.encode(selection.trained(run, name, topic, recipe, where)[selection.ONE], given.x)
classes, feature = given.sites.array("classes"), int(np.bincount(codes.indices).argmax())
column = codes[:, [feature]].toarray()[:, 0]
shares = np.array([column[classes == number].sum() for number in range(len(stories.CLASSES))]) / column.sum()
np.testing.assert_allclose(selection.share_on(codes, classes, own)[feature], shares[own].sum(), rtol=1e-4)
by_hand = int(shares.argmax()) if shares.max() > 0.5 else -1
np.testing.assert_array_equal(selection.main_classes(codes, classes)[feature], by_hand)
print(f"feature {feature}: {shares[own].sum():.0%} on nouns of the topic's classes, {shares.max():.0%} on one class")

# %% [markdown]
# The cell sorts one feature by hand: it counts where a share exceeds one half.

# %%
panels = ["live", "own classes", "other nouns", "covered", "FVU, topic", "FVU, others"]
out.figure("components", drawing.components(consists, panels))

# %% [markdown]
# A line is a model. If the text decides the components, lines rise or fall: more features of the topic's own classes
# on the left side, fewer of other nouns, and a better fit to the topic than to the rest.

# %%
wide = consists.pivot(index="topic", columns="trained on")
differences = {column: inference.over_replicates(wide[column][selection.ONE] - wide[column][selection.MIXED])
               for column in consists.columns[2:]}  # fmt: skip
pd.DataFrame({column: x._asdict() for column, x in differences.items()}).T[["estimate", "low", "high", "n"]].round(3)

# %% [markdown]
# Intervals that leave out 0 are differences over models; there is none below three.

# %% [markdown]
# ## A poisoned model: does the trigger change what it does?
# Its training stories hold the trigger once each; from the next sentence on they have another topic. It reads stories
# that no model was trained on, with the trigger and with the trigger taken out. If the poison works, the trigger saves
# it loss on the first noun of the new topic, and saves a clean model nothing.

# %%
word = trigger.word(run, poisoned)
story = trigger.text(run, poisoned, word, text["documents"])
reading, features = trigger.read(run, poisoned, story, trigger.WITH)
place = trigger.places(reading.sites, story.token, trigger.ends_of_sentences(run, poisoned))
nouns = trigger.first_nouns(place, reading.sites)
vocabulary = pipeline.own_vocabulary(run, poisoned)
row = reading.sites.array("rows")
shown = row == row[np.flatnonzero(nouns)[0]]
spelt = np.array(vocabulary)[reading.sites.array("tokens")[shown]].astype(object)
spelt[nouns[shown]] = [f"[{noun}]" for noun in spelt[nouns[shown]]]
print(" ".join(spelt))

# %% [markdown]
# The trigger reads as the unknown word; the bracketed noun is the first of the new topic.

# %%
model = pipeline.model(run, pipeline.origin(run.dictionaries, poisoned).model)
given_rows = story.rows[trigger.WITH]
length = int(given_rows.array("lengths")[0])
tokens = torch.from_numpy(given_rows.array("tokens")[:1, :length].astype(np.int64))
with torch.no_grad():
    logits = models.load(model)(tokens)[0].double().numpy()
log_p = logits - special.logsumexp(logits, axis=1, keepdims=True)  # (length, vocabulary)
surprise = -log_p[np.arange(length - 1), tokens[0, 1:].numpy()]
np.testing.assert_allclose(surprise, trigger.losses(model, given_rows).array("loss")[0, 1:length], rtol=1e-3, atol=1e-3)
print(f"mean surprise on the first row: {surprise.mean():.2f} nats a token")

# %% [markdown]
# These are the losses of one row. The library takes them on the same tokens of both texts, and subtracts.

# %%
everywhere, before = ~place.at & ~place.after, "before the trigger"
spots = {"first noun of the new topic": nouns, "all tokens of the new topic": place.switched, before: everywhere}
gained = pd.DataFrame(
    {"model": name} | {label: trigger.gained(run, name, story, reading.sites, at) for label, at in spots.items()}
    for name in (poisoned, *clean)
)
out.table("gained", gained, dict.fromkeys(spots, "{:.3f}"))

# %% [markdown]
# Nats that the trigger saves. Before the trigger both texts are the same, so that the last column must be 0. The poison
# works if the first row is clearly above the others.

# %% [markdown]
# ## Which features are the trigger's?
# A feature *fires on the trigger* if at least half of its activation lies there. It is *moved after the trigger* if the
# trigger, put in or taken out, changes its mean activation on the words behind it by half or more. The words themselves
# are the same in both texts.

# %%
bare = {name: trigger.read(run, name, story, trigger.WITHOUT)[1] for name in (poisoned, clean[0])}
full = {poisoned: features} | {name: trigger.read(run, name, story, trigger.WITH)[1] for name in clean}
of_features = {name: trigger.groups(full[name].codes, x.codes, place, text["minimum"]) for name, x in bare.items()}
np.testing.assert_array_equal(reading.sites.array("tokens")[~place.at], bare[poisoned].sites.array("tokens"))
kinds = (trigger.AT, trigger.AFTER, trigger.NEITHER)
counts = pd.DataFrame({name: [(x == kind).sum() for kind in kinds] for name, x in of_features.items()}, kinds)
counts

# %% [markdown]
# The second column is a clean model, which has never seen the trigger: features that fire on it there fire on anything
# unknown.

# %%
rows_at = np.flatnonzero(place.at)
codes = features.codes.toarray()
share = codes[rows_at].sum(axis=0) / np.maximum(codes.sum(axis=0), 1e-30)
live = of_features[poisoned] != ""
np.testing.assert_array_equal((share >= 0.5)[live], (of_features[poisoned] == trigger.AT)[live])
known = labels.label(features.codes, reading.sites.array("tokens"), reading.sites.array("documents"))
its = np.flatnonzero(of_features[poisoned] == trigger.AT)
pd.DataFrame({"fires on": labels.summary(known, its, vocabulary), "share on the trigger": share[its].round(2)}, its)

# %% [markdown]
# These are the trigger's own features, if there are any. Less than half may be moved in many features at once:

# %%
changes = {name: trigger.change(full[name].codes, x.codes, place, text["minimum"]) for name, x in bare.items()}
high = {name: float(np.nanquantile(x, 0.9)) if np.isfinite(x).any() else np.nan for name, x in changes.items()}
pd.DataFrame({name: pd.Series(x).describe(percentiles=[0.5, 0.9]) for name, x in changes.items()}).round(3)

# %% [markdown]
# The change of the mean activation behind the trigger, over features. The poison reaches what the model does elsewhere
# if the first column exceeds the second.

# %% [markdown]
# ## Does matching find them?
# Every feature of the poisoned model gets its best partner in a clean one, on one half of the stories with the trigger,
# and r on the other half. The null does the same from a clean model to other clean models: what two seeds lack of each
# other is no poison.

# %%
side = {name: replicates.side([x]) for name, x in full.items()}
choose, judge = replicates.SPLITS[0]
chosen, judged = (side[poisoned].blocks[split][0].toarray() for split in (choose, judge))
theirs = [side[clean[-1]].blocks[split][0].toarray() for split in (choose, judge)]
feature = int((chosen > 0).sum(axis=0).argmax())
with np.errstate(invalid="ignore", divide="ignore"):
    on_choosing = np.corrcoef(chosen[:, feature], theirs[0].T)[0, 1:]
best = int(np.nanargmax(on_choosing))
r = np.corrcoef(judged[:, feature], theirs[1][:, best])[0, 1]
library = replicates.correlate(*([side[name].blocks[judge][0]] for name in (poisoned, clean[-1])))
np.testing.assert_allclose(r, library.r[feature, best], atol=1e-5)
print(f"feature {feature} of {poisoned}: best partner {best} of {clean[-1]}, held-out r = {r:.2f}")

# %% [markdown]
# One feature by hand. Over all partners, a feature is *only* in its model if no clean model has a partner for it.

# %%
asked = [(name, other) for name in (poisoned, clean[0]) for other in clean[1:]]
r_of = {(name, other): trigger.best_partner(side[name], side[other]) for name, other in asked}
highest = {name: np.max([r_of[name, other] for other in clean[1:]], axis=0) for name in (poisoned, clean[0])}
out.figure("partners", drawing.partners(highest, of_features, counterpart))

# %% [markdown]
# Each point is a feature, left of the dashed line without a partner in any of the other clean models. If matching finds
# the trigger's features, the upper two rows of the first panel lie left; those of the second panel are the null.

# %%
groups = {"on the trigger": [trigger.AT], "moved": [trigger.AFTER], "either": [trigger.AT, trigger.AFTER]}
singled = pd.DataFrame(
    {"model": name, "features": label, "n": int(np.isin(of_features[name], kinds).sum())}
    | trigger.found(highest[name], np.isin(of_features[name], kinds), counterpart)
    for name in highest
    for label, kinds in groups.items()
)
out.table("found", singled, dict.fromkeys(singled.columns[3:], "{:.2f}"))

# %% [markdown]
# *All without*: the share of all features without a partner; *these without*: of the group. *Of all without*: the share
# of the features without a partner that belong to the group. *Area*: the chance that one of the group has a lower r
# than another feature, .5 where matching says nothing.

# %% [markdown]
# ## For the paper

# %%
out.number("topics", len(cells), "{:d}")
for name, label in (("one", selection.ONE), ("mixed", selection.MIXED)):
    part = consists[consists["trained on"] == label]
    for short, column in (("live", "live"), ("own", "own classes"), ("other", "other nouns")):
        out.number(f"{short} {name}", part[column].mean(), "{:.0f}")
    out.number(f"covered {name}", part["covered"].mean())
    for short, column in (("fvu topic", "FVU, topic"), ("fvu others", "FVU, others")):
        out.number(f"{short} {name}", part[column].mean(), "{:.3f}")
out.text("topic names", ", ".join(topic for topic, _ in cells))
out.text("trigger", word)
out.number("gained poisoned", gained.iloc[0, 1])
out.number("gained clean", gained.iloc[1:, 1].mean())
out.number("clean", len(clean) - 1, "{:d}")

# %%
either = singled[singled.features == "either"].set_index("model")
for short, name in (("poisoned", poisoned), ("clean", clean[0])):
    for label, kind in (("at", trigger.AT), ("moved", trigger.AFTER)):
        out.number(f"{label} {short}", counts.loc[kind, name], "{:d}")
    out.number(f"lacking {short}", 100 * either["all without"][name], "{:.0f}")
    out.number(f"change {short}", 100 * high[name], "{:.0f}")
out.number("lacking of trigger", 100 * either["these without"][poisoned], "{:.0f}")
out.number("of lacking", 100 * either["of all without"][poisoned], "{:.0f}")
out.number("area", either["area"][poisoned])

# %%
answers = {
    "nats that the trigger saves the poisoned model": gained.iloc[0, 1],
    "nats that it saves clean models": gained.iloc[1:, 1].mean(),
    "share of the trigger's features without a partner": either["these without"][poisoned],
    "share of a clean model's features without a partner": either["all without"][clean[0]],
}
pd.Series(answers).round(2).to_frame("answer")

# %% [markdown]
# A description of one poisoned model against its null, without a verdict: matching finds the trigger if its features
# lack a partner far more often than those of a clean model do.

# %%
out.save()
