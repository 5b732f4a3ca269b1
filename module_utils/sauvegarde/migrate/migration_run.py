"""Run one migration on its target: from an archive that was carried here to a proven side database.

As with a restore, a run ends at its safe point: the side database is proven and the live one was not touched. Swap and
rollback are those of a restore (restore.restore_swap).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..archive import ids
from ..django import site
from ..errors import Locked, SauvegardeError
from ..restore import detached_restore, restore_state
from ..restore.confirmation import Confirmation
from ..restore.plan_mark import digest
from ..system.run_as import call_as
from . import migration_plan
from .migration_plan import MigrationPlan, SiteSurvey
from .migration_request import MigrationRequest
from .side_migration import SideMigration


def make_plan(request: MigrationRequest, source: dict[str, Any]) -> MigrationPlan:
    """Return the plan. source: what migration_source.look returned, {} if there is nothing to compare with."""
    return migration_plan.make(request, source)


def start(request: MigrationRequest, confirmation: Confirmation, check: bool = False) -> dict[str, Any]:
    """Start a detached run, or return the one that is already running for the same archive.

    Returns its state, with `started_now`; with `check` {}, once the confirmation was checked. Raises Locked if a run of
    another archive is running.
    """
    facts = migration_plan.survey(request.site, request.labels, request.exclude, include=request.include)
    database = facts["name"]
    confirmation.require(database)
    _require_confirmed(request, facts)
    if check:
        return {}
    site.modules()  # while what they are read from is still there
    directory = restore_state.folder(request.directory)
    for run in restore_state.runs(directory, database):
        if run.status == restore_state.RUNNING:
            if run.mark == request.mark:
                return dict(run.values, started_now=False)
            raise Locked(f"Another migration into {database} is running on this host.", "", "Wait for its end.")
    identifier = ids.new_id(directory)
    return detached_restore.launch(directory, identifier, lambda: fill(request, identifier, facts))


def _require_confirmed(request: MigrationRequest, facts: SiteSurvey) -> None:
    """Raise SauvegardeError if the target or its live database is not that of the plan that was confirmed.

    The source compares its own part where it dumps (migration_source.require_confirmed).
    """
    confirmed = request.confirmed
    if confirmed is None:
        return
    target, owner = migration_plan.target_of(facts, request.site.user, request.access)
    system = call_as(owner, target.system_identifier)
    live = digest(call_as(owner, target.live_facts))
    confirmed.require(replace(confirmed, target=migration_plan.target_digest(facts, request, system), live=live))


def fill(request: MigrationRequest, identifier: str, facts: SiteSurvey) -> dict[str, Any]:
    """Fill and prove a side database. Returns the run's final state, whose status is `ready`.

    facts: the target's survey. Raises if anything fails: the side database is dropped then, and the state has the
    error.
    """
    directory = restore_state.folder(request.directory)
    with (
        restore_state.hold(directory, facts["name"]),
        restore_state.State(
            directory,
            identifier,
            database=facts["name"],
            mark=request.mark,
            path=request.path,
            report=str(directory / identifier / restore_state.NAME),
        ) as run,
    ):
        try:
            result = SideMigration(request, facts, run).migrate()
            run.update(status=restore_state.READY, step="ready", **result)
        except BaseException as error:
            values = error.as_dict() if isinstance(error, SauvegardeError) else {"what": str(error) or repr(error)}
            run.update(status=restore_state.FAILED, error=values)
            raise
        return run.values
