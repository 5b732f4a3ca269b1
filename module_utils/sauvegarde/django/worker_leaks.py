"""Inside the site: collect the originals of all masked fields, for the search in what leaves."""

import json

from django.apps import apps
from django.db import connections

from .leaks import Originals
from .worker_models import rows_of

_CHUNK = 2000


def from_database(masking, using):
    """The `Originals` of the database's rows, of all models that the policy speaks of."""
    originals, wanted = Originals(masking.key), masking.masked_fields()
    tables = set(connections[using].introspection.table_names(include_views=True))
    for model in apps.get_models():
        label = model._meta.label_lower
        if label in wanted and not model._meta.proxy and (model._meta.managed or model._meta.db_table in tables):
            for name, how in sorted(wanted[label].items()):
                values = rows_of(model, using).order_by().values_list(name, flat=True)
                for value in values.iterator(chunk_size=_CHUNK):
                    _add(originals, how, value, f"{label}.{name}")
    originals.add_people(masking.people)
    return originals


def from_entry(originals, masking, wanted, entry):
    """Add the originals of a fixture's object."""
    label = entry["model"].lower()
    if label in wanted:
        facts = masking.description[label]
        values = dict(entry["fields"], **({facts["pk"]: entry["pk"]} if "pk" in entry else {}))
        for name, how in wanted[label].items():
            value = values.get(name)
            if facts["fields"][name].get("nested") and isinstance(value, str):
                value = json.loads(value)
            _add(originals, how, value, f"{label}.{name}")


def _add(originals, how, value, place):
    if isinstance(value, str):
        originals.add(how, value, place)
    elif isinstance(value, dict):
        _add(originals, how, list(value.values()), place)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _add(originals, how, item, place)
