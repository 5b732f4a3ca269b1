# GNU General Public License v3.0+ (see LICENSE)
"""Collect the retention of each job of the hosts whose repositories a host cleans up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.loader import filter_loader

DOCUMENTATION = r"""
name: sauvegarde_backup_policies
short_description: Collect the retention of the jobs of several hosts
description:
  - For each host that C(backup_forget) names, the retention of each of its jobs, from that host's own variables.
options:
  _input:
    description: C(hostvars).
    type: dict
    required: true
  forget: {description: The role's C(backup_forget)., type: list, elements: dict, required: true}
  retention: {description: Retention where neither the job nor its host has any., type: dict, required: true}
  role_path: {description: Folder of the role., type: path, required: true}
"""

EXAMPLES = r"""
- name: Show who keeps what
  ansible.builtin.debug:
    msg: "{{ hostvars | sauvegarde_backup_policies(backup_forget, backup_retention, role_path) }}"
"""

RETURN = r"""
_value:
  description: The policies.
  type: list
  elements: dict
  contains:
    host: {description: Name of the host., type: str}
    job: {description: Name of the job., type: str}
    retention: {description: What is kept., type: dict}
"""


def policies(
    hostvars: Mapping[str, Mapping[str, Any]], forget: list[dict[str, Any]], retention: dict[str, Any], role_path: str
) -> list[dict[str, Any]]:
    """Return host, job and retention of each job, each host once."""
    typed = filter_loader.get("sauvegarde_typed").j2_function
    result = []
    for host in dict.fromkeys(host for repository in forget for host in repository["hosts"]):
        variables = hostvars[host]
        of_host = typed(variables.get("backup_retention", retention), "backup_retention", role_path)
        for job in typed(variables.get("backup_jobs", []), "backup_jobs", role_path):
            result.append({"host": host, "job": job["name"], "retention": job.get("retention", of_host)})
    return result


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_backup_policies": policies}
