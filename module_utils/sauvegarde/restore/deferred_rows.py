"""Keep rows of plain SQL aside until all other rows are there, in a file of the run's own folder."""

import io
import tempfile

from ..errors import SauvegardeError
from .dump.lexer import CHUNK
from .dump.sql_script import Copy


class Waiting:
    """The pieces (script.Copy and script.Sql) that hold the rows of tables which are filled last.

    enough: is called with each number of bytes before they are written, and raises where there is no room for them.
    """

    def __init__(self, folder, enough):
        self._folder, self._enough = folder, enough
        self._file = None
        self._groups = []

    def take(self, piece):
        """Write what the piece holds to the disk. The pieces of one table come one after the other."""
        rows = piece.rows if isinstance(piece, Copy) else io.BytesIO(piece.text)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=str(self._folder))  # noqa: SIM115 - lives until all are loaded
            begin = self._file.seek(0, io.SEEK_END)
            for data in iter(lambda: rows.read(CHUNK), b""):
                self._enough(len(data))
                self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise SauvegardeError(
                "The rows of {} could not be kept aside.".format(piece.entry.name if piece.entry else "a table"),
                f"{self._folder}: {error}",
                "Free space there, or restore with a directory elsewhere (restore_directory).",
            ) from error
        empty = piece._replace(rows=None) if isinstance(piece, Copy) else piece._replace(text=b"")
        if piece.entry is None or not self._groups or self._groups[-1][0] != piece.entry:
            self._groups.append((piece.entry, []))
        self._groups[-1][1].append((empty, begin, self._file.tell()))

    def tables(self):
        """[(entry, pieces)] of each table; entry is None where the dump does not say it. `pieces()` gives its pieces
        as they came, each time anew."""
        return [(entry, lambda group=group: self._pieces(group)) for entry, group in self._groups]

    def _pieces(self, group):
        for piece, begin, end in group:
            part = _Part(self._file, begin, end)
            yield piece._replace(rows=part) if isinstance(piece, Copy) else piece._replace(text=part.read(end - begin))

    def close(self):
        if self._file is not None:
            self._file.close()


class _Part:
    """File-like: the bytes of a file from `begin` to `end`."""

    def __init__(self, file, begin, end):
        self._file, self._at, self._end = file, begin, end

    def read(self, size=-1):
        self._file.seek(self._at)
        left = self._end - self._at
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data
