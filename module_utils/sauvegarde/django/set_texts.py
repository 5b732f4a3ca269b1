"""Search the texts that fixture sets keep for people: e-mail addresses, telephone numbers and login names.

What is found is a warning, not an error: a site's own address may well be part of its pages, and a user who registers
as “python” must not stop the set of technologies.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
from typing import Any

from .escapes import decode
from .fixture_set import PRIVATE, FixtureSet
from .text_scrub import EMAIL, PHONE

_SHORTEST = 3


class PersonalTexts:
    """Takes objects of the sets one by one. `logins`: the site's login names, filled before."""

    def __init__(self, sets: Iterable[FixtureSet]) -> None:
        self._sets = list(sets)
        self._decided: dict[str, set[str] | None] = {}
        self._counts: collections.Counter[str] = collections.Counter()
        self.logins: set[str] = set()

    def learn(self, event: Mapping[str, Any]) -> None:
        """Take an event of a dump; one of them has the login names."""
        self.logins.update(name for name in event.get("logins", ()) if len(name) >= _SHORTEST)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Search the object."""
        label = entry["model"].lower()
        if label not in self._decided:
            self._decided[label] = self._decided_fields(label)
        decided = self._decided[label]
        if decided is None:
            return
        for name, value in entry["fields"].items():
            if name not in decided and self._is_personal(value):
                self._counts[f"{label}.{name}"] += 1

    def sentences(self) -> list[str]:
        """Return a warning for each field with personal data."""
        return [
            f"{place}: {count} values hold an e-mail address, a telephone or a login name. "
            "Decide about the field in the masks of its set (keep, empty, {mask: scrub})."
            for place, count in sorted(self._counts.items())
        ]

    def _decided_fields(self, label: str) -> set[str] | None:
        """Return the fields of the model that its sets decide about; None if none of its sets is private."""
        own = [fixture_set for fixture_set in self._sets if fixture_set.holds(label)]
        if not any(fixture_set.people == PRIVATE for fixture_set in own):
            return None
        return {name for fixture_set in own for name in fixture_set.rules_of(label)}

    def _is_personal(self, value: Any) -> bool:
        if isinstance(value, str):
            text = decode(value)
            return value in self.logins or bool(EMAIL.search(text) or PHONE.search(text))
        if isinstance(value, dict):
            return any(self._is_personal(item) for item in [*value, *value.values()])
        return isinstance(value, list) and any(self._is_personal(item) for item in value)
