"""Objects that the target cannot take: one run finds them all, each is accepted by name, and nothing else is lost."""

import json
import os
import re
from pathlib import Path

import pytest
import restores
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import postgres_server
from sauvegarde.report import render
from sauvegarde.restore import previous_databases
from sauvegarde.restore.dump import loss_names
from sauvegarde.targets import side_database

FORMS = ("ours", "c", "p")

# A function that refuses elsewhere stands for whatever a target cannot do.
SITE = """
CREATE SCHEMA "S x";
CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 10);
CREATE TABLE child (id int PRIMARY KEY, parent int CONSTRAINT child_parent_fkey REFERENCES parent);
INSERT INTO child SELECT i, i FROM generate_series(1, 10) i;
CREATE FUNCTION here(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  IF current_database() <> 'lossy' AND a > 2 THEN RAISE EXCEPTION 'FATAL:  not %, "here"', current_database(); END IF;
  RETURN a;
END $$;
CREATE TABLE "S x"."T é" (id int PRIMARY KEY, a int, h int GENERATED ALWAYS AS (here(a)) STORED);
INSERT INTO "S x"."T é" SELECT i, i FROM generate_series(1, 5) i;
CREATE TABLE refers (id int CONSTRAINT refers_fkey REFERENCES "S x"."T é"); INSERT INTO refers VALUES (1), (2);
CREATE TABLE good (id serial PRIMARY KEY, t text);
INSERT INTO good (t) SELECT repeat('é', i) FROM generate_series(1, 9) i;
CREATE INDEX good_here ON good (here(id)); CREATE INDEX good_t ON good (t);
CREATE MATERIALIZED VIEW filled AS SELECT here(id) AS id FROM good;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM good;
CREATE VIEW harmless AS SELECT here(id) FROM good;
SET session_replication_role TO replica; INSERT INTO child VALUES (11, 4711);
"""
LOST = [
    "TABLE DATA S x.T é",
    "INDEX public.good_here",
    "CONSTRAINT public.child child_parent_fkey",
    "CONSTRAINT public.refers refers_fkey",
    "MATERIALIZED VIEW DATA public.filled",
]


@pytest.fixture(scope="module")
def lossy(cluster, tmp_path_factory):
    """Paths of one database's dumps, by form."""
    root = tmp_path_factory.mktemp("lossy")
    cluster.execute("CREATE DATABASE lossy TEMPLATE template0")
    cluster.execute(SITE, "lossy")
    (root / "j").mkdir(mode=0o700)
    job = {"name": "j", "kind": "pg_dump", "connection": cluster.values, "database": "lossy"}
    paths = {"ours": root / "j" / kinds.back_up(job, root)["id"]}
    for form in "cp":
        paths[form] = root / form
        cluster.run("pg_dump", "-F" + form, "-f", paths[form], database="lossy")
    paths["inserts"] = root / "inserts"
    cluster.run("pg_dump", "-Fc", "--inserts", "-f", paths["inserts"], database="lossy")
    yield paths
    forget(cluster)


def forget(cluster, *keep):
    connection = cluster.connect()
    try:
        for (name,) in postgres_server.query(connection, "SELECT datname FROM pg_database WHERE NOT datistemplate"):
            if name not in ("postgres", *keep):
                side_database.drop(connection, name)
    finally:
        connection.close()


def spec(cluster, tmp_path, path, accept=(), **more):
    return {
        "connection": cluster.values,
        "path": str(path),
        "database": "back",
        "directory": str(tmp_path / "restores"),
        "jobs": 2,
        "accept_losses": list(accept),
        **more,
    }


def refused(expected):
    """The error of a restore that loses something, and the names in the setting that it prints."""
    with pytest.raises(SauvegardeError) as error:
        restores.fill(expected)
    printed = re.search(r"^restore_accept_losses: (\[.*\])$", error.value.fix, re.MULTILINE)
    assert printed, str(error.value)
    return error.value, json.loads(printed.group(1))


