"""Decide which models and objects take the fast way, as rows, and which take the stock way, through Django's objects.

The fast way must give the stock result. So a load hands an object to Django's deserializer, and a dump reads a model
with Django's serializer, wherever code of the site takes part: methods that save, fields that convert, managers that
choose. What only a value can show is found while the values are converted, which then raises `FastNotPossible`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import signals
from django.db.models.manager import BaseManager
from django.db.models.query import ModelIterable, QuerySet
from django.db.models.query_utils import DeferredAttribute

if TYPE_CHECKING:
    from .django_types import Entry, Field, Model


class FastNotPossible(Exception):
    """This object, or this model, must take the stock way; the text says why."""


# --- loads ------------------------------------------------------------------------------------------------------------


def why_load_stock(model: type[Model], vendor: str) -> str:
    """Return why Django itself must write every object of the model, or an empty text.

    `vendor`: of the database, "postgresql" or "sqlite".
    """
    meta = model._meta
    if meta.proxy:
        return "is a proxy of another model"
    if len(key_fields(model)) > 1:
        return "has a key of several columns"
    for name in ("_save_table", "_do_insert", "_do_update", "save_base"):
        if inspect.getattr_static(model, name) is not inspect.getattr_static(models.Model, name):
            return "saves its objects in its own way"
    for field in meta.local_concrete_fields:
        if _is_converted_by_database(field, vendor):
            return f"its field {field.name} is converted by the database"
    for field in meta.local_many_to_many:
        if field.remote_field.symmetrical:
            return f"its field {field.name} goes both ways"
    return ""


def why_object_stock(entry: Entry, fields: Sequence[Field]) -> str:
    """Return why this object must take the stock way although its model does not, or an empty text.

    `fields`: the model's columns, without the key.
    """
    if entry.get("pk") is None:
        return "it has no key"
    for field in fields:
        if field.name not in entry["fields"] and _has_database_default(field):
            return f"the database has its own default for {field.name}"
    return ""


def needs_objects(model: type[Model], heard: frozenset[str], listen: bool) -> bool:
    """Return whether a load must build an object for each row, since code of the site may see or change it.

    `heard`: the signals about saving that the site listens to; `listen`: whether listeners are called at all.
    """
    meta = model._meta
    return bool(
        heard
        or model.__init__ is not models.Model.__init__
        or any(hidden_attribute(model, field) for field in meta.local_concrete_fields)
        or (
            listen
            and any(signals.m2m_changed.has_listeners(field.remote_field.through) for field in meta.local_many_to_many)
        )
    )


def _has_database_default(field: Field) -> bool:
    return getattr(field, "db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED and not field.has_default()


def _is_converted_by_database(field: Field, vendor: str) -> bool:
    """Return whether the field puts an SQL function around its value, so that COPY would store something else.

    Django's own fields only add a cast to the column's type (rasters), or a function for geometries that are no EWKB.
    """
    for name in ("get_placeholder", "get_placeholder_sql"):
        method = getattr(type(field), name, None)
        if method is None or method.__module__.startswith(("django.db.models.", "django.contrib.postgres.")):
            continue
        geometry = getattr(field, "geom_type", None) is not None and vendor == "postgresql"
        if not geometry or not method.__module__.startswith("django.contrib.gis."):
            return True
    return False


# --- dumps ------------------------------------------------------------------------------------------------------------


def why_dump_stock(
    model: type[Model], queryset: Any, many: Sequence[Field], natural_primary: bool, all_rows: bool
) -> str:
    """Return why a dump must read the model with Django's serializer, or an empty text.

    `queryset`: of the rows to dump; `many`: the many-to-many fields to dump; `natural_primary`: whether natural keys
    replace primary keys; `all_rows`: whether managers are bypassed.
    """
    if len(key_fields(model)) > 1:
        return "has a key of several columns"
    if model._meta.parents and natural_primary:
        return "inherits from another model's table, whose key it writes"
    if queryset._iterable_class is not ModelIterable or queryset._prefetch_related_lookups:
        return "has a manager with a way of its own"
    if type(queryset).iterator is not QuerySet.iterator or type(queryset).values_list is not QuerySet.values_list:
        return "has a manager with a way of its own"
    for field in model._meta.local_fields:
        reason = _why_field_stock(field)
        if reason:
            return f"its field {field.name} {reason}"
    for field in many if not all_rows else ():
        if type(field.remote_field.model._default_manager).get_queryset is not BaseManager.get_queryset:
            return f"what its field {field.name} points to has a manager with a way of its own"
    return ""


def _why_field_stock(field: Field) -> str:
    cls = type(field)
    if cls.value_from_object is not models.Field.value_from_object:
        return "is read in its own way"
    if not cls.value_to_string.__module__.startswith(("django.db.", "django.contrib.")):
        return "is written in its own way"
    return ""


def dumps_objects(model: type[Model]) -> bool:
    """Return whether a dump must build an object for each row, since the model's code takes part in its values."""
    cls: Any = model
    own = cls.from_db.__func__ is not models.Model.from_db.__func__ or cls.__init__ is not models.Model.__init__
    listened = signals.pre_init.has_listeners(model) or signals.post_init.has_listeners(model)
    return bool(own or listened or any(hidden_attribute(model, field) for field in model._meta.local_fields))


# --- both -------------------------------------------------------------------------------------------------------------


def key_fields(model: type[Model]) -> Sequence[Field]:
    """Return the fields of the model's primary key: several since Django 5.2."""
    fields: Sequence[Field] = getattr(model._meta, "pk_fields", [model._meta.pk])
    return fields


def hidden_attribute(model: type[Model], field: Field) -> bool:
    """Return whether code of the site stands between the field's column and the object's attribute."""
    descriptor = inspect.getattr_static(model, field.attname, None)
    # A plain class attribute (a base class's default) is no descriptor and hides nothing.
    return hasattr(type(descriptor), "__get__") and not (
        isinstance(descriptor, DeferredAttribute) and type(descriptor).__module__.startswith("django.")
    )
