"""Show one archive in full, and compare it with the live database that its job dumps.

Nothing here changes a database, waits for a lock, or takes longer than a few minutes (live_changes).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import catalog, config
from ..archive import archive_reader, manifest
from ..catalog import LOCAL, CatalogEntry
from ..config import Job
from ..errors import SauvegardeError, from_exception
from ..offsite import restic
from ..system.run_as import call_as

COUNTING, SUMMING = 60.0, 120.0  # seconds that a comparison may take: nobody waits for a terabyte here


def sentence(change: Mapping[str, Any]) -> str:
    """Return how a table differs (live_changes.TableChange as values), for people."""
    before, now = change["archive_rows"], change["live_rows"]
    if now is None:
        return f"{change['table']}: {before} rows in the archive, no such table in the live database"
    if before is None:
        return f"{change['table']}: no such table in the archive, {now} rows in the live database"
    if before == now:
        return f"{change['table']}: {now} rows in both, with other content or other columns"
    return f"{change['table']}: {before} rows in the archive, {now} in the live database"


def differing(changes: Iterable[Mapping[str, Any]], is_partial: bool = False) -> list[dict[str, Any]]:
    """Return the changes with a sentence each, those with most rows missing live first.

    is_partial: the archive lacks tables on purpose, so what only the live database has is no difference.
    """
    shown = [
        {**change, "sentence": sentence(change)}
        for change in changes
        if change["archive_rows"] is not None or not is_partial
    ]
    return sorted(shown, key=lambda each: (-((each["archive_rows"] or 0) - (each["live_rows"] or 0)), each["table"]))


def _changes(connection: Mapping[str, Any], database: str, expected: str) -> dict[str, Any]:
    """Return live_changes.LiveChanges as values; `expected` is the fingerprint's JSON."""
    from ..postgres import postgres_server
    from . import live_changes

    server = postgres_server.Server.from_values(connection)
    with contextlib.closing(postgres_server.connect(server, database)) as session:
        return live_changes.compare(session, json.loads(expected), COUNTING, SUMMING).as_dict()


def compare(job: Job, contents: manifest.Manifest) -> dict[str, Any]:
    """Return {database, equal, differing, omitted}: how the live database of the job differs. Root calls this.

    equal: the number of tables with the same rows. omitted: tables that were not compared, or only counted.
    Raises SauvegardeError where the live database does not answer.
    """
    stated = contents.fingerprint or {}
    if contents.kind != "pg_dump" or not stated.get("tables"):
        raise SauvegardeError("The archive has no fingerprint of tables to compare with.")
    database = catalog.database_of(contents)
    connection = job.options.get("connection") or {}
    live = call_as(job.user, _changes, connection, database, json.dumps(stated))
    shown = differing(live["tables"], contents.partial is not None)
    live_too = sum(change["live_rows"] is not None for change in live["tables"])
    return {
        "database": database,
        "equal": live["compared"] - live_too,
        "differing": shown,
        "omitted": live["omitted"],
    }


def _manifest_values(path: str) -> dict[str, Any]:
    return archive_reader.read_manifest(path).as_dict()


def read_manifest(entry: CatalogEntry, configuration: str | Path = config.CONFIGURATION) -> manifest.Manifest:
    """Return the manifest of a catalog's entry. Root calls this. Raises SauvegardeError, Damaged among them."""
    if entry.where == LOCAL:
        path = Path(entry.path)
        user = catalog.reader(path.parent.parent, entry.job)
        return manifest.Manifest.from_dict(_of_json(call_as(user, _manifest_values, str(path))))
    if entry.where in config.repository_names(configuration):
        repository = config.load_repository(entry.where, configuration)
    else:
        repository = config.load_hosted_repository(entry.where, configuration).repository
    repository = dataclasses.replace(repository, secrets_folder=config.secrets_folder(config.STATES))
    return manifest.loads(restic.manifest_text(repository, entry.path), f"snapshot {entry.path} of {entry.where}")


def _of_json(values: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest's values after their way through JSON, which another process answers with."""
    return {**values, "files": [dict(file) for file in values["files"]]}


def show(
    entries: Iterable[CatalogEntry],
    identifier: str,
    job: str = "",
    host: str = "",
    with_live: bool = False,
    here: str = "",
    configuration: str | Path = config.CONFIGURATION,
) -> list[dict[str, Any]]:
    """Return what there is about an archive, once a place: {entry, manifest, problem, live, live_problem} each.

    identifier: the archive's id. job, host: only archives of these. with_live: compare it with the live database, if
    this host (`here`) still has its job. manifest: None where it cannot be read, and then `problem` says why.
    """
    shown, live, live_problem = [], None, ""
    for entry in entries:
        if entry.id != identifier or (job and entry.job != job) or (host and entry.host != host):
            continue
        contents, problem = None, entry.problem
        try:
            contents = read_manifest(entry, configuration)
        except Exception as error:  # noqa: BLE001 - one place must not hide the others
            problem = problem or str(from_exception(error))
        if with_live and contents and entry.host == here and live is None and not live_problem:
            try:
                live = compare(config.load_job(entry.job, configuration), contents)
            except Exception as error:  # noqa: BLE001 - the archive is shown all the same
                live_problem = str(from_exception(error))
        shown.append(
            {
                "entry": entry.as_dict(),
                "manifest": contents.as_dict() if contents else None,
                "problem": problem,
            }
        )
    return [{**each, "live": live, "live_problem": live_problem} for each in shown]
