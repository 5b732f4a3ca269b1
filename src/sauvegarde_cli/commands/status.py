"""Define `status`: how each job does."""

import argparse

from sauvegarde_cli import on_call

PLAYBOOK = "playbooks/status.yml"
STATE = "The status only reads."


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = (
        "a line a job: last success against its schedule, size and growth, duration, the last failure;"
        " the exit code is 0 only if all is well"
    )
    parser = commands.add_parser("status", help=text, description=text, parents=[on_call.options()])
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read the states of the jobs and show them; 1 unless all is well."""
    from sauvegarde_cli import overview
    from sauvegarde_cli.playbook_command import Command

    command = Command("status", on_call.Settings.of(arguments), is_reading=True)
    outcome = command.run(PLAYBOOK, {"status_format": "none", "status_fail": False})
    jobs = overview.jobs(outcome)
    return command.end(outcome, jobs.as_dict(), jobs.lines, STATE, code=int(not jobs.is_well))
