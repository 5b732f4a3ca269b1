"""List what can be restored, on this host and in repositories, always from the archives' own manifests.

There is no database that could be lost or differ from the archives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import socket
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from . import config
from .archive import archive_reader, ids, manifest
from .archive.manifest import Manifest
from .config import Job
from .errors import SauvegardeError, from_exception
from .offsite import restic
from .offsite.repository import Repository
from .offsite.restic import Snapshot
from .system import atomic_file
from .system.run_as import account, call_as

LOCAL, SERVER = "local", "server"  # values of CatalogEntry.where


@dataclass(frozen=True)
class CatalogEntry:
    """An archive, or a database that a restore left on a server. plugins/filter/sauvegarde_catalog_text.py prints it.

    job, id, kind, started, ended, bytes, stored_bytes and warnings are the manifest's. host: the inventory's name.
    system: the system that the archive belongs to (archive/machine_identity.py), empty where that is unknown.
    source: what the archive holds, in a few words. verified: false for an archive that is damaged, or was set aside for
    it, and then `problem` says why; None for a database on a server, which nothing was compared with.
    lacks: sentences about what of its database the archive does not hold (Manifest.lacks).
    proven: what the fingerprint covers (Manifest.proof_scope). unproven: what it does not cover, {object, why} each.
    where: LOCAL, SERVER or the repository's name. path: the archive's directory, the restic snapshot, or the database.
    """

    host: str
    system: str
    job: str
    id: str
    kind: str
    source: str
    started: str
    ended: str
    bytes: int
    stored_bytes: int
    verified: bool | None
    problem: str
    warnings: tuple[str, ...]
    lacks: tuple[str, ...]
    proven: str
    unproven: tuple[Mapping[str, str], ...]
    where: str
    path: str

    @classmethod
    def of_manifest(cls, contents: Manifest, host: str, where: str, path: str | Path, system: str = "") -> CatalogEntry:
        """Return the entry of a complete archive. system: overrides the one in the manifest."""
        return cls(
            host=host,
            system=system or contents.system_identifier,
            job=contents.job,
            id=contents.id,
            kind=contents.kind,
            source=describe_source(contents),
            started=contents.started,
            ended=contents.ended,
            bytes=contents.bytes,
            stored_bytes=contents.stored_bytes,
            verified=True,
            problem="",
            warnings=contents.warnings,
            lacks=contents.lacks,
            proven=contents.proof_scope,
            unproven=tuple(contents.unproven),
            where=where,
            path=str(path),
        )

    @classmethod
    def without_manifest(
        cls,
        job: str,
        identifier: str,
        host: str,
        where: str,
        path: str | Path,
        problem: str = "",
        verified: bool | None = False,
        kind: str = "",
        source: str = "",
        size: int = 0,
    ) -> CatalogEntry:
        """Return the entry of a damaged archive, or of something that is not an archive. size: in bytes."""
        return cls(
            host=host,
            system="",
            job=job,
            id=identifier,
            kind=kind,
            source=source,
            started="",
            ended="",
            bytes=size,
            stored_bytes=size,
            verified=verified,
            problem=problem,
            warnings=(),
            lacks=(),
            proven="",
            unproven=(),
            where=where,
            path=str(path),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CatalogEntry:
        """Return the entry that `as_dict` described."""
        lists = {key: tuple(values.get(key, ())) for key in ("warnings", "lacks", "unproven")}
        return cls(**{**values, **lists})

    @property
    def database(self) -> str:
        """The database that an archive of the kind pg_dump holds; empty for any other."""
        return source_name(self.source) if self.kind == "pg_dump" else ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a result."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, **{key: list(values[key]) for key in ("warnings", "lacks", "unproven")}}


def describe_source(contents: Manifest) -> str:
    """Return what an archive holds, in a few words: `elpaso (15.18) from db1:5432, standby, data as of …`."""
    origin = contents.source
    version = contents.server.version.split(" ")[0] if contents.server else ""
    name = origin.get("path") or origin.get("site") or origin.get("database") or ""
    part = "in part" if contents.partial else ""
    text = " ".join(filter(None, [str(name) or "cluster", version and f"({version})", part]))
    if contents.server and contents.server.address:
        text += f" from {contents.server.address}"
    if contents.server and contents.server.standby:
        text += ", standby"
    return text + (f", data as of {contents.replay['time'][:19]}Z" if contents.replay.get("time") else "")


def source_name(source: str) -> str:
    """Return what `describe_source` describes, without its version: `elpaso`."""
    return source.rsplit(" (", 1)[0]


def database_of(contents: Manifest) -> str:
    """Return the database that an archive of the kind pg_dump holds; empty for any other."""
    return str(contents.source.get("database", "")) if contents.kind == "pg_dump" else ""


def of_job(root: str | Path, job: str, host: str, with_quarantined: bool = False) -> list[CatalogEntry]:
    """Return the entries of a job's directory, oldest first. with_quarantined: also of the archives that were set aside
    as damaged."""
    directory = ids.job_directory(root, job)
    entries = []
    for identifier in ids.list_ids(directory):
        path = directory / identifier
        try:
            contents = archive_reader.read_manifest(path)
            if contents.job != job:
                raise archive_reader.damaged_error(path, f"Its manifest is that of the job {contents.job}.")
            entries.append(CatalogEntry.of_manifest(contents, host, LOCAL, path))
        except SauvegardeError as error:
            entries.append(CatalogEntry.without_manifest(job, identifier, host, LOCAL, path, str(error)))
    if with_quarantined and directory.is_dir():
        for path in sorted(directory.glob(f"{ids.DAMAGED}*")):
            identifier, problem = path.name[len(ids.DAMAGED) :], "It was found damaged and set aside."
            entries.append(CatalogEntry.without_manifest(job, identifier, host, LOCAL, path, problem))
    return entries


def reader(root: str | Path, job: str) -> str:
    """Return the OS user that can read a job's archives: this process's own, or the directory's owner where root may
    not read it, as on NFS with root_squash."""
    directory = ids.job_directory(root, job)
    try:
        ids.list_ids(directory)
        return pwd.getpwuid(os.geteuid()).pw_name
    except PermissionError:
        if os.geteuid() != 0:
            raise
    owner = os.lstat(directory).st_uid
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        raise SauvegardeError(
            f"The archives of {job} cannot be listed.",
            f"Root may not read them, and their owner, uid {owner}, has no account.",
            "Create the job's user again, with that uid.",
        ) from None


def _of_job_as_values(root: str | Path, job: str, host: str) -> list[dict[str, Any]]:
    """Return the job's entries as plain values, which is what another process can return."""
    return [entry.as_dict() for entry in of_job(root, job, host, with_quarantined=True)]


