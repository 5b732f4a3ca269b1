"""The `globals` kind: roles, tablespaces and settings of a whole cluster, and the properties of each of its databases.

job: connection (see postgres.Server).
"""

from .. import archive, databases, postgres, process
from ..errors import SauvegardeError

_TRAILER = b"-- PostgreSQL database cluster dump complete"


def preflight(job, directory, last):
    """Log in, find a pg_dumpall as new as the server, room for the archive, and out whether passwords may be read."""
    server = postgres.server(job.get("connection"))
    connection = postgres.connect(server, job.get("database", "postgres"))
    try:
        facts = {
            "server": postgres.properties(connection),
            "passwords": postgres.value(
                connection, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')"
            ),
        }
    finally:
        connection.close()
    facts["client"] = postgres.client("pg_dumpall", facts["server"]["version_num"])
    if not facts["passwords"] and facts["client"].version_num < 100000:
        raise SauvegardeError(
            "The globals of this server can only be dumped by a superuser.",
            "The dump role may not read pg_authid, and pg_dumpall can leave the passwords out from version 10 on.",
            "Use a superuser for this job, or install a newer postgresql-client beside the server's.",
        )
    # Twice the last one's: what is small may grow a lot from one day to the next.
    size = 2 * last["stored_bytes"] if last is not None and last["kind"] == "globals" else 1024 * 1024
    archive.require_space(directory, size)
    return facts


def dump(job, stage, facts, notify):
    """globals.sql by pg_dumpall, databases.sql from the catalog."""
    server = postgres.server(job.get("connection"))
    maintenance = job.get("database", "postgres")
    warnings = []
    arguments = [
        facts["client"].path,
        "--globals-only",
        "--no-password",
        "--database=" + postgres.conninfo(maintenance),
    ]
    if not facts["passwords"]:
        arguments.append("--no-role-passwords")
        warnings.append("Roles are without their passwords: the dump role may not read pg_authid.")
    notify("globals")
    tail = b""
    with stage.writer("globals.sql") as target, process.start(
        arguments, env=postgres.environment(server, maintenance), stdout=process.PIPE
    ) as tool:
        for chunk in iter(lambda: tool.stdout.read(65536), b""):
            target.write(chunk)
            tail = (tail + chunk)[-4096:]
        tool.finish(what="The globals could not be dumped.")
    if _TRAILER not in tail:
        raise SauvegardeError(
            "pg_dumpall's output has no end: it was cut off.", f"Its last line is missing: {_TRAILER}"
        )
    connection = postgres.connect(server, maintenance)
    try:
        names = postgres.query(
            connection, "SELECT datname::text FROM pg_catalog.pg_database WHERE datname <> 'template0' ORDER BY 1"
        )
        found = {name: databases.properties(connection, name) for (name,) in names}
    finally:
        connection.close()
    with stage.writer("databases.sql") as target:
        for name, values in found.items():
            target.write(f"-- {_comment(values)}\n".encode())
            for statement in databases.statements(name, values):
                target.write((statement + ";\n").encode("utf-8"))
    return {
        "source": {"server": facts["server"], "databases": found, "passwords": facts["passwords"]},
        "tools": {"pg_dumpall": facts["client"].version, **archive.tools()},
        "fingerprint": None,
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


def _comment(values):
    return "encoding {encoding}, collate {collate}, ctype {ctype}, provider {provider}, locale {locale}".format(
        **values
    )
