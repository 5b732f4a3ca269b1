"""A dump that belongs to one role is loaded as that role, and comes back to the letter; else the superuser loads it."""

import subprocess
from pathlib import Path

import pytest
import restores
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import client_tools, postgres_server, sql_names
from sauvegarde.targets import side_database

OWNER, READER = "-ow'n\"er é", "re ader"
# What a superuser owns, then what the owner makes. The function says as whom it is run: in a CHECK, a domain and a
# generated column.
SITE = """
CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; REVOKE EXECUTE ON FUNCTION ext.skeys(ext.hstore) FROM PUBLIC;
GRANT USAGE ON SCHEMA ext TO {owner}; GRANT CREATE ON SCHEMA public TO {owner};
COMMENT ON SCHEMA public IS 'changed';
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {reader};
SET ROLE {owner};
CREATE FUNCTION loader() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  IF current_database() ~ '__restore_' AND current_setting('is_superuser') <> 'off' THEN
    RAISE 'run as %', current_user;
  END IF;
  RETURN true;
END $$;
CREATE SCHEMA "sh op"; COMMENT ON SCHEMA "sh op" IS 'quoted';
GRANT USAGE ON SCHEMA "sh op" TO {reader};
ALTER DEFAULT PRIVILEGES IN SCHEMA "sh op" GRANT SELECT ON TABLES TO {reader};
CREATE DOMAIN "sh op".price AS numeric CHECK (loader());
CREATE TYPE "sh op".size AS ENUM ('s', 'l');
CREATE TABLE offers (id serial PRIMARY KEY, title text CHECK (loader()), tags ext.hstore);
INSERT INTO offers (title, tags) SELECT n, ext.hstore('n', n::text) FROM generate_series(1, 100) n;
CREATE TABLE "sh op"."t é" (offer int REFERENCES offers, price "sh op".price, size "sh op".size);
INSERT INTO "sh op"."t é" SELECT n, n, 's' FROM generate_series(1, 50) n;
COMMENT ON TABLE "sh op"."t é" IS 'l''été'; COMMENT ON COLUMN offers.title IS 'a title';
REVOKE ALL ON FUNCTION loader() FROM PUBLIC; GRANT SELECT (title) ON offers TO {reader};
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql SET work_mem TO '8MB' AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON offers FOR EACH ROW EXECUTE PROCEDURE touch();
CREATE TABLE twice (n int, m int GENERATED ALWAYS AS (n + loader()::int) STORED); INSERT INTO twice (n) VALUES (1);
CREATE VIEW titles AS SELECT title FROM offers; CREATE RULE nothing AS ON DELETE TO titles DO INSTEAD NOTHING;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM offers; CREATE INDEX ON counted (count);
CREATE TEXT SEARCH CONFIGURATION "sh op".fr (COPY = french);
CREATE PUBLICATION news FOR TABLE offers;
ALTER TABLE offers ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_it ON offers TO {reader} USING (true);
SELECT lo_from_bytea(4242, '\\x00ff10'); COMMENT ON LARGE OBJECT 4242 IS 'large';
GRANT SELECT ON LARGE OBJECT 4242 TO {reader};
"""


@pytest.fixture()
def site(cluster):
    for role in (OWNER, READER):
        cluster.execute(f"CREATE ROLE {sql_names.quote(role)}")
    cluster.execute(f"CREATE DATABASE site TEMPLATE template0 OWNER {sql_names.quote(OWNER)}")
    cluster.execute(SITE.format(owner=sql_names.quote(OWNER), reader=sql_names.quote(READER)), "site")
    yield cluster
    forget(cluster, OWNER, READER)


def forget(cluster, *roles):
    connection = cluster.connect()
    for (name,) in postgres_server.query(connection, "SELECT datname FROM pg_database WHERE datname ~ '^(site|copy)'"):
        side_database.drop(connection, name)
    for role in roles:
        postgres_server.execute(connection, f"DROP ROLE {sql_names.quote(role)}")
    connection.close()


def dumped(cluster, database):
    """All that pg_dump says of a database, as SQL."""
    done = subprocess.run(
        [str(cluster.binaries / "pg_dump")],
        env=client_tools.environment(cluster.server, database),
        stdout=subprocess.PIPE,
        check=True,
    )
    return [line for line in done.stdout.decode("utf-8").splitlines() if "restrict" not in line]


