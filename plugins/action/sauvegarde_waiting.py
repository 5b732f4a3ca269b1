# GNU General Public License v3.0+ (see LICENSE)
"""Run a module that may take long, and print a line every few seconds until it answers: the base of other plugins.

Without output a dead link and a large archive look alike. This plugin has no module of its own. The others find it with
Ansible's plugin loader: plugins that lie beside playbooks, outside a collection, cannot be imported in another way.
"""

from __future__ import annotations

import contextvars
import functools
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()


class ActionModule(ActionBase):
    """Run a module and print that it still works."""

    SAY = 5  # seconds after which a line is printed even if nothing has changed: less than any timeout of a terminal
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module and return its result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        self._host = task_vars["inventory_hostname"]
        self._started = self._last_line = time.monotonic()
        return dict(result, **self._work(task_vars))

    def _work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Do the work of the plugin: here, run the module."""
        result: dict[str, Any] = self._patiently(self._execute_module, task_vars=task_vars)
        return result

    def _patiently(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Return what the function returns; print a line every few seconds until then."""
        with ThreadPoolExecutor(1) as pool:
            # The pool's thread knows nothing of this task.
            call = functools.partial(function, *arguments, **named)
            answer = pool.submit(contextvars.copy_context().run, call)
            while not wait([answer], max(0, self._last_line + self.SAY - time.monotonic())).done:
                self._say(f"{self._task.name}, {self._so_far()}")
        return answer.result()

    def _shell(self, command: str, data: bytes | None = None) -> dict[str, Any]:
        """Run a shell command on the host; returns {rc, stdout, stderr}, where stdout is the command's output alone.

        What is printed before and after it is left out: under a terminal sudo answers a password with an empty line,
        and a login's files may print anything. A terminal's line ends become newlines. Of a command that fails
        everything is returned: under a terminal its complaints are in its output.
        """
        marker = f"sauvegarde-{secrets.token_hex(8)}"
        # In two words: a shell that repeats its command does not print the marker.
        first, second = marker[:12], marker[12:]
        mark_line = f"printf '%s%s\\n' {first} {second}"
        line = f"{mark_line}; ( {command}\n); code=$?; {mark_line}; exit $code"
        answer = self._low_level_execute_command(line, in_data=data)
        return dict(answer, stdout=self._between(marker, answer))

    @staticmethod
    def _between(marker: str, answer: dict[str, Any]) -> str:
        """Return the output between two markers. Raises where they are missing though the command succeeded."""
        if answer["rc"]:
            return str(answer["stdout"]).replace(marker, "")
        parts: list[str] = answer["stdout"].split(marker)
        if len(parts) != 3:
            raise AnsibleConnectionFailure("The host's answer is not whole.")
        output = parts[1]
        if output.startswith("\r\n"):
            output = output.replace("\r\n", "\n")
        return output[1:]

    def _say(self, line: str) -> None:
        """Print a line about the host."""
        self._last_line = time.monotonic()
        display.display(f"    {self._host}: {line}")

    def _so_far(self) -> str:
        """Return how far the work is."""
        return f"{time.monotonic() - self._started:.0f} s"
