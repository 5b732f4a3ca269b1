"""Carry out `plan` and `restore`: show the plan, have it confirmed by name, restore, and say how to go on."""

import argparse
from collections.abc import Mapping
from typing import Any

from sauvegarde_cli import confirmation, on_call, playbook_options, repository_access, restore_questions
from sauvegarde_cli.command_failed import CommandFailed
from sauvegarde_cli.on_call import Settings
from sauvegarde_cli.playbook_command import Command, own_command
from sauvegarde_cli.playbook_run import Outcome
from sauvegarde_cli.repository_access import RepositoryAccess
from sauvegarde_cli.terminal import console

PLAYBOOK = "playbooks/restore.yml"
PLAN, LOAD, SWAP = "Make the plan", "Restore into a side database, and prove it", "Put it in place"
SOURCES = restore_questions.SOURCES
POSITIONAL = ("restore_database",)
CHANGED = "This is not the plan that was confirmed"
USAGE, INTERRUPTED = 2, 130


def _require(variables: Mapping[str, Any], command: str) -> None:
    """Raise CommandFailed, a usage error, unless database, target and one source are named."""
    playbook_options.require(dict(variables), command, ["restore_database", "restore_target"], POSITIONAL)
    named = [name for name in SOURCES if variables.get(name)]
    if len(named) != 1:
        flags = ", ".join(playbook_options.flag(name) for name in SOURCES)
        raise CommandFailed(
            f"{command} needs one source." if not named else f"{command} takes one source, not {len(named)}.",
            fix=f"Name one of {flags}.",
            code=USAGE,
        )


def plan_of(outcome: Outcome) -> tuple[dict[str, Any], list[str]]:
    """Return the plans by host, and the lines that people read, without the mark."""
    plans = {host: result["plan"] for host, result in outcome.results.get(PLAN, {}).items() if "plan" in result}
    lines = [
        line
        for result in outcome.results.get(PLAN, {}).values()
        for line in result.get("lines", [])
        if not line.startswith("Mark:")
    ]
    return plans, lines


def is_blocked(plans: Mapping[str, Any]) -> bool:
    """Return whether something stops one of the plans."""
    return any(each["obstacles"] for each in plans.values())


def command_line(
    variables: Mapping[str, Any],
    settings: Settings,
    command: str = "restore",
    access: RepositoryAccess | None = None,
    **more: str,
) -> str:
    """Return the command that carries the plan out."""
    words = playbook_options.words({**variables, **more}, POSITIONAL)
    return own_command(command, *words, *(access.words if access else ()), settings=settings)


def _label(variables: Mapping[str, Any]) -> str:
    """Return DATABASE@HOST, of each target, as a confirmation names it."""
    database = str(variables.get("restore_target_database") or variables["restore_database"]).rpartition("/")[2]
    return ",".join(f"{database}@{host.strip()}" for host in str(variables["restore_target"]).split(","))


def _marked(plans: Mapping[str, Any]) -> dict[str, str]:
    """Return the variable with the plan's mark, if there is one plan."""
    marks = {each["mark"] for each in plans.values() if each.get("mark")}
    return {"restore_plan_mark": marks.pop()} if len(marks) == 1 else {}


def prepare(arguments: argparse.Namespace) -> tuple[dict[str, Any], Settings, RepositoryAccess | None]:
    """Return the variables, the settings, and the access to a repository that is named by its address.

    Where that is all there is, it is restored onto this machine. Raises CommandFailed.
    """
    variables = playbook_options.variables(arguments, "restore")
    repository = str(variables.get("restore_repository") or "")
    if not repository_access.is_address(repository):
        return variables, on_call.Settings.of(arguments), None
    access = RepositoryAccess.of(repository, arguments)
    target = variables.setdefault("restore_target", "localhost")
    if target != "localhost" or arguments.inventory:
        return variables, on_call.Settings.of(arguments), access
    return variables, on_call.Settings.of(arguments, on_call.HERE), access


def _begin(
    name: str, variables: dict[str, Any], settings: Settings, access: RepositoryAccess | None
) -> tuple[Command, dict[str, Any]]:
    """Return the command and complete variables: a person on a terminal is asked for what is missing."""
    is_complete = all(variables.get(key) for key in ("restore_database", "restore_target"))
    is_complete = is_complete and any(variables.get(key) for key in SOURCES)
    can_ask = not settings.is_json and on_call.on_terminal()
    if not (is_complete or can_ask or access):
        _require(variables, name)
    command = Command(name, settings, access.secrets if access else (), hidden=access.variables if access else None)
    if not is_complete:
        try:
            variables = restore_questions.complete(command, variables, can_ask)
        except KeyboardInterrupt:
            raise CommandFailed(
                "Stopped by the user.", "Nothing was chosen, and nothing was changed.", code=INTERRUPTED
            ) from None
    _require(variables, name)
    return command, variables


