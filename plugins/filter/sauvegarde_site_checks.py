# GNU General Public License v3.0+ (see LICENSE)
"""Complete the site's own checks of a side database with its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: sauvegarde_site_checks
short_description: Complete the site's own checks of a side database
description:
  - Replaces C({database}) in the words and the environment of each command by the name of the side database.
options:
  _input:
    description: The commands, as C(restore_checks) has them, or lists of words, as C(migrate_checks) has them.
    type: list
    elements: raw
    required: true
  side:
    description: Name of the side database.
    type: str
    required: true
  user:
    description: OS user of commands that name none.
    type: str
    default: root
"""

EXAMPLES = r"""
- name: Show the commands
  ansible.builtin.debug:
    msg: "{{ restore_checks | sauvegarde_site_checks('shop__restore_20261124T030000Z', 'postgres') }}"
"""

RETURN = r"""
_value:
  description: The commands, each with C(argv), C(chdir), C(environment) and C(user).
  type: list
  elements: dict
"""


def site_checks(checks: Iterable[Any], side: str, user: str = "root") -> list[dict[str, Any]]:
    """Return the commands."""

    def filled(text: object) -> str:
        return str(text).replace("{database}", side)

    commands = []
    for check in checks:
        values: Mapping[str, Any] = check if isinstance(check, Mapping) else {"argv": check}
        environment = {key: filled(value) for key, value in (values.get("environment") or {}).items()}
        command = {"argv": [filled(word) for word in values["argv"]], "environment": environment}
        commands.append({**command, "chdir": values.get("chdir", "/"), "user": values.get("user", user)})
    return commands


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_site_checks": site_checks}
