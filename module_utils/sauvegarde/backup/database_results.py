"""Complete and record the results of a job that backs up several databases: one entry of its state for each.

    {"databases": {NAME: {"selected", "last_run": {"started", "ended", "seconds", "status", "exit_code", "id",
     "problem"}, "last_success": as the job's own, "available": archives on the host}}}

The entry of a database that was dropped stays as long as archives of it do, with `selected` false.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from .. import catalog
from ..archive import archive_reader
from ..config import Job
from ..errors import OK, SauvegardeError
from .worker_report import ArchiveSummary, DatabaseResult, Report

KEY = "databases"
_SHOWN = 20  # names in one sentence


def complete(job: Job, report: Report, new_ids: Iterable[str]) -> None:
    """Add what the worker could not report because it was killed: archives that it had published (`new_ids`: those that
    are newer than the run), the database that it was at, and those that it did not reach."""
    results = report.databases = dict(report.databases or {})
    reported = {result.archive.id for result in results.values() if result.archive}
    for identifier in sorted(set(new_ids) - reported):
        try:
            manifest = archive_reader.read_manifest(job.directory / identifier)
        except SauvegardeError:
            continue
        before = results.get(catalog.database_of(manifest))
        started = before.started if before else time.time()
        summary = ArchiveSummary.of_manifest(manifest)
        results[catalog.database_of(manifest)] = DatabaseResult("ok", started, time.time(), summary)
    problem = report.problems[0] if report.problems else SauvegardeError("The run ended before.")
    for name, result in results.items():
        if result.status == "running":
            results[name] = dataclasses.replace(result, status="failed", ended=time.time(), problem=problem)
    published = [result.archive for result in results.values() if result.archive]
    report.archive = ArchiveSummary.total(published) if published else None
    interrupted = [name for name, result in results.items() if result.problem is problem]
    missing = [name for name in report.selected or () if name not in results]
    if report.problems and (interrupted or missing):
        report.problems.append(
            SauvegardeError(
                "Databases were not backed up, because the run ended before.",
                f"At work: {', '.join(interrupted) or 'none'}. Not reached ({len(missing)}): {_names(missing)}.",
                "The next run begins with those that were not reached.",
            )
        )


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def published(report: Report) -> int | None:
    """Return how many archives a job that backs up several databases has published; None for any other job."""
    if report.databases is None:
        return None
    return sum(result.archive is not None for result in report.databases.values())


def update_state(state: dict[str, Any], report: Report) -> None:
    """Record the results in a job's state."""
    if report.databases is None:
        state.pop(KEY, None)
        state.pop("left_out", None)
        return
    entries = entries_of(state)
    if report.available is not None:
        record_available(entries, report.available)
    for name, result in report.databases.items():
        entry = entries.setdefault(name, {})
        entry["last_run"] = _last_run(result)
        if result.archive is not None:
            seconds = entry["last_run"]["seconds"]
            entry["last_success"] = dict(asdict(result.archive), ended=result.ended, seconds=seconds)
            if report.available is None:
                entry["available"] = entry.get("available", 0) + 1
    if report.selected is not None:
        state["left_out"] = report.left_out
        dropped = {name for name, result in report.databases.items() if result.status == "dropped"}
        for name in set(entries).union(report.selected):
            entry = entries.setdefault(name, {})
            entry["selected"] = name in report.selected and name not in dropped
            entry.setdefault("available", 0)
    for name in [name for name, entry in entries.items() if not entry.get("selected") and not entry.get("available")]:
        del entries[name]


def entries_of(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the entries in a job's state, for changes. It belongs to the job's user: what is no mapping is dropped."""
    present = state.get(KEY)
    present = present if isinstance(present, dict) else {}
    entries = {name: entry for name, entry in present.items() if isinstance(entry, dict)}
    state[KEY] = entries
    return entries


def record_available(entries: dict[str, dict[str, Any]], available: Mapping[str, int]) -> None:
    """Record in the entries how many archives of each database are on the host."""
    for name in set(entries).union(available):
        entries.setdefault(name, {"selected": False})["available"] = available.get(name, 0)


def _last_run(result: DatabaseResult) -> dict[str, Any]:
    return {
        "started": result.started,
        "ended": result.ended,
        "seconds": round(result.ended - result.started, 3),
        "status": result.status,
        "exit_code": result.problem.exit_code if result.problem else OK,
        "id": result.archive.id if result.archive else "",
        "problem": result.problem.as_dict() if result.problem else None,
    }
