"""Convert what the files contain of one model, and hold it until everything has been checked.

Objects come in batches. If all objects of a batch convert without a problem, they become rows together, column by
column. Otherwise each object becomes a row (the fast way) or an entry for Django (the stock way), or the policy leaves
it out. `fast_or_stock` decides which.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import signals

from .fast_or_stock import (
    FastNotPossible,
    hidden_attribute,
    key_fields,
    needs_objects,
    why_load_stock,
    why_object_stock,
)
from .field_values import CONVERSION_ERRORS
from .key_set import Keys
from .many_to_many_rows import LastRows, ManyToManyRows
from .model_selection import is_generated
from .natural_key_parts import natural_parts
from .row_spool import Spool
from .run_lengths import RunLengths
from .signal_listeners import saving_signals
from .value_problems import Dropped, InvalidValue

if TYPE_CHECKING:
    from .django_types import Entry, Field, Model, Relation, Row
    from .field_values import Column
    from .load_context import LoadContext

_BATCH = 100  # objects converted together
# What becomes of an object, in the order of the file.
FAST, STOCK, LEFT_OUT = range(3)

Models = Mapping["type[Model]", "ModelRows"]


class ModelRows:
    """One model's objects in the files.

    `columns`: the key's, then those of all other fields that are loaded. A row has one stored value for each. In a
    row, a natural key is a mark: a tuple with the key's text (see `natural_key_references`).
    """

    def __init__(self, context: LoadContext, model: type[Model]) -> None:
        self.context, self.model, self.problems = context, model, context.problems
        options = context.options
        self.label = model._meta.label_lower
        self.stock_reason = why_load_stock(model, context.connection.vendor)
        self.deletion_signal = self._deletion_signal()
        self.heard_signals = saving_signals(model) if options.listeners else frozenset()
        # Whether an object is built for each row, for listeners or for the model's own code (see `signal_replay`).
        self.needs_objects = not self.stock_reason and needs_objects(model, self.heard_signals, options.listeners)
        self._define_columns()
        self._define_natural_keys()
        self._define_targets()
        self.spool = Spool(options.spool)
        self.stock_spool = Spool(options.spool)
        # Beside each row, where objects are built: what `_object_values` returns.
        self.object_spool = Spool(options.spool) if self.needs_objects else None
        self.order: RunLengths[int] = RunLengths()
        self.last = LastRows()
        self.stock_keys = Keys()
        self.counts = {"fast": 0, "stock": 0}
        self.stock_reasons: set[str] = set()
        self._batch: list[Entry] = []
        self._positions: list[int] = []

    def _define_columns(self) -> None:
        meta = self.model._meta
        self.generated = {field.name for field in meta.local_concrete_fields if is_generated(field)}
        fields = [meta.pk]
        fields += [field for field in meta.local_concrete_fields if not field.primary_key and not is_generated(field)]
        self.columns = [self.context.column(field, self.label) for field in fields]
        parts = key_fields(self.model)
        self.key_columns = self.columns[:1]
        if len(parts) > 1:
            self.key_columns = [self.context.column(field, self.label) for field in parts]
        many = [field for field in meta.local_many_to_many if field.remote_field.through._meta.auto_created]
        self.many = {field.name: ManyToManyRows(self.context, self.label, field) for field in many}
        self.fields = fields[1:]
        self.names = {column.name for column in self.columns[1:]} | set(self.many)
        self.all_names = self.names | self.generated
        self.relations = [(index, column) for index, column in enumerate(self.columns) if is_constrained(column.field)]
        self.has_hidden_attributes = any(hidden_attribute(self.model, field) for field in fields)
        # Columns whose Python values differ from the stored ones, by their index.
        self.converted_columns = [index for index, column in enumerate(self.columns) if not column.same]

    def _define_natural_keys(self) -> None:
        get_field = self.model._meta.get_field
        self.natural = {name for name in self.names if _takes_natural_keys(get_field(name).remote_field)}
        for name in self.natural & set(self.many):
            self.many[name].natural = True
        self.natural_columns = [
            (index, column) for index, column in enumerate(self.columns) if column.name in self.natural
        ]
        # The fields of the model's own natural key; None for a part that another object holds.
        self.natural_names = [
            part.field if part.own and part.label == self.label else None for part in natural_parts(self.model) or ()
        ]
        # {text of the natural key: (the object's stored key, its position among all objects)}
        self.natural_keys: dict[str, tuple[Any, int]] = {}

    def _define_targets(self) -> None:
        """Prepare the sets of values that others may point to, and of values that point to others."""
        meta = self.model._meta
        pointed = {relation.field.target_field for relation in meta.related_objects if not relation.many_to_many}
        # {attribute: (index, values)}: the key, and what `to_field` names.
        self.targets = {
            column.field.attname: (index, Keys())
            for index, column in enumerate(self.columns)
            if index == 0 or column.field in pointed
        }
        self.keys = self.targets[meta.pk.attname][1]
        self.references = {index: Keys() for index, _ in self.relations}

    def _deletion_signal(self) -> str:
        """Return the first deletion signal with a listener, or an empty text."""
        if self.model._meta.auto_created:
            return ""  # Django sends none for these
        names = ("pre_delete", "post_delete")
        return next((name for name in names if getattr(signals, name).has_listeners(self.model)), "")

    # --- reading ------------------------------------------------------------------------------------------------------

    def add(self, entry: Entry, position: int) -> None:
        """Take an object of the files; `position`: how many came before it, of all models."""
        self._batch.append(entry)
        self._positions.append(position)
        if len(self._batch) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Convert the batch: all objects together if none needs a remark, else one by one."""
        entries, self._batch = self._batch, []
        positions, self._positions = self._positions, []
        if not entries or self._add_together(entries, positions):
            return
        for entry, position in zip(entries, positions):
            counts = dict(self.counts)
            self._add_alone(entry, position)
            fast, stock = (self.counts[way] > counts[way] for way in ("fast", "stock"))
            self.order.add(FAST if fast else STOCK if stock else LEFT_OUT)

    def _add_together(self, entries: list[Entry], positions: list[int]) -> bool:
        """Convert the entries column by column. Returns False, without a trace, if any of them needs a remark."""
        rows = [entry["fields"] for entry in entries]
        keys = [entry.get("pk") for entry in entries]
        if self.stock_reason or None in keys or any(row.keys() not in (self.names, self.all_names) for row in rows):
            return False
        mark = self.problems.mark()
        try:
            columns = [self.columns[0].several(keys, keys)]
            columns += [self._values(column, [row[column.name] for row in rows], keys) for column in self.columns[1:]]
            lists = [(many, self._members(many, rows, keys)) for many in self.many.values()]
            stored_keys = set(columns[0])
        except (FastNotPossible, Dropped, InvalidValue, TypeError):
            stored_keys = set()
        is_new = len(stored_keys) == len(entries) and self.keys.isdisjoint(stored_keys)
        if not is_new or not self.stock_keys.isdisjoint(stored_keys) or self.problems.mark() != mark:
            self.problems.back(mark)
            return False
        for index, references in self.references.items():
            references.update([value for value in columns[index] if type(value) is not tuple])
        for index, targets in self.targets.values():
            targets.update(columns[index])
        for many, members in lists:
            for pk, some in zip(columns[0], members):
                many.add(pk, some)
        if self.natural_names:
            for entry, pk, position in zip(entries, columns[0], positions):
                self._note_natural_key(entry, pk, position)
        self.spool.extend(list(zip(*columns)))
        if self.object_spool is not None:
            self.context.has_objects = True
            self.object_spool.extend([self._object_values(entry, ()) for entry in entries])
        self.counts["fast"] += len(entries)
        self.order.add(FAST, len(entries))
        return True

    def _values(self, column: Column, values: list[Any], keys: Sequence[Any]) -> Sequence[Any]:
        """Return a column's stored values, with marks in place of natural keys."""
        if column.name in self.natural and any(isinstance(value, (list, tuple)) for value in values):
            return [self._value(column, value, key) for value, key in zip(values, keys)]
        return column.several(values, keys)

    def _value(self, column: Column, value: Any, key: Any) -> Any:
        if column.name in self.natural and isinstance(value, (list, tuple)):
            target = column.field.remote_field
            return self.context.mark(target.model, target.field_name, value)
        return column.convert(value, key)

    def _member(self, many: ManyToManyRows, value: Any, key: Any) -> Any:
        if many.field.name in self.natural and isinstance(value, (list, tuple)):
            name = many.related._meta.pk.name
            return self.context.mark(many.related, name, value)
        return many.column.convert(value, key)

    def _members(self, many: ManyToManyRows, rows: list[Any], keys: Sequence[Any]) -> list[Sequence[Any]]:
        """Return the converted members of each row's list."""
        lists = [row[many.field.name] for row in rows]
        every: Sequence[Any] = [member for members in lists for member in members]
        if many.field.name in self.natural and any(isinstance(member, (list, tuple)) for member in every):
            return [[self._member(many, member, key) for member in members] for members, key in zip(lists, keys)]
        if every:
            every = many.column.several(every, [key for key, members in zip(keys, lists) for _ in members])
        ends = list(itertools.accumulate(map(len, lists)))
        return [every[end - len(members) : end] for members, end in zip(lists, ends)]

    def _object_values(self, entry: Entry, repaired: Sequence[int]) -> tuple[Any, ...]:
        """Return what an object needs beside its row.

        (the file's values of the `converted_columns`, indexes of the columns that the file does not have, names of its
        lists, its generated fields, indexes of the `repaired` columns: the object's value of these is stored)
        """
        fields = entry["fields"]
        values = [
            entry["pk"] if index == 0 else fields.get(self.columns[index].name) for index in self.converted_columns
        ]
        absent = [index for index, column in enumerate(self.columns) if index and column.name not in fields]
        lists = [name for name in fields if name in self.many] if self.many else ()
        generated = {name: fields[name] for name in self.generated if name in fields}
        return (values, absent, lists, generated, repaired)

    # --- a single object ----------------------------------------------------------------------------------------------

    def _add_alone(self, entry: Entry, position: int) -> None:
        fields = entry["fields"]
        if not fields.keys() <= self.all_names and not self._accept_unknown(entry):
            return
        for name in self.many:
            if not isinstance(fields.get(name, []), list):
                self.problems.add("invalid", self.label, entry.get("pk"), name, "is not a list")
                return
        reason = self.stock_reason or why_object_stock(entry, self.fields)
        try:
            if not reason:
                try:
                    self._note_natural_key(entry, self._add_row(entry), position)
                    return
                except FastNotPossible as error:
                    reason = str(error)
            self._note_natural_key(entry, self._add_stock(entry, reason), position)
        except (Dropped, InvalidValue):
            return

    def _accept_unknown(self, entry: Entry) -> bool:
        """Remove fields that the model does not have, if the policy allows it. Returns whether the object is kept."""
        for name in sorted(set(entry["fields"]) - self.all_names):
            try:
                field = self.model._meta.get_field(name)
            except FieldDoesNotExist:
                detail = "the model has no such field"
                if self.problems.add("unknown", self.label, entry.get("pk"), name, detail) == "stop":
                    return False
                del entry["fields"][name]
            else:
                if not self.stock_reason:
                    self.stock_reason = f"the fixture has its field {field.name}"
        return True

    def _key(self, key: Any) -> Any:
        """Return the stored form of an object's key: a tuple for a key of several columns."""
        if len(self.key_columns) > 1:
            try:
                parts = self.columns[0].target.to_python(key)
                if len(parts) != len(self.key_columns):
                    raise ValueError(f"is not a key of {len(self.key_columns)} parts")
                return tuple(column.convert(part, key) for column, part in zip(self.key_columns, parts))
            except CONVERSION_ERRORS as error:
                raise self.columns[0].invalid(key, error) from None
        pk = self.columns[0].convert(key, key)
        if pk != key:
            self.problems.renamed(self.label, key, pk)
        return pk

    def fixture_key(self, pk: Any) -> Any:
        """Return a stored key as fixtures write it."""
        column = self.columns[0]
        return str(column.target.to_python(pk)) if column.kind == "UUIDField" else pk

    def _add_row(self, entry: Entry) -> Any:
        """Convert an object to a row; returns its stored key."""
        key, fields = entry["pk"], entry["fields"]
        pk = self._key(key)
        if pk in self.stock_keys and not self.context.has_objects:
            raise FastNotPossible("it comes twice")
        row, repaired = [pk], []
        for index, column in enumerate(self.columns[1:], start=1):
            mark = self.problems.mark()
            if column.name in fields:
                row.append(self._value(column, fields[column.name], key))
            else:
                row.append(column.stored(column.field.get_default(), key))
            if self.problems.mark() != mark:
                repaired.append(index)
        lists = [
            (many, [self._member(many, member, key) for member in fields[name]])
            for name, many in self.many.items()
            if name in fields
        ]
        for index, references in self.references.items():
            if type(row[index]) is not tuple:
                references.add(row[index])
        self.last.add(pk, self.spool.count, pk in self.keys)
        for index, targets in self.targets.values():
            targets.add(row[index])
        for many, members in lists:
            many.add(pk, members)
        self.spool.add(tuple(row))
        if self.object_spool is not None:
            self.context.has_objects = True
            self.object_spool.add(self._object_values(entry, repaired))
        self.counts["fast"] += 1
        return pk

    def _add_stock(self, entry: Entry, reason: str) -> Any:
        """Check an object's values, repair what the policy repairs, and hold it for Django. Returns its stored key."""
        key = entry.get("pk")
        fields = dict(entry["fields"])
        row: dict[int, Any] = {}
        exact: dict[str, Any] = {}
        if key is not None:
            with contextlib.suppress(FastNotPossible):  # known already: it is the reason for the stock way
                row[0] = self._key(key)
        for index, column in enumerate(self.columns[1:], start=1):
            if column.name in fields:
                self._check_stock_value(key, index, column, fields, row, exact)
        for name, many in self.many.items():
            for member in fields.get(name) or ():
                converted = self._member(many, member, key)
                if type(converted) is not tuple:
                    many.values.add(converted)
        for index, references in self.references.items():
            references.add(row.get(index))
        for index, targets in self.targets.values():
            targets.add(row.get(index))
        if 0 in row:
            self.stock_keys.add(row[0])
        self.stock_reasons.add(reason)
        self.counts["stock"] += 1
        if self.model._meta.order_with_respect_to is not None and fields.get("_order") is not None:
            exact["_order"] = fields["_order"]  # Django would compute it again for each new object
        entry = dict(entry, fields=fields)
        self.stock_spool.add(json.dumps(dict(entry, exact=exact) if exact else entry))
        return row.get(0)

    def _check_stock_value(
        self, key: Any, index: int, column: Column, fields: Entry, row: dict[int, Any], exact: dict[str, Any]
    ) -> None:
        """Convert one value of an object for Django, for its problems, and put what Django shall save into `fields`.

        `row` gets the stored value; `exact` gets what must be written after Django has saved a stand-in.
        """
        value = fields[column.name]
        if column.name in self.natural and isinstance(value, (list, tuple)):
            self._value(column, value, key)
            return
        mark = self.problems.mark()
        try:
            converted = row[index] = column.convert(value, key)
        except FastNotPossible:
            return
        if self.problems.mark() != mark and column.kind == "JSONField" and isinstance(converted, str):
            fields[column.name] = json.loads(converted)
        elif isinstance(value, str) and isinstance(converted, str) and column.is_text:
            fields[column.name] = converted
        elif converted is None:
            fields[column.name] = None
        elif column.is_special(value) or (value is None and column.kind == "JSONField"):
            fields[column.name] = column.stand_in(value)
            if column.postgres or column.kind == "JSONField":  # elsewhere the stand-in is what is stored
                exact[column.name] = converted

    def _note_natural_key(self, entry: Entry, pk: Any, position: int) -> None:
        names = self.natural_names
        if names and None not in names:
            key_name = self.model._meta.pk.name
            key = [entry.get("pk") if name == key_name else entry["fields"].get(str(name)) for name in names]
            self.natural_keys.setdefault(json.dumps(key), (pk, position))

    # --- writing ------------------------------------------------------------------------------------------------------

    def rows(self, dangling: Mapping[int, Container[Any]] | None = None) -> Iterator[list[Row]]:
        """Yield chunks of rows, of several with one key only the last one.

        `dangling`: {index of a column: values} that lead nowhere. The policy sets them to NULL, or drops the row.
        """
        position = 0
        for chunk in self.spool.chunks():
            kept = []
            for row in chunk:
                if self.last.is_last(row[0], position):
                    repaired = self._repaired(row, dangling) if dangling else row
                    if repaired is not None:
                        kept.append(repaired)
                position += 1
            yield kept

    def all_rows(self, dangling: Mapping[int, Container[Any]] | None) -> Iterator[list[Row | None]]:
        """Yield chunks of all rows, repeated ones too, with None in place of those that the policy drops."""
        for chunk in self.spool.chunks():
            yield [self._repaired(row, dangling) if dangling else row for row in chunk]

    def _repaired(self, row: Row, dangling: Mapping[int, Container[Any]]) -> Row | None:
        """Return the row without its dangling references; None if the policy drops it."""
        wrong = [index for index, values in dangling.items() if row[index] in values]
        if not wrong:
            return row
        if self.problems.policy["foreign_key"] == "drop":
            return None
        return tuple(None if index in wrong else value for index, value in enumerate(row))

    def stock_entries(self) -> Iterator[Entry]:
        """Yield the objects that take the stock way, in their order."""
        for chunk in self.stock_spool.chunks():
            for text in chunk:
                yield json.loads(text)

    def count_as_stock(self, reason: str) -> None:
        """Count an object as stock that was converted to a row, but is written by Django."""
        self.stock_reasons.add(reason)
        self.counts["fast"] -= 1
        self.counts["stock"] += 1

    @property
    def sent_signals(self) -> frozenset[str]:
        """The names of the signals that are sent for the model's objects."""
        heard = any(many.heard for many in self.many.values())
        return self.heard_signals | ({"m2m_changed"} if heard else set())

    @property
    def total(self) -> int:
        """The number of objects in the files, including those that are left out."""
        return sum(count for _, count in self.order)

    @property
    def written(self) -> int:
        """The number of objects that are loaded."""
        return self.counts["fast"] + self.counts["stock"]

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    @property
    def tables(self) -> list[str]:
        """The model's own table, and those of its many-to-many fields."""
        return [self.table] + [many.table for many in self.many.values()]


def is_constrained(field: Field) -> bool:
    """Return whether the database checks that the field's values lead to a row."""
    return field.remote_field is not None and bool(getattr(field, "db_constraint", False))


def _takes_natural_keys(relation: Relation | None) -> bool:
    return relation is not None and hasattr(relation.model._default_manager, "get_by_natural_key")
