"""Fill materialized views at the end of a load, several at a time, in whatever order works.

What a view reads through a function, another materialized view for instance, no dump knows: a view that fails is tried
again for as long as others succeed. First as on the site: the session has the database's search_path, functions have
none. What fails then is tried with a path for each function, and for the session one with the view's own schema. From
PostgreSQL 17 on, REFRESH takes the session's away: next, the functions in C that views call get a path, too. Last, all
of these find every schema of the dump.
"""

import queue
from concurrent.futures import ThreadPoolExecutor

import psycopg2
from psycopg2 import sql

from ..postgres import postgres_server, sql_names
from .dump.entries import one_line


def pending(connection, wanted):
    """(schema, name) of the empty materialized views that are among `wanted`, in that order. In the dump's comments,
    which `wanted` is from, line ends are spaces."""
    there = {}
    for schema, name in postgres_server.query(
        connection,
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND NOT c.relispopulated",
    ):
        there[one_line(schema), one_line(name)] = (schema, name)
    return [there[each] for each in wanted if each in there]


def fill(connect, connection, wanted, paths, jobs):
    """Fill those of `wanted` (schema, name) that are empty. paths: the load's FunctionPaths, given to all functions.

    Returns [((schema, name), psycopg2.Error)] of those that stay empty.
    """
    views = pending(connection, wanted)
    if not views:
        return []

    def rounds(failed, path):
        return _rounds(connect, [view for view, _ in failed], jobs, path) if failed else []

    paths.release()
    failed = _rounds(connect, views, jobs, lambda _: paths.own())
    paths.give()
    failed = rounds(failed, paths.around)
    if failed:
        paths.give_to_called()
        failed = rounds(failed, paths.around)
    if failed and paths.can_widen:
        paths.widen()
        paths.give_to_called()
        failed = rounds(failed, paths.around)
    return failed


def _rounds(connect, views, jobs, path):
    """Fill the views for as long as some succeed. path: of a schema, the search_path in which its views are filled."""
    connections = [connect() for _ in range(min(jobs, len(views)))]
    try:
        failed = _round(connections, views, path)
        while failed and len(failed) < len(views):
            views = [view for view, _ in failed]
            failed = _round(connections, views, path)
        return failed
    finally:
        for each in connections:
            each.close()


def _round(connections, views, path):
    waiting, failed = queue.Queue(), {}
    for view in views:
        waiting.put(view)

    def work(connection):
        while True:
            try:
                view = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                # Under the policies that its owner is subject to, as a REFRESH on the site; the load refuses any.
                postgres_server.execute(connection, "SET row_security TO on; SET search_path TO " + path(view[0]))
                postgres_server.execute(
                    connection, sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql_names.identifier(*view))
                )
            except psycopg2.Error as error:
                if connection.closed:
                    raise
                failed[view] = error

    with ThreadPoolExecutor(len(connections)) as pool:
        for each in [pool.submit(work, connection) for connection in connections]:
            each.result()
    return [(view, failed[view]) for view in views if view in failed]
