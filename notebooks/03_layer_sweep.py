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
# # Layer sweep
#
# **Question.** Are the features of two models arranged alike at every pair of their layers, more than when one of them
# reads exchanged words? Are some pairs of layers more alike than others?
#
# **In.** Dictionaries at several depths of each model, in several replicates. **Out.** For every layer of A with every
# layer of B: the excess of every measure at one n in both arms, and their difference over replicates with a verdict;
# tests of the best layers and of equal depth; the largest z against the null of that maximum. All of it is secondary.
#
# **What would count as a no.** The difference between the arms lies below the threshold d. For the second question: the
# pair of layers that other replicates choose exceeds the rest by less than d.

# %% tags=["parameters"]
profile = "smoke"
pairs = {"two_layer x three_layer": [["two_layer_block0", "two_layer"],
                                     ["three_layer_block0", "three_layer_block1", "three_layer"]]}  # fmt: skip
minimum_firings = 5
candidates = 16
secondary_measures = ["rsa_pearson", "cka_debiased", "mutual_knn"]
other_estimators = ["cka", "procrustes", "svcca", "svcca_first_component", "cca", "pwcca"]
neighbours = 5
permutations = 99
fewest = 6
subsets = 3
subset_draws = 9

# %%
import numpy as np
import pandas as pd
from scipy import sparse, stats
from scipy.optimize import linear_sum_assignment

from sae_utils import inference, measures, pipeline, profiles, replicates, report, significance, sweep, tables
from sae_utils.profiles import seed
from sae_utils.studies.layer_sweep import cells, drawing, layers
from sae_utils.studies.llm_vs_sae import units

# %%
run = profiles.start(profile, "03_layer_sweep")
out = report.Report(run, "03_layer_sweep")
primary, d = run.common.primary, run.common.primary.d("excess")
grid = layers.cells(run, "03_layer_sweep", pairs)
main = layers.find(run, "primary.pair", grid, run.pair)
ceilings = layers.ceilings(grid)
every = [*grid, *ceilings["A"], *ceilings["B"]]
if run.common.replicates:
    replicates.prepare(run, [(cell.a, cell.b) for cell in every])
else:
    pipeline.features_of(run, dict.fromkeys(name for cell in every for name in (cell.a, cell.b)))

# %% [markdown]
# ## Both arms of one pair of layers
# As in the primary analysis, a *content feature* has over 80% of its activation on content words. In the true arm both
# models read the same text: the text t, then t with exchanged words. In the control arm B reads the two in the other
# order, so that token i of A is another word for B. Codes and features are the same. Each content feature gets one
# partner in either arm: the one-to-one pairs of the largest total r. The primary pair by hand:

# %%
if run.common.replicates:
    a, b = replicates.sides(run, (main.a, main.b))
    codes, classes = sparse.vstack(a.blocks["matching"]), np.concatenate(a.classes["matching"])  # -1: no content word
    on_content = codes[classes >= 0].sum(axis=0) > replicates.CONTENT * codes.sum(axis=0)
    content = np.flatnonzero(on_content & ((codes > 0).sum(axis=0) >= minimum_firings))
    of_library = replicates.content_features(a.blocks["matching"], a.classes["matching"], minimum_firings)
    np.testing.assert_array_equal(content, of_library)


# %%
def matched(other):
    """The partner in B of each content feature of A, where B reads the texts `other` (one for each text of A)."""
    r, (_, live) = replicates.correlate(a.blocks["matching"], other)
    columns = np.flatnonzero(live)
    some = np.ix_(content[:8], columns[:8])
    x, y = codes[:, some[0].ravel()].toarray(), sparse.vstack(other)[:, some[1].ravel()].toarray()
    np.testing.assert_allclose(np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :], r[some], atol=1e-6)
    row, column = linear_sum_assignment(r[np.ix_(content, columns)], maximize=True)
    return dict(zip(content[row], columns[column], strict=True))


# %%
pairs_of = {}
if run.common.replicates:
    text, exchanged = b.blocks["matching"]
    partner = {cells.TRUE: matched([text, exchanged]), cells.CONTROL: matched([exchanged, text])}
    both = [feature for feature in content if all(feature in of for of in partner.values())]
    pairs_of = {arm: np.array([both, [of[feature] for feature in both]]) for arm, of in partner.items()}
    by_library = cells.paired(run, main.a, main.b, minimum_firings, candidates)[0].arms
    np.testing.assert_array_equal([by_library[arm] for arm in pairs_of], list(pairs_of.values()))

