# GNU General Public License v3.0+ (see LICENSE)
"""Say which memberships and privileges of described roles and databases the inventory does not describe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

DOCUMENTATION = r"""
name: sauvegarde_undescribed
short_description: Say which memberships and privileges are not described
description:
  - Sentences on memberships of described roles, and on privileges on described databases, that the server has and the
    inventory does not describe, or describes no more. Each has the statement that takes it away.
options:
  _input:
    description: The state of the server, as the role C(postgresql) reads it.
    type: dict
    required: true
  roles:
    description: The role's C(postgresql_roles).
    type: list
    elements: dict
    required: true
  databases:
    description: The role's C(postgresql_databases).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what stays although it is described no more
  ansible.builtin.debug:
    msg: "{{ {'memberships': [['lea', 'lecture']]} | sauvegarde_undescribed([{'name': 'lea'}], []) }}"
"""

RETURN = r"""
_value:
  description: The sentences.
  type: list
  elements: str
"""

_ALL = ("CREATE", "CONNECT", "TEMPORARY")
_OF_PUBLIC = ("CONNECT", "TEMPORARY")  # what everybody has on a new database


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _described(database: dict[str, Any]) -> set[tuple[str, str]]:
    """Return (role, privilege) of the described grants, in the server's spelling."""
    grants: set[tuple[str, str]] = set()
    for grant in database.get("grants") or []:
        for word in grant["privileges"]:
            word = {"TEMP": "TEMPORARY", "ALL PRIVILEGES": "ALL"}.get(str(word).upper(), str(word).upper())
            grants.update((grant["role"], each) for each in (_ALL if word == "ALL" else (word,)))
    return grants


def _memberships(state: dict[str, Any], roles: list[dict[str, Any]]) -> Iterator[str]:
    described = {role["name"]: role.get("member_of") or [] for role in roles}
    # From 16 on one membership may have several grantors.
    for role, group in sorted({tuple(each) for each in state.get("memberships") or []}):
        if role in described and group not in described[role]:
            yield (
                f"role {role} is a member of {group}, which its member_of does not list: kept. To end it: REVOKE"
                f" {_quoted(group)} FROM {_quoted(role)}."
            )


def _grants(state: dict[str, Any], databases: list[dict[str, Any]]) -> Iterator[str]:
    for database in databases:
        name = database["name"]
        existing = (state.get("databases") or {}).get(name) or {}
        owners = {existing.get("owner"), database.get("owner", "postgres")}
        described = _described(database)
        more: dict[str, set[str]] = {}
        for role, privilege in existing.get("grants") or []:
            ordinary = role in owners or (role == "PUBLIC" and privilege in _OF_PUBLIC)
            if not ordinary and (role, privilege) not in described:
                more.setdefault(role, set()).add(privilege)
        for role, privileges in sorted(more.items()):
            words, of = ", ".join(sorted(privileges)), role if role == "PUBLIC" else _quoted(role)
            yield (
                f"role {role} has {words} on database {name}, which its grants do not list: kept. To end it: REVOKE"
                f" {words} ON DATABASE {_quoted(name)} FROM {of}."
            )


def undescribed(state: dict[str, Any], roles: list[dict[str, Any]], databases: list[dict[str, Any]]) -> list[str]:
    """Return the sentences."""
    return [*_memberships(state, roles), *_grants(state, databases)]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_undescribed": undescribed}
