"""Inside the site: write a load's objects in the order of the files, and let listeners hear of each as from stock.

Rows wait in memory and go to the database many at a time. A listener cannot tell the difference: each object is made
as Django's deserializer makes it, its signals are sent around its turn, and before a listener's own statement reaches
the database all rows that stock would have written by then are written. An object that a listener (or the model's own
making) changes on the way is written by Django.
"""

import contextlib
import datetime
import decimal
import itertools
import json
import re
import uuid

from django.db import models
from django.db.models import signals

from .field_values import Keys
from .model_rows import FAST, STOCK

_WAITING = 500  # rows, of one or several models
_IMMUTABLE = {str, int, float, bool, type(None), bytes, decimal.Decimal, uuid.UUID}
_IMMUTABLE |= {datetime.datetime, datetime.date, datetime.time, datetime.timedelta}
_IDENTIFIER = re.compile(r'"([^"]+)"')
_CHANGES = ("INSERT", "UPDATE", "DELETE")
_SAVING = ("pre_save", "post_save", "pre_delete", "post_delete", "m2m_changed")


@contextlib.contextmanager
def silenced():
    """Nobody hears of what is saved, deleted or put into lists; `pre_init` and `post_init` are part of the objects."""
    kept = {}
    for name in _SAVING:
        signal = getattr(signals, name)
        with signal.lock:
            kept[signal], signal.receivers = signal.receivers, []
            signal.sender_receivers_cache.clear()
    try:
        yield
    finally:
        for signal, receivers in kept.items():
            with signal.lock:
                signal.receivers = receivers
                signal.sender_receivers_cache.clear()


