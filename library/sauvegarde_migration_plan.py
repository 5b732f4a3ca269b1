#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Plan a migration: what it would do, and everything that would stop it."""

DOCUMENTATION = r"""
module: sauvegarde_migration_plan
short_description: Plan a migration, with everything that would stop it
description:
  - Compares the source's code and data with the target's, and queries the target's database; changes nothing.
  - Run it as root.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_engine
  - sauvegarde_site
  - sauvegarde_migrate
  - sauvegarde_migrate.target
  - sauvegarde_restore.confirmation
options:
  source:
    description: The source, as M(sauvegarde_migration_source) described it.
    type: dict
    required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Say what the migration would do
  sauvegarde_migration_plan:
    site: "{{ django_site }}"
    source: "{{ described.source }}"
  become: true
  register: plan
"""

RETURN = r"""
plan:
  description:
    - C(source), C(target), C(database), C(label) (what a confirmation names), C(live) (null where there is none),
      C(kept) (of earlier swaps, with sizes), C(obstacles) and C(warnings), each with C(what), C(why), C(fix), and
      C(mark), which stands for all that was confirmed (O(plan_mark)).
  returned: always
  type: dict
lines:
  description: The plan for people.
  returned: always
  type: list
  elements: str
refusal:
  description: Why the migration may not go on, its obstacles or what the confirmation lacks; empty where it may.
  returned: always
  type: str
debug:
  description: The engine's debug lines, of commands, sessions and steps, without secrets.
  returned: with -vv
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.migrate import migration_arguments, migration_plan, migration_run
from ansible.module_utils.sauvegarde.migrate.migration_request import MigrationRequest
from ansible.module_utils.sauvegarde.report import journal
from ansible.module_utils.sauvegarde.restore import restore_arguments as restore
from ansible.module_utils.sauvegarde.restore.confirmation import Confirmation
from ansible.module_utils.sauvegarde.restore.plan_mark import PlanMark
from ansible.module_utils.sauvegarde.system import engine_files


def main() -> None:
    specification = dict(restore.CONFIRMATION, source={"type": "dict", "required": True})
    specification.update(migration_arguments.TARGET, **engine_files.ARGUMENT)
    module = AnsibleModule(argument_spec=specification, supports_check_mode=True)
    engine_files.receive(module.params.pop("engine"))
    parameters = module.params
    debug = journal.collect_debug(module._verbosity)
    try:
        request = MigrationRequest.from_values(migration_arguments.request_values(parameters))
        plan = migration_run.make_plan(request, parameters["source"])
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict(), **journal.debug_values(debug))
    mark = parameters["plan_mark"]
    confirmed = PlanMark.from_text(mark) if mark else None
    refusal = migration_plan.refusal(plan, Confirmation.from_parameters(parameters, "migrate"), confirmed)
    values = {"plan": plan.as_dict(), "lines": migration_plan.lines(plan), "refusal": refusal}
    module.exit_json(changed=False, **values, **journal.debug_values(debug))


if __name__ == "__main__":
    main()
