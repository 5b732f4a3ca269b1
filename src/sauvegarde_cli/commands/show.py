"""Define `show`: one archive in full, and how it differs from the live database."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sauvegarde_cli import on_call
from sauvegarde_cli.command_failed import CommandFailed

if TYPE_CHECKING:
    from sauvegarde_cli.playbook_command import Command

PLAYBOOK = "playbooks/show.yml"
TASK = "Read the archive"
STATE = "Nothing was changed: the command only reads."
LOCAL = "local"
USAGE = 2


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = (
        "one archive in full: contents, tables and rows, fingerprints, how to restore it by hand, and which tables of"
        " the live database differ from it"
    )
    parser = commands.add_parser("show", help=text, description=text, parents=[on_call.options()])
    parser.add_argument("archive", metavar="ARCHIVE", help="its id, as the list shows it")
    parser.add_argument("--of-host", default="", metavar="HOST", help="of this host, where several have the id")
    parser.add_argument("--job", default="", metavar="JOB", help="of this job, where several have the id")
    parser.add_argument(
        "--no-live", action="store_true", help="do not compare it with the live database (three minutes at most)"
    )
    parser.set_defaults(run=run)


def _read(command: "Command", arguments: argparse.Namespace, owner: tuple[str, str], compare: bool) -> Any:
    """Return (outcome, places) of the archive, with the live database where `compare` says so."""
    from sauvegarde_cli.playbook_text import archive_text, hosts_of, variables_of

    variables = {
        "show_archive": arguments.archive,
        "show_host": owner[0],
        "show_job": owner[1],
        "show_compare": compare,
    }
    outcome = command.run(PLAYBOOK, variables)
    return outcome, archive_text.places(variables_of(outcome, {TASK: "show_result"}), hosts_of(outcome))


def run(arguments: argparse.Namespace) -> int:
    """Show the archive. Raises CommandFailed where there is none, or where several have the id."""
    from sauvegarde_cli.playbook_command import Command
    from sauvegarde_cli.playbook_text import archive_text

    command = Command("show", on_call.Settings.of(arguments), is_reading=True)
    named = (arguments.of_host, arguments.job)
    # With both names the archive is clear, and one run does all of it.
    is_clear = all(named)
    outcome, shown = _read(command, arguments, named, is_clear and not arguments.no_live)
    if outcome.code:
        return command.end(outcome, {}, [], STATE)
    owners = archive_text.owners(shown)
    if len(owners) != 1:
        raise _unclear(arguments.archive, owners, sorted(outcome.unreachable))
    (owner,) = owners
    if not is_clear and not arguments.no_live and _has_live(shown):
        compared, again = _read(command, arguments, owner, True)
        if compared.code:
            return command.end(compared, {}, [], STATE)
        shown = again or shown
    lines = archive_text.of_archive(shown, 0 if arguments.verbose else archive_text.MOST)
    return command.end(outcome, _result(shown), lines, STATE, _next(shown, command))


def _has_live(shown: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the archive is one that can be compared with a live database."""
    return any(each["entry"]["kind"] == "pg_dump" and each["manifest"] for each in shown)


def _result(shown: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys of `show --json`."""
    return {
        "places": [{**each["entry"], "problem": each["problem"] or each["entry"]["problem"]} for each in shown],
        "manifest": next((each["manifest"] for each in shown if each["manifest"]), None),
        "live": next((each["live"] for each in shown if each.get("live")), None),
        "live_problem": next((each["live_problem"] for each in shown if each.get("live_problem")), ""),
    }


def _next(shown: Sequence[Mapping[str, Any]], command: "Command") -> list[str]:
    """Return the command that plans a restore of a database's archive."""
    from sauvegarde_cli.playbook_command import own_command
    from sauvegarde_cli.playbook_text import catalog_text

    good = [each["entry"] for each in shown if each["manifest"] and each["entry"]["kind"] == "pg_dump"]
    if not good:
        return []
    entry = good[0]
    source = ["--source-host", entry["host"]]
    if entry["where"] != LOCAL:
        source = ["--repository", entry["where"], "--of-host", entry["host"]]
    words = [catalog_text.source_name(entry), "--target", entry["host"], *source, "--point", entry["id"]]
    return [own_command("plan", *words, settings=command.settings)]


def _unclear(archive: str, owners: Sequence[tuple[str, str]], silent: Sequence[str]) -> CommandFailed:
    """Return the error of an id that no archive has, or several."""
    if owners:
        return CommandFailed(
            f"Several archives have the id {archive}.",
            "\n".join(f"{host}, job {job}" for host, job in owners),
            f"Say which: ./sauvegarde show {archive} --of-host {owners[0][0]} --job {owners[0][1]}",
            USAGE,
        )
    return CommandFailed(
        f"There is no archive {archive}.",
        f"These hosts could not be asked: {', '.join(silent)}." if silent else "",
        "Take an id that ./sauvegarde list shows.",
        1 if silent else USAGE,
    )
