#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Collect what a host has for its next backup and its next restore."""

DOCUMENTATION = r"""
module: sauvegarde_host_facts
short_description: Collect what a host has for its next backup and its next restore
description:
  - Reads the settings of jobs and repositories, logs in to the jobs' servers and opens the repositories. It changes
    nothing.
  - Run it as root, as every job's folder is its user's alone.
author: Sauvegarde
options:
  canary:
    description:
      - Try to remove a snapshot from repositories that should be append-only (C(forget) false). It is a canary of a few
        bytes, stored for that; one of them stays where the removal is refused.
    type: bool
    default: false
  clock:
    description: What the controller's clock says, in seconds since the epoch.
    type: float
    default: 0.0
attributes:
  check_mode:
    support: full
    details: Tries no canary.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Read what the host has
  sauvegarde_host_facts:
  become: true
  register: doctor
"""

RETURN = r"""
facts:
  description:
    - C(now), C(clock_difference) (seconds to the controller's clock), C(python), C(engine), C(programs), C(jobs),
      C(overlaps), C(repositories) and C(server_free_bytes). It holds no secret and no address of a repository.
  returned: always
  type: dict
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.backup import host_facts
from ansible.module_utils.sauvegarde.errors import SauvegardeError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "canary": {"type": "bool", "default": False},
            "clock": {"type": "float", "default": 0.0},
        },
        supports_check_mode=True,
    )
    difference = time.time() - module.params["clock"] if module.params["clock"] else 0.0
    try:
        facts = host_facts.collect(with_canary=module.params["canary"] and not module.check_mode)
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(changed=False, facts={**facts, "clock_difference": round(difference, 1)})


if __name__ == "__main__":
    main()
