"""Choose models, rows and fields: what a dump writes, in stock's order, and what a fixture can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core import serializers
from django.core.management.utils import parse_apps_and_model_labels
from django.db import router
from django.db.models.query import QuerySet

from ...errors import SauvegardeError
from ..fixture_stream import NUMBERED

if TYPE_CHECKING:
    from .django_types import Field, Model, Queryset


def selected(labels: Sequence[str], exclude: Sequence[str], using: str, natural_foreign: bool) -> list[type[Model]]:
    """Return the models that stock `dumpdata LABELS --exclude …` writes, in its order."""
    excluded_models, excluded_apps = parse_apps_and_model_labels(exclude)
    chosen: dict[Any, list[type[Model]] | None] = {}
    if not labels:
        chosen = {
            config: None
            for config in apps.get_app_configs()
            if config.models_module is not None and config not in excluded_apps
        }
    for label in labels:
        app_label, _, model_label = label.partition(".")
        try:
            config = apps.get_app_config(app_label)
            model = config.get_model(model_label) if model_label else None
        except LookupError as error:
            raise SauvegardeError(
                f"The site has no model or application {label}.",
                str(error),
                "Name an application or application.Model of the site.",
            ) from error
        if config.models_module is None or config in excluded_apps:
            continue
        some = chosen.setdefault(config, None if model is None else [])
        if model is None:
            chosen[config] = None
        elif some is not None and model not in some:
            some.append(model)
    if natural_foreign:
        ordered = serializers.sort_dependencies(chosen.items(), allow_cycles=True)
    else:
        ordered = [
            model for config, some in chosen.items() for model in (config.get_models() if some is None else some)
        ]
    return [
        model
        for model in ordered
        if model not in excluded_models and not model._meta.proxy and router.allow_migrate_model(using, model)
    ]


def raw_numbers(chosen: Sequence[type[Model]], natural_foreign: bool, natural_primary: bool) -> list[str]:
    """Return sentences that say where a dump of these models would hold numbers of permissions or content types."""
    problems = []
    for model in chosen:
        if model._meta.label_lower in NUMBERED and not natural_primary:
            problems.append(f"{model._meta.label_lower}: its rows' own numbers")
        if not natural_foreign:
            problems += [
                f"{model._meta.label_lower}.{field.name}: numbers of {field.related_model._meta.label_lower}"
                for field in stored_fields(model)
                if field.related_model is not None
                and field.related_model._meta.concrete_model._meta.label_lower in NUMBERED
            ]
    return problems


def rows_of(model: type[Model], using: str) -> Queryset:
    """Return all rows of the model, as objects of exactly its class, whatever its managers hide or return."""
    rows: Queryset = QuerySet(model, using=using)
    return rows


def exported_rows(model: type[Model], using: str) -> Queryset:
    """Return the rows that a stock export holds: those of the default manager."""
    # django-polymorphic recognizes its own manager in stock's dumpdata, and gives plain objects.
    if hasattr(model._default_manager, "non_polymorphic"):
        return rows_of(model, using)
    rows: Queryset = model._default_manager.using(using)
    return rows


def is_generated(field: Field) -> bool:
    """Return whether the database computes the field (GeneratedField)."""
    return bool(getattr(field, "generated", False))


def stored_fields(model: type[Model]) -> list[Field]:
    """Return what a fixture of the model can hold: its columns, and its many-to-many fields without an own model."""
    return list(model._meta.local_concrete_fields) + [
        field for field in model._meta.local_many_to_many if field.remote_field.through._meta.auto_created
    ]
