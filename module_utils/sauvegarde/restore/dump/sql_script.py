"""Read the plain SQL that pg_dump (or pg_restore -f) writes, piece by piece, in constant memory.

psql never runs the script: its pieces go to the server through a driver, so no psql command in it is run, entries can
be left out or sent elsewhere, and a file that ends early is noticed. Its SQL runs in a superuser's session all the
same: only dumps that are trusted may be restored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, Union

import psycopg2.extensions

from ...errors import SauvegardeError
from . import file_type, psql_commands
from .byte_stream import CHUNK, Readable
from .entries import HEADER, ROW_KINDS, Entry, entry_of_header
from .lexer import Lines, Rows, cut_short, quoting, statement

# Names in these may contain line ends: the statement is read to its end before it is looked at.
_SETTING = re.compile(rb"SET ([a-z_.]+) (?:=|TO) .*;\s*", re.DOTALL)
_SETTING_BEGINS = re.compile(rb"SET [a-z_.]+ (?:=|TO) ")
# How --use-set-session-authorization states the owner of what follows, which the headers state too.
_AUTHORIZATION_BEGINS = re.compile(rb"SET SESSION AUTHORIZATION (?:E?'|DEFAULT;)")
_NAME = rb'(?:"(?:[^"]|"")+"|[A-Za-z_\x80-\xff][\w$\x80-\xff]*)'
_COPY = re.compile(
    rb"COPY\s+(?:%(name)s\.)?%(name)s\s*(?:\(\s*(?:%(name)s(?:,\s*%(name)s)*)?\s*\))?(?:\s+WITH OIDS)?\s+FROM stdin;\s*"
    % {b"name": _NAME},
    re.IGNORECASE,
)
# Also COPY from or to a file or a program of the server's host.
COPY_BEGINS = re.compile(rb"COPY\s", re.IGNORECASE)
_OTHER_COPY = re.compile(rb"\s*COPY\b.*\b(?:FROM|TO)\s+PROGRAM\b", re.IGNORECASE)
COMPLETE = b"-- PostgreSQL database dump complete"
CLUSTER = b"-- PostgreSQL database cluster dump"
DATABASE = b"-- PostgreSQL database dump"
_VERSIONS = (("server", b"-- Dumped from database version "), ("tool", b"-- Dumped by pg_dump version "))


@dataclass(frozen=True)
class Setting:
    """`SET name = …;` outside the text of any entry: it holds for everything that follows."""

    name: str
    text: bytes


@dataclass(frozen=True)
class Sql:
    """Whole statements of one entry (None: the preamble), in the script's own encoding."""

    entry: Entry | None
    text: bytes


@dataclass(frozen=True)
class Copy:
    """A COPY … FROM stdin; `rows` must be read to its end."""

    entry: Entry | None
    statement: bytes
    rows: Rows


@dataclass(frozen=True)
class Fact:
    """What the script's comments state: the version of `server` or `tool`, or that the dump is `complete`."""

    name: str
    value: str


Piece = Union[Fact, Setting, Entry, Sql, Copy]
_PASSED_OVER: tuple[()] = ()


class SeveralDumps(SauvegardeError):
    """The script holds more than one dump."""


