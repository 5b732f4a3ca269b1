#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Make the folders in which jobs keep their archives."""

DOCUMENTATION = r"""
module: sauvegarde_folders
short_description: Create the folders of the backup jobs
description:
  - Creates a private folder for each job's user, also on a file system that refuses chown (NFS with root_squash, CIFS),
    if that user can write there.
  - Creates the folder of the archives if it is missing, and never changes an existing one.
  - Fails before it creates anything if a folder cannot have the owner and mode that a job needs. To test this, it
    creates an empty folder there and removes it again, in check mode too.
author: Sauvegarde
options:
  path:
    description: Folder of the archives.
    type: path
    required: true
  jobs:
    description: Jobs with their users.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the job and of its folder.
        type: str
        required: true
      user:
        description: OS user of the job.
        type: str
        required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Make the folder of a job
  sauvegarde_folders:
    path: /var/backups/sauvegarde
    jobs:
      - name: elpaso
        user: sauvegarde
"""

RETURN = r"""
folders:
  description: Folders that were created, or whose owner and mode were set.
  returned: always
  type: list
  elements: str
  sample: [/var/backups/sauvegarde/elpaso]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.system import job_folders


def main() -> None:
    job = {"name": {"type": "str", "required": True}, "user": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "jobs": {"type": "list", "elements": "dict", "required": True, "options": job},
        },
        supports_check_mode=True,
    )
    path, jobs = module.params["path"], module.params["jobs"]
    try:
        problems = job_folders.problems(path, jobs)
        if problems:
            module.fail_json(msg="\n".join(map(str, problems)))
        changed = job_folders.ensure(path, jobs, check=module.check_mode)
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(changed=bool(changed), folders=changed)


if __name__ == "__main__":
    main()
