"""Read the state of a restore's or a migration's run, validated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SauvegardeError

RUNNING, READY, FAILED, KILLED, SWAPPED, BACK = "running", "ready", "failed", "killed", "swapped", "rolled back"
OPENED = "opened"  # loaded to be read by a migration, never swapped in
_REQUIRED = ("id", "database", "status")
_TEXTS = ("side", "path", "globals", "mode", "plan_mark", "swapped_at", "aside")


@dataclass(frozen=True)
class RunState:
    """The state of one run, as its file has it.

    id: of the run. database: the live one. status: one of the constants above. side: the side database. path, globals:
    of what is restored. mode: `swap` or `beside`. mark: values that are equal only for the same restore of the same
    source. plan_mark: of the confirmed plan. swapped_at: the id of its swap, '' without one. swap: the swap's result.
    aside: the name that its database got by a rollback. rate: bytes a second, 0 if unknown. roles_created: names.
    scheduled: pg_cron's jobs to create after the swap, None if nothing was postponed. source_database: the name at the
    source. losses: the accepted ones and others. values: all of it, as JSON.
    """

    id: str
    database: str
    status: str
    values: Mapping[str, Any] = field(repr=False)
    side: str = ""
    path: str = ""
    globals: str = ""
    mode: str = ""
    plan_mark: str = ""
    swapped_at: str = ""
    aside: str = ""
    mark: Any = None
    swap: Mapping[str, Any] = field(default_factory=dict)
    rate: int = 0
    roles_created: tuple[str, ...] = ()
    scheduled: list[dict[str, Any]] | None = None
    source_database: str = ""
    losses: tuple[Mapping[str, Any], ...] = ()
    is_migration: bool = False
    is_masked: bool = False

    @classmethod
    def from_values(cls, values: Mapping[str, Any], path: str | Path) -> RunState:
        """Return the state that a file has. Raises SauvegardeError if a key is missing or has the wrong type.

        path: of the file, for the message. Runs of earlier versions lack some of the optional keys.
        """
        wrong = [key for key in _REQUIRED if not isinstance(values.get(key), str)]
        wrong += [key for key in _TEXTS if not isinstance(values.get(key) or "", str)]
        wrong += [key for key in ("swap", "archive") if not isinstance(values.get(key) or {}, dict)]
        wrong += [key for key in ("roles_made", "losses", "scheduled") if not isinstance(values.get(key) or [], list)]
        if wrong:
            raise SauvegardeError(
                f"The state of a run is damaged: {path}",
                f"Missing or wrong: {', '.join(wrong)}.",
                "Remove its folder, if no restore runs there.",
            )
        return cls(
            **{key: values[key] for key in _REQUIRED},
            **{key: values.get(key) or "" for key in _TEXTS},
            values=values,
            mark=values.get("mark"),
            swap=values.get("swap") or {},
            rate=values.get("rate") or 0,
            roles_created=tuple(values.get("roles_made") or ()),
            scheduled=values.get("scheduled"),
            source_database=(values.get("archive") or {}).get("database") or "",
            losses=tuple(values.get("losses") or ()),
            is_migration=bool(values.get("migration")),
            is_masked=bool(values.get("masked")),
        )

    def with_values(self, **values: Any) -> RunState:
        """Return the state with other values, by their keys in the file."""
        return RunState.from_values({**self.values, **values}, self.id)
