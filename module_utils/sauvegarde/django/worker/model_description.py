"""Describe the site's models in plain values."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import django
from django.apps import apps
from django.conf import settings
from django.db import connections, models, router
from django.db.migrations.executor import MigrationExecutor

from ..worker_request import DescribeOptions, WorkerRequest
from .derived_models import index_command
from .model_selection import is_generated, stored_fields
from .natural_key_parts import KeyPart, natural_parts
from .tree_fields import reference_fields, tree_fields

if TYPE_CHECKING:
    from .django_types import Connection, Field, Model, Output, Source

_EMPTY: dict[str, Any] = {
    "ArrayField": "[]",
    "BooleanField": False,
    "DateField": "1970-01-01",
    "DateTimeField": "1970-01-01T00:00:00Z",
    "DecimalField": "0",
    "DurationField": "P0DT00H00M00S",
    "HStoreField": "{}",
    "JSONField": {},
    "TimeField": "00:00:00",
    "UUIDField": "00000000-0000-0000-0000-000000000000",
}
_NUMBERS = (
    *("IntegerField", "BigIntegerField", "SmallIntegerField", "FloatField"),
    *("PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField"),
)
_EMPTY.update(dict.fromkeys(_NUMBERS, 0))


def describe(request: WorkerRequest, source: Source, output: Output) -> dict[str, Any]:
    """Return the site in plain values, with `DescribeOptions`.

    {"django", "python", "database": {"vendor", "engine"}, "models": as `description` returns them,
     "unapplied": [names], none unless the database is `asked`, "samples": as `value_samples.samples` returns them}
    """
    options, using = DescribeOptions.from_values(request.options), request.database
    connection = connections[using]
    described = description(using)
    samples: dict[str, Any] = {}
    if options.rows:
        from .value_samples import samples as read_samples

        samples = read_samples(using, options.rows, described)
    return {
        "samples": samples,
        "django": django.get_version(),
        "python": platform.python_version(),
        "database": {"vendor": connection.vendor, "engine": connection.settings_dict["ENGINE"]},
        "models": described,
        "unapplied": _unapplied(connection) if options.asked else [],
    }


def description(using: str) -> dict[str, dict[str, Any]]:
    """Return {label: {"pk", "user", "natural_key", "index", "fields"}} of every model with a table of its own.

    "user": whether it is the user model. "index": the command that fills a search index, else an empty text. "fields"
    has no generated fields: what the database computes is not the site's data, so policies and proofs ignore it.
    """
    return {
        model._meta.label_lower: {
            "pk": model._meta.pk.name,
            "user": model._meta.label_lower == settings.AUTH_USER_MODEL.lower(),
            "natural_key": _pairs(natural_parts(model)),
            "index": index_command(model),
            "fields": _fields(model, using),
        }
        for model in apps.get_models()
        if not model._meta.proxy and router.allow_migrate_model(using, model)
    }


def _fields(model: type[Model], using: str) -> dict[str, dict[str, Any]]:
    """Return {name: facts} of the fields of the model that hold data, with what depends on them."""
    fields = {field.name: _field(field) for field in stored_fields(model) if not is_generated(field)}
    for key, dependent in (("tree", tree_fields(model, using)), ("reference", reference_fields(model))):
        for name, why in dependent.items():
            if name in fields:
                fields[name][key] = why
    return fields


def _field(field: Field) -> dict[str, Any]:
    many = isinstance(field, models.ManyToManyField)
    relation: list[str] | None = None
    natural: dict[str, Any] = {}
    if field.remote_field is not None and field.related_model is not None:
        # A proxy has no table, no key and no policy of its own.
        target = (field.related_model if many else field.target_field.model)._meta.concrete_model
        relation = [target._meta.label_lower, target._meta.pk.name if many else field.target_field.name]
        if field.related_model._meta.proxy:
            natural["natural_key"] = _pairs(natural_parts(field.related_model))
    kind = field.get_internal_type()
    nested = _nested(field)
    together = {name for group in field.model._meta.unique_together for name in group}
    for constraint in field.model._meta.constraints:
        together.update(getattr(constraint, "fields", ()))
    facts = {
        "type": kind,
        "null": field.null,
        "pk": field.primary_key,
        "alone": field.unique,
        "unique": field.unique or field.name in together,
        # A UUIDField's max_length counts its digits only.
        "max_length": None if kind == "UUIDField" else getattr(nested or field, "max_length", None),
        "digits": getattr(field, "max_digits", None),
        "relation": relation,
        "many": many,
        "text": isinstance(field, (models.CharField, models.TextField, models.FileField)) or nested is not None,
        # A fixture holds these as a text of JSON.
        "nested": nested is not None,
        # To the database these are like any other text.
        "email": isinstance(nested or field, models.EmailField),
        "url": isinstance(field, models.URLField),
        "choices": bool(getattr(field, "choices", None)),
        "empty": _EMPTY.get(kind, ""),
    }
    return dict(facts, **natural)


def _nested(field: Field) -> Any:
    """Return the field of the texts inside an array (for an hstore: the field itself), or None."""
    if field.get_internal_type() == "HStoreField":
        return field
    if field.get_internal_type() != "ArrayField":
        return None
    element: Any = field
    while hasattr(element, "base_field"):
        element = element.base_field
    return element if isinstance(element, (models.CharField, models.TextField)) else None


def _pairs(parts: Sequence[KeyPart] | None) -> list[list[str]] | None:
    """Return [[label, field]] of a natural key's parts."""
    return None if parts is None else [[part.label, part.field] for part in parts]


def _unapplied(connection: Connection) -> list[str]:
    executor = MigrationExecutor(connection)
    steps = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in steps]
