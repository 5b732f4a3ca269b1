"""Loads into a Django site: the result of stock, after everything that could fail was told, or nothing at all."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest
from sample_site import (
    ENVIRONMENTS,
    SITE,
    differences,
    fingerprint,
    manage,
    problems,
    shell,
    sites_of,
    text_of,
    write,
)
from sauvegarde.django import data_load, fixture_sets
from sauvegarde.errors import SauvegardeError
from tests_support.shared import shared

WHEN = "2020-05-06T07:08:09.123Z"


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def every(request, cluster, tmp_path_factory):
    return sites_of(request.param, cluster, tmp_path_factory)


@pytest.fixture(scope="module")
def sites(cluster, tmp_path_factory):
    return sites_of(ENVIRONMENTS[0], cluster, tmp_path_factory)


@pytest.fixture(scope="module")
def filled(sites, tmp_path_factory):
    """The data of a filled site as a stock fixture."""
    path = tmp_path_factory.mktemp("fixture") / "data.json"
    path.write_bytes(text_of(sites.new("pg", filled=True)))
    return path


def trade(name, comment="", **fields):
    return {
        "model": "reference.trade",
        "pk": name,
        "fields": dict(comment=comment, created=WHEN, updated=WHEN, **fields),
    }


def place(name, **fields):
    whole = {"code": "1", "scale": "VILLE", "inhabitants": 1, "created": WHEN, "updated": WHEN}
    return {"model": "reference.place", "pk": name, "fields": dict(whole, **fields)}


def variation(key, to, label=None):
    return {"model": "reference.tradevariation", "pk": key, "fields": {"trade": to, "label": label or f"v{key}"}}


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_a_load_equals_the_stock_one_row_for_row(every, kind, tmp_path):
    path = tmp_path / "data.json"
    path.write_bytes(text_of(every.new("sqlite", filled=True)))
    stock, ours = every.new(kind), every.new(kind)
    manage(stock, "loaddata", "-v0", str(path))
    result = data_load.load(ours, [path], {})
    expected = text_of(stock)
    assert text_of(ours) == expected
    assert result["counts"]["offers.offer"] == 120
    # On other data, with rows that are there, rows that are new, and lists that change.
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        if entry["model"] == "offers.offer" and entry["pk"] % 3 == 0:
            entry["fields"]["technologies"] = [*entry["fields"]["technologies"][1:], entry["pk"] % 5 + 1]
            entry["fields"]["title"] = "Changé \\ \t \r\n \\N"
            del entry["fields"]["places"]
        if entry["model"] == "auth.user":
            entry["fields"]["groups"] = []
        if entry["model"] == "pages.banner":
            entry["fields"]["text"] = "Autre"
    entries = [each for each in entries if each["model"] != "offers.offer" or each["pk"] % 2]
    write(path, entries)
    manage(stock, "loaddata", "-v0", str(path))
    data_load.load(ours, [path], {})
    changed = text_of(stock)
    assert changed != expected
    assert text_of(ours) == changed


# SQLite cannot look at a whole database with such a table.
MISMATCH = "CREATE TABLE old (code TEXT); CREATE TABLE older (code TEXT REFERENCES old (code));"
MANY = "INSERT INTO noted (trade) SELECT 'gone' FROM django_content_type, django_content_type LIMIT 600;"


@pytest.mark.parametrize(
    ("existing", "event", "more"),
    [(0, "INSERT", ""), (0, "INSERT", MISMATCH), (0, "INSERT", MANY), (120, "UPDATE", "")],
)
def test_no_load_into_sqlite_makes_a_reference_to_nothing(sites, filled, existing, event, more):
    """Looked for at the end where more is loaded than is there, row by row otherwise; in tables that Django does not
    know, too. What led nowhere before is nobody's fault.
    """
    where = sites.new("sqlite", filled=bool(existing))
    with contextlib.closing(sqlite3.connect(str(sites.folder / Path(where.env_file).stem))) as connection:
        count = "SELECT (SELECT count(*) FROM offers_rawoffer), (SELECT count(*) FROM noted)"
        connection.executescript(
            "CREATE TABLE noted (id INTEGER PRIMARY KEY, trade TEXT REFERENCES reference_trade);"
            f"INSERT INTO noted VALUES (1, 'gone long ago');{more}"
            f"CREATE TRIGGER noting AFTER {event} ON offers_rawoffer BEGIN"
            " INSERT INTO noted (trade) VALUES ('never there'); END"
        )
        _, noted = connection.execute(count).fetchone()
        assert noted == (601 if more == MANY else 1)
        with pytest.raises(SauvegardeError, match="refused it, and nothing was written") as caught:
            data_load.load(where, [filled], {})
        assert "foreign key" in caught.value.why.lower() and "mismatch" not in caught.value.why
        assert ("FOREIGN KEY constraint failed" in caught.value.why) == bool(existing or more)  # by whom it was seen
        assert connection.execute(count).fetchone() == (existing, noted)
        connection.execute("DROP TRIGGER noting")
        data_load.load(where, [filled], {})
        assert connection.execute(count).fetchone() == (120, noted)


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_new_rows_get_numbers_behind_the_loaded_ones(sites, filled, kind):
    where = sites.new(kind)
    data_load.load(where, [filled], {})
    code = (
        "from reference.models import Source\nfrom offers.models import RawOffer\nfrom django.utils import timezone\n"
        "s = Source.objects.create(name='NEUF')\n"
        "r = RawOffer.objects.create(source=s, guid='x', title='x', content='x', received=timezone.now())\n"
        "print(json.dumps([s.pk, r.pk]))"
    )
    assert shell(where, code) == [4, 121]


def test_listeners_are_called_raw_and_that_is_reported(sites, filled):
    where = sites.new("pg")
    result = data_load.load(where, [filled], {})
    assert result["stock"] == {}
    assert result["listeners"] == {"pages.banner": ["post_save", "pre_save"], "sites.site": ["pre_save"]}
    # A save that is not raw would count itself, and log.
    code = (
        "from pages.models import *\n"
        "print(json.dumps([[b.saves for b in Banner.objects.all()], BannerLog.objects.count()]))"
    )
    assert shell(where, code) == [[1, 1, 1], 3]


def test_values_stay_as_they_are_in_the_file(sites, tmp_path):
    where = sites.new("pg")
    data_load.load(where, [write(tmp_path / "t.json", [trade("Cartographe")])], {})
    code = (
        "from reference.models import Trade\nt = Trade.objects.get()\n"
        "print(json.dumps([str(t.created), str(t.updated)]))"
    )
    assert shell(where, code) == ["2020-05-06 07:08:09.123000+00:00"] * 2


def test_permissions_arrive_by_codename_whatever_their_numbers(sites, tmp_path):
    source = sites.new("pg", filled=True)
    path = tmp_path / "data.json"
    path.write_bytes(text_of(source))
    target = sites.new("sqlite", SITE_APPS="reversed")
    numbers = "from django.contrib.auth.models import *\nprint(Permission.objects.get(codename='view_offer').pk)"
    assert shell(source, numbers) != shell(target, numbers)
    data_load.load(target, [path], {})
    names = (
        "from django.contrib.auth.models import *\n"
        "print(json.dumps([sorted(g.permissions.values_list('codename', flat=True))"
        " for g in Group.objects.order_by('name')]))"
    )
    assert shell(source, names) == shell(target, names)
    assert ["view_offer"] in shell(target, names)
    assert differences(fingerprint(source), fingerprint(target)) == []


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_the_full_circle_is_equal_by_proof(sites, tmp_path, kind):
    production = sites.new("pg", filled=True)
    development = sites.new("sqlite", SITE_APPS="reversed")
    back = sites.new(kind)
    existing, again = tmp_path / "there.json", tmp_path / "again.jsonl"
    existing.write_bytes(text_of(production))
    data_load.load(development, [existing], {})
    again.write_bytes(text_of(development, format="jsonl"))
    data_load.load(back, [again], {})
    assert differences(fingerprint(production), fingerprint(back)) == []


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_replace_leaves_just_what_the_file_has(sites, filled, tmp_path, kind):
    where = sites.new(kind)
    data_load.load(where, [filled], {})
    keep = [each for each in json.loads(filled.read_text(encoding="utf-8")) if not each["model"].startswith("offers.")]
    offers = [each for each in json.loads(filled.read_text(encoding="utf-8")) if each["model"].startswith("offers.")]
    fewer = [each for each in offers if each["pk"] <= 50]
    # Two rows swap what must be unique: a merge cannot do that, whatever the order.
    fewer[0]["fields"]["guid"], fewer[1]["fields"]["guid"] = fewer[1]["fields"]["guid"], fewer[0]["fields"]["guid"]
    path = write(tmp_path / "fewer.json", fewer)
    with pytest.raises(SauvegardeError, match="the database refused it"):
        data_load.load(where, [path], {"mode": "merge"})
    data_load.load(where, [path], {"mode": "replace"})
    result = fingerprint(where)
    assert result["tables"]["offers.offer"]["rows"] == 50
    other = sites.new(kind)
    data_load.load(other, [write(tmp_path / "all.json", keep + fewer)], {})
    assert differences(fingerprint(other), result) == []


def with_listeners(where, folder, listeners):
    """The site with code that listens."""
    code = folder / "site"
    shutil.copytree(str(SITE), str(code), ignore=shutil.ignore_patterns("__pycache__"))
    with (code / "pages/models.py").open("a", encoding="utf-8") as models:
        models.write(listeners)
    return where.replace(path=str(code))


LISTENERS = """
from django.db.models.signals import post_delete, pre_delete
from offers.models import Offer

