"""Define the request for a restore: validated once, where a module's parameters enter the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..archive import manifest
from ..errors import SauvegardeError
from ..postgres.postgres_server import Server
from ..system import parallel_jobs
from ..targets.postgresql_target import PostgresqlTarget
from .dump import loss_names
from .plan_mark import PlanMark

SWAP, BESIDE = "swap", "beside"
DIRECTORY = "/var/lib/postgresql/sauvegarde"  # default of the private folder of a server's runs

_DEFAULTS: dict[str, Any] = {
    "connection": {},
    "path": "",
    "database": "",
    "directory": DIRECTORY,
    "mode": SWAP,
    "file_database": "",
    "globals": "",
    "globals_roles": "named",
    "missing_roles": "refuse",
    "owner": "",
    "encoding": "",
    "locale": "",
    "jobs": 0,
    "partial": "",
    "accept_losses": (),
    "plan_mark": "",
}
_CHOICES = {"mode": (SWAP, BESIDE), "globals_roles": ("named", "all"), "missing_roles": ("refuse", "create")}
# Values that make two restores of the same source different ones.
_COMPARED = (
    "mode", "path", "file_database", "globals", "missing_roles", "owner", "encoding", "locale", "globals_roles"
)  # fmt: skip


@dataclass(frozen=True)
class RestoreRequest:
    """What to restore, where, and how.

    target: the database that will be replaced or, with mode `beside`, created. path: of the source, on this host.
    file_database: which database of a pg_dumpall file, the target's name by default. globals: path of a globals file.
    globals_roles: create the roles that the source names (`named`), or all of the globals (`all`). missing_roles:
    `refuse` or `create` those that are not described. owner, encoding, locale: instead of the source's. jobs: tables
    and indexes at a time. partial: partial_dump.WORD if the source may hold less than the live database.
    accept_losses: names of objects (loss_names.loss_name) that may be missing afterwards if they cannot be restored.
    confirmed: the mark of the plan that was confirmed, None to carry out whatever the plan is.
    """

    target: PostgresqlTarget
    path: str
    mode: str = SWAP
    file_database: str = ""
    globals: str = ""
    globals_roles: str = "named"
    missing_roles: str = "refuse"
    owner: str = ""
    encoding: str = ""
    locale: str = ""
    jobs: int = 1
    partial: str = ""
    accept_losses: tuple[str, ...] = ()
    confirmed: PlanMark | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> RestoreRequest:
        """Return the request of a module's parameters. Raises SauvegardeError for unknown settings and values."""
        unknown = sorted(set(values) - set(_DEFAULTS))
        if unknown:
            raise SauvegardeError(
                "Unknown restore settings: " + ", ".join(unknown), fix="Known: " + ", ".join(sorted(_DEFAULTS))
            )
        settings = dict(_DEFAULTS, **values)
        for name in ("path", "database"):
            if not settings[name]:
                raise SauvegardeError(f"`{name}` is required.")
        for name, choices in _CHOICES.items():
            if settings[name] not in choices:
                raise SauvegardeError(f"{name} is {settings[name]!r}.", fix="Use " + " or ".join(choices) + ".")
        server = Server.from_values(settings.pop("connection"))
        target = PostgresqlTarget(settings.pop("database"), server, Path(settings.pop("directory")))
        settings["jobs"] = int(settings["jobs"]) or parallel_jobs.default_jobs()
        settings["accept_losses"] = tuple(loss_names.accepted_names(settings["accept_losses"]))
        text = settings.pop("plan_mark")
        return cls(target, **settings, confirmed=PlanMark.from_text(text) if text else None)

    @property
    def database(self) -> str:
        return self.target.database

    @property
    def is_beside(self) -> bool:
        return self.mode == BESIDE

    def mark(self) -> list[Any]:
        """Return values that are equal only for the same restore of the same source.

        Archives are compared by their manifest, not by time, since the same archive may have been copied here again. A
        newer file of the same name differs. Raises OSError if there is nothing at the path.
        """
        values: list[Any] = [getattr(self, name) for name in _COMPARED]
        values.append(sorted(self.accept_losses))
        return [*values, *content_mark(self.path)]

    def source_facts(self) -> list[Any]:
        """Return what a plan's mark holds fast about the source: `mark`, and the same of the globals."""
        return [self.mark() if Path(self.path).exists() else None, content_mark(self.globals) if self.globals else None]


def content_mark(path: str) -> list[Any]:
    """Return what tells a source from another one at the same path: its manifest's digest, or its size and time."""
    manifest_path = Path(path) / manifest.NAME
    if manifest_path.is_file():
        return [hashlib.sha256(manifest_path.read_bytes()).hexdigest()]
    status = Path(path).stat()
    return [status.st_size, status.st_mtime]
