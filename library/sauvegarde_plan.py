#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Say what a restore would do, and everything that would stop it."""

DOCUMENTATION = r"""
module: sauvegarde_plan
short_description: Say what a restore would do, and everything that would stop it
description:
  - Reads the source and asks the target's server; changes nothing. A foreign dump is read whole.
  - Run it as the OS user of the server.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_restore.target
  - sauvegarde_restore.source
options:
  refuse:
    description: Fail where there is an obstacle.
    type: bool
    default: false
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
    - C(source), C(target), C(live) (null where there is none), C(kept) (databases of earlier swaps, with sizes),
      C(roles_made), C(properties), C(expected) (seconds), C(lost) (seconds between the archive and now, whose changes
      the restore gives up; null where it is unknown), C(obstacles) and C(warnings), each with C(what), C(why), C(fix).
  returned: always
  type: dict
lines:
  description: The plan for people.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.restore import arguments, run, words


def main():
    module = AnsibleModule(
        argument_spec=dict(arguments.RESTORE, refuse={"type": "bool", "default": False}),
        supports_check_mode=True,
    )
    try:
        plan = run.make_plan(arguments.spec(module.params))
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    lines = words.of_plan(plan)
    if plan["obstacles"] and module.params["refuse"]:
        module.fail_json(msg="\n".join(words.of_obstacles(plan)), plan=plan, lines=lines)
    module.exit_json(changed=False, plan=plan, lines=lines)


if __name__ == "__main__":
    main()
