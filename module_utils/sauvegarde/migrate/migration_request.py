"""Define the request for a migration: validated once, where a module's parameters enter the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..archive import archive_reader
from ..django import data_load, site
from ..django.site import Site
from ..errors import SauvegardeError
from ..postgres.postgres_server import Server
from ..restore.plan_mark import PlanMark
from ..restore.request import DIRECTORY as SERVER_DIRECTORY

DIRECTORY = "/var/lib/sauvegarde/migrations"  # default of the private folder of the migrations' runs

_DEFAULTS: dict[str, Any] = {
    "site": {},
    "path": "",
    "directory": DIRECTORY,
    "server_directory": SERVER_DIRECTORY,
    "connection": {},
    "keeper": "",
    "labels": (),
    "exclude": (),
    "include": (),
    "hidden": "travel",
    "policy": {},
    "unknown": "stop",
    "environment_of_host": "",
    "plan_mark": "",
}


@dataclass(frozen=True)
class DatabaseAccess:
    """How to reach a site's database without the site: as the OS user that owns it.

    owner: '' for postgres, or the site's own user with SQLite. server: not used with SQLite. directory: private folder
    of all runs on that server.
    """

    owner: str = ""
    server: Server = field(default_factory=Server)
    directory: Path = Path(SERVER_DIRECTORY)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> DatabaseAccess:
        """Return the access of a module's parameters keeper, connection and server_directory."""
        return cls(values["keeper"], Server.from_values(values["connection"]), Path(values["server_directory"]))


@dataclass(frozen=True)
class MigrationRequest:
    """What to move into a site, and how.

    site: the target. access: to its database. path: of the carried archive, '' for a plan. directory: private folder of
    the runs' states. labels: models and applications to move, () for the whole site. exclude: those to leave out.
    include: search indexes and unmanaged models to move, too. hidden: whether the source dumps rows that a default
    manager hides (`travel`) or not (`stay`). policy: what to do about values that the target cannot store
    (data_load.policies). unknown: `stop` at what the target's code does not know, or `skip` it. environment: of the
    target's host. mark: equal for the same migration of the same archive. confirmed: the mark of the plan that was
    confirmed, None to accept any plan.
    """

    site: Site
    access: DatabaseAccess = field(default_factory=DatabaseAccess)
    path: str = ""
    directory: Path = Path(DIRECTORY)
    labels: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    hidden: str = "travel"
    policy: Mapping[str, Any] = field(default_factory=dict)
    unknown: str = "stop"
    environment: str = ""
    mark: list[Any] | None = None
    confirmed: PlanMark | None = None

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> MigrationRequest:
        """Return the request of a module's parameters. Raises SauvegardeError for unknown settings and values."""
        unknown = sorted(set(values) - set(_DEFAULTS))
        if unknown:
            raise SauvegardeError(
                "Unknown migration settings: " + ", ".join(unknown), fix="Known: " + ", ".join(sorted(_DEFAULTS))
            )
        settings = dict(_DEFAULTS, **values)
        data_load.options({"policy": settings["policy"]})  # refuses an unknown policy
        labels, exclude, include = (tuple(settings[name]) for name in ("labels", "exclude", "include"))
        path, mark = settings["path"], None
        if path:
            mark = [path, archive_reader.read_manifest(path).id, list(labels), list(exclude), list(include)]
        text = settings["plan_mark"]
        return cls(
            site.site(settings["site"]),
            DatabaseAccess.from_values(settings),
            path,
            Path(settings["directory"]),
            labels,
            exclude,
            include,
            settings["hidden"],
            settings["policy"],
            settings["unknown"],
            settings["environment_of_host"],
            mark,
            PlanMark.from_text(text) if text else None,
        )

    @property
    def is_whole_site(self) -> bool:
        return not self.labels
