"""Objects that the target cannot take: one run finds them all, each is accepted by name, and nothing else is lost."""

import json
import re

import pytest
from sauvegarde import kinds, postgres
from sauvegarde.errors import SauvegardeError
from sauvegarde.restore import losses, run, side, words

FORMS = ("ours", "c", "d", "p")

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
CREATE TABLE "S x"."T é" (id int PRIMARY KEY, a int CHECK (here(a) = a));
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
    for form in "cdp":
        paths[form] = root / form
        cluster.run("pg_dump", "-F" + form, "-f", paths[form], database="lossy")
    paths["inserts"] = root / "inserts"
    cluster.run("pg_dump", "-Fc", "--inserts", "-f", paths["inserts"], database="lossy")
    yield paths
    forget(cluster)


def forget(cluster, *keep):
    connection = cluster.connect()
    try:
        for (name,) in postgres.query(connection, "SELECT datname FROM pg_database WHERE NOT datistemplate"):
            if name not in ("postgres", *keep):
                side.drop(connection, name)
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


def refused(wanted):
    """The error of a restore that loses something, and the names in the setting that it prints."""
    with pytest.raises(SauvegardeError) as told:
        run.fill(wanted)
    printed = re.search(r"^restore_accept_losses: (\[.*\])$", told.value.fix, re.MULTILINE)
    assert printed, str(told.value)
    return told.value, json.loads(printed.group(1))


def restored(wanted):
    done = run.fill(wanted)
    return done, words.of_swap(done, run.put_in_place(wanted, done["id"]))


@pytest.mark.parametrize("form", (*FORMS, "inserts"))
def test_one_run_finds_all_and_accepting_them_loses_nothing_else(cluster, lossy, tmp_path, form):
    wanted = spec(cluster, tmp_path, lossy[form])
    error, names = refused(wanted)
    assert sorted(names) == sorted(LOST) and "5 objects" in error.what
    assert "not back__restore" in error.why and "(parent)=(4711)" in error.why
    assert "depends on TABLE DATA S x.T é" in error.why and error.why.count("Fix: ") == 4
    there = {name for (name,) in cluster.execute("SELECT datname FROM pg_database")}
    assert not any(name.startswith("back") for name in there), "the side database is dropped"
    done, report = restored(dict(wanted, accept_losses=names))
    assert [each["object"] for each in done["losses"] if each["accepted"]] == [
        each["object"] for each in done["losses"]
    ]
    assert sorted(done["proof"]["without"]) == sorted(LOST)
    assert sum(line.startswith("Lost: ") for line in report) == 5
    assert any("child_parent_fkey (kept NOT VALID)" in line for line in report)
    found = cluster.execute(
        'SELECT (SELECT count(*) FROM good), (SELECT count(*) FROM child), (SELECT count(*) FROM "S x"."T é"),'
        " (SELECT count FROM counted), to_regclass('good_t') IS NULL, to_regclass('good_here') IS NULL,"
        " (SELECT array_agg(conname || convalidated ORDER BY conname) FROM pg_constraint WHERE contype = 'f')::text,"
        " (SELECT relispopulated FROM pg_class WHERE relname = 'filled'), to_regclass('harmless') IS NULL",
        "back",
    )
    assert found == [(9, 11, 0, 9, False, True, "{child_parent_fkeyfalse,refers_fkeyfalse}", False, False)]
    with pytest.raises(Exception, match="violates foreign key"):
        cluster.execute("INSERT INTO child VALUES (12, 4712)", "back")
    forget(cluster, "lossy")


@pytest.mark.parametrize("form", ("c", "p"))
def test_what_is_not_accepted_stops_it_and_what_did_not_fail_is_said(cluster, lossy, tmp_path, form):
    wanted = spec(cluster, tmp_path, lossy[form], [*LOST[1:], "INDEX public.good_t"])
    error, names = refused(wanted)
    assert sorted(names) == sorted(LOST), "the setting accepts exactly what fails"
    assert error.what.startswith("1 object ") and "TABLE DATA S x.T é" in error.what
    done, _ = restored(
        dict(wanted, accept_losses=[*LOST, "INDEX public.good_t", "FK CONSTRAINT public.refers refers_fkey"])
    )
    assert done["notes"] == ["accepted as a loss, but restored whole: INDEX public.good_t"]
    assert cluster.execute("SELECT to_regclass('good_t') IS NULL", "back") == [(False,)]
    forget(cluster, "lossy")


@pytest.mark.parametrize("form", FORMS)
def test_a_misspelt_name_is_refused_before_anything_is_done(cluster, lossy, tmp_path, form):
    wanted = spec(cluster, tmp_path, lossy[form], ["CONSTRAINT public.child child_parent_fky"])
    with pytest.raises(SauvegardeError) as told:
        run.fill(wanted)
    assert "not started" in told.value.what and "child_parent_fky" in told.value.what
    assert "CONSTRAINT public.child child_parent_fkey" in told.value.why


@pytest.mark.parametrize("value", ("VIEW public.v", '["VIEW public.v"]', ["VIEW public.v"], ("  VIEW public.v;",)))
def test_names_are_taken_in_every_form(value):
    assert losses.accepted_names(value) == ["VIEW public.v"]


@pytest.mark.parametrize("value", (3, [3], {"a": 1}))
def test_what_are_no_names_is_refused(value):
    with pytest.raises(SauvegardeError):
        losses.accepted_names(value)
