"""The masking policy: deterministic, unique, of the right shape, and never silent about what it does not know."""

import re

import pytest
from sauvegarde.django.field_masks import Field, Mask
from sauvegarde.django.masking import Masking
from sauvegarde.django.starting_policy import starting_policy, unclassified
from sauvegarde.errors import SauvegardeError

KEY = b"0123456789abcdef"


def mask(how, value, key=KEY, **field):
    return Mask(how, key, Field(**field), "m.f")(value)


def field(kind="CharField", **values):
    whole = {"type": kind, "null": False, "pk": False, "unique": False, "max_length": None, "relation": None}
    return dict(dict(whole, many=False, text=kind in ("CharField", "TextField"), empty=""), **values)


def model(natural_key=None, **fields):
    return {"pk": "id", "natural_key": natural_key, "fields": dict(fields, id=dict(field("AutoField"), pk=True))}


SITE = {
    "auth.user": model(
        natural_key=[["auth.user", "username"]],
        username=dict(field(), unique=True, max_length=150),
        email=dict(field(), email=True, max_length=254),
        last_login=dict(field("DateTimeField"), null=True),
    ),
    "pages.page": model(
        body=field("TextField"),
        author=dict(field("ForeignKey"), relation=["auth.user", "id"]),
    ),
    "sessions.session": model(data=field("TextField"), token=field()),
}
POLICY = {
    "models": {
        "auth.user": {
            "id": "keep",
            "username": {"mask": "username"},
            "email": {"mask": "email"},
            "last_login": "empty",
        },
        "pages.page": {"id": "keep", "body": {"mask": "scrub"}, "author": "keep"},
        "sessions.session": "drop",
    }
}


def changed(label, name, action):
    models = {key: dict(rules) if isinstance(rules, dict) else rules for key, rules in POLICY["models"].items()}
    if action is None:
        del models[label][name]
    else:
        models[label][name] = action
    return {"models": models}


SHAPES = [
    ("email", "zoe@real.fr", r"[0-9a-f]{12}@example\.org"),
    ("phone", "06 12 34 56 78", r"0\d \d\d \d\d \d\d \d\d"),
    ("phone", "+33612345678", r"\+\d{11}"),
    ("first_name", "Zoé", r"[A-Z]\w+"),
    ("name", "Zoé Réelle", r"[A-Z]\w+ [A-Z]\w+"),
    ("username", "zoe", r"user-[0-9a-f]{12}"),
    ("text", "12 rue Zoé", r"\d\d [a-z]{3} [A-Z][a-z]{2}"),
    ("digits", "75011", r"\d{5}"),
    ("token", "0123456789abcdef", r"[0-9a-f]{16}"),
    ("token", "aB-9z", r"[a-z][A-Z]-\d[a-z]"),
    ("ip", "203.0.113.9", r"10\.\d+\.\d+\.\d+"),
    ("ip", "2001:db8::1", r"fd00(:[0-9a-f]{1,4}){7}"),
    ("date", "1984-12-31", r"1984-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"),
    ("date", "1984-12-31T10:20:30.123Z", r"1984-\d\d-\d\dT10:20:30\.123Z"),
    ("url", "https://real.fr/me", r"https://example\.org/[0-9a-f]{16}"),
    ("slug", "zoe-reelle", r"s-[0-9a-f]{12}"),
    ("password", "pbkdf2_sha256$1$a$b", r"![0-9a-f]{40}"),
]


@pytest.mark.parametrize("how, value, shape", SHAPES)
def test_a_mask_keeps_the_shape_and_nothing_else(how, value, shape):
    masked = mask(how, value)
    assert re.match(shape + r"\Z", masked), masked
    assert masked != value
    assert mask(how, value) == masked
    assert mask(how, value, key=b"another key of 16") != masked


def test_numbers_stay_numbers():
    assert isinstance(mask("number", 12345), int)
    assert len(str(mask("number", 12345))) == 5
    assert mask("number", -12345) < 0


