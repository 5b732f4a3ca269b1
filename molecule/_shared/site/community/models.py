"""What third-party applications bring: listeners to every model, rows that a manager hides, columns that the database
computes, arrays, a tree of paths, models that make their objects in their own way, free text with people's names.

Only where `SITE_EXTRA_APPS=community` asks for it; its generated columns need Django 5.
"""

import json
import os

import django
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.functions import Lower
from django.db.models.signals import m2m_changed, post_save, pre_save
from django.dispatch import receiver

POSTGRESQL = not settings.DATABASES["default"]["ENGINE"].endswith(("sqlite3", "spatialite"))
if POSTGRESQL:
    from django.contrib.postgres.fields import ArrayField


class Kept(models.Manager):
    """As soft deletion does it: removed rows are hidden."""

    def get_queryset(self):
        return super().get_queryset().filter(removed=None)


class Comment(models.Model):
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    offer = models.ForeignKey("offers.Offer", on_delete=models.CASCADE)
    text = models.TextField()
    tags = ArrayField(models.CharField(max_length=20), default=list) if POSTGRESQL else models.JSONField(default=list)
    email = models.EmailField()
    removed = models.DateTimeField(null=True)
    liked_by = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="+")
    if django.VERSION >= (5,):
        folded = models.GeneratedField(
            expression=Lower("email"), output_field=models.CharField(max_length=254), db_persist=True
        )

    objects = Kept()
    every = models.Manager()


class Branch(models.Model):
    """A tree as django-treebeard keeps it: others stand below by their path."""

    path = models.CharField(max_length=255, unique=True)
    depth = models.PositiveIntegerField()
    numchild = models.PositiveIntegerField(default=0)
    name = models.CharField(max_length=40)

    class Meta:
        ordering = ["path"]


class Work(models.Model):
    """As django-polymorphic does it: the row knows its class, and objects are made in their own way."""

    kind = models.ForeignKey(ContentType, null=True, editable=False, on_delete=models.CASCADE)
    topic = models.CharField(max_length=60)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.real_class = type(self)


class Map(Work):
    cartographer = models.CharField(max_length=60)


def _heard(signal, sender, instance, **kwargs):
    """What a listener can see of its call, one line each, where the environment names a file."""
    state = {name: repr(value) for name, value in vars(instance).items() if not name.startswith("_")}
    about = {name: repr(value) for name, value in kwargs.items() if name not in ("model", "pk_set")}
    line = [
        signal,
        sender._meta.label,
        state,
        instance._state.adding,
        about,
        sorted(map(repr, kwargs.get("pk_set", ()))),
    ]
    with open(os.environ["SITE_HEARD"], "a", encoding="utf-8") as file:  # noqa: PTH123 - as listeners do it
        file.write(json.dumps(line, sort_keys=True) + "\n")


@receiver([pre_save, post_save])
def look_at_texts(sender, instance, raw=False, signal=None, **kwargs):
    """As an editor's application does: a look at every model's fields, for its own kind of field."""
    if os.environ.get("SITE_HEARD"):
        _heard("pre_save" if signal is pre_save else "post_save", sender, instance, raw=raw, **kwargs)
    for field in sender._meta.concrete_fields if not raw else ():
        if field.get_internal_type() == "RichTextField":
            setattr(instance, field.attname, getattr(instance, field.attname).strip())


@receiver(m2m_changed)
def look_at_lists(sender, instance, signal=None, **kwargs):
    if os.environ.get("SITE_HEARD"):
        _heard("m2m_changed", sender, instance, **kwargs)
