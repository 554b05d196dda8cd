"""The CPU code path: the instructions that the numerical libraries use, pinned so that other processors give the same
bytes.

In: nothing; the package calls `pin` when it is imported, before torch and numpy load. Out: environment variables, which
notebooks and other processes inherit; `path`, what the libraries then really use, which is part of every key.
Never: a pin where it could not hold. It needs Linux on x86-64 with AVX2; elsewhere bytes differ, and `store` says so.

By default torch, MKL, oneDNN, OpenBLAS, numpy and numba choose kernels by the processor, and sums round differently.
A value that the environment already has is left alone, and gives other keys.

MKL obeys `MKL_CBWR` on Intel's processors only. It asks a function of its own whether it runs on one; on others a
library of two lines, compiled once, answers yes in its place (tried on AMD EPYC: the bytes of an Intel Xeon).

`python -m sae_utils COMMAND ...` runs a command with the pin.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sae_utils.engine.core.sources import REPOSITORY

PIN = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch
    "MKL_CBWR": "AVX2,STRICT",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",  # of numpy and scipy
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",  # Haswell's own, not the host's
}
PINNED = {"torch": "AVX2", "MKL": "0x1000a", "OpenBLAS": "Haswell", "numpy": "X86_V3", "numba": "haswell"}
ANSWER = "int mkl_serv_intel_cpu_true(void) { return 1; }\nint mkl_serv_intel_cpu(void) { return 1; }\n"
COMPILED = REPOSITORY / "build" / "cache" / f"mkl_path-{hashlib.sha256(ANSWER.encode()).hexdigest()[:12]}.so"


def pin() -> None:
    """Pin the code path of this process and of those that it starts, unless torch or numpy is loaded already."""
    if "torch" in sys.modules or not _avx2():
        return
    if "numpy" not in sys.modules:
        for name, value in PIN.items():
            os.environ.setdefault(name, value)
    if os.environ.get("MKL_CBWR") == PIN["MKL_CBWR"] and "GenuineIntel" not in _processor():
        _answer_mkl()


@functools.cache
def path() -> dict[str, str]:
    """What the libraries of this process use, library -> code path; `PINNED` if all follow the pin."""
    import numba
    import torch
    from numpy._core._multiarray_umath import __cpu_features__ as features
    from threadpoolctl import threadpool_info

    found = {
        "torch": torch.backends.cpu.get_cpu_capability(),
        "MKL": _mkl(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"),
        "OpenBLAS": " ".join(sorted({i["architecture"] for i in threadpool_info() if i["internal_api"] == "openblas"})),
        "numpy": next((level for level in ("X86_V4", "X86_V3", "X86_V2") if features.get(level)), "baseline"),
        "numba": numba.config.CPU_NAME or "host",  # type: ignore[attr-defined]
    }
    return found if found == PINNED else {**found, "processor": platform.machine() + _vendor()}


def differs() -> str:
    """What keeps this process from the pinned code path, for a person; empty if nothing does."""
    return ", ".join(f"{name} {used}" for name, used in path().items() if PINNED.get(name, used) != used)


def _mkl(library: Path) -> str:
    """The branch that MKL takes, as its `mkl_cbwr_get` numbers it; empty where it is not MKL that torch uses."""
    try:
        return hex(ctypes.CDLL(str(library)).mkl_serv_cbwr_get(-1))
    except (OSError, AttributeError):
        return ""


@functools.cache
def _processor() -> str:
    """What Linux says of the first processor; empty elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text("utf-8", "replace").partition("\n\n")[0]
    except OSError:
        return ""


def _vendor() -> str:
    return "".join(re.findall(r"^vendor_id\s*:(.*)$", _processor(), re.MULTILINE))


def _avx2() -> bool:
    return platform.machine() == "x86_64" and " avx2 " in f"{_processor()} ".replace("\n", " ")


def _answer_mkl() -> None:
    """Load the answer to MKL's question in front of MKL; without a compiler, `path` says that it is not there."""
    try:
        if not COMPILED.exists():
            _compile(COMPILED)
        ctypes.CDLL(str(COMPILED), ctypes.RTLD_GLOBAL)
    except (OSError, subprocess.CalledProcessError):
        return


def _compile(library: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise FileNotFoundError("no C compiler")
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        draft = Path(folder) / library.name
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(draft)]
        subprocess.run(command, input=ANSWER.encode(), check=True, capture_output=True)
        os.replace(draft, library)
