# GNU General Public License v3.0+ (see LICENSE)
"""Find the access rules of others that the described rules do not cover."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

DOCUMENTATION = r"""
name: sauvegarde_ended_rules
short_description: Find access rules that a new pg_hba.conf would end
description:
  - A rule ends if no described rule has its type, its databases, users and address; it changes if the described rule
    asks for something else (a password or not), or lacks one of its options.
options:
  _input:
    description: The lines of the C(pg_hba.conf) that is on the host.
    type: list
    elements: str
    required: true
  entries:
    description: The role's C(postgresql_hba_entries).
    type: list
    elements: dict
    required: true
  method:
    description: The method of rules without one.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what would end
  ansible.builtin.debug:
    msg: "{{ ['host all all 10.0.0.0/8 md5'] | sauvegarde_ended_rules([], 'md5') }}"
"""

RETURN = r"""
_value:
  description: A sentence for each rule.
  type: list
  elements: str
"""

_PASSWORDS = ("md5", "scram-sha-256", "password")
_METHODS = (
    "trust",
    "reject",
    "peer",
    "ident",
    "cert",
    "ldap",
    "radius",
    "pam",
    "gss",
    "sspi",
    "bsd",
    "oauth",
    *_PASSWORDS,
)
# The rules that the role itself writes before the described ones.
_OWN = {"type": "local", "database": "all", "user": "postgres", "method": "peer"}


def _as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _covers_names(described: list[str], names: str, word: str = "") -> bool:
    """Return whether described names cover those of a rule; `word` is a name that `all` does not cover."""
    return set(names.split(",")) <= set(described) or ("all" in described and names != word)


def _covers_address(described: str, address: str) -> bool:
    if described in (address, "all"):
        return True
    if described == "0.0.0.0/0":
        return re.match(r"[0-9./]+$", address) is not None
    return described == "::/0" and ":" in address


def _covers(entry: dict[str, Any], words: list[str]) -> bool:
    """Return whether a described rule covers the rule with these words."""
    kind = words[0]
    if kind != entry["type"] and not (kind.startswith("host") and entry["type"] == "host"):
        return False
    names = _covers_names(_as_list(entry["database"]), words[1], "replication")
    names = names and _covers_names(_as_list(entry["user"]), words[2])
    return names and (entry["type"] == "local" or _covers_address(entry.get("address") or "", words[3]))


def _sentence(words: list[str], described: Iterable[dict[str, Any]], default_method: str) -> str:
    """Return what becomes of the rule with these words; empty if nothing changes."""
    rule = " ".join(words)
    entry = next((each for each in described if _covers(each, words)), None)
    if entry is None:
        return f"would end: {rule}"
    method = next((word for word in words[3:] if word in _METHODS), "")
    new_method = entry.get("method") or default_method
    if new_method != method and not (new_method in _PASSWORDS and method in _PASSWORDS):
        return f"would be asked for {new_method}: {rule}"
    options = (entry.get("options") or "").replace('"', "").split()
    lost = [word for word in dict.fromkeys(words[words.index(method) + 1 :]) if word not in options]
    return f"would lose {' '.join(lost)}: {rule}" if lost else ""


def ended_rules(lines: list[str], entries: list[dict[str, Any]], method: str) -> list[str]:
    """Return a sentence for each rule that would end or change."""
    described = [_OWN, *entries]
    sentences = []
    for line in map(str.strip, lines):
        if line and not line.startswith("#"):
            words = re.sub(r"\s#.*$", "", line).replace('"', "").split()
            sentences.append(_sentence(words, described, method))
    return [sentence for sentence in sentences if sentence]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_ended_rules": ended_rules}
