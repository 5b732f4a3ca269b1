"""Carry out a command that is one run of a playbook: show, record and report it, and say how to go on after Ctrl-C."""

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sauvegarde_cli import playbook_run, run_record
from sauvegarde_cli.command_failed import ROOT
from sauvegarde_cli.on_call import BECOME_PROMPT, VAULT_PROMPT, Settings, our_command
from sauvegarde_cli.playbook_run import Outcome
from sauvegarde_cli.progress import Progress
from sauvegarde_cli.run_record import RunRecord
from sauvegarde_cli.terminal import complain, console

INTERRUPTED = 130


class Command:
    """One command: it runs playbooks, then prints and records one result."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        secrets: Iterable[str] = (),
        is_reading: bool = False,
        hidden: dict[str, Any] | None = None,
    ) -> None:
        """is_reading: what it prints is a document, to be filtered: progress goes to stderr.

        hidden: variables of every playbook that no command line and no report shows.
        """
        self.settings, self.is_reading = settings, is_reading
        self.hidden = hidden or {}
        self.record = RunRecord(name, [*settings.secrets, *secrets])
        self.outcomes: list[Outcome] = []

    def run(self, playbook: str, variables: dict[str, Any] | None = None, tags: str = "") -> Outcome:
        """Run a playbook, show its progress, and return its outcome, whether it succeeded or not."""
        values = {**(variables or {}), **self.hidden}
        with Progress(self.settings.is_json or self.is_reading) as progress:
            outcome = playbook_run.run(playbook, self.settings, values, tags, progress, self.record)
        self.outcomes.append(outcome)
        return outcome

    def end(
        self,
        outcome: Outcome,
        result: dict[str, Any],
        lines: Sequence[str],
        state: str = "",
        following: Sequence[str] = (),
        code: int = 0,
    ) -> int:
        """Print and record how it ended; return the exit code.

        result: for `--json`. lines: what people read of it. state: what Ctrl-C, or a failure, left. following: the
        commands to type next. code: the exit code of a run that did not fail, where what it read is not well.
        """
        error: dict[str, Any] | None = None
        if outcome.is_interrupted:
            code = INTERRUPTED
            error = {"what": "Stopped by the user.", "why": state, "fix": ""}
        elif outcome.code:
            failure = outcome.error()
            code = failure.code
            error = {"what": failure.what, "why": failure.why, "fix": failure.fix}
        again = ""
        if error and not following and not outcome.is_interrupted:
            again = f"{our_command()} {shlex.join(run_record.typed())}"
            following = [again]
        text = list(lines)
        if error:
            text += [error["what"], *filter(None, [error["why"], error["fix"] and f"Fix: {error['fix']}"])]
        text += [f"Next: {command}" for command in following]
        steps = [dict(step, playbook=each.playbook) for each in self.outcomes for step in each.steps]
        report = self.record.finish(
            {
                "typed": run_record.typed(),
                "inventories": list(self.settings.inventories),
                "exit_code": code,
                "error": error,
                "result": result,
                "next": list(following),
                "steps": steps,
            },
            [*text, "", *(f"{step['seconds']:8.1f} s  {step['task']}" for step in steps)],
        )
        if self.settings.is_json:
            print(json.dumps(report, indent=2))
            return code
        for line in lines:
            console.print(self.record.clean(line), markup=False)
        if error:
            complain(*(self.record.clean(error[key]) for key in ("what", "why", "fix")))
        for command in following:
            if command == again:  # as it was typed: on the screen, the user's own words are no secret
                typed = shlex.join([our_command(), *sys.argv[1:]])
                command = f"when that is put right: {typed}"
            console.print(f"Next:   {command}", markup=False)
        console.print(f"Log:    {report['log']}", markup=False, style="dim")
        return code


def own_command(command: str, *words: str, settings: Settings) -> str:
    """Return a command line of ours as it is typed, with its inventory."""
    here = f"{ROOT}/"
    named = [part for path in settings.inventories for part in ("-i", path.removeprefix(here))]
    named += [part for path in settings.variable_files for part in ("-e", f"@{path}")]
    named += [part for path in settings.vault_password_files for part in ("--vault-password-file", path)]
    for pattern, option in ((VAULT_PROMPT, "-J"), (BECOME_PROMPT, "-K")):
        named += [option] if pattern in settings.passwords else []
    return shlex.join([our_command(), command, *words, *named])


def run_one(
    name: str,
    settings: Settings,
    playbook: str,
    variables: dict[str, Any],
    describe: Callable[[Outcome], tuple[dict[str, Any], list[str]]],
    state: str,
    following: Callable[[Outcome], Sequence[str]] = lambda _: (),
) -> int:
    """Carry out a command that is one playbook. describe: returns the result and its lines. state: after Ctrl-C."""
    command = Command(name, settings)
    outcome = command.run(playbook, variables)
    result, lines = describe(outcome)
    return command.end(outcome, result, lines, state, following(outcome))


def shown(outcome: Outcome) -> tuple[dict[str, Any], list[str]]:
    """Return what the playbook's own `Show …` tasks print, {task: {host: value}}, and the same as lines."""
    result: dict[str, Any] = {}
    lines: list[str] = []
    for task, hosts in outcome.results.items():
        if not task.startswith("Show "):
            continue
        for host, values in hosts.items():
            texts = [value for key, value in values.items() if not key.startswith("_") and key not in _OF_ANSIBLE]
            for value in texts:
                result.setdefault(task, {})[host] = value
                lines += [str(line) for line in value] if isinstance(value, list) else str(value).splitlines()
    return result, lines


_OF_ANSIBLE = ("changed", "failed")
