"""People whom only the name of their model gives away, telephones that are numbers, keys that are UUIDs."""

import json

import pytest
from little_site import Folder
from sample_site import ENVIRONMENTS, shell, text_of
from sauvegarde.django import policy_draft, site
from sauvegarde.errors import SauvegardeError

KEY = "00112233445566778899aabbccddeeff"
MODELS = """
import uuid
from django.db import models
class Recruiter(models.Model):
    name = models.CharField(max_length=60)
    reach = models.BigIntegerField()
    size = models.IntegerField()
    born = models.DateField()
    access_token = models.UUIDField(default=uuid.uuid4)
    public_id = models.UUIDField(default=uuid.uuid4)
class Town(models.Model):
    name = models.CharField(max_length=60)
class Offer(models.Model):
    body = models.TextField()
    kept = models.TextField(default="")
"""
FILL = """
from a.models import *
for n in range(12):
    Recruiter.objects.create(name="Zéphyrine Canaribel", reach=612345670 + n, size=100000000 * n, born="1984-02-03")
Town.objects.create(name="Paris")
Offer.objects.create(body="Paris: ask CANARIBEL, Z&eacute;phyrine, zoe&#64;real.fr or +33 6 99 88 77 66. Canaribels.")
print(json.dumps([str(r.access_token) for r in Recruiter.objects.all()]))
"""


@pytest.fixture(scope="module", params=["pg", "sqlite"])
def offers(cluster, tmp_path_factory, request):
    where = Folder(tmp_path_factory.mktemp("recruiters"), cluster, ENVIRONMENTS[0], models=MODELS).new(request.param)
    tokens = shell(where, FILL)
    described = site.describe(where, rows=1000)
    return where, tokens, json.loads(json.dumps(policy_draft.draft(described["models"], described["samples"])))


def test_the_draft_knows_them(offers):
    where, tokens, policy = offers
    rules = policy["models"]["a.recruiter"]
    assert rules["name"] == {"mask": "name"} and rules["born"] == {"mask": "date"}
    assert rules["access_token"] == {"mask": "token"} and rules["public_id"] == "keep" and rules["size"] == "keep"
    assert rules["reach"] == {"ask": "its numbers have the form of telephones"}
    assert policy["models"]["a.town"]["name"] == "keep"
    rules["reach"] = {"mask": "number"}
    policy["models"]["a.offer"]["kept"] = "keep"
    text = text_of(where, labels=["a"], policy=policy, key=KEY).decode()
    entries = {each["model"]: each["fields"] for each in json.loads(text)}
    body = entries["a.offer"]["body"]
    assert body.startswith("Paris: ask ") and body.endswith(" Canaribels.")
    for secret in ("canaribel,", "phyrine", "real.fr", "99 88 77", *tokens, "61234567"):
        assert secret not in text.lower()
    token = entries["a.recruiter"]["access_token"]
    assert len(token) == 36 and [len(part) for part in token.split("-")] == [8, 4, 4, 4, 12]


@pytest.mark.parametrize(
    "put", ["see ZOE@real.fr", "mailto:zoe%40real.fr", "zoe&#64;real.fr", "06.99.88.77.66", "612345673"]
)
def test_what_scrub_took_out_is_found_elsewhere(offers, put):
    """Also where it stands in a field that is kept, in another spelling."""
    where, _, policy = offers
    policy["models"]["a.recruiter"]["reach"] = {"mask": "number"}
    policy["models"]["a.offer"]["kept"] = "keep"
    shell(where, f"from a.models import *\nOffer.objects.update(kept={put!r})\nprint(1)")
    with pytest.raises(SauvegardeError, match=r"a\.offer 1, kept: holds a value of a"):
        text_of(where, labels=["a"], policy=policy, key=KEY)