# %% [markdown]
# Spearman RSA compares the distances, 1 - r, among the decoder rows of A's features with those among their partners. A
# shuffled pairing has a mean of 0, so that Spearman's r of the distances is the excess.

# %%
for arm, (of_a, of_b) in pairs_of.items():
    x, y = a.decoder[of_a], b.decoder[of_b]
    distances = [1 - np.corrcoef(z)[np.triu_indices(len(z), 1)] for z in (x, y)]
    by_hand = stats.spearmanr(*distances).statistic
    of_library = significance.test(x, y, ["rsa_spearman"], m_of={"rsa_spearman": 0})["rsa_spearman"]
    np.testing.assert_allclose(of_library.excess, by_hand, atol=1e-4)
    print(f"{arm:8} {len(x)} content features, excess {by_hand:.3f}")

# %% [markdown]
# Subtract the second line from the first: this difference, over replicates, is what the notebook asks about.

# %% [markdown]
# ## Pairs of features at every pair of layers
# The same for every cell: a layer of A with a layer of B in one replicate, with content features of A and then of B,
# and with either part of the documents to choose partners. A profile without replicates takes mutual pairs, and has no
# control. Another seed of the same model, at the same layer, is the ceiling. All scores are taken at one n, that of the
# smallest cell with at least `fewest` pairs.

# %%
found = sweep.run(lambda x: cells.paired(run, x.a, x.b, minimum_firings, candidates), every, "pairs")
n = layers.common_n(found, fewest)
scored = [cell for cell in every if layers.least(found[cell]) >= n]
paired = layers.described(found)
paired.groupby(["pair", "i", "j"], sort=False).mean().reset_index().round(2)

# %% [markdown]
# *i* and *j* number the layers of A and B from 0. *retention* is the share of live features that are compared. In the
# column *held-out r* the last rows, two seeds of one model, say what could be reached.

# %%
mine = [cell for cell in grid if cell.pair == main.pair]
r_of_mine = paired["held-out r"][paired.pair == main.pair]
out.text("pair", main.pair)
out.number("replicates", len({cell.one for cell in mine}), "{:d}")
out.number("layer pairs", len({(cell.i, cell.j) for cell in mine}), "{:d}")
out.number("common n", n, "{:,}")
out.number("fewest", fewest, "{:d}")
out.number("unscored", len(every) - len(scored), "{:d}")
out.number("cells", len(every), "{:d}")
out.number("least r", r_of_mine.min())
out.number("most r", r_of_mine.max())

# %% [markdown]
# ## Every measure at one n, in both arms
# Decoder rows are what features write, encoder rows what they read. All pairs of the first choice of partners are held
# against shuffled pairings, by these measures and by others whose null mean is not known. The excess at one n is a mean
# over random subsets (notebook 02 has it by hand), which both arms share, and over the choices of partners.

# %%
battery = cells.Battery(
    measures=list(dict.fromkeys([primary.measure, *secondary_measures])), neighbours=neighbours,
    permutations=permutations, subsets=subsets, subset_draws=subset_draws,
)  # fmt: skip
scores = sweep.run(
    lambda x: cells.scored(
        found[x], cells.sides_of(run, x.a, x.b), battery, n, seed(run, f"{x}"), other_estimators, x in grid
    ),
    scored, "scores",
)  # fmt: skip

# %%
of_main = {cell: scores[cell] for cell in scored if cell.pair == main.pair}
arms = {
    (kind, name): [layers.values(of_main, arm, kind, name) for arm in (cells.TRUE, cells.CONTROL)]
    for kind in cells.ROWS for name in battery.measures
}  # fmt: skip
true, control = arms["decoder", primary.measure]  # (replicates, layers of A, layers of B)

# %% [markdown]
# ## The primary measure on decoder rows
# A verdict on a pair of layers is *yes* where the interval of the difference lies above d, *no* where it lies below,
# else *undetermined*. Few replicates make wide intervals. The verdicts are not adjusted for their number.

