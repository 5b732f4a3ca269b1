"""Values between engines: what the target keeps arrives, what it does not keep is named before anything is written, and
accepted by name."""

import contextlib
import decimal
import json
import sqlite3

import pytest
from sample_site import ENVIRONMENTS, interpreter, shell, text_of, write
from sauvegarde.archive import ids
from sauvegarde.django import data_load, fixture_fingerprint, site
from sauvegarde.errors import SauvegardeError
from sauvegarde.migrate import migration_plan, migration_proof, migration_run, migration_source
from sauvegarde.migrate.migration_request import MigrationRequest
from sauvegarde.restore import restore_state
from small_site import Small

MODELS = """
import uuid
from django.conf import settings
from django.db import models

class Wallet(models.Model):
    name = models.CharField(max_length=9)
    balance = models.DecimalField(max_digits=30, decimal_places=18, null=True)
    count = models.DecimalField(max_digits=20, decimal_places=0, default=1)

class Reading(models.Model):
    value = models.FloatField(null=True)
    strict = models.FloatField(default=0.0)
    took = models.DurationField(null=True)

class Shape(models.Model):
    geojson = models.JSONField(null=True)
    must = models.JSONField(default=dict)

class Note(models.Model):
    text = models.CharField(max_length=5)
    number = models.IntegerField(default=1)
    small = models.PositiveSmallIntegerField(null=True)

class Offer(models.Model):
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True)  # written by its natural key
    until = models.DateTimeField(null=True)
    day = models.DateField(null=True)

class Plain(models.Model):
    until = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    extra = models.JSONField(null=True)

class Made(Plain):
    word = models.JSONField(null=True)
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)

class Saved(models.Model):
    data = models.JSONField(null=True)
    must = models.JSONField(default=dict)
    day = models.DateField(null=True)
    note = models.ForeignKey(Note, models.CASCADE, null=True)
    def save_base(self, *args, **kwargs):  # Django itself writes these
        return super().save_base(*args, **kwargs)
    class Meta:
        order_with_respect_to = "note"
"""
ABOUT = {"path": "", "mark": None, "keeper": "", "connection": {}, "server_directory": "", "environment": "production"}
HEAD = "import datetime, decimal\nfrom a.models import *\nfrom django.db.models import Value\n"


@pytest.fixture(scope="module")
def small(cluster, tmp_path_factory):
    return Small(interpreter(ENVIRONMENTS[0]), cluster, tmp_path_factory.mktemp("small"), MODELS)


def migrate(small, one, two, tmp_path, **values):
    result = migration_source.make(one, tmp_path / "out", migration_source.options(None, "", [], False), ABOUT)
    spec = {"site": two.as_dict(), "directory": str(tmp_path / "in"), "path": result["path"], "keeper": "root"}
    spec.update(connection=small.cluster.values, server_directory=str(tmp_path / "server"), **values)
    spec = MigrationRequest.from_values(spec)
    lines = migration_plan.lines(migration_run.make_plan(spec, migration_source.look(one, None, "", [], False, ABOUT)))
    done = migration_run.fill(spec, ids.new_id(restore_state.folder(spec.directory)), migration_plan.survey(two))
    return "\n".join(lines), done, two.replace(name=done["side"])


def objects(where, label):
    """The objects of a dump, which knows the side database."""
    return json.loads(text_of(where, labels=[label], exact=True).decode("utf-8"))


LOSSY = """
Wallet.objects.create(name="a", balance="1.5")
Wallet.objects.create(name="b", balance="123456789012.123456789012345678")
Wallet.objects.create(name="c", balance="0.000000000000000123")
Wallet.objects.create(name="d", count="12345678901234567890")
Wallet.objects.create(name="e", count="12345678901234500000")
Reading.objects.create(value=float("nan"), strict=float("inf"))
Reading.objects.create(value=-0.0, strict=5e-324, took=datetime.timedelta(days=200000000))
Reading.objects.create(value=1e15, strict=1e300)
print(1)
"""
NAMED = [
    "a.wallet 2 balance: 123456789012.123456789012345678 would be stored as 123456789012.123000000000000000",
    "a.wallet 4 count: 12345678901234567890 would be stored as 12345678901234600000",
    "a.reading 1 value: nan would be stored as NULL",
    "a.reading 2 took: 200000000 days, 0:00:00 has more microseconds than an integer holds",
]
ACCEPTED = {
    "precision": {"a.wallet.balance": "round", "a.wallet.count": "round"},
    "nan": {"a.reading.value": "empty"},
    "out_of_range": {"a.reading.took": "empty"},
}


