"""Run the steps of a job in its worker: hooks → dump → retention → offsite copies.

`kinds.back_up` verifies and publishes the kind's dump; database_loop calls it for each database of a job that has
several. A failure before an archive is published raises. After that, the failure of a step is a problem in the report
and stops no other step: the archive stays good.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TypeVar

from ..config import Job
from ..errors import SauvegardeError, from_exception
from ..offsite import offsite_copy, restic
from ..offsite.offsite_copy import CopyResult
from . import hooks, kinds, maintenance, uncovered_databases
from .database_loop import DatabaseLoop
from .progress import Progress
from .run_inputs import RunInputs
from .stop_signals import StopRequested
from .worker_report import ArchiveSummary, Report

_LAST_HOOK = 30  # seconds that the hook after the job has when the run was asked to stop

_Value = TypeVar("_Value")


class Pipeline:
    """One run. Each step extends `report` and calls `send`, so that the supervisor knows what was done, however the
    run ends.
    """

    def __init__(
        self,
        job: Job,
        inputs: RunInputs,
        progress: Progress,
        report: Report,
        send: Callable[[], None],
    ) -> None:
        self._job, self._inputs = job, inputs
        self._progress, self._report, self._send = progress, report, send

    def run(self) -> None:
        """Do every step. Raises only if no archive was published."""
        self._publish_archives()
        self._find_uncovered_databases()
        result = "partial" if self._report.problems else "success"
        self._run_hook_after(result=result, archive="\n".join(self._archive_paths()))
        self._attempt("retention", self._apply_retention)
        self._copy_offsite()

    def _archive_paths(self) -> list[str]:
        """Return the paths of the archives of this run."""
        results = (self._report.databases or {}).values()
        published = [result.archive.id for result in results if result.archive]
        if not published and self._report.archive is not None:
            published = [self._report.archive.id]
        return [str(self._job.directory / identifier) for identifier in published]

    def _publish_archives(self) -> None:
        selection = self._job.selection
        try:
            if self._job.before:
                self._progress("before")
                hooks.run(self._job.before, self._job, "before")
            if selection is not None:
                DatabaseLoop(self._job, selection, self._progress, self._report, self._send).run()
            else:
                self._publish_archive()
        except BaseException as error:
            self._progress.end_step("failed")
            limit = _LAST_HOOK if isinstance(error, StopRequested) else None
            self._run_hook_after(seconds=limit, result="failure")
            raise

    def _publish_archive(self) -> None:
        manifest = kinds.back_up(self._job.kind_values(), self._job.root, self._progress)
        self._report.archive = ArchiveSummary.of_manifest(manifest)
        self._report.warnings = list(manifest.warnings)
        self._send()
        self._progress.end_step()

    def _find_uncovered_databases(self) -> None:
        with contextlib.suppress(Exception):  # not what this run is for
            self._report.databases_without_job = uncovered_databases.find(self._job, self._inputs.databases_with_job)

    def _run_hook_after(self, seconds: float | None = None, **values: str) -> None:
        commands = self._job.after
        if commands:
            self._attempt("after", lambda: hooks.run(commands, self._job, "after", seconds, **values))
            self._send()

    def _apply_retention(self) -> None:
        counts = maintenance.prune(self._job, notify=self._progress).available
        if self._report.databases is not None:
            self._report.available = counts

    def _copy_offsite(self) -> None:
        if self._job.offsite:
            with contextlib.suppress(SauvegardeError):  # the copies themselves report what is wrong with restic
                self._report.warnings += restic.warnings()
        self._send()
        for name in self._job.offsite:
            result = self._attempt("offsite", functools.partial(self._synchronize, name))
            self._report.offsite[name] = result.id if result else None
            self._report.warnings += result.warnings if result else []
            self._send()

    def _synchronize(self, name: str) -> CopyResult:
        repository = self._inputs.repositories[name]
        if isinstance(repository, SauvegardeError):
            raise repository
        return offsite_copy.synchronize(repository, self._job, self._progress)

    def _attempt(self, step: str, action: Callable[[], _Value]) -> _Value | None:
        """Do a step, and report any failure of it. Returns the action's result, None if it failed."""
        result = None
        try:
            self._progress(step)
            result = action()
            self._progress.end_step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the archive is published
            problem = from_exception(error)
            self._report.problems.append(problem)
            self._progress.end_step("failed", error=str(problem))
        return result
