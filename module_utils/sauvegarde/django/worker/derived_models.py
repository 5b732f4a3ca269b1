"""Find models whose rows a migration leaves out, since they are derived from other data.

A view, a missing table and a search index hold nothing that the site's other rows do not hold. The table of an
unmanaged model is created and filled by something other than the site's models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..fixture_stream import NO_TABLE, UNMANAGED

if TYPE_CHECKING:
    from .django_types import Connection, Model

_VIEW = "v"
# Search indexes, by the class that they inherit from or by their own label, with the command that fills them again.
_INDEXES = {
    "modelsearch.abstract_models.BaseIndexEntry": "manage.py update_index",
    "modelsearch.abstract_models.AbstractSQLiteFTSIndexEntry": "manage.py update_index",
    "wagtail.search.models.BaseIndexEntry": "manage.py update_index",
    "wagtail.search.models.SQLiteFTSIndexEntry": "manage.py update_index",
    "watson.models.SearchEntry": "manage.py buildwatson",
}


def tables_of(connection: Connection) -> dict[str, str]:
    """Return {table or view: 't', 'p' (partitioned) or 'v'} of the database."""
    with connection.cursor() as cursor:
        return {table.name: table.type for table in connection.introspection.get_table_list(cursor)}


def left_out(chosen: Sequence[type[Model]], labels: Sequence[str], tables: Mapping[str, str] | None) -> dict[str, str]:
    """Return {label: why} of the chosen models whose rows a migration leaves out.

    `labels`: what the user named. A search index or an unmanaged model that is named is moved, unless it is a view or
    has no table. `tables`: as `tables_of` returns them; None if there is no database to ask.
    """
    named = {label.lower() for label in labels}
    reasons = {}
    for model in chosen:
        meta = model._meta
        command = index_command(model)
        if command and meta.label_lower not in named:
            reasons[meta.label_lower] = f"a search index; fill it again with {command}"
        elif not meta.managed:
            kind = tables.get(meta.db_table) if tables is not None else ""
            if kind == _VIEW:
                reasons[meta.label_lower] = "a view"
            elif kind is None:
                reasons[meta.label_lower] = NO_TABLE
            elif meta.label_lower not in named:
                reasons[meta.label_lower] = UNMANAGED
    return reasons


def index_command(model: type[Model]) -> str:
    """Return the command that fills the model again if it is a search index; else an empty text."""
    for cls in model.__mro__:
        command = _INDEXES.get(f"{cls.__module__}.{cls.__qualname__}")
        if command:
            return command
    return ""
