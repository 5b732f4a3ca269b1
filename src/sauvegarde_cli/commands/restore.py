"""Define `restore`: plan, confirm, restore into a side database, prove it, and put it in place."""

import argparse

from sauvegarde_cli import repository_access

TEXT = "restore a database from any archive onto a host: plan, confirm, prove, put in place"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    repository_access.add_restore(commands, "restore", TEXT).set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Restore."""
    from sauvegarde_cli import restore_command

    return restore_command.restore(*restore_command.prepare(arguments))
