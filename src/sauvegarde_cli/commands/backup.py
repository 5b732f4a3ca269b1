"""Define `backup`: run jobs now."""

import argparse
from typing import TYPE_CHECKING, Any

from sauvegarde_cli import on_call

if TYPE_CHECKING:
    from sauvegarde_cli.playbook_run import Outcome

TASK = "Run the job"
STATE = (
    "A job that had begun goes on on its host, and publishes its archive or nothing."
    " The list shows the archive when it has ended."
)


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = "run jobs now: all of all hosts, or those that are named"
    parser = commands.add_parser("backup", help=text, description=text, parents=[on_call.options()])
    parser.add_argument("host", nargs="?", metavar="HOST", help="only this host's jobs")
    parser.add_argument("job", nargs="*", metavar="JOB", help="only these of its jobs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the jobs."""
    from sauvegarde_cli.playbook_command import run_one

    if arguments.host:
        arguments.limit = arguments.host
    variables = {"backup_run": arguments.job} if arguments.job else {}
    return run_one("backup", on_call.Settings.of(arguments), "playbooks/backup.yml", variables, describe, STATE)


def describe(outcome: "Outcome") -> tuple[dict[str, Any], list[str]]:
    """Return each job's outcome, {host: {job: {seconds, failed}}}, and a line for each."""
    result: dict[str, Any] = {}
    lines = []
    for host, returned in sorted(outcome.results.get(TASK, {}).items()):
        for item in returned.get("results", []):
            if "item" not in item:
                continue
            failed, seconds = bool(item.get("failed")), item.get("seconds")
            result.setdefault(host, {})[item["item"]] = {"failed": failed, "seconds": seconds}
            lines.append(f"{host} {item['item']}: " + ("FAILED" if failed else f"done in {seconds:.0f} s"))
    return result, lines
