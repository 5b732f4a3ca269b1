"""Maintain existing archives, in a run or by command: verify, apply retention, tidy repositories of other hosts."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .. import catalog, config
from ..archive import archive_writer, ids, retention
from ..config import Job
from ..errors import Damaged, SauvegardeError, from_exception
from ..offsite import offsite_copy
from ..report import journal
from ..system import lock
from ..system.run_as import become
from . import outcome


def hold_job_lock(job: Job) -> contextlib.AbstractContextManager[int]:
    """Hold the lock of the job for the block. Raises Locked while another process of it runs."""
    return lock.hold(job.state / "lock", f"The job {job.name}")


@dataclass(frozen=True)
class Pruning:
    """What retention decided about each archive of a job, and how many archives of each database stay."""

    decisions: list[retention.Decision]
    available: dict[str, int]


def prune(job: Job, dry_run: bool = False, notify: Callable[..., None] | None = None) -> Pruning:
    """Apply a job's retention to its folder, to the archives of each database by themselves. Raises if the folder has
    damaged archives, or archives from the future.

    An archive is renamed before it is removed, so that a kill leaves no incomplete archive under a valid name.
    """
    directory = job.directory
    entries = catalog.of_job(job.root, job.name, job.host)
    retention.refuse_damaged({entry.id: entry.problem for entry in entries if not entry.verified}, directory)
    retention.refuse_future([entry.id for entry in entries], directory)
    databases = {entry.id: entry.database for entry in entries}
    decisions = retention.plan_groups(databases, job.retention)
    for decision in reversed([] if dry_run else decisions):
        if not decision.keep:
            if notify is not None:
                notify("retention", removed=decision.id)
            unnamed = directory / (ids.PARTIAL + decision.id)
            (directory / decision.id).rename(unnamed)
            shutil.rmtree(unnamed)
    kept = (databases[decision.id] for decision in decisions if decision.keep)
    return Pruning(decisions, dict(collections.Counter(kept)))


@dataclass(frozen=True)
class ArchiveCheck:
    """Whether an archive was read completely without an error; `problem` says what is wrong with it.

    database: the one that it holds; empty for another kind, and for a damaged archive.
    """

    id: str
    verified: bool
    problem: str = ""
    database: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify(job: Job) -> list[ArchiveCheck]:
    """Read every archive of a job completely; rename damaged ones to `.damaged-ID`."""
    from . import kinds

    directory = job.directory
    checks = []
    for identifier in ids.list_ids(directory):
        try:
            manifest = kinds.verify(directory / identifier)
            checks.append(ArchiveCheck(identifier, True, database=catalog.database_of(manifest)))
        except Damaged as error:
            path = archive_writer.quarantine(directory / identifier)
            checks.append(ArchiveCheck(identifier, False, f"{error}\nSet aside as {path}."))
    return checks


def verify_job(name: str, configuration: str) -> tuple[list[ArchiveCheck], SauvegardeError | None]:
    """Verify a job's archives and record it in its state, metrics and journal.

    Returns the checks, and the error if the state could not be written.
    """
    job = config.load_job(name, configuration)
    become(job.user)
    with hold_job_lock(job):
        checks = verify(job)
        state_error = outcome.record_verification(
            job,
            success=all(check.verified for check in checks),
            available=collections.Counter(check.database for check in checks if check.verified),
        )
    for check in checks:
        journal.log(name, "verify", "ok" if check.verified else "failed", id=check.id, error=check.problem)
    return checks, state_error


@contextlib.contextmanager
def _journal_step(name: str, step: str) -> Iterator[dict[str, Any]]:
    """Write one journal line about the block, whether it fails or not. The block adds its values to the mapping."""
    started, values = time.time(), dict[str, Any]()
    try:
        yield values
    except Exception as error:  # every error is written to the journal first
        problem = from_exception(error)
        journal.log(name, step, "failed", seconds=time.time() - started, error=str(problem))
        raise problem from error
    journal.log(name, step, "ok", seconds=time.time() - started, **values)


def prune_job(name: str, configuration: str, dry_run: bool = False) -> list[retention.Decision]:
    """Apply the retention of a job outside a run; return retention's plan."""
    with _journal_step(name, "prune") as values:
        job = config.load_job(name, configuration)
        become(job.user)
        with hold_job_lock(job):
            plan = prune(job, dry_run).decisions
        values.update(removed=[decision.id for decision in plan if not decision.keep], dry_run=dry_run or None)
    return plan


def forget_for_others(name: str, configuration: str, dry_run: bool = False) -> list[dict[str, Any]]:
    """Apply the retention of other hosts' jobs to an append-only repository of this host: [{host, job, forgotten}]."""
    with _journal_step(name, "forget") as values:
        hosted = config.load_hosted_repository(name, configuration)
        secrets_folder = config.secrets_folder(hosted.state, f"forget-{name}", hosted.user)
        repository = dataclasses.replace(hosted.repository, secrets_folder=secrets_folder)
        become(hosted.user)
        with lock.hold(hosted.state / "lock", f"The tidying of {name}"):
            done = offsite_copy.forget_for_others(repository, hosted.policies, lambda *_, **_values: None, dry_run)
        values.update(forgotten=done, dry_run=dry_run or None)
    return done
