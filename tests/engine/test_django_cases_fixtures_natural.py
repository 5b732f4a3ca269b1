"""Managers that a load must not trust: natural keys that write, ask more or need the files' order, and hidden rows."""

import pytest
from sample_site import ENVIRONMENTS, interpreter, manage, shell, write
from sauvegarde.django import data_load, fixture_sets
from sauvegarde.errors import SauvegardeError
from small_site import Small, same_rows

MODELS = """
from django.db import models

class Making(models.Manager):
    def get_by_natural_key(self, name):
        return self.get_or_create(name=name)[0]

class Colour(models.Model):
    name = models.CharField(max_length=60, unique=True)
    objects = Making()
    def natural_key(self):
        return (self.name,)

class Asking(models.Manager):
    def get_by_natural_key(self, ip):
        return self.get_queryset().get(ip=ip)

class Host(models.Model):
    ip = models.GenericIPAddressField(unique=True)
    objects = Asking()
    def natural_key(self):
        return (self.ip,)

def first_colour():
    return Colour.objects.get_or_create(name="default")[0].pk

class Thing(models.Model):
    colour = models.ForeignKey(Colour, models.CASCADE, null=True)
    host = models.ForeignKey(Host, models.CASCADE, null=True)
    second = models.ForeignKey(Colour, models.CASCADE, default=first_colour, related_name="+")

class Tags(models.Manager):
    def get_by_natural_key(self, group, name):
        return self.get(group__name=group[0], name=name.lower())

class Group(models.Model):
    name = models.CharField(max_length=20)

class Tag(models.Model):
    name = models.CharField(max_length=20)
    group = models.ForeignKey(Group, models.CASCADE)
    objects = Tags()
    def natural_key(self):
        return ([self.group.name], self.name.upper())

class Post(models.Model):
    tag = models.ForeignKey(Tag, models.CASCADE)
    tags = models.ManyToManyField(Tag, related_name="+")

class Node(models.Model):
    name = models.CharField(max_length=20)
    above = models.ForeignKey("self", models.CASCADE)
    objects = type("Nodes", (models.Manager,), {"get_by_natural_key": lambda self, key: self.get(name=key.lower())})()
    def natural_key(self):
        return (self.name.upper(),)

class Alive(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(deleted=False)

class Article(models.Model):
    name = models.CharField(max_length=20)
    deleted = models.BooleanField(default=False)
    objects = Alive()
    every = models.Manager()
"""
FILL = """
from a.models import *
for n in range(6):
    Host.objects.create(ip="10.0.0.%d" % n)
    Colour.objects.create(name="c%d" % n)
print(json.dumps(0))
"""
NAMES = "from a.models import *\nprint(json.dumps(sorted(Colour.objects.values_list('name', flat=True))))"


def things(name, keys):
    return [
        {"model": "a.thing", "pk": pk, "fields": {name: [key], "second": ["c1"]}}
        for pk, key in enumerate(keys, start=1)
    ]


@pytest.fixture(scope="module")
def small(cluster, tmp_path_factory):
    return Small(interpreter(ENVIRONMENTS[0]), cluster, tmp_path_factory.mktemp("small"), MODELS)


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
@pytest.mark.parametrize("name", ["colour", "host"])
def test_a_manager_is_asked_for_keys_of_the_files_only(small, tmp_path, kind, name):
    stock, ours = small.new(kind), small.new(kind)
    keys = [f"c{n}" if name == "colour" else f"10.0.0.{n}" for n in range(6)]
    path = write(tmp_path / "things.json", things(name, keys))
    for where in (stock, ours):
        shell(where, FILL)
    manage(stock, "loaddata", "-v0", str(path))
    data_load.load(ours, [path], {})
    assert same_rows(stock, ours)
    assert shell(ours, NAMES) == [f"c{n}" for n in range(6)]


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_what_the_sites_code_writes_goes_with_a_load_that_writes_nothing(small, tmp_path, kind):
    where = small.new(kind)
    shell(where, FILL)
    new = {"model": "a.thing", "pk": 1, "fields": {"colour": ["new"]}}
    assert not data_load.load(where, [write(tmp_path / "one.json", [new])], {"check_only": True})["written"]
    bad = {"model": "a.thing", "pk": 2, "fields": {"host": 99, "second": ["newer"]}}
    with pytest.raises(SauvegardeError, match="nothing was written"):
        data_load.load(where, [write(tmp_path / "two.json", [bad])], {})
    assert shell(where, NAMES) == [f"c{n}" for n in range(6)]


def turns():
    """Posts and tags in turns, each post with the tag before it; nodes below their like."""
    collected = [{"model": "a.group", "pk": 1, "fields": {"name": "g"}}]
    for n in range(5):
        collected.append({"model": "a.tag", "pk": n + 1, "fields": {"name": f"t{n}", "group": 1}})
        tags = [[["g"], "T0"], [["g"], f"T{n}"]]
        collected.append({"model": "a.post", "pk": n + 1, "fields": {"tag": [["g"], f"T{n}"], "tags": tags}})
    return [{"model": "a.post", "pk": 9, "fields": {"tag": 1, "tags": []}}, *collected]


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_a_reference_that_cannot_be_empty_finds_what_came_before_it(small, tmp_path, kind):
    path = write(tmp_path / "turns.json", turns())
    nodes = [{"model": "a.node", "pk": 1, "fields": {"name": "n1", "above": 1}}]
    nodes += [{"model": "a.node", "pk": n, "fields": {"name": f"n{n}", "above": [f"N{n - 1}"]}} for n in range(2, 5)]
    nodes = write(tmp_path / "nodes.json", nodes)
    stock, ours = small.new(kind), small.new(kind)
    manage(stock, "loaddata", "-v0", str(path), str(nodes))
    for mode in ("merge", "replace"):
        assert data_load.load(ours, [path, nodes], {"mode": mode})["stock"] == {}
        assert same_rows(stock, ours)


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
def test_rows_that_no_export_holds_are_not_replaced_in_silence(small, tmp_path, kind):
    where = small.new(kind)
    fill = "from a.models import *\nfor n in range(4): Article.objects.create(name='n', deleted=n % 2)\n\n"
    shell(where, fill + "print(json.dumps(0))")
    chosen = [{"name": "articles", "models": ["a.article"]}]
    fixture_sets.export(where, chosen, tmp_path)
    assert '"pk": 2' not in (tmp_path / "articles.json").read_text(encoding="utf-8")
    keys = "from a.models import *\nprint(json.dumps(sorted(Article.every.values_list('pk', flat=True))))"
    replacing = {"mode": "replace"}
    shell(where, "from a.models import *\nArticle.objects.filter(pk=3).update(name='x')\nprint(json.dumps(0))")
    with pytest.raises(SauvegardeError, match="hides 2 of its rows") as caught:
        fixture_sets.bring_in(where, chosen, tmp_path, replacing)
    assert "hidden: drop" in caught.value.why
    assert shell(where, keys) == [1, 2, 3, 4]
    # Those that the files have are not removed.
    path = tmp_path / "every.json"
    path.write_bytes(manage(where, "dumpdata", "--all", "a.article"))
    assert data_load.load(where, [path], replacing)["written"]
    assert shell(where, keys) == [1, 2, 3, 4]
    assert fixture_sets.bring_in(where, chosen, tmp_path, dict(replacing, policy={"hidden": "drop"}))["changed"]
    assert shell(where, keys) == [1, 3]
