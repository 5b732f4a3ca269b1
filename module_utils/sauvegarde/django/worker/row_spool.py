"""Hold rows on disk, in order, until a load writes them."""

from __future__ import annotations

import marshal
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

CHUNK = 100  # rows held in memory at a time
_SIZE = struct.Struct(">Q")


class Spool:
    """Rows in an unnamed temporary file. `count`: number of rows; `size`: bytes of those in the file."""

    def __init__(self, folder: str) -> None:
        self._file = tempfile.TemporaryFile(dir=folder or None)  # noqa: SIM115 - lives as long as the load
        self._rows: list[Any] = []
        self.count = self.size = 0

    def add(self, row: Any) -> None:
        self.extend([row])

    def extend(self, rows: Sequence[Any]) -> None:
        self._rows += rows
        self.count += len(rows)
        if len(self._rows) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            piece = marshal.dumps(self._rows)
            self._file.write(_SIZE.pack(len(piece)) + piece)
            self.size += len(piece)
            self._rows = []

    def chunks(self) -> Iterator[list[Any]]:
        """Yield lists of rows, in the order in which they were added."""
        self._flush()
        self._file.flush()
        end = self._file.tell()
        self._file.seek(0)
        while self._file.tell() < end:
            (size,) = _SIZE.unpack(self._file.read(_SIZE.size))
            # marshal.load() would call read() for every single value.
            yield marshal.loads(self._file.read(size))
        self._file.seek(end)


def chunked(values: Iterable[Any]) -> list[list[Any]]:
    """Return the values in lists of at most `CHUNK`."""
    values = list(values)
    return [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]
