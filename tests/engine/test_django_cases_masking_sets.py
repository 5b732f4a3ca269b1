"""Fixture sets hold nothing of people unless they ask for it, and load where people are masked or others."""

import json
import re

import pytest
from little_site import Folder
from sample_site import ENVIRONMENTS, manage, shell
from sauvegarde.backup import kinds
from sauvegarde.django import field_masks, fixture_set, fixture_sets, set_privacy, site
from sauvegarde.errors import SauvegardeError

MODELS = """
from django.contrib.auth.models import Group, User
from django.db import models
class Lent(models.Manager):
    def get_by_natural_key(self, name):
        return self.get(user__username=name)
class Desk(models.Model):
    user = models.OneToOneField(User, models.CASCADE, primary_key=True)
    room = models.CharField(max_length=20)
    objects = Lent()
    def natural_key(self):
        return self.user.natural_key()
class Computed(models.Manager):
    def get_by_natural_key(self, name):
        return self.get(code=name.lower())
class Badge(models.Model):
    code = models.CharField(max_length=20)
    owner = models.ForeignKey(User, models.CASCADE)
    objects = Computed()
    def natural_key(self):
        return (self.owner.username.upper(),)
class Article(models.Model):
    title = models.CharField(max_length=40)
    author = models.ForeignKey(User, models.SET_NULL, null=True)
    readers = models.ManyToManyField(User, related_name="+")
    groups = models.ManyToManyField(Group, related_name="+")
    contact_email = models.EmailField(blank=True)
    phone = models.CharField(max_length=20, null=True)
    badge = models.ForeignKey(Badge, models.CASCADE, null=True)
class Page(models.Model):
    text = models.CharField(max_length=40)
    author = models.ForeignKey(User, models.PROTECT, related_name="+")
    desk = models.ForeignKey(Desk, models.PROTECT)
class Odd(models.CharField):
    def value_to_string(self, obj):
        return str(self.value_from_object(obj))
class Slow(models.Model):
    text = Odd(max_length=40)
    author = models.ForeignKey(User, models.PROTECT, related_name="+")
    editor = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
class Member(models.Model):
    reach = models.EmailField(primary_key=True)
class Post(models.Model):
    member = models.ForeignKey(Member, models.CASCADE)
class Town(models.Model):
    nom = models.CharField(max_length=40)
    postcode = models.CharField(max_length=5)
"""
FILL = """
from a.models import *
users = [User.objects.create(username=name, email=name + "@canari.real.fr") for name in ("canari-one", "canari-two")]
desk = Desk.objects.create(user=users[0], room="1")
badge = Badge.objects.create(code="canari-one", owner=users[0])
for n in range(3):
    article = Article.objects.create(title="t%d" % n, author=users[1], badge=badge, phone="0612345678",
                                     contact_email="me@canari.real.fr")
    article.readers.set(users)
    article.groups.add(Group.objects.get_or_create(name="g")[0])
    Page.objects.create(text="p%d" % n, author=users[1], desk=desk)
    Slow.objects.create(text="s%d" % n, author=users[1], editor=users[0])
Post.objects.create(member=Member.objects.create(reach="canari@real.fr"))
Town.objects.create(nom="Paris", postcode="75001")
print(1)
"""
# So that tables without migrations can refer to users on PostgreSQL.
SETTINGS = 'MIGRATION_MODULES = {"auth": None, "contenttypes": None}\n'
MODELS_OF_SET = ["a.Article", "a.Page", "a.Slow", "a.Town"]
CHOSEN = [{"name": "news", "models": MODELS_OF_SET}, {"name": "groups", "models": ["auth.group"]}]
PRIVATE = {
    "a.article": {"author": "empty", "readers": "empty", "badge": "empty", "contact_email": "empty", "phone": "empty"},
    "a.page": {"author": "number", "desk": "number"},
    "a.slow": {"author": "number", "editor": "empty"},
}
AUTHORS = """
from a.models import *
print(json.dumps([[a.author.username if a.author else None, a.readers.count(), a.contact_email, a.title]
                  for a in Article.objects.order_by("pk")]))
"""


