"""Run restic on a repository: its command line, its errors, its snapshots.

Sauvegarde's snapshots are tagged `sauvegarde`, `job=…`, `id=…`, `system=…` (archive/machine_identity.py), `former=…`
for each system that this one follows, and, of a job that backs up several databases, `database=…` (percent-encoded: a
comma would end a tag). A snapshot has the manifest at its root, so that the catalog can be rebuilt from the repository
alone. restic encrypts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import re
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from ..archive import ids, manifest
from ..errors import Damaged, Locked, NoRepository, SauvegardeError, WrongKey, class_of
from ..report.journal import redact
from ..system import process
from . import credentials
from .credentials import SecretFiles
from .repository import Repository

TAG = "sauvegarde"
_COMPRESSES_FROM = (0, 14)  # restic's first version that compresses
_PATIENCE, _PAUSE = 900, 10  # seconds to wait for another process's lock on the repository, and between two attempts
_INIT_ATTEMPTS = 4  # a second apart, for a repository that another host may be initializing
_RETRIES = 8  # about half a minute: enough for a network's hiccup
# A user's name may contain an @: the last one before the host counts.
_SFTP = re.compile(r"sftp:(?P<url>//)?(?:(?P<user>[^/:]+)@)?(?P<host>\[[^\]]+\]|[^@/:]+)(?::(?P<port>\d+)(?=/))?[:/]")
_MESSAGES = (
    (WrongKey, ("wrong password or no key found",)),
    (Locked, ("repository is already locked", "unable to create lock")),
    (NoRepository, ("is there a repository at the following location", "unable to open config file")),
    (
        Damaged,
        (
            "ciphertext verification failed",
            "repository contains errors",
            "wrong data returned",
            "hash does not match",
            "does not match id",
            "decrypting blob",
            "not found in index",
            "not found in repository",
            "pack file cannot be listed",
            "invalid data returned",
        ),
    ),
)
_FIXES = {
    WrongKey: "Give the repository's own password; without it nothing in the repository can be read.",
    Locked: "Wait for the other user of the repository; `restic unlock` drops a lock whose owner is gone.",
    NoRepository: "Check the address, and that its disk is mounted and reachable.",
    Damaged: "Use another archive, or this one on its own host; `restic check --read-data` names all damage.",
}
_DAMAGED = "The repository is damaged; nothing is removed from it."


def _environment(repository: Repository, files: SecretFiles) -> dict[str, str]:
    environment = dict(process.BASE_ENVIRONMENT, HOME=pwd.getpwuid(os.geteuid()).pw_dir, RESTIC_PROGRESS_FPS="0")
    environment.update(repository.environment)
    environment["RESTIC_REPOSITORY"] = repository.address
    environment["RESTIC_PASSWORD_FILE"] = files.password
    return environment


def _options(repository: Repository, files: SecretFiles) -> list[str]:
    options = ["--cache-dir", repository.cache] if repository.cache else ["--no-cache"]
    if repository.address.startswith("sftp:") and (files.ssh_key or files.ssh_known_hosts):
        words = _ssh_command(repository, files)
        options += ["-o", "sftp.command=" + " ".join(shlex.quote(word) for word in words)]
    return options


def _ssh_command(repository: Repository, files: SecretFiles) -> list[str]:
    match = _SFTP.match(repository.address)
    if match is None:
        raise SauvegardeError(
            f"The address of the repository {repository.name} is not one of sftp.",
            fix="Write sftp:user@host:/path or sftp://user@host:port//path.",
        )
    words = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    words += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8"]
    # ssh must not add entries of its own to the file of known hosts.
    words += ["-o", "CheckHostIP=no", "-o", "UpdateHostKeys=no"]
    if files.ssh_known_hosts:
        words += ["-o", f"UserKnownHostsFile={files.ssh_known_hosts}"]
    if files.ssh_key:
        words += ["-i", files.ssh_key, "-o", "IdentitiesOnly=yes"]
    if match.group("user"):
        # In a URL an @ is written %40.
        words += ["-l", unquote(match.group("user")) if match.group("url") else match.group("user")]
    if match.group("port"):
        words += ["-p", match.group("port")]
    return [*words, match.group("host").strip("[]"), "-s", "sftp"]


def _error_class(result: process.Result) -> type[SauvegardeError]:
    if result.status in (NoRepository.exit_code, Locked.exit_code, WrongKey.exit_code):  # restic's own, from 0.17 on
        return class_of(result.status)
    text = result.stderr.lower()
    return next((error for error, words in _MESSAGES if any(word in text for word in words)), SauvegardeError)


def _found_damage(result: process.Result) -> bool:
    """Return whether restic's check found an error in the repository, rather than could not check it."""
    return "repository contains errors" in result.stderr.lower()


