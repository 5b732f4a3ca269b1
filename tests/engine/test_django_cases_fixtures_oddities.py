"""Values that SQLite lets in and Django cannot read are named; fixtures in other encodings; rasters."""

import contextlib
import json
import sqlite3

import pytest
from sample_site import ENVIRONMENTS, interpreter, text_of, write
from sauvegarde.archive import ids
from sauvegarde.django import data_load
from sauvegarde.errors import SauvegardeError
from sauvegarde.migrate import migration_plan, migration_run, migration_source
from sauvegarde.migrate.migration_request import MigrationRequest
from sauvegarde.restore import restore_state
from small_site import Small

MODELS = """
from django.db import models

class Base(models.Model):
    title = models.CharField(max_length=40, default="")
    day = models.DateField(null=True)
    at = models.DateTimeField(null=True)
    clock = models.TimeField(null=True)
    price = models.DecimalField(max_digits=9, decimal_places=2, null=True)
    uid = models.UUIDField(null=True)
    took = models.DurationField(null=True)
    number = models.IntegerField(null=True)
    class Meta:
        abstract = True

class Rows(Base):  # has a time, so it is read as rows
    pass

class Made(Base):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)

class Direct(models.Model):
    title = models.CharField(max_length=40, default="")
    day = models.DateField(null=True)
    at = models.DateTimeField(null=True)
    price = models.DecimalField(max_digits=9, decimal_places=2, null=True)
    uid = models.UUIDField(null=True)
    took = models.DurationField(null=True)
    number = models.IntegerField(null=True)
"""
# (column, the value as SQL, what the error shows of it, what the fix suggests)
ODD = [
    ("title", "CAST(x'436166e9' AS TEXT)", '"Caf\\xe9": its bytes are not UTF-8', "'Café'"),
    ("title", "CAST(x'eda0bd' AS TEXT)", '"\\xed\\xa0\\xbd": its bytes are not UTF-8', ""),
    ("day", "'0000-00-00'", '"0000-00-00"', "NULL"),
    ("day", "'2024-01-02 00:00:00'", '"2024-01-02 00:00:00": it is no date', "'2024-01-02'"),
    ("day", "'02/01/2024'", '"02/01/2024": it is no date', "NULL"),
    ("at", "'0000-00-00 00:00:00'", '"0000-00-00 00:00:00"', "NULL"),
    ("at", "'yesterday'", '"yesterday": it is no date', "NULL"),
    ("clock", "'noon'", '"noon": it is no date', "NULL"),
    ("price", "'12,50'", '"12,50"', "12.50"),
    ("price", "''", '""', "NULL"),
    ("uid", "'none'", '"none"', "NULL"),
    ("took", "'1 day'", '"1 day"', "NULL"),
]


@pytest.fixture(scope="module")
def small(cluster, tmp_path_factory):
    return Small(interpreter(ENVIRONMENTS[0]), cluster, tmp_path_factory.mktemp("small"), MODELS)


def execute(small, where, *statements):
    with contextlib.closing(sqlite3.connect(str(small.folder / small.name(where)))) as connection, connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


@pytest.mark.parametrize("model", ["direct", "rows", "made"])
def test_what_a_field_cannot_read_is_named(small, model):
    where, table = small.new("sqlite"), f"a_{model}"
    odd = [each for each in ODD if model != "direct" or each[0] != "clock"]
    execute(small, where, f"INSERT INTO {table} (id, title) VALUES (1, 'x')")
    for key, (column, value, _, _) in enumerate(odd, start=11):
        execute(small, where, f"INSERT INTO {table} (id, title) VALUES ({key}, 'x')")
        execute(small, where, f"UPDATE {table} SET {column} = {value} WHERE id = {key}")
    # Those of dates, which Django reads as NULL, are looked for first where rows are made of objects.
    named, fixed = set(), []
    for _ in range(len(odd)):
        try:
            entries = json.loads(text_of(where, labels=[f"a.{model}"]).decode("utf-8"))
            break
        except SauvegardeError as error:
            assert f"a.{model} holds" in error.what
            named.update(error.why.splitlines())
            statements = error.fix.split("example: ")[1].split("; ")
            fixed += statements
            execute(small, where, *[statement.replace("…", "'?'") for statement in statements])
    for key, (column, _, shown, suggested) in enumerate(odd, start=11):
        assert [line for line in named if f"table {table}, column {column}, key {key}, value {shown}" in line]
        assert [
            each for each in fixed if f'UPDATE "{table}" SET "{column}" = {suggested}' in each and f"= {key}" in each
        ]
    collected = {each["pk"]: each["fields"] for each in entries}
    assert len(collected) == len(odd) + 1
    assert collected[11]["title"] == "Café" and collected[14]["day"] == "2024-01-02"


