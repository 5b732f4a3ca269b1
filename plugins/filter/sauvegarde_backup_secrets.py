# GNU General Public License v3.0+ (see LICENSE)
"""List the files of a host that hold passwords, keys and addresses of pings."""

from __future__ import annotations

from typing import Any

from ansible.plugins.filter.core import to_nice_json

DOCUMENTATION = r"""
name: sauvegarde_backup_secrets
short_description: List the secret files of a host's jobs
description:
  - The files that hold passwords and what says where they go. Root owns all of them but those that libpq reads itself.
options:
  _input:
    description: The role's C(backup_jobs).
    type: list
    elements: dict
    required: true
  user: {description: OS user of jobs that name none., type: str, required: true}
  copied_to:
    description: Names of the repositories that jobs copy to.
    type: list
    elements: str
    required: true
  offsite: {description: The role's C(backup_offsite)., type: list, elements: dict, required: true}
  forget: {description: The role's C(backup_forget)., type: list, elements: dict, required: true}
  policies:
    description: "The retention of each job of a host: host, job and retention."
    type: list
    elements: dict
    required: true
  settings: {description: Folder of the jobs' settings., type: path, required: true}
  state: {description: Folder of the jobs' states., type: path, required: true}
  cache: {description: Folder of the copies of manifests., type: path, required: true}
"""

EXAMPLES = r"""
- name: Write the secret files
  ansible.builtin.copy:
    dest: "{{ item.path }}"
    content: "{{ item.content }}"
    owner: "{{ item.user }}"
    mode: "0600"
  loop: "{{ backup_jobs | sauvegarde_backup_secrets(user='root', copied_to=[], offsite=[], forget=[], policies=[],
            settings='/etc/sauvegarde', state='/var/lib/sauvegarde', cache='/var/cache/sauvegarde') }}"
  no_log: true
"""

RETURN = r"""
_value:
  description: The files.
  type: list
  elements: dict
  contains:
    path: {description: Path of the file., type: path}
    user: {description: Owner of the file., type: str}
    content: {description: Text of the file., type: str}
"""


# Also in sauvegarde_backup_layout, which puts the paths of these texts into the jobs' settings.
_PEM, _PEM_KEYS = "-----BEGIN ", ("sslrootcert", "sslcert", "sslkey")


def _as_file(values: dict[str, Any]) -> str:
    """Return values as the text of a JSON file, as Ansible's own filter writes it."""
    return str(to_nice_json(values)) + "\n"


def _passfile(password: object) -> str:
    """Return libpq's line for a password, which is a number to YAML where it has digits only."""
    escaped = str(password).replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n"


def _of_jobs(jobs: list[dict[str, Any]], user: str, settings: str) -> list[dict[str, str]]:
    files = []
    for job in jobs:
        connection = job.get("connection") or {}
        if "password" in connection:
            owner, content = job.get("user", user), _passfile(connection["password"])
            files.append({"path": f"{settings}/passfiles/{job['name']}", "user": owner, "content": content})
        for key in _PEM_KEYS:
            if _PEM in str(connection.get(key, "")):
                path, content = f"{settings}/tls/{job['name']}.{key}.pem", connection[key].strip() + "\n"
                files.append({"path": path, "user": job.get("user", user), "content": content})
    for job in jobs:
        if job.get("ping_url"):
            content = str(job["ping_url"]) + "\n"
            files.append({"path": f"{settings}/pings/{job['name']}", "user": "root", "content": content})
    return files


def secrets(
    jobs: list[dict[str, Any]],
    user: str,
    copied_to: list[str],
    offsite: list[dict[str, Any]],
    forget: list[dict[str, Any]],
    policies: list[dict[str, Any]],
    settings: str,
    state: str,
    cache: str,
) -> list[dict[str, str]]:
    """Return the files; see RETURN."""
    files = _of_jobs(jobs, user, settings)
    for repository in offsite:
        name = repository["name"]
        if name in copied_to:
            values = {**repository, "password": str(repository["password"]), "manifests": f"{cache}/{name}"}
            files.append({"path": f"{settings}/offsite/{name}.json", "user": "root", "content": _as_file(values)})
    for repository in forget:
        name = repository["name"]
        values = {key: repository[key] for key in ("name", "repository", "user")}
        values.update(password=str(repository["password"]), state=f"{state}/forget-{name}")
        values["policies"] = [policy for policy in policies if policy["host"] in repository["hosts"]]
        files.append({"path": f"{settings}/forget/{name}.json", "user": "root", "content": _as_file(values)})
    return files


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_backup_secrets": secrets}