@receiver(pre_delete, sender=Offer)
def offer_goes(sender, instance, using=None, **kwargs):
    # What points to it is still there, as in stock.
    BannerLog.objects.using(using).create(banner=1000 * instance.places.count() + instance.pk)

@receiver(post_delete, sender=Banner)
def banner_gone(sender, instance, using=None, **kwargs):
    BannerLog.objects.using(using).create(banner=-instance.pk)
"""


def test_listeners_hear_of_what_a_replacement_removes_and_of_nothing_else(every, tmp_path):
    plain, listening = every.new("pg", filled=True), with_listeners(every.new("pg", filled=True), tmp_path, LISTENERS)
    values = {"labels": ["offers", "pages.Banner"], "exclude": []}
    entries = json.loads(text_of(plain, **values).decode())
    entries = [each for each in entries if each["pk"] > 2]  # the first offers, their raw ones, and two of three banners
    # The keys that are left swap what must be unique: their rows are written anew, and nobody hears of a deletion.
    raws = [each for each in entries if each["model"] == "offers.rawoffer"]
    raws[0]["fields"]["guid"], raws[1]["fields"]["guid"] = raws[1]["fields"]["guid"], raws[0]["fields"]["guid"]
    path = write(tmp_path / "fewer.json", entries)
    assert "offers.offer" not in data_load.load(plain, [path], {"mode": "replace"})["stock"]
    log = "from pages.models import BannerLog\nprint(json.dumps(sorted(b.banner for b in BannerLog.objects.all())))"
    before = shell(listening, log)
    report = data_load.load(listening, [path], {"mode": "replace", "check_only": True})["stock"]
    assert shell(listening, log) == before
    assert data_load.load(listening, [path], {"mode": "replace"})["stock"] == report
    deleted = "has a listener to {}, so Django deletes what goes"
    assert report["offers.offer"] == {"objects": 0, "why": deleted.format("pre_delete")}
    assert report["pages.banner"] == {
        "objects": 0,
        "why": deleted.format("post_delete"),
    }
    heard = shell(listening, log)
    assert sorted([*before, -1, -2, 2001, 2002]) == heard
    assert text_of(listening, **values) == text_of(plain, **values)
    # Nor does anybody hear of what is asked not to be told.
    values = {"mode": "replace", "tell_deletions": False}
    few = write(tmp_path / "few.json", [each for each in entries if each["pk"] != 3 or each["model"] != "offers.offer"])
    assert "offers.offer" not in fixture_sets.load_if_needed(listening, [few], values)["loaded"]["stock"]
    # A merge removes nothing, and says nothing.
    assert "offers.offer" not in data_load.load(listening, [path], {})["stock"]
    assert shell(listening, log) == heard


KEYS = """
import django
from django.db.models.signals import post_delete

