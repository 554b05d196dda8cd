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
# # What each step tells
#
# **Question.** At which step of the ladder is what two models share told from what a control shares, and planted
# partners from none?
#
# **In.** The steps of `12b_ladder`, for the replicates of this profile's primary pair in two arms, and for planted
# pairs whose truth is known. **Out.** At every step the pairs, the largest hub, the excess in both arms and its gap
# over replicates; the same steps on planted pairs.
#
# **What would count as a no.** A step at which the excess of A with B is larger than that of the control by less than
# the threshold d, over replicates; a step that finds something more often than its p allows where nothing is shared.

# %% tags=["parameters"]
profile = "smoke"
negative = ""
positions = 10_000
draws = 20
permutations = 99
tokens = [".", "\\n", "␣", "''", "'", "-", ",", "!", "?", "<|endoftext|>", "<bos>", "<pad>"]
top = 5
least_r = 0.1
truths = {
    "shared": {"kind": "copies", "shared": 0.8},
    "one direction": {"kind": "one_direction", "strength": 0.3},
}
sizes = {
    "concepts": 80,
    "kept": 0.75,
    "words": 160,
    "expressed": 3,
    "documents": 40,
    "length": 40,
    "d_a": 16,
    "d_b": 24,
}

# %%
import numpy as np
from scipy import stats

from sae_utils import inference, pipeline, profiles, replicates, report
from sae_utils.engine.core import spec
from sae_utils.inference import LEVEL
from sae_utils.profiles import seed
from sae_utils.studies.known_truth import synthetic
from sae_utils.studies.published_tables import arms, drawing, ladder, planted, views

# %%
run = profiles.start(profile, "12c_steps_and_truth")
out = report.Report(run, "12c_steps_and_truth")
out.needs(pipeline.one_tokenizer(run), "two tokenizers, where the published procedure needs one")
out.needs(negative or run.common.replicates, "no control that takes the place of B")
where = f"params/{profile}.yaml: 12c_steps_and_truth"
settings = ladder.Settings(
    tokens=tokens, top=top, least_r=least_r, draws=draws, permutations=permutations, seed=seed(run, "ladder")
)
names = replicates.of(run, *run.common.primary.pair, *([negative] if negative else []))
given = run.common.primary.thresholds.get("excess")
d = given.d if given else 0.0

# %% [markdown]
# ## Two arms
# In the true arm A and B read the same stories. In the control B reads the stories with words of equal frequency
# exchanged, as a model would that was trained where these words had changed places (or `negative` takes the place of
# B). Both arms hold the same texts and the same features. Each replicate climbs all ten steps in both arms.

# %%
climbed = replicates.over(lambda x: arms.ladders(run, x, positions, settings), names, "ladders")
climbs = arms.frame(list(climbed.values()))
climbs[(climbs.replicate == 0) & (climbs.score == "RSA")].drop(columns=["replicate", "score"]).round(2)

# %% [markdown]
# One row is one step in one arm of the first replicate: `value` is RSA as the step reports it, `excess` its excess
# over the null. Compare the two arms of a step: what the control has too is not what A and B share.
#
# ## Pairs and hubs
# *largest hub*: the most features of B that chose one feature of A, before the filters; *unique*: the share of distinct
# features of A among the choices. By hand, for the published step of the first replicate:

# %%
rung = climbed[names[0]][arms.TRUE][0]
first = climbs[(climbs.step == rung.step) & (climbs.arm == arms.TRUE) & (climbs.replicate == 0)].iloc[0]
assert (len(rung.pairs), rung.hub, rung.unique) == tuple(first[["n", "hub", "unique"]])
chosen = arms.choices(climbs)
mean = np.mean([x[arms.TRUE][0].hub for x in climbed.values()])
np.testing.assert_allclose(mean, chosen["largest hub"][0])
forms = dict.fromkeys(chosen.columns[1:5], "{:.0f}") | dict.fromkeys(chosen.columns[5:], "{:.2f}")
out.table("choices", chosen, forms)

# %% [markdown]
# Where `largest hub` falls and `unique` rises, the step takes away what made hubs. The control has the same codes, so
# that hubs in both columns come from the codes and not from what the models share.

# %%
fall = arms.hub_fall(climbs)
for end in ("estimate", "low", "high"):
    out.number(f"hub fall {end}", getattr(fall, end), "{:.0f}")
for name, step in (("published", ladder.PUBLISHED), ("hook", ladder.HOOK), ("topk", ladder.CODES)):
    at = climbs[(climbs.step == step) & (climbs.arm == arms.TRUE) & (climbs.score == "RSA")]
    hub, unique = (inference.over_replicates(at[part].to_numpy(float)) for part in ("hub", "unique"))
    out.number(f"hub {name}", hub.estimate, "{:.0f}", hub.se)
    out.number(f"unique {name}", 100 * unique.estimate, "{:.0f}", 100 * unique.se)

# %% [markdown]
# ## The gap of the excess
# A score is told from its control by the excess over the null, (score - null mean) / (1 - null mean), in A with B less
# that in the control. Replicates are independent, so the interval is that of t over them. By hand for RSA at the last
# step:

# %%
part = climbs[(climbs.step == ladder.ALL) & (climbs.score == "RSA")].pivot(index="replicate", columns="arm")
np.testing.assert_allclose(part.excess, part.value)  # from step 8 on the score is the excess
gap = (part.excess[arms.TRUE] - part.excess[arms.CONTROL]).dropna().to_numpy()
library = arms.gaps(climbs, "RSA")[ladder.ALL]
np.testing.assert_allclose(library.estimate, gap.mean())
if np.isfinite(library.low):  # two replicates are too few for an interval
    half = stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / len(gap) ** 0.5
    np.testing.assert_allclose([library.low, library.high], [gap.mean() - half, gap.mean() + half])
