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
# # Do matchings and measures notice what is shared?
#
# **Question.** Do the matchings find true partners, and do the measures rise, as two models share more of their
# features?
#
# **In.** Two planted models that share a part of their features, and an SAE of each, trained here. **Out.** For every
# matching the share of its pairs that are true, for every measure its excess: by the share that is truly shared; on
# shared and on private latents; after changes that keep the relations of the latents and that destroy them; and by
# width, sparsity, samples and noise.
#
# **What would count as a no.** A measure fails if its excess is not higher where all is shared than where nothing is,
# or if it is high where shared features are arranged anew in each model.

# %% tags=["parameters"]
profile = "smoke"
world = {
    "features": 48,
    "shape": {"kind": "mixture", "groups": 8, "alike": 0.4},
    "firing": {"active": 2.0, "decay": 1.0},
    "models": {"a": {"d": 24, "noise": 0.1}, "b": {"d": 32, "noise": 0.1}},
}
sae = {"architecture": "topk", "k": 2, "learning_rate": 0.01}
schedule = {"samples": 12800, "batch": 128, "checkpoints": 1, "judged": 1000}
shares = [0.0, 0.5, 1.0]
varied = {"relations of their own": {"shared": 1.0, "relations": "own"}, "noisier": {"shared": 0.5, "noise": 1.0}}
measures = ["rsa_spearman", "mutual_knn", "cka_debiased"]
draws = 3
permutations = 19
near = 0.8
d = 0.1

# %%
import numpy as np
import pandas as pd

from sae_utils import profiles, report, sweep
from sae_utils.measures import measure
from sae_utils.profiles import seed
from sae_utils.studies.recovery import shared, sharing

# %%
run = profiles.start(profile, "06f_shared_fraction")
out = report.Report(run, "06f_shared_fraction")
where = f"params/{profile}.yaml: 06f_shared_fraction"
conditions = shared.conditions(world, sae, schedule, shares, varied, where)
seeds = [seed(run, "truth") + draw for draw in range(draws)]
label = {name: measure(name).label for name in measures}
by_share = [name for name in conditions if name not in varied]

# %% [markdown]
# ## One pair of SAEs
# Both models see the same samples, in which a shared feature is active in both at once. An SAE of either is trained on
# other samples. A latent stands for the true feature next to it, from a cosine of `near` on; it is truly shared if that
# feature is in both models and recovered in both.

# %%
of = conditions[by_share[-1]]
saes = [shared.trained(of, side, seeds[0]) for side in shared.SIDES]
x = shared.compared(of, seeds[0], saes, near)
truth = of.world.draw(seeds[0])
place = []
for side, one, live in zip("ab", saes, (x.found.a.live, x.found.b.live), strict=True):
    rows = one.array("decoder") / np.linalg.norm(one.array("decoder"), axis=1, keepdims=True)
    cosine = rows @ truth.models[side].rows.T
    place.append(np.where(live & (cosine.max(axis=1) >= near), truth.models[side].place[cosine.argmax(axis=1)], -1))
by_hand = [0 <= feature < truth.shared and feature in place[1] for feature in place[0]]
np.testing.assert_array_equal(by_hand, x.truth.shared)
print(f"{by_share[-1]}: {np.mean(by_hand):.0%} of the latents of A are truly shared")

# %% [markdown]
# Fewer latents are truly shared than features are, because the SAEs do not recover all features.
#
# A pair is right if both latents recover the same shared feature. For mutual best partners by hand:

# %%
first, second = (np.array(one.array("codes")) for one in saes)
with np.errstate(invalid="ignore", divide="ignore"):
    r = np.nan_to_num(np.corrcoef(first.T, second.T)[: of.width, of.width :], nan=-2)
best, back = r.argmax(axis=1), r.argmax(axis=0)
pairs = [(i, j) for i, j in enumerate(best) if back[j] == i and r[i, j] > -2]
right = np.mean([0 <= place[0][i] < truth.shared and place[0][i] == place[1][j] for i, j in pairs])
library = shared.matched(x)["mutual"]
np.testing.assert_allclose([len(pairs), right], [library["pairs"], library["right"]])
print(f"{len(pairs)} mutual pairs, {right:.0%} of them right")

