"""Databases of the field whose load depends on more than the dump says: what functions call, settings, order, triggers.

Each is restored from an archive of ours and from stock's -Fc and -Fp, and compared with its source in all that pg_dump
says, in what materialized views hold, and in the settings of every function, of extensions too.
"""

import re
import subprocess

import pytest
import restores
from sauvegarde.backup import kinds
from sauvegarde.postgres import client_tools, postgres_server
from sauvegarde.targets import side_database

FORMS = ("archive", "custom", "plain")
PATH = '"$user", public, tools, gis'

# Functions that call others by their bare names, wherever the server evaluates or inlines one.
FUNCTIONS = """
CREATE SCHEMA tools;
CREATE FUNCTION tools.twice(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i * 2';
CREATE FUNCTION public.calls(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT twice(i) + 1';
CREATE FUNCTION public.has_own_path(i int) RETURNS int LANGUAGE sql IMMUTABLE SET search_path = tools
  AS 'SELECT twice(i)';
CREATE FUNCTION public.has_setting(i int) RETURNS int LANGUAGE sql IMMUTABLE SET work_mem = '8MB' AS 'SELECT twice(i)';
CREATE DOMAIN odd AS int DEFAULT calls(1) CHECK (calls(VALUE) <> 7);
CREATE TABLE a_called (id int PRIMARY KEY DEFAULT calls(2), o odd, g int GENERATED ALWAYS AS (calls(id)) STORED,
  CHECK (calls(id) > 0));
INSERT INTO a_called (id, o) SELECT i, i + 10 FROM generate_series(1, 50) i;
CREATE INDEX a_called_index ON a_called (calls(id)) WHERE calls(id) > 3;
CREATE TABLE parts (id int) PARTITION BY RANGE (calls(id));
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (50);
CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
CREATE INDEX parts_index ON parts (has_setting(id));
INSERT INTO parts SELECT generate_series(1, 50);
ALTER TABLE a_called ADD EXCLUDE USING btree (calls(id) WITH =);
ALTER TABLE a_called ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON a_called USING (calls(id) > 0);
CREATE VIEW v_called AS SELECT calls(id) AS c FROM a_called;
CREATE RULE r AS ON INSERT TO v_called DO INSTEAD INSERT INTO a_called (id) VALUES (calls(new.c));
CREATE MATERIALIZED VIEW m_called AS SELECT calls(id) AS c, has_own_path(id) FROM a_called;
CREATE UNIQUE INDEX ON m_called (calls(c));
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.id := calls(new.id); RETURN new; END';
CREATE TRIGGER touched BEFORE INSERT ON a_called FOR EACH ROW EXECUTE PROCEDURE touched();
CREATE PROCEDURE proceeds(i int) LANGUAGE plpgsql AS 'BEGIN PERFORM calls(i); END';
"""
# CHECKs, domains, generated columns and views that read other tables, of any name and size, or their own.
ELSEWHERE = """
CREATE TABLE z_kinds (id int PRIMARY KEY, kind int NOT NULL);
INSERT INTO z_kinds SELECT i, i % 7 FROM generate_series(1, 10) i;
CREATE FUNCTION is_kind(wanted int, k int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  IF EXISTS (SELECT 1 FROM z_kinds WHERE id = wanted AND kind = k) THEN RETURN true; END IF;
  RAISE EXCEPTION 'no such kind';
END $$;
CREATE FUNCTION kind_of(wanted int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT kind FROM z_kinds WHERE id = wanted';
CREATE DOMAIN kind AS int CONSTRAINT is_there CHECK (is_kind(VALUE, 5));
CREATE TABLE a_frames (id int PRIMARY KEY, k int, label text, CONSTRAINT of_kind CHECK (is_kind(k, 5)));
CREATE TABLE a_heirs (d kind) INHERITS (a_frames);
CREATE TABLE a_computed (id int PRIMARY KEY, g int GENERATED ALWAYS AS (kind_of(id)) STORED NOT NULL);
INSERT INTO a_frames SELECT i, 5, repeat('x', 1000) FROM generate_series(1, 300) i;
INSERT INTO a_heirs VALUES (9, 5, 'l', 5);
INSERT INTO a_computed SELECT generate_series(1, 10);
CREATE TABLE a_tree (id int, parent int);
CREATE FUNCTION has_parent(p int) RETURNS boolean LANGUAGE sql STABLE
  AS 'SELECT p = 0 OR EXISTS (SELECT 1 FROM a_tree WHERE id = p)';
INSERT INTO a_tree VALUES (3, 2), (2, 1), (1, 0);
ALTER TABLE a_tree ADD CONSTRAINT has_parent CHECK (has_parent(parent));
COMMENT ON CONSTRAINT has_parent ON a_tree IS 'its own table';
CREATE FUNCTION seats() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM a_rooms); END';
CREATE TABLE a_rooms (id int, CONSTRAINT seats CHECK (seats() < 2), CONSTRAINT simple CHECK (id > 0));
INSERT INTO a_rooms VALUES (1); INSERT INTO a_rooms VALUES (2);
CREATE TABLE a_later (id int); INSERT INTO a_later VALUES (-1);
ALTER TABLE a_later ADD CONSTRAINT not_yet CHECK (calls(id) > 0) NOT VALID;
CREATE MATERIALIZED VIEW z_inner AS SELECT id FROM z_kinds;
CREATE FUNCTION inner_count() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM z_inner';
CREATE MATERIALIZED VIEW a_outer AS SELECT inner_count();
CREATE MATERIALIZED VIEW z_empty AS SELECT 1 AS one WITH NO DATA;
"""
# Indexes that are allowed only because the planner inlines the function: with a path of its own it could not.
INLINED = """
CREATE FUNCTION public.is_inlined(i int) RETURNS int STABLE LANGUAGE sql AS 'SELECT i + 1';
CREATE INDEX a_called_inlined ON a_called (is_inlined(id)); CREATE INDEX parts_inlined ON parts (is_inlined(id));
"""
# What listens to DDL: it logs, forbids, is off, or fires always. Last, or the source itself could not be made.
LISTENERS = """
CREATE TABLE ddl_log (id serial PRIMARY KEY, tag text);
CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.ddl_log (tag) VALUES (tg_tag); END $$;
CREATE FUNCTION forbid_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no DDL today'; END $$;
CREATE EVENT TRIGGER a_logs ON ddl_command_end EXECUTE PROCEDURE log_ddl();
COMMENT ON EVENT TRIGGER a_logs IS 'listens';
CREATE EVENT TRIGGER b_always ON sql_drop EXECUTE PROCEDURE log_ddl(); ALTER EVENT TRIGGER b_always ENABLE ALWAYS;
CREATE EVENT TRIGGER c_off ON ddl_command_start EXECUTE PROCEDURE forbid_ddl(); ALTER EVENT TRIGGER c_off DISABLE;
CREATE EVENT TRIGGER d_forbids ON ddl_command_start EXECUTE PROCEDURE forbid_ddl();
"""
# A query that the server itself gets as text; from 17 on it could not be filled at the source either.
WORDS = """
CREATE TABLE words (id int, body tsvector);
INSERT INTO words SELECT i, to_tsvector('simple', 'w ' || i) FROM generate_series(1, 20) i;
CREATE MATERIALIZED VIEW word AS SELECT DISTINCT word FROM ts_stat('SELECT body FROM words');
"""


