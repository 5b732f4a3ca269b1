"""Fill materialized views at the end of a load, several at a time, in any order that works.

No dump knows what a view reads through a function, another materialized view for instance: a view that fails is tried
again for as long as others succeed. First as on the site: the session has the database's search_path, functions have
none. Views that fail then are tried with a path for each function, and for the session one with the view's own schema.
From PostgreSQL 17 on, REFRESH takes the session's away: next, the functions in C that views call get a path, too. Last,
all of these find every schema of the dump.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from ..postgres import postgres_server, sql_names
from .dump.entries import one_line
from .function_search_paths import FunctionPaths

_View = tuple[str, str]
_Failures = list[tuple[_View, psycopg2.Error]]


def unfilled(connection: Connection, keys: Iterable[tuple[str, str]]) -> list[_View]:
    """Return (schema, name) of the empty materialized views among those with these keys, in their order.

    keys: (schema, name) as the dump has them, with spaces in place of line ends.
    """
    views: dict[tuple[str, str], _View] = {}
    for schema, name in postgres_server.query(
        connection,
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND NOT c.relispopulated",
    ):
        views[one_line(schema), one_line(name)] = (schema, name)
    return [views[key] for key in keys if key in views]


def fill(
    connect: Callable[[], Connection],
    connection: Connection,
    keys: Iterable[tuple[str, str]],
    paths: FunctionPaths,
    jobs: int,
) -> _Failures:
    """Fill those of the views that are empty, `jobs` at a time. paths: of the load, given to all functions.

    Returns [((schema, name), error)] of those that stay empty.
    """
    views = unfilled(connection, keys)
    if not views:
        return []

    def retry(failures: _Failures) -> _Failures:
        return _rounds(connect, [view for view, _ in failures], jobs, paths.around) if failures else []

    paths.release()
    failures = _rounds(connect, views, jobs, lambda _: paths.own())
    paths.give()
    failures = retry(failures)
    if failures:
        paths.give_to_called()
        failures = retry(failures)
    if failures and paths.can_widen:
        paths.widen()
        paths.give_to_called()
        failures = retry(failures)
    return failures


def _rounds(
    connect: Callable[[], Connection], views: Sequence[_View], jobs: int, path: Callable[[str], str]
) -> _Failures:
    """Fill the views for as long as some succeed. path: returns the search_path for the views of a schema."""
    connections = [connect() for _ in range(min(jobs, len(views)))]
    try:
        failures = _round(connections, views, path)
        while failures and len(failures) < len(views):
            views = [view for view, _ in failures]
            failures = _round(connections, views, path)
        return failures
    finally:
        for connection in connections:
            connection.close()


def _round(connections: Sequence[Connection], views: Sequence[_View], path: Callable[[str], str]) -> _Failures:
    pending: queue.Queue[_View] = queue.Queue()
    errors: dict[_View, psycopg2.Error] = {}
    for view in views:
        pending.put(view)

    def work(connection: Connection) -> None:
        while True:
            try:
                view = pending.get_nowait()
            except queue.Empty:
                return
            try:
                # Under the policies that apply to its owner, like a REFRESH on the site; the load's own setting is off.
                postgres_server.execute(connection, "SET row_security TO on; SET search_path TO " + path(view[0]))
                postgres_server.execute(
                    connection, sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql_names.identifier(*view))
                )
            except psycopg2.Error as error:
                if connection.closed:
                    raise
                errors[view] = error

    with ThreadPoolExecutor(len(connections)) as pool:
        for task in [pool.submit(work, connection) for connection in connections]:
            task.result()
    return [(view, errors[view]) for view in views if view in errors]
