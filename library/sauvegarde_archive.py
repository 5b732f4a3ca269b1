#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Choose the archive to restore or to migrate from."""

DOCUMENTATION = r"""
module: sauvegarde_archive
short_description: Choose the archive to restore or to migrate from, and bring it from a restic repository
description:
  - Without O(repository), chooses among the archives kept on this host.
  - With it, chooses among those of the restic repository and brings the chosen one below O(directory), every file
    checked.
author: Sauvegarde
options:
  database:
    description:
      - What was dumped, as the list shows it; the name of a database, the path of an SQLite file, or a site's folder.
      - Required without O(job) and O(list_only).
    type: str
    default: ""
  kinds:
    description: Only archives of these kinds. A restore takes C(pg_dump).
    type: list
    elements: str
    choices: [pg_dump, sqlite, dumpdata, fixtures]
    default: [pg_dump]
  point:
    description: V(latest), an archive's id, or a time in UTC; then the nearest archive at or before it.
    type: str
    default: latest
  job:
    description: Only archives of this job.
    type: str
    default: ""
  source_host:
    description: Only archives of this host.
    type: str
    default: ""
  list_only:
    description: Choose and bring nothing, but return RV(archives) of O(repository).
    type: bool
    default: false
  root:
    description: Folder of the archives kept on this host.
    type: path
    default: /var/backups/sauvegarde
  repository:
    description:
      - A restic repository, in the words of C(backup_offsite), without its secrets.
    type: dict
    suboptions:
      name:
        description: What to call it.
        type: str
        required: true
      repository:
        description: Its address, as restic takes it.
        type: str
        required: true
      ssh_known_hosts:
        description: Lines of known hosts, for sftp.
        type: str
        default: ""
      forget:
        description: Not used here.
        type: bool
        default: true
  secrets:
    description:
      - What opens O(repository). It lies in private files while it is needed.
      - Apart from it, since Ansible would log a text of many lines inside of it.
    type: dict
    default: {}
    suboptions:
      password:
        description: The repository's own password.
        type: str
        default: ""
      environment:
        description: restic's variables for its backend.
        type: dict
        default: {}
      ssh_key:
        description: Text of a private key, for sftp.
        type: str
        default: ""
  directory:
    description: Private folder of the restores.
    type: path
    default: /var/lib/postgresql/sauvegarde
attributes:
  check_mode:
    support: full
    details: Chooses, but fetches nothing.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Take the archive from the offsite repository, its host being dead
  sauvegarde_archive:
    database: elpaso
    point: 2026-11-24T03:00Z
    repository:
      name: offsite
      repository: sftp:backup@repository.example.org:/srv/restic
    secrets:
      password: "{{ vault_restic_password }}"
  become: true
  become_user: postgres
  register: archive
"""

RETURN = r"""
archives:
  description: The catalog's entries of all archives in O(repository).
  returned: with O(list_only)
  type: list
  elements: dict
archive:
  description: The catalog's entry of the archive, with C(path), where it lies on this host.
  returned: without O(list_only)
  type: dict
globals:
  description: The catalog's entry of the roles that go with a database, kept on this host; null where there are none.
  returned: without O(list_only)
  type: dict
passed:
  description: The catalog's entries of damaged archives that are newer than the chosen one and fit the request, too.
  returned: without O(list_only)
  type: list
  elements: dict
names:
  description: What to call a copy of the archive, and of the roles where there are some.
  returned: without O(list_only)
  type: list
  elements: str
readers:
  description:
    - The OS user that can read each of these. It is the one that this module ran as, or the owner of the job's folder
      where root may not read it (NFS with root_squash).
  returned: for archives of this host
  type: list
  elements: str
files:
  description: The C(path), C(name) and C(reader) of each of them.
  returned: for archives of this host
  type: list
  elements: dict
debug:
  description: The engine's debug lines, of commands, sessions and steps, without secrets.
  returned: with -vv
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.offsite.repository import Repository
from ansible.module_utils.sauvegarde.report import journal
from ansible.module_utils.sauvegarde.restore import fetch


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "database": {"type": "str", "default": ""},
            "kinds": {
                "type": "list",
                "elements": "str",
                "choices": ["pg_dump", "sqlite", "dumpdata", "fixtures"],
                "default": ["pg_dump"],
            },
            "point": {"type": "str", "default": "latest"},
            "job": {"type": "str", "default": ""},
            "source_host": {"type": "str", "default": ""},
            "list_only": {"type": "bool", "default": False},
            "root": {"type": "path", "default": "/var/backups/sauvegarde"},
            "repository": {
                "type": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "repository": {"type": "str", "required": True},
                    "ssh_known_hosts": {"type": "str", "default": ""},
                    "forget": {"type": "bool", "default": True},
                },
            },
            "secrets": {
                "type": "dict",
                "default": {},
                "no_log": True,
                "options": {
                    "password": {"type": "str", "default": "", "no_log": True},
                    "environment": {"type": "dict", "default": {}, "no_log": True},
                    "ssh_key": {"type": "str", "default": "", "no_log": True},
                },
            },
            "directory": {"type": "path", "default": "/var/lib/postgresql/sauvegarde"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    debug = journal.collect_debug(module._verbosity)
    if parameters["list_only"] and not parameters["repository"]:
        module.fail_json(msg="list_only lists a repository: name it.")
    if not parameters["database"] and not parameters["job"] and not parameters["list_only"]:
        module.fail_json(msg="Name the database, or the job whose archives they are.")
    choice = [parameters[name] for name in ("database", "point", "job", "source_host", "kinds")]
    try:
        if parameters["repository"]:
            repository = Repository.from_values({**parameters["repository"], **parameters["secrets"]})
            if parameters["list_only"]:
                module.exit_json(
                    changed=False,
                    archives=fetch.listed(repository, parameters["directory"]),
                    **journal.debug_values(debug),
                )
            result = fetch.from_restic(repository, parameters["directory"], *choice, check=module.check_mode)
        else:
            result = fetch.from_host(parameters["root"], *choice)
        for entry in result["passed"]:
            module.warn("A newer archive, {job} {id}, is damaged: {problem}".format(**entry))
        module.exit_json(**result, **journal.debug_values(debug))
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict(), **journal.debug_values(debug))


if __name__ == "__main__":
    main()
