"""Start a job on its host, wait for its end, and print what it is at while it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader
from ansible.utils.display import Display

display = Display()


def amount(number: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")


if TYPE_CHECKING:
    from ansible.plugins.action import ActionBase as WithEngine

    class Waiting(WithEngine): ...

else:
    WithEngine = action_loader.get("sauvegarde_with_engine", class_only=True)
    Waiting = action_loader.get("sauvegarde_waiting", class_only=True)


class ActionModule(WithEngine, Waiting):
    TRANSFERS_FILES = False

    def _work(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Start the job, and ask for its state until it has ended."""
        arguments = dict(self._task.args)
        result = self._ask(arguments, task_vars)
        if result.get("failed") or not result.get("running"):
            return result
        token = result["token"]
        last_line: tuple[Any, Any] | None = None
        pause = 0.5
        while result.get("running"):
            time.sleep(pause)
            pause = min(pause * 1.5, 3)
            asked = self._ask(dict(arguments, state="asked", token=token), task_vars)
            asked.pop("changed", None)
            result.update(asked)
            if asked.get("failed"):
                return result
            values = asked.get("values") or {}
            line = (asked.get("step"), values.get("bytes"))
            if asked["running"] and (line != last_line or time.monotonic() - self._last_line >= self.SAY):
                last_line = line
                done = f", {amount(values['bytes'])}" if "bytes" in values else ""
                self._say(f"{arguments['name']}: {asked['step'] or 'start'}{done}, {asked['seconds']:.0f} s")
        for warning in result.get("warnings_of_the_run", []):
            display.warning(f"{self._host}: {arguments['name']}: {warning}")
        for key in ("token", "step", "values"):
            result.pop(key, None)
        return result

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the module once."""
        answer: dict[str, Any] = self._patiently(
            self._execute_module, module_name="sauvegarde_job", module_args=arguments, task_vars=task_vars
        )
        if answer.get("unreachable"):
            raise AnsibleActionFail(answer.get("msg", "unreachable"), result=answer)
        return answer
