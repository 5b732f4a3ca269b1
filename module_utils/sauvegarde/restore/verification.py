"""Prove a side database: compare it with its archive's fingerprint or, without a manifest, by counting rows."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import psycopg2

from ..archive.manifest import Manifest
from ..errors import Damaged, SauvegardeError
from ..postgres import fingerprint, index_search_path, postgres_server, server_errors, sql_names
from ..postgres.postgres_server import Server
from .dump.contents import Contents
from .dump.entries import one_line
from .dump.loss_ledger import Loss
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


def against_manifest(
    server: Server, name: str, manifest: Manifest, jobs: int, losses: Sequence[Loss] = ()
) -> dict[str, Any]:
    """Compare the side database's fingerprint with the manifest's, table by table. Raises Damaged with all differences.

    losses: the accepted ones, which are left out of the comparison.
    Returns {"by": "fingerprint", "tables", "rows"}, "unproven" (as in the manifest) if there are such objects, and
    "without" if there are losses: their names, and those of partitioned tables that they are part of.
    """
    without = [loss.object for loss in losses]
    with contextlib.closing(postgres_server.connect(server, name)) as connection:
        roots = {_dotted(part): _dotted(root) for part, root in partition_roots(connection).items()}
    stated = manifest.fingerprint or {}
    tables, parts = affected_partitions(stated, without, roots)
    without += [table for table in tables if table not in without]
    absent = without + parts
    expected = surviving_fingerprint(stated, absent)
    actual = surviving_fingerprint(_fingerprint(server, name, jobs, expected), absent)
    differences = fingerprint.compare(expected, actual)
    if differences:
        raise Damaged(
            "The restored database differs from its archive; nothing was swapped.",
            "\n".join(str(difference.get("sentence", difference)) for difference in differences),
            "The live database is as it was. Verify this archive. If it is damaged, restore another one. If it is good,"
            " the difference arose while it was restored: keep it, and report these lines.",
        )
    sums = expected["tables"]
    proof = {"by": "fingerprint", "tables": len(sums), "rows": sum(table["rows"] for table in sums.values())}
    if expected.get("unproven"):
        proof["unproven"] = expected["unproven"]
    return dict(proof, without=without) if without else proof


def _fingerprint(server: Server, name: str, jobs: int, expected: dict[str, Any]) -> dict[str, Any]:
    """Return the side database's fingerprint, of the same objects as the expected one."""
    try:
        actual: dict[str, Any] = fingerprint.take(
            lambda: postgres_server.connect(server, name), workers=jobs, reference=expected
        )
    except psycopg2.Error as error:
        raise server_errors.database_error(
            error,
            "The restored database could not be read to compare it with its archive; nothing was swapped.",
            "The archive is not at fault. "
            + (server_errors.server_fix(str(error)) or "Look in the target server's log, and run the restore again."),
        ) from error
    return actual


def _dotted(names: tuple[str, str]) -> str:
    return ".".join(map(one_line, names))


def _count(connection: Any, schema: str, name: str) -> int:
    with postgres_server.transaction(connection):
        statement = f"SELECT pg_catalog.count(*) FROM ONLY {sql_names.quote(schema, name)}"
        count: int = index_search_path.query(connection, statement, schema)[0][0]
        return count


def partition_roots(connection: Any) -> dict[tuple[str, str], tuple[str, str]]:
    """Return the partitioned table that each partitioned table and partition belongs to, all as (schema, name)."""
    return {
        (schema, name): (root_schema, root_name)
        for schema, name, root_schema, root_name in postgres_server.query(connection, _ROOTS)
    }


def by_counting(connection: Any, contents: Contents, losses: Sequence[Loss] = ()) -> dict[str, Any]:
    """Compare the rows of each table with those that the dump held, and count everything else for the report.

    losses: as above. Tables whose rows came as INSERTs are counted and not compared.
    """
    absent = [loss.object for loss in losses]
    rows, differences = _compare_rows(connection, contents, absent)
    differences += _empty_views(connection, contents, absent)
    if differences:
        raise SauvegardeError(
            "The restored database differs from its dump; nothing was swapped.",
            "\n".join(differences),
            "Look at the restore's log; the live database is untouched.",
        )
    report: dict[str, Any] = {
        name: postgres_server.value(connection, statement.format(_OURS)) for name, statement in _COUNTS.items()
    }
    large_objects = "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata"
    report["large_objects"] = postgres_server.value(connection, large_objects)
    report.update(by="counting", rows=sum(rows.values()), rows_of=rows)
    return dict(report, without=absent) if absent else report


def _compare_rows(connection: Any, contents: Contents, absent: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Return the number of rows of each table, and sentences about those that differ from the dump.

    A partitioned table is compared as a whole: its rows may have been loaded through it, and have gone into other
    partitions than before.
    """
    rows: dict[str, int] = {}
    wholes: dict[str, list[tuple[int | None, int]]] = {}
    roots = partition_roots(connection)
    merged = {(spooled.schema, spooled.table) for spooled in contents.merged}
    for schema, name in dict.fromkeys(contents.names("TABLE")):
        if f"TABLE {schema}.{name}" in absent or f"TABLE DATA {schema}.{name}" in absent:
            continue
        tables = sorted(contents.table_names.get((schema, name), {(schema, name)}))
        restored = sum(_count(connection, *table) for table in tables)
        rows[sql_names.quote(schema, name)] = restored
        if (schema, name) not in merged:
            whole = sql_names.quote(*roots.get(tables[0], (schema, name)))
            wholes.setdefault(whole, []).append((contents.rows.get((schema, name)), restored))
    differences = []
    for whole, counts in wholes.items():
        dumped = [count for count, _ in counts if count is not None]
        restored = sum(count for _, count in counts)
        if dumped and sum(dumped) != restored:
            differences.append(f"{whole}: {sum(dumped)} rows in the dump, {restored} restored")
    return rows, differences


def _empty_views(connection: Any, contents: Contents, absent: Sequence[str]) -> list[str]:
    """Return sentences about the materialized views that are empty and were filled in the dump."""
    filled = set(contents.names("MATERIALIZED VIEW DATA"))
    differences = []
    for schema, name in postgres_server.query(
        connection,
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'm' AND NOT c.relispopulated",
    ):
        entry = (one_line(schema), one_line(name))
        if entry in filled and "MATERIALIZED VIEW DATA {}.{}".format(*entry) not in absent:
            differences.append(f"{sql_names.quote(schema, name)}: a materialized view that was filled is empty")
    return differences