class Priced(models.Model):
    price = models.DecimalField(max_digits=6, decimal_places=2, primary_key=True)

class Moment(models.Model):
    at = models.DateTimeField(primary_key=True)

class Span(models.Model):
    long = models.DurationField(primary_key=True)

class Host(models.Model):
    address = models.GenericIPAddressField(primary_key=True)

KEYED = [Priced, Moment, Span, Host]
if django.VERSION >= (5, 2):
    class Pair(models.Model):
        pk = models.CompositePrimaryKey("at", "price")
        at = models.DateTimeField()
        price = models.DecimalField(max_digits=6, decimal_places=2)

    KEYED.append(Pair)

@receiver(post_delete)
def keyed_gone(sender, instance, using=None, **kwargs):
    if sender in KEYED:
        Keyword.objects.using(using).create(word=f"{sender.__name__} {instance.pk}"[:40])
"""
# As fixtures write them, and as they may be written too: [one that goes, one that stays, the same otherwise].
SPELLED = {
    "priced": ["7.00", "1.50", "1.5"],
    "moment": ["2021-02-03T04:05:06Z", WHEN, "2020-05-06T09:08:09.123+02:00"],
    "span": ["P1DT00H00M00S", "P2DT03H04M05S", "2 03:04:05"],
    "host": ["10.0.0.1", "2001:db8::1", "2001:0db8:0::1"],
    "pair": [["2021-02-03T04:05:06Z", "1.50"], [WHEN, "1.50"], ["2020-05-06T09:08:09.123+02:00", "1.5"]],
}


@pytest.mark.parametrize(("kind", "zone"), [("pg", ""), ("sqlite", "Asia/Tokyo")])
def test_listeners_hear_of_keys_of_every_kind_once_they_go(sites, tmp_path, kind, zone):
    """Not of what stays, however its key is written, here or in the database."""
    where = with_listeners(sites.new(kind), tmp_path, KEYS)
    if zone:
        with (Path(where.path) / "cap/settings.py").open("a", encoding="utf-8") as settings:
            settings.write(f"DATABASES['default']['TIME_ZONE'] = {zone!r}\n")
    names = shell(
        where,
        "from django.db import connection\nfrom pages.models import *\n"
        "with connection.schema_editor() as editor:\n    [editor.create_model(each) for each in KEYED]\n\n"
        "print(json.dumps([each._meta.model_name for each in KEYED]))",
    )

    def keyed(*places):
        for name, place in ((name, place) for name in names for place in places):
            pk = SPELLED[name][place]
            fields = dict(zip(("at", "price"), pk)) if name == "pair" else {}
            yield {"model": f"pages.{name}", "pk": pk, "fields": fields}

    data_load.load(where, [write(tmp_path / "all.json", list(keyed(0, 1)))], {})
    words = (
        "from pages.models import *\nwords = sorted(k.word.split()[0] for k in Keyword.objects.all())\n"
        "Keyword.objects.all().delete()\nprint(json.dumps(words))"
    )
    for place, heard in ((1, sorted(name.title() for name in names)), (2, [])):
        data_load.load(where, [write(tmp_path / "fewer.json", list(keyed(place)))], {"mode": "replace"})
        assert shell(where, words) == heard
    count = "from pages.models import *\nprint(json.dumps([each.objects.count() for each in KEYED]))"
    assert shell(where, count) == [1] * len(names)


CHANGES = """
from django.db.models.signals import m2m_changed
from offers.models import Offer

