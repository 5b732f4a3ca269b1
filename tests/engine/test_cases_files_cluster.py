"""Files of whole clusters (pg_dumpall): one database and its roles out of several."""

import gzip
import re
import subprocess

import pytest
import restores
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import client_tools, postgres_server, sql_names
from sauvegarde.restore import dump_roles
from sauvegarde.targets import side_database

ROLES = ("cl_owner", "cl_reader", "cl_member", "cl_other", "Default")
FILLED = """
CREATE TABLE t (id int PRIMARY KEY, n text);
INSERT INTO t SELECT i, E'\\\\connect other\\n\\\\.\\n-- PostgreSQL database dump complete\\n' || i
 FROM generate_series(1, 50) i;
ALTER TABLE t OWNER TO cl_owner; GRANT SELECT ON t TO cl_reader, "Default";
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS '/*
\\connect other
--
-- PostgreSQL database dump complete
--
*/ SELECT ''x''::text';
ALTER FUNCTION f() OWNER TO cl_owner"""


@pytest.fixture(scope="module")
def dumped(cluster):
    """(the cluster, the bytes of a dump of all of it)"""
    for role in ROLES:
        cluster.execute(f"CREATE ROLE {sql_names.quote(role)} LOGIN PASSWORD 'x'; SELECT 1")
    cluster.execute("ALTER ROLE cl_member SET work_mem TO '7MB'; GRANT cl_reader TO cl_member; SELECT 1")
    connection = cluster.connect()
    for name, more in (
        ("cl_one", ""),
        ("cl two's", ""),
        ("cl_latin", " ENCODING 'LATIN9' LC_COLLATE 'C' LC_CTYPE 'C'"),
    ):
        side_database.drop(connection, name)
        postgres_server.execute(
            connection, f"CREATE DATABASE {sql_names.quote(name)} TEMPLATE template0 OWNER cl_owner" + more
        )
    connection.close()
    cluster.execute(FILLED + "; SELECT 1", "cl_one")
    cluster.execute("CREATE TABLE two (i int); SELECT 1", "cl two's")
    cluster.execute('CREATE TABLE "é" (n text); INSERT INTO "é" VALUES (\'€\'); SELECT 1', "cl_latin")
    cluster.execute(
        "ALTER DATABASE cl_one SET work_mem TO '9MB'; ALTER DATABASE cl_one CONNECTION LIMIT 17;"
        "ALTER ROLE cl_member IN DATABASE cl_one SET work_mem TO '8MB';"
        "REVOKE CONNECT ON DATABASE cl_one FROM PUBLIC; GRANT CONNECT ON DATABASE cl_one TO cl_reader; SELECT 1"
    )
    data = subprocess.run(
        [str(cluster.binaries / "pg_dumpall")],
        env=client_tools.environment(cluster.server, "postgres"),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    yield cluster, data
    forget(cluster)


def forget(cluster):
    connection = cluster.connect()
    for (name,) in postgres_server.query(connection, "SELECT datname FROM pg_database WHERE datname ~ '^cl[_ ]'"):
        side_database.drop(connection, name)
    for role in ROLES:
        postgres_server.execute(connection, f"DROP ROLE IF EXISTS {sql_names.quote(role)}")
    connection.close()


def spec(cluster, folder, path, **more):
    values = {"connection": cluster.values, "path": str(path), "database": "cl_one", "jobs": 2}
    return dict(values, directory=str(folder / "restores"), **more)


def state(cluster, database):
    return (
        cluster.execute("SELECT id, n FROM t ORDER BY id", database),
        cluster.execute("SELECT prosrc FROM pg_proc WHERE proname = 'f'", database),
        cluster.execute(
            "SELECT d.datconnlimit, array(SELECT a::text FROM unnest(d.datacl) a ORDER BY 1),"
            " pg_get_userbyid(d.datdba), pg_encoding_to_char(encoding),"
            " array(SELECT s.setconfig::text FROM pg_db_role_setting s WHERE s.setdatabase = d.oid ORDER BY 1)"
            f" FROM pg_database d WHERE datname = '{database}'"
        ),
        cluster.execute("SELECT relacl::text FROM pg_class WHERE relname = 't'", database),
    )


@pytest.mark.parametrize("packed", [False, True])
def test_one_database_of_a_cluster_with_its_roles(dumped, tmp_path, packed):
    cluster, data = dumped
    before = state(cluster, "cl_one")
    path = tmp_path / "all.sql"
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    connection = cluster.connect()
    for name in ("cl_one", "cl two's", "cl_latin", "cl_copy"):
        side_database.drop(connection, name)
    for role in ROLES:
        postgres_server.execute(connection, f"DROP ROLE {sql_names.quote(role)}")
    connection.close()
    planned = restores.plan(spec(cluster, tmp_path, path))
    assert planned["obstacles"] == []
    assert any("cl two's" in each["what"] for each in planned["warnings"])
    done = restores.fill(spec(cluster, tmp_path, path))
    restores.swap_in(spec(cluster, tmp_path, path), done["id"])
    assert state(cluster, "cl_one") == before
    collected = {name for (name,) in cluster.execute("SELECT rolname FROM pg_roles WHERE rolcanlogin")}
    assert set(ROLES) & collected == {"cl_owner", "cl_reader", "cl_member", "Default"}
    other = spec(cluster, tmp_path, path, file_database="cl_latin", database="cl_copy")
    restores.swap_in(other, restores.fill(other)["id"])
    assert cluster.execute('SELECT n FROM "é"', "cl_copy") == [("€",)]
    quoted = spec(cluster, tmp_path, path, database="cl two's")
    restores.swap_in(quoted, restores.fill(quoted)["id"])
    assert cluster.execute("SELECT count(*) FROM two", "cl two's") == [(0,)]
    cluster.execute("CREATE ROLE cl_other; SELECT 1")


def test_a_database_that_is_not_in_the_file(dumped, tmp_path):
    cluster, data = dumped
    (tmp_path / "all.sql").write_bytes(data)
    (result,) = restores.plan(spec(cluster, tmp_path, tmp_path / "all.sql", file_database="elpaso"))["obstacles"]
    assert "cl_one" in result["why"] and "cl two's" in result["why"] and "restore_file_database" in result["fix"]


def test_globals_alone_are_no_database(dumped, tmp_path):
    cluster, data = dumped
    text = data[: data.index(b"\\connect ")] + b"-- PostgreSQL database cluster dump complete\n"
    (tmp_path / "globals.sql").write_bytes(text)
    (result,) = restores.plan(spec(cluster, tmp_path, tmp_path / "globals.sql"))["obstacles"]
    assert "roles only" in result["what"] and "restore_globals" in result["fix"]


def test_a_file_that_is_cut_in_another_database(dumped, tmp_path):
    cluster, data = dumped
    (tmp_path / "all.sql").write_bytes(data[: data.rindex(b"COPY ") + 60])
    (result,) = restores.plan(spec(cluster, tmp_path, tmp_path / "all.sql"))["obstacles"]
    assert "not whole" in result["what"]


OLD = """--
-- PostgreSQL database cluster dump
--

SET default_transaction_read_only = off;

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

--
-- Roles
--

CREATE ROLE cl_owner;
ALTER ROLE cl_owner WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS;

--
-- Database creation
--

CREATE DATABASE cl_old WITH TEMPLATE = template0 OWNER = cl_owner
    ENCODING = 'LATIN9' LC_COLLATE = 'C' LC_CTYPE = 'C' CONNECTION LIMIT = 5;
ALTER DATABASE cl_old SET search_path TO 'é', 'public';
REVOKE CONNECT,TEMPORARY ON DATABASE cl_old FROM PUBLIC;
GRANT CONNECT ON DATABASE cl_old TO cl_owner;
CREATE DATABASE "cl other" WITH TEMPLATE = template0 OWNER = cl_owner;


\\connect cl_old

SET default_transaction_read_only = off;

--
-- PostgreSQL database dump
--

-- Dumped from database version 9.6.10
-- Dumped by pg_dump version 9.6.10

SET statement_timeout = 0;
SET client_encoding = 'LATIN9';
SET standard_conforming_strings = on;

SET search_path = public, pg_catalog;

--
-- Name: é; Type: TABLE; Schema: public; Owner: cl_owner
--

CREATE TABLE "é" (
    n text
);


ALTER TABLE "é" OWNER TO cl_owner;

--
-- Data for Name: é; Type: TABLE DATA; Schema: public; Owner: cl_owner
--

COPY "é" (n) FROM stdin;
€
\\.


--
-- PostgreSQL database dump complete
--

\\connect "cl other"

SET default_transaction_read_only = off;

--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';

--
-- PostgreSQL database dump complete
--

--
-- PostgreSQL database cluster dump complete
--

"""


def old():
    """As 9.6's pg_dumpall wrote it: what is about databases stands before all of them, each in its own encoding."""
    head, rest = OLD.split("\\connect cl_old")
    section, last = rest.split('\\connect "cl other"')
    return head.encode() + b"\\connect cl_old" + section.encode("iso8859-15") + b'\\connect "cl other"' + last.encode()


def test_what_old_versions_say_of_a_database_is_kept(dumped, tmp_path):
    cluster, _ = dumped
    (tmp_path / "all.sql").write_bytes(old())
    request = spec(cluster, tmp_path, tmp_path / "all.sql", database="cl_old")
    restores.swap_in(request, restores.fill(request)["id"])
    assert cluster.execute('SELECT n FROM public."é"', "cl_old") == [("€",)]
    (rows,) = cluster.execute(
        "SELECT d.datconnlimit, pg_get_userbyid(d.datdba), pg_encoding_to_char(encoding), d.datcollate,"
        " (SELECT s.setconfig::text FROM pg_db_role_setting s WHERE s.setdatabase = d.oid),"
        " has_database_privilege('public', d.oid, 'CONNECT') FROM pg_database d WHERE datname = 'cl_old'",
        "cl_old",
    )
    assert rows[:4] == (5, "cl_owner", "LATIN9", "C") and rows[5] is False
    assert "é" in rows[4]


def test_a_whole_cluster_serves_as_globals(tmp_path):
    (tmp_path / "all.sql").write_bytes(old())
    assert set(dump_roles.read(str(tmp_path / "all.sql")).roles) == {"cl_owner"}
    text = OLD[: OLD.index("--\n-- Database creation")] + "-- PostgreSQL database cluster dump complete\n"
    latin = text.replace("UTF8", "LATIN1").replace("cl_owner", '"é"').encode("latin-1")
    (tmp_path / "globals.sql.gz").write_bytes(gzip.compress(latin))
    assert set(dump_roles.read(str(tmp_path / "globals.sql.gz")).roles) == {"é"}
    (tmp_path / "wrong.sql").write_bytes(latin.replace(b"LATIN1", b"UTF8"))
    with pytest.raises(SauvegardeError) as error:
        dump_roles.read(str(tmp_path / "wrong.sql"))
    assert "not in the encoding that it states" in str(error.value) and "codec" not in str(error.value)
    assert re.search("PGCLIENTENCODING", error.value.fix)
