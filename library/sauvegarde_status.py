#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Say how each backup job of a host does."""

DOCUMENTATION = r"""
module: sauvegarde_status
short_description: Say how each backup job of a host does
description:
  - Reads the states of the jobs, the cron file and the manifests of the newest archives; changes nothing.
  - Run it as root, as every job's folder is its user's alone.
author: Sauvegarde
options:
  host:
    description: Name of the host. The status of a job whose settings cannot be read has it from here.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Read how the jobs do
  sauvegarde_status:
  become: true
  register: status
"""

RETURN = r"""
jobs:
  description:
    - One entry a job, with C(host), C(job), C(kind), C(state) (V(good), V(failed), V(overdue), V(never ran),
      V(damaged), V(not in cron) or V(unreadable)), C(why), C(is_well), C(schedule), C(due), C(archive),
      C(last_success), C(age),
      C(seconds), C(stored_bytes), C(growth), C(last_failure), C(is_failing) and C(may_fail).
    - Times are seconds since the epoch, by the host's clock; V(null) stands for never.
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.backup import job_status
from ansible.module_utils.sauvegarde.errors import SauvegardeError


def main() -> None:
    module = AnsibleModule(argument_spec={"host": {"type": "str", "default": ""}}, supports_check_mode=True)
    try:
        statuses = job_status.of_host(host=module.params["host"])
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(changed=False, jobs=[status.as_dict() for status in statuses])


if __name__ == "__main__":
    main()
