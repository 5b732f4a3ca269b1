# GNU General Public License v3.0+ (see LICENSE)
"""List single facts of described roles and databases, without what is secret."""

from __future__ import annotations

from typing import Any

DOCUMENTATION = r"""
name: sauvegarde_described
short_description: List the memberships and settings of described roles and databases
description:
  - A task with a loop prints each item whole with C(-v), and a described role holds a password. These lists do not.
options:
  _input:
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
- name: Show who is a member of what
  ansible.builtin.debug:
    msg: "{{ (postgresql_roles | sauvegarde_described(postgresql_databases)).memberships }}"
"""

RETURN = r"""
_value:
  description: The lists.
  type: dict
  contains:
    memberships: {description: Role and group., type: list, elements: list}
    settings: {description: "DATABASE or ROLE, its name, the setting, its value.", type: list, elements: list}
"""


def described(roles: list[dict[str, Any]], databases: list[dict[str, Any]]) -> dict[str, list[list[Any]]]:
    """Return the lists; see RETURN."""
    owners = [("DATABASE", each) for each in databases] + [("ROLE", each) for each in roles]
    return {
        "memberships": [[role["name"], group] for role in roles for group in role.get("member_of") or []],
        "settings": [
            [kind, owner["name"], key, value]
            for kind, owner in owners
            for key, value in (owner.get("settings") or {}).items()
        ],
    }


def passwords_of(roles: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return name and password of each role. A password that has digits only is a number to YAML."""
    return [{"name": role["name"], "password": str(role["password"])} for role in roles]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_described": described, "sauvegarde_passwords_of": passwords_of}
