"""Run a playbook through ansible-runner: pass its events on, keep its log, return its outcome.

The playbook runs in a thread, so that Ctrl-C ends it at once. Variables travel in private files that end with the
run, and what modules return is not written down at all.
"""

import contextlib
import os
import queue
import re
import shlex
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sauvegarde_cli.command_failed import ROOT, CommandFailed
from sauvegarde_cli.on_call import Settings
from sauvegarde_cli.run_record import RunRecord
from sauvegarde_cli.system import tool_environment, tools

FAILED, UNREACHABLE, INTERRUPTED = 1, 4, 130
MOMENT = 0.2  # seconds between two looks at what the playbook does
TAIL = 2000  # characters of Ansible's output that explain a run that did not start
_NO_GROUP = "Could not match supplied host pattern"  # an inventory need not have all groups that a playbook names
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"^\s*(?:ERROR!|\[ERROR\]:)\s*", re.MULTILINE)


class Watcher(Protocol):
    """Is shown what a run does; progress.Progress is one."""

    def show(self, kind: str, text: str) -> None:
        """Show an event of a kind: "task", "line" (of an action plugin) or "warning"."""

    def tick(self) -> None:
        """Show that time passes."""


class Unwatched:
    """A Watcher that shows nothing."""

    def show(self, kind: str, text: str) -> None:
        """Ignore the event."""

    def tick(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Failure:
    """Why a host failed: what, why and fix are the failing module's own sentences."""

    host: str
    task: str
    what: str
    why: str = ""
    fix: str = ""
    exit_code: int = FAILED
    is_unreachable: bool = False

    @classmethod
    def of(cls, host: str, task: str, result: dict[str, Any], is_unreachable: bool = False) -> "Failure":
        """Return the failure that a task's result describes; of a loop, its first failed item's."""
        items = [item for item in result.get("results", []) if isinstance(item, dict) and item.get("failed")]
        first = items[0] if items else result
        error = first.get("error")
        values = error if isinstance(error, dict) and error.get("what") else first
        if values.get("what"):
            code = values.get("exit_code") or FAILED
            return cls(
                host, task, str(values["what"]), str(values.get("why") or ""), str(values.get("fix") or ""), code
            )
        text = str(first.get("msg") or first.get("stderr") or first.get("censored") or "It failed without a message.")
        if is_unreachable:
            fix = "Check that the host is up, and its address and login in the inventory."
            return cls(host, task, f"{host} does not answer.", text, fix, FAILED, True)
        what, fix = split_fix(text)
        more = "\n".join(dict.fromkeys(str(item.get("msg") or "") for item in items[1:]))
        return cls(host, task, what, more, fix)


def split_fix(text: str) -> tuple[str, str]:
    """Return a message without its `Fix:`, and the fix."""
    what, _, fix = text.strip().partition("Fix: ")
    return what.strip(), fix.strip()


@dataclass
class Outcome:
    """What a playbook did.

    results: {task: {host: what its module returned}}, the last run of each task. steps: each task and its seconds.
    reasons: why hosts are unreachable, by their names.
    line: the last line that the current task's action plugin printed.
    """

    playbook: str
    code: int = 0
    is_interrupted: bool = False
    task: str = ""
    results: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    output: str = ""
    line: str = ""

    def result(self, task: str, host: str | None = None) -> dict[str, Any]:
        """Return what a task's module returned on a host (the only one without a name). Raises KeyError."""
        by_host = self.results[task]
        return by_host[host] if host else next(iter(by_host.values()))

    def get(self, task: str) -> dict[str, Any]:
        """Return what a task's module returned on the first host; {} if it did not run."""
        return next(iter(self.results.get(task, {}).values()), {})

    @property
    def succeeded(self) -> set[str]:
        """The hosts that did all of it."""
        return set(self.changed) - set(self.failures) - {"localhost"}

    @property
    def errors(self) -> list[Failure]:
        """The failures, each message once."""
        distinct: dict[tuple[str, str], Failure] = {}
        for failure in self.failures.values():
            distinct.setdefault((failure.what, failure.why), failure)
        return list(distinct.values())

    def error(self) -> CommandFailed:
        """Return the error of a playbook that failed."""
        if not self.errors:
            return _not_started(self)
        first, *others = self.errors
        where = f" ({first.host})" if first.host != "localhost" and first.host not in first.what else ""
        why = [first.why, *(f"{other.host}: {other.what}" for other in others)]
        code = 3 if self.succeeded else first.exit_code
        return CommandFailed(first.what + where, "\n".join(filter(None, why)), first.fix, code)


def _not_started(outcome: Outcome) -> CommandFailed:
    """Return the error of a playbook that ended before any task failed: its inventory or vault cannot be read."""
    text = outcome.output.strip()
    start = _ERROR.search(text)
    why = text[start.start() :][:TAIL] if start else text[-TAIL:]
    fix = "Correct what it names, then run it again."
    lowered = why.lower()
    if "vault" in lowered and ("no vault secrets" in lowered or "decryption failed" in lowered):
        fix = "Give its password: --vault-password-file FILE, -J to type it, or vault_password_file in ansible.cfg."
    elif "no hosts matched" in text.lower() or "hosts matched" in lowered:
        fix = "See which hosts the inventory has: ansible-inventory --graph."
    return CommandFailed(f"{outcome.playbook} did not run.", _ERROR.sub("", why), fix, FAILED)


class _Listener:
    """Turns ansible-runner's events into an Outcome."""

    def __init__(self, outcome: Outcome, watcher: Watcher, record: RunRecord | None) -> None:
        self.outcome, self.watcher, self.record = outcome, watcher, record
        self._step_began = time.monotonic()
        self._tail: list[str] = []

    def handle(self, event: dict[str, Any]) -> None:
        """Take in one event."""
        kind, data, outcome = event["event"], event.get("event_data", {}), self.outcome
        text = _COLOUR.sub("", event.get("stdout") or "").replace("\r", "")
        if text.strip():
            self._tail = [*self._tail[-200:], text]
            outcome.output = "\n".join(self._tail)
            if self.record:
                self.record.log(text)
        if kind in ("playbook_on_task_start", "playbook_on_handler_task_start"):
            self._end_step()
            outcome.task, outcome.line = data["name"], ""
            outcome.steps.append({"task": data["name"], "seconds": 0.0})
            self.watcher.show("task", data["name"])
        elif kind == "verbose" and text.strip():
            # What an action plugin prints on the way; the rest of a playbook's output has events of its own.
            outcome.line = text.strip()
            self.watcher.show("line", text.strip())
        elif kind in ("warning", "deprecated") and _NO_GROUP not in text:
            self.watcher.show("warning", text.strip())
        elif kind == "runner_on_ok":
            outcome.results.setdefault(data["task"], {})[data["host"]] = data["res"]
        elif kind == "runner_on_failed" and not data.get("ignore_errors"):
            outcome.results.setdefault(data["task"], {})[data["host"]] = data["res"]
            outcome.failures[data["host"]] = Failure.of(data["host"], data["task"], data["res"])
        elif kind == "runner_on_unreachable":
            outcome.unreachable.add(data["host"])
            outcome.reasons[data["host"]] = str(data["res"].get("msg") or "")
            outcome.failures[data["host"]] = Failure.of(data["host"], data["task"], data["res"], True)
        elif kind == "playbook_on_stats":
            self._end_step()
            outcome.changed = {host: data["changed"].get(host, 0) for host in sorted(data["processed"])}
            ended_well = set(data["processed"]) - set(data["failures"]) - set(data["dark"])
            outcome.failures = {host: each for host, each in outcome.failures.items() if host not in ended_well}

    def _end_step(self) -> None:
        if self.outcome.steps:
            self.outcome.steps[-1]["seconds"] = round(time.monotonic() - self._step_began, 1)
        self._step_began = time.monotonic()


def run(
    playbook: str | Path,
    settings: Settings,
    variables: dict[str, Any] | None = None,
    tags: str = "",
    watcher: Watcher | None = None,
    record: RunRecord | None = None,
) -> Outcome:
    """Run a playbook of this checkout and return its outcome, whether it succeeded or not; Ctrl-C ends it.

    playbook: a path, from the checkout's root. variables: they override the settings'. record: gets Ansible's output.
    """
    outcome = Outcome(str(playbook))
    listener = _Listener(outcome, watcher or Unwatched(), record)
    events: queue.Queue[dict[str, Any]] = queue.Queue()
    cancelled = threading.Event()
    with _private_folder() as private, _umask(0o077):
        ended: list[int | BaseException] = []
        arguments = _runner_arguments(playbook, settings, variables or {}, tags, private)
        thread = threading.Thread(target=_drive, args=(arguments, events, cancelled, ended), daemon=True)
        thread.start()
        while thread.is_alive() or not events.empty():
            try:
                with contextlib.suppress(queue.Empty):
                    listener.handle(events.get(timeout=MOMENT))
                listener.watcher.tick()
            except KeyboardInterrupt:
                outcome.is_interrupted = True
                cancelled.set()
        thread.join()
    if isinstance(ended[0], BaseException):
        raise ended[0]
    outcome.code = INTERRUPTED if outcome.is_interrupted else ended[0]
    return outcome


def succeed(outcome: Outcome) -> Outcome:
    """Return the outcome of a playbook that succeeded. Raises CommandFailed, and KeyboardInterrupt after Ctrl-C."""
    if outcome.is_interrupted:
        raise KeyboardInterrupt
    if outcome.code:
        raise outcome.error()
    return outcome


def _drive(
    arguments: dict[str, Any],
    events: "queue.Queue[dict[str, Any]]",
    cancelled: threading.Event,
    ended: list[int | BaseException],
) -> None:
    """Run ansible-runner; append its exit code, or what it raised, to `ended`."""
    import ansible_runner

    def pass_on(event: dict[str, Any]) -> bool:
        events.put(event)
        return False  # do not write it down: results can be secret

    try:
        result = ansible_runner.run(event_handler=pass_on, cancel_callback=cancelled.is_set, **arguments)
        ended.append(int(result.rc))
    except BaseException as error:  # noqa: BLE001 - the main thread raises it
        ended.append(error)


def _runner_arguments(
    playbook: str | Path, settings: Settings, variables: dict[str, Any], tags: str, private: str
) -> dict[str, Any]:
    words = [part for path in settings.inventories for part in ("-i", path)]
    words += [part for path in settings.vault_password_files for part in ("--vault-password-file", path)]
    words += [part for path in settings.variable_files for part in ("-e", f"@{path}")]
    words += ["--check"] if settings.check else []
    for pattern, option in (("Vault", "--ask-vault-pass"), ("BECOME", "--ask-become-pass")):
        words += [option] if any(prompt.startswith(pattern) for prompt in settings.passwords) else []
    here = tool_environment(tools())
    own = {name: value for name, value in here.items() if os.environ.get(name) != value}
    return {
        "private_data_dir": private,
        "project_dir": str(ROOT),
        "playbook": str(ROOT / playbook),
        "cmdline": shlex.join(words),
        "extravars": {**settings.variables, **variables},
        "limit": settings.limit or None,
        "tags": tags or None,
        "verbosity": settings.verbosity or None,
        "envvars": {**own, "ANSIBLE_NOCOLOR": "1"},
        "passwords": settings.passwords or None,
        "settings": {"pexpect_timeout": 0.5, "suppress_output_file": True},
        "quiet": True,
    }


@contextlib.contextmanager
def _private_folder() -> Iterator[str]:
    """Yield a folder for the variables of a run, in memory where that is possible."""
    place = next(
        (each for each in (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm") if each and os.access(each, os.W_OK)), None
    )
    with tempfile.TemporaryDirectory(prefix="sauvegarde-run-", dir=place, ignore_cleanup_errors=True) as private:
        yield private


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
