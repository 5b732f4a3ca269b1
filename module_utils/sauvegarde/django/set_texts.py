"""Look for people in the texts that fixture sets keep: e-mail addresses, telephones and login names.

They are warnings, no refusals: a site's own address may well be part of its pages, and whoever registers as “python”
must not stop the set of technologies.
"""

import collections
from typing import Any, Dict, List, Set

from .escapes import decode
from .masking import EMAIL, PHONE
from .privacy import PRIVATE, names

_SHORTEST = 3


class Look:
    """Takes objects of the sets (`sets.checked`) one by one. `logins`: filled with the site's login names before."""

    def __init__(self, sets: List[Dict[str, Any]]) -> None:
        self._sets = sets
        self._said: Dict[str, Any] = {}
        self._found: Dict[str, int] = collections.Counter()
        self.logins: Set[str] = set()

    def learn(self, event: Dict[str, Any]) -> None:
        """Take an event of a dump; one of them has the login names."""
        self.logins.update(name for name in event.get("logins", ()) if len(name) >= _SHORTEST)

    def add(self, entry: Dict[str, Any]) -> None:
        label = entry["model"].lower()
        if label not in self._said:
            self._said[label] = self._decided(label)
        decided = self._said[label]
        if decided is None:
            return
        for name, value in entry["fields"].items():
            if name not in decided and self._holds(value):
                self._found[f"{label}.{name}"] += 1

    def sentences(self) -> List[str]:
        return [
            f"{place}: {count} values hold an e-mail address, a telephone or a login name. "
            "Decide about the field in the masks of its set (keep, empty, {mask: scrub})."
            for place, count in sorted(self._found.items())
        ]

    def _decided(self, label: str) -> Any:
        """The fields of the model that a private set says something about; None where none of its sets is private."""
        own = [each for each in self._sets if any(names(name, label) for name in each["models"])]
        if not any(each["people"] == PRIVATE for each in own):
            return None
        masks = [rules for each in own for model, rules in each["masks"].items() if model.lower() == label]
        return {name for rules in masks for name in rules}

    def _holds(self, value: Any) -> bool:
        if isinstance(value, str):
            text = decode(value)
            return value in self.logins or bool(EMAIL.search(text) or PHONE.search(text))
        if isinstance(value, dict):
            return any(self._holds(item) for item in [*value, *value.values()])
        return isinstance(value, list) and any(self._holds(item) for item in value)
