"""Supervise one run of a job: lock, fork the worker, keep the time limit, handle signals, record the outcome.

Two processes: the supervisor, which stays small and outlives whatever happens to the work; and the worker, which does
the work (pipeline.py) as the job's user and dies with the supervisor. The worker sends its report after each step, so
that a published archive is known however the worker ends. If either process is killed at any time, the last good
archive stays and the next run cleans up.

Root starts a run, because only root can read the settings and the repositories' secrets. All other work is done as the
job's user.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import time

from .. import VERSION, config
from ..archive import archive_reader
from ..config import Job
from ..errors import Cancelled, SauvegardeError, TimedOut, from_exception
from ..offsite import credentials
from ..report import job_state, journal, metrics
from ..system import atomic_file
from ..system.run_as import become
from . import database_results, detached_job, maintenance, outcome, progress, stop_signals, uncovered_databases
from .outcome import Outcome
from .run_inputs import RunInputs
from .stop_signals import StopRequested
from .worker_report import ArchiveSummary, Report

_logger = logging.getLogger(journal.LOGGER)
_PR_SET_PDEATHSIG = 1
_GRACE = 15  # seconds for a worker that must stop to clean up
_GRACE_FOR_HOOK = 30  # additional seconds for the hook after the job


def run_job(name: str, configuration: str) -> Outcome | None:
    """Run a job now; return its outcome. An error that keeps the run from starting is in the journal, then raises.

    Returns None if the job may fail (`allow_failure`) and could not start.
    """
    may_fail = False
    try:
        job = config.load_job(name, configuration)
        may_fail = job.allow_failure
        inputs = RunInputs(config.open_repositories(job), uncovered_databases.databases_with_job(job))
        become(job.user)
        with maintenance.hold_job_lock(job):
            return _supervise(job, inputs)
    except Exception as error:
        problem = from_exception(error)
        journal.log(name, "run", "failed", exit_code=problem.exit_code, error=str(problem))
        if not may_fail:
            raise problem from error
    return None


def _supervise(job: Job, inputs: RunInputs) -> Outcome:
    """Remove what killed runs left, fork the worker, wait for it, record and announce the outcome."""
    _remove_leftovers(job)
    state = job_state.read(job.state / outcome.STATE)
    started, newest_before = time.time(), max(outcome.archive_ids(job), default="")
    journal.log(job.name, "run", "start", kind=job.kind, version=VERSION)
    read, write = os.pipe()
    parent = os.getpid()
    stop_signals.raise_on(*stop_signals.SIGNALS)
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _run_worker(job, inputs, write, parent)
    _logger.debug("worker %d started", pid)
    _lead_group(pid)
    os.close(write)
    with os.fdopen(read, "rb", buffering=0) as channel:
        report = _Worker(job, pid, channel.fileno()).wait()
    _remove_secrets(job)  # those of a worker that was killed
    if job.selection is not None:
        database_results.complete(job, report, [name for name in outcome.archive_ids(job) if name > newest_before])
    else:
        report.archive = report.archive or _archive_published_after(job, newest_before)
    stop_signals.ignore()
    return outcome.finish(job, state, report, started)


def _remove_leftovers(job: Job) -> None:
    """Remove what runs that were killed left behind, and log that there was one."""
    folder = job.state
    for name in (outcome.STATE, progress.FILE):
        atomic_file.remove_temporary(folder / name)
    detached_job.remove_old_results(job.state)
    _remove_secrets(job)
    if job.metrics:
        atomic_file.remove_temporary(metrics.path(job.metrics, job.name))
    if (folder / progress.FILE).exists():
        step = job_state.read(folder / progress.FILE).get("step", "")
        journal.log(job.name, "run", "warning", note="the run before was killed", stopped_at=step)


def _remove_secrets(job: Job) -> None:
    for folder in (job.state, credentials.RUN / job.name):
        credentials.clear(folder)


def _archive_published_after(job: Job, identifier: str) -> ArchiveSummary | None:
    """Return the archive newer than `identifier`, if the worker was killed between publishing and reporting it."""
    newest = max(outcome.archive_ids(job), default="")
    if newest > identifier:
        with contextlib.suppress(SauvegardeError):
            return ArchiveSummary.of_manifest(archive_reader.read_manifest(job.directory / newest))
    return None


def _lead_group(pid: int) -> None:
    """Give the worker a process group of its own. Both processes do this: either may be the first."""
    with contextlib.suppress(OSError):
        os.setpgid(pid, 0)


def _run_worker(job: Job, inputs: RunInputs, channel: int, parent: int) -> None:
    """Run the worker's process from fork to exit; never returns."""
    report = Report()

    def send() -> None:
        data = report.to_line()
        while data:
            data = data[os.write(channel, data) :]

    try:
        _lead_group(0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(Cancelled.exit_code)
        stop_signals.raise_on(signal.SIGTERM)
        os.nice(job.nice)
        try:
            from .pipeline import Pipeline  # only here: the supervisor stays small

            Pipeline(job, inputs, progress.Progress(job), report, send).run()
        except StopRequested:
            report.stopped = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor reports it
            report.problems.insert(0, from_exception(error))
        report.ended = True
        send()
    finally:
        os._exit(0)


class _Worker:
    """The worker as its supervisor sees it: a process, and a pipe with its reports."""

    def __init__(self, job: Job, pid: int, channel: int) -> None:
        self._job, self._pid, self._channel = job, pid, channel
        self._received = bytearray()

    def wait(self) -> Report:
        """Wait for the end and return the last report. What kept it from being complete is its first problem."""
        error = self._wait_within_limits()
        if error is not None:
            self._stop(_GRACE + (_GRACE_FOR_HOOK if self._job.after else 0))
        _, status = os.waitpid(self._pid, 0)
        report = Report.from_lines(bytes(self._received))
        if report.ended and not report.stopped:
            return report  # the request to stop came too late
        if error is None:
            error = _unexpected_end(report, status)
        report.problems.insert(0, error)
        return report

    def _wait_within_limits(self) -> SauvegardeError | None:
        """Wait until the worker has ended (None), its time is over, or a signal asks the run to stop."""
        started, timeout = time.monotonic(), self._job.timeout
        try:
            # Not before the fork: a thread that is about to end, as the ping's, can leave the child a broken C library.
            outcome.send_ping(self._job, "start")
            if not self._listen(max(0, started + timeout - time.monotonic()) if timeout else None):
                return TimedOut(
                    f"The job did not end within {timeout:g} seconds and was stopped.",
                    fix="Raise its timeout, or find out what it was waiting for.",
                )
        except StopRequested:
            return Cancelled("The run was stopped.", "It was sent a signal.")
        return None

    def _listen(self, seconds: float | None) -> bool:
        """Receive reports for `seconds` (None: without a limit). Returns whether the worker has ended."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            remaining = None if until is None else max(0, until - time.monotonic())
            if not select.select([self._channel], [], [], remaining)[0]:
                return False
            chunk = os.read(self._channel, 65536)
            if not chunk:
                return True
            self._received += chunk
            self._forget_earlier_reports()

    def _forget_earlier_reports(self) -> None:
        """Keep the last complete line and what follows: a job of many databases sends many reports."""
        end = self._received.rfind(b"}\n")
        start = self._received.rfind(b"\n", 0, max(end, 0))
        if start > 0:
            del self._received[:start]

    def _stop(self, grace: float) -> None:
        """Stop the worker and its group: by SIGTERM, after `grace` seconds by SIGKILL. Reports are still received."""
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, number)
            self._listen(seconds)


def _unexpected_end(report: Report, status: int) -> SauvegardeError:
    if report.stopped:
        return Cancelled("The run was stopped.", "Its worker was sent a signal.")
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
    return SauvegardeError(
        "The run was killed.",
        f"Its process ended by {how}.",
        "If memory was short, the kernel's log says so.",
    )
