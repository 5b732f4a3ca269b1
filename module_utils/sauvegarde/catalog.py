"""The catalog: what there is to restore, always read from the archives' own manifests. No database, nothing to lose.

An entry is {host, system, job, id, kind, source, started, ended, bytes, stored_bytes, verified, problem, warnings,
proven, unproven, where, path}. system: whose it is (identity.py), empty where that is unknown; where: "local", or the
repository's name; path: of the archive's folder, or the restic snapshot.
warnings: the manifest's; proven: what its fingerprint covers (manifest.proven), unproven: what it does not.
An archive that is damaged, or was set aside for it, is listed with verified false and says why. Databases that restores
left on a server are listed too, with where "server" and verified null: nothing ever compared what was live.
"""

import contextlib
import dataclasses
import os
import pwd
import socket
from pathlib import Path

from . import config
from .archive import archive_reader, ids, manifest
from .errors import SauvegardeError, from_exception
from .offsite import restic
from .system import atomic_file
from .system.run_as import account, call_as

_NOTHING_SAID = {"warnings": [], "proven": "", "unproven": []}


def source(found):
    """What a manifest's archive holds, in a few words."""
    origin = found["source"]
    version = origin.get("server", {}).get("version", "").split(" ")[0]
    name = origin.get("path") or origin.get("site") or origin.get("database") or ""
    return " ".join(filter(None, [str(name) or "cluster", version and f"({version})"]))


def entry(found, host, where, path, system=""):
    """The entry of a manifest. system: where something else than the manifest says it."""
    line = {key: found[key] for key in ("job", "id", "kind", "started", "ended", "bytes", "stored_bytes")}
    line.update(host=host, system=system or found.system_identifier)
    line.update(source=source(found), verified=True, problem="", where=where, path=str(path))
    line.update(warnings=list(found.warnings), proven=found.proof_scope, unproven=found.unproven)
    return line


def _broken(job, identifier, host, where, path, why):
    return {
        "job": job,
        "id": identifier,
        "kind": "",
        "started": "",
        "ended": "",
        "bytes": 0,
        "stored_bytes": 0,
        "host": host,
        "system": "",
        "source": "",
        "verified": False,
        "problem": why,
        **_NOTHING_SAID,
        "where": where,
        "path": str(path),
    }


def of_job(root, job, host, aside=False):
    """The entries of a job's folder, oldest first; with `aside` also those that were set aside as damaged."""
    directory = ids.job_directory(root, job)
    entries = []
    for identifier in ids.list_ids(directory):
        path = directory / identifier
        try:
            found = archive_reader.read_manifest(path)
            if found["job"] != job:
                raise archive_reader.damaged_error(path, "Its manifest is that of the job {}.".format(found["job"]))
            entries.append(entry(found, host, "local", path))
        except SauvegardeError as error:
            entries.append(_broken(job, identifier, host, "local", path, str(error)))
    if aside and directory.is_dir():
        for path in sorted(directory.glob(".damaged-*")):
            label = path.name[len(".damaged-") :]
            entries.append(_broken(job, label, host, "local", path, "It was found damaged and set aside."))
    return entries


def reader(root, job):
    """The OS user that can read a job's archives: this process's own, or the folder's owner where root may not read it,
    as on NFS with root_squash."""
    directory = ids.job_directory(root, job)
    try:
        ids.list_ids(directory)
        return pwd.getpwuid(os.geteuid()).pw_name
    except PermissionError:
        if os.geteuid() != 0:
            raise
    owner = os.lstat(str(directory)).st_uid
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        raise SauvegardeError(
            f"The archives of {job} cannot be listed.",
            f"Root may not read them, and their owner, uid {owner}, has no account.",
            "Create the job's user again, with that uid.",
        ) from None


def _of_job_as_reader(root, job, host):
    return call_as(reader(root, job), of_job, root, job, host, True)