@pytest.fixture(scope="module")
def folder(cluster, tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("private"), cluster, ENVIRONMENTS[0], settings=SETTINGS, models=MODELS)


@pytest.fixture(scope="module", params=["pg", "sqlite"])
def source(folder, request):
    where = folder.new(request.param)
    shell(where, FILL)
    return where


@pytest.fixture(scope="module")
def described(folder):
    return site.describe(folder.new("sqlite"))["models"]


def decided(described, *chosen):
    whole = fixture_sets.checked(chosen)
    return set_privacy.actions(
        described,
        whole,
        [label for label in described if any(fixture_set.names(n, label) for s in whole for n in s["models"])],
    )


def kind_of(where):
    return site.environment(where)["KIND"]


def fields(path, model):
    return [each["fields"] for each in json.loads(path.read_text(encoding="utf-8")) if each["model"] == model]


def test_no_login_name_is_in_a_set_by_default(source, tmp_path):
    result = fixture_sets.export(source, CHOSEN, tmp_path)
    text = (tmp_path / "news.json").read_text(encoding="utf-8")
    assert "canari" not in text.lower() and "0612345678" not in text and "Paris" in text and "75001" in text
    assert result[0]["private"] == PRIVATE and result[1]["private"] == {}
    article, page = fields(tmp_path / "news.json", "a.article")[0], fields(tmp_path / "news.json", "a.page")[0]
    assert article["author"] is None and article["readers"] == [] and article["contact_email"] == ""
    assert article["groups"] == [["g"]] or article["groups"] == [1]
    # The numbers are those of the site's own command.
    stock = json.loads(manage(source, "dumpdata", "a.page", "a.slow").decode())
    for model, names in (("a.page", ("author", "desk")), ("a.slow", ("author",))):
        for ours, theirs in zip(fields(tmp_path / "news.json", model), (e for e in stock if e["model"] == model)):
            assert {name: ours[name] for name in names} == {name: theirs["fields"][name] for name in names}
    assert page["author"] == 2
    assert fixture_sets.doubts(result) == []
    options = fixture_sets.private_sentences(result)
    assert (
        "a.article.author is empty in the sets." in options
        and "a.page.author is written as a number in the sets." in options
    )


def test_a_set_that_asks_for_them_is_as_before(source, tmp_path):
    fixture_sets.export(source, CHOSEN, tmp_path, people="keep")
    entries = json.loads((tmp_path / "news.json").read_text(encoding="utf-8"))
    stock = manage(source, "dumpdata", "--natural-foreign", *MODELS_OF_SET).decode()
    stock = json.loads(stock)
    for each in entries + stock:
        for name in ("readers", "groups"):
            if name in each["fields"]:
                each["fields"][name].sort()
    assert sorted(entries, key=json.dumps) == sorted(stock, key=json.dumps)


def test_single_fields_are_decided_by_masks(source, tmp_path):
    masks = {"a.Article": {"author": "number", "readers": "number", "title": "empty"}, "a.page": {"author": "keep"}}
    result = fixture_sets.export(source, [dict(CHOSEN[0], masks=masks)], tmp_path)
    article, page = fields(tmp_path / "news.json", "a.article")[0], fields(tmp_path / "news.json", "a.page")[0]
    assert (article["author"], article["readers"], article["title"]) == (2, [1, 2], "")
    assert page["author"] == ["canari-two"] and page["desk"] == 1
    assert result[0]["private"]["a.article"]["author"] == "number" and "author" not in result[0]["private"]["a.page"]
    only = dict(CHOSEN[0], people="keep", masks={"a.page": {"author": "number"}})
    result = fixture_sets.export(source, [only], tmp_path)
    assert result[0]["private"] == {"a.page": {"author": "number"}}
    assert fields(tmp_path / "news.json", "a.article")[0]["author"] == ["canari-two"]


