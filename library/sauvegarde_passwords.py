#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Compare described passwords with those that a PostgreSQL server has stored."""

DOCUMENTATION = r"""
module: sauvegarde_passwords
short_description: Compare passwords with those that a server has
description:
  - Says of each role whether its password is the one that the server has stored, as md5 or as SCRAM-SHA-256.
  - No password and no hash is returned, logged, or sent to the server. Changes nothing.
  - Asks the server through psql as the OS user C(postgres), so that it works where psycopg2 is not installed.
author: Sauvegarde
options:
  command:
    description: Words of the command that runs a query on the server; the query is added as the last one.
    type: list
    elements: str
    required: true
  roles:
    description: Roles with their passwords.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the role.
        type: str
        required: true
      password:
        description: Its password.
        type: str
        required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Compare a password
  sauvegarde_passwords:
    command: [runuser, -u, postgres, --, psql, -XAtqw, -d, postgres, -c]
    roles:
      - name: geotribu
        password: "{{ vault_geotribu_password }}"
"""

RETURN = r"""
stored:
  description: Of each role, in their order, whether the server has its password. False where there is no such role.
  returned: always
  type: list
  elements: bool
  sample: [true]
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.postgres import passwords

QUERY = "SELECT jsonb_object_agg(rolname, rolpassword) FROM pg_authid"


def main() -> None:
    role = {"name": {"type": "str", "required": True}, "password": {"type": "str", "required": True, "no_log": True}}
    module = AnsibleModule(
        argument_spec={
            "command": {"type": "list", "elements": "str", "required": True},
            "roles": {"type": "list", "elements": "dict", "required": True, "options": role},
        },
        supports_check_mode=True,
    )
    status, out, error = module.run_command([*module.params["command"], QUERY], cwd="/")
    if status:
        module.fail_json(msg=f"The server was not asked for its roles: {error.strip()}")
    stored = json.loads(out)
    # Booleans by position: names would be masked wherever a password is one.
    module.exit_json(
        changed=False,
        stored=[
            each["name"] in stored and passwords.matches(stored[each["name"]], each["password"], each["name"])
            for each in module.params["roles"]
        ],
    )


if __name__ == "__main__":
    main()
