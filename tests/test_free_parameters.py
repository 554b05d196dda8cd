"""Every list of every notebook may be one element longer or shorter, or the profile is refused for a stated reason."""

import copy

import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pytest
import varied

from sae_utils import measures, profiles, report
from sae_utils.engine import params
from sae_utils.engine.checks import requirements, sections
from sae_utils.engine.core.spec import ProfileError

SMOKE = profiles.load("smoke")
CASES = [
    pytest.param(notebook, path, how, id=f"{notebook}.{'.'.join(map(str, path))} {how}")
    for notebook, section in SMOKE.sections.items()
    for path in varied.free(notebook, section)
    for how in ("longer", "shorter")
]


def check(notebook: str, section: dict) -> None:
    """As `profiles.load` checks a section."""
    names = {
        "model": [*SMOKE.models, *SMOKE.families],
        "dictionary": [*SMOKE.dictionaries, *SMOKE.families],
        "set of concepts": params.read("concepts"),
    }
    sections.check(notebook, section, params.parameters(notebook), names, f"params/smoke.yaml: {notebook}")
    requirements.check(SMOKE._replace(sections=SMOKE.sections | {notebook: section}))


@pytest.mark.parametrize("notebook", SMOKE.sections)
def test_every_list_is_known(notebook):
    """A new list gets its further element, or is declared to be of fixed length."""
    free = varied.free(notebook, SMOKE.sections[notebook])
    fixed = {path for path in free if varied.matches(path, varied.SHORTER_ONLY.get(notebook, []))}
    assert set(free) - fixed <= set(varied.MORE.get(notebook, {}))


@pytest.mark.parametrize(("notebook", "path", "how"), CASES)
def test_a_list_may_be_longer_or_shorter(notebook, path, how):
    section = varied.change(notebook, SMOKE.sections[notebook], path, how)
    if section is None:
        pytest.skip("nothing to take away, or a further SAE would be needed")
    if reason := varied.reason(notebook, path, how):
        with pytest.raises(ProfileError, match=reason):
            check(notebook, section)
    else:
        check(notebook, section)


@pytest.mark.parametrize("how", ["longer", "shorter"])
def test_all_lists_may_be_longer_or_shorter_at_once(how):
    """As `tests/rehearsal.py --vary` runs the notebooks."""
    changed = varied.profile(SMOKE.sections, how)
    for notebook, section in SMOKE.sections.items():
        check(notebook, section | changed[notebook])


# --- 06, 06b, 06c and 12 are run with other lists, and show every element


@pytest.fixture
def execute(world, monkeypatch, tmp_path):
    """Run a notebook in this process with changed parameters; returns its variables, and figures by name."""
    figures = {}
    monkeypatch.setattr(report, "GENERATED", tmp_path / "generated")
    monkeypatch.setattr(profiles, "start", lambda profile, notebook: world)
    monkeypatch.setattr(report.Report, "figure", lambda self, name, figure: figures.update({name: figure}))

    def run(notebook, **changes):
        cells = jupytext.read(params.NOTEBOOKS / f"{notebook}.py").cells
        code = [c.source for c in cells if c.cell_type == "code" and "parameters" not in c.metadata.get("tags", [])]
        variables = copy.deepcopy(params.parameters(notebook)) | changes
        assert variables.keys() == params.parameters(notebook).keys()
        exec("\n".join(code), variables)
        for figure in figures.values():
            figure.canvas.draw()
        return variables, figures

    yield run
    plt.close("all")


COPY = {"kind": "copies", "shared": 0.7}
TRAP = {"kind": "grouped", "groups": 6, "centres": 0.0, "alike_a": 0.8, "alike_b": 0.8}
SMALL = {"n": 40, "d_a": 5, "d_b": 6, "draws": 19, "repeats": 2, "naive_repeats": 2, "too_often": 0.08}
VERDICT = {"measure": "rsa_spearman", "shares": [0.5], "alike": 0.5, "n": 20, "d_a": 6, "d_b": 5, "replicates": 4,
           "repeats": 2, "of_ceiling": 0.15, "wanted": 0.8}  # fmt: skip
MEASURES = ["svcca_first_component", "svcca", "cka", "cka_debiased", "rsa_pearson", "procrustes", "mutual_knn",
            "jaccard_knn", "cca_squared"]  # fmt: skip
