"""A preview for the person who decides, and a report to be filed that holds no value of the data."""

import json
import os

import pytest
from little_site import Folder, about
from sample_site import ENVIRONMENTS, shell, write
from sauvegarde.django import (
    data_dump,
    masking_preview,
    policy_draft,
    site,
)
from sauvegarde.migrate import migration_source

KEY = "00112233445566778899aabbccddeeff"
MODELS = """
from django.db import models
class Person(models.Model):
    first_name = models.CharField(max_length=40)
    last_name = models.CharField(max_length=40)
    email = models.EmailField(unique=True)
    dob = models.DateField(null=True)
    level = models.IntegerField(default=3)
    photo = models.BinaryField(default=b"canari bytes")
    remark = models.TextField(blank=True)
class Town(models.Model):
    label = models.CharField(max_length=40)
class AccessToken(models.Model):
    person = models.ForeignKey(Person, models.CASCADE)
class Note(models.Model):
    author = models.ForeignKey(Person, models.CASCADE)
    text = models.TextField()
"""
FILL = """
from a.models import *
for n in range(15):
    p = Person.objects.create(first_name="Canari%d" % n, last_name="Serin" + "abcdefghijklmno"[n] * 3,
                              email="canari%d@real.fr" % n, dob="1984-02-%02d" % (n + 1),
                              remark="canari remark" if n < 3 else "")
    Note.objects.create(author=p, text="Call 06 12 34 56 %02d or write to canari%d@real.fr" % (n, n))
    AccessToken.objects.create(person=p)
Town.objects.create(label="Paris")
print(1)
"""


@pytest.fixture(scope="module", params=["pg", "sqlite"])
def people(cluster, tmp_path_factory, request):
    where = Folder(tmp_path_factory.mktemp("report"), cluster, ENVIRONMENTS[0], models=MODELS).new(request.param)
    shell(where, FILL)
    described = site.describe(where, rows=1000)
    policy = json.loads(json.dumps(policy_draft.draft(described["models"], described["samples"])))
    return where, policy


def answered(policy):
    result = json.loads(json.dumps(policy))
    result["models"]["a.person"].update(photo="empty", remark="empty")
    result["models"]["a.town"]["label"] = "public"
    result["decided"] = {"by": "Zoe Martin", "date": "2026-11-28"}
    return result


def test_ten_values_of_each_field_before_and_after(people):
    where, policy = people
    result = masking_preview.read(where, policy, KEY)
    person = result["a.person"]
    assert result["a.accesstoken"] == "drop"
    assert person["email"]["action"] == {"mask": "email"} and len(person["email"]["examples"]) == 10
    before, after = person["email"]["examples"][0]
    assert before == "canari0@real.fr" and after.endswith("@example.org")
    assert person["dob"]["examples"][0][1].startswith("1984-") and len(person["remark"]["examples"]) == 1
    assert person["level"]["examples"] == [["3", "3"]]
    # A field that waits for an answer is shown, too.
    assert "ask" in person["photo"]["action"] and person["photo"]["examples"][0][1] == ""
    note = result["a.note"]["text"]["examples"][0]
    assert "canari0@real.fr" in note[0] and "canari" not in note[1] and "12 34 56" not in note[1]
    lines = masking_preview.lines(result)
    assert "a.accesstoken: none of its rows leaves" in lines and "a.person.email: mask email" in lines
    assert any(line.startswith("a.person.photo: QUESTION: ") for line in lines)
    # The values are those of the dump that follows.
    pieces = []
    data_dump.stream(where, {"labels": ["a"], "policy": answered(policy), "key": KEY}, pieces.append)
    assert after in b"".join(pieces).decode()
    assert "example.org" in "\n".join(masking_preview.lines(masking_preview.read(where, policy, "", 2)))


def test_the_report_counts_and_holds_no_value(people, tmp_path):
    where, policy = people
    policy = answered(policy)
    values = migration_source.options(policy, KEY, ["a"], True)
    manifest = migration_source.make(where, tmp_path / "out", values, about(where, tmp_path))["manifest"]
    request = {"policy": policy, "archive": "", "target": "dev", "target_environment": "development", "decided": {}}
    text = migration_source.report(manifest, request)
    for options in (
        "| Decided by | Zoe Martin |",
        "| Decided on | 2026-11-28 |",
        "| For | dev (development) |",
        "- 31 rows of 3 models left; 15 rows of 1 models were dropped.",
        "- Taken out of free text: 15 e-mail addresses, 15 telephones, 0 words of names.",
        "### a.person (15 rows)",
        "| email | mask email | 15 |",
        "| remark | emptied | 3 |",
        "| level | kept |  |",
        "| label | kept (no people's data) |  |",
        "- a.accesstoken: 15 rows",
        "0 found.",
        f"| Site | {where.path} on {os.uname().nodename} |",
    ):
        assert options in text, options
    for value in ("canari", "Serin", "real.fr", "12 34 56", "1984-02", "example.org", KEY):
        assert value not in text
    other = migration_source.report(manifest, dict(request, decided={"by": "Ada", "date": "", "note": ""}))
    assert "| Decided by | Ada |" in other and "2026-11-28 |" not in other
    assert "| Decided by | not stated |" in migration_source.report(manifest, dict(request, policy={"models": {}}))
    plain = dict(manifest.as_dict(), source=dict(manifest["source"], masking=None))
    assert migration_source.report(plain, request) == ""


def test_an_archive_is_reported_as_the_live_site_is(people, tmp_path):
    where, policy = people
    pieces = []
    data_dump.stream(where, {"labels": ["a"]}, pieces.append)
    path = write(tmp_path / "data.json", json.loads(b"".join(pieces).decode()))
    values = {"policy": answered(policy), "key": KEY, "labels": ["a"]}
    one = data_dump.stream(where, values, lambda piece: None)["masking"]
    two = data_dump.converted(where, [path], values, lambda piece: None)["masking"]
    assert one["fields"] == two["fields"] and one["dropped"] == two["dropped"] and one["removed"] == two["removed"]
    assert one["search"]["originals"] == two["search"]["originals"] > 0
