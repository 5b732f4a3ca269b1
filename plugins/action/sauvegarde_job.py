"""Start a job on its host, wait for its end, and print what it is at while it runs."""

import time

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

HEARTBEAT = 10  # seconds after which a line is printed though nothing has changed
display = Display()


def amount(number):
    """Bytes as people read them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return None


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        given = dict(self._task.args)
        result.update(self._ask(given, task_vars))
        if result.get("failed") or not result.get("running"):
            return result
        token = result["token"]
        told, told_at, pause = None, 0.0, 0.5
        while result.get("running"):
            time.sleep(pause)
            pause = min(pause * 1.5, 3)
            asked = self._ask(dict(given, state="asked", token=token), task_vars)
            asked.pop("changed", None)
            result.update(asked)
            if asked.get("failed"):
                return result
            line = (asked.get("step"), (asked.get("values") or {}).get("bytes"))
            if asked["running"] and (line != told or time.monotonic() - told_at > HEARTBEAT):
                told, told_at = line, time.monotonic()
                self._print(given["name"], asked, task_vars)
        for warning in result.get("warnings_of_the_run", []):
            display.warning(f"{self._host(task_vars)}: {given['name']}: {warning}")
        for key in ("token", "step", "values"):
            result.pop(key, None)
        return result

    def _ask(self, arguments, task_vars):
        answer = self._execute_module("sauvegarde_job", module_args=arguments, task_vars=task_vars)
        if answer.get("unreachable"):
            raise AnsibleActionFail(answer.get("msg", "unreachable"), result=answer)
        return answer

    def _print(self, name, asked, task_vars):
        values = asked.get("values") or {}
        done = f", {amount(values['bytes'])}" if "bytes" in values else ""
        display.display(f"{self._host(task_vars)}: {name}: {asked['step'] or 'start'}{done}, {asked['seconds']:.0f} s")

    @staticmethod
    def _host(task_vars):
        return (task_vars or {}).get("inventory_hostname", "")
