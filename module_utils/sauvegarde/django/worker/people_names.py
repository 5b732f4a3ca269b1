"""Learn the names of the site's people, so that masks can remove them from texts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections

from .model_selection import rows_of

if TYPE_CHECKING:
    from ..known_people import People
    from ..masking import Masking
    from .django_types import Entry, Model

_CHUNK = 2000

NameFields = Mapping[str, Mapping[str, Any]]  # {label: {name of a field: its mask}}


def learn_from_database(masking: Masking, using: str) -> None:
    """Teach the masks the names in the database's rows, of all models in the policy."""
    name_fields = masking.name_fields()
    tables = set(connections[using].introspection.table_names(include_views=True))
    chosen = [
        model
        for model in apps.get_models()
        if model._meta.label_lower in name_fields and not model._meta.proxy and _has_table(model, tables)
    ]
    learn(masking.people, chosen, using, name_fields)


def _has_table(model: type[Model], tables: Collection[str]) -> bool:
    return model._meta.managed or model._meta.db_table in tables


def learn(
    people: People, chosen: Iterable[type[Model]], using: str, name_fields: NameFields, most: int | None = None
) -> None:
    """Add the names in the rows of the chosen models to the `People`, of at most so many rows of each."""
    for model in chosen:
        fields = name_fields.get(model._meta.label_lower)
        if fields:
            names = sorted(fields)
            rows = rows_of(model, using).order_by().values_list(*names).distinct()
            for row in rows[:most] if most else rows.iterator(chunk_size=_CHUNK):
                people.add_row([(fields[name], value) for name, value in zip(names, row)])


def learn_from_entry(masking: Masking, name_fields: NameFields, entry: Entry) -> None:
    """Teach the masks the names in a fixture's object."""
    label = entry["model"].lower()
    fields = name_fields.get(label)
    if fields:
        key = masking.description[label]["pk"]
        values = dict(entry["fields"], **({key: entry["pk"]} if "pk" in entry else {}))
        masking.people.add_row([(how, values.get(name)) for name, how in fields.items()])
