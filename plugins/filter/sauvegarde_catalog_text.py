# GNU General Public License v3.0+ (see LICENSE)
"""Render the catalogs of several hosts as one table with its remarks."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# The engine, as modules get it.
sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from sauvegarde.archive import damage_record
from sauvegarde.report.render import size

DOCUMENTATION = r"""
name: sauvegarde_catalog_text
short_description: Render the catalogs of several hosts as text
description:
  - A line for each archive, the jobs that need attention first; then the databases that restores left, and what
    archives and databases lack. Several hosts may read one repository; each of its archives is listed once.
  - C(STATE) is C(DAMAGED) where the archive cannot be read, or where a read on any host found it damaged.
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

_PREVIOUS = {"before": "previous", "restore": "waits for its swap", "beside": "restored beside"}
_NOT_READ = "{} could not be asked."

HostVars = Mapping[str, Mapping[str, Any]]
Entry = Mapping[str, Any]


def _result(hostvars: HostVars, host: str, name: str) -> Mapping[str, Any]:
    """Return what a task registered on a host; empty if the host did not answer."""
    return hostvars[host].get(name) or {}


def entries(hostvars: HostVars, hosts: list[str]) -> list[Entry]:
    """Return the archives of all hosts, oldest first, each once; damaged if a read on any host found it damaged."""
    own: dict[tuple[str, str], Entry] = {}
    others: dict[tuple[str, str], Entry] = {}
    records: list[Mapping[str, Any]] = []
    for host in hosts:
        records += _result(hostvars, host, "list_catalog").get("damaged") or []
        for name in ("list_catalog", "list_kept"):
            for entry in _result(hostvars, host, name).get("archives") or []:
                # A repository's own host has another name for it than the host whose archives it keeps.
                by_path = own if entry["host"] == host else others
                by_path.setdefault((entry["host"], entry["path"]), entry)
    marked = damage_record.mark(
        {**others, **own}.values(), [damage_record.DamageRecord(**record) for record in records]
    )
    return sorted(marked, key=lambda entry: str(entry["id"]))


def _hours(archive_id: str, now: datetime) -> float:
    created = datetime.strptime(archive_id, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return (now - created).total_seconds() / 3600


def age(archive_id: str, now: datetime) -> str:
    """Return how old an archive is, by its id."""
    hours = _hours(archive_id, now)
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"


def source_name(entry: Entry) -> str:
    """Return what an archive holds, without its version: a database, a path, a folder; empty where that is unknown."""
    return str(entry.get("source") or "").rsplit(" (", 1)[0]


def contents(entry: Entry) -> str:
    """Return what an archive holds, for people: the globals of a cluster are its roles."""
    source = str(entry.get("source") or entry.get("kind") or "")
    return source.replace("cluster", "roles of the server", 1) if entry.get("kind") == "globals" else source


def worst_first(archives: list[Entry]) -> list[Entry]:
    """Return archives with the jobs that need attention first: newest archive damaged, then the oldest newest archive.

    The archives of a job, and of a database if the job backs up several, stay together, the newest first.
    """
    jobs: dict[tuple[str, str, str], list[Entry]] = {}
    ordered = sorted(archives, key=lambda entry: (str(entry["id"]), str(entry["where"])), reverse=True)
    # A damaged archive may not know its database.
    only = {(entry["host"], entry["job"]): source_name(entry) for entry in reversed(ordered) if source_name(entry)}
    for entry in ordered:
        place = (entry["host"], entry["job"])
        jobs.setdefault((*place, source_name(entry) or only.get(place, "")), []).append(entry)

    def rank(name: tuple[str, str, str]) -> tuple[bool, str, tuple[str, str, str]]:
        newest = jobs[name][0]["id"]
        is_damaged = any(entry["verified"] is False for entry in jobs[name] if entry["id"] == newest)
        good = max((str(entry["id"]) for entry in jobs[name] if entry["verified"]), default="")
        return not is_damaged, good, name

    return [entry for name in sorted(jobs, key=rank) for entry in jobs[name]]


def table(rows: Sequence[tuple[str, ...]], right: tuple[int, ...]) -> list[str]:
    """Return rows as aligned lines; `right`: columns that are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _row(entry: Entry, now: datetime) -> tuple[str, ...]:
    problem = (entry.get("problem") or "").splitlines()
    text = contents(entry)
    if not entry.get("verified"):
        text = " ".join(filter(None, [text, problem[0] if problem else ""]))
    where = "its own host" if entry["where"] == "local" else entry["where"]
    state = "good" if entry.get("verified") else "DAMAGED"
    restored = size(int(entry["bytes"])) if entry.get("bytes") else ""
    stored, old = size(int(entry["stored_bytes"])), age(entry["id"], now)
    return (entry["host"], entry["job"], entry["id"], old, stored, restored, where, state, text)


def _of_archives(archives: list[Entry], now: datetime) -> list[str]:
    if not archives:
        return ["There is no archive."]
    head = ("HOST", "JOB", "ARCHIVE", "AGE", "STORED", "UNPACKED", "PLACE", "STATE", "CONTENTS")
    return table([head, *(_row(entry, now) for entry in worst_first(archives))], right=(3, 4, 5))


def _of_databases(databases: list[Entry], now: datetime) -> list[str]:
    """Return the lines about databases that restores and swaps left, which take space until they are removed."""
    if not databases:
        return []
    head = ("HOST", "DATABASE LEFT BY A RESTORE", "AGE", "SIZE", "WHAT IT IS")
    rows: list[tuple[str, ...]] = [
        (
            str(entry["host"]),
            str(entry["path"]),
            age(entry["id"], now),
            size(int(entry["stored_bytes"])),
            str(_PREVIOUS.get(entry["job"], entry["job"])),
        )
        for entry in sorted(databases, key=lambda entry: -int(entry["stored_bytes"]))
    ]
    return ["", *table([head, *rows], right=(2, 3))]


def _remarks(archives: list[Entry]) -> Iterator[str]:
    """Yield what the newest whole archive of each job and database lacks: older ones' may have been put right."""
    newest: dict[tuple[str, str, str], Entry] = {}
    for entry in reversed(archives):
        if entry.get("verified"):
            newest.setdefault((entry["host"], entry["job"], source_name(entry)), entry)
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
    everything, now = entries(hostvars, hosts), datetime.now(UTC)
    archives = [entry for entry in everything if entry["where"] != "server"]
    lines = _of_archives(archives, now)
    lines += _of_databases([entry for entry in everything if entry["where"] == "server"], now)
    for host in hosts:
        for loss in _result(hostvars, host, "list_kept").get("lost") or []:
            objects = ", ".join(loss["objects"])
            lines.append(f"{loss['database']} on {host} was restored without {objects} (run {loss['id']}).")
    lines += _remarks(archives)
    catalogs = {host: _result(hostvars, host, "list_catalog") for host in hosts}
    for host, catalog in catalogs.items():
        for database in catalog.get("databases_without_job") or []:
            lines.append(f"{host}: no job names the database {database['database']} of {database['server']}")
    lines += [_NOT_READ.format(host) for host, catalog in catalogs.items() if catalog.get("archives") is None]
    return lines + [problem["what"] for catalog in catalogs.values() for problem in catalog.get("problems") or []]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_catalog_text": text, "sauvegarde_catalog_entries": entries}
