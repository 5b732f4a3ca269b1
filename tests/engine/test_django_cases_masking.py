"""What other rows depend on is not masked: trees, natural keys, generic references."""

import json

import pytest
from little_site import Folder
from sample_site import ENVIRONMENTS, shell, text_of
from sauvegarde.django import masking, site, starting_policy
from sauvegarde.errors import SauvegardeError

KEY = "00112233445566778899aabbccddeeff"
# By its module's name, as the real one is recognised.
TREEBEARD = """
from django.db import models
class MP_Node(models.Model):
    path = models.CharField(max_length=255, unique=True)
    depth = models.PositiveIntegerField()
    numchild = models.PositiveIntegerField(default=0)
    class Meta:
        abstract = True
"""
MODELS = """
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from treebeard.mp_tree import MP_Node
class Branch(MP_Node):
    name = models.CharField(max_length=30)
class Nested(models.Model):
    lft = models.IntegerField(default=0)
    rght = models.IntegerField(default=0)
    level = models.CharField(max_length=200, default="0033123456789")
class Folder(models.Model):
    parent = models.ForeignKey("self", models.CASCADE, null=True)
    path = models.CharField(max_length=200, default="/0033123456789")
class RegionManager(models.Manager):
    def get_by_natural_key(self, code):
        return self.get(code=code)
class Region(models.Model):
    code = models.CharField(max_length=200, unique=True)
    label = models.CharField(max_length=200, unique=True, default="")
    objects = RegionManager()
    def natural_key(self):
        return (self.code,)
class Town(models.Model):
    region = models.ForeignKey(Region, models.CASCADE)
    mayor = models.CharField(max_length=200, default="+33 6 98 76 54 32")
    state = models.CharField(max_length=200, choices=[("0612345678", "open")], default="0612345678")
class Twin(models.Model):
    region = models.ForeignKey(Region, models.CASCADE, to_field="label")
class Tagged(models.Model):
    kind = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.CharField(max_length=200)
    target = GenericForeignKey("kind", "object_id")
"""
FILL = """
from a.models import *
from django.contrib.contenttypes.models import ContentType
Branch.objects.bulk_create(Branch(path="%04d00010001" % n, depth=3, name="n%d" % n) for n in range(40))
Nested.objects.create(); Folder.objects.create()
r = Region.objects.create(code="0033 612345678", label="0612345679")
Town.objects.create(region=r); Twin.objects.create(region=r)
Tagged.objects.create(kind=ContentType.objects.get_for_model(Town), object_id="0033612345678")
print(json.dumps(1))
"""
KEPT = {
    "a.branch": ("path", "depth", "numchild"),
    "a.nested": ("lft", "rght", "level"),
    "a.folder": ("path",),
    "a.region": ("code", "label"),
    "a.town": ("state",),
    "a.tagged": ("object_id",),
}


@pytest.fixture(scope="module")
def trees(cluster, tmp_path_factory):
    files = {"treebeard/__init__.py": "", "treebeard/mp_tree.py": TREEBEARD}
    path = tmp_path_factory.mktemp("trees")
    (path / "code" / "treebeard").mkdir(parents=True)
    where = Folder(path, cluster, ENVIRONMENTS[0], models=MODELS, **files).new("sqlite")
    shell(where, FILL)
    return where, site.describe(where)["models"]


def test_the_draft_keeps_what_other_rows_depend_on(trees):
    where, described = trees
    draft = json.loads(json.dumps(starting_policy.starting_policy(described)))
    for label, names in KEPT.items():
        assert {name: draft["models"][label][name] for name in names} == dict.fromkeys(names, "keep"), label
    assert draft["models"]["a.town"]["mayor"] == {"mask": "scrub"}
    plain, masked = (
        {(each["model"], json.dumps(each.get("pk"))): each["fields"] for each in json.loads(text.decode())}
        for text in (text_of(where, labels=["a"]), text_of(where, labels=["a"], policy=draft, key=KEY))
    )
    for place, fields in plain.items():
        for name in KEPT.get(place[0], ()):
            assert masked[place][name] == fields[name]
    assert "+33 6 98 76 54 32" not in json.dumps(list(masked.values()))


@pytest.mark.parametrize(
    "label, name, action, report",
    [
        ("a.branch", "path", {"mask": "scrub"}, "it belongs to the tree of django-treebeard"),
        ("a.branch", "path", {"mask": "digits"}, "it belongs to the tree of django-treebeard"),
        ("a.branch", "depth", "empty", "it belongs to the tree of django-treebeard"),
        ("a.nested", "lft", {"mask": "number"}, "it belongs to a tree"),
        ("a.folder", "path", {"mask": "scrub"}, "it cannot be scrubbed: it is the path of a tree"),
        ("a.region", "code", {"mask": "scrub"}, "it cannot be scrubbed: a.town.region refers to its rows by it"),
        ("a.region", "label", {"mask": "scrub"}, "it cannot be scrubbed: a.twin.region refers to its rows by it"),
        ("a.tagged", "object_id", {"mask": "scrub"}, "it cannot be scrubbed: it is part of the generic reference"),
        ("a.region", "code", {"mask": "text"}, ""),
        ("a.branch", "name", {"mask": "scrub"}, ""),
    ],
)
def test_a_policy_that_would_break_them_is_refused(trees, label, name, action, report):
    described = trees[1]
    policy = starting_policy.starting_policy(described)
    policy["models"][label][name] = action
    if not report:
        masking.Masking(policy, described, bytes.fromhex(KEY), ["a.town", label])
        return
    with pytest.raises(SauvegardeError) as caught:
        masking.Masking(policy, described, bytes.fromhex(KEY), ["a.town", label])
    assert f"{label}.{name}: {report}" in caught.value.why
