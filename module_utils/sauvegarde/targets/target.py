"""Define what every target offers: the database that a restore or a migration fills, swaps in and rolls back.

`Target` has one implementation per database engine: `postgresql_target` and `sqlite_target`. `target_choice` selects
the one that a database's name stands for. All methods of an implementation run as the OS user that owns the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Protocol

from ..errors import SauvegardeError
from ..postgres.postgres_server import Server


@dataclass(frozen=True)
class KeptDatabase:
    """A database beside the live one that a restore created or kept.

    kind: PREVIOUS (it was live before a swap) or SIDE (it waits for its swap, or is still being filled).
    bytes: its size.
    """

    name: str
    kind: str
    id: str
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Session:
    """A client of the live database: a session of a server, or a process that has a file open."""

    pid: int
    user: str
    application: str
    address: str
    state: str


@dataclass(frozen=True)
class SwapResult:
    """The outcome of a swap or a rollback.

    seconds: how long the database could not be reached. ended: sessions that were ended. kept: name of the previous
    database, None if there was none. notes: what to do about what is tied to either database; None for an engine that
    has nothing of the sort. restored: name that the live database had before a rollback, None for a swap.
    """

    seconds: float
    ended: int
    kept: str | None = None
    notes: tuple[str, ...] | None = None
    restored: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the values of a run's state and of a module's result."""
        values: dict[str, Any] = {"seconds": self.seconds, "ended": self.ended, "kept": self.kept}
        if self.notes is not None:
            values["notes"] = list(self.notes)
        if self.restored is not None:
            values["restored"] = self.restored
        return values


@dataclass(frozen=True)
class LiveDatabase:
    """The live database of a migration's target. others: names of what the site's migrations do not make."""

    bytes: int
    sessions: tuple[Session, ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """A migration's target before anything is done.

    system: the server's system identifier, '' for a file. postgis: the version that is available, '' for none.
    obstacles: sentences.
    """

    version: str
    system: str
    postgis: str
    standby: bool
    live: LiveDatabase | None
    kept: tuple[KeptDatabase, ...]
    obstacles: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Survey:
        """Return the survey that `as_dict` described (another process took it)."""
        live = values["live"]
        if live is not None:
            sessions = tuple(Session(**session) for session in live["sessions"])
            live = LiveDatabase(live["bytes"], sessions, tuple(live["others"]))
        kept = tuple(KeptDatabase(**database) for database in values["kept"])
        return cls(**dict(values, live=live, kept=kept, obstacles=tuple(values["obstacles"])))


@dataclass(frozen=True)
class Reservation:
    """A side database that a migration may fill, and the id of its run among the target's runs."""

    id: str
    side: str


@dataclass(frozen=True)
class Finish:
    """What the last step on a side database came to. skipped: settings that the server does not know."""

    skipped: tuple[str, ...]
    bytes: int


class Target(Protocol):
    """The live database, the side database that will replace it, and the previous databases."""

    @property
    def database(self) -> str:
        """The live database: a name on a server, or a file's absolute path."""

    @property
    def label(self) -> str:
        """The name that a confirmation has to contain."""

    @property
    def runs_directory(self) -> Path:
        """The private folder of the runs' states. Reading it creates nothing."""

    def side_name(self, identifier: str) -> str:
        """Return the name of the side database of the run `identifier`."""

    def previous_name(self, identifier: str) -> str:
        """Return the name that the live database gets in the swap `identifier`."""

    def exists(self, name: str) -> bool:
        """Return whether there is a database (or file) of this name, whatever its state."""

    def is_whole(self, name: str) -> bool:
        """Return whether there is one of this name that can be used."""

    def live_facts(self) -> dict[str, Any]:
        """Return what a plan holds fast about the live database: its identity and properties; {} if there is none."""

    def side_databases(self) -> list[str]:
        """Return the names of the side databases that are there, whole or not."""

    def kept(self) -> list[KeptDatabase]:
        """Return what restores left beside the live database, newest first."""

    def drop(self, name: str) -> bool:
        """Remove a side or a previous database. Returns whether it was there."""

    def remove(self, name: str) -> bool:
        """Remove one of `kept`, by its whole name; any other is refused. Returns whether it was there."""

    def swap_in(self, side: str, identifier: str, fence: float | None = None) -> SwapResult:
        """Put a side database in the live one's place, or change nothing.

        fence: maximum seconds for which clients are blocked; the engine's default without it.
        """

    def choose_previous(self, name: str = "") -> str:
        """Return the previous database `name`, or the newest one; raises if there is none."""

    def roll_back(self, identifier: str, name: str = "") -> SwapResult:
        """Put a previous database (`choose_previous`) in the live one's place, which becomes a previous one itself."""

    def with_server(self, action: Callable[[Server], list[str]]) -> list[str]:
        """Return the result of an action on the server, [] for an engine without one."""

    def survey(self, tables: Sequence[str]) -> Survey:
        """Describe the target to a migration. tables: those of the site."""

    def system_identifier(self) -> str:
        """Return the server's system identifier; '' for a file, and where the server does not tell it."""

    def obstacles_to_open(self) -> list[str]:
        """Return sentences: why no archive can be restored beside the live database."""

    def backup_job(self) -> dict[str, Any]:
        """Return the job that archives the live database, without its name."""

    def create_side(self, name: str) -> None:
        """Create the empty side database, with the live one's properties, for the site's migrations to fill."""

    def copy_live(self, reserve: Callable[[], Reservation], restore: Callable[[], Reservation]) -> Reservation:
        """Return a side database with the live one's contents.

        It is copied here into a side database that `reserve` returns, or `restore` loads the live one's archive.
        """

    def differences(self, name: str, tables: Iterable[str], rows: Mapping[str, int]) -> list[str]:
        """Return sentences: which tables the side database lacks, and which hold another number of rows.

        Asked without the site. tables: all of the site's; those that the live database has must be there. rows: number
        of rows by table; these must be there.
        """

    def finish(self, name: str) -> Finish:
        """Take statistics of the filled side database, and give it the live one's own properties."""


def choose_previous(database: str, names: Sequence[str], name: str = "") -> str:
    """Return `name`, or the newest of the previous databases; raises if there is none. names: newest first."""
    if name and name not in names:
        raise SauvegardeError(
            f"There is no previous database {name} of {database}.",
            "Kept: " + (", ".join(names) or "none"),
            "Name one of those that are kept.",
        )
    if not names:
        raise SauvegardeError(
            f"There is nothing to go back to: no previous database was kept from a swap of {database}.",
            fix="Restore an archive instead.",
        )
    return name or names[0]
