# GNU General Public License v3.0+ (see LICENSE)
"""Wait for a detached restore, and print its progress.

The connection may break meanwhile: the restore goes on, and its state is read again once the host answers. A thread of
its own reads it, so that a line is printed in time even while a dead link blocks that thread.
"""

from __future__ import annotations

import contextvars
import json
import shlex
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.loader import action_loader

PAUSE = 2  # seconds between two looks; the first are sooner
STALE = 10  # seconds without a heartbeat until the host is asked whether the run lives
LOST = 300  # seconds without an answer until the host is given up; the restore goes on there


if TYPE_CHECKING:
    from ansible.plugins.action import ActionBase as Waiting

else:
    Waiting = action_loader.get("sauvegarde_waiting", class_only=True)


class ActionModule(Waiting):
    MODULE = "sauvegarde_restore"
    DIRECTORY = "/var/lib/postgresql/sauvegarde"  # the module's own default

    def _work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Start the restore, and wait for its end."""
        arguments = dict(self._task.args)
        result = self._module(arguments, task_vars)
        if result.get("failed") or self._task.check_mode or "id" not in result:
            return result
        changed = result["changed"]
        state = self._wait(arguments, result, task_vars)
        if state["status"] not in ("ready", "swapped"):
            error = state.get("error") or {"what": "The run was killed.", "why": "", "fix": "Run it again."}
            lines = [error["what"], error.get("why", ""), error.get("fix") and "Fix: " + error["fix"]]
            return dict(state, failed=True, changed=changed, msg="\n".join(filter(None, lines)))
        self._say(state["line"])
        return dict(state, changed=changed)

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the module once."""
        result: dict[str, Any] = self._patiently(
            self._execute_module,
            module_name=self.MODULE,
            module_args=arguments,
            task_vars=task_vars,
            wrap_async=False,
        )
        return result

    def _wait(self, arguments: dict[str, Any], state: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the final state of the run."""
        directory = arguments.get("directory", self.DIRECTORY)
        path = "{}/{}/state.json".format(directory, state["id"])
        step, pause = "", 0.5
        beat: tuple[float, float] = (0, time.monotonic())
        with ThreadPoolExecutor(1) as asking:
            while state["status"] == "running":
                if state["step"] != step or time.monotonic() - self._last_line >= self.SAY:
                    step = state["step"]
                    self._say(state["line"])
                time.sleep(pause)
                pause = min(pause * 1.5, PAUSE)
                state = self._answer(asking, path)
                if state["heartbeat"] != beat[0]:
                    beat = (state["heartbeat"], time.monotonic())
                elif time.monotonic() - beat[1] > STALE:
                    state = self._module(dict(arguments, run=state["id"]), task_vars)
                    beat = (0, time.monotonic())
        return state

    def _answer(self, asking: ThreadPoolExecutor, path: str) -> dict[str, Any]:
        """Return the run's state as soon as the host answers; print a line every few seconds until then."""
        started = time.monotonic()
        answer: Future[dict[str, Any]] | None = None
        while True:
            if answer is None:
                # The pool's thread knows nothing of this task.
                answer = asking.submit(contextvars.copy_context().run, self._ask, path)
            if wait([answer], max(PAUSE, self._last_line + self.SAY - time.monotonic())).done:
                try:
                    return answer.result()
                except (AnsibleConnectionFailure, ValueError):
                    if time.monotonic() - started > LOST:
                        raise
                    answer = None
                    time.sleep(PAUSE)
            silent = time.monotonic() - started
            self._say(f"no answer from the host for {silent:.0f} s; the restore goes on there")

    def _ask(self, path: str) -> dict[str, Any]:
        """Read the state file on the host."""
        try:
            answer = self._shell("cat -- " + shlex.quote(path))
            state: dict[str, Any] = json.loads(answer["stdout"])
            return state
        except AnsibleConnectionFailure:
            self._connection.reset()
            raise