def test_what_sqlite_does_not_keep_is_named_before_anything_is_written(small, tmp_path, monkeypatch):
    one, two = small.new("pg"), small.new("sqlite")
    shell(one, HEAD + LOSSY)
    proved = []
    monkeypatch.setattr(migration_proof, "prove", lambda *_: proved.append(1))
    with pytest.raises(SauvegardeError, match="4 problems; nothing was written") as caught:
        migrate(small, one, two, tmp_path)
    assert caught.value.why.splitlines() == NAMED and not proved
    assert '"precision": {"a.wallet.balance": "round", "a.wallet.count": "round"}' in caught.value.fix
    assert '"nan": {"a.reading.value": "empty"}' in caught.value.fix
    # Another field's acceptance is none.
    with pytest.raises(SauvegardeError, match="3 problems; nothing was written"):
        migrate(small, one, two, tmp_path, policy={"precision": {"A.Wallet.Count": "round"}})


def test_what_is_accepted_by_name_stands_in_plan_report_and_proof(small, tmp_path):
    one, two = small.new("pg"), small.new("sqlite")
    shell(one, HEAD + LOSSY)
    report, done, side = migrate(small, one, two, tmp_path, policy=ACCEPTED)
    assert "Accepted (migrate_values), precision: a.wallet.balance (round), a.wallet.count (round)." in report
    assert "a.wallet.balance may have 30 digits" not in report
    assert done["proof"]["mended"] == {"a.wallet": 2, "a.reading": 2}
    assert sum("value(s) accepted" in note for note in done["notes"]) == 4
    assert [each for each in done["accepted"] if NAMED[0].split(": ", 1)[1] in each]
    wallets = [each["fields"] for each in objects(side, "a.Wallet")]
    assert [each["balance"] for each in wallets[:2]] == ["1.500000000000000000", "123456789012.123000000000000000"]
    assert float(wallets[2]["balance"]) == 1.23e-16 and wallets[4]["count"] == "12345678901234500000"
    collected = [list(each["fields"].values()) for each in objects(side, "a.Reading")]
    assert collected == [[None, float("inf"), None], [-0.0, 5e-324, None], [1e15, 1e300, None]]


def test_a_change_beside_what_was_accepted_is_found(small, tmp_path, monkeypatch):
    """Only the accepted field of an object is left out of the proof."""
    one, two = small.new("pg"), small.new("sqlite")
    shell(one, HEAD + LOSSY)
    real = data_load.load

    def changing(where, *arguments):
        done = real(where, *arguments)
        with contextlib.closing(sqlite3.connect(where.name)) as connection, connection:
            connection.execute("UPDATE a_wallet SET name = 'other' WHERE id = 2")
        return done

    monkeypatch.setattr(data_load, "load", changing)
    with pytest.raises(SauvegardeError, match="What arrived is not what was sent"):
        migrate(small, one, two, tmp_path, policy=ACCEPTED)


def test_the_plan_says_which_fields_may_lose_digits(small, tmp_path):
    one, two = small.new("pg"), small.new("sqlite")
    spec = MigrationRequest.from_values({"site": two.as_dict(), "directory": str(tmp_path / "in"), "keeper": "root"})
    lines = "\n".join(
        migration_plan.lines(migration_run.make_plan(spec, migration_source.look(one, None, "", [], False, ABOUT)))
    )
    assert "a.wallet.balance may have 30 digits, of which SQLite keeps 15" in lines


