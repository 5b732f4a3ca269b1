# GNU General Public License v3.0+ (see LICENSE)
"""Render the status of the jobs of several hosts as one table."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The engine, as modules get it.
sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from sauvegarde.report.render import duration, size

DOCUMENTATION = r"""
name: sauvegarde_status_text
short_description: Render the status of the jobs of several hosts as text
description:
  - A line for each job, those that need attention first; then the reason of each that is not well.
  - The filter C(sauvegarde_status_jobs) of the same file returns the jobs alone, in that order; a host that did not
    answer is an entry with the state C(no answer). C(sauvegarde_status_name) returns a job's name with its state.
options:
  _input:
    description: C(hostvars), with C(status_jobs) of each host.
    type: dict
    required: true
  hosts: {description: Names of the hosts., type: list, elements: str, required: true}
"""

EXAMPLES = r"""
- name: Show the table
  ansible.builtin.debug:
    msg: "{{ hostvars | sauvegarde_status_text(ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

Job = Mapping[str, Any]
_HEAD = ("HOST", "JOB", "STATE", "LAST SUCCESS", "STORED", "GROWTH", "TOOK", "SCHEDULE")


def jobs(hostvars: Mapping[str, Mapping[str, Any]], hosts: list[str]) -> list[Job]:
    """Return the jobs of all hosts, those that are not well first."""
    entries: list[Job] = []
    for host in hosts:
        result = hostvars[host].get("status_jobs") or {}
        if result.get("jobs") is None:
            why = "The host did not answer. ./sauvegarde doctor says why."
            entries.append({"host": host, "job": "", "state": "no answer", "why": why, "is_well": False})
        entries += [{**job, "host": host} for job in result.get("jobs") or []]
    return sorted(entries, key=lambda job: (job["is_well"], -(job.get("age") or 0), job["host"], job["job"]))


def name(job: Job) -> str:
    """Return a job with its host and state, as `db1 elpaso (overdue)`."""
    return f"{' '.join(filter(None, (job['host'], job['job'])))} ({job['state']})"


def _row(job: Job) -> tuple[str, ...]:
    growth, taken, stored = job.get("growth"), job.get("seconds"), job.get("stored_bytes")
    return (
        job["host"],
        job["job"],
        job["state"],
        "never" if job.get("age") is None else f"{duration(job['age'])} ago",
        "" if stored is None else size(stored),
        "" if growth is None else f"{(growth - 1) * 100:+.0f} %",
        "" if taken is None else duration(taken),
        job.get("schedule") or "none",
    )


def text(hostvars: Mapping[str, Mapping[str, Any]], hosts: list[str]) -> list[str]:
    """Return the lines; see DOCUMENTATION."""
    listed = jobs(hostvars, hosts)
    if not listed:
        return ["There is no job."]
    rows = [_HEAD, *map(_row, listed)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for job in listed:
        if not job["is_well"]:
            lines.append(f"{name(job)}: {job['why']}")
        failure = job.get("last_failure")
        if failure:
            label = "Its last run" if job["is_failing"] else "An earlier run"
            words = " ".join(f"{failure['what']} {failure['why']}".split())
            lines.append(f"{job['host']} {job['job']}: {label} ended with {failure['exit_code']}: {words}")
            if job["is_failing"] and failure["fix"]:
                lines.append(f"  Fix: {failure['fix']}")
    return lines


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_status_text": text, "sauvegarde_status_jobs": jobs, "sauvegarde_status_name": name}
