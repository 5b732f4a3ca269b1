"""Names, types and values of generated databases: what people have in real ones, and what breaks tools."""

from hypothesis import strategies as st

# Fragments of names that have broken dump tools: quoting, white space, comments, reserved words, other alphabets.
FRAGMENTS = (
    "a", "Total", "order", "select", "été", "日本", "𝄞", " ", '"', "'", "\\", ";", "--", "/*", "$$", "%", ".", ",", "(",
    "\n", "\t", "=", "-", "$1", "{x}", "#", "~", "?", ":n", "pg_x", "user",
)  # fmt: skip


def name_bodies():
    """Strategy of the odd part of a name; a suffix makes it unique, and 63 bytes are never reached by accident."""
    plain = st.sampled_from(("t", "offers", "Place", "x_1"))
    odd = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=4).map("".join)
    return st.one_of(plain, plain, odd)


def quoted(name):
    """The name as an SQL identifier."""
    return '"{}"'.format(name.replace('"', '""'))


def literal(text):
    """The text as an SQL literal that no setting changes."""
    return "E'{}'".format(text.replace("\\", "\\\\").replace("'", "''"))


def _texts(longest):
    """Strategy of SQL literals of at most that many letters."""
    letters = st.sampled_from("aZ09 éÿ\u00a0漢🙂'\"\\\n\t\r,;{}()$%-.\u2028\x7f")
    return st.lists(letters, max_size=longest).map(lambda letters: literal("".join(letters)))


TEXT = _texts(12)
# Longer than a page: compressed in its row, and moved out of it because it cannot be compressed enough.
_LONG = (
    "repeat(E'é\\t\\\\x\\n', 2000)",
    "(SELECT string_agg(md5(i::text), E'\\n') FROM generate_series(1, 300) i)",
)


def _quoted(*values):
    return st.sampled_from([literal(value) for value in values])