@receiver(m2m_changed, sender=Offer.technologies.through)
def technologies_changed(sender, instance, action, pk_set, using=None, **kwargs):
    for pk in pk_set if action in ("post_add", "post_remove") else ():
        number = 1000 * instance.pk + pk
        BannerLog.objects.using(using).create(banner=number if action == "post_add" else -number)
"""


def test_listeners_hear_how_a_replacement_changes_a_list(sites, tmp_path):
    plain = sites.new("sqlite", filled=True)
    listening = with_listeners(sites.new("sqlite", filled=True), tmp_path, CHANGES)
    values = {"labels": ["offers"], "exclude": []}
    entries = json.loads(text_of(plain, **values).decode())
    offers = {each["pk"]: each["fields"] for each in entries if each["model"] == "offers.offer"}
    removed, added = offers[7]["technologies"][0], next(n for n in range(1, 99) if n not in offers[7]["technologies"])
    offers[7]["technologies"] = [*offers[7]["technologies"][1:], added]
    without = offers[8].pop("technologies")
    entries = [each for each in entries if each["pk"] != 9]
    path = write(tmp_path / "changed.json", entries)
    log = "from pages.models import BannerLog\nprint(json.dumps([b.banner for b in BannerLog.objects.all()]))"
    before = shell(listening, log)
    report = data_load.load(listening, [path], {"mode": "replace"})
    assert report["listeners"]["offers.offer"] == ["m2m_changed"] and report["stock"] == {}
    data_load.load(plain, [path], {"mode": "replace"})
    assert text_of(listening, **values) == text_of(plain, **values) and without
    assert sorted(shell(listening, log)) == sorted([*before, 7000 + added, -7000 - removed])


def test_replace_refuses_to_leave_rows_that_point_nowhere(sites, filled, tmp_path):
    where = sites.new("pg")
    data_load.load(where, [filled], {})
    before = fingerprint(where)
    entries = [each for each in json.loads(filled.read_text(encoding="utf-8")) if each["model"] == "reference.trade"]
    path = write(tmp_path / "trades.json", entries[1:])
    with pytest.raises(SauvegardeError) as caught:
        data_load.load(where, [path], {"mode": "replace"})
    lost = entries[0]["pk"]
    assert f"offers.offer None trade: rows outside the fixture point to reference.trade {lost!r}" in caught.value.why
    assert "reference.tradevariation" in caught.value.why
    assert differences(before, fingerprint(where)) == []


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_everything_wrong_is_listed_before_anything_is_written(sites, tmp_path, kind):
    where = sites.new(kind)
    path = write(
        tmp_path / "bad.json",
        [
            trade("Long", comment="six ch"),
            trade("Fine"),
            variation(1, "Nobody"),
            place("Loin", inhabitants=3_000_000_000),
            place("Vide", code=None),
            place("Date", created="yesterday"),
            trade("Plus", colour="red"),
            {"model": "reference.colour", "pk": 1, "fields": {}},
            {"model": "auth.user", "pk": 9, "fields": {"username": "x" * 151, "password": "", "groups": [["Nobody"]]}},
        ],
    )
    with pytest.raises(SauvegardeError) as caught:
        data_load.load(where, [path], {})
    lines = caught.value.why.splitlines()
    for expected in (
        "reference.trade 'Long' comment: 6 characters, at most 5 fit",
        "reference.tradevariation 1 trade: points to reference.trade 'Nobody', which does not exist",
        "reference.place 'Vide' code: is NULL, which the field does not allow",
        "reference.trade 'Plus' colour: the model has no such field",
        "reference.colour None: the site has no such model",
        "auth.user 9 username: 151 characters, at most 150 fit",
        "auth.user 9 groups: points to auth.group ['Nobody'], which does not exist",
    ):
        assert expected in lines
    assert any(line.startswith("reference.place 'Date' created: ") for line in lines)
    if kind == "pg":
        assert any("'Loin' inhabitants: 3000000000 is not between -2147483648 and 2147483647" in line for line in lines)
    assert "nothing was written" in caught.value.what
    assert shell(where, "from reference.models import *\nprint(Trade.objects.count() + Place.objects.count())") == 0


def test_all_that_is_wrong_is_counted(sites, tmp_path):
    """Also what nobody would read any more; what stops is reported, however much else is repaired."""
    where = sites.new("sqlite")
    entries = [trade(f"T{number}", comment="six ch") for number in range(2500)]
    path = write(tmp_path / "bad.json", [*entries, place("P", code=None)])
    with pytest.raises(SauvegardeError, match="2501 problems") as caught:
        data_load.load(where, [path], {})
    lines = caught.value.why.splitlines()
    assert len(lines) == 201 and lines[-1] == "… and 2301 more"
    with pytest.raises(SauvegardeError, match="1 problem;") as caught:
        data_load.load(where, [path], {"policy": {"too_long": "cut"}})
    assert caught.value.why == "reference.place 'P' code: is NULL, which the field does not allow"


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_numbers_that_no_integer_holds_are_listed(every, kind, tmp_path):
    where = every.new(kind)
    path = write(tmp_path / "far.json", [place("Loin", inhabitants=2**70), place("Près", code="2", inhabitants=2)])
    assert problems(where, path) == {("out_of_range", "reference.place", "Loin", "inhabitants"): "stop"}
    data_load.load(where, [path], {"policy": {"out_of_range": "empty"}})
    code = "from reference.models import *\nprint(json.dumps([p.inhabitants for p in Place.objects.order_by('name')]))"
    assert shell(where, code) == [None, 2]


def test_null_characters_are_listed_for_postgresql_only(sites, tmp_path):
    path = write(tmp_path / "nul.json", [trade("a\0b"), place("c", code="d\0")])
    result = problems(sites.new("pg"), path)
    assert set(result) == {("nul", "reference.trade", "a\0b", "name"), ("nul", "reference.place", "c", "code")}
    assert problems(sites.new("sqlite"), path) == {}


POLICIES = [
    ({"too_long": "cut"}, [trade("T", comment="abcdef")], "Trade.objects.get().comment", "abcde"),
    ({"nul": "strip"}, [trade("T", comment="a\0b")], "Trade.objects.get().comment", "ab"),
    ({"null": "drop"}, [trade("T"), place("P", code=None)], "Place.objects.count()", 0),
    ({"out_of_range": "empty"}, [place("P", inhabitants=2**31)], "Place.objects.get().inhabitants", None),
    ({"out_of_range": "drop"}, [place("P", inhabitants=2**31)], "Place.objects.count()", 0),
    ({"invalid": "drop"}, [place("P", inhabitants="many")], "Place.objects.count()", 0),
    ({"unknown": "skip"}, [trade("T", colour="red")], "Trade.objects.count()", 1),
    ({"foreign_key": "drop"}, [trade("T"), variation(1, "T"), variation(2, "U")], "TradeVariation.objects.get().pk", 1),
]


@pytest.mark.parametrize("policy, entries, look, expected", POLICIES, ids=[str(each[0]) for each in POLICIES])
def test_each_policy_repairs(sites, tmp_path, policy, entries, look, expected):
    where = sites.new("pg")
    path = write(tmp_path / "bad.json", entries)
    with pytest.raises(SauvegardeError):
        data_load.load(where, [path], {})
    result = data_load.load(where, [path], {"policy": policy})
    assert result["mended"] == 1
    assert result["problems"][0]["action"] == next(iter(policy.values()))
    assert shell(where, f"from reference.models import *\nprint(json.dumps({look}))") == expected


def test_too_long_may_stay_where_the_database_lets_it(sites, tmp_path):
    where = sites.new("sqlite")
    path = write(tmp_path / "long.json", [trade("T", comment="abcdef")])
    data_load.load(where, [path], {"policy": {"too_long": "keep"}})
    assert shell(where, "from reference.models import *\nprint(json.dumps(Trade.objects.get().comment))") == "abcdef"
    with pytest.raises(SauvegardeError, match="the database refused it"):
        data_load.load(sites.new("pg"), [path], {"policy": {"too_long": "keep"}})


@pytest.mark.parametrize("action, offers", [("empty", 120), ("drop", 119)])
def test_dangling_references_of_offers(sites, filled, tmp_path, action, offers):
    """Emptied where they may be NULL; else what points nowhere goes, and what points to that, and its lists."""
    entries = json.loads(filled.read_text(encoding="utf-8"))
    for entry in entries:
        if entry["model"] == "offers.offer" and entry["pk"] == 5:
            entry["fields"].update(trade="Nobody", places=["Nowhere", *entry["fields"]["places"]])
    path = write(tmp_path / "bad.json", entries)
    where = sites.new("pg")
    result = problems(where, path)
    assert set(result) == {("foreign_key", "offers.offer", 5, "trade"), ("foreign_key", "offers.offer", 5, "places")}
    data_load.load(where, [path], {"policy": {"foreign_key": action}})
    code = (
        "from offers.models import *\nfrom django.db.models import *\no = Offer.objects.filter(pk=5).first()\n"
        "pairs = Offer.places.through.objects.count()\n"
        "print(json.dumps([Offer.objects.count(), o and [o.trade_id, o.places.count()], pairs]))"
    )
    expected = [120, [None, 2], 240] if action == "empty" else [119, None, 238]
    assert shell(where, code) == expected


def test_the_last_of_two_objects_with_one_key_wins(sites, tmp_path):
    path = write(tmp_path / "twice.json", [trade("T", "a"), trade("U", "b"), trade("T", "c")])
    stock, ours = sites.new("pg"), sites.new("pg")
    manage(stock, "loaddata", "-v0", str(path))
    data_load.load(ours, [path], {})
    assert text_of(ours) == text_of(stock)


def test_left_out_fields_get_the_models_defaults(sites, tmp_path):
    path = write(
        tmp_path / "few.json",
        [{"model": "reference.technology", "pk": 1, "fields": {"name": "QGIS", "created": WHEN, "updated": WHEN}}],
    )
    stock, ours = sites.new("pg"), sites.new("pg")
    manage(stock, "loaddata", "-v0", str(path))
    data_load.load(ours, [path], {})
    assert text_of(ours) == text_of(stock)
    assert b"INCONNUE" in text_of(ours)


@pytest.mark.parametrize(
    "name", ["json.gz", "json.bz2", "json.xz", "json.lzma", "json.zip", "json.zst", "jsonl", "xml"]
)
def test_every_stock_form_is_read(sites, tmp_path, name):
    source = sites.new("sqlite", filled=True)
    labels = ["reference", "auth.Group", "territories"]
    path = tmp_path / ("data." + name)
    form = name.split(".")[0]
    plain = manage(source, "dumpdata", "--natural-foreign", "--format", form, *labels)
    if name == "json.zip":
        with zipfile.ZipFile(str(path), "w") as archive:
            archive.writestr("json", plain)
    elif name == "json.zst":
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed")
        path.write_bytes(subprocess.run(["zstd", "-c"], input=plain, stdout=subprocess.PIPE, check=True).stdout)
    else:
        pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "lzma": _alone}
        path.write_bytes(pack.get(name.rsplit(".", 1)[-1], bytes)(plain))
    where = sites.new("pg")
    data_load.load(where, [path], {})
    if name == "xml":
        # XML itself turns the line breaks of a text into its own: what stock makes of the file is what counts.
        source = sites.new("pg")
        manage(source, "loaddata", "-v0", str(path))
    values = {"labels": labels, "exclude": []}
    assert differences(fingerprint(source, **values), fingerprint(where, **values)) == []


def _alone(data):
    return lzma.compress(data, format=lzma.FORMAT_ALONE)


def test_a_pipe_and_several_files_make_one_load(sites, tmp_path):
    where = sites.new("pg")
    variations = [variation(1, "T"), variation(2, "U")]
    pipe = io.BytesIO(json.dumps(variations).encode())
    trades = write(tmp_path / "t.json", [trade("T"), trade("U")])
    # The variations come first: only all together do they point to something.
    data_load.load(where, [(pipe, "json", "the pipe"), trades], {})
    assert shell(where, "from reference.models import *\nprint(TradeVariation.objects.count())") == 2


def test_whatever_stock_reads_is_loaded_where_needed(sites, tmp_path):
    """By the modules' door: a named pipe, a format that only Django reads, models that the site does not know."""
    where = sites.new("pg")
    pipe = tmp_path / "pipe.json"
    os.mkfifo(str(pipe))
    feeder = threading.Thread(target=lambda: write(pipe, [trade("T")]), daemon=True)
    feeder.start()
    assert fixture_sets.load_if_needed(where, [pipe], {})["changed"]
    feeder.join(60)
    text = manage(where, "dumpdata", "--format", "xml", "reference.Trade").decode()
    other = tmp_path / "t.xml"
    other.write_text(text.replace('pk="T"', 'pk="U"'), encoding="utf-8")
    assert fixture_sets.load_if_needed(where, [other], {})["changed"]
    assert not fixture_sets.load_if_needed(where, [other], {})["changed"]
    unknown = [trade("V"), {"model": "reference.colour", "pk": 1, "fields": {}}]
    permission = {"codename": "fly", "name": "Can fly", "content_type": ["reference", "trade"]}
    unknown.append({"model": "auth.permission", "pk": 999, "fields": permission})
    path = write(tmp_path / "unknown.json", unknown)
    with pytest.raises(SauvegardeError, match="the site has no such model"):
        fixture_sets.load_if_needed(where, [path], {})
    skipping = {"policy": {"unknown": "skip"}}
    planned = fixture_sets.load_if_needed(where, [path], dict(skipping, check_only=True))["differences"]
    assert [each["model"] for each in planned] == ["reference.trade"]
    assert fixture_sets.load_if_needed(where, [path], skipping)["differences"] == planned
    assert not fixture_sets.load_if_needed(where, [path], dict(skipping, check_only=True))["changed"]
    code = (
        "from reference.models import *\nfrom django.contrib.auth.models import Permission\n"
        "print(json.dumps([sorted(t.pk for t in Trade.objects.all()), Permission.objects.filter(pk=999).count()]))"
    )
    assert shell(where, code) == [["T", "U", "V"], 1]


