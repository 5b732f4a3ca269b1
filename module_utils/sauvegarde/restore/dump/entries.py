"""Parse the entries of a dump's table of contents, and the names that objects have in them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .sql_text import IDENTIFIER, unquoted

TABLE_KINDS = ("TABLE", "FOREIGN TABLE")
# Kinds of entries that hold rows or large objects.
ROW_KINDS = ("TABLE DATA", "BLOBS", "BLOB DATA", "LARGE OBJECTS", "STATISTICS DATA")
# The comment before each entry in plain SQL.
HEADER = re.compile(
    rb"-- (?:Data for |Statistics for )?Name: (.*); Type: (.*); Schema: (.*); Owner: (.*?)(?:; Tablespace: .*)?\r?\n"
)
QUALIFIED = re.compile(rf"({IDENTIFIER})(?:\.({IDENTIFIER}))?")
_LINE_ENDS = {10: " ", 13: " "}


@dataclass(frozen=True)
class Entry:
    """One entry, as its header in the dump states it. `schema` and `owner` are '' if it has none.

    Line ends inside names are spaces here, as pg_dump writes them.
    """

    kind: str
    schema: str
    name: str
    owner: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """(schema, name)."""
        return self.schema, self.name

    def of_kind(self, kind: str) -> Entry:
        """Return the entry of another kind for the same object."""
        return replace(self, kind=kind)

    def listed(self, kind: str = "") -> str:
        """Return how pg_restore's list names the entry, or the one of another `kind` for the same object."""
        return f"{kind or self.kind} {self.schema or '-'} {self.name} {self.owner}"

    def data_entries(self) -> list[Entry]:
        """Return the entries for the rows or values of the object: a dump of definitions alone has none of them."""
        return [
            self.of_kind(kind)
            for kind, kinds in (
                ("TABLE DATA", TABLE_KINDS),
                ("SEQUENCE SET", ("SEQUENCE",)),
                ("MATERIALIZED VIEW DATA", ("MATERIALIZED VIEW",)),
            )
            if self.kind in kinds
        ]

    def possible_names(self) -> list[str]:
        """Return the names that the object may have without its arguments.

        The name of a function may contain a parenthesis, so the arguments can begin at each one.
        """
        if self.kind not in ("FUNCTION", "PROCEDURE", "AGGREGATE"):
            return [self.name]
        return [self.name[: match.start()] for match in re.finditer(r"\(", self.name)]


def entry_of_header(header: re.Match[bytes], encoding: str) -> Entry:
    """Return the Entry that a match of `HEADER` describes."""
    kind, schema, name, owner = (header.group(part).decode(encoding, "surrogateescape") for part in (2, 3, 1, 4))
    return Entry(kind, "" if schema == "-" else schema, name, "" if owner == "-" else owner)


def one_line(name: str) -> str:
    """Return the name as headers and lists of dumps show it: with spaces in place of line ends."""
    return name.translate(_LINE_ENDS)


def leading_name(text: str) -> tuple[str, str]:
    """Return (schema, name) of the SQL name at the head of `text`; the schema is '' if it has none."""
    match = QUALIFIED.match(text)
    if not match:
        return "", text
    if match.group(2):
        return unquoted(match.group(1)), unquoted(match.group(2))
    return "", unquoted(match.group(1))


def leading_key(text: str, entry: Entry | None) -> tuple[str, str]:
    """Return (schema, name) of the SQL name at the head of an entry's `text`, as entries have them.

    Clients from before March 2018 write no schema: it is the entry's, which their SET search_path names.
    """
    schema, name = leading_name(text)
    return one_line(schema) or (entry.schema if entry is not None else ""), one_line(name)
