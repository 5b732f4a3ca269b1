# GNU General Public License v3.0+ (see LICENSE)
"""Leave out settings of PostgreSQL that another line sets to the same value in another spelling."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

DOCUMENTATION = r"""
name: sauvegarde_overridden
short_description: Leave out settings that another line sets to the same value
description:
  - PostgreSQL takes C(64MB) and C(65536kB), or C(on) and C(true), for the same value. Of a list of overridden settings
    only those stay whose two values differ for the server.
options:
  _input:
    description: Settings, each with C(ours), C(theirs), and C(vartype) and C(unit) of C(pg_settings).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show which settings are not in force
  ansible.builtin.debug:
    msg: "{{ [{'name': 'work_mem', 'ours': '64MB', 'theirs': '65536kB', 'vartype': 'integer', 'unit': 'kB'}]
             | sauvegarde_overridden }}"
"""

RETURN = r"""
_value:
  description: The settings whose values differ.
  type: list
  elements: dict
"""

_UNITS = {
    "B": 1,
    "kB": 1024,
    "MB": 1024**2,
    "GB": 1024**3,
    "TB": 1024**4,
    "us": 1,
    "ms": 1000,
    "s": 10**6,
    "min": 60 * 10**6,
    "h": 3600 * 10**6,
    "d": 86400 * 10**6,
}
_NUMBER = re.compile(r"\s*([-+]?(?:0|[1-9][0-9]*)(?:[.][0-9]+)?)\s*([A-Za-z]*)\s*")
_BOOLEANS = {"on": ("true", "yes", "on", "1"), "off": ("false", "no", "off", "0")}


def _boolean(word: str, shortened: bool) -> str | None:
    """Return "on" or "off", also from the beginning of a word where the server takes that; None for what is neither."""
    for meaning, words in _BOOLEANS.items():
        # Of "on" and "off" the first letter alone could be both.
        if word in words or (shortened and word not in ("", "o") and any(each.startswith(word) for each in words)):
            return meaning
    return None


def _number(text: str, unit: str | None, whole: bool) -> Fraction | int | None:
    """Return the number in the setting's own unit ("8kB", "ms", None); None for what is no number with such a unit."""
    match = _NUMBER.fullmatch(text)
    if not match:
        return None
    base = (unit or "").lstrip("0123456789")
    count = (unit or "").removesuffix(base)
    number, suffix = Fraction(match[1]), match[2]
    if suffix:
        if suffix not in _UNITS or base not in _UNITS:
            return None
        number = number * _UNITS[suffix] / (_UNITS[base] * int(count or 1))
    return round(number) if whole else number


def _meaning(value: object, vartype: str | None, unit: str | None) -> object:
    """Return what a setting's value means to the server."""
    text = str(value)
    meaning: object = None
    if vartype in ("integer", "real"):
        meaning = _number(text, unit, vartype == "integer")
    elif vartype in ("bool", "enum"):
        meaning = _boolean(text.strip().lower(), vartype == "bool")
    return text.lower() if meaning is None else meaning


def overridden(settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the settings whose two values mean different things to the server."""
    return [
        each
        for each in settings
        if _meaning(each["ours"], each.get("vartype"), each.get("unit"))
        != _meaning(each["theirs"], each.get("vartype"), each.get("unit"))
    ]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_overridden": overridden}
