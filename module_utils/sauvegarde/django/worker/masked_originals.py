"""Collect the originals of all masked fields, for the search in what leaves the site."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections

from ..leak_scan import Originals, in_place
from ..name_hints import NUMBERS
from ..policy_actions import EMPTY
from .model_selection import rows_of

if TYPE_CHECKING:
    from ..masking import Masking
    from .django_types import Entry, Model

Masked = Mapping[str, Mapping[str, Any]]  # {label: {name of a field: how it is searched for}}

_CHUNK = 2000
_MOST = 1 << 16  # bytes of a binary value that are searched for
_SEARCHED = (
    *("JSONField", "GenericIPAddressField", "UUIDField", "BinaryField", "SearchVectorField", "DecimalField"),
    *NUMBERS,
)


def from_database(masking: Masking, using: str) -> Originals:
    """Return the `Originals` of the database's rows, of all models in the policy."""
    originals, masked = Originals(masking.key), masking.masked_fields()
    tables = set(connections[using].introspection.table_names(include_views=True))
    for model in apps.get_models():
        label = model._meta.label_lower
        if label in masked and not model._meta.proxy and (model._meta.managed or model._meta.db_table in tables):
            for name, how in sorted(masked[label].items()):
                _of_column(originals, masking, model, using, name, how)
    originals.add_people(masking.people)
    return originals


def _of_column(originals: Originals, masking: Masking, model: type[Model], using: str, name: str, how: str) -> None:
    label = model._meta.label_lower
    facts = masking.description[label]
    field, is_key = facts["fields"][name], name == facts["pk"]
    compared = not masking.drops(label) and masking.keeps_key(label)
    values = rows_of(model, using).order_by().values_list("pk", name)
    for key, value in values.iterator(chunk_size=_CHUNK):
        if _is_shared(masking, how, value):
            continue
        if _is_searched(field):
            _add(originals, how, value, f"{label}.{name}")
        if not is_key and compared:
            _add_row(originals, (label, key, name), how, value, field)


def from_entry(originals: Originals, masking: Masking, masked: Masked, entry: Entry) -> None:
    """Add the originals of a fixture's object."""
    label = entry["model"].lower()
    if label in masked:
        facts = masking.description[label]
        values = dict(entry["fields"], **({facts["pk"]: entry["pk"]} if "pk" in entry else {}))
        for name, how in masked[label].items():
            value = values.get(name)
            if _is_shared(masking, how, value):
                continue
            if facts["fields"][name].get("nested") and isinstance(value, str):
                value = json.loads(value)
            if _is_searched(facts["fields"][name]):
                content: Any = value
                if facts["fields"][name]["type"] == "BinaryField" and isinstance(value, str):
                    content = base64.b64decode(value)
                _add(originals, how, content, f"{label}.{name}")
            if name != facts["pk"] and "pk" in entry and not masking.drops(label) and masking.keeps_key(label):
                _add_row(originals, (label, entry["pk"], name), how, value, facts["fields"][name])


def _is_shared(masking: Masking, how: str, value: Any) -> bool:
    """Return whether the value is the policy's own password, in data that were masked before."""
    return how == "password" and masking.password is not None and value == masking.password


def _is_searched(field: Mapping[str, Any]) -> bool:
    """Return whether the field's values are, or hold, what may be in other texts as well."""
    return bool(field.get("text")) or field["type"] in _SEARCHED


def _add_row(originals: Originals, place: tuple[str, Any, str], how: str, value: Any, field: Mapping[str, Any]) -> None:
    """Add the value of one field (`place`: label, key, name), unless its mask may leave it as it is."""
    label, key, name = place
    text = in_place(how, _written(value))
    if how != EMPTY or text != in_place(how, field.get("empty")):
        originals.add_row(label, _written(key), name, text)


def _written(value: Any) -> Any:
    """Return what a fixture holds for a plain value."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return str(value) if isinstance(value, (uuid.UUID, decimal.Decimal)) else value


def _add(originals: Originals, how: str, value: Any, place: str) -> None:
    if isinstance(value, (bytes, bytearray, memoryview)):
        # It may be text, encrypted by the site or not. The stream has it in base64.
        value = bytes(value[:_MOST])
        originals.add("token", _written(value), place)
        value = value.decode("utf-8", "ignore")
    if isinstance(value, (int, float, decimal.Decimal, uuid.UUID)) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        originals.add(how, value, place)
    elif isinstance(value, dict):
        for name in value:
            originals.add("scrub", str(name), place)
        _add(originals, how, list(value.values()), place)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _add(originals, how, item, place)