def local(root: str | Path, host: str) -> list[CatalogEntry]:
    """Return the entries of every job that has archives below `root`, whether it is still configured or not."""
    try:
        with os.scandir(root) as folders:
            jobs = sorted(folder.name for folder in folders if folder.is_dir(follow_symlinks=False))
        return [
            CatalogEntry.from_dict(values)
            for job in jobs
            if not job.startswith(".")
            for values in call_as(reader(root, job), _of_job_as_values, root, job, host)
        ]
    except FileNotFoundError:
        return []
    except PermissionError as error:
        raise SauvegardeError(
            "The archives cannot be listed.", str(error), "Use root: every job's folder is its user's alone."
        ) from error


def remote(repository: Repository, cache: str | Path | None = None) -> list[CatalogEntry]:
    """Return the entries of a restic repository, of all hosts and jobs in it, from the manifests inside.

    cache: a directory for this repository's manifests, by snapshot; it is filled again when it is lost. A snapshot
    never changes.
    """
    entries = []
    snapshots = restic.newest_snapshots(repository)
    if cache:
        _forget_removed(Path(cache), {snapshot.name for snapshot in snapshots})
    for snapshot in snapshots:
        cached = Path(cache) / f"{snapshot.name}.json" if cache else None
        place = (snapshot.host, repository.name, snapshot.name)
        try:
            contents = _read_manifest(repository, snapshot, cached)
            entries.append(CatalogEntry.of_manifest(contents, *place, system=snapshot.system))
        except SauvegardeError as error:
            entries.append(CatalogEntry.without_manifest(snapshot.job, snapshot.id, *place, problem=str(error)))
    return entries


