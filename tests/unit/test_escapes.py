"""Texts behind escapes: what a reader sees, where it stands, and that masks and the search look through them."""

import json

import pytest
from sauvegarde.django.escapes import Decoded, decode, in_json_strings, is_escaped
from sauvegarde.django.field_masks import Field, Mask
from sauvegarde.django.known_people import People
from sauvegarde.django.leak_scan import Originals, Scanner
from sauvegarde.django.serialized import BY_NAME, Known
from sauvegarde.errors import SauvegardeError

KEY = b"0123456789abcdef"
FORMS = {
    "decimal": lambda text: "".join(f"&#{ord(each)};" for each in text),
    "open": lambda text: "".join(f"&#{ord(each):05d}" for each in text) + ";",
    "hexadecimal": lambda text: "".join(f"&#x{ord(each):X};" for each in text),
    "percent": lambda text: "".join(f"%{byte:02x}" for byte in text.encode("utf-8")),
    "json": lambda text: "".join(f"\\u{ord(each):04x}" for each in text),
    "sign": lambda text: text.replace("@", "&commat;").replace("é", "&eacute;"),
    "at": lambda text: text.replace("@", "%40").replace("é", "%C3%A9"),
    "half": lambda text: "".join(f"&#{ord(each)};" if index % 2 else each for index, each in enumerate(text)),
    "twice": lambda text: "".join(f"&amp;#{ord(each)};" for each in text),
    "json in json": lambda text: "".join(f"\\\\\\u{ord(each):04x}" for each in text),
    "percent of percent": lambda text: "".join(f"%25{byte:02X}" for byte in text.encode("utf-8")),
    "mixed": lambda text: "".join((f"&#{ord(c)};", f"\\u{ord(c):04x}", c)[n % 3] for n, c in enumerate(text)),
}
SECRETS = [("email", "zoe@real.fr"), ("name", "Zoé Réelle"), ("phone", "+33 6 12 34 56 78")]


def people():
    known = People()
    known.add("Zoé Réelle")
    return known


def scrub(text):
    return Mask("scrub", KEY, Field(), "m.f", None, people())(text)


def finds(how, secret, text, rule="keep"):
    originals = Originals(KEY)
    originals.add(how, secret, "auth.user.field")
    originals.add_people(people())
    scanner = Scanner({"models": {"a.note": {"text": rule}}}, KEY, json.loads(json.dumps(originals.plain())))
    scanner.add({"model": "a.note", "pk": 7, "fields": {"text": text}})
    try:
        scanner.end()
    except SauvegardeError as error:
        return error.why
    return ""


@pytest.mark.parametrize("how, secret", SECRETS)
@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_in_escapes_is_removed_and_found(how, secret, form):
    written = FORMS[form](secret)
    assert decode(written) == secret
    for around in ("see {} there", "{}", "<a href='mailto:{}?x=1&amp;y'>é 100% \\ &</a>", "a%20{}%20b"):
        text = around.format(written)
        assert finds(how, secret, text)
        masked = scrub(text)
        left = decode(masked).lower()
        assert not any(part in left for part in ("zoe", "zoé", "real", "réelle", "12 34 56 78", "12345678"))
        assert not finds(how, secret, masked, {"mask": "scrub"})
        before, after = around.split("{}")
        assert masked.startswith(before) and masked.endswith(after)
    if how == "email":
        assert scrub(written) == scrub(secret)


def test_what_stands_around_stays_as_it_is_written():
    for kept in (
        "Fish &amp; chips, 100% caf&eacute;, C:\\new\\temp, \\section{x}, 50%cafe &#x40; &nosuch; a%zz",
        '{"a": 1.10, "b": "x\\ny", "c": 1e400}',
    ):
        assert scrub(kept) == kept
    assert scrub("C:\\nora\\Zoé") == "C:\\nora\\" + scrub("Zoé")
    assert not is_escaped("zoe@real.fr, 06 12 34 56 78")
    assert scrub("caf&eacute; de Zo&eacute;&nbsp;!") == "caf&eacute; de " + scrub("Zoé") + "&nbsp;!"


def test_json_kept_as_a_text_stays_json():
    inner = json.dumps({"mail": "zoe@real.fr", "text": "one\nzoe@real.fr\tZoé", "number": 5})
    text = json.dumps([{"model": "auth.user", "fields": {"data": inner, "Zoé": 1.5}}])
    masked = scrub(text)
    entry = json.loads(masked)[0]["fields"]
    assert json.loads(entry["data"])["mail"] == scrub("zoe@real.fr")
    assert json.loads(entry["data"])["text"] == "one\n{}\t{}".format(scrub("zoe@real.fr"), scrub("Zoé"))
    assert list(entry) == ["data", scrub("Zoé")] and "1.5" in masked
    assert in_json_strings('{"a": 1.10, "b":"\\u00e9"}', str.upper) == '{"A": 1.10, "B":"\\u00c9"}'


def test_originals_are_found_inside_serialized_objects():
    user = {"model": "auth.user", "pk": 1, "fields": {"username": "zoereelle", "code": "line\nzoe@real.fr"}}
    for text in (json.dumps([user]), json.dumps({"old": json.dumps(user)})):
        assert "auth.user.field" in finds("username", "zoereelle", text)
        assert "auth.user.field" in finds("email", "zoe@real.fr", text)
        assert not finds("username", "zoe.other", text)


def test_places_lead_back_to_the_original():
    text = "a &amp;#98; c%C3%A9 \\u0064e"
    seen = Decoded(text)
    assert seen.text == "a b cé de"
    for part, expected in (("b", "&amp;#98;"), ("cé", "c%C3%A9"), ("de", "\\u0064e"), ("a b", "a &amp;#98;")):
        start = seen.text.index(part)
        start, end = seen.span(start, start + len(part))
        assert text[start:end] == expected


FIELD = {"type": "CharField", "text": True, "relation": None, "unique": False}
KNOWN = Known(
    {
        "a.person": {"fields": dict.fromkeys(("id", "first_name", "last_name", "email", "town"), FIELD)},
        "a.town": {"fields": dict.fromkeys(("id", "label", "size", "code"), FIELD)},
    }
)


@pytest.mark.parametrize(
    "value, is_object",
    [
        ([{"model": "a.town", "pk": 1, "fields": {}}], True),
        ('[{"model": "a.town", "pk": 1, "fields": {}}]', True),
        ({"old": '{"model": "a.town", "fields": {"x": 1}}'}, True),
        ({"email": ["a@real.fr", "b@real.fr"], "town": ["None", "Paris"]}, True),
        ({"pk": 1, "first_name": "Zoé", "last_name": "Réelle", "email": "z@real.fr"}, True),
        ({"id": 1, "label": "Paris", "size": 3, "code": "75"}, False),
        ({"blocks": [{"type": "text", "value": "x"}]}, False),
        ({"colour": ["red", "blue"]}, False),
        ("model: a.town, fields: {}", False),
        ("[1, 2", False),
        ({}, False),
    ],
)
def test_serialized_objects_are_recognised(value, is_object):
    assert KNOWN.holds(value) is is_object


def test_fields_are_recognised_by_their_names():
    for name in ("serialized_data", "object_json_repr", "changed_fields", "changes", "change_message"):
        assert BY_NAME.search(name)
    for name in ("data", "exchanges", "message", "title"):
        assert not BY_NAME.search(name)
