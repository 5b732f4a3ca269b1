#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Put a restored database in place, or the one before it back."""

DOCUMENTATION = r"""
module: sauvegarde_swap
short_description: Put a restored database in place, or the one before it back
description:
  - Both renames are one transaction; open sessions are ended. The database that was live is kept under another name.
  - Run it as the OS user of the server.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_restore.target
  - sauvegarde_restore.confirmation
options:
  state:
    description: V(restored) swaps the run O(id) in, V(before) puts a kept database back.
    type: str
    choices: [restored, before]
    default: restored
  id:
    description: The run, as M(sauvegarde_restore) returned it. Required with V(restored).
    type: str
    default: ""
  kept:
    description: With V(before), the kept database to go back to; the newest without it.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    details: Says what would be swapped.
"""

EXAMPLES = r"""
- name: Put the restored database in place
  sauvegarde_swap:
    database: elpaso
    id: "{{ restored.id }}"
    confirm: elpaso@db-prod
    host: "{{ inventory_hostname }}"
  become: true
  become_user: postgres
"""

RETURN = r"""
kept:
  description: Name that the database which was live has now; null where there was none.
  returned: unless in check mode
  type: str
restored:
  description: With V(before), the kept database that is live again.
  returned: with O(state=before)
  type: str
lines:
  description: How the restore ended, for people.
  returned: with O(state=restored), unless in check mode
  type: list
  elements: str
seconds:
  description: How long the name had no answer.
  returned: unless in check mode
  type: float
ended:
  description: Sessions that were ended.
  returned: unless in check mode
  type: int
debug:
  description: The engine's debug lines, of commands, sessions and steps, without secrets.
  returned: with -vv
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.report import journal
from ansible.module_utils.sauvegarde.restore import restore_arguments, restore_swap
from ansible.module_utils.sauvegarde.restore.confirmation import Confirmation
from ansible.module_utils.sauvegarde.restore.plan_mark import PlanMark
from ansible.module_utils.sauvegarde.targets.target_choice import choose_target


def main() -> None:
    specification = dict(
        restore_arguments.TARGET,
        state={"type": "str", "choices": ["restored", "before"], "default": "restored"},
        id={"type": "str", "default": ""},
        kept={"type": "str", "default": ""},
    )
    specification.update(restore_arguments.CONFIRMATION)
    module = AnsibleModule(
        argument_spec=specification, required_if=[("state", "restored", ["id"])], supports_check_mode=True
    )
    debug = journal.collect_debug(module._verbosity)
    try:
        values = swap(module.params, module.check_mode)
        module.exit_json(changed=True, **values, **journal.debug_values(debug))
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict(), **journal.debug_values(debug))


def swap(parameters: dict[str, Any], is_check: bool) -> dict[str, Any]:
    """Swap a run in, or put back what was live before it; return the module's result."""
    target = choose_target(parameters["database"], parameters["connection"], parameters["directory"])
    if restore_swap.replaces_live(target, parameters["id"]):
        Confirmation.from_parameters(parameters).require(target.database)
    if parameters["state"] == "before":
        if is_check:
            return {"restored": target.choose_previous(parameters["kept"])}
        previous: dict[str, Any] = restore_swap.roll_back(target, parameters["kept"]).as_dict()
        return previous
    confirmed = PlanMark.from_text(parameters["plan_mark"]) if parameters["plan_mark"] else None
    if is_check:
        run = restore_swap.proven_run(target, parameters["id"])
        if confirmed:
            restore_swap.require_confirmed(target, run, confirmed)
        return {"side": run.side}
    result: dict[str, Any] = restore_swap.swap_in(target, parameters["id"], confirmed=confirmed)
    return result


if __name__ == "__main__":
    main()
