#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Run a backup job of the host now, or ask how it is going."""

DOCUMENTATION = r"""
module: sauvegarde_job
short_description: Run a backup job of a host now
description:
  - Starts the job exactly as cron does, as its own user and with the host's copy of the engine.
  - The run is detached, so that it continues if the connection breaks. An action plugin of the same name waits for its
    end and shows its progress.
  - Run it as root, since only root can read the job's settings.
author: Sauvegarde
extends_documentation_fragment:
  - sauvegarde_engine
options:
  name:
    description: Name of the job, as in C(backup_jobs).
    type: str
    required: true
  state:
    description:
      - V(started) starts it, V(asked) returns its progress.
      - The action plugin sets it.
    type: str
    choices: [started, asked]
    default: started
  token:
    description: The token that V(started) returned. The action plugin sets it.
    type: str
    default: ""
  launcher:
    description: The host's command.
    type: path
    default: /usr/local/sbin/sauvegarde
attributes:
  check_mode:
    support: full
    details: Only says whether the job exists.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Back up before the change
  sauvegarde_job:
    name: elpaso
  become: true
"""

RETURN = r"""
archive:
  description:
    - The archive that was published, with its C(id), C(bytes) and C(stored_bytes).
    - Of a job that backs up several databases, the newest C(id) and the sums of all archives.
  returned: when one was
  type: dict
databases:
  description:
    - Of a job that backs up several databases, the C(status) (ok, failed or dropped) and the archive's C(id) of each.
  returned: when it has ended
  type: dict
exit_code:
  description: Exit code of the run.
  returned: when it has ended
  type: int
running:
  description: Whether it still runs.
  returned: always
  type: bool
step:
  description: What it is at.
  returned: while it runs
  type: str
values:
  description: How far it is.
  returned: while it runs
  type: dict
seconds:
  description: Duration so far, or in all.
  returned: always
  type: float
warnings_of_the_run:
  description: What the run had to say although it succeeded.
  returned: when it has ended
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde import config
from ansible.module_utils.sauvegarde.backup import detached_job
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.system import engine_files, installation


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "asked"], "default": "started"},
            "token": {"type": "str", "default": "", "no_log": False},
            "launcher": {"type": "path", "default": installation.COMMAND},
            **engine_files.ARGUMENT,
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        if parameters["state"] == "asked":
            module.exit_json(changed=False, **detached_job.ask(parameters["name"], parameters["token"]))
        engine_files.receive(parameters["engine"])
        different = installation.differences(parameters["launcher"], engine_files.engine_files())
        if different:
            module.warn(
                "The host's copy of the engine is not the controller's (different or missing: {}). "
                "Run playbooks/site.yml to bring them together.".format(", ".join(different[:5]))
            )
        if module.check_mode:
            config.load_job(parameters["name"])
            module.exit_json(changed=True, running=False, seconds=0.0)
        module.exit_json(changed=True, **detached_job.start(parameters["name"], parameters["launcher"]))
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())


if __name__ == "__main__":
    main()
