# GNU General Public License v3.0+ (see LICENSE)
"""Name the environment of a host, by the engine's own rule."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from sauvegarde.restore.host_environment import host_environment

DOCUMENTATION = r"""
name: sauvegarde_environment
short_description: Name the environment of a host
description:
  - The host's variable C(sauvegarde_environment). Without it, the first of the groups C(production), C(repository) and
    C(development) that the host is a member of; an empty text if it is a member of none.
options:
  _input:
    description: The variables of the host, as C(hostvars[host]) has them.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show whether this host is production
  ansible.builtin.debug:
    msg: "{{ hostvars[inventory_hostname] | sauvegarde_environment == 'production' }}"
"""

RETURN = r"""
_value:
  description: The environment, an empty text if nothing says it.
  type: str
"""


def environment(variables: Mapping[str, Any]) -> str:
    """Return the environment of the host whose variables these are."""
    stated = variables.get("sauvegarde_environment", "")
    return host_environment(str(stated or ""), list(variables.get("group_names", ())))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., str]]:
        return {"sauvegarde_environment": environment}
