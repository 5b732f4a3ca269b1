"""Collect what a host has for its next backup and its next restore, for ./sauvegarde doctor. Root calls this.

It only reads. The one exception says so by its name: `deletion_right` tries to remove a snapshot from a repository that
should be append-only, a canary of a few bytes that holds nothing of the site.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import config
from ..config import Job
from ..errors import Locked, NoRepository, SauvegardeError, WrongKey, from_exception
from ..offsite import restic
from ..offsite.repository import Repository
from ..report import job_state
from ..system import disk_space, installation
from ..system.run_as import call_as
from . import cron_times

PROGRAMS = ("zstd", "restic", "setpriv")
SERVER_DATA = "/var/lib/postgresql"
CANARY = "sauvegarde-canary"  # tag of the snapshot that deletion is tried on
REFUSED, ALLOWED, UNKNOWN = "refused", "allowed", "unknown"
OPENS, MISSING, WRONG, LOCKED, FAILS = "opens", "missing", "wrong key", "locked", "fails"
_SERVER_KINDS = ("pg_dump", "globals")
_LOCAL = ("", "localhost", "127.0.0.1", "::1")
_SIZE = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"
_LARGEST = (
    "SELECT pg_catalog.max(pg_catalog.pg_database_size(oid)) FROM pg_catalog.pg_database"
    " WHERE pg_catalog.has_database_privilege(oid, 'CONNECT')"
)
_WAIT = 5.0  # seconds for another's lock


def _text(error: BaseException) -> str:
    """Return an error in one line."""
    known = from_exception(error) if isinstance(error, Exception) else SauvegardeError(str(error))
    return " ".join(" ".join(filter(None, (known.what, known.why.splitlines()[-1] if known.why else ""))).split())


def _of_server(kind: str, connection: Mapping[str, Any], database: str) -> dict[str, Any]:
    """Return {version_num, client, client_problem, database_bytes} of a job's server. The job's user calls this."""
    from ..postgres import client_tools, postgres_server

    server = postgres_server.Server.from_values(connection)
    with contextlib.closing(postgres_server.connect(server, database or "postgres")) as session:
        number = session.server_version
        size = int(postgres_server.value(session, _SIZE if database else _LARGEST) or 0)
    values: dict[str, Any] = {"version_num": number, "client": "", "client_problem": "", "database_bytes": size}
    try:
        tool = "pg_dump" if kind == "pg_dump" else "pg_dumpall"
        values["client"] = client_tools.client(tool, number).version
    except SauvegardeError as error:
        values["client_problem"] = _text(error)
    return values


def _of_job(name: str, configuration: str | Path, schedules: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of one job; `problem` says why there are no more of them."""
    facts: dict[str, Any] = {"job": name, "schedule": schedules.get(name, ""), "problem": "", "server": None}
    job = config.load_job(name, configuration)
    success = job_state.read(job.state / "state.json").get("last_success")
    success = success if isinstance(success, dict) else {}
    folder = _existing(job.root)
    facts.update(
        kind=job.kind,
        user=job.user,
        root=str(job.root),
        next_bytes=int(success.get("stored_bytes") or 0),
        unpacked_bytes=int(success.get("bytes") or 0),
        seconds=float(success.get("seconds") or 0),
        free_bytes=disk_space.free_bytes(folder),
        offsite=list(job.offsite),
    )
    if job.kind in _SERVER_KINDS:
        facts["server"] = _server_of(job)
    return facts


def _server_of(job: Job) -> dict[str, Any]:
    connection = job.options.get("connection") or {}
    database = str(job.options.get("database") or "")
    host = str(connection.get("host") or "")
    facts: dict[str, Any] = {"problem": "", "exit_code": 0, "is_local": host.startswith("/") or host in _LOCAL}
    try:
        return {**facts, **call_as(job.user, _of_server, job.kind, connection, database)}
    except Exception as error:  # noqa: BLE001 - one server must not hide the rest
        return {**facts, "problem": _text(error), "exit_code": from_exception(error).exit_code}


def _existing(path: Path) -> Path:
    """Return the path, or the nearest parent that exists."""
    return next((each for each in (path, *path.parents) if each.exists()), Path("/"))


