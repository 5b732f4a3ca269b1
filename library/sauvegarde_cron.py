#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE)
"""Keep the one file in /etc/cron.d that starts the backup jobs."""

DOCUMENTATION = r"""
module: sauvegarde_cron
short_description: Keep the cron file of the backup jobs
description:
  - Writes one file for all jobs, as cron wants it. With an empty list the file is removed.
  - Every schedule is checked before anything is written.
  - Root starts every line, since only root can read the jobs' settings; the engine continues as the job's user.
author: Sauvegarde
options:
  path:
    description: The file. Its name has no dot, or cron would ignore it.
    type: path
    default: /etc/cron.d/sauvegarde
  host:
    description: Name that spreads C(hourly), C(daily), C(weekly) and C(monthly) over the fleet.
    type: str
    required: true
  jobs:
    description: What is started, and when.
    type: list
    elements: dict
    required: true
    suboptions:
      job:
        description: Name of the job, or of the repository to tidy.
        type: str
        required: true
      schedule:
        description: Five fields as in crontab(5), or C(hourly), C(daily), C(weekly), C(monthly).
        type: str
        required: true
      action:
        description: The command of C(sauvegarde) that is started.
        type: str
        choices: [run, forget]
        default: run
  launcher:
    description: The host's command.
    type: path
    default: /usr/local/sbin/sauvegarde
  mailto:
    description: Recipient of cron's mail when a job fails; empty for no mail.
    type: str
    default: root
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Start the job every night
  sauvegarde_cron:
    host: "{{ inventory_hostname }}"
    jobs:
      - job: elpaso
        schedule: daily
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /etc/cron.d/sauvegarde
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sauvegarde.backup import schedule
from ansible.module_utils.sauvegarde.errors import SauvegardeError
from ansible.module_utils.sauvegarde.system import atomic_file, installation

HEADER = (
    "Managed by Ansible; local changes will be overwritten.",
    "A job prints something only when it fails, and cron mails that.",
)


def main() -> None:
    job = {
        "job": {"type": "str", "required": True},
        "schedule": {"type": "str", "required": True},
        "action": {"type": "str", "default": "run", "choices": ["run", "forget"]},
    }
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/cron.d/sauvegarde"},
            "host": {"type": "str", "required": True},
            "jobs": {"type": "list", "elements": "dict", "required": True, "options": job},
            "launcher": {"type": "path", "default": installation.COMMAND},
            "mailto": {"type": "str", "default": "root"},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    path = Path(parameters["path"])
    if "." in path.name:
        module.fail_json(msg=f"cron ignores files with a dot in their name: {path}")
    try:
        text = schedule.crontab(
            parameters["jobs"], parameters["host"], parameters["launcher"], mailto=parameters["mailto"], header=HEADER
        )
    except SauvegardeError as error:
        module.fail_json(msg=str(error), **error.as_dict())
    text = text if parameters["jobs"] else ""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    # cron requires that the file belongs to root and that only root can write to it.
    proper = not path.exists() or (path.stat().st_uid, path.stat().st_mode & 0o777) == (0, 0o644)
    changed = before != text or (bool(text) and not proper)
    if changed and not module.check_mode:
        if text:
            atomic_file.replace(path, text, mode=0o644)
        else:
            path.unlink()
    names = {"before_header": str(path), "after_header": str(path)}
    module.exit_json(changed=changed, path=str(path), diff=dict(names, before=before, after=text))


if __name__ == "__main__":
    main()
