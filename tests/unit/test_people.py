"""Names of known people in texts: whole words, whatever their case and accents."""

import pytest
from sauvegarde.django.field_masks import Field, Mask
from sauvegarde.django.known_people import People
from sauvegarde.django.masking import Masking

KEY = b"0123456789abcdef"


def known(*names, kept=()):
    people = People(kept)
    for name in names:
        people.add(name)
    return people


def left(people, text):
    return people.replaced(text, lambda word: "…")


@pytest.mark.parametrize(
    "text, after",
    [
        ("écrire à Zoé Réelle.", "écrire à … …."),
        ("ZOÉ RÉELLE, zoe reelle, Zoe\u0301", "… …, … …, …"),
        ("Réelle-Dupont et l'équipe d\u2019Réelle", "…-Dupont et l'équipe d\u2019…"),
        ("jean_réelle75", "jean_…75"),
        ("<b>R&eacute;elle</b>&nbsp;R&#233;elle", "<b>…</b>&nbsp;…"),
        ("Ré\u00adelle", "…"),
        ("Réellement, la zoologie", "Réellement, la zoologie"),
        ("Li Wu habite ici, Li non", "… … habite ici, Li non"),
        ("van den Berg, van et den", "van den …, van et den"),
        ("", ""),
    ],
)
def test_names_go_by_whole_words(text, after):
    assert left(known("Zoé", "Réelle", "Li Wu", "Berg"), text) == after


def test_words_that_are_kept_stay():
    people = known("Service Recrutement", "Recrutement Réelle", kept=["service recrutement"])
    assert left(people, "le service recrutement, Réelle") == "le service recrutement, …"


def test_rows_know_first_and_last_names_together_and_user_names_of_several_words():
    people = People()
    people.add_row([("first_name", "Bo"), ("last_name", "Øst"), ("username", "admin")])
    people.add_row([("username", "li.wu"), ("name", None)])
    assert left(people, "Bo Øst, Øst Bo, Bo, admin, Li Wu") == "… …, … …, Bo, admin, … …"


def test_a_name_is_replaced_in_its_own_case_by_the_same_each_time():
    people = known("Zoé", "Réelle")
    scrub = Mask("scrub", KEY, Field(), "m.f", None, people)
    text = scrub("Zoé, ZOÉ, zoé")
    one, two, three = text.split(", ")
    assert two == one.upper() and three == one.lower() and one != "Zoé"
    assert scrub({"Zoé": ["zoe"]}) != {"Zoé": ["zoe"]}


def test_no_invented_name_is_somebodys():
    plain = Mask("first_name", KEY, Field(), "m.f")("Zoé")
    people = known("Zoé", plain)
    assert Mask("first_name", KEY, Field(), "m.f", None, people)("Zoé") not in ("Zoé", plain)


def test_the_policy_says_whose_names_are_known():
    kept = {"pk": False, "null": False, "unique": False, "relation": None, "text": True}
    described = {
        "a.person": {"pk": "id", "natural_key": None, "fields": {name: dict(kept, type="CharField") for name in "nlk"}},
        "a.gone": {"pk": "id", "natural_key": None, "fields": {"last_name": dict(kept, type="CharField")}},
    }
    rules = {"n": {"mask": "first_name"}, "l": {"mask": "username"}, "k": "keep"}
    policy = {"models": {"a.person": rules, "a.gone": "drop"}}
    expected = Masking(policy, described, KEY, ["a.person", "a.gone"]).name_fields()
    assert expected == {"a.person": {"n": "first_name", "l": "username"}, "a.gone": {"last_name": "last_name"}}