class Replay:
    """One load's objects, written in their order."""

    def __init__(self, load, writer, bad, bad_members):
        self.load, self.writer, self.using = load, writer, load.using
        self.connection, self.naturals = load.connection, load.naturals
        self._turns = {}
        for plan in load.plans.values():
            self._turns[plan] = _Turn(self, plan, bad.get(plan), bad_members)
        self._rows, self._pairs, self._count = {}, {}, 0
        self._ours = False
        self._changes = {}  # {table: how many statements of others changed it}; "" for what may have changed any

    def run(self):
        """Write all; returns Django's objects with references to what is not there yet."""
        deferred, place = [], 0
        with self.connection.execute_wrapper(self._executed):
            for plan, count in self.load.order:
                turn = self._turns[plan]
                for way, some in turn.ways(count):
                    if way == STOCK:
                        self.flush()
                        deferred += self.load.save_stock(plan, itertools.islice(turn.stock, some))
                    elif way == FAST and not plan.made:
                        self._together(turn, some)
                    elif way == FAST:
                        for number in range(some):
                            deferred += self._tell(turn, place + number)
                    place += some
                turn.done += count
                if turn.done == plan.total or not turn.done % 1000:
                    self.load.output.progress(model=plan.label, objects=turn.done)
            self.flush()
        return deferred

    # --- what the database holds --------------------------------------------------------------------------------------

    def _executed(self, execute, sql, params, many, context):
        """Around every statement. Of others' (a listener's, Django's): first what waits."""
        if not self._ours:
            self.flush()
            text = str(sql).lstrip()
            if text[:6].upper() in _CHANGES:
                for table in _IDENTIFIER.findall(text) or [""]:
                    self._changes[table] = self._changes.get(table, 0) + 1
            elif text[:6].upper() != "SELECT" and "SAVEPOINT" not in text[:17].upper():
                self._changes[""] = self._changes.get("", 0) + 1
        return execute(sql, params, many, context)

    def changes(self, table):
        """A number that is another one when somebody else may have changed the table."""
        return self._changes.get(table, 0) + self._changes.get("", 0)

    @contextlib.contextmanager
    def ours(self):
        before, self._ours = self._ours, True
        try:
            yield
        finally:
            self._ours = before

    def flush(self):
        """Write what waits."""
        if not self._rows and not self._pairs:
            return
        rows, pairs = self._rows, self._pairs
        self._rows, self._pairs, self._count = {}, {}, 0
        with self.ours():
            for plan, some in rows.items():
                self.writer.add(plan, [row for row, _ in some.values()], all(new for _, new in some.values()))
            for many, lists in pairs.items():
                self.writer.add_pairs(many, {pk: members for pk, (members, _) in lists.items()}, _old(lists))

    def wait(self, turn, row, new):
        """Let a row wait; `new`: whether the database has none with its key."""
        some = self._rows.setdefault(turn.plan, {})
        if row[0] in some:
            new = some.pop(row[0])[1]
        some[row[0]] = (row, new)
        turn.written.add(row[0])
        self._count += 1
        if self._count >= _WAITING:
            self.flush()

    def wait_pairs(self, many, pk, members, new):
        lists = self._pairs.setdefault(many, {})
        members = list(dict.fromkeys(members))
        lists[pk] = (members, new and pk not in lists)
        self._count += len(members)

    # --- objects ------------------------------------------------------------------------------------------------------

    def _together(self, turn, count):
        """Rows of a model that nobody listens to."""
        plan = turn.plan
        for row in self._asked_for(plan, itertools.islice(turn.rows, count)):
            (row,) = self.naturals.settled(plan, [row])
            self.wait(turn, row, turn.is_new(row[0]))
            for many in plan.many.values():
                for members in turn.list_of(many, row[0]):
                    members = self.naturals.settled_members(plan, many, row[0], members)
                    self.wait_pairs(many, row[0], members, turn.has_no_pairs(many, row[0]))

    def _asked_for(self, plan, rows):
        """The rows, when what their natural keys name was looked up."""
        if not plan.natural_columns:
            yield from (row for row in rows if row is not None)
            return
        for some in iter(lambda: list(itertools.islice(rows, _WAITING)), []):
            self.naturals.ask_for(plan, some, self)
            for row in some:
                if row is None:
                    continue
                if self.naturals.wants(plan, row):
                    self.naturals.ask_for(plan, [row], self)
                yield row

    def _tell(self, turn, place):
        """One object, its signals around its turn."""
        plan = turn.plan
        row, (odd, absent, names, generated, kept) = next(turn.rows), next(turn.objects)
        lists = [(plan.many[name], next(turn.lists[plan.many[name]])[1]) for name in names]
        if row is None:
            return []
        settled, members = self._settled(plan, row, lists, place)
        if settled is None:
            # It points to what is not there yet: Django saves such an object twice.
            self.flush()
            entry = turn.entry(row, odd, absent, lists, generated, kept)
            plan.by_django("it refers to what comes later")
            return self.load.save_stock(plan, [entry])
        data = turn.values(settled, odd, absent, kept)
        instance = plan.model(**data, **turn.generated(generated))
        saving = {"instance": instance, "raw": True, "using": self.using, "update_fields": None}
        if "pre_save" in plan.signals:
            signals.pre_save.send(sender=plan.model, **saving)
        changed = turn.watched and turn.is_changed(instance, settled, data)
        if absent and not changed:
            settled = turn.with_defaults(instance, settled, absent)
        if changed:
            self.flush()
            plan.by_django("it is changed on the way, by a listener or as it is made")
            created = not instance._save_table(raw=True, cls=plan.model, using=self.using)
            turn.written.add(settled[0])
        else:
            created = turn.is_new(settled[0])
            self.wait(turn, settled, created)
        instance._state.db, instance._state.adding = self.using, False
        if "post_save" in plan.signals:
            signals.post_save.send(sender=plan.model, created=created, **saving)
        for (many, _), some in zip(lists, members):
            self._set(turn, many, instance, settled[0], some, changed)
        return []

    def _settled(self, plan, row, lists, place):
        """(row, members of its lists), numbers in place of natural keys; (None, None) where one is not there yet."""
        if plan.natural:
            row = list(row)
            for column_place, column in plan.natural_columns:
                if type(row[column_place]) is tuple:
                    row[column_place] = self.naturals.now(column.field, row[column_place], place, self)
                    if row[column_place] is None:
                        return None, None
            row = tuple(row)
        members = []
        for many, some in lists:
            if many.field.name in plan.natural:
                some = [
                    self.naturals.now_member(many, member, place, self) if type(member) is tuple else member
                    for member in some
                ]
                if None in some:
                    return None, None
            members.append(some)
        return row, members

    def _set(self, turn, many, instance, pk, members, changed):
        """As the deserialized object sets its list."""
        new = not changed and turn.has_no_pairs(many, pk)
        if changed or (many.listened and not new):
            self.flush()
            getattr(instance, many.field.name).set([many.python(member) for member in members])
        elif not many.listened:
            self.wait_pairs(many, pk, members, new)
        elif members:
            about = {"sender": many.through, "instance": instance, "reverse": False, "model": many.related}
            about["using"] = self.using
            signals.m2m_changed.send(action="pre_add", pk_set=set(map(many.python, members)), **about)
            self.wait_pairs(many, pk, members, new)
            signals.m2m_changed.send(action="post_add", pk_set=set(map(many.python, members)), **about)


def _old(lists):
    """The keys of which the database may have pairs."""
    return {pk for pk, (_, new) in lists.items() if not new}


