# GNU General Public License v3.0+ (see LICENSE)
"""Decide whether an archive with personal data may be brought to a host."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from sauvegarde.restore.host_environment import host_environment, may_have_personal_data

DOCUMENTATION = r"""
name: sauvegarde_personal_data
short_description: Say why an archive with personal data must not be brought to hosts
description:
  - A restore masks nothing. Hosts of production and of its repository may have its data, and so may hosts of no stated
    environment; another host may have only what comes from such a host.
options:
  _input:
    description: C(hostvars).
    type: dict
    required: true
  targets:
    description: The hosts that the archive is brought to.
    type: list
    elements: str
    required: true
  origin:
    description: The host that the archive comes from, an empty text if nothing says it.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show why the host must not have the archive
  ansible.builtin.debug:
    msg: "{{ hostvars | sauvegarde_personal_data(['dev'], 'db-prod') }}"
"""

RETURN = r"""
_value:
  description: What is refused, why, and what to do; an empty text if the hosts may have it.
  type: str
"""


def _environment(hostvars: Mapping[str, Any], host: str) -> str:
    if host not in hostvars:  # get() would return an undefined value of Ansible
        return ""
    variables = hostvars[host]
    return host_environment(
        str(variables.get("sauvegarde_environment", "") or ""), list(variables.get("group_names", ()))
    )


def refusal(hostvars: Mapping[str, Any], targets: Iterable[str], origin: str) -> str:
    """Return why the targets must not have the archive; '' if they may."""
    environments = {target: _environment(hostvars, target) for target in targets}
    others = sorted({name for name in environments.values() if not may_have_personal_data(name)})
    if not others or (origin and not may_have_personal_data(_environment(hostvars, origin))):
        return ""
    source = f"comes from {origin}, which is not" if origin else "may come from production"
    return (
        f"The target {','.join(environments)} is {', '.join(others)}, not production, and the archive {source}."
        " A restore masks nothing: personal data would leave production. Fix: move the data masked"
        " (playbooks/migrate.yml), or say -e \"restore_personal_data='unmasked'\"."
    )


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_personal_data": refusal}
