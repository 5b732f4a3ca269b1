"""Read and advance the sequences of extensions whose values no dump holds (PostGIS topology's)."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import psycopg2

from . import postgres_server, sql_names
from .postgres_server import Connection


@dataclass(frozen=True)
class ExtensionSequence:
    """A sequence behind a column of an extension's table; all names are quoted. value: its last value, None where the
    role may not read it."""

    sequence: str
    table: str
    column: str
    value: int | None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExtensionSequence:
        """Return the sequence of a manifest's entry."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def as_dict(self) -> dict[str, Any]:
        """Return the entry in the manifest's source.extension_sequences."""
        return asdict(self)

    def advance_statement(self) -> str:
        """Return the statement that sets the sequence past the greatest value in its column, and past its own last
        value; it does nothing for an empty table."""
        greatest = f"pg_catalog.max({self.column})"
        if self.value is not None:
            greatest = f"greatest({greatest}, {self.value:d})"
        name = sql_names.literal(self.sequence)
        return (
            f"SELECT pg_catalog.setval({name}, {greatest}) FROM {self.table}"
            f" HAVING pg_catalog.max({self.column}) IS NOT NULL"
        )


def read(connection: Connection, with_dumped: bool = False) -> list[ExtensionSequence]:
    """Return the sequences behind columns of extensions' tables whose rows a dump holds and whose values it does not.

    with_dumped: also those whose values a dump holds.
    """
    sequences = []
    for schema, name, table_schema, table, column, is_dumped in postgres_server.query(
        connection,
        "SELECT sn.nspname::text, s.relname::text, n.nspname::text, c.relname::text, a.attname::text,"
        " s.oid = ANY (e.extconfig)"
        " FROM pg_catalog.pg_class s JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace"
        " JOIN pg_catalog.pg_depend o ON o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objid = s.oid"
        "  AND o.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.deptype IN ('a', 'i')"
        " JOIN pg_catalog.pg_class c ON c.oid = o.refobjid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = o.refobjsubid"
        " JOIN pg_catalog.pg_extension e ON c.oid = ANY (e.extconfig)"
        " WHERE s.relkind = 'S' ORDER BY 1, 2",
    ):
        if is_dumped and not with_dumped:
            continue
        sequence = sql_names.quote(schema, name)
        try:
            value = postgres_server.value(connection, f"SELECT last_value FROM {sequence}")
        except psycopg2.Error:
            value = None
        quoted_table = sql_names.quote(table_schema, table)
        sequences.append(ExtensionSequence(sequence, quoted_table, sql_names.quote(column), value))
    return sequences


def advance_all(
    connection: Connection, recorded: Iterable[Mapping[str, Any]] = (), proven: Container[str] = ()
) -> None:
    """Set the sequences in a restored database so that their next values are new: past the greatest value in their
    columns, and past their values in the source.

    recorded: the manifest's entries. proven: names of sequences that the dump sets and whose values are compared with
    the source's; they are not changed.
    """
    source_values = {entry["sequence"]: entry["value"] or 0 for entry in recorded}
    for sequence in read(connection, with_dumped=True):
        if sequence.value is not None and sequence.sequence not in proven:
            value = max(sequence.value, source_values.get(sequence.sequence, 0))
            postgres_server.query(connection, replace(sequence, value=value).advance_statement())
