"""Plain dumps read piece by piece: quotes, rows, headers, ends. No server."""

import io
import time

import pytest
from sauvegarde.errors import SauvegardeError
from sauvegarde.restore.dump import (
    content_scan,
    entries,
    oids,
    psql_commands,
    sql_script,
)
from sauvegarde.restore.dump.database_statements import DatabaseStatements

HEAD = b"--\n-- PostgreSQL database dump\n--\n\n"
HEAD += b"-- Dumped from database version 9.6.10\n-- Dumped by pg_dump version 9.6.10\n\n"
END = b"\n--\n-- PostgreSQL database dump complete\n--\n\n"


def header(name, kind, schema="public", owner="o", data=""):
    return f"--\n-- {data}Name: {name}; Type: {kind}; Schema: {schema}; Owner: {owner}\n--\n\n".encode()


def pieces(body, end=END):
    collected = []
    for piece in sql_script.Script(io.BytesIO(HEAD + body + end)):
        if isinstance(piece, sql_script.Copy):
            piece = (piece, b"".join(iter(piece.rows.read, b"")))
        collected.append(piece)
    return collected


class Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time, so that every mark is cut by a buffer's end once."""

    def __init__(self, data, size):
        self.data, self.size, self.at = data, size, 0

    def read(self, _size=-1):
        self.at += self.size
        return self.data[self.at - self.size : self.at]


ROWS = b"1\ta\n\\.x\n\\\\.\n2\tb\\n\n"
COPY = b"COPY public.t (a, b) FROM stdin;\n" + ROWS + b"\\.\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100000])
def test_rows_end_at_their_mark_wherever_the_buffer_ends(size):
    text = HEAD + header("t", "TABLE DATA", data="Data for ") + COPY + b"\nSELECT 1;\n" + END
    seen = []
    for piece in sql_script.Script(Trickle(text, size)):
        if isinstance(piece, sql_script.Copy):
            seen.append(b"".join(iter(piece.rows.read, b"")))
            assert piece.rows.count == 4 and piece.rows.size == len(ROWS)
        elif isinstance(piece, sql_script.Sql):
            seen.append(piece.text.strip())
    assert seen == [ROWS, b"SELECT 1;"]


def test_windows_line_ends():
    text = (HEAD + header("t", "TABLE DATA", data="Data for ") + COPY + END).replace(b"\n", b"\r\n")
    copies = [piece for piece in sql_script.Script(io.BytesIO(text)) if isinstance(piece, sql_script.Copy)]
    assert [piece.entry.name for piece in copies] == ["t"]


@pytest.mark.parametrize(
    "body",
    [
        b"CREATE FUNCTION f() AS $_$\n-- Name: x; Type: TABLE; Schema: s; Owner: o\nCOPY t FROM stdin;\n$_$;\n",
        b"COMMENT ON TABLE t IS 'a\n-- Name: x; Type: TABLE; Schema: s; Owner: o\n''\n';\n",
        b"COMMENT ON TABLE t IS E'\\'\n-- Name: x; Type: TABLE; Schema: s; Owner: o\n\\\\';\n",
        b'ALTER TABLE "a\n-- Name: x; Type: TABLE; Schema: s; Owner: o\n" OWNER TO o;\n',
        b"CREATE VIEW v AS /* a /* b */\n-- Name: x; Type: TABLE; Schema: s; Owner: o\n*/ SELECT 1;\n",
        b"CREATE FUNCTION f() AS $$\nCOPY t FROM PROGRAM 'a program of the site''s own';\n$$;\n",
        b"CREATE VIEW v AS\n SELECT t.id,\n    copy AS program\n   FROM t;\n",
        b"CREATE FUNCTION f(a$b$ int)\nBEGIN ATOMIC\n SELECT 1;\n SELECT 'x$b$';\nEND;\n",
    ],
)
def test_what_stands_inside_quotes_is_no_piece_of_its_own(body):
    result = pieces(header("f", "FUNCTION") + body)
    assert [piece.text.rstrip() for piece in result if isinstance(piece, sql_script.Sql)] == [body.rstrip()]
    assert [piece.name for piece in result if isinstance(piece, entries.Entry)] == ["f"]


def test_settings_between_entries_are_pieces_of_their_own():
    result = pieces(
        header("a", "TABLE") + b"CREATE TABLE a ();\n\n\nSET default_tablespace = 'x';\n\n" + header("b", "TABLE")
    )
    assert [type(piece).__name__ for piece in result if not isinstance(piece, sql_script.Fact)] == [
        "Entry",
        "Sql",
        "Setting",
        "Entry",
    ]


