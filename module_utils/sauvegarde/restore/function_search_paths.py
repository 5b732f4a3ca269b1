"""Give every function a search_path while a dump is loaded, so that it finds what it calls, and take it away again.

pg_dump and pg_restore work under an empty search_path. A function without a path of its own that calls PostGIS, or
another function of the site, by its bare name fails there: in an index, a CHECK, a generated column, a materialized
view, and wherever the planner puts the body of an SQL function in the place of its call. A path of its own is the only
remedy that also works in pg_restore's parallel sessions, and from PostgreSQL 17 on, which takes the session's
search_path away while it builds an index or fills a materialized view.

Functions of extensions get their path before the dump's definitions. The dump's own functions get it the moment they
are created, by an event trigger that exists while the load takes.

The database's own search_path comes first in every path. The function's own schema comes next: if each tenant of a site
has a schema, each with functions of the same names, a function calls those of its own. Extensions and public follow.
All other schemas of the dump come last, and only after something fails without them (`widen`): they may contain another
tenant's function of that name, and each call of a function costs time for each schema in its path.

A path keeps the planner from inlining an SQL function. An index on a STABLE function is allowed only where the planner
inlines it, so `withheld` takes such paths away for what fails for that reason.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from ..postgres import database_properties, postgres_server, sql_names

# Functions in C have no body to look up; those of initdb (OIDs below 16384) call nothing outside pg_catalog.
_WITHOUT_PATH = (
    "SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang"
    " WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')"
    " AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest(p.proconfig) s WHERE s LIKE 'search\\_path=%')"
    " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid = p.oid)"
)
_CREATED = (
    " AND p.oid IN (SELECT c.objid FROM pg_catalog.pg_event_trigger_ddl_commands() c"
    " WHERE c.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass)"
)
# What views call, also in C and in the server itself: ts_stat() and crosstab() run a query that they get as text.
_CALLED_BY_VIEWS = (
    "SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.oid IN (SELECT f[1]::pg_catalog.oid"
    " FROM pg_catalog.pg_rewrite r, pg_catalog.regexp_matches(r.ev_action::text, ':funcid (\\d+)', 'g') f"
    " WHERE r.oid >= 16384)"
    " AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest(p.proconfig) s WHERE s LIKE 'search\\_path=%')"
)
_BODY = """
DECLARE
  each pg_catalog.oid;
  own pg_catalog.name;
BEGIN
  PERFORM pg_catalog.set_config('search_path', '', true);
  FOR each IN {functions} LOOP
    -- If pg_catalog is in a path, it no longer comes before all other schemas.
    SELECT CASE n.nspname WHEN 'pg_catalog' THEN 'pg_temp' ELSE n.nspname END INTO own
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = each;
    EXECUTE pg_catalog.format('ALTER {routine} %1$s {change}', each::pg_catalog.regprocedure, own);
  END LOOP;