def restored(expected):
    done = restores.fill(expected)
    return done, render.of_swap(done, restores.swap_in(expected, done["id"]))


@pytest.mark.parametrize("form", (*FORMS, "inserts"))
def test_one_run_finds_all_and_accepting_them_loses_nothing_else(cluster, lossy, tmp_path, form):
    request = spec(cluster, tmp_path, lossy[form])
    error, names = refused(request)
    assert sorted(names) == sorted(LOST) and "5 objects" in error.what
    assert "not back__restore" in error.why and "(parent)=(4711)" in error.why
    assert "depends on TABLE DATA S x.T é" in error.why and error.why.count("Fix: ") == 4
    existing = {name for (name,) in cluster.execute("SELECT datname FROM pg_database")}
    assert not any(name.startswith("back") for name in existing), "the side database is dropped"
    done, report = restored(dict(request, accept_losses=names))
    assert [each["object"] for each in done["losses"] if each["accepted"]] == [
        each["object"] for each in done["losses"]
    ]
    assert sorted(done["proof"]["without"]) == sorted(LOST)
    assert sum(line.startswith("Lost: ") for line in report) == 5
    (listed,) = previous_databases.losses_of_live(request["directory"])
    assert listed["database"] == "back" and sorted(listed["objects"]) == sorted(LOST)
    assert any("child_parent_fkey (kept NOT VALID)" in line for line in report)
    rows = cluster.execute(
        'SELECT (SELECT count(*) FROM good), (SELECT count(*) FROM child), (SELECT count(*) FROM "S x"."T é"),'
        " (SELECT count FROM counted), to_regclass('good_t') IS NULL, to_regclass('good_here') IS NULL,"
        " (SELECT array_agg(conname || convalidated ORDER BY conname) FROM pg_constraint WHERE contype = 'f')::text,"
        " (SELECT relispopulated FROM pg_class WHERE relname = 'filled'), to_regclass('harmless') IS NULL",
        "back",
    )
    assert rows == [(9, 11, 0, 9, False, True, "{child_parent_fkeyfalse,refers_fkeyfalse}", False, False)]
    with pytest.raises(Exception, match="violates foreign key"):
        cluster.execute("INSERT INTO child VALUES (12, 4712)", "back")
    forget(cluster, "lossy")


@pytest.mark.parametrize("form", ("c", "p"))
def test_what_is_not_accepted_stops_it_and_what_did_not_fail_is_reported(cluster, lossy, tmp_path, form):
    request = spec(cluster, tmp_path, lossy[form], [*LOST[1:], "INDEX public.good_t"])
    error, names = refused(request)
    assert sorted(names) == sorted(LOST), "the setting accepts exactly what fails"
    assert error.what.startswith("1 object ") and "TABLE DATA S x.T é" in error.what
    done, _ = restored(
        dict(request, accept_losses=[*LOST, "INDEX public.good_t", "FK CONSTRAINT public.refers refers_fkey"])
    )
    assert done["notes"] == ["accepted as a loss, but restored: INDEX public.good_t"]
    assert cluster.execute("SELECT to_regclass('good_t') IS NULL", "back") == [(False,)]
    forget(cluster, "lossy")


@pytest.mark.parametrize("form", FORMS)
def test_a_misspelt_name_is_refused_before_anything_is_done(cluster, lossy, tmp_path, form):
    request = spec(cluster, tmp_path, lossy[form], ["CONSTRAINT public.child child_parent_fky"])
    with pytest.raises(SauvegardeError) as error:
        restores.fill(request)
    assert "not started" in error.value.what and "child_parent_fky" in error.value.what
    assert "CONSTRAINT public.child child_parent_fkey" in error.value.why


@pytest.mark.parametrize("value", ("VIEW public.v", '["VIEW public.v"]', ["VIEW public.v"], ("  VIEW public.v;",)))
def test_names_are_taken_in_every_form(value):
    assert loss_names.accepted_names(value) == ["VIEW public.v"]


