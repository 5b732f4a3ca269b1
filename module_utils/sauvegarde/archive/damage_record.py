"""Record which archives a read has found damaged, for the list and for the next choice of an archive.

A manifest says that an archive was whole when it was written. Only a later read finds what happened to it since (bad
blocks, a damaged pack of a repository): that of a restore's plan, or of a fetch from a repository. The host that reads
keeps the record in its folder of restores. A later read of the same archive without an error removes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..report import job_state

NAME = "damaged.json"
LOCAL = "local"  # an archive of its own host, or a copy of it
_MOST = 500  # records: older ones are dropped


@dataclass(frozen=True)
class DamageRecord:
    """An archive that a read found damaged.

    host, system, job, id: of the archive. where: LOCAL, or the repository's name. path: the restic snapshot, or the
    path that was read. found: seconds since the epoch.
    """

    host: str
    system: str
    job: str
    id: str
    where: str
    path: str
    problem: str
    found: float

    @property
    def key(self) -> tuple[str, ...]:
        """What identifies the archive; see `_key_of`."""
        return _key_of(asdict(self))


def _key_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what identifies an archive: a snapshot's name; of a local archive system, job and id. Its host's name in
    the inventory may differ from the manifest's, so it counts only for an archive without a system."""
    if entry["where"] != LOCAL:
        return (str(entry["path"]),)
    return (entry.get("system") or entry["host"], entry["job"], entry["id"])


def read(directory: str | Path) -> list[DamageRecord]:
    """Return the records in a folder of restores; a file that cannot be read has none."""
    records = job_state.read(Path(directory) / NAME).get("records")
    names = {field.name for field in fields(DamageRecord)}
    return [
        DamageRecord(**values)
        for values in (records if isinstance(records, list) else [])
        if isinstance(values, dict) and set(values) == names
    ]


def _write(directory: str | Path, records: list[DamageRecord]) -> None:
    records = sorted(records, key=lambda record: record.found)[-_MOST:]
    job_state.write(Path(directory) / NAME, {"records": [asdict(record) for record in records]})


def add(directory: str | Path, entry: Mapping[str, Any], problem: str) -> DamageRecord:
    """Record that the archive of a catalog's entry is damaged; return the record."""
    values = {name: str(entry[name]) for name in ("host", "system", "job", "id", "where", "path")}
    record = DamageRecord(**values, problem=problem.strip(), found=round(time.time()))
    _write(directory, [*(other for other in read(directory) if other.key != record.key), record])
    return record


def remove(directory: str | Path, entry: Mapping[str, Any]) -> None:
    """Remove the record of an archive that was read without an error, if there is one."""
    records = read(directory)
    remaining = [record for record in records if record.key != _key_of(entry)]
    if len(remaining) < len(records):
        _write(directory, remaining)


def mark(entries: Iterable[Mapping[str, Any]], records: Iterable[DamageRecord]) -> list[dict[str, Any]]:
    """Return the catalog's entries (plain values), those with a record as damaged, with its problem."""
    by_key = {record.key: record for record in records}
    marked = []
    for entry in entries:
        record = by_key.get(_key_of(entry))
        changes = {"verified": False, "problem": record.problem} if record and entry["verified"] else {}
        marked.append({**entry, **changes})
    return marked
