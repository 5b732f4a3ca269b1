# GNU General Public License v3.0+ (see LICENSE)
"""The base of the action plugins that wait: run a module that may take long, and print a line every few seconds until
it answers. A dead link and a large archive look alike to whoever waits in silence.

It has no module of its own. The others find it by Ansible's loader of plugins, as Ansible finds them: what lies beside
playbooks, and in no collection, can be imported in no other way.
"""

import contextvars
import functools
import time
from concurrent.futures import ThreadPoolExecutor, wait

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()


class ActionModule(ActionBase):
    SAY = 5  # seconds after which a line is printed even if nothing has changed: less than any timeout of a terminal
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self._host = task_vars["inventory_hostname"]
        self._started = self._said = time.monotonic()
        return dict(result, **self._work(task_vars))

    def _work(self, task_vars):
        return self._patiently(self._execute_module, task_vars=task_vars)

    def _patiently(self, function, *arguments, **named):
        """What the function returns."""
        with ThreadPoolExecutor(1) as pool:
            # The pool's thread knows nothing of this task.
            call = functools.partial(function, *arguments, **named)
            answer = pool.submit(contextvars.copy_context().run, call)
            while not wait([answer], max(0, self._said + self.SAY - time.monotonic())).done:
                self._say(f"{self._task.name}, {self._so_far()}")
        return answer.result()

    def _say(self, line):
        self._said = time.monotonic()
        display.display(f"    {self._host}: {line}")

    def _so_far(self):
        return f"{time.monotonic() - self._started:.0f} s"
