"""Read the output of pg_dumpall: its globals, the names of its databases, and the dump of one of them as a stream.

Several dumps of pg_dump in one file, one after the other, are read in the same way.

From version 11 on each database's part is what pg_dump --create writes. Before, CREATE DATABASE, the database's
settings and its grants stand among the globals: they are put into the part as the entries that newer versions write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ...postgres import character_sets
from . import psql_commands
from .byte_stream import Readable, ReadableAndClosable
from .entries import HEADER
from .lexer import Lines, Rows, cut_short, quoting, statement, statements
from .sql_script import COMPLETE, COPY_BEGINS, DATABASE
from .sql_text import IDENTIFIER, unquoted

CLUSTER_COMPLETE = b"-- PostgreSQL database cluster dump complete"
_BEGINS = re.compile(rb'-- Database "(.*)" dump\r?\n')
_ENCODING = re.compile(rb"SET client_encoding = '([^']*)';")
_ABOUT = re.compile(
    rf"(CREATE|ALTER) DATABASE ({IDENTIFIER}) .*|(?:GRANT|REVOKE) .* ON DATABASE ({IDENTIFIER}) .*", re.DOTALL
)
# Entries of `pg_dump --create` that come before it connects to the database.
_ABOUT_DATABASE = (b"DATABASE", b"DATABASE PROPERTIES", b"ACL", b"COMMENT", b"SECURITY LABEL")
_OWNER = re.compile(rf" OWNER = ({IDENTIFIER})")
_LIMIT = re.compile(r" CONNECTION LIMIT = (-?\d+)")


class Part(NamedTuple):
    """Data of a file: lines, a COPY statement, or rows. database: in whose dump they are, '' outside any dump.

    data: None marks the end of a file that ends as it should.
    """

    database: str
    data: bytes | None


class Databases(NamedTuple):
    """The databases of a file, in its order; whether its closing line is there; whether there is SQL outside them."""

    names: list[str]
    complete: bool
    outside: bool


def encoding_of(data: bytes) -> str:
    """Return Python's name of the encoding that the head of a script states; UTF-8 if it states none that is known."""
    match = _ENCODING.search(data)
    return (character_sets.codec(match.group(1).decode("ascii", "replace")) if match else None) or "utf-8"


def decoded(data: bytes) -> str | None:
    """Return the globals as text; None if they are neither in the encoding that they state nor in UTF-8."""
    for codec in (encoding_of(data), "utf-8"):
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    return None


def walk(stream: Readable) -> Iterator[Part]:
    """Yield the parts of a file with several dumps.

    A dump that never states its database is named by its number in the file (#2), and another dump of the same database
    by both (name #2).
    """
    return _Walk(stream).parts()


class _Walk:
    def __init__(self, stream: Readable) -> None:
        self._lines = Lines(stream)
        self._encoding = "utf-8"
        self._inside = False
        self._count = 0  # of dumps
        self._database = ""  # that the file named last
        self._named = False  # whether that was before the dump, or in it
        self._label, self._labels = "", set[str]()  # the name of the dump, and of those before it
        self._begin: list[bytes] | None = None  # of a dump whose database is not known yet

    def parts(self) -> Iterator[Part]:
        state: bytes | None = None
        complete = False
        while True:
            line = self._lines.line()
            if not line:
                break
            if state is None:
                complete = complete or (not self._inside and line.rstrip() == CLUSTER_COMPLETE)
                self._look(line)
                if self._begin is not None and (self._named or self._is_content(line)):
                    yield from self._release()
                if self._inside and COPY_BEGINS.match(line):
                    yield from self._copy(line)
                    continue
            if state is not None or not line.startswith((b"\\", b"--")):
                state = quoting(state, line)
            if self._begin is not None:
                self._begin.append(line)
            else:
                yield Part(self._label if self._inside else "", line)
            if state is None and self._inside and line.rstrip() == COMPLETE:
                self._inside = self._named = False
        if self._inside:
            raise cut_short(f"It ends inside the dump of {self._label or 'a database'}.")
        if complete:
            yield Part("", None)

    def _look(self, line: bytes) -> None:
        """Take from a line at the beginning of a statement what it says of the dump around it."""
        if _ENCODING.match(line):
            self._encoding = encoding_of(line)
        begins = _BEGINS.match(line)
        if line.startswith(b"\\") and (not self._inside or self._begin is not None):
            name, arguments = psql_commands.parse(line.decode(self._encoding, "surrogateescape"))
            if name in ("c", "connect") and psql_commands.database(arguments):
                self._database, self._named = psql_commands.database(arguments), True
        elif begins and not self._inside:
            self._database, self._named = begins.group(1).decode(self._encoding, "surrogateescape"), True
        elif line.rstrip() == DATABASE and not self._inside:
            self._inside, self._label, self._begin = True, "", []
            self._count += 1

    @staticmethod
    def _is_content(line: bytes) -> bool:
        """Return whether a dump that has not named its database yet will not do so any more."""
        return line.rstrip() == COMPLETE or bool(COPY_BEGINS.match(line)) or _is_object(line)

    def _release(self) -> Iterator[Part]:
        """Name the dump, and yield its lines so far."""
        label = self._database if self._named else f"#{self._count}"
        self._label = f"{label} #{self._count}" if label in self._labels else label
        self._labels.add(self._label)
        begin, self._begin = self._begin or [], None
        for data in begin:
            yield Part(self._label, data)

    def _copy(self, line: bytes) -> Iterator[Part]:
        yield Part(self._label, statement(self._lines, line))
        rows = Rows(self._lines)
        for data in iter(rows.read, b""):
            yield Part(self._label, data)
        yield Part(self._label, b"\\.\n")


