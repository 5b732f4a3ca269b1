"""The fingerprint: the same for the same data whatever surrounds it, another for other data. Globals; PostGIS."""

import os
import re
import shutil
import subprocess
from dataclasses import replace

import conftest
import psycopg2
import pytest
import restores
from sauvegarde.archive import archive_reader
from sauvegarde.backup import kinds
from sauvegarde.backup.kinds import globals as globals_kind
from sauvegarde.postgres import client_tools, database_properties, fingerprint, postgres_server, sql_names


def take(cluster, database, **more):
    return fingerprint.take(lambda: cluster.connect(database), **more)


def job(cluster, database, **more):
    return {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database, **more}


VALUES = """
CREATE TYPE pair AS (a float8, b text);
CREATE DOMAIN share AS float4 CHECK (value >= 0);
CREATE TABLE v (id int, f float8, g float4, h share, i float8[], p pair, q point, t timestamptz, d date, s interval,
                m money, b bytea, r tstzrange, n numeric, x xml, c "char", e text);
INSERT INTO v VALUES
 (1, 0.1, 0.1, 0.3, '{0.1,NULL,1e300}', (0.1, 'é'), '(0.1,0.2)', '2024-03-31 02:30+01', '2024-03-31',
  '1 mon -3 days', 12.5, '\\x00ff', '[2024-01-01,)', 1.10, '<a>é</a>', 'x', ''),
 (2, 'NaN', '-Infinity', 0, '{}', NULL, NULL, 'infinity', '-infinity', '-1 year 2:03', -1, '',
  'empty', 'NaN', NULL, NULL, NULL),
 (3, 1.0000000000000002, 16777217, 1e-30, NULL, (NULL, NULL), '(1e-300,1)', NULL, '0044-03-15 BC', NULL, NULL,
  NULL, NULL, 1e-400, NULL, '', chr(10) || '\\');
"""


def test_what_surrounds_it_makes_no_difference(cluster, database):
    cluster.execute(VALUES, database)
    before = take(cluster, database)
    name = sql_names.quote(database)
    for setting in (
        "extra_float_digits TO 3",
        "extra_float_digits TO -5",
        "DateStyle TO 'SQL, DMY'",
        "IntervalStyle TO 'iso_8601'",
        "TimeZone TO 'Pacific/Auckland'",
        "bytea_output TO 'escape'",
        "search_path TO ''",
    ):
        cluster.execute(f"ALTER DATABASE {name} SET {setting}")
        assert fingerprint.compare(before, take(cluster, database, workers=3)) == [], setting
    cluster.execute("UPDATE public.v SET id = id WHERE id = 1", database)  # moves the row
    assert fingerprint.compare(before, take(cluster, database)) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE v SET f = 1.0000000000000004 WHERE id = 3",
        "UPDATE v SET g = 16777219 WHERE id = 3",
        "UPDATE v SET h = h * 1.0000002 WHERE id = 1",
        "UPDATE v SET f = '-0' WHERE id = 1; ",
        "UPDATE v SET e = NULL WHERE id = 1",
        "UPDATE v SET e = e || ' ' WHERE id = 1",
        "UPDATE v SET t = t + interval '1 microsecond' WHERE id = 1",
        "UPDATE v SET n = 1.100 WHERE id = 1",
        "UPDATE v SET c = 'y' WHERE id = 1",
        "UPDATE v SET i[1] = 0.10001 WHERE id = 1",
        "UPDATE v SET e = b::text, b = NULL WHERE id = 1",
        "DELETE FROM v WHERE id = 2",
        "INSERT INTO v SELECT * FROM v WHERE id = 2",
        "ALTER TABLE v RENAME e TO other",
        "ALTER TABLE v ADD more int",
        "ALTER TABLE v RENAME TO w",
        "UPDATE v SET id = CASE id WHEN 1 THEN 3 WHEN 3 THEN 1 ELSE 2 END",
        "CREATE TABLE more ()",
        "SELECT lo_create(0)",
        "CREATE MATERIALIZED VIEW mv AS SELECT 1",
    ],
)
def test_other_data_is_seen(cluster, database, change):
    cluster.execute(VALUES, database)
    before = take(cluster, database)
    cluster.execute(change, database)
    assert fingerprint.compare(before, take(cluster, database))