def fill(cluster, text):
    """Make the database `site`. Its functions have a search_path until all is there: from 17 on, nobody can index what
    calls others by their bare names, but databases that were upgraded have such indexes."""
    path = r"\1 SET search_path = public, tools, gis, topology, once\2"
    text = re.sub(r"(IMMUTABLE|STABLE|STRICT|'8MB')(\s+AS\b)", path, text)
    cluster.execute(text, "site")
    cluster.execute(
        "DO $$ DECLARE f regprocedure; BEGIN FOR f IN SELECT oid FROM pg_proc WHERE proconfig::text LIKE '% once%' LOOP"
        " EXECUTE format('ALTER ROUTINE %s RESET search_path', f); END LOOP; END $$",
        "site",
    )


def forget(cluster):
    connection = cluster.connect()
    for (name,) in postgres_server.query(connection, "SELECT datname FROM pg_database WHERE datname ~ '^(site|copy)'"):
        side_database.drop(connection, name)
    connection.close()


@pytest.fixture()
def empty(cluster):
    cluster.execute("CREATE DATABASE site TEMPLATE template0")
    yield cluster
    forget(cluster)


def restored(cluster, folder, form, stock=(), **more):
    """Restore the database `site` as `copy` in one of FORMS. Returns the run's state."""
    path = folder / form
    if form == "archive":
        path.mkdir(mode=0o700)
        job = {"name": form, "kind": "pg_dump", "connection": cluster.values, "database": "site"}
        path = path / kinds.back_up(job, folder)["id"]
    else:
        cluster.run("pg_dump", "-F" + form[0], "-f", path, *stock, database="site")
    spec = {"connection": cluster.values, "path": str(path), "database": "copy", "directory": str(folder / "state")}
    done = restores.fill(dict(spec, jobs=2, **more))
    restores.swap_in(spec, done["id"])
    return done


