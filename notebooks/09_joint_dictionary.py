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
# # One dictionary for two models
#
# **Question.** If one dictionary is trained on two models at once, which of its latents do both models have, and does
# it find the same partners as pairs of the models' own SAEs?
#
# **In.** Planted models, whose common share is known; replicates of A and B, what they activate at the same tokens of a
# text and of the text with exchanged words, and their SAEs.
#
# **Out.** The share of latents that a crosscoder calls shared, against the true share and with words exchanged; its
# exclusive latents that the other model's SAE has; the matched pairs that it finds; how well one code serves both.
#
# **What would count as a no.** A crosscoder does not tell what two models share if the share it calls shared is hardly
# larger than with words exchanged, or far from the planted one.

# %% tags=["parameters"]
profile = "smoke"
replicated = 2
recipe = {"width": 64, "k": 6, "steps": 60, "batch": 128, "learning_rate": 0.01}
sizes = {"matching": 3000, "held_out": 2000}
bounds = {"exclusive": 0.1, "shared": 0.3}
counterpart = 0.5
minimum_firings = 5
planted = {
    "world": {
        "features": 32,
        "shape": {"kind": "sphere"},
        "firing": {"active": 2.0, "decay": 1.0},
        "models": {"a": {"d": 24, "noise": 0.1}, "b": {"d": 32, "noise": 0.1}},
    },
    "recipes": {
        "free": {"width": 64, "k": 3, "steps": 100, "batch": 128, "learning_rate": 0.01},
        "shorter": {"width": 64, "k": 3, "steps": 50, "batch": 128, "learning_rate": 0.01},
    },
    "shares": [0.0, 0.5, 1.0],
    "samples": 6000,
    "judged": 1000,
    "near": 0.8,
    "draws": 3,
}
d = 0.1

# %%
import numpy as np
import pandas as pd

from sae_utils import inference, profiles, replicates, report, sweep
from sae_utils.profiles import seed
from sae_utils.studies.joint import carried, crosscoders, drawing, norms, texts, training
from sae_utils.studies.joint import planted as of_planted
from sae_utils.studies.joint.dictionary import Recipe

# %%
run = profiles.start(profile, "09_joint_dictionary")
out = report.Report(run, "09_joint_dictionary")
bound, size = norms.Bounds(**bounds), texts.Sizes(**sizes)
where, start = f"params/{profile}.yaml: 09_joint_dictionary.planted", seed(run, "crosscoder")
conditions = of_planted.conditions(planted["world"], planted["recipes"], planted["shares"], start, where)
seeds = [start + draw for draw in range(planted["draws"])]
arms, cells = texts.arms(run), replicates.of(run, *run.common.primary.pair)[:replicated]
kinds_of = {kind: Recipe(kind=kind, seed=start, **recipe) for kind in ("crosscoder", "universal")}

# %% [markdown]
# ## What is a crosscoder?
# Both models' activations are centred and scaled to one total variance. A latent reads both and writes both: it has an
# encoder and a decoder in each. Of a batch, the k largest products per token of activation and total decoder norm stay
# (BatchTopK); later a fixed threshold takes their place. The cell repeats the code and the error on planted models.

# %%
cell = next(iter(conditions))
lengths = planted["samples"], planted["judged"]
made = training.load(of_planted.trained(*conditions[cell], *lengths, seeds[0]))
sample = conditions[cell].world.draw(seeds[0]).sample(planted["judged"], 2 * seeds[0])
x = [sample[side].x for side in "ab"]
normal = [part.numpy() for part in made.normalised(x)]
encoders, rows = ([part.numpy() for part in of] for of in (made.encoder, made.decoder))

# %%
read = sum(part @ encoder for part, encoder in zip(normal, encoders, strict=True)) + sum(b.numpy() for b in made.bias)
active, norm = np.maximum(read, 0), sum(np.linalg.norm(part, axis=1) for part in rows)
codes = np.where(active * norm > made.threshold[0].item(), active, 0)
np.testing.assert_allclose((codes > 0).mean(), (made.encode(x) > 0).mean(), rtol=1e-3)
left = normal[0] - codes @ rows[0] - made.offset[0].numpy()
fvu = (left**2).sum() / ((normal[0] - normal[0].mean(axis=0)) ** 2).sum()
np.testing.assert_allclose(fvu, made.unexplained(x)["a"], rtol=1e-2)
print(f"{(codes > 0).sum(axis=1).mean():.1f} active latents, FVU of A {fvu:.3f}")

# %% [markdown]
# FVU is the share of the variance that is not explained. The library gives the same.

# %% [markdown]
# ## To whom does a latent belong?
# The *relative norm* is the norm of a latent's row in B over the sum of both: 0 where A alone has it, 1/2 where both
# use it alike, 1 where B alone has it. Bounds on it make three kinds, and some latents in between.