# Type to the strategy of an SQL expression of it.
VALUES = {
    "integer": st.integers(-(2**31), 2**31 - 1).map(lambda value: f"({value})"),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(lambda value: f"'{value}'::bigint"),
    "smallint": st.integers(-(2**15), 2**15 - 1).map(lambda value: f"({value})::smallint"),
    "numeric": _quoted("NaN", "0", "-0.000", "1e400", "123456789.123456789012345678901234567890", "-1e-300"),
    "numeric(12,3)": st.integers(-(10**9), 10**9).map(lambda value: f"{value}/1000.0"),
    "real": _quoted("NaN", "-Infinity", "0.1", "-0", "1e-45", "3.4028235e38"),
    "double precision": _quoted("NaN", "Infinity", "0.1", "-0", "5e-324", "0.30000000000000004"),
    "text": st.one_of(*[TEXT] * 9, st.sampled_from(_LONG)),
    "character varying(20)": _texts(12),
    "character(5)": _texts(4),
    '"char"': _quoted("a", "", "\\"),
    "name": _quoted("a", "Ünicode", 'q"'),
    "boolean": _quoted("t", "f"),
    "bytea": st.binary(max_size=12).map(lambda value: f"E'\\\\x{value.hex()}'::bytea"),
    "date": _quoted("infinity", "-infinity", "2024-02-29", "0044-03-15 BC", "5874897-12-31"),
    "timestamp": _quoted("infinity", "2024-03-31 02:30:00", "0001-01-01 BC", "2000-01-01 00:00:00.000001"),
    "timestamptz": _quoted(
        "-infinity", "2024-10-27 02:30:00+01", "1883-11-18 12:03:57+00", "9999-12-31 23:59:59.999999"
    ),
    "time": _quoted("24:00:00", "00:00:00.000001"),
    "timetz": _quoted("12:00:00+05:30", "23:59:59.5-12"),
    "timestamp(2)": _quoted("2024-03-31 02:30:00.126", "-infinity"),
    "interval year to month": _quoted("1 year 2 months", "-3 months"),
    "interval": _quoted("-1 mons +2 days -03:04:05.6", "178000000 years", "0", "1 week ago"),
    "uuid": st.uuids(version=None).map(lambda value: f"'{value}'"),
    "json": _quoted('{"a": 1, "a": 2}', "null", '  [1, "\\u00e9"]', '"\\\\"'),
    "jsonb": _quoted('{"z": 1e400, "é": "\\n"}', "null", "[]", '[{"a": [1.10]}]'),
    "inet": _quoted("::1/64", "192.168.1.0/24", "::ffff:1.2.3.4"),
    "cidr": _quoted("10.0.0.0/8", "::/0"),
    "macaddr": _quoted("08:00:2b:01:02:03"),
    "macaddr8": _quoted("08:00:2b:01:02:03:04:05"),
    "bit(4)": _quoted("1010"),
    "bit varying": _quoted("", "1", "101010101"),
    "point": _quoted("(1.1,-0)", "(NaN,Infinity)"),
    "box": _quoted("(1,1),(0,0)"),
    "line": _quoted("{1,-1,0.1}"),
    "lseg": _quoted("[(0,0),(-0,1e-300)]"),
    "path": _quoted("((0,0),(1,1))", "[(0,0),(1,1)]"),
    "polygon": _quoted("((0,0),(1,1),(1,0))"),
    "circle": _quoted("<(0,0),1.5>"),
    "int4range": _quoted("empty", "[1,5)", "(,3]", "[2,)"),
    "tstzrange": _quoted('["2024-01-01 00:00+00",)', "empty"),
    "numrange": _quoted("(0.10,NaN]", "(,)"),
    "daterange": _quoted("[0044-03-15 BC,infinity)", "(,2024-02-29]"),
    "int4multirange": _quoted("{}", "{[1,3),[5,)}"),  # from 14 on, as all that follows from it
    "tsvector": _quoted("'é''x':1A,3 b:2", ""),
    "tsquery": _quoted("a & !b <-> 'c d'"),
    "xml": _quoted("<a>é&lt;</a>", "text"),
    "money": _quoted("-1234.56", "0"),
    "oid": _quoted("0", "4294967295"),
    "text[]": _quoted("{}", '{NULL,"NULL","a,b","\\"","\\\\"}', "[2:3]={x,y}"),
    "double precision[]": _quoted("{NaN,-0,Infinity,NULL}", "{{{1}},{{5e-324}}}"),
    "bytea[]": _quoted('{"\\\\x00ff",NULL,""}'),
    "jsonb[]": _quoted('{"{\\"a\\": [1, null]}",NULL}'),
    "timestamptz[]": _quoted('{"2024-10-27 02:30:00+01",infinity,"0044-03-15 12:00:00+00 BC"}'),
    "pg_lsn": _quoted("16/B374D848"),
    "jsonpath": _quoted('$."é"[*] ? (@ > 1)', "strict $.a"),
    "xid": _quoted("4294967295"),
    "tid": _quoted("(0,1)"),
    "integer[]": _quoted("{{1,2},{3,4}}", "{NULL}", "[-1:0]={1,2}"),
    "hstore": _quoted('a=>1, "b c"=>NULL', "", '"\\""=>"\\\\"'),
    "citext": _texts(6),
    "ltree": _quoted("a.b.c", ""),
    "geometry": _quoted("POINT EMPTY", "SRID=2154;LINESTRING(0 0,1 1.5)", "TIN(((0 0 0,0 0 1,0 1 0,0 0 0)))"),
    "geometry(PointZM,4326)": _quoted("SRID=4326;POINT ZM (1 2 3 4)", "SRID=4326;POINT ZM (NaN 1 1 1)"),
    "geography(Point,4326)": _quoted("SRID=4326;POINT(-180 90)"),
}
EXTENSION_OF = {
    "hstore": "hstore",
    "citext": "citext",
    "ltree": "ltree",
    "geometry": "postgis",
    "geometry(PointZM,4326)": "postgis",
    "geography(Point,4326)": "postgis",
}
# Types that a B-tree can order, and whose values differ enough for a key.
ORDERED = ("integer", "bigint", "text", "uuid", "date", "numeric(12,3)")
