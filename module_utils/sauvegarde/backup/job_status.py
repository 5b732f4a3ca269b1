"""Describe how each job of this host does: its last success against its schedule, its size, its last failure."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import config
from ..archive import archive_reader, ids
from ..config import Job
from ..errors import SauvegardeError
from ..report import job_state
from . import cron_times

GOOD, FAILED, OVERDUE, NEVER, DAMAGED, UNSCHEDULED, UNREADABLE = (
    "good", "failed", "overdue", "never ran", "damaged", "not in cron", "unreadable",
)  # fmt: skip
_LEAST_GRACE = 1800.0  # seconds that a run may take before its job is overdue
_SIZES = 5  # newest archives, from whose sizes the growth is computed


@dataclass(frozen=True)
class JobStatus:
    """One job. Times are seconds since the epoch, None for never; seconds is the duration of the last success.

    state: the worst of the constants above that holds. schedule: cron's five fields, empty if cron does not start it.
    due: when cron should have started the run that must be over by now. stored_bytes: of the newest archive.
    growth: its size divided by the mean of the archives before it, None without one. last_failure: {ended, exit_code,
    what, why, fix} of the last run that failed, None without one. is_failing: whether that was the last run.
    may_fail: the job's allow_failure; such a job is well whatever its runs do.
    """

    host: str
    job: str
    kind: str
    state: str
    why: str
    schedule: str = ""
    due: float | None = None
    archive: str = ""
    last_success: float | None = None
    age: float | None = None
    seconds: float | None = None
    stored_bytes: int | None = None
    growth: float | None = None
    last_failure: Mapping[str, Any] | None = None
    is_failing: bool = False
    may_fail: bool = False

    @property
    def is_well(self) -> bool:
        """Whether the job needs no attention."""
        return self.state == GOOD or (self.may_fail and self.state in (FAILED, OVERDUE, NEVER))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a result."""
        return {**asdict(self), "is_well": self.is_well}


def _sizes(job: Job) -> list[int]:
    """Return the stored sizes of the job's newest archives, oldest first, as far as root can read them."""
    sizes = []
    with contextlib.suppress(OSError):
        for identifier in ids.list_ids(job.directory)[-_SIZES:]:
            with contextlib.suppress(SauvegardeError, OSError):
                sizes.append(archive_reader.read_manifest(job.directory / identifier).stored_bytes)
    return sizes


def _growth(sizes: list[int]) -> float | None:
    """Return the last size divided by the mean of those before it; None without one."""
    before = sum(sizes[:-1])
    return round(sizes[-1] * (len(sizes) - 1) / before, 3) if before else None


def _mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a mapping in a state, which belongs to the job's user, who can write anything there."""
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def _last_failure(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the last failure on record; of a state that an older version wrote, that of the last run."""
    run = _mapping(state, "last_run")
    if run.get("exit_code"):
        problem = (run.get("problems") or [{}])[0]
        values = {key: problem.get(key, "") for key in ("what", "why", "fix")}
        return {"ended": run.get("ended"), "exit_code": run["exit_code"], **values}
    return _mapping(state, "last_failure") or None


def of_job(job: Job, expression: str, now: float) -> JobStatus:
    """Return the status of a job. expression: cron's five fields, empty if cron does not start it."""
    state = job_state.read(job.state / "state.json")
    success, run = _mapping(state, "last_success"), _mapping(state, "last_run")
    last, seconds = success.get("ended"), success.get("seconds") or 0
    grace = max(_LEAST_GRACE, 2 * seconds)
    due = cron_times.last_due(expression, now - grace) if expression else None
    # A job that is new was not due before its settings were written.
    since = last if last is not None else (job.configuration / "jobs" / f"{job.name}.json").stat().st_mtime
    is_overdue = due is not None and since < due
    is_failing = bool(run.get("exit_code"))
    damaged = sorted(path.name[len(ids.DAMAGED) :] for path in job.directory.glob(f"{ids.DAMAGED}*"))
    name, why = GOOD, ""
    if damaged and damaged[-1] >= success.get("id", ""):
        name, why = DAMAGED, f"The newest archive, {damaged[-1]}, was found damaged and set aside."
    elif is_failing:
        name, why = FAILED, str((_last_failure(state) or {}).get("what", ""))
    elif is_overdue:
        name, why = OVERDUE, "Its last run did not start when it was due. Is cron running?"
    elif not expression:
        name, why = UNSCHEDULED, f"{cron_times.CRON_FILE} does not start it."
    elif last is None:
        name, why = NEVER, "It has not run yet."
    return JobStatus(
        host=job.host,
        job=job.name,
        kind=job.kind,
        state=name,
        why=why,
        schedule=expression,
        due=due,
        archive=str(success.get("id", "")),
        last_success=last,
        age=None if last is None else max(0.0, now - last),
        seconds=success.get("seconds"),
        stored_bytes=success.get("stored_bytes"),
        growth=_growth(_sizes(job)),
        last_failure=_last_failure(state),
        is_failing=is_failing,
        may_fail=job.allow_failure,
    )


def of_host(
    configuration: str | Path = config.CONFIGURATION,
    cron_file: str | Path = cron_times.CRON_FILE,
    host: str = "",
    now: float | None = None,
) -> list[JobStatus]:
    """Return the status of every job of this host. Root calls this. host: its name; by default that of each job."""
    expressions, statuses = cron_times.schedules(cron_file), []
    for name in config.job_names(configuration):
        try:
            job = config.load_job(name, configuration)
            statuses.append(of_job(job, expressions.get(name, ""), time.time() if now is None else now))
        except Exception as error:  # noqa: BLE001 - one job, whose user writes its state, must not hide the others
            statuses.append(JobStatus(host, name, "", UNREADABLE, str(error)))
    return statuses
