# GNU General Public License v3.0+ (see LICENSE)
"""Wait for a restore that goes on by itself, and show how far it is.

The connection may break meanwhile: the restore does not notice, and asking goes on once the host answers again.
"""

import json
import shlex
import time

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

PAUSE = 2  # seconds between two looks
SAY = 5  # seconds after which a line is printed even if nothing has changed: less than any timeout of a terminal
STALE = 20  # seconds without a heartbeat until the host is asked whether the run lives
LOST = 120  # seconds without an answer until the host is given up


class ActionModule(ActionBase):
    MODULE = "sauvegarde_restore"
    DIRECTORY = "/var/lib/postgresql/sauvegarde"  # the module's own default
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
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
        display.display(f"    {state['line']}")
        return dict(state, changed=changed)

    def _module(self, arguments, task_vars):
        return self._execute_module(
            module_name=self.MODULE, module_args=arguments, task_vars=task_vars, wrap_async=False
        )

    def _wait(self, arguments, state, task_vars):
        """The final state of the run."""
        directory = arguments.get("directory", self.DIRECTORY)
        path = "{}/{}/state.json".format(directory, state["id"])
        said, step, heard, beat = 0, "", time.monotonic(), (0, time.monotonic())
        while state["status"] == "running":
            if state["step"] != step or time.monotonic() - said >= SAY:
                said, step = time.monotonic(), state["step"]
                display.display(f"    {state['line']}")
            time.sleep(PAUSE)
            try:
                answer = self._low_level_execute_command("cat -- " + shlex.quote(path))
                state = json.loads(answer["stdout"])
                heard = time.monotonic()
            except (AnsibleConnectionFailure, ValueError):
                if time.monotonic() - heard > LOST:
                    raise
                display.display("    no answer from the host; the restore goes on there")
                self._connection.reset()
                continue
            if state["heartbeat"] != beat[0]:
                beat = (state["heartbeat"], time.monotonic())
            elif time.monotonic() - beat[1] > STALE:
                state = self._module(dict(arguments, run=state["id"]), task_vars)
                beat = (0, time.monotonic())
        return state
