"""Set rows of plain SQL aside until all other rows are loaded, in a file in the run's own directory."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..errors import SauvegardeError
from .dump.byte_stream import CHUNK, Readable
from .dump.entries import Entry
from .dump.sql_script import Copy, Sql


@dataclass(frozen=True)
class _Part:
    """A part of the file: rows for the COPY `statement`, or SQL if that is None."""

    statement: bytes | None
    begin: int
    end: int


@dataclass(frozen=True)
class DeferredTable:
    """The rows of one table. entry: None if the dump does not state it."""

    entry: Entry | None
    _file: IO[bytes]
    _parts: list[_Part] = field(default_factory=list)

    def pieces(self) -> Iterator[tuple[bytes, Readable | None]]:
        """Yield (COPY statement, its rows) or (SQL, None), in the dump's order; every call starts at the first."""
        for part in self._parts:
            stored = _StoredPart(self._file, part.begin, part.end)
            if part.statement is None:
                yield stored.read(), None
            else:
                yield part.statement, stored


class DeferredRows:
    """The rows of tables that are filled last.

    reserve: called with each number of bytes before they are written; raises if there is too little space.
    """

    def __init__(self, folder: Path, reserve: Callable[[int], object]) -> None:
        self._folder, self._reserve = folder, reserve
        self._file: IO[bytes] | None = None
        self.tables: list[DeferredTable] = []

    def add(self, piece: Copy | Sql) -> None:
        """Write the rows or SQL of the piece to disk. The pieces of one table follow one another."""
        rows: Readable = piece.rows if isinstance(piece, Copy) else io.BytesIO(piece.text)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - lives until all rows are loaded
            begin = self._file.seek(0, io.SEEK_END)
            for data in iter(lambda: rows.read(CHUNK), b""):
                self._reserve(len(data))
                self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise SauvegardeError(
                f"The rows of {piece.entry.name if piece.entry else 'a table'} could not be set aside.",
                f"{self._folder}: {error}",
                "Free space there, or restore with a directory elsewhere (restore_directory).",
            ) from error
        if piece.entry is None or not self.tables or self.tables[-1].entry != piece.entry:
            self.tables.append(DeferredTable(piece.entry, self._file))
        statement = piece.statement if isinstance(piece, Copy) else None
        self.tables[-1]._parts.append(_Part(statement, begin, self._file.tell()))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _StoredPart:
    """The bytes of a file from `begin` to `end` as a stream."""

    def __init__(self, file: IO[bytes], begin: int, end: int) -> None:
        self._file, self._position, self._end = file, begin, end

    def read(self, size: int = -1, /) -> bytes:
        self._file.seek(self._position)
        rest = self._end - self._position
        data = self._file.read(rest if size < 0 else min(size, rest))
        self._position += len(data)
        return data
