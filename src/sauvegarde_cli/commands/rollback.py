"""Define `rollback`: put the previous database back."""

import argparse
from typing import TYPE_CHECKING, Any

from sauvegarde_cli import on_call, playbook_options

if TYPE_CHECKING:
    from sauvegarde_cli.playbook_run import Outcome

TASK = "Put the database back that was live before"
STATE = (
    "A rollback is one transaction: it happened or it did not."
    " ./sauvegarde cleanup shows which previous databases there are."
)


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = "put the database back that was live before a restore; the same command reverses it"
    parser = commands.add_parser("rollback", help=text, description=text, parents=[on_call.options()])
    parser.add_argument("restore_database", nargs="?", metavar="DATABASE", help="name of the live database")
    playbook_options.add(parser, "rollback", ["restore_database"])
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask for the name unless it is confirmed, and roll back."""
    from sauvegarde_cli import confirmation
    from sauvegarde_cli.playbook_command import run_one

    variables = playbook_options.variables(arguments, "rollback")
    playbook_options.require(variables, "rollback", ["restore_database", "restore_target"], ["restore_database"])
    name = str(variables["restore_database"]).rpartition("/")[2]  # of an SQLite database, whose path it is, the file
    expected = f"{name}@{variables['restore_target']}"
    if not arguments.check:
        variables["restore_confirm"] = confirmation.typed(expected, variables.get("restore_confirm"), "replace")
    return run_one("rollback", on_call.Settings.of(arguments), "playbooks/rollback.yml", variables, describe, STATE)


def describe(outcome: "Outcome") -> tuple[dict[str, Any], list[str]]:
    """Return what is live again, and what was."""
    if outcome.code:
        return {}, []
    values = outcome.get(TASK)
    result = {key: values.get(key) for key in ("restored", "kept", "seconds", "ended")}
    return result, [str(outcome.get("Show the result").get("msg", "")).strip()]
