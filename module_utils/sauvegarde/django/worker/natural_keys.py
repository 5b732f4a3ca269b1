"""Inside the site: references by natural key, looked up many at a time before rows are written.

A row that waits holds a mark in place of the number: a tuple with the natural key's text. Keys that the files bring are
taken from the files, the others from the database. The manager's own `get_by_natural_key` decides what a key means;
many keys a query are asked for only where that method is a plain look at fields, which its code shows. A key that
neither has before the load, of a model whose natural keys the files do not show, is asked for when its row is written.
"""

import copy
import dis
import inspect
import json
import uuid

from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist
from django.db import models
from django.db.models import Q
from django.db.models.query import QuerySet

from ...errors import SauvegardeError
from .field_values import EXPECTED, Column, converted

_FEW = 4  # so many keys are asked for one by one
_AT_ONCE = 100
# What a method that may be asked for invented parts may name: `get`, and the user model's name of the key's field.
_HARMLESS = {"get", "model", "USERNAME_FIELD"}


class Naturals:
    """The natural keys that a load's objects refer to."""

    def __init__(self, load):
        self.load = load
        self._marked = {}  # {(model, name of the field that is pointed to): {mark}}
        self._known = {}  # the same: {mark: stored value}
        self._late = {}  # the same: {mark}, to be looked up when rows are written
        self._lookups = {}
        self._open = []  # references to what is not there when they are written

    def mark(self, model, name, key):
        mark = (json.dumps(key),)
        self._marked.setdefault((model, name), set()).add(mark)
        return mark

    def check(self):
        """Look every key up. What is nowhere is `missing`."""
        for target, marks in self._marked.items():
            plan = self._plan(target)
            known, late, left = {}, set(), set()
            for mark in marks:
                found = self._in_files(target, plan, mark)
                if found is not None:
                    known[mark] = found
                elif self._may_come(target, plan, mark):
                    late.add(mark)
                elif plan is None or not self.load.replacing:
                    left.add(mark)
            for mark, value in self._lookup(target).several(left).items() if left else ():
                # A row that the files bring anew may have another natural key then.
                if plan is not None and value in plan.keys:
                    late.add(mark)
                else:
                    known[mark] = value
            self._known[target], self._late[target] = known, late

    def _in_files(self, target, plan, mark):
        model, name = target
        if plan is None or model._meta.proxy or model._meta.get_field(name) is not model._meta.pk:
            return None
        return plan.natural_keys.get(mark[0], (None, 0))[0]

    def _may_come(self, target, plan, mark):
        """Whether the key may be that of an object in the files, though they do not show it."""
        if plan is None:
            return False
        unseen = not plan.natural_names or None in plan.natural_names
        return target[0]._meta.proxy or unseen or mark[0] in plan.natural_keys

    def missing(self, column):
        """The marks in the column, of a reference or of a list's members, that nothing will answer to."""
        target = _target(column)
        known = self._known.get(target, {})
        late = self._late.get(target, ())
        return {mark for mark in self._marked.get(target, ()) if mark not in known and mark not in late}

    def now(self, field, mark, place, replay):
        """The stored value for the mark in a reference of the object at the place, which sees only what comes before
        it; None where it is not there yet."""
        return self._now((field.remote_field.model, field.remote_field.field_name), mark, place, replay)

    def now_member(self, many, mark, place, replay):
        return self._now(_target_of(many), mark, place, replay)

    def _now(self, target, mark, place, replay):
        found = self._known[target].get(mark)
        if found is not None:
            plan = self._plan(target)
            later = plan is not None and plan.natural_keys.get(mark[0], (None, -1))[1] >= place
            return None if later else found
        replay.flush()
        with replay.ours():
            found = self._lookup(target).one(mark)
        if found is not None:
            self._known[target][mark] = found
        return found

    # --- where rows are written in the files' order, and nobody listens -----------------------------------------------

    def need_order(self):
        """Whether a reference that cannot be empty may name a row that is there in time only in the files' order."""
        places = {plan: place for place, plan in enumerate(self.load.plans.values())}
        return any(
            self._late.get(_target(column)) and places[self._plan(_target(column))] >= place
            for plan, place in places.items()
            for _, column in plan.natural_columns
            if not column.field.null
        )

    def ask_for(self, plan, rows, replay):
        """Look up what just these rows refer to and only now may be there."""
        for place, column in plan.natural_columns:
            target = _target(column)
            left = {row[place] for row in rows if row is not None and type(row[place]) is tuple}
            left -= self._known.get(target, {}).keys()
            if left:
                replay.flush()
                self._known[target].update(self._lookup(target).several(left))

    def wants(self, plan, row):
        """Whether the row has a reference that cannot be empty to what is not known yet: it may still be waiting."""
        return any(
            type(row[place]) is tuple and row[place] not in self._known[_target(column)]
            for place, column in plan.natural_columns
            if not column.field.null
        )

    # --- where rows are written model by model ------------------------------------------------------------------------

    def ask(self, plan):
        """Look up what the plan's rows refer to and only now may be there."""
        targets = [_target(column) for _, column in plan.natural_columns]
        targets += [_target_of(many) for name, many in plan.many.items() if name in plan.natural]
        for target in targets:
            left = self._late.get(target, set()) - self._known.get(target, {}).keys()
            if left:
                self._known[target].update(self._lookup(target).several(left))

    def settled(self, plan, rows):
        """The rows with stored values in place of marks; what is not there yet is NULL until `finish`."""
        if not plan.natural_columns:
            return rows
        done = []
        for row in rows:
            row = list(row)
            for place, column in plan.natural_columns:
                mark = row[place]
                if type(mark) is tuple:
                    target = _target(column)
                    row[place] = self._known[target].get(mark)
                    if row[place] is None:
                        self._open.append((plan, target, row[0], mark, column))
            done.append(tuple(row))
        return done

    def settled_members(self, plan, many, pk, members):
        if many.field.name not in plan.natural:
            return members
        target, done = _target_of(many), []
        for member in members:
            if type(member) is tuple:
                mark, member = member, self._known[target].get(member)
                if member is None:
                    self._open.append((plan, target, pk, mark, many))
                    continue
            done.append(member)
        return list(dict.fromkeys(done))

    def finish(self, writer):
        """Set the references to what came later."""
        later = {}
        for _, target, _, mark, _ in self._open:
            later.setdefault(target, set()).add(mark)
        for target, marks in later.items():
            self._known[target].update(self._lookup(target).several(marks - self._known[target].keys()))
        for plan, target, pk, mark, where in self._open:
            found = self._known[target].get(mark)
            if found is None:
                raise SauvegardeError(
                    f"{plan.label} {pk!r} points to {target[0]._meta.label_lower} {mark[0]}, which does not exist.",
                    fix="Mend the object in the fixture; nothing was written.",
                )
            writer.refer(plan, pk, where, found)

    def _plan(self, target):
        return self.load.plans.get(target[0]._meta.concrete_model)

    def _lookup(self, target):
        if target not in self._lookups:
            self._lookups[target] = Lookup(self.load, *target)
        return self._lookups[target]


