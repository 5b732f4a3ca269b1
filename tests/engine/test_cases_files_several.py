"""Several dumps of pg_dump in one file: listed as those of pg_dumpall are, and one is chosen."""

import gzip
import subprocess

import pytest
import restores
from sauvegarde.postgres import client_tools, postgres_server, sql_names
from sauvegarde.targets import side_database

# Rows and a body that hold what stands between dumps.
TRAP = """
CREATE TABLE t AS SELECT i, E'\\\\connect other\\n--\\n-- PostgreSQL database dump complete\\n--\\n'::text AS n
 FROM generate_series(1, {}) i;
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS '/*
--
-- PostgreSQL database dump
--
*/ SELECT ''{}''::text'
"""
NAMES = {"sv_one": 3, "sv two's": 5, "sv_latin": 7}


@pytest.fixture(scope="module")
def dumps(cluster):
    """{(name, whether with --create): bytes of a plain dump}"""
    collected = {}
    for name, rows in NAMES.items():
        more = " ENCODING 'LATIN9' LC_COLLATE 'C' LC_CTYPE 'C'" if name == "sv_latin" else ""
        cluster.execute(f"CREATE DATABASE {sql_names.quote(name)} TEMPLATE template0{more}")
        cluster.execute(TRAP.format(rows, "é"), name)
        for create in (True, False):
            collected[name, create] = subprocess.run(
                [str(cluster.binaries / "pg_dump"), *(["-C"] if create else [])],
                env=client_tools.environment(cluster.server, name),
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
    connection = cluster.connect()
    for name in NAMES:
        side_database.drop(connection, name)
    yield collected
    for (name,) in postgres_server.query(connection, "SELECT datname FROM pg_database WHERE datname ~ '^sv[_ ]'"):
        side_database.drop(connection, name)
    connection.close()


def spec(cluster, folder, data, database, **more):
    (folder / "all.sql").write_bytes(data)
    values = {"connection": cluster.values, "path": str(folder / "all.sql"), "database": database}
    return dict(values, directory=str(folder / "restores"), **more)


def restored(cluster, values):
    """(rows of t, what f says) in the restored database."""
    filled = restores.fill(values)
    restores.swap_in(values, filled["id"])
    database = values["database"]
    rows = cluster.execute("SELECT count(*) FROM t", database)[0][0], cluster.execute("SELECT f()", database)[0][0]
    connection = cluster.connect()
    side_database.drop(connection, database)
    connection.close()
    return rows


@pytest.mark.parametrize("packed", [False, True])
def test_one_of_several_dumps_is_restored(cluster, dumps, tmp_path, packed):
    pieces = [dumps[name, True] for name in NAMES]
    data = b"".join(gzip.compress(piece, 1) if packed else piece for piece in pieces)
    for name, rows in NAMES.items():
        values = spec(cluster, tmp_path, data, name)
        planned = restores.plan(values)
        assert planned["obstacles"] == []
        assert any("several dumps in one file" in each["what"] for each in planned["warnings"])
        assert restored(cluster, values) == (rows, "é")
    (result,) = restores.plan(spec(cluster, tmp_path, data, "elpaso"))["obstacles"]
    assert all(name in result["why"] for name in NAMES) and "restore_file_database" in result["fix"]
    assert restored(cluster, spec(cluster, tmp_path, data, "sv_copy", file_database="sv two's")) == (5, "é")


def test_dumps_without_a_name_are_numbered(cluster, dumps, tmp_path):
    data = dumps["sv_one", False] + dumps["sv_latin", False]
    (result,) = restores.plan(spec(cluster, tmp_path, data, "sv_one"))["obstacles"]
    assert "#1, #2" in result["why"]
    for number, rows in (("#1", 3), ("#2", 7)):
        assert restored(cluster, spec(cluster, tmp_path, data, "sv_copy", file_database=number)) == (rows, "é")


def test_two_dumps_of_one_database(cluster, dumps, tmp_path):
    """As where each night's dump is appended to the file: which one is meant is asked."""
    data = dumps["sv_one", True] * 2
    (result,) = restores.plan(spec(cluster, tmp_path, data, "sv_one"))["obstacles"]
    assert "sv_one #1" in result["what"] and "sv_one #2" in result["why"]
    for expected in ("sv_one #1", "sv_one #2"):
        assert restored(cluster, spec(cluster, tmp_path, data, "sv_one", file_database=expected)) == (3, "é")


def test_sql_beside_the_dumps_is_not_lost(cluster, dumps, tmp_path):
    for data in (
        dumps["sv_one", True] + b"INSERT INTO t VALUES (9);\n" + dumps["sv two's", True],
        dumps["sv_one", True] + b"INSERT INTO t VALUES (9);\n",
    ):
        (result,) = restores.plan(spec(cluster, tmp_path, data, "sv_one"))["obstacles"]
        assert "continues after its closing line" in result["what"]


def test_a_second_dump_that_is_cut_short(cluster, dumps, tmp_path):
    data = dumps["sv_one", True] + dumps["sv two's", True][:-200]
    (result,) = restores.plan(spec(cluster, tmp_path, data, "sv_one"))["obstacles"]
    assert "It ends inside" in result["why"]
