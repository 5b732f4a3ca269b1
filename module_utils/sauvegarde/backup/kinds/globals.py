"""The `globals` kind: roles, tablespaces and settings of a whole cluster, and the properties of each of its databases.

pg_dumpall looks through no snapshot: what it writes counts where the fingerprint before it and after it is the same.

job: connection (see postgres.Server).
"""

import hashlib
import json

from ...archive import compression
from ...errors import SauvegardeError
from ...postgres import character_sets, client_tools, database_properties, fingerprint, postgres_server, sql_names
from ...system import disk_space, process

_TRAILER = b"-- PostgreSQL database cluster dump complete"
_ATTEMPTS = 5

# What every version from 9.6 on has and pg_dumpall writes, by the name of its sum; a row is summed as JSON. Who granted
# a membership is left out, as only 16 began to keep it right.
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
# A database with the limit -2 is what an interrupted DROP DATABASE has left: pg_dumpall passes over it, too.
_DATABASES = "SELECT datname::text FROM pg_database WHERE datname <> 'template0' AND datconnlimit <> -2 ORDER BY 1"
_HALF_DROPPED = "SELECT datname::text FROM pg_database WHERE datconnlimit = -2 ORDER BY 1"
# Of databases.properties: not what later versions have added.
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


def preflight(job, directory, last):
    """Log in, find a pg_dumpall as new as the server, room for the archive, and out whether passwords may be read."""
    server = postgres_server.Server.from_values(job.get("connection"))
    connection = postgres_server.connect(server, job.get("database", "postgres"))
    try:
        facts = {
            "server": postgres_server.properties(connection),
            "encoding": postgres_server.encoding_of(connection),
            "half_dropped": [name for (name,) in postgres_server.query(connection, _HALF_DROPPED)],
            "passwords": postgres_server.value(
                connection, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')"
            ),
        }
    finally:
        connection.close()
    facts["client"] = client_tools.client("pg_dumpall", facts["server"]["version_num"])
    if not facts["passwords"] and facts["client"].version_num < 100000:
        raise SauvegardeError(
            "The globals of this server can only be dumped by a superuser.",
            "The dump role may not read pg_authid, and pg_dumpall can leave the passwords out from version 10 on.",
            "Use a superuser for this job, or install a newer postgresql-client beside the server's.",
        )
    # Twice the last one's: what is small may grow a lot from one day to the next.
    size = 2 * last.stored_bytes if last is not None and last.kind == "globals" else 1024 * 1024
    disk_space.require_space(directory, size)
    return facts


def dump(job, stage, facts, notify):
    """globals.sql by pg_dumpall, databases.sql from the catalog."""
    server = postgres_server.Server.from_values(job.get("connection"))
    maintenance = job.get("database", "postgres")
    connection = postgres_server.connect(server, maintenance)
    try:
        fingerprint.pin(connection)
        sums, found = take(connection, facts["passwords"])
        for _ in range(_ATTEMPTS):
            before = sums
            notify("globals")
            said = _dump(stage, facts, server, maintenance)
            sums, found = take(connection, facts["passwords"])
            changed = [name for name in sums["tables"] if sums["tables"][name] != before["tables"][name]]
            if not changed:
                break
            stage.discard("globals.sql")
        else:
            raise SauvegardeError(
                f"The globals changed whenever they were dumped, {_ATTEMPTS} times.",
                "Not what they were before: {}.".format(", ".join(changed)),
                "Start the job when nobody changes roles, tablespaces or databases.",
            )
    finally:
        connection.close()
    with stage.writer("databases.sql") as target:
        encoding = facts["encoding"] if character_sets.codec(facts["encoding"]) else "UTF8"
        lines = [f"SET client_encoding TO '{encoding}';"]
        for name, values in found.items():
            lines.append(f"-- {_comment(values)}")
            lines += [statement + ";" for statement in database_properties.statements(name, values)]
            if not values["allow_connections"]:
                lines.append(f"ALTER DATABASE {sql_names.quote(name)} ALLOW_CONNECTIONS false;")
        target.write(character_sets.encode("\n".join(lines) + "\n", encoding))
    warnings = []
    if not facts["passwords"]:
        warnings.append("Roles are without their passwords: the dump role may not read pg_authid.")
    if facts["half_dropped"]:
        warnings.append(
            "Databases that an interrupted DROP DATABASE has left are passed over; drop them: {}.".format(
                ", ".join(facts["half_dropped"])
            )
        )
    warnings += said
    return {
        "source": {"server": facts["server"], "databases": found, "passwords": facts["passwords"]},
        "tools": {"pg_dumpall": facts["client"].version, **compression.tool_versions()},
        "fingerprint": sums,
        "restore_by_hand": {
            "local": [
                "# As the superuser of the new cluster. Roles that exist already are said and skipped.",
                "zstd -dcq globals.sql.zst | psql -X -d postgres",
                "# What belongs to each database, once the databases exist:",
                "zstd -dcq databases.sql.zst | psql -X -d postgres",
            ],
            "plain": ["psql -X -d postgres -f globals.sql", "psql -X -d postgres -f databases.sql"],
        },
        "warnings": warnings,
    }


