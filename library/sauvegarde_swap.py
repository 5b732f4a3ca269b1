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
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.restore import restore_arguments, restore_run


def main():
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
    wanted = module.params
    target = {name: wanted[name] for name in restore_arguments.TARGET}
    try:
        restore_run.confirm_swap(target, wanted["id"], wanted)
        if wanted["state"] == "restored":
            result = restore_run.put_in_place(target, wanted["id"], check=module.check_mode)
        else:
            result = restore_run.put_back(target, wanted["kept"], check=module.check_mode)
        module.exit_json(changed=True, **result)
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())


if __name__ == "__main__":
    main()
