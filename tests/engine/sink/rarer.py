"""The rarer kinds of object that pg_dump knows, each as a function of a `History` that returns its SQL statements.

A kind that a server is too old for, or that does not fit the drawn table, is refused by the server and left out.
"""

from values import literal

# Routines


def routine(h):
    """Functions and procedures that nothing generated calls, for the ways in which they are declared."""
    place = h.place()
    return h.one(
        (
            (f"CREATE FUNCTION {place}(a int, b text DEFAULT {h.text()}, OUT c int, INOUT d int DEFAULT 3)"
             " LANGUAGE sql AS 'SELECT $1, $3'",),
            (f"CREATE FUNCTION {place}(VARIADIC a text[]) RETURNS TABLE (x int, {h.name()} text) LANGUAGE sql"
             " ROWS 3 SECURITY DEFINER SET search_path TO 'a b', \"C\", public SET work_mem TO '1MB'"
             " AS 'SELECT 1, $1[1]'",),
            (f"CREATE FUNCTION {place}(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT {h.call('a')}; END",),
            (f"CREATE FUNCTION {place}(anyelement, anyarray) RETURNS SETOF anyelement LANGUAGE sql"
             " AS 'SELECT $1 UNION ALL SELECT unnest($2)'",),
            (f"CREATE FUNCTION {place}(a int) RETURNS bigint LANGUAGE internal WINDOW AS 'window_row_number'",),
            (f"CREATE PROCEDURE {place}(INOUT a int, b text DEFAULT 'x') LANGUAGE plpgsql AS"
             f" {literal('BEGIN COMMIT; a := 2; -- é $$ $_$' + chr(10) + 'END')}",
             f"GRANT EXECUTE ON PROCEDURE {place}(int, text) TO {h.role()}"),
            (f"CREATE FUNCTION {place}({h.one(h.tables).name}) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'",),
            (f"CREATE FUNCTION {place}() RETURNS SETOF {h.one(h.tables).name} LANGUAGE sql AS"
             f" {literal('SELECT * FROM ' + h.one(h.tables).name)}",),
            (f"CREATE FUNCTION {place}(int) RETURNS int LANGUAGE plpgsql AS {literal('BEGIN RETURN nothing($1); END')}",
             f"ALTER FUNCTION {place}(int) OWNER TO {h.role()}",
             f"REVOKE ALL ON FUNCTION {place}(int) FROM PUBLIC"),
        )
    )  # fmt: skip


def aggregate(h):
    place = h.place()
    return h.one(
        (
            (f"CREATE AGGREGATE {place} (float8) (SFUNC = float8pl, STYPE = float8, INITCOND = '0', COMBINEFUNC ="
             " float8pl, PARALLEL = SAFE)", f"COMMENT ON AGGREGATE {place} (float8) IS {h.text()}"),
            (f"CREATE AGGREGATE {place} (float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE ="
             " internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA)",),
            (f"CREATE AGGREGATE {place} (VARIADIC \"any\" ORDER BY VARIADIC \"any\")"
             " (SFUNC = ordered_set_transition_multi, STYPE = internal, FINALFUNC = rank_final, FINALFUNC_EXTRA,"
             " HYPOTHETICAL)",),
            (f"CREATE AGGREGATE {place} (*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '0', MSFUNC = int8inc,"
             " MINVFUNC = int8dec, MSTYPE = bigint, MINITCOND = '0')",
             f"ALTER AGGREGATE {place} (*) OWNER TO {h.role()}"),
            (f"CREATE AGGREGATE {place} (integer) (SFUNC = int4smaller, STYPE = integer, SORTOP = <)",),
        )
    )  # fmt: skip


def operator(h):
    schema, name, symbol = h.one(h.schemas), h.name(), h.one(("===", "<@@>", "|-|", "~~~*"))
    table, column = h.table_and_column(("integer",)) or (None, None)
    index = (f"CREATE INDEX ON {table.name} ({column} {schema}.{name})",) if table else ()
    return h.one(
        (
            (f"CREATE OPERATOR {schema}.{symbol} (LEFTARG = int, RIGHTARG = int, PROCEDURE = int4eq, COMMUTATOR ="
             f" OPERATOR({schema}.{symbol}), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES)",
             f"COMMENT ON OPERATOR {schema}.{symbol} (int, int) IS {h.text()}"),
            (f"CREATE OPERATOR {schema}.{symbol} (RIGHTARG = int, PROCEDURE = int4um)",
             f"ALTER OPERATOR {schema}.{symbol} (NONE, int) OWNER TO {h.role()}"),
            (f"CREATE OPERATOR CLASS {schema}.{name} FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=,"
             " OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(int, int)", *index),
            (f"CREATE OPERATOR FAMILY {schema}.{name} USING hash",
             f"ALTER OPERATOR FAMILY {schema}.{name} USING hash ADD OPERATOR 1 =(int, bigint)"),
        )
    )  # fmt: skip


