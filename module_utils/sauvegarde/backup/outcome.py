"""Record the outcome of a finished run in the job's state, and report it: journal, metrics, ping and cron's mail."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .. import VERSION
from ..archive import ids
from ..config import Job
from ..errors import OK, Partial, SauvegardeError
from ..report import job_state, journal, metrics, ping
from . import database_results, progress
from .worker_report import Report

STATE = "state.json"


@dataclass
class Outcome:
    """The result of a run; times in seconds since the epoch. `problems` may grow until it is reported."""

    started: float
    ended: float
    archive_id: str
    problems: list[SauvegardeError]
    warnings: list[str]
    may_fail: bool  # the job's allow_failure: a failure is recorded, but raises no alert

    @property
    def seconds(self) -> float:
        return round(self.ended - self.started, 3)

    @property
    def exit_code(self) -> int:
        """The exit code of the first problem; after an archive was published, always that of Partial."""
        if not self.problems:
            return OK
        return Partial.exit_code if self.archive_id else self.problems[0].exit_code

    def as_dict(self) -> dict[str, Any]:
        """Return the job state's `last_run`."""
        return {
            "started": self.started,
            "ended": self.ended,
            "seconds": self.seconds,
            "exit_code": self.exit_code,
            "id": self.archive_id,
            "problems": [problem.as_dict() for problem in self.problems],
            "warnings": self.warnings,
            "version": VERSION,
        }


def archive_ids(job: Job) -> list[str]:
    """Return the ids of the archives in the job's folder, oldest first; none if the folder cannot be read."""
    try:
        return ids.list_ids(job.directory)
    except OSError:  # the folder was taken from the job's user, which the run itself reports
        return []


def finish(job: Job, state: dict[str, Any], report: Report, started: float) -> Outcome:
    """Record a run's report in the job's state (`state`: its contents so far), then report it. Returns the outcome.

    If the state cannot be written, that is one more problem; the run is still reported.
    """
    archive_id = report.archive.id if report.archive else ""
    outcome = Outcome(started, time.time(), archive_id, list(report.problems), report.warnings, job.allow_failure)
    _update_state(job, state, report, outcome)
    error = _write_state(job, state)
    if error is None:
        with contextlib.suppress(OSError):  # absent, or a disk that _write_state would have reported
            (job.state / progress.FILE).unlink()
    else:
        outcome.problems.append(error)
        state["last_run"] = outcome.as_dict()
    _announce(job, state, report, outcome)
    return outcome


def _update_state(job: Job, state: dict[str, Any], report: Report, outcome: Outcome) -> None:
    state.update(job=job.name, kind=job.kind, host=job.host, last_run=outcome.as_dict())
    if outcome.problems:
        values = outcome.problems[0].as_dict()
        state["last_failure"] = {**values, "ended": outcome.ended, "exit_code": outcome.exit_code}
    if report.databases_without_job is not None:
        state["without_job"] = report.databases_without_job
    if report.archive:
        state["last_success"] = dict(asdict(report.archive), ended=outcome.ended, seconds=outcome.seconds)
        state["last_verify"] = {"ended": outcome.ended, "success": True}
    copies = state.setdefault("offsite", {})
    for repository, newest_id in report.offsite.items():
        entry = copies.setdefault(repository, {})
        entry["last_run_success"] = newest_id is not None
        if newest_id is not None:
            entry.update(last_success=outcome.ended, id=newest_id)
    for repository in set(copies).difference(job.offsite):
        del copies[repository]
    database_results.update_state(state, report)
    state["available"] = len(archive_ids(job))


def _write_state(job: Job, state: dict[str, Any]) -> SauvegardeError | None:
    """Write the job's state; return the error if that is impossible."""
    folder = job.state
    try:
        job_state.write(folder / STATE, state)
    except OSError as error:
        return Partial(
            f"The job's state cannot be written: {folder}",
            str(error),
            "Free some space there, or run the backup role, which makes the job's user its owner again.",
        )
    return None


def record_verification(job: Job, success: bool, available: Mapping[str, int]) -> SauvegardeError | None:
    """Record in state and metrics that the job's archives were verified; `available`: how many are good, by database.

    Returns the error if the state cannot be written.
    """
    state = job_state.read(job.state / STATE)
    state["last_verify"] = {"ended": time.time(), "success": success}
    state["available"] = sum(available.values())
    if database_results.KEY in state:
        database_results.record_available(database_results.entries_of(state), available)
    _write_metrics(job, state)
    return _write_state(job, state)


def _announce(job: Job, state: dict[str, Any], report: Report, outcome: Outcome) -> None:
    success = outcome.exit_code == OK
    for warning in outcome.warnings:
        journal.log(job.name, "run", "warning", note=warning)
    _log_databases(job, report)
    text = "" if success else _failure_text(job, report, outcome)
    values = asdict(report.archive) if report.archive else {}
    journal.log(
        job.name,
        "run",
        "ok" if success else "failed",
        seconds=outcome.seconds,
        exit_code=outcome.exit_code,
        error=text,
        **{key: values[key] for key in ("id", "bytes", "stored_bytes", "proven") if key in values},
    )
    _write_metrics(job, state)
    send_ping(job, "success" if success else "fail", text)
    if text and not outcome.may_fail:
        print(text, file=sys.stderr)


def _log_databases(job: Job, report: Report) -> None:
    """Write one line for each database of a job that backs up several."""
    for name, result in (report.databases or {}).items():
        status = {"ok": "ok", "dropped": "warning"}.get(result.status, "failed")
        journal.log(
            job.name,
            "database",
            status,
            database=name,
            seconds=result.ended - result.started,
            id=result.archive.id if result.archive else "",
            exit_code=result.problem.exit_code if result.problem else None,
            error=result.problem.what if result.problem else "",
        )


def _failure_text(job: Job, report: Report, outcome: Outcome) -> str:
    published = database_results.published(report)
    lines = [f"Sauvegarde: the job {job.name} on {job.host} failed (exit code {outcome.exit_code})."]
    if outcome.archive_id:
        good = f"The archive {outcome.archive_id} is good; a later step failed:"
        lines.append(good if published is None else f"{published} archives are good. What failed:")
    lines += [str(problem) for problem in outcome.problems]
    return journal.redact("\n".join(lines))


def _write_metrics(job: Job, state: dict[str, Any]) -> None:
    # A job that was removed from the inventory while it ran has no metrics any more: they would only go stale.
    if job.metrics and job.is_configured():
        try:
            metrics.write(job.metrics, job.name, job.kind, state)
        except OSError as error:
            journal.log(job.name, "metrics", "failed", error=str(error))


def send_ping(job: Job, event: str, text: str = "") -> None:
    """Ping the job's dead man's switch, if it has one; a failed ping is only logged."""
    # A job that may fail raises no alert; a start without an end would raise one, too.
    if job.ping and (event == "success" or not job.allow_failure):
        why = ping.send(job.ping, event, text)
        if why:
            journal.log(job.name, "ping", "warning", event=event, error=why)
