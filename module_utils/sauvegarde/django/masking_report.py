"""Write the report of a masked dump that a data-protection officer can file.

It says what happened to each field, how many values and rows that were, what was searched, and who decided. It holds no
value of the site's data, neither an original nor a masked one.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from .policy_actions import DROP, PUBLIC

UNKNOWN = "not stated"
_WORDS = {"keep": "kept", PUBLIC: "kept (no people's data)", "empty": "emptied", DROP: "dropped"}


def render(facts: dict[str, Any], policy: dict[str, Any], about: dict[str, Any]) -> str:
    """Return the report as Markdown. `facts`: "masking" of a dump's result; `policy`: what masked.

    `about`: {"site", "host", "source", "target", "environment", "time", "counts": {label: rows}, "decided": {"by",
    "date", "note"}}; `policy["decided"]` is used if `about` names no person.
    """
    decided = about["decided"] if about["decided"].get("by") else policy.get("decided") or {}
    rows = about["counts"]
    text = [
        "# Report of a masked transfer of data",
        "",
        "| | |",
        "|---|---|",
        _row("Site", "{} on {}".format(about["site"], about["host"])),
        _row("Taken from", about["source"] or "the live site"),
        _row("For", "{} ({})".format(about["target"] or UNKNOWN, about["environment"] or UNKNOWN)),
        _row("Time", about["time"]),
        _row("Policy", "SHA-256 " + fingerprint(policy)),
        _row("Decided by", decided.get("by") or UNKNOWN),
        _row("Decided on", decided.get("date") or UNKNOWN),
    ]
    text += [_row("Note", decided["note"])] if decided.get("note") else []
    return "\n".join(text + _summary(facts, rows) + _search(facts, policy) + _fields(facts, rows)) + "\n"


def fingerprint(policy: dict[str, Any]) -> str:
    """Return the SHA-256 of the policy, whatever the order of its keys; its password is not part of it."""
    plain = {name: value for name, value in policy.items() if name not in ("password", "decided")}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode("utf-8")).hexdigest()


def _summary(facts: dict[str, Any], rows: dict[str, int]) -> list[str]:
    actions = [outcome["action"] for fields in facts["fields"].values() for outcome in fields.values()]
    masked = [action for action in actions if action not in _WORDS]
    removed = facts["removed"]
    return [
        "",
        "## Summary",
        "",
        "- {} rows of {} models left; {} rows of {} models were dropped.".format(
            sum(rows.values()), len(facts["fields"]), sum(facts["dropped"].values()), len(facts["dropped"])
        ),
        "- Fields: {} masked, {} emptied, {} kept, {} of these as no people's data.".format(
            len(masked),
            actions.count("empty"),
            actions.count("keep") + actions.count(PUBLIC),
            actions.count(PUBLIC),
        ),
        "- Taken out of free text: {} e-mail addresses, {} telephones, {} words of names.".format(
            removed.get("email", 0), removed.get("phone", 0), removed.get("name", 0)
        ),
        "- Masked passwords: {}.".format(
            "one for all accounts" if facts["password"] else "nobody can log in with them"
        ),
    ]


def _search(facts: dict[str, Any], policy: dict[str, Any]) -> list[str]:
    search = facts["search"]
    return [
        "",
        "## Search for originals in what left",
        "",
        "- {} originals (as keyed hashes) were searched in {} texts and numbers: 0 found.".format(
            search["originals"], search["texts"]
        ),
        "- Fields whose originals were not searched: {}.".format(", ".join(policy.get("not_searched", ())) or "none"),
        "- Words that are parts of names and stay in texts: {}.".format(len(policy.get("kept_words", ()))),
        "- Not searched are single first names, dates and short numbers outside their own place, and texts of fewer "
        "than four letters.",
    ]


def _fields(facts: dict[str, Any], rows: dict[str, int]) -> list[str]:
    text = ["", "## Models and fields", ""]
    for label, fields in sorted(facts["fields"].items()):
        text += [
            f"### {label} ({rows.get(label, 0)} rows)",
            "",
            "| field | what happened | values, with references to them |",
            "|---|---|---|",
        ]
        for name, outcome in sorted(fields.items()):
            count = "" if outcome["values"] is None else str(outcome["values"])
            text.append(f"| {name} | {_WORDS.get(outcome['action'], outcome['action'])} | {count} |")
        text.append("")
    text += ["### Dropped models", ""]
    text += [f"- {label}: {count} rows" for label, count in sorted(facts["dropped"].items())] or ["- none"]
    return text


def _row(name: str, value: Any) -> str:
    return "| {} | {} |".format(name, str(value).replace("|", "\\|").replace("\n", " "))
