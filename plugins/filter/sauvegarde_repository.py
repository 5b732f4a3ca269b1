# GNU General Public License v3.0+ (see LICENSE)
"""Find a restic repository by its name, and part its secrets from its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: sauvegarde_repository
short_description: Find a restic repository by its name
description:
  - Returns the settings and the secrets of a repository apart, as M(sauvegarde_archive) takes them. Ansible would log a
    secret of several lines inside of a dictionary.
options:
  _input:
    description: The repositories, as C(backup_offsite) has them.
    type: list
    elements: dict
    required: true
  name:
    description: Name of the repository.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the address of a repository
  ansible.builtin.debug:
    msg: "{{ (backup_offsite | sauvegarde_repository('vault')).settings.repository }}"
"""

RETURN = r"""
_value:
  description: C(settings) and C(secrets) of the repository.
  type: dict
"""

SECRETS = ("password", "environment", "ssh_key")


def repository(repositories: Iterable[Mapping[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    """Return {settings, secrets} of the repository. Raises AnsibleFilterError if there is none of that name."""
    by_name = {values["name"]: values for values in repositories}
    if name not in by_name:
        known = ", ".join(by_name) or "none"
        raise AnsibleFilterError(f"backup_offsite has no repository {name}. It has: {known}. Fix: Name one of them.")
    values = by_name[name]
    return {
        "settings": {key: value for key, value in values.items() if key not in SECRETS},
        "secrets": {key: value for key, value in values.items() if key in SECRETS},
    }


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_repository": repository}