@pytest.mark.parametrize("value", (3, [3], {"a": 1}))
def test_what_are_no_names_is_refused(value):
    with pytest.raises(SauvegardeError):
        loss_names.accepted_names(value)


# What is certain before a load: the plan says it. Text as old clients wrote it.

HEAD = """--
-- PostgreSQL database dump
--

-- Dumped from database version 9.6.10
-- Dumped by pg_dump version 9.6.10

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
"""
GOOD = """
--
-- Name: good; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.good (
    id integer,
    abstime text
);


--
-- Data for Name: good; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.good (id, abstime) FROM stdin;
1\tx
2\ty
\\.


"""
TAIL = """
--
-- PostgreSQL database dump complete
--

"""


def dump_of(path, *entries):
    """A plain dump with the table `good` and these: (kind, schema, name, SQL)."""
    text = HEAD
    placed = False
    for kind, schema, name, options in entries:
        if kind == "TABLE DATA" and not placed:
            text, placed = text + GOOD, True
        data = "Data for " if kind == "TABLE DATA" else ""
        text += f"\n--\n-- {data}Name: {name}; Type: {kind}; Schema: {schema}; Owner: postgres\n--\n\n{options}\n\n\n"
    path.write_text(text + ("" if placed else GOOD) + TAIL, "utf-8")
    return path


LISTS = (
    "VIEW",
    "public",
    "lists",
    "CREATE VIEW public.lists AS\n SELECT public.accum(good.id) AS l\n   FROM public.good;",
)
OVER = ("VIEW", "public", "over", "CREATE VIEW public.over AS\n SELECT lists.l\n   FROM public.lists;")
OBSOLETE = {
    "array_append": (
        140000,
        [
            (
                "AGGREGATE",
                "public",
                "accum(anyelement)",
                "CREATE AGGREGATE public.accum(anyelement) (\n    SFUNC = array_append,\n    STYPE = anyarray\n);",
            ),
            LISTS,
            OVER,
        ],
        ["AGGREGATE public.accum(anyelement)", "VIEW public.lists", "VIEW public.over"],
    ),
    "type": (
        120000,
        [
            ("TABLE", "public", "old", 'CREATE TABLE public.old (\n    id integer,\n    "at x" abstime\n);'),
            ("VIEW", "public", "olds", "CREATE VIEW public.olds AS\n SELECT old.id\n   FROM public.old;"),
            ("TABLE DATA", "public", "old", 'COPY public.old (id, "at x") FROM stdin;\n1\t2001-01-01\n\\.\n'),
            ("INDEX", "public", "old_id", "CREATE INDEX old_id ON public.old USING btree (id);"),
        ],
        ["TABLE public.old", "VIEW public.olds", "TABLE DATA public.old", "INDEX public.old_id"],
    ),
    "oid": (
        120000,
        [("VIEW", "public", "v", "CREATE VIEW public.v AS\n SELECT good.oid\n   FROM public.good;")],
        ["VIEW public.v"],
    ),
    "postfix": (
        140000,
        [
            (
                "OPERATOR",
                "public",
                "!!!",
                "CREATE OPERATOR public.!!! (\n    PROCEDURE = pg_catalog.numeric_fac,\n    LEFTARG = bigint\n);",
            )
        ],
        ["OPERATOR public.!!!"],
    ),
    "language": (
        0,
        [
            (
                "FUNCTION",
                "public",
                "py()",
                "CREATE FUNCTION public.py() RETURNS integer\n    LANGUAGE plpythonu\n    AS $$return 1$$;",
            )
        ],
        ["FUNCTION public.py()"],
    ),
    "own language": (
        0,
        [
            ("PROCEDURAL LANGUAGE", "-", "plnone", "CREATE OR REPLACE PROCEDURAL LANGUAGE plnone;"),
            (
                "FUNCTION",
                "public",
                "js()",
                "CREATE FUNCTION public.js() RETURNS integer\n    LANGUAGE plnone\n    AS $$return 1$$;",
            ),
        ],
        ["PROCEDURAL LANGUAGE plnone", "FUNCTION public.js()"],
    ),
    "setting": (
        0,
        [
            (
                "FUNCTION",
                "public",
                "f()",
                "CREATE FUNCTION public.f() RETURNS integer\n    LANGUAGE sql\n    SET no_such_setting TO 'x'\n"
                "    AS $$SELECT 1$$;",
            )
        ],
        ["FUNCTION public.f()"],
    ),
    "oids by default": (
        120000,
        [
            (
                "FUNCTION",
                "public",
                "f()",
                "CREATE FUNCTION public.f() RETURNS integer\n    LANGUAGE sql\n    SET default_with_oids TO 'true'\n"
                "    AS $$SELECT 1$$;",
            )
        ],
        ["FUNCTION public.f()"],
    ),
    "collation": (
        0,
        [
            (
                "COLLATION",
                "public",
                "none",
                "CREATE COLLATION public.none (provider = libc, locale = 'xx_XX.none');",
            ),
            ("TABLE", "public", "t", "CREATE TABLE public.t (\n    n text COLLATE public.none\n);"),
        ],
        ["COLLATION public.none", "TABLE public.t"],
    ),
    "system collation": (
        0,
        [("TABLE", "public", "t", 'CREATE TABLE public.t (\n    n text COLLATE pg_catalog."xx_XX.none"\n);')],
        ["TABLE public.t"],
    ),
}