# %% [markdown]
# ## By the share that is shared
# Every condition is drawn several times, each with a truth of its own. The table has the share of the pairs of each
# matching that are right. A share of right pairs can be no larger than the matching has shared latents to find.

# %%
cells = [(name, draw) for name in conditions for draw in range(draws)]
reads = sweep.run(lambda x: shared.read(conditions[x[0]], seeds[x[1]], near, measures, permutations), cells, "pairs")
found = sharing.frame(reads)
assert reads[by_share[-1], 0].matched["mutual"]["right"] == right
matched = sharing.means(found, "matching", "right")
out.table("right", matched, dict.fromkeys(matched.columns[1:], "{:.2f}"))

# %% [markdown]
# One row is one condition. Compare a matching that pairs all with *mutual*, which leaves out latents without a partner.

# %%
reached = sharing.means(found, "matching", "found")
out.table("found", reached, dict.fromkeys(reached.columns[1:], "{:.2f}"))

# %% [markdown]
# The same table for the share of the truly shared latents whose true partner is among the pairs; n/a where none is
# shared.

# %%
excess = sharing.means(found, "excess", "all").rename(columns=label)
out.table("excess", excess, dict.fromkeys(excess.columns[1:], "{:.2f}"))

# %% [markdown]
# The excess of the optimal pairs by measure should be near 0 in the first row and rise to the last share. In the row of
# *relations of their own* the latents have partners, which fire alike and are arranged anew: no measure of relations
# should rise there.

# %%
distance = sharing.means(found, "distance")
out.table("distances", distance, dict.fromkeys(distance.columns[1:], "{:.2f}"))

# %% [markdown]
# Permutation Procrustes and soft matching compare activations of whole dictionaries: they should fall as more is
# shared, and not read how latents are arranged.

# %%
out.figure("shared", sharing.drawn(found, by_share, label))

# %% [markdown]
# A mark is one draw, a line the mean of a condition.
#
# ## Shared against private, and what destroys relations
# *shared*: pairs of true partners; *private*: all other pairs; *rotated*: the decoder of B is turned, which keeps all
# relations; *shuffled*: its rows change places, which destroys them.

# %%
part = sharing.parts(found, measures[0])
assert (part["rotated"] - part["all"]).abs().max() < d / 2
out.table("parts", part, dict.fromkeys(part.columns[1:], "{:.2f}"))

# %% [markdown]
# *private* above 0 says that latents without a true partner are also arranged alike, as children or blends of shared
# features are. A rotation moves RSA a little, because its dissimilarities subtract a mean over coordinates.

# %%
last, none = by_share[-1], by_share[0]
no = "The interval over draws lies below d."
rises = sharing.gap(found, [last, none], measures[0], "all")
question = f"Is the excess of {label[measures[0]]} higher with \u201c{last}\u201d than with \u201c{none}\u201d?"
print(question, out.verdict("rises", question, rises, d, no))
private = sharing.of(found, last, measures[0], "private")
question = f"With \u201c{last}\u201d, do pairs that are no true partners have an excess?"
print(question, out.verdict("private", question, private, d, no))

# %%
own = next((name for name, changed in varied.items() if changed.get("relations") == "own"), "")
relations = sharing.of(found, own, measures[0], "all")
question = "Do pairs have an excess where shared features are arranged anew in each model?"
print(question, out.verdict("own relations", question, relations, d, no))

# %% [markdown]
# ## Verdict
# The first answer should be *yes* and the last *no*.

# %%
for name in ("true", "recovered", "loss"):
    x = sharing.of(found, last, name, "")
    out.number(f"last {name}", x.estimate, "{:.2f}", x.se)
best = matched.set_index("condition").loc[last]
for name in ("mutual", "optimal", shared.PROCRUSTES, "soft"):
    out.number(f"right {name}", best[name], "{:.2f}")
for name, value in {"draws": draws, "features": world["features"], "samples": schedule["samples"]}.items():
    out.number(name, value, "{:,}")
out.number("near", near)
pd.Series({"rises": rises.estimate, "private": private.estimate, "own relations": relations.estimate}).round(3)

# %%
out.save()
