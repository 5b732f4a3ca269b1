"""Mask what fixture sets hold: the masks of a masking policy, for the fields that the sets name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .fixture_set import NUMBER, FixtureSet
from .masking import Masking
from .name_hints import name_fields
from .policy_actions import EMPTY, KEEP, PUBLIC, Description, is_mask
from .set_privacy import is_any_name

# Stands for the key if nothing is masked.
_NO_KEY = bytes(16)


class SetMasking(Masking):
    """The masks of all models of the sets.

    `actions_of`: as `set_privacy.actions` returns it; `sets`: as `fixture_sets.checked`; `key`: b"" without masks.
    """

    def __init__(
        self,
        actions_of: Mapping[str, Mapping[str, Any]],
        description: Description,
        key: bytes,
        sets: Iterable[Mapping[str, Any]],
    ) -> None:
        chosen = [FixtureSet.from_dict(values) for values in sets]
        self.policy = _policy(actions_of, description, chosen)
        super().__init__(self.policy, description, key or _NO_KEY, [])
        self.numbers = {
            label: {name for name, action in rules.items() if action == NUMBER} for label, rules in actions_of.items()
        }
        self._own = {label for label in description if any(fixture_set.holds(label) for fixture_set in chosen)}

    def masked_fields(self) -> dict[str, dict[str, str]]:
        """Return the fields of a policy without those that the sets empty: their values may be anywhere in texts."""
        fields = {
            label: {name: how for name, how in masks.items() if how != EMPTY}
            for label, masks in super().masked_fields().items()
        }
        return {label: masks for label, masks in fields.items() if masks}

    def name_fields(self) -> dict[str, dict[str, str]]:
        """Return the fields of a policy, and those that no set keeps and whose own names say so."""
        fields = super().name_fields()
        for label, masks in name_fields(self.description).items():
            for name, how in masks.items():
                is_kept = label in self._own and self.models[label][name] == KEEP
                if not is_kept and not is_any_name(name, label):
                    fields.setdefault(label, {}).setdefault(name, how)
        return fields


def _policy(
    actions_of: Mapping[str, Mapping[str, Any]], description: Description, sets: Iterable[FixtureSet]
) -> dict[str, Any]:
    """Return the masking policy that says the same as the sets."""
    models: dict[str, dict[str, Any]] = {
        label: dict.fromkeys(facts["fields"], KEEP) for label, facts in description.items()
    }
    for label, rules in actions_of.items():
        models[label].update({name: action for name, action in rules.items() if action == EMPTY or is_mask(action)})
    kept_words: set[str] = set()
    not_searched: set[str] = set()
    for fixture_set in sets:
        kept_words.update(fixture_set.kept_words)
        not_searched.update(fixture_set.not_searched)
        for label, rules in fixture_set.masks.items():
            models[label.lower()].update({name: PUBLIC for name, action in rules.items() if action == PUBLIC})
    return {"models": models, "kept_words": sorted(kept_words), "not_searched": sorted(not_searched)}
