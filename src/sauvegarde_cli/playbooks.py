"""Playbooks, run through ansible-runner: what they do is said while they do it, and what came of it is returned."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import ansible_runner

from sauvegarde_cli.system import ROOT, CommandFailed, tool_environment, tools


class Played(NamedTuple):
    """What came of a playbook.

    changed: {host: how many tasks changed something}. results: {task's name: {host: what its module returned}}, of the
    last run of each task. unreachable: names of hosts.
    """

    changed: dict
    results: dict
    unreachable: set

    def result(self, task, host=None):
        """What a task's module returned on a host (the only one without it). Raises KeyError."""
        found = self.results[task]
        return found[host] if host else next(iter(found.values()))


class _Listener:
    """Takes ansible-runner's events; `tell` gets (kind, text): kind is "task", "line" or "warning"."""

    def __init__(self, tell):
        self.tell, self.results, self.failures, self.unreachable, self.changed = tell, {}, [], set(), {}

    def __call__(self, event):
        kind, data = event["event"], event.get("event_data", {})
        if kind == "playbook_on_task_start":
            self.tell("task", data["name"])
        elif kind == "verbose" and event["stdout"].strip():
            # What an action plugin prints on the way; the rest of a playbook's output has events of its own.
            self.tell("line", event["stdout"].strip())
        elif kind in ("warning", "deprecated"):
            self.tell("warning", event["stdout"].strip())
        elif kind == "runner_on_ok":
            self.results.setdefault(data["task"], {})[data["host"]] = data["res"]
        elif kind == "runner_on_failed" and not data.get("ignore_errors"):
            self.failures.append((data["host"], data["task"], _message(data["res"])))
        elif kind == "runner_on_unreachable":
            self.unreachable.add(data["host"])
            self.failures.append((data["host"], data["task"], _message(data["res"])))
        elif kind == "playbook_on_stats":
            hosts = set(data["processed"])
            self.changed = {host: data["changed"].get(host, 0) for host in sorted(hosts)}


def _message(result):
    """The words of a module that failed: its own, or those of the items of its loop."""
    items = [item for item in result.get("results", []) if item.get("failed")]
    texts = [str(each.get("msg") or each.get("stderr") or "") for each in items or [result]]
    return "\n".join(dict.fromkeys(filter(None, texts)))


def play(playbook, inventory, tell, variables=None, limit=None, tags=None):
    """Run a playbook of this checkout. Returns what came of it (Played); raises CommandFailed with the task's words.

    playbook and inventory: paths, from the checkout's root. tell: see _Listener. limit, tags: as Ansible has them.
    """
    listener = _Listener(tell)
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
            "Mend what it says, and run it again: a playbook goes on where it stopped.",
        )
    return Played(listener.changed, listener.results, listener.unreachable)
