"""A small site with every sort of object, as SQL that each major version of PostgreSQL understands, from 9.6 on."""

OWNER, READER = "Mäjor's owner", "majors_reader"

ROLES = f"""
CREATE ROLE "{OWNER}" LOGIN;
CREATE ROLE {READER} NOLOGIN;
"""

# The same on every version, so that its fingerprint is the same too.
COMMON = f"""
CREATE SCHEMA ext;
CREATE EXTENSION hstore SCHEMA ext;
CREATE EXTENSION citext SCHEMA ext;
CREATE EXTENSION pg_trgm SCHEMA ext;
CREATE EXTENSION btree_gist SCHEMA ext;
CREATE EXTENSION postgres_fdw SCHEMA ext;
CREATE SCHEMA "Géo ""x"" y" AUTHORIZATION "{OWNER}";
CREATE TYPE mood AS ENUM ('bad', 'l''été', 'good');
CREATE TYPE pair AS (a int, b text);
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN postcode AS text CHECK (VALUE ~ '^\\d{{5}}$');
CREATE SEQUENCE "Géo ""x"" y".steps INCREMENT 5 START 10 CACHE 1;
SELECT nextval('"Géo ""x"" y".steps'), nextval('"Géo ""x"" y".steps');
CREATE TABLE values_of_all (
    id bigserial PRIMARY KEY, title varchar(80) NOT NULL, body text, at timestamptz, day date, clock time, gap interval,
    score float8, half float4, amount numeric(20, 6), flag boolean, tags text[], raw bytea, document jsonb, source json,
    page xml, price money, address inet, network cidr, mac macaddr, uid uuid, bits bit varying(9), place point,
    area box, words tsvector, kind mood, both_of pair, reach span, ints int4range, zip postcode, more ext.hstore,
    mail ext.citext, "char" "char", "Étrange "" nom" text COLLATE "C"
);
INSERT INTO values_of_all (title, body, at, day, clock, gap, score, half, amount, flag, tags, raw, document, source,
    page, price, address, network, mac, uid, bits, place, area, words, kind, both_of, reach, ints, zip, more, mail,
    "char", "Étrange "" nom")
SELECT 'Titre ' || i, repeat(md5(i::text), 90), timestamptz '2024-02-29 23:30+01' + i * interval '1 h',
    date '2024-02-29' + i, time '10:00' + i * interval '1 s', i * interval '1 day 3 h', 1.0 / i, 1.0 / i, 1000000.0 / i,
    i % 2 = 0, ARRAY['a', NULL, 'ç"', i::text], decode(md5(i::text), 'hex'), jsonb_build_object('n', i, 'é', NULL),
    ('{{"n": ' || i || ', "n": 0}}')::json, ('<a>' || i || '</a>')::xml, (i * 3)::money, ('10.0.0.' || i % 200)::inet,
    '10.1.0.0/16', '08:00:2b:01:02:03', md5(i::text)::uuid, B'101', point(i, 0.1 * i), box(point(0, 0), point(i, 2)),
    to_tsvector('simple', 'mot ' || i), 'l''été', ROW(i, 'x'::text)::pair, span(0.5, i + 1.5), int4range(i, i + 9),
    lpad(i::text, 5, '0'), ext.hstore('k', i::text), 'Moi@' || i, 'x', 'é' || i
FROM generate_series(1, 300) AS i;
INSERT INTO values_of_all (title, at, day, score, half, amount) VALUES
    ('edges', 'infinity', '-infinity', 'NaN', '-Infinity', 'NaN'),
    ('old', '0044-03-15 12:00+00 BC', '4713-01-01 BC', -0.0, 0, 0);
CREATE UNIQUE INDEX ON values_of_all (lower(title), id) WHERE flag;
CREATE INDEX ON values_of_all USING gin (document);
CREATE INDEX by_trigram ON values_of_all USING gin (body ext.gin_trgm_ops);
CREATE INDEX ON values_of_all USING brin (at);
CREATE INDEX ON values_of_all USING hash (uid);
ALTER TABLE values_of_all CLUSTER ON values_of_all_pkey;
ALTER TABLE values_of_all ALTER body SET STORAGE EXTERNAL, ALTER title SET STATISTICS 77;
CREATE TABLE "Géo ""x"" y"."-Table 'é' $(id)" (
    "Colonne -- %s" text, x int REFERENCES values_of_all (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
    during tsrange, CONSTRAINT "pas deux" EXCLUDE USING gist (x WITH =, during WITH &&), CHECK (x <> 13)
);
INSERT INTO "Géo ""x"" y"."-Table 'é' $(id)" VALUES
    (E'a\\nb\\t\\\\.', 1, '[2024-01-01, 2024-01-02)'), ('', NULL, NULL), (NULL, 2, 'empty');
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE "Géo ""x"" y"."-Table 'é' $(id)" OWNER TO "{OWNER}";
CREATE TABLE parent (a int, b int DEFAULT 7); CREATE TABLE heir (own text) INHERITS (parent);
INSERT INTO parent VALUES (1, 2); INSERT INTO heir VALUES (3, 4, 'x');
CREATE UNLOGGED TABLE unlogged (a int); INSERT INTO unlogged VALUES (1);
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE with_gap (a int, gap int, c int);
INSERT INTO with_gap VALUES (1, 2, 3); ALTER TABLE with_gap DROP COLUMN gap;
CREATE TABLE log (what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO log VALUES (TG_OP); RETURN NEW; END$$;
CREATE TRIGGER noted AFTER INSERT OR UPDATE ON parent FOR EACH ROW EXECUTE PROCEDURE note();
ALTER TABLE parent DISABLE TRIGGER noted;
CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT 2 * x';
CREATE INDEX ON parent (twice(a));
CREATE FUNCTION worst(mood, mood) RETURNS mood LANGUAGE sql IMMUTABLE AS 'SELECT least($1, $2)';
CREATE AGGREGATE worst_of (mood) (SFUNC = worst, STYPE = mood, INITCOND = 'good');
CREATE FUNCTION as_pair(int) RETURNS pair LANGUAGE sql AS 'SELECT ROW($1, ''cast'')::pair';
CREATE CAST (int AS pair) WITH FUNCTION as_pair(int);
CREATE TEXT SEARCH CONFIGURATION ours (COPY = simple);
CREATE VIEW titles WITH (security_barrier) AS SELECT id, title FROM values_of_all WHERE flag;
CREATE VIEW counted AS SELECT kind, count(*) AS n FROM values_of_all GROUP BY kind;
CREATE MATERIALIZED VIEW filled AS SELECT count(*) AS n FROM values_of_all; CREATE UNIQUE INDEX ON filled (n);
CREATE MATERIALIZED VIEW hollow AS SELECT 1 AS one WITH NO DATA;
CREATE RULE quiet AS ON INSERT TO titles DO INSTEAD NOTHING;
ALTER TABLE parent ENABLE ROW LEVEL SECURITY;
CREATE POLICY small ON parent FOR SELECT TO {READER} USING (a < 10);
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1');
CREATE USER MAPPING FOR {READER} SERVER elsewhere OPTIONS (user 'nobody');
CREATE FOREIGN TABLE remote (a int) SERVER elsewhere OPTIONS (table_name 'far');
COMMENT ON TABLE values_of_all IS 'it''s \\ é'; COMMENT ON COLUMN values_of_all.kind IS 'mood';
GRANT SELECT (id, title), UPDATE (body) ON values_of_all TO {READER}; GRANT SELECT ON titles TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA "Géo ""x"" y" GRANT SELECT ON TABLES TO {READER};
SELECT lo_from_bytea(4242, repeat('x', 30000)::bytea), lo_create(4243); COMMENT ON LARGE OBJECT 4242 IS 'large';
"""