def local(root, host):
    """The entries of every job that ever left an archive here, its job still configured or not."""
    try:
        folders = sorted(each.name for each in os.scandir(str(root)) if each.is_dir(follow_symlinks=False))
        return [line for job in folders if not job.startswith(".") for line in _of_job_as_reader(root, job, host)]
    except FileNotFoundError:
        return []
    except PermissionError as error:
        raise SauvegardeError(
            "The archives cannot be listed.", str(error), "Use root: every job's folder is its user's alone."
        ) from error


def remote(repository, cache=None):
    """The entries of a restic repository, of all hosts and jobs in it, from the manifests inside.

    cache: a folder of this repository's own where manifests are kept by snapshot, which never change; it is filled
    again when it is lost.
    """
    entries = []
    snapshots = restic.newest_snapshots(repository)
    _forget(cache, {snapshot.name for snapshot in snapshots})
    for snapshot in snapshots:
        kept = Path(str(cache)) / (snapshot.name + ".json") if cache else None
        try:
            found = _manifest(repository, snapshot, kept)
            entries.append(entry(found, snapshot.host, repository.name, snapshot.name, system=snapshot.system))
        except SauvegardeError as error:
            line = (snapshot.job, snapshot.id, snapshot.host, repository.name, snapshot.name)
            entries.append(_broken(*line, why=str(error)))
    return entries


def _forget(cache, there):
    """Remove what was kept of snapshots that are gone."""
    for each in Path(str(cache)).glob("*.json") if cache else []:
        if each.stem not in there:
            with contextlib.suppress(OSError):
                each.unlink()


def _manifest(repository, snapshot, kept):
    if kept is not None:
        with contextlib.suppress(SauvegardeError):  # not there yet, or damaged: asked for anew
            return manifest.load(kept)
    text = restic.manifest_text(repository, snapshot.name)
    found = manifest.loads(text, f"snapshot {snapshot.name} of {repository.name}")
    if kept is not None:
        with contextlib.suppress(OSError):
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_file.replace(kept, text)
    return found


def kept(left, host):
    """The entries of databases that restores left on a server (restore.swap.kept's list)."""
    return [
        {
            "job": each["kind"],
            "id": each["id"],
            "kind": "database",
            "started": "",
            "ended": "",
            "bytes": each["bytes"],
            "stored_bytes": each["bytes"],
            "host": host,
            "system": "",
            "source": each["name"],
            "verified": None,
            "problem": "",
            **_NOTHING_SAID,
            "where": "server",
            "path": each["name"],
        }
        for each in left
    ]


def collect(configuration=config.CONFIGURATION, with_offsite=True, root=None, host=None):
    """Return the catalog of this host and what could not be listed: (entries, problems).

    Folders of jobs that are no longer configured are read, too, and the repositories that this host keeps for others:
    a host that is dead cannot list its own.
    root: one more folder of archives. host: the name of this host; by default that of its jobs.
    """
    jobs, entries, problems = [], [], []

    @contextlib.contextmanager
    def attempt():
        try:
            yield
        except Exception as error:  # noqa: BLE001 - what cannot be read hides nothing else
            problems.append(from_exception(error).as_dict())

    def add_remote(repository, state):
        listed = {entry["path"] for entry in entries}
        ready = dataclasses.replace(repository, secrets_folder=config.secrets_folder(state))
        found = remote(ready, repository.manifests)
        entries.extend(entry for entry in found if entry["path"] not in listed)

    for name in config.job_names(configuration):
        with attempt():
            jobs.append(config.load_job(name, configuration))
            account(jobs[-1].user)
    host = host or next((job.host for job in jobs), socket.gethostname())
    for folder in sorted({str(job.root) for job in jobs} | ({str(root)} if root else set())):
        with attempt():
            entries += local(folder, host)
    if not with_offsite:
        return entries, problems
    states = {name: job.state for job in jobs for name in job.offsite}
    for name in sorted({*states, *config.repository_names(configuration)}):
        with attempt():
            add_remote(config.load_repository(name, configuration), states.get(name, ""))
    for name in config.hosted_repository_names(configuration):
        with attempt():
            hosted = config.load_hosted_repository(name, configuration)
            add_remote(hosted.repository, hosted.state)
    return entries, problems
