"""Define `plan`: what a restore would do, and everything that would stop it."""

import argparse

from sauvegarde_cli import on_call, playbook_options, repository_access

POSITIONAL = ("restore_database",)


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = "what a restore would do, what it would lose, and all that would stop it; changes no database"
    parser = commands.add_parser("plan", help=text, description=text, parents=[on_call.options()])
    parser.add_argument("restore_database", nargs="?", metavar="DATABASE", help="name of the database to replace")
    playbook_options.add(parser, "restore", POSITIONAL)
    repository_access.add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the plan and show it."""
    from sauvegarde_cli import restore_command

    return restore_command.plan(*restore_command.prepare(arguments))
