"""Tables with rows whose text the server cannot make, or cannot put in UTF-8: proven by the hashes of their columns."""

import contextlib

import psycopg2
import pytest
from sauvegarde.backup import kinds
from sauvegarde.postgres import fingerprint, postgres_server
from test_cases_encodings import job, make, named, restore  # noqa: F401 - a fixture

# A byte that each encoding's own check lets pass, and that has no equivalent in UTF-8.
WITHOUT_UTF8 = {"WIN1252": 129, "WIN1253": 170, "WIN1257": 161, "WIN1255": 255}


@pytest.mark.parametrize("encoding", [*sorted(WITHOUT_UTF8), "MULE_INTERNAL"])
def test_bytes_without_utf8_are_proven(cluster, named, repository, tmp_path, encoding):  # noqa: F811
    """pg_dump dumps them in the database's own encoding, and they come back as they were."""
    source, target = named
    try:
        make(cluster, source, encoding)
    except psycopg2.Error as error:
        pytest.skip(str(error))
    byte = f"chr({WITHOUT_UTF8[encoding]})" if encoding in WITHOUT_UTF8 else r"E'\x81\xe9'"
    cluster.execute(
        f"CREATE TABLE odd (id int, t text, n int, ts text[], r point); CREATE TABLE even AS SELECT 1 AS i;"
        f"INSERT INTO odd VALUES (1, {byte}, NULL, ARRAY[{byte}, NULL]), (2, 'plain', 3, NULL), (3, NULL, 4, '{{}}')",
        source,
    )
    manifest = kinds.back_up(job(cluster, source), repository)
    result = manifest["fingerprint"]
    assert "unproven" not in result and manifest["warnings"] == []
    assert result["tables"]['"public"."odd"']["rows"] == 3 and result["tables"]['"public"."odd"']["by"] == "columns"
    assert "by" not in result["tables"]['"public"."even"'] or encoding == "MULE_INTERNAL"
    assert restore(cluster, repository / "demo" / manifest["id"], target, tmp_path)["proof"]["by"] == "fingerprint"
    bytes_of = "SELECT string_agg(encode(textsend(t), 'hex'), ' ' ORDER BY id) FROM odd"
    assert cluster.execute(bytes_of, target) == cluster.execute(bytes_of, source)
    for change in ("t = 'q' WHERE id = 1", "n = 5 WHERE id = 2", "ts = NULL WHERE id = 3", "t = '' WHERE id = 3"):
        cluster.execute(f"BEGIN; CREATE TABLE was AS SELECT * FROM odd; UPDATE odd SET {change}; COMMIT", target)
        now = fingerprint.take(lambda: cluster.connect(target), reference=result)
        objects = [each["object"] for each in fingerprint.compare(result, now)]
        assert objects == ['table "public"."odd"', 'table "public"."was"'], change
        cluster.execute("TRUNCATE odd; INSERT INTO odd SELECT * FROM was; DROP TABLE was", target)


@pytest.fixture()
def too_large(monkeypatch):
    """Names of tables whose rows have a text of more than 1 GB, as the server says it."""
    result, original = set(), fingerprint.sum_table

    def sum_table(connection, table, by="row"):
        if table.name in result and by == "row":
            words = "RAISE 'invalid memory alloc request size 1073741824' USING ERRCODE = 'XX000'"
            postgres_server.execute(connection, f"DO $$BEGIN {words}; END$$")
        return original(connection, table, by)

    monkeypatch.setattr(fingerprint, "sum_table", sum_table)
    return result


def test_a_row_that_is_too_large_is_proven(cluster, database, repository, too_large):
    """So are all rows of a table of which one part has such a row, wherever rows go on the target."""
    cluster.execute(
        "CREATE TABLE big (id int, f float8, t text); INSERT INTO big VALUES (1, 0.1, 'x'), (2, 'NaN', NULL);"
        "CREATE TABLE log (i int, t text) PARTITION BY RANGE (i); CREATE TABLE small AS SELECT 1 AS i;"
        "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (50);"
        "CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM (50) TO (100);"
        "INSERT INTO log SELECT i, 'x' FROM generate_series(1, 99) i",
        database,
    )
    too_large.update(["big", "log_2"])
    result = kinds.back_up(job(cluster, database), repository)["fingerprint"]
    too_large.clear()
    assert "unproven" not in result
    ways = {name: each.get("by", "row") for name, each in result["tables"].items()}
    assert ways == {'"public"."big"': "columns", '"public"."log"': "columns", '"public"."small"': "row"}
    with contextlib.closing(cluster.connect(database)) as connection:
        for change, lost in (
            ("UPDATE small SET i = i", []),
            ("UPDATE big SET f = 0.3 WHERE id = 1", ["big"]),
            ("UPDATE log SET t = 'y' WHERE i = 3", ["big", "log"]),
        ):
            postgres_server.execute(connection, change)
            now = fingerprint.take(lambda: cluster.connect(database), reference=result)
            objects = [each["object"] for each in fingerprint.compare(result, now)]
            assert objects == [f'table "public"."{name}"' for name in lost]