def restore(cluster, folder, form, owner=OWNER, options=()):
    """A restore of the site as it is now, in a form of pg_dump's or as an archive of ours; or of a file. Its state."""
    if form == "archive":
        (folder / "demo").mkdir(mode=0o700, exist_ok=True)
        job = {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": "site"}
        path = folder / "demo" / kinds.back_up(job, folder)["id"]
    elif isinstance(form, Path):
        path = form
    else:
        path = folder / form
        cluster.run("pg_dump", "-F" + form[0], *options, "-f", path, database="site")
    spec = {"connection": cluster.values, "path": str(path), "database": "copy", "directory": str(folder / "restores")}
    if form != "archive":
        spec["owner"] = owner
    done = restores.fill(dict(spec, jobs=2))
    restores.swap_in(spec, done["id"])
    return done


def test_the_dumps_code_is_run_as_its_owner_and_nothing_is_lost(site, tmp_path):
    before = dumped(site, "site")
    for form in ("archive", "custom in LATIN1", "plain"):
        done = restore(site, tmp_path, form, options=["--encoding=LATIN1"] if "LATIN1" in form else ())
        assert done["notes"] == [], form
        assert dumped(site, "copy") == before, form


def test_a_tablespace_that_is_not_there_is_no_lack_of_rights(site, tmp_path):
    path = tmp_path / "custom"
    place = site.folder / "place"
    site.as_owner("mkdir", place)
    site.execute(f"CREATE TABLESPACE elsewhere LOCATION '{place}'")
    try:
        site.execute("ALTER TABLE offers SET TABLESPACE elsewhere", "site")
        site.run("pg_dump", "-Fc", "-f", path, database="site")
        site.execute("ALTER TABLE offers SET TABLESPACE pg_default", "site")
    finally:
        site.execute("DROP TABLESPACE elsewhere")
    before = dumped(site, "site")
    done = restore(site, tmp_path, path)
    assert done["notes"] == ["tablespaces that this server lacks, their tables are in its default: elsewhere"]
    assert dumped(site, "copy") == before


REASONS = {
    "it belongs to several roles: {owner}, postgres": ("CREATE TABLE another ()", ("custom",)),
    "{owner} may not write functions in the language internal": (
        "CREATE FUNCTION plus(int, int) RETURNS int LANGUAGE internal AS 'int4pl';"
        "ALTER FUNCTION plus(int, int) OWNER TO {quoted}",
        ("plain", "archive"),
    ),
    "the dump leaves {owner} without all the privileges on what it owns": (
        "DROP TABLE twice; REVOKE INSERT ON offers FROM {quoted}",
        ("custom",),
    ),
    # Both are found by trying: what makes a thing takes more than what owns it.
    "permission denied for function pg_ls_dir": (
        'CREATE OPERATOR "sh op".~~~ (PROCEDURE = pg_ls_dir, RIGHTARG = text);'
        'ALTER OPERATOR "sh op".~~~ (NONE, text) OWNER TO {quoted}',
        ("custom", "plain"),
    ),
    "permission denied for function ext.lo_manage": (
        "CREATE EXTENSION lo SCHEMA ext; REVOKE EXECUTE ON FUNCTION ext.lo_manage() FROM PUBLIC;"
        "CREATE OR REPLACE FUNCTION loader() RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';"
        "CREATE TRIGGER large BEFORE UPDATE ON offers FOR EACH ROW EXECUTE PROCEDURE ext.lo_manage(title)",
        ("archive",),
    ),
}


@pytest.mark.parametrize("reason", REASONS)
def test_where_its_owner_cannot_the_superuser_loads_it_and_says_why(site, tmp_path, reason):
    statement, forms = REASONS[reason]
    site.execute(statement.format(quoted=sql_names.quote(OWNER)), "site")
    # Now it stops whoever is no superuser.
    ((body,),) = site.execute("SELECT pg_get_functiondef('loader'::regproc)", "site")
    site.execute(body.replace("<> 'off'", "<> 'on'"), "site")
    before = dumped(site, "site")
    for form in forms:
        done = restore(site, tmp_path, form)
        assert done["notes"] == ["not loaded as its owner but as the superuser: " + reason.format(owner=OWNER)]
        assert dumped(site, "copy") == before, form


def test_names_in_the_dumps_own_encoding(cluster, tmp_path):
    cluster.execute("CREATE ROLE reader")
    cluster.execute("CREATE DATABASE site TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' OWNER reader")
    try:
        cluster.execute(
            "GRANT CREATE ON SCHEMA public TO reader; SET ROLE reader;"
            'CREATE TABLE "été" (id serial PRIMARY KEY, t text);'
            'INSERT INTO "été" (t) SELECT chr(233) || n FROM generate_series(1, 100) n;'
            'COMMENT ON TABLE "été" IS $$où$$;'
            'CREATE SCHEMA "à" CREATE VIEW "été" AS SELECT t FROM public."été"; GRANT SELECT ON "été" TO PUBLIC',
            "site",
        )
        before = dumped(cluster, "site")
        done = restore(cluster, tmp_path, "custom", owner="reader", options=["--encoding=LATIN1"])
        assert done["notes"] == [] and dumped(cluster, "copy") == before
    finally:
        forget(cluster, "reader")


def test_what_belongs_to_one_superuser_is_loaded_in_its_own_order(cluster, tmp_path):
    """Privileges on what the dump itself makes, of a kind that only superusers make, come after it."""
    cluster.execute("CREATE DATABASE site TEMPLATE template0")
    cluster.execute("CREATE ROLE reader")
    try:
        cluster.execute(
            "CREATE FOREIGN DATA WRAPPER wrapper; CREATE SERVER srv FOREIGN DATA WRAPPER wrapper;"
            "CREATE TABLE t AS SELECT 1 AS a; GRANT SELECT ON t TO reader; REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
            "GRANT USAGE ON FOREIGN DATA WRAPPER wrapper TO reader; GRANT USAGE ON FOREIGN SERVER srv TO reader;"
            "REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC",
            "site",
        )
        before = dumped(cluster, "site")
        for form in ("custom", "plain"):
            done = restore(cluster, tmp_path, form, owner="")
            assert done["notes"] == [] and dumped(cluster, "copy") == before, form
    finally:
        forget(cluster, "reader")


def test_what_only_a_superuser_can_do_stops_it_with_a_way_out(site, tmp_path):
    """A CHECK that the owner cannot compute is restored all the same, and noted; a value has to be computed."""
    site.execute(
        "CREATE FUNCTION reads(n int) RETURNS boolean LANGUAGE sql IMMUTABLE AS"
        " $$ SELECT current_database() = 'site' OR pg_read_file('PG_VERSION') <> '' $$;"
        f"ALTER FUNCTION reads OWNER TO {sql_names.quote(OWNER)}; ALTER TABLE offers ADD CHECK (reads(id))",
        "site",
    )
    before = dumped(site, "site")
    (note,) = restore(site, tmp_path, "custom")["notes"]
    assert "permission denied for function pg_read_file" in note and dumped(site, "copy") == before
    site.execute("ALTER TABLE twice ADD read boolean GENERATED ALWAYS AS (reads(n)) STORED", "site")
    with pytest.raises(SauvegardeError) as error:
        restore(site, tmp_path, "custom")
    assert "permission denied for function pg_read_file" in error.value.why
    assert f"ALTER ROLE {sql_names.quote(OWNER)} SUPERUSER" in error.value.fix
    site.execute(f"ALTER ROLE {sql_names.quote(OWNER)} SUPERUSER")
    site.execute("CREATE OR REPLACE FUNCTION loader() RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'", "site")
    before = dumped(site, "site")
    assert restore(site, tmp_path, "plain")["notes"] == [] and dumped(site, "copy") == before


def test_the_plan_says_as_which_role_as_far_as_it_can_know(cluster, tmp_path):
    """Globals may make the owner a superuser; what an ordinary one may do shows only in the run."""
    path, value = tmp_path / "dump", tmp_path / "globals"
    cluster.execute("CREATE ROLE reader SUPERUSER")
    cluster.execute("CREATE DATABASE site TEMPLATE template0 OWNER reader")
    try:
        cluster.execute("SET ROLE reader; CREATE TABLE t (); CREATE FOREIGN DATA WRAPPER wrapper", "site")
        cluster.run("pg_dump", "-Fc", "-f", path, database="site")
        cluster.run("pg_dumpall", "--globals-only", "-f", value)
    finally:
        forget(cluster, "reader")
    spec = {"connection": cluster.values, "path": str(path), "database": "copy", "directory": str(tmp_path / "state")}

    def warnings_of(**more):
        return [each["what"] + each["why"] for each in restores.plan(dict(spec, **more))["warnings"]]

    assert [each for each in warnings_of(globals=str(value)) if "loaded" in each] == []
    assert any("Only a superuser can load" in each for each in warnings_of(missing_roles="create"))
    cluster.execute("CREATE DATABASE site TEMPLATE template0")
    cluster.execute("CREATE ROLE reader")
    try:
        cluster.execute("CREATE TABLE t (); ALTER TABLE t OWNER TO reader", "site")
        cluster.run("pg_dump", "-Fc", "-f", path, database="site")
        assert any("loaded as its owner, reader." in each for each in warnings_of())
    finally:
        forget(cluster, "reader")
