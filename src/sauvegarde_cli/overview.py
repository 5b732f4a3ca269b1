"""Read the catalog and the jobs of all hosts, once for `list`, `status` and the first screen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sauvegarde_cli.playbook_run import Outcome
from sauvegarde_cli.playbook_text import catalog_text, hosts_of, status_text, variables_of

LIST, KEPT, STATES = "List the archives", "List the databases that restores left", "Read the states of the jobs"
PARTIAL = 3
_SERVER = "server"  # where a database is that a restore left


@dataclass(frozen=True)
class Catalog:
    """What there is to restore.

    archives: catalog entries, worst first. databases: those that restores left, the largest first. unread: hosts that
    did not answer. problems: what could not be listed, {host, what, why, fix}. without_job: {host, server, database}.
    losses: {host, database, id, objects}. hosts: all that were asked. lines: all of it for people.
    """

    archives: tuple[Mapping[str, Any], ...]
    databases: tuple[Mapping[str, Any], ...]
    unread: tuple[str, ...]
    problems: tuple[Mapping[str, Any], ...]
    without_job: tuple[Mapping[str, Any], ...]
    losses: tuple[Mapping[str, Any], ...]
    hosts: tuple[str, ...]
    lines: tuple[str, ...] = field(default=(), compare=False)

    @property
    def is_complete(self) -> bool:
        """Whether every host and every place could be read."""
        return not self.unread and not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of `list --json`, which docs/reference/json.md describes."""
        names = ("archives", "databases", "unread", "problems", "without_job", "losses")
        return {name: list(getattr(self, name)) for name in names}


def _fits(entry: Mapping[str, Any], name: str) -> bool:
    """Return whether `name` is the entry's host, job, id, place, or what it holds."""
    return name in (entry["host"], entry["job"], entry["id"], entry["where"], catalog_text.source_name(entry))


def catalog(outcome: Outcome, name: str = "") -> Catalog:
    """Return the catalog that playbooks/list.yml has read. name: only entries of this host, job, database or place."""
    hosts, variables = hosts_of(outcome), variables_of(outcome, {LIST: "list_catalog", KEPT: "list_kept"})
    if name:
        for values in variables.values():
            for result in values.values():
                if result.get("archives"):
                    result["archives"] = [each for each in result["archives"] if _fits(each, name)]
    entries = catalog_text.entries(variables, hosts)
    problems, without, losses = [], [], []
    for host in hosts:
        listed, kept = (variables[host].get(key) or {} for key in ("list_catalog", "list_kept"))
        problems += [{"host": host, **problem} for problem in listed.get("problems") or []]
        if kept.get("what"):
            problems.append({"host": host, **{key: kept.get(key) for key in ("what", "why", "fix", "exit_code")}})
        without += [{"host": host, **each} for each in listed.get("databases_without_job") or []]
        losses += [{"host": host, **each} for each in kept.get("lost") or []]
    databases = [entry for entry in entries if entry["where"] == _SERVER]
    lines = catalog_text.text(variables, hosts)
    lines += [f"{each['host']}: {each['what']}" for each in problems if each["what"] not in lines]
    return Catalog(
        archives=tuple(catalog_text.worst_first([entry for entry in entries if entry["where"] != _SERVER])),
        databases=tuple(sorted(databases, key=lambda entry: -int(entry["stored_bytes"]))),
        unread=tuple(host for host in hosts if (variables[host].get("list_catalog") or {}).get("archives") is None),
        problems=tuple(problems),
        without_job=tuple(without),
        losses=tuple(losses),
        hosts=tuple(hosts),
        lines=tuple(lines),
    )


@dataclass(frozen=True)
class Jobs:
    """How the jobs do: job_status.JobStatus as values, those that are not well first. lines: for people."""

    jobs: tuple[Mapping[str, Any], ...]
    lines: tuple[str, ...]

    @property
    def unwell(self) -> list[Mapping[str, Any]]:
        """The jobs that need attention, and the hosts that did not answer."""
        return [job for job in self.jobs if not job["is_well"]]

    @property
    def is_well(self) -> bool:
        """Whether there are jobs, and all are well: a site without a job is not."""
        return bool(self.jobs) and not self.unwell

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of `status --json`."""
        return {"jobs": list(self.jobs), "is_well": self.is_well}


def jobs(outcome: Outcome) -> Jobs:
    """Return the jobs that playbooks/status.yml has read."""
    variables = variables_of(outcome, {STATES: "status_jobs"})
    asked = sorted({*outcome.results.get(STATES, {}), *outcome.unreachable})
    return Jobs(tuple(status_text.jobs(variables, asked)), tuple(status_text.text(variables, asked)))
