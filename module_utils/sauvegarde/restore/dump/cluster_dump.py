"""Read what pg_dumpall writes: its globals, the list of its databases, and the dump of one of them as a stream. Several
dumps of pg_dump in one file, one after the other, are read in the same way.

From version 11 on each database's part is what pg_dump --create writes. Before, CREATE DATABASE, the database's
settings and its grants stand with the globals: they are put into the part as the entries that newer versions write.
"""

import re

import psycopg2.extensions

from . import psql_commands
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


def encoding_of(data):
    """What Python calls the encoding that a script's head says; UTF-8 where it says none that is known."""
    found = _ENCODING.search(data)
    name = re.sub("[^A-Z0-9]", "", found.group(1).decode("ascii", "replace").upper()) if found else ""
    return psycopg2.extensions.encodings.get(name) or "utf-8"


def decoded(data):
    """The globals as text; None where they are neither in the encoding that they say nor in UTF-8."""
    for codec in (encoding_of(data), "utf-8"):
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    return None


def walk(stream):
    """(database, data) of each piece: '' for what is not inside a database's dump. Data are lines, statements of COPY,
    or pieces of rows. After the last piece, ('', None) where the file ends as it should.

    A dump that says the name of its database nowhere is called by its number in the file (#2), and a further dump of
    the same database by both (name #2).
    """
    lines = Lines(stream)
    state, named, inside, whole, count = None, "", False, False, 0
    label, labels = "", set()  # what the dump is called, and those before it
    begun = None  # the pieces of a dump whose database is not known yet
    announced = False  # whether the name was said before the dump
    encoding = "utf-8"
    while True:
        line = lines.line()
        if not line:
            break
        if state is None:
            encoding = encoding_of(line) if _ENCODING.match(line) else encoding
            mark = line.rstrip()
            if line.startswith(b"\\") and (not inside or begun is not None):
                name, arguments = psql_commands.parse(line.decode(encoding, "surrogateescape"))
                if name in ("c", "connect") and psql_commands.database(arguments):
                    named, announced = psql_commands.database(arguments), True
            elif _BEGINS.match(line) and not inside:
                named, announced = _BEGINS.match(line).group(1).decode(encoding, "surrogateescape"), True
            elif mark == DATABASE and not inside:
                inside, count, label, begun = True, count + 1, "", []
            elif mark == CLUSTER_COMPLETE and not inside:
                whole = True
            if begun is not None and (announced or mark == COMPLETE or COPY_BEGINS.match(line) or _is_object(line)):
                label = named if announced else f"#{count}"
                label = f"{label} #{count}" if label in labels else label
                labels.add(label)
                for data in begun:
                    yield label, data
                begun = None
            if inside and COPY_BEGINS.match(line):
                yield label, statement(lines, line)
                rows = Rows(lines)
                for data in iter(rows.read, b""):
                    yield label, data
                yield label, b"\\.\n"
                continue
        if state is not None or not line.startswith((b"\\", b"--")):
            state = quoting(state, line)
        if begun is not None:
            begun.append(line)
        else:
            yield (label if inside else ""), line
        if state is None and inside and line.rstrip() == COMPLETE:
            inside = announced = False
    if inside:
        raise cut_short(f"It ends inside the dump of {label or 'a database'}.")
    if whole:
        yield "", None


def _is_object(line):
    """Whether the line is the header of an entry that is inside the database."""
    found = HEADER.match(line)
    return bool(found) and (found.group(2) not in _ABOUT_DATABASE or found.group(3) != b"-")


def databases(stream):
    """(names of the databases, in the file's order; whether its closing line is there; whether there is SQL outside
    their dumps)."""
    found, whole, outside = [], False, False
    for name, data in walk(stream):
        if name and name not in found:
            found.append(name)
        whole = whole or data is None
        outside = outside or bool(not name and data and data.strip() and not data.startswith((b"--", b"\\")))
    return found, whole, outside


def globals_of(stream):
    """(the file's SQL before its first database, whether that is all there was)."""
    found, whole = [], False
    lines = Lines(stream)
    state = None
    while True:
        line = lines.line()
        if not line:
            break
        if state is None:
            if line.rstrip() == CLUSTER_COMPLETE:
                whole = True
            command = line.startswith(b"\\") and psql_commands.parse(line.decode("latin-1"))[0] in ("c", "connect")
            if command or _BEGINS.match(line) or line.rstrip() == DATABASE:
                return b"".join(found), True
        if state is not None or not line.startswith((b"\\", b"--")):
            state = quoting(state, line)
        found.append(line)
    return b"".join(found), whole


class Section:
    """File-like: the dump of one database among those of the stream, as pg_dump --create would have written it."""

    def __init__(self, stream, database):
        self._stream = stream
        self._database = database
        self._pieces = self._all()

    def read(self, _size=-1):
        return next((data for data in self._pieces if data), b"")

    def close(self):
        self._stream.close()

    def _all(self):
        before, told = [], False
        for name, data in walk(self._stream):
            if not name and not told and data is not None:
                before.append(data)
            if name != self._database:
                continue
            if not told:
                told = True
                yield b"--\n"
            yield data
            if before and _ENCODING.match(data):
                yield self._about(b"".join(before), encoding_of(data))
                before = []

    def _about(self, head, encoding):
        """What the globals say of the database itself, as entries of its own dump."""
        text = decoded(head)
        created, properties, grants, owner = "", [], [], ""
        for each in statements((text or "").encode("utf-8")):
            said = each.decode("utf-8")
            found = _ABOUT.fullmatch(said)
            if not found or unquoted(found.group(2) or found.group(3)) != self._database:
                continue
            if found.group(1) == "CREATE":
                created = said
                owner = "".join(unquoted(name) for name in _OWNER.findall(said)[:1])
            else:
                (properties if found.group(1) else grants).append(said)
        if not created and not properties and not grants:
            return b""
        quoted = '"' + self._database.replace('"', '""') + '"'
        properties.append(f"ALTER DATABASE {quoted} CONNECTION LIMIT = {_limit(created)};")
        owner = owner or "-"
        name = self._database
        found = _entry(name, "DATABASE", owner, created) if created else ""
        found += _entry(name, "DATABASE PROPERTIES", owner, "\n".join(properties))
        found += _entry("DATABASE " + name, "ACL", owner, "\n".join(grants)) if grants else ""
        return found.encode(encoding, "replace")


def _limit(created):
    found = re.search(r" CONNECTION LIMIT = (-?\d+)", created)
    return found.group(1) if found else "-1"


def _entry(name, kind, owner, text):
    return f"\n--\n-- Name: {name}; Type: {kind}; Schema: -; Owner: {owner}\n--\n\n{text}\n\n"
