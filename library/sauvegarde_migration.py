#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Fill a side database with another site's data and prove it."""

DOCUMENTATION = r"""
module: sauvegarde_migration
short_description: Fill a side database with another site's data and prove it
description:
  - Starts a detached migration, which ends at its safe point. The live database goes into an archive first; a
    side database (a side file with SQLite) gets its schema from the site's own migrations and the data from the
    archive, and is compared with it. The live one is not touched; M(sauvegarde_swap) puts the new one in its place.
  - An action plugin of the same name waits for its end and prints the progress.
  - Run it as root.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_engine
  - sauvegarde_site
  - sauvegarde_migrate
  - sauvegarde_migrate.target
  - sauvegarde_restore.confirmation
options:
  path:
    description: The archive's folder on this host, copied from the output of M(sauvegarde_migration_source).
    type: path
    required: true
  run:
    description: Id of a run, to return only its state. Set by the action plugin.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    details: Only looks at the confirmation.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Fill a side database with what production sent
  sauvegarde_migration:
    site: "{{ django_site }}"
    path: /var/lib/sauvegarde/migrations/incoming/20261124T020000Z
    confirm: db.sqlite3@dev
    host: "{{ inventory_hostname }}"
  become: true
  register: migrated
"""

RETURN = r"""
id:
  description: Id of the run.
  returned: unless in check mode
  type: str
side:
  description: The side database's name, or the side file's path.
  returned: when it is ready
  type: str
side_id:
  description: The run's id for M(sauvegarde_swap).
  returned: when it is ready
  type: str
safety:
  description: The archive of the database that was live, on this host; empty where there was none.
  returned: when it is ready
  type: str
proof:
  description:
    - How it was proven, the rows, and per model C(rows) and C(hash); C(left_out), per model the fields that only one
      side has, and C(mended), per model the number of objects that O(policy) has changed or dropped.
    - All else is equal to what was sent.
  returned: when it is ready
  type: dict
notes:
  description: The same and what else is not as it was, in sentences.
  returned: when it is ready
  type: list
  elements: str
masked:
  description: Whether the data were masked at their source.
  returned: when it is ready
  type: bool
steps:
  description: Each step and when it began.
  returned: unless in check mode
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.migrate import migration_arguments, migration_run
from ansible.module_utils.sauvegarde.migrate.migration_request import MigrationRequest
from ansible.module_utils.sauvegarde.restore import detached_restore
from ansible.module_utils.sauvegarde.restore import restore_arguments as restore
from ansible.module_utils.sauvegarde.restore.confirmation import Confirmation
from ansible.module_utils.sauvegarde.system import engine_files


def main() -> None:
    specification = dict(
        restore.CONFIRMATION, path={"type": "path", "required": True}, run={"type": "str", "default": ""}
    )
    specification.update(migration_arguments.TARGET, **engine_files.ARGUMENT)
    module = AnsibleModule(argument_spec=specification, supports_check_mode=True)
    engine_files.receive(module.params.pop("engine"))
    parameters = module.params
    try:
        if parameters["run"]:
            module.exit_json(changed=False, **detached_restore.state_of(parameters["directory"], parameters["run"]))
        values = dict(
            migration_arguments.request_values(parameters), path=parameters["path"], plan_mark=parameters["plan_mark"]
        )
        request = MigrationRequest.from_values(values)
        confirmation = Confirmation.from_parameters(parameters, "migrate")
        state = migration_run.start(request, confirmation, module.check_mode)
        module.exit_json(changed=state.pop("started_now", True), **state)
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())


if __name__ == "__main__":
    main()
