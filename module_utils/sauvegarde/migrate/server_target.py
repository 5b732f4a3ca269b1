"""The target on a PostgreSQL server, as the OS user sees it who keeps the server: everything here runs as that user.

`spec`: connection (postgres.server's values), database, directory (of the restores: their runs and ours must know of
one another), path and mark (of the archive), engine (Django's), role (whom the site logs in as).
"""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import psycopg2
from psycopg2 import sql

from ..archive import ids
from ..backup import kinds
from ..errors import SauvegardeError
from ..postgres import database_names, database_properties, postgres_server, server_errors
from ..restore import restore_run, restore_state
from ..system import disk_space
from ..targets import side_database, swap

_SAFETY = "safety"
# What a site's own migrations do not make, and a swap would lose.
_OTHERS = """
SELECT n.nspname || '.' || c.relname || CASE c.relkind WHEN 'v' THEN ' (view)' WHEN 'm' THEN ' (materialized view)'
         WHEN 'f' THEN ' (foreign table)' ELSE '' END
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
   AND c.relname <> ALL (%(known)s)
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT n.nspname || '.' || p.proname || '()'
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
 ORDER BY 1
"""


_TABLES = """
SELECT c.relname, n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
"""
# A schema's owner and privileges, without those of extensions.
_SCHEMAS = """
SELECT n.nspname, pg_catalog.pg_get_userbyid(n.nspowner),
       (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(a.privilege_type, a.is_grantable,
                 CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END)), '[]')
          FROM pg_catalog.aclexplode(n.nspacl) a WHERE a.grantee <> n.nspowner)
  FROM pg_catalog.pg_namespace n
 WHERE n.nspname NOT LIKE 'pg\\_%%' AND n.nspname NOT IN ('information_schema', 'public')
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
                      AND d.objid = n.oid AND d.deptype = 'e')
 ORDER BY 1
"""


def _maintenance(spec):
    return contextlib.closing(side_database.maintenance(postgres_server.Server.from_values(spec["connection"])))


def look(spec, tables):
    """{"version", "system" (identifier), "postgis", "standby", "live" (None, or {"bytes", "sessions", "others"}),
    "kept", "obstacles"}.

    `tables`: those of the site; what the live database has besides are the `others`.
    """
    server = postgres_server.Server.from_values(spec["connection"])
    with _maintenance(spec) as connection:
        target = postgres_server.properties(connection)
        available = dict(
            postgres_server.query(connection, "SELECT name, default_version FROM pg_catalog.pg_available_extensions")
        )
        live = None
        if side_database.exists(connection, spec["database"]):
            live = {
                "bytes": postgres_server.value(
                    connection, "SELECT pg_catalog.pg_database_size(%s)", (spec["database"],)
                ),
                "sessions": swap.sessions(connection, spec["database"]),
            }
            with contextlib.closing(postgres_server.connect(server, spec["database"])) as inside:
                live["others"] = [name for (name,) in postgres_server.query(inside, _OTHERS, {"known": tables})]
        return {
            "version": "PostgreSQL " + target["version"],
            "system": target["system_identifier"],
            "postgis": available.get("postgis", ""),
            "standby": target["standby"],
            "live": live,
            "kept": swap.kept(connection, spec["database"]),
            "obstacles": swap.obstacles(connection, spec["database"]) + _role(connection, spec),
            "free": disk_space.free_bytes(restore_state.folder(spec["directory"])),
        }


