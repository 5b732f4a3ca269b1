"""What a database holds, as text to compare: its definitions by pg_dump, its rows by queries of the test's own."""

import functools
import re

from sauvegarde.postgres import client_tools, postgres_server
from sauvegarde.system import process

# How values are printed depends on these; they are the same for all databases that are compared.
_PRINTED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "lc_monetary": "C",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "quote_all_identifiers": "off",
}
_OPTIONS = "-c quote_all_identifiers=off -c standard_conforming_strings=on"
_RELATIONS = (
    "SELECT c.oid::regclass::text, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'm', 'S') AND c.relispopulated"
    " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    " AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid"
    " AND d.deptype = 'e') ORDER BY 1"
)


@functools.cache
def client(cluster, tool):
    """The path of one of the server's own programs."""
    return client_tools.client(tool, int(cluster.execute("SHOW server_version_num")[0][0])).path


def definitions(cluster, database):
    """{entry: its SQL} of `pg_dump --schema-only`; the order of entries says nothing."""
    words = [client(cluster, "pg_dump"), "--schema-only", "--no-password"]
    return _entries(process.run(words, env=environment(cluster, database)).text)


def environment(cluster, database):
    """The environment of a pg_dump whose definitions are compared, whatever the database's settings."""
    return client_tools.environment(cluster.server, database, PGOPTIONS=_OPTIONS)


def definitions_of_dump(cluster, path):
    """The same of what stock dumped: pg_restore prints what pg_dump would have printed."""
    return _entries(process.run([client(cluster, "pg_restore"), "--schema-only", "-f", "-", str(path)]).text)


def _entries(text):
    result, method = {}, ""
    text = text.rpartition("--\n-- PostgreSQL database dump complete\n")[0]
    for entry in re.split(r"^--\n-- (?=Name: )", text, flags=re.MULTILINE):
        name, definition = entry.split("\n", 1)
        lines = [line for line in definition.rstrip("\n-").split("\n") if not re.match(r"\\(un)?restrict |SET ", line)]
        if "; Type: TABLE; " in name or "; Type: MATERIALIZED VIEW; " in name:
            lines.append(f"-- access method: {method}")
        result.setdefault(name, []).append("\n".join(lines).strip())
        # Set for all that follow, before the first of them begins.
        methods = re.findall(r"^SET default_table_access_method = (.*);$", definition, flags=re.MULTILINE)
        method = methods[-1] if methods else method
    return {name: "\n".join(sorted(definitions)) for name, definitions in result.items()}


def rows(cluster, database):
    """{relation: its sorted rows as text}; sequences and large objects among them. Reads as a superuser."""
    connection = cluster.connect(database)
    try:
        postgres_server.execute(connection, "SET search_path TO ''")
        for name, value in _PRINTED.items():
            postgres_server.execute(connection, f"SET {name} TO %s", (value,))
        collected = {}
        relations = postgres_server.query(connection, _RELATIONS)
        # The planner looks into functions of indexes, which call others by their bare names.
        schemas = postgres_server.value(connection, "SELECT string_agg(quote_ident(nspname), ', ') FROM pg_namespace")
        postgres_server.execute(connection, f"SET search_path TO {schemas}")
        for name, kind in relations:
            what = "last_value, is_called" if kind == "S" else "each::text"
            values = postgres_server.query(connection, f"SELECT {what} FROM ONLY {name} AS each")
            collected[name] = sorted(map(str, values))
        objects = (
            "SELECT oid, lo_get(oid), lomowner::regrole::text, lomacl::text FROM pg_largeobject_metadata ORDER BY 1"
        )
        collected["large objects"] = [
            str((oid, bytes(data), *more)) for oid, data, *more in postgres_server.query(connection, objects)
        ]
        return collected
    finally:
        connection.close()
