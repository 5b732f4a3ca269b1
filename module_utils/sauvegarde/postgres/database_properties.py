"""Read the properties of a database (owner, locale, grants, settings …), and write them as SQL for another one."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from . import postgres_server, server_versions, sql_names
from .postgres_server import Connection

# Settings whose stored value is a list of quoted names: it must be set as a list again, not as one string.
_LISTS = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
)
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
_LIBRARIES = {
    "PostGIS": "postgis_lib_version",
    "GEOS": "postgis_geos_version",
    "PROJ": "postgis_proj_version",
}
_SRS = ("srid", "auth_name", "auth_srid", "srtext", "proj4text")


def describe(connection: Connection) -> dict[str, Any]:
    """Return the manifest's `source` of the connected database, but for the server.

    A role's name in a grant is None for PUBLIC.
    """
    return {
        "database": postgres_server.value(connection, "SELECT pg_catalog.current_database()"),
        "database_bytes": postgres_server.value(
            connection, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"
        ),
        "properties": properties(connection),
        "extensions": extensions(connection),
        "roles": roles(connection),
        "spatial_ref_sys": spatial_ref_sys(connection),
        "public_may_create": public_may_create(connection),
        "public_oid": postgres_server.value(
            connection, "SELECT oid::int8 FROM pg_catalog.pg_namespace WHERE nspname = 'public'"
        ),
    }


def public_may_create(connection: Connection) -> bool:
    """Return whether every role may create objects in the schema public, the default before version 15."""
    return bool(
        postgres_server.value(
            connection,
            "SELECT pg_catalog.bool_or(a.grantee = 0 AND a.privilege_type = 'CREATE') FROM pg_catalog.pg_namespace n,"
            " pg_catalog.aclexplode(n.nspacl) a WHERE n.nspname = 'public'",
        )
    )


def properties(connection: Connection, database: str | None = None) -> dict[str, Any]:
    """Return the owner, encoding, locale, limits, comment, grants and settings of a database of the server, by default
    of the connected one.

    locale is ICU's or the builtin provider's, None for libc; acl None means the default grants; settings hold what
    `ALTER DATABASE … SET` stored, role_settings the same by role.
    """
    name = (database or postgres_server.value(connection, "SELECT pg_catalog.current_database()"),)
    row, owner, encoding, comment, tablespace = postgres_server.query(
        connection,
        "SELECT pg_catalog.to_jsonb(d), pg_catalog.pg_get_userbyid(d.datdba),"
        " pg_catalog.pg_encoding_to_char(d.encoding), pg_catalog.shobj_description(d.oid, 'pg_database'),"
        " (SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = d.dattablespace)"
        " FROM pg_catalog.pg_database d WHERE d.datname = %s",
        name,
    )[0]
    grants = postgres_server.query(
        connection,
        "SELECT pg_catalog.pg_get_userbyid(a.grantor),"
        " CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable"
        " FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a"
        " WHERE d.datname = %s ORDER BY 2 NULLS FIRST, 3, 1",
        name,
    )
    settings: dict[str, str] = {}
    role_settings: dict[str, dict[str, str]] = {}
    for role, stored in postgres_server.query(
        connection,
        "SELECT CASE WHEN s.setrole <> 0 THEN pg_catalog.pg_get_userbyid(s.setrole) END, s.setconfig"
        " FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase"
        " WHERE d.datname = %s",
        name,
    ):
        values = dict(item.split("=", 1) for item in stored)
        if role is None:
            settings = values
        else:
            role_settings[role] = values
    return {
        "owner": owner,
        "encoding": encoding,
        "provider": _PROVIDERS[row.get("datlocprovider", "c")],
        "collate": row["datcollate"],
        "ctype": row["datctype"],
        "locale": row.get("datlocale", row.get("daticulocale")),
        "icu_rules": row.get("daticurules"),
        "collation_version": row.get("datcollversion"),
        "tablespace": tablespace,
        "connection_limit": row["datconnlimit"],
        "allow_connections": row["datallowconn"],
        "is_template": row["datistemplate"],
        "comment": comment,
        "acl": None
        if row["datacl"] is None
        else [{"grantor": g, "grantee": r, "privilege": p, "grantable": t} for g, r, p, t in grants],
        "settings": settings,
        "role_settings": role_settings,
    }


def statements(database: str, values: Mapping[str, Any]) -> list[str]:
    """Return the SQL statements, without semicolons, that give a database the `properties` of another one. Encoding and
    locale are not among them: CREATE DATABASE sets these. Roles must exist."""
    name = sql_names.quote(database)
    lines = [f"ALTER DATABASE {name} OWNER TO {sql_names.quote(values['owner'])}"]
    if values["connection_limit"] != -1:
        lines.append(f"ALTER DATABASE {name} CONNECTION LIMIT {values['connection_limit']:d}")
    if values["is_template"]:
        lines.append(f"ALTER DATABASE {name} IS_TEMPLATE true")
    if values["comment"] is not None:
        lines.append(f"COMMENT ON DATABASE {name} IS {sql_names.literal(values['comment'])}")
    if values["acl"] is not None:
        lines.append(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        lines.append(f"REVOKE ALL ON DATABASE {name} FROM {sql_names.quote(values['owner'])}")
        for grant in values["acl"]:
            to = "PUBLIC" if grant["grantee"] is None else sql_names.quote(grant["grantee"])
            option = " WITH GRANT OPTION" if grant["grantable"] else ""
            lines.append(f"GRANT {_checked_privilege(grant['privilege'])} ON DATABASE {name} TO {to}{option}")
    return lines + setting_statements(database, values["settings"], values["role_settings"])


def setting_statements(
    database: str, settings: Mapping[str, str], role_settings: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return the SQL statements, without semicolons, that give a database its settings."""
    name = sql_names.quote(database)
    lines = []
    for key, value in sorted(settings.items()):
        lines.append(f"ALTER DATABASE {name} SET {sql_names.quote(*key.split('.'))} TO {_setting(key, value)}")
    for role, settings_of_role in sorted(role_settings.items()):
        prefix = f"ALTER ROLE {sql_names.quote(role)} IN DATABASE {name}"
        for key, value in sorted(settings_of_role.items()):
            lines.append(f"{prefix} SET {sql_names.quote(*key.split('.'))} TO {_setting(key, value)}")
    return lines