@pytest.mark.parametrize(
    "chosen, options",
    [
        ({"models": ["*"]}, "auth.user: its rows are people"),
        ({"models": ["auth.user"]}, "auth.user: its rows are people"),
        ({"models": ["a.post"]}, "a.post.member: it leads to people, and can be neither empty nor a number"),
        ({"models": ["a.member"]}, "a.member.reach: it leads to people"),
        ({"models": ["a.page"], "masks": {"a.page": {"author": "empty"}}}, "a.page.author: it must not be empty"),
        ({"models": ["a.page"], "masks": {"a.page": {"text": "number"}}}, "only a reference can be a number"),
        ({"models": ["a.page"], "masks": {"a.page": {"writer": "empty"}}}, "a.page.writer, which is no field of it"),
        ({"models": ["a.page"], "masks": {"a.article": {"author": "empty"}}}, "a.article, which it does not hold"),
    ],
)
def test_what_cannot_be_private_is_refused(described, chosen, options):
    with pytest.raises(SauvegardeError, match=re.escape(options)):
        decided(described, dict(chosen, name="x"))
    if "masks" not in chosen:
        assert decided(described, dict(chosen, name="x", people="keep")) == {}


def test_wrong_masks_name_set_model_field_and_the_masks(described):
    wrong = {"a.page": {"text": {"mask": "hash"}, "author": "hide"}, "a.town": {"nom": {"mask": ["name"], "x": 1}}}
    with pytest.raises(SauvegardeError) as caught:
        fixture_sets.checked([{"name": "news", "models": ["a"], "masks": wrong}])
    assert "fixture set news" in caught.value.what
    for place in ("a.page.text: “{'mask': 'hash'}” is not an action", "a.page.author: “hide”", "a.town.nom: "):
        assert place in caught.value.why
    assert all(how in caught.value.fix for how in (*field_masks.MASKS, "number", "public", "empty", "keep"))
    for label, name, how, why in (
        ("a.page", "author", "name", "a relation cannot be masked"),
        ("a.page", "id", "number", "which it cannot mask"),
        ("a.member", "reach", "email", "which it cannot mask"),
        ("a.badge", "code", "scrub", "it cannot be scrubbed: a.article.badge refers to its rows by a computed key"),
    ):
        chosen = {"name": "x", "people": "keep", "models": [label], "masks": {label: {name: {"mask": how}}}}
        with pytest.raises(SauvegardeError, match=re.escape(f"Set x: {label}.{name}: ") + ".*" + why):
            decided(described, chosen)
    # A computed key cannot be followed; one that is masked can.
    masks = {"auth.user": {"username": {"mask": "username"}}}
    chosen = {"name": "x", "people": "keep", "models": ["auth.user", "a.page", "a.article"], "masks": masks}
    with pytest.raises(SauvegardeError, match=r"a\.article\.badge: it refers by a computed key"):
        decided(described, chosen)
    result = decided(described, dict(chosen, models=["auth.user", "a.page"]))
    assert result == {"auth.user": masks["auth.user"], "a.page": {"author": "follow", "desk": "follow"}}


MASKED = {
    "auth.user": {"username": {"mask": "username"}, "email": {"mask": "email"}, "date_joined": "keep"},
    "a.town": {"nom": {"mask": "scrub"}, "postcode": {"mask": "digits"}},
    "a.article": {"phone": {"mask": "phone"}, "contact_email": {"mask": "email"}, "readers": "keep", "badge": "empty"},
    "a.page": {"text": "public", "desk": "number", "author": "keep"},
}
PEOPLE = [{"name": "people", "models": ["auth.group", "auth.user", "a.Article", "a.Page", "a.Town"], "masks": MASKED}]
KEY = "00112233445566778899aabbccddeeff"
TOWNS = "from a.models import *\nprint(json.dumps(list(Town.objects.order_by('pk').values_list('nom', 'postcode'))))"