def test_a_list_that_is_none_is_listed(sites, tmp_path):
    user = {"username": "u", "password": "", "date_joined": WHEN, "groups": None}
    path = write(tmp_path / "none.json", [{"model": "auth.user", "pk": 1, "fields": user}])
    assert problems(sites.new("sqlite"), path) == {("invalid", "auth.user", 1, "groups"): "stop"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_a_truncated_fixture_loads_nothing(sites, filled, tmp_path, share, ending):
    where = sites.new("pg")
    data = filled.read_bytes()
    data = gzip.compress(data) if ending == ".json.gz" else data
    path = tmp_path / ("cut" + ending)
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SauvegardeError):
        data_load.load(where, [path], {})
    assert shell(where, "from offers.models import *\nprint(RawOffer.objects.count())") == 0


def test_a_load_that_is_killed_leaves_nothing(sites, filled):
    where = sites.new("pg")
    killed = []

    def kill(event):
        if event.get("model") == "offers.rawoffer":
            result = subprocess.run(
                ["pgrep", "-P", str(os.getpid()), "-f", f"{where.python} -I"], stdout=subprocess.PIPE, check=True
            )
            for pid in result.stdout.split():
                os.kill(int(pid), signal.SIGKILL)
                killed.append(pid)

    # The load waits at the end of its transaction, when it sets the numbers of new rows, until it is killed.
    with contextlib.closing(sites.cluster.connect(Path(where.env_file).stem)) as holder:
        holder.autocommit = False
        holder.cursor().execute("ALTER SEQUENCE offers_rawoffer_id_seq CACHE 1")
        with pytest.raises(SauvegardeError):
            data_load.load(where, [filled], {}, kill)
    assert killed
    assert shell(where, "from offers.models import *\nprint(RawOffer.objects.count())") == 0
    data_load.load(where, [filled], {})
    assert shell(where, "from offers.models import *\nprint(RawOffer.objects.count())") == 120