TRAPS = {
    "shared partners": {"right_null": "reassigned", "world": TRAP | {"alike_b": 1.0}},
    "families": {"right_null": "blocks", "world": TRAP},
    "confounder": {"right_null": "strata", "world": TRAP},
    "another": {"right_null": "strata", "world": TRAP},
    "none": {"right_null": "shuffled", "world": TRAP},
}


@pytest.mark.parametrize(
    ("measured", "truths", "grids"),
    [
        (MEASURES, {"noisy copy": COPY, "rotated copy": COPY | {"shared": 1.0}, "another copy": COPY,
                    "clustered copy": TRAP | {"centres": 1.0}, "a last copy": COPY,
                    "one direction": {"kind": "one_direction", "strength": 0.3}},
         [{"d_a": 6, "d_b": 8, "n": [30, 40]}, {"d_a": 4, "d_b": 6, "n": [30, 40, 50]},
          {"d_a": 3, "d_b": 4, "n": [30]}]),
        (["cka"], {"rotated copy": COPY}, [{"d_a": 6, "d_b": 8, "n": [30]}]),
    ],
    ids=["more", "less"],
)  # fmt: skip
def test_known_truth_takes_lists_of_any_length(execute, measured, truths, grids):
    variables, figures = execute(
        "06_known_truth", measures=measured, truths=truths, grids=grids,
        grid_repeats={"rows": 60, "most": 2, "draws": 3},
    )  # fmt: skip
    labels = [measures.measure(name).label for name in measured]
    for name in ("grid-raw", "grid-excess"):
        panels = [axis for axis in figures[name].axes if axis.get_title()]
        assert [axis.get_title() for axis in panels] == labels
        (legend,) = [axis for axis in figures[name].axes if axis.get_legend()]
        assert legend not in panels  # it hides no measure
        assert [text.get_text() for text in legend.get_legend().texts] == ["unrelated", *truths]
    assert list(variables["choice"].measure) == labels and set(truths) <= set(variables["choice"])


@pytest.mark.parametrize(
    ("weak", "traps", "trapped"),
    [
        ({"noisy copy": COPY, "clustered copy": TRAP, "another": COPY, "a fourth": COPY}, TRAPS,
         ["rsa_spearman", "mutual_knn", "cka"]),
        ({}, {"families": {"right_null": "blocks", "world": TRAP}}, ["mutual_knn"]),
        ({}, {}, ["mutual_knn"]),
    ],
    ids=["more", "less", "no trap"],
)  # fmt: skip
def test_level_and_power_takes_lists_of_any_length(execute, weak, traps, trapped):
    tested = MEASURES if weak else ["cka"]
    variables, figures = execute(
        "06b_level_and_power", measures=tested, small=SMALL, weak_truths=weak, traps=traps, trapped=trapped
    )
    labels = [measures.measure(name).label for name in tested]
    assert list(variables["tests"].measure) == labels
    assert {f"{name}, %" for name in weak} <= set(variables["tests"])
    assert [tick.get_text() for tick in figures["tests"].axes[0].get_yticklabels()] == labels
    assert len(variables["nulls_table"]) == len(traps) * len(trapped)
    assert len(variables["confounded"].columns) == sum(trap["right_null"] == "strata" for trap in traps.values())


@pytest.mark.parametrize(
    ("truths", "measured", "shares"),
    [({"noisy copy": COPY, "another": TRAP}, ["rsa_pearson", "mutual_knn", "cca_squared"], [0.2, 0.4, 0.6, 0.8]),
     ({}, ["cka"], [0.5])],
    ids=["more", "less"],
)  # fmt: skip
def test_intervals_and_verdicts_takes_lists_of_any_length(execute, truths, measured, shares):
    interval = {"measures": measured, "n": 40, "d_a": 5, "d_b": 6, "resamples": 5, "repeats": 2}
    variables, _ = execute(
        "06c_intervals_and_verdicts", truths=truths, interval=interval, verdict=VERDICT | {"shares": shares}
    )
    shown = variables["intervals_table"]
    assert list(zip(shown.truth, shown.measure, strict=True)) == [
        (truth, measures.measure(name).label) for truth in ["unrelated", *truths] for name in measured
    ]
    assert list(variables["said"].index) == [0.0, *shares, 1.0]
    np.testing.assert_allclose(variables["said"].sum(axis=1), 1)
    assert len(variables["figure"].axes) == len(shares) + 2


