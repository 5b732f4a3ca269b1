"""Give the commands the text of the playbooks: `list` prints what playbooks/list.yml prints, from the same filters."""

import sys
from collections.abc import Mapping
from typing import Any

from sauvegarde_cli.command_failed import ROOT
from sauvegarde_cli.playbook_run import Outcome

sys.path += [str(ROOT / "module_utils"), str(ROOT)]

from sauvegarde.report.render import duration, size

from plugins.filter import sauvegarde_archive_text as archive_text
from plugins.filter import sauvegarde_catalog_text as catalog_text
from plugins.filter import sauvegarde_doctor_text as doctor_text
from plugins.filter import sauvegarde_status_text as status_text

__all__ = [
    "archive_text",
    "catalog_text",
    "doctor_text",
    "duration",
    "hosts_of",
    "size",
    "status_text",
    "variables_of",
]


def hosts_of(outcome: Outcome) -> list[str]:
    """Return the hosts that a playbook asked, whether they answered or not."""
    answered = {host for results in outcome.results.values() for host in results}
    return sorted((answered | set(outcome.changed) | outcome.unreachable) - {"localhost"})


def variables_of(outcome: Outcome, tasks: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return {host: {variable: what a task returned}}, as `register` gives it to a playbook's filters.

    tasks: the variable of each task's result.
    """
    variables: dict[str, dict[str, Any]] = {host: {} for host in hosts_of(outcome)}
    for task, variable in tasks.items():
        for host, values in outcome.results.get(task, {}).items():
            variables[host][variable] = values
    return variables