def _dump(stage, facts, server, maintenance):
    arguments = [
        facts["client"].path,
        "--globals-only",
        "--no-password",
        "--database=" + client_tools.conninfo(maintenance),
    ]
    if not facts["passwords"]:
        arguments.append("--no-role-passwords")
    # Its own encoding: names and comments come as the bytes that they are.
    environment = client_tools.environment(server, maintenance, PGCLIENTENCODING=facts["encoding"])
    tail = b""
    with stage.writer("globals.sql") as target, process.start(arguments, env=environment, stdout=process.PIPE) as tool:
        for chunk in iter(lambda: tool.stdout.read(65536), b""):
            target.write(chunk)
            tail = (tail + chunk)[-4096:]
        said = tool.finish(what="The globals could not be dumped.").stderr
    if _TRAILER not in tail:
        raise SauvegardeError(
            "pg_dumpall's output has no end: it was cut off.", f"Its last line is missing: {_TRAILER}"
        )
    return process.warnings("pg_dumpall", said)


def take(connection, passwords):
    """(the fingerprint of the globals, {database: its properties}), as one snapshot has them.

    connection: pinned (fingerprint.pin). The sums are {rows, hash} of roles, memberships, role_settings, tablespaces,
    databases and, where `passwords` says that the role may read them, of passwords: what the server keeps of them goes
    in by its hash.
    """
    postgres_server.execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        rows = {name: postgres_server.query(connection, statement) for name, statement in _SUMMED.items()}
        names = postgres_server.query(connection, _DATABASES)
        found = {name: database_properties.properties(connection, name) for (name,) in names}
        if passwords:
            kept = postgres_server.query(connection, _PASSWORDS)
            rows["passwords"] = [(name, hashlib.sha256(text.encode("utf-8")).hexdigest()) for name, text in kept]
    finally:
        postgres_server.execute(connection, "ROLLBACK")
    rows["databases"] = [[name, *_of_database(values)] for name, values in found.items()]
    sums = {name: fingerprint.sum_texts(json.dumps(row, sort_keys=True) for row in each) for name, each in rows.items()}
    return {"algorithm": fingerprint.ALGORITHM, "tables": sums}, found


def _of_database(values):
    grants = values["acl"]
    if grants is None:  # the default, which becomes explicit where it is given back
        of_all = [(None, "CONNECT"), (None, "TEMPORARY")]
        granted = of_all + [(values["owner"], each) for each in ("CONNECT", "CREATE", "TEMPORARY")]
        grants = [{"grantee": to, "privilege": privilege, "grantable": False} for to, privilege in granted]
    told = {(each["grantee"] or "", each["privilege"], each["grantable"]) for each in grants}
    return [*(values[key] for key in _OF_DATABASES), sorted(told)]


def _comment(values):
    return "encoding {encoding}, collate {collate}, ctype {ctype}, provider {provider}, locale {locale}".format(
        **values
    )
