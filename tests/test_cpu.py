"""The pinned CPU code path gives the same bytes on every processor, and `path` shows where the pin does not hold."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from sae_utils.engine.core import cpu
from sae_utils.engine.core.sources import REPOSITORY

# uses every pinned library at sizes at which its kernels differ between processors
WORK = """
import hashlib, json
from sae_utils.engine.core import cpu
import numba, numpy as np, torch
from scipy import linalg

torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.randn(384, 96)
encoder, decoder = (torch.nn.Parameter(torch.randn(shape) / 8) for shape in ((96, 320), (320, 96)))
norm = torch.nn.LayerNorm(96)
optimizer = torch.optim.Adam([encoder, decoder, *norm.parameters()], 1e-3)
for _ in range(5):
    codes = torch.nn.functional.gelu(norm(x) @ encoder).softmax(1)
    top, index = codes.topk(10)
    loss = (torch.zeros_like(codes).scatter(1, index, top) @ decoder - x).square().mean() + codes.exp().log().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()

rng = np.random.default_rng(0)
a = rng.standard_normal((200, 150))

@numba.njit(fastmath={"reassoc", "contract"})
def dot(u, v):
    total = 0.0
    for i in range(u.size):
        total += u[i] * v[i]
    return total

made = {
    "torch": decoder.detach().numpy(),
    "numpy": np.concatenate([np.exp(a), np.log(np.abs(a)), np.tanh(a), a.T @ a, np.power(np.abs(a), 0.3)]),
    "scipy": linalg.svd(a, full_matrices=False)[1],
    "numba": np.array([dot(row, a[0]) for row in a]),
}
digests = {name: hashlib.sha256(value.tobytes()).hexdigest()[:12] for name, value in made.items()}
print(json.dumps([cpu.path(), digests]))
"""


def run(work=WORK, **changes):
    """Code path and digests of results in a new process, pinned except for `changes`."""
    kept = {name: value for name, value in os.environ.items() if name not in (*cpu.PIN, "PIN", "LD_PRELOAD")}
    kept |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", work], cwd=REPOSITORY, env=kept | changes, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


intel = "GenuineIntel" in cpu._processor()
pinned = pytest.mark.skipif(
    not (cpu._avx2() and (intel or shutil.which("cc"))),
    reason="the pin needs Linux on x86-64 with AVX2, and a C compiler where the processor is not Intel's",
)


@pinned
def test_pinned_results_have_the_same_bytes_on_every_processor():
    path, digests = run()
    assert path == cpu.PINNED
    assert digests == {
        "torch": "df75f066ec8c", "numpy": "cc63cc8be497", "scipy": "4d93cb3b667a", "numba": "5760e30acd76",
    }  # fmt: skip


@pinned
def test_a_child_process_may_load_torch_before_the_package():
    child = f"import torch\n{WORK}"
    outer = f"import subprocess, sys, sae_utils; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    assert run(outer) == run()


@pinned
@pytest.mark.parametrize("name, value, library", [("ATEN_CPU_CAPABILITY", "default", "torch"),
                                                  ("MKL_CBWR", "COMPATIBLE", "MKL"),
                                                  ("OPENBLAS_CORETYPE", "Prescott", "OpenBLAS"),
                                                  ("NPY_DISABLE_CPU_FEATURES", "X86_V4 X86_V3", "numpy"),
                                                  ("NUMBA_CPU_NAME", "generic", "numba")])  # fmt: skip
def test_a_setting_of_the_environment_is_kept_and_reported(name, value, library):
    path, _ = run(**{name: value})
    assert path[library] != cpu.PINNED[library]
    assert {other for other in cpu.PINNED if path[other] != cpu.PINNED[other]} == {library}


@pinned
def test_the_pin_can_be_taken_off():
    path, _ = run(PIN="off", ATEN_CPU_CAPABILITY="default")
    assert path["torch"] == "DEFAULT" and path["MKL"] != cpu.PINNED["MKL"] and path["numba"] == "host"


def test_differs_names_the_libraries_that_are_not_pinned(monkeypatch):
    monkeypatch.setattr(cpu, "path", lambda: cpu.PINNED)
    assert cpu.differs() == ""
    monkeypatch.setattr(cpu, "path", lambda: {**cpu.PINNED, "MKL": "0x1", "processor": "x86_64"})
    assert cpu.differs() == "MKL 0x1"


def test_nothing_is_pinned_once_a_library_is_loaded(monkeypatch):
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)
    cpu.pin()  # torch or numpy is loaded by now
    assert "NUMBA_CPU_NAME" not in os.environ


def test_without_a_compiler_nothing_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(cpu, "COMPILED", tmp_path / "none.so")
    cpu._answer_mkl()  # this raises nothing; `path` shows MKL's own branch
    assert not list(tmp_path.iterdir())
