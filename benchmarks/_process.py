"""Runs one part of a benchmark in its own process, which has its own memory and number of threads.

In: a benchmark, and the arguments with which it runs one part. Out: the JSON object in the last line of that part.
Never: a measurement of the calling process.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from typing import Any

LIMITS = ("OMP", "OPENBLAS", "MKL", "NUMBA")


def run(benchmark: str, *arguments: object, threads: int = 1) -> Any:
    """The last line of ``python -m benchmarks.<benchmark> <arguments>``, as JSON; the lines before it are printed."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *map(str, arguments)]
    limits = {f"{name}_NUM_THREADS": str(threads) for name in LIMITS}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | limits)
    *lines, last = done.stdout.strip().splitlines()
    if lines:
        print(*lines, sep="\n", flush=True)
    return json.loads(last)


def peak_mb() -> float:
    """Peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