# %%
norm_a, norm_b = (np.linalg.norm(part, axis=1) for part in rows)
relative = norm_b / (norm_a + norm_b)
np.testing.assert_allclose(relative, norms.relative(made), atol=1e-6)
shared = (relative >= bound.shared) & (relative <= 1 - bound.shared)
np.testing.assert_array_equal(shared, norms.kinds(relative, bound) == norms.SHARED)
pd.Series(norms.shares(norms.kinds(relative, bound))).round(2).to_frame(f"{cell[0]}, {cell[1]:g} shared")

# %% [markdown]
# Here the models were planted with that share of common features; in the next cell with several.

# %% [markdown]
# ## Does it tell what is planted?
# The models of a world share 0 to all of their features. A crosscoder that finds each feature once would call the
# common share of all features shared. Every recipe trains one for every share and draw of the truth.


# %%
def judged(key):
    """What the crosscoder of a condition and a draw found."""
    condition, draw = conditions[key[0]], seeds[key[1]]
    stored = of_planted.trained(*condition, *lengths, draw)
    return of_planted.found(condition, stored, draw, bound, planted["near"])


found = sweep.run(judged, [(x, draw) for x in conditions for draw in range(len(seeds))], "planted crosscoders")
curve = pd.DataFrame(
    {"recipe": name, "draw": draw, **x._asdict(), **x.shares} for ((name, _), draw), x in found.items()
)
out.figure("bias", drawing.bias(curve))

# %% [markdown]
# Left: points above the line are crosscoders that call too much shared. Right: the share of the latents called
# exclusive whose feature both models have.

# %%
columns = {"shared": "called shared", "only A": "only A", "only B": "only B", "between": "between"}
columns |= {"mistaken": "mistaken", "recovered": "recovered", "unexplained": "FVU"}
grouped = curve.groupby(["recipe", "true"], sort=False)[[*columns]]
bias_table = grouped.mean().rename(columns=columns).reset_index()
bias_table.insert(3, "SD", grouped.std()["shared"].to_numpy())
out.table("bias", bias_table, dict.fromkeys(bias_table.columns[1:], "{:.2f}"))

# %% [markdown]
# *SD* is the spread of *called shared* over draws. *Recovered* is the share of planted features with a latent: where it
# is low, the kinds say little.

# %% [markdown]
# ## Two models
# Each replicate gets a crosscoder, and two more as controls. One sees A read a text where B reads it with words
# exchanged. Exchanged words still correspond one to one, so that latents of single words have a partner, and latents of
# classes have none. The other sees B at tokens of other documents, where nothing corresponds.


# %%
def compared(key):
    """The crosscoder of a replicate in an arm, beside the two SAEs."""
    names, arm = key
    both = texts.texts(run, names, arm, size), texts.own_sides(run, names, arm, size)
    return crosscoders.read(*both, kinds_of["crosscoder"], bound, counterpart, minimum_firings)


reads = sweep.run(compared, [(names, arm) for names in cells for arm in arms], "crosscoders")
kinds = pd.DataFrame(
    {"replicate": names[0], "arm": arm, **x.shares, **x.unexplained} for (names, arm), x in reads.items()
)
of_arms = {arm: [reads[names, arm] for names in cells] for arm in arms}
relatives, shares_of = ({arm: [x[place] for x in of] for arm, of in of_arms.items()} for place in (1, 2))
out.figure("norms", drawing.relations(relatives, shares_of, bound))

# %% [markdown]
# If a crosscoder told what corresponds, the controls would move latents from the middle to the ends.

# %%
by_arm = kinds.groupby("arm", sort=False)[[*norms.KINDS, "a", "b"]].mean().reset_index()
by_arm = by_arm.rename(columns={"a": "FVU of A", "b": "FVU of B"})
by_arm.insert(1, "live", [np.mean([len(reads[names, arm].relative) for names in cells]) for arm in arms])
out.table("kinds", by_arm, {"live": "{:.0f}"} | dict.fromkeys(by_arm.columns[2:], "{:.2f}"))

# %% [markdown]
# Compare the shares of the rows; the FVU says at what cost one code serves two models that read different words.

# %% [markdown]
# ## Do the models' own SAEs agree?
# A latent has a *counterpart* in an SAE if the feature with the largest correlation still reaches the threshold on
# other documents. A *matched pair* is a feature of A and one of B that are each other's best, and reach it.

# %%
own = texts.own_sides(run, cells[0], texts.TRUE, size)
r = {
    split: replicates.correlate(*(side.blocks[split] for side in own)).r for split in ("matching", "held_out")
}  # (features of A, features of B)
known = np.nan_to_num(r["matching"], nan=-1.0)
best, back = known.argmax(axis=1), known.argmax(axis=0)
a = np.flatnonzero(back[best] == np.arange(len(best)))
a = a[r["held_out"][a, best[a]] >= counterpart]
np.testing.assert_array_equal(np.stack([a, best[a]], axis=1), crosscoders.pairs(r, counterpart))
print(f"{len(a)} matched pairs of {len(best)} features")

# %% [markdown]
# These pairs are what notebook 02 finds with two SAEs. Four questions compare them with the crosscoder.

