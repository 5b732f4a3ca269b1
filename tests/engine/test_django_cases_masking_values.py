"""A drafted policy looks at values, also inside other values, and asks where it cannot decide."""

import json

import pytest
from little_site import Folder
from sample_site import ENVIRONMENTS, shell, text_of
from sauvegarde.django import policy_draft, site, starting_policy
from sauvegarde.errors import SauvegardeError

KEY = "00112233445566778899aabbccddeeff"
MODELS = """
from django.contrib.postgres.fields import ArrayField, HStoreField
from django.contrib.postgres.search import SearchVectorField
from django.db import models
class Odd(models.TextField):
    def get_internal_type(self):
        return "Odd"
    def db_type(self, connection):
        return "text"
class Person(models.Model):
    first_name = models.CharField(max_length=40)
    last_name = models.CharField(max_length=40)
    dob = models.DateField(null=True)
    ssn = models.BinaryField(null=True)
class Case(models.Model):
    boxes = ArrayField(models.EmailField(), default=list)
    notes = ArrayField(ArrayField(models.CharField(max_length=60)), default=list)
    codes = ArrayField(models.CharField(max_length=9), default=list)
    more = HStoreField(default=dict)
    found = SearchVectorField(null=True)
    blob = models.BinaryField(null=True)
    data = models.JSONField(default=dict)
    calm = models.JSONField(default=dict)
    reach = models.CharField(max_length=60)
    ring = models.CharField(max_length=60)
    who = models.CharField(max_length=60)
    home = models.CharField(max_length=90)
    opens = models.CharField(max_length=90)
    remark = models.CharField(max_length=60)
    known = models.CharField(max_length=60)
    colour = models.CharField(max_length=60)
    guid = models.CharField(max_length=60)
    plain = models.CharField(max_length=60)
    slug = models.SlugField(unique=True)
    body = models.TextField()
    plan = models.TextField()
    odd = Odd(default="x")
"""
FILL = """
from a.models import *
from django.db import connection
people = [("Zoé", "Canaribel"), ("Ann", "Übermut"), ("Bo", "Øst")]
for n, (first, last) in enumerate(people):
    Person.objects.create(first_name=first, last_name=last, dob="1980-01-02", ssn=b"1 80 01")
    Case.objects.create(
        boxes=["%s@real.fr" % last], notes=[["seen by %s %s" % (first.upper(), last)]], codes=["A1", "B2"],
        more={"mail": "x%d@real.fr" % n, "level": "3"}, blob=("tel 06 12 34 56 7%d" % n).encode(),
        data={"owner": {"mail": "y%d@real.fr" % n}}, calm={"colour": "red"},
        reach="z%d@real.fr" % n, ring="06 12 34 56 7%d" % n, who="%s %s" % (last, first),
        home="%d rue des Lilas" % n, opens="sk_live_abcdefgh%djk" % n,
        remark="ask %s %s" % (first, last) if n else "nothing",
        plain="map", slug="%s-%s" % (first.lower(), "canaribel") if not n else "s%d" % n, known=last,
        colour=last if not n else "red", guid="abcdefgh123456789012345%d" % n,
        body="Call %s, x@real.fr" % last, plan="the house that was built there, 12 avenue Foch, is red",
    )
with connection.cursor() as cursor:
    cursor.execute("UPDATE a_case SET found = to_tsvector('simple', body)")
print(json.dumps(1))
"""
DECIDED = {
    "boxes": {"mask": "email"},
    "notes": {"mask": "scrub"},
    "codes": {"mask": "scrub"},
    "more": {"mask": "scrub"},
    "found": "empty",
    "data": {"mask": "scrub"},
    "calm": {"mask": "scrub"},
    "reach": {"mask": "email"},
    "ring": {"mask": "phone"},
    "who": {"mask": "name"},
    "home": {"mask": "text"},
    "opens": {"mask": "token"},
    "remark": {"mask": "scrub"},
    "plain": "keep",
    "colour": "keep",
    "guid": "keep",
    "known": {"mask": "last_name"},
    "body": {"mask": "scrub"},
}
ASKED = {
    "blob": "its bytes hold telephone numbers (3 of 3 values): empty removes them",
    "slug": "its values hold names of known people (1 of 3 values), which cannot be taken out of them",
    "plan": "its values hold postal addresses (3 of 3 values), which “scrub” does not remove",
    "odd": "its values are of the kind Odd, which is not known here",
}
SETTINGS = 'INSTALLED_APPS.append("django.contrib.postgres")\n'


@pytest.fixture(scope="module")
def cases(cluster, tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("values"), cluster, ENVIRONMENTS[0], settings=SETTINGS, models=MODELS)
    where = folder.new("pg", before=("CREATE EXTENSION hstore",))
    shell(where, FILL)
    return where, site.describe(where, rows=1000)


def test_values_decide_or_ask(cases):
    result = cases[1]
    rules = policy_draft.draft(result["models"], result["samples"])["models"]
    assert {name: rules["a.case"][name] for name in DECIDED} == DECIDED
    assert {name: rules["a.case"][name] for name in ASKED} == {name: {"ask": why} for name, why in ASKED.items()}
    assert rules["a.person"]["dob"] == {"mask": "date"} and rules["a.person"]["ssn"] == "empty"
    # Counts leave, values do not.
    assert "real.fr" not in json.dumps(result["samples"]) and "anaribel" not in json.dumps(result["samples"])


def test_a_question_stops_a_dump_until_it_is_answered(cases):
    where, result = cases
    policy = policy_draft.draft(result["models"], result["samples"])
    with pytest.raises(SauvegardeError) as caught:
        text_of(where, labels=["a"], policy=policy, key=KEY)
    for name, why in ASKED.items():
        assert f"a.case.{name}: a person must decide: {why}" in caught.value.why
    policy["models"]["a.case"].update(blob="empty", slug={"mask": "slug"}, plan={"mask": "text"}, odd="keep")
    # One of the colours is a person's name too.
    with pytest.raises(SauvegardeError) as caught:
        text_of(where, labels=["a"], policy=policy, key=KEY)
    assert "a.case 1, colour: holds a value of a.person.last_name" in caught.value.why
    policy["models"]["a.case"]["colour"] = "public"
    text = text_of(where, labels=["a"], policy=policy, key=KEY).decode()
    for secret in ("real.fr", "12 34 56", "Foch", "Lilas", "sk_live", "80 01"):
        assert secret not in text
    entry = next(each["fields"] for each in json.loads(text) if each["model"] == "a.case")
    assert [each.endswith("@example.org") for each in json.loads(entry["boxes"])] == [True]
    assert json.loads(entry["more"])["level"] == "3" and json.loads(entry["codes"]) == ["A1", "B2"]
    assert entry["data"]["owner"]["mail"].endswith("@example.org") and entry["found"] is None


def test_without_a_look_the_draft_is_made_by_names(cases):
    result = site.describe(cases[0])
    assert result["samples"] == {}
    assert policy_draft.draft(result["models"], {}) == starting_policy.starting_policy(result["models"])