def _checked_privilege(privilege: str) -> str:
    if not re.match(r"[A-Z ]+\Z", privilege):
        raise ValueError(f"not a privilege: {privilege!r}")
    return privilege


def is_list(name: str) -> bool:
    """Return whether a setting's stored value is a list of quoted names."""
    return name.lower() in _LISTS


def names_in(value: str) -> list[str]:
    """Return the names in the stored value of a setting that is a list."""
    matches = re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^,"]+))\s*(?:,|$)', value)
    return [quoted.replace('""', '"') if quoted or not bare else bare.strip() for quoted, bare in matches]


def _setting(name: str, value: str) -> str:
    if not is_list(name):
        return sql_names.literal(value)
    return ", ".join(map(sql_names.literal, names_in(value))) or "''"


def extensions(connection: Connection) -> list[dict[str, str]]:
    """Return {name, version, schema} of every extension, by name."""
    return [
        {"name": name, "version": version, "schema": schema}
        for name, version, schema in postgres_server.query(
            connection,
            "SELECT e.extname::text, e.extversion, n.nspname::text FROM pg_catalog.pg_extension e"
            " JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1",
        )
    ]


def libraries(connection: Connection) -> dict[str, str]:
    """Return the versions of PostGIS, GEOS and PROJ by name; empty without PostGIS. Nothing depends on them, but they
    explain a difference after an upgrade.
    """
    schemas = [extension["schema"] for extension in extensions(connection) if extension["name"] == "postgis"]
    versions = {}
    for name, function in _LIBRARIES.items() if schemas else ():
        with contextlib.suppress(psycopg2.Error):
            text = postgres_server.value(connection, f"SELECT {sql_names.quote(schemas[0], function)}()")
            number = re.search(r"\d+(\.\d+)+", text or "")
            versions[name] = number.group() if number else ""
    return versions


def roles(connection: Connection) -> list[str]:
    """Return the sorted names of the roles that a dump of the connected database names: owners, grantees, policies,
    settings; without predefined roles (pg_…). The bootstrap superuser is always among them, since PostgreSQL does not
    record dependencies on it."""
    return [
        name
        for (name,) in postgres_server.query(
            connection,
            "WITH d AS (SELECT oid, datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),"
            " used AS (SELECT s.refobjid AS role FROM pg_catalog.pg_shdepend s, d"
            "  WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND (s.dbid = d.oid OR s.dbid = 0"
            "  AND s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND s.objid = d.oid)"
            " UNION SELECT datdba FROM d UNION SELECT 10::pg_catalog.oid"
            " UNION SELECT c.setrole FROM pg_catalog.pg_db_role_setting c, d WHERE c.setdatabase = d.oid)"
            " SELECT r.rolname::text FROM pg_catalog.pg_roles r JOIN used ON used.role = r.oid"
            " WHERE r.rolname !~ '^pg_' ORDER BY 1",
        )
    ]


