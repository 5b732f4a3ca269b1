"""Fetch the natural keys that a dump writes in place of numbers, many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Callable

from ...errors import SauvegardeError
from .json_style import PROTECTED, Stub, fixture_value
from .model_selection import rows_of

if TYPE_CHECKING:
    from .django_types import Field, Model

_KEPT = 20000  # natural keys of one model in memory


class NaturalKeys:
    """The natural keys of a dump's related objects. `masking`: the masks of the dump, or None."""

    def __init__(self, using: str, masking: Any) -> None:
        self.using, self.masking = using, masking
        self._keys: dict[tuple[type[Model], str], dict[Any, Any]] = {}

    def fetch(self, field: Field, manager: Any, name: str, values: Iterable[Any]) -> dict[Any, Any]:
        """Return {value: natural key} of what the field points to, by the values of its own field `name`.

        `manager`: finds the objects. A value that leads nowhere, where the database does not check that, is returned as
        it is; a dangling reference in a checked column raises.
        """
        model = field.remote_field.model
        keys = self._keys.setdefault((model, name), {})
        missing = {value for value in values if value is not None and value not in keys}
        if missing:
            if len(keys) > _KEPT:
                # A new dictionary: the texts of the current chunk still come from the old one.
                keys = self._keys[model, name] = {}
                missing = {value for value in values if value is not None}
            masks = self.masking.natural(field.model._meta.label_lower, field.name) if self.masking else []
            related_objects = manager.using(self.using).filter(**{name + "__in": missing})
            for related in related_objects.select_related(*_nested_keys(model)):
                keys[getattr(related, name)] = _masked(related.natural_key() if related else None, masks)
            for value in missing - keys.keys():
                if getattr(field, "db_constraint", True):
                    raise self._leads_nowhere(field, value)
                keys[value] = self._number(model, name, value)
        return keys

    def _number(self, model: type[Model], name: str, value: Any) -> Any:
        """Return the number of an object that does not exist, which loads take as well."""
        text = model._meta.get_field(name).value_to_string(Stub(name, value))
        plain = value if isinstance(value, PROTECTED) else text
        mask = self.masking.mask(model._meta.concrete_model._meta.label_lower, name) if self.masking else None
        return mask(fixture_value(plain)) if mask else plain

    def _leads_nowhere(self, field: Field, value: Any) -> SauvegardeError:
        meta, target = field.model._meta, field.remote_field.model._meta
        which = "a row"
        if not field.many_to_many:
            row = rows_of(field.model, self.using).filter(**{field.attname: value}).values_list("pk").first()
            which = repr(row[0]) if row else which
        return SauvegardeError(
            f"{meta.label_lower} {which}, {field.name}: points to {target.label_lower} {value!r},"
            " which does not exist.",
            "Its natural key cannot be written.",
            "Correct the row, or dump without natural keys.",
        )


def _nested_keys(model: type[Model]) -> list[str]:
    """Return the references that natural keys commonly include: a permission's holds its content type's."""
    return [
        field.name
        for field in model._meta.concrete_fields
        if field.remote_field is not None and hasattr(field.related_model, "natural_key")
    ]


def _masked(key: Any, masks: Sequence[Callable[[Any], Any] | None]) -> Any:
    if key is None or not any(masks):
        return key
    return [mask(part) if mask else part for part, mask in zip(key, masks)]
