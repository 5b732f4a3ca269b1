"""Bring the rows that a dump holds for tables of extensions: spatial_ref_sys, topology, and whatever else they keep.

The extension has filled such a table already, so rows are merged. That is tried before the dump's definitions, which
may ask for them (a geography with an SRID of the site's own), again before its data, and for the last time after it.
"""

import re

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from ..postgres import postgres_server, server_errors, sql_names
from .dump.entries import QUALIFIED, leading_name
from .dump.load_errors import ends_load, server_message


class ExtensionRows:
    """The rows of `contents.merged` on their way into the database of `connection`."""

    def __init__(self, connection, contents):
        self._connection = connection
        self._waiting = list(contents.merged)

    def merge(self):
        """Merge what can be merged now. Returns [((schema, table), why)] of what still waits."""
        waiting, self._waiting, failed = self._waiting, [], []
        for spooled in waiting:
            try:
                postgres_server.execute(self._connection, "BEGIN")
                there = merge(self._connection, spooled)
                postgres_server.execute(self._connection, "COMMIT")
                why = "" if there else "Neither the dump nor an extension that could be made here defines this table."
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


def merge(connection, spooled):
    """Add rows to a table that its extension has filled; where both have a key, the dump's row holds.

    Returns whether the table is there.
    """
    table = sql_names.identifier(spooled.schema, spooled.table)
    found = postgres_server.query(
        connection,
        "SELECT a.attname, coalesce(a.attnum = ANY (i.indkey), false),"
        " coalesce(pg_catalog.to_jsonb(a) ->> 'attidentity' = 'a', false) FROM pg_catalog.pg_attribute a"
        " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary"
        " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped",
        (spooled.schema, spooled.table),
    )
    if not found:
        return False
    clause = spooled.statement[len("COPY ") + QUALIFIED.match(spooled.statement[len("COPY ") :]).end() :].strip()
    listed = clause[: clause.rindex(" FROM stdin")]
    names = [name for name, _, _ in found]
    if listed:
        names = [leading_name(each.strip())[1] for each in _split(listed.strip("()"))]
    keys = [name for name, key, _ in found if key]
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in names)
    aside = sql.SQL("pg_temp.sauvegarde_rows")
    postgres_server.execute(
        connection,
        sql.SQL("CREATE TEMPORARY TABLE sauvegarde_rows AS SELECT {} FROM {} LIMIT 0").format(columns, table),
    )
    spooled.rows.seek(0)
    with connection.cursor() as cursor:
        cursor.copy_expert(
            sql.SQL("COPY {} ({}) FROM STDIN (ENCODING {})").format(
                aside, columns, sql.Literal(_encoding(spooled.encoding))
            ),
            spooled.rows,
        )
    insert = sql.SQL("INSERT INTO {} ({}) ").format(table, columns)
    if connection.server_version >= 100000:
        insert += sql.SQL("OVERRIDING SYSTEM VALUE ")
    if keys and set(keys) <= set(names):
        insert += sql.SQL("SELECT {} FROM {}").format(columns, aside)
        # The server updates no column that is GENERATED ALWAYS AS IDENTITY.
        others = [name for name, key, generated in found if name in names and not key and not generated]
        taken = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others)
        insert += sql.SQL(" ON CONFLICT ({}) DO ").format(sql.SQL(", ").join(sql.Identifier(name) for name in keys))
        insert += sql.SQL("UPDATE SET ") + taken if others else sql.SQL("NOTHING")
    else:
        # As text, since some types have no equality. Rows that are there twice come twice.
        insert += sql.SQL(
            "SELECT {0} FROM (SELECT {0}, ROW({0})::text AS sauvegarde_row,"
            " pg_catalog.row_number() OVER (PARTITION BY ROW({0})::text) AS sauvegarde_number FROM {1}) dumped"
            " LEFT JOIN (SELECT ROW({0})::text AS sauvegarde_there, pg_catalog.count(*) AS sauvegarde_count"
            " FROM {2} GROUP BY 1) there ON sauvegarde_there = sauvegarde_row"
            " WHERE sauvegarde_number > coalesce(sauvegarde_count, 0)"
        ).format(columns, aside, table)
    postgres_server.execute(connection, insert)
    postgres_server.execute(connection, "DROP TABLE pg_temp.sauvegarde_rows")
    return True


def _encoding(codec):
    """The server's name of an encoding, from Python's."""
    names = [name for name, each in psycopg2.extensions.encodings.items() if each.lower() == codec.lower()]
    return "UTF8" if not names or "UTF8" in names else names[0]


def _split(listed):
    """Split a list of identifiers at the commas that are not inside quotes."""
    return re.findall(r'(?:"(?:[^"]|"")*"|[^,"])+', listed)