def _fix(result: process.Result, error_class: type[SauvegardeError]) -> str:
    if _found_damage(result):
        return (
            "Keep the archives on the host, and follow restic's manual on repairing a repository, or begin a new one."
        )
    text = result.stderr.lower()
    if "host key verification failed" in text or "remote host identification has changed" in text:
        return (
            "The host's key is not in ssh_known_hosts, or is another one now. Find out why; if it was set up anew, put "
            "its new key (ssh-keyscan, compared on the host itself) in ssh_known_hosts and run the backup role."
        )
    return _FIXES.get(error_class, "")


def run(
    repository: Repository, arguments: Sequence[str], what: str, cwd: str | None = None, wait: float = _PATIENCE
) -> process.Result:
    """Run restic on a repository and return its result, with the output.

    Waits up to `wait` seconds for another process's lock on the repository. Raises WrongKey, Locked, NoRepository or
    SauvegardeError with restic's own message; `what` says what failed.
    """
    until = time.monotonic() + wait
    program = process.find("restic")
    while True:
        with credentials.secret_files(repository) as files:
            argv, environment = [program, *_options(repository, files)], _environment(repository, files)
            result = _run_once([*argv, *arguments], environment, cwd)
            if result.status == 0:
                return result
            error_class = _error_class(result)
            if error_class is not Locked or time.monotonic() >= until:
                raise error_class(
                    f"{_DAMAGED if _found_damage(result) else what} (repository {repository.name})",
                    redact(f"restic ended with status {result.status}\n{result.stderr}"),
                    _fix(result, error_class),
                )
            # Removes only locks whose process has ended, or that were not renewed for half an hour.
            process.run([*argv, "unlock"], env=environment, checked=False)
        time.sleep(_PAUSE)


def _run_once(argv: Sequence[str], environment: dict[str, str], cwd: str | None) -> process.Result:
    """Run restic, but end it after a few retries: old versions retry a file that does not exist for 15 minutes."""
    with tempfile.TemporaryFile() as out, process.start(argv, env=environment, stdout=out, cwd=cwd) as child:
        pause = 0.02
        while child.running() and child.errors().count("retrying after") < _RETRIES:
            time.sleep(pause)
            pause = min(1, pause * 1.5)
        if child.running():
            child.kill()
        result = child.wait()
        out.seek(0)
        return replace(result, stdout=out.read())


def version() -> tuple[int, ...]:
    """Return restic's version as numbers."""
    text = process.run([process.find("restic"), "version"]).text
    match = re.search(r"restic (\d+)\.(\d+)(?:\.(\d+))?", text)
    if match is None:
        raise SauvegardeError("restic does not state its version.", text)
    return tuple(int(part or 0) for part in match.groups())


def warnings() -> list[str]:
    """Return sentences about the limits of this host's restic."""
    number = version()
    if number < _COMPRESSES_FROM:
        text = ".".join(str(part) for part in number)
        return [
            f"restic {text} does not compress: offsite copies take their uncompressed size (0.14 and newer compress)."
        ]
    return []


