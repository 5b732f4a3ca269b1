#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""List previous and side databases, or remove one by its whole name."""

DOCUMENTATION = r"""
module: sauvegarde_kept
short_description: List previous and side databases, or remove one
description:
  - A previous database was live before a swap; a side database is proven and waits for its swap. A database that a
    restore put beside the live one is removed while no client uses it.
  - Run it as the OS user of the server.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_restore.target
options:
  database:
    description: Name of the database that they are of; all are listed without it.
    type: str
    default: ""
  name:
    description: Whole name of the one to remove; without it they are only listed. Requires O(database).
    type: str
    default: ""
  host:
    description: Name of the host in RV(archives) and in messages.
    type: str
    default: ""
  environment_of_host:
    description: The host's environment; in production a removal needs O(production).
    type: str
    default: ""
  production:
    description: V(overwrite production), to remove a database of a host of production.
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
  description:
    - The previous and side databases, newest first, then those that restores put beside; each with C(name), C(kind)
      (V(before) a swap, V(restore), waiting for one, or V(beside)), C(id) and C(bytes).
  returned: always
  type: list
  elements: dict
lost:
  description:
    - The accepted losses of live databases (C(restore_accept_losses)), each with
      C(database), C(id) (of the run) and C(objects).
  returned: always
  type: list
  elements: dict
archives:
  description: The same as entries of the catalog, as M(sauvegarde_catalog) returns them.
  returned: always
  type: list
  elements: dict
debug:
  description: The engine's debug lines, of commands, sessions and steps, without secrets.
  returned: with -vv
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde import catalog
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.report import journal
from ansible.module_utils.sauvegarde.restore import confirmation, previous_databases, restore_arguments
from ansible.module_utils.sauvegarde.targets.target_choice import choose_target


def main() -> None:
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec=dict(
            restore_arguments.TARGET, database=text, name=text, host=text, environment_of_host=text, production=text
        ),
        supports_check_mode=True,
    )
    parameters = module.params
    debug = journal.collect_debug(module._verbosity)
    name = parameters["name"]
    target = choose_target(parameters["database"], parameters["connection"], parameters["directory"])
    try:
        changed = False
        if name and module.check_mode:
            changed = name in [database.name for database in previous_databases.kept(target)]
        elif name:
            host, environment, phrase = (parameters[key] for key in ("host", "environment_of_host", "production"))
            confirmation.require_phrase(host, environment, phrase, f"removing {name}")
            changed = previous_databases.remove(target, name)
        kept = [database.as_dict() for database in previous_databases.kept(target)]
        lost = previous_databases.losses_of_live(parameters["directory"], parameters["database"])
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict(), **journal.debug_values(debug))
    module.exit_json(
        changed=changed,
        kept=kept,
        lost=lost,
        archives=[entry.as_dict() for entry in catalog.kept(kept, parameters["host"])],
        **journal.debug_values(debug),
    )


if __name__ == "__main__":
    main()
