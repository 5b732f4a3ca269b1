"""Losses inside partitioned tables, whose fingerprint is one sum: they are accepted like others."""

import pytest
from sauvegarde.backup import kinds
from test_cases_losses import forget, refused, restored, spec

# A function that refuses elsewhere stands for whatever a target cannot do: here it compares partition bounds.
SITE = """
CREATE FUNCTION here(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  IF current_database() <> 'parted' AND a >= 100 THEN RAISE EXCEPTION 'not here'; END IF;
  RETURN a;
END $$;
CREATE FUNCTION compared(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS $$
  SELECT pg_catalog.btint4cmp(public.here(a), public.here(b)) $$;
CREATE OPERATOR CLASS ours FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=,
  OPERATOR 5 >, FUNCTION 1 compared(int, int);
CREATE TABLE "Rows x" (a int, b int, h int GENERATED ALWAYS AS (here(a)) STORED) PARTITION BY LIST (b);
CREATE TABLE rows_1 PARTITION OF "Rows x" FOR VALUES IN (1);
CREATE TABLE "rows 2" PARTITION OF "Rows x" FOR VALUES IN (2);
INSERT INTO "Rows x" SELECT i, 1 + i / 100 FROM generate_series(1, 199) i;
CREATE TABLE bound (a int, b int) PARTITION BY RANGE (a ours);
CREATE TABLE bound_1 PARTITION OF bound FOR VALUES FROM (1) TO (10);
CREATE TABLE bound_2 PARTITION OF bound FOR VALUES FROM (100) TO (200);
CREATE TABLE deep (a int, b int) PARTITION BY RANGE (a ours);
CREATE TABLE deep_1 PARTITION OF deep FOR VALUES FROM (1) TO (10);
CREATE TABLE deep_2 PARTITION OF deep FOR VALUES FROM (100) TO (200) PARTITION BY LIST (b);
CREATE TABLE deep_21 PARTITION OF deep_2 FOR VALUES IN (1);
CREATE TABLE whole (a int) PARTITION BY LIST (a);
CREATE TABLE whole_1 PARTITION OF whole FOR VALUES IN (1);
INSERT INTO whole SELECT 1 FROM generate_series(1, 5);
"""
ROWS = ["INSERT INTO {}_1 VALUES (5, 1)", "INSERT INTO {}_2 VALUES (150, 1), (160, 1)"]
LOST = ["TABLE ATTACH public.bound_2", "TABLE ATTACH public.deep_2", "TABLE DATA public.rows 2"]


@pytest.fixture(scope="module")
def parted(cluster, tmp_path_factory):
    if cluster.execute("SHOW server_version_num")[0][0] < "140000":
        pytest.skip("pg_dump 13 and older attach partitions in other entries")
    cluster.execute("CREATE DATABASE parted TEMPLATE template0")
    cluster.execute(SITE, "parted")
    for statement in ROWS:
        cluster.execute(statement.format("bound"), "parted")
        cluster.execute(statement.format("deep"), "parted")
    root = tmp_path_factory.mktemp("parted")
    (root / "j").mkdir(mode=0o700)
    job = {"name": "j", "kind": "pg_dump", "connection": cluster.values, "database": "parted"}
    yield root / "j" / kinds.back_up(job, root)["id"]
    forget(cluster)


def test_what_a_partitioned_table_loses_is_accepted(cluster, parted, tmp_path):
    request = spec(cluster, tmp_path, parted)
    _, names = refused(request)
    assert sorted(names) == LOST
    done, _ = restored(dict(request, accept_losses=names))
    more = ["TABLE DATA public.Rows x", "TABLE DATA public.bound", "TABLE DATA public.deep"]
    assert sorted(done["proof"]["without"]) == sorted(LOST + more)
    assert (done["proof"]["tables"], done["proof"]["rows"]) == (1, 5), "what is left is proven"
    counts = "SELECT (SELECT count(*) FROM {}), (SELECT count(*) FROM {}), (SELECT count(*) FROM {})"
    assert cluster.execute(counts.format('"Rows x"', "rows_1", '"rows 2"'), "back") == [(99, 99, 0)]
    assert cluster.execute(counts.format("bound", "bound_1", "bound_2"), "back") == [(1, 1, 2)]
    assert cluster.execute(counts.format("deep", "deep_2", "deep_21"), "back") == [(1, 2, 2)]
    forget(cluster, "parted")
