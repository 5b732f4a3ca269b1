"""Files as people have them: odd names, old dumps, psql's commands, long rows. Compared with what was dumped."""

import gzip
import re
import subprocess
import zipfile

import pytest
import restores
from sauvegarde.postgres import client_tools, postgres_server, sql_names
from sauvegarde.targets import side_database

ROLES = ("case_owner", "case_reader", "Default", "public_1")


@pytest.fixture(scope="module")
def server(cluster):
    yield cluster
    connection = cluster.connect()
    for (name,) in postgres_server.query(
        connection, "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')"
    ):
        side_database.drop(connection, name)
    for role in ROLES:
        postgres_server.execute(connection, f"DROP ROLE IF EXISTS {sql_names.quote(role)}")
    connection.close()


def fill_new_database(cluster, name, text):
    """A new database, filled by `text`."""
    connection = cluster.connect()
    side_database.drop(connection, name)
    postgres_server.execute(connection, f"CREATE DATABASE {name} TEMPLATE template0")
    for role in ("case_owner", "case_reader"):
        if not postgres_server.value(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)):
            postgres_server.execute(connection, f"CREATE ROLE {role}")
    connection.close()
    cluster.execute(text + "; SELECT 1", name)
    return name


def dump(cluster, database, *options):
    """What stock pg_dump writes with these options, as bytes."""
    return subprocess.run(
        [str(cluster.binaries / "pg_dump"), *options],
        env=client_tools.environment(cluster.server, database),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout


def definitions(cluster, database):
    """The whole database as one text, without what differs between two dumps of the same."""
    text = dump(cluster, database, "--no-comments" if database == "x" else "--inserts", "--rows-per-insert=1000")
    return re.sub(rb"\\(?:un)?restrict .*\n", b"", text)


def spec(cluster, folder, path, **more):
    return {
        "connection": cluster.values,
        "path": str(path),
        "database": "case_back",
        "directory": str(folder / "restores"),
        "jobs": 2,
        **more,
    }


def restore(cluster, folder, path, **more):
    request = spec(cluster, folder, path, **more)
    done = restores.fill(request)
    restores.swap_in(request, done["id"])
    return done


def forget(cluster, name="case_back"):
    connection = cluster.connect()
    for (each,) in postgres_server.query(
        connection, "SELECT datname FROM pg_database WHERE datname LIKE %s", (name + "%",)
    ):
        side_database.drop(connection, each)
    connection.close()


# 13: names

ODD = 'tab\t"q" \\ $$ -- ; x\ny'


def quoted(name):
    return sql_names.quote(name)


NAMES = f"""
CREATE SCHEMA {quoted("sch;" + chr(10) + "ema")};
SET search_path TO {quoted("sch;" + chr(10) + "ema")};
CREATE TYPE {quoted("enu" + chr(10) + "m")} AS ENUM ('a
b', 'c');
CREATE TABLE {quoted(ODD)} (id int PRIMARY KEY, {quoted("a;" + chr(10) + "COPY x FROM stdin;" + chr(10) + "b")}
 {quoted("enu" + chr(10) + "m")} DEFAULT 'c', "-- Name: x; Type: TABLE; Schema: a; Owner: b" text,
 "Surface\r
(m²)" int, CONSTRAINT "chk
-- c" CHECK (id > 0));
INSERT INTO {quoted(ODD)} SELECT i, 'c', E'\\\\.\\n-- x', i FROM generate_series(1, 5) i;
CREATE TABLE child (id int CONSTRAINT "f
k" REFERENCES {quoted(ODD)}, s serial);
INSERT INTO child VALUES (1), (2);
CREATE INDEX "i
x" ON child (id);
CREATE VIEW "v
w" AS SELECT * FROM child;
CREATE MATERIALIZED VIEW "m
v" AS SELECT * FROM child;
CREATE SEQUENCE "s
q"; SELECT nextval('"s
q"');
COMMENT ON COLUMN {quoted(ODD)}."Surface\r
(m²)" IS 'it''s
-- Name: x; Type: TABLE; Schema: a; Owner: b
COPY t FROM stdin;
\\.
';
GRANT SELECT ("Surface\r
(m²)") ON {quoted(ODD)} TO case_reader;
GRANT SELECT ON "v
w" TO case_reader;
GRANT USAGE ON SCHEMA {quoted("sch;" + chr(10) + "ema")} TO case_reader;
CREATE FUNCTION "f
n"("a
b" int) RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION "f
n"(int) OWNER TO case_owner;
CREATE TRIGGER "t
r" BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger();
ALTER TABLE child DISABLE TRIGGER "t
r";
CREATE POLICY "p
y" ON child TO case_reader USING (true)"""


@pytest.mark.parametrize("form", ["-Fc", "-Fp", "-Fp --inserts"])
def test_line_ends_and_marks_in_names(server, tmp_path, form):
    fill_new_database(server, "case_names", NAMES)
    path = tmp_path / "dump"
    path.write_bytes(dump(server, "case_names", *form.split()))
    done = restore(server, tmp_path, path)
    assert definitions(server, "case_back") == definitions(server, "case_names")
    assert done["proof"]["rows"] == 7 and not any("left out" in note for note in done["notes"])
    forget(server)


def test_roles_in_statements_of_several_lines_are_planned(server, tmp_path):
    fill_new_database(server, "case_names", NAMES)
    text = dump(server, "case_names").replace(b"TO case_reader;", b"TO case_missing;")
    (tmp_path / "dump.sql").write_bytes(text)
    result = restores.plan(spec(server, tmp_path, tmp_path / "dump.sql"))["obstacles"]
    assert [each["what"] for each in result] == ["Roles are missing on the target: case_missing."]


# 23, 24: what old versions wrote

HEAD = """--
-- PostgreSQL database dump
--

-- Dumped from database version {version}
-- Dumped by pg_dump version {version}

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = {conforming};
SET check_function_bodies = false;
SET client_min_messages = warning;
SET escape_string_warning = off;

"""
END = "\n--\n-- PostgreSQL database dump complete\n--\n\n"


def entry(kind, name, schema="public", owner="case_owner", data=""):
    return f"--\n-- {data}Name: {name}; Type: {kind}; Schema: {schema}; Owner: {owner}\n--\n\n"


RELICS = (
    HEAD.format(version="8.4.22", conforming="off")
    + entry("COMMENT", "SCHEMA public", "-", "postgres")
    + "COMMENT ON SCHEMA public IS 'Standard public schema';\n\n\n"
    + entry("PROCEDURAL LANGUAGE", "plpgsql", "-", "postgres")
    + "{language};\n\n\nALTER PROCEDURAL LANGUAGE plpgsql OWNER TO postgres;\n\n"
    + "SET search_path = public, pg_catalog;\n\n"
    + "SET default_tablespace = '';\n\nSET default_with_oids = {oids};\n\n"
    + entry("TABLE", "t").replace("owner\n", "owner; Tablespace: \n")
    + 'CREATE TABLE t (\n    id integer NOT NULL,\n    "n m" text\n){clause};\n\n\n'
    + "ALTER TABLE public.t OWNER TO case_owner;\n\n"
    + entry("SEQUENCE", "t_id_seq")
    + "CREATE SEQUENCE t_id_seq\n    INCREMENT BY 1\n    NO MAXVALUE\n    NO MINVALUE\n    CACHE 1;\n\n\n"
    + "ALTER TABLE public.t_id_seq OWNER TO case_owner;\n\n"
    + entry("SEQUENCE OWNED BY", "t_id_seq")
    + "ALTER SEQUENCE t_id_seq OWNED BY t.id;\n\n\n"
    + entry("SEQUENCE SET", "t_id_seq")
    + "SELECT pg_catalog.setval('t_id_seq', 7, true);\n\n\n"
    + entry("DEFAULT", "id")
    + "ALTER TABLE t ALTER COLUMN id SET DEFAULT nextval('t_id_seq'::regclass);\n\n\n"
    + entry("FUNCTION", "f()")
    + "CREATE FUNCTION f() RETURNS integer\n    AS $$ BEGIN RETURN 7; END $$\n    LANGUAGE plpgsql;\n\n\n"
    + entry("TABLE DATA", "t", data="Data for ")
    + 'COPY t (id, "n m"){with_oids} FROM stdin;\n{rows}\\.\n\n\n'
    + entry("ACL", "public", "-", "postgres")
    + "REVOKE ALL ON SCHEMA public FROM PUBLIC;\nREVOKE ALL ON SCHEMA public FROM postgres;\n"
    + "GRANT ALL ON SCHEMA public TO postgres;\nGRANT ALL ON SCHEMA public TO PUBLIC;\n\n\n"
    + END
)


def relic(path, language="CREATE PROCEDURAL LANGUAGE plpgsql", oids="false", clause="", kept=False):
    rows = "".join(
        "{}{}\t{}\n".format(f"{16384 + i}\t" if kept else "", i, "\\N" if i == 3 else f"n\\n{i}") for i in range(1, 5)
    )
    path.write_text(
        RELICS.format(language=language, oids=oids, clause=clause, rows=rows, with_oids=" WITH OIDS" if kept else "")
    )
    return path


@pytest.mark.parametrize(
    "language", ["CREATE PROCEDURAL LANGUAGE plpgsql", "CREATE OR REPLACE PROCEDURAL LANGUAGE plpgsql"]
)
@pytest.mark.parametrize(
    "oids, clause, kept",
    [("false", "", False), ("true", "", False), ("true", "", True), ("false", "\nWITH OIDS", True)],
)
def test_relics_of_old_versions(server, tmp_path, language, oids, clause, kept):
    fill_new_database(server, "case_names", "SELECT 1")
    path = relic(tmp_path / "dump.sql", language, oids, clause, kept)
    planned = restores.plan(spec(server, tmp_path, path))
    assert planned["obstacles"] == []
    text = " ".join(each["what"] + each["why"] for each in planned["warnings"])
    assert ("OID" in text) is (oids == "true" or kept)
    restore(server, tmp_path, path)
    assert server.execute('SELECT id, "n m", f() FROM t ORDER BY id', "case_back") == [
        (1, "n\n1", 7), (2, "n\n2", 7), (3, None, 7), (4, "n\n4", 7)
    ]  # fmt: skip
    assert server.execute("SELECT nextval('t_id_seq')", "case_back") == [(8,)]
    forget(server)


# psql's commands

COMMANDS = "\\set ON_ERROR_STOP on\n\\timing off\n\\pset pager off\n\\echo begin: it's\n"


def test_psql_commands_that_change_nothing_are_passed_over(server, tmp_path):
    fill_new_database(server, "case_names", "CREATE TABLE t AS SELECT 1 AS i")
    text = dump(server, "case_names", "--create").replace(
        b"SET statement_timeout", COMMANDS.encode() + b"SET statement_timeout"
    )
    (tmp_path / "dump.sql").write_bytes(text)
    restore(server, tmp_path, tmp_path / "dump.sql")
    assert server.execute("SELECT i FROM t", "case_back") == [(1,)]
    forget(server)


@pytest.mark.parametrize(
    "line", ["\\i other.sql", "\\! id", "\\copy t from x", "\\set v 1", "\\lo_import x", "\\gexec"]
)
def test_other_psql_commands_are_refused_with_their_line(server, tmp_path, line):
    fill_new_database(server, "case_names", "CREATE TABLE t AS SELECT 1 AS i")
    text = dump(server, "case_names").replace(b"SET statement_timeout", line.encode() + b"\nSET statement_timeout")
    (tmp_path / "dump.sql").write_bytes(text)
    (result,) = restores.plan(spec(server, tmp_path, tmp_path / "dump.sql"))["obstacles"]
    number = text.split(b"\n").index(line.encode()) + 1
    assert f"Line {number}: {line}" in result["why"] and result["fix"]


# Options of pg_dump that change how a plain dump is written

CONTENT = """
CREATE TABLE t (id int PRIMARY KEY, n text, g int GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO t SELECT i, E'it''s\\n;\\\\' || i FROM generate_series(1, 300) i;
CREATE TABLE u (id int REFERENCES t, b bytea); INSERT INTO u SELECT i, '\\x00ff' FROM generate_series(1, 30) i;
ALTER TABLE t OWNER TO case_owner; ALTER TABLE u OWNER TO case_owner;
CREATE VIEW v AS SELECT id FROM t; GRANT SELECT ON v TO case_reader;
CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t;
ALTER TABLE u ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON u TO case_reader USING (id = 1);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
SELECT lo_from_bytea(4711, 'large')"""
OPTIONS = [
    "--inserts",
    "--column-inserts",
    "--inserts --rows-per-insert=7",
    "--attribute-inserts --on-conflict-do-nothing",
    "--clean --if-exists",
    "--clean --create",
    "--quote-all-identifiers",
    "--serializable-deferrable",
    "--enable-row-security",
    "--disable-dollar-quoting",
    "--section=pre-data --section=data --section=post-data",
    "--verbose",
    "--no-comments --no-tablespaces",
    "--blobs",
]


@pytest.fixture(scope="module")
def content(server):
    return fill_new_database(server, "case_content", CONTENT)


@pytest.mark.parametrize("options", OPTIONS)
def test_options_of_plain_dumps(server, content, tmp_path, options):
    if "--rows-per-insert" in options and server.connect().server_version < 140000:
        pytest.skip("servers before 14 refuse rows of generated columns in one INSERT, from psql too")
    (tmp_path / "dump.sql").write_bytes(dump(server, content, *options.split()))
    done = restore(server, tmp_path, tmp_path / "dump.sql")
    assert definitions(server, "case_back") == definitions(server, content)
    assert done["proof"]["rows"] == 330
    forget(server)


# 25, 26: what people put around a dump


def tarred(folder, target, *names):
    subprocess.run(["tar", "-czf", str(target), "-C", str(folder), *names], check=True)


WRAPPED = ["folder in tar.gz", "folder's content in tar.gz", "-Fc in tar.gz", "-Fc in zip", "-Fc after words",
           "-Ft, gzip", "-Fc in parts", "utf-16", "Windows"]  # fmt: skip


@pytest.mark.one_host("wrappings come off before any tool of PostgreSQL's reads the dump")
@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_dumps_are_restored(server, content, tmp_path, name):
    path, work = tmp_path / "given", tmp_path / "work"
    work.mkdir()
    if name.startswith("folder"):
        server.run("pg_dump", "-Fd", "-f", work / "dump", database=content)
        if "content" in name:
            tarred(work / "dump", path, ".")
        else:
            tarred(work, path, "dump")
    elif name == "-Ft, gzip":
        path.write_bytes(gzip.compress(dump(server, content, "-Ft")))
    elif name in ("utf-16", "Windows"):
        text = dump(server, content).replace(b"\n", b"\r\n")
        path.write_bytes(text.decode("cp850").encode("utf-16") if name == "utf-16" else text)
    else:
        data = dump(server, content, "-Fc")
        (work / "old.dump").write_bytes(data)
        if "tar" in name:
            tarred(work, path, "old.dump")
        elif "zip" in name:
            with zipfile.ZipFile(str(path), "w") as packed:
                packed.write(str(work / "old.dump"), "in/old.dump")
        elif "words" in name:
            path.write_bytes(b"sudo: unable to resolve host db: Name unknown\n" + data)
        else:
            (tmp_path / "given.001").write_bytes(data[:1000])
            (tmp_path / "given.002").write_bytes(data[1000:])
    restore(server, tmp_path, path)
    assert definitions(server, "case_back") == definitions(server, content)
    forget(server)


def test_an_archive_that_was_carried_as_text_is_not_called_damaged(server, content, tmp_path):
    path = tmp_path / "old.dump"
    path.write_bytes(dump(server, content, "-Fc").replace(b"\n", b"\r\n"))
    planned = restores.plan(spec(server, tmp_path, path))
    (result,) = planned["obstacles"]
    assert "copied or written as text" in result["why"] and "damaged" not in result["what"] + result["fix"]