def test_columns_go_by_name(cluster, database):
    cluster.execute("CREATE TABLE a (x int, y text); INSERT INTO a VALUES (1, '2')", database)
    before = take(cluster, database)
    cluster.execute("DROP TABLE a; CREATE TABLE a (y text, x int); INSERT INTO a VALUES ('2', 1)", database)
    assert fingerprint.compare(before, take(cluster, database)) == []
    cluster.execute("DROP TABLE a; CREATE TABLE a (y text, x int); INSERT INTO a VALUES ('1', 2)", database)
    assert fingerprint.compare(before, take(cluster, database))


def test_each_row_is_counted_once(cluster, database):
    if int(cluster.execute("SHOW server_version_num")[0][0]) < 120000:
        pytest.skip("partitions and generated columns came later")
    cluster.execute(
        "CREATE TABLE log (at int, t text, twice int GENERATED ALWAYS AS (at * 2) STORED) PARTITION BY RANGE (at);"
        "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM (10) TO (20);"
        "INSERT INTO log (at, t) SELECT i, 'x' FROM generate_series(0, 14) AS i;"
        "CREATE VIEW v AS SELECT * FROM log; CREATE TEMP TABLE gone AS SELECT 1;",
        database,
    )
    result = take(cluster, database)["tables"]
    assert {name: entry["rows"] for name, entry in result.items()} == {'"public"."log"': 15}
    assert result['"public"."log"']["partitions"] == ['"public"."log_1"', '"public"."log_2"']


def test_a_large_object_in_pieces(cluster, database):
    chunk = 1024 * 1024
    for size in (chunk - 1, chunk, chunk + 1, 2 * chunk):
        cluster.execute(f"SELECT lo_from_bytea({1000 + size}, convert_to(repeat('x', {size}), 'UTF8'))", database)
    before = take(cluster, database)
    assert before["large_objects"]["rows"] == 4
    cluster.execute(f"SELECT lo_put({1000 + chunk + 1}, {chunk}, 'y')", database)
    assert [each["object"] for each in fingerprint.compare(before, take(cluster, database))] == ["large objects"]


def test_the_first_failure_stops_the_others(cluster, database):
    cluster.execute("CREATE TABLE a AS SELECT 1 AS x; CREATE TABLE b AS SELECT 1 AS x", database)
    calls = []

    def connect():
        calls.append(1)
        if len(calls) > 2:
            raise psycopg2.OperationalError("no more connections")
        return cluster.connect(database)

    with pytest.raises(psycopg2.OperationalError, match="no more"):
        fingerprint.take(connect, workers=3)


def test_database_properties_there_and_back(cluster, database):
    name = sql_names.quote(database)
    hostile = "rôle \"x\" 'y'"
    role = sql_names.quote(hostile)
    cluster.execute(f"DROP ROLE IF EXISTS {role}; CREATE ROLE {role}; ")
    try:
        for statement in (
            f"ALTER DATABASE {name} OWNER TO {role}",
            f"ALTER DATABASE {name} CONNECTION LIMIT 7",
            f"COMMENT ON DATABASE {name} IS 'C''est \\ \"ici\"'",
            f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
            f"GRANT CREATE ON DATABASE {name} TO postgres WITH GRANT OPTION",
            f'ALTER DATABASE {name} SET search_path TO "Géo x", "$user", public',
            f"ALTER DATABASE {name} SET DateStyle TO 'SQL, DMY'",
            f"ALTER DATABASE {name} SET work_mem TO '7MB'",
            f"ALTER DATABASE {name} SET my.own TO 'a, \"b\" \\ ''c'''",
            f"ALTER ROLE {role} IN DATABASE {name} SET statement_timeout TO '5s'",
        ):
            cluster.execute(statement)
        connection = cluster.connect(database)
        before = database_properties.properties(connection)
        assert hostile in database_properties.roles(connection)
        connection.close()
        assert before["settings"]["search_path"] == '"Géo x", "$user", public'
        assert before["owner"] == hostile
        cluster.execute(f"DROP DATABASE {name}")
        cluster.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        for statement in database_properties.statements(database, before):
            cluster.execute(statement)
        connection = cluster.connect(database)
        after = database_properties.properties(connection)
        connection.close()
        assert {**after, "acl": None} == {**before, "acl": None}
        assert [{**each, "grantor": ""} for each in after["acl"]] == [{**each, "grantor": ""} for each in before["acl"]]
        assert cluster.execute("SHOW search_path", database) == [('"Géo x", "$user", public',)]
    finally:
        cluster.execute(f"DROP DATABASE {name}")
        cluster.execute(f"DROP ROLE {role}")


