"""What an archive lacks is said in its manifest, by object: what pg_dump says, and what it does not say."""

import contextlib
import re
import stat
from dataclasses import replace

import pytest
import restores
from sauvegarde.backup import kinds, manual_restore
from sauvegarde.postgres import client_tools, foreign_keys, omissions, postgres_server, predefined_objects, sql_names

ROLES = ("app_of_omissions", "dumper_of_omissions")


def job(cluster, database, **more):
    return {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database, **more}


def only(warnings, *words):
    """The one warning that holds all these words."""
    collected = [each for each in warnings if all(word in each for word in words)]
    assert len(collected) == 1, warnings
    return collected[0]


def major(cluster):
    return int(cluster.execute("SHOW server_version_num")[0][0]) // 10000


@pytest.fixture()
def roles(cluster, database):
    """An application's role, and the role of the jobs as the README makes it."""
    app, dumper = ROLES
    cluster.execute(f"CREATE ROLE {app}; CREATE ROLE {dumper} LOGIN BYPASSRLS")
    if major(cluster) >= 14:
        cluster.execute(f"GRANT pg_read_all_data TO {dumper}")
    yield ROLES
    cluster.execute(f"DROP OWNED BY {app}, {dumper} CASCADE", database)
    cluster.execute(f"DROP ROLE {app}, {dumper}")


def test_what_the_dump_role_may_not_see(cluster, database, roles, repository, tmp_path):
    app, dumper = roles
    cluster.execute(
        "CREATE EXTENSION postgres_fdw;"
        "CREATE SERVER cadastre FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'cadastre.example');"
        f"CREATE USER MAPPING FOR {app} SERVER cadastre OPTIONS (user 'lecteur', password 'canary-of-a-mapping');"
        "CREATE USER MAPPING FOR PUBLIC SERVER cadastre;"
        "CREATE SUBSCRIPTION from_head CONNECTION 'host=head.example dbname=x' PUBLICATION p"
        " WITH (connect = false, slot_name = NONE, enabled = false)",
        database,
    )
    try:
        connection = dict(cluster.values, user=dumper)
        manifest = kinds.back_up(job(cluster, database, connection=connection), repository)
        mappings = only(manifest["warnings"], "user mappings", dumper)
        assert f"USER MAPPING FOR {app} SERVER cadastre" in mappings
        # Only a role that may read the catalog itself knows that the other one has no options.
        assert ("FOR PUBLIC" in mappings) == (major(cluster) < 14)
        assert "SUBSCRIPTION from_head" in only(manifest["warnings"], "Subscriptions are not in the archive", dumper)
        only(manifest["warnings"], "pg_dump: ", "subscriptions not dumped")
        assert "canary" not in str(manifest)
        manifest = kinds.back_up(job(cluster, database), repository)
        assert manifest["warnings"] == [], "a superuser's job has all of it"
    finally:
        cluster.execute("DROP SUBSCRIPTION from_head", database)


