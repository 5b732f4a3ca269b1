"""Save objects the stock way, with Django's deserializer, and then what that does not store as the fixture has it."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from django.core.serializers.python import Deserializer as PythonDeserializer
from django.db import DatabaseError
from django.db.models.expressions import RawSQL

from ...errors import SauvegardeError
from .model_selection import rows_of

if TYPE_CHECKING:
    from .django_types import Connection, Entry, Model
    from .model_rows import ModelRows


class StockSaver:
    """Saves the stock objects of one load."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.using = connection, connection.alias
        self._deferred: list[Any] = []  # objects with references to what does not exist yet
        self._exact: list[tuple[type[Model], Any, dict[str, str]]] = []  # (model, key, {field: the database's text})

    def save(self, rows: ModelRows, entries: Iterable[Entry]) -> None:
        """Save the entries, in their order."""
        exact: collections.deque[Any] = collections.deque()

        def without_exact() -> Iterator[Entry]:
            for entry in entries:
                exact.append(entry.pop("exact", None))
                yield entry

        for item in PythonDeserializer(without_exact(), using=self.using, handle_forward_references=True):
            values = exact.popleft()
            try:
                item.save(using=self.using)
            except (DatabaseError, ValueError) as error:
                raise SauvegardeError(
                    f"{rows.label} {item.object.pk!r} could not be saved.",
                    str(error),
                    "Correct the object in the fixture; nothing was written.",
                ) from error
            if item.deferred_fields:
                self._deferred.append(item)
            if values:
                self._exact.append((rows.model, item.object.pk, values))

    def finish(self) -> None:
        """Save the references to what was saved later, and write the values that Django does not save as they are."""
        for item in self._deferred:
            item.save_deferred_fields(using=self.using)
        for model, pk, values in self._exact:
            fields = {name: model._meta.get_field(name) for name in values}
            changes = {
                name: RawSQL(f"CAST(%s AS {fields[name].db_type(self.connection)})", [value])
                for name, value in values.items()
            }
            rows_of(model, self.using).filter(pk=pk).update(**changes)
