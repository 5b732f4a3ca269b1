"""Inside the site: models whose rows a migration leaves out, and rows that a model's default manager hides.

A view, a table that does not exist and a search index hold nothing that the site's data do not hold already. The table
of an unmanaged model is made by something else than the site's models, which fills it, too.
"""

from django.db import DatabaseError, models, transaction
from django.db.models.manager import BaseManager

from ..fixture_stream import NO_TABLE, UNMANAGED
from .site_models import rows_of

_VIEW = "v"
# Search indexes by the class that they inherit from, or by their own label, with the command that fills them again.
_INDEXES = {
    "modelsearch.abstract_models.BaseIndexEntry": "manage.py update_index",
    "modelsearch.abstract_models.AbstractSQLiteFTSIndexEntry": "manage.py update_index",
    "wagtail.search.models.BaseIndexEntry": "manage.py update_index",
    "wagtail.search.models.SQLiteFTSIndexEntry": "manage.py update_index",
    "watson.models.SearchEntry": "manage.py buildwatson",
}


def tables_of(connection):
    """{table or view: 't', 'p' (partitioned) or 'v'} of the database."""
    with connection.cursor() as cursor:
        return {each.name: each.type for each in connection.introspection.get_table_list(cursor)}


def left_out(chosen, labels, tables):
    """{label: why} of the chosen models whose rows a migration leaves out.

    `labels`: what the user named: a search index or an unmanaged model that is named itself is moved, unless it is a
    view or has no table. `tables`: as `tables_of` returns them; None where there is no database to ask.
    """
    named = {label.lower() for label in labels}
    found = {}
    for model in chosen:
        meta = model._meta
        command = index_command(model)
        if command and meta.label_lower not in named:
            found[meta.label_lower] = f"a search index; fill it again with {command}"
        elif not meta.managed:
            kind = tables.get(meta.db_table) if tables is not None else ""
            if kind == _VIEW:
                found[meta.label_lower] = "a view"
            elif kind is None:
                found[meta.label_lower] = NO_TABLE
            elif meta.label_lower not in named:
                found[meta.label_lower] = UNMANAGED
    return found


def index_command(model):
    """The command that fills the model again where it is a search index; else an empty text."""
    for each in model.__mro__:
        command = _INDEXES.get(f"{each.__module__}.{each.__qualname__}")
        if command:
            return command
    return ""


def hides(model):
    """Whether the model's default manager has a choice of rows of its own."""
    return type(model._default_manager).get_queryset is not BaseManager.get_queryset


def hidden_rows(chosen, using):
    """{label: how many rows} that the models' default managers do not show; none where all of them are shown."""
    found = {}
    for model in chosen:
        manager = model._default_manager
        if type(manager) is models.Manager:
            continue
        try:
            with transaction.atomic(using=using):
                shown = manager.using(using).order_by().values("pk").distinct().count()
                hidden = rows_of(model, using).count() - shown
        except (DatabaseError, AttributeError, TypeError, ValueError, LookupError):
            # The table is not there yet, or the manager wants a request that does not exist here.
            continue
        if hidden > 0:
            found[model._meta.label_lower] = hidden
    return found
