"""Swap databases on a PostgreSQL server: the side database gets the live one's name, and a previous one gets it back.

A restore fills its side database itself, with what its dump says (restore.restore_run). A migration's side database is
created here, with the live database's properties, for the site's own migrations to fill.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable

import psycopg2
from psycopg2 import sql

from ..postgres import database_names, database_properties, postgres_server, server_errors
from ..postgres.database_names import SIDE
from ..postgres.postgres_server import Server
from . import side_database, swap
from .target import Finish, KeptDatabase, LiveDatabase, Reservation, Survey, SwapResult

# What a site's own migrations do not create, and a swap would lose.
_OTHER_OBJECTS = """
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


@dataclass(frozen=True)
class SiteAccess:
    """How a Django site uses its database: Django's engine, the role it logs in as, the schemas of its search path."""

    engine: str = ""
    role: str = ""
    schemas: tuple[str, ...] = ()


@dataclass(frozen=True)
class PostgresqlTarget:
    """A target on a PostgreSQL server (targets.target.Target).

    server: reached as a superuser. directory: private folder of all runs on this server, restores and migrations alike,
    since they must know of one another. site: of a migration's target.
    """

    database: str
    server: Server
    directory: Path
    site: SiteAccess = SiteAccess()

    @property
    def label(self) -> str:
        return self.database

    @property
    def runs_directory(self) -> Path:
        return self.directory

    @contextlib.contextmanager
    def maintenance(self) -> Iterator[Any]:
        """Yield a connection to the server's maintenance database, and close it."""
        with contextlib.closing(side_database.maintenance(self.server)) as connection:
            yield connection

    @contextlib.contextmanager
    def connected(self, name: str = "") -> Iterator[Any]:
        """Yield a connection to the live database, or to the one called `name`, and close it."""
        with contextlib.closing(postgres_server.connect(self.server, name or self.database)) as connection:
            yield connection

    def side_name(self, identifier: str) -> str:
        return database_names.side_name(self.database, identifier)

    def previous_name(self, identifier: str) -> str:
        return database_names.previous_name(self.database, identifier)

    def exists(self, name: str) -> bool:
        with self.maintenance() as connection:
            return side_database.exists(connection, name)

    def is_whole(self, name: str) -> bool:
        with self.maintenance() as connection:
            return side_database.exists(connection, name) and not side_database.is_half_dropped(connection, name)

    def live_facts(self) -> dict[str, Any]:
        """Return the database's OID, which it keeps through renames, and its properties."""
        with self.maintenance() as connection:
            oid = side_database.oid(connection, self.database)
            if oid is None:
                return {}
            return {"oid": oid, "properties": database_properties.properties(connection, self.database)}

    def side_databases(self) -> list[str]:
        return [database.name for database in self.kept() if database.kind == SIDE]

    def kept(self) -> list[KeptDatabase]:
        with self.maintenance() as connection:
            return swap.kept(connection, self.database)

    def end_sessions(self, name: str) -> None:
        """End all sessions in a database."""
        with self.maintenance() as connection:
            side_database.end_sessions(connection, name)

    def drop(self, name: str) -> bool:
        with self.maintenance() as connection:
            return side_database.drop(connection, name)

    def remove(self, name: str) -> bool:
        return swap.remove(self.server, self.database, name)

    def swap_in(self, side: str, identifier: str, fence: float | None = None) -> SwapResult:
        fence = swap.FENCE if fence is None else fence
        return swap.into_place(self.server, self.database, side, identifier, fence)

    def choose_previous(self, name: str = "") -> str:
        return swap.choose_previous(self.server, self.database, name)

    def roll_back(self, identifier: str, name: str = "") -> SwapResult:
        incoming = self.choose_previous(name)
        return replace(self.swap_in(incoming, identifier), restored=incoming)

    def with_server(self, action: Callable[[Server], list[str]]) -> list[str]:
        return action(self.server)

    def survey(self, tables: Sequence[str]) -> Survey:
        with self.maintenance() as connection:
            server = postgres_server.server_properties(connection)
            available = dict(
                postgres_server.query(
                    connection, "SELECT name, default_version FROM pg_catalog.pg_available_extensions"
                )
            )
            return Survey(
                version="PostgreSQL " + server.version,
                system=server.system_identifier,
                postgis=available.get("postgis", ""),
                standby=server.standby,
                live=self._live(connection, tables),
                kept=tuple(swap.kept(connection, self.database)),
                obstacles=tuple(swap.obstacles(connection, self.database) + self._missing_role(connection)),
            )

    def _live(self, connection: Any, tables: Sequence[str]) -> LiveDatabase | None:
        if not side_database.exists(connection, self.database):
            return None
        size = postgres_server.value(connection, "SELECT pg_catalog.pg_database_size(%s)", (self.database,))
        sessions = tuple(swap.sessions(connection, self.database))
        with self.connected() as inside:
            others = tuple(name for (name,) in postgres_server.query(inside, _OTHER_OBJECTS, {"known": list(tables)}))
        return LiveDatabase(size, sessions, others)

    def _missing_role(self, connection: Any) -> list[str]:
        role = self.site.role
        if postgres_server.value(connection, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", (role,)):
            return []
        return [f"The server has no role {role}, which the site logs in as."]

    def system_identifier(self) -> str:
        with self.maintenance() as connection:
            identifier: str = postgres_server.system_identifier(connection)
            return identifier

    def obstacles_to_open(self) -> list[str]:
        with self.maintenance() as connection:
            standby = postgres_server.server_properties(connection).standby
            return (["The server is a standby."] if standby else []) + self._missing_role(connection)

    def backup_job(self) -> dict[str, Any]:
        return {"kind": "pg_dump", "connection": asdict(self.server), "database": self.database}

    def create_side(self, name: str) -> None:
        """Create the side database with the live one's properties, extensions and schemas, open to the site's role."""
        live = self.exists(self.database)
        properties, extensions = self._properties(live)
        with self.maintenance() as connection:
            side_database.create(connection, name, properties)
        side_database.make_extensions(self.server, name, extensions)
        self._make_schemas(name, live)
        with self.maintenance() as connection:
            _set_search_path(connection, name, properties)
            # Only the site knows this name; `finish` sets the live database's limit.
            limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1")
            postgres_server.execute(connection, limit.format(sql.Identifier(name)))
        if self.site.role != properties["owner"]:
            grant = sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(sql.Identifier(self.site.role))
            with self.connected(name) as inside:
                postgres_server.execute(inside, grant)

    def _properties(self, live: bool) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Return (properties, [(extension, schema)]) of the live database, or those that a new one needs."""
        properties = dict(side_database.DEFAULT_PROPERTIES, role_settings={})
        if not live:
            properties["owner"] = self.site.role
            return properties, [("postgis", "public")] if self.site.engine.endswith("postgis") else []
        with self.connected() as inside:
            extensions = database_properties.extensions(inside)
            properties.update(database_properties.properties(inside))
        return properties, [
            (extension["name"], extension["schema"]) for extension in extensions if extension["name"] != "plpgsql"
        ]

    def _make_schemas(self, name: str, live: bool) -> None:
        """Create the live database's schemas with their owners and privileges, or those of the site's search path.

        Without them the site's migrations would make its tables elsewhere, or nowhere.
        """
        schemas: list[tuple[str, str, list[Any]]] = [(schema, self.site.role, []) for schema in self.site.schemas]
        if live:
            with self.connected() as inside:
                schemas = postgres_server.query(inside, _SCHEMAS)
        with self.connected(name) as inside:
            for schema, owner, grants in schemas:
                side_database.make_schema(inside, schema, owner)
                for privilege, grantable, role in grants:
                    statement = sql.SQL("GRANT {} ON SCHEMA {} TO {}{}").format(
                        sql.SQL(privilege),
                        sql.Identifier(schema),
                        sql.Identifier(role) if role else sql.SQL("PUBLIC"),
                        sql.SQL(" WITH GRANT OPTION" if grantable else ""),
                    )
                    postgres_server.execute(inside, statement)

    def copy_live(self, reserve: Callable[[], Reservation], restore: Callable[[], Reservation]) -> Reservation:
        return restore()

    def differences(self, name: str, tables: Iterable[str], rows: Mapping[str, int]) -> list[str]:
        live: dict[str, list[str]] = {}
        if self.exists(self.database):
            with self.connected() as inside:
                live = _schemas_of_tables(inside)
        sentences = []
        with self.connected(name) as inside:
            present = _schemas_of_tables(inside)
            for table in sorted({*tables, *rows}):
                plain = table.strip('"').rsplit('"."', 1)[-1]
                if plain not in present:
                    sentences += [f"The table {table} is missing."] if table in rows or plain in live else []
                elif table in rows:
                    counts = [_count(inside, schema, plain) for schema in present[plain]]
                    if rows[table] not in counts:
                        counted = ", ".join(map(str, counts))
                        sentences.append(f"The table {table} holds {counted} rows, not {rows[table]}.")
        return sentences

    def finish(self, name: str) -> Finish:
        properties, _ = self._properties(self.exists(self.database))
        try:
            with self.connected(name) as inside:
                postgres_server.execute(inside, "ANALYZE")
        except psycopg2.Error as error:
            raise server_errors.database_error(error, "The side database could not be analyzed.") from error
        with self.maintenance() as connection:
            skipped = side_database.finish(connection, name, properties)
            size = postgres_server.value(connection, "SELECT pg_catalog.pg_database_size(%s)", (name,))
        return Finish(tuple(skipped), size)


def _count(connection: Any, schema: str, table: str) -> int:
    statement = sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(sql.Identifier(schema, table))
    count: int = postgres_server.value(connection, statement)
    return count


def _schemas_of_tables(connection: Any) -> dict[str, list[str]]:
    """Return the schemas that have a table of a name, by that name, without the system's."""
    schemas: dict[str, list[str]] = {}
    for table, schema in postgres_server.query(connection, _TABLES):
        schemas.setdefault(table, []).append(schema)
    return schemas


def _set_search_path(connection: Any, name: str, properties: Mapping[str, Any]) -> None:
    """Set the live database's search path, for all and for single roles: it decides where migrations make tables."""
    owner = properties["owner"] or postgres_server.value(connection, "SELECT current_user")
    chosen = dict(side_database.DEFAULT_PROPERTIES, owner=owner)
    chosen["settings"] = {key: text for key, text in properties["settings"].items() if key == "search_path"}
    chosen["role_settings"] = {
        role: {"search_path": settings["search_path"]}
        for role, settings in properties["role_settings"].items()
        if "search_path" in settings
    }
    for statement in database_properties.statements(name, chosen):
        postgres_server.execute(connection, statement)
