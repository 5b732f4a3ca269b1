"""Masking at the source: what leaves a site under a policy."""

import json
import shutil
from pathlib import Path

import pytest
from sample_site import CANARY, ENVIRONMENTS, SITE, differences, fingerprint, shell, sites_of, text_of, write
from sauvegarde.django import data_dump, data_load, site, starting_policy
from sauvegarde.errors import SauvegardeError
from sauvegarde.migrate import migration_plan

KEY = "00112233445566778899aabbccddeeff"


@pytest.fixture(scope="module")
def sites(cluster, tmp_path_factory):
    return sites_of(ENVIRONMENTS[0], cluster, tmp_path_factory)


@pytest.fixture(scope="module")
def production(sites):
    return sites.new("pg", filled=True)


@pytest.fixture(scope="module")
def policy(production):
    """The starting policy, with what a person would add to it: the texts that name people."""
    result = starting_policy.starting_policy(site.describe(production)["models"])
    result["models"]["offers.rawoffer"]["content"] = {"mask": "text"}
    result["password"] = "développement"
    return json.loads(json.dumps(result))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_version_describes_masks_and_loads(cluster, tmp_path_factory, tmp_path, environment):
    """Description, drafted policy, masked dump, load with a policy that mends, sequences, and a migration's survey."""
    every = sites_of(environment, cluster, tmp_path_factory)
    source, target = every.new("sqlite", filled=True), every.new("pg")
    policy = starting_policy.starting_policy(site.describe(source)["models"])
    path = tmp_path / "masked.jsonl.gz"
    values = {"policy": json.loads(json.dumps(policy)), "key": KEY, "format": "jsonl"}
    sent = data_dump.to_file(source, values, path, prove=True)
    assert sent["masked"] and sent["counts"]["auth.user"] == 30
    data_load.load(target, [path], {"mode": "replace"})
    assert differences(sent["fingerprint"], fingerprint(target)) == []
    long = {"name": "T", "comment": "six ch", "created": "2020-05-06T07:08:09Z", "updated": "2020-05-06T07:08:09Z"}
    repaired = write(tmp_path / "long.json", [{"model": "reference.trade", "pk": long.pop("name"), "fields": long}])
    assert data_load.load(target, [repaired], {"policy": {"too_long": "cut"}})["touched"] == {"reference.trade": ["T"]}
    code = (
        "from reference.models import *\n"
        "print(json.dumps([Trade.objects.get(pk='T').comment, Source.objects.create(name='NEUF').pk]))"
    )
    assert shell(target, code) == ["six c", 4]
    for where, vendor in ((source, "sqlite"), (target, "postgresql")):
        result = migration_plan.survey(where)
        assert result["vendor"] == vendor and result["applied"] == result["migrations"] != []
        assert set(sent["counts"]) <= set(result["selected"]) and "offers_offer" in result["tables"]
        assert result["models"]["reference.trade"]["fields"]["comment"]["max_length"] == 5


def test_the_starting_policy_knows_the_site(production):
    models = starting_policy.starting_policy(site.describe(production)["models"])["models"]
    assert models["sessions.session"] == "drop" and models["admin.logentry"] == "drop"
    user = models["auth.user"]
    assert user["password"] == {"mask": "password"} and user["username"] == {"mask": "username"}
    assert user["email"] == {"mask": "email"} and user["last_name"] == {"mask": "last_name"}
    profile = models["people.profile"]
    assert profile["phone"] == {"mask": "phone"} and profile["birth_date"] == {"mask": "date"}
    assert profile["api_token"] == {"mask": "token"} and profile["last_ip"] == {"mask": "ip"}
    assert profile["street_address"] == {"mask": "text"} and profile["postcode"] == {"mask": "digits"}
    assert models["offers.offer"]["contact_name"] == {"mask": "name"}
    assert models["offers.offer"]["body"] == {"mask": "scrub"}
    assert models["reference.place"]["code"] == "keep" and models["reference.source"]["url"] == "keep"