@pytest.mark.parametrize("how", ["email", "text", "scrub", "date", "ip", "password"])
def test_nothing_stays_nothing(how):
    assert mask(how, None) is None
    assert mask(how, "") == ""


def test_free_text_loses_addresses_and_telephones_and_keeps_the_rest():
    text = "Écrire à zoe.reelle+x@cartes.real.fr ou 06 12 34 56 78 (+33 6 12 34 56 78), salaire 35 000 € pour 2024."
    masked = mask("scrub", text)
    for secret in ("zoe", "real", "06 12 34 56 78", "6 12 34 56 78"):
        assert secret not in masked
    assert masked.startswith("Écrire à ") and masked.endswith("), salaire 35 000 € pour 2024.")
    assert mask("email", "zoe.reelle+x@cartes.real.fr") in masked
    assert mask("scrub", {"a": ["x@y.fr", 5, None]})["a"][1:] == [5, None]
    assert mask("scrub", {"x@y.fr": 1}) == {mask("email", "x@y.fr"): 1}
    for phone in ("+44 20 7946 0958", "+1 (212) 555-0100", "+33 (0)6 12 34 56 78"):
        assert phone[3:] not in mask("scrub", f"appelez {phone}.") and mask("scrub", phone)[0] == "+"
    for kept in ("+5 % en 2024", "de 1 000 000 à 2 000 000", "2024-05-06"):
        assert mask("scrub", kept) == kept


@pytest.mark.parametrize("second", ["06 98 76 54 32", "+33 6 98 76 54 32", "0033698765432"])
@pytest.mark.parametrize(
    "first",
    [
        "+33 6 12 34 56 78",
        "+33\u00a06\u202f12\u00a034\u00a056\u00a078",
        "+33 (0) 6 12 34 56 78",
        "+33/6/12/34/56/78",
        "0033 6 12 34 56 78",
        "(+33) 6.12.34.56.78",
        "06\u00a012\u00a034\u00a056\u00a078",
        "06/12/34/56/78",
        "01/42 34 56 78",
        "06.12.34.56.78",
        "0612345678",
    ],
)
def test_of_two_telephones_nothing_is_left(first, second):
    """Whatever stands between them: each is masked as it is alone."""
    for between in (" ", "/", ".", " ou ", "\n", ", "):
        masked = mask("scrub", f"Tél.{first}{between}{second}.")
        assert masked == "Tél." + mask("scrub", first) + between + mask("scrub", second) + "."
        for country in ("+44 20 7946 0958", "0044 20 7946 0958"):
            left = re.sub(r"\D", "", mask("scrub", country + between + second))
            assert "79460958" not in left and "98765432" not in left


def test_what_is_no_telephone_is_kept():
    for kept in (
        "le 06/05/2024 10:30, du 01/05/2024 au 31/05/2024",
        "01-02-2024 12:30",
        "02.03.2024 14:05",
        "2024-05-06 10:20",
        "SIRET 123 456 789 00012, 000 000 000 000",
    ):
        assert mask("scrub", kept) == kept


def test_unique_fields_get_unique_values_and_the_same_for_the_same():
    unique = Mask("digits", KEY, Field(unique=True), "m.f")
    values = [f"{number:03d}" for number in range(300)]
    masked = [unique(value) for value in values]
    assert len(set(masked)) == 300
    assert len({Mask("digits", KEY, Field(), "m.f")(value) for value in values}) < 300


def test_running_out_of_unique_values_is_reported():
    unique = Mask("digits", KEY, Field(unique=True), "m.f")
    with pytest.raises(SauvegardeError, match="ran out"):
        for digit in "0123456789٣":
            unique(digit)


def test_masked_values_fit_the_field():
    assert len(mask("email", "zoe@real.fr", max_length=10)) == 10