@pytest.fixture()
def named(source):
    """The site with names of people, one of them in a text, as long as the test runs."""
    shell(
        source,
        "from a.models import *\nUser.objects.filter(pk=1).update(first_name='Canarine', last_name='Serinette')\n"
        "Town.objects.create(nom='Ask SERINETTE, x%40canari.real.fr', postcode='75011')\nprint(1)",
    )
    yield source
    shell(
        source,
        "from a.models import *\nUser.objects.update(first_name='', last_name='')\n"
        "Town.objects.filter(postcode='75011').delete()\nprint(1)",
    )


def test_a_set_uses_the_masks_of_a_policy(named, folder, tmp_path):
    result = fixture_sets.export(named, PEOPLE, tmp_path, key=KEY)
    text = (tmp_path / "people.json").read_text(encoding="utf-8")
    assert not any(word in text.lower() for word in ("canari", "serinette", "0612345678", "75001", "75011", "real.fr"))
    # The values are those of a masking policy with this key.
    masks = {
        how: field_masks.Mask(how, bytes.fromhex(KEY), field_masks.Field(), "d")
        for how in ("username", "email", "phone")
    }
    users = {each["username"]: each for each in fields(tmp_path / "people.json", "auth.user")}
    assert sorted(users) == sorted(masks["username"](name) for name in ("canari-one", "canari-two"))
    author = masks["username"]("canari-two")
    assert users[author]["email"] == masks["email"]("canari-two@canari.real.fr") and users[author]["date_joined"]
    page, article = fields(tmp_path / "people.json", "a.page")[0], fields(tmp_path / "people.json", "a.article")[0]
    assert (page["author"], page["desk"], page["text"]) == ([author], 1, "p0")
    assert sorted(article["readers"]) == sorted([name] for name in users)
    assert article["phone"] == masks["phone"]("0612345678") and article["badge"] is None
    options = fixture_sets.private_sentences(result)
    assert "a.town.nom is masked (scrub) in the sets." in options
    assert "a.page.author follows the mask of what it refers to in the sets." in options
    # The same again; another key, other values.
    assert not fixture_sets.export(named, PEOPLE, tmp_path, key=KEY)[0]["changed"]
    assert fixture_sets.export(named, PEOPLE, tmp_path, write=False, key=KEY[::-1])[0]["changed"]
    # An import takes nothing away at home, and needs no key; elsewhere it brings the masked values.
    before = shell(named, TOWNS), shell(named, AUTHORS)
    assert not fixture_sets.bring_in(named, PEOPLE, tmp_path)["changed"]
    shell(named, "from a.models import *\nprint(Page.objects.filter(pk=1).update(text='x'))")
    planned = fixture_sets.bring_in(named, PEOPLE, tmp_path, {"check_only": True})
    assert (
        planned["changed"] and fixture_sets.bring_in(named, PEOPLE, tmp_path)["differences"] == planned["differences"]
    )
    assert (shell(named, TOWNS), shell(named, AUTHORS)) == before
    assert not fixture_sets.bring_in(named, PEOPLE, tmp_path)["changed"]
    target = folder.new("sqlite" if kind_of(named) == "pg" else "pg")
    user = "from a.models import *\nu = User.objects.create(pk=1, username='{}')\n".format(
        masks["username"]("canari-one")
    )
    shell(target, user + "Desk.objects.create(user=u, room='1')\nprint(1)")
    assert fixture_sets.bring_in(target, PEOPLE, tmp_path)["changed"]
    assert not fixture_sets.bring_in(target, PEOPLE, tmp_path)["changed"]
    assert shell(target, AUTHORS)[0][:2] == [None, 2]
    assert shell(target, "from a.models import *\nprint(json.dumps(Page.objects.first().author.username))") == author


