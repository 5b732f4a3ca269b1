"""What keeping a host costs: the no-change run of the whole `postgresql` role, against a play that only gathers facts.

Both on one host of the scenario `debian`, in turn, each over an SSH connection of its own, as two runs of a user's are.
The last line is JSON: the ratio of their medians.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sauvegarde_cli import lab
from sauvegarde_cli.system import ROOT

SCENARIO = "debian"
HOST = "bookworm"
ROUNDS = 5
# All facts: what a play gathers by itself.
FACTS = "- name: Facts\n  hosts: all\n  gather_facts: true\n"


def say(text):
    print(text, flush=True)


def forget_connection():
    """End the SSH connection that the last play left open for the next one."""
    socket = f"ControlPath=~/.ansible/cp/sauvegarde-{SCENARIO}-%h"
    options = ("-F", ROOT / ".lab" / SCENARIO / "ssh_config", "-o", socket)
    subprocess.run(["ssh", *options, "-O", "exit", HOST], stderr=subprocess.DEVNULL, check=False)


def play(playbook, inventory):
    """(seconds, summary) of ansible-playbook on the host. Exits with its output where it fails."""
    forget_connection()
    command = [Path(sys.prefix) / "bin/ansible-playbook", "--inventory", inventory, "--limit", HOST, playbook]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(f"{playbook} failed:\n{done.stdout}{done.stderr}")
    return seconds, next(line for line in done.stdout.splitlines() if re.match(rf"{HOST}\s*:", line))


def measure(facts, inventory):
    """Seconds of the two plays (two lists)."""
    whole = ROOT / "playbooks/site.yml"
    first, _ = play(whole, inventory)
    say(f"first run: {first:.1f} s")
    times = {facts: [], whole: []}
    for _ in range(ROUNDS):
        for playbook, seconds in times.items():
            taken, summary = play(playbook, inventory)
            if not re.search(r"\bchanged=0\b", summary):
                sys.exit(f"{playbook} changed something, so this is no run that changes nothing:\n{summary}")
            seconds.append(taken)
        say(f"facts {times[facts][-1]:.2f} s, role {times[whole][-1]:.2f} s ({summary.split(':', 1)[1].strip()})")
    return times[facts], times[whole]


def run():
    """The figures: {"bench", "ratio", "facts_seconds", "role_seconds"}. Leaves hosts standing that stood before."""
    stood = any(one["scenario"] == SCENARIO for one in lab.hosts())
    lab.up(SCENARIO)
    try:
        with tempfile.TemporaryDirectory(prefix="sauvegarde-converge-") as folder:
            facts_play = Path(folder) / "facts.yml"
            facts_play.write_text(FACTS)
            # As Molecule puts it together: the lab's hosts with the scenario's variables beside them.
            inventory = Path(folder) / "inventory"
            inventory.mkdir()
            (inventory / "hosts.py").symlink_to(ROOT / "inventories/lab/hosts.py")
            (inventory / "group_vars").symlink_to(ROOT / "molecule" / SCENARIO / "group_vars")
            facts, role = measure(facts_play, inventory)
    finally:
        if not stood:
            lab.down(SCENARIO)
    return {
        "bench": "converge",
        "ratio": round(statistics.median(role) / statistics.median(facts), 2),
        "facts_seconds": round(statistics.median(facts), 2),
        "role_seconds": round(statistics.median(role), 2),
    }


if __name__ == "__main__":
    say(json.dumps(run()))