@pytest.mark.parametrize(
    "policy, report",
    [
        (changed("auth.user", "email", None), "auth.user.email: the field is not in the policy"),
        (changed("auth.user", "email", "hide"), "auth.user.email: “hide” is not an action"),
        (changed("auth.user", "email", {"mask": "nothing"}), "auth.user.email: “{'mask': 'nothing'}” is not an action"),
        (changed("auth.user", "username", "empty"), "auth.user.username: a field that must be unique cannot be empty"),
        (changed("pages.page", "author", "empty"), "a relation that must not be NULL cannot be empty"),
        (changed("pages.page", "author", {"mask": "number"}), "a relation cannot be masked"),
        ({"models": {k: v for k, v in POLICY["models"].items() if k != "sessions.session"}}, "the model is not in the"),
        ({"models": dict(POLICY["models"], **{"auth.user": "drop"})}, "it points to auth.user, whose rows are dropped"),
    ],
)
def test_a_policy_that_does_not_fit_stops(policy, report):
    with pytest.raises(SauvegardeError) as caught:
        Masking(policy, SITE, KEY, list(SITE))
    assert report in caught.value.why
    assert "keep, empty" in caught.value.fix


def test_what_is_emptied_is_null_where_it_may_be():
    author = dict(field("ForeignKey"), null=True, relation=["auth.user", "id"])
    readers = dict(field("ManyToManyField"), relation=["auth.user", "id"])
    readers["many"] = True
    site = dict(SITE, **{"pages.note": model(author=author, readers=readers, tags=field("JSONField", empty={}))})
    rules = {"id": "keep", "author": "empty", "readers": "empty", "tags": "empty"}
    masking = Masking({"models": dict(POLICY["models"], **{"pages.note": rules})}, site, KEY, list(site))
    note = {"model": "pages.note", "pk": 1, "fields": {"author": ["zoe"], "readers": [["zoe"]], "tags": ["zoe"]}}
    assert masking.entry(note)["fields"] == {"author": None, "readers": [], "tags": []}


def test_a_model_that_nobody_described_is_not_masked():
    """Not as one that has nothing to hide: it is refused, by the check and by whoever did not ask it."""
    away = model(owner=dict(field("ForeignKey"), relation=["elsewhere.person", "id"]))
    site = dict(SITE, **{"pages.note": away})
    rules = {
        "pages.note": {"id": "keep", "owner": "keep"},
        "elsewhere.person": {"id": "keep", "name": {"mask": "name"}},
    }
    policy = {"models": dict(POLICY["models"], **rules)}
    with pytest.raises(SauvegardeError) as caught:
        Masking(policy, site, KEY, list(site))
    assert caught.value.why.startswith("pages.note.owner: it points to elsewhere.person, which has no table")
    unchecked = Masking(policy, site, KEY, [])
    for ask in (lambda: unchecked.natural("pages.note", "owner"), lambda: unchecked.mask("elsewhere.person", "name")):
        with pytest.raises(SauvegardeError, match=r"elsewhere.person cannot be masked"):
            ask()


def test_a_short_key_is_refused():
    with pytest.raises(SauvegardeError, match="too short"):
        Masking(POLICY, SITE, b"short", [])


def test_objects_of_an_archive_are_masked_and_references_follow():
    masking = Masking(POLICY, SITE, KEY, list(SITE))
    user = {"model": "auth.user", "pk": 1, "fields": {"username": "zoe", "email": "z@r.fr", "last_login": "2020-01-01"}}
    page = {"model": "pages.page", "pk": 2, "fields": {"body": "de z@r.fr", "author": ["zoe"]}}
    masked = masking.entry(user)
    assert masked["pk"] == 1 and masked["fields"]["last_login"] is None
    assert masking.entry(page)["fields"]["author"] == [masked["fields"]["username"]]
    assert masking.entry({"model": "sessions.session", "pk": "k", "fields": {"data": "zoe"}}) is None
    with pytest.raises(SauvegardeError, match="does not know"):
        masking.entry({"model": "auth.user", "pk": 1, "fields": {"nickname": "zoe"}})
    with pytest.raises(SauvegardeError, match="does not know"):
        masking.entry({"model": "pages.new", "pk": 1, "fields": {}})