def _role(connection, spec):
    if postgres_server.value(connection, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", (spec["role"],)):
        return []
    return ["The server has no role {}, whom the site logs in as.".format(spec["role"])]


def system(spec):
    """The server's system identifier, as text; empty where it may not be asked."""
    with _maintenance(spec) as connection:
        return postgres_server.system_identifier(connection)


def check(spec, name, tables, rows):
    """Sentences: the site's tables that the side database lacks, and those whose rows are not as many as were proven.

    Asked without the site. `tables`: all of the site's, of which those must be there that the live database has.
    `rows`: {table: how many}; these must be there.
    """
    server = postgres_server.Server.from_values(spec["connection"])
    live = {}
    with _maintenance(spec) as connection:
        there = side_database.exists(connection, spec["database"])
    if there:
        with contextlib.closing(postgres_server.connect(server, spec["database"])) as inside:
            live = _schemas_of(inside)
    wrong = []
    with contextlib.closing(postgres_server.connect(server, name)) as inside:
        here = _schemas_of(inside)
        for table in sorted({*tables, *rows}):
            plain = table.strip('"').rsplit('"."', 1)[-1]
            if plain not in here:
                wrong += [f"The table {table} is missing."] if table in rows or plain in live else []
            elif table in rows:
                query = "SELECT pg_catalog.count(*) FROM {}"
                counts = [
                    postgres_server.value(inside, sql.SQL(query).format(sql.Identifier(schema, plain)))
                    for schema in here[plain]
                ]
                if rows[table] not in counts:
                    counted = ", ".join(map(str, counts))
                    wrong.append(f"The table {table} holds {counted} rows, not {rows[table]}.")
    return wrong


def _schemas_of(connection):
    """{table: schemas that have one of that name}, without those of the system."""
    found = {}
    for table, schema in postgres_server.query(connection, _TABLES):
        found.setdefault(table, []).append(schema)
    return found


def opening(spec):
    """Sentences: why the server cannot take an archive beside its live database."""
    with _maintenance(spec) as connection:
        standby = postgres_server.properties(connection)["standby"]
        return (["The server is a standby."] if standby else []) + _role(connection, spec)


def lock_in(spec):
    """The folder of the lock that restores take too, with the lock's file made by its keeper."""
    directory = restore_state.folder(spec["directory"])
    with restore_state.hold(directory, spec["database"]):
        return str(directory)


def reserve(spec):
    """Clear what killed runs left and set a run's folder aside. Returns {"id", "side"}; its state says that it runs.

    The caller holds the lock.
    """
    directory = restore_state.folder(spec["directory"])
    restore_run.give_up(directory, spec)
    restore_run.clean(restore_run.settled({key: spec[key] for key in ("connection", "database", "directory", "path")}))
    identifier = ids.new_id(directory)
    name = database_names.side(spec["database"], identifier)
    with restore_state.State(
        directory, identifier, database=spec["database"], side=name, mode="swap", path=spec["path"], mark=spec["mark"]
    ):
        return {"id": identifier, "side": name}


def end(spec, identifier, status, masked=False):
    """Say how the run ended: a `ready` one can be swapped in."""
    restore_state.change(
        restore_state.folder(spec["directory"]), identifier, status=status, step=status, migration=True, masked=masked
    )


def is_masked(spec):
    """Whether the live database is one that a masked migration made."""
    return bool(restore_state.swapped(spec["directory"], spec["database"]).get("masked"))


def safety(spec):
    """An archive of the live database, in the catalog's own form; its path, or "" where nothing is live."""
    with _maintenance(spec) as connection:
        if not side_database.exists(connection, spec["database"]):
            return ""
    root = restore_state.folder(spec["directory"]) / _SAFETY
    (root / "live").mkdir(mode=0o700, parents=True, exist_ok=True)
    job = {"name": "live", "kind": "pg_dump", "connection": spec["connection"], "database": spec["database"]}
    return str(root / "live" / kinds.back_up(job, root)["id"])


def create(spec, name):
    """The empty side database, with the live one's properties and extensions, open to the site's role."""
    server = postgres_server.Server.from_values(spec["connection"])
    wanted, extensions = _wanted(spec, server)
    with _maintenance(spec) as connection:
        side_database.create(connection, name, wanted)
    side_database.make_extensions(server, name, extensions, SimpleNamespace(owners={}))
    with _maintenance(spec) as connection:
        live = side_database.exists(connection, spec["database"])
    _make_schemas(spec, server, name, live)
    with _maintenance(spec) as connection:
        _set_search_path(connection, name, wanted)
        # Only the site itself knows this name; `finish` puts the live one's limit back.
        postgres_server.execute(
            connection, sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(sql.Identifier(name))
        )
    if spec["role"] != wanted["owner"]:
        with contextlib.closing(postgres_server.connect(server, name)) as inside:
            postgres_server.execute(
                inside, sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(sql.Identifier(spec["role"]))
            )


def _make_schemas(spec, server, name, live):
    """The live database's schemas with their owners and privileges, or those of the site's search path: without them
    the site's migrations would make its tables elsewhere, or nowhere."""
    wanted = [(schema, spec["role"], []) for schema in spec.get("schemas", ())]
    if live:
        with contextlib.closing(postgres_server.connect(server, spec["database"])) as inside:
            wanted = postgres_server.query(inside, _SCHEMAS)
    with contextlib.closing(postgres_server.connect(server, name)) as inside:
        for schema, owner, grants in wanted:
            named = sql.Identifier(schema)
            if not postgres_server.value(inside, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,)):
                postgres_server.execute(inside, sql.SQL("CREATE SCHEMA {}").format(named))
            postgres_server.execute(inside, sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(named, sql.Identifier(owner)))
            for privilege, grantable, role in grants:
                statement = sql.SQL("GRANT {} ON SCHEMA {} TO {}{}").format(
                    sql.SQL(privilege),
                    named,
                    sql.Identifier(role) if role else sql.SQL("PUBLIC"),
                    sql.SQL(" WITH GRANT OPTION" if grantable else ""),
                )
                postgres_server.execute(inside, statement)


