"""Define `plan`: what a restore would do, and everything that would stop it."""

import argparse

from sauvegarde_cli import repository_access

TEXT = "what a restore would do, what it would lose, and all that would stop it; changes no database"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    repository_access.add_restore(commands, "plan", TEXT).set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the plan and show it."""
    from sauvegarde_cli import restore_command

    return restore_command.plan(*restore_command.prepare(arguments))
