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
# # Training phases
#
# **Question.** When do features appear, and when do two models become alike?
#
# **In.** The checkpoints of the models A and B, those of an SAE of A, and the codes of the finished SAEs. **Out.** By
# training step: how alike words are arranged, and how much of A's last features a state holds, by kind of feature. By
# activations that an SAE has read: which of its features have arrived, and which have counterparts in B. By tokens that
# choose the pairs: correlation, retention and excess.
#
# **What would count as a no.** Models that are no more alike at the end than with random weights, or no more than under
# exchanged words; features that random weights hold as well; curves that still rise at the end of the text.

# %% tags=["parameters"]
profile = "smoke"
followed = ["two_layer", "three_layer"]
along = "two_layer_along"
replicated = 1
text = {"documents": 100, "occurrences": 2, "minimum": 5}
states_of_sae = 2
counterpart = 0.5
least_rise = 0.1
sizes = [1000, 10000]

# %%
import numpy as np
import pandas as pd

from sae_utils import inference, measures, pipeline, profiles, replicates, report, sweep, tables
from sae_utils.studies.training import appearing, curves, drawing, phases, states

# %%
run = profiles.start(profile, "13_training_phases")
out = report.Report(run, "13_training_phases")
out.needs(followed, "no models with checkpoints")
measure = run.common.primary.measure
settings = phases.Settings(**text, measure=measure, states=states_of_sae)
cells = replicates.of(run, *followed)[:replicated]

# %% [markdown]
# ## What does a state of a model hold?
# Every checkpoint reads the same stories, which trained no model. A feature of the *finished* SAE of A is held by a
# state if its code can be predicted from the activations of the state, by ridge regression. One half of the documents
# fits the weights, the other judges the correlation of prediction and code. This asks whether the feature is there in
# any direction; the SAE of the end need not fit the state.

