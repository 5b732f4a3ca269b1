"""Write a load's objects in the order of the files, and send the signals that stock sends for each.

Rows wait in memory and go to the database many at a time. A listener cannot tell the difference: each object is built
as Django's deserializer builds it, its signals are sent around its turn, and before a listener's own statement reaches
the database, all rows that stock would have written by then are written. An object that a listener (or the model's own
code) changes on the way is written by Django.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.db.models import signals

from .model_rows import FAST, STOCK
from .object_turns import ModelTurns
from .replay_buffer import ReplayBuffer

if TYPE_CHECKING:
    from .django_types import Model, Row
    from .fast_write import FastWriter
    from .load_context import LoadContext
    from .many_to_many_rows import ManyToManyRows
    from .model_rows import ModelRows, Models
    from .model_write import ModelWriter
    from .natural_key_references import NaturalReferences
    from .stock_save import StockSaver

Lists = Sequence[tuple["ManyToManyRows", Sequence[Any]]]  # of one object: (field, members)

_BATCH = 500  # rows whose natural keys are looked up together
_PROGRESS = 1000  # objects between two reports


class SignalReplay:
    """One load's objects, written in their order."""

    def __init__(
        self, context: LoadContext, models: Models, naturals: NaturalReferences, writer: FastWriter, saver: StockSaver
    ) -> None:
        self.output, self.using = context.output, context.using
        self.models, self.naturals, self.saver = models, naturals, saver
        self.buffer = ReplayBuffer(writer, context.connection)

    def run(self, order: Iterable[tuple[ModelRows, int]], models: ModelWriter) -> None:
        """Write all objects in their order.

        `order`: the models of the files, each with the number of its objects that follow each other. `models`: writes a
        model as a whole, if all its objects follow each other and no code of the site sees them.
        """
        turns_of = {rows: ModelTurns(self.buffer, rows, models.dangling) for rows in self.models.values()}
        position = 0
        with self.buffer.watch():
            for rows, count in order:
                turns = turns_of[rows]
                if self._is_whole(rows, count):
                    self._write_model(rows, models)
                else:
                    self._write_turns(turns, count, position)
                position += count
                turns.done += count
                if turns.done == rows.total or not turns.done % _PROGRESS:
                    self.output.progress(model=rows.label, objects=turns.done)
            self.buffer.flush()

    def _write_turns(self, turns: ModelTurns, count: int, position: int) -> None:
        """Write the next objects of a model in their order. `position`: how many of all models came before them."""
        rows = turns.model_rows
        for way, some in turns.ways(count):
            if way == STOCK:
                self.buffer.flush()
                self.saver.save(rows, itertools.islice(turns.stock, some))
            elif way == FAST and not rows.needs_objects:
                self._write_rows(turns, some)
            elif way == FAST:
                for number in range(some):
                    self._write_object(turns, position + number)
            position += some

    # --- models without listeners -------------------------------------------------------------------------------------

    def _is_whole(self, rows: ModelRows, count: int) -> bool:
        """Return whether so many objects are all of the model's, and nothing can see in which order they are written:
        no code of the site runs before the last one, and what they refer to is known."""
        is_complete = count == rows.total and not rows.stock_spool.count
        return is_complete and not rows.needs_objects and self.naturals.is_ready(rows)

    def _write_model(self, rows: ModelRows, models: ModelWriter) -> None:
        self.buffer.flush()
        with self.buffer.own_statements():
            models.write(rows)

    def _write_rows(self, turns: ModelTurns, count: int) -> None:
        rows = turns.model_rows
        for row in self._looked_up(rows, itertools.islice(turns.rows, count)):
            (row,) = self.naturals.resolved(rows, [row])
            self.buffer.add_row(rows, row, turns.is_new(row[0]))
            turns.written.add(row[0])
            for many in rows.many.values():
                for members in turns.list_of(many, row[0]):
                    members = self.naturals.resolved_members(rows, many, row[0], members)
                    self.buffer.add_list(many, row[0], members, turns.has_no_pairs(many, row[0]))

    def _looked_up(self, rows: ModelRows, some: Iterator[Row | None]) -> Iterator[Row]:
        """Yield the rows that are not dropped, after looking up their natural keys."""
        if not rows.natural_columns:
            yield from (row for row in some if row is not None)
            return
        for batch in iter(lambda: list(itertools.islice(some, _BATCH)), []):
            self.naturals.look_up(rows, batch, self.buffer)
            for row in batch:
                if row is None:
                    continue
                if self.naturals.is_waiting(rows, row):
                    self.naturals.look_up(rows, [row], self.buffer)
                yield row

    # --- objects, with their signals ----------------------------------------------------------------------------------

    def _write_object(self, turns: ModelTurns, position: int) -> None:
        """Write one object, and send its signals around its turn."""
        rows = turns.model_rows
        row, (values, absent, names, generated, repaired) = next(turns.rows), next(turns.objects)
        lists = [(rows.many[name], next(turns.lists[rows.many[name]])[1]) for name in names]
        if row is None:
            return
        resolved = self._resolved(rows, row, lists, position)
        if resolved is None:
            # It points to what does not exist yet: Django saves such an object twice.
            self.buffer.flush()
            entry = turns.entry(row, values, absent, lists, generated, repaired)
            rows.count_as_stock("it refers to what comes later")
            self.saver.save(rows, [entry])
            return
        stored, members = resolved
        data = turns.arguments(stored, values, absent, repaired)
        instance = rows.model(**data, **turns.generated(generated))
        saving = {"instance": instance, "raw": True, "using": self.using, "update_fields": None}
        if "pre_save" in rows.heard_signals:
            signals.pre_save.send(sender=rows.model, **saving)
        is_changed = turns.watched and turns.is_changed(instance, stored, data)
        if absent and not is_changed:
            stored = turns.with_defaults(instance, stored, absent)
        if is_changed:
            self.buffer.flush()
            rows.count_as_stock("it is changed on the way, by a listener or by its own code")
            created = not instance._save_table(raw=True, cls=rows.model, using=self.using)
        else:
            created = turns.is_new(stored[0])
            self.buffer.add_row(rows, stored, created)
        turns.written.add(stored[0])
        instance._state.db, instance._state.adding = self.using, False
        if "post_save" in rows.heard_signals:
            signals.post_save.send(sender=rows.model, created=created, **saving)
        for (many, _), some in zip(lists, members):
            self._write_list(turns, many, instance, stored[0], some, is_changed)

    def _resolved(
        self, rows: ModelRows, row: Row, lists: Lists, position: int
    ) -> tuple[Row, list[Sequence[Any]]] | None:
        """Return (row, members of its lists) with stored values in place of natural keys.

        None if what one of them names does not exist yet.
        """
        if rows.natural:
            values = list(row)
            for index, column in rows.natural_columns:
                if type(values[index]) is tuple:
                    values[index] = self.naturals.resolve(column.field, values[index], position, self.buffer)
                    if values[index] is None:
                        return None
            row = tuple(values)
        members = []
        for many, some in lists:
            if many.field.name in rows.natural:
                some = [
                    self.naturals.resolve_member(many, member, position, self.buffer)
                    if type(member) is tuple
                    else member
                    for member in some
                ]
                if None in some:
                    return None
            members.append(some)
        return row, members

    def _write_list(
        self, turns: ModelTurns, many: ManyToManyRows, instance: Model, pk: Any, members: Sequence[Any], changed: bool
    ) -> None:
        """Set the object's list, as a deserialized object does. `changed`: whether Django wrote the object."""
        is_new = not changed and turns.has_no_pairs(many, pk)
        if changed or (many.heard and not is_new):
            self.buffer.flush()
            getattr(instance, many.field.name).set([many.python(member) for member in members])
        elif not many.heard:
            self.buffer.add_list(many, pk, members, is_new)
        elif members:
            about: dict[str, Any] = {"sender": many.through, "instance": instance, "reverse": False}
            about.update(model=many.related, using=self.using)
            signals.m2m_changed.send(action="pre_add", pk_set=set(map(many.python, members)), **about)
            self.buffer.add_list(many, pk, members, is_new)
            signals.m2m_changed.send(action="post_add", pk_set=set(map(many.python, members)), **about)
