"""Suspend CHECKs that may look at other rows while rows are loaded, so that no order of loading matters.

A function in a CHECK can read another table, or its own. PostgreSQL does not know that, and neither does pg_dump: such
rows go in or are refused by the order of loading. The rows were accepted at the source, so their CHECKs are suspended
for the data and put back unchanged, still marked as validated: dropped and added again they might refuse rows that the
source holds (a CHECK that counts rows), and would lose what says which of them are inherited.
"""

import psycopg2

from ..postgres import postgres_server

# A CHECK or a default depends on each function that it names, and on each operator, which stands for one.
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
_OF = "d.classid = '{}'::pg_catalog.regclass AND d.objid = {}"
_CHECKS = "SELECT k.oid, k.conrelid FROM pg_catalog.pg_constraint k WHERE k.contype = 'c' AND " + _CALLS.format(
    _OF.format("pg_catalog.pg_constraint", "k.oid")
)
# From 12 on.
_COMPUTED = (
    "SELECT DISTINCT n.nspname, c.relname FROM pg_catalog.pg_attrdef f"
    " JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum"
    " JOIN pg_catalog.pg_class c ON c.oid = f.adrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE a.attgenerated <> '' AND "
    + _CALLS.format(
        # Before 15 it is the column itself that depends on what computes it.
        _OF.format("pg_catalog.pg_attrdef", "f.oid")
        + " OR "
        + _OF.format("pg_catalog.pg_class", "f.adrelid")
        + " AND d.objsubid = f.adnum"
    )
)
# Which partition a row belongs to is computed when it is loaded, into the partitions themselves, too.
_ROUTED = (
    "WITH RECURSIVE routed AS (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'p' AND "
    + _CALLS.format(_OF.format("pg_catalog.pg_class", "c.oid") + " AND d.objsubid = 0")
    + " UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN routed ON i.inhparent = routed.oid)"
    " SELECT n.nspname, c.relname FROM routed JOIN pg_catalog.pg_class c ON c.oid = routed.oid"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
)
# No kind of constraint: what reads the catalog for CHECKs passes over it.
_SUSPENDED = "-"


def suspend(connection):
    """Suspend the CHECKs, of tables and of domains, that call a function of the site. Returns what `resume` takes."""
    found = postgres_server.query(connection, _CHECKS)
    _mark(connection, found, "c", _SUSPENDED, -1)
    return found


def resume(connection, suspended):
    """Put the CHECKs back as they were."""
    _mark(connection, suspended, _SUSPENDED, "c", 1)


def _mark(connection, checks, old, new, step):
    """A table counts its CHECKs in pg_class, and reads no more than that."""
    if not checks:
        return
    postgres_server.execute(connection, "BEGIN")
    postgres_server.execute(
        connection,
        "UPDATE pg_catalog.pg_constraint SET contype = %s WHERE contype = %s AND oid = ANY (%s::pg_catalog.oid[])",
        (new, old, [oid for oid, _ in checks]),
    )
    tables = [table for _, table in checks if table]
    for table in sorted(set(tables)):
        postgres_server.execute(
            connection,
            "UPDATE pg_catalog.pg_class SET relchecks = relchecks + %s WHERE oid = %s",
            (step * tables.count(table), table),
        )
    postgres_server.execute(connection, "COMMIT")


def violated(connection, checks):
    """Sentences on those CHECKs of tables that do not hold for every row once all rows are there."""
    found = []
    for table, name, condition in postgres_server.query(
        connection,
        "SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname), k.conname,"
        " pg_catalog.pg_get_expr(k.conbin, k.conrelid) FROM pg_catalog.pg_constraint k"
        " JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE k.oid = ANY (%s::pg_catalog.oid[]) AND k.convalidated AND c.relkind = 'r' ORDER BY 1, 2",
        ([oid for oid, _ in checks],),
    ):
        try:
            count = postgres_server.value(connection, f"SELECT count(*) FROM ONLY {table} WHERE NOT ({condition})")
            why = f"{count} row(s) do not satisfy it" if count else ""
        except psycopg2.Error as error:
            why = str(error).splitlines()[0]
        if why:
            found.append(f"the CHECK {name} of {table} was accepted as the source has it, but today {why}")
    return found


def computed(connection):
    """(schema, name) of tables that call a function of the site to load a row, for a generated column or to choose a
    partition: it may read other tables, so these are filled after all others."""
    generated = postgres_server.query(connection, _COMPUTED) if connection.server_version >= 120000 else []
    return {*generated, *postgres_server.query(connection, _ROUTED)}
