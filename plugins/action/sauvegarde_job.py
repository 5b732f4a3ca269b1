"""Start a job on its host, wait for its end, and print what it is at while it runs."""

import time

from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader
from ansible.utils.display import Display

display = Display()


def amount(number):
    """Bytes as people read them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return None


Sending = action_loader.get("sauvegarde_with_engine", class_only=True)


class ActionModule(Sending, action_loader.get("sauvegarde_waiting", class_only=True)):
    TRANSFERS_FILES = False

    def _work(self, task_vars):
        given = dict(self._task.args)
        result = self._ask(given, task_vars)
        if result.get("failed") or not result.get("running"):
            return result
        token = result["token"]
        told, pause = None, 0.5
        while result.get("running"):
            time.sleep(pause)
            pause = min(pause * 1.5, 3)
            asked = self._ask(dict(given, state="asked", token=token), task_vars)
            asked.pop("changed", None)
            result.update(asked)
            if asked.get("failed"):
                return result
            values = asked.get("values") or {}
            line = (asked.get("step"), values.get("bytes"))
            if asked["running"] and (line != told or time.monotonic() - self._said >= self.SAY):
                told = line
                done = f", {amount(values['bytes'])}" if "bytes" in values else ""
                self._say(f"{given['name']}: {asked['step'] or 'start'}{done}, {asked['seconds']:.0f} s")
        for warning in result.get("warnings_of_the_run", []):
            display.warning(f"{self._host}: {given['name']}: {warning}")
        for key in ("token", "step", "values"):
            result.pop(key, None)
        return result

    def _ask(self, arguments, task_vars):
        answer = self._patiently(
            self._execute_module, module_name="sauvegarde_job", module_args=arguments, task_vars=task_vars
        )
        if answer.get("unreachable"):
            raise AnsibleActionFail(answer.get("msg", "unreachable"), result=answer)
        return answer