def test_a_fixture_loads_as_stock_does_and_says_what_was_rounded(small, tmp_path):
    two = small.new("sqlite")
    fields = {"name": "b", "balance": "123456789012.123456789012345678"}
    path = write(tmp_path / "f.json", [{"model": "a.wallet", "pk": 2, "fields": fields}])
    (problem,) = data_load.load(two, [path], {})["problems"]
    assert problem["action"] == "round" and "123456789012.123000000000000000" in problem["detail"]
    with pytest.raises(SauvegardeError, match="policy of a load cannot be precision: burn"):
        data_load.load(two, [path], {"policy": {"precision": {"a.wallet.balance": "burn"}}})
    with pytest.raises(SauvegardeError, match="policy of a load cannot be foreign_key"):
        data_load.load(two, [path], {"policy": {"foreign_key": {"a.wallet.balance": "drop"}}})


@pytest.mark.parametrize("to", ["pg", "sqlite"])
def test_json_numbers_that_are_equal_are_equal(small, tmp_path, to):
    one, two = small.new("sqlite"), small.new(to)
    values = "{'t': 1.7e18, 'c': [-0.0, 1.5, 1e25, 1e-7, 12345678901234567890123, 5e-324]}"
    shell(one, HEAD + f"Shape.objects.create(geojson={values})\nShape.objects.create(geojson=1e16)\nprint(1)")
    _, done, side = migrate(small, one, two, tmp_path)
    assert done["proof"]["mended"] == {}
    assert [each["fields"]["geojson"] for each in objects(side, "a.Shape")] == [
        {"t": 1.7e18, "c": [0, 1.5, 10**25 if to == "pg" else 1e25, 1e-7, 12345678901234567890123, 5e-324]},
        1e16,
    ]


def test_json_numbers_that_differ_are_named(small, tmp_path):
    assert fixture_fingerprint.plain({"a": [1.7e18, -0.0, 1.0, True]}) == {"a": [1700000000000000000, 0, 1, True]}
    assert (
        fixture_fingerprint.plain(1.7e18) != fixture_fingerprint.plain(1.7e18 + 256)
        and fixture_fingerprint.plain(0.5) == 0.5
    )


TOO_MUCH = """
Note.objects.create(pk=1, text="longer than five", number=2**40)
Note.objects.create(pk=2, text="nul\\0", small=70000)
Shape.objects.create(pk=1, geojson={"a": ["x\\0"]})
Shape.objects.create(pk=2, geojson={"t": "cut \\ud83d", "\\udc00": 1}, must=["\\ud83d\\ude00"])
print(1)
"""


def test_what_postgresql_does_not_take_is_named_with_its_value(small, tmp_path):
    one, two = small.new("sqlite"), small.new("pg")
    shell(one, HEAD + TOO_MUCH)
    with pytest.raises(SauvegardeError, match="6 problems; nothing was written") as caught:
        migrate(small, one, two, tmp_path)
    for part in (
        "a.note 1 text: 16 characters",
        "a.note 1 number: 1099511627776 is not between",
        "a.note 2 text: holds a NUL",
        "a.note 2 small: 70000",
        "a.shape 1 geojson: holds a NUL",
        'a.shape 2 geojson: holds half a character, which PostgreSQL does not store: {"t": "cut \\ud83d"',
    ):
        assert part in caught.value.why
    policy = {"surrogate": {"a.shape.geojson": "replace"}, "nul": "strip", "too_long": {"a.note.text": "cut"}}
    _, done, side = migrate(small, one, two, tmp_path, policy=dict(policy, out_of_range="drop"))
    assert done["proof"]["mended"] == {"a.note": 2, "a.shape": 2}
    collected = [list(each["fields"].values()) for each in objects(side, "a.Shape")]
    assert collected == [[{"a": ["x"]}, {}], [{"t": "cut \ufffd", "\ufffd": 1}, ["😀"]]]


