"""Choose what a dump holds, as pg_dump's -n, -N, -t, -T and --exclude-table-data do, and find the tables beforehand.

pg_dump itself applies the patterns. The job needs to know which tables these mean before pg_dump ends: it locks and
sums no others. What the finished dump holds (backup/dump_entries.py) is compared with that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import psycopg2

from ..errors import SauvegardeError
from . import character_sets, name_patterns, postgres_server
from .fingerprint import Table
from .name_patterns import NamePattern
from .postgres_server import Connection

_OPTIONS = {
    "schemas": "--schema",
    "exclude_schemas": "--exclude-schema",
    "tables": "--table",
    "exclude_tables": "--exclude-table",
    "exclude_table_data": "--exclude-table-data",
}
KEYS = tuple(_OPTIONS)
_OF_SCHEMAS = ("schemas", "exclude_schemas")
_REQUIRED = ("schemas", "tables")  # pg_dump --strict-names: each of these patterns has to match

_MATCHES = 'OPERATOR(pg_catalog.~) %s::pg_catalog.text COLLATE pg_catalog."default"'
# pg_dump finds an unqualified name by the search_path of its session.
_SESSION_PATH = (
    "SELECT pg_catalog.set_config('search_path', s.reset_val, true) FROM pg_catalog.pg_settings s"
    " WHERE s.name = 'search_path'"
)
_SCHEMAS = "SELECT n.oid::int8 FROM pg_catalog.pg_namespace n WHERE true"
_TABLES = (
    "SELECT c.oid::int8, n.nspname::text ~ '^pg_' OR n.nspname = 'information_schema' FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p')"
)
_RELATIONS = """
SELECT c.oid::int8, c.relnamespace::int8, n.nspname::text, c.relname::text,
       coalesce((c.oid = ANY(e.extconfig))::int, -1), coalesce(i.inhparent::int8, 0),
       (c.relpages + coalesce(t.relpages, 0))::int8
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
     AND d.objsubid = 0 AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
     AND coalesce(pg_catalog.to_jsonb(c) ->> 'relispartition', 'false') = 'true'
LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
WHERE c.relkind IN ('r', 'p') AND c.relpersistence IN ('p', 'u')
"""


@dataclass(frozen=True)
class Selection:
    """Patterns of a job, as pg_dump takes them. All empty: the whole database."""

    schemas: tuple[str, ...] = ()
    exclude_schemas: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    exclude_tables: tuple[str, ...] = ()
    exclude_table_data: tuple[str, ...] = ()

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Selection:
        """Return the selection of a job's settings. Raises SauvegardeError that names the key and the pattern."""
        result = {}
        for key in KEYS:
            patterns = values.get(key) or []
            if not isinstance(patterns, (list, tuple)) or not all(isinstance(text, str) for text in patterns):
                raise SauvegardeError(f"The setting {key} is wrong: {patterns!r}.", fix="Write a list of patterns.")
            result[key] = tuple(patterns)
        selection = cls(**result)
        for key in KEYS:
            selection._patterns(key)
        return selection

    def _patterns(self, key: str) -> list[NamePattern]:
        parse = name_patterns.schema_pattern if key in _OF_SCHEMAS else name_patterns.table_pattern
        return [parse(text, key) for text in getattr(self, key)]

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        return any(getattr(self, field.name) for field in fields(self))

    @property
    def has_everything_else(self) -> bool:
        """Whether the dump holds what belongs to no schema, too: extensions, large objects, event triggers …"""
        return not (self.schemas or self.tables)

    def as_dict(self) -> dict[str, list[str]]:
        """Return the settings that are not empty."""
        return {key: list(getattr(self, key)) for key in KEYS if getattr(self, key)}

    def arguments(self, encoding: str) -> list[str]:
        """Return pg_dump's arguments. encoding: of the database; pg_dump compares the bytes of a pattern with names."""
        words = [f"{_OPTIONS[key]}={text}" for key in KEYS for text in getattr(self, key)]
        encoded = [os.fsdecode(character_sets.encode(word, encoding)) for word in words]
        return [*encoded, "--strict-names"] if words else []

    def warnings(self) -> list[str]:
        """Return sentences about patterns that pg_dump ignores."""
        ignored = [key for key in _OF_SCHEMAS if self.tables and getattr(self, key)]
        if not ignored:
            return []
        return [f"pg_dump ignores {' and '.join(ignored)}, since tables are named: the archive holds these alone."]

    def resolve(self, connection: Connection) -> SelectedTables:
        """Return the tables that the patterns mean, in the connection's transaction.

        Raises SauvegardeError that names a pattern of `schemas` or `tables` that matches nothing.
        """
        matches: dict[str, set[int]] = {}
        with postgres_server.rolled_back(connection):
            postgres_server.query(connection, _SESSION_PATH)
            unmatched = []
            for key in KEYS:
                matches[key] = set()
                for pattern in self._patterns(key):
                    oids = _matches(connection, key, pattern)
                    matches[key] |= oids
                    if not oids:
                        unmatched.append((key, pattern.text))
        for key, text in unmatched:
            if key in _REQUIRED:
                raise SauvegardeError(
                    f"The pattern {text!r} of {key} matches nothing in the database.",
                    "An archive without what it names would be published as if it had it.",
                    "Correct the pattern, or remove it. An unquoted name is in lower case, and a table of a schema that"
                    " is not in the search_path needs its schema (app.offers).",
                )
        rows = postgres_server.query(connection, _RELATIONS)
        relations = [_Relation(*row) for row in rows]
        return _selected(self, matches, relations, [f"{key}: {text}" for key, text in unmatched])


