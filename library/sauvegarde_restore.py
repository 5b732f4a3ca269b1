#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Restore an archive into a side database and prove it."""

DOCUMENTATION = r"""
module: sauvegarde_restore
short_description: Restore an archive into a side database and prove it
description:
  - Starts a detached restore. It ends at its safe point, a side database that is proven equal to its archive. The live
    database is not touched; M(sauvegarde_swap) puts the new one in its place.
  - An action plugin of the same name waits for its end and prints the progress.
  - If a run for the same source is proven already, or still running, its state is returned.
  - Run it as the OS user of the server.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_restore.target
  - sauvegarde_restore.source
  - sauvegarde_restore.confirmation
options:
  run:
    description: Id of a run, to return only its state. Set by the action plugin.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    details: Makes the plan, and fails where it has obstacles.
"""

EXAMPLES = r"""
- name: Restore last night's archive into a side database
  sauvegarde_restore:
    path: /var/backups/sauvegarde/elpaso/20261124T020000Z
    database: elpaso
    confirm: elpaso@db-prod
    host: "{{ inventory_hostname }}"
  become: true
  become_user: postgres
  register: restored
"""

RETURN = r"""
id:
  description: Id of the run.
  returned: unless in check mode
  type: str
status:
  description: V(ready) once it is proven.
  returned: unless in check mode
  type: str
side:
  description: Name of the side database.
  returned: unless in check mode
  type: str
proof:
  description: How it was proven, and what was counted.
  returned: when it is ready
  type: dict
losses:
  description:
    - Objects that could not be restored, each with C(object) (its name), C(why), C(fix), C(accepted), C(depends) (names
      of losses that it needs) and C(kept) (what was restored of it all the same, C(NOT VALID) for a constraint).
  returned: once the load has ended
  type: list
  elements: dict
steps:
  description: Each step and when it began.
  returned: unless in check mode
  type: list
  elements: dict
debug:
  description: The engine's debug lines, of commands, sessions and steps, without secrets.
  returned: with -vv
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.report import journal, render
from ansible.module_utils.sauvegarde.restore import detached_restore, restore_arguments, restore_plan
from ansible.module_utils.sauvegarde.restore.confirmation import Confirmation
from ansible.module_utils.sauvegarde.restore.request import RestoreRequest


def main() -> None:
    specification = dict(restore_arguments.RESTORE, run={"type": "str", "default": ""})
    specification.update(restore_arguments.CONFIRMATION)
    module = AnsibleModule(argument_spec=specification, supports_check_mode=True)
    parameters = module.params
    debug = journal.collect_debug(module._verbosity)
    try:
        if parameters["run"]:
            module.exit_json(changed=False, **detached_restore.state_of(parameters["directory"], parameters["run"]))
        request = RestoreRequest.from_values(restore_arguments.request_values(parameters))
        if not request.is_beside:
            Confirmation.from_parameters(parameters).require(request.database)
        if module.check_mode:
            plan = restore_plan.make_plan(request).as_dict()
            if plan["obstacles"]:
                module.fail_json(msg="\n".join(render.of_obstacles(plan)), plan=plan)
            module.exit_json(changed=True, plan=plan, **journal.debug_values(debug))
        state = detached_restore.start(request)
        module.exit_json(changed=state.pop("started_now"), **state, **journal.debug_values(debug))
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict(), **journal.debug_values(debug))


if __name__ == "__main__":
    main()
