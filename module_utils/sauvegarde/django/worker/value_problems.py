"""Record what is wrong with a load's data, and what the policy does about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..worker_request import Action

_LISTED = 2000  # problems listed one by one, of those that stop and of those that are repaired; the rest is counted


class Dropped(Exception):
    """The policy leaves this object out."""


class InvalidValue(Exception):
    """The field cannot hold this value. The problem is recorded already, and nothing will be written."""


class Problems:
    """The problems of one load.

    `policy`: {kind of problem: action}, complete (see `data_load.POLICIES`). `stopping`, `repaired`: how many problems
    stop the load, and how many the policy repairs. `listed`: the problems as plain dicts.
    """

    def __init__(self, policy: Mapping[str, Action]) -> None:
        self.policy = policy
        self.listed: list[dict[str, Any]] = []
        self.stopping = 0
        self.repaired = 0
        self._touched: dict[str, dict[str, Any]] = {}
        self._fields: dict[str, dict[str, set[str | None]]] = {}

    @property
    def touched(self) -> dict[str, list[Any]]:
        """{model: keys} of the objects that are not stored as the fixture has them, or not at all."""
        return {model: list(keys.values()) for model, keys in self._touched.items()}

    @property
    def changed(self) -> dict[str, list[list[Any]]]:
        """{model: [[key, field names]]} of the touched objects that are stored, except for these fields."""
        return {
            model: [
                [self._touched[model][key], sorted(name for name in names if name)]
                for key, names in keys.items()
                if None not in names
            ]
            for model, keys in self._fields.items()
        }

    def touch(self, model: str, pk: Any, field: str | None = None) -> None:
        """Record that an object is not stored as the fixture has it: this field of it, or (None) the whole object."""
        key = json.dumps(pk)
        self._touched.setdefault(model, {})[key] = pk
        self._fields.setdefault(model, {}).setdefault(key, set()).add(field)

    def renamed(self, model: str, pk: Any, stored: Any) -> None:
        """Record that an object is stored under another key. If a problem caused that, both keys count as touched."""
        if json.dumps(pk) in self._touched.get(model, ()):
            self.touch(model, pk)
            self.touch(model, stored)

    def action(self, kind: str, model: str, field: str) -> str:
        """Return what the policy does about a problem of this field, or of the model's object."""
        action = self.policy[kind]
        if isinstance(action, str):
            return action
        return action.get(f"{model}.{field}".lower(), action["*"])

    def mark(self) -> tuple[int, int, int]:
        """Return the current state, for `back`. It is equal to an earlier one if no problem was added in between."""
        return len(self.listed), self.stopping, self.repaired

    def back(self, mark: tuple[int, int, int]) -> None:
        """Forget the problems that were added since the mark."""
        count, self.stopping, self.repaired = mark
        del self.listed[count:]

    def add(
        self, kind: str, model: str, pk: Any, field: str, detail: str, action: str | None = None, accept: str = ""
    ) -> str:
        """Record a problem and return what is done about it: the policy's action, unless `action` overrides it.

        `accept`: the action that would accept the value, if that is not the first one of its kind.
        """
        action = action or self.action(kind, model, field)
        if action == "stop":
            self.stopping += 1
            listed = self.stopping <= _LISTED
        else:
            self.repaired += 1
            listed = self.repaired <= _LISTED
            if kind not in ("unknown", "hidden") and action != "keep":
                self.touch(model, pk, None if action == "drop" else field)
        if listed:
            problem = {"kind": kind, "model": model, "pk": pk, "field": field, "detail": detail, "action": action}
            self.listed.append(dict(problem, accept=accept) if accept else problem)
        return action
