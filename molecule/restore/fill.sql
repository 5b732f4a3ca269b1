-- A site's database, as old and as tangled as a server can have it; without what needs PostGIS where there is none. Run
-- again, it changes nothing.
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'géo "tribu"') AS absent,
  EXISTS (SELECT FROM pg_available_extensions WHERE name = 'postgis_topology') AS postgis,
  NOT EXISTS (SELECT FROM pg_database WHERE datname = 'elpaso') AS missing \gset
\if :absent
CREATE ROLE "géo ""tribu""" LOGIN PASSWORD 'canary-Zephyr-owner' CONNECTION LIMIT 20;
CREATE ROLE lectrice NOLOGIN;
GRANT lectrice TO "géo ""tribu""";
\endif
\if :missing
CREATE DATABASE elpaso OWNER "géo ""tribu""" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'fr_FR.UTF-8' LC_CTYPE 'fr_FR.UTF-8';
ALTER DATABASE elpaso SET timezone = 'Europe/Paris';
ALTER DATABASE elpaso CONNECTION LIMIT 50;
ALTER ROLE lectrice IN DATABASE elpaso SET work_mem = '7MB';
GRANT CREATE ON DATABASE elpaso TO lectrice;
REVOKE TEMPORARY ON DATABASE elpaso FROM PUBLIC;
COMMENT ON DATABASE elpaso IS 'l''été \ à Nîmes';
\c elpaso
CREATE EXTENSION hstore;
\if :postgis
CREATE EXTENSION postgis;
CREATE EXTENSION postgis_raster;
CREATE EXTENSION postgis_topology;
ALTER DATABASE elpaso RESET search_path;
\c elpaso
-- A row of the site's own, and an edit of one that PostGIS ships: no dump ever holds that.
INSERT INTO spatial_ref_sys SELECT 990001, 'géo', 990001, srtext, proj4text FROM spatial_ref_sys WHERE srid = 2154;
UPDATE spatial_ref_sys SET proj4text = '+proj=utm' WHERE srid = 32631;
\endif
GRANT CREATE ON SCHEMA public TO "géo ""tribu""";
SET ROLE "géo ""tribu""";
CREATE SCHEMA "l'été";
GRANT USAGE ON SCHEMA "l'été" TO lectrice;
CREATE TABLE offers (id serial PRIMARY KEY, title text NOT NULL, body text, tags hstore, paid numeric(9,2), at timestamptz);
INSERT INTO offers (title, body, tags, paid, at)
  SELECT 'Offre n° ' || n, repeat(md5(n::text), n % 90), hstore('clé', n::text), n / 7.0, '2020-02-29'::timestamptz + n * interval '1 hour'
  FROM generate_series(1, 3000) n;
SELECT setval('offers_id_seq', 987654);
CREATE TABLE "l'été"."-offres ""$(id)"" %" (id int REFERENCES offers, "titre é" text, "from" date, raw bytea, doc jsonb);
INSERT INTO "l'été"."-offres ""$(id)"" %"
  SELECT n, E'à\tl''été\n\\N ' || n, '2026-11-24', decode(md5(n::text), 'hex'), jsonb_build_object('n', n) FROM generate_series(1, 500) n;
CREATE INDEX ON offers USING gin (to_tsvector('french', title));
CREATE INDEX ON offers (lower(title)) WHERE paid > 100;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.title := NEW.title || ' ;'; RETURN NEW; END $$;
CREATE TRIGGER touched BEFORE UPDATE ON offers FOR EACH ROW EXECUTE PROCEDURE touch();
CREATE VIEW "l'été".cheap AS SELECT id, title FROM offers WHERE paid < 10;
CREATE MATERIALIZED VIEW "l'été"."par jour" AS SELECT "from", count(*) FROM "l'été"."-offres ""$(id)"" %" GROUP BY 1;
CREATE TABLE "l'été"."vide" (x numeric);
COMMENT ON TABLE "l'été"."vide" IS 'rien; DROP TABLE x --';
CREATE TEXT SEARCH CONFIGURATION "l'été".fr (COPY = french);
GRANT SELECT ON offers TO lectrice;
SELECT lo_from_bytea(4242, '\x00ff10');
\if :postgis
-- PostGIS called unqualified, where a restore has no search_path: in a CHECK, an index and a trigger.
CREATE FUNCTION surface(geometry) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN st_area($1); END';
CREATE TABLE places (id serial PRIMARY KEY, geom geometry(Polygon, 990001) CHECK (surface(geom) >= 0), there geography(Point));
INSERT INTO places (geom, there)
  SELECT st_setsrid(st_makeenvelope(0, 0, n, n), 990001), st_makepoint(n / 2.0, 45) FROM generate_series(1, 100) n;
CREATE INDEX ON places (surface(geom));
CREATE INDEX ON places USING gist (geom);
CREATE TABLE relief AS SELECT n AS id, st_addband(st_makeemptyraster(4, 4, n, n, 1, 1, 0, 0, 2154), '8BUI'::text, n) AS rast
  FROM generate_series(1, 3) n;
CREATE MATERIALIZED VIEW total AS SELECT sum(surface(geom)) FROM places;
RESET ROLE;
SELECT topology.createtopology('reseau', 2154) > 0 AS made \gset
SELECT count(topology.st_addisonode('reseau', NULL, st_setsrid(st_makepoint(n, n), 2154))) AS made FROM generate_series(1, 3) n \gset
\else
-- All of it belongs to one role, as which it is loaded: a superuser who loads it is stopped.
CREATE FUNCTION ordinary() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  IF current_database() ~ '__restore_' AND current_setting('is_superuser') = 'on' THEN
    RAISE 'loaded as %', current_user;
  END IF;
  RETURN true;
END $$;
CREATE TABLE guarded (n int CHECK (ordinary()));
INSERT INTO guarded VALUES (1);
\endif
RESET ROLE;
\endif