class _Turn:
    """One model's objects, each in its turn, and what is known of its table."""

    def __init__(self, replay, plan, bad, bad_members):
        self.replay, self.plan = replay, plan
        self.written, self.given = Keys(), {many: Keys() for many in plan.many.values()}
        self.done = 0
        self.ways = plan.order.parts()
        self.rows = self._looked_at(plan.rows(bad, every=True))
        self.stock = plan.stock_entries()
        self.objects = itertools.chain.from_iterable(plan.objects.chunks()) if plan.made else None
        self.lists, self._next = {}, {}
        for many in plan.many.values():
            without = bad_members.get(many, (None, ()))[1]
            self.lists[many] = itertools.chain.from_iterable(many.lists(without, every=True))
        self._there, self._asked_at = set(), None
        self._empty = {}
        own = plan.model.__init__ is not models.Model.__init__
        self.watched = bool(plan.signals) or own or plan.hidden
        self._odd = {place: number for number, place in enumerate(plan.odd)}
        self._columns = list(enumerate(plan.columns))

    def _looked_at(self, chunks):
        """The rows one by one; of each chunk the keys that the table has are asked for first."""
        for chunk in chunks:
            self._asked_at = None
            if not self._is_empty(self.plan.table):
                with self.replay.ours():
                    self._asked_at = self.replay.changes(self.plan.table)
                    keys = {row[0] for row in chunk if row is not None}
                    self._there = self.replay.load.present(self.plan.model._meta.pk, keys)
            yield from chunk

    def _is_empty(self, table):
        """Whether the table was empty when it was first looked at, and nobody but us has written into it."""
        changes = self.replay.changes(table)
        if table not in self._empty:
            with self.replay.ours():
                empty = self.replay.writer.is_empty(table)
            self._empty[table] = changes if empty else None
        return self._empty[table] == changes

    def is_new(self, key):
        """Whether the table has no row with the key."""
        table = self.plan.table
        if self._is_empty(table):
            return key not in self.written
        if self._asked_at == self.replay.changes(table):
            return key not in self.written and key not in self._there
        self.replay.flush()
        with self.replay.ours():
            return not self.replay.load.present(self.plan.model._meta.pk, [key])

    def has_no_pairs(self, many, key):
        """Whether the list of the key is empty for sure."""
        again = key in self.given[many]
        self.given[many].add(key)
        table = many.through._meta.db_table
        if again:
            return False
        if self._is_empty(table):
            return True
        if not many.listened:
            return False
        with self.replay.ours():
            return not self.replay.load.present(many.source, [key])

    def list_of(self, many, key):
        """The list of the row with the key, as a list of one, or of none where the file has none."""
        gone = getattr(many, "gone", ())
        waiting = self._next.get(many)
        while waiting is None or waiting[0] in gone:
            waiting = next(self.lists[many], (None, None))
            if waiting[0] is None:
                break
        self._next[many] = waiting
        if waiting[0] != key:
            return []
        self._next[many] = None
        return [waiting[1]]

    # --- one object ---------------------------------------------------------------------------------------------------

    def _raw(self, place, row, odd, kept):
        """A column's value as the file has it, or as it was mended."""
        return odd[self._odd[place]] if place in self._odd and place not in kept else row[place]

    def values(self, row, odd, absent, kept):
        """The arguments of the model, as Django's deserializer gives them."""
        data = {}
        for place, column in self._columns:
            if place in absent:
                continue
            value = row[place]
            if place in self._odd:
                raw = self._raw(place, row, odd, kept)
                # In place of a natural key: what it stands for.
                raw = value if isinstance(raw, (list, tuple)) and column.field.remote_field is not None else raw
                value = column.python(raw, place in kept)
            elif column.field.remote_field is not None and column.name in self.plan.natural:
                value = column.python(value, False)
            data[column.field.attname if place == 0 or column.field.remote_field is not None else column.name] = value
        return data

    def generated(self, values):
        get_field = self.plan.model._meta.get_field
        return {name: get_field(name).to_python(value) for name, value in values.items()}

    def is_changed(self, instance, row, data):
        """Whether Django would now write something else than the row."""
        for place, column in self._columns:
            name = column.field.attname
            key = name if name in data else column.name
            if key not in data:
                continue
            value = getattr(instance, name)
            if value is data[key] and (type(value) in _IMMUTABLE or column.is_special(row[place])):
                continue
            try:
                if column.prepared(value) != row[place] and not column.has_more_digits(row[place], value):
                    return True
            except Exception:  # noqa: BLE001 - whatever a value of the site's own does; Django will say it
                return True
        return False

    def with_defaults(self, instance, row, absent):
        """The row with the values that the model has given the object."""
        row = list(row)
        for place in absent:
            row[place] = self.plan.columns[place].prepared(getattr(instance, self.plan.columns[place].field.attname))
        return tuple(row)

    def entry(self, row, odd, absent, lists, generated, kept):
        """The object as the fixture had it."""
        fields = {
            column.name: _key(self._raw(place, row, odd, kept))
            for place, column in self._columns
            if place and place not in absent
        }
        fields.update(generated)
        fields.update({many.field.name: list(map(_key, members)) for many, members in lists})
        return {"model": self.plan.label, "pk": self._raw(0, row, odd, kept), "fields": fields}


def _key(value):
    """A natural key's mark as the key."""
    return json.loads(value[0]) if type(value) is tuple else value