def test_a_locked_table_ends_the_load_with_a_clear_error(sites, filled):
    where = sites.new("pg")
    database = Path(where.env_file).stem
    holder = sites.cluster.connect(database)
    holder.autocommit = False
    try:
        holder.cursor().execute("LOCK TABLE offers_offer")
        with pytest.raises(SauvegardeError) as caught:
            data_load.load(where, [filled], {"lock_timeout": 0.5})
    finally:
        holder.close()
    assert "lock timeout" in caught.value.why
    assert caught.value.exit_code == 11


def test_unknown_options_are_refused(sites, filled):
    where = sites.new("sqlite")
    for values, report in (
        ({"mode": "guess"}, "no mode guess"),
        ({"policy": {"too_long": "burn"}}, "too_long: burn"),
        ({"colour": 1}, "no option colour"),
    ):
        with pytest.raises(SauvegardeError, match=report):
            data_load.load(where, [filled], values)


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_the_real_reference_data_loads_both_ways_to_the_same(sites, tmp_path, kind):
    names = ["contracts", "jobs", "places", "sources", "technos", "sites"]
    files = [str(shared("fixtures") / (name + ".json")) for name in names]
    stock, ours = (sites.new(kind, SITE_EXTRA_APPS="jobs") for _ in range(2))
    manage(stock, "loaddata", "-v0", *files)
    data_load.load(ours, files, {})
    values = {"labels": ["jobs", "sites"], "exclude": []}
    assert text_of(ours, **values) == text_of(stock, **values)
    published = []
    for file in files:
        published += json.loads(Path(file).read_text(encoding="utf-8"))
    exported = json.loads(text_of(ours, **values).decode())
    assert sorted(exported, key=json.dumps) == sorted(published, key=json.dumps)