def overlaps(jobs: Iterable[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
    """Return which jobs start while another runs, or while their own last run does: {job, other, at, seconds}.

    jobs: {job, schedule, seconds} each; seconds is how long the last run took. at: when the other starts.
    """
    found = []
    scheduled = [job for job in jobs if job.get("schedule") and job.get("seconds")]
    for job in scheduled:
        start = cron_times.last_due(job["schedule"], now)
        if start is None:
            continue
        end = start + job["seconds"]
        for other in scheduled:
            began = cron_times.last_due(other["schedule"], end - 1)
            is_own = other["job"] == job["job"]
            # Of two that start together, the one with the earlier name is named.
            is_second = began == start and other["job"] < job["job"]
            if began is None or began < start or (is_own and began == start) or is_second:
                continue
            found.append({"job": job["job"], "other": other["job"], "at": began, "seconds": job["seconds"]})
    return found


def _with_secrets(repository: Repository) -> Repository:
    return dataclasses.replace(repository, secrets_folder=config.secrets_folder(config.STATES))


def _of_repository(name: str, configuration: str | Path, with_canary: bool) -> dict[str, Any]:
    """Return {repository, state, problem, append_only, deletion, seconds} of a repository that jobs copy to."""
    facts: dict[str, Any] = {"repository": name, "state": OPENS, "problem": "", "append_only": False}
    facts.update(deletion="", seconds=0.0)
    began = time.monotonic()
    states = ((WrongKey, WRONG), (NoRepository, MISSING), (Locked, LOCKED))
    try:
        repository = _with_secrets(config.load_repository(name, configuration))
        facts["append_only"] = not repository.forget
        restic.run(repository, ["cat", "config", "--no-lock"], "The repository does not open.", wait=0)
        if with_canary and not repository.forget:
            facts["deletion"] = deletion_right(repository)
    except Exception as error:  # noqa: BLE001 - one repository must not hide the others
        facts["state"] = next((state for kind, state in states if isinstance(error, kind)), FAILS)
        facts["problem"] = _text(error)
    facts["seconds"] = round(time.monotonic() - began, 1)
    return facts


def deletion_right(repository: Repository) -> str:
    """Return whether this host can remove a snapshot from an append-only repository: REFUSED, as it should be, ALLOWED,
    or UNKNOWN.

    It tries to remove its own canary, which it makes if there is none. Refused, one canary of a few bytes stays.
    """
    snapshots = restic.run(
        repository,
        ["snapshots", "--json", "--no-lock", "--tag", CANARY],
        "The canary cannot be looked for.",
        wait=_WAIT,
    )
    names = [entry["id"] for entry in json.loads(snapshots.text) or []]
    if not names:
        place = Path(repository.secrets_folder) if repository.secrets_folder else Path("/run")
        canary = _make_canary(repository, place)
        names = [canary] if canary else []
    if not names:
        return UNKNOWN
    try:
        restic.run(repository, ["forget", names[0]], "The canary cannot be removed.", wait=_WAIT)
    except Locked:
        return UNKNOWN
    except SauvegardeError:
        return REFUSED
    rest = restic.run(repository, ["snapshots", "--json", "--no-lock", "--tag", CANARY], "The canary is not there.")
    # Some servers answer a refused removal as if it had been done.
    return REFUSED if names[0] in [entry["id"] for entry in json.loads(rest.text) or []] else ALLOWED


def _make_canary(repository: Repository, place: Path) -> str:
    """Store a canary; return its snapshot."""
    folder = place / CANARY
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        (folder / "canary").write_text("Whether this can be removed is tried; it holds nothing.\n", encoding="utf-8")
        restic.run(repository, ["backup", "--tag", CANARY, "canary"], "No canary can be stored.", str(folder), _WAIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = restic.run(
        repository, ["snapshots", "--json", "--no-lock", "--tag", CANARY], "The canary is not there."
    ).text
    entries = json.loads(text) or []
    return str(entries[-1]["id"]) if entries else ""


def collect(
    configuration: str | Path = config.CONFIGURATION,
    cron_file: str | Path = cron_times.CRON_FILE,
    with_canary: bool = False,
    launcher: str | Path = installation.COMMAND,
) -> dict[str, Any]:
    """Return the facts of this host: {now, python, engine, programs, jobs, overlaps, repositories, server_free_bytes}.

    now: seconds since the epoch. engine: the digest of the installed engine, empty without one. programs: which of
    PROGRAMS there are. server_free_bytes: on the disk of this host's PostgreSQL, None without one.
    """
    schedules, jobs = cron_times.schedules(cron_file), []
    for name in config.job_names(configuration):
        try:
            jobs.append(_of_job(name, configuration, schedules))
        except Exception as error:  # noqa: BLE001 - one job must not hide the others
            jobs.append({"job": name, "problem": _text(error), "schedule": "", "server": None})
    engine = installation.installed(launcher)
    with_server = Path(SERVER_DATA).is_dir()
    return {
        "now": time.time(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "engine": installation.digest(engine) if engine else "",
        "programs": [
            name for name in PROGRAMS if shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin")
        ],
        "jobs": jobs,
        "overlaps": overlaps(jobs, time.time()),
        "repositories": [
            _of_repository(name, configuration, with_canary) for name in config.repository_names(configuration)
        ],
        "server_free_bytes": disk_space.free_bytes(SERVER_DATA) if with_server else None,
    }
