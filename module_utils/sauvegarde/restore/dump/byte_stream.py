"""Read bytes through functions and protocols: what every stream of a dump has in common."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

CHUNK = 1 << 20


class Readable(Protocol):
    """A binary stream. `read` returns b"" only at its end; it may return less than `size` bytes before."""

    def read(self, size: int = ..., /) -> bytes: ...


class ReadableAndClosable(Readable, Protocol):
    """A binary stream that holds a file or a child process."""

    def close(self) -> object: ...


class _Raw(io.RawIOBase):
    def __init__(self, give: Callable[[], bytes], close: Callable[[], object] | None = None) -> None:
        super().__init__()
        self._give, self._close, self._rest = give, close, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        if not self._rest:
            self._rest = self._give()
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        if self._close is not None:
            close, self._close = self._close, None
            close()
        super().close()


def buffered(give: Callable[[], bytes], close: Callable[[], object] | None = None) -> io.BufferedReader:
    """Return a readable stream over a function that returns bytes, and b"" at the end."""
    return io.BufferedReader(_Raw(give, close), CHUNK)
