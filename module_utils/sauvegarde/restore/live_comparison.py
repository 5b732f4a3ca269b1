"""Show one archive in full, and compare it with the live database that its job dumps.

Nothing here changes a database: the live tables are summed as for a fingerprint, in short transactions that hold one
table's lock at a time, and a table that others have locked exclusively ends the comparison.
"""

from __future__ import annotations

import dataclasses
import json
import re
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

_WORKERS = 2  # tables at a time: the live database serves others meanwhile
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


@dataclasses.dataclass(frozen=True)
class TableDifference:
    """A table that differs between archive and live database.

    table: SCHEMA.NAME. archive_rows, live_rows: None where it has no such table. is_same_count: the number of rows is
    equal, and their content, or the columns, are not.
    """

    table: str
    archive_rows: int | None
    live_rows: int | None
    archive_hash: str
    live_hash: str

    @property
    def sentence(self) -> str:
        """What differs, for people."""
        if self.live_rows is None:
            return f"{self.table}: {self.archive_rows} rows in the archive, no such table in the live database"
        if self.archive_rows is None:
            return f"{self.table}: no such table in the archive, {self.live_rows} rows in the live database"
        if self.archive_rows == self.live_rows:
            return f"{self.table}: {self.live_rows} rows in both, with other content or other columns"
        return f"{self.table}: {self.archive_rows} rows in the archive, {self.live_rows} in the live database"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a result."""
        return {**dataclasses.asdict(self), "sentence": self.sentence}


def plain(key: str) -> str:
    """Return `public.t` for the fingerprint's key `"public"."t"`."""
    return ".".join(name.replace('""', '"') for name in _QUOTED.findall(key)) or key


def table_differences(
    expected: Mapping[str, Any], actual: Mapping[str, Any], excluded: Iterable[str] = (), is_partial: bool = False
) -> list[TableDifference]:
    """Return the tables that differ between two fingerprints' `tables`, those with most rows missing live first.

    excluded: objects (`TABLE public.t`) without a sum. is_partial: the archive lacks tables on purpose.
    """
    without, differences = set(excluded), []
    for key in sorted(set(expected) | set(actual)):
        name, before, now = plain(key), expected.get(key), actual.get(key)
        if f"TABLE {name}" in without or (before is None and is_partial):
            continue
        if before and now and (before["rows"], before["hash"]) == (now["rows"], now["hash"]):
            continue
        differences.append(
            TableDifference(
                name,
                before["rows"] if before else None,
                now["rows"] if now else None,
                before["hash"] if before else "",
                now["hash"] if now else "",
            )
        )
    return sorted(differences, key=lambda each: (-((each.archive_rows or 0) - (each.live_rows or 0)), each.table))


def _live_tables(connection: Mapping[str, Any], database: str, expected: str) -> dict[str, Any]:
    """Return what the live database has of the objects of a fingerprint, which is JSON: {tables, unproven}."""
    from ..postgres import fingerprint, postgres_server

    server, like = postgres_server.Server.from_values(connection), json.loads(expected)
    like["unproven"] = [*like.get("unproven", ()), {"object": fingerprint.LARGE_OBJECTS, "why": "not compared"}]
    actual = fingerprint.take(lambda: postgres_server.connect(server, database), workers=_WORKERS, like=like)
    return {"tables": actual["tables"], "unproven": list(fingerprint.unproven(actual))}


def compare(job: Job, contents: manifest.Manifest) -> dict[str, Any]:
    """Return {database, equal, differing: [TableDifference as values], unproven}. Root calls this.

    equal: the number of tables with the same rows. unproven: objects that were not compared.
    Raises SauvegardeError where the live database does not answer.
    """
    stated = dict(contents.fingerprint or {})
    if contents.kind != "pg_dump" or not stated.get("tables"):
        raise SauvegardeError("The archive has no fingerprint of tables to compare with.")
    database = catalog.database_of(contents)
    connection = job.options.get("connection") or {}
    wanted = {key: stated[key] for key in ("algorithm", "tables", "unproven") if key in stated}
    live = call_as(job.user, _live_tables, connection, database, json.dumps(wanted))
    excluded = [*(entry["object"] for entry in contents.unproven), *live["unproven"]]
    differing = table_differences(stated["tables"], live["tables"], excluded, contents.partial is not None)
    missing = sum(each.archive_rows is not None for each in differing)
    return {
        "database": database,
        "equal": len(stated["tables"]) - missing - sum(f"TABLE {plain(key)}" in excluded for key in stated["tables"]),
        "differing": [each.as_dict() for each in differing],
        "unproven": sorted(set(excluded)),
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