def ensure(repository: Repository, known: bool | None = None) -> None:
    """Initialize the repository if it does not exist.

    known: whether it existed before (default: what the repository says). Then its absence raises NoRepository, since
    every job would take a new one in its place for the old one.
    """
    known = repository.known if known is None else known
    if _exists(repository, known):
        return
    with _init_lock(repository):
        if _exists(repository, known):
            return
        try:
            run(repository, ["init"], "The repository does not exist and cannot be initialized.")
        except SauvegardeError:
            # Another host may have begun to initialize it in the same moment.
            for _ in range(_INIT_ATTEMPTS):
                if _exists(repository, known):
                    return
                time.sleep(1)
            raise


def _exists(repository: Repository, known: bool) -> bool:
    """Return whether the repository exists; raise any other error than that, and NoRepository if it is `known`."""
    try:
        run(repository, ["cat", "config"], "The repository cannot be opened.")
        return True
    except NoRepository as error:
        if not known:
            return False
        error.fix += " If it is gone for good, give a new one another name."
        raise


@contextlib.contextmanager
def _init_lock(repository: Repository) -> Iterator[None]:
    """Serialize `restic init` on this host: two at once can each leave a key, one of which fits nothing, and then the
    repository may never open again."""
    if repository.init_lock is None:
        yield
        return
    fcntl.flock(repository.init_lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(repository.init_lock, fcntl.LOCK_UN)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot of an archive: restic's name for it, the archive's host, job and id, and restic's time.

    system: the system that the archive belongs to; empty for a snapshot that is older than this tag.
    former: the systems that this one follows. database: the one that it holds; empty for a job that backs up one.
    """

    name: str
    host: str
    job: str
    id: str
    time: str
    system: str = ""
    former: tuple[str, ...] = ()
    database: str = ""


def all_snapshots(repository: Repository, host: str | None = None, job: str | None = None) -> list[Snapshot]:
    """Return Sauvegarde's snapshots in restic's order, several of one archive included."""
    arguments = ["snapshots", "--json", "--no-lock", "--tag", TAG]
    if host is not None:
        arguments.append(f"--host={host}")
    snapshots = []
    text = run(repository, arguments, "The repository's snapshots cannot be listed.").text
    for entry in json.loads(text) or []:
        pairs = [tag.split("=", 1) for tag in entry.get("tags") or [] if "=" in tag]
        tags = dict(pairs)
        if not ids.is_job_name(tags.get("job", "")) or not ids.is_id(tags.get("id", "")):
            continue
        if job in (None, tags["job"]):
            former = tuple(value for key, value in pairs if key == "former")
            snapshots.append(
                Snapshot(
                    name=entry["id"],
                    host=entry["hostname"],
                    job=tags["job"],
                    id=tags["id"],
                    time=entry["time"],
                    system=tags.get("system", ""),
                    former=former,
                    database=unquote(tags.get("database", "")),
                )
            )
    return snapshots


def newest_snapshots(repository: Repository, host: str | None = None, job: str | None = None) -> list[Snapshot]:
    """Return the newest snapshot of each archive, by the archives' ids, oldest first."""
    newest = {}
    for snapshot in sorted(all_snapshots(repository, host, job), key=lambda snapshot: snapshot.time):
        newest[snapshot.id, snapshot.host, snapshot.job, snapshot.system] = snapshot
    return [newest[key] for key in sorted(newest)]


def manifest_text(repository: Repository, snapshot: str) -> str:
    """Return the text of the manifest in a snapshot."""
    arguments = ["dump", "--no-lock", snapshot, "/" + manifest.NAME]
    return run(repository, arguments, "The manifest cannot be read.").stdout.decode("utf-8", "replace")


def restore(repository: Repository, snapshot: str, target: str | Path, what: str) -> None:
    """Write a snapshot's files to `target`; `what` says what failed in the error."""
    run(repository, ["restore", snapshot, "--target", str(target)], what)


def check(repository: Repository) -> None:
    """Run restic's check of the repository's structure. Raises if it finds an error."""
    run(repository, ["check"], "The repository could not be checked; nothing is removed from it.")
