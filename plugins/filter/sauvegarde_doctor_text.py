# GNU General Public License v3.0+ (see LICENSE)
"""Judge what hosts have for their next backup and restore: findings with codes, reasons and what repairs them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# The engine, as modules get it.
sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from sauvegarde.backup import host_facts
from sauvegarde.report.render import duration, size
from sauvegarde.system import engine_files, installation

DOCUMENTATION = r"""
name: sauvegarde_doctor_text
short_description: Render what would stop a backup or a restore as text
description:
  - A line for each finding, errors first, with its code, and the command that repairs it.
  - The filter C(sauvegarde_doctor_findings) of the same file returns the findings alone, with C(code), C(host),
    C(is_error), C(what), C(why) and C(fix).
options:
  _input:
    description: C(hostvars), with C(doctor_facts) and C(doctor_described) of each host.
    type: dict
    required: true
  hosts: {description: Names of the hosts., type: list, elements: str, required: true}
"""

EXAMPLES = r"""
- name: Show the findings
  ansible.builtin.debug:
    msg: "{{ hostvars | sauvegarde_doctor_text(ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


class Code(NamedTuple):
    """What a code stands for. is_error: it stops a backup or a restore, or may; otherwise it is a warning. fix: the
    command, or what to do; {host} and {name} are those of the finding."""

    is_error: bool
    meaning: str
    fix: str


_SITE = "ansible-playbook playbooks/site.yml --limit {host}"
# Codes are stable: none is renamed, and none gets another meaning.
CODES = {
    "inventory": Code(True, "The inventory, or its vault, cannot be read.", "ansible-inventory --graph"),
    "controller-program": Code(True, "The controller lacks a program.", "apt install {name}"),
    "controller-old": Code(
        False,
        "The controller's ansible-core gets no more fixes.",
        "Install Python 3.12 or newer; see ./sauvegarde --help.",
    ),
    "runs-open": Code(True, "Others can read the reports of runs.", "chmod -R go= .sauvegarde"),
    "unreachable": Code(True, "The host does not answer, or not as it should.", "ansible {host} -m ping -vvv"),
    "python-old": Code(True, "The host's Python is older than 3.9.", "See roles/backup/README.md, “A backup host”."),
    "clock": Code(True, "The host's clock differs from the controller's.", "timedatectl set-ntp true"),
    "engine-missing": Code(True, "The host has jobs, and no engine.", _SITE),
    "engine-other": Code(False, "The host's engine is another version than the controller's.", _SITE),
    "program-missing": Code(True, "The host lacks a program that its jobs need.", _SITE),
    "job-missing": Code(True, "The inventory describes a job that the host does not have.", _SITE),
    "job-unreadable": Code(True, "The settings of a job cannot be read.", _SITE),
    "job-unscheduled": Code(True, "Cron does not start a job.", _SITE),
    "overlap": Code(False, "A job starts while another runs.", "Give one another schedule, then " + _SITE),
    "globals-missing": Code(False, "Databases are backed up, and roles are not.", "Add a job of the kind globals."),
    "server": Code(True, "The server of a job does not let it in.", "./sauvegarde backup {host} {name}"),
    "client": Code(True, "No client program is as new as the server of a job.", _SITE),
    "space-backup": Code(True, "The disk is too small for the next archive.", "Free space, or lower backup_retention."),
    "space-restore": Code(True, "The disk is too small to restore beside the live database.", "./sauvegarde cleanup"),
    "offsite-missing": Code(False, "No job copies its archives to another machine.", "Describe backup_offsite."),
    "host-key": Code(True, "The host key of a repository is not known yet.", "ssh-keyscan -t ed25519 HOST"),
    "repository-missing": Code(True, "There is no repository at its address.", "./sauvegarde backup {host}"),
    "repository-key": Code(True, "The password does not open the repository.", "Correct it in the vault: " + _SITE),
    "repository-locked": Code(False, "The repository is locked.", "Wait, or see restic unlock."),
    "repository-fails": Code(True, "The repository does not answer.", "Correct what the reason names, then " + _SITE),
    "deletion-allowed": Code(
        True,
        "This host can remove snapshots from a repository that should be append-only.",
        "Start its server with --append-only, or set forget: true.",
    ),
    "deletion-unknown": Code(False, "Whether this host can remove snapshots is unknown.", "./sauvegarde doctor"),
    "escrow": Code(
        False,
        "Nobody wrote down where the passwords of the repositories are kept besides the controller.",
        "Set sauvegarde_escrow in group_vars/all.",
    ),
}  # fmt: skip

MOST_DIFFERENCE = 120.0  # seconds between two clocks; a busy host answers late
ROOM = 1.5  # times the last archive: the next one is written before an old one goes
_NEEDED = {"zstd", "setpriv"}
_OLDEST_PYTHON = (3, 9)
_STATES = {
    host_facts.MISSING: "repository-missing",
    host_facts.WRONG: "repository-key",
    host_facts.LOCKED: "repository-locked",
    host_facts.FAILS: "repository-fails",
}

Facts = Mapping[str, Any]
Finding = dict[str, Any]


def finding(code: str, host: str, why: str, name: str = "") -> Finding:
    """Return a finding. name: the job, repository or program that it is about."""
    known = CODES[code]
    return {
        "code": code,
        "host": host,
        "name": name,
        "is_error": known.is_error,
        "what": known.meaning,
        "why": why,
        "fix": known.fix.format(host=host, name=name),
    }


