"""The policy of inventories/elgeopaso decides every field of a site with those models and real packages."""

import json
import os
from pathlib import Path

import pytest
from packages_site import REQUIREMENTS
from sample_site import ENVIRONMENTS, interpreter
from sauvegarde.django import fixture_sets, masking, site, starting_policy
from sauvegarde.errors import SauvegardeError

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "inventories" / "elgeopaso" / "group_vars" / "production" / "masking.yml"
SETS = ROOT / "inventories" / "elgeopaso" / "group_vars" / "all" / "main.yml"
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

pytestmark = [
    pytest.mark.one_host("asks no database"),
    pytest.mark.skipif(
        "5.2:psycopg2" not in ENVIRONMENTS, reason="the packages are pinned for Django 5.2 with psycopg2"
    ),
]

SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "none.sqlite3"}}
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages",
    "django.contrib.sessions", "django.contrib.sites", "allauth", "allauth.account", "allauth.socialaccount",
    "django_ckeditor_5", "accounts", "cms", "jobs",
]
MIDDLEWARE = ["allauth.account.middleware.AccountMiddleware"]
SITE_ID = 1
"""
DATED = """
from django.contrib.auth.models import User
from django.db import models
class Dated(models.Model):
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)
    class Meta:
        abstract = True
"""
ACCOUNTS = """
class Subscription(models.Model):
    user = models.OneToOneField(User, models.CASCADE)
    report_hour = models.BooleanField(default=False)
    report_week = models.BooleanField(default=False)
"""
CMS = """
from django_ckeditor_5.fields import CKEditor5Field
class Category(models.Model):
    name = models.CharField(max_length=50, unique=True)
    slug_name = models.SlugField(unique=True)
    description = models.TextField(blank=True)
class Article(Dated):
    category = models.ForeignKey(Category, models.SET_NULL, null=True)
    title = models.CharField(max_length=200)
    slug_title = models.SlugField(unique=True)
    content = CKEditor5Field()
    ext_url = models.URLField(blank=True)
    published = models.BooleanField(default=False)
"""
JOBS = """
class GeorezoRSS(Dated):
    id_rss = models.IntegerField(primary_key=True)
    title = models.CharField(max_length=250, null=True)
    content = models.TextField(null=True)
    pub_date = models.DateTimeField(null=True)
    source = models.BooleanField()
    to_update = models.BooleanField(default=False)
class Contract(Dated):
    abbrv = models.CharField(max_length=20, primary_key=True)
    name = models.CharField(max_length=75)
    comment = models.TextField(blank=True)
class JobPosition(Dated):
    name = models.CharField(max_length=100, primary_key=True)
    comment = models.CharField(max_length=5, blank=True)
class Place(Dated):
    name = models.CharField(max_length=100, primary_key=True)
    code = models.CharField(max_length=5, unique=True)
    scale = models.CharField(max_length=50)
class Source(Dated):
    name = models.CharField(max_length=50, unique=True)
    url = models.URLField(blank=True)
    comment = models.TextField(blank=True)
class Technology(Dated):
    name = models.CharField(max_length=200, unique=True)
    license = models.CharField(max_length=20)
    type_soft = models.CharField(max_length=50)
class Variation(models.Model):
    label = models.CharField(max_length=200, unique=True)
    class Meta:
        abstract = True
class ContractVariations(Variation):
    name = models.ForeignKey(Contract, models.CASCADE)
class JobPositionVariations(Variation):
    name = models.ForeignKey(JobPosition, models.CASCADE)
class PlaceVariations(Variation):
    name = models.ForeignKey(Place, models.CASCADE)
class TechnologyVariations(Variation):
    name = models.ForeignKey(Technology, models.CASCADE)
class Offer(Dated):
    id_rss = models.IntegerField(unique=True)
    raw_offer = models.OneToOneField(GeorezoRSS, models.SET_NULL, null=True)
    source = models.ForeignKey(Source, models.SET_NULL, null=True)
    title = models.CharField(max_length=200)
    content = models.TextField(null=True)
    pub_date = models.DateTimeField(null=True)
    contract = models.ForeignKey(Contract, models.SET_NULL, null=True)
    jobs_positions = models.ManyToManyField(JobPosition)
    place = models.ForeignKey(Place, models.SET_NULL, null=True)
    technologies = models.ManyToManyField(Technology)
"""


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The models of the site, as the engine describes them; no database is asked."""
    folder = tmp_path_factory.mktemp("site")
    for name, models in (("accounts", ACCOUNTS), ("cms", CMS), ("jobs", JOBS)):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("", encoding="utf-8")
        (folder / name / "models.py").write_text(DATED + models, encoding="utf-8")
    (folder / "conf.py").write_text(SETTINGS, encoding="utf-8")
    run = "import sys; from django.core.management import execute_from_command_line as e; e(sys.argv)"
    (folder / "manage.py").write_text(run, encoding="utf-8")
    python = interpreter("5.2:psycopg2", requirements=REQUIREMENTS)
    where = site.site({"path": str(folder), "python": python, "settings": "conf"})
    return site.describe(where, asked=False)["models"]


@pytest.fixture
def policy():
    return yaml.safe_load(POLICY.read_text(encoding="utf-8"))["migrate_policy"]


def checked(policy, described):
    """Refuse what does not fit, as every dump does before it begins."""
    return masking.Masking(policy, described, os.urandom(16), sorted(set(described) - set(starting_policy.NUMBERED)))


def test_the_policy_is_complete(policy, described):
    assert "jobs.offer" in described and "account.emailaddress" in described and "socialaccount.socialapp" in described
    checked(policy, described)
    own = set(described) - set(starting_policy.NUMBERED)
    assert set(policy["models"]) == own


@pytest.mark.parametrize("label, field", [("auth.user", "email"), ("jobs.offer", "content"), ("cms.article", "title")])
def test_a_field_that_is_missing_stops_it(policy, described, label, field):
    del policy["models"][label][field]
    with pytest.raises(SauvegardeError, match="the field is not in the policy"):
        checked(policy, described)


def test_nothing_that_the_draft_would_mask_is_kept(policy, described):
    """What the engine would mask by its name or type is kept only where it is published."""
    draft = starting_policy.starting_policy(described)["models"]
    kept = set()
    for label, rules in draft.items():
        for name, action in {} if rules == "drop" else rules.items():
            ours = policy["models"].get(label, {})
            if isinstance(action, dict) and ours != "drop" and ours.get(name) in ("keep", "public"):
                kept.add(f"{label}.{name}")
    assert kept == PUBLISHED, json.dumps(sorted(kept))


# Texts of the published fixtures and pages: `public` by decision, where the draft scrubs or masks.
PUBLISHED = {
    "cms.article.title", "cms.category.description", "jobs.contract.comment", "jobs.contractvariations.label",
    "jobs.jobpositionvariations.label", "jobs.placevariations.label", "jobs.source.comment", "jobs.technology.name",
    "jobs.technologyvariations.label",
}  # fmt: skip


def test_the_sets_name_models_of_the_site(described):
    sets = yaml.safe_load(SETS.read_text(encoding="utf-8"))["fixture_sets"]
    named = [label.lower() for one in fixture_sets.checked(sets) for label in one["models"]]
    assert set(named) <= set(described) and len(named) == len(set(named))
