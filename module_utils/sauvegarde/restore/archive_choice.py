"""Choose an archive among the catalog's entries: the newest, one by its id, or the last one before a time."""

from __future__ import annotations

import calendar
import time
from collections.abc import Collection, Sequence
from typing import Any

from ..archive import ids
from ..errors import SauvegardeError

Entry = dict[str, Any]  # the values of a catalog.CatalogEntry
_FORMS = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def moment(text: str) -> int:
    """Return the seconds since the epoch of a time in UTC, as `2026-11-24T03:00Z` or `2026-11-24 03:00`.

    A day stands for its end. Raises SauvegardeError for anything else.
    """
    for form in _FORMS:
        try:
            seconds = calendar.timegm(time.strptime(text, form))
        except ValueError:
            continue
        return seconds + (86399 if form == _FORMS[-1] else 0)
    raise SauvegardeError(
        f"The point {text!r} is neither `latest`, nor an archive's id, nor a time.",
        fix="Write a time in UTC as 2026-11-24T03:00Z, or an id as the list shows it.",
    )


def id_at(point: str) -> str:
    """Return the id of an archive that is created at `point`; an id stands for itself."""
    return point if ids.is_id(point) else ids.format_id(moment(point))


def roles_for(entries: Sequence[Entry], entry: Entry) -> Entry | None:
    """Return the archive of the roles that goes with a database's archive.

    Of the same host, the newest verified one that is no newer, else the oldest; None without one. If some are of the
    same cluster, those of others (a second one, or one of a machine of that name) do not count.
    """
    candidates = [
        other
        for other in entries
        if other["kind"] == "globals" and other["verified"] and other["host"] == entry["host"]
    ]
    if entry.get("system"):
        candidates = [other for other in candidates if other.get("system") == entry["system"]] or candidates
    candidates.sort(key=_id)
    earlier = [other for other in candidates if other["id"] <= entry["id"]]
    return earlier[-1] if earlier else (candidates[0] if candidates else None)


def damaged_roles(entries: Sequence[Entry], entry: Entry, roles: Entry | None) -> list[Entry]:
    """Return the damaged archives of roles that would have gone with a database's archive instead of `roles`."""
    of_host = [other for other in entries if other["host"] == entry["host"]]
    # The kind of an archive without a readable manifest is that of its job's others.
    jobs = {other["job"] for other in of_host if other["kind"] == "globals"} | {"globals"}
    newest = roles["id"] if roles and roles["id"] <= entry["id"] else ""
    return [
        other
        for other in of_host
        if other["verified"] is False and other["job"] in jobs and newest < other["id"] <= entry["id"]
    ]


def _id(entry: Entry) -> str:
    return str(entry["id"])


def _refuse_mixed(entries: Sequence[Entry], what: str) -> None:
    """Raise SauvegardeError if archives of two machines of one name alternate.

    After an upgrade or on a new machine, another system's archives follow the first one's, and none of these come after
    them.
    """
    for job in sorted({entry["job"] for entry in entries}):
        systems = [entry["system"] for entry in entries if entry["job"] == job and entry.get("system")]
        turns = [system for system, previous in zip(systems, [None, *systems]) if system != previous]
        if len(turns) != len(set(turns)):
            raise SauvegardeError(
                f"Two machines of one name have archives of {what}.",
                f"Those of the job {job} take turns: they are of the systems {', '.join(sorted(set(turns)))}.",
                "Name the archive by its id; the list (as JSON) says the system of each. Give one of the machines "
                "another name in its inventory.",
            )


def _refuse_several_databases(entries: Sequence[Entry], what: str) -> None:
    """Raise SauvegardeError if the archives are of several databases, by a job that backs up several."""
    names = sorted({entry["source"].rsplit(" (", 1)[0] for entry in entries if entry["kind"] == "pg_dump"})
    if len(names) > 1:
        raise SauvegardeError(
            f"There are archives of several databases of {what}: {', '.join(names)}.",
            fix="Say which: restore_database, or restore_source_database where it has another name there.",
        )


# Two whole archives of one database by two jobs are equivalent; of a site's data each job may hold another part.
_COMPLETE_KINDS = ("pg_dump", "sqlite")


def choose(
    entries: Sequence[Entry],
    database: str,
    point: str = "latest",
    job: str = "",
    host: str = "",
    kinds: Collection[str] = ("pg_dump",),
) -> Entry:
    """Return the catalog's entry to restore: of the `kinds`, verified, at or before `point`. Raises SauvegardeError.

    database: as the catalog's source has it: a database's name, an SQLite file's path, a site's folder; '' for whatever
    the job has. job, host: only archives of these. If archives of one name are from two hosts, none is chosen. One that
    holds a part of its database is chosen by its job or its id, or where there are no whole ones.
    """
    what = database or f"the job {job}"
    requested = [entry for entry in entries if (not job or entry["job"] == job) and (not host or entry["host"] == host)]
    good = [
        entry
        for entry in requested
        if entry["verified"] and entry["kind"] in kinds and database in ("", entry["source"].rsplit(" (", 1)[0])
    ]
    # The contents of a damaged archive are unknown.
    damaged = ["Damaged: {job} {id}. {problem}".format(**entry) for entry in requested if entry["verified"] is False]
    if not job and not ids.is_id(point):
        good = _whole(good, what)
    _require_unambiguous(entries, good, damaged, what)
    good.sort(key=_id)
    if not ids.is_id(point):
        _refuse_several_databases(good, what)
        _refuse_mixed(good, what)
    if point == "latest":
        return good[-1]
    last = id_at(point)
    chosen = [entry for entry in good if entry["id"] == last or (entry["id"] < last and last != point)]
    if not chosen:
        raise SauvegardeError(
            f"There is no archive of {what} at {point}.",
            "\n".join([f"The oldest is {good[0]['id']}, the newest {good[-1]['id']}.", *damaged]),
            "Name one of those that the list shows.",
        )
    return chosen[-1]


def _whole(entries: Sequence[Entry], what: str) -> list[Entry]:
    """Return the archives that hold all of their database; those of a part if there are no others, and of one job."""
    whole = [entry for entry in entries if not entry.get("lacks")]
    jobs = sorted({entry["job"] for entry in entries})
    if not whole and len(jobs) > 1:
        raise SauvegardeError(
            f"Several jobs archive a part of {what}, and none all of it: " + ", ".join(jobs) + ".",
            fix="Say which: name an archive by its id (restore_point), as the list shows it.",
        )
    return whole or list(entries)


def _require_unambiguous(entries: Sequence[Entry], good: Sequence[Entry], damaged: Sequence[str], what: str) -> None:
    """Raise SauvegardeError if there is no good archive, or if it is not clear whose is meant."""
    if not good:
        sources = ", ".join(sorted({entry["source"] for entry in entries if entry["source"]})) or "none"
        raise SauvegardeError(
            f"There is no archive of {what} here.",
            "\n".join([f"There are some of: {sources}.", *damaged]),
            "Look at the list (playbooks/list.yml), on other hosts and in the offsite repositories too.",
        )
    hosts = sorted({entry["host"] for entry in good})
    if len(hosts) > 1:
        raise SauvegardeError(
            f"Several hosts have archives of {what}: " + ", ".join(hosts) + ".",
            fix="Say which: restore_source_host, or restore_of_host (migrate_of_host) with a repository.",
        )
    jobs = sorted({entry["job"] for entry in good})
    if len(jobs) > 1 and any(entry["kind"] not in _COMPLETE_KINDS for entry in good):
        raise SauvegardeError(f"Several jobs archive {what}: " + ", ".join(jobs) + ".", fix="Say which: migrate_job.")
