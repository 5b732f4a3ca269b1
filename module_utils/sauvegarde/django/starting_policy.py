"""Draft a masking policy from the names and types of a site's models and fields."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from .dependent_fields import dependence
from .fixture_stream import NUMBERED
from .name_hints import is_account_data, is_personal, mask_by_name
from .policy_actions import DROP, EMPTY, KEEP, Description, Models

# Text fields of this length have room for a sentence.
_LONG = 100


def starting_policy(description: Description) -> dict[str, dict[str, Any]]:
    """Return a policy that classifies every field of every model, for a person to read and correct.

    Passwords, names, addresses of every kind, telephone numbers, tokens and sessions are recognised by the words in the
    names of the fields and by their types. Free text loses the addresses and telephone numbers inside it. Everything
    else is kept, and so is what other rows depend on (trees, natural keys, generic references, content types). Search
    indexes, which hold the words of all other fields, are dropped: the site fills them again.
    """
    models = _dropped_models(description)
    depended = dependence(description)
    for label, facts in sorted(description.items()):
        if label not in models:
            fields = sorted(facts["fields"].items())
            models[label] = {
                name: _first_action(field, name, models, (label, name) in depended, label) for name, field in fields
            }
    return {"models": models}


def _dropped_models(description: Description) -> dict[str, Any]:
    """Return {label: "drop"} for account data, search indexes, and the rows that cannot exist without a dropped row."""
    models: dict[str, Any] = {
        label: DROP for label, facts in description.items() if is_account_data(label) or facts.get("index")
    }
    while True:
        orphans = [
            label
            for label, facts in description.items()
            if label not in models and any(_requires(field, models) for field in facts["fields"].values())
        ]
        if not orphans:
            return models
        models.update(dict.fromkeys(orphans, DROP))


def _requires(field: Mapping[str, Any], dropped: Container[str]) -> bool:
    relation = field.get("relation")
    return bool(relation and relation[0] in dropped and not field["null"] and not field.get("many"))


def _first_action(field: Mapping[str, Any], name: str, models: Models, is_depended: bool, label: str) -> Any:
    relation = field.get("relation")
    if label in NUMBERED or field.get("tree"):
        return KEEP
    if relation:
        return EMPTY if models.get(relation[0]) == DROP and (field["null"] or field.get("many")) else KEEP
    if field["type"] == "GenericIPAddressField":
        return {"mask": "ip"}
    if field.get("email"):
        return {"mask": "email"}
    how = mask_by_name(field, name, label)
    if how:
        return {"mask": how}
    if field["type"] == "SearchVectorField":
        return EMPTY  # all words of other fields; the site computes it again
    if field["type"] == "BinaryField" and is_personal(name):
        return EMPTY
    if is_depended or field.get("choices"):
        return KEEP
    return {"mask": "scrub"} if _has_room(field) else KEEP


def _has_room(field: Mapping[str, Any]) -> bool:
    """Return whether a value of the field may be a sentence."""
    long = field["type"] == "CharField" and not field["pk"] and (field["max_length"] or _LONG) >= _LONG
    long = long and not field.get("url")
    return bool(long or field.get("nested") or field["type"] in ("TextField", "JSONField"))


def unclassified(draft: Mapping[str, Models], policy: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the models and fields of a draft that the policy does not classify."""
    classified = {label.lower(): rules for label, rules in policy.get("models", {}).items()}
    missing = {}
    for label, rules in draft["models"].items():
        existing = classified.get(label)
        if existing is None:
            missing[label] = rules
        elif isinstance(existing, dict) and isinstance(rules, dict):
            new = {name: action for name, action in rules.items() if name not in existing}
            if new:
                missing[label] = new
    return {"models": missing}