PROFILED = dict(
    SITE,
    **{
        # Its key is its user's name; a note points to it by that.
        "people.profile": model([["auth.user", "username"]], user=dict(field(), relation=["auth.user", "id"])),
        "people.note": model(profile=dict(field(), relation=["people.profile", "id"])),
    },
)


def profiled(**more):
    models = {"people.profile": {"id": "keep", "user": "keep"}, "people.note": {"id": "keep", "profile": "keep"}}
    return {"models": dict(POLICY["models"], **models, **more)}


def test_a_natural_key_that_another_model_lends_is_masked_as_there():
    masking = Masking(profiled(), PROFILED, KEY, list(PROFILED))
    note = {"model": "people.note", "pk": 1, "fields": {"profile": ["zoe"]}}
    assert masking.entry(note)["fields"]["profile"] == [mask("username", "zoe", unique=True, max_length=150)]


def test_what_a_relation_would_give_away_stops():
    """Of a model that is not in the policy, or whose natural key cannot be told apart from what is masked."""
    less = {label: rules for label, rules in profiled()["models"].items() if label != "auth.user"}
    with pytest.raises(SauvegardeError) as caught:
        Masking({"models": less}, PROFILED, KEY, ["people.profile", "people.note"])
    assert caught.value.why.splitlines() == [
        "people.profile.user: it points to auth.user, which the policy says nothing about",
        "people.note.profile: it points to auth.user, which the policy says nothing about",
    ]
    computed = dict(PROFILED, **{"people.profile": dict(PROFILED["people.profile"], natural_key=[])})
    with pytest.raises(SauvegardeError) as caught:
        Masking(profiled(), computed, KEY, list(computed))
    assert "people.note.profile: the natural key of people.profile is masked in a way" in caught.value.why


def test_a_value_that_does_not_fit_its_mask_is_not_shown():
    with pytest.raises(SauvegardeError) as caught:
        mask("date", "Zoé Réelle")
    assert "Zoé" not in str(caught.value)


def test_a_known_password_is_one_that_django_takes():
    masking = Masking(dict(POLICY, password="dev"), SITE, KEY, [])
    algorithm, iterations, salt, digest = masking.password.split("$")
    assert algorithm == "pbkdf2_sha256" and int(iterations) > 1000 and salt and len(digest) == 44


def test_the_starting_policy_recognises_what_is_personal_and_knows_every_field():
    policy = starting_policy(SITE)["models"]
    assert policy["sessions.session"] == "drop"
    assert policy["auth.user"]["email"] == {"mask": "email"}
    assert policy["auth.user"]["username"] == {"mask": "username"}
    reach, link = dict(field(), email=True, max_length=254), dict(field(), url=True, max_length=200)
    title, code = dict(field(), max_length=160), dict(field(), max_length=9)
    titled = dict(SITE, **{"pages.title": model(title=title, code=code, reach=reach, link=link)})
    assert starting_policy(titled)["models"]["pages.title"] == {
        "id": "keep",
        "title": {"mask": "scrub"},
        "code": "keep",
        "reach": {"mask": "email"},
        "link": "keep",
    }
    assert policy["pages.page"] == {"id": "keep", "body": {"mask": "scrub"}, "author": "keep"}
    Masking({"models": policy}, SITE, KEY, list(SITE))


def test_rows_that_need_a_dropped_row_are_dropped_by_the_starting_policy():
    site = dict(SITE, **{"stats.visit": model(session=dict(field("ForeignKey"), relation=["sessions.session", "id"]))})
    assert starting_policy(site)["models"]["stats.visit"] == "drop"


def test_only_what_the_policy_does_not_know_is_drafted():
    draft = {"models": {"a.new": {"x": "keep"}, "a.known": {"x": "keep", "y": {"mask": "email"}}, "a.gone": "drop"}}
    policy = {"models": {"A.Known": {"x": "empty"}, "a.gone": "drop"}}
    new = {"a.new": {"x": "keep"}, "a.known": {"y": {"mask": "email"}}}
    assert unclassified(draft, policy) == {"models": new}
    assert unclassified(draft, {}) == draft and unclassified(draft, draft) == {"models": {}}