def test_what_a_set_masks_is_in_none_of_its_texts(named, tmp_path):
    masks = {"a.Article": {"contact_email": {"mask": "email"}}}
    chosen = [dict(CHOSEN[0], masks=masks)]
    rename = "from a.models import *\nprint(Slow.objects.filter(pk=1).update(text=%r))"
    shell(named, rename % "write to me%40canari.real.fr")
    with pytest.raises(SauvegardeError) as caught:
        fixture_sets.export(named, chosen, tmp_path, key=KEY)
    assert "a.slow 1, text: holds a value of a.article.contact_email" in caught.value.why
    assert list(tmp_path.iterdir()) == []
    for more in (
        {"not_searched": ["a.article.contact_email"]},
        {"masks": dict(masks, **{"a.slow": {"text": "public"}})},
    ):
        assert fixture_sets.export(named, [dict(chosen[0], **more)], tmp_path, write=False, key=KEY)
    # Only what the sets empty may be in their texts: a warning, as ever.
    doubts = fixture_sets.doubts(fixture_sets.export(named, CHOSEN, tmp_path, write=False))
    assert any("a.slow.text" in each for each in doubts)
    shell(named, rename % "s0")
    kept = dict(MASKED, **{"a.town": {"nom": {"mask": "scrub"}}})
    words = [dict(PEOPLE[0], masks=kept, kept_words=["serinette"])]
    fixture_sets.export(named, words, tmp_path, key=KEY)
    assert "Ask SERINETTE" in (tmp_path / "people.json").read_text(encoding="utf-8")


def test_masks_need_a_key(source, tmp_path):
    (tmp_path / "root" / "sets").mkdir(mode=0o700, parents=True)
    (tmp_path / "root").chmod(0o700)
    for key, options in (("", "need a secret key"), ("00", "too short"), ("xyz", "not hexadecimal")):
        with pytest.raises(SauvegardeError, match=options) as caught:
            fixture_sets.export(source, PEOPLE, tmp_path, key=key)
    assert "migrate_key" in caught.value.fix and not list(tmp_path.glob("*.json"))
    job = {"name": "sets", "kind": "fixtures", "site": source.as_dict(), "sets": PEOPLE}
    with pytest.raises(SauvegardeError, match="need a secret key") as caught:
        kinds.back_up(job, str(tmp_path / "root"))
    assert "people: a.town.nom (scrub)" in caught.value.why and "key_file" in caught.value.fix
    (tmp_path / "key").write_text(KEY + "\n", encoding="ascii")
    manifest = kinds.back_up(dict(job, key_file=str(tmp_path / "key")), str(tmp_path / "root"))
    path = tmp_path / "root" / "sets" / manifest["id"]
    kinds.verify(str(path))
    assert manifest["source"]["private"]["a.town"]["nom"] == {"mask": "scrub"}
    assert KEY not in (path / "manifest.json").read_text(encoding="utf-8")
    with pytest.raises(SauvegardeError, match="cannot be read") as caught:
        kinds.back_up(dict(job, key_file=str(tmp_path / "none")), str(tmp_path / "root"))
    assert caught.value.fix


def test_wrong_words_and_sets_that_do_not_agree_are_refused(described, source, tmp_path):
    for wrong in ({"masks": {"a.page": {"author": "hash"}}}, {"masks": ["author"]}, {"people": "public"}):
        with pytest.raises(SauvegardeError, match="fixture set x"):
            fixture_sets.checked([dict({"name": "x", "models": ["a"]}, **wrong)])
    two = [CHOSEN[0], {"name": "all", "models": ["*"], "people": "keep"}]
    with pytest.raises(SauvegardeError, match=r"The sets all, news do not agree about a\.article"):
        fixture_sets.export(source, two, tmp_path)
    assert list(tmp_path.iterdir()) == []
    decided(described, *two[:1], {"name": "users", "models": ["auth.User"], "people": "keep"})