def test_no_canary_in_what_leaves(production, policy):
    plain = text_of(production).decode()
    masked = text_of(production, policy=policy, key=KEY).decode()
    for secret in [*CANARY.split(" "), CANARY.split(" ")[1].lower(), "people.example.org", "recrute.example.org"]:
        assert secret in plain
        assert secret not in masked
    assert "sessions.session" not in masked
    assert "Cartographe" in masked


def test_masked_values_are_the_same_each_time_and_for_each_key_others(production, policy):
    first = text_of(production, policy=policy, key=KEY)
    assert text_of(production, policy=policy, key=KEY) == first
    assert text_of(production, policy=policy, key="ff" * 16) != first


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_a_masked_stream_arrives_as_it_left_and_the_site_works(sites, production, policy, tmp_path, kind):
    path = tmp_path / "masked.json.gz"
    sent = data_dump.to_file(production, {"policy": policy, "key": KEY}, path, prove=True)
    assert sent["masked"]
    development = sites.new(kind, SITE_APPS="reversed")
    data_load.load(development, [path], {})
    assert differences(sent["fingerprint"], fingerprint(development)) == []
    code = (
        "from django.test import Client\nfrom django.contrib.auth.models import User\n"
        "from offers.models import Offer\nfrom pages.models import Article\n"
        "client = Client(SERVER_NAME='localhost')\n"
        "user = User.objects.order_by('pk').first()\n"
        "pages = ['/', f'/offres/{Offer.objects.first().pk}/', f'/pages/{Article.objects.first().slug}/']\n"
        "codes = [client.get(page).status_code for page in pages]\n"
        "codes.append(client.login(username=user.username, password='développement'))\n"
        "codes.append(client.get('/admin/').status_code)\n"
        "names = User.objects.values('username').distinct().count()\n"
        "print(json.dumps([codes, user.email.endswith('@example.org'), names]))"
    )
    assert shell(development, code) == [[200, 200, 200, True, 200], True, 30]


def test_articles_keep_their_authors(production, policy):
    entries = json.loads(text_of(production, policy=policy, key=KEY).decode())
    names = {each["fields"]["username"] for each in entries if each["model"] == "auth.user"}
    authors = {each["fields"]["author"][0] for each in entries if each["model"] == "pages.article"}
    assert authors and authors <= names


def test_an_archive_is_masked_as_the_live_site_is(production, policy, tmp_path):
    """The same key, the same policy: the same stream, wherever it comes from."""
    live = text_of(production, policy=policy, key=KEY)
    pieces = []
    path = tmp_path / "data.json"
    path.write_bytes(text_of(production))
    result = data_dump.converted(production, [path], {"policy": policy, "key": KEY}, pieces.append)
    assert result["masked"]
    assert json.loads(b"".join(pieces).decode()) == json.loads(live.decode())


LENT = """
Profile.natural_key = lambda self: self.user.natural_key()
Subscription.natural_key = lambda self: ("at " + self.email,)
"""


def test_a_natural_key_that_another_model_lends_gives_nobody_away(production, policy, tmp_path):
    code = tmp_path / "site"
    shutil.copytree(str(SITE), str(code), ignore=shutil.ignore_patterns("__pycache__"))
    with (code / "people/models.py").open("a", encoding="utf-8") as models:
        models.write(LENT)
    where = production.replace(path=str(code))
    described = site.describe(where)["models"]
    assert described["people.profile"]["natural_key"] == [["auth.user", "username"]]
    assert described["auth.permission"]["natural_key"] == [
        ["auth.permission", "codename"],
        ["contenttypes.contenttype", "app_label"],
        ["contenttypes.contenttype", "model"],
    ]
    assert described["people.subscription"]["natural_key"] == []
    masked = json.loads(text_of(where, policy=policy, key=KEY).decode())
    names = {each["fields"]["username"] for each in masked if each["model"] == "auth.user"}
    value = [each["fields"]["profile"] for each in masked if each["model"] == "people.subscription"]
    followed = [each[0] for each in value if each]
    assert followed and set(followed) <= names
    path = write(tmp_path / "data.json", json.loads(text_of(where).decode()))
    pieces = []
    data_dump.converted(where, [path], {"policy": policy, "key": KEY}, pieces.append)
    assert json.loads(b"".join(pieces).decode()) == masked


