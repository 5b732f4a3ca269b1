"""List and remove what restores left beside live databases, and name the losses that live ones were restored with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..targets.postgresql_target import PostgresqlTarget
from ..targets.target import KeptDatabase, Target
from . import beside_databases, recovery, restore_state, restore_swap


def kept(target: Target) -> list[KeptDatabase]:
    """Return the databases that restores left: previous and side databases, and those that they put beside."""
    return [*target.kept(), *beside_databases.databases(target)]


def remove(target: Target, name: str) -> bool:
    """Remove one of `kept` by its whole name. Returns whether it was there."""
    with restore_swap.hold(target):
        # A side database that is gone means that its swap happened, so interrupted swaps are settled before.
        recovery.settle_swaps(target)
        if isinstance(target, PostgresqlTarget) and name in {each.name for each in beside_databases.databases(target)}:
            return beside_databases.remove(target, name)
        return target.remove(name)


def losses_of_live(directory: str | Path, database: str = "") -> list[dict[str, Any]]:
    """Return the accepted losses of live databases, [{database, id, objects}], of the swaps that hold.

    directory: of the runs. database: of this one alone.
    """
    directory = Path(directory)
    if not directory.is_dir():
        return []
    losses = []
    for name in sorted({run.database for run in restore_state.runs(directory)}):
        live = restore_state.swapped(directory, name)
        if live and live.losses and database in ("", name):
            objects = [loss["object"] for loss in live.losses]
            losses.append({"database": name, "id": live.id, "objects": objects})
    return losses
