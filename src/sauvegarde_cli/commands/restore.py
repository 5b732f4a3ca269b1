"""Define `restore`: plan, confirm, restore into a side database, prove it, and put it in place."""

import argparse

from sauvegarde_cli import on_call, playbook_options, repository_access

POSITIONAL = ("restore_database",)


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = "restore a database from any archive onto a host: plan, confirm, prove, put in place"
    parser = commands.add_parser("restore", help=text, description=text, parents=[on_call.options()])
    parser.add_argument("restore_database", nargs="?", metavar="DATABASE", help="name of the database to replace")
    playbook_options.add(parser, "restore", POSITIONAL)
    repository_access.add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Restore."""
    from sauvegarde_cli import restore_command

    return restore_command.restore(*restore_command.prepare(arguments))
