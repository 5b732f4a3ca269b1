"""List, describe and remove the lab's hosts, which are podman containers.

Standard library alone: the lab's inventory runs this with whatever Python there is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LABEL = "sauvegarde.scenario"


class LabFailed(Exception):
    """An error of the lab: what happened, why, and what to do, as one text."""


@dataclass(frozen=True)
class Host:
    """One of the lab's hosts."""

    scenario: str
    host: str
    release: str
    groups: tuple[str, ...]
    state: str
    address: str
    login: str  # the command that logs in
    key: str  # the path of the private key
    ssh: str  # Ansible's options for ssh


def run(*words: str, check: bool = True, **options: Any) -> str:
    """Run a command and return what it printed. Raises LabFailed with the command's own error."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    except OSError as error:
        raise LabFailed(f"{words[0]} does not start: {error.strerror}.") from error
    if check and done.returncode:
        raise LabFailed(f"{shlex.join(words)} ended with {done.returncode}.\n  Its error: {tail(done.stderr)}")
    return str(done.stdout)


def tail(text: str, lines: int = 12) -> str:
    """Return the last lines of a tool's error, indented to follow our own line."""
    return "\n    ".join(text.strip().splitlines()[-lines:])


def require_root() -> None:
    """Raise LabFailed unless this is root."""
    if os.geteuid():
        raise LabFailed(
            "The lab must run as root.\n"
            "  Why: its hosts run systemd and sshd on a network of their own, which podman gives to root only.\n"
            "  Fix: run it through sudo."
        )


def hosts() -> list[Host]:
    """Return the lab's hosts, sorted by scenario and name."""
    require_root()
    if not shutil.which("podman"):
        return []
    names = run("podman", "ps", "--all", "--quiet", "--filter", f"label={LABEL}").split()
    if not names:
        return []
    # Some may be removed in this very moment: inspect fails then, and prints the others.
    inspected = json.loads(run("podman", "inspect", *names, check=False) or "[]")
    return sorted(map(host, inspected), key=lambda one: (one.scenario, one.host))


def host(inspected: dict[str, Any]) -> Host:
    """Return the host that podman describes as a container."""
    labels = inspected["Config"]["Labels"]
    networks = inspected["NetworkSettings"]["Networks"]
    return Host(
        scenario=labels[LABEL],
        host=labels["sauvegarde.platform"],
        release=labels["sauvegarde.release"],
        groups=tuple(labels["sauvegarde.groups"].split()),
        state=inspected["State"]["Status"],
        address=networks.get(f"sauvegarde-{labels[LABEL]}", {}).get("IPAddress", ""),
        login=f"ssh -F {labels['sauvegarde.directory']}/ssh_config {labels['sauvegarde.platform']}",
        key=f"{labels['sauvegarde.directory']}/id_ed25519",
        ssh=labels["sauvegarde.ssh"],
    )


def inventory(lab_hosts: Iterable[Host]) -> dict[str, Any]:
    """Return Ansible's inventory of the running hosts: groups by scenario, release and the scenario's own groups.

    A host has its own name, or SCENARIO-NAME where two scenarios have one of that name. A group that has a host's
    name is left out: Ansible can't tell them apart.
    """
    running = [one for one in lab_hosts if one.state == "running"]
    names = [one.host for one in running]
    groups: dict[str, dict[str, list[str]]] = {}
    variables: dict[str, dict[str, str]] = {}
    for one in running:
        name = one.host if names.count(one.host) == 1 else f"{one.scenario}-{one.host}"
        variables[name] = {
            "ansible_host": one.address,
            "ansible_user": "admin",
            "ansible_ssh_private_key_file": one.key,
            "ansible_ssh_common_args": one.ssh,
        }
        for group in {one.scenario, one.release, *one.groups}:
            groups.setdefault(group.replace("-", "_"), {"hosts": []})["hosts"].append(name)
    return {
        **{name: group for name, group in groups.items() if name not in variables},
        "_meta": {"hostvars": variables},
    }


def remove(scenario: str) -> None:
    """Remove what remains of a scenario: hosts, volumes, network, keys, control sockets."""
    require_root()
    if not re.fullmatch(r"[A-Za-z0-9_-]+", scenario):
        raise LabFailed(f"{scenario!r} is no scenario's name.\n  Fix: give the name alone, as `lab list` shows it.")
    if shutil.which("podman"):
        ours = run("podman", "ps", "--all", "--quiet", "--filter", f"label={LABEL}={scenario}").split()
        if ours:
            run("podman", "rm", "--force", "--ignore", "--time", "0", "--volumes", *ours)
        network = f"sauvegarde-{scenario}"
        if network in run("podman", "network", "ls", "--format", "{{.Name}}").split():
            run("podman", "network", "rm", "--force", "--time", "0", network)
    shutil.rmtree(ROOT / ".lab" / scenario, ignore_errors=True)
    with contextlib.suppress(OSError):
        (ROOT / ".lab").rmdir()
    for socket in (Path.home() / ".ansible/cp").glob(f"sauvegarde-{scenario}-[0-9]*"):
        socket.unlink(missing_ok=True)
