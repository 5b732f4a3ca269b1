"""Which archive: the newest, one by its id, or the one that a moment had; from the catalog's entries."""

import calendar
import time

from ..archive import ids
from ..errors import SauvegardeError

_FORMS = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def moment(text):
    """Seconds since the epoch of a time in UTC, as `2026-11-24T03:00Z` or `2026-11-24 03:00`; a day means its end."""
    for form in _FORMS:
        try:
            found = calendar.timegm(time.strptime(text, form))
        except ValueError:
            continue
        return found + (86399 if form == _FORMS[-1] else 0)
    raise SauvegardeError(
        f"The point {text!r} is neither `latest`, nor an archive's id, nor a time.",
        fix="Write a time in UTC as 2026-11-24T03:00Z, or an id as the list shows it.",
    )


def label(point):
    """The id that an archive made at `point` would have; an id stands for itself."""
    return point if ids.is_id(point) else ids.format_id(moment(point))


def roles_for(entries, entry):
    """The newest verified archive of the roles of the same host that is no newer, else the oldest; None without one.
    Where some are of the same cluster, those of others (a second one, or one of a machine of that name) do not count.
    """
    found = [
        each for each in entries if each["kind"] == "globals" and each["verified"] and each["host"] == entry["host"]
    ]
    if entry.get("system"):
        found = [each for each in found if each.get("system") == entry["system"]] or found
    found.sort(key=lambda each: each["id"])
    before = [each for each in found if each["id"] <= entry["id"]]
    return before[-1] if before else (found[0] if found else None)


def _refuse_mixed(entries, what):
    """Raise where archives of two machines of one name take turns. After an upgrade or on a new machine, another
    system's archives follow the first one's, and none of these come after them.
    """
    for job in sorted({each["job"] for each in entries}):
        mine = [each["system"] for each in entries if each["job"] == job and each.get("system")]
        turns = [system for system, before in zip(mine, [None, *mine]) if system != before]
        if len(turns) != len(set(turns)):
            raise SauvegardeError(
                f"Two machines of one name have archives of {what}.",
                "Those of the job {} take turns: they are of the systems {}.".format(
                    job, ", ".join(sorted(set(turns)))
                ),
                "Name the archive by its id; the list (as JSON) says the system of each. Give one of the machines "
                "another name in its inventory.",
            )


# Two archives of one database by two jobs are worth the same; of a site's data each job may hold another part.
_WHOLE = ("pg_dump", "sqlite")


def one(entries, database, point="latest", job="", host="", kinds=("pg_dump",)):
    """The entry of the catalog to restore: of the `kinds`, verified, at or before `point`, and of what the catalog
    calls `database`: a database's name, an SQLite file's path, a site's folder; '' for whatever the job has.

    `job` and `host` narrow it down; archives of one name from two hosts are not guessed between.
    """
    what = database or f"the job {job}"
    asked = [each for each in entries if (not job or each["job"] == job) and (not host or each["host"] == host)]
    whole = [
        each
        for each in asked
        if each["verified"] and each["kind"] in kinds and database in ("", each["source"].rsplit(" (", 1)[0])
    ]
    # What a damaged one is of, nobody can say.
    damaged = ["Damaged: {job} {id}. {problem}".format(**each) for each in asked if each["verified"] is False]
    if not whole:
        there = ", ".join(sorted({each["source"] for each in entries if each["source"]})) or "none"
        raise SauvegardeError(
            f"There is no archive of {what} here.",
            "\n".join([f"There are some of: {there}.", *damaged]),
            "Look at the list (playbooks/list.yml), on other hosts and in the offsite repositories too.",
        )
    hosts = sorted({each["host"] for each in whole})
    if len(hosts) > 1:
        raise SauvegardeError(
            f"Several hosts have archives of {what}: " + ", ".join(hosts) + ".",
            fix="Say which: restore_source_host, or restore_of_host (migrate_of_host) with a repository.",
        )
    jobs = sorted({each["job"] for each in whole})
    if len(jobs) > 1 and any(each["kind"] not in _WHOLE for each in whole):
        raise SauvegardeError(f"Several jobs archive {what}: " + ", ".join(jobs) + ".", fix="Say which: migrate_job.")
    whole.sort(key=lambda each: each["id"])
    if not ids.is_id(point):
        _refuse_mixed(whole, what)
    if point == "latest":
        return whole[-1]
    until = label(point)
    found = [each for each in whole if each["id"] == until or (each["id"] < until and until != point)]
    if not found:
        raise SauvegardeError(
            f"There is no archive of {what} at {point}.",
            "\n".join(["The oldest is {}, the newest {}.".format(whole[0]["id"], whole[-1]["id"]), *damaged]),
            "Name one of those that the list shows.",
        )
    return found[-1]
