# GNU General Public License v3.0+ (see LICENSE)
"""Render the catalogs of several hosts as one table with its remarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.common.text.formatters import bytes_to_human

DOCUMENTATION = r"""
name: sauvegarde_catalog_text
short_description: Render the catalogs of several hosts as text
description:
  - A line for each archive, then what archives and databases lack. Several hosts may read one repository; each of its
    archives is listed once.
  - The filter C(sauvegarde_catalog_entries) of the same file returns the archives alone, oldest first.
options:
  _input:
    description: C(hostvars), with C(list_catalog) and C(list_kept) of each host.
    type: dict
    required: true
  hosts: {description: Names of the hosts., type: list, elements: str, required: true}
"""

EXAMPLES = r"""
- name: Show the table
  ansible.builtin.debug:
    msg: "{{ hostvars | sauvegarde_catalog_text(ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

_LINE = "{:<12} {:<16} {:<17} {:>9}  {:>10}  {:<8} {:<9} {}"
_VERIFIED = {True: "yes", False: "DAMAGED", None: "-"}

HostVars = Mapping[str, Mapping[str, Any]]
Entry = Mapping[str, Any]


def _result(hostvars: HostVars, host: str, name: str) -> Mapping[str, Any]:
    """Return what a task registered on a host; empty if the host did not answer."""
    return hostvars[host].get(name) or {}


def entries(hostvars: HostVars, hosts: list[str]) -> list[Entry]:
    """Return the archives of all hosts, oldest first, each once."""
    by_path: dict[tuple[str, str], Entry] = {}
    for host in hosts:
        for name in ("list_catalog", "list_kept"):
            for entry in _result(hostvars, host, name).get("archives") or []:
                by_path.setdefault((entry["host"], entry["path"]), entry)
    return sorted(by_path.values(), key=lambda entry: str(entry["id"]))


def _age(archive_id: str, now: datetime) -> str:
    created = datetime.strptime(archive_id, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    hours = (now - created).total_seconds() / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"


def _row(entry: Entry, now: datetime) -> str:
    problem = (entry.get("problem") or "").splitlines()
    source = entry.get("source") or (problem[0] if problem else "")
    where, verified = entry["where"], _VERIFIED[entry.get("verified")]
    age, size = _age(entry["id"], now), bytes_to_human(int(entry["stored_bytes"]))
    return _LINE.format(entry["host"], entry["job"], entry["id"], age, size, where, verified, source).rstrip()


def _remarks(archives: list[Entry]) -> Iterator[str]:
    """Yield what the newest whole archive of each job and database lacks: older ones' may have been put right."""
    newest: dict[tuple[str, str, str], Entry] = {}
    for entry in reversed(archives):
        if entry.get("verified"):
            name = str(entry.get("source") or "").rsplit(" (", 1)[0]
            newest.setdefault((entry["host"], entry["job"], name), entry)
    for entry in newest.values():
        name = f"{entry['host']} {entry['job']} {entry['id']}"
        if entry.get("lacks"):
            yield f"{name}: {' '.join(entry['lacks'])}"
        for warning in entry.get("warnings") or []:
            yield f"{name}: {warning}"
        if entry.get("unproven"):
            yield f"{name}: its fingerprint covers the {entry['proven']}"


def text(hostvars: HostVars, hosts: list[str]) -> list[str]:
    """Return the lines; see DOCUMENTATION."""
    archives, now = entries(hostvars, hosts), datetime.now(UTC)
    lines = [_LINE.format("HOST", "JOB", "ID", "AGE", "SIZE", "WHERE", "VERIFIED", "SOURCE")]
    lines += [_row(entry, now) for entry in archives] or ["There is no archive."]
    for host in hosts:
        for loss in _result(hostvars, host, "list_kept").get("lost") or []:
            objects = ", ".join(loss["objects"])
            lines.append(f"{loss['database']} on {host} was restored without {objects} (run {loss['id']}).")
    lines += _remarks(archives)
    catalogs = {host: _result(hostvars, host, "list_catalog") for host in hosts}
    for host, catalog in catalogs.items():
        for database in catalog.get("databases_without_job") or []:
            lines.append(f"{host}: no job names the database {database['database']} of {database['server']}")
    lines += [f"{host} could not be asked." for host, catalog in catalogs.items() if catalog.get("archives") is None]
    return lines + [problem["what"] for catalog in catalogs.values() for problem in catalog.get("problems") or []]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_catalog_text": text, "sauvegarde_catalog_entries": entries}
