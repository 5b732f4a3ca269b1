"""Keep a set of rows' keys in little memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_BLOCK = 512


class Keys:
    """A set of keys; whole numbers, which most keys are and which are dense, take one bit each. NULL is no key."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self._blocks: dict[int, int] = {}
        self._others: set[Any] = set()
        self.update(values)

    def add(self, value: Any) -> None:
        self.update((value,))

    def update(self, values: Iterable[Any]) -> None:
        blocks = self._blocks
        for value in values:
            if type(value) is int:
                block, bit = divmod(value, _BLOCK)
                blocks[block] = blocks.get(block, 0) | 1 << bit
            elif value is not None:
                self._others.add(value)

    def discard(self, value: Any) -> None:
        if type(value) is int and value in self:
            block, bit = divmod(value, _BLOCK)
            self._blocks[block] ^= 1 << bit
        self._others.discard(value)

    def __contains__(self, value: Any) -> bool:
        if type(value) is int:
            block, bit = divmod(value, _BLOCK)
            return bool(self._blocks.get(block, 0) >> bit & 1)
        return value in self._others

    def isdisjoint(self, values: Iterable[Any]) -> bool:
        return not any(value in self for value in values)

    def without(self, other: Keys) -> set[Any]:
        """Return the keys that the other set does not have, as a plain set."""
        missing = {value for value in self._others if value not in other}
        for block, mask in self._blocks.items():
            rest = mask & ~other._blocks.get(block, 0)
            while rest:
                missing.add(block * _BLOCK + rest.bit_length() - 1)
                rest ^= 1 << (rest.bit_length() - 1)
        return missing