@pytest.mark.parametrize(
    "body, end, words",
    [
        (COPY[:-3], b"", "rows of a table"),
        (b"SELECT 'a\n", b"", "inside a statement"),
        (b"SELECT 1;\n", b"", "closing line"),
        (b"SELECT 1;\n", END + b"SELECT 2;\n", "after its closing line"),
        (b"\\! id\n", END, "psql command"),
        (b"COPY t FROM PROGRAM 'id';\n", END, "a COPY that"),
        (b"copy (SELECT 1)\nTO PROGRAM 'id';\n", END, "a COPY that"),
        (b"COPY t (a) FROM '/etc/passwd';\n", END, "a COPY that"),
        (header("t", "TABLE") + b"SELECT 1;\n  COPY t FROM PROGRAM 'id';\n", END, "a COPY that"),
        (b"\\connect a\n\\connect b\n", END, "another database"),
        (b"SET client_encoding = 'KLINGON';\n", END, "unknown"),
    ],
)
def test_what_cannot_be_trusted_is_refused(body, end, words):
    with pytest.raises(SauvegardeError) as error:
        pieces(body, end)
    assert words in str(error.value)


def test_owners_that_the_session_says_are_those_of_the_headers():
    body = b"SET SESSION AUTHORIZATION 'o';\n\n" + header("a", "TABLE") + b"CREATE TABLE a ();\n\n\n"
    body += b"SET SESSION AUTHORIZATION DEFAULT;\n\n" + header("b", "ACL", owner="p")
    granted = b"SET SESSION AUTHORIZATION o;\nGRANT SELECT ON TABLE a TO q;\nRESET SESSION AUTHORIZATION;\n"
    assert [piece.text.strip() for piece in pieces(body + granted) if isinstance(piece, sql_script.Sql)] == [
        b"CREATE TABLE a ();",
        granted.strip(),
    ]
    assert content_scan.scan(io.BytesIO(HEAD + body + END)).by_session


def test_the_trailer_inside_rows_is_no_end():
    rows = b"COPY t (a) FROM stdin;\n--\n-- PostgreSQL database dump complete\n--\n"
    with pytest.raises(SauvegardeError):
        pieces(header("t", "TABLE DATA", data="Data for ") + rows, b"")


@pytest.mark.parametrize(
    "kind, name, expected",
    [
        ("SEQUENCE", "(total", {"(total"}),
        ("TABLE", "a(b", {"a(b"}),
        ("FUNCTION", "f(integer)", {"f"}),
        ("FUNCTION", 'f("x(integer)', {"f", 'f("x'}),
    ],
)
def test_names_that_hold_parentheses(kind, name, expected):
    entry = entries.Entry(kind, "public", name, "o")
    assert set(entry.possible_names()) == expected


def test_contents():
    body = b"".join(
        [
            b"SET client_encoding = 'UTF8';\nSET transaction_timeout = 0;\n",
            header("e", "DATABASE", "-", "db owner"),
            b"CREATE DATABASE e WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'fr_FR.UTF-8';\n",
            header("e", "DATABASE PROPERTIES", "-", "db owner"),
            b"ALTER DATABASE e CONNECTION LIMIT = 7;\nALTER DATABASE e SET search_path TO 'a', '$user';\n",
            b"ALTER ROLE \"r ole\" IN DATABASE e SET work_mem TO '7MB';\n",
            header("DATABASE e", "COMMENT", "-", "db owner"),
            b"COMMENT ON DATABASE e IS 'it''s';\n",
            header("DATABASE e", "ACL", "-", "db owner"),
            b"REVOKE CONNECT ON DATABASE e FROM PUBLIC;\nGRANT CONNECT ON DATABASE e TO reader;\n",
            header("postgis", "EXTENSION", "-", ""),
            b'CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA "g is";\n',
            header("EXTENSION postgis", "COMMENT", "-", ""),
            b"COMMENT ON EXTENSION postgis IS 'PostGIS geometry, geography, and raster spatial types';\n",
            header("t", "TABLE"),
            b'CREATE TABLE public.t (a int);\nALTER TABLE public.t OWNER TO "Own er";\n',
            header("TABLE t", "ACL"),
            b'GRANT SELECT ON TABLE public.t TO "g""rantee" WITH GRANT OPTION;\n',
            header("p", "POLICY"),
            b'CREATE POLICY p ON public.t TO one, "t wo" USING (true);\n',
            header("t", "TABLE DATA", data="Data for "),
            b"COPY public.t (a) FROM stdin;\n1\n2\n\\.\n",
            header("spatial_ref_sys", "TABLE DATA", "g is", data="Data for "),
            b'COPY "g is".spatial_ref_sys (srid) FROM stdin;\n900913\n\\.\n',
        ]
    )
    result = content_scan.scan(io.BytesIO(HEAD + body + END))
    assert result.server == "9.6.10" and result.encoding == "utf_8" and result.raster
    assert result.extensions == {"postgis": "g is"}
    assert result.roles == {"db owner", "o", "Own er", 'g"rantee', "one", "t wo", "reader", "r ole"}
    assert result.rows == {("public", "t"): 2, ("g is", "spatial_ref_sys"): 1}
    assert [(each.schema, each.table, each.rows.seek(0), each.rows.read()) for each in result.merged] == [
        ("g is", "spatial_ref_sys", 0, b"900913\n")
    ]
    assert result.database == DatabaseStatements(
        owner="db owner",
        options={"encoding": "UTF8", "locale": "fr_FR.UTF-8"},
        has_properties=True,
        limit=7,
        comment="it's",
        settings=[("", "search_path", "'a', '$user'"), ("r ole", "work_mem", "'7MB'")],
        grants=["REVOKE CONNECT ON DATABASE e FROM PUBLIC;", "GRANT CONNECT ON DATABASE e TO reader;"],
    )


