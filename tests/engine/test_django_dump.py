"""Dumps of a Django site: byte for byte as stock, from one moment, or not at all."""

import gzip
import json
import lzma
import os
import shutil
import subprocess

import pytest
from sample_site import ENVIRONMENTS, SITE, differences, fingerprint, manage, shell, sites_of, text_of
from sauvegarde.django import data_dump, site
from sauvegarde.errors import SauvegardeError

STOCK = ["--exclude", "contenttypes", "--exclude", "auth.permission"]
SOME = ["reference", "pages.Article", "auth"]
NATURAL = [*STOCK, "--natural-foreign"]


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def every(request, cluster, tmp_path_factory):
    return sites_of(request.param, cluster, tmp_path_factory)


@pytest.fixture(scope="module")
def sites(cluster, tmp_path_factory):
    return sites_of(ENVIRONMENTS[0], cluster, tmp_path_factory)


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_dump_is_the_stock_one_byte_for_byte(every, kind):
    where = every.new(kind, filled=True)
    for arguments, values in (
        (NATURAL, {}),
        ([*NATURAL, "--indent", "2"], {"indent": 2}),
        ([*NATURAL, "--indent", "0"], {"indent": 0}),
        ([*NATURAL, "--format", "jsonl"], {"format": "jsonl"}),
        ([*NATURAL, "--natural-primary", "--indent", "1"], {"natural_primary": True, "indent": 1}),
        (
            [*NATURAL, "--all", "reference", "pages.Article", "auth"],
            {"all": True, "labels": ["reference", "pages.Article", "auth"]},
        ),
        (
            ["offers.Offer", "--pks", "3,5,8"],
            {"labels": ["offers.Offer"], "pks": ["3", "5", "8"], "natural_foreign": False},
        ),
        (["admin.LogEntry", "--indent", "3"], {"labels": ["admin.LogEntry"], "indent": 3, "exclude": []}),
    ):
        if values.get("natural_foreign") is False or "--natural-foreign" in arguments:
            expected = manage(where, "dumpdata", *arguments)
        else:
            expected = manage(where, "dumpdata", "--natural-foreign", *arguments)
        assert text_of(where, **values) == expected, values
        assert expected.startswith(b"[") or values.get("format") == "jsonl"


HOSTILE = r"""
import datetime, decimal
from offers.models import *
from reference.models import *
text = "".join(map(chr, range(1, 300))) + "\\v \\N \\t \\\\ \" \u2028 \U0001f5fa"
Place.objects.create(name=text[20:90] + "%s", code="\x0b", scale="\x7f\\v", inhabitants=None)
Offer.objects.filter(pk=1).update(body=text, title="\\", contact_name="\x0b\\v", salary=decimal.Decimal("-0.05"))
Offer.objects.filter(pk=2).update(experience=datetime.timedelta(days=-3, microseconds=7), score=1e22, body="\\N")
Offer.objects.filter(pk=3).update(experience=datetime.timedelta(days=40000, hours=5), score=-0.0, views=0)
Offer.objects.filter(pk=4).update(published=datetime.datetime(1, 1, 2, 3, 4, 5, 600, datetime.timezone.utc))
Offer.objects.filter(pk=5).update(week=datetime.date(9999, 12, 31), posted_from="::ffff:192.0.2.1", score=5e-324)
RawOffer.objects.filter(pk=6).update(payload={text: [text, None, 1e-7, {"\"": "\\"}]}, content="\t\r\n\x1f")
Offer.objects.get(pk=7).places.set(list(Place.objects.all())[::-1])
Offer.objects.get(pk=8).technologies.clear()
print(1)
"""
FORMS = [([], {}), (["--indent", "2"], {"indent": 2}), (["--format", "jsonl"], {"format": "jsonl"})]


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_hostile_values_are_written_as_stock_writes_them(every, kind):
    where = every.new(kind, filled=True)
    shell(where, HOSTILE)
    for arguments, values in FORMS:
        assert text_of(where, **values) == manage(where, "dumpdata", *NATURAL, *arguments), values


