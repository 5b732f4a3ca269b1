"""What new versions of Django let a model have: generated fields, database defaults, composite keys, DB_CASCADE.

Dumped, loaded and migrated between PostgreSQL and SQLite, as stock's dumpdata and loaddata have it. On hosts each runs
with the Django of its site.
"""

import contextlib
import json
import sqlite3

import pytest
from sample_site import ENVIRONMENTS, interpreter, manage, shell, text_of
from sauvegarde.archive import ids
from sauvegarde.django import data_load
from sauvegarde.migrate import migration_plan, migration_run, migration_source
from sauvegarde.migrate.migration_request import MigrationRequest
from sauvegarde.restore import restore_state
from small_site import Small

# Each model where Django knows it.
MODELS = """
import django
from django.db import models
from django.db.models.functions import Now, Upper

class Place(models.Model):
    name = models.CharField(max_length=20)

if django.VERSION >= (5, 0):
    class Offer(models.Model):
        title = models.CharField(max_length=20)
        net = models.DecimalField(max_digits=8, decimal_places=2)
        shown = models.GeneratedField(
            expression=Upper("title"), output_field=models.CharField(max_length=20), db_persist=True
        )
        gross = models.GeneratedField(
            expression=models.F("net") * 2,
            output_field=models.DecimalField(max_digits=9, decimal_places=2),
            db_persist=True,
        )
        state = models.CharField(max_length=9, db_default="new")
        made = models.DateTimeField(db_default=Now())
        place = models.ForeignKey(Place, models.CASCADE, null=True)

if django.VERSION >= (5, 2):
    class Seat(models.Model):
        pk = models.CompositePrimaryKey("place_id", "row")
        place = models.ForeignKey(Place, models.CASCADE)
        row = models.IntegerField()
        label = models.CharField(max_length=20, db_default="free")

if django.VERSION >= (6, 1):
    class Visit(models.Model):
        place = models.ForeignKey(Place, models.DB_CASCADE)
        note = models.CharField(max_length=20)

    class Photo(models.Model):
        visit = models.ForeignKey(Visit, models.DB_SET_NULL, null=True)
"""
FILL = """
import django
from a.models import *
lyon, nice = (Place.objects.create(name=name) for name in ("Lyon", "Nice"))
if django.VERSION >= (5, 0):
    Offer.objects.create(title="geo", net="12.50", place=lyon)
    Offer.objects.create(title="pere", net="0.10", state="old", made="2024-01-02T03:04:05.123456Z")
if django.VERSION >= (5, 2):
    for place, row, label in ((nice, 1, "a"), (lyon, 2, "b"), (lyon, 1, "c")):
        Seat.objects.create(place=place, row=row, label=label)
    Seat.objects.create(place=nice, row=7)
if django.VERSION >= (6, 1):
    visit = Visit.objects.create(place=nice, note="seen")
    Photo.objects.create(visit=visit)
    Photo.objects.create()
print(1)
"""
# All columns of all tables, with what the database has computed: in ASCII, of which both databases know the capitals.
CONTENTS = """
from django.apps import apps
print(json.dumps({model.__name__: [[str(value) for value in row] for row in model.objects.order_by("pk").values_list()]
                  for model in apps.get_app_config("a").get_models()}, sort_keys=True))
"""
ABOUT = {"path": "", "mark": None, "keeper": "", "connection": {}, "server_directory": "", "environment": "production"}
WAYS = [("pg", "sqlite"), ("sqlite", "pg")]


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def small(request, cluster, tmp_path_factory):
    if request.param.startswith("3.2:"):
        pytest.skip("Django 3.2 has none of these")
    return Small(interpreter(request.param), cluster, tmp_path_factory.mktemp("versions"), MODELS)


@pytest.fixture(scope="module")
def sources(small):
    """{kind: a filled site}."""
    collected = {kind: small.new(kind) for kind in ("pg", "sqlite")}
    for each in collected.values():
        shell(each, FILL)
    return collected


def test_a_dump_is_stock_s_and_is_loaded_as_stock_loads_it(small, sources, tmp_path):
    """Both ways over both databases; each loads what the other has dumped."""
    for kind, other in (("pg", "sqlite"), ("sqlite", "pg")):
        ours, stock = text_of(sources[kind], labels=["a"]), manage(sources[kind], "dumpdata", "a")
        assert json.loads(ours) == json.loads(stock)
        path = tmp_path / f"{kind}.json"
        path.write_bytes(ours)
        one, two = small.new(other), small.new(other)
        data_load.load(one, [path], {})
        manage(two, "loaddata", str(path))
        assert shell(one, CONTENTS) == shell(two, CONTENTS)


def sqlite_rows(path, query):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize(("kind", "to"), WAYS)
def test_a_migration_keeps_every_value(small, sources, cluster, tmp_path, kind, to):
    one, two = sources[kind], small.new(to)
    result = migration_source.make(one, tmp_path / "out", migration_source.options(None, "", [], False), ABOUT)
    spec = {"site": two.as_dict(), "directory": str(tmp_path / "in"), "path": result["path"], "keeper": "root"}
    request = MigrationRequest.from_values(
        dict(spec, connection=cluster.values, server_directory=str(tmp_path / "server"))
    )
    done = migration_run.fill(request, ids.new_id(restore_state.folder(request.directory)), migration_plan.survey(two))
    side = two.replace(name=done["side"])
    assert text_of(side, exact=True, all=True) == text_of(one, exact=True, all=True)
    if "Offer" in shell(one, CONTENTS):
        query = "SELECT shown FROM a_offer ORDER BY id"
        rows = cluster.execute(query, done["side"]) if to == "pg" else sqlite_rows(done["side"], query)
        assert [tuple(row) for row in rows] == [("GEO",), ("PERE",)]


def test_a_load_replaces_what_the_database_deletes_by_itself(small, sources, tmp_path):
    """DB_CASCADE: the rows that depend on a deleted one go with it in the database, without a signal."""
    if "Visit" not in shell(sources["pg"], CONTENTS):
        pytest.skip("DB_CASCADE came with Django 6.1")
    for kind in ("pg", "sqlite"):
        site = small.new(kind)
        shell(site, FILL)
        path = tmp_path / f"{kind}.json"
        before = text_of(site, labels=["a"])
        path.write_bytes(before)
        shell(site, "from a.models import *\nPlace.objects.filter(name='Nice').delete()\nprint(1)")
        lost = shell(site, CONTENTS)
        assert (lost["Visit"], [row[1] for row in lost["Photo"]]) == ([], ["None", "None"])
        data_load.load(site, [path], {})
        assert text_of(site, labels=["a"]) == before


def test_a_replacement_keeps_the_rows_that_the_database_would_cascade_to(small, sources, tmp_path):
    """Rows of tables that no file has stay as they are, if what they point to is in the files."""
    if "Visit" not in shell(sources["pg"], CONTENTS):
        pytest.skip("DB_CASCADE came with Django 6.1")
    for kind in ("pg", "sqlite"):
        site = small.new(kind)
        shell(site, FILL)
        before = text_of(site, labels=["a"])
        path = tmp_path / f"{kind}.json"
        path.write_bytes(text_of(site, labels=["a.Place"]))
        shell(site, "from a.models import *\nPlace.objects.create(name='Brest')\nprint(1)")
        data_load.load(site, [path], {"mode": "replace"})
        assert text_of(site, labels=["a"]) == before