def _forget_removed(cache: Path, snapshots: Container[str]) -> None:
    """Remove the cached manifests of snapshots that the repository no longer has."""
    for path in cache.glob("*.json"):
        if path.stem not in snapshots:
            with contextlib.suppress(OSError):
                path.unlink()


def _read_manifest(repository: Repository, snapshot: Snapshot, cached: Path | None) -> Manifest:
    if cached is not None:
        with contextlib.suppress(SauvegardeError):  # missing or damaged: read from the repository
            return manifest.load(cached)
    text = restic.manifest_text(repository, snapshot.name)
    contents = manifest.loads(text, f"snapshot {snapshot.name} of {repository.name}")
    if cached is not None:
        with contextlib.suppress(OSError):
            cached.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_file.replace(cached, text)
    return contents


def kept(databases: Iterable[Mapping[str, Any]], host: str) -> list[CatalogEntry]:
    """Return the entries of databases that restores left on a server (targets.KeptDatabase, as plain values)."""
    return [
        CatalogEntry.without_manifest(
            job=database["kind"],
            identifier=database["id"],
            host=host,
            where=SERVER,
            path=database["name"],
            verified=None,
            kind="database",
            source=database["name"],
            size=database["bytes"],
        )
        for database in databases
    ]


class _Collection:
    """Entries from several places, and the errors of places that could not be read."""

    def __init__(self) -> None:
        self.entries: list[CatalogEntry] = []
        self.problems: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Record an error of the block instead of raising it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a place that cannot be read must not hide the others
            self.problems.append(from_exception(error).as_dict())

    def add_remote(self, repository: Repository, state: str | Path) -> None:
        """Add the entries of a repository that are not there yet. state: the folder for its secrets, if not root's."""
        present = {entry.path for entry in self.entries}
        repository = dataclasses.replace(repository, secrets_folder=config.secrets_folder(state))
        entries = remote(repository, repository.manifests)
        self.entries += [entry for entry in entries if entry.path not in present]


def collect(
    configuration: str | Path = config.CONFIGURATION,
    with_offsite: bool = True,
    root: str | Path | None = None,
    host: str | None = None,
) -> tuple[list[CatalogEntry], list[dict[str, Any]]]:
    """Return the catalog of this host, and the errors of places that could not be read, as plain values.

    Folders of jobs that are no longer configured are read, too, and the repositories that this host keeps for others:
    a host that is dead cannot list its own.
    root: one more folder of archives. host: the name of this host; by default that of its jobs.
    """
    jobs: list[Job] = []
    collection = _Collection()
    for name in config.job_names(configuration):
        with collection.attempt():
            jobs.append(config.load_job(name, configuration))
            account(jobs[-1].user)
    host = host or next((job.host for job in jobs), socket.gethostname())
    for folder in sorted({str(job.root) for job in jobs} | ({str(root)} if root else set())):
        with collection.attempt():
            collection.entries += local(folder, host)
    if not with_offsite:
        return collection.entries, collection.problems
    states = {name: job.state for job in jobs for name in job.offsite}
    for name in sorted({*states, *config.repository_names(configuration)}):
        with collection.attempt():
            collection.add_remote(config.load_repository(name, configuration), states.get(name, ""))
    for name in config.hosted_repository_names(configuration):
        with collection.attempt():
            hosted = config.load_hosted_repository(name, configuration)
            collection.add_remote(hosted.repository, hosted.state)
    return collection.entries, collection.problems