def _target(column):
    return (column.field.remote_field.model, column.field.remote_field.field_name)


def _target_of(many):
    return (many.related, many.related._meta.pk.name)


class Lookup:
    """Finds one model's objects by their natural keys."""

    def __init__(self, load, model, name):
        self.using = load.using
        self.manager = model._default_manager.db_manager(load.using)
        self.field = model._meta.get_field(name)
        self.column = Column(load.plan_or_probe(model._meta.concrete_model), self.field)
        self._names = _plain_names(model._default_manager)

    def one(self, mark):
        """The stored value of the object's field, as the manager finds it; None where it does not."""
        try:
            found = self.manager.get_by_natural_key(*json.loads(mark[0]))
            value = getattr(found, self.field.attname)
        except (ObjectDoesNotExist, MultipleObjectsReturned, *EXPECTED):
            return None
        return converted(self.column, value)

    def several(self, marks):
        """{mark: stored value} of those that are found."""
        found = {}
        if self._names and len(marks) > _FEW:
            found = self._at_once({tuple(json.loads(mark[0])): mark for mark in marks if self._fits(mark)})
        for mark in marks - found.keys():
            value = self.one(mark)
            if value is not None:
                found[mark] = value
        return found

    def _fits(self, mark):
        key = json.loads(mark[0])
        return len(key) == len(self._names) and all(type(part) in (str, int) for part in key)

    def _at_once(self, keys):
        """The same by queries for many keys each; only what answers to one key alone, and just so, counts."""
        found, several = {}, set()
        every = list(keys)
        for start in range(0, len(every), _AT_ONCE):
            chunk = every[start : start + _AT_ONCE]
            if len(self._names) == 1:
                wanted = Q(**{self._names[0] + "__in": [key[0] for key in chunk]})
            else:
                wanted = Q()
                for key in chunk:
                    wanted |= Q(**dict(zip(self._names, key)))
            for row in self.manager.get_queryset().filter(wanted).values_list(*self._names, self.field.attname):
                mark = keys.get(row[:-1])
                if mark in found:
                    several.add(mark)
                elif mark is not None:
                    found[mark] = converted(self.column, row[-1])
        return {mark: value for mark, value in found.items() if mark not in several and value is not None}


class _Asked(BaseException):
    """Carries what a manager's method asked for out of it."""


def _plain_names(manager):
    """The names of the fields whose values a natural key's parts are, or () where the manager's method is more than
    `self.get(field=part, …)`: it branches, changes a part, or asks for something else."""
    method = getattr(type(manager), "get_by_natural_key", None)
    code = getattr(method, "__code__", None)
    if code is None or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return ()
    # It is called below: it must not be able to reach anything that writes or asks the database.
    if set(code.co_names) - _HARMLESS or code.co_freevars or code.co_cellvars or code.co_kwonlyargcount:
        return ()
    if any(_leads_elsewhere(each.opname) for each in dis.get_instructions(code)):
        return ()
    for name in ("get", "filter"):
        own = getattr(type(manager), name, None) is not getattr(models.Manager, name)
        if own or getattr(type(manager.get_queryset()), name) is not getattr(QuerySet, name):
            return ()
    asked = []

    def get(*args, **kwargs):
        asked.append((args, kwargs))
        raise _Asked()

    probe = copy.copy(manager)
    probe.get = get
    parts = [str(uuid.uuid4()).upper() + "é" for _ in range(code.co_argcount - 1)]
    try:
        probe.get_by_natural_key(*parts)
    except _Asked:
        args, wanted = asked[0]
    except Exception:  # noqa: BLE001 - a method of the site's, asked for a key that is none
        return ()
    else:
        return ()
    places = {id(value): name for name, value in wanted.items()}
    names = [places.get(id(part)) for part in parts]
    fields = {field.name for field in manager.model._meta.concrete_fields if field.remote_field is None}
    if args or len(wanted) != len(parts) or not all(name in fields for name in names):
        return ()
    return tuple(names)


def _leads_elsewhere(name):
    return "JUMP" in name or name.startswith(("FOR_", "SETUP_", "WITH_", "YIELD", "SEND"))
