"""Back up the roles, tablespaces and settings of a cluster, and the properties of its databases (kind `globals`).

pg_dumpall uses no snapshot: its output is valid only if the fingerprints before and after it are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection

from ...archive import compression
from ...archive.archive_writer import Stage
from ...archive.manifest import Manifest, ServerProperties
from ...errors import SauvegardeError
from ...postgres import (
    character_sets,
    client_tools,
    database_properties,
    fingerprint,
    postgres_server,
    sql_names,
)
from ...postgres.client_tools import Client
from ...postgres.postgres_server import Server
from ...system import disk_space, process
from ..kind import Notify, Part

PACKAGES = ()
RESTORED_BY = "playbooks/restore.yml"
FILE = "globals.sql"
DATABASES_FILE = "databases.sql"
_TRAILER = b"-- PostgreSQL database cluster dump complete"
_ATTEMPTS = 5

# What every version from 9.6 on has and pg_dumpall writes, by the name of its sum; a row is summed as JSON. The grantor
# of a membership is not included: only 16 began to keep it right.
_SUMMED = {
    "roles": "SELECT rolname::text, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,"
    " rolbypassrls, rolconnlimit, rolvaliduntil::text, shobj_description(oid, 'pg_authid')"
    " FROM pg_roles WHERE rolname !~ '^pg_'",
    "memberships": "SELECT r.rolname::text, m.rolname::text, bool_or(a.admin_option) FROM pg_auth_members a"
    " JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member"
    " WHERE NOT (r.rolname ~ '^pg_' AND m.rolname ~ '^pg_') GROUP BY 1, 2",
    "role_settings": "SELECT r.rolname::text, unnest(s.setconfig) FROM pg_db_role_setting s"
    " JOIN pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = 0 AND r.rolname !~ '^pg_'",
    "tablespaces": "SELECT t.spcname::text, pg_get_userbyid(t.spcowner)::text, pg_tablespace_location(t.oid),"
    " ARRAY(SELECT o COLLATE \"C\" FROM unnest(t.spcoptions) o ORDER BY 1), shobj_description(t.oid, 'pg_tablespace'),"
    " ARRAY(SELECT DISTINCT concat(CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END, '=',"
    " a.privilege_type, CASE WHEN a.is_grantable THEN '*' END) COLLATE \"C\""
    " FROM aclexplode(coalesce(t.spcacl, acldefault('t', t.spcowner))) a ORDER BY 1)"
    " FROM pg_tablespace t WHERE t.spcname !~ '^pg_'",
}
_PASSWORDS = "SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname !~ '^pg_' AND rolpassword IS NOT NULL"
# A database with the limit -2 is what an interrupted DROP DATABASE left: pg_dumpall skips it, too.
_DATABASES = "SELECT datname::text FROM pg_database WHERE datname <> 'template0' AND datconnlimit <> -2 ORDER BY 1"
_HALF_DROPPED = "SELECT datname::text FROM pg_database WHERE datconnlimit = -2 ORDER BY 1"
# Keys of database_properties.properties, without those that later versions added.
_OF_DATABASES = (
    "owner",
    "encoding",
    "collate",
    "ctype",
    "tablespace",
    "connection_limit",
    "allow_connections",
    "is_template",
    "comment",
    "settings",
    "role_settings",
)


@dataclass(frozen=True)
class Options:
    """connection: see postgres_server.Server. database: where the sessions connect to."""

    connection: Server = field(default_factory=Server)
    database: str = "postgres"

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Options:
        return cls(Server.from_values(values.get("connection")), str(values.get("database") or "postgres"))


@dataclass(frozen=True)
class Facts:
    """What the preflight found. passwords: whether the role may read them. half_dropped: databases that an interrupted
    DROP DATABASE left."""

    server: ServerProperties
    encoding: str
    half_dropped: list[str]
    passwords: bool
    client: Client


def preflight(options: Options, directory: Path, last: Manifest | None) -> Facts:
    """Log in; find a pg_dumpall as new as the server, and space; check whether passwords can be read."""
    connection = postgres_server.connect(options.connection, options.database)
    try:
        server = postgres_server.server_properties(connection)
        facts = Facts(
            server=server,
            encoding=postgres_server.encoding_of(connection),
            half_dropped=[name for (name,) in postgres_server.query(connection, _HALF_DROPPED)],
            passwords=postgres_server.value(
                connection, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')"
            ),
            client=client_tools.client("pg_dumpall", server.version_num),
        )
    finally:
        connection.close()
    if not facts.passwords and facts.client.version_num < 100000:
        raise SauvegardeError(
            "The globals of this server can only be dumped by a superuser.",
            "The dump role may not read pg_authid, and pg_dumpall can leave the passwords out from version 10 on.",
            "Use a superuser for this job, or install a newer postgresql-client beside the server's.",
        )
    # Twice the size of the last archive: a small dump may grow a lot in a day.
    size = 2 * last.stored_bytes if last is not None and last.kind == "globals" else 1024 * 1024
    disk_space.require_space(directory, size)
    return facts


def dump(options: Options, stage: Stage, facts: Facts, notify: Notify) -> Part:
    """Write globals.sql by pg_dumpall, and databases.sql from the catalog."""
    connection = postgres_server.connect(options.connection, options.database)
    try:
        fingerprint.pin(connection)
        sums, databases, warnings = _dump_unchanged(connection, options, stage, facts, notify)
    finally:
        connection.close()
    _write_databases(stage, facts.encoding, databases)
    return Part(
        source={"server": facts.server.as_dict(), "databases": databases, "passwords": facts.passwords},
        tools={"pg_dumpall": facts.client.version, **compression.tool_versions()},
        fingerprint=sums,
        restore_by_hand={
            "local": [
                "# As the superuser of the new cluster. Roles that exist already are reported and skipped.",
                f"zstd -dcq {FILE}.zst | psql -X -d postgres",
                "# What belongs to each database, once the databases exist:",
                f"zstd -dcq {DATABASES_FILE}.zst | psql -X -d postgres",
            ],
            "plain": [f"psql -X -d postgres -f {FILE}", f"psql -X -d postgres -f {DATABASES_FILE}"],
        },
        warnings=_warnings(facts) + warnings,
    )


def _dump_unchanged(
    connection: Connection, options: Options, stage: Stage, facts: Facts, notify: Notify
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Dump until the fingerprint is the same before and after. Returns it, the databases, and pg_dumpall's warnings."""
    sums, databases = take(connection, facts.passwords)
    changed: list[str] = []
    for _ in range(_ATTEMPTS):
        before = sums["tables"]
        notify("globals")
        warnings = _dump_globals(options, stage, facts)
        sums, databases = take(connection, facts.passwords)
        changed = [name for name in sums["tables"] if sums["tables"][name] != before[name]]
        if not changed:
            return sums, databases, warnings
        stage.discard(FILE)
    raise SauvegardeError(
        f"The globals changed whenever they were dumped, {_ATTEMPTS} times.",
        "Changed meanwhile: {}.".format(", ".join(changed)),
        "Start the job while roles, tablespaces and databases do not change.",
    )