def test_what_pg_dump_says_is_kept(cluster, database, repository, tmp_path, monkeypatch):
    """Whatever it is: here through a pg_dump that says something of its own and ends well."""
    real = client_tools.client("pg_dump", cluster.connect().server_version)
    options = tmp_path / "pg_dump"
    options.write_text(f'#!/bin/sh\n{real.path} "$@" || exit\necho "pg_dump: warning: odd" >&2\necho "  more" >&2\n')
    options.chmod(options.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    of = client_tools.client
    monkeypatch.setattr(
        client_tools,
        "client",
        lambda tool, number: replace(real, path=str(options)) if tool == "pg_dump" else of(tool, number),
    )
    manifest = kinds.back_up(job(cluster, database), repository)
    assert manifest["warnings"] == ["pg_dump: warning: odd", "pg_dump: more"]


def test_circular_keys(cluster, database, repository):
    """pg_dump itself speaks of this one with --data-only alone: a whole dump says nothing, and so do we."""
    cluster.execute(
        "CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a);"
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b",
        database,
    )
    manifest = kinds.back_up(job(cluster, database), repository)
    assert manifest["warnings"] == []
    assert manifest["source"]["foreign_keys"] == {"of": 2, "looked_at": 2, "broken": []}


ORPHANS = """
CREATE SCHEMA "Sch ema";
CREATE TABLE parent (id int PRIMARY KEY, a int, b text, UNIQUE (a, b));
INSERT INTO parent SELECT i, i, i FROM generate_series(1, 10) i;
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);
INSERT INTO child SELECT i, i FROM generate_series(1, 10) i;
CREATE TABLE "Sch ema"."Ch ild" (a bigint, b varchar(9),
    CONSTRAINT "the key" FOREIGN KEY (a, b) REFERENCES parent (a, b));
CREATE TABLE whole (a int, b text, FOREIGN KEY (a, b) REFERENCES parent (a, b) MATCH FULL);
CREATE TABLE half (a int, b text, FOREIGN KEY (a, b) REFERENCES parent (a, b));
CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree); INSERT INTO tree VALUES (1, NULL), (2, 1);
CREATE TABLE good (parent int REFERENCES parent); INSERT INTO good VALUES (1), (NULL);
CREATE TABLE later (parent int); INSERT INTO later VALUES (4711);
ALTER TABLE later ADD FOREIGN KEY (parent) REFERENCES parent NOT VALID;
CREATE TABLE parts (id int, parent int REFERENCES parent) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
SET session_replication_role TO replica;
INSERT INTO child VALUES (11, 4711); INSERT INTO "Sch ema"."Ch ild" VALUES (1, '2'); INSERT INTO tree VALUES (3, 99);
INSERT INTO whole VALUES (1, NULL); INSERT INTO half VALUES (1, NULL), (4711, NULL); INSERT INTO parts VALUES (1, 4711);
SET session_replication_role TO origin;
ALTER TABLE good DISABLE TRIGGER ALL;
"""


def test_broken_foreign_keys(cluster, database, repository):
    if major(cluster) < 12:
        pytest.skip("foreign keys of partitioned tables came with PostgreSQL 11 and 12")
    cluster.execute(ORPHANS, database)
    manifest = kinds.back_up(job(cluster, database), repository)
    broken = [
        'CONSTRAINT "Sch ema"."Ch ild" "the key"',
        "CONSTRAINT public.child child_parent_fkey",
        "CONSTRAINT public.parts parts_parent_fkey",
        "CONSTRAINT public.tree tree_up_fkey",
        "CONSTRAINT public.whole whole_a_b_fkey",
    ]
    assert sorted(manifest["source"]["foreign_keys"]["broken"]) == broken
    assert manifest["source"]["foreign_keys"]["looked_at"] == manifest["source"]["foreign_keys"]["of"] == 7
    warning = only(manifest["warnings"], "Foreign keys are broken")
    assert all(name in warning for name in broken)
    assert "CONSTRAINT public.good good_parent_fkey" in only(
        manifest["warnings"], "triggers of foreign keys are disabled"
    )


def test_a_look_waits_for_nobody_and_keeps_to_its_time(cluster, database):
    cluster.execute(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (p int REFERENCES p);"
        "CREATE TABLE q (id int PRIMARY KEY); CREATE TABLE d (q int REFERENCES q);"
        "CREATE TABLE slow AS SELECT i AS id FROM generate_series(1, 300000) i; ALTER TABLE slow ADD PRIMARY KEY (id);"
        "CREATE TABLE slower AS SELECT i AS slow FROM generate_series(1, 300000) i, generate_series(1, 3);"
        "ALTER TABLE slower ADD FOREIGN KEY (slow) REFERENCES slow; ANALYZE",
        database,
    )
    with contextlib.closing(cluster.connect(database)) as holder:
        postgres_server.execute(holder, "BEGIN; LOCK TABLE p")
        look = foreign_keys.ForeignKeyCheck(lambda: cluster.connect(database), 0.2)
        look.start()
        look.join(10)
        assert look.result() == {"of": 3, "looked_at": 1, "broken": []}
    count = (
        "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relname IN ('slow', 'slower')"
    )
    assert cluster.execute(count, database) == [(0,)]


def test_the_rest_that_no_dump_holds(cluster, database, repository):
    cluster.execute("CREATE TABLE twice AS SELECT 1 AS a FROM generate_series(1, 2)", database)
    with contextlib.suppress(Exception):
        cluster.execute("CREATE UNIQUE INDEX CONCURRENTLY once ON twice (a)", database)
    cluster.execute(
        "SET allow_system_table_mods TO on;"
        "CREATE FUNCTION pg_catalog.of_the_site() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        database,
    )
    warnings = kinds.back_up(job(cluster, database), repository)["warnings"]
    assert "INDEX public.once" in only(warnings, "Invalid indexes")
    assert "FUNCTION pg_catalog.of_the_site" in only(warnings, "schema pg_catalog")
    assert len(warnings) == 2


@contextlib.contextmanager
def restored(cluster, path, folder):
    """The archive or dump restored as `restored_here`, for the block."""
    spec = {
        "path": str(path), "database": "restored_here", "connection": cluster.values, "directory": str(folder),
        "mode": "beside",
    }  # fmt: skip
    try:
        restores.swap_in(spec, restores.fill(spec)["id"])
        yield "restored_here"
    finally:
        cluster.execute("DROP DATABASE IF EXISTS restored_here")


PUBLIC = (
    "SELECT pg_get_userbyid(nspowner), obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'public'"
)
CHANGED = f"ALTER SCHEMA public OWNER TO {ROLES[0]}; COMMENT ON SCHEMA public IS 'l''été'"


def test_owner_and_comment_of_the_schema_public(cluster, database, roles, repository, tmp_path):
    """pg_dump dumps them from 15 on; before, the manifest has them, and a warning says so."""
    cluster.execute(CHANGED, database)
    manifest = kinds.back_up(job(cluster, database), repository)
    if major(cluster) < 15:
        warning = only(manifest["warnings"], "schema public")
        assert all(statement in warning.replace('"', "") for statement in CHANGED.split("; "))
        assert manifest["source"]["schema_public"] == {"owner": ROLES[0], "comment": "l'été"}
    else:
        assert manifest["warnings"] == [] and "schema_public" not in manifest["source"]
    with restored(cluster, repository / "demo" / manifest["id"], tmp_path / "runs") as copy:
        assert cluster.execute(PUBLIC, copy) == cluster.execute(PUBLIC, database) == [(ROLES[0], "l'été")]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(90624, {"owner": ROLES[0]}), (130000, {"owner": ROLES[0], "comment": None}), (150000, {})],
)
def test_what_a_pg_dump_leaves_out_of_the_schema_public(cluster, database, roles, number, expected):
    cluster.execute(f"ALTER SCHEMA public OWNER TO {ROLES[0]}; COMMENT ON SCHEMA public IS NULL", database)
    dumper = client_tools.Client("", number, "old")
    with contextlib.closing(cluster.connect(database)) as connection:
        result = predefined_objects.schema_public(connection, dumper)
    assert result == expected
    assert [("ALTER SCHEMA public OWNER TO" in each) for each in predefined_objects.warnings(result, dumper)] == (
        [True] if expected else []
    )


