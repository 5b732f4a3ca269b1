"""Whether the side database holds what its archive promised; without a manifest, what can be known without one."""

import contextlib

import psycopg2

from ..errors import Damaged, SauvegardeError
from ..postgres import fingerprint, index_search_path, postgres_server, server_errors, sql_names
from .dump.entries import one_line
from .surviving_fingerprint import affected_partitions, surviving_fingerprint

_COUNTS = {
    "tables": "SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p') AND {}",
    "views": "SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relkind = 'v' AND {}",
    "materialized_views": "SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relkind = 'm' AND {}",
    "sequences": "SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relkind = 'S' AND {}",
    "indexes": "SELECT count(*) FROM pg_catalog.pg_class c WHERE c.relkind IN ('i', 'I') AND {}",
    "constraints": "SELECT count(*) FROM pg_catalog.pg_constraint k"
    " JOIN pg_catalog.pg_class c ON c.oid = k.conrelid WHERE {}",
    "triggers": "SELECT count(*) FROM pg_catalog.pg_trigger t"
    " JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND {}",
}
_ROOTS = """
WITH RECURSIVE tree AS (
    SELECT c.oid, c.oid AS root FROM pg_catalog.pg_class c
    WHERE c.relkind = 'p' AND coalesce(pg_catalog.to_jsonb(c) ->> 'relispartition', 'false') = 'false'
  UNION ALL
    SELECT i.inhrelid, tree.root FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
)
SELECT n.nspname::text, c.relname::text, rn.nspname::text, r.relname::text
FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = tree.root JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
"""
_OURS = (
    "c.relnamespace NOT IN (SELECT oid FROM pg_catalog.pg_namespace"
    " WHERE nspname ~ '^pg_' OR nspname = 'information_schema')"
    " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d"
    " WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')"
)


def against_manifest(server, name, manifest, jobs, lost=()):
    """Compare the side database's fingerprint with the manifest's, table by table; raise with every difference.

    lost: the accepted losses (loss_ledger.Loss), which are left out of the comparison.
    Returns {"by": "fingerprint", "tables", "rows"}, "unproven" (as in the manifest) where that has such objects, and
    "without" where there are losses: their names, and those of partitioned tables that they are part of.
    """
    without = [loss.object for loss in lost]
    with contextlib.closing(postgres_server.connect(server, name)) as connection:
        roots = {_flat(part): _flat(of) for part, of in partition_roots(connection).items()}
    tables, parts = affected_partitions(manifest["fingerprint"], without, roots)
    without += [each for each in tables if each not in without]
    gone = without + parts
    expected = surviving_fingerprint(manifest["fingerprint"], gone)
    try:
        actual = fingerprint.take(lambda: postgres_server.connect(server, name), workers=jobs, like=expected)
    except psycopg2.Error as error:
        raise server_errors.database_error(
            error,
            "The restored database could not be read to compare it with its archive; nothing was swapped.",
            "The archive is not at fault. "
            + (server_errors.server_fix(str(error)) or "Look in the target server's log, and run the restore again."),
        ) from error
    actual = surviving_fingerprint(actual, gone)
    differences = fingerprint.compare(expected, actual)
    if differences:
        raise Damaged(
            "The restored database differs from its archive; nothing was swapped.",
            "\n".join(each.get("sentence", str(each)) if isinstance(each, dict) else str(each) for each in differences),
            "The live database is as it was. Verify this archive. If it is damaged, restore another one. If it is good,"
            " the difference arose while it was restored: keep it, and report these lines.",
        )
    tables = expected["tables"]
    found = {"by": "fingerprint", "tables": len(tables), "rows": sum(each["rows"] for each in tables.values())}
    if expected.get("unproven"):
        found["unproven"] = expected["unproven"]
    return dict(found, without=without) if without else found


def _flat(names):
    return ".".join(map(one_line, names))


def _count(connection, schema, name):
    with postgres_server.transaction(connection):
        statement = f"SELECT pg_catalog.count(*) FROM ONLY {sql_names.quote(schema, name)}"
        return index_search_path.query(connection, statement, schema)[0][0]


def partition_roots(connection):
    """Each partitioned table and partition, as (schema, name), to the partitioned table that it is part of."""
    return {
        (schema, name): (of_schema, of_name)
        for schema, name, of_schema, of_name in postgres_server.query(connection, _ROOTS)
    }


def by_counting(connection, contents, lost=()):
    """Compare the rows of each table with those the dump held, and count everything else for the report.

    lost: as above. Tables whose rows came as INSERTs are counted and not compared. A partitioned table is compared as a
    whole: its rows may have been loaded through it, and have gone into other partitions than before.
    """
    differences = []
    rows, wholes, roots = {}, {}, partition_roots(connection)
    merged = {(each.schema, each.table) for each in contents.merged}
    gone = [loss.object for loss in lost]
    for schema, name in dict.fromkeys(contents.names("TABLE")):
        if f"TABLE {schema}.{name}" in gone or f"TABLE DATA {schema}.{name}" in gone:
            continue
        count = contents.rows.get((schema, name))
        real = sorted(contents.table_names.get((schema, name), {(schema, name)}))
        found = sum(_count(connection, *table) for table in real)
        rows[sql_names.quote(schema, name)] = found
        if (schema, name) not in merged:
            whole = sql_names.quote(*roots.get(real[0], (schema, name)))
            wholes.setdefault(whole, []).append((count, found))
    for whole, parts in wholes.items():
        counts = [count for count, _ in parts if count is not None]
        found = sum(found for _, found in parts)
        if counts and sum(counts) != found:
            differences.append(f"{whole}: {sum(counts)} rows in the dump, {found} restored")
    filled = set(contents.names("MATERIALIZED VIEW DATA"))
    for schema, name in postgres_server.query(
        connection,
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'm' AND NOT c.relispopulated",
    ):
        entry = (one_line(schema), one_line(name))
        if entry in filled and "MATERIALIZED VIEW DATA {}.{}".format(*entry) not in gone:
            differences.append(f"{sql_names.quote(schema, name)}: a materialized view that was filled is empty")
    if differences:
        raise SauvegardeError(
            "The restored database differs from its dump; nothing was swapped.",
            "\n".join(differences),
            "Look at the restore's log; the live database is untouched.",
        )
    report = {name: postgres_server.value(connection, text.format(_OURS)) for name, text in _COUNTS.items()}
    report["large_objects"] = postgres_server.value(
        connection, "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata"
    )
    report["by"] = "counting"
    report["rows"] = sum(rows.values())
    report["rows_of"] = rows
    return dict(report, without=gone) if gone else report