def _set_search_path(connection, name, wanted):
    """The live database's search path, for all and for single roles: it decides where migrations make tables."""
    chosen = dict(
        side_database.UNSAID, owner=wanted["owner"] or postgres_server.value(connection, "SELECT current_user")
    )
    chosen["settings"] = {key: text for key, text in wanted["settings"].items() if key == "search_path"}
    chosen["role_settings"] = {
        role: {"search_path": settings["search_path"]}
        for role, settings in wanted["role_settings"].items()
        if "search_path" in settings
    }
    for statement in database_properties.statements(name, chosen):
        postgres_server.execute(connection, statement)


def copy(spec, archive_of_live):
    """A side database that holds what the live one does: its archive, restored and proven. Returns as `reserve`."""
    values = {key: spec[key] for key in ("connection", "database", "directory")}
    restore_run.give_up(Path(spec["directory"]), spec)
    found = restore_run.fill(dict(values, path=archive_of_live), held=True)
    # Proven as a copy; until what comes into it is proven too, nobody may swap it in.
    end(spec, found["id"], restore_state.RUNNING)
    return {"id": found["id"], "side": found["side"]}


def _wanted(spec, server):
    """(properties, [(extension, schema)]) of the side database: the live one's, or what a new one needs."""
    with _maintenance(spec) as connection:
        there = side_database.exists(connection, spec["database"])
    if not there:
        geographic = [("postgis", "public")] if spec["engine"].endswith("postgis") else []
        return dict(side_database.UNSAID, role_settings={}, owner=spec["role"]), geographic
    with contextlib.closing(postgres_server.connect(server, spec["database"])) as inside:
        found = database_properties.extensions(inside)
        wanted = dict(side_database.UNSAID, role_settings={})
        wanted.update(database_properties.properties(inside))
    return wanted, [(each["name"], each["schema"]) for each in found if each["name"] != "plpgsql"]


def finish(spec, name):
    """Statistics, then the live database's own properties. Returns what was left out."""
    server = postgres_server.Server.from_values(spec["connection"])
    wanted, _ = _wanted(spec, server)
    try:
        with contextlib.closing(postgres_server.connect(server, name)) as inside:
            postgres_server.execute(inside, "ANALYZE")
    except psycopg2.Error as error:
        raise server_errors.database_error(error, "The side database could not be analyzed.") from error
    with _maintenance(spec) as connection:
        skipped = side_database.finish(connection, name, wanted)
        size = postgres_server.value(connection, "SELECT pg_catalog.pg_database_size(%s)", (name,))
    return {"skipped": skipped, "bytes": size}


def drop(spec, name):
    """Remove a side database."""
    with contextlib.suppress(SauvegardeError, psycopg2.Error), _maintenance(spec) as connection:
        side_database.drop(connection, name)
