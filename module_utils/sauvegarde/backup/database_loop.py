"""Back up the databases of a job that names several: one archive each, one after the other.

Which databases there are is asked at the start of each run, and again when all are backed up, so that a database that
was created during the run is backed up as well. The failure of one does not stop the others. The databases whose last
attempt is the oldest come first: a run that its time limit ends does not leave out the same ones every time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..config import Job
from ..errors import SauvegardeError, from_exception
from ..postgres.database_selection import QUERY, Choice, DatabaseSelection, ServerDatabase
from ..report import job_state
from . import kinds
from .last_manifests import LastManifests
from .outcome import STATE
from .progress import Progress
from .worker_report import ArchiveSummary, DatabaseResult, Report

_MAINTENANCE = ("postgres", "template1")  # databases to ask for the others


class DatabaseLoop:
    """The databases of one run. Each step extends `report` and calls `send`."""

    def __init__(
        self, job: Job, selection: DatabaseSelection, progress: Progress, report: Report, send: Callable[[], None]
    ) -> None:
        self._job, self._selection, self._progress, self._report = job, selection, progress, report
        self._send = send
        self._results: dict[str, DatabaseResult] = {}
        self._state: dict[str, Any] = job_state.read(job.state / STATE).get("databases") or {}  # of the last runs
        self._last = LastManifests(job.directory)

    def run(self) -> None:
        """Back up every database. Raises SauvegardeError if nothing was published."""
        report = self._report
        report.databases = self._results
        choice = self._choose()
        self._report_missing(choice)
        self._warn_of_dropped(choice)
        self._back_up_all(choice.names)
        created = self._created()
        self._back_up_all(created)
        if created:
            self._leave_for_next_run(self._created())
        if report.archive is None and not report.problems:
            raise SauvegardeError(
                f"No database of the job {self._job.name} is on the server.",
                f"databases: {', '.join(self._job.databases)}. exclude: {', '.join(self._job.exclude) or 'none'}.",
                "Correct them in the inventory and run the backup role.",
            )
        if report.archive is None:
            raise report.problems.pop(0)

    def _choose(self) -> Choice:
        self._progress("databases")
        choice = self._selection.choose(_databases_of(self._job))
        self._report.selected = sorted({*choice.names, *choice.missing})
        self._report.left_out = dict(choice.left_out)
        self._send()
        self._progress.end_step(count=len(choice.names), left_out=choice.left_out)
        return choice

    def _report_missing(self, choice: Choice) -> None:
        for name in choice.missing:
            error = SauvegardeError(
                f"There is no database {name} on the server.",
                "The job names it without a pattern.",
                "Remove it from `databases` of the job, or create it.",
            )
            self._record(name, DatabaseResult("failed", time.time(), time.time(), problem=error))

    def _warn_of_dropped(self, choice: Choice) -> None:
        """Warn once of each database that the last run backed up, or tried to, and this one does not."""
        for name, values in sorted(self._state.items()):
            if name in (self._report.selected or ()) or not isinstance(values, Mapping) or not values.get("selected"):
                continue
            why = choice.left_out.get(name, "it is not on the server, or `databases` does not match it any more")
            self._report.warnings.append(
                f"The database {name} is no longer backed up: {why}. Its archives stay; the newest is never removed."
            )

    def _back_up_all(self, names: tuple[str, ...]) -> None:
        for name in sorted(names, key=self._last_attempt):
            self._back_up(name)

    def _last_attempt(self, name: str) -> tuple[float, str]:
        values = self._state.get(name)
        ended = values.get("last_run", {}).get("ended", 0) if isinstance(values, Mapping) else 0
        return (float(ended), name)

    def _back_up(self, name: str) -> None:
        started = time.time()
        self._record(name, DatabaseResult("running", started))
        self._progress.common_values = {"database": name}
        try:
            manifest = kinds.back_up(
                self._job.kind_values(name), self._job.root, self._progress, last=lambda: self._last.of(name)
            )
            self._progress.end_step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other databases are backed up
            problem = from_exception(error)
            if self._is_dropped(name):
                self._progress.end_step("warning", error=problem.what)
                self._report.warnings.append(f"The database {name} was dropped or renamed before it was backed up.")
                self._record(name, DatabaseResult("dropped", started, time.time()))
                return
            self._progress.end_step("failed", error=str(problem))
            self._record(name, DatabaseResult("failed", started, time.time(), problem=_of_database(name, problem)))
            return
        finally:
            self._progress.common_values = {}
        summary = ArchiveSummary.of_manifest(manifest)
        self._report.warnings += [f"{name}: {warning}" for warning in manifest.warnings]
        self._record(name, DatabaseResult("ok", started, time.time(), summary))

    def _record(self, name: str, result: DatabaseResult) -> None:
        self._results[name] = result
        if result.archive is not None:
            self._report.archive = ArchiveSummary.total(
                [one.archive for one in self._results.values() if one.archive is not None]
            )
        if result.problem is not None:
            self._report.problems.append(result.problem)
        self._send()

    def _is_dropped(self, name: str) -> bool:
        """Return whether a database that only a pattern chose is no longer on the server."""
        if name in self._selection.literal_names():
            return False
        try:
            databases = {database.name: database for database in _databases_of(self._job)}
        except SauvegardeError:
            return False
        return name not in databases or databases[name].half_dropped

    def _created(self) -> tuple[str, ...]:
        """Return the databases that the job has to back up and has not tried to."""
        names: tuple[str, ...] = ()
        with contextlib.suppress(SauvegardeError):  # each database has its result already
            names = self._selection.choose(_databases_of(self._job)).names
        created = tuple(name for name in names if name not in self._results)
        self._report.selected = sorted({*(self._report.selected or ()), *created})
        return created

    def _leave_for_next_run(self, names: tuple[str, ...]) -> None:
        for name in names:
            self._report.warnings.append(
                f"The database {name} was created while the run ended. The next run backs it up."
            )
        self._report.selected = [name for name in self._report.selected or () if name not in names]


def _of_database(name: str, problem: SauvegardeError) -> SauvegardeError:
    """Return the problem with the name of its database."""
    return type(problem)(f"The database {name} was not backed up. {problem.what}", problem.why, problem.fix)


def _databases_of(job: Job) -> list[ServerDatabase]:
    """Return the databases of the job's server. Raises SauvegardeError if no maintenance database can be reached."""
    from ..postgres import postgres_server

    server = postgres_server.Server.from_values(job.options.get("connection"))
    literal = sorted(DatabaseSelection(job.databases).literal_names())
    errors: list[Exception] = []
    for database in (*_MAINTENANCE, *literal):
        try:
            with contextlib.closing(postgres_server.connect(server, database)) as connection:
                return [ServerDatabase(*row) for row in postgres_server.query(connection, QUERY)]
        except SauvegardeError as error:
            errors.append(error)
    raise errors[0]
