"""The side database: made empty with the source's properties, given its extensions, and finished once it is filled."""

import contextlib
import re

import psycopg2
from psycopg2 import sql

from ..postgres import attachments, database_properties, postgres_server, server_errors, sql_names
from ..restore.dump.contents import text
from ..restore.dump.entries import Entry, one_line
from ..restore.dump.lexer import IDENTIFIER, unquoted
from ..restore.dump.load_errors import ends_load, server_message
from ..restore.dump.loss_names import loss_name

MAINTENANCE = "postgres"
_LITERAL = r"[Ee]?'(?:[^']|'')*'"
# One item of a list of names: pg_dump writes literals; before 11, identifiers.
_PART = re.compile(_LITERAL + r"""|"(?:[^"]|"")*"|[^\s,'"]+""")
_ON_DATABASE = re.compile(rf" ON DATABASE {IDENTIFIER} ")
# What a database has that nobody said anything about.
UNSAID = {
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
# Settings of a database that do not hold while it is filled: they would end or hinder the load's own sessions, or
# change what the dump's SQL means. What functions find by search_path is function_paths' concern.
_NOT_IN_FORCE = frozenset(
    (
        "array_nulls", "check_function_bodies", "client_encoding", "default_table_access_method", "default_tablespace",
        "default_transaction_deferrable", "default_transaction_isolation", "default_transaction_read_only",
        "event_triggers", "exit_on_error", "local_preload_libraries", "restrict_nonsystem_relation_kind", "role",
        "row_security", "search_path", "session_authorization", "session_preload_libraries", "session_replication_role",
        "standard_conforming_strings", "temp_tablespaces", "transform_null_equals",
    )
)  # fmt: skip


def properties_of_dump(database, tool):
    """What a dump knows of its database (Contents.database), by databases.properties' names; absent: it does not know.

    tool: pg_dump's version number; before 11 it left settings, grants and limit to pg_dumpall. `grants` are the dump's
    GRANT and REVOKE statements, beside the default `acl`.
    """
    found = {key: database[key] for key in ("owner", "comment") if key in database}
    if "encoding" in database:
        found.update(_locale_of_dump(database))
    if ("encoding" in database and tool >= 110000) or "properties" in database:
        found.update(
            comment=database.get("comment"),
            connection_limit=database.get("limit", -1),
            acl=None,
            grants=list(database.get("grants", ())),
            settings={},
            role_settings={},
        )
        for role, name, value in database.get("settings", ()):
            of = found["role_settings"].setdefault(role, {}) if role else found["settings"]
            of[unquoted(name)] = stored(unquoted(name), value)
    return found


def _locale_of_dump(database):
    both = database.get("locale", "")
    provider = database.get("locale_provider", "")
    locale = database.get("icu_locale") or database.get("builtin_locale") or both
    return {
        "encoding": database["encoding"],
        "provider": provider,
        "collate": database.get("lc_collate", both),
        "ctype": database.get("lc_ctype", both),
        "locale": locale if provider in ("icu", "builtin") else "",
        "icu_rules": database.get("icu_rules"),
    }


def _named(part):
    """The name that a part of a list stands for: a literal, or an identifier."""
    if part.endswith("'"):
        return text(part)
    return unquoted(part) if part.startswith('"') else part.lower()


def stored(name, value):
    """The form in which the server keeps a setting, from the SQL of an ALTER … SET name TO value."""
    if database_properties.is_list(name):
        return ", ".join(sql_names.quote(_named(each)) for each in _PART.findall(value))
    literals = re.findall(_LITERAL, value)
    if not literals:
        return value.strip()
    texts = [text(each) for each in literals]
    return texts[0] if len(texts) == 1 else ", ".join(sql_names.quote(each) for each in texts)


def maintenance(server):
    """A connection beside the databases that are worked on."""
    return postgres_server.connect(server, MAINTENANCE)


def exists(connection, name):
    return bool(postgres_server.value(connection, "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (name,)))


def is_half_dropped(connection, name):
    """Whether a DROP DATABASE of it was interrupted: from 15.4, 14.9, 13.12, 12.16 and 11.21 on the server marks such
    a database with this connection limit, and lets it be dropped, but neither altered nor connected to."""
    limit = "SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = %s"
    return postgres_server.value(connection, limit, (name,)) == -2


def create(connection, name, wanted):
    """Make the empty database `name` from template0, with the properties `wanted`'s owner, encoding and locale.

    Nobody but a superuser gets in until `finish`.
    """
    number = connection.server_version
    parts = [sql.SQL("CREATE DATABASE {} TEMPLATE template0 CONNECTION LIMIT 0").format(sql.Identifier(name))]
    if wanted["owner"]:
        parts.append(sql.SQL("OWNER {}").format(sql.Identifier(wanted["owner"])))
    for word, key in (("ENCODING", "encoding"), ("LC_COLLATE", "collate"), ("LC_CTYPE", "ctype")):
        if wanted[key]:
            parts.append(sql.SQL(word + " {}").format(sql.Literal(wanted[key])))
    provider = wanted["provider"]
    if provider == "icu" and number >= 150000:
        parts.append(sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {}").format(sql.Literal(wanted["locale"])))
        if wanted.get("icu_rules"):  # from 16 on; where the source has them, the target is no older
            parts.append(sql.SQL("ICU_RULES {}").format(sql.Literal(wanted["icu_rules"])))
    elif provider == "builtin" and number >= 170000:
        parts.append(sql.SQL("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(sql.Literal(wanted["locale"])))
    elif provider and number >= 150000:
        parts.append(sql.SQL("LOCALE_PROVIDER libc"))
    try:
        postgres_server.execute(connection, sql.SQL(" ").join(parts))
    except psycopg2.Error as error:
        raise server_errors.database_error(error, f"The side database {name} could not be made.") from error


def end_sessions(connection, name):
    """End whoever is in a database."""
    postgres_server.execute(
        connection,
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_catalog.pg_backend_pid()",
        (name,),
    )


def drop(connection, name):
    """Drop a database that a restore made, with its sessions and subscriptions. True if it was there."""
    if not exists(connection, name):
        return False
    try:
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


def extensions_of(contents, postgis):
    """name → schema of the extensions to create, in an order in which each finds what it needs.

    `postgis`: the version that will be made on the target. Raster left PostGIS's own extension with 3.0.
    """
    wanted = dict(contents.extensions)
    if contents.raster and postgis and not postgis.startswith(("1.", "2.")):
        wanted["postgis_raster"] = wanted["postgis"]
    first = [name for name in ("postgis", "postgis_raster") if name in wanted]
    return [(name, wanted[name]) for name in first + [name for name in wanted if name not in first]]


def make_extensions(server, name, wanted, contents, ledger=None):
    """Create the extensions as the superuser. `wanted` is extensions_of()'s. ledger: a loss_ledger.Ledger that takes
    those that cannot be made; without one they raise.

    Each in a session of its own: postgis_topology changes search_path for the rest of its session, and for the
    database, which is undone. Returns the search_path that the database had got, '' for none.
    """
    for extension, schema in wanted:
        connection = postgres_server.connect(server, name)
        try:
            postgres_server.execute(connection, "BEGIN")
            if schema not in ("public", "pg_catalog") and not postgres_server.value(
                connection, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,)
            ):
                postgres_server.execute(connection, sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            postgres_server.execute(
                connection,
                sql.SQL("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA {} CASCADE").format(
                    sql.Identifier(extension), sql.Identifier(schema)
                ),
            )
            owner = contents.owners.get(one_line(schema))
            if owner and schema not in ("public", "pg_catalog"):
                postgres_server.execute(
                    connection,
                    sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(sql.Identifier(schema), sql.Identifier(owner)),
                )
            postgres_server.execute(connection, "COMMIT")
        except psycopg2.Error as error:
            if ledger is None or ends_load(error):
                raise server_errors.database_error(error, f"The extension {extension} could not be made.") from error
            ledger.record(Entry("EXTENSION", "", extension, ""), server_message(str(error)))
        finally:
            connection.close()
    with contextlib.closing(maintenance(server)) as connection:
        made = database_properties.properties(connection, name)["settings"]
        postgres_server.execute(connection, sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(name)))
    return made.get("search_path", "")


# What PostGIS says of itself before 3.1, which is no longer true: the newer version's own words stay.
_OUTDATED = "'PostGIS geometry, geography, and raster spatial types and functions'"


def comment_extensions(server, name, contents, ledger):
    """Give the extensions that are there the dump's comments, as the superuser, who owns them."""
    with contextlib.closing(postgres_server.connect(server, name)) as connection:
        there = {extension for (extension,) in postgres_server.query(connection, "SELECT extname FROM pg_extension")}
        for entry, statement in contents.comments:
            if unquoted(entry.name[len("EXTENSION ") :]) not in there or _OUTDATED in statement:
                continue
            try:
                postgres_server.execute(connection, statement)
            except psycopg2.Error as error:
                if ends_load(error):
                    raise server_errors.database_error(error, f"The restore stopped at {loss_name(entry)}.") from error
                ledger.record(entry, server_message(str(error)))


def put_in_force(server, name, wanted):
    """Give the side database the settings that hold while it is filled, as `pg_restore --create` does: materialized
    views and generated columns depend on them. `wanted`: its properties. What this server refuses waits for `finish`.
    """

    def holding(settings):
        return {
            key: text
            for key, text in settings.items()
            if key.lower() not in _NOT_IN_FORCE and not key.lower().endswith("_timeout")
        }

    login = server.login
    with contextlib.closing(maintenance(server)) as connection:
        for statement in database_properties.setting_statements(
            name,
            holding(wanted["settings"]),
            {login: holding(wanted["role_settings"].get(login, {}))},
        ):
            with contextlib.suppress(psycopg2.Error):
                postgres_server.execute(connection, statement)


def unknown_settings(connection, wanted):
    """Names among the properties' settings that this server does not know (it takes any name with a dot)."""
    known = {name for (name,) in postgres_server.query(connection, "SELECT lower(name) FROM pg_catalog.pg_settings")}
    names = set(wanted["settings"]).union(*wanted["role_settings"].values())
    return sorted(name for name in names if "." not in name and name.lower() not in known)


def finish(connection, name, wanted):
    """Put the database's own properties on the filled side database: settings, grants, comment, connection limit.

    Returns the settings left out because the server does not know them.
    """
    skipped = unknown_settings(connection, wanted)
    given = dict(
        wanted,
        owner=wanted["owner"] or postgres_server.value(connection, "SELECT current_user"),
        settings={key: text for key, text in wanted["settings"].items() if key not in skipped},
        role_settings={
            role: {key: text for key, text in settings.items() if key not in skipped}
            for role, settings in wanted["role_settings"].items()
        },
    )
    target = f" ON DATABASE {sql_names.quote(name)} "
    grants = [_ON_DATABASE.sub(lambda _: target, statement, count=1) for statement in wanted.get("grants", ())]
    try:
        postgres_server.execute(connection, sql.SQL("ALTER DATABASE {} RESET ALL").format(sql.Identifier(name)))
        for statement in database_properties.statements(name, given) + grants:
            postgres_server.execute(connection, statement)
        # Last, since it lets people in.
        postgres_server.execute(
            connection,
            sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
                sql.Identifier(name), sql.Literal(wanted["connection_limit"])
            ),
        )
    except psycopg2.Error as error:
        raise server_errors.database_error(error, "The properties of the database could not be put back.") from error
    return skipped
