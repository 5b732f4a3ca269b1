"""Put the proven side database of a run in the live one's place, and roll that back.

A swap is recorded in its run's state before and after it happens, so that a swap that is killed can be settled by the
next command (restore.recovery).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2

from ..archive import ids
from ..errors import SauvegardeError
from ..report import journal, render
from ..targets.target import SwapResult, Target
from . import fetch, recovery, restore_state
from .dump import split_files
from .plan_mark import PlanMark, digest
from .run_state import RunState

_logger = logging.getLogger(journal.LOGGER)

CARRIED = "carried"  # in the runs' folder: where playbooks put what they bring from elsewhere
_FORGOTTEN = 86400  # seconds after which a copy that no restore came for is removed


def hold(target: Target) -> AbstractContextManager[None]:
    """Return the lock of the target's runs, whose folder is created if it is missing."""
    lock: AbstractContextManager[None] = restore_state.hold(
        restore_state.folder(target.runs_directory), target.database
    )
    return lock


def replaces_live(target: Target, identifier: str) -> bool:
    """Return whether a swap of this run replaces the live database: a restore beside replaces nothing."""
    run = restore_state.load(target.runs_directory / identifier) if identifier else None
    return run is None or run.mode != "beside"


def proven_run(target: Target, identifier: str) -> RunState:
    """Return the state of a run whose side database can be swapped in; raises if it cannot."""
    run = restore_state.load(target.runs_directory / identifier)
    if run is not None:
        run = run.with_values(**recovery.interrupted_swap(target, run))
    if run is None or run.status != restore_state.READY or run.database != target.database:
        raise SauvegardeError(
            f"The run {identifier} has no proven side database of {target.database}, so nothing can be swapped in.",
            f"Its state is {run.status if run else 'missing'}.",
            "Run the restore again.",
        )
    if run.mode == "beside" and target.exists(target.database):
        raise SauvegardeError(f"There already is a database {target.database}.", fix="Name another.")
    return run


def require_confirmed(target: Target, run: RunState, confirmed: PlanMark) -> None:
    """Raise SauvegardeError if the run is of another plan than the confirmed one, or the live database another one."""
    now = replace(confirmed, live=digest(target.live_facts()))
    if run.plan_mark:
        now = replace(PlanMark.from_text(run.plan_mark), live=now.live)
    confirmed.require(now)


def swap_in(
    target: Target, identifier: str, fence: float | None = None, confirmed: PlanMark | None = None
) -> dict[str, Any]:
    """Swap in the proven side database of a run; with mode `beside` it gets its own name.

    confirmed: the plan that was confirmed. Returns SwapResult.as_dict, with `host` and `lines` (for people).
    """
    directory = target.runs_directory
    with hold(target):
        recovery.settle_swaps(target)
        run = proven_run(target, identifier)
        if confirmed is not None:
            require_confirmed(target, run, confirmed)
        swap_id = _new_swap_id(target)
        restore_state.change(directory, identifier, swapped_at=swap_id, swap={"kept": target.previous_name(swap_id)})
        _logger.debug("swap %s: %r becomes %r", swap_id, run.side, target.database)
        try:
            result = target.swap_in(run.side, swap_id, fence).as_dict()
        except SauvegardeError:
            # The error does not say whether it happened: a server that ends during COMMIT may have swapped. If the
            # server does not answer here either, the next command settles it.
            with contextlib.suppress(SauvegardeError, psycopg2.Error):
                recovery.settle_swaps(target)
            raise
        if "notes" in result:
            result["notes"] += recovery.create_pg_cron(target, run)
        restore_state.change(directory, identifier, status=restore_state.SWAPPED, swap=result, **_beside(target, run))
        _remove_copies(directory, (run.path, run.globals))
        return dict(result, host=socket.gethostname(), lines=render.of_swap(run.values, result))


def _beside(target: Target, run: RunState) -> dict[str, Any]:
    """Return what a database that was put beside is known by later (beside_databases); {} for any other run."""
    if run.mode != "beside":
        return {}
    try:
        return {"oid": target.live_facts()["oid"]}
    except (SauvegardeError, psycopg2.Error, KeyError):
        return {}  # the restore is complete; only its removal is the user's own


def _new_swap_id(target: Target) -> str:
    """Return an id for a swap that is greater than those of all previous databases and of all swaps before it.

    It may not depend on the clock alone: a rollback chooses the newest.
    """
    others = [database.id for database in target.kept()]
    others += [run.swapped_at for run in restore_state.runs(target.runs_directory, target.database)]
    identifier: str = ids.new_id(target.runs_directory, others=others)
    return identifier


def _remove_copies(directory: Path, used: Iterable[str]) -> None:
    """Remove the copies that were brought here for a finished restore, and copies that were not used for a day.

    Removes nothing outside these folders, and nothing that another database's restore reads or may read again.
    """
    places = [directory / place for place in (CARRIED, fetch.PLACE)]
    needed = _with_parts(
        (
            path
            for run in restore_state.runs(directory)
            if run.status in (restore_state.RUNNING, restore_state.READY)
            for path in (run.path, run.globals)
        ),
        places,
    )
    used = _with_parts(used, places)
    for place in places:
        for copy in place.glob("*"):
            is_old = copy.stat().st_mtime < time.time() - _FORGOTTEN
            if str(copy) not in needed and (is_old or str(copy) in used):
                if copy.is_dir():
                    shutil.rmtree(copy, ignore_errors=True)
                else:
                    copy.unlink()


def _with_parts(paths: Iterable[str], places: Sequence[Path]) -> set[str]:
    """Return the paths, and for a split file in one of the places those of all its parts.

    Nothing is looked at elsewhere: another user may have brought it.
    """
    parts = {path for path in paths if path}
    for path in [Path(path) for path in parts]:
        if path.parent in places:
            with contextlib.suppress(OSError, SauvegardeError):
                parts.update(str(part) for part in split_files.parts(path)[0])
    return parts


def roll_back(target: Target, name: str = "") -> SwapResult:
    """Swap a previous database back in: the newest, or the one called `name`."""
    with hold(target):
        recovery.settle_swaps(target)
        swap_id = _new_swap_id(target)
        result = target.roll_back(swap_id, target.choose_previous(name))
        _record_rollback(target, swap_id, result)
        return result


def _record_rollback(target: Target, swap_id: str, result: SwapResult) -> None:
    """Record in the run whose swap was undone, and in those after it, that its database is not live.

    `aside` is the name under which it is kept now: a later rollback may put it back in place.
    """
    directory, database = target.runs_directory, target.database
    aside = result.kept
    live = restore_state.swapped(directory, database)
    while live:
        restore_state.change(directory, live.id, status=restore_state.BACK, aside=aside)
        aside = live.swap["kept"]
        live = restore_state.swapped(directory, database) if aside != result.restored else None
    for run in restore_state.runs(directory, database):
        if run.status == restore_state.BACK and run.aside == result.restored:
            restore_state.change(
                directory, run.id, status=restore_state.SWAPPED, swapped_at=swap_id, swap=result.as_dict()
            )
