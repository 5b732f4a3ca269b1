"""Define `migrate`, which runs the playbook of that name."""

import argparse

from sauvegarde_cli import on_call, playbook_options

STATE = (
    "The target's live data are as they were, unless the log ends with the task `Put it in place`: that is one"
    " transaction. The same command starts again."
)


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = "move a site's data to another site: masked, proven, then put in place"
    parser = commands.add_parser("migrate", help=text, description=text, parents=[on_call.options()])
    playbook_options.add(parser, "migrate")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the playbook and show what it shows."""
    from sauvegarde_cli.playbook_command import run_one, shown

    variables = playbook_options.variables(arguments, "migrate")
    settings = on_call.Settings.of(arguments)
    return run_one("migrate", settings, "playbooks/migrate.yml", variables, shown, STATE)
