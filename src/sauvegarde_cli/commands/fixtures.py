"""Define `fixtures`, which runs the playbook of that name."""

import argparse

from sauvegarde_cli import on_call, playbook_options

STATE = (
    "An export or import that had begun ends on its host: completely, or not at all. The same command may be run again."
)


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = "export a site's fixture sets into its repository, or import them"
    parser = commands.add_parser("fixtures", help=text, description=text, parents=[on_call.options()])
    playbook_options.add(parser, "fixtures")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the playbook and show what it shows."""
    from sauvegarde_cli.playbook_command import run_one, shown

    variables = playbook_options.variables(arguments, "fixtures")
    settings = on_call.Settings.of(arguments)
    return run_one("fixtures", settings, "playbooks/fixtures.yml", variables, shown, STATE)
