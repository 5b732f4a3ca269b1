# GNU General Public License v3.0+ (see LICENSE)
"""Find accounts whose home and shell an earlier version of the role backup may have changed."""

from __future__ import annotations

from typing import Any

DOCUMENTATION = r"""
name: sauvegarde_backup_moved
short_description: Find accounts that an earlier version of the role may have changed
description:
  - Earlier versions changed the home and the shell of accounts that existed already. Accounts that the role created
    have the same home and shell, but are system accounts without a comment.
options:
  _input:
    description: The results of C(ansible.builtin.getent), one for each account.
    type: list
    elements: dict
    required: true
  home: {description: The home that earlier versions gave., type: path, required: true}
"""

EXAMPLES = r"""
- name: Show accounts that may have been changed
  ansible.builtin.debug:
    msg: "{{ accounts.results | sauvegarde_backup_moved('/var/lib/sauvegarde') }}"
"""

RETURN = r"""
_value:
  description: Names of the accounts.
  type: list
  elements: str
"""


def moved(results: list[dict[str, Any]], home: str) -> list[str]:
    """Return the names of the accounts."""
    names = []
    for result in results:
        for name, entry in ((result.get("ansible_facts") or {}).get("getent_passwd") or {}).items():
            if not entry or name == "sauvegarde":
                continue
            is_own = 100 <= int(entry[1]) < 1000 and not entry[3]
            if entry[4] == home and entry[5] == "/usr/sbin/nologin" and not is_own:
                names.append(name)
    return names


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_backup_moved": moved}
