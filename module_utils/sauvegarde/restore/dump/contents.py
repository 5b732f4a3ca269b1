"""List what a dump contains, and decide which of its entries a load excludes.

A load excludes an entry if it would create what the side database has already, or what no longer exists:

- entries of the database itself, which `targets` creates (`database_statements.is_about_database`);
- extensions and their comments, which are created before the dump is loaded (`is_about_extension`);
- schemas that were created for an extension;
- what every new database has (`Contents.predefined`);
- privileges and sequence values of objects that neither the dump nor an extension defines (`LoadSession`).
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import IO

from .database_statements import DatabaseStatements, is_about_database
from .entries import Entry
from .role_demands import Demand
from .sql_text import unquoted


@dataclass(frozen=True)
class PrivilegedObject:
    """An object on which an entry grants or revokes. kind: as GRANT names it (TABLE, SCHEMA, LARGE OBJECT …)."""

    entry: Entry
    kind: str
    schema: str
    name: str


@dataclass(frozen=True)
class Spooled:
    """Rows of one table that were set aside: its COPY statement and an open temporary file with the rows."""

    schema: str
    table: str
    statement: str
    encoding: str
    rows: IO[bytes]


@dataclass(frozen=True)
class Contents:
    """What one pass over a dump collected.

    Keys are (schema, name) as entries have them.

    entries             every Entry, in the dump's order
    server, tool        versions of the source's server and of pg_dump, '' if the dump does not say
    encoding            of the dump's text, by Python's name
    extensions          name → schema
    owners              schema → owner
    raster              the dump uses PostGIS's raster type, and has PostGIS without postgis_raster
    roles               every role that it names
    rows                key → number of rows that came as COPY
    inserted            keys of tables whose rows came as INSERTs
    filled              keys of tables that rows came for in any way
    table_names         key → the tables' own names, in which line ends are line ends
    with_oids           keys of tables that were created WITH OIDS
    oids                keys of tables whose rows came with their OIDs (pg_dump --oids)
    database            what it states about the database itself
    settings            name of each setting that the dump sets → its values, as SQL
    predefined          entries that create what every new database has: the schema public before 15, plpgsql
    merged              rows of tables that the dump does not define: they are merged into an extension's tables
    privileged_objects  every object that a GRANT or REVOKE is about
    schema_grants       (entry, SQL) of GRANTs on schemas, and of the owner of public: a plain dump has them at its
                        end, and they are needed before
    demands             what the entries demand of the role that loads them
    used_schemas        schemas of extensions, and public, that definitions mention
    unowned             no entry names an owner (pg_dump --no-owner)
    by_session          pg_dump --use-set-session-authorization wrote it (`Script.owners_by_session`)
    size                bytes of the dump as SQL
    texts               entry → SQL, of definitions
    comments            (entry, SQL) of the comments on extensions
    """

    entries: list[Entry]
    server: str
    tool: str
    encoding: str
    extensions: dict[str, str]
    owners: dict[str, str]
    raster: bool
    roles: set[str]
    rows: dict[tuple[str, str], int]
    inserted: set[tuple[str, str]]
    filled: set[tuple[str, str]]
    table_names: dict[tuple[str, str], set[tuple[str, str]]]
    with_oids: set[tuple[str, str]]
    oids: set[tuple[str, str]]
    database: DatabaseStatements
    settings: dict[str, set[str]]
    predefined: set[Entry]
    merged: list[Spooled]
    privileged_objects: list[PrivilegedObject]
    schema_grants: list[tuple[Entry, bytes]]
    demands: list[Demand]
    used_schemas: set[str]
    unowned: bool
    by_session: bool
    size: int
    texts: dict[Entry, str]
    comments: list[tuple[Entry, str]]

    def names(self, *kinds: str) -> list[tuple[str, str]]:
        """Return the key of every entry of these kinds, in the dump's order."""
        return [entry.key for entry in self.entries if entry.kind in kinds]

    def defined(self) -> set[tuple[str, str]]:
        """Return the key of everything that the dump creates in a schema, functions without their arguments."""
        return {
            (entry.schema, name)
            for entry in self.entries
            if entry.kind not in ("ACL", "COMMENT", "TABLE DATA", "SEQUENCE SET")
            for name in entry.possible_names()
        }

    def tablespaces(self) -> set[str]:
        """Return the names of the tablespaces that it uses, except the default one."""
        return {unquoted(value.strip("' ")) for value in self.settings.get("default_tablespace", ())} - {""}

    def excludes(self, entry: Entry, schemas: Container[str]) -> bool:
        """Return whether every load excludes the entry. schemas: names of those that exist before the load."""
        return (
            is_about_database(entry)
            or is_about_extension(entry)
            or (entry.kind == "SCHEMA" and entry.name in schemas)
            or entry in self.predefined
        )


def is_about_extension(entry: Entry) -> bool:
    """Return whether the entry creates an extension or comments on it."""
    if entry.kind == "EXTENSION":
        return True
    return not entry.schema and entry.kind == "COMMENT" and entry.name.startswith("EXTENSION ")
