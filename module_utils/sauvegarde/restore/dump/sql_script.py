"""Read the plain SQL that pg_dump (or pg_restore -f) writes, piece by piece, in constant memory.

The script is never given to psql: its pieces go to the server through a driver, so no psql command in it is run,
entries can be left out or sent elsewhere, and a file that stops early is noticed. Its SQL runs in a superuser's session
all the same: only dumps that are trusted may be restored.
"""

import re
from typing import NamedTuple, Optional

import psycopg2.extensions

from ...errors import SauvegardeError
from . import file_type, psql_commands
from .entries import HEADER, ROW_KINDS, Entry, entry_of_header
from .lexer import (
    CHUNK,
    Lines,
    Rows,
    cut_short,
    quoting,
    statement,
)

# Names in these may hold line ends: the statement is read to its end before it is looked at.
_SETTING = re.compile(rb"SET ([a-z_.]+) (?:=|TO) .*;\s*", re.DOTALL)
_SETTING_BEGINS = re.compile(rb"SET [a-z_.]+ (?:=|TO) ")
# How --use-set-session-authorization says the owner of what follows, which the headers say too.
_AUTHORIZATION_BEGINS = re.compile(rb"SET SESSION AUTHORIZATION (?:E?'|DEFAULT;)")
_NAME = rb'(?:"(?:[^"]|"")+"|[A-Za-z_\x80-\xff][\w$\x80-\xff]*)'
_COPY = re.compile(
    rb"COPY\s+(?:%(name)s\.)?%(name)s\s*(?:\(\s*(?:%(name)s(?:,\s*%(name)s)*)?\s*\))?(?:\s+WITH OIDS)?\s+FROM stdin;\s*"
    % {b"name": _NAME},
    re.IGNORECASE,
)
# Also what a server would take from, or give to, a file or a program of its own host.
COPY_BEGINS = re.compile(rb"COPY\s", re.IGNORECASE)
_OTHER_COPY = re.compile(rb"\s*COPY\b.*\b(?:FROM|TO)\s+PROGRAM\b", re.IGNORECASE)
COMPLETE = b"-- PostgreSQL database dump complete"
CLUSTER = b"-- PostgreSQL database cluster dump"
DATABASE = b"-- PostgreSQL database dump"


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


class SeveralDumps(SauvegardeError):
    """The script holds more than one dump."""


class Script:
    """Iterate over the pieces of a plain dump: Fact, Setting, Entry, Sql, Copy.

    After the last piece `complete` is True; a script without its closing line raises instead. `read` counts bytes.
    `owners_by_session`: what the entries make has no ALTER … OWNER, and belongs to whoever makes it.
    """

    def __init__(self, stream):
        self._lines = Lines(stream)
        self.complete = self.owners_by_session = self._begun = False
        self._connected = ""
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
            if state is None:
                # pg_dump starts each piece at the line's first column, outside any quote.
                if not text and not line.strip():
                    continue
                piece = self._piece(entry, line)
                if self.complete and piece is None and file_type.is_noise(line):
                    continue  # what a shell or ssh said at its end
                if self.complete and piece != () and not isinstance(piece, Fact):
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
            # Entries of data can be endless (INSERTs, large objects): they go on statement by statement. Others stay
            # whole, since the semicolons inside a function's or a rule's body do not end its statement.
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

    def _piece(self, entry, line):
        """What begins with the line: a piece; () where it is passed over; None for the SQL of the entry itself."""
        if line.startswith(b"--"):
            found = HEADER.match(line)
            return entry_of_header(found, self.encoding) if found else self._comment(line)
        if line.startswith(b"\\"):
            return self._command(line)
        if _SETTING_BEGINS.match(line):
            found = _SETTING.fullmatch(statement(self._lines, line))
            return self._setting(found) if found else ()
        if _AUTHORIZATION_BEGINS.match(line):
            statement(self._lines, line)
            self.owners_by_session = True
            return ()
        if COPY_BEGINS.match(line):
            whole = statement(self._lines, line)
            if _COPY.fullmatch(whole):
                return Copy(entry, whole, Rows(self._lines))
            self._refuse("a COPY", whole)
        if _OTHER_COPY.match(line):
            self._refuse("a COPY", line)
        return None

    def _setting(self, found):
        name = found.group(1).decode("ascii")
        if name == "client_encoding":
            self._encode_as(found.group().split(b"'")[1])
        return Setting(name, found.group())

    def _encode_as(self, said):
        value = said.decode("ascii", "replace")
        codec = psycopg2.extensions.encodings.get(re.sub("[^A-Z0-9]", "", value.upper()))
        if not codec:
            raise SauvegardeError(
                "The SQL dump is written in an encoding that is not known.",
                "Its client_encoding is " + repr(value) + ".",
                "Make the dump again with --encoding=UTF8.",
            )
        self.encoding = codec

    def _comment(self, line):
        if line.startswith(CLUSTER):
            raise SauvegardeError(
                "The file is a dump of a whole cluster (pg_dumpall).",
                "A restore takes one database at a time.",
                "Dump the database alone with pg_dump, or give the roles alone (pg_dumpall --globals-only) as globals.",
            )
        if line.rstrip() == DATABASE:
            self._begun = True
        if line.rstrip() == COMPLETE:
            self.complete = True
            return Fact("complete", "")
        for name, start in (
            ("server", b"-- Dumped from database version "),
            ("tool", b"-- Dumped by pg_dump version "),
        ):
            if line.startswith(start):
                return Fact(name, self.decode(line[len(start) :]).strip())
        return ()

    def _command(self, line):
        name, arguments = psql_commands.parse(self.decode(line))
        if psql_commands.is_passed_over(name, arguments):
            return ()
        if name == "encoding" and arguments:
            said = arguments[0].encode("ascii", "replace")
            self._encode_as(said)
            return Setting("client_encoding", b"SET client_encoding = '%s';\n" % said)
        if name in ("c", "connect"):
            # pg_dump connects again to the same database once it has set the database's properties.
            database = psql_commands.database(arguments)
            if self._connected in ("", database) and not self.complete:
                self._connected = database
                return ()
            self._refuse_more(line)
        return self._refuse("a psql command", line)

    def _where(self, line):
        return f"Line {self._lines.number}: " + self.decode(line[:80]).strip()

    def _refuse(self, what, line):
        raise SauvegardeError(
            f"The SQL dump holds {what} that pg_dump does not write for one database.",
            self._where(line),
            "Dump one database alone with pg_dump, or look at who wrote this file, and take the line out.",
        )

    def _refuse_more(self, line):
        raise SeveralDumps(
            "The SQL dump goes on after its closing line, or connects to another database.",
            f"More than one dump seems to have been put into one file. {self._where(line)}",
            "Split it into one file for each database.",
        )

    def _refuse_end(self):
        if self._begun:
            raise cut_short("Its closing line, `PostgreSQL database dump complete`, is missing.")
        raise SauvegardeError(
            "The file is SQL, but not a whole dump that pg_dump wrote.",
            "Neither its first line, `-- PostgreSQL database dump`, nor its closing line is there.",
            "A dump whose comments were taken out, or a script that was written by hand, cannot be shown to be whole:"
            " run it with psql in an empty database, and back that up; or take another archive.",
        )