LOOSE = r"""
from django.db import connection
cursor = connection.cursor()
cursor.execute("PRAGMA foreign_keys = OFF")
for number, change in enumerate([
    "views = 1.5", "views = 'many'", "remote = 7", "remote = '1'", "score = 3", "week = '2020-1-2'", "salary = 12",
    "published = '2020-01-02T03:04:05.25'", "contract_id = 5", "trade_id = x'c3a9'",
]):
    cursor.execute(f"UPDATE offers_offer SET {change} WHERE id = {number + 10}")
print(1)
"""


def test_values_of_another_type_than_their_column_are_written_as_stock_writes_them(sites):
    """SQLite takes any type in any column."""
    where = sites.new("sqlite", filled=True)
    shell(where, LOOSE)
    assert text_of(where) == manage(where, "dumpdata", *NATURAL)


def test_every_model_is_read_fast(sites):
    result = data_dump.stream(sites.new("sqlite", filled=True), {}, lambda piece: None)
    assert result["stock"] == {}
    assert result["counts"]["offers.offer"] == 120


@pytest.mark.parametrize("name", ["data.json", "data.json.gz", "data.json.xz", "data.json.zst", "data.jsonl.gz"])
def test_files_are_compressed_by_their_names(sites, tmp_path, name):
    where = sites.new("sqlite", filled=True)
    path = tmp_path / name
    result = data_dump.to_file(where, {}, path)
    data = path.read_bytes()
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    elif name.endswith(".xz"):
        data = lzma.decompress(data)
    elif name.endswith(".zst"):
        if shutil.which("zstd") is None:
            pytest.skip("zstd is not installed")
        data = subprocess.run(["zstd", "-dc", str(path)], stdout=subprocess.PIPE, check=True).stdout
    form = "jsonl" if ".jsonl" in name else "json"
    assert data == manage(where, "dumpdata", *NATURAL, "--format", form)
    assert result["bytes"] == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_failed_dump_leaves_the_old_file(sites, tmp_path):
    where = sites.new("sqlite", filled=True)
    path = tmp_path / "data.json"
    path.write_text("the last good one", encoding="utf-8")
    # One row points to a user who is gone: its natural key cannot be written.
    shell(
        where,
        "from django.db import connection\n"
        "connection.cursor().execute('PRAGMA foreign_keys = OFF')\n"
        "connection.cursor().execute('UPDATE pages_article SET author_id = 999 WHERE id = 3')\n"
        "print(1)",
    )
    with pytest.raises(SauvegardeError) as caught:
        data_dump.to_file(where, {}, path)
    assert "auth.user 999" in str(caught.value)
    assert path.read_text(encoding="utf-8") == "the last good one"
    assert [each.name for each in tmp_path.iterdir()] == ["data.json"]


def test_a_dump_to_a_full_disk_leaves_the_old_file(sites, tmp_path, monkeypatch):
    where = sites.new("sqlite", filled=True)
    path = tmp_path / "data.json"
    path.write_text("the last good one", encoding="utf-8")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SauvegardeError, match="No space"):
        data_dump.to_file(where, {}, path)
    with pytest.raises(SauvegardeError, match="No such file"):
        data_dump.to_file(where, {}, tmp_path / "nowhere/data.json")
    assert path.read_text(encoding="utf-8") == "the last good one"
    assert [each.name for each in tmp_path.iterdir()] == ["data.json"]


def test_an_import_during_the_dump_does_not_tear_it(sites):
    where = sites.new("pg", filled=True)
    pieces, imported = [], []

    def import_one(event):
        # When the raw offers have been read, before the offers: stock would dump this offer without its raw one.
        if event["model"] == "offers.rawoffer" and not imported:
            manage(where, "generate", "--first", "1001", "--offers", "5")
            imported.append(event["objects"])

    result = data_dump.stream(where, {}, pieces.append, import_one)
    assert imported == [120]
    entries = json.loads(b"".join(pieces).decode())
    raws = {each["pk"] for each in entries if each["model"] == "offers.rawoffer"}
    assert {each["fields"]["raw"] for each in entries if each["model"] == "offers.offer"} == raws
    assert result["counts"]["offers.offer"] == 120
    assert shell(where, "from offers.models import Offer; print(Offer.objects.count())") == 125