def psql(cluster, lines, folder):
    """Run lines as a person types them, where PG* says which server."""
    environment = client_tools.environment(cluster.server, "postgres", PATH=f"{cluster.binaries}:/usr/bin:/bin")
    del environment["PGDATABASE"]
    subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", "\n".join(lines)], cwd=str(folder), env=environment, check=True
    )


def test_globals(cluster, database, repository):
    role = sql_names.quote("Édith -o'x")
    cluster.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    cluster.execute(f"ALTER DATABASE {sql_names.quote(database)} SET work_mem TO '7MB'")
    try:
        manifest = kinds.back_up({"name": "demo", "kind": "globals", "connection": cluster.values}, repository)
        assert manifest["source"]["databases"][database]["settings"] == {"work_mem": "7MB"}
        path = repository / "demo" / manifest["id"]
        kinds.verify(path)
        hash_before = cluster.execute("SELECT rolpassword FROM pg_authid WHERE rolname LIKE '%dith%'")
        cluster.execute(f"DROP ROLE {role}")
        cluster.execute(f"ALTER DATABASE {sql_names.quote(database)} RESET ALL")
        psql(cluster, manifest["restore_by_hand"]["local"], path)
        assert cluster.execute("SELECT rolpassword FROM pg_authid WHERE rolname LIKE '%dith%'") == hash_before
        assert cluster.execute("SHOW work_mem", database) == [("7MB",)]
    finally:
        cluster.execute(f"DROP ROLE IF EXISTS {role}")


SEVERAL = """
CREATE ROLE "Été o'x" LOGIN PASSWORD 'secret' CONNECTION LIMIT 7 VALID UNTIL '2031-01-02 03:04:05+02';
CREATE ROLE readers NOLOGIN; COMMENT ON ROLE readers IS 'ceux qui lisent';
GRANT readers TO "Été o'x" WITH ADMIN OPTION;
ALTER ROLE "Été o'x" SET work_mem TO '7MB'; ALTER ROLE "Été o'x" SET search_path TO a, "b c";
"""
CHANGES = {
    """ALTER ROLE "Été o'x" CONNECTION LIMIT 8""": "roles",
    "COMMENT ON ROLE readers IS NULL": "roles",
    """REVOKE ADMIN OPTION FOR readers FROM "Été o'x\"""": "memberships",
    """ALTER ROLE "Été o'x" SET work_mem TO '8MB'""": "role_settings",
    """ALTER ROLE "Été o'x" PASSWORD 'another'""": "passwords",
    "ALTER DATABASE postgres CONNECTION LIMIT 9": "databases",
    "GRANT CREATE ON DATABASE postgres TO readers": "databases",
    "ALTER DATABASE postgres SET work_mem TO '9MB'": "databases",
}


@pytest.fixture()
def several(cluster):
    """Roles with all that roles can have."""
    cluster.execute(SEVERAL)
    yield
    cluster.execute("""DROP ROLE "Été o'x"; DROP ROLE readers""")


def of_globals(cluster, passwords=True):
    connection = cluster.connect()
    try:
        fingerprint.pin(connection)
        return globals_kind.take(connection, passwords)[0]
    finally:
        connection.close()


def test_the_fingerprint_of_globals_in_another_cluster(cluster, several, repository):
    manifest = kinds.back_up({"name": "demo", "kind": "globals", "connection": cluster.values}, repository)
    sums = manifest["fingerprint"]
    assert sums == of_globals(cluster) and sums["tables"]["passwords"]["rows"] == 1
    assert "passwords" not in of_globals(cluster, passwords=False)["tables"]
    with conftest.running() as other:
        psql(other, manifest["restore_by_hand"]["local"], repository / "demo" / manifest["id"])
        existing = of_globals(other)
        for name in ("roles", "memberships", "role_settings", "passwords", "tablespaces"):
            assert existing["tables"][name] == sums["tables"][name], name
        for statement, name in CHANGES.items():
            other.execute(statement)
            now = of_globals(other)
            assert [each["object"] for each in fingerprint.compare(existing, now)] == [f"table {name}"], statement
            existing = now


