"""Free text loses the names of the people whom other fields know, from the live site and from an archive."""

import json

import pytest
from little_site import Folder
from sample_site import ENVIRONMENTS, shell, text_of, write
from sauvegarde.django import data_dump, site, starting_policy

KEY = "00112233445566778899aabbccddeeff"
MODELS = """
from django.db import models
class Recruiter(models.Model):
    contact_name = models.CharField(max_length=60)
class Gone(models.Model):
    last_name = models.CharField(max_length=60)
class Offer(models.Model):
    title = models.CharField(max_length=120)
    body = models.TextField()
    data = models.JSONField(default=dict)
"""
FILL = """
from a.models import *
from django.contrib.auth.models import User
User.objects.create(username="u1", first_name="Bo", last_name="Øst")
Recruiter.objects.create(contact_name="Zéphyrine Canaribel"); Gone.objects.create(last_name="Lostname")
Offer.objects.create(title="For CANARIBEL", body="Ask zephyrine, Bo Øst or Mr Lostname. Canaribels stay.",
                     data={"by": ["Z&eacute;phyrine"], "note": "in the office"})
print(json.dumps(1))
"""


@pytest.fixture(scope="module")
def offers(cluster, tmp_path_factory):
    where = Folder(tmp_path_factory.mktemp("names"), cluster, ENVIRONMENTS[0], models=MODELS).new("sqlite")
    shell(where, FILL)
    policy = starting_policy.starting_policy(site.describe(where)["models"])
    policy["models"]["a.gone"] = "drop"
    return where, json.loads(json.dumps(policy))


def test_names_that_other_fields_know_leave_texts(offers):
    where, policy = offers
    text = text_of(where, policy=policy, key=KEY).decode()
    offer = next(each["fields"] for each in json.loads(text) if each["model"] == "a.offer")
    for secret in ("canaribel", "zephyrine", "zéphyrine", "phyrine", "bo øst", "lostname"):
        assert secret not in json.dumps(offer, ensure_ascii=False).lower().replace("canaribels", "")
    assert offer["title"].startswith("For ") and offer["title"].isupper() is False
    assert offer["body"].endswith(" Canaribels stay.") and offer["data"]["note"] == "in the office"


def test_only_some_models_do_not_know_fewer_people(offers):
    where, policy = offers
    text = text_of(where, labels=["a.Offer"], policy=policy, key=KEY)
    whole = json.loads(text_of(where, policy=policy, key=KEY).decode())
    assert json.loads(text.decode()) == [each for each in whole if each["model"] == "a.offer"]


def test_kept_words_stay(offers):
    where, policy = offers
    text = text_of(where, labels=["a.Offer"], policy=dict(policy, kept_words=["canaribel"]), key=KEY).decode()
    assert "For CANARIBEL" in text and "zephyrine" not in text


def test_the_names_of_an_archive_are_its_own(offers, tmp_path):
    where, policy = offers
    entries = json.loads(text_of(where).decode())
    # In the last file, after the texts that name its people.
    one = write(tmp_path / "one.json", [each for each in entries if each["model"] == "a.offer"])
    two = write(tmp_path / "two.json", [each for each in entries if each["model"] != "a.offer"])
    shell(where, "from a.models import *\nRecruiter.objects.all().delete()\nprint(1)")
    pieces = []
    data_dump.converted(where, [one, two], {"policy": policy, "key": KEY}, pieces.append)
    text = b"".join(pieces).decode().lower()
    assert "zephyrine" not in text and "for canaribel" not in text and '"model": "a.offer"' in text
