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
# # Acting on paired features
#
# **Question.** If feature i of A is feature j of B, does acting on them have the same effect on the next token?
#
# **In.** The pairs of A and B of the primary analysis, with those under exchanged words as the control; both models.
#
# **Out.** How alike the effects of paired features are, ablated and steered; the same for other partners, and along the
# held-out r; the loss that A keeps when its features are replaced by their partners in B.
#
# **What would count as a no.** The difference D between the true and the control arm lies below the threshold d.

# %% tags=["parameters"]
profile = "smoke"
minimum_firings = 10
candidates = 16
most_pairs = 1000
contexts = 6
fewest_contexts = 3
common_contexts = 6
strength = 0.5
random_directions = 16
top = 10
strata = 3
caliper = 0.1
permutations = 99
judged_rows = 20
sae_seed = "two_layer_seed1"
d_ablated = 0.076
d_steered = 0.089

# %%
import numpy as np
import pandas as pd
import torch

from sae_utils import profiles, replicates, report, sweep
from sae_utils.studies.function import acted, acted_drawing, acting, effects, resuming
from sae_utils.studies.function.paired import CONTROL, TRUE

# %%
run = profiles.start(profile, "08c_interventions")
out = report.Report(run, "08c_interventions")
seed = profiles.seed(run, "acting")
plan = effects.Plan(contexts, fewest_contexts, common_contexts, strength, random_directions, seed)
settings = acted.Settings(
    minimum_firings, candidates, plan, top, strata, caliper, permutations, judged_rows, most_pairs
)
cells = replicates.of(run, *run.common.primary.pair)
seeds = [(cells[0][0], sae_seed)] if sae_seed else []  # two SAEs of one model
replicated = bool(run.common.replicates)
if replicated:
    replicates.prepare(run, cells + seeds)
arms = {TRUE: "A and B"} | ({CONTROL: "exchanged words"} if replicated else {})

# %% [markdown]
# ## Who is paired
# With replicates, content features of one model and their partners in the other, the same features in both arms. Where
# the profile has one pair of models, the mutual pairs. Partners are chosen on half of the documents; features act on
# the other half.

# %%
view = acted.views_of(run, cells[0], settings)[0]
at = effects.site(run, cells[0][0], "held_out")
pd.DataFrame({arm: pd.Series(x.r).describe() for arm, x in view.arms.items()}).loc[["count", "mean", "min", "max"]]

# %% [markdown]
# *mean* is the correlation of paired activations on the documents on which features now act.

# %% [markdown]
# ## A feature is ablated
# At the hook that the SAE reads, the contribution of a feature to a token is its code times its decoder row. Ablation
# subtracts it. The effect is the change of the log-probabilities of the next token. The library runs the network once a
# context, and goes on from the hook for every edit.

# %%
feature = int(view.arms[TRUE].left[0])
sites = effects.chosen(at, [feature], plan)[0][0]  # held-out tokens where it fires
given = resuming.contexts(at.rows, at.row[sites], at.place[sites])
resumed = resuming.resume(at.bridge, given, at.hook)
code = effects.codes_at(at, resumed, sites, [feature])[0]  # (contexts, places)
row = torch.from_numpy(at.decoder[feature])
edit = acting.Edit("ablate", row, codes=code, positions="last")
(library,) = acting.effects(resumed, [edit])

# %% [markdown]
# By hand, one context and one full pass of the network. Here only the last token loses the feature:

# %%
first, last = given.tokens[:1], int(given.at[0])
contribution = code[0, -1 if resumed.one_place else last] * row


def ablate(x, hook):
    """The activations of one context without the feature at the last token."""
    return torch.cat([x[:, :last], x[:, last : last + 1] - contribution.to(x), x[:, last + 1 :]], dim=1)


with torch.no_grad():
    logits = [at.bridge.run_with_hooks(first, fwd_hooks=hooks)[0, last] for hooks in ([], [(at.hook, ablate)])]
clean, changed = (x.log_softmax(-1).cpu() for x in logits)
np.testing.assert_allclose(changed - clean, library[0].cpu(), atol=1e-4)
print(f"largest change of a log-probability: {(changed - clean).abs().max():.2f}")

# %% [markdown]
# The two ways should agree; the change is small where other features write the same.

# %% [markdown]
# ## What is common is taken off
# Whatever disturbs the network makes frequent words more likely. So every effect loses the mean effect of the other
# features, and its part along the mean effect of random directions of equal norm, which act on other contexts.

# %%
acted_on = acted.act(run, cells[0], [view], "held_out", plan)
mine = acted_on.of["a"]
raw = mine.steered[0].astype(float)  # (features, words) on one half of the documents
by_hand = raw - (raw.sum(axis=0) - raw) / (len(raw) - 1)
by_hand -= by_hand.mean(axis=1, keepdims=True)
random = (mine.random - mine.random.mean()) / np.linalg.norm(mine.random - mine.random.mean())
by_hand -= np.outer(by_hand @ random, random)
by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
np.testing.assert_allclose(by_hand, effects.own(mine.steered[0], mine.random), atol=1e-5)
every_two = {"raw": np.corrcoef(raw), "own": by_hand @ by_hand.T}
pd.Series({name: x[np.triu_indices(len(x), 1)].mean() for name, x in every_two.items()}).round(3).to_frame("mean r")

# %% [markdown]
# *raw*: any two features of A correlate in what they do, whatever they mean. *own* should be near 0.