@pytest.mark.parametrize("times", [1, 99])
def test_a_role_is_altered_while_the_globals_are_dumped(cluster, several, repository, monkeypatch, tmp_path, times):
    """Once, and all the time: what is archived is of one moment, or nothing is."""
    real, count = client_tools.client, tmp_path / "count"

    def client(name, number):
        result = real(name, number)
        path = tmp_path / name
        limit = f'"ALTER ROLE readers CONNECTION LIMIT $(wc -l < {count})"'
        lines = [f'{result.path} "$@" || exit', f"echo >> {count}"]
        lines.append(f"[ $(wc -l < {count}) -gt {times} ] || {cluster.binaries}/psql -Xqc {limit}")
        path.write_text("\n".join(["#!/bin/bash", *lines, ""]))
        path.chmod(0o755)
        return replace(result, path=str(path))

    monkeypatch.setattr(client_tools, "client", client)
    job = {"name": "demo", "kind": "globals", "connection": cluster.values}
    if times > 1:
        with pytest.raises(postgres_server.SauvegardeError, match="changed whenever") as caught:
            kinds.back_up(job, repository)
        assert caught.value.why == "Changed meanwhile: roles."
        assert not list((repository / "demo").iterdir())
        return
    manifest = kinds.back_up(job, repository)
    assert count.read_text() == "\n\n" and manifest["fingerprint"] == of_globals(cluster)
    path = repository / "demo" / manifest["id"]
    kinds.verify(path)
    text = subprocess.run(["zstd", "-dcq", str(path / "globals.sql.zst")], stdout=subprocess.PIPE, check=True).stdout
    assert re.search(rb"ALTER ROLE readers WITH .* CONNECTION LIMIT 1;", text)


def test_globals_cut_off(cluster, repository, monkeypatch, tmp_path):
    real = client_tools.client

    def client(name, number):
        result = real(name, number)
        path = tmp_path / name
        path.write_text(f'#!/bin/bash\n{result.path} "$@" | head -c 300\n')
        path.chmod(0o755)
        return replace(result, path=str(path))

    monkeypatch.setattr(client_tools, "client", client)
    with pytest.raises(postgres_server.SauvegardeError, match="cut short"):
        kinds.back_up({"name": "demo", "kind": "globals", "connection": cluster.values}, repository)
    assert not list((repository / "demo").iterdir())


@pytest.mark.parametrize("form", ["local", "plain"])
def test_commands_by_hand(cluster, database, repository, tmp_path, form):
    """The manifest's own lines, as written, into the same server without the database."""
    name = sql_names.quote(database)
    cluster.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 10) AS i", database)
    cluster.execute(f"ALTER DATABASE {name} SET work_mem TO '7MB'")
    cluster.execute(f"COMMENT ON DATABASE {name} IS 'ici'")
    manifest = kinds.back_up(job(cluster, database), repository)
    folder = tmp_path / "by hand é"
    if form == "local":
        shutil.copytree(str(repository / "demo" / manifest["id"]), str(folder))
    else:
        archive_reader.expand(repository / "demo" / manifest["id"], folder)
    cluster.execute(f"DROP DATABASE {name}")
    psql(cluster, manifest["restore_by_hand"][form], folder)
    sums = manifest["fingerprint"]
    assert fingerprint.compare(sums, take(cluster, database, reference=sums)) == []
    connection = cluster.connect(database)
    assert database_properties.properties(connection) == manifest["source"]["properties"]
    connection.close()


