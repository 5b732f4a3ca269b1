"""Split SQL text into lines, COPY rows and statements with regard to quotes, in linear time and bounded memory."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from ...errors import SauvegardeError
from .byte_stream import CHUNK, Readable

_OPENING = re.compile(rb"--|/\*|'|\"|(?<![A-Za-z0-9_$\x80-\xff])\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$")
# Bounded, since the matcher stores something for each repetition.
_LITERAL = re.compile(rb"(?:[^']+|''){0,1000}")
_ESCAPED = re.compile(rb"\\.|''|'", re.DOTALL)
_NESTED = re.compile(rb"/\*|\*/")
_ESCAPE_PREFIX = re.compile(rb"(?:^|[^A-Za-z0-9_$\x80-\xff])[Ee]$")
_END_MARKS = (b"\\.\n", b"\\.\r\n")
_CUT_MARKS = (b"", b"\\", b"\\.", b"\\.\r")


def cut_short(why: str) -> SauvegardeError:
    """Return the error of a dump that ends before its end."""
    return SauvegardeError(
        "The SQL dump is not whole.",
        why,
        "Take another archive, or make the dump again: what was lost cannot be known from this file.",
    )


class Lines:
    """Lines and COPY rows of a byte stream. `read` counts the bytes read from it, `number` the lines returned."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._data = b""
        self._position = 0
        self._row_begins = True
        self.read = self.number = 0

    def _fill(self) -> bool:
        """Add the next part of the stream to the rest of the last; return False at its end."""
        more = self._stream.read(CHUNK)
        self.read += len(more)
        self._data = self._data[self._position :] + more
        self._position = 0
        return bool(more)

    def _take(self, end: int) -> bytes:
        data = self._data[self._position : end]
        self._position = end
        return data

    def line(self) -> bytes:
        """Return the next line with its line end, b"" at the end of the stream."""
        parts = []
        while True:
            end = self._data.find(b"\n", self._position)
            parts.append(self._take(end + 1 if end >= 0 else len(self._data)))
            if end >= 0 or not self._fill():
                break
        self.number += 1
        return b"".join(parts)

    def rows(self) -> bytes:
        """Return the next part of a COPY block, b"" after its end mark.

        A part ends with the end of a row, unless the row is longer than the buffer.
        """
        while True:
            if self._row_begins:
                head = self._data[self._position : self._position + 4]
                for mark in _END_MARKS:
                    if head.startswith(mark):
                        self._position += len(mark)
                        self.number += 1
                        return b""
                cut = head in _CUT_MARKS
            else:
                cut = self._position == len(self._data)
            if not cut:
                break
            if not self._fill():
                raise cut_short("It ends inside the rows of a table.")
        ends = [self._data.find(b"\n" + mark, self._position) for mark in _END_MARKS]
        ends = [end for end in ends if end >= 0] or [self._data.rfind(b"\n", self._position)]
        self._row_begins = min(ends) >= 0
        rows = self._take(min(ends) + 1 if self._row_begins else len(self._data))
        self.number += rows.count(b"\n")
        return rows


class Rows:
    """The rows of one COPY block as a stream. After its end, `count` and `size` (bytes) are those of all rows."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._ended = False
        self.count = 0
        self.size = 0

    def read(self, _size: int = -1, /) -> bytes:
        if self._ended:
            return b""
        rows = self._lines.rows()
        self._ended = not rows
        self.count += rows.count(b"\n")
        self.size += len(rows)
        return rows

    def drain(self) -> int:
        """Read to the end of the block; return the number of rows."""
        while self.read():
            pass
        return self.count


def _after_doubled_quotes(line: bytes, position: int) -> int:
    """Return where the first quote of `line` from `position` on stands that is not doubled, or the line's end."""
    end = position
    while True:
        match = _LITERAL.match(line, end)
        if match is None or match.end() == end:
            return end
        end = match.end()


def quoting(state: bytes | None, line: bytes) -> bytes | None:
    """Return what is open at the end of `line` if `state` is open before it: None, or the mark of a quote or comment.

    The mark of a literal is `'` (or `E'`, with escapes), of an identifier `"`, of a dollar quote its tag, of a comment
    `/*` with its depth.
    """
    position = 0
    while position < len(line):
        if state is None:
            opening = _OPENING.search(line, position)
            if not opening:
                return None
            mark = opening.group()
            position = opening.end()
            if mark == b"--":
                return None
            state = mark
            if mark == b"'" and _ESCAPE_PREFIX.search(line[max(0, position - 3) : position - 1]):
                state = b"E'"
            elif mark == b"/*":
                state = b"/*1"
        elif state == b"E'":
            escaped = _ESCAPED.search(line, position)
            if not escaped:
                return state
            position = escaped.end()
            if escaped.group() == b"'":
                state = None
        elif state.startswith(b"/*"):
            nested = _NESTED.search(line, position)
            if not nested:
                return state
            position = nested.end()
            depth = int(state[2:]) + (1 if nested.group() == b"/*" else -1)
            state = b"/*%d" % depth if depth else None
        else:
            if state == b"'":
                position = _after_doubled_quotes(line, position)
            end = line.find(state, position)
            if end < 0:
                return state
            position = end + len(state)
            state = None
    return state


def statement(lines: Lines, first: bytes) -> bytes:
    """Return the complete statement that begins with the line `first`: names and literals may contain line ends."""
    parts, line, state = [first], first, quoting(None, first)
    while state is not None or not line.rstrip().endswith(b";"):
        line = lines.line()
        if not line:
            raise cut_short("It ends inside a statement.")
        parts.append(line)
        state = quoting(state, line)
    return b"".join(parts)


def statements(data: bytes) -> Iterator[bytes]:
    """Split SQL into statements, without the comments and psql commands between them."""
    state: bytes | None = None
    current: list[bytes] = []
    for line in io.BytesIO(data):
        if state is None and not current and (not line.strip() or line.startswith((b"--", b"\\"))):
            continue
        current.append(line)
        state = quoting(state, line)
        if state is None and line.rstrip().endswith(b";"):
            yield b"".join(current).strip()
            current = []
    if current:
        yield b"".join(current).strip()
