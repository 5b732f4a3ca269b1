"""Hold a long sequence with many equal neighbours in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable, Generic, TypeVar

_T = TypeVar("_T")


class RunLengths(Generic[_T]):
    """A sequence as (item, count) runs."""

    def __init__(self) -> None:
        self._items: list[_T] = []
        self._counts: list[int] = []

    def add(self, item: _T, count: int = 1) -> None:
        """Append the item `count` times."""
        if self._items and self._items[-1] is item:
            self._counts[-1] += count
        elif count:
            self._items.append(item)
            self._counts.append(count)

    def __iter__(self) -> Iterator[tuple[_T, int]]:
        return zip(self._items, self._counts)

    def __len__(self) -> int:
        return len(self._items)

    def reader(self) -> Callable[[int], Iterator[tuple[_T, int]]]:
        """Return a function that yields the runs of the next `count` items each time it is called."""
        runs = iter(self)
        rest: list[tuple[_T, int]] = []

        def take(count: int) -> Iterator[tuple[_T, int]]:
            while count:
                item, length = rest.pop() if rest else next(runs)
                some = min(count, length)
                if length > some:
                    rest.append((item, length - some))
                count -= some
                yield item, some

        return take