MAIL = 'reach = models.EmailField(db_column="contact_email", '
STAFF = """
from django.contrib.auth.models import User

class Staff(User):
    def natural_key(self):
        return (self.email,)

    class Meta:
        proxy = True

"""
SPOT = """
from reference import models as reference

class Place(reference.Place):
    class Meta:
        proxy = True

"""


def test_what_points_to_a_proxy_is_masked_as_its_model_is(production, tmp_path):
    """By the proxy's own natural key, too; and an address is known by its field's class, whatever it is called."""
    code = tmp_path / "site"
    shutil.copytree(str(SITE), str(code), ignore=shutil.ignore_patterns("__pycache__"))
    for name, more, before, changes in (
        ("pages", STAFF, "class Section", {"settings.AUTH_USER_MODEL": "Staff"}),
        ("offers", SPOT, "class RawOffer", {"contact_email = models.EmailField(": MAIL, "Dated, Place,": "Dated,"}),
    ):
        path = code / name / "models.py"
        text = path.read_text(encoding="utf-8").replace(before, more.lstrip() + "\n" + before, 1)
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    where = production.replace(path=str(code))
    described = site.describe(where)["models"]
    assert described["offers.offer"]["fields"]["places"]["relation"] == ["reference.place", "name"]
    author = described["pages.article"]["fields"]["author"]
    assert author["relation"] == ["auth.user", "id"] and author["natural_key"] == [["auth.user", "email"]]
    policy = json.loads(json.dumps(starting_policy.starting_policy(described)))
    assert policy["models"]["offers.offer"]["reach"] == {"mask": "email"}
    policy["models"]["reference.place"]["name"] = {"mask": "text"}
    policy["not_searched"] = ["reference.place.name"]  # a town's name is in most texts
    masked = json.loads(text_of(where, policy=policy, key=KEY).decode())
    addresses = {each["fields"]["email"] for each in masked if each["model"] == "auth.user"}
    authors = {each["fields"]["author"][0] for each in masked if each["model"] == "pages.article"}
    places = {each["pk"] for each in masked if each["model"] == "reference.place"}
    meant = {name for each in masked if each["model"] == "offers.offer" for name in each["fields"]["places"]}
    assert authors and authors <= addresses and meant and meant <= places
    path = write(tmp_path / "data.json", json.loads(text_of(where).decode()))
    pieces = []
    data_dump.converted(where, [path], {"policy": policy, "key": KEY}, pieces.append)
    assert json.loads(b"".join(pieces).decode()) == masked


def test_a_field_that_the_policy_does_not_know_stops_everything(production, policy, tmp_path):
    models = json.loads(json.dumps(policy["models"]))
    del models["people.profile"]["phone"]
    path = tmp_path / "masked.json"
    with pytest.raises(SauvegardeError) as caught:
        data_dump.to_file(production, {"policy": {"models": models}, "key": KEY}, path)
    assert "people.profile.phone: the field is not in the policy" in caught.value.why
    assert not path.exists()
    del models["people.profile"]
    with pytest.raises(SauvegardeError) as caught:
        data_dump.to_file(production, {"policy": {"models": models}, "key": KEY}, path)
    assert "people.profile: the model is not in the policy" in caught.value.why


def test_masking_needs_its_key(production, policy):
    with pytest.raises(SauvegardeError, match="secret key"):
        text_of(production, policy=policy)


def test_the_key_is_in_no_process_list(production, policy, tmp_path):
    """The key and the policy go through the pipe: the worker's command line is the same for every task."""
    seen = []

    def look(_event):
        seen.append(any(KEY in line for line in command_lines()))

    data_dump.stream(production, {"policy": policy, "key": KEY}, lambda piece: None, look)
    assert seen and not any(seen)


def command_lines():
    texts = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts.append(each.read_bytes().decode("utf-8", "replace"))
        except OSError:
            continue  # it ended
    return texts
