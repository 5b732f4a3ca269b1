"""Inside the site: collect the originals of all masked fields, for the search in what leaves."""

import base64
import datetime
import decimal
import json
import uuid

from django.apps import apps
from django.db import connections

from ..leak_scan import Originals, in_place
from ..masking import EMPTY, NUMBERS
from .site_models import rows_of

_CHUNK = 2000
_MOST = 1 << 16  # bytes of a binary value
_SEARCHED = ("JSONField", "GenericIPAddressField", "UUIDField", "BinaryField", "SearchVectorField", "DecimalField")
_SEARCHED += NUMBERS


def from_database(masking, using):
    """The `Originals` of the database's rows, of all models that the policy speaks of."""
    originals, wanted = Originals(masking.key), masking.masked_fields()
    tables = set(connections[using].introspection.table_names(include_views=True))
    for model in apps.get_models():
        label = model._meta.label_lower
        if label in wanted and not model._meta.proxy and (model._meta.managed or model._meta.db_table in tables):
            for name, how in sorted(wanted[label].items()):
                _of_column(originals, masking, model, using, name, how)
    originals.add_people(masking.people)
    return originals


def _of_column(originals, masking, model, using, name, how):
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


def from_entry(originals, masking, wanted, entry):
    """Add the originals of a fixture's object."""
    label = entry["model"].lower()
    if label in wanted:
        facts = masking.description[label]
        values = dict(entry["fields"], **({facts["pk"]: entry["pk"]} if "pk" in entry else {}))
        for name, how in wanted[label].items():
            value = values.get(name)
            if _is_shared(masking, how, value):
                continue
            if facts["fields"][name].get("nested") and isinstance(value, str):
                value = json.loads(value)
            if _is_searched(facts["fields"][name]):
                is_binary = facts["fields"][name]["type"] == "BinaryField" and isinstance(value, str)
                _add(originals, how, base64.b64decode(value) if is_binary else value, f"{label}.{name}")
            if name != facts["pk"] and "pk" in entry and not masking.drops(label) and masking.keeps_key(label):
                _add_row(originals, (label, entry["pk"], name), how, value, facts["fields"][name])


def _is_shared(masking, how, value):
    """Whether the value is the policy's own password, in data that were masked before."""
    return how == "password" and masking.password is not None and value == masking.password


def _is_searched(field):
    """Whether the field's values are, or hold, what may be in other texts as well."""
    return bool(field.get("text")) or field["type"] in _SEARCHED


def _add_row(originals, place, how, value, field):
    """Let the search know the value in its own place, unless nothing says that it must be another one there."""
    label, key, name = place
    text = in_place(how, _written(value))
    if how != EMPTY or text != in_place(how, field.get("empty")):
        originals.add_row(label, _written(key), name, text)


def _written(value):
    """What a fixture holds for a plain value."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return str(value) if isinstance(value, (uuid.UUID, decimal.Decimal)) else value


def _add(originals, how, value, place):
    if isinstance(value, (bytes, bytearray, memoryview)):
        # Text, as sites seal it or not; the stream has it in base64.
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
