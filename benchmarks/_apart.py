"""A part of a benchmark in a process of its own, so that its memory and its threads are its own.

In: a benchmark and the arguments by which it runs one part. Out: the JSON object of that part's last line.
Never: a measurement of the process that asks.
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
    """What ``python -m benchmarks.<benchmark> <arguments>`` says last; what it says before is printed."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *map(str, arguments)]
    limits = {f"{name}_NUM_THREADS": str(threads) for name in LIMITS}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | limits)
    *lines, last = done.stdout.strip().splitlines()
    if lines:
        print(*lines, sep="\n", flush=True)
    return json.loads(last)


def peak_mb() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
