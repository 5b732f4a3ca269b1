"""The database that the benchmarks dump and restore: always the same rows, at least 1 GB on disk, the site's shape.

Four fifths are French-looking text of 2 to 4 KB a row in two tables of equal size; the rest is geometry, raster, link
tables and 100 large objects. Words are drawn by Zipf's law, each by itself, so that no compressor gains by distance.
"""

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Process

TEXT_BYTES = 600_000_000  # of text in each of the two tables, which PostgreSQL keeps in 400 MB
ROW_BYTES = (2000, 4000)
TABLES = ("raw_offers", "parsed_offers")
COMMON = """
de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec ses mais comme on
tout nous sa fait été aussi leur bien peut ces y même deux si être cette ou sous donc entre chez vers sans ainsi où vous
notre votre poste mission équipe projet données profil recherche expérience développement géomatique carte service
territoire gestion base système information analyse outil compétences formation contrat durée région ville candidature
"""
SYLLABLES = """
ba ré mi to lu pa sé ni co du vo ra té lé ma ser tion ment ance eur able ique al en on ou ai é
"""
SCHEMA = """
CREATE EXTENSION postgis;
CREATE EXTENSION postgis_raster;
CREATE TABLE raw_offers (id int PRIMARY KEY, title varchar(250), content text, pub_date timestamptz);
CREATE TABLE parsed_offers (id int PRIMARY KEY, title varchar(250), content text, pub_date timestamptz);
CREATE TABLE offers_technos (id serial PRIMARY KEY, offer_id int NOT NULL, techno_id int NOT NULL);
CREATE TABLE offers_places (id serial PRIMARY KEY, offer_id int NOT NULL, place_id int NOT NULL, weight float8);
CREATE TABLE places (id int PRIMARY KEY, name text, geom geometry(MultiPolygon, 4326), centre geography(Point, 4326));
CREATE TABLE relief (id int PRIMARY KEY, rast raster);
"""
REST = """
INSERT INTO offers_technos (offer_id, techno_id) SELECT i % 200000, i % 97 FROM generate_series(1, 900000) AS i;
INSERT INTO offers_places (offer_id, place_id, weight)
  SELECT i % 200000, (i * 7919::bigint) % 30000, sqrt(i) FROM generate_series(1, 600000) AS i;
INSERT INTO places SELECT i, 'Lieu ' || i,
  ST_Multi(ST_Buffer(ST_SetSRID(ST_MakePoint((i * 31 % 34000) / 100.0 - 170, (i * 17 % 16000) / 100.0 - 80), 4326),
  0.001 * (1 + i % 50), 16)), ST_SetSRID(ST_MakePoint(i % 180, i % 90), 4326)::geography
  FROM generate_series(1, 30000) AS i;
INSERT INTO relief SELECT i, ST_SetValues(
  ST_AddBand(ST_MakeEmptyRaster(64, 64, i, i, 1, -1, 0, 0, 4326), '16BSI'::text, 0, 0), 1, 1, 1,
  (SELECT array_agg(line ORDER BY y) FROM (
    SELECT y, array_agg((1000 * (1 + sin(x * y * i / 900.0)))::float8 ORDER BY x) AS line
    FROM generate_series(1, 64) AS x, generate_series(1, 64) AS y GROUP BY y) AS lines))
  FROM generate_series(1, 400) AS i;
SELECT lo_from_bytea(0, decode(repeat(md5(i::text), 3000), 'hex')) FROM generate_series(1, 100) AS i;
CREATE INDEX ON places USING gist (geom);
CREATE INDEX ON offers_technos (offer_id);
CREATE INDEX ON offers_places (offer_id);
CREATE INDEX ON raw_offers USING gin (to_tsvector('simple', title));
"""


class Texts:
    """A file for COPY, made while it is read: rows of one table until TEXT_BYTES of text have gone by."""

    def __init__(self, seed):
        self._random = random.Random(seed)  # the same text in every run
        words = random.Random(0)
        collected = {"".join(words.choices(SYLLABLES.split(), k=words.randint(2, 4))) for _ in range(6000)}
        self._words = [*COMMON.split(), *words.sample(sorted(collected), len(collected))]
        self._weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(self._words))))
        self._left, self._row, self._rest = TEXT_BYTES, 0, b""

    def read(self, size):
        while len(self._rest) < size and self._left > 0:
            self._rest += self._rows()
        chunk, self._rest = self._rest[:size], self._rest[size:]
        return chunk

    def _rows(self):
        words = self._random.choices(self._words, cum_weights=self._weights, k=20000)
        for place in range(0, len(words), 14):
            words[place] = words[place].capitalize()
            words[place - 1] += "."
        text, rows, start = " ".join(words), [], 0
        while start < len(text) - ROW_BYTES[1] and self._left > 0:
            end = start + self._random.randint(*ROW_BYTES)
            self._row += 1
            day = f"2020-{self._row // 28 % 12 + 1:02d}-{self._row % 28 + 1:02d} 08:00+00"
            rows.append(f"{self._row}\t{text[start : start + 60]}\t{text[start:end]}\t{day}\n")
            self._left -= len(rows[-1])
            start = end
        return "".join(rows).encode()


def _fill(connect, table, seed):
    connection = connect()
    with connection, connection.cursor() as cursor:
        cursor.copy_expert(f"COPY {table} FROM STDIN", Texts(seed), 1 << 20)
    connection.close()


def create(connect, times=1):
    """Fill the empty database behind `connect` (a new psycopg2 connection each call). `times`: how often the rows of
    text are in it, under other keys: 4 for a database nearly four times as large. Returns its bytes on disk."""
    connection = connect()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(SCHEMA)
        fillers = [Process(target=_fill, args=(connect, table, seed)) for seed, table in enumerate(TABLES, 1)]
        for filler in fillers:
            filler.start()
        cursor.execute(REST)
        for filler in fillers:
            filler.join()
            if filler.exitcode:
                raise SystemExit("the database could not be filled")
        if times > 1:
            _multiply(connect, times)
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
        cursor.execute("SELECT pg_database_size(current_database())")
        size = cursor.fetchone()[0]
    connection.close()
    return size


def texts(connection):
    """Bytes on disk of the two tables of text."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(pg_table_size(name::regclass)) FROM unnest(%s) AS name", (list(TABLES),))
        return int(cursor.fetchone()[0])


def _multiply(connect, times):
    statements = [
        f"INSERT INTO {table} SELECT id + n * 10000000, title, content, pub_date"
        f" FROM {table}, generate_series(1, {times - 1}) AS n"
        for table in TABLES
    ]

    def run(statement):
        connection = connect()
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
        connection.close()

    with ThreadPoolExecutor(len(statements)) as pool:
        list(pool.map(run, statements))
