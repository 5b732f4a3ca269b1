# GNU General Public License v3.0+ (see LICENSE)
"""Lay out what the role backup puts on a host for its jobs, without anything that is secret."""

from __future__ import annotations

from typing import Any

from ansible.plugins.filter.core import to_nice_json

DOCUMENTATION = r"""
name: sauvegarde_backup_layout
short_description: Lay out the files, folders and schedules of a host's jobs
description:
  - Completes each job by the role's defaults, and lists what the role puts on the host for the jobs.
  - The result holds nothing secret, since what a task loops over is printed.
options:
  _input:
    description: The role's C(backup_jobs).
    type: list
    elements: dict
    required: true
  user: {description: OS user of jobs that name none., type: str, required: true}
  retention: {description: Retention of jobs that have none., type: dict, required: true}
  repositories:
    description: Names of the repositories of jobs that name none.
    type: list
    elements: str
    required: true
  host: {description: Name of the host., type: str, required: true}
  directory: {description: Folder of the archives., type: path, required: true}
  settings: {description: Folder of the jobs' settings., type: path, required: true}
  state: {description: Folder of the jobs' states., type: path, required: true}
  metrics: {description: Folder of the jobs' metrics; empty without metrics., type: path, required: true}
  forget: {description: The role's C(backup_forget)., type: list, elements: dict, required: true}
"""

EXAMPLES = r"""
- name: Show the jobs with their defaults
  ansible.builtin.debug:
    msg: >-
      {{ (backup_jobs | sauvegarde_backup_layout(user='root', retention={}, repositories=[], host='a', directory='/b',
          settings='/c', state='/d', metrics='', forget=[])).jobs }}
"""

RETURN = r"""
_value:
  description: The layout.
  type: dict
  contains:
    jobs: {description: The jobs with their defaults., type: list, elements: dict}
    files: {description: "The jobs' settings: path and content.", type: list, elements: dict}
    archives: {description: "The jobs' folders of archives: name and user.", type: list, elements: dict}
    folders: {description: "Folders that belong to users: path, user and mode.", type: list, elements: dict}
    schedules: {description: "What cron starts: job, schedule and action.", type: list, elements: dict}
"""


# Also in sauvegarde_backup_secrets, which lists the files of these texts.
_PEM, _PEM_KEYS = "-----BEGIN ", ("sslrootcert", "sslcert", "sslkey")


def _without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _completed(job: dict[str, Any], defaults: dict[str, Any], settings: str) -> dict[str, Any]:
    """Return a job with its defaults, and paths in place of its password and of the texts of certificates and keys."""
    connection = job.get("connection") or {}
    paths = {"passfile": f"{settings}/passfiles/{job['name']}"} if "password" in connection else {}
    for key in _PEM_KEYS:
        if _PEM in str(connection.get(key, "")):
            paths[key] = f"{settings}/tls/{job['name']}.{key}.pem"
    return {**defaults, **_without(job, "ping_url"), "connection": {**_without(connection, "password"), **paths}}


def _as_file(values: dict[str, Any]) -> str:
    """Return values as the text of a JSON file, as Ansible's own filter writes it."""
    return str(to_nice_json(values)) + "\n"


def _settings_file(job: dict[str, Any], settings: str, **host: str) -> dict[str, str]:
    content = _as_file({**_without(job, "schedule"), **host})
    return {"path": f"{settings}/jobs/{job['name']}.json", "content": content}


def layout(
    jobs: list[dict[str, Any]],
    user: str,
    retention: dict[str, Any],
    repositories: list[str],
    host: str,
    directory: str,
    settings: str,
    state: str,
    metrics: str,
    forget: list[dict[str, Any]],
) -> dict[str, list[dict[str, Any]]]:
    """Return the layout; see RETURN."""
    defaults = {"user": user, "retention": retention, "offsite": repositories}
    completed = [_completed(job, defaults, settings) for job in jobs]
    files, folders, schedules = [], [], []
    for job in completed:
        name = job["name"]
        own_metrics = f"{metrics}/{name}" if metrics else ""
        files.append(
            _settings_file(job, settings, host=host, root=directory, state=f"{state}/{name}", metrics=own_metrics)
        )
        folders.append({"path": f"{state}/{name}", "user": job["user"], "mode": "0700"})
        if metrics:
            folders.append({"path": own_metrics, "user": job["user"], "mode": "0755"})
        schedules.append({"job": name, "schedule": job.get("schedule"), "action": "run"})
    for repository in forget:
        path = f"{state}/forget-{repository['name']}"
        folders.append({"path": path, "user": repository["user"], "mode": "0700"})
        schedules.append({"job": repository["name"], "schedule": repository["schedule"], "action": "forget"})
    return {
        "jobs": completed,
        "files": files,
        "archives": [{"name": job["name"], "user": job["user"]} for job in completed],
        "folders": folders,
        "schedules": schedules,
    }


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_backup_layout": layout}