@pytest.mark.parametrize("name", sorted(OBSOLETE))
def test_what_is_certain_stands_in_the_plan(cluster, tmp_path, name):
    since, entries, expected = OBSOLETE[name]
    if int(cluster.execute("SHOW server_version_num")[0][0]) < since:
        pytest.skip("this server still has it")
    request = spec(cluster, tmp_path, dump_of(tmp_path / "old.sql", *entries))
    plan = restores.plan(request)
    assert plan["obstacles"][0]["object"] == expected[0] and plan["obstacles"][0]["fix"]
    assert {each["object"] for each in plan["losses"]} == set(expected) | (
        {"TABLE DATA public.t"} & {each["object"] for each in plan["losses"]}
    )
    error, names = refused(request)
    assert sorted(names) == sorted(expected) and error.why.count("Fix: ") == 1
    accepted = dict(request, accept_losses=names)
    plan = restores.plan(accepted)
    assert plan["obstacles"] == [] and all(each["accepted"] for each in plan["losses"])
    assert sum(line.startswith("Lost: ") for line in render.of_plan(plan)) == len(plan["losses"])
    restored(accepted)
    assert cluster.execute("SELECT array_agg(abstime ORDER BY id) FROM good", "back") == [(["x", "y"],)]
    forget(cluster, "lossy")


def test_what_postgis_removed_stands_in_the_plan(cluster, tmp_path):
    rows = cluster.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'postgis'")
    if not rows or rows[0][0].startswith("2."):
        pytest.skip("no PostGIS 3 for this server")
    path = dump_of(
        tmp_path / "old.sql",
        ("EXTENSION", "-", "postgis", "CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;"),
        ("TABLE", "public", "places", "CREATE TABLE public.places (\n    geom public.geometry(Point,4326)\n);"),
        (
            "VIEW",
            "public",
            "v",
            "CREATE VIEW public.v AS\n SELECT public.st_line_interpolate_point(places.geom, 0.5) AS g,\n"
            "    public.st_area(places.geom) AS a\n   FROM public.places;",
        ),
    )
    request = spec(cluster, tmp_path, path)
    assert [each["object"] for each in restores.plan(request)["obstacles"]] == ["VIEW public.v"]
    _, names = refused(request)
    assert names == ["VIEW public.v"]
    restored(dict(request, accept_losses=names))
    forget(cluster, "lossy")


# Extensions


