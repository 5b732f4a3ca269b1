"""Dumps that nobody prepared for us: a real 9.6 production dump, in every form, and damaged."""

import gzip
import lzma
import re
import shutil
import subprocess

import pytest
import restores
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import client_tools, postgres_server, sql_names
from sauvegarde.report import render
from sauvegarde.restore import restore_state
from sauvegarde.targets import side_database
from tests_support.shared import SHARED, shared

LEGACY = SHARED / "legacy"
DUMP, PLAIN, GLOBALS = LEGACY / "elpaso-9.6.dump", LEGACY / "elpaso-9.6.sql.gz", LEGACY / "globals-9.6.sql"
ROLES = ("geotribu", "lecture", "elgeopaso-db-uzr")
OWNERS = "not loaded as its owner but as the superuser: it belongs to several roles: geotribu, postgres"


@pytest.fixture()
def legacy(cluster):
    shared("legacy")
    names = {name for (name,) in cluster.execute("SELECT name FROM pg_available_extensions")}
    if "postgis_raster" not in names:
        pytest.skip("PostGIS is not installed for this server")
    yield cluster
    forget(cluster)


def forget(cluster):
    """Every database and role that a test made."""
    with_connection = cluster.connect()
    try:
        for (name,) in postgres_server.query(
            with_connection,
            "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')",
        ):
            side_database.drop(with_connection, name)
        for role in ROLES:
            postgres_server.execute(with_connection, f"DROP ROLE IF EXISTS {sql_names.quote(role)}")
    finally:
        with_connection.close()


def spec(cluster, tmp_path, path, **more):
    return {
        "connection": cluster.values,
        "path": str(path),
        "database": "elpaso",
        "directory": str(tmp_path / "restores"),
        "locale": "C.UTF-8",
        "jobs": 2,
        **more,
    }


def restore(cluster, tmp_path, path, **more):
    request = spec(cluster, tmp_path, path, **more)
    done = restores.fill(request)
    restores.swap_in(request, done["id"])
    return done


def fingerprint(cluster, database="elpaso"):
    """What shared/legacy/fingerprint.sql says, run as its README does."""
    psql = cluster.binaries / "psql"
    result = subprocess.run(
        [str(psql), "-qXAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-f", str(LEGACY / "fingerprint.sql")],
        env=client_tools.environment(cluster.server, database),
        stdout=subprocess.PIPE,
        check=True,
    )
    return result.stdout.decode("utf-8")


def databases(cluster):
    return {name for (name,) in cluster.execute("SELECT datname FROM pg_database")}


def plain_text():
    return gzip.decompress(PLAIN.read_bytes())


FORMS = ["custom", "plain", "directory", "tar"]
PACKED = ["plain.gz", "plain.xz", "plain.zst", "custom.gz"]
once = pytest.mark.one_host("what is unpacked is the same, and goes the way of the form that is not packed")
# A directory is read as a tar is, and either way without the roles as with them.
CASES = [(name, True) for name in FORMS if name != "directory"]
CASES += [pytest.param(name, True, marks=once) for name in ["directory", *PACKED]]
CASES += [pytest.param(name, False, marks=once) for name in ("custom", "plain.gz")]


def form(cluster, tmp_path, name):
    """The legacy dump in another form. Directory and tar are made by this server's pg_dump from a restored one."""
    if name == "custom":
        return DUMP
    if name == "plain.gz":
        return PLAIN
    target = tmp_path / "-a dump's $(file).é"
    if name == "plain":
        target.write_bytes(plain_text())
    elif name == "plain.xz":
        target.write_bytes(lzma.compress(plain_text(), preset=0))
    elif name == "plain.zst":
        subprocess.run(["zstd", "-q", "-o", str(target)], input=plain_text(), check=True)
    elif name == "custom.gz":
        target.write_bytes(gzip.compress(DUMP.read_bytes(), 1))
    else:
        restore(cluster, tmp_path, DUMP, missing_roles="create", database="old")
        cluster.run("pg_dump", "-F" + name[0], "-f", target, database="old")
    return target


