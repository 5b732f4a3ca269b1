"""Fill materialized views at the end of a load, several at a time, in whatever order works.

What a view reads through a function, another materialized view for instance, no dump knows: a view that fails is tried
again for as long as others succeed. All this is done twice if need be. First as on the site: the session has a
search_path, functions have none. From PostgreSQL 17 on, REFRESH takes the session's away; what fails then is tried with
a path for each function that views call, in C too, which stops the planner from looking into them.
"""

import queue
from concurrent.futures import ThreadPoolExecutor

import psycopg2
from psycopg2 import sql

from .. import postgres
from .contents import flat


def pending(connection, wanted):
    """(schema, name) of the empty materialized views that are among `wanted`, in that order. In the dump's comments,
    which `wanted` is from, line ends are spaces."""
    there = {}
    for schema, name in postgres.query(
        connection,
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND NOT c.relispopulated",
    ):
        there[flat(schema), flat(name)] = (schema, name)
    return [there[each] for each in wanted if each in there]


def fill(connect, connection, wanted, paths, jobs):
    """Fill those of `wanted` (schema, name) that are empty. paths: the load's FunctionPaths, given to all functions.

    Returns [((schema, name), psycopg2.Error)] of those that stay empty.
    """
    views = pending(connection, wanted)
    if not views:
        return []
    paths.release()
    failed = _rounds(connect, views, jobs, f"SET search_path TO {paths.path}")
    paths.give()
    if failed:
        paths.give_to_called()
        failed = _rounds(connect, [view for view, _ in failed], jobs, f"SET search_path TO {paths.path}")
    return failed


def _rounds(connect, views, jobs, setting):
    connections = [connect() for _ in range(min(jobs, len(views)))]
    try:
        for each in connections:
            postgres.execute(each, setting)
        failed = _round(connections, views)
        while failed and len(failed) < len(views):
            views = [view for view, _ in failed]
            failed = _round(connections, views)
        return failed
    finally:
        for each in connections:
            each.close()


def _round(connections, views):
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
                postgres.execute(connection, sql.SQL("REFRESH MATERIALIZED VIEW {}").format(postgres.qualified(*view)))
            except psycopg2.Error as error:
                if connection.closed:
                    raise
                failed[view] = error

    with ThreadPoolExecutor(len(connections)) as pool:
        for each in [pool.submit(work, connection) for connection in connections]:
            each.result()
    return [(view, failed[view]) for view in views if view in failed]
