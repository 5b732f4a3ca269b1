#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Remove state and secrets of jobs that are no longer in the inventory."""

DOCUMENTATION = r"""
module: sauvegarde_leftovers
short_description: Remove state and secrets of jobs that are no longer in the inventory
description:
  - Removes their states, their secrets for repositories, and cached manifests of repositories; never an archive.
  - Run it when their settings are removed, so that none of them starts again. It waits for a job that still runs, a
    minute at most; the state of that job then stays until the next run of this module, which is a warning.
author: Sauvegarde
options:
  jobs:
    description: Names of the folders in O(states) that stay.
    type: list
    elements: str
    required: true
  repositories:
    description: Names of the repositories that stay.
    type: list
    elements: str
    required: true
  states:
    description: Folder of the jobs' states. Other folders in it are not changed.
    type: path
    default: /var/lib/sauvegarde
  manifests:
    description: Folder of the repositories' manifests.
    type: path
    default: /var/cache/sauvegarde
  configuration:
    description: Folder of the settings.
    type: path
    default: /etc/sauvegarde
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Remove state of former jobs
  sauvegarde_leftovers:
    jobs: [elpaso, globals]
    repositories: [vault]
  become: true
"""

RETURN = r"""
removed:
  description: Names of the jobs, and paths of the repositories' folders.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde import config
from ansible.module_utils.sauvegarde.backup import job_cleanup
from ansible.module_utils.sauvegarde.errors import SauvegardeError


def main() -> None:
    names = {"type": "list", "elements": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "jobs": names,
            "repositories": names,
            "states": {"type": "path", "default": config.STATES},
            "manifests": {"type": "path", "default": config.MANIFESTS},
            "configuration": {"type": "path", "default": config.CONFIGURATION},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        result = job_cleanup.clean_up(
            parameters["jobs"],
            parameters["repositories"],
            parameters["states"],
            parameters["manifests"],
            parameters["configuration"],
            check=module.check_mode,
        )
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    for sentence in result.warnings:
        module.warn(sentence)
    module.exit_json(changed=bool(result.removed), removed=result.removed)


if __name__ == "__main__":
    main()
