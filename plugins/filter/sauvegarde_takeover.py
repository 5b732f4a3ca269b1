# GNU General Public License v3.0+ (see LICENSE)
"""List what changes or stops working when the role postgresql takes over a cluster that it did not create."""

from __future__ import annotations

from typing import Any

DOCUMENTATION = r"""
name: sauvegarde_takeover
short_description: List what changes on a cluster that the role did not create
description:
  - Sentences on access rules, passwords, the port, settings of ALTER SYSTEM and attributes of roles, shown before the
    role changes a file.
options:
  _input:
    description: The state of the server, as the role C(postgresql) reads it.
    type: dict
    required: true
  host: {description: Name of the host., type: str, required: true}
  hba: {description: Path of the access rules., type: path, required: true}
  hba_copy: {description: Path of their copy., type: path, required: true}
  foreign: {description: Whether the access rules are others'., type: bool, required: true}
  ended: {description: Sentences of P(sauvegarde_ended_rules#filter)., type: list, elements: str, required: true}
  takes_md5:
    description: Whether rules without a method have C(md5) only for passwords that are stored so.
    type: bool
    required: true
  md5_roles: {description: Roles whose passwords are stored as md5., type: list, elements: str, required: true}
  locked_out: {description: Those of them that described rules refuse., type: list, elements: str, required: true}
  port: {description: Port of the server., type: str, required: true}
  new_port: {description: Described port., type: str, required: true}
  settings: {description: The role's C(postgresql_settings)., type: dict, required: true}
  roles:
    description: The role's C(postgresql_roles); empty on a replica.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what changes
  ansible.builtin.debug:
    msg: >-
      {{ {} | sauvegarde_takeover(host='db', hba='/a', hba_copy='/b', foreign=true, ended=[], takes_md5=false,
          md5_roles=[], locked_out=[], port='5432', new_port='5433', settings={}, roles=[]) }}
"""

RETURN = r"""
_value:
  description: The sentences.
  type: list
  elements: str
"""

_KEEPER = "postgres"


def _passwords(takes_md5: bool, md5_roles: list[str], locked_out: list[str]) -> list[str]:
    """Return sentences on roles whose passwords are stored as md5."""
    sentences = []
    if takes_md5:
        sentences.append(
            "rules without a method have the method md5, which takes md5 and SCRAM passwords, since some are stored as"
            f" md5: {', '.join(sorted(md5_roles))}"
        )
    if locked_out:
        sentences.append(
            "rules with the method scram-sha-256 refuse roles whose passwords are stored as md5:"
            f" {', '.join(sorted(locked_out))}"
        )
    return sentences


def _attributes(state: dict[str, Any], roles: list[dict[str, Any]]) -> list[str]:
    """Return sentences on attributes that roles have and their descriptions do not list."""
    sentences = []
    for role in roles:
        if role["name"] == _KEEPER:
            continue
        described = {attribute.upper() for attribute in role.get("attributes") or []}
        more = set((state.get("role_attributes") or {}).get(role["name"]) or []) - described
        if more:
            outcome = "taken from it." if "attributes" in role else "kept. Give it attributes to say which it has."
            words = ", ".join(sorted(more))
            sentences.append(f"role {role['name']} has {words}, which postgresql_roles does not list: {outcome}")
    return sentences


def takeover(
    state: dict[str, Any],
    host: str,
    hba: str,
    hba_copy: str,
    foreign: bool,
    ended: list[str],
    takes_md5: bool,
    md5_roles: list[str],
    locked_out: list[str],
    port: str,
    new_port: str,
    settings: dict[str, Any],
    roles: list[dict[str, Any]],
) -> list[str]:
    """Return the sentences; see DOCUMENTATION."""
    sentences = []
    if foreign:
        sentences.append(f"{host}: {hba} is replaced by postgresql_hba_entries; {hba_copy} keeps it as it is now.")
        sentences += ended
    sentences += _passwords(takes_md5, md5_roles, locked_out)
    if str(port) != str(new_port):
        sentences.append(
            f"port {port} of {host} becomes {new_port} (postgresql_port) with a restart; clients that name the old one"
            " end."
        )
    altered = state.get("altered") or {}
    sentences += [
        f"{name}: ALTER SYSTEM sets it too (postgresql.auto.conf, line {altered[name.lower()]}), and takes precedence"
        " over postgresql_settings."
        for name in settings
        if name.lower() in altered
    ]
    return sentences + _attributes(state, roles)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_takeover": takeover}
