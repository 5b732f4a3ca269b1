-- A small database of the site's shape: texts, link tables, geometries, a materialized view, a large object.
SET ROLE geotribu;
CREATE TABLE technos (id serial PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE places (id serial PRIMARY KEY, name text NOT NULL, geom geometry(MultiPolygon, 4326), centre geography(Point, 4326));
CREATE TABLE offers (id serial PRIMARY KEY, title varchar(250) NOT NULL, content text, place_id int REFERENCES places,
  salary numeric(9, 2), seen timestamptz NOT NULL DEFAULT now(), CHECK (length(title) > 3));
CREATE TABLE offers_technos (offer_id int REFERENCES offers, techno_id int REFERENCES technos, PRIMARY KEY (offer_id, techno_id));

INSERT INTO technos (name)
  SELECT unnest(ARRAY['PostGIS', 'QGIS', 'Python', 'Django', 'GeoServer', 'MapLibre', 'GDAL', 'FME', 'Leaflet', 'Oracle', 'R']);
INSERT INTO places (name, geom, centre)
  SELECT 'Commune n° ' || n, ST_Multi(ST_Buffer(point, 0.02 + n % 7 * 0.01, 8)), point::geography
  FROM generate_series(1, 3000) n, ST_SetSRID(ST_MakePoint(-4 + n * 13 % 1200 / 100.0, 42.5 + n * 7 % 800 / 100.0), 4326) point;
INSERT INTO offers (title, content, place_id, salary, seen)
  SELECT 'Géomaticien·ne n° ' || n || ' à Nîmes', (SELECT string_agg(md5((n * k)::text), ' é ') FROM generate_series(1, 60) k),
    1 + n % 3000, 28000 + n % 900 * 20.5, timestamptz '2024-01-01 08:00+01' + n * interval '17 minutes'
  FROM generate_series(1, 10000) n;
INSERT INTO offers_technos SELECT n, 1 + (n * k) % 11 FROM generate_series(1, 10000) n, generate_series(1, 4) k ON CONFLICT DO NOTHING;
CREATE INDEX ON places USING gist (geom);
CREATE INDEX ON offers USING gin (to_tsvector('french', title));
CREATE MATERIALIZED VIEW offers_by_place AS
  SELECT p.name, count(*) AS offers FROM offers o JOIN places p ON p.id = o.place_id GROUP BY p.name;
CREATE UNIQUE INDEX ON offers_by_place (name);
SELECT lo_from_bytea(4242, decode(repeat(md5('logo'), 3000), 'hex'));
COMMENT ON TABLE offers IS 'Les offres d''emploi';