def test_rules_of_a_collation_come_back(cluster, repository, tmp_path):
    if int(cluster.execute("SHOW server_version_num")[0][0]) < 160000:
        pytest.skip("ICU's rules came with PostgreSQL 16")
    options = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'fr' ICU_RULES '&z < a'"
    cluster.execute(f"CREATE DATABASE rules {options}")
    try:
        manifest = kinds.back_up(job(cluster, "rules"), repository)
        cluster.execute("DROP DATABASE rules")
        psql(cluster, manifest["restore_by_hand"]["local"], repository / "demo" / manifest["id"])
        assert cluster.execute("SELECT 'z' < 'a'", "rules") == [(True,)]
        cluster.execute("DROP DATABASE rules")
        spec = {"path": str(repository / "demo" / manifest["id"]), "database": "rules"}
        spec = dict(spec, connection=cluster.values, directory=str(tmp_path / "runs"))
        restores.swap_in(spec, restores.fill(spec)["id"])
        assert cluster.execute("SELECT 'z' < 'a'", "rules") == [(True,)]
    finally:
        cluster.execute("DROP DATABASE IF EXISTS rules")


@pytest.fixture()
def spatial(cluster, database):
    available = {name for (name,) in cluster.execute("SELECT name FROM pg_available_extensions")}
    if "postgis" not in available:
        pytest.skip("this server has no PostGIS")
    cluster.execute("CREATE EXTENSION postgis", database)
    if "postgis_raster" in available:
        cluster.execute("CREATE EXTENSION postgis_raster", database)
    cluster.execute("CREATE EXTENSION postgis_topology", database)
    return database


def test_postgis(cluster, spatial, repository, tmp_path):
    cluster.execute(
        "INSERT INTO spatial_ref_sys VALUES (990001, 'site', 1, 'LOCAL_CS[\"é\"]', '+proj=longlat');"
        "UPDATE spatial_ref_sys SET proj4text = '+proj=merc +x' WHERE srid = 3857;"
        "CREATE TABLE places (id int, geom geometry, at geography(Point));"
        "INSERT INTO places VALUES (1, 'SRID=990001;POINT Z (0.1 0.2 0.3)', 'POINT(2.35 48.85)'),"
        " (2, 'POINT EMPTY', NULL),"
        " (3, 'SRID=3857;GEOMETRYCOLLECTION(CIRCULARSTRING(0 0,1 1,2 0), POLYGON((0 0,1 0,1 1,0 0)))', NULL);"
        "CREATE TABLE relief AS SELECT 1 AS id,"
        " ST_AddBand(ST_MakeEmptyRaster(5, 5, 0, 0, 1), '8BUI'::text, 7) AS rast;"
        "SELECT topology.CreateTopology('sol', 3857); SELECT topology.AddNode('sol', 'SRID=3857;POINT(1 2)');",
        spatial,
    )
    manifest = kinds.back_up(job(cluster, spatial), repository)
    result = manifest["source"]["spatial_ref_sys"]
    assert [row["srid"] for row in result["custom"]] == [990001]
    assert [row["srid"] for row in result["changed"]] == [3857]
    assert manifest["warnings"] == []
    report = cluster.execute("SELECT postgis_full_version()", spatial)[0][0]
    libraries = manifest["source"]["libraries"]
    assert sorted(libraries) == ["GEOS", "PROJ", "PostGIS"]
    assert all(re.search(f'{name.upper()}="[^"0-9]*{re.escape(libraries[name])}', report) for name in libraries), report
    sums = manifest["fingerprint"]
    assert sums["srids"]["rows"] == 2
    assert sums["tables"]['"topology"."topology"']["rows"] == 1
    assert not any("spatial_ref_sys" in name for name in sums["tables"])
    folder = tmp_path / "by hand"
    shutil.copytree(str(repository / "demo" / manifest["id"]), str(folder))
    cluster.execute(f"DROP DATABASE {sql_names.quote(spatial)}")
    psql(cluster, manifest["restore_by_hand"]["local"], folder)
    assert fingerprint.compare(sums, take(cluster, spatial, reference=sums)) == []
    cluster.execute("UPDATE spatial_ref_sys SET proj4text = '' WHERE srid = 990001", spatial)
    different = fingerprint.compare(sums, take(cluster, spatial, reference=sums))
    assert [each["object"] for each in different] == ["custom SRIDs"]


def test_without_postgis_own_script(cluster, spatial, repository, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: "share" not in str(path))
    result = kinds.back_up(job(cluster, spatial), repository)
    assert result["source"]["spatial_ref_sys"]["reference"] is None
    assert "spatial_ref_sys" in result["warnings"][0]