# What every version has, and today's pg_dump writes in words that came with 10 and 11.
RENAMED = (
    'CREATE COLLATION bytes FROM "C";',
    "CREATE OPERATOR <<<>>> (LEFTARG = mood, RIGHTARG = mood, PROCEDURE = worst);"
    "CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
    "CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE PROCEDURE watch();",
)

# (first version that has it, SQL)
LATER = (
    (100000, RENAMED[0]),
    (110000, RENAMED[1]),
    (
        100000,
        "CREATE TABLE parts (day date, n int GENERATED ALWAYS AS IDENTITY (START 5)) PARTITION BY RANGE (day);"
        "CREATE TABLE parts_old PARTITION OF parts FOR VALUES FROM (MINVALUE) TO ('2024-01-01');"
        "CREATE TABLE parts_new PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO (MAXVALUE);"
        "INSERT INTO parts (day) SELECT date '2023-12-30' + i FROM generate_series(1, 5) i;"
        "CREATE STATISTICS together (dependencies) ON flag, kind FROM values_of_all;"
        "CREATE PUBLICATION logged FOR TABLE log;",
    ),
    (
        110000,
        "CREATE PROCEDURE tidy() LANGUAGE sql AS 'DELETE FROM log'; CREATE INDEX ON log (what) INCLUDE (what);"
        "CREATE TABLE hashed (a int PRIMARY KEY) PARTITION BY HASH (a);"
        "CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
        "INSERT INTO hashed SELECT generate_series(1, 20);",
    ),
    (
        120000,
        "CREATE TABLE computed (a int, b int GENERATED ALWAYS AS (a * 2) STORED);INSERT INTO computed VALUES (1), (2);",
    ),
    (140000, "CREATE TABLE several (r int4multirange); INSERT INTO several VALUES ('{[1,2),[5,9)}');"),
    (
        150000,
        "CREATE TABLE once (a int, UNIQUE NULLS NOT DISTINCT (a)); INSERT INTO once VALUES (NULL);"
        "CREATE VIEW as_caller WITH (security_invoker) AS SELECT * FROM once;",
    ),
    (160000, "CREATE TABLE bases (a int DEFAULT 0x1F); INSERT INTO bases VALUES (DEFAULT), (0o17);"),
    (
        170000,
        "CREATE VIEW from_json AS SELECT * FROM JSON_TABLE('[{\"a\": 1}]'::jsonb, '$[*]' COLUMNS (a int PATH '$.a'));",
    ),
    (
        180000,
        "CREATE TABLE derived (a int, b int GENERATED ALWAYS AS (a + 1) VIRTUAL);"
        "INSERT INTO derived (a) VALUES (4); ALTER TABLE derived ADD CONSTRAINT some_a NOT NULL a NOT VALID;"
        "CREATE TABLE stays (a int, during daterange, PRIMARY KEY (a, during WITHOUT OVERLAPS));",
    ),
)

