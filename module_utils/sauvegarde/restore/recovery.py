"""Recover from runs that were killed or failed: record what came of them, and remove what they left.

All functions that write require the lock of the target's runs (restore_state.hold), so a run whose state still says
`running` was killed.
"""

from __future__ import annotations

import shutil
from typing import Any

from ..targets.target import Target
from . import pg_cron, restore_state
from .run_state import RunState


def clean(target: Target, own: str = "") -> list[str]:
    """Remove the side databases and unpacked files of killed and failed runs. Returns the databases that were dropped.

    Proven side databases that wait for their swap stay, and so does everything of the run `own`.
    """
    directory = target.runs_directory
    proven = set()
    for run in restore_state.runs(directory, target.database):
        if run.status == restore_state.READY:
            proven.add(run.side)
        elif run.id != own:
            shutil.rmtree(directory / run.id / "work", ignore_errors=True)
            if run.status == restore_state.RUNNING:
                restore_state.change(directory, run.id, status=restore_state.KILLED)
    abandoned = [name for name in target.side_databases() if not (name in proven and target.is_whole(name))]
    return sorted(name for name in abandoned if target.drop(name))


def interrupted_swap(target: Target, run: RunState) -> dict[str, Any]:
    """Return the changes to the state of a run that ended during its swap.

    If the side database is gone, the swap happened.
    """
    if run.status != restore_state.READY or not run.swapped_at:
        return {}
    return {"swapped_at": ""} if target.exists(run.side) else {"status": restore_state.SWAPPED}


def settle_swaps(target: Target) -> list[str]:
    """Record for all runs that ended during their swap whether it happened, and do what follows a swap.

    Returns notes about the latter.
    """
    notes = []
    for run in restore_state.runs(target.runs_directory, target.database):
        changes = interrupted_swap(target, run)
        if changes.get("status") == restore_state.SWAPPED:
            # Before it is recorded: if this is killed too, the next command does it.
            notes += create_pg_cron(target, run)
        if changes:
            restore_state.change(target.runs_directory, run.id, **changes)
    return notes


def create_pg_cron(target: Target, run: RunState) -> list[str]:
    """Create pg_cron and its jobs, if the run postponed them and they do not exist. Returns notes."""
    if run.scheduled is None:
        return []
    return target.with_server(lambda server: pg_cron.make(server, target.database, run.scheduled, run.source_database))


def abandon_migrations(target: Target) -> None:
    """Mark proven migrations that were not swapped in as killed, for `clean`: the next one has newer data."""
    settle_swaps(target)
    for run in restore_state.runs(target.runs_directory, target.database):
        if run.status == restore_state.READY and run.is_migration:
            restore_state.change(target.runs_directory, run.id, status=restore_state.KILLED)