def cast(h):
    """A cast between text and a type of the database's own."""
    if not h.types:
        return ()
    type_, place = h.one(h.types), h.place()
    return h.one(
        (
            (f"CREATE CAST (text AS {type_}) WITH INOUT AS ASSIGNMENT",
             f"COMMENT ON CAST (text AS {type_}) IS {h.text()}"),
            (f"CREATE FUNCTION {place}(bigint) RETURNS {type_} LANGUAGE sql AS 'SELECT NULL::{type_}'"
             if "'" not in type_ else "SELECT 1", f"CREATE CAST (bigint AS {type_}) WITH FUNCTION {place}(bigint)"),
        )
    )  # fmt: skip


def language(h):
    """Languages, access methods and conversions, made of what the server has."""
    name = h.name()
    return h.one(
        (
            (f"CREATE TRUSTED LANGUAGE {name} HANDLER plpgsql_call_handler INLINE plpgsql_inline_handler VALIDATOR"
             " plpgsql_validator", f"GRANT USAGE ON LANGUAGE {name} TO {h.role()}",
             f"CREATE FUNCTION {h.place()}() RETURNS int LANGUAGE {name} AS 'BEGIN RETURN 1; END'"),
            (f"CREATE ACCESS METHOD {name} TYPE TABLE HANDLER heap_tableam_handler",
             f"CREATE TABLE {h.place()} USING {name} AS SELECT 1 AS a"),
            (f"CREATE CONVERSION {h.place()} FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1",),
            ("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC",),
        )
    )  # fmt: skip


def base_type(h):
    """A base type of the database's own, as extensions make them, with a table of it."""
    place = h.place()
    return (
        f"CREATE TYPE {place}",
        f"CREATE FUNCTION {place}(cstring) RETURNS {place} LANGUAGE internal IMMUTABLE STRICT AS 'textin'",
        f"CREATE FUNCTION {place}({place}) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout'",
        f"CREATE TYPE {place} (INPUT = {place}, OUTPUT = {place}, LIKE = text, DELIMITER = ';')",
        f"CREATE TABLE {h.place()} AS SELECT {h.text()}::{place} AS a, ARRAY[{h.text()}, 'b']::{place}[] AS b",
    )


# Text search and collations


def text_search(h):
    place, other = h.place(), h.place()
    return h.one(
        (
            (f"CREATE TEXT SEARCH CONFIGURATION {place} (COPY = french)",
             f"COMMENT ON TEXT SEARCH CONFIGURATION {place} IS {h.text()}"),
            (f"CREATE TEXT SEARCH DICTIONARY {other} (TEMPLATE = simple, ACCEPT = false)",
             f"CREATE TEXT SEARCH CONFIGURATION {place} (PARSER = default)",
             f"ALTER TEXT SEARCH CONFIGURATION {place} ADD MAPPING FOR word, asciiword WITH {other}, simple",
             f"ALTER TEXT SEARCH DICTIONARY {other} OWNER TO {h.role()}",
             f"CREATE MATERIALIZED VIEW {h.place()} AS"
             f" SELECT to_tsvector({literal(place)}::regconfig, 'les œuvres d''été') AS v"),
            (f"CREATE TEXT SEARCH TEMPLATE {place} (INIT = dsimple_init, LEXIZE = dsimple_lexize)",
             f"CREATE TEXT SEARCH DICTIONARY {other} (TEMPLATE = {place}, stopwords = 'french')"),
            (f"CREATE TEXT SEARCH PARSER {place} (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,"
             " LEXTYPES = prsd_lextype, HEADLINE = prsd_headline)",),
        )
    )  # fmt: skip


def collation(h):
    place, table = h.place(), h.place()
    result = h.one(
        (
            "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
            "(provider = icu, locale = 'fr-u-kf-upper')",
            "FROM \"C\"",
            "(provider = libc, locale = 'C.UTF-8')",
        )
    )  # fmt: skip
    return (
        f"CREATE COLLATION {place} {result}",
        f"CREATE DOMAIN {h.place()} AS text COLLATE {place}",
        f"CREATE TABLE {table} (a text COLLATE {place} PRIMARY KEY, b text)",
        f"INSERT INTO {table} VALUES ({h.text()}, {h.text()})",
        f"CREATE INDEX ON {table} (b COLLATE {place})",
    )


# What belongs to tables


