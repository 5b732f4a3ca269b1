"""Use the machine that the command line runs on: packages, root, the tools of its own environment."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sauvegarde_cli import environment
from sauvegarde_cli.command_failed import ROOT as ROOT
from sauvegarde_cli.command_failed import CommandFailed as CommandFailed
from sauvegarde_cli.terminal import say


def as_root(reason: str) -> None:
    """Return if this is root; otherwise run the same command again through sudo, and never return."""
    if os.geteuid() == 0:
        return
    if not shutil.which("sudo"):
        raise CommandFailed(
            f"{reason} needs root.",
            "This is not root, and there is no sudo on this machine.",
            "Run the same command as root.",
        )
    say(f"{reason} needs root: going on through sudo.")
    kept = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("SAUVEGARDE_")]
    os.execvp("sudo", ["sudo", "env", *kept, str(ROOT / "sauvegarde"), *sys.argv[1:]])


def installed(package: str) -> bool:
    """Return whether dpkg has the Debian package installed."""
    query = ["dpkg-query", "-W", "-f", "${Status}", package]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "install ok installed"


def install_packages(packages: Sequence[str], reason: str) -> None:
    """Install the Debian packages that are missing, after saying so. Needs root. Raises CommandFailed."""
    if not shutil.which("dpkg-query") or not shutil.which("apt-get"):
        raise CommandFailed(
            f"{reason} needs {', '.join(packages)}.",
            "This machine has no apt to install them with.",
            "Run it on Debian or Ubuntu, or in a virtual machine of theirs.",
        )
    missing = [package for package in packages if not installed(package)]
    if not missing:
        return
    say(f"Installing with apt for {reason}: {', '.join(missing)}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # A machine's own upgrades, or another run, may be at it: wait for their end.
    apt = ["apt-get", "-q", "-q", "-o", "DPkg::Lock::Timeout=300"]
    for command in ([*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandFailed(
                f"apt could not install what {reason} needs: {', '.join(missing)}.",
                (done.stderr or done.stdout).strip()[-2000:],
                f"Repair apt (try: apt-get install {' '.join(missing)}), then run this again.",
            )


def tools() -> Path:
    """Return the bin folder of the controller's environment, made or repaired first where needed."""
    try:
        return environment.ensure(ROOT, environment.core_version()) / "bin"
    except environment.EnvironmentFailed as failure:
        raise CommandFailed(str(failure)) from failure


def tool_environment(bin_folder: Path) -> dict[str, str]:
    """Return the environment of Ansible's tools: the project's configuration, and the project's tools first."""
    return {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONUNBUFFERED": "1",
        # Without a terminal, as in CI, the tools would fold their output at 80 columns.
        "COLUMNS": os.environ.get("COLUMNS", "160"),
    }