class Script:
    """Iterate over the pieces of a plain dump.

    After the last piece `complete` is True; a script without its closing line raises instead. `read` counts bytes.
    `owners_by_session`: the entries have no ALTER … OWNER, and what they create belongs to the role that runs them.
    """

    def __init__(self, stream: Readable) -> None:
        self._lines = Lines(stream)
        self.complete = self.owners_by_session = self._begun = False
        self._connected = ""
        self.encoding = "utf-8"

    @property
    def read(self) -> int:
        return self._lines.read

    def decode(self, data: bytes) -> str:
        return data.decode(self.encoding, "surrogateescape")

    def __iter__(self) -> Iterator[Piece]:
        entry: Entry | None = None
        text: list[bytes] = []
        size = 0
        state: bytes | None = None
        while True:
            line = self._lines.line()
            if not line:
                break
            if state is None:
                # pg_dump starts each piece at the line's first column, outside any quote.
                if not text and not line.strip():
                    continue
                piece = self._piece(entry, line)
                if self.complete:
                    if piece is None and file_type.is_noise(line):
                        continue  # what a shell or ssh printed at its end
                    if piece != () and not isinstance(piece, Fact):
                        self._refuse_more(line)
                if piece is not None:
                    if text and piece:
                        yield Sql(entry, b"".join(text))
                        text, size = [], 0
                    if isinstance(piece, Entry):
                        entry = piece
                    if piece:
                        yield piece
                    if isinstance(piece, Copy):
                        piece.rows.drain()
                    continue
            text.append(line)
            size += len(line)
            state = quoting(state, line)
            # Entries of data can be endless (INSERTs, large objects): they continue statement by statement. Others
            # stay whole, since semicolons inside the body of a function or rule do not end its statement.
            endless = entry is None or (entry.kind in ROW_KINDS and size > CHUNK)
            if state is None and endless and line.rstrip().endswith(b";"):
                yield Sql(entry, b"".join(text))
                text, size = [], 0
        if state is not None:
            raise cut_short("It ends inside a statement.")
        if not self.complete:
            self._refuse_end()
        if text:
            yield Sql(entry, b"".join(text))

    def _piece(self, entry: Entry | None, line: bytes) -> Piece | tuple[()] | None:
        """Return the piece that begins with the line; () to pass over it; None for SQL of the entry itself."""
        if line.startswith(b"--"):
            header = HEADER.match(line)
            return entry_of_header(header, self.encoding) if header else self._comment(line)
        if line.startswith(b"\\"):
            return self._command(line)
        if _SETTING_BEGINS.match(line):
            setting = _SETTING.fullmatch(statement(self._lines, line))
            return self._setting(setting) if setting else _PASSED_OVER
        if _AUTHORIZATION_BEGINS.match(line):
            statement(self._lines, line)
            self.owners_by_session = True
            return _PASSED_OVER
        if COPY_BEGINS.match(line):
            whole = statement(self._lines, line)
            if _COPY.fullmatch(whole):
                return Copy(entry, whole, Rows(self._lines))
            self._refuse("a COPY", whole)
        if _OTHER_COPY.match(line):
            self._refuse("a COPY", line)
        return None

    def _setting(self, match: re.Match[bytes]) -> Setting:
        name = match.group(1).decode("ascii")
        if name == "client_encoding":
            self._set_encoding(match.group().split(b"'")[1])
        return Setting(name, match.group())

    def _set_encoding(self, name: bytes) -> None:
        text = name.decode("ascii", "replace")
        codec = psycopg2.extensions.encodings.get(re.sub("[^A-Z0-9]", "", text.upper()))
        if not codec:
            raise SauvegardeError(
                "The encoding of the SQL dump is unknown.",
                f"Its client_encoding is {text!r}.",
                "Make the dump again with --encoding=UTF8.",
            )
        self.encoding = codec

    def _comment(self, line: bytes) -> Fact | tuple[()]:
        if line.startswith(CLUSTER):
            raise SauvegardeError(
                "The file is a dump of a whole cluster (pg_dumpall).",
                "A restore takes one database at a time.",
                "Dump the database alone with pg_dump, or give the roles alone (pg_dumpall --globals-only) as globals.",
            )
        mark = line.rstrip()
        if mark == DATABASE:
            self._begun = True
        if mark == COMPLETE:
            self.complete = True
            return Fact("complete", "")
        for name, start in _VERSIONS:
            if line.startswith(start):
                return Fact(name, self.decode(line[len(start) :]).strip())
        return _PASSED_OVER

    def _command(self, line: bytes) -> Setting | tuple[()]:
        name, arguments = psql_commands.parse(self.decode(line))
        if name == "encoding" and arguments:
            encoding = arguments[0].encode("ascii", "replace")
            self._set_encoding(encoding)
            return Setting("client_encoding", b"SET client_encoding = '%s';\n" % encoding)
        if name in ("c", "connect"):
            # pg_dump connects again to the same database after it has set the database's properties.
            database = psql_commands.database(arguments)
            if self._connected not in ("", database) or self.complete:
                self._refuse_more(line)
            self._connected = database
        elif not psql_commands.is_passed_over(name, arguments):
            self._refuse("a psql command", line)
        return _PASSED_OVER

    def _position(self, line: bytes) -> str:
        return f"Line {self._lines.number}: " + self.decode(line[:80]).strip()

    def _refuse(self, what: str, line: bytes) -> NoReturn:
        raise SauvegardeError(
            f"The SQL dump holds {what} that pg_dump does not write for one database.",
            self._position(line),
            "Dump one database alone with pg_dump, or find out who wrote this file, and remove the line.",
        )

    def _refuse_more(self, line: bytes) -> NoReturn:
        raise SeveralDumps(
            "The SQL dump continues after its closing line, or connects to another database.",
            f"More than one dump seems to have been put into one file. {self._position(line)}",
            "Split it into one file for each database.",
        )

    def _refuse_end(self) -> NoReturn:
        if self._begun:
            raise cut_short("Its closing line, `PostgreSQL database dump complete`, is missing.")
        raise SauvegardeError(
            "The file is SQL, but not a whole dump that pg_dump wrote.",
            "Neither its first line, `-- PostgreSQL database dump`, nor its closing line is there.",
            "A dump without its comments, or a script that was written by hand, cannot be shown to be whole: run it"
            " with psql in an empty database, and back that up; or take another archive.",
        )