# %%
asked = {
    "own": "exclusive latents with a counterpart in their own model's SAE",
    "other": "exclusive latents with a counterpart in the other's SAE",
    "found": "matched pairs that one shared latent stands for",
    "back": "shared latents whose counterparts are a matched pair",
}
overlaps = pd.DataFrame(
    {"arm": arm, "asked": asked[name], **getattr(x, name)._asdict()} for (_, arm), x in reads.items() for name in asked
)
overlap_table = overlaps.groupby(["asked", "arm"], sort=False)[["n", "share", "chance"]].mean().reset_index()
out.table("overlap", overlap_table, {"n": "{:.0f}", "share": "{:.2f}", "chance": "{:.2f}"})

# %% [markdown]
# *Chance*: for pairs, the same with partners shuffled; for exclusive latents, the share of the shared latents. An
# exclusive latent with a counterpart in the other's SAE is called exclusive although both models have it.

# %% [markdown]
# ## One code for both
# A universal SAE reads one model and writes both. Through its code, or by an affine map, A's activations say something
# of B's. The cell repeats the affine map as a least squares fit.

# %%
both = texts.texts(run, cells[0], texts.TRUE, size)
(x, y), (u, v) = both.activations("matching"), both.activations("held_out")
fit = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
left = v - np.column_stack([u, np.ones(len(u))]) @ fit
by_hand = (left**2).sum() / ((v - v.mean(axis=0)) ** 2).sum()
np.testing.assert_allclose(
    by_hand, carried.by_map({"matching": x, "held_out": u}, {"matching": y, "held_out": v}), rtol=1e-2
)
print(f"affine map from A to B: FVU {by_hand:.3f}")

# %% [markdown]
# The affine map uses all of A; a sparse code can at best come near it.


# %%
def through(key):
    """The FVU of every way from one model to the other."""
    names, arm = key
    both = texts.texts(run, names, arm, size), texts.own_sides(run, names, arm, size)
    return carried.read(*both, kinds_of["universal"])


carried_in = [arm for arm in arms if arm != texts.APART]
ways = sweep.run(through, [(names, arm) for names in cells for arm in carried_in], "universal SAEs")
of_ways = pd.DataFrame({"arm": arm, "way": way, "fvu": fvu} for (_, arm), x in ways.items() for way, fvu in x.items())
out.figure("carried", drawing.carried(of_ways))

# %%
mean = of_ways.groupby(["way", "arm"], sort=False).fvu.agg(["mean", "std"]).unstack("arm")
carried_table = pd.DataFrame(
    {f"{arm}{end}": mean[column, arm] for arm in carried_in for column, end in (("mean", ""), ("std", ", SD"))}
)
out.table("carried", carried_table.reset_index(), dict.fromkeys(carried_table.columns, "{:.3f}"))

# %% [markdown]
# Compare the universal code with the affine map above it, and both with words exchanged: what remains there is carried
# by function words, position and frequency.

# %% [markdown]
# ## Verdict
# Over draws: how far is the share called shared from the truth, where nothing and where all is shared? Over replicates:
# is it larger than with words exchanged?

# %%
no = f"The share differs by less than {d:g}."
first = curve[curve.recipe == cell[0]]
for share, label in ((first.true.min(), "nothing"), (first.true.max(), "all")):
    gap = inference.over_replicates((first.shared - first.true)[first.true == share])
    out.verdict(f"bias {label}", f"Is the share called shared wrong where {label} is?", inference.size(gap), d, no)

# %%
wide = kinds.pivot(index="replicate", columns="arm", values=norms.SHARED)
for arm in arms[1:]:
    gap = inference.over_replicates((wide[texts.TRUE] - wide[arm]).to_numpy())
    out.verdict(f"than {arm}", f"Are more latents shared than with {arm}?", gap, d, no)

for part in ("shared", "than"):
    if texts.EXCHANGED not in arms:
        out.absent(f"{part} {texts.EXCHANGED}", "no replicates of its models")

# %% [markdown]
# A yes to the first two says that the share is not to be read as it stands. A no to the last says that the crosscoder
# calls latents shared at tokens that have nothing to do with one another.

# %%
means = overlaps[overlaps.arm == texts.TRUE].groupby("asked")[["share", "chance", "n"]].mean()
for name, question in asked.items():
    out.number(f"{name} share", means.share[question])
for name in ("found", "back"):
    out.number(f"{name} chance", means.chance[asked[name]])
out.number("usual", means.chance[asked["own"]])  # how often shared latents have a counterpart
for arm in arms:
    out.number(f"shared {arm}", kinds[kinds.arm == arm][norms.SHARED].mean())
for way, name in zip(carried.WAYS, ("affine", "code", "universal", "own"), strict=True):
    out.number(name, of_ways[(of_ways.arm == texts.TRUE) & (of_ways.way == way)].fvu.mean())
out.number("replicates", len(cells), "{:d}")
out.number("latents", recipe["width"], "{:d}")
out.number("draws", len(seeds), "{:d}")
out.save()
