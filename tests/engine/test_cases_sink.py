"""What generated databases (`sink`) have found, each by itself: restored from an archive and from stock's dumps."""

import contextlib
import subprocess

import pytest
import restores
from sauvegarde.backup import kinds
from sauvegarde.postgres import client_tools, postgres_server
from sauvegarde.targets import side_database

FORMS = ("archive", "custom", "plain")


@pytest.fixture()
def source(cluster):
    """The cluster with an empty database `source`."""
    cluster.execute("CREATE DATABASE source TEMPLATE template0")
    yield cluster
    with contextlib.closing(cluster.connect()) as connection:
        for (name,) in postgres_server.query(
            connection, "SELECT datname FROM pg_database WHERE datname ~ '^(source|copy)'"
        ):
            side_database.drop(connection, name)


def restore(cluster, folder, form, stock=(), **more):
    """Restore the database `source` as `copy`; stock: more options of pg_dump. Returns the run's state."""
    path = folder / form
    if form == "archive":
        path.mkdir(mode=0o700)
        job = {"name": form, "kind": "pg_dump", "connection": cluster.values, "database": "source"}
        path = path / kinds.back_up(job, folder)["id"]
    else:
        cluster.run("pg_dump", "-F" + form[0], "-f", path, *stock, database="source")
    spec = {"connection": cluster.values, "path": str(path), "database": "copy", "directory": str(folder / "state")}
    done = restores.fill(dict(spec, jobs=2, **more))
    restores.swap_in(spec, done["id"])
    return done


def definitions(cluster, database):
    """What pg_dump says of a database, under the same settings for all."""
    done = subprocess.run(
        [str(cluster.binaries / "pg_dump"), "--schema-only"],
        env=client_tools.environment(cluster.server, database, PGOPTIONS="-c quote_all_identifiers=off"),
        stdout=subprocess.PIPE,
        check=True,
    )
    return [line for line in done.stdout.decode("utf-8").splitlines() if "restrict" not in line]


@pytest.mark.parametrize("form", FORMS)
def test_functions_are_as_before_where_the_database_quotes_all_identifiers(source, tmp_path, form):
    source.execute("ALTER DATABASE source SET quote_all_identifiers = on")
    source.execute(
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';"
        'CREATE FUNCTION two() RETURNS int LANGUAGE sql IMMUTABLE SET search_path = public, "a b"'
        " AS 'SELECT one() + 1';"
        "CREATE MATERIALIZED VIEW three AS SELECT two()",
        "source",
    )
    restore(source, tmp_path, form)
    assert definitions(source, "copy") == definitions(source, "source")


def test_read_only_database_with_a_subscription_is_dropped(source):
    source.execute(
        "CREATE SUBSCRIPTION receiver CONNECTION 'host=/nonexistent dbname=x' PUBLICATION p"
        " WITH (connect = false, enabled = false, slot_name = NONE)",
        "source",
    )
    source.execute("ALTER DATABASE source SET default_transaction_read_only = on")
    with contextlib.closing(source.connect()) as connection:
        assert side_database.drop(connection, "source") is True


# The session that runs this takes a backslash for itself.
BACKSLASHES = r"""
ALTER DATABASE source SET standard_conforming_strings = off;
ALTER DATABASE source SET "site.folder" = 'C:\new\'; COMMENT ON DATABASE source IS 'C:\new\ l''été';
CREATE TABLE public."a\b" ("c\" serial, d text DEFAULT 'x\y'); COMMENT ON TABLE public."a\b" IS '\''';
INSERT INTO "a\b" (d) VALUES (DEFAULT), ('\');
CREATE FUNCTION "f\"() RETURNS text LANGUAGE sql AS $$
  SELECT E'\\' || current_setting('standard_conforming_strings') $$;
CREATE MATERIALIZED VIEW m AS SELECT d FROM "a\b" WHERE d <> E'\\' OR "f\"() = 'x\y';
"""


@pytest.mark.parametrize("form", FORMS)
def test_backslashes_where_the_database_takes_them_for_escapes(source, tmp_path, form):
    with contextlib.closing(source.connect()) as connection:
        if connection.server_version >= 190000:
            pytest.skip("from PostgreSQL 19 on, standard_conforming_strings is always on")
    source.execute(BACKSLASHES, "source")
    restore(source, tmp_path, form, stock=["--create"])
    assert definitions(source, "copy") == definitions(source, "source")
    properties = (
        "SELECT shobj_description(d.oid, 'pg_database'), array_agg(c ORDER BY c) FROM pg_database d"
        " JOIN pg_db_role_setting s ON s.setdatabase = d.oid, unnest(s.setconfig) c"
        " WHERE d.datname = current_database() GROUP BY d.oid"
    )
    assert source.execute(properties, "copy") == source.execute(properties, "source")
    assert source.execute(properties, "copy")[0][0] == "C:\\new\\ l'été"
    for statement in ('SELECT * FROM "a\\b"', 'SELECT last_value, is_called FROM "a\\b_c\\_seq"', "SELECT * FROM m"):
        assert source.execute(statement, "copy") == source.execute(statement, "source") != []


@pytest.mark.parametrize("form", FORMS)
def test_comments_on_extensions(source, tmp_path, form):
    source.execute('CREATE ROLE "its owner"; ALTER DATABASE source OWNER TO "its owner"')
    try:
        source.execute(
            "CREATE EXTENSION hstore; COMMENT ON EXTENSION hstore IS 'é; \\ ''here''';"
            "COMMENT ON EXTENSION plpgsql IS NULL; CREATE TABLE t (a hstore);"
            'ALTER TABLE t OWNER TO "its owner"',
            "source",
        )
        if source.connect("source").server_version >= 150000:  # before, pg_dump says nothing of its owner
            source.execute('ALTER SCHEMA public OWNER TO "its owner"', "source")
        restore(source, tmp_path, form)
        assert definitions(source, "copy") == definitions(source, "source")
        assert any("'é; \\ ''here'''" in line for line in definitions(source, "copy"))
    finally:
        with contextlib.closing(source.connect()) as connection:
            for name in ("source", "copy"):
                side_database.drop(connection, name)
        source.execute('DROP ROLE "its owner"')


@pytest.mark.parametrize("form", FORMS)
def test_schema_of_an_extension_with_a_line_break_in_its_name(source, tmp_path, form):
    source.execute(
        'CREATE SCHEMA "a\nb"; CREATE EXTENSION unaccent SCHEMA "a\nb"; ALTER SCHEMA "a\nb" OWNER TO pg_monitor;'
        "CREATE MATERIALIZED VIEW m AS SELECT \"a\nb\".unaccent('été') AS v; COMMENT ON SCHEMA \"a\nb\" IS 'its own'",
        "source",
    )
    restore(source, tmp_path, form)
    assert definitions(source, "copy") == definitions(source, "source")
    assert source.execute("SELECT v FROM m", "copy") == [("ete",)]