@pytest.fixture()
def extension(cluster):
    """make(name, SQL) puts an extension on the server's disk, and remove(name) takes it away. A real one of that name
    is there again afterwards."""
    folder = Path(cluster.execute("SELECT setting FROM pg_config() WHERE name = 'SHAREDIR'")[0][0]) / "extension"
    if not os.access(str(folder), os.W_OK):
        pytest.skip("extensions cannot be put on this host")
    result, real = [], {}

    def make(name, text):
        result.append(name)
        real.update((path, path.read_bytes()) for path in folder.glob(f"{name}[.-]*"))
        remove(name)
        (folder / f"{name}.control").write_text("default_version = '1'\nrelocatable = false\nschema = far\n")
        (folder / f"{name}--1.sql").write_text(text)

    def remove(name):
        for path in folder.glob(f"{name}[.-]*"):
            path.unlink()

    make.remove = remove
    yield make
    for name in result:
        remove(name)
    for path, data in real.items():
        path.write_bytes(data)
    forget(cluster, "lossy")


def dumps(cluster, tmp_path, database):
    """Paths of the dumps of a database, by form."""
    (tmp_path / "r" / "j").mkdir(mode=0o700, parents=True)
    job = {"name": "j", "kind": "pg_dump", "connection": cluster.values, "database": database}
    paths = {"ours": tmp_path / "r" / "j" / kinds.back_up(job, tmp_path / "r")["id"]}
    for form in "cp":
        paths[form] = tmp_path / form
        cluster.run("pg_dump", "-F" + form, "-f", paths[form], database=database)
    return paths


def test_an_extension_that_nothing_uses_is_left_out_by_name(cluster, tmp_path, extension):
    extension("only_there", "CREATE FUNCTION far.f() RETURNS int LANGUAGE sql AS 'SELECT 1';")
    cluster.execute("CREATE DATABASE cloud TEMPLATE template0")
    cluster.execute("CREATE SCHEMA far; CREATE EXTENSION only_there; CREATE TABLE t AS SELECT 1 AS i", "cloud")
    cluster.execute("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (p int)", "cloud")
    cluster.execute(
        "INSERT INTO c VALUES (7); SET session_replication_role TO replica;"
        "ALTER TABLE c ADD CONSTRAINT c_fkey FOREIGN KEY (p) REFERENCES p NOT VALID;"
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'c_fkey'",
        "cloud",
    )
    paths = dumps(cluster, tmp_path, "cloud")
    extension.remove("only_there")
    for path in paths.values():
        request = spec(cluster, tmp_path, path)
        (result,) = restores.plan(request)["obstacles"]
        assert result["object"] == "EXTENSION only_there" and "apt" not in result["fix"]
        _, names = refused(request)
        assert sorted(names) == ["CONSTRAINT public.c c_fkey", "EXTENSION only_there"], "one run finds both"
        accepted = dict(request, accept_losses=names)
        assert restores.plan(accepted)["obstacles"] == []
        _, report = restored(accepted)
        assert any(line.startswith("Lost:   EXTENSION only_there") for line in report)
        assert cluster.execute("SELECT i, (SELECT count(*) FROM c) FROM t", "back") == [(1, 1)]
        forget(cluster, "lossy", "cloud")


def test_what_uses_a_missing_extension_goes_with_it(cluster, tmp_path, extension):
    extension("only_there", "CREATE FUNCTION far.f(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i';")
    cluster.execute("CREATE DATABASE cloud TEMPLATE template0")
    cluster.execute(
        "CREATE SCHEMA far; CREATE EXTENSION only_there; CREATE TABLE t AS SELECT 1 AS i;"
        "CREATE INDEX ti ON t (far.f(i));"
        "CREATE TABLE u (i int CHECK (far.f(i) > 0)); INSERT INTO u VALUES (5); CREATE VIEW v AS SELECT * FROM u",
        "cloud",
    )
    paths = dumps(cluster, tmp_path, "cloud")
    extension.remove("only_there")
    expected = ["EXTENSION only_there", "INDEX public.ti", "TABLE DATA public.u", "TABLE public.u", "VIEW public.v"]
    for form, path in paths.items():
        request = spec(cluster, tmp_path, path)
        plan = restores.plan(request)
        if form != "p":
            assert sorted(each["object"] for each in plan["losses"]) == expected
        error, names = refused(request)
        assert sorted(names) == expected
        assert ("not started" in error.what) == (form != "p"), "nothing is loaded where the dump says what is lost"
        restored(dict(request, accept_losses=names))
        assert cluster.execute("SELECT i FROM t", "back") == [(1,)]
        forget(cluster, "lossy", "cloud")


