"""The lab's hosts as podman knows them: which stand, how to reach them, how to remove them.

Standard library alone: the lab's inventory runs this with whatever Python there is.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LABEL = "sauvegarde.scenario"


class LabFailed(Exception):
    """What failed, why, and what to do, as one text."""


def run(*words, check=True, **options):
    """Run a command and return what it printed. Raises LabFailed with the command's own error."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    except OSError as error:
        raise LabFailed(f"{words[0]} does not start: {error.strerror}.") from error
    if check and done.returncode:
        raise LabFailed(f"{shlex.join(words)} ended with {done.returncode}.\n  Its error: {tail(done.stderr)}")
    return done.stdout


def tail(text, lines=12):
    """The last lines of a tool's error, indented to stand behind ours."""
    return "\n    ".join(text.strip().splitlines()[-lines:])


def require_root():
    if os.geteuid():
        raise LabFailed(
            "The lab must run as root.\n"
            "  Why: its hosts run systemd and sshd on a network of their own, which podman gives to root only.\n"
            "  Fix: run it through sudo."
        )


def hosts():
    """The hosts that stand, a dict each: scenario, host, release, groups (a list), state, address, login (the
    command), key (its file) and ssh (Ansible's options for its own), sorted by scenario and host."""
    require_root()
    if not shutil.which("podman"):
        return []
    names = run("podman", "ps", "--all", "--quiet", "--filter", f"label={LABEL}").split()
    if not names:
        return []
    # Some may be removed in this very moment: inspect fails then, and prints the others.
    found = map(host, json.loads(run("podman", "inspect", *names, check=False) or "[]"))
    return sorted(found, key=lambda one: (one["scenario"], one["host"]))


def host(inspected):
    """One of `hosts` from podman's description of its container."""
    labels = inspected["Config"]["Labels"]
    networks = inspected["NetworkSettings"]["Networks"]
    return {
        "scenario": labels[LABEL],
        "host": labels["sauvegarde.platform"],
        "release": labels["sauvegarde.release"],
        "groups": labels["sauvegarde.system.user_groups"].split(),
        "state": inspected["State"]["Status"],
        "address": networks.get(f"sauvegarde-{labels[LABEL]}", {}).get("IPAddress", ""),
        "login": f"ssh -F {labels['sauvegarde.directory']}/ssh_config {labels['sauvegarde.platform']}",
        "key": f"{labels['sauvegarde.directory']}/id_ed25519",
        "ssh": labels["sauvegarde.ssh"],
    }


def inventory(found):
    """Ansible's inventory of running hosts: groups by scenario, release and the scenario's own groups.

    A host has its own name, or SCENARIO-NAME where two scenarios have one of that name. A group that has a host's
    name is left out: Ansible can't tell them apart.
    """
    running = [one for one in found if one["state"] == "running"]
    names = [one["host"] for one in running]
    groups, variables = {}, {}
    for one in running:
        name = one["host"] if names.count(one["host"]) == 1 else f"{one['scenario']}-{one['host']}"
        variables[name] = {
            "ansible_host": one["address"],
            "ansible_user": "admin",
            "ansible_ssh_private_key_file": one["key"],
            "ansible_ssh_common_args": one["ssh"],
        }
        for group in {one["scenario"], one["release"], *one["groups"]}:
            groups.setdefault(group.replace("-", "_"), {"hosts": []})["hosts"].append(name)
    return {
        **{name: group for name, group in groups.items() if name not in variables},
        "_meta": {"hostvars": variables},
    }


def remove(scenario):
    """Remove whatever is left of a scenario: hosts, volumes, network, keys, control sockets. Never mind what is not."""
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
