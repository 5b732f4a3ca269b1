"""Inside the site: learn the names of its people, so that texts can lose them."""

from django.apps import apps
from django.db import connections

from .site_models import rows_of

_CHUNK = 2000


def learn_from_database(masking, using):
    """Let the masks know the names that the database's rows hold, of all models that the policy speaks of."""
    wanted = masking.name_fields()
    tables = set(connections[using].introspection.table_names(include_views=True))
    chosen = [
        model
        for model in apps.get_models()
        if model._meta.label_lower in wanted and not model._meta.proxy and _is_there(model, tables)
    ]
    learn(masking.people, chosen, using, wanted)


def _is_there(model, tables):
    return model._meta.managed or model._meta.db_table in tables


def learn(known, chosen, using, wanted, most=None):
    """Add the names in the rows of the chosen models to the `People`, of at most so many rows of each.

    `wanted`: {label: {name of a field: its mask}}.
    """
    for model in chosen:
        fields = wanted.get(model._meta.label_lower)
        if fields:
            names = sorted(fields)
            rows = rows_of(model, using).order_by().values_list(*names).distinct()
            for row in rows[:most] if most else rows.iterator(chunk_size=_CHUNK):
                known.add_row([(fields[name], value) for name, value in zip(names, row)])


def learn_from_entry(masking, wanted, entry):
    """Let the masks know the names that a fixture's object holds."""
    label = entry["model"].lower()
    fields = wanted.get(label)
    if fields:
        key = masking.description[label]["pk"]
        values = dict(entry["fields"], **({key: entry["pk"]} if "pk" in entry else {}))
        masking.people.add_row([(how, values.get(name)) for name, how in fields.items()])
