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
# # A loss that makes features alike
#
# **Question.** If two SAEs are trained together, with a loss that asks latents of one index to fire alike in both
# models, what does it cost, what does it gain, and does it invent agreement where there is none?
#
# **In.** Replicates of A and B, and what they activate at the same tokens of a text and of the text with exchanged
# words.
#
# **Out.** By the weight of the loss: the variance that is not explained, the share of content features with a
# counterpart, and how alike partners are arranged; with the same words, and with words exchanged.
#
# **What would count as a no.** The loss gains nothing if the excess of the primary measure rises by less than the
# threshold d. It invents agreement if the excess rises by more than d with words exchanged.

# %% tags=["parameters"]
profile = "smoke"
replicated = 2
recipe = {"width": 64, "k": 6, "steps": 60, "batch": 128, "learning_rate": 0.01}
sizes = {"matching": 3000, "held_out": 2000}
weights = [0.0, 0.5, 1.0]
counterpart = 0.5
minimum_firings = 5

# %%
import numpy as np
import pandas as pd
import torch

from sae_utils import inference, measures, profiles, replicates, report, sweep
from sae_utils.profiles import seed
from sae_utils.studies.joint import agreement, dictionary, drawing, texts, training
from sae_utils.studies.joint.dictionary import Recipe

# %%
run = profiles.start(profile, "09b_alike_loss")
out = report.Report(run, "09b_alike_loss")
out.needs(run.common.replicates, "no replicates of its models")
size, primary = texts.Sizes(**sizes), run.common.primary
cells = replicates.of(run, *primary.pair)[:replicated]
recipes = {x: Recipe(kind="separate", seed=seed(run, "alike"), alike=x, **recipe) for x in weights}
d = primary.thresholds["excess"].d

# %% [markdown]
# ## The loss
# Two SAEs read one model each. Beside the variance that they leave, the loss holds 1 - r of what latents of one index
# read in the two models, over the tokens of a batch, before the selection of the largest: what is not selected would
# have no gradient. Latents that are silent in the batch do not count.

# %%
together = texts.texts(run, cells[0], texts.TRUE, size)
made = training.of(together, recipes[weights[-1]])
x = [part[: recipe["batch"]] for part in together.activations("held_out")]
normal = [part.numpy() for part in made.normalised(x)]
read = [
    np.maximum(part @ made.encoder[i].numpy() + made.bias[i].numpy(), 0) for i, part in enumerate(normal)
]  # (tokens, latents)
both = np.flatnonzero((read[0] > 0).any(axis=0) & (read[1] > 0).any(axis=0))
r = np.array([np.corrcoef(read[0][:, latent], read[1][:, latent])[0, 1] for latent in both])
library = dictionary.alike(*map(torch.as_tensor, read))
np.testing.assert_allclose(1 - r.mean(), library, atol=1e-3)
print(f"mean r of {len(both)} latents {r.mean():.2f} with the loss")

# %% [markdown]
# Untrained, the mean r is about 0, as the two SAEs begin at random. The loss can raise it in two ways: by giving
# partners one index, or by changing what latents are about.

# %% [markdown]
# ## Two arms
# With the same words, A and B read one text. With words exchanged, B reads another word wherever A reads a content
# word. The exchange is one to one: a latent of a single word still has a partner, one of a class of words has none.
# Without the loss the SAEs do not know of one another, and are read in both arms.


# %%
def scored(key):
    """Two SAEs of a replicate, trained and read in one arm with a weight of the loss."""
    names, arm, weight = key
    here = texts.texts(run, names, arm, size)
    trained_on = here if weight else texts.texts(run, names, texts.TRUE, size)
    return agreement.read(here, trained_on, recipes[weight], primary.measure, counterpart, minimum_firings)


arms = [texts.TRUE, texts.EXCHANGED]
reads = sweep.run(scored, [(names, arm, x) for names in cells for arm in arms for x in weights], "pairs of SAEs")
frame = pd.DataFrame(
    {"replicate": names[0], "arm": arm, "weight": x, **found._asdict()} for (names, arm, x), found in reads.items()
)

# %% [markdown]
# Content features of A get one partner each by the largest total correlation, as in notebook 07, not by their index.
# The excess compares how their decoder rows are arranged.

# %%
label = measures.measure(primary.measure).label
panels = {"unexplained": "variance not explained", "counterparts": "share with a counterpart", "excess": label}
out.figure("costs", drawing.costs(frame, panels | {"same_index": "r at the same index"}))

# %% [markdown]
# From left to right: the cost; what pairs gain; what the arrangement gains; how far the index pairs them. Whatever
# rises in orange is invented, or about single words.

# %%
columns = {"n": "n", "unexplained": "FVU", "counterparts": "counterparts", "r": "r", "matched": "matched pairs"}
columns |= {"same_index": "r, same index", "excess": "excess"}
grouped = frame.groupby(["arm", "weight"], sort=False)[[*columns]]
costs_table = grouped.mean().rename(columns=columns).reset_index()
costs_table["SD of excess"] = grouped.std()["excess"].to_numpy()
forms = dict.fromkeys(["FVU", "excess", "SD of excess"], "{:.3f}") | {"n": "{:.0f}", "matched pairs": "{:.0f}"}
out.table("costs", costs_table, forms | dict.fromkeys(["counterparts", "r", "r, same index"], "{:.2f}"))

# %% [markdown]
# *n* are content features, which the loss may change as well: an excess over other features is another quantity.

# %% [markdown]
# ## Verdicts
# Differences within replicates, between the heaviest loss and none, held against the d of the primary analysis.


# %%
def gap(arm, column):
    """By how much a number is larger with the heaviest loss than without, over replicates."""
    wide = frame[frame.arm == arm].pivot(index="replicate", columns="weight", values=column)
    return inference.over_replicates((wide[weights[-1]] - wide[0.0]).to_numpy())


# %%
asked = {
    "gain": (texts.TRUE, "Does the loss make partners more alike?"),
    "invented": (texts.EXCHANGED, "Does it do so with words exchanged?"),
}
answers = {
    question: out.verdict(name, question, gap(arm, "excess"), d, f"The excess rises by less than {d:g}.")
    for name, (arm, question) in asked.items()
}
pd.Series(answers).to_frame("answer")

# %% [markdown]
# Only a yes and a no, in this order, would speak for such a loss. A yes to the second says that agreement of SAEs that
# were trained to agree is no evidence about their models.

# %%
for arm, name in ((texts.TRUE, "true"), (texts.EXCHANGED, "exchanged")):
    found = gap(arm, "same_index")
    out.number(f"same index {name} gap", found.estimate, se=found.se)
    part = frame[frame.arm == arm].groupby("weight")[["unexplained", "counterparts"]].mean()
    for weight, end in ((0.0, "without"), (weights[-1], "with")):
        out.number(f"unexplained {name} {end}", part.unexplained[weight], "{:.3f}")
        out.number(f"counterparts {name} {end}", part.counterparts[weight])
out.number("replicates", len(cells), "{:d}")
out.number("latents", recipe["width"], "{:d}")
out.number("weight", weights[-1], "{:g}")
out.save()