# %%
read = states.models_along(run, [name for names in cells for name in names], text["documents"])
a, b = cells[0]
steps = list(read[a])
middle, last = read[a][steps[len(steps) // 2]], read[a][steps[-1]]
z = states.encode(pipeline.reader(run, a).dictionary, last.x)  # (tokens, features)
halves = last.split("matching"), last.split("held_out")
feature = int(np.bincount(z.indices).argmax())
print(f"{z.shape[0]:,} tokens; steps {', '.join(map(str, steps))}; feature {feature} fires most")

# %% [markdown]
# The cell does this for the feature that fires most, and holds it against the library.

# %%
fit, judge = halves
x, y = middle.x.astype(float), z[:, [feature]].toarray()[:, 0].astype(float)
centred = x[fit] - x[fit].mean(axis=0)
covariance = centred.T @ centred / len(centred)
penalty = appearing.RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
weights = np.linalg.solve(covariance + penalty, centred.T @ (y[fit] - y[fit].mean()) / len(centred))
r = np.corrcoef(x[judge] @ weights, y[judge])[0, 1]
np.testing.assert_allclose(r, appearing.readout(middle.x, z, fit, judge)[feature], rtol=1e-3)
others = np.random.default_rng(0).permutation(np.flatnonzero(judge))
pd.Series(
    {"held-out r": r, "r with the codes of other tokens": np.corrcoef(x[judge] @ weights, y[others])[0, 1]}
).round(3)

# %% [markdown]
# The first number should exceed the second, which is chance, and near 0.

# %% [markdown]
# ## When do the features of the end appear?
# Features are sorted by what they fire on: content words (halved by how often the feature fires), function words, or
# both. We read the features of A from the states of A, and from those of B, which has another seed and other stories.


# %%
def held(names):
    """What the states of a replicate hold."""
    return phases.held(run, names, {name: read[name] for name in names}, settings)


found = sweep.run(held, cells, "readouts")
by_kind = pd.DataFrame(
    {"replicate": i, "model": of, "kind": kind, "step": step, "r": value}
    for i, x in enumerate(found.values())
    for of in (phases.OWN, phases.OTHER)
    for kind, line in x.by_kind(of).items()
    for step, value in zip(x.steps, line, strict=True)
)
out.figure("features", drawing.features(by_kind))

# %% [markdown]
# The first point is the random start: what it holds needs no training. Compare how far to the right each kind rises,
# and whether B comes to hold A's features as early as A itself.

# %% [markdown]
# A feature *appears* at the first checkpoint at which its r has risen half way from the random start to the end.
# Features that rise by less than the least rise could be read from random weights about as well, or cannot be read.

# %%
r = next(iter(found.values())).r[phases.OWN]
half = (r[0] + r[-1]) / 2
by_hand = [int(np.flatnonzero(r[:, i] >= half[i])[0]) if r[-1, i] - r[0, i] >= least_rise else -1 for i in range(50)]
np.testing.assert_array_equal(by_hand, appearing.half_way(r, least_rise)[:50])
appears = drawing.half_way(list(found.values()), least_rise)
out.table("appears", appears, {"features": "{:.0f}"} | dict.fromkeys(appears.columns[2:], "{:.2f}"))

# %% [markdown]
# A row adds up to 1: read where most of a kind appears. *Rises little* is the share for which training did not matter.

# %% [markdown]
# ## When do two models become alike?
# Words are compared, so that no SAE is needed: the mean activation of each word at a state is a row. For words of both
# models we take the excess of the primary measure over a shuffled pairing. The control exchanges content words of equal
# frequency: the row of a word in A meets that of its partner in B.

# %%
words, partner = phases.chosen_words(run, a, read[a], text["occurrences"])[phases.CONTENT]
tokens = middle.sites.array("tokens")
by_hand = np.array([middle.x[tokens == word].mean(axis=0) for word in words[:20]])
np.testing.assert_allclose(appearing.word_means(middle.x, tokens, words)[:20], by_hand, rtol=1e-4)
print(f"{len(words)} content words occur at least {text['occurrences']} times, as do their partners")


# %%
def similarity(names):
    """How alike the states of a replicate arrange words."""
    return phases.word_similarity(run, names, {name: read[name] for name in names}, settings)


of_words = sweep.run(similarity, cells, "words")
alike = pd.concat([x.assign(replicate=i) for i, x in enumerate(of_words.values())])
out.figure("words", drawing.words(alike, measures.measure(measure).label))

# %% [markdown]
# Two models have become alike where *A and B* leaves the grey control. Compare that step with the one at which A comes
# to resemble its own end.

# %%
wide = alike.pivot(index=["words", "replicate", "step"], columns="compared", values="excess").reset_index()
content = wide[wide.words == phases.CONTENT].assign(gap=lambda x: x[phases.ACROSS] - x[phases.EXCHANGED])
gap = {step: inference.over_replicates(part.gap) for step, part in content.groupby("step")}
shown = pd.DataFrame({"step": step, "A and B, less the control": x.estimate, "low": x.low, "high": x.high, "n": x.n}
                     for step, x in gap.items())  # fmt: skip
out.table("gap", shown, dict.fromkeys(shown.columns[1:4], "{:.3f}") | {"step": "{:,}"})

# %% [markdown]
# An interval above the threshold d of the primary analysis says that the two models share more about words than
# frequency gives; n is the number of replicates. Below three replicates there is no interval.

# %%
given = run.common.primary.thresholds.get("excess")
d = given.d if given else 0.0
failing = [place for place, step in enumerate(steps) if not gap[step].low > d]
place = max(failing, default=-1) + 1
alike_from = f"step {steps[place]:,} of {steps[-1]:,}" if place < len(steps) else "no step"
print(f"every later interval lies above d = {d:g} from: {alike_from}")

# %% [markdown]
# Models of other sizes or texts would pass at other steps; the order of the curves is what can be compared.

# %% [markdown]
# ## The states of an SAE
# Now the model is finished, and its SAE is on the way. Feature i of a state is compared with feature i of the end: it
# has *arrived* if their codes correlate enough. And with B's finished SAE, by best partners that the other half of the
# documents chose, and by the excess of decoder rows in both arms.

# %%
pairs = replicates.of(run, along, followed[1])[:replicated]
own = sweep.run(lambda names: phases.dictionary_states(run, names, settings, counterpart), pairs, "states of SAEs")
state = pd.DataFrame(
    {"replicate": i, "true": x.arms.true[measure], "control": x.arms.control[measure], "r held out": x.arms.r_true}
    | {name: getattr(x, name) for name in ("samples", "unexplained", "dead", "counterparts")}
    for i, of in enumerate(own.values())
    for x in of
)
arrived = pd.DataFrame(
    {"samples": x.samples, "kind": kind, "arrived": share, "cosine": x.cosine[kind]}
    for of in own.values()
    for x in of
    for kind, share in x.arrived.items()
)

# %%
out.figure("sae", drawing.dictionary(state, arrived))

# %% [markdown]
# Left, which kind arrives first; the last point is 1 by definition. In the middle, whether counterparts still increase
# after the loss has flattened. Right, whether the arrangement is alike before the features have arrived.

# %%
made = states.dictionaries_along(run, pairs[0][0], states_of_sae)
first, end = (states.features(x, last) for x in (made[min(made)], made[max(made)]))
on = np.flatnonzero(halves[1])
both = [part.codes[on][:, [feature]].toarray()[:, 0] for part in (first, end)]
r = np.corrcoef(*both)[0, 1] if min(x.std() for x in both) > 0 else 0.0
np.testing.assert_allclose(r, phases.by_index(first.codes[on], end.codes[on])[feature], atol=1e-5)
print(f"feature {feature} after {min(made):,} and after {max(made):,} activations: r = {r:.2f}")

# %% [markdown]
# This is one point of the left panel: it counts as arrived from the threshold on.

# %% [markdown]
# ## How many tokens must choose the pairs?
# The finished SAEs of the primary pair, in every replicate. The first documents choose partners for the content
# features of A; the features and the documents that judge stay the same. *Retention* is the share of features that get
# the same partner again when the held-out documents choose.

# %%
primary = replicates.of(run, *run.common.primary.pair)
minimum = text["minimum"]
learned = sweep.run(lambda names: curves.of_replicate(run, names, sizes, minimum, measure), primary, "learning curves")
curve = pd.DataFrame({"replicate": i} | row for i, x in enumerate(learned.values()) for row in x.meta["rows"])
out.figure("curves", drawing.curves(curve))

# %% [markdown]
# Where the pairs were chosen, r is too high, and the more so the fewer tokens chose: the gap between the first two
# lines is selection. A held-out curve that still rises at the right end asks for more text.

# %%
ends = [curve[curve.tokens == at].set_index("replicate") for at in (curve.tokens.min(), curve.tokens.max())]
columns = ["r chosen", "r held out", "control", "retention", "true", "excess control"]
summary = pd.DataFrame({
    name: [inference.over_replicates(part[name]).estimate for part in ends] for name in columns
}).assign(tokens=[curve.tokens.min(), curve.tokens.max()])  # fmt: skip
summary[["tokens", *columns]].round(2)

# %% [markdown]
# The two rows are the ends of the curves. Retention says how far single pairs can be trusted; the excess of the true
# arm may have settled long before.

# %% [markdown]
# ## For the paper


# %%
def told(name, values, form="{:.2f}"):
    """Report the mean of a value over replicates."""
    x = inference.over_replicates(values)
    out.number(name, x.estimate, form, x.se)


out.number("replicates", len(cells), "{:d}")
out.number("documents", text["documents"], "{:d}")
out.number("words", len(words), "{:d}")
for name, at, column in (("across start", steps[0], phases.ACROSS), ("across end", steps[-1], phases.ACROSS),
                         ("exchanged end", steps[-1], phases.EXCHANGED)):  # fmt: skip
    told(name, content[content.step == at][column])
peak = content.groupby("step")[phases.ACROSS].mean()
told("across most", content[content.step == peak.idxmax()][phases.ACROSS])
out.number("most at", peak.idxmax(), "{:,}")
out.number("d", d, "{:.3f}")
out.text("alike from", alike_from)

# %%
short = {"frequent": appearing.FREQUENT, "rarer": appearing.RARE, "function": appearing.FUNCTION}
first_samples, last_samples = state.samples.min(), state.samples.max()
for label, kind in short.items():
    of_kind = by_kind[by_kind.kind == kind]
    own_r, other_r = (of_kind[of_kind.model == of] for of in (phases.OWN, phases.OTHER))
    told(f"r {label} start", own_r[own_r.step == steps[0]].r)
    told(f"r {label} end", own_r[own_r.step == steps[-1]].r)
    told(f"r {label} other", other_r[other_r.step == steps[-1]].r)
    told(f"arrived {label}", arrived[(arrived.kind == kind) & (arrived.samples == first_samples)].arrived)

# %%
out.number("sae first", first_samples, "{:,}")
out.number("sae read", last_samples, "{:,}")
for end, at in (("first", first_samples), ("last", last_samples)):
    told(f"counterparts {end}", state[state.samples == at].counterparts)
    told(f"sae excess {end}", state[state.samples == at].true)
out.number("curve replicates", len(primary), "{:d}")
for end, part in (("few", ends[0]), ("all", ends[1])):
    out.number(f"tokens {end}", part.tokens.iloc[0], "{:,}")
    for name, column in (("chosen", "r chosen"), ("held out", "r held out"), ("retention", "retention"),
                         ("excess", "true")):  # fmt: skip
        told(f"{name} {end}", part[column])
answers = {"models alike, beyond exchanged words, from": alike_from, "replicates": tables.count(len(cells))}
pd.Series(answers).to_frame("answer")

# %% [markdown]
# This notebook describes, and draws no verdict: three replicates show the order of phases, not small differences.

# %%
out.save()
