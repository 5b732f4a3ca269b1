"""Take one model's rows, objects and lists in the order of the files, and know what the model's tables hold."""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db import models

from .key_set import Keys
from .reference_check import present

if TYPE_CHECKING:
    from .django_types import Entry, Model, Row
    from .many_to_many_rows import ManyToManyRows
    from .model_rows import ModelRows
    from .reference_check import Dangling
    from .replay_buffer import ReplayBuffer

_IMMUTABLE = {str, int, float, bool, type(None), bytes, decimal.Decimal, uuid.UUID}
_IMMUTABLE |= {datetime.datetime, datetime.date, datetime.time, datetime.timedelta}


class ModelTurns:
    """One model's objects, each in its turn.

    `written`: the keys that were written; `done`: how many objects had their turn; `watched`: whether code of the site
    may change an object as it is built or saved.
    """

    def __init__(self, buffer: ReplayBuffer, model_rows: ModelRows, dangling: Dangling) -> None:
        self.buffer, self.model_rows = buffer, model_rows
        self.written = Keys()
        self.done = 0
        self.ways = model_rows.order.reader()
        self.rows = self._asked(model_rows.all_rows(dangling.columns.get(model_rows)))
        self.stock = model_rows.stock_entries()
        chunks = model_rows.object_spool.chunks() if model_rows.object_spool is not None else iter(())
        self.objects: Iterator[Any] = itertools.chain.from_iterable(chunks)
        self.lists: dict[ManyToManyRows, Iterator[tuple[Any, Sequence[Any]]]] = {}
        self._list_keys = {many: Keys() for many in model_rows.many.values()}
        self._next_list: dict[ManyToManyRows, tuple[Any, Sequence[Any]] | None] = {}
        for many in model_rows.many.values():
            chunks = many.lists(dangling.members.get(many, ()), repeated=True)
            self.lists[many] = itertools.chain.from_iterable(chunks)
        self._present: set[Any] = set()  # keys of the chunk's rows that the table has
        self._asked_at: int | None = None  # the buffer's number of changes when it was asked for them
        self._empty: dict[str, int | None] = {}
        own = model_rows.model.__init__ is not models.Model.__init__
        self.watched = bool(model_rows.heard_signals) or own or model_rows.has_hidden_attributes
        self._number_of = {index: number for number, index in enumerate(model_rows.converted_columns)}
        self._columns = list(enumerate(model_rows.columns))

    # --- what the tables hold -----------------------------------------------------------------------------------------

    def _asked(self, chunks: Iterable[list[Row | None]]) -> Iterator[Row | None]:
        """Yield the rows one by one, after asking which keys of their chunk the table has."""
        for chunk in chunks:
            self._asked_at = None
            if not self._is_empty(self.model_rows.table):
                with self.buffer.own_statements():
                    self._asked_at = self.buffer.changes(self.model_rows.table)
                    keys = {row[0] for row in chunk if row is not None}
                    self._present = present(self.model_rows.columns[0], keys)
            yield from chunk

    def _is_empty(self, table: str) -> bool:
        """Return whether the table was empty when it was first asked, and no statement of others has changed it."""
        changes = self.buffer.changes(table)
        if table not in self._empty:
            with self.buffer.own_statements():
                is_empty = self.buffer.writer.is_empty(table)
            self._empty[table] = changes if is_empty else None
        return self._empty[table] == changes

    def is_new(self, key: Any) -> bool:
        """Return whether the table has no row with the key."""
        table = self.model_rows.table
        if self._is_empty(table):
            return key not in self.written
        if self._asked_at == self.buffer.changes(table):
            return key not in self.written and key not in self._present
        self.buffer.flush()
        with self.buffer.own_statements():
            return not present(self.model_rows.columns[0], [key])

    def has_no_pairs(self, many: ManyToManyRows, key: Any) -> bool:
        """Return whether the list of the key is certainly empty."""
        repeated = key in self._list_keys[many]
        self._list_keys[many].add(key)
        if repeated:
            return False
        if self._is_empty(many.table):
            return True
        if not many.heard:
            return False
        with self.buffer.own_statements():
            return not present(many.source_column, [key])

    def list_of(self, many: ManyToManyRows, key: Any) -> list[Sequence[Any]]:
        """Return the members of the row with the key, in a list of one, or [] if the file has no list for it."""
        waiting = self._next_list.get(many)
        while waiting is None or waiting[0] in many.dropped:
            waiting = next(self.lists[many], (None, ()))
            if waiting[0] is None:
                break
        self._next_list[many] = waiting
        if waiting[0] != key:
            return []
        self._next_list[many] = None
        return [waiting[1]]

    # --- one object ---------------------------------------------------------------------------------------------------

    def _file_value(self, index: int, row: Row, values: Sequence[Any], repaired: Sequence[int]) -> Any:
        """Return a column's value as the file has it, or as it was repaired."""
        return values[self._number_of[index]] if index in self._number_of and index not in repaired else row[index]

    def arguments(
        self, row: Row, values: Sequence[Any], absent: Sequence[int], repaired: Sequence[int]
    ) -> dict[str, Any]:
        """Return the arguments of the model, as Django's deserializer passes them."""
        data = {}
        for index, column in self._columns:
            if index in absent:
                continue
            value = row[index]
            is_reference = column.field.remote_field is not None
            if index in self._number_of:
                raw = self._file_value(index, row, values, repaired)
                # In place of a natural key: the value that it stands for.
                raw = value if isinstance(raw, (list, tuple)) and is_reference else raw
                value = column.python(raw, index in repaired)
            elif is_reference and column.name in self.model_rows.natural:
                value = column.python(value, False)
            data[column.field.attname if index == 0 or is_reference else column.name] = value
        return data

    def generated(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments for generated fields."""
        get_field = self.model_rows.model._meta.get_field
        return {name: get_field(name).to_python(value) for name, value in values.items()}

    def is_changed(self, instance: Model, row: Row, data: Mapping[str, Any]) -> bool:
        """Return whether Django would now write something other than the row."""
        for index, column in self._columns:
            name = column.field.attname
            key = name if name in data else column.name
            if key not in data:
                continue
            value = getattr(instance, name)
            if value is data[key] and (type(value) in _IMMUTABLE or column.is_special(row[index])):
                continue
            try:
                if column.prepared(value) != row[index] and not column.has_more_digits(row[index], value):
                    return True
            except Exception:  # noqa: BLE001 - a value of the site's own class; Django will raise when it saves it
                return True
        return False

    def with_defaults(self, instance: Model, row: Row, absent: Sequence[int]) -> Row:
        """Return the row with the values that the model has given the object."""
        values = list(row)
        for index in absent:
            column = self.model_rows.columns[index]
            values[index] = column.prepared(getattr(instance, column.field.attname))
        return tuple(values)

    def entry(
        self,
        row: Row,
        values: Sequence[Any],
        absent: Sequence[int],
        lists: Iterable[tuple[ManyToManyRows, Sequence[Any]]],
        generated: Mapping[str, Any],
        repaired: Sequence[int],
    ) -> Entry:
        """Return the object as the fixture has it."""
        fields = {
            column.name: _natural_key(self._file_value(index, row, values, repaired))
            for index, column in self._columns
            if index and index not in absent
        }
        fields.update(generated)
        fields.update({many.field.name: list(map(_natural_key, members)) for many, members in lists})
        pk = self._file_value(0, row, values, repaired)
        return {"model": self.model_rows.label, "pk": pk, "fields": fields}


def _natural_key(value: Any) -> Any:
    """Return the key that a mark stands for; any other value as it is."""
    return json.loads(value[0]) if type(value) is tuple else value
