"""Read the settings of this host: its jobs, the repositories that they copy to, the repositories that it tidies.

The backup role writes them to /etc/sauvegarde, one JSON file each:

    jobs/NAME.json       a job (class Job)
    pings/NAME           the address of its dead man's switch, which is a secret
    offsite/NAME.json    a repository with all that opens it (offsite/repository.py)
    forget/NAME.json     a repository that this host tidies for others (class HostedRepository)

All are owned by root, mode 0600. Root reads them before a run continues as the job's user.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .archive import ids
from .archive.retention import RetentionPolicy
from .errors import SauvegardeError
from .offsite import credentials
from .offsite.repository import Repository
from .postgres.database_selection import DatabaseSelection
from .report import job_state
from .system.run_as import RUN_AS_ROOT, account

CONFIGURATION = "/etc/sauvegarde"
ARCHIVES = "/var/backups/sauvegarde"
STATES = "/var/lib/sauvegarde"
MANIFESTS = "/var/cache/sauvegarde"
TIMEOUT = 12 * 3600.0  # seconds after which a job ends that sets no limit of its own


@dataclass(frozen=True)
class Job:
    """A scheduled backup definition.

    host: the inventory's name. root: the folder of the archives. state: the job's own folder. timeout: seconds, 0 for
    none. before, after: commands, each a list of words. metrics: the folder of its metrics file; None for none.
    offsite: names of repositories. replaces: systems whose archives are this job's, too (archive/machine_identity.py).
    ping: address of a dead man's switch; empty for none. databases, exclude: patterns of a `pg_dump` job that backs up
    several databases, one archive each; empty for a job of one. options: what the kind needs (backup/kinds), as in the
    file.
    """

    name: str
    kind: str
    user: str
    host: str
    root: Path
    state: Path
    configuration: Path = Path(CONFIGURATION)
    timeout: float = TIMEOUT
    nice: int = 10
    allow_failure: bool = False
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    before: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()
    metrics: Path | None = None
    offsite: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    ping: str = field(default="", repr=False)
    databases: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], configuration: str | Path = CONFIGURATION, ping: str = "") -> Job:
        """Return the job of a settings file. Raises SauvegardeError that names a missing or wrong key."""
        reader = _Reader(f"job {values.get('name')}", values)
        metrics = reader.get("metrics", str, "")
        job = cls(
            name=reader.required("name"),
            kind=reader.required("kind"),
            user=reader.required("user"),
            host=reader.required("host"),
            root=Path(reader.required("root")),
            state=Path(reader.required("state")),
            configuration=Path(configuration),
            timeout=reader.number("timeout", TIMEOUT),
            nice=int(reader.number("nice", 10)),
            allow_failure=bool(values.get("allow_failure", False)),
            retention=RetentionPolicy.from_values(values.get("retention")),
            before=reader.commands("before"),
            after=reader.commands("after"),
            metrics=Path(metrics) if metrics else None,
            offsite=tuple(map(str, reader.get("offsite", list, []))),
            replaces=tuple(map(str, reader.get("replaces", list, []))),
            ping=ping,
            databases=reader.texts("databases"),
            exclude=reader.texts("exclude"),
            options={key: value for key, value in values.items() if key not in JOB_KEYS},
        )
        job._require_consistent_databases()
        return job

    def _require_consistent_databases(self) -> None:
        subject = f"The job {self.name}"
        if not self.databases and not self.exclude:
            return
        if self.kind != "pg_dump" or not self.databases:
            raise SauvegardeError(
                f"{subject} has `databases` or `exclude`, which do not go with its kind or its other settings.",
                f"Its kind is {self.kind}; `exclude` leaves out some of the databases of `databases`.",
                "Use them together, and only for kind pg_dump.",
            )
        if self.options.get("database"):
            raise SauvegardeError(
                f"{subject} has `database` and `databases`.",
                fix="Keep `database` for one archive of one database, or `databases` for one archive of each.",
            )
        DatabaseSelection(self.databases, self.exclude).require_consistent(subject)

    @property
    def selection(self) -> DatabaseSelection | None:
        """The databases of a job that backs up several, one archive each; None for any other job."""
        return DatabaseSelection(self.databases, self.exclude) if self.databases else None

    @property
    def directory(self) -> Path:
        """The directory of the job's archives."""
        return ids.job_directory(self.root, self.name)

    def kind_values(self, database: str = "") -> dict[str, Any]:
        """Return what the job's kind takes (backup/kinds): name, kind and the kind's own settings.

        database: the one of its databases that is backed up, for a job of several.
        """
        own = {"database": database} if database else {}
        return {"name": self.name, "kind": self.kind, **self.options, **own}

    def is_configured(self) -> bool:
        """Return whether the job is still in the inventory. Its own user can ask this, too."""
        return os.path.lexists(self.configuration / "jobs" / f"{self.name}.json")