@pytest.mark.parametrize(
    "values, report",
    [
        ({"natural_foreign": False}, "auth.group.permissions"),
        ({"exclude": ["contenttypes"]}, "auth.permission: its rows' own numbers"),
    ],
)
def test_numbers_of_permissions_are_refused(sites, values, report):
    with pytest.raises(SauvegardeError) as caught:
        text_of(sites.new("sqlite", filled=True), **values)
    assert report in caught.value.why
    assert "natural" in caught.value.fix


def test_the_terminal_has_no_say_in_the_encoding(sites, monkeypatch):
    where = sites.new("sqlite", filled=True)
    expected = text_of(where, labels=["reference"])
    monkeypatch.setenv("LC_ALL", "POSIX")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    monkeypatch.setenv("PYTHONUTF8", "0")
    data = text_of(where, labels=["reference"])
    assert data == expected
    assert "Géomètre" in data.decode("utf-8")


def test_the_callers_environment_does_not_reach_the_site(sites, monkeypatch, tmp_path):
    where = sites.new("sqlite", filled=True)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/production.sqlite3")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "json.py").write_text("raise SystemExit('hostile')", encoding="utf-8")
    assert fingerprint(where)["tables"]["offers.offer"]["rows"] == 120
    assert not (tmp_path / "production.sqlite3").exists()


def test_unknown_models_and_options_are_named(sites):
    where = sites.new("sqlite")
    with pytest.raises(SauvegardeError, match=r"The site has no model or application offers\.Ofer"):
        text_of(where, labels=["offers.Ofer"])
    with pytest.raises(SauvegardeError, match="A dump has no option idnent"):
        text_of(where, idnent=2)
    with pytest.raises(SauvegardeError, match="interpreter does not exist"):
        site.site(dict(where.as_dict(), python="/nowhere/python"))


def test_an_error_in_the_sites_code_is_reported_word_for_word(sites, tmp_path):
    where = sites.new("sqlite").replace(settings="cap.nothing")
    with pytest.raises(SauvegardeError) as caught:
        text_of(where)
    assert "No module named 'cap.nothing'" in caught.value.why


def test_the_site_is_left_as_it_was(sites, tmp_path):
    """Nothing is installed in the virtual environment, nothing written into the site: a copy that nobody ran yet."""
    copy = tmp_path / "site"
    shutil.copytree(str(SITE), str(copy), ignore=shutil.ignore_patterns("__pycache__"))
    where = sites.new("sqlite", filled=True).replace(path=str(copy))
    freeze = [where.python, "-m", "pip", "freeze"]
    before = subprocess.run(freeze, stdout=subprocess.PIPE, check=True).stdout
    files = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    text_of(where)
    assert subprocess.run(freeze, stdout=subprocess.PIPE, check=True).stdout == before
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == files


def test_fingerprints_tell_a_change_and_only_a_change(sites):
    where = sites.new("sqlite", filled=True)
    before = fingerprint(where)
    assert differences(before, fingerprint(where, indent=2)) == []
    shell(where, "from offers.models import Offer\nprint(Offer.objects.filter(pk=7).update(views=99999))")
    assert differences(before, fingerprint(where)) == ["offers.offer: 120 rows, but not the same content."]


def test_the_sites_code_runs_as_its_own_user(sites, tmp_path):
    """Where we are root: the worker is the site's user, and the data still reaches a file of ours."""
    where = sites.new("pg", filled=True).replace(user="nobody")
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    try:
        tried = subprocess.run(["runuser", "-u", "nobody", "--", where.python, "-c", "import django"], check=False)
    except OSError:
        pytest.skip("there is no runuser")
    if tried.returncode or not os.access(str(SITE), os.R_OK):
        pytest.skip("the virtual environment is in a folder that nobody else may read")
    owners = set()

    def look(_event):
        matches = subprocess.run(["ps", "-wweo", "user,args"], stdout=subprocess.PIPE, check=True).stdout.decode()
        owners.update(line.split()[0] for line in matches.splitlines() if where.python + " -I" in line)

    result = data_dump.stream(where, {}, lambda piece: None, look)
    assert owners == {"nobody"}
    assert result["counts"]["offers.offer"] == 120