def spatial_table(connection: Connection) -> tuple[Any, ...] | None:
    """Return the schema of PostGIS's spatial_ref_sys, the condition of the rows that pg_dump takes, and PostGIS's
    version; None without PostGIS."""
    rows = postgres_server.query(
        connection,
        "SELECT n.nspname::text, e.extcondition[pg_catalog.array_position(e.extconfig, c.oid)], e.extversion"
        " FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_depend p ON p.refobjid = e.oid AND p.deptype = 'e'"
        "  AND p.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
        "  AND p.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
        " JOIN pg_catalog.pg_class c ON c.oid = p.objid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE e.extname = 'postgis' AND c.relname = 'spatial_ref_sys'",
    )
    return rows[0] if rows else None


def spatial_rows(
    connection: Connection, srids: Iterable[int] | None = None, condition: str = ""
) -> list[dict[str, Any]]:
    """Return rows of spatial_ref_sys by srid: those of `srids`, or those under a condition of PostGIS."""
    table = spatial_table(connection)
    if table is None:
        return []
    statement = sql.SQL("SELECT {} FROM {} ").format(
        sql.SQL(", ").join(map(sql.Identifier, _SRS)), sql_names.identifier(table[0], "spatial_ref_sys")
    )
    if srids is None:
        rows = postgres_server.query(connection, statement + sql.SQL(condition + " ORDER BY srid"))
    else:
        rows = postgres_server.query(
            connection, statement + sql.SQL("WHERE srid = ANY(%s) ORDER BY srid"), (list(srids),)
        )
    return [dict(zip(_SRS, row)) for row in rows]


def spatial_ref_sys(connection: Connection) -> dict[str, Any]:
    """Return the rows that the site added (custom) or edited (changed), and the name of the script that they were
    compared with (reference).

    A dump never holds edits of shipped rows, so these are found by a comparison with PostGIS's own script, which exists
    only on the server's host; elsewhere `reference` is None, and `changed` is unknown, that is empty.
    """
    table = spatial_table(connection)
    if table is None:
        return {"custom": [], "changed": [], "reference": None}
    _, condition, version = table
    # Without a condition the extension says that every row is to be dumped: all are custom then.
    custom = spatial_rows(connection, condition=condition or "")
    script = _script(connection, version)
    changed = []
    if script is not None:
        shipped = _shipped(script)
        custom_srids = {row["srid"] for row in custom}
        changed = [
            row
            for row in spatial_rows(connection, condition="WHERE true")
            if row["srid"] not in custom_srids and _content(row) != shipped.get(row["srid"])
        ]
    return {"custom": custom, "changed": changed, "reference": script.name if script else None}


def _content(row: Mapping[str, Any]) -> int:
    """Return a hash of what is compared of a row: NULL and blanks at the ends make no difference."""
    return hash(tuple(str(row[key] or "").strip() for key in _SRS))


def _script(connection: Connection, version: str) -> Path | None:
    """Return PostGIS's installation script of that version on this host; None where it cannot be read."""
    is_local = postgres_server.value(connection, "SELECT pg_catalog.inet_server_addr() IS NULL")
    if not is_local:
        return None
    version_name = server_versions.major(connection.server_version)
    path = Path("/usr/share/postgresql") / version_name / "extension" / f"postgis--{version}.sql"
    return path if "/" not in version and os.access(path, os.R_OK) else None


# PostGIS 2 inserts row by row, PostGIS 3 many rows at once, a row a line.
_ROW = re.compile(
    r"(?:INSERT INTO .* VALUES ?)?\((\d+), ?'((?:[^']|'')*)', ?(\d+), ?'((?:[^']|'')*)', ?'((?:[^']|'')*)' ?\)[,;]?$"
)


def _shipped(script: Path) -> dict[int, int]:
    """Return `_content` of the rows that a PostGIS script inserts, by srid."""
    rows = {}
    with script.open(encoding="utf-8") as lines:
        for line in lines:
            match = _ROW.match(line)
            if match:
                srid, name, number, wkt, proj = (part.replace("''", "'") for part in match.groups())
                rows[int(srid)] = _content(dict(zip(_SRS, (int(srid), name, int(number), wkt, proj))))
    return rows