# What there is, by sort and name, as every version can list it. Constraints without NOT NULL: it is one from 18 on.
OBJECTS = """
SELECT 'relation ' || relkind::text, relname::text || coalesce(array_to_string(reloptions, ','), '')
    || pg_get_userbyid(relowner) FROM pg_class c
    JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^pg_|^information_schema$|^ext$'
UNION ALL SELECT 'column', attrelid::regclass || '.' || attname || ' ' || format_type(atttypid, atttypmod) || attnotnull
    || coalesce(attacl::text, '') FROM pg_attribute
    JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'f', 'v', 'm', 'c')
    AND nspname !~ '^pg_|^information_schema$|^ext$'
UNION ALL SELECT 'function', p.oid::regprocedure::text || md5(prosrc) FROM pg_proc p
    JOIN pg_namespace n ON n.oid = pronamespace
    WHERE nspname IN ('public', 'Géo "x" y')
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'i')
UNION ALL SELECT 'type', typname::text FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
    WHERE nspname = 'public' AND typtype <> 'c' AND typname !~ '^_|multirange'
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname || contype::text FROM pg_constraint
    WHERE contype::text <> 'n'
    AND connamespace IN ('public'::regnamespace, '"Géo ""x"" y"'::regnamespace)
UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'rule', tablename || '.' || rulename FROM pg_rules WHERE schemaname = 'public'
UNION ALL SELECT 'policy', tablename || '.' || policyname || roles::text || cmd FROM pg_policies
UNION ALL SELECT 'extension', extname::text || extnamespace::regnamespace FROM pg_extension
UNION ALL SELECT 'event trigger', evtname::text FROM pg_event_trigger
UNION ALL SELECT 'server', srvname::text FROM pg_foreign_server
UNION ALL SELECT 'mapping', usename || umoptions::text FROM pg_user_mappings
UNION ALL SELECT 'cast', castsource::regtype || ' ' || casttarget::regtype FROM pg_cast WHERE castfunc >= 16384
    AND castfunc::regproc::text = 'as_pair'
UNION ALL SELECT 'operator', oprname::text FROM pg_operator WHERE oprnamespace = 'public'::regnamespace
UNION ALL SELECT 'configuration', cfgname::text FROM pg_ts_config WHERE cfgnamespace = 'public'::regnamespace
UNION ALL SELECT 'defaults', defaclacl::text FROM pg_default_acl
UNION ALL SELECT 'comment', description FROM pg_description
    WHERE classoid = 'pg_class'::regclass AND description ~ '^it|^mood'
ORDER BY 1, 2
"""


def statements(version_num):
    """Return the SQL that fills an empty database of this version."""
    return [COMMON, *(sql for since, sql in LATER if since <= version_num)]
