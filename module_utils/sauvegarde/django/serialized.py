"""Recognise whole objects inside a value, as django-reversion and audit logs keep copies of other models' rows.

The mask of the field that holds such a copy knows nothing of the fields inside: it removes e-mail addresses, telephone
numbers and names, and leaves dates of birth, user names or passwords.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from .escapes import parse_json
from .name_hints import mask_by_name

# Text and JSON fields of these names hold such objects even if the sample has none.
BY_NAME = re.compile(r"\Aserialized_|\Aobject_json|_json_repr\Z|\Achange_?message\Z|\Achanged_fields\Z|\Achanges\Z")
_LABEL = re.compile(r"\w+\.\w+\Z")
# A JSON object with at least so many fields of a model is taken for a row of it.
_FIELDS = 3
_LONGEST = 1 << 20
_DEEPEST = 8


class Known:
    """The site's models (`description`), by the names of their fields."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._names: list[set[str]] = []
        self._personal: list[set[str]] = []
        for label, facts in description.items():
            names, personal = set(), set()
            for name, field in facts["fields"].items():
                names.add(name)
                if field.get("email") or mask_by_name(field, name, label):
                    personal.add(name)
            self._names.append(names)
            if personal:
                self._personal.append(names)

    def holds(self, value: Any) -> bool:
        """Return whether the value, or the JSON in it, holds objects of models or lists of their changes."""
        return self._holds(value, _DEEPEST)

    def _holds(self, value: Any, depth: int) -> bool:
        if not depth:
            return False
        if isinstance(value, str):
            value = parse_json(value) if len(value) <= _LONGEST else None
        if isinstance(value, dict):
            return self._is_object(value) or self._any(value.values(), depth)
        return isinstance(value, (list, tuple)) and self._any(value, depth)

    def _any(self, values: Iterable[Any], depth: int) -> bool:
        return any(self._holds(value, depth - 1) for value in values)

    def _is_object(self, value: dict[str, Any]) -> bool:
        # As Django's serializers write it.
        if isinstance(value.get("fields"), dict) and _LABEL.match(str(value.get("model"))):
            return True
        names = set(value)
        # {field: [before, after]}, as audit logs write changes.
        if names and all(_is_change(change) for change in value.values()):
            return any(names <= fields for fields in self._names)
        # The fields of a model that has people's data.
        return len(names) >= _FIELDS and any(
            len(names & fields) >= max(_FIELDS, len(names) * 2 // 3) for fields in self._personal
        )


def _is_change(value: Any) -> bool:
    pair = isinstance(value, (list, tuple)) and len(value) == 2 and value[0] != value[1]
    return pair and all(item is None or isinstance(item, str) for item in value)