def asked(cluster, database, statement):
    """The answer as text, whatever timeouts the database has."""
    done = subprocess.run(
        [str(cluster.binaries / "psql"), "-XAtqc", f"SET search_path = {PATH}; {statement}"],
        env=client_tools.environment(cluster.server, database, PGOPTIONS="-c statement_timeout=0"),
        stdout=subprocess.PIPE,
        check=True,
    )
    return done.stdout.decode("utf-8").splitlines()


def description_of(cluster, database):
    """All that pg_dump says of a database, what its materialized views and generated columns hold, and the settings of
    all functions."""
    done = subprocess.run(
        [str(cluster.binaries / "pg_dump")],
        env=client_tools.environment(cluster.server, database),
        stdout=subprocess.PIPE,
        check=True,
    )
    collected = {"dump": [line for line in done.stdout.decode("utf-8").splitlines() if "restrict" not in line]}
    functions = (
        "SELECT oid::regprocedure, proconfig FROM pg_proc WHERE proconfig IS NOT NULL ORDER BY oid::regprocedure::text"
    )
    collected["functions"] = asked(cluster, database, functions)
    views = "SELECT oid::regclass FROM pg_class WHERE relkind = 'm' AND relispopulated"
    computed = "SELECT DISTINCT attrelid::regclass FROM pg_attribute WHERE attgenerated = 's'"
    for name in asked(cluster, database, f"{views} UNION {computed}"):
        collected[name] = asked(cluster, database, f"SELECT v FROM {name} v ORDER BY v::text")
    return collected


@pytest.mark.parametrize("form", FORMS)
def test_functions_are_found_whatever_calls_them(empty, tmp_path, form):
    empty.execute(f"ALTER DATABASE site SET search_path = {PATH}")
    listed = FUNCTIONS + ELSEWHERE
    if empty.connect().server_version < 170000:
        listed += WORDS
    fill(empty, listed + INLINED)
    empty.execute(LISTENERS, "site")
    before = description_of(empty, "site")
    done = restored(empty, tmp_path, form)
    assert description_of(empty, "copy") == before
    noted = [note for note in done["notes"] if "seats" in note]
    assert done["notes"] == noted and "2 row(s) do not satisfy it" in noted[0]
    assert len(empty.execute("SELECT 1 FROM pg_constraint WHERE conname = 'seats' AND convalidated", "copy")) == 1
    with pytest.raises(Exception, match="no DDL today"):
        empty.execute("CREATE TABLE forbidden ()", "copy")