# %% [markdown]
# ## Are the effects of a pair alike?
# The effect of A's feature comes from one half of the documents, that of B's from the other. Their correlation over
# words is compared with that of any two partners, and with two halves of one model, the *ceiling*.

# %%
alike = acted_on.likeness(view, TRUE, "ablated")
x = view.arms[TRUE]
one, two = (acted_on.place[side][of][alike.kept] for side, of in zip("ab", (x.left, x.right), strict=True))
cleaned = [
    [effects.own(half[which], acted_on.of[side].random) for half in acted_on.of[side].ablated]
    for side, which in (("a", one), ("b", two))
]
crosswise = [np.corrcoef(cleaned[0][half][0], cleaned[1][1 - half][0])[0, 1] for half in effects.HALVES]
np.testing.assert_allclose(np.mean(crosswise), alike.similar[0, 0], atol=1e-4)
pd.Series(acted.scores(alike, x)).round(2).to_frame("ablated")

# %% [markdown]
# *alike* should be far above *shuffled* and below *ceiling*; *retention* counts pairs with contexts enough.

# %% [markdown]
# ## Every replicate, both arms
# In the control arm B read exchanged words when partners were chosen, and its effects on words are read through the
# same exchange.

# %%
found = sweep.run(lambda names: acted.of_replicate(run, names, settings), cells + seeds, "acting")
of_seeds = {names: found.pop(names) for names in seeds}
rows = [acted_drawing.scores(found, arms)]
if seeds:
    rows.append(acted_drawing.scores(of_seeds, {TRUE: "two SAEs of A"}))
out.table("scores", pd.concat(rows, ignore_index=True).sort_values("acting", kind="stable"), acted_drawing.FORMS)

# %% [markdown]
# Compare the excess of the two arms, and with that of two SAEs of the first A where the profile has them. *share of
# ceiling* is the correlation that would be found without noise. All words count the same, or, *weighted*, by their
# probability: most words are rare.

# %% [markdown]
# ## Alike beyond text and topic?
# Features of one text promote alike words. So partners are exchanged among features alike in firing rate, top token or
# class, and each feature meets the partners of pairs about other concepts that correlate as much.

# %%
nulls = acted_drawing.against(found)
forms = dict.fromkeys(("own", "others", "excess", "low", "high", "movable"), "{:.2f}")
out.table("against", nulls, forms)

# %% [markdown]
# A low *movable* says that few partners can be exchanged, so that the row says little.

# %% [markdown]
# ## Does a higher match mean a more equal effect?

# %%
with_r = acted_drawing.along(found)
of_pairs = pd.concat([x.pairs[x.pairs.arm == TRUE] for x in found.values()])
out.figure("along", acted_drawing.figure(found, arms))
of_pairs.groupby("kind")[["r", "alike", "logits"]].corr(method="spearman").round(2)

# %% [markdown]
# The blue line should rise with r and reach the dashed one. *logits*: the likeness of the decoder rows through the
# unembedding, as in 08b, which no intervention needs.

# %% [markdown]
# ## Can a partner take the feature's place?
# At every held-out token the codes of all paired features of A are replaced by a multiple of their partners' codes,
# fitted on the documents that chose. A loss as if nothing had been changed is 1, that of ablation is 0.

# %%
names = ("clean", "ablated", "own", "other", "recovered, own", "recovered, other")
replaced = {name: acted_drawing.mean(found, f"substituted, {name}") for name in names}
table = pd.DataFrame([(name, x.estimate, x.low, x.high) for name, x in replaced.items()])
table.columns = ["features replaced by", "loss", "low", "high"]
out.table("substituted", table, dict.fromkeys(("loss", "low", "high"), "{:.3f}"))

# %% [markdown]
# *other*: by the partner of another feature, with a multiple of its own. What it recovers needs no match.

# %% [markdown]
# ## The verdict

# %%
thresholds = {"ablated": d_ablated, "steered": d_steered}
if replicated:
    for kind, d in thresholds.items():
        no = f"excess larger by less than {d:g}"
        question = f"Are the effects of paired features, {kind}, more alike than under exchanged words?"
        out.verdict(kind, question, acted_drawing.difference(found, kind), d, no)
else:
    out.absent("verdicts", "one pair of models: no replicates")

# %% [markdown]
# A yes says that pairs by correlation have effects in common that exchanged words do not give.

# %% [markdown]
# ## For the paper

# %%
fixed = {"contexts": plan.contexts, "common": plan.common, "strength": plan.strength, "replicates": len(cells)}
for name, value in fixed.items():
    out.number(name, value, "{:g}")
keys = {key: f"{TRUE}, {key}" for key in ("n", "alike", "ceiling", "with r", "weighted alike")}
for kind in effects.KINDS:
    for key, of in (keys | {"equal r": "equal r, other"}).items():
        x = acted_drawing.mean(found, f"{kind}, {of}")
        out.number(f"{kind} {key}", x.estimate, "{:.0f}" if key == "n" else "{:.2f}", x.se)
    x = acted_drawing.mean(of_seeds, f"{kind}, {TRUE}, alike").estimate if seeds else np.nan
    out.number(f"{kind} seeds", x)
for name in ("own", "other"):
    x = replaced[f"recovered, {name}"]
    out.number(f"recovered by {name}", x.estimate, se=x.se)

# %%
out.save()
