"""Define `policy`, which runs the playbook of that name."""

import argparse

from sauvegarde_cli import on_call, playbook_options

STATE = "Nothing was changed."


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = "draft the masking policy of a site from its models and a sample of their values"
    parser = commands.add_parser("policy", help=text, description=text, parents=[on_call.options()])
    playbook_options.add(parser, "policy")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the playbook and show what it shows."""
    from sauvegarde_cli.playbook_command import run_one, shown

    variables = playbook_options.variables(arguments, "policy")
    settings = on_call.Settings.of(arguments)
    return run_one("policy", settings, "playbooks/policy.yml", variables, shown, STATE)
