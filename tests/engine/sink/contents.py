"""What a database holds, as text to compare: its definitions by pg_dump, its rows by queries of the test's own."""

import re

from sauvegarde import postgres, process

# How values are printed depends on these; they are the same for all databases that are compared.
_PRINTED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "lc_monetary": "C",
}
_RELATIONS = (
    "SELECT c.oid::regclass::text, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'm', 'S') AND c.relispopulated"
    " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    " AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid"
    " AND d.deptype = 'e') ORDER BY 1"
)


def client(cluster, tool):
    """The path of one of the server's own programs."""
    return postgres.client(tool, int(cluster.execute("SHOW server_version_num")[0][0])).path


def definitions(cluster, database):
    """The lines of `pg_dump --schema-only`, without those that differ between two dumps of one database."""
    tool = client(cluster, "pg_dump")
    words = [tool, "--schema-only", "--no-password"]
    text = process.run(words, env=postgres.environment(cluster.server, database)).text
    return [line for line in text.splitlines() if not re.match(r"\\(un)?restrict |SET |-- Started|-- Completed", line)]


def rows(cluster, database):
    """{relation: its sorted rows as text}; sequences and large objects among them. Reads as a superuser."""
    connection = cluster.connect(database)
    try:
        postgres.execute(connection, "SET search_path TO ''")
        for name, value in _PRINTED.items():
            postgres.execute(connection, f"SET {name} TO %s", (value,))
        found = {}
        for name, kind in postgres.query(connection, _RELATIONS):
            what = "last_value, is_called" if kind == "S" else "each::text"
            values = postgres.query(connection, f"SELECT {what} FROM ONLY {name} AS each")
            found[name] = sorted(map(str, values))
        objects = (
            "SELECT oid, lo_get(oid), lomowner::regrole::text, lomacl::text FROM pg_largeobject_metadata ORDER BY 1"
        )
        found["large objects"] = [
            str((oid, bytes(data), *more)) for oid, data, *more in postgres.query(connection, objects)
        ]
        return found
    finally:
        connection.close()
