"""A lab host with a PostgreSQL server for a benchmark, so that it runs the same on any machine that has the lab."""

import subprocess
import sys

from sauvegarde_cli import lab
from sauvegarde_cli.system import ROOT

SCENARIO = "debian"
HOST = "bookworm"
PACKAGES = "postgresql-15 postgresql-15-postgis-3 python3-psycopg2 zstd gzip"
FOLDER = "/var/tmp/sauvegarde-benchmark"
SETUP = (
    "set -eu; export DEBIAN_FRONTEND=noninteractive;"
    # The package's own cluster would only take memory; the benchmark makes one that it can throw away.
    " sudo mkdir -p /etc/postgresql-common/createcluster.d;"
    " echo 'create_main_cluster = false' | sudo tee /etc/postgresql-common/createcluster.d/benchmark.conf >/dev/null;"
    f" sudo apt-get -qq update; sudo -E apt-get -qq install --no-install-recommends -y {PACKAGES} %s >/dev/null;"
    f" sudo rm -rf {FOLDER}; sudo mkdir -m 755 {FOLDER}; sudo tar -xf - -C {FOLDER}"
)


def ssh_command():
    return ["ssh", "-F", ROOT / ".lab" / SCENARIO / "ssh_config", HOST]


def ssh(line, **options):
    """Run a shell line on the host, its output on ours; any failure ends the benchmark."""
    done = subprocess.run([*ssh_command(), line], check=False, **options)
    if done.returncode:
        sys.exit(f"the host {HOST} could not do it (status {done.returncode})")


def run(script, *arguments, packages="", brought=()):
    """Run a script of this folder as root on a host that has the benchmarks and the engine beside it, `packages`
    besides the usual ones, and the folders `brought` where they are in the checkout. Leaves hosts standing that stood
    before. The script's last line is the last of all: it is kept until the hosts are gone."""
    last = ""
    stood = any(one["scenario"] == SCENARIO for one in lab.hosts())
    lab.up(SCENARIO)
    try:
        # Only what git would know: no compiled leftovers.
        words = ["tar", "-C", ROOT, "--exclude=__pycache__", "-cf", "-", "benchmarks", "module_utils"]
        words += [folder.relative_to(ROOT) for folder in brought]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as packed:
            ssh(SETUP % packages, stdin=packed.stdout)
        value = " ".join([f"{FOLDER}/module_utils", *map(str, arguments)])
        words = [*ssh_command(), f"cd {FOLDER}/benchmarks && sudo python3 {script} {value}"]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as measuring:
            for line in measuring.stdout:
                print(last, end="", flush=True)
                last = line
        if measuring.returncode:
            sys.exit(f"{last}{script} failed on {HOST} (status {measuring.returncode})")
    finally:
        if stood:
            ssh(f"sudo rm -rf {FOLDER}", stdin=subprocess.DEVNULL)
        else:
            lab.down(SCENARIO)
    print(last, end="", flush=True)
