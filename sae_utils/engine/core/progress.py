"""Progress bars of tqdm; where it is not installed, loops run without them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["bar", "hide", "tqdm"]


class _Hidden:
    """Replaces tqdm's bar where tqdm is not installed: iterates over the items and shows nothing."""

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

    def set_postfix(self, *_: Any, **__: Any) -> None:
        pass

    def set_postfix_str(self, text: str = "") -> None:
        pass

    def close(self) -> None:
        pass


try:
    from tqdm import tqdm
except ImportError:
    tqdm = _Hidden


def bar(items: Iterable[Any] | None = None, title: str = "", total: int | None = None) -> Any:
    """A bar over `items`; without items, a context whose `update(n)` moves the bar up to `total`.

    It appears after two seconds, only on a terminal, and disappears at the end.
    """
    return tqdm(items, title, total, leave=False, disable=None, delay=2)


@functools.cache
def hide() -> None:
    """Show no bar from here on, also none of libraries: this process works for another one, which has the bar."""
    shown = tqdm.__init__

    def hidden(self: Any, *args: Any, **options: Any) -> None:
        shown(self, *args, **options | {"disable": True})

    tqdm.__init__ = hidden
