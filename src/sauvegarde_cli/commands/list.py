"""Define `list`: what there is to restore, on all hosts and in all repositories."""

import argparse

from sauvegarde_cli import on_call

PLAYBOOK = "playbooks/list.yml"
STATE = "The list only reads."


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = "what there is to restore, on all hosts and in all repositories, the jobs that need attention first"
    parser = commands.add_parser("list", help=text, description=text, parents=[on_call.options()])
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="only of this database, job, host or place")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read the catalogs and show them; 3 if a host or a repository could not be read."""
    from sauvegarde_cli import completion_words, overview
    from sauvegarde_cli.playbook_command import Command

    command = Command("list", on_call.Settings.of(arguments), is_reading=True)
    outcome = command.run(PLAYBOOK, {"list_format": "none"})
    catalog = overview.catalog(outcome, arguments.name)
    if not outcome.code and not arguments.name and not command.settings.limit:
        completion_words.save(catalog)
    code = 0 if catalog.is_complete else overview.PARTIAL
    return command.end(outcome, catalog.as_dict(), catalog.lines, STATE, code=code)
