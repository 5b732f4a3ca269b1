# GNU General Public License v3.0+ (see LICENSE)
"""Compare what was decided when a cluster and its databases were created with what the inventory describes."""

from __future__ import annotations

from typing import Any

from ansible.plugins.loader import filter_loader

DOCUMENTATION = r"""
name: sauvegarde_decided
short_description: Compare what cannot be changed on an existing cluster
description:
  - Data checksums, data directory, encodings and locales are decided when a cluster or a database is created.
options:
  _input:
    description: The state of the server, as the role C(postgresql) reads it; empty where there is no server yet.
    type: dict
    required: true
  cluster: {description: Name of the cluster., type: str, required: true}
  checksums: {description: Whether data checksums are described., type: bool, required: true}
  enabling: {description: How to change them; empty where the server cannot., type: str, required: true}
  data: {description: Described data directory., type: path, required: true}
  encoding: {description: Described encoding of the cluster., type: str, required: true}
  locale: {description: Described locale of the cluster., type: str, required: true}
  databases: {description: The role's C(postgresql_databases)., type: list, elements: dict, required: true}
"""

EXAMPLES = r"""
- name: Show what differs
  ansible.builtin.debug:
    msg: >-
      {{ {} | sauvegarde_decided(cluster='main', checksums=true, enabling='', data='/srv', encoding='UTF8',
          locale='C.UTF-8', databases=[]) }}
"""

RETURN = r"""
_value:
  description: The comparisons.
  type: list
  elements: dict
  contains:
    variable: {description: Name of the variable or key., type: str}
    of: {description: "What it describes: a cluster or a database.", type: str}
    described: {description: The described value., type: raw}
    actual: {description: The server's value., type: raw}
    otherwise: {description: How to change it where that is possible., type: str}
"""


def _comparison(variable: str, of: str, described: object, actual: object) -> dict[str, Any]:
    return {"variable": variable, "of": of, "described": described, "actual": actual}


def _properties(of: str, prefix: str, encoding: str, locale: str, actual: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare encoding and locale. Locale names come in several spellings: fr_FR.UTF-8 and fr_FR.utf8."""
    spelling = filter_loader.get("sauvegarde_locale").j2_function
    same_locale = spelling(locale) == spelling(actual["locale"])
    return [
        _comparison(f"{prefix}encoding", of, str(encoding).upper().replace("-", ""), actual["encoding"]),
        _comparison(f"{prefix}locale", of, actual["locale"] if same_locale else locale, actual["locale"]),
    ]


def decided(
    state: dict[str, Any],
    cluster: str,
    checksums: bool,
    enabling: str,
    data: str,
    encoding: str,
    locale: str,
    databases: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return the comparisons; see RETURN."""
    if not state:
        return []
    of = f"cluster {cluster}"
    checksum_row = _comparison("postgresql_data_checksums", of, checksums, state["data_checksums"])
    rows = [{**checksum_row, "otherwise": enabling} if enabling else checksum_row]
    rows.append(_comparison("postgresql_data_directory", of, data, state["data_directory"]))
    rows += _properties(of, "postgresql_", encoding, locale, state["databases"]["template1"])
    for database in databases:
        actual = state["databases"].get(database["name"])
        if actual:
            described = database.get("encoding", encoding), database.get("locale", locale)
            rows += _properties(f"database {database['name']}", "", *described, actual)
    return rows


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_decided": decided}
