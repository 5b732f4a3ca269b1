"""Apply a masking policy to the objects of a site.

A policy is a plain dict, kept in the inventory:

    {"models": {"auth.user": {"username": {"mask": "username"}, "date_joined": "keep", "last_login": "empty", …},
                "sessions.session": "drop", …},
     "password": "the password of every masked account (without it, nobody can log in)",
     "kept_words": ["words that are parts of names and stay in texts"],
     "not_searched": ["label.field whose originals may be anywhere"]}

It must classify each concrete field and each many-to-many field of each model that is dumped: a field that it does not
know stops the dump. A relation that is kept follows the masking of its target.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional, Union

from ..errors import SauvegardeError
from .dependent_fields import dependence
from .field_masks import PEOPLE, Empty, Field, Mask
from .fixture_stream import NUMBERED
from .known_people import People
from .name_hints import name_fields
from .policy_actions import DROP, EMPTY, KEEP, PUBLIC, Description, require_long_key
from .policy_check import PolicyCheck, described_model, natural_key_fields

_ITERATIONS = 260000
# A function that replaces the values of a field; None keeps them.
FieldMask = Optional[Union[Mask, Empty, Callable[[Any], Any]]]


class Masking:
    """A policy, checked against the description of the models, and its masks.

    `description`: {label: {"fields": {name: {"type", "null", "unique", "max_length", "pk", "relation": [label, field]
    or None, "many": bool, "empty"}}, "natural_key": [[label, field name], …] or None}}, as `site.describe` returns it.
    A field that points to a proxy has the "natural_key" of the proxy. `key`: the secret. `labels`: the models that will
    be dumped; SauvegardeError if the policy does not fit them.
    """

    def __init__(self, policy: Mapping[str, Any], description: Description, key: bytes, labels: Iterable[str]) -> None:
        self.key = require_long_key(key)
        self.numbers: dict[str, set[str]] = {}  # of fixture sets: {label: references that are written as numbers}
        self.description = description
        self._rules = {label.lower(): rules for label, rules in policy.get("models", {}).items()}
        # Without the difference between keep and public, which only the search for originals knows.
        self.models = {label: _without_public(rules) for label, rules in self._rules.items()}
        password = policy.get("password")
        self.password = _stored_password(password, key) if password else None
        # Filled with the names of the site before anything is masked.
        self.people = People(policy.get("kept_words", ()))
        self.not_searched = {name.lower() for name in policy.get("not_searched", ())}
        self._masks: dict[tuple[str, str], FieldMask] = {}
        PolicyCheck(self.models, description, dependence(description)).check(labels)

    def drops(self, label: str) -> bool:
        """Return whether no row of the model leaves."""
        return bool(self.models.get(label.lower()) == DROP)

    def mask(self, label: str, name: str) -> FieldMask:
        """Return the function that replaces the field's values, or None if they are kept."""
        place = (label.lower(), name)
        if place not in self._masks:
            self._masks[place] = self._create_mask(*place)
        return self._masks[place]

    def _create_mask(self, label: str, name: str) -> FieldMask:
        facts = described_model(self.description, label)["fields"][name]
        action = self.models[label][name]
        if action == KEEP:
            return self._followed_mask(facts)
        field = Field(
            facts["unique"],
            facts.get("max_length"),
            facts["null"],
            facts.get("empty", ""),
            facts.get("nested", False),
        )
        if action == EMPTY:
            return Empty(field, facts.get("many", False))
        return Mask(action["mask"], self.key, field, f"{label}.{name}", self.password, self.people)

    def _followed_mask(self, facts: Mapping[str, Any]) -> FieldMask:
        """Return the mask of the key that a kept relation points to, so that the reference follows it."""
        relation = facts.get("relation")
        if relation is None or relation[0] not in self.models or self.drops(relation[0]):
            return None
        mask = self.mask(*relation)
        if mask is None or not facts.get("many"):
            return mask
        return lambda values: [mask(value) for value in values]

    def facts(self, labels: Iterable[str]) -> dict[str, Any]:
        """Return what was masked, for the report: {"fields": {label: {field: {"action", "values"}}}, "removed",
        "password"}.

        "values" counts the calls of a mask, so it includes the references that follow it.
        """
        fields: dict[str, dict[str, Any]] = {}
        removed = {"email": 0, "phone": 0, "name": 0}
        for label in labels:
            rules = self._rules[label]
            for name, action in rules.items() if isinstance(rules, dict) else ():
                is_kept = action in (KEEP, PUBLIC)
                mask = None if is_kept else self._masks.get((label, name))
                how = "mask {mask}".format(**action) if isinstance(action, dict) else action
                values = getattr(mask, "count", None if is_kept else 0)
                fields.setdefault(label, {})[name] = {"action": how, "values": values}
                for kind, count in mask.removed.items() if isinstance(mask, Mask) else ():
                    removed[kind] += count
        return {"fields": fields, "removed": removed, "password": self.password is not None}

    def keeps_key(self, label: str) -> bool:
        """Return whether the keys of the model's rows leave as they are."""
        name = self.description[label]["pk"]
        relation = self.description[label]["fields"][name].get("relation")
        is_kept = self.models[label].get(name) == KEEP
        return is_kept and (relation is None or (relation[0] in self.description and self._keeps(*relation)))

    def _keeps(self, label: str, name: str) -> bool:
        rules = self.models.get(label, {})
        return bool(rules != DROP and rules.get(name) == KEEP)

    def masked_fields(self) -> dict[str, dict[str, str]]:
        """Return {label: {field: its mask, or "empty"}} of the fields that do not leave as they are.

        Of models whose rows are dropped, the fields that hold names of people. Without fields that are `not_searched`.
        """
        hints = name_fields(self.description)
        fields = {}
        for label, rules in self.models.items():
            if rules == DROP:
                fields[label] = hints.get(label, {})
            elif label in self.description:
                fields[label] = {
                    name: EMPTY if action == EMPTY else action["mask"]
                    for name, action in rules.items()
                    if action != KEEP and self._is_searched(label, name)
                }
        return {label: masks for label, masks in fields.items() if masks}

    def _is_searched(self, label: str, name: str) -> bool:
        field = self.description[label]["fields"].get(name)
        return (
            field is not None
            and not field.get("relation")
            and field["type"] != "BooleanField"
            and f"{label}.{name}".lower() not in self.not_searched
        )

    def name_fields(self) -> dict[str, dict[str, str]]:
        """Return {label: {field: its mask}} of the fields whose values are names of people.

        Of models whose rows are dropped, the fields whose own names say so.
        """
        hints = name_fields(self.description)
        fields = {}
        for label, rules in self.models.items():
            if rules == DROP:
                fields[label] = hints.get(label, {})
            elif label in self.description:
                masks = {name: action["mask"] for name, action in rules.items() if _has_mask(action)}
                fields[label] = {
                    name: how
                    for name, how in masks.items()
                    if how in (*PEOPLE, "username") and name in self.description[label]["fields"]
                }
        return {label: masks for label, masks in fields.items() if masks}

    def natural(self, label: str, name: str) -> list[FieldMask]:
        """Return the masks of the natural key by which the field refers to objects: one (or None) for each part."""
        facts = described_model(self.description, label.lower())["fields"][name]
        if facts["relation"][0] in NUMBERED:
            return []
        parts = natural_key_fields(self.description, facts)
        return [None if part[0] in NUMBERED else self.mask(*part) for part in parts or ()]

    def entry(self, entry: Mapping[str, Any], natural_foreign: bool = True) -> dict[str, Any] | None:
        """Return a masked copy of a fixture's object, None if its rows are dropped. For objects of an archive."""
        label = entry["model"].lower()
        if label not in self.description or label not in self.models:
            raise SauvegardeError(
                f"The archive holds objects of {label}, which the masking policy or the site does not know.",
                fix="Classify the model in the policy.",
            )
        if self.drops(label):
            return None
        fields = self.description[label]["fields"]
        masked = dict(entry, fields={})
        if "pk" in entry:
            mask = self.mask(label, self.description[label]["pk"])
            masked["pk"] = mask(entry["pk"]) if mask else entry["pk"]
        for name, value in entry["fields"].items():
            if name not in fields or name not in self.models[label]:
                raise SauvegardeError(
                    f"The archive holds {label}.{name}, which the masking policy or the site does not know.",
                    fix="Classify the field in the policy.",
                )
            masked["fields"][name] = self._value(label, name, fields[name], value, natural_foreign)
        return masked

    def _value(self, label: str, name: str, facts: Mapping[str, Any], value: Any, natural_foreign: bool) -> Any:
        if facts.get("relation") and natural_foreign and self.models[label][name] == KEEP:
            if not facts.get("many"):
                if isinstance(value, list):
                    return self._natural_value(label, name, value)
            elif any(isinstance(item, list) for item in value):
                return [self._natural_value(label, name, item) for item in value]
        mask = self.mask(label, name)
        return mask(value) if mask else value

    def _natural_value(self, label: str, name: str, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        masks = self.natural(label, name)
        # zip would lose the parts of a key that is longer than the masks.
        masks += [None] * (len(value) - len(masks))
        return [mask(part) if mask else part for mask, part in zip(masks, value)]


def _has_mask(action: Any) -> bool:
    return isinstance(action, dict) and "mask" in action


def _without_public(rules: Any) -> Any:
    if not isinstance(rules, dict):
        return rules
    return {name: KEEP if action == PUBLIC else action for name, action in rules.items()}


def _stored_password(text: str, key: bytes) -> str:
    """Return the password as Django's default hasher stores it: one value for all accounts, since hashing is slow."""
    salt = hmac.new(key, b"password", hashlib.sha256).hexdigest()[:22]
    digest = hashlib.pbkdf2_hmac("sha256", text.encode("utf-8"), salt.encode("ascii"), _ITERATIONS)
    return "pbkdf2_sha256${}${}${}".format(_ITERATIONS, salt, base64.b64encode(digest).decode("ascii"))
