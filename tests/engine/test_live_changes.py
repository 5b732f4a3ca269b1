"""A plan says which tables of the live database a restore would change, in a few seconds and without waiting."""

import contextlib

import restores
from sauvegarde.archive import manifest
from sauvegarde.backup import kinds
from sauvegarde.report import render
from sauvegarde.restore import live_changes

TABLES = """
CREATE TABLE same AS SELECT n FROM generate_series(1, 10) n;
CREATE TABLE newer AS SELECT n FROM generate_series(1, 10) n;
CREATE TABLE deleted AS SELECT n FROM generate_series(1, 10) n;
CREATE TABLE edited AS SELECT n FROM generate_series(1, 10) n;
CREATE TABLE dropped AS SELECT n FROM generate_series(1, 10) n;
CREATE TABLE nothing (n int);
CREATE TABLE parted (n int) PARTITION BY RANGE (n);
CREATE TABLE "part-1" PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE "part-2" PARTITION OF parted FOR VALUES FROM (10) TO (20);
INSERT INTO parted SELECT n FROM generate_series(1, 19) n;
"""
LATER = """
INSERT INTO newer SELECT n FROM generate_series(11, 22) n;
DELETE FROM deleted WHERE n > 7;
UPDATE edited SET n = 0 WHERE n = 1;
DROP TABLE dropped, nothing;
CREATE TABLE late AS SELECT 1 AS n;
UPDATE parted SET n = 2 WHERE n = 1;
"""
CHANGES = {
    ("public.newer", 10, 22),
    ("public.deleted", 10, 7),
    ("public.edited", 10, 10),
    ("public.dropped", 10, None),
    ("public.late", None, 1),
    ("public.parted", 19, 19),
}


def test_a_plan_names_the_tables_that_differ(cluster, database, repository, tmp_path):
    cluster.execute(TABLES, database)
    job = {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database}
    path = repository / "demo" / kinds.back_up(job, repository)["id"]
    spec = {"connection": cluster.values, "path": str(path), "database": database, "directory": str(tmp_path / "runs")}
    plan = restores.plan(spec)
    assert plan["changes"] == {"tables": [], "compared": 7, "omitted": []}
    assert "Change: none; archive and live database are equal in 7 tables" in render.of_plan(plan)
    mark = plan["mark"]

    cluster.execute(LATER, database)
    plan = restores.plan(spec)
    assert {tuple(table.values()) for table in plan["changes"]["tables"]} == CHANGES
    assert plan["mark"] == mark, "a site goes on working while its plan is read"
    lines = render.of_plan(plan)
    assert "Change: 12 rows of public.newer are newer (22 in the live database, 10 in the archive)" in lines
    assert "Change: 3 rows of public.deleted come back (7 in the live database, 10 in the archive)" in lines
    assert "Change: public.edited has other contents in its 10 rows" in lines

    expected = manifest.load(path / "manifest.json").fingerprint
    with contextlib.closing(cluster.connect(database)) as holder:
        # A lock is not waited for: the table is named as not compared.
        with holder.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("LOCK TABLE newer")
        with contextlib.closing(cluster.connect(database)) as connection:
            connection.autocommit = True
            changes = live_changes.compare(connection, expected)
        assert changes.omitted == ("public.newer",)
        assert {table.table for table in changes.tables} == {name for name, *_ in CHANGES} - {"public.newer"}
    with contextlib.closing(cluster.connect(database)) as connection:
        connection.autocommit = True
        counted = live_changes.compare(connection, expected, summing=0)
        assert "public.edited" in counted.omitted and "public.newer" not in counted.omitted
    # Beside the live database nothing of it changes.
    assert restores.plan(dict(spec, mode="beside", database=database + "_beside"))["changes"] is None
