"""The README agrees with the repository: every notebook and benchmark has a row, and every command exists."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import sparse

from sae_utils import profiles, report
from sae_utils.engine import params
from sae_utils.engine.build import compare
from sae_utils.engine.core.sources import REPOSITORY
from sae_utils.engine.params import NOTEBOOKS

README = (REPOSITORY / "README.md").read_text("utf-8")
ROWS = re.findall(
    r"^\| `([\w.]+)`[^|]*\|(.+)\|$",
    re.sub(r"## How it is built.*?(?=\n## )", "", README, flags=re.DOTALL),
    re.MULTILINE,
)


def test_every_notebook_has_a_question_a_time_and_a_budget():
    rows = {name: cells for name, cells in ROWS if re.match(r"\d\d[a-z]?_", name)}
    assert list(rows) == sorted(file.stem for file in NOTEBOOKS.glob("*.py"))
    budgets = 0.0
    for name, cells in rows.items():
        question, minutes = cells.split("|")
        assert "?" in question, name
        taken, budget = map(float, re.fullmatch(r"([\d.]+) \(([\d.]+)\)", minutes.strip()).groups())
        assert taken <= budget, f"{name} takes longer than its budget"
        budgets += budget
    stated = re.search(r"\| `make paper` \(demo\) \|.*?under (\d+) min", README)
    assert budgets <= float(stated[1])


@pytest.mark.parametrize("script", sorted((REPOSITORY / "benchmarks").glob("[a-z]*.py")), ids=lambda file: file.stem)
def test_every_benchmark_has_one_row(script):
    benchmarks = [name for name, cells in ROWS if "|" in cells]  # rows of the table of modules have two columns
    assert benchmarks.count(script.stem) == 1


def test_every_command_is_a_target():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(?:[A-Z]\w*=\S+ )*make (?:-j2 )?([a-z-]+)", README)) | set(
        re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)
    )
    assert named and named <= targets


@pytest.mark.parametrize("profile", sorted({of or "demo" for of in re.findall(r"<!-- (?:(\w+): )?\w+ -->", README)}))
def test_the_results_support_every_number_and_verdict_of_a_claim(profile):
    """Those of the last commit exactly; a build elsewhere may differ within its uncertainty."""
    assert len(list(compare.claims(README, profile))) > 1
    now = compare.together(compare.of_folder(report.GENERATED / profile))
    try:
        before = compare.together(compare.of_commit("HEAD", report.GENERATED / profile))
    except ValueError:  # a copy without git
        before = now
    assert compare.unsupported(README, profile, before, now) == []


def block(language: str, holding: str) -> str:
    (found,) = (text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in text)
    return found


FOUND = "200 pairs, held-out r 1.00, RSA 1.00, p = 0.001\n"


def planted():
    """B is A with its features and its dimensions in another order, and a little noise on its codes."""
    generator = np.random.default_rng(0)
    codes_a = sparse.random(4000, 200, 0.03, "csr", random_state=generator, dtype=np.float32)
    order, decoder_a = generator.permutation(200), generator.normal(size=(200, 32)).astype(np.float32)
    codes_b = codes_a[:, order].toarray() + 0.001 * generator.normal(size=codes_a.shape).astype(np.float32)
    return codes_a, codes_b, decoder_a, decoder_a[order][:, generator.permutation(32)], order


def test_the_calls_on_arrays_find_the_planted_pairs(capsys):
    """With torch codes, and with a SAELens and a sparsify SAE in the place of decoder rows."""
    from sae_lens import StandardSAE, StandardSAEConfig
    from sparsify import SparseCoder, SparseCoderConfig

    codes_a, codes_b, decoder_a, decoder_b, order = planted()
    one = StandardSAE(StandardSAEConfig(d_in=32, d_sae=200, dtype="float32", device="cpu"))
    two = SparseCoder(32, SparseCoderConfig(num_latents=200, k=8))
    one.W_dec.data, two.W_dec.data = torch.tensor(decoder_a), torch.tensor(decoder_b)
    given = {"codes_a": codes_a, "codes_b": torch.tensor(codes_b, requires_grad=True), "sae_a": one, "sae_b": two}
    exec(block("python", "matching.mutual"), given)
    assert (order[given["pairs"].b] == given["pairs"].a).all()
    assert capsys.readouterr().out.endswith(FOUND)  # after what sparsify prints


SLIM = """
import sys, time

class NotInstalled:
    allowed = {"numpy", "scipy", "numba", "llvmlite", "pandas", "sae_utils", *sys.stdlib_module_names}

    def find_spec(self, name, path=None, target=None):
        if path is None and name.split(".")[0] not in self.allowed and not name.startswith("_"):
            raise ImportError(f"{name} is not installed here")

import numpy, scipy.sparse  # of which the time is not ours
sys.meta_path.insert(0, NotInstalled())
start = time.process_time()
import sae_utils.correlate
assert time.process_time() - start < 0.5
assert not {"numba", "pandas", "scipy.stats", "torch"} & set(sys.modules)
arrays = numpy.load(sys.argv[1])
codes_a, codes_b, sae_a, sae_b = (arrays[name] for name in ("codes_a", "codes_b", "sae_a", "sae_b"))
"""


def test_four_libraries_are_enough_for_arrays(tmp_path):
    """Where nothing else is installed, the calls run, and what they need at first is imported in half a second."""
    codes_a, codes_b, sae_a, sae_b, _ = planted()
    np.savez(tmp_path / "given.npz", codes_a=codes_a.toarray(), codes_b=codes_b, sae_a=sae_a, sae_b=sae_b)
    program = [sys.executable, "-c", SLIM + block("python", "matching.mutual"), tmp_path / "given.npz"]
    done = subprocess.run(program, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.stdout, done.returncode) == (FOUND, 0), done.stderr


def test_the_printed_profile_is_accepted(tmp_path, monkeypatch):
    """Reading it fetches nothing."""
    for file in params.PARAMS.glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text("utf-8"), "utf-8")
    (tmp_path / "mine.yaml").write_text(block("yaml", "extends: pair"), "utf-8")
    monkeypatch.setattr(params, "PARAMS", tmp_path)
    mine = profiles.load("mine")
    assert mine.common.primary.pair == ["a", "b"] and set(mine.models) == set(mine.dictionaries) == {"a", "b", "random"}
