"""What listeners hear of a load, call by call, against stock's; which way each model takes, and why."""

import json
from pathlib import Path

import pytest
from sample_site import ENVIRONMENTS, interpreter, manage, write
from sauvegarde.django import data_load
from small_site import Small, same_rows

# Every listener notes what it hears in a file, with all that it can see: the object, its rows, and those of others.
MODELS = """
import json, os
from django.conf import settings
from django.db import models
from django.db.models.signals import m2m_changed, post_init, post_save, pre_save
from django.dispatch import receiver
from django.utils import timezone

class TagManager(models.Manager):
    def get_by_natural_key(self, name):
        return self.get(name=name)

class Tag(models.Model):
    name = models.CharField(max_length=20, unique=True)
    best = models.ForeignKey("Post", models.SET_NULL, null=True)
    objects = TagManager()
    def natural_key(self):
        return (self.name,)

class Base(models.Model):
    key = models.UUIDField(primary_key=True)
    title = models.CharField(max_length=40)

class Post(Base):
    text = models.TextField(blank=True)
    about = models.JSONField(default=dict)
    day = models.DateField(null=True)
    at = models.DateTimeField(default=timezone.now)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    long = models.DurationField(null=True)
    picture = models.FileField(blank=True)
    data = models.BinaryField(null=True)
    host = models.GenericIPAddressField(null=True)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True)
    main = models.ForeignKey(Tag, models.CASCADE, null=True, related_name="+")
    tags = models.ManyToManyField(Tag)
    readers = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="+")

class Plain(models.Model):
    number = models.IntegerField()

def note(what, **more):
    if "HEARD" in os.environ:
        with open(os.environ["HEARD"], "a") as file:
            file.write(json.dumps([what, more], default=repr, sort_keys=True) + chr(10))

def state(instance):
    values = {name: bytes(value) if name == "data" and value else value for name, value in vars(instance).items()}
    values = {name: repr(value) for name, value in sorted(values.items()) if name != "_state"}
    return [values, instance._state.adding, instance._state.db]

LOOK = os.environ.get("LOOK", "")

def heard(what, sender, **kwargs):
    if sender._meta.app_label not in ("a", "auth") or kwargs.get("instance") is None:
        return
    kwargs.pop("signal")
    instance = kwargs.pop("instance")
    pk_set = kwargs.pop("pk_set", None)
    if LOOK:
        kwargs["seen"] = [model.objects.count() for model in (Tag, Base, Post, Plain)]
        there = type(instance).objects.filter(pk=instance.pk).values_list().first()
        kwargs["there"] = there and [bytes(each) if isinstance(each, memoryview) else each for each in there]
        if isinstance(instance, Post):
            kwargs["lists"] = [sorted(map(str, instance.tags.values_list("pk", flat=True))), instance.readers.count()]
    note(what, sender=sender._meta.label, state=state(instance), pks=pk_set and sorted(map(repr, pk_set)),
         model=repr(kwargs.pop("model", None)), **kwargs)

@receiver(pre_save)
def before(sender, **kwargs):
    heard("pre_save", sender, **kwargs)

@receiver(post_save)
def after(sender, **kwargs):
    heard("post_save", sender, **kwargs)

@receiver(m2m_changed)
def changed(sender, **kwargs):
    heard("m2m_changed", sender, **kwargs)

if os.environ.get("CHANGE"):
    @receiver(pre_save, sender=Post)
    def shout(sender, instance, **kwargs):
        number = instance.about.get("n", [0])[0]
        if number % 4 == 1:
            instance.about["seen"] = True  # inside a value
        if number % 4 == 2:
            instance.text = instance.text.upper()

if os.environ.get("WRITE"):
    @receiver(post_save, sender=Post)
    def count(sender, instance, using, **kwargs):
        Plain.objects.using(using).create(number=Post.objects.using(using).count())
"""

WHEN = "2024-01-02T03:04:05.678Z"