@pytest.mark.parametrize("to", ["pg", "sqlite"])
def test_half_a_character_in_a_fixture(small, tmp_path, to):
    two = small.new(to)
    path = tmp_path / "f.jsonl"
    path.write_bytes(
        b'{"model": "a.note", "pk": 1, "fields": {"text": "a\\ud83d"}}\n'
        b'{"model": "a.note", "pk": 2, "fields": {"text": "\\ud83d\\ude00"}}\n'
        b'{"model": "a.shape", "pk": 3, "fields": {"geojson": [NaN]}}\n'
    )
    with pytest.raises(SauvegardeError) as caught:
        data_load.load(two, [path], {})
    assert 'a.note 1 text: holds half a character, which no database stores: "a\\ud83d"' in caught.value.why
    assert "a.shape 3 geojson: [NaN] holds numbers that JSON does not have" in caught.value.why
    assert '"surrogate": {"a.note.text": "replace"}' in caught.value.fix
    data_load.load(two, [path], {"policy": {"surrogate": "replace", "invalid": {"a.shape.geojson": "drop"}}})
    result = shell(two, HEAD + "print(json.dumps([[e.text for e in Note.objects.all()], Shape.objects.count()]))")
    assert result == [["a\ufffd", "😀"], 0]


def test_half_a_character_in_json_stays_in_sqlite(small, tmp_path):
    one, two = small.new("sqlite"), small.new("sqlite")
    shell(one, HEAD + "Shape.objects.create(geojson={'t': 'cut \\ud83d'}, must=['\\udc00'])\nprint(1)")
    assert b'"cut \\ud83d"' in text_of(one, labels=["a.Shape"]) and b'"\\udc00"' in text_of(one, labels=["a.Shape"])
    _, done, side = migrate(small, one, two, tmp_path)
    assert done["proof"]["mended"] == {} and text_of(side, labels=["a"]) == text_of(one, labels=["a"])


EXACT = """
from django.contrib.auth.models import User
user = User.objects.create(username="u")
null = lambda: Value(None, models.JSONField())
for data in (null(), None, {"a": None}, []):
    Shape.objects.create(geojson=data)
    Plain.objects.create(extra=data)
    Made.objects.create(extra=data, word=data)

notes = [Note.objects.create(text=str(n)) for n in range(2)]
saved = [Saved.objects.create(data=data, must=must, note=notes[0]) for data, must in ((null(), {}), (None, null()))]
notes[0].set_saved_order([saved[1].pk, saved[0].pk])
Offer.objects.create(by=user)
print(1)
"""
BEYOND = (
    "INSERT INTO a_plain (until, day) VALUES ('infinity', '-infinity'), ('-infinity', 'infinity'),"
    " ('12024-02-03 04:05:06.000007+00', '0044-03-15 BC'), ('2024-02-03 04:05:06.000007+00', '2024-02-03')",
    "INSERT INTO a_offer (until, day, by_id) VALUES ('infinity', '-infinity', 1), ('-infinity', 'infinity', 1)",
    "UPDATE a_plain SET until = 'infinity' WHERE id IN (SELECT plain_ptr_id FROM a_made)",
    "UPDATE a_saved SET day = 'infinity'",
    "UPDATE a_wallet SET balance = 'NaN'",
)
LOOK = {
    "a_shape": "id, CAST(geojson AS text), CAST(must AS text)",
    "a_plain": "id, CAST(extra AS text), CAST(until AS text), CAST(day AS text)",
    "a_made": "plain_ptr_id, CAST(word AS text)",
    "a_saved": "id, CAST(data AS text), CAST(must AS text), CAST(day AS text), _order",
    "a_offer": "id, by_id, CAST(until AS text), CAST(day AS text)",
    "a_wallet": "id, CAST(balance AS text)",
}


def stored(small, where, name=""):
    """All rows as the database has them."""
    name = name or small.name(where)
    query = "SELECT {} FROM {} ORDER BY 1"
    if site.environment(where)["KIND"] == "sqlite":
        with contextlib.closing(sqlite3.connect(str(small.folder / name))) as connection:
            return [connection.execute(query.format(LOOK[table], table)).fetchall() for table in sorted(LOOK)]
    return [small.cluster.execute(query.format(LOOK[table], table), name) for table in sorted(LOOK)]


