# GNU General Public License v3.0+ (see LICENSE)
"""Describe the end of a migration to people."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

DOCUMENTATION = r"""
name: sauvegarde_migration_text
short_description: Describe a migration whose database is live
description:
  - The lines about the proof, the report and what was live before.
options:
  _input:
    description: What M(sauvegarde_migration) returned.
    type: dict
    required: true
  swap:
    description: What M(sauvegarde_swap) returned.
    type: dict
    required: true
  host:
    description: Name of the target.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the result
  ansible.builtin.debug:
    msg: "{{ migrate_run | sauvegarde_migration_text(migrate_swap, inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def lines(run: Mapping[str, Any], swap: Mapping[str, Any], host: str) -> list[str]:
    """Return the lines about a migration that was swapped in."""
    proof = run["proof"]
    return [
        f"Proven: {proof['rows']} rows of {len(proof['models'])} models, in {run['seconds']} s",
        f"Report: {run['report']} on {host}",
        f"Before: {run['safety'] or 'nothing was live'} (archive), {swap['kept'] or 'nothing'} (kept)",
    ]


def failed_check(run: Mapping[str, Any], message: str) -> str:
    """Return the report of a check of the side database that failed with this message."""
    side = run["side"]
    drop = f"{'rm' if side.startswith('/') else 'dropdb'} {shlex.quote(side)}"
    return (
        f"A check failed; its own words are above. {message}\n"
        f"The live database was not changed. The side database {side} stays,\n"
        f"{'masked' if run['masked'] else 'with personal data as the source has them'}.\n"
        f"Remove it when you have looked at it, as {run['keeper']}: {drop}\n"
        f"The next migration into {run['database']} removes it as well."
    )


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_migration_text": lines, "sauvegarde_failed_check": failed_check}
