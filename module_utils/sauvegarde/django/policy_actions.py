"""Name the actions of a masking policy, and check what a single field allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import SauvegardeError
from .field_masks import MASKS

KEEP, EMPTY, DROP = "keep", "empty", "drop"
# As keep, for values that are not personal: originals of other fields are not searched in them when data leave.
PUBLIC = "public"
# A question that a draft leaves to a person: "ask", or {"ask": "the reason"}.
ASK = "ask"

# The models of a site, as `model_description.description` returns them: JSON from the worker.
Description = Mapping[str, Mapping[str, Any]]
# {label: "drop" or {field: action}}, as a policy has them. An action is one of the words above or {"mask": HOW}.
Models = Mapping[str, Any]


def is_mask(action: Any) -> bool:
    """Return whether the action is {"mask": one of `MASKS`}."""
    return isinstance(action, dict) and list(action) == ["mask"] and action["mask"] in MASKS


def is_question(action: Any) -> bool:
    """Return whether a draft has left the decision to a person."""
    return bool(action == ASK or (isinstance(action, dict) and list(action) == [ASK]))


def tree_problem(field: Mapping[str, Any]) -> str:
    """Return why a field of a tree must be kept."""
    return f"it belongs to {field['tree']}, which breaks when a value changes: keep it"


def mask_problem(field: Mapping[str, Any], how: str, dependence: str) -> str:
    """Return why the field cannot have the mask, "" if it can. `dependence`: why other rows depend on it, or ""."""
    if field.get("tree"):
        return tree_problem(field)
    if how == "scrub" and dependence:
        return f"it cannot be scrubbed: {dependence}. Keep it, or give it a mask of its own kind"
    return "a relation cannot be masked: mask what it points to" if field.get("relation") else ""


def masks_any(models: Models, description: Description, label: str) -> bool:
    """Return whether anything of the model's objects, or of what they point to, is masked. `models`: the policy's."""
    return _masks_any(models, description, label, set())


def _masks_any(models: Models, description: Description, label: str, seen: set[str]) -> bool:
    rules = models.get(label)
    if label in seen or label not in description or not isinstance(rules, dict):
        return False
    seen.add(label)
    if any(action not in (KEEP, PUBLIC) for action in rules.values()):
        return True
    targets = [field["relation"][0] for field in description[label]["fields"].values() if field["relation"]]
    return any(_masks_any(models, description, target, seen) for target in targets)


def parse_key(text: str, source: str = "migrate_key") -> bytes:
    """Return the masking key of its hexadecimal digits. `source`: the setting that holds them, for the error."""
    try:
        return require_long_key(bytes.fromhex(text))
    except ValueError as error:
        raise SauvegardeError(
            "The key of the masking is not hexadecimal.", fix=f"Give {source} 32 hexadecimal digits or more."
        ) from error


def require_long_key(key: bytes) -> bytes:
    """Return the key; SauvegardeError if it has fewer than 16 bytes."""
    if len(key) < 16:
        raise SauvegardeError(
            "The key of the masking is too short.", f"It has {len(key)} bytes.", "Give it 16 bytes or more."
        )
    return key
