"""Read the plain SQL that pg_dump (or pg_restore -f) writes, piece by piece, in constant memory.

The script is never given to psql: its pieces go to the server through a driver, so no psql command in it is run,
entries can be left out or sent elsewhere, and a file that stops early is noticed. Its SQL runs in a superuser's session
all the same: only dumps that are trusted may be restored.
"""

import re
from typing import NamedTuple, Optional

import psycopg2.extensions

from ..errors import SauvegardeError

CHUNK = 1 << 20

IDENTIFIER = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
HEADER = re.compile(
    rb"-- (?:Data for |Statistics for )?Name: (.*); Type: (.*); Schema: (.*); Owner: (.*?)(?:; Tablespace: .*)?\r?\n"
)
SETTING = re.compile(rb"SET ([a-z_.]+) (?:=|TO) .*;\r?\n")
# How --use-set-session-authorization says the owner of what follows, which the headers say too.
_AUTHORIZATION = re.compile(rb"SET SESSION AUTHORIZATION (?:E?'.*'|DEFAULT);\r?\n")
COPY = re.compile(rb"COPY .* FROM stdin;\r?\n", re.IGNORECASE)
# What a server would take from, or give to, a file or a program of its own host.
_OTHER_COPY = re.compile(rb"COPY\s|\s*COPY\b.*\b(?:FROM|TO)\s+PROGRAM\b", re.IGNORECASE)
# Kinds of entries that hold rows or large objects.
DATA = ("TABLE DATA", "BLOBS", "BLOB DATA", "LARGE OBJECTS", "STATISTICS DATA")
COMPLETE = b"-- PostgreSQL database dump complete"
CLUSTER = b"-- PostgreSQL database cluster dump"
_OPENING = re.compile(rb"--|/\*|'|\"|(?<![A-Za-z0-9_$\x80-\xff])\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$")
_ESCAPED = re.compile(rb"\\.|''|'", re.DOTALL)
_NESTED = re.compile(rb"/\*|\*/")


class Entry(NamedTuple):
    """One entry of the dump's table of contents, as its header says it. `schema` and `owner` are '' where it has none.

    Line ends inside names are spaces here, as pg_dump writes them.
    """

    kind: str
    schema: str
    name: str
    owner: str


class Setting(NamedTuple):
    """`SET name = …;` outside any entry's own text: it goes on to hold for what follows."""

    name: str
    text: bytes


class Sql(NamedTuple):
    """Whole statements of one entry (None: the preamble), as bytes in the script's own encoding."""

    entry: Optional[Entry]
    text: bytes


class Copy(NamedTuple):
    """A COPY … FROM stdin; `rows` is a file-like object that gives the rows' bytes and must be read to its end."""

    entry: Optional[Entry]
    statement: bytes
    rows: "Rows"


class Fact(NamedTuple):
    """What the script's comments say of it: `server` or `tool` version."""

    name: str
    value: str


def unquoted(identifier):
    """The name that an SQL identifier stands for."""
    if identifier.startswith('"'):
        return identifier[1:-1].replace('""', '"')
    return identifier


def _cut_short(why):
    return SauvegardeError(
        "The SQL dump is not whole.",
        why,
        "Take another archive, or make the dump again: what was lost cannot be known from this file.",
    )


class _Lines:
    """Lines and blocks of a byte stream. Counts the bytes it was given in `read`."""

    def __init__(self, stream):
        self._stream = stream
        self._data = b""
        self._at = 0
        self.read = 0

    def fill(self):
        more = self._stream.read(CHUNK)
        self.read += len(more)
        self._data = self._data[self._at :] + more
        self._at = 0
        return bool(more)

    def line(self):
        """The next line with its line end; b"" at the end of the stream."""
        searched = self._at
        while True:
            end = self._data.find(b"\n", searched)
            if end >= 0:
                line = self._data[self._at : end + 1]
                self._at = end + 1
                return line
            searched = len(self._data) - self._at
            if not self.fill():
                line = self._data[self._at :]
                self._at = len(self._data)
                return line

    def rows(self):
        """The next whole rows of a COPY block; b"" once its end mark has been passed."""
        while True:
            for mark in (b"\\.\n", b"\\.\r\n"):
                if self._data.startswith(mark, self._at):
                    self._at += len(mark)
                    return b""
            end = self._data.find(b"\n\\.\n", self._at)
            if end < 0:
                end = self._data.find(b"\n\\.\r\n", self._at)
            if end < 0:
                # A row that begins with the mark and is cut by the buffer's end stays for the next round.
                end = self._data.rfind(b"\n", self._at)
            if end >= 0:
                rows = self._data[self._at : end + 1]
                self._at = end + 1
                return rows
            if not self.fill():
                raise _cut_short("It ends inside the rows of a table.")


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
            found_at = line.find(state, at)
            if found_at < 0:
                return state
            at = found_at + len(state)
            state = None
    return state


