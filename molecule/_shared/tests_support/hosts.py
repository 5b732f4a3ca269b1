"""What the scenarios' tests share: to ask a server through SQL, to run the playbooks as users do, and to see whether a
host is still what it was."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import testinfra

ROOT = Path(__file__).resolve().parents[3]

# All that a refused run must leave as it was: files with their rights and contents, packages, locales, clusters.
HOST_STATE = r"""
cd /
find etc/postgresql etc/postgresql-common etc/apt etc/locale.gen usr/lib/locale -type f -printf '%p %m %u:%g ' \
  -exec sha256sum {} \; 2>/dev/null | sort || true
dpkg-query --show --showformat '${Package} ${Version} ${Status}\n'
if command -v pg_lsclusters; then pg_lsclusters --no-header; fi
"""

# The same of one server: what it runs with, what it would run with, and what is in it.
SERVER_STATE = r"""
SELECT pg_postmaster_start_time();
SELECT name, setting, source, sourcefile, sourceline, pending_restart FROM pg_settings ORDER BY name;
SELECT sourcefile, sourceline, name, setting, applied, error FROM pg_file_settings ORDER BY seqno;
SELECT to_regclass('pg_catalog.pg_hba_file_rules') IS NOT NULL AS rules \gset
\if :rules
SELECT * FROM pg_hba_file_rules;
\endif
SELECT a.* FROM pg_authid a ORDER BY rolname;
SELECT roleid::regrole, member::regrole FROM pg_auth_members ORDER BY 1, 2;
SELECT datname, datdba::regrole, encoding, datcollate, datctype, datconnlimit, datacl FROM pg_database ORDER BY 1;
SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting ORDER BY 1, 2;
"""


def inventory():
    """Molecule's inventory of the scenario that is being verified."""
    return os.environ["MOLECULE_INVENTORY_FILE"]


def lab_host(name):
    """Testinfra's host of that name; unlike its fixture, for tests that deal with several at once."""
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory())


class Server:
    """One PostgreSQL cluster on a lab host, asked as its keeper would: SSH, sudo, psql through the socket."""

    def __init__(self, host, version, port=5432):
        self.host = host
        self.version = version
        self.port = port
        # Not Debian's wrapper, which chooses a version by itself.
        self.psql = f"/usr/lib/postgresql/{version}/bin/psql"

    def sql(self, query, database="postgres"):
        """The rows of one or more queries, a line each, with | between columns. Fails with psql's own error."""
        return self.host.check_output(
            "cd / && printf %%s %s | sudo -u postgres %s -XAtq -v ON_ERROR_STOP=1 -p %s -d %s",
            query,
            self.psql,
            str(self.port),
            database,
        )

    def login(self, role, password, database, query="SELECT current_user", address="127.0.0.1"):
        """Testinfra's result of a login over TCP with a password."""
        return self.host.run(
            "PGPASSWORD=%s %s -XAtqw -h %s -p %s -U %s -d %s -c %s",
            password,
            self.psql,
            address,
            str(self.port),
            role,
            database,
            query,
        )

    def started(self):
        """When the postmaster started, as text."""
        return self.sql("SELECT pg_postmaster_start_time()")

    def state(self):
        """Lines that say all that must stay where a run is refused."""
        ask = f"sudo -u postgres {self.psql} -XAt -v ON_ERROR_STOP=1 -p {self.port} -d postgres"
        return host_state(self.host, f"{ask} <<'END'\n{SERVER_STATE}END\n")


def host_state(host, more=""):
    """Lines that say what of a host must stay where a run is refused, or only a check."""
    done = host.run("sudo sh -euc %s", HOST_STATE + more)
    assert done.rc == 0, done.stderr
    return done.stdout.splitlines()


class Run(NamedTuple):
    """What came of a playbook: its exit code, its output, and of each host in the recap {"changed": 0, …}."""

    code: int
    output: str
    recap: dict

    @property
    def text(self):
        """The output in one line, for messages that are folded in it."""
        return " ".join(self.output.split())

    def changed(self):
        """{host: how many tasks changed something}."""
        return {host: counts["changed"] for host, counts in self.recap.items()}

    def tasks(self):
        """The names of the tasks that ran, in order, without the role's."""
        return re.findall(r"^TASK \[(?:\S+ : )?(.*?)\] \*+$", self.output, re.MULTILINE)


class Playing:
    """A playbook that runs: `lines` as they come, each a (time, text)."""

    def __init__(self, command, folder):
        self._folder = folder
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_NOCOLOR": "1",
                "PYTHONUNBUFFERED": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self.lines.append((time.monotonic(), line))

    @property
    def output(self):
        return "".join(line for _, line in self.lines)

    def wait_for(self, text, seconds=600):
        """Wait until the output has the text; fails where the playbook ends without it."""
        until = time.monotonic() + seconds
        while text not in self.output:
            assert self._reader.is_alive() or text in self.output, self.output
            assert time.monotonic() < until, self.output
            time.sleep(0.1)

    def kill(self):
        """The controller dies, with all that it started here."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self.end()

    def end(self):
        """Wait for its end; the Run."""
        code = self._process.wait()
        self._reader.join()
        self._folder.cleanup()
        recap = {
            host: {key: int(count) for key, count in re.findall(r"(\w+)=(\d+)", counts)}
            for host, counts in re.findall(r"^(\S+)\s+:\s+(ok=.*)$", self.output, re.MULTILINE)
        }
        return Run(code, self.output, recap)


def start(*options, variables=None, groups=None, playbook="playbooks/site.yml"):
    """Start a playbook on the scenario's hosts, with variables that beat the inventory's, and hosts in more groups."""
    folder = tempfile.TemporaryDirectory(prefix="sauvegarde-test-")
    # Never on the command line: they hold passwords.
    extra = Path(folder.name) / "variables.json"
    extra.write_text(json.dumps(variables or {}))
    more = Path(folder.name) / "hosts.json"
    grouped = {group: {"hosts": dict.fromkeys(hosts)} for group, hosts in (groups or {}).items()}
    more.write_text(json.dumps({"all": {}, **grouped}))
    command = [
        Path(sys.executable).with_name("ansible-playbook"),
        f"--inventory={inventory()}",
        f"--inventory={more}",
        f"--extra-vars=@{extra}",
        *options,
        ROOT / playbook,
    ]
    return Playing(command, folder)


def play(*options, **how):
    """Run a playbook to its end (see `start`)."""
    return start(*options, **how).end()