@pytest.mark.parametrize("public", [{"owner": ROLES[0], "comment": "l'\\été"}, {"comment": None}])
def test_the_schema_public_comes_back_from_the_manifest(
    cluster, database, roles, repository, tmp_path, monkeypatch, public
):
    """Here the dump has neither, whatever the version: the database is as a new one."""
    monkeypatch.setattr(predefined_objects, "schema_public", lambda *_: public)
    before = cluster.execute(PUBLIC, database)[0]
    manifest = kinds.back_up(job(cluster, database), repository)
    expected = [(public.get("owner", before[0]), public["comment"])]
    after = manual_restore.after_sql(database, manifest["source"], "UTF8")
    with restored(cluster, repository / "demo" / manifest["id"], tmp_path / "runs") as copy:
        assert cluster.execute(PUBLIC, copy) == expected
    statements = [line for line in after.splitlines() if "SCHEMA public" in line]
    assert len(statements) == len(public)
    cluster.execute("".join(statements), database)
    assert cluster.execute(PUBLIC, database) == expected


BY_10 = """--
-- PostgreSQL database dump
--

-- Dumped from database version 9.6.24
-- Dumped by pg_dump version 9.6.24

SET client_encoding = 'UTF8';
DROP SCHEMA public;
--
-- Name: public; Type: SCHEMA; Schema: -; Owner: {0}
--

CREATE SCHEMA public;


ALTER SCHEMA public OWNER TO {0};

--
-- Name: t; Type: TABLE; Schema: public; Owner: {0}
--

CREATE TABLE public.t (a integer);


ALTER TABLE public.t OWNER TO {0};

--
-- PostgreSQL database dump complete
--
"""


