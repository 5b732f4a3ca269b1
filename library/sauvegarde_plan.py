#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Plan a restore: what it would do, and everything that would stop it."""

DOCUMENTATION = r"""
module: sauvegarde_plan
short_description: Plan a restore, with everything that would stop it
description:
  - Reads the whole source and queries the target's server; changes nothing.
  - A confirmation is checked if there is one; a plan needs none.
  - Run it as the OS user of the server.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_restore.target
  - sauvegarde_restore.source
  - sauvegarde_restore.confirmation
options:
  environment_of_source:
    description: Of the source's host, as O(environment_of_host); for RV(lines).
    type: str
    default: ""
  address:
    description: Address of this host in the inventory; for RV(lines).
    type: str
    default: ""
  address_of_source:
    description: Of the source's host, as O(address).
    type: str
    default: ""
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Say what the restore would do
  sauvegarde_plan:
    path: /var/backups/sauvegarde/elpaso/20261124T020000Z
    database: elpaso
  become: true
  become_user: postgres
  register: plan
"""

RETURN = r"""
plan:
  description:
    - C(source), C(target), C(live) (null where there is none), C(kept) (previous and side databases, with sizes),
      C(extensions), C(space), C(roles_made), C(properties), C(lacks) (of a file: what only the live database
      has, by kind), C(expected) (seconds), C(lost) (seconds between the archive and now, whose changes the
      restore gives up; null where it is unknown), C(changes) (how the live database differs from the archive, with
      C(tables), each with C(table), C(archive_rows) and C(live_rows), and C(compared) and C(omitted); null where that
      was not compared), C(obstacles) and C(warnings), each with C(what), C(why),
      C(fix), and C(losses) (objects that are known not to be restored here, each with C(object), C(why), C(fix),
      C(accepted) and C(depends)), and C(mark), which stands for all that was confirmed (O(plan_mark)); empty where the
      source could not be read.
  returned: always
  type: dict
lines:
  description: The plan for people.
  returned: always
  type: list
  elements: str
debug:
  description: The engine's debug lines, of commands, sessions and steps, without secrets.
  returned: with -vv
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.report import journal, render
from ansible.module_utils.sauvegarde.restore import restore_arguments, restore_plan
from ansible.module_utils.sauvegarde.restore.confirmation import Confirmation
from ansible.module_utils.sauvegarde.restore.request import RestoreRequest


def main() -> None:
    places = ("environment_of_source", "address", "address_of_source")
    specification = dict(restore_arguments.RESTORE, **{name: {"type": "str", "default": ""} for name in places})
    specification.update(restore_arguments.CONFIRMATION)
    module = AnsibleModule(argument_spec=specification, supports_check_mode=True)
    parameters = module.params
    debug = journal.collect_debug(module._verbosity)
    try:
        request = RestoreRequest.from_values(restore_arguments.request_values(parameters))
        plan = restore_plan.make_plan(request, Confirmation.from_parameters(parameters)).as_dict()
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict(), **journal.debug_values(debug))
    surroundings = [parameters[name] for name in ("host", "environment_of_host", *places)]
    lines = render.of_plan(plan, *surroundings)
    module.exit_json(changed=False, plan=plan, lines=lines, **journal.debug_values(debug))


if __name__ == "__main__":
    main()