@pytest.mark.parametrize("name, value", CASES)
def test_every_form_loses_nothing(legacy, tmp_path, name, value):
    options = {"globals": str(GLOBALS)} if value else {"missing_roles": "create"}
    done = restore(legacy, tmp_path, form(legacy, tmp_path, name), **options)
    assert fingerprint(legacy) == (LEGACY / "fingerprint-9.6.tsv").read_text("utf-8")
    assert done["notes"] == [OWNERS] and done["proof"]["by"] == "counting"
    if name in ("custom", "plain.gz"):
        assert_same_definitions(legacy)
        logins = dict(legacy.execute("SELECT rolname, rolcanlogin FROM pg_roles"))
        assert logins["geotribu"] is value
        assert "elgeopaso-db-uzr" not in logins, "the dump does not name it"


def assert_same_definitions(cluster):
    """Everything the dump's own table of contents lists is there, with its owner and grants."""
    text = plain_text().decode("utf-8")
    headers = re.findall(r"^-- Name: (.*?); Type: (.*?); Schema: (.*?); Owner: (.*?)$", text, re.MULTILINE)

    def named(kind):
        return sorted((schema, name) for name, each, schema, _ in headers if each == kind)

    def relations_where(condition):
        return sorted(
            cluster.execute(
                "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                f" WHERE n.nspname IN ('public', 'georezo', 'reseau') AND {condition} AND NOT EXISTS"
                " (SELECT 1 FROM pg_depend d"
                "  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND deptype = 'e')",
                "elpaso",
            )
        )

    assert relations_where("relkind = 'r'") == named("TABLE")
    assert relations_where("relkind = 'v'") == named("VIEW")
    assert relations_where("relkind = 'm' AND relispopulated") == named("MATERIALIZED VIEW")
    assert relations_where("relkind = 'S'") == named("SEQUENCE")
    constraints = "SELECT 1 FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')"
    assert relations_where(f"relkind = 'i' AND NOT EXISTS ({constraints})") == named("INDEX")
    of_tables = cluster.execute(
        "SELECT n.nspname, c.relname || ' ' || k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'georezo', 'reseau')"
        " AND k.contype IN ('p', 'u', 'f') AND c.relname <> 'spatial_ref_sys' AND k.convalidated",
        "elpaso",
    )
    assert sorted(of_tables) == sorted(named("CONSTRAINT") + named("FK CONSTRAINT"))
    triggers = cluster.execute(
        "SELECT n.nspname, c.relname || ' ' || t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT tgisinternal AND tgenabled = 'O'"
        " AND n.nspname IN ('public', 'georezo', 'reseau')",
        "elpaso",
    )
    assert sorted(triggers) == named("TRIGGER")
    owners = {
        (schema, name): owner for name, kind, schema, owner in headers if kind in ("TABLE", "VIEW", "MATERIALIZED VIEW")
    }
    for schema, name, owner in cluster.execute(
        "SELECT n.nspname, c.relname, pg_get_userbyid(c.relowner) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE relkind IN ('r', 'v', 'm')",
        "elpaso",
    ):
        assert owners.get((schema, name), owner) == owner
    granted = sorted(re.findall(r"^GRANT SELECT ON TABLE (public\.\w+) TO lecture;$", text, re.MULTILINE))
    assert granted == sorted(
        name
        for (name,) in cluster.execute(
            "SELECT 'public.' || table_name FROM information_schema.table_privileges WHERE grantee = 'lecture'"
            " AND privilege_type = 'SELECT' AND table_schema = 'public'",
            "elpaso",
        )
    )
    assert cluster.execute(
        "SELECT has_schema_privilege('lecture', 'georezo', 'USAGE'),"
        " (SELECT count(*) > 19 FROM pg_ts_config_map WHERE mapcfg = 'georezo.fr'::regconfig),"
        " (SELECT count(*) FROM topology.topology WHERE name = 'reseau'),"
        " (SELECT proconfig FROM pg_proc WHERE proname = 'bbox_area'),"
        " pg_get_userbyid(datdba), shobj_description(oid, 'pg_database'), datconnlimit"
        " FROM pg_database WHERE datname = 'elpaso'",
        "elpaso",
    ) == [(True, True, 1, None, "geotribu", "Base de production El Géo Paso", -1)]