def _write_databases(stage: Stage, encoding: str, databases: Mapping[str, Mapping[str, Any]]) -> None:
    encoding = encoding if character_sets.codec(encoding) else "UTF8"
    lines = [f"SET client_encoding TO '{encoding}';"]
    for name, values in databases.items():
        lines.append(f"-- {_comment(values)}")
        lines += [statement + ";" for statement in database_properties.statements(name, values)]
        if not values["allow_connections"]:
            lines.append(f"ALTER DATABASE {sql_names.quote(name)} ALLOW_CONNECTIONS false;")
    with stage.writer(DATABASES_FILE) as target:
        target.write(character_sets.encode("\n".join(lines) + "\n", encoding))


def _warnings(facts: Facts) -> list[str]:
    warnings = []
    if not facts.passwords:
        warnings.append("Roles are without their passwords: the dump role may not read pg_authid.")
    if facts.half_dropped:
        names = ", ".join(facts.half_dropped)
        warnings.append(f"Databases that an interrupted DROP DATABASE left are not included; drop them: {names}.")
    return warnings


def _dump_globals(options: Options, stage: Stage, facts: Facts) -> list[str]:
    """Run pg_dumpall; return its warnings."""
    arguments = [
        facts.client.path,
        "--globals-only",
        "--no-password",
        "--database=" + client_tools.conninfo(options.database),
    ]
    if not facts.passwords:
        arguments.append("--no-role-passwords")
    # In the database's own encoding: names and comments keep their bytes.
    environment = client_tools.environment(options.connection, options.database, PGCLIENTENCODING=facts.encoding)
    tail = b""
    with stage.writer(FILE) as target, process.start(arguments, env=environment, stdout=process.PIPE) as tool:
        for chunk in iter(lambda: tool.stdout.read(65536), b""):
            target.write(chunk)
            tail = (tail + chunk)[-4096:]
        stderr = tool.finish(what="The globals could not be dumped.").stderr
    if _TRAILER not in tail:
        raise SauvegardeError(
            "pg_dumpall's output is cut short.", f"Its last line is missing: {_TRAILER.decode('ascii')}"
        )
    return process.warnings("pg_dumpall", stderr)


def take(connection: Connection, passwords: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (the fingerprint of the globals, {database: its properties}) in one snapshot.

    connection: pinned (fingerprint.pin). The sums are {rows, hash} of roles, memberships, role_settings, tablespaces,
    databases and, if the role may read them (`passwords`), the hashes of what the server stores of passwords.
    """
    postgres_server.execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        rows: dict[str, list[Any]] = {
            name: list(postgres_server.query(connection, statement)) for name, statement in _SUMMED.items()
        }
        names = postgres_server.query(connection, _DATABASES)
        databases = {name: database_properties.properties(connection, name) for (name,) in names}
        if passwords:
            stored = postgres_server.query(connection, _PASSWORDS)
            rows["passwords"] = [(name, hashlib.sha256(text.encode("utf-8")).hexdigest()) for name, text in stored]
    finally:
        postgres_server.execute(connection, "ROLLBACK")
    rows["databases"] = [[name, *_summed_properties(values)] for name, values in databases.items()]
    sums = {
        name: fingerprint.sum_texts(json.dumps(row, sort_keys=True) for row in values) for name, values in rows.items()
    }
    return {"algorithm": fingerprint.ALGORITHM, "tables": sums}, databases


def _summed_properties(values: Mapping[str, Any]) -> list[Any]:
    grants = values["acl"]
    if grants is None:  # the default, which becomes explicit where it is restored
        default = [(None, "CONNECT"), (None, "TEMPORARY")]
        default += [(values["owner"], privilege) for privilege in ("CONNECT", "CREATE", "TEMPORARY")]
        grants = [{"grantee": to, "privilege": privilege, "grantable": False} for to, privilege in default]
    summed = {(grant["grantee"] or "", grant["privilege"], grant["grantable"]) for grant in grants}
    return [*(values[key] for key in _OF_DATABASES), sorted(summed)]


def _comment(values: Mapping[str, Any]) -> str:
    return "encoding {encoding}, collate {collate}, ctype {ctype}, provider {provider}, locale {locale}".format(
        **values
    )
