"""Databases at random: SQL statements of the kinds of object that pg_dump knows, in the order of a real history.

A statement that the server refuses is left out (the test counts them), so that a kind may be tried on any table.
"""

from collections import namedtuple

import rarer
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from values import EXTENSION_OF, ORDERED, TEXT, VALUES, literal, name_bodies, quoted

ROLES = ("sink reader", 'Sink "Writer"')
Table = namedtuple("Table", "name columns key")  # columns: {quoted name: type}; key: quoted name, or ''
# statements run inside; settings on the database from outside, before them; extensions: those that it has.
Database = namedtuple("Database", "extensions settings statements")


class History:
    """Draws statements one after another; keeps what later ones may refer to."""

    def __init__(self, draw):
        self.draw = draw
        self.statements = []
        self.extensions = self.some(("hstore", "citext", "btree_gist", "pg_trgm", "unaccent", "ltree"))
        self.add(*(f"CREATE EXTENSION {each} SCHEMA public" for each in self.extensions))
        if self.chance(8):
            self.extensions.append("postgis")  # the template has it
        self.count = 0
        self.schemas = ["public"]
        self.types, self.functions, self.tables = {}, [], []

    def add(self, *statements):
        self.statements += statements

    def one(self, values):
        return self.draw(st.sampled_from(list(values)))

    def some(self, values, most=3):
        return self.draw(st.lists(st.sampled_from(list(values)), unique=True, max_size=most))

    def chance(self, of=3):
        """True once in so many times, and never in the simplest databases."""
        return self.draw(st.integers(1, of)) == of

    def name(self):
        """A new quoted name; one in many as long as names can be."""
        self.count += 1
        name = f"{self.draw(name_bodies())}{self.count}"
        return quoted(name + "x" * (63 - len(name.encode())) if self.count % 29 == 0 else name)

    def role(self):
        """One of the roles, quoted."""
        return quoted(self.one(ROLES))

    def place(self):
        """A new quoted name in one of the schemas."""
        return f"{self.one(self.schemas)}.{self.name()}"

    def text(self):
        return self.draw(TEXT)

    def type(self):
        """The name of a type that has values here."""
        known = [name for name in VALUES if EXTENSION_OF.get(name, "") in ("", *self.extensions)]
        return self.one([*known, *self.types]) if self.types and self.chance() else self.one(known)

    def value(self, type_):
        """An SQL expression of a type, now and then NULL."""
        if self.chance(5):
            return "NULL"
        return self.one(self.types[type_]) if type_ in self.types else self.draw(VALUES[type_])

    # Schemas, types, functions

    def make_schema(self):
        name = self.name().replace('"pg_', '"p', 1)
        self.add(f"CREATE SCHEMA {name}")
        if self.chance():
            self.add(f"GRANT USAGE, CREATE ON SCHEMA {name} TO {self.role()}")
        self.schemas.append(name)

    def make_type(self):
        name = self.place()
        kind = self.one(("enum", "integers", "texts", "composite", "range"))
        if kind == "enum":
            labels = [literal(f"{label}{number}") for number, label in enumerate(("ok", "l'été; --", "\\", "é"))]
            self.add(
                f"CREATE TYPE {name} AS ENUM ({', '.join(labels)})", f"ALTER TYPE {name} ADD VALUE 'first' BEFORE 'ok0'"
            )
            self.types[name] = labels
        elif kind == "integers":
            check = "" if self.chance() else f" CONSTRAINT {self.name()} CHECK (VALUE <> 13)"
            self.add(f"CREATE DOMAIN {name} AS integer DEFAULT 7{check}")
            self.types[name] = ["1", "-5"]
            if self.chance():
                self.add(f"ALTER DOMAIN {name} ADD CONSTRAINT {self.name()} CHECK (VALUE < 99) NOT VALID")
        elif kind == "texts":
            base = self.one(("text", "varchar(30)", 'text COLLATE "C"', "text[]"))
            null = self.one(("", " NOT NULL"))
            self.add(f"CREATE DOMAIN {name} AS {base}{null} DEFAULT '{{}}' CHECK (length(VALUE::text) < 50)")
            self.types[name] = ["'{}'", literal("{é\\\\,b}")]
        elif kind == "composite":
            inner = self.one(self.types) if self.types and self.chance() else "text"
            self.add(f"CREATE TYPE {name} AS ({self.name()} {inner}, {self.name()} numeric(5,1))")
            self.types[name] = ["ROW(E'a,\"b\\\\', 1.5)" if inner == "text" else "ROW(NULL, 1.5)", "ROW(NULL, NULL)"]
        else:
            self.add(f"CREATE TYPE {name} AS RANGE (subtype = float8, subtype_diff = float8mi)")
            self.types[name] = ["'[1.5,2)'", "'empty'"]
        if self.chance(2):
            self.types[f"{name}[]"] = [f"ARRAY[{each}, NULL]::{name}[]" for each in self.types[name]]
        if self.chance():
            self.add(f"COMMENT ON TYPE {name} IS {self.text()}")

    def make_function(self):
        """Functions of one integer; some call an earlier one by its bare name, as people do."""
        schema = self.one(self.schemas)
        name = self.name()
        called = self.one(self.functions) if self.functions and self.chance() else None
        inner = f"{called[1]}(x)" if called and called[0] in (schema, "public") else "x + 1"
        marks = self.one(("IMMUTABLE", "IMMUTABLE STRICT", "STABLE", "IMMUTABLE LEAKPROOF PARALLEL SAFE COST 7"))
        path = f"SET search_path TO {schema}, public" if inner != "x + 1" and schema != "public" else ""
        language, body = self.one(
            (
                ("sql", f"SELECT {inner}"),
                ("plpgsql", f"BEGIN RETURN {inner}; -- é\nEND"),
                ("sql", f"SELECT ({inner})::int"),
            )
        )
        self.add(
            f"CREATE FUNCTION {schema}.{name}(x integer) RETURNS integer LANGUAGE {language} {marks} {path}"
            f" AS {literal(body)}"
        )
        if self.chance():
            self.add(f"REVOKE ALL ON FUNCTION {schema}.{name}(integer) FROM PUBLIC")
        self.functions.append((schema, name))

    def call(self, argument):
        """A call of a site's function, or a plain expression where there is none."""
        return "{}.{}({})".format(*self.one(self.functions), argument) if self.functions else f"({argument} * 2)"

    # Tables

    def make_table(self):
        name = self.place()
        columns = {self.name(): self.type() for _ in range(self.draw(st.integers(0, 5)))}
        key = ""
        parts = []
        for column, type_ in columns.items():
            words = [column, type_]
            if not key and type_ in ORDERED and self.chance(2):
                key = column
                words.append("PRIMARY KEY")
            elif self.chance(4):
                value = self.value(type_)
                words.append(f"DEFAULT {value}" if type_ not in self.types else f"DEFAULT ({value})::{type_}")
            if type_ == "text" and self.chance():
                words.insert(2, self.one(('COLLATE "C"', 'COLLATE "POSIX"')))
            parts.append(" ".join(words))
        parts += self.odd_columns(columns)
        kind = "UNLOGGED " if self.chance(8) else ""
        parents = [table.name for table in self.tables if self.chance(8)][:1]
        inherits = f" INHERITS ({parents[0]})" if parents else ""
        options = " WITH (fillfactor = 70, autovacuum_enabled = off)" if self.chance(6) else ""
        self.add(f"CREATE {kind}TABLE {name} ({', '.join(parts)}){inherits}{options}")
        table = Table(name, columns, key)
        self.fill(table)
        if columns and self.chance(4):
            lost = self.name()
            self.add(f"ALTER TABLE {name} ADD COLUMN {lost} text", f"ALTER TABLE {name} DROP COLUMN {lost}")
        self.tables.append(table)

    def odd_columns(self, columns):
        """Identity, serial and generated columns, beside those that are filled."""
        integers = [column for column, type_ in columns.items() if type_ in ("integer", "smallint")]
        if self.chance():
            yield (
                self.name()
                + " integer GENERATED {} AS IDENTITY (START 10 MINVALUE -9 MAXVALUE 99 INCREMENT {})".format(
                    self.one(("ALWAYS", "BY DEFAULT")), self.one((1, -3, 5))
                )
            )
        if self.chance(4):
            yield self.name() + " bigserial"
        if integers and self.chance():
            yield self.name() + f" bigint GENERATED ALWAYS AS ({integers[0]}::bigint * 2) STORED"
        if integers and self.chance(4):
            yield f"CONSTRAINT {self.name()} CHECK ({integers[0]} IS NULL OR {integers[0]} > -2000000000)"

    def fill(self, table):
        columns = list(table.columns)
        for _ in range(self.draw(st.integers(0, 4))):
            if not columns:
                self.add(f"INSERT INTO {table.name} DEFAULT VALUES")
                continue
            values = ", ".join(f"({self.value(type_)})" for type_ in table.columns.values())
            self.add(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({values})")

    def make_partitioned(self):
        name, key, other = self.place(), self.name(), self.name()
        way = self.one(("LIST", "RANGE", "HASH"))
        self.add(
            f"CREATE TABLE {name} ({key} integer, {other} text DEFAULT 'd') PARTITION BY {way} ({key})",
        )
        bounds = {
            "LIST": ("FOR VALUES IN (1, 2)", "FOR VALUES IN (3)", "DEFAULT"),
            "RANGE": ("FOR VALUES FROM (MINVALUE) TO (2)", "FOR VALUES FROM (2) TO (MAXVALUE)"),
            "HASH": ("FOR VALUES WITH (MODULUS 2, REMAINDER 0)", "FOR VALUES WITH (MODULUS 2, REMAINDER 1)"),
        }[way]
        for bound in bounds:
            if self.chance(4):  # attached, with its columns in another order and a default of its own
                part = self.place()
                self.add(f"CREATE TABLE {part} ({other} text DEFAULT 'own', {key} integer)")
                self.add(f"ALTER TABLE {name} ATTACH PARTITION {part} {bound}")
            else:
                self.add(f"CREATE TABLE {self.place()} PARTITION OF {name} {bound}")
        for number in range(self.draw(st.integers(0, 5))):
            self.add(f"INSERT INTO {name} VALUES ({number}, {self.text()})")
        if self.chance():
            self.add(f"CREATE INDEX ON {name} ({other}, {key})")
        self.tables.append(Table(name, {key: "integer", other: "text"}, ""))

    # What belongs to tables

    def table_and_column(self, types=None):
        """(table, quoted column) with a type among `types`; None where there is no such table."""
        pairs = [
            (table, column)
            for table in self.tables
            for column, type_ in table.columns.items()
            if types is None or type_ in types
        ]
        return self.one(pairs) if pairs else None

    def make_reference(self):
        keyed = [table for table in self.tables if table.key]
        if not keyed:
            return
        target, own, column = self.one(keyed), self.one(self.tables), self.name()
        clause = self.one(("", "ON DELETE CASCADE", "DEFERRABLE INITIALLY DEFERRED", "ON UPDATE SET NULL NOT VALID"))
        self.add(
            f"ALTER TABLE {own.name} ADD COLUMN {column} {target.columns[target.key]}",
            f"UPDATE {own.name} SET {column} = (SELECT {target.key} FROM ONLY {target.name} LIMIT 1)",
            f"ALTER TABLE {own.name} ADD CONSTRAINT {self.name()}"
            f" FOREIGN KEY ({column}) REFERENCES {target.name} {clause}",
        )

    def make_index(self):
        result = self.table_and_column(ORDERED)
        if result:
            table, column = result
            expression = self.one(
                (column, f"({column}::text)", f"{column} DESC NULLS LAST", f"(lower({column}::text))")
            )
            where = f" WHERE {column} IS NOT NULL" if self.chance() else ""
            method = self.one(("btree", "btree", "hash", "brin"))
            unique = "UNIQUE " if method == "btree" and self.chance() else ""
            self.add(f"CREATE {unique}INDEX {self.name()} ON {table.name} USING {method} ({expression}){where}")
        result = self.table_and_column(("integer",))
        if result and self.chance(2):
            table, column = result
            self.add(f"CREATE INDEX {self.name()} ON {table.name} ({self.call(column + ' % 100')})")
        result = self.table_and_column(
            ("geometry", "geometry(PointZM,4326)", "geography(Point,4326)", "int4range", "point")
        )
        if result:
            self.add(f"CREATE INDEX {self.name()} ON {result[0].name} USING gist ({result[1]})")
        result = self.table_and_column(("jsonb", "text[]", "tsvector"))
        if result:
            self.add(f"CREATE INDEX {self.name()} ON {result[0].name} USING gin ({result[1]})")

    def make_check(self):
        result = self.table_and_column(("integer",))
        if result:
            table, column = result
            state = self.one(("", " NOT VALID"))
            self.add(
                f"ALTER TABLE {table.name} ADD CONSTRAINT {self.name()}"
                f" CHECK ({self.call(column + ' % 100')} IS DISTINCT FROM 77){state}"
            )

    def make_trigger(self):
        table, function, name = self.one(self.tables), self.place(), self.name()
        moment = self.one(
            (
                f"TRIGGER {name} BEFORE INSERT OR UPDATE ON {table.name} FOR EACH ROW",
                f"TRIGGER {name} AFTER DELETE ON {table.name} FOR EACH STATEMENT",
                f"CONSTRAINT TRIGGER {name} AFTER INSERT ON {table.name} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
            )
        )
        self.add(
            f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
            f"CREATE {moment} EXECUTE PROCEDURE {function}()",
        )
        state = self.one(("", "ENABLE ALWAYS", "ENABLE REPLICA", "DISABLE"))
        if state:
            self.add(f"ALTER TABLE {table.name} {state} TRIGGER {name}")

    def make_policy(self):
        table = self.one(self.tables)
        self.add(
            f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY {self.name()} ON {table.name} AS {self.one(('PERMISSIVE', 'RESTRICTIVE'))}"
            f" FOR {self.one(('ALL', 'SELECT'))} TO {self.role()}, PUBLIC USING (current_user <> 'x')",
        )
        if self.chance():
            self.add(f"ALTER TABLE {table.name} FORCE ROW LEVEL SECURITY")

    def make_view(self):
        table, name = self.one(self.tables), self.place()
        columns = ", ".join(table.columns) or "1 AS one"
        body = self.one(
            (
                f"SELECT {columns} FROM {table.name}",
                f"SELECT count(*) AS n, {self.call('3')} AS f FROM {table.name}",
                f"SELECT * FROM {table.name} UNION ALL SELECT * FROM {table.name}",
            )
        )
        kind = self.one(("VIEW", "MATERIALIZED VIEW", "VIEW"))
        options = " WITH (security_barrier)" if kind == "VIEW" and self.chance() else ""
        data = " WITH NO DATA" if kind != "VIEW" and self.chance(4) else ""
        self.add(f"CREATE {kind} {name}{options} AS {body}{data}")
        if kind == "VIEW" and self.chance(4):
            self.add(f"CREATE RULE {self.name()} AS ON INSERT TO {name} DO INSTEAD NOTHING")
        if self.chance(4):
            self.add(f"COMMENT ON {kind} {name} IS {self.text()}")

    def make_privileges(self):
        table, role = self.one(self.tables), self.role()
        self.add(f"GRANT {self.one(('SELECT', 'INSERT, UPDATE', 'ALL'))} ON {table.name} TO {role}")
        if table.columns and self.chance(2):
            self.add(f"GRANT SELECT ({self.one(table.columns)}) ON {table.name} TO {role} WITH GRANT OPTION")
        if self.chance():
            self.add(f"ALTER TABLE {table.name} OWNER TO {role}")
        if self.chance():
            self.add(f"ALTER DEFAULT PRIVILEGES IN SCHEMA {self.one(self.schemas)} GRANT SELECT ON TABLES TO {role}")

    def make_comment(self):
        table = self.one(self.tables)
        self.add(f"COMMENT ON TABLE {table.name} IS {self.text()}")
        for column in list(table.columns)[:1]:
            self.add(
                f"COMMENT ON COLUMN {table.name}.{column} IS {self.text()}",
                f"ALTER TABLE {table.name} ALTER COLUMN {column} SET STATISTICS 17",
            )

    def make_rarer(self):
        self.add(*self.one(rarer.KINDS)(self))


# Settings of a database, with the SQL of their values: those that change what is read, computed or printed.
SETTINGS = (
    ("TimeZone", "'Pacific/Chatham'"), ("DateStyle", "'German'"), ("IntervalStyle", "'iso_8601'"),
    ("lc_monetary", "'C'"), ("extra_float_digits", "-15"), ("bytea_output", "'escape'"),
    ("default_text_search_config", "'pg_catalog.french'"), ("statement_timeout", "'60s'"), ("search_path", "nowhere"),
    ("search_path", "\"$user\", public, \"a, b\""), ("default_transaction_isolation", "'serializable'"),
    ("default_transaction_read_only", "on"), ("default_transaction_deferrable", "on"), ("lock_timeout", "'10s'"),
    ("array_nulls", "off"), ("transform_null_equals", "on"), ("quote_all_identifiers", "on"),
    ("standard_conforming_strings", "off"), ("check_function_bodies", "off"), ("client_encoding", "'LATIN1'"),
    ("client_min_messages", "error"), ("xmloption", "document"), ("xmlbinary", "hex"), ("row_security", "off"),
    ("enable_seqscan", "off"), ("work_mem", "'64kB'"), ("constraint_exclusion", "on"), ("backslash_quote", "off"),
    ("session_replication_role", "replica"), ("site.\"Setting\"", "E'l''été\\n--'"), ("geqo", "off"),
)  # fmt: skip
_LATER = (
    "make_table", "make_table", "make_partitioned", "make_reference", "make_reference", "make_index", "make_index",
    "make_check", "make_trigger", "make_policy", "make_view", "make_view", "make_privileges", "make_comment",
    "make_rarer", "make_rarer", "make_rarer", "make_rarer", "make_rarer", "make_function", "make_type",
)  # fmt: skip


@st.composite
def databases(draw):
    """Strategy of a whole Database."""
    history = History(draw)
    for _ in range(draw(st.integers(0, 2))):
        history.make_schema()
    for kind in draw(st.lists(st.sampled_from(("make_type", "make_function")), max_size=4)):
        getattr(history, kind)()
    history.make_table()
    for kind in draw(st.lists(st.sampled_from(_LATER), min_size=2, max_size=16)):
        getattr(history, kind)()
    return Database(tuple(history.extensions), tuple(history.some(SETTINGS)), tuple(history.statements))


_RUN = 10  # Hypothesis varies what it has drawn before from its 11th example on: too much alike to count


def drawn(count, first_seed):
    """`count` different databases, drawn in short runs with the seeds from `first_seed` on."""
    collected = {}  # ordered
    while len(collected) < count:

        @seed(first_seed)
        @settings(
            max_examples=_RUN, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(databases())
        def draw(database):
            collected.setdefault(database)

        draw()
        first_seed += 1
    return list(collected)[:count]
