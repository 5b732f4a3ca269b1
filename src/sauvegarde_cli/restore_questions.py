"""Ask step by step what a restore still needs: the database, its archive, and the host that it goes to."""

import time
from calendar import timegm
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sauvegarde_cli.command_failed import CommandFailed
from sauvegarde_cli.playbook_command import Command
from sauvegarde_cli.terminal import console

LIST, KEPT, JSON = "List the archives", "List the databases that restores left", "Show the JSON"
IN_REPOSITORY = "List the archives of the repository"
SOURCES = ("restore_source_host", "restore_repository", "restore_file", "restore_path")
OF_THE_TARGET = ("restore_user", "restore_connection", "restore_directory")
SHOWN = 15  # archives that are offered, newest first
USAGE = 2


@dataclass(frozen=True)
class Archive:
    """An archive that can be restored, in one of its places. where: "local", or the repository's name."""

    host: str
    database: str
    id: str
    where: str
    bytes: int
    lacks: str

    @property
    def made(self) -> int:
        """When it was taken, in seconds since the epoch: what was written later is not in it."""
        return timegm(time.strptime(self.id, "%Y%m%dT%H%M%SZ"))

    @property
    def source(self) -> dict[str, str]:
        """The variables of the playbook that name its place and itself."""
        if self.where == "local":
            return {"restore_source_host": self.host, "restore_point": self.id}
        return {"restore_repository": self.where, "restore_of_host": self.host, "restore_point": self.id}


def complete(command: Command, variables: Mapping[str, Any], can_ask: bool = True) -> dict[str, Any]:
    """Return the variables, with what a person chose where they say nothing. Raises CommandFailed.

    A person who gives a source, as a file, is asked for the target alone. Of a repository that is named by its address,
    everything is read; without can_ask, it is only listed.
    """
    chosen = dict(variables)
    shared = {name: chosen[name] for name in OF_THE_TARGET if name in chosen}
    if command.hidden:
        return {**chosen, **_from_repository(command, chosen, shared, can_ask)}
    outcome = command.run("playbooks/list.yml", {"list_format": "json", **shared})
    if outcome.is_interrupted:
        raise KeyboardInterrupt
    targets = sorted(outcome.results.get(KEPT, {}))
    if not any(chosen.get(name) for name in SOURCES):
        listed = outcome.get(JSON).get("list_entries") or []
        archive = choose_archive(archives(listed), str(chosen.get("restore_database") or ""))
        chosen = {"restore_database": archive.database, **chosen, **archive.source}
    if not chosen.get("restore_database"):
        chosen["restore_database"] = ask("Name of the database to replace: ")
    if not chosen.get("restore_target"):
        chosen["restore_target"] = choose("Restore onto which host?", targets, targets) if targets else ask("Host: ")
    return chosen


def _from_repository(
    command: Command, chosen: Mapping[str, Any], shared: Mapping[str, Any], can_ask: bool
) -> dict[str, Any]:
    """Return the database and the archive that a person chooses in a repository that is named by its address."""
    outcome = command.run("playbooks/repository.yml", {"restore_target": chosen["restore_target"], **shared})
    if outcome.is_interrupted:
        raise KeyboardInterrupt
    if outcome.code:
        raise outcome.error()
    offered = archives(outcome.get(IN_REPOSITORY).get("archives") or [])
    if not can_ask:
        lines = [f"{archive.database} on {archive.host}: {about(archive)}" for archive in offered]
        raise CommandFailed(
            "A restore needs DATABASE.", "\n".join(["The repository has:", *lines]), "Name one of these.", USAGE
        )
    archive = choose_archive(offered)
    return {"restore_database": archive.database, "restore_of_host": archive.host, "restore_point": archive.id}


def archives(entries: Sequence[Mapping[str, Any]]) -> list[Archive]:
    """Return the whole archives of databases among the list's entries, newest first, each in its nearest place."""
    nearest: dict[tuple[str, str, str], Archive] = {}
    for entry in sorted(entries, key=lambda entry: entry["where"] != "local"):
        if entry["kind"] == "pg_dump" and entry["verified"]:
            database = str(entry["source"]).rsplit(" (", 1)[0]
            lacks = "a part of it" if entry.get("lacks") else ""
            archive = Archive(entry["host"], database, entry["id"], entry["where"], int(entry["bytes"]), lacks)
            nearest.setdefault((archive.host, database, archive.id), archive)
    return sorted(nearest.values(), key=lambda archive: archive.id, reverse=True)


def choose_archive(offered: Sequence[Archive], database: str = "") -> Archive:
    """Return the archive that a person chooses. database: only of this one."""
    matching = [archive for archive in offered if database in ("", archive.database)]
    if not matching:
        names = ", ".join(sorted({archive.database for archive in offered})) or "none"
        raise CommandFailed(
            f"There is no archive of {database}." if database else "There is no archive of a database.",
            f"The hosts and repositories that answered have archives of: {names}.",
            "See ./sauvegarde list; or name a source: --repository, --file or --path.",
        )
    pairs = list(dict.fromkeys((archive.database, archive.host) for archive in matching))
    number = 0
    if len(pairs) > 1:
        labels = [_about_database(pair, matching) for pair in pairs]
        number = choose_number("Which database?", labels, [name for name, _ in pairs])
    ours = [archive for archive in matching if (archive.database, archive.host) == pairs[number]]
    title = f"Which archive of {pairs[number][0]} on {pairs[number][1]}?"
    labels = [about(archive) for archive in ours[:SHOWN]]
    return ours[choose_number(title, labels, [archive.id for archive in ours])]


def _about_database(name: tuple[str, str], offered: Sequence[Archive]) -> str:
    ours = [archive for archive in offered if (archive.database, archive.host) == name]
    return f"{name[0]} on {name[1]}: {len(ours)} archive(s), the newest {age(ours[0])} old"


def about(archive: Archive) -> str:
    """Return an archive as a line: when, how large, where, and what a restore of it loses."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(archive.made))
    about_it = f"{archive.id}  {archive.bytes / 2**20:.1f} MiB, read back, on {archive.where}"
    more = f"; holds {archive.lacks}" if archive.lacks else ""
    return f"{about_it}{more}; loses what was written after {when} UTC, {age(archive)} ago"


def age(archive: Archive) -> str:
    """Return how long ago an archive was taken, as `7 h 12 min`."""
    minutes = max(0, int(time.time() - archive.made) // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def choose(title: str, labels: Sequence[str], names: Sequence[str]) -> str:
    """Return the name that a person chooses."""
    return names[choose_number(title, labels, names)]


def choose_number(title: str, labels: Sequence[str], names: Sequence[str]) -> int:
    """Return the index that a person chooses by its number or its name; the first by Enter alone."""
    console.print(title, markup=False, style="bold")
    for number, label in enumerate(labels, 1):
        console.print(f"  {number:>2}  {label}", markup=False)
    while True:
        answer = ask("Number [1]: ") or "1"
        if answer.isdecimal() and 1 <= int(answer) <= len(labels):
            return int(answer) - 1
        if answer in names:
            return list(names).index(answer)
        console.print(f"{answer!r} is not one of them. Type a number from 1 to {len(labels)}.", markup=False)


def ask(prompt: str) -> str:
    """Return what a person types. Raises CommandFailed at the end of the input."""
    try:
        return input(prompt).strip()
    except EOFError:
        raise CommandFailed("Nothing was chosen, and nothing was changed.", code=USAGE) from None
