"""Define `doctor`: look for what would stop the next backup or the next restore."""

import argparse
from typing import TYPE_CHECKING, Any

from sauvegarde_cli import on_call

if TYPE_CHECKING:
    from sauvegarde_cli.playbook_run import Outcome

PLAYBOOK = "playbooks/doctor.yml"
FACTS, DESCRIBED = "Read what the host has", "Read what the inventory says"
STATE = "Nothing was changed; at most a canary of a few bytes stays in an append-only repository."
PROGRAMS = {"ssh": "openssh-client", "ssh-keygen": "openssh-client"}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = (
        "look for what would stop the next backup or restore: controller, inventory, hosts, versions, space, clocks,"
        " schedules, secrets, repositories; each finding with a code and the command that mends it"
    )
    parser = commands.add_parser("doctor", help=text, description=text, parents=[on_call.options()])
    parser.add_argument(
        "--no-canary",
        action="store_true",
        help="do not try to remove a snapshot from repositories that should be append-only",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look, and show the findings; 1 if there is an error among them."""
    from sauvegarde_cli.playbook_command import Command
    from sauvegarde_cli.playbook_text import doctor_text

    command = Command("doctor", on_call.Settings.of(arguments), is_reading=True)
    variables = {"doctor_format": "none", "doctor_fail": False, "doctor_canary": not arguments.no_canary}
    outcome = command.run(PLAYBOOK, variables)
    found = [*of_controller(), *of_hosts(outcome)]
    result = {"findings": found, "is_well": not any(each["is_error"] for each in found)}
    shown = [] if outcome.is_interrupted else doctor_text.lines(found)
    if not outcome.is_interrupted:
        outcome.code = 0  # whatever failed is a finding
    return command.end(outcome, result, shown, STATE, code=int(not result["is_well"]))


def of_controller() -> list[dict[str, Any]]:
    """Return the findings about the controller."""
    import shutil

    from sauvegarde_cli import environment, run_record
    from sauvegarde_cli.playbook_text import doctor_text

    found = [
        doctor_text.finding("controller-program", "localhost", f"{program} is not installed.", package)
        for program, package in PROGRAMS.items()
        if not shutil.which(program)
    ]
    note = environment.support_note()
    if note:
        found.append(doctor_text.finding("controller-old", "localhost", " ".join(note.split())))
    folder = run_record.folder()
    if folder.is_dir() and folder.stat().st_mode & 0o077:
        found.append(doctor_text.finding("runs-open", "localhost", f"{folder} is not private."))
    return found


def of_hosts(outcome: "Outcome") -> list[dict[str, Any]]:
    """Return the findings about the hosts; of a playbook that did not start, why."""
    from sauvegarde_cli.playbook_text import doctor_text, hosts_of, variables_of

    if outcome.code and not outcome.errors and not outcome.is_interrupted:
        error = outcome.error()
        return [doctor_text.finding("inventory", "localhost", " ".join(f"{error.why} {error.fix}".split()))]
    variables = variables_of(outcome, {FACTS: "doctor_facts", DESCRIBED: "doctor_described"})
    for host, reason in outcome.reasons.items():
        variables[host].setdefault("doctor_facts", {"msg": reason})
    for values in variables.values():
        described = (values.get("doctor_described") or {}).get("ansible_facts", {})
        values["doctor_described"] = described.get("doctor_described", {})
    return doctor_text.findings(variables, hosts_of(outcome))
