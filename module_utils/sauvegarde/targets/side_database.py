"""Create, finish and drop a side database on a PostgreSQL server.

It is created empty from template0 with the source's properties and extensions, and closed to all but superusers until
`finish` gives it its settings, grants and connection limit.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psycopg2
from psycopg2 import sql

from ..errors import SauvegardeError
from ..postgres import attachments, database_properties, postgres_server, server_errors, sql_names
from ..postgres.postgres_server import Server
from ..restore.dump.sql_text import IDENTIFIER

MAINTENANCE = "postgres"
_ON_DATABASE = re.compile(rf" ON DATABASE {IDENTIFIER} ")
# Properties of a database for which no source gives a value.
DEFAULT_PROPERTIES: dict[str, Any] = {
    "owner": "",
    "encoding": "",
    "provider": "",
    "collate": "",
    "ctype": "",
    "locale": "",
    "icu_rules": None,
    "connection_limit": -1,
    "is_template": False,
    "comment": None,
    "acl": None,
    "settings": {},
    "role_settings": {},
    "grants": [],
}
# Settings that are not applied while it is filled: they would end or hinder the load's own sessions, or
# change what the dump's SQL means. restore.function_search_paths handles what functions find by search_path.
_NOT_IN_FORCE = frozenset(
    (
        "array_nulls", "check_function_bodies", "client_encoding", "default_table_access_method", "default_tablespace",
        "default_transaction_deferrable", "default_transaction_isolation", "default_transaction_read_only",
        "event_triggers", "exit_on_error", "local_preload_libraries", "restrict_nonsystem_relation_kind", "role",
        "row_security", "search_path", "session_authorization", "session_preload_libraries", "session_replication_role",
        "standard_conforming_strings", "temp_tablespaces", "transform_null_equals",
    )
)  # fmt: skip


def maintenance(server: Server) -> Any:
    """Return a connection to the maintenance database, which no restore replaces."""
    return postgres_server.connect(server, MAINTENANCE)


def exists(connection: Any, name: str) -> bool:
    return bool(postgres_server.value(connection, "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (name,)))


def oid(connection: Any, name: str) -> int | None:
    """Return a database's OID, None if there is none of this name."""
    number: int | None = postgres_server.value(
        connection, "SELECT oid FROM pg_catalog.pg_database WHERE datname = %s", (name,)
    )
    return number


def is_half_dropped(connection: Any, name: str) -> bool:
    """Return whether a DROP DATABASE of it was interrupted.

    From 15.4, 14.9, 13.12, 12.16 and 11.21 on the server marks such a database with this connection limit. It can be
    dropped, but neither altered nor connected to.
    """
    limit = "SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = %s"
    return bool(postgres_server.value(connection, limit, (name,)) == -2)


def create(connection: Any, name: str, properties: Mapping[str, Any]) -> None:
    """Create the empty database `name` from template0, with the owner, encoding and locale of `properties`.

    Only superusers can connect to it until `finish`. restore_plan.restored_properties chooses the properties, and
    target_checks.check_locale adapts the locale to the server's names.
    """
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 CONNECTION LIMIT 0")
    parts: list[sql.Composable] = [statement.format(sql.Identifier(name))]
    if properties["owner"]:
        parts.append(sql.SQL("OWNER {}").format(sql.Identifier(properties["owner"])))
    for word, key in (("ENCODING", "encoding"), ("LC_COLLATE", "collate"), ("LC_CTYPE", "ctype")):
        if properties[key]:
            parts.append(sql.SQL(word + " {}").format(sql.Literal(properties[key])))
    parts.extend(_locale_provider(properties, connection.server_version))
    try:
        postgres_server.execute(connection, sql.SQL(" ").join(parts))
    except psycopg2.Error as error:
        raise server_errors.database_error(error, f"The side database {name} could not be created.") from error


