#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Install the engine on a host."""

DOCUMENTATION = r"""
module: sauvegarde_engine
short_description: Install the backup engine on a host
description:
  - Copies the engine of this project to the host, where cron and people start it as the command C(sauvegarde).
  - Every version lies in a folder of its own, so that a job which runs meanwhile keeps its files. The launchers
    are replaced whole, then the versions before the last one are removed.
  - Refuses to replace a program of another origin at O(command).
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_engine
options:
  path:
    description: Folder of the engine on the host.
    type: path
    default: /usr/local/lib/sauvegarde
  command:
    description:
      - The host's command. The same launcher stays at its former path, C(run) in O(path), for scripts that call it.
    type: path
    default: /usr/local/sbin/sauvegarde
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Have this project's engine on the host
  sauvegarde_engine:
"""

RETURN = r"""
launcher:
  description: The command that cron and people start.
  returned: always
  type: str
  sample: /usr/local/sbin/sauvegarde
version:
  description: Version of the engine.
  returned: always
  type: str
  sample: 0.1.0
digest:
  description: Name of exactly these sources.
  returned: always
  type: str
  sample: 3f9c3a2b1c0d4e5f
"""

import sys

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde import VERSION
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.system import engine_files, installation

NOTE = "Managed by Ansible; local changes will be overwritten."


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": installation.ROOT},
            "command": {"type": "path", "default": installation.COMMAND},
            **engine_files.ARGUMENT,
        },
        supports_check_mode=True,
    )
    if sys.version_info < (3, 9):  # noqa: UP036 - hosts that Ansible still manages can have an older one
        module.fail_json(
            msg="The host has Python {}.{}; the engine needs 3.9 or newer. Back its server up over the network, by a"
            " job on another host.".format(*sys.version_info[:2])
        )
    root, command = module.params["path"], module.params["command"]
    engine_files.receive(module.params["engine"])
    try:
        files = engine_files.engine_files()
        changed = not installation.is_current(root, command, files, NOTE)
        different = installation.differences(command, files) if changed else []
        if changed and not module.check_mode:
            installation.install(root, command, files, NOTE)
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    except OSError as error:
        module.fail_json(msg=f"The engine could not be installed in {root}: {error}")
    module.exit_json(
        changed=changed,
        launcher=command,
        version=VERSION,
        digest=installation.digest(files),
        diff={"before": "", "after": "".join(name + "\n" for name in different)},
    )


if __name__ == "__main__":
    main()