class Script:
    """Iterate over the pieces of a plain dump: Fact, Setting, Entry, Sql, Copy.

    After the last piece `complete` is True; a script without its closing line raises instead. `read` counts bytes.
    `owners_by_session`: what the entries make has no ALTER … OWNER, and belongs to whoever makes it.
    """

    def __init__(self, stream):
        self._lines = _Lines(stream)
        self.complete = self.owners_by_session = False
        self._connected = b""
        self.encoding = "utf-8"

    @property
    def read(self):
        return self._lines.read

    def decode(self, data):
        return data.decode(self.encoding, "surrogateescape")

    def __iter__(self):
        entry = None
        text = []
        size = 0
        state = None
        while True:
            line = self._lines.line()
            if not line:
                break
            pieces = []
            if state is None:
                # pg_dump starts each of these at the line's first column, outside any quote.
                if line.startswith(b"--"):
                    found = HEADER.match(line)
                    entry_next = self._entry(found) if found else entry
                    pieces = [entry_next] if found else self._comment(line)
                    if not found and not pieces:
                        continue
                elif line.startswith(b"\\"):
                    self._command(line)
                    continue
                elif SETTING.match(line):
                    entry_next = entry
                    pieces = [self._setting(line)]
                elif _AUTHORIZATION.match(line):
                    self.owners_by_session = True
                    continue
                elif COPY.match(line):
                    entry_next = entry
                    pieces = [Copy(entry, line, Rows(self._lines))]
                elif _OTHER_COPY.match(line):
                    self._refuse("a COPY", line)
                elif not text and not line.strip():
                    continue
                if self.complete and not (pieces and isinstance(pieces[0], Fact)):
                    raise SauvegardeError(
                        "The SQL dump goes on after its closing line.",
                        "More than one dump seems to have been put into one file.",
                        "Split it into one file for each database.",
                    )
            if pieces:
                if text:
                    yield Sql(entry, b"".join(text))
                    text, size = [], 0
                entry = entry_next
                for piece in pieces:
                    yield piece
                    if isinstance(piece, Copy):
                        piece.rows.drain()
                continue
            text.append(line)
            size += len(line)
            state = quoting(state, line)
            # Entries of data can be endless (INSERTs, large objects): they go on statement by statement. Others stay
            # whole, since the semicolons inside a function's or a rule's body do not end its statement.
            endless = entry is None or (entry.kind in DATA and size > CHUNK)
            if state is None and endless and line.rstrip().endswith(b";"):
                yield Sql(entry, b"".join(text))
                text, size = [], 0
        if state is not None:
            raise _cut_short("It ends inside a statement.")
        if not self.complete:
            raise _cut_short("Its closing line, `PostgreSQL database dump complete`, is missing.")
        if text:
            yield Sql(entry, b"".join(text))

    def _entry(self, found):
        kind, schema, name, owner = (self.decode(found.group(part)) for part in (2, 3, 1, 4))
        return Entry(kind, "" if schema == "-" else schema, name, "" if owner == "-" else owner)

    def _setting(self, line):
        name = SETTING.match(line).group(1).decode("ascii")
        if name == "client_encoding":
            value = line.split(b"'")[1].decode("ascii", "replace")
            codec = psycopg2.extensions.encodings.get(re.sub("[^A-Z0-9]", "", value.upper()))
            if not codec:
                raise SauvegardeError(
                    "The SQL dump is written in an encoding that is not known.",
                    "Its client_encoding is " + repr(value) + ".",
                    "Make the dump again with --encoding=UTF8.",
                )
            self.encoding = codec
        return Setting(name, line)

    def _comment(self, line):
        if line.startswith(CLUSTER):
            raise SauvegardeError(
                "The file is a dump of a whole cluster (pg_dumpall).",
                "A restore takes one database at a time.",
                "Dump the database alone with pg_dump, or give the roles alone (pg_dumpall --globals-only) as globals.",
            )
        if line.rstrip() == COMPLETE:
            self.complete = True
            return [Fact("complete", "")]
        for name, start in (
            ("server", b"-- Dumped from database version "),
            ("tool", b"-- Dumped by pg_dump version "),
        ):
            if line.startswith(start):
                return [Fact(name, self.decode(line[len(start) :]).strip())]
        return []

    def _command(self, line):
        """psql's own commands: its guard against itself is passed over, the others are of a dump with --create."""
        word = line.split()[0]
        if word in (b"\\restrict", b"\\unrestrict", b"\\encoding"):
            return
        if word == b"\\connect" and self._connected in (b"", line):
            self._connected = line  # pg_dump connects again once it has set the database's properties
            return
        self._refuse("a psql command", line)

    def _refuse(self, what, line):
        raise SauvegardeError(
            f"The SQL dump holds {what} that pg_dump does not write for one database.",
            "Line: " + self.decode(line[:80]).strip(),
            "Dump one database alone with pg_dump, or look at who wrote this file.",
        )
