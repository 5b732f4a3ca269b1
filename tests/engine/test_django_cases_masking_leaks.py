"""Originals of masked fields do not leave: canaries in each kind of field, put back by sabotage, are found."""

import json

import pytest
from little_site import Folder
from sample_site import ENVIRONMENTS, shell, text_of, write
from sauvegarde.django import data_dump, site, starting_policy
from sauvegarde.errors import SauvegardeError

KEY = "00112233445566778899aabbccddeeff"
MODELS = """
from django.contrib.postgres.fields import ArrayField, HStoreField
from django.db import models
class Person(models.Model):
    first_name = models.CharField(max_length=40)
    last_name = models.CharField(max_length=40)
    nick = models.SlugField(unique=True)
    login = models.CharField(max_length=40)
    password = models.CharField(max_length=90)
    email = models.EmailField()
    phone = models.CharField(max_length=40)
    token = models.CharField(max_length=40)
    ip = models.GenericIPAddressField()
    page = models.URLField()
    street = models.CharField(max_length=60)
    emails = ArrayField(models.EmailField())
    more = HStoreField()
    data = models.JSONField()
    body = models.TextField()
    note = models.TextField()
class Other(models.Model):
    text = models.TextField()
"""
CANARIES = {
    "last_name": "Canaribel",
    "nick": "canari-nick-zoe",
    "login": "canari.login",
    "password": "pbkdf2_sha256$1$canarisalt$canarihash",
    "email": "canari@real.fr",
    "phone": "+33 6 12 34 56 78",
    "token": "canari0123456789abcd",
    "ip": "203.0.113.9",
    "page": "https://real.fr/canari",
    "street": "12 rue du Canari",
    "emails": ["canari.list@real.fr"],
    "more": {"key": "canari.store@real.fr"},
    "data": {"in": [{"it": "canari.json@real.fr"}]},
    "body": "about Canaribel",
    "note": "a note about canaries",
}
HOW = {"nick": "slug", "login": "username", "page": "url", "emails": "email", "more": "email", "data": "email"}
EMPTIED = ("note",)
SETTINGS = 'INSTALLED_APPS.append("django.contrib.postgres")\n'


@pytest.fixture(scope="module")
def canaries(cluster, tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("leaks"), cluster, ENVIRONMENTS[0], settings=SETTINGS, models=MODELS)
    where = folder.new("pg", before=("CREATE EXTENSION hstore",))
    values = json.dumps(dict(CANARIES, first_name="Zephyrine"))
    shell(where, f"from a.models import *\nPerson.objects.create(**{values})\nprint(1)")
    policy = starting_policy.starting_policy(site.describe(where)["models"])
    rules = policy["models"]["a.person"]
    rules.update({name: {"mask": how} for name, how in HOW.items()})
    rules["note"] = "empty"
    return where, policy


def convert(where, path, policy):
    pieces = []
    data_dump.converted(where, [path], {"policy": policy, "key": KEY, "labels": ["a"]}, pieces.append)
    return b"".join(pieces).decode()


def test_none_leaves_and_each_put_elsewhere_is_found(canaries, tmp_path):
    where, policy = canaries
    plain = json.loads(text_of(where, labels=["a"]).decode())
    masked = text_of(where, labels=["a"], policy=policy, key=KEY).decode()
    assert "canari" in json.dumps(plain) and "canari" not in masked.lower() and "12 34 56" not in masked
    # Each canary again, in a field of another model that the policy keeps.
    text = [json.dumps(value) if isinstance(value, (list, dict)) else value for value in CANARIES.values()]
    others = [{"model": "a.other", "pk": n, "fields": {"text": each}} for n, each in enumerate(text)]
    path = write(tmp_path / "data.json", plain + others)
    kept = json.loads(json.dumps(policy))
    kept["models"]["a.other"]["text"] = "keep"
    with pytest.raises(SauvegardeError) as caught:
        convert(where, path, kept)
    report = caught.value.why
    missed = [name for n, name in enumerate(CANARIES) if f"a.other {n}, text: holds" not in report]
    # A single name in a kept text may be a town's.
    assert missed == ["body"]
    kept["models"]["a.other"]["text"] = "public"
    assert "canari" in convert(where, path, kept)
    names = ["a.person." + name for name in CANARIES]
    kept["models"]["a.other"]["text"] = "keep"
    report = json.loads(convert(where, write(tmp_path / "one.json", others[1:2]), dict(kept, not_searched=names)))
    assert [each["fields"]["text"] for each in report] == [CANARIES["nick"]]


def test_each_mask_that_does_nothing_is_found(canaries, tmp_path, monkeypatch):
    """The engine's own fault: the masks give back what they got."""
    where, policy = canaries
    sent = site.modules()
    before = "        for attempt in range(1000):\n"
    assert before in sent["sauvegarde.django.field_masks"]
    broken = sent["sauvegarde.django.field_masks"].replace(before, "        return value\n" + before)
    monkeypatch.setattr(site, "modules", lambda: dict(sent, **{"sauvegarde.django.field_masks": broken}))
    with pytest.raises(SauvegardeError) as caught:
        text_of(where, labels=["a"], policy=policy, key=KEY)
    masked = [name for name in CANARIES if name not in EMPTIED]
    assert [name for name in masked if f"a.person 1, {name}: holds" not in caught.value.why] == []
