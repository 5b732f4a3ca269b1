"""Recognise whole objects inside a value: what django-reversion, audit logs and revisions keep of other models' rows.

A mask of the field that holds them knows nothing of the fields inside: dates of birth, user names or passwords among
them stay where e-mail addresses, telephones and names go.
"""

import re
from typing import Any, Dict, Iterable

from .escapes import parse_json
from .masking import mask_by_name

# Texts and JSON of these names hold such objects even where the sample has none yet.
BY_NAME = re.compile(r"\Aserialized_|\Aobject_json|_json_repr\Z|\Achange_?message\Z|\Achanged_fields\Z|\Achanges\Z")
_LABEL = re.compile(r"\w+\.\w+\Z")
# A JSON object is taken for a model's row from so many of its fields on.
_FIELDS = 3
_LONGEST = 1 << 20
_DEEPEST = 8


class Known:
    """The site's models (`description`), by the names of their fields."""

    def __init__(self, description: Dict[str, Any]) -> None:
        self._names, self._personal = [], []
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
        """Whether the value (or the JSON that a text is) has objects of models, or lists of their changes, in it."""
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
        return any(self._holds(each, depth - 1) for each in values)

    def _is_object(self, value: Dict[str, Any]) -> bool:
        # As Django's serializers write it.
        if isinstance(value.get("fields"), dict) and _LABEL.match(str(value.get("model"))):
            return True
        names = set(value)
        # {field: [before, after]}, as audit logs write changes.
        if names and all(_is_change(each) for each in value.values()):
            return any(names <= each for each in self._names)
        # The fields of a model that has people's data.
        return len(names) >= _FIELDS and any(
            len(names & each) >= max(_FIELDS, len(names) * 2 // 3) for each in self._personal
        )


def _is_change(value: Any) -> bool:
    pair = isinstance(value, (list, tuple)) and len(value) == 2 and value[0] != value[1]
    return pair and all(each is None or isinstance(each, str) for each in value)
