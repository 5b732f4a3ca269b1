"""Read a site's table whose index functions call other functions by unqualified names.

PostgreSQL inlines SQL functions of index expressions when it plans any query on the table, even `SELECT count(*)`, and
the names in their bodies are looked up along the search_path of the session that plans. Under a pinned path that fails.
The result must not depend on the path either: regclass values, among others, print by it. So only the planning is done
with a path of the site; a cursor keeps the plan, and the rows are read under the pinned path.

The statement itself is parsed under the site's path, too: pg_catalog comes first in it, and callers qualify every
function and operator, so that none of the site's with a better signature is used instead.
"""

from __future__ import annotations

import re
from typing import Any

import psycopg2

from . import postgres_server, sql_names
from .postgres_server import Connection

# Errors that no other path prevents: waiting and cancelling (55P03, 57014), deadlocks and conflicts, lack of resources.
_PATHLESS = re.compile("55P03|57014|40...|53...")

_DEFAULT = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'"
_SCHEMAS = """
SELECT nspname::text FROM pg_catalog.pg_namespace
WHERE nspname <> 'information_schema' AND nspname !~ '^pg_' AND pg_catalog.has_schema_privilege(oid, 'USAGE')
ORDER BY nspname <> 'public', nspname COLLATE "C"
"""


def query(connection: Connection, statement: str, schema: str) -> list[tuple[Any, ...]]:
    """Return all rows of a SELECT without parameters on a table in `schema`.

    The connection is in a transaction, and its search_path is the one to read under. The statement's locks are
    released. Raises the server's first error if no path helps.
    """
    try:
        with postgres_server.rolled_back(connection):
            return postgres_server.query(connection, statement)
    except psycopg2.Error as error:
        if _is_pathless(connection, error) or _can_be_planned(connection, statement):
            raise
        first = error
    for path in _paths(connection, schema):
        try:
            return _query_planned_with(connection, path, statement)
        except psycopg2.Error as error:
            if _is_pathless(connection, error):
                raise
    raise first


def _is_pathless(connection: Connection, error: psycopg2.Error) -> bool:
    return bool(connection.closed or _PATHLESS.match(error.pgcode or ""))


def _can_be_planned(connection: Connection, statement: str) -> bool:
    try:
        with postgres_server.rolled_back(connection):
            postgres_server.query(connection, "EXPLAIN " + statement)
    except psycopg2.Error as error:
        if _is_pathless(connection, error):
            raise
        return False
    return True


def _query_planned_with(connection: Connection, path: str, statement: str) -> list[tuple[Any, ...]]:
    with postgres_server.rolled_back(connection):
        pinned = postgres_server.value(connection, "SELECT pg_catalog.current_setting('search_path')")
        _set(connection, path)
        postgres_server.execute(connection, "DECLARE sauvegarde_read NO SCROLL CURSOR FOR " + statement)
        _set(connection, pinned)
        return postgres_server.query(connection, "FETCH ALL FROM sauvegarde_read")


def _set(connection: Connection, path: str) -> None:
    postgres_server.query(connection, "SELECT pg_catalog.set_config('search_path', %s, true)", (path,))


def _paths(connection: Connection, schema: str) -> list[str]:
    """Return paths on which the site's functions may work: the default, the table's schema before it, all schemas."""
    default = postgres_server.value(connection, _DEFAULT) or ""
    own = sql_names.quote(schema)
    schemas = [sql_names.quote(name) for (name,) in postgres_server.query(connection, _SCHEMAS)]
    paths = ([default], [own, default], [own, default, *schemas])
    return [", ".join(filter(None, ["pg_catalog", *names])) for names in paths]