@pytest.mark.parametrize("owner", [ROLES[0], "postgres"])
def test_owner_of_the_schema_public_in_dumps_before_11(cluster, roles, tmp_path, owner):
    """Their CREATE SCHEMA public is passed over, its owner is not; a superuser leaves it to the new database."""
    (tmp_path / "by_10.sql").write_text(BY_10.format(owner))
    new = cluster.execute(PUBLIC, "template1")[0][0]
    with restored(cluster, tmp_path / "by_10.sql", tmp_path / "runs") as copy:
        assert cluster.execute(PUBLIC, copy)[0][0] == (owner if owner != "postgres" else new)
        assert cluster.execute("SELECT * FROM t", copy) == []


PREDEFINED = (
    "COMMENT ON COLUMN pg_catalog.pg_class.relname IS 'of the site'",
    "COMMENT ON FUNCTION pg_catalog.pg_sleep(double precision) IS 'it''s late'",
    "COMMENT ON SCHEMA pg_catalog IS 'do not touch'",
    "ALTER FUNCTION pg_catalog.pg_sleep(double precision) OWNER TO {0}",
    "ALTER FUNCTION public.akeys(public.hstore) OWNER TO {0}",
    "ALTER LANGUAGE plpgsql OWNER TO {0}",
    "GRANT SELECT ON TABLE information_schema.sql_features TO {0} WITH GRANT OPTION",
    "REVOKE SELECT ON TABLE information_schema.tables FROM PUBLIC",
    "REVOKE USAGE ON LANGUAGE sql FROM PUBLIC",
)


def test_what_was_changed_in_predefined_objects(cluster, database, roles, repository, tmp_path):
    """The warnings hold the statements that put it back."""
    app = roles[0]
    statements = [each.format(app) for each in PREDEFINED]
    cluster.execute("CREATE EXTENSION hstore SCHEMA public", database)
    cluster.execute(";".join(statements), database)
    try:
        manifest = kinds.back_up(job(cluster, database), repository)
        warned = [each for each in manifest["warnings"] if "run this after a restore" in each]
        collected = {each for warning in warned for each in warning.partition("superuser: ")[2].rstrip(".").split("; ")}
        assert collected == set(statements), warned
        assert manifest["warnings"] == warned
        with restored(cluster, repository / "demo" / manifest["id"], tmp_path / "runs") as copy:
            cluster.execute(";".join(sorted(collected)), copy)
            assert kinds.back_up(job(cluster, copy), repository)["warnings"] == warned
    finally:
        cluster.execute(f"REASSIGN OWNED BY {app} TO postgres", database)