RETIRED = """
CREATE TABLE far.geocode_settings (name text PRIMARY KEY, setting text);
SELECT pg_extension_config_dump('far.geocode_settings', '');
CREATE TABLE far.pagc_lex (id serial PRIMARY KEY, is_custom bool);
INSERT INTO far.pagc_lex (is_custom) VALUES (false);
SELECT pg_extension_config_dump('far.pagc_lex', 'WHERE is_custom = true');
CREATE FUNCTION far.geocode(a text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT a';
"""


def test_an_extension_that_left_postgis_stops_only_what_needs_it(cluster, tmp_path, extension):
    name, none = "postgis_tiger_geocoder", "SELECT 1"
    cases = {
        none: [],
        "INSERT INTO far.geocode_settings VALUES ('a', 'b')": ["TABLE DATA far.geocode_settings"],
        "CREATE VIEW v AS SELECT far.geocode('a')": ["VIEW public.v"],
        "CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN geocode(1); END'": ["FUNCTION public.f()"],
    }
    for number, (statement, needing) in enumerate(cases.items()):
        extension(name, RETIRED)
        cluster.execute("CREATE DATABASE cloud TEMPLATE template0")
        cluster.execute(f"CREATE SCHEMA far; CREATE EXTENSION {name}; CREATE TABLE t AS SELECT 1 AS i", "cloud")
        cluster.execute(statement, "cloud")
        paths = dumps(cluster, tmp_path / str(number), "cloud")
        extension.remove(name)
        # One form is enough of what stops a plan.
        for path in list(paths.values())[: 3 if statement == none else 1]:
            request = spec(cluster, tmp_path, path)
            plan = restores.plan(request)
            if needing:
                (obstacle,) = plan["obstacles"]
                assert obstacle["object"] == f"EXTENSION {name}" and obstacle["stops"]
                assert [loss["object"] for loss in plan["losses"]] == [f"EXTENSION {name}", *needing]
                continue
            assert plan["obstacles"] == []
            assert f"Left out: EXTENSION {name}: " in "\n".join(render.of_losses(plan["losses"]))
            _, report = restored(request)
            (line,) = [line for line in report if line.startswith(("Lost", "Left"))]
            assert line.startswith(f"Left out: EXTENSION {name}: ")
            assert cluster.execute("SELECT i FROM t", "back") == [(1,)]
            forget(cluster, "lossy", "cloud")
        forget(cluster, "lossy")


def test_an_extension_of_one_database_is_left_out_with_its_rows(cluster, tmp_path, extension):
    """As pg_cron is: it refuses every database but the one that its setting names."""
    extension(
        "pg_cron",
        "DO $$ BEGIN IF current_database() <> 'cloud' THEN RAISE EXCEPTION 'can only create it in cloud'; END IF;"
        " END $$; CREATE SCHEMA cron; CREATE TABLE cron.job (jobid int PRIMARY KEY, command text);"
        " SELECT pg_catalog.pg_extension_config_dump('cron.job', '');",
    )
    cluster.execute("CREATE DATABASE cloud TEMPLATE template0")
    cluster.execute(
        "CREATE SCHEMA far; CREATE EXTENSION pg_cron; INSERT INTO cron.job VALUES (1, 'VACUUM');"
        "CREATE TABLE t AS SELECT 1 AS i",
        "cloud",
    )
    for path in dumps(cluster, tmp_path, "cloud").values():
        request = spec(cluster, tmp_path, path)
        (result,) = restores.plan(request)["obstacles"]
        assert result["object"] == "EXTENSION pg_cron" and "CREATE EXTENSION pg_cron" in result["fix"]
        _, names = refused(request)
        assert names == ["EXTENSION pg_cron", "TABLE DATA cron.job"]
        restored(dict(request, accept_losses=names))
        assert cluster.execute("SELECT i, to_regclass('cron.job') IS NULL FROM t", "back") == [(1, True)]
        forget(cluster, "lossy", "cloud")


