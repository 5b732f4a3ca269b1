# GNU General Public License v3.0+ (see LICENSE)
"""Find metrics of jobs that the inventory no longer describes."""

from __future__ import annotations

import re
from typing import Any

DOCUMENTATION = r"""
name: sauvegarde_backup_former
short_description: Find metrics of jobs that the inventory no longer describes
description:
  - A link to metrics belongs to the role; a file does only if its job's settings are still on the host.
options:
  _input:
    description: "What is in node_exporter's folder: C(f) or C(l), a space, and the name."
    type: list
    elements: str
    required: true
  jobs:
    description: Names of the jobs that the inventory describes.
    type: list
    elements: str
    required: true
  settings:
    description: Paths of the files below the folder of the jobs' settings.
    type: list
    elements: path
    required: true
  directory: {description: Folder of node_exporter., type: path, required: true}
"""

EXAMPLES = r"""
- name: Show metrics of former jobs
  ansible.builtin.debug:
    msg: "{{ ['l sauvegarde_old.prom'] | sauvegarde_backup_former(jobs=[], settings=[], directory='/srv/metrics') }}"
"""

RETURN = r"""
_value:
  description: Paths of the metrics to remove.
  type: list
  elements: path
"""


def former(lines: list[str], jobs: list[str], settings: list[str], directory: str) -> list[str]:
    """Return the paths of metrics of former jobs, sorted by type and name."""
    names = {match.group(1) for path in settings if (match := re.search(r"/jobs/([^/]+)[.]json$", path))}
    paths = []
    for line in sorted(lines):
        kind, name = line[0], line[2:]
        job = re.sub(r"^sauvegarde_(.*)[.]prom$", r"\1", name)
        if job not in jobs and (kind == "l" or job in names):
            paths.append(f"{directory}/{name}")
    return paths


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_backup_former": former}