def _locale_provider(properties: Mapping[str, Any], version_num: int) -> list[sql.Composed | sql.SQL]:
    """Return the words of CREATE DATABASE for a locale's provider, as far as the server has any."""
    provider = properties["provider"]
    locale = sql.Literal(properties["locale"])
    if provider == "icu" and version_num >= 150000:
        words: list[sql.Composed | sql.SQL] = [sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {}").format(locale)]
        if properties.get("icu_rules"):  # from 16 on; if the source has them, the target is no older
            words.append(sql.SQL("ICU_RULES {}").format(sql.Literal(properties["icu_rules"])))
        return words
    if provider == "builtin" and version_num >= 170000:
        return [sql.SQL("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(locale)]
    return [sql.SQL("LOCALE_PROVIDER libc")] if provider and version_num >= 150000 else []


def end_sessions(connection: Any, name: str) -> None:
    """End all sessions in a database."""
    postgres_server.execute(
        connection,
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_catalog.pg_backend_pid()",
        (name,),
    )


def drop(connection: Any, name: str) -> bool:
    """Drop a database that a restore created, with its sessions and subscriptions. Returns whether it existed."""
    try:
        if not exists(connection, name):
            return False
        if not is_half_dropped(connection, name):
            # A template, or a database that is closed, is dropped like any other.
            postgres_server.execute(
                connection,
                sql.SQL("ALTER DATABASE {} WITH IS_TEMPLATE false ALLOW_CONNECTIONS true").format(sql.Identifier(name)),
            )
            attachments.detach(connection, name)
        end_sessions(connection, name)
        # DROP waits up to five seconds by itself for the ended sessions to go.
        postgres_server.execute(connection, sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    except psycopg2.Error as error:
        raise server_errors.database_error(
            error,
            f"The database {name} could not be dropped.",
            "See who uses it in pg_stat_activity, pg_prepared_xacts and pg_replication_slots, and run it again.",
        ) from error
    return True


def make_schema(connection: Any, name: str, owner: str = "") -> None:
    """Create a schema unless it is there, and make `owner` (if any) its owner."""
    schema = sql.Identifier(name)
    if not postgres_server.value(connection, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (name,)):
        postgres_server.execute(connection, sql.SQL("CREATE SCHEMA {}").format(schema))
    if owner:
        statement = sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(schema, sql.Identifier(owner))
        postgres_server.execute(connection, statement)


def make_extensions(
    server: Server,
    name: str,
    extensions: Iterable[tuple[str, str]],
    owner_of: Callable[[str], str] = lambda schema: "",
    refused: Callable[[str, psycopg2.Error], None] | None = None,
) -> str:
    """Create extensions, (name, schema) in the order in which they need one another, as the superuser.

    owner_of: returns the role that owns a schema, '' for the superuser. refused: called with an extension that the
    server refuses and its error; without it the error is raised.

    Each is created in its own session: postgis_topology changes search_path for the rest of its session, and for the
    database, which is undone. Returns the search_path that the database had got, '' for none.
    """
    for extension, schema in extensions:
        try:
            with contextlib.closing(postgres_server.connect(server, name)) as connection:
                _make_extension(connection, extension, schema, owner_of(schema))
        except psycopg2.Error as error:
            if refused is None:
                raise extension_error(extension, error) from error
            refused(extension, error)
    with contextlib.closing(maintenance(server)) as connection:
        settings = database_properties.properties(connection, name)["settings"]
        postgres_server.execute(connection, sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(name)))
    search_path: str = settings.get("search_path", "")
    return search_path


def _make_extension(connection: Any, extension: str, schema: str, owner: str) -> None:
    postgres_server.execute(connection, "BEGIN")
    is_own = schema not in ("public", "pg_catalog")
    if is_own:
        make_schema(connection, schema)
    postgres_server.execute(
        connection,
        sql.SQL("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA {} CASCADE").format(
            sql.Identifier(extension), sql.Identifier(schema)
        ),
    )
    if owner and is_own:
        make_schema(connection, schema, owner)
    postgres_server.execute(connection, "COMMIT")


def extension_error(extension: str, error: psycopg2.Error) -> SauvegardeError:
    return server_errors.database_error(error, f"The extension {extension} could not be created.")


def apply_settings(server: Server, name: str, properties: Mapping[str, Any]) -> None:
    """Give the side database the settings that apply while it is filled, as `pg_restore --create` does.

    Materialized views and generated columns depend on them. A setting that this server refuses is left to `finish`.
    """

    def applicable(settings: Mapping[str, str]) -> dict[str, str]:
        return {
            key: value
            for key, value in settings.items()
            if key.lower() not in _NOT_IN_FORCE and not key.lower().endswith("_timeout")
        }

    login = server.login
    statements = database_properties.setting_statements(
        name, applicable(properties["settings"]), {login: applicable(properties["role_settings"].get(login, {}))}
    )
    with contextlib.closing(maintenance(server)) as connection:
        for statement in statements:
            with contextlib.suppress(psycopg2.Error):
                postgres_server.execute(connection, statement)


def unknown_settings(connection: Any, properties: Mapping[str, Any]) -> list[str]:
    """Return the settings among the properties that this server does not know (it takes any name with a dot)."""
    known = {name for (name,) in postgres_server.query(connection, "SELECT lower(name) FROM pg_catalog.pg_settings")}
    names = set(properties["settings"]).union(*properties["role_settings"].values())
    return sorted(name for name in names if "." not in name and name.lower() not in known)


def finish(connection: Any, name: str, properties: Mapping[str, Any]) -> list[str]:
    """Give the filled side database its own properties: settings, grants, comment, connection limit.

    Returns the settings that were left out because the server does not know them.
    """
    skipped = unknown_settings(connection, properties)
    applied = dict(
        properties,
        owner=properties["owner"] or postgres_server.value(connection, "SELECT current_user"),
        settings={key: value for key, value in properties["settings"].items() if key not in skipped},
        role_settings={
            role: {key: value for key, value in settings.items() if key not in skipped}
            for role, settings in properties["role_settings"].items()
        },
    )
    target = f" ON DATABASE {sql_names.quote(name)} "
    grants = [_ON_DATABASE.sub(lambda _: target, statement, count=1) for statement in properties.get("grants", ())]
    try:
        postgres_server.execute(connection, sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(name)))
        for statement in database_properties.statements(name, applied) + grants:
            postgres_server.execute(connection, statement)
        # Last, since it lets clients in.
        postgres_server.execute(
            connection,
            sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
                sql.Identifier(name), sql.Literal(properties["connection_limit"])
            ),
        )
    except psycopg2.Error as error:
        raise server_errors.database_error(error, "The properties of the database could not be restored.") from error
    return skipped
