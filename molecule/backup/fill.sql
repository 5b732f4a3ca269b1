-- One database whose names are all hostile. Run again, it changes nothing.
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '-géo "tribu"') AS absent \gset
\if :absent
CREATE ROLE "-géo ""tribu""" LOGIN PASSWORD 'canary-Zephyr-owner';
\endif
SELECT NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') AS absent \gset
\if :absent
CREATE DATABASE :"name" OWNER "-géo ""tribu""" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'fr_FR.UTF-8' LC_CTYPE 'fr_FR.UTF-8';
ALTER DATABASE :"name" SET timezone = 'Europe/Paris';
\c :"name"
SET ROLE "-géo ""tribu""";
CREATE SCHEMA "l'été";
CREATE TABLE "l'été"."-offres ""$(id)"" %" (id serial PRIMARY KEY, "titre é" text, "from" date DEFAULT '2026-11-24');
INSERT INTO "l'été"."-offres ""$(id)"" %" ("titre é") SELECT 'Géomaticien n° ' || n || repeat(' à Nîmes', n % 90) FROM generate_series(1, 3000) n;
CREATE TABLE "l'été"."vide" (x numeric);
CREATE MATERIALIZED VIEW "l'été"."par jour" AS SELECT "from", count(*) FROM "l'été"."-offres ""$(id)"" %" GROUP BY 1;
COMMENT ON TABLE "l'été"."vide" IS 'rien; DROP TABLE x --';
SELECT lo_from_bytea(4242, '\x00ff10');
RESET ROLE;
\endif
