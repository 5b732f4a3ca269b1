"""Find the fields that other rows of a site depend on, from the description of its models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .fixture_stream import NUMBERED

Reasons = dict[tuple[str, str], str]  # {(label, field): why other rows depend on it}


def dependence(description: Mapping[str, Mapping[str, Any]]) -> Reasons:
    """Return {(label, field): why other rows depend on the field's value}.

    These fields are part of a natural key by which others refer to the row, the target of a reference that is not the
    primary key, part of a generic reference, or part of a tree. A computed natural key may contain any text of the
    row, so all of them count.
    """
    reasons: Reasons = {}
    for label, model in description.items():
        for name, field in model["fields"].items():
            if field.get("tree"):
                reasons[label, name] = f"it belongs to {field['tree']}"
            elif field.get("reference"):
                reasons.setdefault((label, name), field["reference"])
            relation = field.get("relation")
            if relation and relation[0] not in NUMBERED and relation[0] in description:
                _add_targets(reasons, description, f"{label}.{name}", field)
    return reasons


def _add_targets(
    reasons: Reasons, description: Mapping[str, Mapping[str, Any]], reference: str, field: Mapping[str, Any]
) -> None:
    """Add the fields that a reference depends on: those of its target's natural key, and the one it points to."""
    relation = field["relation"]
    target = description[relation[0]]
    parts = field["natural_key"] if "natural_key" in field else target["natural_key"]
    if parts == []:
        for name, facts in target["fields"].items():
            if facts.get("text") and not facts.get("relation"):
                reasons.setdefault((relation[0], name), f"{reference} refers to its rows by a computed key")
    for label, name in [relation, *(parts or ())]:
        if label in description and (label != relation[0] or name != target["pk"]):
            reasons.setdefault((label, name), f"{reference} refers to its rows by it")
