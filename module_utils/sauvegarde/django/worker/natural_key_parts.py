"""Find out which fields make up a model's natural key, by asking an object whose fields hold marks."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .django_types import Model


class KeyPart(NamedTuple):
    """The field that one part of a natural key comes from. `own`: whether it is the object's own field."""

    label: str
    field: str
    own: bool


def natural_parts(model: type[Model]) -> list[KeyPart] | None:
    """Return where each part of the model's natural key comes from.

    None if the model has no natural key; an empty list if that cannot be found out, such as for a computed key.
    """
    if not hasattr(model, "natural_key"):
        return None
    marks: dict[str, KeyPart] = {}
    try:
        key = _marked(model, marks, ()).natural_key()
    except Exception:  # noqa: BLE001 - a method of the site's, run on an object that is not real
        return []
    parts = [marks.get(part) if isinstance(part, str) else None for part in key]
    return [part for part in parts if part is not None] if None not in parts else []


def _marked(model: type[Model], marks: dict[str, KeyPart], above: tuple[type[Model], ...]) -> Model:
    """Return an object of which each field, and each field of what it points to, holds a mark of its own."""
    probe = model()
    for field in model._meta.concrete_fields:
        related = field.related_model if field.remote_field is not None else None
        # A tree's objects point to objects of the same model: twice is enough.
        if related is not None and hasattr(related, "natural_key") and above.count(related) < 2:
            with contextlib.suppress(Exception):
                setattr(probe, field.name, _marked(related, marks, (*above, model)))
        mark = str(uuid.uuid4())
        marks[mark] = KeyPart(field.model._meta.label_lower, field.name, not above)
        probe.__dict__[field.attname] = mark
    return probe