def test_what_is_in_schemas_of_the_system(cluster, database, repository):
    cluster.execute(
        "CREATE VIEW information_schema.of_the_site AS SELECT 1 AS a; CREATE TYPE pg_catalog.mood AS ENUM ('ok');"
        'CREATE COLLATION pg_catalog.of_the_site FROM "C"',
        database,
    )
    (warning,) = kinds.back_up(job(cluster, database), repository)["warnings"]
    names = "COLLATION pg_catalog.of_the_site, TYPE pg_catalog.mood, VIEW information_schema.of_the_site"
    assert warning.endswith(f": {names}."), warning


def test_owners_of_extensions_that_are_no_superusers(cluster, database, roles, repository):
    if major(cluster) < 13:
        pytest.skip("trusted extensions came with PostgreSQL 13")
    app = roles[0]
    cluster.execute(f"GRANT CREATE ON DATABASE {sql_names.quote(database)} TO {app}")
    cluster.execute(f"GRANT CREATE ON SCHEMA public TO {app}; SET ROLE {app}; CREATE EXTENSION citext", database)
    (warning,) = kinds.back_up(job(cluster, database), repository)["warnings"]
    assert f"EXTENSION citext ({app})" in warning


def test_what_every_new_database_has_and_this_one_lacks(cluster, database, repository):
    cluster.execute("DROP SCHEMA public; DROP EXTENSION plpgsql", database)
    (warning,) = kinds.back_up(job(cluster, database), repository)["warnings"]
    assert re.search("DROP SCHEMA public; DROP EXTENSION plpgsql", warning)


def test_a_look_that_fails_is_reported_and_fails_nothing(cluster, database, repository, monkeypatch):
    monkeypatch.setattr(omissions, "_SLOTS", "SELECT no_such_function()")
    manifest = kinds.back_up(job(cluster, database), repository)
    assert "no_such_function" in only(manifest["warnings"], "Not checked: Logical replication slots are in no dump")


def test_topologies_go_on_with_new_numbers(cluster, database, repository, tmp_path):
    """By our own restore, by the after.sql of the manifest's commands, and from dumps of others."""
    available = {name for (name,) in cluster.execute("SELECT name FROM pg_available_extensions")}
    if "postgis_topology" not in available:
        pytest.skip("this server has no PostGIS")
    cluster.execute("CREATE EXTENSION postgis; CREATE EXTENSION postgis_topology", database)
    cluster.execute("SELECT topology.CreateTopology('rues', 2154)", database)
    manifest = kinds.back_up(job(cluster, database), repository)
    for result in manifest["source"]["extension_sequences"]:  # newer versions of PostGIS have dumps hold the value
        assert result["sequence"] == '"topology"."topology_id_seq"' and result["value"] == 1
        after = manual_restore.after_sql(database, manifest["source"], "UTF8")
        setval = 'pg_catalog.setval(\'"topology"."topology_id_seq"\', greatest(pg_catalog.max("id"), 1))'
        assert f"SELECT {setval}" in after
    cluster.run("pg_dump", "-Fp", "-f", tmp_path / "plain.sql", database=database)
    setting = "SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
    setting += " WHERE d.datname = current_database()"
    kept = cluster.execute(setting, database)
    for path in (repository / "demo" / manifest["id"], tmp_path / "plain.sql"):
        spec = {
            "path": str(path),
            "database": "topologies",
            "connection": cluster.values,
            "directory": str(tmp_path / "runs"),
            "mode": "beside",
        }
        try:
            restores.swap_in(spec, restores.fill(spec)["id"])
            assert cluster.execute("SELECT topology.CreateTopology('next', 2154)", "topologies") == [(2,)]
            assert cluster.execute(setting, "topologies") == kept != []
        finally:
            cluster.execute("DROP DATABASE IF EXISTS topologies")
