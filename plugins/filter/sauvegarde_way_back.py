# GNU General Public License v3.0+ (see LICENSE)
"""Write the command line that puts the database back that was live before a swap."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from sauvegarde.restore.request import DIRECTORY

DOCUMENTATION = r"""
name: sauvegarde_way_back
short_description: Write the command line of a rollback
description:
  - The line to type to put the database back that was live before a swap.
options:
  _input:
    description: Options of C(playbooks/rollback.yml). Empty ones and the default of C(restore_directory) are omitted.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the way back
  ansible.builtin.debug:
    msg: "{{ {'restore_target': 'db', 'restore_database': 'a', 'restore_confirm': 'a@db'} | sauvegarde_way_back }}"
"""

RETURN = r"""
_value:
  description: The line.
  type: str
"""

_PLAIN = re.compile(r"[\w@.,:/+-]+\Z", re.ASCII)
_SPACED = re.compile(r"[\w@.,:/+ -]+\Z", re.ASCII)


def _words(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if not value or (name, value) == ("restore_directory", DIRECTORY):
            continue
        text = str(value)
        if isinstance(value, str) and _PLAIN.match(text):
            yield f"-e {name}={text}"
        elif isinstance(value, str) and _SPACED.match(text):
            yield f"-e \"{name}='{text}'\""
        else:
            yield f"-e {shlex.quote(json.dumps({name: value}, ensure_ascii=False))}"


def way_back(options: Mapping[str, Any]) -> str:
    """Return the line that the options of a rollback make."""
    return " ".join(["Back:   ansible-playbook playbooks/rollback.yml", *_words(options)])


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_way_back": way_back}
