"""Split SQL text into lines, COPY rows and statements, knowing what is quoted; in linear time and bounded memory."""

import io
import re

from ...errors import SauvegardeError

CHUNK = 1 << 20

IDENTIFIER = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_OPENING = re.compile(rb"--|/\*|'|\"|(?<![A-Za-z0-9_$\x80-\xff])\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$")
# Bounded, since the matcher keeps something of each repetition.
_LITERAL = re.compile(rb"(?:[^']+|''){0,1000}")
_ESCAPED = re.compile(rb"\\.|''|'", re.DOTALL)
_NESTED = re.compile(rb"/\*|\*/")
_END_MARKS = (b"\\.\n", b"\\.\r\n")
_CUT_MARKS = (b"", b"\\", b"\\.", b"\\.\r")


def unquoted(identifier):
    """The name that an SQL identifier stands for."""
    if identifier.startswith('"'):
        return identifier[1:-1].replace('""', '"')
    return identifier


def cut_short(why):
    return SauvegardeError(
        "The SQL dump is not whole.",
        why,
        "Take another archive, or make the dump again: what was lost cannot be known from this file.",
    )


class Lines:
    """Lines and COPY rows of a byte stream. `read` counts the bytes taken from it, `number` the lines given out."""

    def __init__(self, stream):
        self._stream = stream
        self._data = b""
        self._at = 0
        self._row_begins = True
        self.read = self.number = 0

    def _fill(self):
        """Add the next piece of the stream to what is left of the last; False at its end."""
        more = self._stream.read(CHUNK)
        self.read += len(more)
        self._data = self._data[self._at :] + more
        self._at = 0
        return bool(more)

    def _take(self, end):
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def line(self):
        """The next line with its line end; b"" at the end of the stream."""
        parts = []
        while True:
            end = self._data.find(b"\n", self._at)
            parts.append(self._take(end + 1 if end >= 0 else len(self._data)))
            if end >= 0 or not self._fill():
                break
        self.number += 1
        return b"".join(parts)

    def rows(self):
        """The next piece of a COPY block; b"" once its end mark has been passed.

        A piece ends with a row's end, unless the row is longer than the buffer.
        """
        while True:
            if self._row_begins:
                head = self._data[self._at : self._at + 4]
                for mark in _END_MARKS:
                    if head.startswith(mark):
                        self._at += len(mark)
                        self.number += 1
                        return b""
                cut = head in _CUT_MARKS
            else:
                cut = self._at == len(self._data)
            if not cut:
                break
            if not self._fill():
                raise cut_short("It ends inside the rows of a table.")
        ends = [self._data.find(b"\n" + mark, self._at) for mark in _END_MARKS]
        ends = [end for end in ends if end >= 0] or [self._data.rfind(b"\n", self._at)]
        self._row_begins = min(ends) >= 0
        rows = self._take(min(ends) + 1 if self._row_begins else len(self._data))
        self.number += rows.count(b"\n")
        return rows


class Rows:
    """File-like: the rows of one COPY block. `count` and `size` (bytes) are known once it has been read to its end."""

    def __init__(self, lines):
        self._lines = lines
        self._ended = False
        self.count = 0
        self.size = 0

    def read(self, _size=-1):
        if self._ended:
            return b""
        rows = self._lines.rows()
        self._ended = not rows
        self.count += rows.count(b"\n")
        self.size += len(rows)
        return rows

    def drain(self):
        while self.read():
            pass
        return self.count


def _past_doubled(line, at):
    """Where the first quote of `line` from `at` on stands that is not doubled, or the line's end."""
    end = _LITERAL.match(line, at).end()
    while end > at:
        at, end = end, _LITERAL.match(line, end).end()
    return end


def quoting(state, line):
    """What is open at the end of `line` if `state` was open before it: None, or a quote, tag or comment's mark."""
    at = 0
    while at < len(line):
        if state is None:
            found = _OPENING.search(line, at)
            if not found:
                return None
            mark = found.group()
            at = found.end()
            if mark == b"--":
                return None
            state = mark
            if mark == b"'" and re.search(rb"(?:^|[^A-Za-z0-9_$\x80-\xff])[Ee]$", line[max(0, at - 3) : at - 1]):
                state = b"E'"
            elif mark == b"/*":
                state = b"/*1"
        elif state == b"E'":
            found = _ESCAPED.search(line, at)
            if not found:
                return state
            at = found.end()
            if found.group() == b"'":
                state = None
        elif state.startswith(b"/*"):
            found = _NESTED.search(line, at)
            if not found:
                return state
            at = found.end()
            depth = int(state[2:]) + (1 if found.group() == b"/*" else -1)
            state = b"/*%d" % depth if depth else None
        else:
            if state == b"'":
                at = _past_doubled(line, at)
            found_at = line.find(state, at)
            if found_at < 0:
                return state
            at = found_at + len(state)
            state = None
    return state


def statement(lines, first):
    """The whole statement that begins with the line `first`: names and literals may hold line ends."""
    parts, line, state = [first], first, quoting(None, first)
    while state is not None or not line.rstrip().endswith(b";"):
        line = lines.line()
        if not line:
            raise cut_short("It ends inside a statement.")
        parts.append(line)
        state = quoting(state, line)
    return b"".join(parts)


def statements(data):
    """Split SQL (bytes) into statements; comments and psql commands between them are left out."""
    state, current = None, []
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
