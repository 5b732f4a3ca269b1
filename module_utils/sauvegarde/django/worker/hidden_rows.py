"""Find the rows that a model's default manager hides.

Stock exports omit them; a migration takes them unless `migrate_hidden: stay`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, models, transaction
from django.db.models.manager import BaseManager

from .model_selection import exported_rows, rows_of

if TYPE_CHECKING:
    from .django_types import Model


def chooses_rows(model: type[Model]) -> bool:
    """Return whether the model's default manager selects rows in its own way."""
    return type(model._default_manager).get_queryset is not BaseManager.get_queryset


def hidden_keys(model: type[Model], using: str) -> list[Any]:
    """Return the keys of the model's hidden rows."""
    if not chooses_rows(model):
        return []
    exported = set(exported_rows(model, using).values_list("pk", flat=True).iterator())
    return [pk for pk in rows_of(model, using).values_list("pk", flat=True).iterator() if pk not in exported]


def count_hidden_rows(chosen: Sequence[type[Model]], using: str) -> dict[str, int]:
    """Return {label: number of hidden rows} of the models that have any."""
    counts = {}
    for model in chosen:
        manager = model._default_manager
        if type(manager) is models.Manager:
            continue
        try:
            with transaction.atomic(using=using):
                shown = manager.using(using).order_by().values("pk").distinct().count()
                hidden = rows_of(model, using).count() - shown
        except (DatabaseError, AttributeError, TypeError, ValueError, LookupError):
            # The table does not exist yet, or the manager needs a request, which there is none of here.
            continue
        if hidden > 0:
            counts[model._meta.label_lower] = hidden
    return counts
