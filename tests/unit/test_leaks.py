"""The search for originals in what leaves: normalised, hashed, and told by model, key and field."""

import json

import pytest
from sauvegarde.django.field_masks import Field, Mask
from sauvegarde.django.known_people import People
from sauvegarde.django.leak_scan import Originals, Scanner, in_place
from sauvegarde.errors import SauvegardeError

KEY = b"0123456789abcdef"
SECRETS = [
    ("email", "Zoe.Reelle@real.fr"),
    ("phone", "06 12 34 56 78"),
    ("name", "Zoé Réelle"),
    ("last_name", "Canaribel"),
    ("username", "zoe.reelle"),
    ("username", "zoereelle"),
    ("text", "12 rue des Lilas"),
    ("text", "FR7612345"),
    ("token", "sk0a1b2c3d4e5f6g"),
    ("password", "pbkdf2_sha256$1$salt$hash"),
    ("url", "https://real.fr/zoe"),
    ("ip", "203.0.113.9"),
    ("slug", "zoe-reelle"),
    ("empty", "a remark about Zoe"),
    ("text", " ".join(f"word{number}" for number in range(30))),
]


def finds(how, secret, value, rules=None, people=None):
    originals = Originals(KEY)
    originals.add(how, secret, "auth.user.field")
    originals.add_people(people or People())
    plain = json.loads(json.dumps(originals.plain()))
    assert secret not in json.dumps(plain)
    scanner = Scanner({"models": {"a.note": rules or {"text": "keep"}}}, KEY, plain)
    scanner.add({"model": "a.note", "pk": 7, "fields": {"other": 5, "text": value}})
    try:
        scanner.end()
    except SauvegardeError as error:
        return error.why
    return ""


@pytest.mark.parametrize("how, secret", SECRETS)
def test_an_original_is_found_alone_and_inside_lists_and_json(how, secret):
    report = "a.note 7, text: holds a value of auth.user.field"
    for value in (secret, secret.upper(), [secret], {"a": [1, {"b": secret}]}, {secret: None}):
        assert finds(how, secret, value) == report
    assert finds(how, secret, secret, {"text": "public"}) == ""
    assert finds(how, secret, "nothing of it", {"text": "keep"}) == ""


@pytest.mark.parametrize(
    "how, secret, text",
    [
        ("email", "zoe@real.fr", "write to <a href='mailto:zoe@real.fr'>"),
        ("phone", "06 12 34 56 78", "call +33 6.12.34.56.78 now"),
        ("phone", "+33612345678", "call 0612345678 now"),
        ("name", "Zoé Réelle", "ask ZOE REELLE, R&eacute;elle"),
        ("name", "Zoé Réelle", '["Zo\\u00e9 R\\u00e9elle"]'),
        ("name", "Zoé Réelle", "Zoe\u0301\u00a0Re\u0301\u00adelle!"),
        ("text", "12, rue des Lilas", "at 12 rue des lilas (Paris)"),
    ],
)
def test_an_original_is_found_in_a_text_however_it_is_written(how, secret, text):
    assert "auth.user.field" in finds(how, secret, text)


@pytest.mark.parametrize(
    "how, secret, text",
    [
        ("first_name", "Ruby", "Ruby"),
        ("last_name", "Martin", "Saint-Martin"),
        ("digits", "75011", "75011"),
        ("email", "zoe@real.fr", "zoe, real or fr"),
        ("text", "Paris", "to Paris"),
        ("name", "Zoé Réelle", "Zoe Reellement"),
    ],
)
def test_what_may_be_anybodys_is_not(how, secret, text):
    assert finds(how, secret, text) == ""


def test_single_names_count_in_scrubbed_texts():
    people = People()
    people.add("Zoé Réelle")
    scrubbed = {"text": {"mask": "scrub"}}
    assert "a name of known people" in finds("digits", "00000", "ask réelle", scrubbed, people)
    assert finds("digits", "00000", "ask réelle", None, people) == ""


def test_many_hits_are_counted():
    originals = Originals(KEY)
    originals.add("email", "zoe@real.fr", "auth.user.email")
    scanner = Scanner({"models": {}}, KEY, originals.plain())
    for number in range(30):
        scanner.add({"model": "a.note", "pk": number, "fields": {"text": "zoe@real.fr"}})
    with pytest.raises(SauvegardeError) as caught:
        scanner.end()
    assert len(caught.value.why.splitlines()) == 21 and caught.value.why.endswith("and 10 more")


@pytest.mark.parametrize(
    "how, before, after, hit",
    [
        ("date", "1984-12-31T08:00:00Z", "1984-12-31T08:00:00Z", True),
        ("date", "1984-12-31T08:00:00Z", "1984-12-03T08:00:00Z", False),
        ("number", 4321, 4321, True),
        ("number", 4321, 1234, False),
        ("digits", "75011", "75011", True),
        ("digits", "GB n/a", "GB n/a", False),
        ("phone", "5", "5", False),
        ("text", "½ - ²", "½ - ²", True),
        ("text", "½ - ?", "½ - ?", False),
        ("first_name", "Zoé", "Zoé", True),
        ("scrub", "nothing personal", "nothing personal", False),
        ("empty", "Zoé", "Zoé", True),
    ],
)
def test_a_value_that_stays_in_its_own_place_is_found(how, before, after, hit):
    originals = Originals(KEY)
    originals.add_row("a.note", 7, "text", in_place(how, before))
    rules = {"text": "empty" if how == "empty" else {"mask": how}}
    for label, name, expected in (("a.note", "text", hit), ("a.note", "other", False), ("a.other", "text", False)):
        scanner = Scanner(
            {"models": {label: dict(rules, other="keep")}}, KEY, json.loads(json.dumps(originals.plain()))
        )
        scanner.add({"model": label, "pk": 7, "fields": {name: after}})
        if expected:
            with pytest.raises(SauvegardeError, match="its own value, unmasked"):
                scanner.end()
        else:
            scanner.end()


@pytest.mark.parametrize("how", ["date", "digits", "number", "phone", "text", "token", "ip"])
def test_no_mask_gives_back_what_it_got(how):
    values = {"date": [f"1984-{month:02d}-{day:02d}" for month in range(1, 13) for day in range(1, 29)]}
    values["ip"] = [f"10.0.0.{n}" for n in range(200)]
    for value in values.get(how, [str(n) for n in range(10, 300)]):
        assert Mask(how, KEY, Field(), "d")(value) != value
