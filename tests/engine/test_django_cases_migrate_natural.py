"""References by natural key that lead nowhere, in loads and migrations: named, and repaired as the policy says."""

import json

import pytest
from sample_site import ENVIRONMENTS, interpreter, manage, shell, text_of
from sauvegarde.django import data_load
from sauvegarde.errors import SauvegardeError
from small_site import Small

MODELS = """
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import models

class Mark(models.Model):
    kind = models.ForeignKey(ContentType, models.CASCADE, null=True)
    number = models.IntegerField(default=1)

class Strict(models.Model):
    kind = models.ForeignKey(ContentType, models.CASCADE)

class Follower(models.Model):
    strict = models.ForeignKey(Strict, models.CASCADE)

class Entry(models.Model):
    # As Wagtail's log, which outlives what it tells of.
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.DO_NOTHING, db_constraint=False)
"""
FILL = """
from a.models import *
from django.contrib.auth.models import Group, Permission, User
kind = ContentType.objects.create(app_label="gone", model="oldmodel")
permission = Permission.objects.create(name="x", codename="add_oldmodel", content_type=kind)
there = Permission.objects.get(codename="add_mark")
group = Group.objects.create(name="g")
group.permissions.add(permission, there)
user = User.objects.create(username="u")
user.user_permissions.add(permission)
for each in (kind, ContentType.objects.get_for_model(Mark)):
    Mark.objects.create(kind=each)
    Follower.objects.create(strict=Strict.objects.create(kind=each))

print(1)
"""
LOOK = """
from a.models import *
from django.contrib.auth.models import Group, User
print(json.dumps([
    sorted(Group.objects.get().permissions.values_list("codename", flat=True)),
    User.objects.get().user_permissions.count(),
    [[each.pk, each.kind and each.kind.model] for each in Mark.objects.order_by("pk")],
    list(Strict.objects.values_list("pk", flat=True)),
    list(Follower.objects.values_list("pk", flat=True)),
]))
"""


@pytest.fixture(scope="module")
def small(cluster, tmp_path_factory):
    return Small(interpreter(ENVIRONMENTS[0]), cluster, tmp_path_factory.mktemp("small"), MODELS)


@pytest.fixture(scope="module")
def prepared_gone(small, tmp_path_factory):
    """A fixture that refers to what no other site has."""
    where = small.new("sqlite")
    shell(where, FILL)
    path = tmp_path_factory.mktemp("gone") / "data.json"
    path.write_bytes(text_of(where))
    return path


@pytest.mark.parametrize("kind", ["sqlite", "pg"])
def test_permissions_and_types_of_a_removed_model(small, prepared_gone, kind):
    where = small.new(kind)
    with pytest.raises(SauvegardeError) as caught:
        data_load.load(where, [prepared_gone], {})
    permission = "points to auth.permission ['add_oldmodel', 'gone', 'oldmodel'], which does not exist"
    assert f"auth.group 1 permissions: {permission}" in caught.value.why
    assert f"auth.user 1 user_permissions: {permission}" in caught.value.why
    assert "a.mark 1 kind: points to contenttypes.contenttype ['gone', 'oldmodel']" in caught.value.why
    done = data_load.load(where, [prepared_gone], {"policy": {"foreign_key": "drop"}, "mode": "replace"})
    assert done["touched"]["a.strict"] == [1]
    result = shell(where, LOOK)
    assert result == [["add_mark"], 0, [[2, "mark"]], [2], [2]]


def test_empty_keeps_the_row(small, prepared_gone, tmp_path):
    where = small.new("sqlite")
    entries = [
        each for each in json.loads(prepared_gone.read_text("utf-8")) if each["model"] not in ("a.strict", "a.follower")
    ]
    path = tmp_path / "some.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    data_load.load(where, [path], {"policy": {"foreign_key": "empty"}})
    assert shell(where, LOOK) == [["add_mark"], 0, [[1, None], [2, "mark"]], [], []]
    # What may not be NULL cannot be emptied.
    with pytest.raises(SauvegardeError, match="cannot be loaded"):
        data_load.load(where, [prepared_gone], {"policy": {"foreign_key": "empty"}})


@pytest.mark.parametrize("kind", ["sqlite", "pg"])
def test_a_reference_without_a_constraint_keeps_its_number(small, tmp_path, kind):
    where, two = small.new(kind), small.new(kind)
    shell(where, "from a.models import *\nEntry.objects.create(by_id=77)\nprint(1)")
    path = tmp_path / "data.json"
    path.write_bytes(text_of(where, labels=["a.Entry"]))
    assert json.loads(path.read_text("utf-8"))[0]["fields"] == {"by": 77}
    data_load.load(two, [path], {})
    assert text_of(two, labels=["a.Entry"]) == path.read_bytes()
    manage(small.new(kind), "loaddata", str(path))  # stock reads it, too
