"""Mask what fixture sets hold: the masks of a masking policy, for the fields that the sets name."""

from typing import Any, Dict, List

from .masking import EMPTY, KEEP, PUBLIC, Masking, is_mask, name_fields
from .privacy import NUMBER, is_any_name, names

# In the place of the key where nothing is masked.
_NO_KEY = bytes(16)


class SetMasking(Masking):
    """The masks of all models of the sets. `found`: as `privacy.actions`; `sets`: as `sets.checked`.

    `key`: bytes, empty where no field has a mask.
    """

    def __init__(self, found: Dict[str, Any], description: Dict[str, Any], key: bytes, sets: List[Dict[str, Any]]):
        rules = {label: dict.fromkeys(facts["fields"], KEEP) for label, facts in description.items()}
        for label, some in found.items():
            rules[label].update({name: action for name, action in some.items() if action == EMPTY or is_mask(action)})
        for each in sets:
            for label, some in each["masks"].items():
                public = {name: PUBLIC for name, action in some.items() if action == PUBLIC}
                rules[label.lower()].update(public)
        policy = {"models": rules}
        for name in ("kept_words", "not_searched"):
            policy[name] = sorted({word for each in sets for word in each.get(name, ())})
        super().__init__(policy, description, key or _NO_KEY, [])
        self.policy = policy
        self.numbers = {
            label: {name for name, action in some.items() if action == NUMBER} for label, some in found.items()
        }
        self._own = {label for label in description for each in sets if any(names(n, label) for n in each["models"])}

    def masked_fields(self) -> Dict[str, Dict[str, str]]:
        """As that of a policy, but for what the sets empty: that may be anywhere in their texts."""
        found = {
            label: {name: how for name, how in fields.items() if how != EMPTY}
            for label, fields in super().masked_fields().items()
        }
        return {label: fields for label, fields in found.items() if fields}

    def name_fields(self) -> Dict[str, Dict[str, str]]:
        """As that of a policy; of what no set keeps, the fields that their names tell as well."""
        found = super().name_fields()
        for label, fields in name_fields(self.description).items():
            for name, how in fields.items():
                is_kept = label in self._own and self.models[label][name] == KEEP
                if not is_kept and not is_any_name(name, label):
                    found.setdefault(label, {}).setdefault(name, how)
        return found
