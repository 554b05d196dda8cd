"""Progress bars, where tqdm is installed: what works on arrays does without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["bar", "tqdm"]


class _Hidden:
    """Takes the place of tqdm's bar: iterates over the items, and shows nothing."""

    def __init__(self, items: Iterable[Any] = (), *_: Any, **__: Any) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items or ())

    def __enter__(self) -> _Hidden:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: float = 1) -> None:
        pass


try:
    from tqdm import tqdm
except ImportError:
    tqdm = _Hidden


def bar(items: Iterable[Any] | None = None, title: str = "", total: int | None = None) -> Any:
    """A bar over `items`; without items a context whose `update(n)` moves the bar up to `total`.

    It appears after two seconds, on a terminal only, and disappears when all is done.
    """
    return tqdm(items, title, total, leave=False, disable=None, delay=2)