@pytest.mark.parametrize(
    "rows",
    [
        lambda size: b"COPY public.t (a) FROM stdin;\n1\n" + b"x" * size + b"\n\\.\n",
        lambda size: b"INSERT INTO public.t VALUES ('" + b"x" * size + b"');\n",
        lambda size: b"INSERT INTO public.t VALUES ('" + b"x''y" * (size // 4) + b"');\n",
    ],
)
def test_long_rows_take_time_in_proportion(rows):
    def seconds(size):
        text = io.BytesIO(HEAD + header("t", "TABLE") + header("t", "TABLE DATA", data="Data for ") + rows(size) + END)
        collected = []
        for _ in range(3):
            text.seek(0)
            began = time.process_time()
            content_scan.scan(text)
            collected.append(time.process_time() - began)
        return min(collected)

    short = seconds(4 << 20)
    assert seconds(32 << 20) < 8 * short * 3 + 0.2


def test_a_long_row_is_given_on_in_pieces():
    row = b"x" * (10 << 20) + b"\n"
    text = (
        HEAD + header("t", "TABLE DATA", data="Data for ") + b"COPY public.t (a) FROM stdin;\n" + row + b"\\.\n" + END
    )
    (copy,) = (
        [piece.rows.count, total, most]
        for piece in sql_script.Script(io.BytesIO(text))
        if isinstance(piece, sql_script.Copy)
        for total, most in [sizes(piece.rows)]
    )
    assert copy == [1, len(row), copy[2]] and copy[2] <= 2 << 20


def sizes(rows):
    collected = [len(each) for each in iter(rows.read, b"")]
    return sum(collected), max(collected)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 100000])
def test_the_column_of_oids_is_taken_off_wherever_the_buffer_ends(size):
    rows = b"16384\t1\ta\\t1\n16385\t22\t33\n1\n4294967295\t\\N\t5\n"
    statement = b"COPY t (a, b) WITH OIDS FROM stdin;\n"
    text = HEAD + header("t", "TABLE DATA", data="Data for ") + statement + rows + b"\\.\n" + END
    for piece in sql_script.Script(Trickle(text, size)):
        if isinstance(piece, sql_script.Copy):
            shorter, rest = oids.copy(piece.statement, piece.rows)
            assert shorter == b"COPY t (a, b) FROM stdin;\n"
            assert b"".join(iter(rest.read, b"")) == b"1\ta\\t1\n22\t33\n\n\\N\t5\n"


def test_statements_that_hold_line_ends():
    body = b'SET search_path = "a\nb", pg_catalog;\n\n' + header("t", "TABLE DATA", data="Data for ")
    body += b'COPY "a\nb"."t;\nCOPY x FROM stdin;" ("c\n\\.\nd", e) FROM stdin;\n1\t2\n\\.\n'
    result = pieces(body)
    assert result[2] == sql_script.Setting("search_path", b'SET search_path = "a\nb", pg_catalog;\n')
    assert result[4][1] == b"1\t2\n"


@pytest.mark.parametrize(
    "line, name",
    [
        ("\\connect plain", "plain"),
        ('\\connect "a b""c"', 'a b"c'),
        ("\\c x", "x"),
        ("\\connect -", ""),
        (r"""\connect -reuse-previous=on "dbname='it\'s ""x'" """, "it's \"x"),
    ],
)
def test_the_database_that_connect_names(line, name):
    assert psql_commands.database(psql_commands.parse(line)[1]) == name
