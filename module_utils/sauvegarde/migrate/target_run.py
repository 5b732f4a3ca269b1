"""Keep a migration's side database among the runs of its target: reserve it, record its end, archive the live one.

All functions run as the OS user that owns the target's database, in a process of its own (system.run_as), so they
return plain values.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Callable

from ..archive import ids
from ..backup import kinds
from ..restore import recovery, restore_state, restore_swap
from ..targets.target import Reservation, Target

_SAFETY = "safety"


def survey(target: Target, tables: list[str]) -> dict[str, Any]:
    """Return Target.survey as a dictionary."""
    return target.survey(tables).as_dict()


def lock_folder(target: Target) -> str:
    """Return the folder of the lock that restores take too, in which its owner has created the lock's file."""
    with restore_swap.hold(target):
        return str(target.runs_directory)


def reserve(target: Target, path: str, mark: Any) -> dict[str, str]:
    """Remove what killed runs left, and set a run's folder aside. Returns {"id", "side"}; its state says `running`.

    path and mark: of the archive. The caller holds the lock.
    """
    recovery.abandon_migrations(target)
    recovery.clean(target)
    directory = restore_state.folder(target.runs_directory)
    identifier = ids.new_id(directory)
    side = target.side_name(identifier)
    with restore_state.State(
        directory, identifier, database=target.database, side=side, mode="swap", path=path, mark=mark
    ):
        return asdict(Reservation(identifier, side))


def record_end(target: Target, identifier: str, status: str, masked: bool = False, plan_mark: str = "") -> None:
    """Record how the run ended: a `ready` one can be swapped in. plan_mark: of the plan that was confirmed, if any."""
    values = {"status": status, "step": status, "migration": True, "masked": masked}
    if plan_mark:
        values["plan_mark"] = plan_mark
    restore_state.change(target.runs_directory, identifier, **values)


def is_masked(target: Target) -> bool:
    """Return whether a masked migration created the live database."""
    live = restore_state.swapped(target.runs_directory, target.database)
    return live is not None and live.is_masked


def archive_live(target: Target) -> str:
    """Archive the live database, in the catalog's own form. Returns the archive's path, '' where nothing is live."""
    if not target.exists(target.database):
        return ""
    root = restore_state.folder(target.runs_directory) / _SAFETY
    (root / "live").mkdir(mode=0o700, parents=True, exist_ok=True)
    job = dict(target.backup_job(), name="live")
    return str(root / "live" / kinds.back_up(job, root)["id"])


def copy_live(target: Target, path: str, mark: Any, restore: Callable[[], dict[str, Any]]) -> dict[str, str]:
    """Reserve a side database that holds what the live one does. Returns as `reserve`.

    restore: restores the live database's archive, and returns the final state of that run.
    """

    def restored() -> Reservation:
        recovery.abandon_migrations(target)
        run = restore()
        # It is proven as a copy; until what comes into it is proven too, it must not be swapped in.
        record_end(target, run["id"], restore_state.RUNNING)
        return Reservation(run["id"], run["side"])

    return asdict(target.copy_live(lambda: Reservation(**reserve(target, path, mark)), restored))


def finish(target: Target, name: str) -> dict[str, Any]:
    """Return Target.finish as a dictionary."""
    return asdict(target.finish(name))
