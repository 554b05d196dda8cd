"""Progress bars, where tqdm is installed: what works on arrays does without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class _Hidden:
    """Takes the place of a bar: iterates over the items, and shows nothing."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __enter__(self) -> _Hidden:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: float = 1) -> None:
        pass


def bar(items: Iterable[Any] = (), title: str = "", **options: Any) -> Any:
    """A bar over `items`; or, with `total` among tqdm's `options`, a context whose `update(n)` moves it.

    It disappears when all is done, appears after two seconds, and only on a terminal, unless `options` say otherwise.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        return _Hidden(items)
    given = None if "total" in options and items == () else items
    return tqdm(given, title, **{"leave": False, "disable": None, "delay": 2} | options)