# Settings that decide values, that would end or hinder a load, and that change what SQL means. The configuration is the
# dump's own.
SETTINGS = """
CREATE TEXT SEARCH CONFIGURATION frank (COPY = french);
ALTER DATABASE site SET default_text_search_config = 'frank'; ALTER DATABASE site SET timezone = 'Pacific/Auckland';
ALTER DATABASE site SET "site.tax" = '0.2'; ALTER ROLE postgres IN DATABASE site SET "site.country" = 'NZ';
ALTER DATABASE site SET statement_timeout = '300ms'; ALTER DATABASE site SET default_transaction_read_only = on;
ALTER DATABASE site SET idle_in_transaction_session_timeout = '1ms'; ALTER DATABASE site SET array_nulls = off;
ALTER DATABASE site SET search_path = 'nowhere', public; ALTER DATABASE site SET transform_null_equals = on;
ALTER DATABASE site SET session_replication_role = 'replica';
SET default_text_search_config = 'frank'; SET timezone = 'Pacific/Auckland'; SET "site.tax" = '0.2';
SET "site.country" = 'NZ';
CREATE FUNCTION taxed(n int) RETURNS numeric LANGUAGE sql IMMUTABLE
  AS $$ SELECT n * current_setting('site.tax')::numeric $$;
CREATE TABLE articles (id int PRIMARY KEY, body text, at timestamptz, lists text[],
  tax numeric GENERATED ALWAYS AS (taxed(id)) STORED, CHECK (taxed(id) >= 0));
INSERT INTO articles SELECT i, 'les chevaux courent ' || i, '2024-03-01 00:00+00'::timestamptz + i * interval '5 h',
  ARRAY['NULL', NULL] FROM generate_series(1, 20) i;
CREATE MATERIALIZED VIEW searched AS SELECT id, to_tsvector(body) FROM articles;
CREATE MATERIALIZED VIEW per_day AS
  SELECT at::date AS day, count(*), current_setting('site.country'), (SELECT 1 FROM (SELECT pg_sleep(0.4)) s)
  FROM articles GROUP BY 1;
CREATE VIEW nothing AS SELECT lists = NULL AS never FROM articles;
"""


@pytest.mark.parametrize("form", FORMS)
def test_the_databases_settings_hold_while_it_is_filled(empty, tmp_path, form):
    empty.execute(SETTINGS, "site")
    settings = (
        "SELECT coalesce(r.rolname, '-'), unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d"
        " ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = '{}' ORDER BY 1, 2"
    )
    before, of_site = description_of(empty, "site"), empty.execute(settings.format("site"))
    restored(empty, tmp_path, form, stock=["-C"] if form == "plain" else [])
    assert description_of(empty, "copy") == before
    assert empty.execute(settings.format("copy")) == of_site and len(of_site) == 11


# A materialized view whose owner is subject to the policies of what it reads.
POLICIES = """
CREATE ROLE of_policies; CREATE SCHEMA s AUTHORIZATION of_policies; SET ROLE of_policies;
CREATE TABLE s.rows (id int PRIMARY KEY, secret boolean);
INSERT INTO s.rows SELECT i, i > 3 FROM generate_series(1, 9) i;
ALTER TABLE s.rows ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY open ON s.rows USING (NOT secret);
CREATE MATERIALIZED VIEW s.seen AS SELECT id FROM s.rows;
"""


@pytest.mark.parametrize("form", FORMS)
def test_materialized_views_under_policies_are_filled_as_on_the_site(empty, tmp_path, form):
    """pg_restore leaves them empty, with an error: it refuses what a policy would leave out."""
    try:
        empty.execute(POLICIES, "site")
        before = description_of(empty, "site")
        assert before["s.seen"] == ["(1)", "(2)", "(3)"]
        restored(empty, tmp_path, form)
        assert description_of(empty, "copy") == before
    finally:
        forget(empty)
        empty.execute("DROP ROLE IF EXISTS of_policies")