END
"""


class FunctionPaths:
    """The search_path of a database's functions while it is filled.

    search_path: the database's own as the server stores it, '' for the default. shared: names of schemas that every
    function finds, those of extensions. others: names of the schemas that `widen` adds.
    """

    def __init__(
        self, connection: Connection, search_path: str, shared: Iterable[str], others: Iterable[str] = ()
    ) -> None:
        self._connection = connection
        # At the end of every path that is given, to tell it from a path of the function's own.
        self._mark = "sauvegarde_load_" + secrets.token_hex(6)
        self._first = [name for name in database_properties.names_in(search_path) if name] or ["$user", "public"]
        self._shared = [name for name in dict.fromkeys(shared) if name not in self._first]
        self._others = [name for name in dict.fromkeys(others) if name not in (*self._first, *self._shared)]
        self._wide = False
        self._routine = "ROUTINE" if connection.server_version >= 110000 else "FUNCTION"

    def _body(self, functions: str, change: str) -> str:
        return _BODY.format(functions=functions, routine=self._routine, change=change)

    def own(self) -> str:
        """Return the database's own search_path, as SQL."""
        return ", ".join(map(sql_names.quote, self._first))

    def around(self, schema: str) -> str:
        """Return the search_path, as SQL, for an object in the schema: what a function in it gets, without our mark."""
        return ", ".join(map(sql_names.quote, [*self._first, schema, *self._further()]))

    def _further(self) -> list[str]:
        return self._shared + self._others if self._wide else self._shared

    def _set(self) -> str:
        further = "".join(sql_names.quote(each) + ", " for each in self._further())
        # format() puts the function's own schema in the place of %2$I.
        path = "{}, %2$I, {}{}".format(self.own().replace("%", "%%"), further.replace("%", "%%"), self._mark)
        return "SET search_path TO {}".format(path.replace("'", "''"))

    def _do(self, functions: str, change: str) -> None:
        postgres_server.execute(self._connection, sql.SQL("DO {}").format(sql.Literal(self._body(functions, change))))

    def give(self) -> None:
        """Give a path to all functions, and to every function that is created until `release`."""
        self._do(_WITHOUT_PATH, self._set())
        trigger, schema = sql.Identifier(self._mark), sql.Identifier(self._mark)
        tags = ("CREATE FUNCTION", "CREATE PROCEDURE") if self._routine == "ROUTINE" else ("CREATE FUNCTION",)
        # SECURITY DEFINER: if a role of the site loads the dump, it need not own what it creates.
        for statement in (
            sql.SQL("CREATE SCHEMA {0}").format(schema),
            sql.SQL(
                "CREATE FUNCTION {0}.give() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER"
                " SET search_path TO '' AS {1}"
            ).format(schema, sql.Literal(self._body(_WITHOUT_PATH + _CREATED, self._set()))),
            sql.SQL(
                "CREATE EVENT TRIGGER {0} ON ddl_command_end WHEN TAG IN ({1}) EXECUTE PROCEDURE {0}.give()"
            ).format(trigger, sql.SQL(", ").join(map(sql.Literal, tags))),
            sql.SQL("ALTER EVENT TRIGGER {0} ENABLE ALWAYS").format(trigger),
        ):
            postgres_server.execute(self._connection, statement)

    def give_to_called(self) -> None:
        """Give a path also to the functions in C that views call."""
        self._do(_CALLED_BY_VIEWS, self._set())

    @contextlib.contextmanager
    def withheld(self) -> Iterator[None]:
        """Take the paths away from functions that are not IMMUTABLE during the block: the planner inlines them then."""
        self._do(self._with_our_path() + " AND p.provolatile <> 'i'", "RESET search_path")
        try:
            yield
        finally:
            self._do(_WITHOUT_PATH, self._set())

    @property
    def can_widen(self) -> bool:
        return bool(self._others) and not self._wide

    def widen(self) -> None:
        """Let functions and the path `around` a schema find all schemas of the dump from now on."""
        self._wide = True
        self.release()
        self.give()

    @contextlib.contextmanager
    def widened(self) -> Iterator[None]:
        """Call `widen` before a block that repeats statements; the end of the block does not undo it."""
        self.widen()
        yield

    def _with_our_path(self) -> str:
        """Return the query of the functions that have a path of ours."""
        return (
            "SELECT p.oid FROM pg_catalog.pg_proc p WHERE EXISTS (SELECT 1 FROM pg_catalog.unnest(p.proconfig) s"
            f" WHERE s LIKE 'search\\_path=%{self._mark}')"
        )

    def release(self) -> None:
        """Put every function back as it was, after dropping the event trigger."""
        postgres_server.execute(
            self._connection, sql.SQL("DROP EVENT TRIGGER IF EXISTS {}").format(sql.Identifier(self._mark))
        )
        postgres_server.execute(
            self._connection, sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(self._mark))
        )
        self._do(self._with_our_path(), "RESET search_path")
