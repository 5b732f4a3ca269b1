"""Define `cleanup`: list the databases that restores left, with their sizes, or remove one by its name."""

import argparse
from typing import TYPE_CHECKING, Any

from sauvegarde_cli import on_call, playbook_options

if TYPE_CHECKING:
    from sauvegarde_cli.playbook_run import Outcome

TASK = "Remove the kept database"
STATE = (
    "If a removal had been sent to the host, it ends there by itself."
    " The same command without a name shows what is there."
)
KINDS = {"before": "previous database", "restore": "side database", "beside": "restored beside"}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = "list the databases that restores left, with their sizes, or remove one by its whole name"
    parser = commands.add_parser("cleanup", help=text, description=text, parents=[on_call.options()])
    parser.add_argument("restore_database", nargs="?", metavar="DATABASE", help="name of the live database")
    parser.add_argument("restore_kept", nargs="?", metavar="NAME", help="the database to remove; without it, a list")
    playbook_options.add(parser, "cleanup", ["restore_database", "restore_kept"])
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List, or remove."""
    from sauvegarde_cli.playbook_command import run_one

    variables = playbook_options.variables(arguments, "cleanup")
    playbook_options.require(variables, "cleanup", ["restore_database", "restore_target"], ["restore_database"])
    return run_one("cleanup", on_call.Settings.of(arguments), "playbooks/cleanup.yml", variables, describe, STATE)


def describe(outcome: "Outcome") -> tuple[dict[str, Any], list[str]]:
    """Return the databases that are left on each host, and a line for each."""
    hosts = {host: result.get("kept", []) for host, result in outcome.results.get(TASK, {}).items()}
    lines = [
        f"{host}: {each['name']} ({KINDS[each['kind']]}, {each['bytes'] / 2**20:.1f} MiB)"
        for host, kept in sorted(hosts.items())
        for each in kept
    ]
    return {"kept": hosts}, lines or ([] if outcome.code else ["Nothing is kept."])
