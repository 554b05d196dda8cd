"""The CPU code path: which instructions numerical libraries use, pinned so that all processors give the same bytes.

In: nothing; the package calls `pin` when it is imported, before torch and numpy load. Out: environment variables, which
child processes inherit; `path`, the code path that the libraries really use, which is part of every key.
Never: a pin where it cannot hold. It needs Linux on x86-64 with AVX2; elsewhere bytes differ, and `store` says so.

By default torch, MKL, oneDNN, OpenBLAS, numpy and numba choose kernels by the processor, and sums round differently.
A value that the environment already has is kept, and gives other keys; `PIN=off` pins nothing.

MKL follows `MKL_CBWR` on Intel's processors only. It calls a function to find out whether it runs on one; on other
processors a library of two lines, compiled once, answers yes (tested on AMD EPYC: same bytes as on an Intel Xeon).

`python -m sae_utils COMMAND ...` runs a command with the pin.
"""

import functools
import hashlib
import itertools
import os
import re
import sys
from pathlib import Path

from sae_utils.engine.core.sources import REPOSITORY

PIN = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch
    "MKL_CBWR": "AVX2,STRICT",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",  # of numpy and scipy
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",  # those of Haswell, not of the host
}
PINNED = {"torch": "AVX2", "MKL": "0x1000a", "OpenBLAS": "Haswell", "numpy": "X86_V3", "numba": "haswell"}
ANSWER = "int mkl_serv_intel_cpu_true(void) { return 1; }\nint mkl_serv_intel_cpu(void) { return 1; }\n"
COMPILED = REPOSITORY / "build" / "cache" / f"mkl_path-{hashlib.sha256(ANSWER.encode()).hexdigest()[:12]}.so"


def pin() -> None:
    """Pin the code path of this process and of its children, unless torch or numpy is loaded already, or PIN=off."""
    if "torch" in sys.modules or not _avx2() or os.environ.get("PIN") == "off":
        return
    if "numpy" not in sys.modules:
        for name, value in PIN.items():
            os.environ.setdefault(name, value)
    if os.environ.get("MKL_CBWR") == PIN["MKL_CBWR"] and "GenuineIntel" not in _processor():
        _answer_mkl()


@functools.cache
def path() -> dict[str, str]:
    """The code path of every library in this process; `PINNED` if all follow the pin."""
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
    if found == PINNED:
        return found
    vendor = "".join(re.findall(r"^vendor_id\s*:(.*)$", _processor(), re.MULTILINE))
    return {**found, "processor": os.uname().machine + vendor}


def differs() -> str:
    """The libraries of this process that do not follow the pin, as text; empty if all do."""
    return ", ".join(f"{name} {used}" for name, used in path().items() if PINNED.get(name, used) != used)


def _mkl(library: Path) -> str:
    """MKL's branch as its `mkl_cbwr_get` numbers it; empty where torch does not use MKL."""
    import ctypes

    try:
        return hex(ctypes.CDLL(str(library)).mkl_serv_cbwr_get(-1))
    except (OSError, AttributeError):
        return ""


@functools.cache
def _processor() -> str:
    """Linux's description of the first processor; empty elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return "".join(itertools.takewhile(str.strip, lines))
    except OSError:
        return ""


def _avx2() -> bool:
    return os.uname().machine == "x86_64" and " avx2 " in f"{_processor()} ".replace("\n", " ")


def _answer_mkl() -> None:
    """Load the library that makes MKL follow its pin; if it cannot be compiled, `path` shows MKL's own branch."""
    import ctypes

    try:
        if not COMPILED.exists():
            _compile(COMPILED)
        ctypes.CDLL(str(COMPILED), ctypes.RTLD_GLOBAL)
    except OSError:
        return


def _compile(library: Path) -> None:
    import shutil
    import subprocess
    import tempfile

    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise FileNotFoundError("no C compiler")
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        draft = Path(folder) / library.name
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(draft)]
        if subprocess.run(command, input=ANSWER.encode(), capture_output=True).returncode:
            raise OSError("the C compiler failed")
        os.replace(draft, library)
