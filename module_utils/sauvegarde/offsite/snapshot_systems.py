"""Tell which system each snapshot of a job belongs to, and refuse to mix archives of two machines of one name."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..archive import archive_reader, ids, machine_identity, manifest
from ..archive.machine_identity import Identities
from ..archive.retention import RetentionPolicy
from ..errors import Locked, NoRepository, SauvegardeError, WrongKey
from . import restic
from .repository import Repository
from .restic import Snapshot


class CopiedJob(Protocol):
    """What an offsite copy needs of a job (config.Job)."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def host(self) -> str: ...

    @property
    def state(self) -> Path: ...

    @property
    def directory(self) -> Path: ...

    @property
    def retention(self) -> RetentionPolicy: ...

    @property
    def replaces(self) -> Sequence[str]: ...

    @property
    def databases(self) -> Sequence[str]: ...


def identify(
    repository: Repository, host: str, job: str, identities: Identities, directory: Path | None = None
) -> list[Snapshot]:
    """Return all snapshots of one job with the systems that they belong to.

    A snapshot without a tag is identified by its manifest, or because the same manifest is in `directory`; the `system`
    of any other stays empty.
    """
    snapshots = [
        snapshot if snapshot.system else _with_system(repository, snapshot, identities, directory)
        for snapshot in restic.all_snapshots(repository, host, job)
    ]
    identities.save({snapshot.name for snapshot in snapshots})
    return snapshots


def _with_system(
    repository: Repository, snapshot: Snapshot, identities: Identities, directory: Path | None
) -> Snapshot:
    if snapshot.name not in identities.snapshots:
        try:
            text = restic.manifest_text(repository, snapshot.name)
            system = manifest.loads(text, snapshot.name).system_identifier
        except (WrongKey, Locked, NoRepository):
            raise
        except SauvegardeError:
            return snapshot  # not remembered: it may be readable the next time
        if not system and directory is not None:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if (directory / snapshot.id / manifest.NAME).read_text(encoding="utf-8") == text:
                    system = identities.machine
        identities.snapshots[snapshot.name] = system
    return dataclasses.replace(snapshot, system=identities.snapshots[snapshot.name])


def claim(identities: Identities, job: CopiedJob) -> dict[str, str]:
    """Add the systems of a job's local archives, and those that the job replaces, to its own. Returns the system of
    each archive by its id."""
    systems = {}
    for identifier in ids.list_ids(job.directory):
        with contextlib.suppress(SauvegardeError):  # a damaged archive is reported when it is copied
            systems[identifier] = identities.of(archive_reader.read_manifest(job.directory / identifier))
    identities.own.update(systems.values(), job.replaces)
    return systems


@dataclass(frozen=True)
class JobSnapshots:
    """A job's snapshots: its own, and those whose system is unknown."""

    own: list[Snapshot]
    unknown: list[Snapshot]

    @property
    def all_ids(self) -> list[str]:
        """The ids of all of them, oldest first."""
        return sorted({snapshot.id for snapshot in (*self.own, *self.unknown)})


def read(repository: Repository, job: CopiedJob, identities: Identities) -> JobSnapshots:
    """Return a job's snapshots. Raises SauvegardeError if others under its name belong to another system."""
    snapshots = identify(repository, job.host, job.name, identities, job.directory)
    for group in machine_identity.groups([snapshot.system, *snapshot.former] for snapshot in snapshots):
        if group & identities.own:
            identities.own |= group
    foreign = [snapshot for snapshot in snapshots if snapshot.system and snapshot.system not in identities.own]
    if foreign:
        raise _foreign_error(repository, job, identities, foreign)
    return JobSnapshots(
        [snapshot for snapshot in snapshots if snapshot.system],
        [snapshot for snapshot in snapshots if not snapshot.system],
    )


def with_databases(repository: Repository, snapshots: Sequence[Snapshot], identities: Identities) -> list[Snapshot]:
    """Return a job's snapshots with the databases that they hold, if the job backs up several, or has done so.

    A snapshot without a tag, as of a time when the job had one database, is then identified by its manifest. One whose
    manifest cannot be read counts as of a database of its own, so that no other displaces it.
    """
    if not any(snapshot.database for snapshot in snapshots):
        return list(snapshots)
    complete = []
    for snapshot in snapshots:
        if not snapshot.database and snapshot.name not in identities.databases:
            try:
                contents = manifest.loads(restic.manifest_text(repository, snapshot.name), snapshot.name)
                identities.databases[snapshot.name] = str(contents.source.get("database", ""))
            except (WrongKey, Locked, NoRepository):
                raise
            except SauvegardeError:
                complete.append(dataclasses.replace(snapshot, database=f"unknown, snapshot {snapshot.name}"))
                continue
        database = snapshot.database or identities.databases[snapshot.name]
        complete.append(dataclasses.replace(snapshot, database=database))
    identities.save({*identities.snapshots, *(snapshot.name for snapshot in snapshots)})
    return complete


def _foreign_error(
    repository: Repository, job: CopiedJob, identities: Identities, foreign: Sequence[Snapshot]
) -> SauvegardeError:
    others: dict[str, list[str]] = {}
    for snapshot in foreign:
        others.setdefault(snapshot.system, []).append(snapshot.id)
    descriptions = [
        f"{system} ({len(identifiers)} archives, {min(identifiers)} to {max(identifiers)})"
        for system, identifiers in sorted(others.items())
    ]
    return SauvegardeError(
        f"The repository {repository.name} has archives of another system under the name {job.host}, job {job.name}:"
        " nothing is copied there, and nothing is removed.",
        "This system is {}. The other archives are of {}.".format(
            ", ".join(sorted(identities.own)) or identities.machine, ", ".join(descriptions)
        ),
        "If these are two machines, give one of them another name in its inventory, or a repository of its own. If "
        "this system has taken the other's place, add this to the job in backup_jobs and run the backup role: "
        + f"replaces: {json.dumps(sorted(others))}",
    )
