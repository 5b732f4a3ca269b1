#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""List the databases kept from swaps, or remove one by its whole name."""

DOCUMENTATION = r"""
module: sauvegarde_kept
short_description: List the databases kept from swaps, or remove one
description:
  - Run it as the OS user of the server.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_restore.target
options:
  name:
    description: Whole name of the kept database to remove; without it they are only listed.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Remove the database that was live before the restore
  sauvegarde_kept:
    database: elpaso
    name: elpaso__before_20261124T030000Z
  become: true
  become_user: postgres
"""

RETURN = r"""
kept:
  description: The databases that are kept, newest first, each with C(name), C(id) and C(bytes).
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.restore import arguments, run


def main():
    module = AnsibleModule(
        argument_spec=dict(arguments.TARGET, name={"type": "str", "default": ""}), supports_check_mode=True
    )
    wanted = module.params
    target = {name: wanted[name] for name in arguments.TARGET}
    try:
        changed = run.remove_kept(target, wanted["name"], check=module.check_mode) if wanted["name"] else False
        module.exit_json(changed=changed, kept=run.list_kept(target))
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())


if __name__ == "__main__":
    main()
