"""Give every function a search_path while a dump is loaded, so that it finds what it calls, and take it away again.

pg_dump and pg_restore work under an empty search_path. A function without a path of its own that calls PostGIS, or
another function of the site, by its bare name fails there: in an index, a CHECK, a generated column, a materialized
view, and wherever the planner puts the body of an SQL function in the place of its call. A path of its own is the only
remedy that also holds in pg_restore's parallel sessions, and from PostgreSQL 17 on, which takes the session's
search_path away while it builds an index or fills a materialized view.

Functions of extensions get their path before the dump's definitions. The dump's own functions get it the moment they
are created, by an event trigger that exists while the load takes.

The database's own search_path comes first in every path. The function's own schema comes next: where each tenant of a
site has a schema, each with functions of the same names, a function calls those of its own. Extensions and public
follow. All other schemas of the dump come last, and only once something fails without them (`widen`): they may hold
another tenant's function of that name, and each call of a function costs time for each schema in its path.

A path keeps the planner from inlining an SQL function. An index on a STABLE function is allowed only where the planner
inlines it, so `withheld` takes such paths away for what fails for that reason.
"""

import contextlib
import secrets

from psycopg2 import sql

from ..postgres import database_properties, postgres_server, sql_names

# Functions in C have no body that is looked up; made by initdb (below 16384), they call nothing outside pg_catalog.
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
# What views call, in C and in the server itself too: ts_stat() and crosstab() run a query that they get as text.
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
    -- Where pg_catalog is in a path, it no longer comes before all other schemas.
    SELECT CASE n.nspname WHEN 'pg_catalog' THEN 'pg_temp' ELSE n.nspname END INTO own
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = each;
    EXECUTE pg_catalog.format('ALTER {routine} %1$s {change}', each::pg_catalog.regprocedure, own);
  END LOOP;
END
"""


class FunctionPaths:
    """The search_path of a database's functions while it is filled.

    first: the database's own search_path as the server stores it, '' for the default; near: names of schemas that every
    function finds, those of extensions; far: names of those that `widen` adds.
    """

    def __init__(self, connection, first, near, far=()):
        self._connection = connection
        # At the end of every path that is given, which tells it from a path of the function's own.
        self._mark = "sauvegarde_load_" + secrets.token_hex(6)
        self._first = [each for each in database_properties.names_in(first) if each] or ["$user", "public"]
        self._near = [each for each in dict.fromkeys(near) if each not in self._first]
        self._far = [each for each in dict.fromkeys(far) if each not in self._first and each not in self._near]
        self._wide = False
        self._routine = "ROUTINE" if connection.server_version >= 110000 else "FUNCTION"

    def _body(self, functions, change):
        return _BODY.format(functions=functions, routine=self._routine, change=change)

    def own(self):
        """The database's own search_path, as SQL."""
        return ", ".join(map(sql_names.quote, self._first))

    def around(self, schema):
        """The search_path, as SQL, of something in the schema: what a function in it gets, but for our mark."""
        return ", ".join(map(sql_names.quote, [*self._first, schema, *self._further()]))

    def _further(self):
        return self._near + self._far if self._wide else self._near

    def _set(self):
        further = "".join(sql_names.quote(each) + ", " for each in self._further())
        # format() puts the function's own schema in the place of %2$I.
        path = "{}, %2$I, {}{}".format(self.own().replace("%", "%%"), further.replace("%", "%%"), self._mark)
        return "SET search_path TO {}".format(path.replace("'", "''"))

    def _do(self, functions, change):
        postgres_server.execute(self._connection, sql.SQL("DO {}").format(sql.Literal(self._body(functions, change))))

    def give(self):
        """Give all functions a path, and every function that is created until `release`."""
        self._do(_WITHOUT_PATH, self._set())
        trigger, schema = sql.Identifier(self._mark), sql.Identifier(self._mark)
        tags = ("CREATE FUNCTION", "CREATE PROCEDURE") if self._routine == "ROUTINE" else ("CREATE FUNCTION",)
        # SECURITY DEFINER: where a role of the site loads the dump, it need not own what it creates.
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

    def give_to_called(self):
        """Give a path to the functions in C, too, that views call."""
        self._do(_CALLED_BY_VIEWS, self._set())

    @contextlib.contextmanager
    def withheld(self):
        """Take the paths of functions that are not IMMUTABLE away for the block, so that the planner inlines them."""
        self._do(self._given() + " AND p.provolatile <> 'i'", "RESET search_path")
        try:
            yield
        finally:
            self._do(_WITHOUT_PATH, self._set())

    @property
    def can_widen(self):
        return bool(self._far) and not self._wide

    def widen(self):
        """From now on let functions, and what is `around` a schema, find all schemas of the dump."""
        self._wide = True
        self.release()
        self.give()

    @contextlib.contextmanager
    def widened(self):
        """A block of which `widen` is the beginning; it holds after it, too."""
        self.widen()
        yield

    def _given(self):
        """The query of the functions that have a path of ours."""
        return (
            "SELECT p.oid FROM pg_catalog.pg_proc p WHERE EXISTS (SELECT 1 FROM pg_catalog.unnest(p.proconfig) s"
            f" WHERE s LIKE 'search\\_path=%{self._mark}')"
        )

    def release(self):
        """Put every function back as it was; the event trigger goes first."""
        postgres_server.execute(
            self._connection, sql.SQL("DROP EVENT TRIGGER IF EXISTS {}").format(sql.Identifier(self._mark))
        )
        postgres_server.execute(
            self._connection, sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(self._mark))
        )
        self._do(self._given(), "RESET search_path")
