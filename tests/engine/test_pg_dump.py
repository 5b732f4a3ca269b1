"""The pg_dump kind against a real server: what is in an archive, and that nothing less is ever published."""

import pytest
from sauvegarde.archive import archive_reader
from sauvegarde.backup import kinds
from sauvegarde.postgres import client_tools, fingerprint, sql_names

SCHEMA = """
CREATE SCHEMA "Géo ""x"" -y";
CREATE TABLE offers (id serial PRIMARY KEY, title varchar(250), content text, at timestamptz, score float8, half float4,
                     tags text[], raw bytea, body jsonb, price money, gap interval, "char" "char");
INSERT INTO offers (title, content, at, score, half, tags, raw, body, price, gap, "char")
SELECT 'Offre ' || i, repeat(md5(i::text), 20), '2024-01-01 00:00+01'::timestamptz + i * interval '1 h', 1.0 / i,
       1.0 / i, ARRAY['a', NULL, 'ç"', i::text], decode(md5(i::text), 'hex'), jsonb_build_object('n', i), i::money,
       i * interval '1 h', 'x'
FROM generate_series(1, 500) AS i;
INSERT INTO offers (score, half) VALUES ('NaN', '-Infinity'), ('-0', '0'), (NULL, NULL);
CREATE TABLE "Géo ""x"" -y"."-Table 'é' $(id)" ("Colonne -- %s" text, "x" int);
INSERT INTO "Géo ""x"" -y"."-Table 'é' $(id)" VALUES ('a' || chr(10) || 'b', 1), ('', NULL), (NULL, 2);
CREATE TABLE parent (a int, b int); CREATE TABLE heir (own text) INHERITS (parent);
INSERT INTO parent VALUES (1, 2); INSERT INTO heir VALUES (3, 4, 'x');
ALTER TABLE parent ADD COLUMN later int DEFAULT 7;
CREATE UNLOGGED TABLE unlogged (a int); INSERT INTO unlogged VALUES (1);
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE dropped (a int, gone int, c int);
INSERT INTO dropped VALUES (1, 2, 3); ALTER TABLE dropped DROP COLUMN gone;
CREATE SEQUENCE "Géo ""x"" -y"."seq.uen'ce é" START 10; SELECT nextval('"Géo ""x"" -y"."seq.uen''ce é"');
CREATE MATERIALIZED VIEW filled AS SELECT count(*) FROM offers;
CREATE MATERIALIZED VIEW hollow AS SELECT 1 WITH NO DATA;
SELECT lo_from_bytea(4242, repeat('x', 3000000)::bytea), lo_create(4243);
"""


@pytest.fixture()
def filled(cluster, database):
    cluster.execute(SCHEMA, database)
    return database


def job(cluster, database, **more):
    return {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database, **more}


def take(cluster, database, reference=None):
    return fingerprint.take(lambda: cluster.connect(database), reference=reference)


def restore(cluster, plain, source, target):
    """What pg_restore makes of the dump in another database of the server."""
    cluster.execute(f"CREATE DATABASE {sql_names.quote(target)} TEMPLATE template0")
    cluster.run("pg_restore", "--exit-on-error", "-j2", "-d", client_tools.conninfo(target), plain / "dump")


def test_round_trip(cluster, filled, repository, tmp_path):
    manifest = kinds.back_up(job(cluster, filled), repository)
    path = repository / "demo" / manifest["id"]
    assert kinds.verify(path)["checksum"] == manifest["checksum"]
    archive_reader.expand(path, tmp_path / "plain")
    assert archive_reader.verify_plain(tmp_path / "plain")["id"] == manifest["id"]
    sums = manifest["fingerprint"]
    assert sums["tables"]['"public"."offers"']["rows"] == 503
    assert sums["large_objects"]["rows"] == 2
    assert sums["matviews"] == {'"public"."filled"': True, '"public"."hollow"': False}
    assert sums["sequences"]['"Géo ""x"" -y"."seq.uen\'ce é"'] == [10, True]
    restore(cluster, tmp_path / "plain", filled, "restored")
    try:
        assert fingerprint.compare(sums, take(cluster, "restored", reference=sums)) == []
        cluster.execute("UPDATE offers SET score = score + 1e-15 WHERE id = 3", "restored")
        assert [each["object"] for each in fingerprint.compare(sums, take(cluster, "restored", reference=sums))] == [
            'table "public"."offers"'
        ]
    finally:
        cluster.execute("DROP DATABASE restored")


def test_large_tables_and_many_small_ones(cluster, database, repository):
    """Both ways of compressing: behind the writer, and in batches."""
    cluster.execute(
        "CREATE TABLE large AS SELECT i, (SELECT string_agg(md5((i * 1000 + k)::text), '')"
        " FROM generate_series(1, 60) k) AS t FROM generate_series(1, 20000) AS i;"
        "CREATE TABLE larger AS SELECT i, t || upper(t) || t AS t FROM large;"
        "DO $$BEGIN FOR n IN 1..150 LOOP EXECUTE format('CREATE TABLE t%s AS SELECT %s AS n', n, n); END LOOP; END$$;"
        "SELECT lo_from_bytea(0, decode(repeat(md5(i::text), 100), 'hex')) FROM generate_series(1, 150) AS i;",
        database,
    )
    manifest = kinds.back_up(job(cluster, database, workers=2), repository)
    sums = manifest["fingerprint"]
    assert len(sums["tables"]) == 152
    assert sums["large_objects"]["rows"] == 150
    assert manifest["bytes"] > 4 * 20000 * 60 * 32
    assert not [entry for entry in manifest["files"] if entry["path"].endswith(".zst")]
    kinds.verify(repository / "demo" / manifest["id"])
