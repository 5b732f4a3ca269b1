# GNU General Public License v3.0+ (see LICENSE)
"""Give the values of a role's variable the types that its argument_specs have."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.validation import check_type_bool, check_type_int

DOCUMENTATION = r"""
name: sauvegarde_typed
short_description: Give values the types that a role's argument_specs have
description:
  - Ansible checks a role's variables against its argument_specs, and leaves them as they are. "yes" and "no" of an
    extra variable or a template are then texts, which are both true.
  - Booleans and integers are converted, to the last key of nested lists. All else stays as it is.
options:
  _input:
    description: Value of the variable.
    type: raw
    required: true
  variable:
    description: Its name.
    type: str
    required: true
  role_path:
    description: Folder of the role.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Show whether the first job may fail
  ansible.builtin.debug:
    msg: "{{ (backup_jobs | sauvegarde_typed('backup_jobs', role_path) | first).allow_failure | default(false) }}"
"""

RETURN = r"""
_value:
  description: The value with its types.
  type: raw
"""

_CONVERTERS = {"bool": check_type_bool, "int": check_type_int}


@functools.cache
def _options(role_path: str) -> dict[str, Any]:
    """Return the options of a role's argument specs."""
    specs = yaml.safe_load((Path(role_path) / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    options: dict[str, Any] = specs["argument_specs"]["main"]["options"]
    return options


def _typed(value: Any, option: dict[str, Any]) -> Any:
    """Return a value with the types of an option."""
    if value is None:
        return None
    if isinstance(value, dict) and option.get("options"):
        options = option["options"]
        return {key: _typed(each, options[key]) if key in options else each for key, each in value.items()}
    if isinstance(value, (list, tuple)) and option.get("options"):
        return [_typed(each, option) for each in value]
    convert = _CONVERTERS.get(option.get("type", ""))
    return convert(value) if convert else value


def typed(value: Any, variable: str, role_path: str) -> Any:
    """Return a variable's value with its booleans and integers. Raises AnsibleFilterError for what is neither."""
    try:
        return _typed(value, _options(str(role_path))[variable])
    except TypeError as error:
        raise AnsibleFilterError(f"{variable}: {error}") from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_typed": typed}
