"""One function called over many cells, the unit of heavy work: a model to train, a layer pair to measure.

In: a function that returns one artefact for a cell, and may be called again at no cost. Out: its results by cell.
Never: a stored result; the store keeps the artefact of every finished cell.

Cells run side by side in processes of this machine, which give the same bytes as one process. What a cell reads and
returns is pickled on its way: it should be names, numbers and artefacts; arrays of the store travel by the name of
their file. The processes start with the first sweep and stay for the next ones.
"""

import contextlib
import os
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from sae_utils import store
from sae_utils.engine.core import progress

Cell = TypeVar("Cell")
Result = TypeVar("Result")

PROCESSES = "PROCESSES"  # the environment's number of processes; 1 is a plain loop
IDLE = 300  # seconds after which a process without work ends


class _Started:
    processes = 0  # the most that were asked for; fewer would end some, and importing torch takes seconds


def run(call: Callable[[Cell], Result], cells: Iterable[Cell], label: str) -> dict[Cell, Result]:
    """The results of `call` by cell, in the order of the cells, with a progress bar named `label`.

    Raises the first exception of `call`, with a note that names the cell; the other processes are stopped. Raises
    RuntimeError if a process was killed.
    """
    cells = list(cells)
    number = min(processes(), len(cells))
    found: dict[Cell, Result] = {}
    with progress.tqdm(total=len(cells), desc=label, leave=False) as bar:
        finished = _one_by_one(call, cells, label, bar) if number < 2 else _side_by_side(call, cells, label, number)
        for cell, result in finished:
            found[cell] = result
            bar.set_postfix_str(str(cell))
            bar.update()
    return {cell: found[cell] for cell in cells}


def processes() -> int:
    """Processes of a sweep: `PROCESSES` of the environment, else as many as the cores that this process may use.

    The cores are divided by the threads of each process and by the jobs of `make -j`. It is 1 on a CUDA device, and
    inside a sweep. Raises ValueError if `PROCESSES` is no positive number.
    """
    given = os.environ.get(PROCESSES, "")
    if given and not re.fullmatch("[1-9][0-9]*", given):
        raise ValueError(f"{PROCESSES}={given}: expected a number of processes, 1 for a plain loop")
    if store.device() != "cpu":
        return 1
    try:
        from joblib import cpu_count
    except ImportError:
        return 1
    threads, _, _ = store.settings()
    return int(given) if given else max(1, cpu_count() // (threads or 1) // _jobs())


def _jobs() -> int:
    """Jobs that the `make` around this process runs side by side."""
    found = re.search(r"(?:^| )-j ?(\d+)", os.environ.get("MAKEFLAGS", ""))
    return int(found[1]) if found else 1


def _one_by_one(
    call: Callable[[Cell], Result], cells: list[Cell], label: str, bar: Any
) -> Iterator[tuple[Cell, Result]]:
    for cell in cells:
        bar.set_postfix_str(str(cell))
        with _named(label, cell):
            result = call(cell)
        yield cell, result


def _side_by_side(
    call: Callable[[Cell], Result], cells: list[Cell], label: str, number: int
) -> Iterator[tuple[Cell, Result]]:
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    settings = store.settings()
    _Started.processes = number = min(processes(), max(number, _Started.processes))
    options = {"n_jobs": number, "inner_max_num_threads": settings[0] or 1, "idle_worker_timeout": IDLE}
    with parallel_config("loky", **options):
        done = Parallel(batch_size=1, return_as="generator_unordered")(
            delayed(_in_process)(call, i, cell, label, settings) for i, cell in enumerate(cells)
        )
        try:
            yield from ((cells[i], result) for i, result in done)
        except TerminatedWorkerError as error:
            raise RuntimeError(
                f"{label}: a process was killed, most often for lack of memory; {PROCESSES}=1 needs the least, and "
                "what was finished is in the store"
            ) from error


def _in_process(
    call: Callable[[Cell], Result], number: int, cell: Cell, label: str, settings: store.Settings
) -> tuple[int, Result]:
    """One cell, in a process of its own: without bars, and with a plain loop for sweeps inside it."""
    os.environ[PROCESSES] = "1"
    progress.hide()
    store.restore(settings)
    try:
        with _named(label, cell):
            return number, call(cell)
    except Exception as error:
        raise _portable(error) from error


@contextlib.contextmanager
def _named(label: str, cell: Any) -> Iterator[None]:
    """Add a note with the cell to exceptions."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in {label}, at {cell}")
        raise


def _portable(error: Exception) -> Exception:
    """The exception, or one with the same text if another process could not read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        replaced = RuntimeError(f"{type(error).__name__}: {error}")
        replaced.__notes__ = error.__notes__
        return replaced
    return error