def test_what_stock_reads_is_read(small):
    """Text in a column of numbers, and every form of dates that Django takes."""
    where = small.new("sqlite")
    for table in ("a_direct", "a_made"):
        execute(
            small,
            where,
            f"INSERT INTO {table} (id, title, number, day, at, price) VALUES"
            " (1, 5, 'many', '2024-1-2', '2024-01-02', '12.50'), (2, '', '', NULL, '2024-01-02T03:04:05', 7)",
        )
    first, second = json.loads(text_of(where, labels=["a.Direct"]).decode())
    assert first["fields"]["number"] == "many" and first["fields"]["day"] == "2024-01-02"
    assert first["fields"]["at"] == "2024-01-02T00:00:00Z" and second["fields"]["at"] == "2024-01-02T03:04:05Z"
    collected = [each["fields"] for each in json.loads(text_of(where, labels=["a.Made"]).decode())]
    assert [each["number"] for each in collected] == ["many", ""] and collected[0]["price"] == "12.50"


@pytest.mark.parametrize("to", ["pg", "sqlite"])
def test_a_migration_names_them_before_anything_is_written(small, tmp_path, to):
    one, two = small.new("sqlite"), small.new(to)
    about = {
        "path": "",
        "mark": None,
        "keeper": "",
        "connection": {},
        "server_directory": "",
        "environment": "production",
    }
    execute(small, one, "INSERT INTO a_rows (id, title, number) VALUES (3, 'x', 'many'), (0, 'y', 1)")
    result = migration_source.make(one, tmp_path / "out", migration_source.options(None, "", [], False), about)
    spec = {"site": two.as_dict(), "directory": str(tmp_path / "in"), "path": result["path"], "keeper": "root"}
    spec.update(connection=small.cluster.values, server_directory=str(tmp_path / "server"))

    def fill(spec):
        label = ids.new_id(restore_state.folder(spec.directory))
        return migration_run.fill(spec, label, migration_plan.survey(two))

    with pytest.raises(SauvegardeError, match="nothing was written") as caught:
        fill(MigrationRequest.from_values(spec))
    assert "a.rows 3 number:" in caught.value.why and "many" in caught.value.why
    assert '{"invalid": {"a.rows.number": "drop"}}' in caught.value.fix
    done = fill(MigrationRequest.from_values(dict(spec, policy={"invalid": {"a.rows.number": "drop"}})))
    assert done["proof"]["models"]["a.rows"]["rows"] == 1 and done["proof"]["mended"] == {"a.rows": 1}


ENTRY = [{"model": "a.direct", "pk": 1, "fields": {"title": "Café €"}}]
WIDE = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_fixtures_in_other_encodings_are_read(small, tmp_path, form):
    where = small.new("sqlite")
    for number, encoding in enumerate(WIDE):
        entry = dict(ENTRY[0], pk=number)
        text = json.dumps([entry] if form == "json" else entry, ensure_ascii=False)
        path = tmp_path / f"{encoding}.{form}"
        path.write_bytes(text.encode(encoding))
        data_load.load(where, [path], {})
    assert execute(small, where, "SELECT id, title FROM a_direct ORDER BY id") == [
        (number, "Café €") for number in range(len(WIDE))
    ]


XML = (
    '<?xml version="1.0" encoding="{0}"?><django-objects version="1.0"><object model="a.direct" pk="{1}">'
    '<field name="title" type="CharField">Café</field></object></django-objects>'
)


