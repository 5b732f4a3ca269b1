"""Merge the rows that a dump holds for tables of extensions: spatial_ref_sys, topology and others.

The extension has filled such a table already, so rows are merged. That is tried before the dump's definitions, which
may need them (a geography with an SRID of the site's own), again before its data, and for the last time after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg2
import psycopg2.extensions
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from ..postgres import postgres_server, server_errors, sql_names
from .dump.contents import Spooled
from .dump.entries import QUALIFIED, leading_name
from .dump.load_errors import ends_load, server_message

_NO_TABLE = "Neither the dump nor an extension that could be created here defines this table."
_STAGED = sql.SQL("pg_temp.sauvegarde_rows")
# Rows are compared as text, since some types have no equality. A row that exists n times is added only from the n+1st.
_BY_CONTENT = (
    "SELECT {0} FROM (SELECT {0}, ROW({0})::text AS sauvegarde_row,"
    " pg_catalog.row_number() OVER (PARTITION BY ROW({0})::text) AS sauvegarde_number FROM {1}) dumped"
    " LEFT JOIN (SELECT ROW({0})::text AS sauvegarde_there, pg_catalog.count(*) AS sauvegarde_count"
    " FROM {2} GROUP BY 1) there ON sauvegarde_there = sauvegarde_row"
    " WHERE sauvegarde_number > coalesce(sauvegarde_count, 0)"
)
# A list of identifiers, split at the commas outside quotes.
_LISTED = re.compile(r'(?:"(?:[^"]|"")*"|[^,"])+')


class ExtensionRows:
    """Rows (`Contents.merged`) that are merged into the database of `connection` as soon as that is possible."""

    def __init__(self, connection: Connection, rows: Iterable[Spooled]) -> None:
        self._connection = connection
        self._waiting = list(rows)

    def merge(self) -> list[tuple[tuple[str, str], str]]:
        """Merge what can be merged now. Return [((schema, table), why)] of what still waits."""
        failed: list[tuple[tuple[str, str], str]] = []
        waiting, self._waiting = self._waiting, []
        for spooled in waiting:
            try:
                postgres_server.execute(self._connection, "BEGIN")
                exists = merge(self._connection, spooled)
                postgres_server.execute(self._connection, "COMMIT")
                why = (
                    "" if exists else "Neither the dump nor an extension that could be created here defines this table."
                )
            except psycopg2.Error as error:
                if ends_load(error):
                    what = f"The rows of {spooled.schema}.{spooled.table} cannot be loaded."
                    raise server_errors.database_error(error, what) from error
                postgres_server.execute(self._connection, "ROLLBACK")
                why = server_message(str(error))
            if why:
                self._waiting.append(spooled)
                failed.append(((spooled.schema, spooled.table), why))
        return failed


@dataclass(frozen=True)
class _Column:
    name: str
    in_key: bool
    generated: bool  # GENERATED ALWAYS AS IDENTITY


def merge(connection: Connection, spooled: Spooled) -> bool:
    """Add rows to a table that its extension has filled; if both have a key, the dump's row replaces the other.

    Returns whether the table exists.
    """
    table_columns = _columns(connection, spooled)
    if not table_columns:
        return False
    table = sql_names.identifier(spooled.schema, spooled.table)
    names = _listed_columns(spooled.statement) or [column.name for column in table_columns]
    columns = _join(names)
    postgres_server.execute(
        connection,
        sql.SQL("CREATE TEMPORARY TABLE sauvegarde_rows AS SELECT {} FROM {} LIMIT 0").format(columns, table),
    )
    spooled.rows.seek(0)
    with connection.cursor() as cursor:
        cursor.copy_expert(
            sql.SQL("COPY {} ({}) FROM STDIN (ENCODING {})").format(
                _STAGED, columns, sql.Literal(_server_encoding(spooled.encoding))
            ),
            spooled.rows,
        )
    insert = sql.SQL("INSERT INTO {} ({}) ").format(table, columns)
    if connection.server_version >= 100000:
        insert += sql.SQL("OVERRIDING SYSTEM VALUE ")
    keys = [column.name for column in table_columns if column.in_key]
    if keys and set(keys) <= set(names):
        insert += _by_key(table_columns, keys, names)
    else:
        insert += sql.SQL(_BY_CONTENT).format(columns, _STAGED, table)
    postgres_server.execute(connection, insert)
    postgres_server.execute(connection, "DROP TABLE pg_temp.sauvegarde_rows")
    return True


def _columns(connection: Connection, spooled: Spooled) -> list[_Column]:
    rows = postgres_server.query(
        connection,
        "SELECT a.attname, coalesce(a.attnum = ANY (i.indkey), false),"
        " coalesce(pg_catalog.to_jsonb(a) ->> 'attidentity' = 'a', false) FROM pg_catalog.pg_attribute a"
        " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary"
        " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped",
        (spooled.schema, spooled.table),
    )
    return [_Column(name, in_key, generated) for name, in_key, generated in rows]


def _listed_columns(statement: str) -> list[str]:
    """Return the names of the columns in a COPY statement, [] if it lists none."""
    names = statement[len("COPY ") :]
    table = QUALIFIED.match(names)
    clause = names[table.end() if table else 0 :].strip()
    listed = clause[: clause.rindex(" FROM stdin")].strip("()") if " FROM stdin" in clause else ""
    return [leading_name(part.strip())[1] for part in _LISTED.findall(listed)]


def _by_key(table_columns: Sequence[_Column], keys: Sequence[str], names: Sequence[str]) -> sql.Composed:
    """Return the part of an INSERT that takes the staged rows, and replaces rows with the same key."""
    # The server updates no column that is GENERATED ALWAYS AS IDENTITY.
    others = [
        column.name for column in table_columns if column.name in names and not column.in_key and not column.generated
    ]
    insert = sql.SQL("SELECT {} FROM {} ON CONFLICT ({}) DO ").format(_join(names), _STAGED, _join(keys))
    if not others:
        return insert + sql.SQL("NOTHING")
    replaced = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others]
    return insert + sql.SQL("UPDATE SET ") + sql.SQL(", ").join(replaced)


def _join(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join([sql.Identifier(name) for name in names])


def _server_encoding(codec: str) -> str:
    """Return the server's name of an encoding, from Python's."""
    names = [name for name, other in psycopg2.extensions.encodings.items() if other.lower() == codec.lower()]
    return "UTF8" if not names or "UTF8" in names else names[0]