def entries():
    """Objects of several models in turns, with natural keys that come before and after what they name."""
    users = [
        {
            "model": "auth.user",
            "pk": n,
            "fields": {"username": f"u{n}", "password": "x", "user_permissions": [], "date_joined": WHEN},
        }
        for n in (1, 2, 3)
    ]
    tags = [{"model": "a.tag", "pk": n, "fields": {"name": f"t{n}", "best": None}} for n in range(1, 5)]
    collected = [tags[0], users[0], tags[1], users[1], users[2], tags[2]]
    for n in range(12):
        key = f"00000000-0000-0000-0000-0000000000{n:02d}"
        collected.append({"model": "a.base", "pk": key, "fields": {"title": f"post {n % 4}"}})
        fields = {
            "text": "a\ttext \\ é", "about": {"n": [n, None, 1.5]}, "day": "2024-02-29" if n % 2 else None,
            "at": WHEN, "price": "12.50", "long": "P1DT02H03M04S", "picture": "a/b.png",
            "data": "AAECAw==", "host": "10.0.0.1", "author": [f"u{n % 3 + 1}"] if n % 4 else None,
            "main": ["t4"] if n == 5 else [f"t{n % 3 + 1}"], "tags": [["t1"], ["t3"]] if n % 2 else [2],
            "readers": [["u1"]] if n % 3 else [],
        }  # fmt: skip
        if n == 7:
            del fields["about"], fields["tags"], fields["price"]
        collected.append({"model": "a.post", "pk": key, "fields": fields})
        if n == 6:
            collected.append({"model": "a.plain", "pk": 1, "fields": {"number": 7}})
    collected.append(tags[3])
    collected.append({"model": "a.tag", "pk": 1, "fields": {"name": "t1", "best": key}})  # once more
    return collected


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def small(request, cluster, tmp_path_factory):
    return Small(interpreter(request.param), cluster, tmp_path_factory.mktemp("small"), MODELS)


def variant(where, folder, name, **variables):
    """The site with more in its environment, and what its listeners note."""
    heard = folder / f"{name}.heard"
    env_file = folder / f"{name}.env"
    more = "".join(f"{key}={value}\n" for key, value in dict(variables, HEARD=heard).items())
    env_file.write_text(Path(where.env_file).read_text(encoding="utf-8") + more, encoding="utf-8")
    return where.replace(env_file=str(env_file)), heard


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.mark.parametrize("kind", ["pg", "sqlite"])
@pytest.mark.parametrize("variables", [{}, {"LOOK": 1, "CHANGE": 1}, {"LOOK": 1, "WRITE": 1}], ids=str)
def test_listeners_hear_what_they_hear_from_stock(small, tmp_path, kind, variables):
    """Once each, in order, with the same arguments and objects, and in the database the same rows at each moment."""
    path = write(tmp_path / "all.json", entries())
    again = [each for each in entries() if each["model"] != "a.plain"]
    for number, each in enumerate(again):  # over what is there then
        if each["model"] == "a.post":
            each["fields"].update(text="other", tags=[[f"t{number % 3 + 1}"], 3])
    second = write(tmp_path / "again.json", again)
    one, heard_by_stock = variant(small.new(kind), tmp_path, "stock", **variables)
    two, heard_by_ours = variant(small.new(kind), tmp_path, "ours", **variables)
    for file in (path, second):
        manage(one, "loaddata", "-v0", str(file))
        result = data_load.load(two, [file], {})
        expected, actual = lines(heard_by_stock), lines(heard_by_ours)
        assert len(expected) > 60
        for left, right in zip(expected, actual):
            assert left == right
        assert len(expected) == len(actual)
        assert same_rows(one, two, "a", "auth.User")
    assert result["listeners"]["a.post"] == ["m2m_changed", "post_save", "pre_save"]
    stock = {label: each["objects"] for label, each in result["stock"].items()}
    assert stock == {"a.post": 6 if "CHANGE" in variables else 1}
    assert "it refers to what comes later" in result["stock"]["a.post"]["why"]
    assert ("changed on the way" in result["stock"]["a.post"]["why"]) == ("CHANGE" in variables)