# %%
block = {name: units.place(run, name)[1] for cell in grid for name in (cell.a, cell.b)}  # blocks count from 0
places = {(cell.i, cell.j): f"{block[cell.a]}-{block[cell.b]}" for cell in mine}
by_layers = layers.table(true, control, d)
at_main = (by_layers.i == main.i) & (by_layers.j == main.j)
by_layers.insert(0, "blocks", np.char.add(list(places.values()), np.where(at_main, "*", "")))
shown = by_layers.drop(columns=["i", "j", "p"])
out.table("layers", shown, dict.fromkeys(shown.columns[2:-1], "{:.2f}") | {"replicates": "{:d}"})

# %% [markdown]
# Read *difference* with *low* and *high* down the rows; * marks the layers of the primary pair.

# %%
blocks = [list(dict.fromkeys(block[getattr(cell, side)] for cell in mine)) for side in ("a", "b")]
panels = {"true arm": true, "control arm": control, "difference": true - control}
out.figure("excess", drawing.heat(panels, blocks, (main.i, main.j)))

# %% [markdown]
# The left panel alone would mislead: what the middle panel also shows is alike without any shared meaning. The right
# panel answers; compare its cells with the spread (±) over replicates. The frame is the primary pair.

# %% [markdown]
# ## More alike than under exchanged words?
# The mean over all pairs of layers, then over replicates, so that no pair of layers is chosen.

# %%
overall = layers.over_replicates(true - control)
question, no = "Mean over layer pairs: true arm minus exchanged words", "the interval lies below the threshold"
verdict = {"more alike than under exchanged words": out.verdict("difference", question, overall, d, no)}
words = by_layers.verdict.value_counts()
for word in ("yes", "no", "undetermined"):
    out.number(word, words.get(word, 0), "{:d}")
out.number("tested", (by_layers.replicates > 0).sum(), "{:d}")
out.number("false ones", inference.false_at_most(len(by_layers)), "{:.1f}")
out.number("true mean", tables.average(true))
out.number("control mean", tables.average(control))
pd.DataFrame([overall], index=["true - control"]).round(3)

# %% [markdown]
# An interval above d, *low* to *high*, answers yes for the layers as a whole.

# %% [markdown]
# ## Are some pairs of layers more alike than others?
# The best of several is better than the rest whatever the truth. So the other replicates choose the best pair of
# layers, and the one that is left judges it: its difference there minus its mean over the rest. The second test needs
# no choice: pairs of layers at the same relative depth, first with first and last with last, minus the rest.

# %%
flat, same = (true - control).reshape(len(true), -1), layers.same_depth(*true.shape[1:]).ravel()
if len(flat) > 1 and np.isfinite(flat).all() and flat.shape[1] > 1:
    best = [np.delete(flat, r, axis=0).mean(axis=0).argmax() for r in range(len(flat))]
    by_hand = [x[at] - np.delete(x, at).mean() for x, at in zip(flat, best, strict=True)]
    np.testing.assert_allclose(layers.chosen_by_others(true - control), by_hand)
    if same.any():
        by_hand = flat[:, same].mean(axis=1) - flat[:, ~same].mean(axis=1)
        np.testing.assert_allclose(layers.at_the_same_depth(true - control), by_hand)

# %%
question = "The layer pair that other replicates choose minus the rest"
chosen = inference.over_replicates(layers.chosen_by_others(true - control))
verdict["the best layers more alike than the rest"] = out.verdict("best", question, chosen, d, no)
question = "Layer pairs of the same relative depth minus the rest"
same_depth = inference.over_replicates(layers.at_the_same_depth(true - control))
verdict["the same depth more alike than the rest"] = out.verdict("same depth", question, same_depth, d, no)
differences = {key: one - two for key, (one, two) in arms.items()}
layer_tests = layers.layer_tests(differences)
starred = {name: measures.measure(name).label + "*" * (name == primary.measure) for name in battery.measures}
layer_tests["measure"] = layer_tests.measure.map(starred)
out.table("layer tests", layer_tests, dict.fromkeys(layer_tests.columns[2:], "{:.3f}"))

# %% [markdown]
# A measure tells layers apart where an interval lies on one side of 0; below 0, the same depth is less alike than the
# rest. Do the measures agree in sign? Each has a scale of its own, so that d and the verdict are for the row with *.

# %% [markdown]
# ## Does a high correlation mean a similar arrangement?
# Partners with a high held-out r might be arranged alike for that reason alone. Every cell has a mean held-out r and an
# excess at one n. Within a replicate, how do the two correlate over pairs of layers?