def constraint(h):
    """Constraints on columns of their own, so that they fit any table."""
    table, column, other, name = h.one(h.tables).name, h.name(), h.name(), h.name()
    late = h.one(("", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"))
    return (
        f"ALTER TABLE {table} ADD COLUMN {column} int4range, ADD COLUMN {other} integer",
        f"UPDATE {table} SET {column} = '[1,3)' WHERE ctid = '(0,1)'",
        f"ALTER TABLE {table} "
        + h.one(
            (
                f"ADD CONSTRAINT {name} EXCLUDE USING gist ({column} WITH &&) {late}",
                f"ADD CONSTRAINT {name} EXCLUDE USING gist ({column} WITH &&, {other} WITH =) WHERE ({other} > 0)",
                f"ADD CONSTRAINT {name} EXCLUDE USING btree (({other} + 1) WITH =)",
                f"ADD CONSTRAINT {name} UNIQUE ({column}, {other}) {late}",
                f"ADD CONSTRAINT {name} UNIQUE ({other}) INCLUDE ({column}) WITH (fillfactor = 50)",
                f"ADD CONSTRAINT {name} UNIQUE NULLS NOT DISTINCT ({other}, {column})",
                f"ADD CONSTRAINT {name} CHECK ({other} > 0 OR {column} IS NOT NULL OR true) NO INHERIT",
                f"ALTER COLUMN {other} SET DEFAULT {h.call('1')}",
            )
        ),
        f"COMMENT ON CONSTRAINT {name} ON {table} IS {h.text()}",
    )


def storage(h):
    """How a table and its columns are stored, marked and watched."""
    table, column, index = h.one(h.tables).name, h.name(), h.name()
    schema = table[: table.index(".")] if table.startswith("public.") else None
    index_of = f"{schema}.{index}" if schema else index
    return (
        f"ALTER TABLE {table} ADD COLUMN {column} text",
        h.one(
            (
                f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE {h.one(('EXTERNAL', 'MAIN', 'PLAIN'))}",
                f"ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION pglz",
                f"ALTER TABLE {table} ALTER COLUMN {column} SET (n_distinct = -0.5, n_distinct_inherited = 7)",
                f"ALTER TABLE {table} SET (toast.autovacuum_enabled = off, parallel_workers = 3)",
                f"ALTER TABLE {table} SET UNLOGGED",
            )
        ),
        f"CREATE UNIQUE INDEX {index} ON {table} ({column} text_pattern_ops) WITH (fillfactor = 60)",
        h.one(
            (
                f"ALTER TABLE {table} CLUSTER ON {index}",
                f"ALTER TABLE {table} REPLICA IDENTITY {h.one(('FULL', 'NOTHING'))}",
                f"ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL",
                f"ALTER TABLE {table} REPLICA IDENTITY USING INDEX {index}",
                f"ALTER INDEX {index_of} SET (fillfactor = 90)",
            )
        ),
        f"COMMENT ON INDEX {index_of} IS {h.text()}",
    )


def statistics(h):
    place, table = h.place(), h.one(h.tables)
    columns = list(table.columns)[:2]
    if len(columns) < 2:
        return ()
    return (
        h.one(
            (
                f"CREATE STATISTICS {place} (ndistinct, mcv) ON {', '.join(columns)} FROM {table.name}",
                f"CREATE STATISTICS {place} ON ({columns[0]}::text || 'x'), {columns[1]} FROM {table.name}",
                f"CREATE STATISTICS {place} (dependencies) ON {', '.join(columns)} FROM {table.name}",
            )
        ),
        f"ALTER STATISTICS {place} SET STATISTICS 55",
        f"COMMENT ON STATISTICS {place} IS {h.text()}",
    )


def row_type(h):
    """Tables whose columns are of other tables' types, typed tables, and functions that read whole rows."""
    table, other, place = h.one(h.tables).name, h.place(), h.place()
    type_ = h.one(h.types) if h.types else "integer"
    return h.one(
        (
            (f"CREATE TABLE {other} (a {table}, b {table}[])",
             f"INSERT INTO {other} SELECT t, ARRAY[t, NULL] FROM ONLY {table} t LIMIT 2"),
            (f"CREATE TABLE {other} (LIKE {table} INCLUDING ALL)", f"INSERT INTO {other} SELECT * FROM ONLY {table}"),
            (f"CREATE TABLE {other} OF {type_}"),
            (f"CREATE TYPE {place} AS (a int, b {type_}, \"c d\" {table})",
             f"CREATE TABLE {other} OF {place} (a WITH OPTIONS PRIMARY KEY DEFAULT 3)",
             f"INSERT INTO {other} (b) VALUES (NULL)"),
            (f"CREATE FUNCTION {place}(t {table}) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 IS NOT NULL'",
             f"ALTER TABLE {table} ADD CHECK ({place}({table.split('.', 1)[1]}.*) IS NOT NULL)"),
            (f"CREATE TABLE {other} AS SELECT t.* FROM {table} t WITH NO DATA",
             f"ALTER TABLE {other} INHERIT {table}"),
        )
    )  # fmt: skip


def sequence(h):
    place, table = h.place(), h.one(h.tables)
    name = literal(place)
    return h.one(
        (
            (f"CREATE SEQUENCE {place} INCREMENT -3 MINVALUE -100 MAXVALUE -1 CYCLE", f"SELECT nextval({name})"),
            (f"CREATE SEQUENCE {place} AS smallint START 5 CACHE 20", f"SELECT setval({name}, 9, false)",
             f"COMMENT ON SEQUENCE {place} IS {h.text()}"),
            (f"CREATE SEQUENCE {place} MAXVALUE 9223372036854775807", f"SELECT setval({name}, 9223372036854775807)",
             f"GRANT USAGE, SELECT ON SEQUENCE {place} TO {h.role()}"),
            (f"CREATE SEQUENCE {place}",
             *(f"ALTER SEQUENCE {place} OWNED BY {table.name}.{column}" for column in list(table.columns)[:1]),
             f"ALTER TABLE {table.name} ADD COLUMN {h.name()} bigint DEFAULT nextval({name})"),
            (f"CREATE UNLOGGED SEQUENCE {place}", f"SELECT nextval({name})"),
        )
    )  # fmt: skip


def trigger(h):
    """Triggers with conditions, columns, arguments and transition tables; rules on tables."""
    table, function, name = h.one(h.tables), h.place(), h.name()
    column = h.one(table.columns) if table.columns else "ctid"
    result = h.one(
        (
            f"TRIGGER {name} BEFORE UPDATE OF {column} ON {table.name} FOR EACH ROW"
            f" WHEN (old.{column} IS DISTINCT FROM new.{column} AND {h.call('3')} > 0)"
            f" EXECUTE FUNCTION {function}('a''b', {literal('é' + chr(10))}, '\\')",
            f'TRIGGER {name} AFTER UPDATE ON {table.name} REFERENCING OLD TABLE AS "o d" NEW TABLE AS n'
            f" FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
            f"TRIGGER {name} AFTER TRUNCATE ON {table.name} EXECUTE FUNCTION {function}()",
            f"RULE {name} AS ON UPDATE TO {table.name} WHERE {h.call('1')} = 0 DO ALSO (SELECT 1; NOTIFY {name})",
            f"RULE {name} AS ON DELETE TO {table.name} DO INSTEAD SELECT {h.call('2')}",
        )
    )
    word = result.split()[0]
    state = h.one(("", "ENABLE ALWAYS", "ENABLE REPLICA", "DISABLE"))
    return (
        f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(new, old); END'",
        f"CREATE {result}",
        f"COMMENT ON {word} {name} ON {table.name} IS {h.text()}",
        *((f"ALTER TABLE {table.name} {state} {word} {name}",) if state else ()),
    )


def policy(h):
    table, other, name = h.one(h.tables).name, h.one(h.tables).name, h.name()
    result = h.one(
        (
            f"FOR INSERT TO {h.role()} WITH CHECK ({h.call('1')} > 0)",
            f"FOR UPDATE USING (EXISTS (SELECT FROM {other})) WITH CHECK (true)",
            "AS RESTRICTIVE FOR DELETE USING (false)",
        )
    )
    return (
        f"CREATE POLICY {name} ON {table} {result}",
        f"ALTER TABLE {table} {h.one(('ENABLE', 'DISABLE', 'FORCE'))} ROW LEVEL SECURITY",
        f"COMMENT ON POLICY {name} ON {table} IS {h.text()}",
    )


def orphan(h):
    """Rows that break a foreign key, as imports with disabled triggers leave them: it cannot be made as it stands."""
    parent, child, key, name = h.place(), h.place(), h.name(), h.name()
    existing = h.one(h.tables).name
    reference = f"CONSTRAINT {name} FOREIGN KEY ({key}) REFERENCES {parent}"
    simple = f"CREATE TABLE {parent} ({key} text PRIMARY KEY, b int)", f"INSERT INTO {parent} VALUES ('a', 1), ('b', 2)"
    tables, table, constraint, broken = h.one(
        (
            ((*simple, f"CREATE TABLE {child} (a int, {key} text DEFAULT 'a')", f"INSERT INTO {child} VALUES (1)"),
             child, reference, f"INSERT INTO {child} VALUES (2, {h.text()}), (3, NULL), (4, 'a')"),
            ((*simple, f"ALTER TABLE {existing} ADD COLUMN {key} text", f"UPDATE {existing} SET {key} = 'a'"),
             existing, reference, f"UPDATE ONLY {existing} SET {key} = {h.text()}"),
            ((f"CREATE TABLE {parent} (a int, {key} text, UNIQUE ({key}, a))",
              f"INSERT INTO {parent} VALUES (1, 'a')", f"CREATE TABLE {child} (a int, {key} text)",
              f"INSERT INTO {child} VALUES (1, 'a')"),
             child, f"CONSTRAINT {name} FOREIGN KEY (a, {key}) REFERENCES {parent} (a, {key}) MATCH FULL",
             f"INSERT INTO {child} VALUES (1, 'a'), (1, NULL), (NULL, NULL)"),
            ((f"CREATE TABLE {parent} ({key} int PRIMARY KEY, up int)",
              f"INSERT INTO {parent} VALUES (1, NULL), (4, 1)"),
             parent, f"CONSTRAINT {name} FOREIGN KEY (up) REFERENCES {parent}",
             f"INSERT INTO {parent} VALUES (2, 99), (3, 2)"),
            ((*simple, f"CREATE TABLE {child} (a int, {key} text) PARTITION BY LIST (a)",
              f"CREATE TABLE {h.place()} PARTITION OF {child} FOR VALUES IN (1)",
              f"CREATE TABLE {h.place()} PARTITION OF {child} DEFAULT",
              f"INSERT INTO {child} VALUES (1, 'a'), (3, NULL)"),
             child, reference, f"INSERT INTO {child} VALUES (2, {h.text()})"),
            ((f"CREATE TABLE {parent} ({key} int PRIMARY KEY) PARTITION BY RANGE ({key})",
              f"CREATE TABLE {h.place()} PARTITION OF {parent} FOR VALUES FROM (0) TO (10)",
              f"INSERT INTO {parent} VALUES (1)", f"CREATE TABLE {child} ({key} int)",
              f"INSERT INTO {child} VALUES (1)"),
             child, reference, f"INSERT INTO {child} VALUES (2)"),
        )
    )  # fmt: skip
    clause = h.one(("", "ON DELETE CASCADE", "DEFERRABLE INITIALLY DEFERRED", "ON UPDATE SET NULL"))
    make = f"ALTER TABLE {table} ADD {constraint} {clause}"
    comment = (f"COMMENT ON CONSTRAINT {name} ON {table} IS {h.text()}",) if h.chance() else ()
    way = h.one(("replica", "disabled", "left disabled", "parent", "invalid"))
    if way == "invalid":
        return (*tables, broken, f"{make} NOT VALID", *comment)
    if way == "replica":
        return (
            *tables, make, "SET session_replication_role TO replica", broken, "RESET session_replication_role", *comment
        )  # fmt: skip
    if way == "parent":
        return (
            *tables, make, f"ALTER TABLE {parent} DISABLE TRIGGER ALL",
            f"DELETE FROM {parent} WHERE {key}::text IN ('a', '1')", f"ALTER TABLE {parent} ENABLE TRIGGER ALL",
            *comment,
        )  # fmt: skip
    enable = (f"ALTER TABLE {table} ENABLE TRIGGER ALL",) if way == "disabled" else ()
    return (*tables, make, f"ALTER TABLE {table} DISABLE TRIGGER ALL", broken, *enable, *comment)


# Partitions


def partition(h):
    """Partitions of partitions, keys and references of partitioned tables, keys that are expressions."""
    root, part, leaf, name = h.place(), h.place(), h.place(), h.name()
    way = h.one(("LIST (a)", "RANGE (a, b)", "HASH (b)", "LIST ((a % 2))", "RANGE (lower(b))"))
    bound = {
        "LIST (a)": "FOR VALUES IN (1, 2, NULL)",
        "RANGE (a, b)": "FOR VALUES FROM (MINVALUE, MINVALUE) TO (3, 'é''x')",
        "HASH (b)": "FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "LIST ((a % 2))": "FOR VALUES IN (0)",
        "RANGE (lower(b))": "FOR VALUES FROM ('a') TO (MAXVALUE)",
    }[way]
    more = h.one(
        (
            (f"ALTER TABLE {root} ADD CONSTRAINT {name} PRIMARY KEY (a, b)",
             f"CREATE TABLE {h.place()} (a int, b text, FOREIGN KEY (a, b) REFERENCES {root} DEFERRABLE)"),
            (f"CREATE INDEX {name} ON ONLY {root} (b)", f"CREATE INDEX ON {leaf} (b DESC)"),
            (f"CREATE UNIQUE INDEX {name} ON {root} (a, b)", f"ALTER TABLE {leaf} ADD CHECK (a > -5)"),
            (f"ALTER TABLE {leaf} ALTER b SET DEFAULT 'leaf'", f"COMMENT ON TABLE {part} IS {h.text()}"),
            (f"ALTER TABLE {root} DETACH PARTITION {part}",),
            (f"GRANT SELECT ON {leaf} TO {h.role()}", f"ALTER TABLE {part} OWNER TO {h.role()}"),
            (f"CREATE FUNCTION {h.place()}() RETURNS int LANGUAGE sql AS 'SELECT 1'",
             f"ALTER TABLE {root} ADD COLUMN {name} int DEFAULT 4, DROP COLUMN IF EXISTS gone",
             f"ALTER TABLE {leaf} SET (fillfactor = 33)"),
        )
    )  # fmt: skip
    return (
        f"CREATE TABLE {root} (gone int, a int, b text DEFAULT 'root', c bigint GENERATED ALWAYS AS (a * 2) STORED)"
        f" PARTITION BY {way}",
        f"ALTER TABLE {root} DROP COLUMN gone",
        f"CREATE TABLE {part} PARTITION OF {root} {bound} PARTITION BY RANGE (a)",
        f"CREATE TABLE {leaf} PARTITION OF {part} (b NOT NULL) FOR VALUES FROM (-10) TO (10)",
        f"CREATE TABLE {h.place()} PARTITION OF {part} DEFAULT",
        *(f"INSERT INTO {root} VALUES ({number}, {h.text()})" for number in (1, 2, 0)),
        *more,
    )


# Views


def view(h):
    """Views beyond a plain SELECT: checked, recursive, on others, by the key of a group, with defaults and triggers."""
    keyed = [table for table in h.tables if table.key] or h.tables
    table, place, other = h.one(keyed), h.place(), h.place()
    first = next(iter(table.columns), None) or "ctid"
    return h.one(
        (
            (f"CREATE VIEW {place} AS SELECT {first} FROM {table.name} WHERE {first} IS NOT NULL WITH"
             f" {h.one(('LOCAL', 'CASCADED'))} CHECK OPTION",),
            (f"CREATE VIEW {place} WITH (security_invoker) AS SELECT 1 AS {h.name()}",
             f"GRANT SELECT ON {place} TO {h.role()}"),
            (f"CREATE RECURSIVE VIEW {place} (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM"
             f" {place.split('.', 1)[1]} WHERE n < 3",),
            # Needs the key, which is made after the data: pg_dump writes a stand-in first.
            (f"CREATE VIEW {place} AS SELECT t.* FROM {table.name} t GROUP BY t.{table.key or first}",
             f"CREATE MATERIALIZED VIEW {other} AS SELECT count(*) AS n FROM {place}",
             f"CREATE VIEW {h.place()} AS SELECT n FROM {other}"),
            (f"CREATE VIEW {place} AS SELECT 1 AS a, 'x'::text AS b", f"ALTER VIEW {place} ALTER a SET DEFAULT 5",
             f"CREATE FUNCTION {other}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
             f"CREATE TRIGGER {h.name()} INSTEAD OF INSERT ON {place} FOR EACH ROW EXECUTE FUNCTION {other}()",
             f"COMMENT ON COLUMN {place}.b IS {h.text()}"),
            (f"CREATE MATERIALIZED VIEW {place} WITH (fillfactor = 40) AS SELECT n, {h.call('n')} AS f FROM"
             " generate_series(1, 5) n",
             f"CREATE UNIQUE INDEX ON {place} (n)", f"CREATE MATERIALIZED VIEW {other} AS SELECT max(f) FROM {place}",
             f"ALTER MATERIALIZED VIEW {other} OWNER TO {h.role()}"),
            (f"CREATE VIEW {place} AS SELECT a.{first} AS {h.name()}, row_number() OVER (ORDER BY b.ctid) AS"
             f" {h.name()} FROM {table.name} a LEFT JOIN {table.name} b USING ({first}) ORDER BY 2 LIMIT 3",),
            (f"CREATE VIEW {place} AS SELECT t AS whole, (t).* FROM {table.name} t",
             f"CREATE VIEW {other} AS SELECT whole FROM {place}"),
            # Two views of one another, which only replacing can make.
            (f"CREATE VIEW {place} AS SELECT 1 AS a", f"CREATE VIEW {other} AS SELECT a FROM {place}",
             f"CREATE OR REPLACE VIEW {place} AS SELECT a FROM {other} WHERE false"),
        )
    )  # fmt: skip


# What is outside of schemas


def foreign(h):
    name, place, root = h.name(), h.place(), h.place()
    wrapper = h.one(("postgres_fdw", "file_fdw"))
    options = "(filename '/nowhere')" if wrapper == "file_fdw" else "(schema_name 'x', table_name 'y''z')"
    return (
        f"CREATE EXTENSION {wrapper}",
        f"CREATE SERVER {name} VERSION '1''' FOREIGN DATA WRAPPER {wrapper}",
        f"ALTER SERVER {name} OPTIONS (host '127.0.0.1', port '1')" if wrapper == "postgres_fdw" else "SELECT 1",
        f"CREATE USER MAPPING FOR {h.role()} SERVER {name}"
        + (f" OPTIONS (user 'x', password {h.text()})" if wrapper == "postgres_fdw" else ""),
        f"CREATE FOREIGN TABLE {place} (a int NOT NULL DEFAULT 3, b text CHECK (b <> '')) SERVER {name}"
        f" OPTIONS {options}",
        f"GRANT USAGE ON FOREIGN SERVER {name} TO {h.role()}",
        f"COMMENT ON FOREIGN TABLE {place} IS {h.text()}",
        *h.one(
            (
                (),
                (f"CREATE TABLE {root} (a int, b text) PARTITION BY LIST (a)",
                 f"CREATE TABLE {h.place()} PARTITION OF {root} FOR VALUES IN (1)",
                 f"INSERT INTO {root} VALUES (1, {h.text()})",
                 f"CREATE FOREIGN TABLE {h.place()} PARTITION OF {root} FOR VALUES IN (99) SERVER {name}"
                 f" OPTIONS {options}"),
                (f"CREATE FOREIGN TABLE {h.place()} () INHERITS ({h.one(h.tables).name}) SERVER {name}"
                 f" OPTIONS {options}",),
                (f"CREATE VIEW {h.place()} AS SELECT * FROM {place}",
                 f"CREATE MATERIALIZED VIEW {h.place()} AS SELECT a FROM {place} WITH NO DATA"),
            )
        ),
    )  # fmt: skip


def wrapper(h):
    name = h.name()
    return (
        f'CREATE FOREIGN DATA WRAPPER {name} OPTIONS ("a b" {h.text()})',
        f"CREATE SERVER {name} TYPE 't' FOREIGN DATA WRAPPER {name}",
        f'CREATE USER MAPPING FOR PUBLIC SERVER {name} OPTIONS ("user" {h.text()})',
        f"CREATE FOREIGN TABLE {h.place()} (a int OPTIONS (n 'b')) SERVER {name}",
        f"GRANT USAGE ON FOREIGN DATA WRAPPER {name} TO {h.role()}",
        f"ALTER SERVER {name} OWNER TO {h.role()}",
    )


def replication(h):
    name, table = h.name(), h.one(h.tables)
    result = h.one(
        (
            f"PUBLICATION {name} FOR TABLE {table.name}",
            f"PUBLICATION {name} FOR ALL TABLES WITH (publish = 'insert, truncate')",
            f"PUBLICATION {name} WITH (publish_via_partition_root)",
            f"PUBLICATION {name} FOR TABLES IN SCHEMA {h.one(h.schemas)}",
            f"PUBLICATION {name} FOR TABLE {table.name} WHERE ({h.call('1')} > 0)",
            *(f"PUBLICATION {name} FOR TABLE {table.name} ({column})" for column in list(table.columns)[:1]),
            f"SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 dbname=x password=y' PUBLICATION {h.name()}, b WITH"
            " (connect = false, slot_name = NONE)",
        )
    )
    word = result.split()[0]
    return f"CREATE {result}", f"COMMENT ON {word} {name} IS {h.text()}", f"ALTER {word} {name} OWNER TO {h.role()}"


def event_trigger(h):
    name, function = h.name(), h.place()
    result = h.one(
        ("ddl_command_end", "ddl_command_start WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE')", "sql_drop",
         "table_rewrite")
    )  # fmt: skip
    state = h.one(("ENABLE", "ENABLE ALWAYS", "ENABLE REPLICA", "DISABLE"))
    return (
        f"CREATE FUNCTION {function}() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''x''; END'",
        f"CREATE EVENT TRIGGER {name} ON {result} EXECUTE PROCEDURE {function}()",
        f"ALTER EVENT TRIGGER {name} {state}",
        f"COMMENT ON EVENT TRIGGER {name} IS {h.text()}",
    )


def large_object(h):
    h.count += 1
    number = h.count + 90000
    content = h.one(("'\\x00ff5c0a'::bytea", "''::bytea", "convert_to(repeat('é', 3000), 'UTF8')"))
    return (
        f"SELECT lo_from_bytea({number}, {content})",
        h.one(
            (
                f"COMMENT ON LARGE OBJECT {number} IS {h.text()}",
                f"GRANT SELECT ON LARGE OBJECT {number} TO {h.role()}",
                f"ALTER LARGE OBJECT {number} OWNER TO {h.role()}",
                f"SELECT lo_put({number}, 9000, '\\x01'::bytea)",
            )
        ),
    )


def privilege(h):
    """Grants and default privileges on all that can have them; catalogs and extensions among them."""
    role, other, schema = h.role(), h.role(), h.one(h.schemas)
    type_ = h.one(h.types) if h.types else "nothing"
    function = "{}.{}(integer)".format(*h.one(h.functions)) if h.functions else "nothing()"
    table = h.one(h.tables).name
    return h.one(
        (
            (f"GRANT USAGE ON TYPE {type_} TO {role}", f"REVOKE USAGE ON TYPE {type_} FROM PUBLIC"),
            (f"GRANT EXECUTE ON FUNCTION {function} TO {role} WITH GRANT OPTION",),
            (f"REVOKE ALL ON {table} FROM CURRENT_USER", f"GRANT SELECT ON {table} TO PUBLIC"),
            (f"GRANT ALL ON {table} TO {role} WITH GRANT OPTION", f"SET ROLE {role}",
             f"GRANT SELECT, TRIGGER ON {table} TO {other}", "RESET ROLE"),
            (f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
             f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} IN SCHEMA {schema} GRANT ALL ON SEQUENCES TO {other}"),
            ("ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC",
             f"ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {role}"),
            ("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC",
             f"GRANT SELECT ON pg_catalog.pg_authid TO {role}",
             f"GRANT SELECT (rolname) ON pg_catalog.pg_authid TO {other}"),
            ("REVOKE ALL ON SCHEMA public FROM PUBLIC", f"GRANT CREATE ON SCHEMA public TO {role}"),
            (f"ALTER SCHEMA {schema} OWNER TO {role}", f"COMMENT ON SCHEMA {schema} IS {h.text()}"),
            (f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
             f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC"),
            (f"GRANT UPDATE ON public.spatial_ref_sys TO {role}",),
            ("REVOKE EXECUTE ON FUNCTION public.unaccent(text) FROM PUBLIC",),
        )
    )  # fmt: skip


def extension(h):
    """Extensions in a schema of their own, and what uses them."""
    schema, name = h.name(), h.place()
    return (
        f"CREATE SCHEMA {schema}",
        *h.one(
            (
                (f"CREATE EXTENSION pg_trgm SCHEMA {schema}", f"CREATE TABLE {name} (a text)",
                 f"INSERT INTO {name} VALUES ({h.text()})",
                 f"CREATE INDEX ON {name} USING gin (a {schema}.gin_trgm_ops)"),
                (f"CREATE EXTENSION hstore SCHEMA {schema}",
                 f"CREATE TABLE {name} (a {schema}.hstore, b {schema}.hstore[])",
                 f"INSERT INTO {name} VALUES ('a=>\"b c\"', '{{a=>1}}')", f"CREATE INDEX ON {name} USING gist (a)"),
                (f"CREATE EXTENSION citext SCHEMA {schema}",
                 f"CREATE TABLE {name} (a {schema}.citext PRIMARY KEY, CHECK (a OPERATOR({schema}.<>) 'Z'))",
                 f"INSERT INTO {name} VALUES ({h.text()})"),
                (f"CREATE EXTENSION unaccent SCHEMA {schema}",
                 f"CREATE MATERIALIZED VIEW {name} AS SELECT {schema}.unaccent('été') AS a"),
                (f"CREATE EXTENSION ltree SCHEMA {schema}", f"CREATE TABLE {name} (a {schema}.ltree)",
                 f"INSERT INTO {name} VALUES ('a.b')", f"CREATE INDEX ON {name} USING gist (a)"),
                (f"CREATE EXTENSION intarray SCHEMA {schema}", f"CREATE TABLE {name} (a int[])",
                 f"CREATE INDEX ON {name} USING gin (a {schema}.gin__int_ops)",
                 f"COMMENT ON EXTENSION intarray IS {h.text()}"),
            )
        ),
    )  # fmt: skip


KINDS = (
    routine, routine, aggregate, operator, cast, language, base_type, text_search, collation, constraint, constraint,
    orphan, orphan, storage, statistics, row_type, row_type, sequence, sequence, trigger, trigger, policy, partition,
    partition, view, view, view, foreign, wrapper, replication, event_trigger, large_object, privilege, privilege,
    extension,
)  # fmt: skip