def test_other_formats_say_or_bring_their_encoding(small, tmp_path):
    where = small.new("sqlite")
    for number, encoding in enumerate(["iso-8859-1", "windows-1252", "utf-16", "utf-8"]):
        path = tmp_path / f"{encoding}.xml"
        path.write_bytes(XML.format(encoding, number).encode(encoding))
        data_load.load(where, [path], {})
    assert execute(small, where, "SELECT count(*), min(title), max(title) FROM a_direct") == [(4, "Café", "Café")]
    # PyYAML is not installed there.
    path = tmp_path / "data.yaml"
    path.write_text("- {model: a.direct, pk: 9, fields: {title: x}}", encoding="utf-16")
    with pytest.raises(SauvegardeError, match="cannot read yaml") as caught:
        data_load.load(where, [path], {})
    assert "PyYAML" in caught.value.fix


@pytest.mark.parametrize("form", ["json", "jsonl", "yaml"])
def test_a_good_file_in_latin_1_is_not_called_damaged(small, tmp_path, form):
    path = tmp_path / f"data.{form}"
    text = json.dumps(ENTRY[0] if form == "jsonl" else ENTRY, ensure_ascii=False).replace(" €", "")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SauvegardeError, match="is not UTF-8") as caught:
        data_load.load(small.new("sqlite"), [path], {})
    assert "iconv" in caught.value.fix and "0xe9" in caught.value.why


@pytest.mark.parametrize("key", [0, -1])
@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_a_table_whose_only_key_is_not_positive(small, tmp_path, kind, key):
    where = small.new(kind)
    data_load.load(where, [write(tmp_path / "f.json", [dict(ENTRY[0], pk=key)])], {"mode": "replace"})
    (entry,) = json.loads(text_of(where, labels=["a.Direct"]).decode())
    assert entry["pk"] == key
    if kind == "pg":
        query = "INSERT INTO a_direct (title) VALUES ('next') RETURNING id"
        assert small.cluster.execute(query, small.name(where)) == [(1,)]


RASTER = """
from django.contrib.gis.db import models
class Tile(models.Model):
    name = models.CharField(max_length=9)
    rast = models.RasterField(null=True)
class Made(models.Model):
    rast = models.RasterField(null=True)
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
"""
FILL = (
    "INSERT INTO a_tile (id, name, rast) VALUES (1, 'x', ST_SetValue(ST_AddBand(ST_MakeEmptyRaster("
    "2, 3, 1.5, 2.5, 1, -1, 0, 0, 4326), '32BF'::text, 7.25, -9999), 1, 2, 2, 3.5)), (2, 'y', NULL)",
    "INSERT INTO a_made (id, rast) SELECT id, rast FROM a_tile",
)


def test_rasters_are_dumped_and_loaded(cluster, tmp_path_factory, tmp_path):
    if not cluster.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'postgis_raster'"):
        pytest.skip("the server has no rasters")
    small = Small(
        interpreter(ENVIRONMENTS[0]),
        cluster,
        tmp_path_factory.mktemp("small"),
        RASTER,
        engine="django.contrib.gis.db.backends.postgis",
        apps="django.contrib.gis",
        extensions=("postgis", "postgis_raster"),
    )
    one, two = small.new("pg"), small.new("pg")
    for statement in FILL:
        cluster.execute(statement, small.name(one))
    path = tmp_path / "f.json"
    path.write_bytes(text_of(one, labels=["a"]))
    data_load.load(two, [path], {"mode": "replace"})
    query = "SELECT id, CAST(rast AS text) FROM {} ORDER BY id"
    for table in ("a_tile", "a_made"):
        before = cluster.execute(query.format(table), small.name(one))
        assert before == cluster.execute(query.format(table), small.name(two)) and len(before) == 2
    # As stock writes it.
    path = write(tmp_path / "f.json", [{"model": "a.tile", "pk": 1, "fields": {"name": "x", "rast": ""}}])
    with pytest.raises(SauvegardeError) as caught:
        data_load.load(two, [path], {})
    assert "a.tile 1 rast: is no raster: stock dumpdata writes none" in caught.value.why