def test_a_lost_event_trigger_is_not_called_restored(cluster, tmp_path, extension):
    extension(
        "watcher",
        "CREATE FUNCTION far.seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';",
    )
    cluster.execute("CREATE DATABASE cloud TEMPLATE template0")
    cluster.execute(
        "CREATE SCHEMA far; CREATE EXTENSION watcher; CREATE TABLE t AS SELECT 1 AS i;"
        "CREATE EVENT TRIGGER watched ON ddl_command_end EXECUTE PROCEDURE far.seen()",
        "cloud",
    )
    path = dumps(cluster, tmp_path, "cloud")["ours"]
    extension.remove("watcher")
    request = spec(cluster, tmp_path, path)
    _, names = refused(request)
    assert sorted(names) == ["EVENT TRIGGER watched", "EXTENSION watcher"]
    done, report = restored(dict(request, accept_losses=[*names, "TABLE public.t"]))
    assert done["notes"] == ["accepted as a loss, but restored: TABLE public.t"]
    assert sum(line.startswith("Lost: ") for line in report) == 2
    forget(cluster, "lossy")


def test_a_sequence_that_an_extension_has_dumped_stays_where_it_stood(cluster, tmp_path, extension):
    extension(
        "store",
        "CREATE TABLE far.stock (id serial PRIMARY KEY, t text);"
        " SELECT pg_catalog.pg_extension_config_dump('far.stock', '');"
        " SELECT pg_catalog.pg_extension_config_dump('far.stock_id_seq', '');",
    )
    cluster.execute("CREATE DATABASE cloud TEMPLATE template0")
    cluster.execute(
        "CREATE SCHEMA far; CREATE EXTENSION store; INSERT INTO far.stock (t) VALUES ('a'), ('b');"
        " INSERT INTO far.stock VALUES (77, 'by hand')",
        "cloud",
    )
    request = spec(cluster, tmp_path, dumps(cluster, tmp_path, "cloud")["ours"])
    restored(request)
    assert cluster.execute("SELECT last_value, is_called FROM far.stock_id_seq", "back") == [(2, True)]
    forget(cluster, "lossy")


def test_tables_with_oids_in_an_archive_are_a_note_of_the_plan(cluster, lossy, tmp_path):
    """An archive says it in its table of contents, as old clients wrote it; a directory's can be patched here."""
    path = tmp_path / "d"
    cluster.execute("CREATE DATABASE cloud TEMPLATE template0")
    cluster.execute("CREATE TABLE t AS SELECT 1 AS i", "cloud")
    cluster.run("pg_dump", "-Fd", "-f", path, database="cloud")
    request = spec(cluster, tmp_path, path)
    note = "Tables WITH OIDS are restored without OIDs."
    assert note not in [each["what"] for each in restores.plan(request)["warnings"]]
    index = path / "toc.dat"
    text, flag = index.read_bytes(), b"\0\5\0\0\0false"
    at = text.index(flag, text.index(b"CREATE TABLE public.t"))
    index.write_bytes(text[:at] + b"\0\4\0\0\0true" + text[at + len(flag) :])
    assert note in [each["what"] for each in restores.plan(request)["warnings"]]
    done, _ = restored(request)
    assert note in [each["what"] for each in done["warned"]]
    assert cluster.execute("SELECT i FROM t", "back") == [(1,)]
    forget(cluster, "lossy")
