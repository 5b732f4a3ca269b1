# GNU General Public License v3.0+ (see LICENSE)
"""Name the parts of a file that was split, as the engine finds them on a target."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from sauvegarde.errors import SauvegardeError
from sauvegarde.restore.dump import split_files

DOCUMENTATION = r"""
name: sauvegarde_parts
short_description: Name the parts of a file that was split
description:
  - The paths of all parts of a file on the controller that C(split) and the like made, in their order. A file that was
    not split, a folder, and what is not there, are returned as they are.
options:
  _input:
    description: Path of the first part, or of the file as it was called before.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what would be carried
  ansible.builtin.debug:
    msg: "{{ '/srv/old.dump.aa' | sauvegarde_parts }}"
"""

RETURN = r"""
_value:
  description: The paths.
  type: list
  elements: str
"""


def parts(path: str) -> list[str]:
    """Return the paths; refuse a later part, and a series with a gap."""
    if Path(path).is_dir():
        return [str(path)]
    try:
        paths, _ = split_files.parts(Path(path))
    except SauvegardeError as error:
        raise AnsibleFilterError(" ".join(filter(None, (error.what, error.why, error.fix)))) from error
    return [str(part) for part in paths] or [str(path)]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_parts": parts}
