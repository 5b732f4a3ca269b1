"""Resolve a load's references by natural key, many at a time, before rows are written.

A spooled row holds a mark in place of the number: a tuple with the natural key's text. A key is resolved from the files
if they contain its object, otherwise from the database. If neither has it before the load, and the files do not show
the natural keys of its model, it is looked up when its row is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from ...errors import SauvegardeError
from .many_to_many_rows import ManyToManyRows
from .natural_key_lookup import NaturalKeyLookup

if TYPE_CHECKING:
    from .django_types import Field, Row
    from .fast_write import FastWriter
    from .field_values import Column
    from .load_context import LoadContext, Mark, Target
    from .model_rows import ModelRows, Models
    from .replay_buffer import ReplayBuffer

Owner = Union["Column", ManyToManyRows]  # what holds the reference


@dataclass(frozen=True)
class OpenReference:
    """A reference to an object that does not exist yet when the row is written."""

    rows: ModelRows
    target: Target
    pk: Any
    mark: Mark
    owner: Owner


class NaturalReferences:
    """The natural keys that a load's objects refer to."""

    def __init__(self, context: LoadContext, models: Models) -> None:
        self.context, self.models = context, models
        self._values: dict[Target, dict[Mark, Any]] = {}  # the stored values of marks that are resolved
        self._late: dict[Target, set[Mark]] = {}  # marks to look up when rows are written
        self._lookups: dict[Target, NaturalKeyLookup] = {}
        self._open: list[OpenReference] = []

    # --- before anything is written -----------------------------------------------------------------------------------

    def check(self) -> None:
        """Look up every key. Those that are nowhere are `missing` afterwards."""
        for target, marks in self.context.marks.items():
            rows = self._rows(target)
            values: dict[Mark, Any] = {}
            late, unresolved = set(), set()
            for mark in marks:
                value = self._in_files(target, rows, mark)
                if value is not None:
                    values[mark] = value
                elif self._may_come(target, rows, mark):
                    late.add(mark)
                elif rows is None or not self.context.options.replaces:
                    unresolved.add(mark)
            for mark, value in self._lookup(target).several(unresolved).items() if unresolved else ():
                # If the files contain this row, it may have another natural key then.
                if rows is not None and value in rows.keys:
                    late.add(mark)
                else:
                    values[mark] = value
            self._values[target], self._late[target] = values, late

    def _in_files(self, target: Target, rows: ModelRows | None, mark: Mark) -> Any:
        model, name = target
        if rows is None or model._meta.proxy or model._meta.get_field(name) is not model._meta.pk:
            return None
        return rows.natural_keys.get(mark[0], (None, 0))[0]

    def _may_come(self, target: Target, rows: ModelRows | None, mark: Mark) -> bool:
        """Return whether the key may be that of an object in the files, although they do not show it."""
        if rows is None:
            return False
        unseen = not rows.natural_names or None in rows.natural_names
        return target[0]._meta.proxy or unseen or mark[0] in rows.natural_keys

    def missing(self, column: Column) -> set[Mark]:
        """Return the marks in the column (of a reference, or of a list's members) that no object will match."""
        target = _target(column)
        values = self._values.get(target, {})
        late = self._late.get(target, ())
        return {mark for mark in self.context.marks.get(target, ()) if mark not in values and mark not in late}

    # --- while rows are written in the files' order, with objects for listeners ---------------------------------------

    def resolve(self, field: Field, mark: Mark, position: int, buffer: ReplayBuffer) -> Any:
        """Return the stored value for the mark in a reference of the object at the position.

        It sees only what comes before it: None if the target does not exist yet.
        """
        return self._resolve((field.remote_field.model, field.remote_field.field_name), mark, position, buffer)

    def resolve_member(self, many: ManyToManyRows, mark: Mark, position: int, buffer: ReplayBuffer) -> Any:
        """Return the same for a member of a list."""
        return self._resolve(_target_of(many), mark, position, buffer)

    def _resolve(self, target: Target, mark: Mark, position: int, buffer: ReplayBuffer) -> Any:
        value = self._values[target].get(mark)
        if value is not None:
            rows = self._rows(target)
            later = rows is not None and rows.natural_keys.get(mark[0], (None, -1))[1] >= position
            return None if later else value
        buffer.flush()
        with buffer.own_statements():
            value = self._lookup(target).one(mark)
        if value is not None:
            self._values[target][mark] = value
        return value

    # --- while rows are written in the files' order, without objects --------------------------------------------------

    def needs_order(self) -> bool:
        """Return whether a required reference may lead to a row that exists in time only in the files' order."""
        numbers = {rows.model: number for number, rows in enumerate(self.models.values())}
        for rows in self.models.values():
            for _, column in rows.natural_columns:
                target = _target(column)
                if column.field.null or not self._late.get(target):
                    continue
                if numbers[target[0]._meta.concrete_model] >= numbers[rows.model]:
                    return True
        return False

    def look_up(self, rows: ModelRows, some: Iterable[Row | None], buffer: ReplayBuffer) -> None:
        """Look up what these rows refer to, and what may exist only now."""
        for index, column in rows.natural_columns:
            target = _target(column)
            marks = {row[index] for row in some if row is not None and type(row[index]) is tuple}
            marks -= self._values.get(target, {}).keys()
            if marks:
                buffer.flush()
                self._values[target].update(self._lookup(target).several(marks))

    def is_ready(self, rows: ModelRows) -> bool:
        """Return whether all that the model's rows refer to was resolved before anything was written."""
        return not any(self._late.get(target) for target in _targets(rows))

    def is_waiting(self, rows: ModelRows, row: Row) -> bool:
        """Return whether the row has a required reference that is not resolved: its target may not be written yet."""
        return any(
            type(row[index]) is tuple and row[index] not in self._values[_target(column)]
            for index, column in rows.natural_columns
            if not column.field.null
        )

    # --- while rows are written model by model ------------------------------------------------------------------------

    def look_up_late(self, rows: ModelRows) -> None:
        """Look up what the model's rows refer to, and what may exist only now."""
        for target in _targets(rows):
            marks = self._late.get(target, set()) - self._values.get(target, {}).keys()
            if marks:
                self._values[target].update(self._lookup(target).several(marks))

    def resolved(self, rows: ModelRows, some: Sequence[Row]) -> Sequence[Row]:
        """Return the rows with stored values in place of marks; what does not exist yet is NULL until `finish`."""
        if not rows.natural_columns:
            return some
        result: list[Row] = []
        for row in some:
            values = list(row)
            for index, column in rows.natural_columns:
                mark = values[index]
                if type(mark) is tuple:
                    target = _target(column)
                    values[index] = self._values[target].get(mark)
                    if values[index] is None:
                        self._open.append(OpenReference(rows, target, values[0], mark, column))
            result.append(tuple(values))
        return result

    def resolved_members(self, rows: ModelRows, many: ManyToManyRows, pk: Any, members: Sequence[Any]) -> Sequence[Any]:
        """Return a list's members with stored values in place of marks."""
        if many.field.name not in rows.natural:
            return members
        target, result = _target_of(many), []
        for member in members:
            if type(member) is tuple:
                mark, member = member, self._values[target].get(member)
                if member is None:
                    self._open.append(OpenReference(rows, target, pk, mark, many))
                    continue
            result.append(member)
        return list(dict.fromkeys(result))

    def finish(self, writer: FastWriter) -> None:
        """Set the references to what was written later. Raises for one that still leads nowhere."""
        marks: dict[Target, set[Mark]] = {}
        for reference in self._open:
            marks.setdefault(reference.target, set()).add(reference.mark)
        for target, some in marks.items():
            self._values[target].update(self._lookup(target).several(some - self._values[target].keys()))
        for reference in self._open:
            rows, pk, owner, mark = reference.rows, reference.pk, reference.owner, reference.mark
            value = self._values[reference.target].get(mark)
            if value is None:
                raise SauvegardeError(
                    f"{rows.label} {pk!r} points to {reference.target[0]._meta.label_lower} {mark[0]},"
                    " which does not exist.",
                    fix="Correct the object in the fixture; nothing was written.",
                )
            if isinstance(owner, ManyToManyRows):
                writer.add_member(owner, pk, value)
            else:
                writer.set_reference(rows, pk, owner, value)

    def _rows(self, target: Target) -> ModelRows | None:
        return self.models.get(target[0]._meta.concrete_model)

    def _lookup(self, target: Target) -> NaturalKeyLookup:
        if target not in self._lookups:
            model, name = target
            column = self.context.column(model._meta.get_field(name))
            self._lookups[target] = NaturalKeyLookup(model, column, self.context.using)
        return self._lookups[target]


def _target(column: Column) -> Target:
    return (column.field.remote_field.model, column.field.remote_field.field_name)


def _targets(rows: ModelRows) -> list[Target]:
    """Return what the model's references and lists may name by natural keys."""
    targets = [_target(column) for _, column in rows.natural_columns]
    return targets + [_target_of(many) for name, many in rows.many.items() if name in rows.natural]


def _target_of(many: ManyToManyRows) -> Target:
    return (many.related, many.related._meta.pk.name)
