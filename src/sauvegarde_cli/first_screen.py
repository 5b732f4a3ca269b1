"""Show one screen, when `./sauvegarde` is typed alone on a terminal, and a menu that calls the other commands."""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sauvegarde_cli import on_call, overview
from sauvegarde_cli.overview import Catalog, Jobs
from sauvegarde_cli.terminal import complain, console

if TYPE_CHECKING:
    from sauvegarde_cli.playbook_run import Outcome

PLAYBOOK = "playbooks/overview.yml"
STATE = "The first screen only reads."
INTERRUPTED = 130
_MOST = 12  # lines of what is protected


@dataclass(frozen=True)
class Choice:
    """An entry of the menu. words: the command; {0}, {1} … are asked for. questions: what to ask, in that order; a
    question's answer may be empty where its text ends with "(Enter: …)"."""

    text: str
    words: tuple[str, ...]
    questions: tuple[str, ...] = ()


MENU = (
    Choice("List all archives", ("list",)),
    Choice("Show one archive in full", ("show", "{0}"), ("Archive (its id)",)),
    Choice("How the jobs do", ("status",)),
    Choice("Run jobs now", ("backup", "{0}"), ("Host (Enter: all)",)),
    Choice("Restore a database, step by step", ("restore",)),
    Choice(
        "Go back to the database before a restore",
        ("rollback", "{0}", "--target", "{1}"),
        ("Database", "Host"),
    ),
    Choice(
        "Databases that restores left, with their sizes", ("cleanup", "{0}", "--target", "{1}"), ("Database", "Host")
    ),
    Choice("Check what the next backup and restore need", ("doctor",)),
    Choice("What the last run did", ("report", "last")),
)


def newest(catalog: Catalog) -> list[Mapping[str, Any]]:
    """Return the newest archive of each host, job and database, in the catalog's order: worst first."""
    from sauvegarde_cli.playbook_text import catalog_text

    first: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for entry in catalog.archives:
        first.setdefault((entry["host"], entry["job"], catalog_text.source_name(entry)), entry)
    return list(first.values())


def proof(entry: Mapping[str, Any]) -> str:
    """Return what is known of an archive, in a few words."""
    if entry["verified"] is False:
        return "DAMAGED"
    return f"read back, {entry['proven']} proven" if entry.get("proven") else "read back"


def _places(catalog: Catalog, entry: Mapping[str, Any]) -> str:
    """Return where the archive is, of all its copies."""
    key = ("host", "job", "id")
    same = [each for each in catalog.archives if all(each[name] == entry[name] for name in key)]
    return " and ".join(dict.fromkeys("its own host" if each["where"] == "local" else each["where"] for each in same))


def lines(catalog: Catalog, jobs: Jobs, now: datetime) -> list[str]:
    """Return the screen."""
    from sauvegarde_cli.playbook_text import catalog_text, size, status_text

    rows = newest(catalog)
    shown = [
        (
            f"{entry['host']} {entry['job']}",
            catalog_text.contents(entry),
            f"{catalog_text.age(entry['id'], now)} old",
            proof(entry),
            _places(catalog, entry),
        )
        for entry in rows[:_MOST]
    ]
    text = ["Protected, the newest archive of each:"]
    text += (
        [f"  {line}" for line in catalog_text.table(shown, right=(2,))] if shown else ["  nothing: there is no archive"]
    )
    if len(rows) > _MOST:
        text.append(f"  … and {len(rows) - _MOST} more that are no worse")
    unwell = jobs.unwell
    attention = unwell or catalog.problems or catalog.without_job
    calm = "All jobs are well." if jobs.jobs else "There is no job: nothing is backed up."
    text += ["", "Needs attention:" if attention else calm]
    text += [f"  {status_text.name(job)}: {job['why']}" for job in unwell]
    text += [f"  {each['host']}: {each['what']}" for each in catalog.problems]
    text += [f"  {each['host']}: no job names the database {each['database']}" for each in catalog.without_job]
    if catalog.databases:
        total = sum(int(each["stored_bytes"]) for each in catalog.databases)
        text += ["", f"Databases that restores left take {size(total)}:"]
        text += [
            f"  {each['host']}: {each['path']}, {size(int(each['stored_bytes']))}" for each in catalog.databases[:5]
        ]
    return text


def menu_lines() -> list[str]:
    """Return the menu."""
    return ["", *(f" {number:>2}  {choice.text}" for number, choice in enumerate(MENU, 1)), "  q  Leave"]


def words_of(choice: Choice, ask: Callable[[str], str]) -> list[str] | None:
    """Return the words of a choice's command after asking its questions; None where an answer is missing."""
    answers = []
    for question in choice.questions:
        answer = ask(f"{question}: ").strip()
        if not answer and "(Enter:" not in question:
            return None
        answers.append(answer)
    return [word for word in (part.format(*answers) for part in choice.words) if word]


def read(arguments: argparse.Namespace) -> "tuple[Outcome, int]":
    """Read and print the screen; return the run's outcome and exit code."""
    from sauvegarde_cli import completion_words
    from sauvegarde_cli.playbook_command import Command

    command = Command("overview", on_call.Settings.of(arguments), is_reading=True)
    outcome = command.run(PLAYBOOK, {"list_format": "none", "status_format": "none", "status_fail": False})
    catalog, jobs = overview.catalog(outcome), overview.jobs(outcome)
    if not outcome.code:
        completion_words.save(catalog)
    shown = [] if outcome.code else lines(catalog, jobs, datetime.now(UTC))
    code = command.end(outcome, {"catalog": catalog.as_dict(), "status": jobs.as_dict()}, shown, STATE)
    return outcome, code


def run(start: Callable[[Sequence[str]], int], inventory: Sequence[str] = ()) -> int:
    """Show the screen and the menu until the user leaves; return the exit code of the last command.

    start: carries out a command line and returns its exit code. inventory: the words that name the inventory.
    """
    parser = argparse.ArgumentParser(parents=[on_call.options()], add_help=False)
    _, code = read(parser.parse_args(list(inventory)))
    while True:
        for line in menu_lines():
            console.print(line, markup=False)
        try:
            answer = input("Number: ").strip().lower()
            if answer in ("q", ""):
                return code
            choice = MENU[int(answer) - 1] if answer.isdigit() and 0 < int(answer) <= len(MENU) else None
            words = words_of(choice, input) if choice else None
        except EOFError:
            return code
        except KeyboardInterrupt:
            console.print()
            return INTERRUPTED
        if words is None:
            complain(f"{answer!r} is no number of the menu." if choice is None else "An answer is missing.")
            continue
        words += [] if words[0] == "report" else inventory
        console.print(f"\n$ ./sauvegarde {shlex.join(words)}", markup=False, style="bold")
        code = start(words)