JOB_KEYS = {entry.name for entry in dataclasses.fields(Job)} - {"configuration", "ping", "options"}


@dataclass(frozen=True)
class HostedRepository:
    """A repository of this host that it tidies by the retention of the hosts that fill it.

    user: owner of its files. state: folder of its lock. policies: {host, job, retention} each.
    """

    repository: Repository
    user: str
    state: Path
    policies: tuple[Mapping[str, Any], ...]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> HostedRepository:
        """Return the hosted repository of a settings file. Raises SauvegardeError that names a wrong key."""
        reader = _Reader(f"repository to tidy {values.get('name')}", values)
        own = ("user", "state", "policies")
        return cls(
            repository=Repository.from_values({key: value for key, value in values.items() if key not in own}),
            user=reader.required("user"),
            state=Path(reader.required("state")),
            policies=tuple(reader.get("policies", list, [])),
        )


class _Reader:
    """Reads checked values out of a settings file. `subject` names what they belong to, for errors."""

    def __init__(self, subject: str, values: Mapping[str, Any]) -> None:
        self._subject, self._values = subject, values

    def error(self, key: str, expected: str) -> SauvegardeError:
        """Return the error about a key. It leaves the value out, which may be a secret."""
        return SauvegardeError(
            f"The settings of the {self._subject} are wrong.",
            f"Missing or wrong: {key}. Expected: {expected}.",
            "Run the backup role, which writes them.",
        )

    def required(self, key: str) -> str:
        value = self._values.get(key)
        if not value or not isinstance(value, str):
            raise self.error(key, "a text")
        return value

    def get(self, key: str, kind: type, default: Any) -> Any:
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise self.error(key, "a list" if kind is list else "a text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; one text stands for a list of it."""
        value = self._values.get(key)
        values = [value] if isinstance(value, str) else self.get(key, list, [])
        if any(isinstance(text, (list, dict)) or text is None for text in values):
            raise self.error(key, "a list of texts")
        return tuple(map(str, values))

    def number(self, key: str, default: float) -> float:
        value = self._values.get(key, default)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise self.error(key, "a number") from None

    def commands(self, key: str) -> tuple[tuple[str, ...], ...]:
        commands = self.get(key, list, [])
        for words in commands:
            # A number in the inventory is a word, too: [curl, -m, 10].
            if not isinstance(words, list) or not words or any(isinstance(word, (list, dict)) for word in words):
                raise self.error(key, "commands, each a list of words")
        return tuple(tuple(map(str, words)) for words in commands)


def _read(path: Path, subject: str) -> dict[str, Any]:
    """Return the settings in a JSON file whose `name` is that of the file. subject: what they describe."""
    try:
        with path.open(encoding="utf-8") as file:
            values = json.load(file)
    except FileNotFoundError:
        names = sorted(other.stem for other in path.parent.glob("*.json")) if os.access(path.parent, os.R_OK) else []
        raise SauvegardeError(
            f"There is no {subject} named {path.stem} on this host.",
            "Known: {}.".format(", ".join(names) or "none"),
            "Add it to the inventory and run the backup role, or name another.",
        ) from None
    except (OSError, ValueError) as error:
        fix = RUN_AS_ROOT if isinstance(error, PermissionError) else ""
        raise SauvegardeError(f"The settings of the {subject} {path.stem} cannot be read.", str(error), fix) from error
    if not isinstance(values, dict):
        raise SauvegardeError(f"The settings of the {subject} {path.stem} are no mapping: {path}")
    reader = _Reader(f"{subject} {path.stem}", values)
    if reader.required("name") != path.stem:
        raise reader.error("name", "the name of the file")
    return values


def load_job(name: str, configuration: str | Path = CONFIGURATION) -> Job:
    """Return a job of this host. Raises SauvegardeError that names what is missing or wrong."""
    values = _read(Path(configuration) / "jobs" / f"{ids.check_job_name(name)}.json", "job")
    try:
        ping = (Path(configuration) / "pings" / name).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        ping = ""  # a ping never fails a backup
    return Job.from_values(values, configuration, ping)


def _repository_path(name: str, configuration: str | Path) -> Path:
    return Path(configuration) / "offsite" / f"{ids.check_job_name(name)}.json"


def load_repository(name: str, configuration: str | Path = CONFIGURATION) -> Repository:
    """Return a repository that jobs of this host copy to."""
    values = _read(_repository_path(name, configuration), "repository")
    reader = _Reader(f"repository {name}", values)
    for key in ("repository", "password"):
        reader.required(key)
    return Repository.from_values(values)


def load_hosted_repository(name: str, configuration: str | Path = CONFIGURATION) -> HostedRepository:
    """Return a repository that this host tidies for others."""
    values = _read(Path(configuration) / "forget" / f"{ids.check_job_name(name)}.json", "repository to tidy")
    reader = _Reader(f"repository to tidy {name}", values)
    for key in ("repository", "password"):
        reader.required(key)
    return HostedRepository.from_values(values)


def open_repositories(job: Job) -> dict[str, Repository | SauvegardeError]:
    """Return the repositories that a job copies to, ready for use: {name: repository}.

    A repository that cannot be used is replaced by its error, which does not stop the backup. Call this before the
    process becomes the job's user: only root can read the settings.
    """
    repositories: dict[str, Repository | SauvegardeError] = {}
    for name in job.offsite:
        try:
            lock_file = _repository_path(name, job.configuration)
            repositories[name] = dataclasses.replace(
                load_repository(name, job.configuration),
                secrets_folder=secrets_folder(job.state, job.name, job.user),
                cache=str(job.state / "cache"),
                init_lock=os.open(lock_file, os.O_RDONLY | os.O_CLOEXEC),
                known=_was_copied_to(name, job),
            )
        except SauvegardeError as error:
            repositories[name] = error
        except Exception as error:  # noqa: BLE001 - whatever it is, the backup itself needs no repository
            why = f"{type(error).__name__}: {error}"
            repositories[name] = SauvegardeError(f"The repository {name} cannot be used.", why)
    return repositories


def _was_copied_to(repository: str, job: Job) -> bool:
    """Return whether the state of any job of this host records a copy to the repository."""
    folders = {job.state}
    for name in job_names(job.configuration):
        with contextlib.suppress(Exception):  # another job's settings: its own run reports what is wrong with them
            folders.add(load_job(name, job.configuration).state)
    for folder in folders:
        state = job_state.read(folder / "state.json")
        with contextlib.suppress(AttributeError):  # the state belongs to its job's user, who can write anything there
            if state.get("offsite", {}).get(repository, {}).get("last_success"):
                return True
    return False


def secrets_folder(state: str | Path, name: str = "", user: str = "root") -> str:
    """Return the folder for files that open repositories while restic runs as `user` (offsite/credentials.py).

    A process that is not root can read nothing but what its user can: it uses `state`, a folder of its own.
    """
    if os.geteuid() != 0:
        return str(state)
    try:
        return str(credentials.place(name, account(user).pw_uid))
    except OSError as error:
        raise SauvegardeError(
            "The folder for the secrets of the repositories cannot be made.", str(error), RUN_AS_ROOT
        ) from error


def _names(configuration: str | Path, folder: str) -> list[str]:
    try:
        names = [path.name for path in (Path(configuration) / folder).iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SauvegardeError("The settings of this host cannot be read.", str(error), RUN_AS_ROOT) from error
    return sorted(name[: -len(".json")] for name in names if name.endswith(".json") and not name.startswith("."))


def job_names(configuration: str | Path = CONFIGURATION) -> list[str]:
    """Return the names of this host's jobs."""
    return _names(configuration, "jobs")


def repository_names(configuration: str | Path = CONFIGURATION) -> list[str]:
    """Return the names of the repositories that jobs of this host copy to."""
    return _names(configuration, "offsite")


def hosted_repository_names(configuration: str | Path = CONFIGURATION) -> list[str]:
    """Return the names of the repositories that this host tidies for others."""
    return _names(configuration, "forget")