@pytest.mark.parametrize(("kind", "to"), [("pg", "pg"), ("sqlite", "sqlite"), ("sqlite", "pg"), ("pg", "sqlite")])
def test_json_null_and_order_are_kept(small, tmp_path, kind, to):
    one, two = small.new(kind), small.new(to)
    shell(one, HEAD + EXACT)
    _, done, side = migrate(small, one, two, tmp_path)
    assert done["proof"]["mended"] == {}
    before, after = stored(small, one), stored(small, two, done["side"])
    if kind == to:
        assert before == after
    assert [row[1] for row in after[4]] == ["null", None, '{"a": null}', "[]"]
    assert [row[1:3] for row in after[3]] == [("null", "{}"), (None, "null")]
    assert [row[-1] for row in after[3]] == [1, 0]
    assert text_of(side, labels=["a"], exact=True) == text_of(one, labels=["a"], exact=True)


LONG = '{"n": 1.00000000000000000001, "m": [0.1, 12345678901234567.89], "i": 123456789012345678901234567890}'


@pytest.mark.parametrize(("kind", "to"), [("pg", "pg"), ("sqlite", "sqlite"), ("sqlite", "pg"), ("pg", "sqlite")])
def test_numbers_inside_json_keep_their_digits(small, tmp_path, kind, to):
    """Python reads them as floats; a fixture of stock's holds what is left of them."""
    one, two = small.new(kind), small.new(to)
    shell(one, HEAD + EXACT)
    statements = [f"UPDATE a_shape SET geojson = '{LONG}'", f"UPDATE a_made SET word = '{LONG}'"]
    statements.append(f"UPDATE a_saved SET data = '{LONG}', must = '{LONG}'")
    if kind == "pg":
        small.cluster.execute(";".join(statements), small.name(one))
    else:
        with contextlib.closing(sqlite3.connect(str(small.folder / small.name(one)))) as connection:
            connection.executescript(";".join(statements))
    _, done, side = migrate(small, one, two, tmp_path)
    assert done["proof"]["mended"] == {}

    def numbers(where, name=""):
        texts = [value for table in stored(small, where, name) for row in table for value in row[1:]]
        texts = [value for value in texts if isinstance(value, str) and "12345" in value]
        return [json.loads(value, parse_float=decimal.Decimal) for value in texts]

    assert numbers(two, done["side"]) == numbers(one) and len(numbers(one)) > 5
    assert text_of(side, labels=["a"], exact=True).count(b"1.00000000000000000001") == len(numbers(one))


def test_infinity_and_dates_beyond_python_stay_in_postgresql(small, tmp_path):
    one, two = small.new("pg"), small.new("pg")
    shell(one, HEAD + EXACT + "Wallet.objects.create(name='w')\nprint(1)")
    for statement in BEYOND:
        small.cluster.execute(statement, small.name(one))
    _, done, _ = migrate(small, one, two, tmp_path)
    assert done["proof"]["mended"] == {}
    assert stored(small, one) == stored(small, two, done["side"])
    # Elsewhere they are named, and accepted by name.
    three = small.new("sqlite")
    with pytest.raises(SauvegardeError, match="nothing was written") as caught:
        migrate(small, one, three, tmp_path)
    assert "a.offer 2 until: infinity would be stored as 9999-12-31T23:59:59.999999Z" in caught.value.why
    assert "a.plain 11 day: 0044-03-15 BC would be stored as 0001-01-01" in caught.value.why
    assert "a.wallet 1 balance: NaN cannot be stored" in caught.value.why
    _, done, _ = migrate(small, one, three, tmp_path, policy={"infinity": "limit", "nan": "empty"})
    rows = stored(small, three, done["side"])
    assert rows[1][1][2:] == ("9999-12-31 23:59:59.999999", "0001-01-01") and rows[5] == [(1, None)]
