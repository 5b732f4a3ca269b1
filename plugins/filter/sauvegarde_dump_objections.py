# GNU General Public License v3.0+ (see LICENSE)
"""Find what is wrong in a job's description of the part of a database that it dumps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from sauvegarde.backup import refused_options
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import dump_selection

DOCUMENTATION = r"""
name: sauvegarde_dump_objections
short_description: Find what is wrong in a job's description of what it dumps
description:
  - A sentence for each of pg_dump's own options, with the key that does the same, for a pattern that pg_dump would not
    take, and for patterns in a job of another kind. Whether a pattern matches anything is known only when the job runs.
options:
  _input:
    description: A job of C(backup_jobs).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ {'name': 'a', 'kind': 'pg_dump', 'options': ['--schema=app']} | sauvegarde_dump_objections }}"
"""

RETURN = r"""
_value:
  description: The sentences.
  type: list
  elements: str
"""


def objections(job: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each mistake; an empty list for a valid job."""
    keys = [key for key in (*dump_selection.KEYS, "options") if job.get(key)]
    if job.get("kind") != "pg_dump":
        return [f"{key} is for jobs of the kind pg_dump. Remove it." for key in keys]
    sentences = refused_options.objections(job.get("options"))
    try:
        dump_selection.Selection.from_values(job)
    except SauvegardeError as error:
        sentences.append(" ".join(filter(None, (error.what, error.why, error.fix))))
    return sentences


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_dump_objections": objections}