def test_an_import_takes_no_author_away(source, tmp_path):
    """The set of a site goes back into it: what the set left out stays; a second import changes nothing."""
    fixture_sets.export(source, CHOSEN, tmp_path)
    before = shell(source, AUTHORS)
    assert before[0] == ["canari-two", 2, "me@canari.real.fr", "t0"]
    assert not fixture_sets.bring_in(source, CHOSEN, tmp_path)["changed"]
    for mode in ("merge",) if kind_of(source) == "pg" else ("replace",):
        shell(source, "from a.models import *\nprint(Article.objects.filter(pk=1).update(title='x'))")
        planned = fixture_sets.bring_in(source, CHOSEN, tmp_path, {"mode": mode, "check_only": True})
        done = fixture_sets.bring_in(source, CHOSEN, tmp_path, {"mode": mode})
        assert planned["changed"] and done["changed"] and planned["differences"] == done["differences"]
        assert shell(source, AUTHORS) == before
        assert not fixture_sets.bring_in(source, CHOSEN, tmp_path, {"mode": mode})["changed"]


def test_a_set_loads_where_people_are_others(source, folder, tmp_path):
    target = folder.new("sqlite" if kind_of(source) == "pg" else "pg")
    masked = "from a.models import *\nu = [User.objects.create(username='user-%d' % n) for n in (1, 2)]\n"
    shell(target, masked + "Desk.objects.create(user=u[0], room='1')\nprint(1)")
    fixture_sets.export(source, CHOSEN, tmp_path)
    assert fixture_sets.bring_in(target, CHOSEN, tmp_path)["changed"]
    assert shell(target, AUTHORS)[0] == [None, 0, "", "t0"]
    assert shell(target, "from a.models import *\nprint(json.dumps(Page.objects.first().author.username))") == "user-2"
    # A file from before, with login names, by a policy that holds for natural keys.
    fixture_sets.export(source, CHOSEN, tmp_path, people="keep")
    with pytest.raises(SauvegardeError, match="canari-two"):
        fixture_sets.bring_in(target, CHOSEN, tmp_path)
    articles = [dict(CHOSEN[0], models=["a.Article"])]
    fixture_sets.export(source, articles, tmp_path, people="keep")
    assert fixture_sets.bring_in(target, articles, tmp_path, {"policy": {"foreign_key": "empty"}}, people="keep")[
        "loaded"
    ]
    assert shell(target, AUTHORS)[0] == [None, 0, "me@canari.real.fr", "t0"]


def test_a_job_says_what_it_left_out(source, tmp_path):
    (tmp_path / "root" / "sets").mkdir(mode=0o700, parents=True)
    (tmp_path / "root").chmod(0o700)
    messages = []
    job = {"name": "sets", "kind": "fixtures", "site": source.as_dict(), "sets": CHOSEN}
    manifest = kinds.back_up(job, str(tmp_path / "root"), lambda step, **values: messages.append((step, values)))
    assert manifest["source"]["private"] == PRIVATE
    assert "a.slow.editor is empty in the sets." in dict(messages)["private"]["fields"]
    kinds.verify(str(tmp_path / "root" / "sets" / manifest["id"]))
    assert manifest["warnings"] == []
    # Texts that hold people's data all the same, until somebody decides.
    rename = "from a.models import *\nprint(Town.objects.filter(postcode='75001').update(nom=%r))"
    shell(source, rename % "canari-one")
    warned = kinds.back_up(job, str(tmp_path / "root"))["warnings"]
    assert [each.split(":")[0] for each in warned] == ["a.town.nom"] and "login name" in warned[0]
    decided = [dict(CHOSEN[0], masks={"a.town": {"nom": "keep"}})]
    assert kinds.back_up(dict(job, sets=decided), str(tmp_path / "root"))["warnings"] == []
    shell(source, rename % "Paris")
    job["people"] = "keep"
    assert kinds.back_up(job, str(tmp_path / "root"))["source"]["private"] == {}
    with pytest.raises(SauvegardeError, match="its rows are people"):
        kinds.back_up(dict(job, people="", sets=[{"name": "u", "models": ["auth"]}]), str(tmp_path / "root"))