@pytest.mark.parametrize(("widths", "wider"), [([2, 1, 3], [1, 2, 3, 4]), ([1], [2, 3])], ids=["more", "less"])
def test_recovery_takes_lists_of_any_length(execute, widths, wider):
    schedule = {"samples": 128 * 40, "batch": 128, "checkpoints": 1, "judged": 1000}
    splitting = {"kind": "TopK", "alike": 0.6, "widths": wider}
    variables, figures = execute("06d_recovery", widths=widths, splitting=splitting, schedule=schedule)
    assert variables["found_table"].width.tolist() == [40 * width for width in widths] * 4
    assert len(figures["curves"].axes) == 4 * len(widths) and len(figures["origins"].axes) == len(wider) - 1
    assert len(variables["split_table"]) == len(wider) - 1


@pytest.mark.parametrize(
    ("shares", "noise", "thresholds"), [([0.0, 0.5, 0.9], [0.5, 1.0, 2.0], [0.2, 0.4, 0.5, 0.6]), ([0.5], [1.0], [0.5])]
)
def test_counterparts_takes_lists_of_any_length(execute, shares, noise, thresholds):
    variables, figures = execute("06e_counterparts", shares=shares, noise=noise, thresholds=thresholds, repeats=2)
    assert len(variables["found"]) == (len(shares) + 1) * len(noise) * len(thresholds)
    assert [axis.get_title() for axis in figures["bias"].axes] == [f"r0 = {r0:g}" for r0 in thresholds]


@pytest.mark.parametrize(
    ("shares", "varied", "measured"),
    [([0.0, 0.3, 1.0], {"wider": {"width": 2}, "sparser": {"k": 1}, "own": {"relations": "own"}}, ["cka", "svcca"]),
     ([0.0, 1.0], {}, ["rsa_pearson"])],
    ids=["more", "less"],
)  # fmt: skip
def test_shared_fraction_takes_lists_of_any_length(execute, shares, varied, measured):
    schedule = {"samples": 2560, "batch": 128, "checkpoints": 1, "judged": 1000}
    variables, _ = execute(
        "06f_shared_fraction", shares=shares, varied=varied, measures=measured, schedule=schedule, draws=3
    )
    assert variables["matched"].condition.tolist() == [*(f"{share:g} shared" for share in shares), *varied]
    assert len(variables["excess"].columns) == 2 + len(measured)


SIZES = {"concepts": 40, "kept": 0.75, "words": 80, "expressed": 3, "documents": 20, "length": 30, "d_a": 6, "d_b": 8}
TRUTHS = {"shared": COPY, "one direction": {"kind": "one_direction", "strength": 0.3}, "another": COPY}
LAYERS = {"pythia-70m": {"3": "one_layer"}, "pythia-160m": {"5": "two_layer"}}


@pytest.mark.parametrize(
    ("truths", "tokens", "layers", "negative"),
    [(TRUTHS, [".", "<bos>"], LAYERS, ""), ({}, [], {}, "two_layer")],
    ids=["more", "less"],
)
def test_published_tables_takes_lists_of_any_length(execute, truths, tokens, layers, negative):
    sizes = {"positions": 2500, "permutations": 19}
    variables, _ = execute("12_published_tables", tokens=tokens, published_layers=layers, **sizes)
    assert len(variables["beside"]) == (7 if layers else 0)
    execute("12b_ladder", tokens=tokens, fvu_rows=8, **sizes)
    _, figures = execute("12c_steps_and_truth", truths=truths, tokens=tokens, sizes=SIZES, negative=negative, **sizes)
    titles = [axis.get_title() for axis in figures["planted"].axes]
    assert titles == [f"planted: {name}" for name in [*truths, "nothing"]]


@pytest.mark.parametrize("worlds", [{"a": {"world": COPY, "draws": 1}, "b": {"world": COPY, "draws": 3}}, {}])
def test_false_positives_takes_worlds_of_any_number(execute, worlds):
    variables, figures = execute(
        "12d_false_positives", worlds=worlds, ends={"nothing": 3, "all": 3, "shared": 0.8}, sizes=SIZES,
        permutations=20, draws=5, replicates=3, tokens=["."],
    )  # fmt: skip
    assert list(variables["primary"].shared) == ["nothing", *worlds, "all"]
    titles = [axis.get_title() for axis in figures["rates"].axes if axis.get_visible()]
    assert titles == ["nothing", *worlds, "all"]
