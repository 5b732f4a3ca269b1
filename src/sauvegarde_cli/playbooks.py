"""Run playbooks through ansible-runner: show their progress and return their outcome."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible_runner

from sauvegarde_cli.system import ROOT, CommandFailed, tool_environment, tools

Show = Callable[[str, str], None]


@dataclass(frozen=True)
class Played:
    """The outcome of a playbook."""

    changed: dict[str, int]  # {host: number of tasks that changed something}
    results: dict[str, dict[str, dict[str, Any]]]  # {task: {host: what its module returned}}, last run of each task
    unreachable: set[str]  # names of hosts

    def result(self, task: str, host: str | None = None) -> dict[str, Any]:
        """Return what a task's module returned on a host (the only one without a name). Raises KeyError."""
        by_host = self.results[task]
        return by_host[host] if host else next(iter(by_host.values()))


class _Listener:
    """Collect ansible-runner's events; `show` gets (kind, text): kind is "task", "line" or "warning"."""

    def __init__(self, show: Show) -> None:
        self.show = show
        self.results: dict[str, dict[str, dict[str, Any]]] = {}
        self.failures: list[tuple[str, str, str]] = []
        self.items: dict[tuple[str, str], list[str]] = {}  # {(task's UUID, host): errors of the items of its loop}
        self.unreachable: set[str] = set()
        self.changed: dict[str, int] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        kind, data = event["event"], event.get("event_data", {})
        if kind == "playbook_on_task_start":
            self.show("task", data["name"])
        elif kind == "verbose" and event["stdout"].strip():
            # What an action plugin prints on the way; the rest of a playbook's output has events of its own.
            self.show("line", event["stdout"].strip())
        elif kind in ("warning", "deprecated"):
            self.show("warning", event["stdout"].strip())
        elif kind == "runner_on_ok":
            self.results.setdefault(data["task"], {})[data["host"]] = data["res"]
        elif kind == "runner_item_on_failed":
            self.items.setdefault((data["task_uuid"], data["host"]), []).append(_message(data["res"]))
        elif kind == "runner_on_failed" and not data.get("ignore_errors"):
            messages = self.items.get((data["task_uuid"], data["host"])) or [_message(data["res"])]
            self.failures.append((data["host"], data["task"], "\n".join(dict.fromkeys(filter(None, messages)))))
        elif kind == "runner_on_unreachable":
            self.unreachable.add(data["host"])
            self.failures.append((data["host"], data["task"], _message(data["res"])))
        elif kind == "playbook_on_stats":
            hosts = set(data["processed"])
            self.changed = {host: data["changed"].get(host, 0) for host in sorted(hosts)}


def _message(result: dict[str, Any]) -> str:
    """Return the error of a module that failed."""
    return str(result.get("msg") or result.get("stderr") or "")


def play(
    playbook: str | Path,
    inventory: str | Path,
    show: Show,
    variables: dict[str, Any] | None = None,
    limit: str | None = None,
    tags: str | None = None,
) -> Played:
    """Run a playbook of this checkout and return its outcome. Raises CommandFailed with the failing task's message.

    playbook and inventory: paths, from the checkout's root. show: see _Listener. limit, tags: as Ansible has them.
    """
    listener = _Listener(show)
    # Variables can be secret and so can what modules return: neither outlives the run.
    with tempfile.TemporaryDirectory(prefix="sauvegarde-run-") as private:
        run = ansible_runner.run(
            private_data_dir=private,
            project_dir=str(ROOT),
            playbook=str(ROOT / playbook),
            inventory=str(ROOT / inventory),
            extravars=variables or {},
            limit=limit,
            tags=tags,
            envvars=tool_environment(tools()),
            quiet=True,
            event_handler=listener,
        )
        words = Path(private, "artifacts", run.config.ident, "stdout")
        output = words.read_text(errors="replace") if words.is_file() else ""
    if run.rc:
        why = "\n".join(f"{host}, {task}: {message}" for host, task, message in listener.failures)
        raise CommandFailed(
            f"{playbook} ended with {run.rc}.",
            why or output.strip()[-2000:],
            "Correct what it names, then run it again: a playbook continues where it stopped.",
        )
    return Played(listener.changed, listener.results, listener.unreachable)