def plan(variables: dict[str, Any], settings: Settings, access: RepositoryAccess | None = None) -> int:
    """Make and show the plan; return 1 if something stops it. On a terminal, a person is asked for what is missing."""
    command, variables = _begin("plan", variables, settings, access)
    outcome = command.run(PLAYBOOK, variables, "plan")
    plans, lines = plan_of(outcome)
    following = []
    if plans and not outcome.code and not is_blocked(plans):
        following = [
            command_line(variables, settings, access=access, restore_confirm=_label(variables), **_marked(plans))
        ]
    code = command.end(outcome, {"plan": plans}, lines, "A plan changes no database.", following)
    return code or int(is_blocked(plans))


def restore(variables: dict[str, Any], settings: Settings, access: RepositoryAccess | None = None) -> int:
    """Restore: with a confirmation at once, else after the plan was shown and its target named.

    On a terminal, a person is asked for what is missing.
    """
    command, variables = _begin("restore", variables, settings, access)
    expected = _label(variables)
    words = variables.pop("restore_confirm", None)
    if variables.get("restore_mode") == "beside" or words is not None:
        confirmed = confirmation.typed(expected, words if words is not None else expected, "replace")
        return _end(
            command, command.run(PLAYBOOK, {**variables, "restore_confirm": confirmed}), variables, True, access
        )
    if settings.is_json or not on_call.on_terminal():
        raise confirmation.missing(expected, "replace")
    while True:
        planned = command.run(PLAYBOOK, variables, "plan")
        plans, lines = plan_of(planned)
        if planned.code or is_blocked(plans):
            return command.end(planned, {"plan": plans}, lines, "A plan changes no database.") or 1
        for line in lines:
            console.print(line, markup=False)
        try:
            confirmed = confirmation.typed(expected, None, "replace")
        except CommandFailed as refusal:
            again = command_line(variables, settings, access=access, restore_confirm=expected, **_marked(plans))
            raise CommandFailed(refusal.what, refusal.why, f"If that is what you mean: {again}", refusal.code) from None
        except KeyboardInterrupt:
            planned.is_interrupted = True
            return command.end(planned, {"plan": plans}, [], "Nothing was confirmed, and no database was changed.")
        chosen = {**variables, "restore_confirm": confirmed, **_marked(plans)}
        outcome = command.run(PLAYBOOK, chosen)
        if outcome.code and not outcome.is_interrupted and CHANGED in outcome.error().what:
            console.print("The plan has changed since it was shown. Here it is again.", markup=False)
            continue
        return _end(command, outcome, variables, False, access)


def _end(
    command: Command,
    outcome: Outcome,
    variables: dict[str, Any],
    with_plan: bool,
    access: RepositoryAccess | None = None,
) -> int:
    """Print how the restore ended."""
    plans, lines = plan_of(outcome)
    swaps = outcome.results.get(SWAP, {})
    result: dict[str, Any] = {"plan": plans, "restored": {}}
    shown = list(lines) if with_plan else []
    for host, swap in swaps.items():
        if swap.get("failed"):
            continue
        run = outcome.results[LOAD][host]
        result["restored"][host] = {
            "id": run.get("id"),
            "kept": swap.get("kept"),
            "proof": run.get("proof"),
            "seconds": swap.get("seconds"),
            "steps": run.get("steps"),
        }
        shown += [f"{host}: {line}" if len(swaps) > 1 else line for line in swap.get("lines", [])]
    again = {key: value for key, value in variables.items() if key in playbook_options.read("rollback")}
    following = []
    if any(each["kept"] for each in result["restored"].values()):
        following = [command_line(again, command.settings, "rollback", restore_confirm=_label(variables))]
    elif outcome.is_interrupted and SWAP not in swaps:
        following = [command_line(variables, command.settings, access=access, restore_confirm=_label(variables))]
    return command.end(outcome, result, shown, state_after_stop(outcome), following)


def state_after_stop(outcome: Outcome) -> str:
    """Return what Ctrl-C left: of the live database, and of the run on the host."""
    tasks = [step["task"] for step in outcome.steps]
    if SWAP in tasks:
        return (
            "The swap had been sent to the host. It is one transaction: it happened or it did not."
            f" {on_call.our_command()} cleanup shows whether there is a new previous database."
        )
    if LOAD in tasks and tasks[-1] != LOAD:
        return "The live database is untouched. The proven side database waits on the host for its swap."
    if LOAD in tasks and outcome.line:
        return (
            "The live database is untouched. The load goes on on the host, and ends as a proven side database,"
            " which waits there. The same command goes on with it."
        )
    if LOAD in tasks:
        return (
            "The live database is untouched. If the load had begun on the host, it goes on there and ends as a proven"
            " side database, which waits; the same command goes on with it."
        )
    return "The live database is untouched, and nothing runs on the host that changes one."
