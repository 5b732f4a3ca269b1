#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Show one archive in full, and how it differs from the live database."""

DOCUMENTATION = r"""
module: sauvegarde_archive_info
short_description: Show one archive in full, and how it differs from the live database
description:
  - Reads the archive's manifest in every place that this host knows; changes nothing.
  - Run it as root, as every job's folder is its user's alone.
author: Sauvegarde
options:
  id:
    description: The archive's id.
    type: str
    required: true
  job:
    description: Only the archive of this job.
    type: str
    default: ""
  of_host:
    description: Only the archive of this host.
    type: str
    default: ""
  compare:
    description:
      - Compare the archive with the live database that its job dumps, table by table, if this is the archive's own
        host. It takes three minutes at most, and waits for no lock.
    type: bool
    default: false
  root:
    description: Folder of the archives; those of configured jobs are read as well.
    type: path
    default: /var/backups/sauvegarde
  offsite:
    description: Ask the offsite repositories, too.
    type: bool
    default: true
  host:
    description: Name of the host in the inventory.
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Show an archive
  sauvegarde_archive_info:
    id: 20261124T030000Z
    host: "{{ inventory_hostname }}"
  become: true
  register: shown
"""

RETURN = r"""
archives:
  description:
    - One entry a place, with C(entry) (as in M(sauvegarde_catalog)), C(manifest) (as in the archive; V(null) where it
      cannot be read), C(problem), C(live) (C(database), C(equal), the number of equal tables, C(differing) and
      C(omitted); V(null) where it was not compared) and C(live_problem).
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde import catalog, config
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.restore import live_comparison


def main() -> None:
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec={
            "id": {"type": "str", "required": True},
            "job": text,
            "of_host": text,
            "compare": {"type": "bool", "default": False},
            "root": {"type": "path", "default": config.ARCHIVES},
            "offsite": {"type": "bool", "default": True},
            "host": {"type": "str"},
        },
        supports_check_mode=True,
    )
    values = module.params
    try:
        entries, _ = catalog.collect(with_offsite=values["offsite"], root=values["root"], host=values["host"])
        archives = live_comparison.show(
            entries, values["id"], values["job"], values["of_host"], values["compare"], values["host"] or ""
        )
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(changed=False, archives=archives)


if __name__ == "__main__":
    main()