def test_the_replaced_database_lends_what_the_dump_does_not_know(legacy, tmp_path):
    """9.6 left the settings and grants of a database out of its dump: a swap must not lose them."""
    first = restore(legacy, tmp_path, DUMP, globals=str(GLOBALS))
    assert first["status"] == "ready"
    legacy.execute(
        "ALTER DATABASE elpaso SET timezone TO 'Europe/Paris'; ALTER DATABASE elpaso CONNECTION LIMIT 17;"
        'ALTER DATABASE elpaso SET search_path TO georezo, "$user", public;'
        "ALTER ROLE lecture IN DATABASE elpaso SET work_mem TO '7MB';"
        "REVOKE CONNECT ON DATABASE elpaso FROM PUBLIC; GRANT CONNECT ON DATABASE elpaso TO lecture WITH GRANT OPTION"
    )
    expected = (
        "SELECT d.datconnlimit, d.datacl::text, d.datcollate, pg_get_userbyid(d.datdba),"
        " array(SELECT array(SELECT unnest(s.setconfig) ORDER BY 1)::text FROM pg_db_role_setting s"
        "  WHERE s.setdatabase = d.oid ORDER BY 1)"
        " FROM pg_database d WHERE datname = 'elpaso'"
    )
    before = legacy.execute(expected)
    restore(legacy, tmp_path, PLAIN, locale="")
    assert legacy.execute(expected) == before
    assert before[0][0] == 17 and len(before[0][4]) == 2


