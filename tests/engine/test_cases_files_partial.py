"""A file that holds less than the live database asks for a word of its own; roles that globals describe."""

import subprocess
from types import SimpleNamespace

import pytest
import restores
from sauvegarde.postgres import client_tools, postgres_server, sql_names
from sauvegarde.restore import (
    dump_roles,
    partial_dump,
    restore_plan,
)
from sauvegarde.targets import side_database

ROLES = ("pa_owner", "pa_group", "pa_above", "pa_other", "pa_root", "Default")
CONTENT = """
CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 9); CREATE INDEX ON a (id, id);
CREATE TABLE "b
c" (id int REFERENCES a); INSERT INTO "b
c" VALUES (1);
CREATE TABLE empty (id int);
CREATE VIEW v AS SELECT * FROM a;
CREATE MATERIALIZED VIEW m AS SELECT * FROM a;
CREATE TABLE p (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9);
INSERT INTO p VALUES (1), (2)"""


@pytest.fixture(scope="module")
def live(cluster):
    connection = cluster.connect()
    side_database.drop(connection, "pa_live")
    postgres_server.execute(connection, "CREATE DATABASE pa_live TEMPLATE template0")
    cluster.execute(CONTENT + "; SELECT 1", "pa_live")
    yield cluster
    for (name,) in postgres_server.query(connection, "SELECT datname FROM pg_database WHERE datname ~ '^pa_'"):
        side_database.drop(connection, name)
    for role in ROLES:
        postgres_server.execute(connection, f"DROP ROLE IF EXISTS {sql_names.quote(role)}")
    connection.close()


