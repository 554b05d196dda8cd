"""One function called over many cells, the unit of heavy work: a model to train, a layer pair to measure.

In: a function that returns one artefact for a cell, and may be called again at no cost. Out: its results by cell.
Never: a stored result; the store keeps the artefact of every finished cell.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from sae_utils.engine.core.progress import tqdm

Cell = TypeVar("Cell")
Result = TypeVar("Result")


def run(call: Callable[[Cell], Result], cells: Iterable[Cell], label: str) -> dict[Cell, Result]:
    """The results of `call` by cell, with a progress bar named `label`.

    Raises the exception of `call`, with a note that names the cell.
    """
    results: dict[Cell, Result] = {}
    bar = tqdm(list(cells), label, leave=False)
    for cell in bar:
        bar.set_postfix_str(str(cell))
        try:
            results[cell] = call(cell)
        except Exception as error:
            error.add_note(f"in {label}, at {cell}")
            raise
    return results
