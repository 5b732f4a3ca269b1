import json
import time
from pathlib import Path

import pytest
import yaml
from tests_support.hosts import Server, lab_host

VERSIONS = {"db96": "9.6", "db13": "13", "db15": "15", "db17": "17", "bare": "17"}
ARCHIVES = "/var/backups/sauvegarde"


class Backups:
    """The backups of one lab host, asked as its keeper would."""

    command = "/usr/local/sbin/sauvegarde"  # as cron starts it

    def __init__(self, name):
        self.name = name
        self.host = lab_host(name)

    def root(self, command, *arguments):
        """Output of a shell line as root."""
        return self.host.check_output("sudo sh -c %s", command % arguments if arguments else command)

    def run(self, *words):
        """Testinfra's result of a command of `sauvegarde`, as root."""
        return self.host.run(f"sudo {self.command} {' '.join(words)}")

    def labels(self, job="elpaso"):
        """Published archives of a job, oldest first."""
        return self.root(f"ls {ARCHIVES}/{job}").split()

    def offsite(self, job="elpaso"):
        """Archives of a job in the host's repository, oldest first."""
        answer = self.run("list", "--offsite")
        assert answer.rc == 0, answer.stderr
        lines = json.loads(answer.stdout)["archives"]
        return [line["id"] for line in lines if (line["job"], line["where"]) == (job, "vault")]

    def manifest(self, job="elpaso", label=None):
        """The manifest of an archive, the newest by default."""
        return json.loads(self.root(f"cat {ARCHIVES}/{job}/{label or self.labels(job)[-1]}/manifest.json"))

    def state(self, job="elpaso"):
        return json.loads(self.root(f"cat /var/lib/sauvegarde/{job}/state.json 2>/dev/null || echo {{}}"))

    def metrics(self, job="elpaso"):
        """{name without its prefix: value}; empty before the job's first run has ended."""
        text = self.root(f"cat /var/lib/prometheus/node-exporter/sauvegarde_{job}.prom 2>/dev/null || true")
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {line.split("{")[0].replace("sauvegarde_backup_", ""): float(line.rsplit(" ", 1)[1]) for line in lines}

    def journal(self, words):
        """Messages of the host's journal, one a line."""
        return self.root(f"journalctl --no-pager --boot -o cat {words}")

    def now(self):
        """The host's clock, in seconds since the epoch."""
        return float(self.root("date +%s"))

    def open_to_others(self):
        """What of the archives, the state and the settings somebody else may read or write."""
        private = "/var/backups/sauvegarde/* /var/lib/sauvegarde/*"
        return self.root(f"find {private} -perm /077; find /etc/sauvegarde -type f -perm /077")


class Repository:
    """The host that keeps the repositories, and hears the pings."""

    def __init__(self):
        self.host = lab_host("archive")

    def pings(self, host, job):
        """[(seconds since the epoch, the end of the path)] of a host's job."""
        lines = [line.split(" ") for line in self.host.check_output("sudo cat /srv/pings").splitlines()]
        start = f"/canary-Zephyr-ping/{host}/{job}"
        return [(float(when), path[len(start) :]) for when, path in lines if path.startswith(start)]


def wait(condition, seconds=600):
    """Wait until cron, or a job, has done something."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it has not come in time"
        time.sleep(2)


def every_minute(described):
    """The jobs, started every minute."""
    return [dict(job, schedule="* * * * *") for job in described["backup"]["backup_jobs"]]


@pytest.fixture(scope="session")
def described():
    """Variables that the hosts were converged with."""
    folder = Path(__file__).parents[1] / "group_vars"
    return {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yml")}


@pytest.fixture(scope="session")
def database(described):
    """The name of the database, which is hostile."""
    return described["all"]["hostile_database"]


@pytest.fixture(scope="session")
def servers():
    """{host: Server}."""
    return {name: Server(lab_host(name), version) for name, version in VERSIONS.items()}


@pytest.fixture(scope="session")
def everyone():
    """{host: Backups} of the hosts with jobs."""
    return {name: Backups(name) for name in VERSIONS if name != "bare"}


@pytest.fixture(scope="session")
def repository_host():
    return Repository()


@pytest.fixture
def backups(host, everyone):
    return everyone[host.backend.get_hostname()]


@pytest.fixture
def server(host, servers):
    return servers[host.backend.get_hostname()]