@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_archive_is_refused(legacy, tmp_path, tenth):
    cut = tmp_path / "cut.dump"
    cut.write_bytes(DUMP.read_bytes()[: DUMP.stat().st_size * tenth // 10])
    before = databases(legacy)
    with pytest.raises(SauvegardeError):
        restores.fill(spec(legacy, tmp_path, cut, missing_roles="create"))
    assert restores.plan(spec(legacy, tmp_path, cut, missing_roles="create"))["obstacles"]
    assert databases(legacy) == before


@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_plain_dump_is_refused(legacy, tmp_path, tenth):
    text = plain_text()
    at = len(text) * tenth // 10
    cut = tmp_path / "cut.sql"
    cut.write_bytes(text[:at])
    before = databases(legacy)
    with pytest.raises(SauvegardeError) as error:
        restores.fill(spec(legacy, tmp_path, cut, missing_roles="create"))
    assert "not whole" in error.value.what or "cannot be read" in error.value.what
    assert databases(legacy) == before


def test_a_plain_dump_cut_at_a_line_inside_a_copy_is_refused(legacy, tmp_path):
    """psql restores it "fine", with a part of the rows."""
    text = plain_text()
    at = text.index(b"\n", text.index(b"COPY public.jobs_offer ") + 100000) + 1
    cut = tmp_path / "cut.sql"
    cut.write_bytes(text[:at])
    with pytest.raises(SauvegardeError) as error:
        restores.fill(spec(legacy, tmp_path, cut, missing_roles="create"))
    assert "rows of a table" in error.value.why
    packed = tmp_path / "cut.gz"
    packed.write_bytes(PLAIN.read_bytes()[: PLAIN.stat().st_size // 2])
    with pytest.raises(SauvegardeError):
        restores.fill(spec(legacy, tmp_path, packed, missing_roles="create"))


@once
def test_an_error_anywhere_stops_and_leaves_no_debris(legacy, tmp_path):
    restore(legacy, tmp_path, DUMP, missing_roles="create")
    before, sums = databases(legacy), fingerprint(legacy)
    text = plain_text().replace(b"ADD CONSTRAINT jobs_place_pkey PRIMARY KEY (name)", b"ADD CHECK (name = 'x')")
    assert text != plain_text()
    broken = tmp_path / "broken.sql"
    broken.write_bytes(text)
    with pytest.raises(SauvegardeError) as error:
        restores.fill(spec(legacy, tmp_path, broken))
    assert "jobs_place" in str(error.value)
    assert databases(legacy) == before
    assert fingerprint(legacy) == sums
    newest = restore_state.runs(tmp_path / "restores")[0]
    assert newest.status == "failed" and newest.values["error"]["what"] == error.value.what


@pytest.mark.parametrize(
    "head, words",
    [
        (b"", "empty"),
        (b"\0\1\2\3" * 200, "not a dump"),
        (b"--\n-- PostgreSQL database cluster dump\n--\n", "roles only"),
        (b"--\n-- PostgreSQL database dump\n--\n\\! touch /tmp/owned\n", "psql command"),
        (b"COPY t FROM PROGRAM 'touch /tmp/owned';\n", "a COPY that pg_dump does not write"),
        (b"SELECT 1;\n", "closing line"),
    ],
)
def test_what_is_no_dump_of_one_database_is_refused(cluster, tmp_path, head, words):
    path = tmp_path / "file"
    path.write_bytes(head)
    result = restores.plan(spec(cluster, tmp_path, path))["obstacles"]
    assert words in "{what} {why}".format(**result[0])


def test_roles_and_locale_that_are_missing_are_planned(legacy, tmp_path):
    result = restores.plan(spec(legacy, tmp_path, DUMP, locale="xx_XX.UTF-8"))
    text = " ".join(each["what"] for each in result["obstacles"])
    assert "geotribu, lecture" in text and "xx_XX.UTF-8" in text
    assert all(each["fix"] for each in result["obstacles"])
    assert "It belongs to several roles: geotribu, postgres." in [each["why"] for each in result["warnings"]]
    assert any(line.startswith("Age:    unknown") for line in render.of_plan(result))
    assert databases(legacy) == {"postgres", "template0", "template1"}


def test_a_function_in_an_index_finds_postgis_in_a_schema_of_its_own(legacy, tmp_path):
    """The table's owner builds the index and needs USAGE on PostGIS's schema, which a plain dump grants at its end."""
    if int(legacy.execute("SHOW server_version_num")[0][0]) >= 170000:
        pytest.skip("from 17 on an index is built with a safe search_path: such a table cannot be made")
    for role in ("geotribu", "lecture"):
        legacy.execute(f"CREATE ROLE {role}")
    legacy.execute("CREATE DATABASE home OWNER geotribu")
    legacy.execute(
        "CREATE SCHEMA gis; CREATE EXTENSION postgis SCHEMA gis; GRANT USAGE ON SCHEMA gis TO geotribu;"
        "CREATE SCHEMA own AUTHORIZATION geotribu; SET search_path TO own, gis;"
        "CREATE FUNCTION surface(g geometry) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS"
        " 'BEGIN RETURN st_area(g); END';"
        "CREATE TABLE places (id int PRIMARY KEY, geom geometry(Polygon, 990001) CHECK (surface(geom) >= 0));"
        "ALTER TABLE places OWNER TO geotribu; CREATE INDEX areas ON places (surface(geom));"
        "INSERT INTO spatial_ref_sys"
        " SELECT 990001, 'x', 990001, srtext, proj4text FROM spatial_ref_sys WHERE srid = 2154;"
        "INSERT INTO places SELECT i, st_setsrid(st_makeenvelope(0, 0, i, i), 990001) FROM generate_series(1, 50) i;"
        "CREATE MATERIALIZED VIEW total AS SELECT sum(surface(geom)) FROM places",
        "home",
    )
    for letter in "pc":
        path = tmp_path / letter
        legacy.run("pg_dump", "-F" + letter, "-f", path, database="home")
        restore(legacy, tmp_path, path, database="there")
        assert legacy.execute("SELECT sum FROM own.total", "there") == [(42925.0,)]
        assert legacy.execute("SELECT count(*) FROM gis.spatial_ref_sys WHERE srid = 990001", "there") == [(1,)]


OPTIONS = ["--clean", "--create", "--no-owner", "--inserts", "--encoding=LATIN9", "--use-set-session-authorization"]


@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_pg_dump_in_plain_dumps(cluster, database, tmp_path, option):
    cluster.execute(
        "CREATE ROLE lecture;"
        'CREATE TABLE "a;b -- c" ("é" int PRIMARY KEY, t text); INSERT INTO "a;b -- c"'
        " SELECT i, repeat('é;' || chr(10) || chr(92) || '.' || chr(10) || '''', i % 7) FROM generate_series(1, 500) i;"
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $x$"
        " SELECT E'\\'; --\n-- Name: x; Type: TABLE; Schema: y; Owner: z\n'"
        " $x$; SELECT lo_from_bytea(77, repeat('z', 3000000)::bytea); ALTER LARGE OBJECT 77 OWNER TO lecture;"
        'CREATE RULE "-- r" AS ON DELETE TO "a;b -- c" DO ALSO (SELECT 1; SELECT 2)',
        database,
    )
    path = tmp_path / "dump.sql"
    cluster.run("pg_dump", option, "-f", path, database=database)
    restore(cluster, tmp_path, path, database="copy")
    ask = 'SELECT count(*), sum(hashtext(t)) FROM "a;b -- c"'
    assert cluster.execute(ask, "copy") == cluster.execute(ask, database)
    assert cluster.execute("SELECT f()", "copy") == cluster.execute("SELECT f()", database)
    assert cluster.execute("SELECT length(lo_get(77))", "copy") == [(3000000,)]
    owner = cluster.execute("SELECT pg_get_userbyid(lomowner) FROM pg_largeobject_metadata", "copy")
    assert owner == [("postgres" if option == "--no-owner" else "lecture",)]
    forget(cluster)
    shutil.rmtree(str(tmp_path / "restores"))


# As pg_dump wrote it before 9.6.8 and 10.3: names without their schema, which a search_path says.
OLDER = """--
-- PostgreSQL database dump
--

-- Dumped from database version 9.6.7
-- Dumped by pg_dump version 9.6.7

SET statement_timeout = 0;
SET lock_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET check_function_bodies = false;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: shop; Type: SCHEMA; Schema: -; Owner: geotribu
--

CREATE SCHEMA shop;


ALTER SCHEMA shop OWNER TO geotribu;

--
-- Name: postgis; Type: EXTENSION; Schema: -; Owner: -
--

CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;


SET search_path = shop, pg_catalog;

--
-- Name: positive(integer); Type: FUNCTION; Schema: shop; Owner: geotribu
--

CREATE FUNCTION positive(n integer) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT n > 0 $$;


ALTER FUNCTION shop.positive(n integer) OWNER TO geotribu;

SET default_tablespace = '';

SET default_with_oids = false;

--
-- Name: offers; Type: TABLE; Schema: shop; Owner: geotribu
--

CREATE TABLE offers (
    id integer NOT NULL,
    CONSTRAINT offers_check CHECK (positive(id))
);


ALTER TABLE offers OWNER TO geotribu;

SET search_path = public, pg_catalog;

--
-- Name: offers; Type: TABLE; Schema: public; Owner: geotribu
--

CREATE TABLE offers (
    "I d" integer NOT NULL,
    offer integer
);


ALTER TABLE offers OWNER TO geotribu;

--
-- Name: offers_I d_seq; Type: SEQUENCE; Schema: public; Owner: geotribu
--

CREATE SEQUENCE "offers_I d_seq"
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


ALTER TABLE "offers_I d_seq" OWNER TO geotribu;

--
-- Name: offers_I d_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: geotribu
--

ALTER SEQUENCE "offers_I d_seq" OWNED BY offers."I d";


SET search_path = shop, pg_catalog;

--
-- Data for Name: offers; Type: TABLE DATA; Schema: shop; Owner: geotribu
--

COPY offers (id) FROM stdin;
1
2
3
\\.


SET search_path = public, pg_catalog;

--
-- Data for Name: offers; Type: TABLE DATA; Schema: public; Owner: geotribu
--

COPY offers ("I d", offer) FROM stdin;
7	3
\\.


--
-- Name: offers_I d_seq; Type: SEQUENCE SET; Schema: public; Owner: geotribu
--

SELECT pg_catalog.setval('"offers_I d_seq"', 7, true);


--
-- Data for Name: spatial_ref_sys; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY spatial_ref_sys (srid, auth_name, auth_srid, srtext, proj4text) FROM stdin;
990001	x	990001	LOCAL	+proj=longlat
\\.


SET search_path = shop, pg_catalog;

--
-- Name: offers offers_pkey; Type: CONSTRAINT; Schema: shop; Owner: geotribu
--

ALTER TABLE ONLY offers
    ADD CONSTRAINT offers_pkey PRIMARY KEY (id);


SET search_path = public, pg_catalog;

--
-- Name: offers offers_fkey; Type: FK CONSTRAINT; Schema: public; Owner: geotribu
--

ALTER TABLE ONLY offers
    ADD CONSTRAINT offers_fkey FOREIGN KEY (offer) REFERENCES shop.offers(id);


--
-- Name: public; Type: ACL; Schema: -; Owner: postgres
--

GRANT ALL ON SCHEMA public TO geotribu;


--
-- Name: offers; Type: ACL; Schema: public; Owner: geotribu
--

REVOKE ALL ON TABLE offers FROM PUBLIC;
REVOKE ALL ON TABLE offers FROM geotribu;
GRANT ALL ON TABLE offers TO geotribu;
GRANT SELECT ON TABLE offers TO lecture;


--
-- Name: spatial_ref_sys; Type: ACL; Schema: public; Owner: postgres
--

GRANT SELECT ON TABLE spatial_ref_sys TO lecture;


--
-- PostgreSQL database dump complete
--

"""
POSTGIS = re.compile(
    r"--\n-- (?:Data for )?Name: (?:postgis|spatial_ref_sys);.*?(?=\nSET search_path|\n--\n-- )", re.DOTALL
)


def test_names_without_a_schema_are_found_by_the_search_path(cluster, tmp_path):
    postgis = bool(cluster.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'postgis'"))
    path = tmp_path / "older.sql"
    path.write_text(OLDER if postgis else POSTGIS.sub("", OLDER), "utf-8")
    try:
        done = restore(cluster, tmp_path, path, missing_roles="create", owner="geotribu", database="older")
        assert done["notes"] == [] and done["proof"]["rows_of"] == {'"shop"."offers"': 3, '"public"."offers"': 1}
        assert cluster.execute(
            "SELECT (SELECT array_agg(id) FROM shop.offers), nextval('\"offers_I d_seq\"'), proconfig,"
            " has_table_privilege('lecture', 'public.offers', 'SELECT') FROM pg_proc WHERE proname = 'positive'",
            "older",
        ) == [([1, 2, 3], 8, None, True)]
        if postgis:
            assert cluster.execute(
                "SELECT srtext, has_table_privilege('lecture', 'spatial_ref_sys', 'SELECT')"
                " FROM spatial_ref_sys WHERE srid = 990001",
                "older",
            ) == [("LOCAL", True)]
    finally:
        forget(cluster)