print(f"RSA, {ladder.ALL}: {arms.interval(library)}")

# %%
out.table("rsa", arms.by_step(climbs, "RSA", d), dict.fromkeys([arms.TRUE, arms.CONTROL], "{:.2f}"))

# %% [markdown]
# A step tells A and B from the control where its interval lies above d (*yes*), does not where it lies below (*no*).

# %%
out.table("svcca", arms.by_step(climbs, "SVCCA", d), dict.fromkeys([arms.TRUE, arms.CONTROL], "{:.2f}"))

# %% [markdown]
# SVCCA is the published estimator up to *one-to-one*; from *estimator* on, n/a says that there are too few pairs.

# %%
out.figure("ladder", drawing.climbed(climbs, d))

# %% [markdown]
# Left two panels: the scores as reported. Third: a step tells the arms apart where its bar is right of the grey band.
# Right: the hubs of both arms.
#
# How often is p below `LEVEL` in either arm? A p about a shuffled pairing cannot tell A and B from the control.

# %%
for name, arm in (("true", arms.TRUE), ("control", arms.CONTROL)):
    for step, score in ((ladder.PUBLISHED, "SVCCA"), (ladder.PUBLISHED, "RSA"), (ladder.ALL, "RSA")):
        below, scored = arms.significant(climbs, arm, step, score)
        shown = f"{below} of {scored}" if scored else "none (too few pairs)"
        out.text(f"{name} {score} {step}", shown)
        print(f"{arm}, {score}, {step}: p < {LEVEL:g} in {shown}")

# %% [markdown]
# Where the control is below as often, the p of that step says nothing of A and B.

# %%
asked = {
    "foot svcca": (ladder.PUBLISHED, "SVCCA", "by the published procedure and its SVCCA"),
    "foot rsa": (ladder.PUBLISHED, "RSA", "by the published procedure and RSA"),
    "head rsa": (ladder.EXCESS, "RSA", "with all corrections, filters kept"),
    "all rsa": (ladder.ALL, "RSA", "with all corrections and without filters"),
}
would_be_no = "A gap below d: the step finds as much where words are exchanged."
for name, (step, score, how) in asked.items():
    question = f"Are pairs of A and B more alike than those of the control, {how}?"
    print(question, out.verdict(name, question, arms.gaps(climbs, score)[step], d, would_be_no))

# %%
rows = pipeline.reader(run, names[0][0]).rows
looked = views.Texts.of([rows] if negative else [rows, rows], positions, run.common.skip).positions
out.number("documents", looked[0].meta["documents"], "{:,}")
out.number("positions", sum(x.meta["tokens"] for x in looked), "{:,}")
out.number("replicates", len(names), "{:d}")
out.number("published draws", draws, "{:d}")
out.number("permutations", permutations, "{:,}")
out.number("several", ladder.SEVERAL, "{:d}")

# %% [markdown]
# ## Planted pairs
# Directions, features and partners of two models are planted, so that the share of true pairs is known, and whether
# partners are arranged alike: as `truths` says, or not at all (*nothing*).

# %%
worlds = {**synthetic.worlds(truths, f"{where}.truths"), "nothing": synthetic.UNRELATED}
size = spec.build(planted.Sizes, sizes, f"{where}.sizes")
drawn = {name: planted.draw(world, size, top, seed(run, name)) for name, world in worlds.items()}
ladders = {name: ladder.rungs(x.sides, settings) for name, x in drawn.items()}
true = {name: {x.step: drawn[name].true(x.pairs) for x in ladders[name]} for name in drawn}
pairs = ladders["nothing"][-1].pairs
assert true["nothing"][ladder.ALL] == np.mean(drawn["nothing"].partner[pairs.a] == pairs.b)

# %%
out.figure("planted", drawing.planted(ladders, true))

# %% [markdown]
# *true* says whether a step finds the planted partners. Where nothing is shared, marks should lie in the grey bars and
# be hollow, and a filled one is a finding where there is nothing; where all is shared, they should lie to the right.
#
# One draw could be luck: `12d_false_positives` draws many, and counts.

# %%
for step in (ladder.PUBLISHED, ladder.HOOK, ladder.ONE):
    out.number(f"shared true {step}", 100 * true.get("shared", {}).get(step, np.nan), "{:.0f}")

# %%
one = {x.step: x.scores for x in ladders.get("one direction", [])}
out.text("one direction says foot", ladder.conclusion(one[ladder.PUBLISHED].get(ladder.FIRST)) if one else "n/a")
for name, measure in (("svcca", ladder.SVCCA), ("rsa", ladder.RSA)):
    found = one.get(ladder.EXCESS, {}).get(measure)
    out.number(f"one direction {name} excess", found.value if found else np.nan)
out.number("shared", truths.get("shared", {}).get("shared", np.nan))
out.number("strength", 100 * truths.get("one direction", {}).get("strength", np.nan), "{:.0f}")

# %% [markdown]
# ## Verdict
# For either score the verdict of every step on the gap between A with B and the control; n/a where pairs are too few
# for a score.

# %%
for score in arms.SCORES:
    print(score, dict(zip(ladder.STEPS, arms.by_step(climbs, score, d).verdict, strict=True)))
out.save()
