#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""List the archives of a host and of its offsite repositories."""

DOCUMENTATION = r"""
module: sauvegarde_catalog
short_description: List the archives of a host and of its repositories
description:
  - Reads the manifests of the archives themselves; changes nothing.
  - Run it as root, as every job's folder is its user's alone.
author: Sauvegarde
options:
  root:
    description: Folder of the archives; those of configured jobs are read as well.
    type: path
    default: /var/backups/sauvegarde
  offsite:
    description: Ask the offsite repositories, too.
    type: bool
    default: true
  host:
    description: Name of the host in the list; the configured one without it.
    type: str
  restores:
    description: Folder of this host's restores, which records the archives that a read found damaged.
    type: path
    default: /var/lib/postgresql/sauvegarde
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: List what there is to restore
  sauvegarde_catalog:
  become: true
  register: catalog
"""

RETURN = r"""
archives:
  description:
    - One entry an archive and place, with C(host), C(system), C(job), C(id), C(kind), C(source), C(started), C(ended),
      C(bytes), C(stored_bytes), C(verified), C(problem), C(warnings), C(lacks), C(proven),
      C(unproven), C(where) and C(path).
  returned: always
  type: list
  elements: dict
databases_without_job:
  description: Databases that no job names, as the last runs found them, with C(server) and C(database).
  returned: always
  type: list
  elements: dict
damaged:
  description:
    - Archives of any host or repository that a read on this host found damaged, with C(host), C(system), C(job), C(id),
      C(where), C(path), C(problem) and C(found), seconds since the epoch.
  returned: always
  type: list
  elements: dict
problems:
  description: What could not be listed, each with C(what), C(why), C(fix) and C(exit_code).
  returned: always
  type: list
  elements: dict
debug:
  description: The engine's debug lines.
  returned: with -vv
  type: list
  elements: str
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde import catalog, config
from ansible.module_utils.sauvegarde.archive import damage_record
from ansible.module_utils.sauvegarde.backup import uncovered_databases
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.report import journal


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": config.ARCHIVES},
            "offsite": {"type": "bool", "default": True},
            "host": {"type": "str"},
            "restores": {"type": "path", "default": "/var/lib/postgresql/sauvegarde"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    debug = journal.collect_debug(module._verbosity)
    try:
        archives, problems = catalog.collect(
            with_offsite=parameters["offsite"], root=parameters["root"], host=parameters["host"]
        )
        without = uncovered_databases.listed()
        damaged = damage_record.read(parameters["restores"])
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict(), **journal.debug_values(debug))
    for problem in problems:
        module.warn("\n".join(filter(None, [problem["what"], problem["why"], problem["fix"]])))
    module.exit_json(
        changed=False,
        archives=damage_record.mark([entry.as_dict() for entry in archives], damaged),
        databases_without_job=without,
        damaged=[dataclasses.asdict(record) for record in damaged],
        problems=problems,
        **journal.debug_values(debug),
    )


if __name__ == "__main__":
    main()