# What needs extensions before the definitions, or finds them by search_path only.
EXTENSIONS = ("unaccent", "earthdistance", "postgis", "postgis_topology")
GIS = """
CREATE SCHEMA gis; SET search_path TO public, gis, topology; CREATE EXTENSION postgis SCHEMA {schema};
CREATE EXTENSION unaccent; CREATE EXTENSION cube; CREATE EXTENSION earthdistance;
CREATE FUNCTION f_unaccent(text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT unaccent('unaccent', $1) $$;
CREATE TABLE communes (id int PRIMARY KEY, nom text);
INSERT INTO communes SELECT i, 'É' || i FROM generate_series(1, 50) i;
CREATE INDEX ON communes (f_unaccent(nom));
CREATE FUNCTION surface(g geometry) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$ SELECT ST_Area(g) $$;
CREATE TABLE parcelles (id int PRIMARY KEY, geom geometry(Polygon, 2154), CHECK (surface(geom) > 0));
INSERT INTO parcelles SELECT i, ST_MakeEnvelope(0, 0, i, i, 2154) FROM generate_series(1, 50) i;
CREATE INDEX ON parcelles (surface(geom));
CREATE TABLE places (id int PRIMARY KEY, lat float8, lon float8,
  "earthCoord" earth GENERATED ALWAYS AS (ll_to_earth(lat, lon)) STORED);
INSERT INTO places (id, lat, lon) SELECT i, 40 + i % 10, 2 + i % 5 FROM generate_series(1, 50) i;
CREATE INDEX ON places USING gist (ll_to_earth(lat, lon));
INSERT INTO spatial_ref_sys (srid, auth_name, auth_srid, srtext, proj4text)
  SELECT 990104, 'local', 990104, srtext, proj4text FROM spatial_ref_sys WHERE srid = 4258;
CREATE TABLE sites (id int PRIMARY KEY, g geography(Point, 990104));
INSERT INTO sites SELECT i, ST_SetSRID(ST_MakePoint(i, i), 990104)::geography FROM generate_series(1, 50) i;
"""
TOPOLOGY = """
CREATE EXTENSION postgis_topology; SET search_path TO public, topology;
SELECT CreateTopology('city', 2154, 0.5);
SELECT TopoGeo_AddLineString('city', 'SRID=2154;LINESTRING(0 0, 10 0, 10 10, 0 10, 0 0)');
CREATE TABLE parcels (id int PRIMARY KEY);
SELECT AddTopoGeometryColumn('city', 'public', 'parcels', 'topo', 'POLYGON');
INSERT INTO parcels
  SELECT face_id, CreateTopoGeom('city', 3, 1, ARRAY[ARRAY[face_id, 3]]) FROM city.face WHERE face_id > 0;
ALTER FUNCTION topology.geometry(topology.topogeometry) SET search_path = public, topology, once;
CREATE MATERIALIZED VIEW areas AS SELECT id, ST_Area(topo::geometry) FROM parcels;
"""


SCHEMAS = [("archive", "gis"), ("custom", "gis"), ("plain", "gis"), ("archive", "public"), ("plain", "public")]


@pytest.mark.parametrize("form, schema", SCHEMAS)
def test_extensions_find_and_are_found(empty, tmp_path, form, schema):
    available = {name for (name,) in empty.execute("SELECT name FROM pg_available_extensions")}
    if set(EXTENSIONS) - available:
        pytest.skip("PostGIS or contrib is not installed for this server")
    # PostGIS's topology asks for PostGIS in public.
    fill(empty, GIS.format(schema=schema) + (TOPOLOGY if schema == "public" else ""))
    empty.execute("ALTER DATABASE site SET search_path = public, gis, topology")
    before = description_of(empty, "site")
    done = restored(empty, tmp_path, form)
    assert description_of(empty, "copy") == before and done["notes"] == []
    if schema == "public":
        assert asked(empty, "copy", "SELECT topology.CreateTopology('next', 2154)") == ["2"]


def test_the_search_path_that_an_extension_makes_is_kept_where_the_dump_knows_none(empty, tmp_path):
    if not empty.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'postgis_topology'"):
        pytest.skip("PostGIS is not installed for this server")
    empty.execute("CREATE EXTENSION postgis; CREATE EXTENSION postgis_topology", "site")
    restored(empty, tmp_path, "plain")
    path = empty.execute(
        "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        " WHERE d.datname IN ('site', 'copy')"
    )
    assert len(path) == 2 and path[0] == path[1]
    empty.execute("ALTER DATABASE site RESET search_path")
    restored(empty, tmp_path, "custom")
    assert (
        asked(
            empty,
            "copy",
            "SELECT 1 FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = 'copy')",
        )
        == []
    ), "the dump knows that there was none"
