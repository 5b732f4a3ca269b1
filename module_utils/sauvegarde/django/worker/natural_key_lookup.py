"""Find one model's objects by their natural keys, many at a time where the manager allows it.

The manager's own `get_by_natural_key` decides what a key means. Many keys are asked for in one query only where that
method is a plain lookup of fields, which its code shows.
"""

from __future__ import annotations

import copy
import dis
import inspect
import json
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist
from django.db import models
from django.db.models import Q
from django.db.models.query import QuerySet

from .field_values import CONVERSION_ERRORS

if TYPE_CHECKING:
    from .django_types import Model
    from .field_values import Column
    from .load_context import Mark

_FEW = 4  # so many keys are asked for one by one
_AT_ONCE = 100
# What the code of a method that is called with invented parts may name. USERNAME_FIELD is the user model's.
_HARMLESS = {"get", "model", "USERNAME_FIELD"}


class NaturalKeyLookup:
    """Finds objects of the model. `column`: of the field whose stored values are returned."""

    def __init__(self, model: type[Model], column: Column, using: str) -> None:
        self.manager = model._default_manager.db_manager(using)
        self.column = column
        self._names = _plain_names(model._default_manager)

    def one(self, mark: Mark) -> Any:
        """Return the stored value for the mark's object, as the manager finds it; None if it does not."""
        try:
            instance = self.manager.get_by_natural_key(*json.loads(mark[0]))
            value = getattr(instance, self.column.field.attname)
        except (ObjectDoesNotExist, MultipleObjectsReturned, *CONVERSION_ERRORS):
            return None
        return self.column.stored_key(value)

    def several(self, marks: set[Mark]) -> dict[Mark, Any]:
        """Return {mark: stored value} of the objects that exist."""
        values: dict[Mark, Any] = {}
        if self._names and len(marks) > _FEW:
            values = self._at_once({tuple(json.loads(mark[0])): mark for mark in marks if self._fits(mark)})
        for mark in marks - values.keys():
            value = self.one(mark)
            if value is not None:
                values[mark] = value
        return values

    def _fits(self, mark: Mark) -> bool:
        key = json.loads(mark[0])
        return len(key) == len(self._names) and all(type(part) in (str, int) for part in key)

    def _at_once(self, keys: Mapping[tuple[Any, ...], Mark]) -> dict[Mark, Any]:
        """Return the same with one query for many keys. Only exact matches of exactly one object count."""
        values: dict[Mark, Any] = {}
        ambiguous = set()
        every = list(keys)
        for start in range(0, len(every), _AT_ONCE):
            chunk = every[start : start + _AT_ONCE]
            if len(self._names) == 1:
                condition = Q(**{self._names[0] + "__in": [key[0] for key in chunk]})
            else:
                condition = Q()
                for key in chunk:
                    condition |= Q(**dict(zip(self._names, key)))
            rows = self.manager.get_queryset().filter(condition)
            for row in rows.values_list(*self._names, self.column.field.attname):
                mark = keys.get(row[:-1])
                if mark in values:
                    ambiguous.add(mark)
                elif mark is not None:
                    values[mark] = self.column.stored_key(row[-1])
        return {mark: value for mark, value in values.items() if mark not in ambiguous and value is not None}


class _Asked(BaseException):
    """Carries the arguments of `get` out of a manager's method."""


def _plain_names(manager: Any) -> tuple[str, ...]:
    """Return the names of the fields whose values a natural key's parts are.

    () if the manager's method is more than `self.get(field=part, …)`: it branches, changes a part, or asks for more.
    """
    method = getattr(type(manager), "get_by_natural_key", None)
    if method is None or not _is_harmless(manager, method):
        return ()
    asked: list[tuple[Any, dict[str, Any]]] = []

    def get(*args: Any, **kwargs: Any) -> None:
        asked.append((args, kwargs))
        raise _Asked()

    probe = copy.copy(manager)
    probe.get = get
    parts = [str(uuid.uuid4()).upper() + "é" for _ in range(method.__code__.co_argcount - 1)]
    try:
        probe.get_by_natural_key(*parts)
    except _Asked:
        args, conditions = asked[0]
    except Exception:  # noqa: BLE001 - a method of the site's, asked for a key that does not exist
        return ()
    else:
        return ()
    name_of = {id(value): name for name, value in conditions.items()}
    names = [name_of.get(id(part)) for part in parts]
    fields = {field.name for field in manager.model._meta.concrete_fields if field.remote_field is None}
    if args or len(conditions) != len(parts):
        return ()
    plain = tuple(name for name in names if name is not None and name in fields)
    return plain if len(plain) == len(names) else ()


def _is_harmless(manager: Any, method: Any) -> bool:
    """Return whether calling the method with invented parts can neither write nor ask the database."""
    code = getattr(method, "__code__", None)
    if code is None or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return False
    if set(code.co_names) - _HARMLESS or code.co_freevars or code.co_cellvars or code.co_kwonlyargcount:
        return False
    if any(_branches(instruction.opname) for instruction in dis.get_instructions(code)):
        return False
    for name in ("get", "filter"):
        own = getattr(type(manager), name, None) is not getattr(models.Manager, name)
        if own or getattr(type(manager.get_queryset()), name) is not getattr(QuerySet, name):
            return False
    return True


def _branches(name: str) -> bool:
    return "JUMP" in name or name.startswith(("FOR_", "SETUP_", "WITH_", "YIELD", "SEND"))