# %%
held = layers.held_out({cell: found[cell] for cell in of_main})  # (replicates, layers of A, layers of B), as the scores
label = f"excess of {measures.measure(primary.measure).label}"
out.figure("tracking", drawing.tracking(held, {f"{label}, true arm": true, "true - control": true - control}))

# %% [markdown]
# A colour is a replicate, a point a pair of layers. On a rising line the excess repeats what r says.

# %%
tracks = {}
for name, values in {"true": true, "difference": true - control}.items():
    r = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(held, values, strict=True) if x.size > 2]
    tracks[name] = inference.over_replicates(r)
    out.number(f"tracking {name}", tracks[name].estimate, se=tracks[name].se)
pd.DataFrame(tracks, index=inference.Replicated._fields).T.round(2)

# %% [markdown]
# *estimate* is the mean correlation over replicates: near 1, the two track each other over layers. With few pairs of
# layers it is a description, not a test, and its interval may pass 1.

# %% [markdown]
# ## Beside another seed of the same model
# The same layer of two replicates of one model, both arms. Two replicates that share a seed are left out together.

# %%
ceiling = {}
for side, members in ceilings.items():
    found_of = {cell: scores[cell] for cell in members if cell in scores}
    one, two = (layers.values(found_of, arm, "decoder", primary.measure) for arm in (cells.TRUE, cells.CONTROL))
    ceiling[side] = {"true arm": layers.crossed(found_of, one), "difference": layers.crossed(found_of, one - two)}
    out.number(f"ceiling {side}", ceiling[side]["difference"].estimate, se=ceiling[side]["difference"].se)
pd.DataFrame({side: {name: x.estimate for name, x in of.items()} for side, of in ceiling.items()}).round(3)

# %% [markdown]
# The row *difference* is what two models could reach; compare it with the right panel of the heat map.

# %% [markdown]
# ## Does the answer depend on the measure?
# The difference between the arms by every measure whose null mean is known, on both kinds of rows.

# %%
panels = {(kind, measures.measure(name).label): values for (kind, name), values in differences.items()}
out.figure("measures", drawing.lines(panels, list(places.values())))

# %% [markdown]
# A line is a replicate. The answer depends on the measure where panels disagree on the side of 0; lines of one shape in
# a panel mean layers that differ in every replicate, lines that cross mean chance.

# %%
overview = layers.means({cell: scores[cell] for cell in scored if cell in grid}, battery.measures)
overview["measure"] = overview.measure.map(starred)
of_rows = overview[overview.pair == main.pair].drop(columns=["pair", "p"])
out.table("measures", of_rows, dict.fromkeys(of_rows.columns[2:-1], "{:.3f}"))
overview.round(3)  # of all pairs of models

# %% [markdown]
# Compare *low* with 0 in each row: means over all pairs of layers, * for the primary measure.

# %% [markdown]
# ## Where are two models most alike?
# In each replicate the largest z over all pairs of layers, measure by measure, against the null of that maximum: in
# every draw the largest z that chance gives in any pair of layers. In the first replicate, by hand:

# %%
maxima = layers.maxima({cell: scores[cell] for cell in scored if cell in grid})
family = [of.results[cells.TRUE]["decoder"][primary.measure] for cell, of in of_main.items() if cell.one == 0]
values = np.array([[*x.draws, x.observed] for x in family if not x.undefined])  # (layer pairs, draws and the observed)
if len(values):
    z = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    p = (1 + np.sum(z[:, :-1].max(axis=0) >= z[:, -1].max())) / (1 + permutations)
    named = maxima.set_index(["pair", "replicate", "arm", "rows", "measure"])
    np.testing.assert_allclose(named.loc[main.pair, 0, cells.TRUE, "decoder", primary.measure].p, p)

# %%
reached = layers.reached(maxima[maxima.pair == main.pair], inference.LEVEL)
reached["measure"] = [measures.measure(name).label + "*" * (name == primary.measure) for name in reached.measure]
out.number("permutations", permutations, "{:,}")
out.table("maxima", reached.rename(columns={arm: f"beyond chance, {arm} arm" for arm in (cells.TRUE, cells.CONTROL)}))

# %% [markdown]
# Replicates with p below .05. Where the control arm also exceeds a shuffle, the shuffle is too weak a null, and only
# the difference of the arms counts. SVCCA keeps the components with 99% of the variance, the published estimator one.

# %% [markdown]
# ## The verdict
# The first line answers the first question, the others the second.

# %%
print(pd.Series(verdict).to_string())
out.save()