def _of_host(host: str, facts: Facts, described: Facts, digest: str) -> Iterator[Finding]:
    """Yield the findings about a host itself."""
    version = tuple(int(part) for part in facts["python"].split(".")[:2])
    if version < _OLDEST_PYTHON:
        yield finding("python-old", host, f"It is {facts['python']}.")
    difference = facts.get("clock_difference", 0.0)
    if abs(difference) > MOST_DIFFERENCE:
        side = "ahead of" if difference > 0 else "behind"
        yield finding("clock", host, f"It is {duration(abs(difference))} {side} the controller's.")
    jobs = {job["job"] for job in facts["jobs"]}
    for name in described.get("jobs", []):
        if name not in jobs:
            yield finding("job-missing", host, f"{name} is described, and was never set up.", name)
    if not jobs:
        return
    if not facts["engine"]:
        yield finding("engine-missing", host, f"{installation.COMMAND} starts none.")
    elif digest and facts["engine"] != digest:
        yield finding("engine-other", host, "The controller's checkout has changed since site.yml ran.")
    needed = _NEEDED | ({"restic"} if facts["repositories"] else set())
    for program in sorted(needed - set(facts["programs"])):
        yield finding("program-missing", host, f"{program} is not installed.", program)
    kinds = {job.get("kind") for job in facts["jobs"]}
    if "pg_dump" in kinds and "globals" not in kinds:
        yield finding("globals-missing", host, "A restore on a new host needs the roles that own the tables.")
    if not any(job.get("offsite") for job in facts["jobs"]):
        yield finding("offsite-missing", host, "If the host dies, its archives die with it.")
    elif not described.get("escrow"):
        yield finding("escrow", host, "If the controller dies, no copy elsewhere can be read.")
    if "REPLACE-ME" in described.get("known_hosts", ""):
        yield finding("host-key", host, "ssh_known_hosts has a placeholder.")
    for each in facts["overlaps"]:
        other = "itself" if each["other"] == each["job"] else each["other"]
        yield finding(
            "overlap", host, f"{each['job']} took {duration(each['seconds'])}; {other} starts meanwhile.", each["job"]
        )


def _of_jobs(host: str, facts: Facts) -> Iterator[Finding]:
    """Yield the findings about the jobs of a host."""
    largest = 0
    for job in facts["jobs"]:
        name, server = job["job"], job.get("server")
        if job["problem"]:
            yield finding("job-unreadable", host, f"{name}: {job['problem']}", name)
            continue
        if not job["schedule"]:
            yield finding("job-unscheduled", host, f"{name} is in no line of the cron file.", name)
        needed = int(job["next_bytes"] * ROOM)
        if job["free_bytes"] < needed:
            why = f"{name} needs about {size(needed)} on {job['root']}, {size(job['free_bytes'])} are free."
            yield finding("space-backup", host, why, name)
        if server and server["problem"]:
            yield finding("server", host, f"{name}: {server['problem']}", name)
        elif server and server["client_problem"]:
            yield finding("client", host, f"{name}: {server['client_problem']}", name)
        if server and server.get("is_local") and job["kind"] == "pg_dump":
            largest = max(largest, server.get("database_bytes", 0))
    free = facts["server_free_bytes"]
    if free is not None and free < largest:
        why = f"The largest database has {size(largest)}, {size(free)} are free on {host_facts.SERVER_DATA}."
        yield finding("space-restore", host, why)


def _of_repositories(host: str, facts: Facts) -> Iterator[Finding]:
    """Yield the findings about the repositories that a host copies to."""
    for each in facts["repositories"]:
        name = each["repository"]
        if each["state"] != host_facts.OPENS:
            yield finding(_STATES[each["state"]], host, f"{name}: {each['problem']}", name)
        elif each["deletion"] == host_facts.ALLOWED:
            yield finding("deletion-allowed", host, f"{name} let a canary be removed.", name)
        elif each["append_only"] and each["deletion"] == host_facts.UNKNOWN:
            yield finding("deletion-unknown", host, f"{name}: no canary could be stored, or it is locked.", name)


def controllers_engine() -> str:
    """Return the digest of the controller's engine, as hosts have it installed."""
    folder = Path(__file__).resolve().parents[2] / "module_utils" / "sauvegarde"
    return installation.digest(engine_files.read_folder(folder))


def findings(hostvars: Mapping[str, Mapping[str, Any]], hosts: list[str]) -> list[Finding]:
    """Return the findings about all hosts, errors first."""
    found: list[Finding] = []
    digest = controllers_engine()
    for host in hosts:
        result = hostvars[host].get("doctor_facts") or {}
        facts, described = result.get("facts"), hostvars[host].get("doctor_described") or {}
        if facts is None:
            why = str(result.get("msg") or "No answer came from it.")
            found.append(finding("unreachable", host, " ".join(why.split())[:400]))
            continue
        found += [*_of_host(host, facts, described, digest), *_of_jobs(host, facts), *_of_repositories(host, facts)]
    return sorted(found, key=lambda each: (not each["is_error"], list(CODES).index(each["code"])))


def lines(found: list[Finding]) -> list[str]:
    """Return the findings as lines."""
    text = []
    for each in found:
        label = "ERROR  " if each["is_error"] else "warning"
        text.append(f"{label}  {each['host']}: {each['what']} [{each['code']}]")
        text += [f"         Why: {each['why']}", f"         Fix: {each['fix']}"]
    errors = sum(each["is_error"] for each in found)
    if not found:
        return ["Nothing would stop the next backup or the next restore."]
    return [*text, f"{errors} errors, {len(found) - errors} warnings"]


def text(hostvars: Mapping[str, Mapping[str, Any]], hosts: list[str]) -> list[str]:
    """Return the lines; see DOCUMENTATION."""
    return lines(findings(hostvars, hosts))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"sauvegarde_doctor_text": text, "sauvegarde_doctor_findings": findings}