def _is_object(line: bytes) -> bool:
    """Return whether the line is the header of an entry inside the database."""
    header = HEADER.match(line)
    return header is not None and (header.group(2) not in _ABOUT_DATABASE or header.group(3) != b"-")


def databases(stream: Readable) -> Databases:
    """Return the databases of a file; reads it completely."""
    names: list[str] = []
    complete = outside = False
    for database, data in walk(stream):
        if database and database not in names:
            names.append(database)
        if data is None:
            complete = True
        elif not database and data.strip() and not data.startswith((b"--", b"\\")):
            outside = True
    return Databases(names, complete, outside)


def globals_of(stream: Readable) -> tuple[bytes, bool]:
    """Return (the file's SQL before its first database, whether it is complete)."""
    data: list[bytes] = []
    complete = False
    lines = Lines(stream)
    state: bytes | None = None
    while True:
        line = lines.line()
        if not line:
            break
        if state is None:
            if line.rstrip() == CLUSTER_COMPLETE:
                complete = True
            connects = line.startswith(b"\\") and psql_commands.parse(line.decode("latin-1"))[0] in ("c", "connect")
            if connects or _BEGINS.match(line) or line.rstrip() == DATABASE:
                return b"".join(data), True
        if state is not None or not line.startswith((b"\\", b"--")):
            state = quoting(state, line)
        data.append(line)
    return b"".join(data), complete


class Section:
    """The dump of one database in a file with several dumps, as a stream of what pg_dump --create would write."""

    def __init__(self, stream: ReadableAndClosable, database: str) -> None:
        self._stream = stream
        self._database = database
        self._parts = self._own_parts()

    def read(self, _size: int = -1, /) -> bytes:
        return next((data for data in self._parts if data), b"")

    def close(self) -> None:
        self._stream.close()

    def _own_parts(self) -> Iterator[bytes]:
        before: list[bytes] = []  # what comes before the dump, as far as it is outside any
        begun = False
        for database, data in walk(self._stream):
            if data is None:
                continue
            if not database and not begun:
                before.append(data)
            if database != self._database:
                continue
            if not begun:
                begun = True
                yield b"--\n"
            yield data
            if before and _ENCODING.match(data):
                yield self._database_entries(b"".join(before), encoding_of(data))
                before = []

    def _database_entries(self, head: bytes, encoding: str) -> bytes:
        """Return what the globals state about the database itself, as entries of its own dump."""
        created, owner = "", ""
        properties: list[str] = []
        grants: list[str] = []
        for data in statements((decoded(head) or "").encode("utf-8")):
            text = data.decode("utf-8")
            about = _ABOUT.fullmatch(text)
            if not about or unquoted(about.group(2) or about.group(3)) != self._database:
                continue
            if about.group(1) == "CREATE":
                created = text
                owner = "".join(unquoted(name) for name in _OWNER.findall(text)[:1])
            else:
                (properties if about.group(1) else grants).append(text)
        if not created and not properties and not grants:
            return b""
        name, owner = self._database, owner or "-"
        quoted = '"' + name.replace('"', '""') + '"'
        limit = _LIMIT.search(created)
        properties.append(f"ALTER DATABASE {quoted} CONNECTION LIMIT = {limit.group(1) if limit else -1};")
        entries = _entry(name, "DATABASE", owner, created) if created else ""
        entries += _entry(name, "DATABASE PROPERTIES", owner, "\n".join(properties))
        entries += _entry("DATABASE " + name, "ACL", owner, "\n".join(grants)) if grants else ""
        return entries.encode(encoding, "replace")


def _entry(name: str, kind: str, owner: str, text: str) -> str:
    return f"\n--\n-- Name: {name}; Type: {kind}; Schema: -; Owner: {owner}\n--\n\n{text}\n\n"
