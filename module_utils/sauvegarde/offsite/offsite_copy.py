"""Copy archives offsite: each archive's plain form, which deduplicates, as one snapshot of a restic repository.

restic's own check runs after every copy and before anything is forgotten.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..archive import archive_reader, ids, machine_identity, manifest, retention
from ..archive.machine_identity import Identities
from ..archive.retention import RetentionPolicy
from ..errors import SauvegardeError
from ..system import disk_space
from . import restic, snapshot_systems
from .repository import Repository
from .restic import Snapshot
from .snapshot_systems import CopiedJob

STAGE = ids.PARTIAL + "offsite"  # archive_writer.remove_partial removes it after a kill

Notify = Callable[..., object]


@dataclass(frozen=True)
class CopyResult:
    """What `synchronize` did: the id of the newest copy ('' for none), the ids copied and forgotten, the bytes that the
    copies added to the repository, and warnings as sentences."""

    id: str
    copied: list[str]
    added_bytes: int
    forgotten: list[str]
    warnings: list[str]


def copy_archive(
    repository: Repository, job: CopiedJob, path: Path, system: str = "", former: Iterable[str] = ()
) -> dict[str, Any]:
    """Copy one archive into the repository, as one of the given system (default: the one in its manifest). Returns
    restic's summary."""
    stage = path.parent / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    try:
        contents = archive_reader.read_manifest(path)
        disk_space.require_space(path.parent, contents.bytes)
        archive_reader.expand(path, stage)
        system = system or contents.system_identifier
        tags = [restic.TAG, f"job={job.name}", f"id={path.name}", f"kind={job.kind}"]
        tags += [f"system={system}"] if system else []
        tags += [f"former={name}" for name in sorted(former)]
        if job.databases and contents.kind == "pg_dump":
            tags.append("database=" + quote(contents.source["database"], safe=""))
        arguments = ["backup", "--force", "--json", f"--host={job.host}"]
        for tag in tags:
            arguments += ["--tag", tag]
        # The folder's files are at the snapshot's root, wherever the folder was.
        result = restic.run(repository, [*arguments, "."], f"{path.name} could not be copied offsite.", cwd=str(stage))
        summary: dict[str, Any] = json.loads(result.text.strip().splitlines()[-1])
        return summary
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def synchronize(repository: Repository, job: CopiedJob, notify: Notify) -> CopyResult:
    """Copy every archive that is newer than the repository's newest, check, and forget what retention does not keep.

    Ids from the future do not count as the newest, or one of them would keep all others out; they raise an error after
    the copies. Raises on any error; earlier copies stay.
    """
    notify("offsite", repository=repository.name)
    restic.ensure(repository)
    identities = Identities(job.state)
    systems = snapshot_systems.claim(identities, job)
    snapshots = snapshot_systems.read(repository, job, identities)
    present = {snapshot.id for snapshot in snapshots.own}
    newest = max(present.difference(retention.future_ids(present)), default="")
    summaries = {}
    for identifier in ids.list_ids(job.directory):
        if identifier > newest and identifier not in present:
            notify("offsite_copy", repository=repository.name, id=identifier)
            system = systems.get(identifier, identities.machine)
            path = job.directory / identifier
            summaries[identifier] = copy_archive(repository, job, path, system, identities.own - {system})
    notify("offsite_check", repository=repository.name)
    restic.check(repository)
    for identifier, summary in summaries.items():
        _compare_manifest(repository, job.directory / identifier, summary["snapshot_id"])
    forgotten = []
    place = _place(repository, job.host, job.name)
    if repository.forget:
        # Read again: another machine may have copied meanwhile.
        snapshots = snapshot_systems.read(repository, job, identities)
        retention.refuse_future(snapshots.all_ids, place)
        own = snapshot_systems.with_databases(repository, snapshots.own, identities)
        forgotten = _forget(repository, own, job.retention, notify)
    unknown = [snapshot.id for snapshot in snapshots.unknown]
    retention.refuse_future(sorted({*present, *summaries, *unknown}), place)
    return CopyResult(
        id=max([*present, *summaries], default=""),
        copied=sorted(summaries),
        added_bytes=sum(summary.get("data_added", 0) for summary in summaries.values()),
        forgotten=forgotten,
        warnings=_unknown_warnings(repository, snapshots.unknown),
    )


def _compare_manifest(repository: Repository, path: Path, snapshot: str) -> None:
    local = (path / manifest.NAME).read_text(encoding="utf-8")
    if restic.manifest_text(repository, snapshot) != local:
        raise SauvegardeError(f"The offsite copy of {path.name} does not hold its manifest as it is here.")


def _unknown_warnings(repository: Repository, unknown: Sequence[Snapshot]) -> list[str]:
    if not unknown:
        return []
    return [
        "It is not known which machine made {} archives in the repository {}, whose snapshots do not say it: retention "
        "keeps them. Where they are not needed: restic forget {}".format(
            len(unknown), repository.name, " ".join(snapshot.name[:8] for snapshot in unknown)
        )
    ]


def _place(repository: Repository, host: str, job: str) -> str:
    return f"the repository {repository.name} of {host}'s job {job}"


def _forget(
    repository: Repository,
    snapshots: Sequence[Snapshot],
    policy: RetentionPolicy,
    notify: Notify,
    dry_run: bool = False,
) -> list[str]:
    """Forget the snapshots of one job and system that the policy does not keep, every snapshot of an id; the policy
    counts those of each database by themselves. Returns the ids."""
    plan = retention.plan_groups({snapshot.id: snapshot.database for snapshot in snapshots}, policy)
    removed = {decision.id for decision in plan if not decision.keep}
    doomed = [snapshot for snapshot in snapshots if snapshot.id in removed]
    if doomed and not dry_run:
        notify("offsite_forget", repository=repository.name, ids=[snapshot.id for snapshot in doomed])
        arguments = ["forget", "--prune", *[snapshot.name for snapshot in doomed]]
        restic.run(repository, arguments, "Old snapshots could not be forgotten.")
    return sorted(removed)


def forget_for_others(
    repository: Repository, policies: Iterable[Mapping[str, Any]], notify: Notify, dry_run: bool = False
) -> list[dict[str, Any]]:
    """Tidy an append-only repository on its own host: check it, then apply each job's retention, as its host has it.

    policies: {host, job, retention} of each job. Jobs without a policy keep all archives. Where machines share a name,
    retention counts the archives of each by themselves; archives of unknown ones stay.
    Returns {host, job, forgotten} of each policy.
    """
    notify("offsite_check", repository=repository.name)
    restic.check(repository)
    results = []
    for values in policies:
        host, job = values["host"], values["job"]
        policy = RetentionPolicy.from_values(values.get("retention"))
        # Systems are not remembered here: this host's state is one folder for many jobs.
        identities = Identities()
        snapshots = snapshot_systems.identify(repository, host, job, identities)
        snapshots = snapshot_systems.with_databases(repository, snapshots, identities)
        retention.refuse_future(sorted({snapshot.id for snapshot in snapshots}), _place(repository, host, job))
        forgotten: list[str] = []
        for group in machine_identity.groups([snapshot.system, *snapshot.former] for snapshot in snapshots):
            own = [snapshot for snapshot in snapshots if snapshot.system in group]
            forgotten += _forget(repository, own, policy, notify, dry_run)
        results.append({"host": host, "job": job, "forgotten": sorted(forgotten)})
    return results
