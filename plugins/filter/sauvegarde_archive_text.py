# GNU General Public License v3.0+ (see LICENSE)
"""Render one archive in full, from what several hosts know of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The engine, as modules get it.
sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from sauvegarde.report.render import size

DOCUMENTATION = r"""
name: sauvegarde_archive_text
short_description: Render one archive as text
description:
  - What the archive holds, where it is, its tables and rows, how it differs from the live database, and how to restore
    it by hand.
  - The filter C(sauvegarde_archive_places) of the same file returns what there is of it, once a place.
options:
  _input:
    description: C(hostvars), with C(show_result) of each host.
    type: dict
    required: true
  hosts: {description: Names of the hosts., type: list, elements: str, required: true}
  most: {description: Tables that are listed; V(0) for all., type: int, default: 40}
"""

EXAMPLES = r"""
- name: Show the archive
  ansible.builtin.debug:
    msg: "{{ hostvars | sauvegarde_archive_text(ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

Shown = Mapping[str, Any]
MOST = 40
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_FORMS = {"local": "as it lies on its own host", "plain": "as restic brings it back from a repository"}


def places(hostvars: Mapping[str, Mapping[str, Any]], hosts: list[str]) -> list[Shown]:
    """Return what there is of the archive, once a place; the answer with a comparison counts."""
    by_path: dict[tuple[str, str], Shown] = {}
    for host in hosts:
        for shown in (hostvars[host].get("show_result") or {}).get("archives") or []:
            key = (shown["entry"]["host"], shown["entry"]["path"])
            if key not in by_path or shown.get("live"):
                by_path[key] = shown
    return sorted(by_path.values(), key=lambda shown: (shown["entry"]["host"], shown["entry"]["where"] != "local"))


def owners(shown: list[Shown]) -> list[tuple[str, str]]:
    """Return the (host, job) pairs that the places are of."""
    return sorted({(each["entry"]["host"], each["entry"]["job"]) for each in shown})


def _plain(key: str) -> str:
    """Return `public.t` for the fingerprint's key `"public"."t"`."""
    return ".".join(name.replace('""', '"') for name in _QUOTED.findall(key)) or key


def _tables(tables: Mapping[str, Any], most: int) -> list[str]:
    ordered = sorted(tables.items(), key=lambda item: (-item[1]["rows"], item[0]))
    shown = ordered[:most] if most else ordered
    width = max((len(f"{entry['rows']:,}") for _, entry in shown), default=0)
    lines = [f"  {entry['rows']:>{width},}  {_plain(key)}  {entry['hash'][:16]}" for key, entry in shown]
    if len(ordered) > len(shown):
        lines.append(f"  … and {len(ordered) - len(shown)} smaller ones (all of them: -v, or --json)")
    return lines


def _live(shown: list[Shown]) -> list[str]:
    """Return how the archive differs from the live database."""
    live = next((each["live"] for each in shown if each.get("live")), None)
    if live is None:
        problem = next((each["live_problem"] for each in shown if each.get("live_problem")), "")
        return [f"Live:      not compared: {' '.join(problem.split())}"] if problem else []
    name, equal = live["database"], live["equal"]
    lines = [f"Live:      {len(live['differing'])} tables of {name} differ, {equal} are equal"]
    if not live["differing"]:
        lines = [f"Live:      {name} has the same rows in all {equal} tables that were compared"]
    lines += [f"  {each['sentence']}" for each in live["differing"]]
    return lines + ([f"  not compared for lack of time: {', '.join(live['omitted'])}"] if live["omitted"] else [])


def _by_hand(contents: Mapping[str, Any]) -> list[str]:
    lines = ["By hand, with stock tools, in the archive's folder:"]
    for form, commands in contents["restore_by_hand"].items():
        lines += [f"  # {_FORMS.get(form, form)}", *(f"  {command}" for command in commands)]
    return lines


def of_archive(shown: list[Shown], most: int = MOST) -> list[str]:
    """Return the lines about one archive; `shown`: its places, all of one host and job. most: see DOCUMENTATION."""
    entry = next((each["entry"] for each in shown if each["manifest"]), shown[0]["entry"])
    contents = next((each["manifest"] for each in shown if each["manifest"]), None)
    lines = [f"Archive:   {entry['id']} of the job {entry['job']} on {entry['host']}"]
    if contents:
        source = "roles of the server" if entry["kind"] == "globals" else entry["source"]
        lines.append(f"Contents:  {source or entry['kind']}, kind {entry['kind']}")
        lines.append(f"Made:      {contents['started']} to {contents['ended']}")
        lines.append(
            f"Size:      {size(contents['bytes'])} in {len(contents['files'])} files, stored as"
            f" {size(contents['stored_bytes'])}"
        )
    for each in shown:
        own, state = each["entry"], "good"
        if each["problem"] or own["verified"] is False:
            state = "DAMAGED: " + " ".join(str(each["problem"] or own["problem"]).split())
        where = (
            f"on {own['host']}, {own['path']}" if own["where"] == "local" else f"{own['where']}, snapshot {own['path']}"
        )
        lines.append(f"Place:     {where}: {state}")
    if not contents:
        return lines
    lines += [f"Lacks:     {sentence}" for sentence in entry["lacks"]]
    lines += [f"Warning:   {warning}" for warning in contents["warnings"]]
    lines += [f"Unproven:  {each['object']}: {each['why']}" for each in entry["unproven"]]
    lines += _live(shown)
    tables = (contents.get("fingerprint") or {}).get("tables") or {}
    if tables:
        rows = sum(table["rows"] for table in tables.values())
        lines += [
            f"Tables:    {len(tables)} with {rows:,} rows (rows, table, start of its hash):",
            *_tables(tables, most),
        ]
    return lines + _by_hand(contents)


def text(hostvars: Mapping[str, Mapping[str, Any]], hosts: list[str], most: int = MOST) -> list[str]:
    """Return the lines; see DOCUMENTATION."""
    shown, lines = places(hostvars, hosts), list[str]()
    for owner in owners(shown):
        lines += of_archive([each for each in shown if (each["entry"]["host"], each["entry"]["job"]) == owner], most)
    silent = [host for host in hosts if (hostvars[host].get("show_result") or {}).get("archives") is None]
    return (lines or ["There is no such archive."]) + [f"{host} could not be asked." for host in silent]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_archive_text": text, "sauvegarde_archive_places": places}
