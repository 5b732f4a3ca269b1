"""Suspend CHECKs that may read other rows while rows are loaded, so that no order of loading matters.

A function in a CHECK can read another table, or its own. PostgreSQL does not know that, and neither does pg_dump:
whether such rows are accepted depends on the order of loading. The rows were accepted at the source, so their CHECKs
are suspended for the data and put back unchanged, still marked as validated: dropped and added again they might refuse
rows that the source holds (a CHECK that counts rows), and would lose the marks of those that are inherited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import connection as Connection

from ..postgres import postgres_server

# A CHECK or a default depends on each function that it names, and on each operator, which calls one.
_CALLS = (
    "EXISTS (SELECT 1 FROM pg_catalog.pg_depend d LEFT JOIN pg_catalog.pg_operator o"
    "  ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = d.refobjid"
    " JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode"
    "  OR (d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = d.refobjid)"
    " JOIN pg_catalog.pg_language l ON l.oid = p.prolang"
    " WHERE ({}) AND l.lanname NOT IN ('c', 'internal')"
    " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' AND e.objid = p.oid"
    "  AND e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass))"
)
_DEPENDENT = "d.classid = '{}'::pg_catalog.regclass AND d.objid = {}"
_CHECKS = "SELECT k.oid, k.conrelid FROM pg_catalog.pg_constraint k WHERE k.contype = 'c' AND " + _CALLS.format(
    _DEPENDENT.format("pg_catalog.pg_constraint", "k.oid")
)
# From 12 on.
_COMPUTED = (
    "SELECT DISTINCT n.nspname, c.relname FROM pg_catalog.pg_attrdef f"
    " JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum"
    " JOIN pg_catalog.pg_class c ON c.oid = f.adrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE a.attgenerated <> '' AND "
    + _CALLS.format(
        # Before 15 the column itself depends on what computes it.
        _DEPENDENT.format("pg_catalog.pg_attrdef", "f.oid")
        + " OR "
        + _DEPENDENT.format("pg_catalog.pg_class", "f.adrelid")
        + " AND d.objsubid = f.adnum"
    )
)
# The partition of a row is computed when it is loaded, also if it is loaded into the partition itself.
_ROUTED = (
    "WITH RECURSIVE routed AS (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'p' AND "
    + _CALLS.format(_DEPENDENT.format("pg_catalog.pg_class", "c.oid") + " AND d.objsubid = 0")
    + " UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN routed ON i.inhparent = routed.oid)"
    " SELECT n.nspname, c.relname FROM routed JOIN pg_catalog.pg_class c ON c.oid = routed.oid"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
)
# Not a type of constraint: nothing that reads the catalog for CHECKs finds it.
_SUSPENDED = "-"


@dataclass(frozen=True)
class Check:
    """A CHECK: its OID, and the OID of its table, 0 for a domain's."""

    oid: int
    table: int


def suspend(connection: Connection) -> list[Check]:
    """Suspend the CHECKs, of tables and of domains, that call a function of the site; return them."""
    checks = [Check(oid, table) for oid, table in postgres_server.query(connection, _CHECKS)]
    _mark(connection, checks, "c", _SUSPENDED, -1)
    return checks


def resume(connection: Connection, suspended: Sequence[Check]) -> None:
    """Put the CHECKs back as they were."""
    _mark(connection, suspended, _SUSPENDED, "c", 1)


def _mark(connection: Connection, checks: Sequence[Check], old: str, new: str, step: int) -> None:
    """Change the type of the CHECKs. step: by how much each changes its table's count in pg_class, beyond which the
    server reads none."""
    if not checks:
        return
    postgres_server.execute(connection, "BEGIN")
    postgres_server.execute(
        connection,
        "UPDATE pg_catalog.pg_constraint SET contype = %s WHERE contype = %s AND oid = ANY (%s::pg_catalog.oid[])",
        (new, old, [check.oid for check in checks]),
    )
    tables = [check.table for check in checks if check.table]
    for table in sorted(set(tables)):
        postgres_server.execute(
            connection,
            "UPDATE pg_catalog.pg_class SET relchecks = relchecks + %s WHERE oid = %s",
            (step * tables.count(table), table),
        )
    postgres_server.execute(connection, "COMMIT")


def violations(connection: Connection, checks: Sequence[Check]) -> list[str]:
    """Return a sentence on each CHECK of a table that does not hold for every row now that all rows are loaded."""
    sentences = []
    for table, name, condition in postgres_server.query(
        connection,
        "SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname), k.conname,"
        " pg_catalog.pg_get_expr(k.conbin, k.conrelid) FROM pg_catalog.pg_constraint k"
        " JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE k.oid = ANY (%s::pg_catalog.oid[]) AND k.convalidated AND c.relkind = 'r' ORDER BY 1, 2",
        ([check.oid for check in checks],),
    ):
        try:
            count = postgres_server.value(connection, f"SELECT count(*) FROM ONLY {table} WHERE NOT ({condition})")
            why = f"{count} row(s) do not satisfy it" if count else ""
        except psycopg2.Error as error:
            why = str(error).splitlines()[0]
        if why:
            sentences.append(f"the CHECK {name} of {table} was accepted as the source has it, but today {why}")
    return sentences


def computed_tables(connection: Connection) -> set[tuple[str, str]]:
    """Return (schema, name) of the tables that call a function of the site when a row is loaded, for a generated column
    or to choose a partition. It may read other tables, so these are loaded after all others."""
    generated = postgres_server.query(connection, _COMPUTED) if connection.server_version >= 120000 else []
    return {*generated, *postgres_server.query(connection, _ROUTED)}
