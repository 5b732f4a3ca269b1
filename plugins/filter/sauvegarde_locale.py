# GNU General Public License v3.0+ (see LICENSE)
"""Compare names of locales whatever their spelling."""

from __future__ import annotations

import re
from typing import Any

DOCUMENTATION = r"""
  name: sauvegarde_locale
  author: Sauvegarde
  short_description: One spelling for all names of a locale
  description: >-
    Returns the name with its codeset as C(locale -a) writes it: C(fr_FR.ISO-8859-1) and C(fr_FR.iso88591) become
    C(fr_FR.iso88591). The filter C(sauvegarde_supported_locale) finds the name that C(locale-gen) has for a locale.
  options:
    _input: {description: Name of a locale., type: str, required: true}
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ 'fr_FR.ISO-8859-1' | sauvegarde_locale }}"
"""

RETURN = r"""
  _value: {description: The name in its one spelling., type: str}
"""


def locale(name: object) -> str:
    """Return the name with its codeset as `locale -a` writes it."""
    place, dot, rest = str(name).partition(".")
    if not dot:
        return place
    codeset, at, modifier = rest.partition("@")
    return f"{place}.{re.sub('[^a-z0-9]', '', codeset.lower())}{at}{modifier}"


def supported_locale(name: str, lines: list[str]) -> str:
    """Return the first word of the line of /usr/share/i18n/SUPPORTED that is the locale's, or '' where none is.

    A line names a locale and its codeset: `fr_FR ISO-8859-1` is fr_FR, and fr_FR.ISO-8859-1, too.
    """
    for line in lines:
        words = line.split()
        if len(words) != 2 or line.startswith("#"):
            continue
        place, _, modifier = words[0].partition("@")
        spelt = f"{place.partition('.')[0]}.{words[1]}" + (f"@{modifier}" if modifier else "")
        if name == words[0] or locale(name) == locale(spelt):
            return words[0]
    return ""


def unsupported_locales(names: list[str], lines: list[str]) -> list[str]:
    """Return the names for which /usr/share/i18n/SUPPORTED has no line."""
    return [name for name in names if not supported_locale(name, lines)]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "sauvegarde_locale": locale,
            "sauvegarde_supported_locale": supported_locale,
            "sauvegarde_unsupported_locales": unsupported_locales,
        }