@dataclass(frozen=True)
class _Relation:
    """A table. extension: -1 for a table of the site, 1 for an extension's table whose rows pg_dump dumps, 0 for an
    extension's other tables. parent: OID of the partitioned table that it is a partition of, 0 for none."""

    oid: int
    namespace: int
    schema: str
    name: str
    extension: int
    parent: int
    pages: int


@dataclass(frozen=True)
class SelectedTables:
    """The tables that a dump will hold, by OID. without_rows: those among them that it holds without their rows.
    roots: (schema, name) of the partitioned table in the dump that a table is part of. unmatched: patterns that leave
    nothing out."""

    oids: frozenset[int]
    without_rows: frozenset[int]
    roots: Mapping[int, tuple[str, str]]
    pages: int
    unmatched: tuple[str, ...]

    def narrow(self, tables: Iterable[Table]) -> list[Table]:
        """Return those of the tables that the dump holds, each part of a partitioned table only if that one is held."""
        return [
            replace(table, root=self.roots.get(table.oid), is_empty=table.oid in self.without_rows)
            for table in tables
            if table.oid in self.oids
        ]

    def warnings(self) -> list[str]:
        """Return sentences about patterns that match nothing."""
        return [f"A pattern matches nothing, so it leaves nothing out: {text}." for text in self.unmatched]


def _matches(connection: Connection, key: str, pattern: NamePattern) -> set[int]:
    """Return the OIDs that a pattern matches. The session has pg_dump's search_path."""
    statement, parameters = _SCHEMAS if key in _OF_SCHEMAS else _TABLES, []
    name = "n.nspname" if key in _OF_SCHEMAS else "c.relname"
    for column, expression in (("n.nspname", pattern.schema), (name, pattern.name)):
        if expression is not None:
            statement += f" AND {column} {_MATCHES}"
            parameters.append(expression)
    if key not in _OF_SCHEMAS and not pattern.has_schema:
        statement += " AND pg_catalog.pg_table_is_visible(c.oid)"
    try:
        rows = postgres_server.query(connection, statement, parameters or None)
    except psycopg2.Error as error:
        if connection.closed:
            raise
        raise SauvegardeError(
            f"The pattern {pattern.text!r} of {key} is wrong.", str(error).strip(), "Write it as pg_dump takes it."
        ) from error
    if key == "tables" and any(is_system for _, is_system in rows):
        raise SauvegardeError(
            f"The pattern {pattern.text!r} of tables also matches the server's own catalogs.",
            "pg_dump would dump these as tables, which no server restores.",
            "Name the schema: public.*",
        )
    return {row[0] for row in rows}


def _selected(
    selection: Selection, matches: Mapping[str, set[int]], relations: Sequence[_Relation], unmatched: list[str]
) -> SelectedTables:
    """Decide on each table as pg_dump does (selectDumpableTable and processExtensionTables in pg_dump.c)."""
    schemas, exclude_schemas, tables, exclude_tables, without = (matches[key] for key in KEYS)

    def has_schema(relation: _Relation) -> bool:
        if selection.tables:
            return False
        if selection.schemas and relation.namespace not in schemas:
            return False
        is_system = relation.schema.startswith("pg_") or relation.schema == "information_schema"
        return relation.namespace not in exclude_schemas and not (is_system and not selection.schemas)

    def is_held(relation: _Relation) -> bool:
        if relation.oid in exclude_tables:
            return False
        if relation.extension >= 0:
            named = relation.oid in tables or (not selection.has_everything_else and has_schema(relation))
            everything = selection.has_everything_else or named
            return relation.extension == 1 and everything and relation.namespace not in exclude_schemas
        return relation.oid in tables if selection.tables else has_schema(relation)

    held = {relation.oid: relation for relation in relations if is_held(relation)}
    of_extensions = {oid for oid, relation in held.items() if relation.extension >= 0}
    oids = frozenset(set(held) - (of_extensions & without))
    roots = {}
    for oid, relation in held.items():
        top = relation
        while top.parent in held:
            top = held[top.parent]
        if top is not relation:
            roots[oid] = (top.schema, top.name)
    pages = sum(relation.pages for oid, relation in held.items() if oid not in without)
    return SelectedTables(oids, frozenset(without & oids), roots, pages, tuple(unmatched))
