"""Show values before and after their masks, for the person who decides about a policy.

The result holds personal data: it is printed, and stored only if a file (of mode 0600) is requested.
"""

from __future__ import annotations

import secrets
from typing import Any

from .policy_actions import ASK, DROP, PUBLIC
from .site import Site, run


def read(where: Site, policy: dict[str, Any], key: str, count: int = 10) -> dict[str, Any]:
    """Return the result of `mask_examples.preview`. Without a key, a random one shows only what masks do."""
    options = {"policy": policy, "key": key or secrets.token_hex(16), "count": count}
    preview = run(where, "preview", options)
    for label, fields in preview.items():
        rules = _rules(policy, label)
        for name, shown in fields.items() if isinstance(rules, dict) and fields != DROP else ():
            shown["action"] = rules.get(name, shown["action"])  # "public" is "keep" to the masks
    return preview


def lines(preview: dict[str, Any]) -> list[str]:
    """Return the preview as text: one line for each field and for each value."""
    text = []
    for label, fields in sorted(preview.items()):
        if fields == DROP:
            text.append(f"{label}: none of its rows leaves")
            continue
        for name, shown in sorted(fields.items()):
            text.append(f"{label}.{name}: {describe_action(shown['action'])}")
            for before, after in shown["examples"]:
                text.append("    " + _arrow(shown["action"], before, after))
    return text


def _arrow(action: Any, before: str, after: str) -> str:
    if (isinstance(action, dict) and ASK in action) or action == ASK:
        return f"“{before}”  ->  ?"
    return f"“{before}”  as it is" if action in ("keep", PUBLIC) else f"“{before}”  ->  “{after}”"


def describe_action(action: Any) -> str:
    """Return an action in words."""
    if isinstance(action, dict):
        return f"QUESTION: {action[ASK]}" if ASK in action else "mask {}".format(action.get("mask"))
    return "QUESTION" if action == ASK else str(action)


def merged(policy: dict[str, Any], draft: dict[str, Any]) -> dict[str, Any]:
    """Return the policy, completed by the draft for what it does not classify."""
    models = {label.lower(): rules for label, rules in policy.get("models", {}).items()}
    for label, rules in draft["models"].items():
        existing = models.get(label)
        if existing is None:
            models[label] = rules
        elif isinstance(existing, dict) and isinstance(rules, dict):
            models[label] = dict(rules, **existing)
    return dict(policy, models=models)


def _rules(policy: dict[str, Any], label: str) -> Any:
    return next((rules for name, rules in policy.get("models", {}).items() if name.lower() == label), None)