def dump(cluster, path, *options):
    path.write_bytes(
        subprocess.run(
            [str(cluster.binaries / "pg_dump"), *options],
            env=client_tools.environment(cluster.server, "pa_live"),
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    )
    return path


def spec(cluster, folder, path, **more):
    values = {"connection": cluster.values, "path": str(path), "database": "pa_live", "jobs": 2}
    return dict(values, directory=str(folder / "restores"), **more)


LESS = {
    "-Fp --schema-only": {"rows": ["a", "b\nc", "p1"]},
    "-Fc --schema-only": {"rows": ["a", "b\nc", "p1"]},
    "-Fc -t a": {"tables": ["b\nc", "empty", "p", "p1"], "views": ["v"], "materialized views": ["m"]},
    "-Fp -T a --inserts": {"tables": ["a"], "indexes": ["all 1"]},
    "-Fp --exclude-table-data=a": {"rows": ["a"]},
    "-Fp --section=pre-data --section=data": {"indexes": ["all 1"], "keys": ["all 2"]},
}


@pytest.mark.parametrize("options", LESS)
def test_less_than_what_is_live_asks_for_its_own_word(live, tmp_path, options):
    path = dump(live, tmp_path / "dump", *options.split())
    planned = restores.plan(spec(live, tmp_path, path))
    request = {
        kind: [each if "all" in each else "public." + each for each in names] for kind, names in LESS[options].items()
    }
    assert {kind: names for kind, names in planned["lacks"].items() if kind in request} == request
    (result,) = (each for each in planned["obstacles"] if "less" in each["what"])
    assert "restore_partial='replace with less'" in result["fix"]
    assert all(name.split(".")[-1] in result["why"] for names in request.values() for name in names)
    output = restores.plan(spec(live, tmp_path, path, partial=partial_dump.WORD))
    assert [each for each in output["obstacles"] if "less" in each["what"]] == []
    assert any("less" in each["what"] for each in output["warnings"])
    beside = restores.plan(spec(live, tmp_path, path, mode="beside", database="pa_beside"))
    assert beside["obstacles"] == [] and beside["lacks"] == {}


@pytest.mark.parametrize("options", ["-Fp", "-Fc", "-Fp --inserts", "-Fp --load-via-partition-root"])
def test_as_much_as_what_is_live_asks_for_nothing(live, tmp_path, options):
    path = dump(live, tmp_path / "dump", *options.split())
    planned = restores.plan(spec(live, tmp_path, path))
    assert planned["lacks"] == {} and planned["obstacles"] == []
    if "root" in options:
        done = restores.fill(spec(live, tmp_path, path, database="pa_copy"))
        assert done["proof"]["rows"] == 12


def test_the_word_lets_less_take_its_place(live, tmp_path):
    path = dump(live, tmp_path / "dump", "--schema-only")
    request = spec(live, tmp_path, path)
    with pytest.raises(Exception) as error:
        restores.fill(request)
    assert "less than the live database" in str(error.value)
    options = dict(request, partial=partial_dump.WORD)
    restores.swap_in(options, restores.fill(options)["id"])
    assert live.execute("SELECT count(*) FROM a", "pa_live") == [(0,)]
    restores.roll_back(options)
    assert live.execute("SELECT count(*) FROM a", "pa_live") == [(9,)]


def test_data_alone_are_no_database(live, tmp_path):
    path = dump(live, tmp_path / "dump", "--data-only")
    (result,) = (
        each
        for each in restores.plan(spec(live, tmp_path, path, database="pa_none"))["obstacles"]
        if "rows only" in each["what"]
    )
    assert "definitions" in result["fix"]


GLOBALS = """--
-- PostgreSQL database cluster dump
--

CREATE ROLE pa_owner;
ALTER ROLE pa_owner WITH NOSUPERUSER LOGIN;
CREATE ROLE pa_group;
CREATE ROLE pa_above;
CREATE ROLE pa_other;
CREATE ROLE pa_root;
ALTER ROLE pa_root WITH SUPERUSER LOGIN PASSWORD 'x';
CREATE ROLE "Default";
ALTER ROLE "Default" WITH NOLOGIN;
GRANT pa_group TO pa_owner GRANTED BY postgres;
GRANT pa_above TO pa_group GRANTED BY postgres;
GRANT pa_group TO pa_other GRANTED BY postgres;

--
-- PostgreSQL database cluster dump complete
--

"""


@pytest.mark.parametrize("which", ["named", "all"])
def test_only_the_roles_that_a_dump_names_are_made(live, tmp_path, which):
    for role in ("pa_owner", "Default"):
        live.execute(f"CREATE ROLE {sql_names.quote(role)}; SELECT 1")
    live.execute(
        'ALTER TABLE a OWNER TO pa_owner; GRANT SELECT ON empty TO "Default";GRANT SELECT ON empty TO PUBLIC; SELECT 1',
        "pa_live",
    )
    path = dump(live, tmp_path / "dump", "-Fp")
    live.execute(
        'ALTER TABLE a OWNER TO postgres; REVOKE ALL ON empty FROM "Default"; DROP ROLE pa_owner; DROP ROLE "Default";'
        "SELECT 1",
        "pa_live",
    )
    (tmp_path / "globals.sql").write_text(GLOBALS)
    request = spec(live, tmp_path, path, globals=str(tmp_path / "globals.sql"), globals_roles=which, database="pa_new")
    done = restores.fill(request)
    named = {"pa_owner", "pa_group", "pa_above", "Default"}
    assert set(done["roles_made"]) == (named if which == "named" else {*named, "pa_other", "pa_root"})
    assert live.execute(
        "SELECT pg_has_role('pa_owner', 'pa_above', 'MEMBER'), has_table_privilege('Default', 'empty', 'SELECT')",
        done["side"],
    ) == [(True, True)]
    connection = live.connect()
    side_database.drop(connection, done["side"])
    for role in ROLES:
        postgres_server.execute(connection, f"DROP ROLE IF EXISTS {sql_names.quote(role)}")
    connection.close()


def test_a_limit_that_marks_a_dropped_database_is_none():
    needs = SimpleNamespace(properties={"connection_limit": -2})
    request = restores.request({"path": "/dump", "database": "d"})
    assert restore_plan.restored_properties(needs, request)["connection_limit"] == -1
    assert dump_roles.needed(dump_roles.Globals({"a": []}, [dump_roles.Membership("b", "a", "")]), {"a", "c"}) == {"a"}
