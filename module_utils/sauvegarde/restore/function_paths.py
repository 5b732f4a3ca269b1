"""Give every function a search_path while a dump is loaded, so that it finds what it calls, and take it away again.

pg_dump and pg_restore work under an empty search_path. A function without a path of its own that calls PostGIS, or
another function of the site, by its bare name fails there: in an index, a CHECK, a generated column, a materialized
view, and wherever the planner puts the body of an SQL function in the place of its call. A path of its own is the only
remedy that also holds in pg_restore's parallel sessions, and from PostgreSQL 17 on, which takes the session's
search_path away while it builds an index or fills a materialized view.

Functions of extensions get their path before the dump's definitions. The dump's own functions get it the moment they
are created, by an event trigger that exists while the load takes.

A path keeps the planner from inlining an SQL function. An index on a STABLE function is allowed only where the planner
inlines it, so `withheld` takes such paths away for what fails for that reason.
"""

import contextlib
import re
import secrets

from psycopg2 import sql

from .. import postgres

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
DECLARE each pg_catalog.oid;
BEGIN
  PERFORM pg_catalog.set_config('search_path', '', true);
  FOR each IN {functions} LOOP
    EXECUTE pg_catalog.format('ALTER {routine} %s {change}', each::pg_catalog.regprocedure);
  END LOOP;
END
"""


class FunctionPaths:
    """The search_path of a database's functions while it is filled.

    first: the database's own search_path as the server stores it, '' for the default; schemas: names of all further
    schemas that functions may use, those of extensions first. `path` is the resulting search_path as SQL.
    """

    def __init__(self, connection, first, schemas):
        self._connection = connection
        # At the end of every path that is given, which tells it from a path of the function's own.
        self._mark = "sauvegarde_load_" + secrets.token_hex(6)
        own = [each for each in re.findall(r'"(?:[^"]|"")*"|[^,\s\']+', first) if each != '""']
        names = own or ['"$user"', "public"]
        names += [quoted for quoted in map(postgres.quoted, schemas) if quoted not in names]
        self.path = ", ".join(names)
        self._routine = "ROUTINE" if connection.server_version >= 110000 else "FUNCTION"

    def _body(self, functions, change):
        return _BODY.format(functions=functions, routine=self._routine, change=change.replace("%", "%%"))

    def _set(self):
        path = f"{self.path}, {self._mark}"
        return "SET search_path TO {}".format(path.replace("'", "''"))

    def _do(self, functions, change):
        postgres.execute(self._connection, sql.SQL("DO {}").format(sql.Literal(self._body(functions, change))))

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
            postgres.execute(self._connection, statement)

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

    def _given(self):
        """The query of the functions that have a path of ours."""
        return (
            "SELECT p.oid FROM pg_catalog.pg_proc p WHERE EXISTS (SELECT 1 FROM pg_catalog.unnest(p.proconfig) s"
            f" WHERE s LIKE 'search\\_path=%{self._mark}')"
        )

    def release(self):
        """Put every function back as it was; the event trigger goes first."""
        postgres.execute(
            self._connection, sql.SQL("DROP EVENT TRIGGER IF EXISTS {}").format(sql.Identifier(self._mark))
        )
        postgres.execute(
            self._connection, sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(self._mark))
        )
        self._do(self._given(), "RESET search_path")
