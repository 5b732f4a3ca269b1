"""Faults injected into real hosts and real servers: a clear end in time, the last good archive kept, nothing left."""

import json
import random
import subprocess
import time

import pytest
from tests_support.hosts import inventory, lab_host, play

LAUNCHER = "/usr/bin/python3 -I /usr/local/lib/sauvegarde/run"
# What somebody does who has taken the host: ask the repository's server itself to remove a snapshot.
REMOVE = """
import base64, re, sys, urllib.request
before, user, password, rest = re.match("(.*//)(.*?):(.*?)@(.*)", sys.argv[1]).groups()
login = base64.b64encode((user + ":" + password).encode()).decode()
address = before + rest + "snapshots/" + sys.argv[2]
urllib.request.urlopen(urllib.request.Request(address, method="DELETE", headers={"Authorization": "Basic " + login}))
"""
TABLE = '"l\'été"."-offres ""$(id)"" %"'


@pytest.fixture
def one(everyone):
    """The host that most faults are tried on."""
    return everyone["db15"]


@pytest.fixture
def untouched(one):
    """Whatever happens, the archives there were before are there, whole, and no debris survives the next run."""
    before = one.labels()
    yield before
    assert set(before) <= set(one.labels())
    assert one.run("verify", "elpaso").rc == 0
    assert one.run("run", "elpaso").rc == 0
    assert one.root("ls -A /var/backups/sauvegarde/elpaso | grep '^[.]'; true") == ""


def test_the_password_is_changed(everyone, described):
    """Fault 18, with its own exit code; globals log in by password."""
    one = everyone["db17"]
    jobs = [dict(job) for job in described["backup"]["backup_jobs"]]
    jobs[1]["connection"] = dict(jobs[1]["connection"], password="another")
    done = play("--limit=db17", "--tags=backup-preflight,backup-configure", variables={"backup_jobs": jobs})
    assert done.code == 0, done.output
    before, good = one.labels("globals"), one.state("globals")["last_success"]
    run = one.run("run", "globals")
    assert run.rc == 13 and "refused the login" in run.stderr and "another" not in run.stderr
    assert one.labels("globals") == before and one.state("globals")["last_success"] == good
    metrics = one.metrics("globals")
    assert metrics["last_run_success"] == 0 and metrics["last_run_exit_code"] == 13
    assert metrics["last_success_timestamp_seconds"] == pytest.approx(good["ended"], abs=0.01)
    jobs[1]["connection"]["password"] = "canary-Zephyr-dump"
    assert play("--limit=db17", "--tags=backup-configure", variables={"backup_jobs": jobs}).code == 0
    assert one.run("run", "globals").rc == 0


def test_a_table_is_locked(one, servers, database, untouched):
    """Fault 34: a timeout and the holder's table in the words, not a wait for ever."""
    holder = subprocess.Popen(
        ["ssh", *_ssh(one), "sudo -u postgres psql -Xq -p 5432 -d " + _quoted(_quoted(database))],
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        holder.stdin.write(f"BEGIN; LOCK TABLE {TABLE}; SELECT pg_sleep(60);\n")
        holder.stdin.flush()
        time.sleep(2)
        began = time.monotonic()
        run = one.run("run", "elpaso")
        assert run.rc == 11 and "could not be locked for reading within 3 seconds" in run.stderr
        assert time.monotonic() - began < 30 and one.labels() == untouched
    finally:
        servers["db15"].sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
        )
        holder.communicate(timeout=30)


def _quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def _ssh(one):
    """SSH's own options for a host, as Ansible has them."""
    answer = subprocess.run(
        ["ansible-inventory", f"--inventory={inventory()}", "--host", one.name], stdout=subprocess.PIPE, check=True
    )
    known = json.loads(answer.stdout)
    options = [
        "-i",
        known.get("ansible_private_key_file") or known["ansible_ssh_private_key_file"],
        "-o",
        "LogLevel=ERROR",
    ]
    options += (known.get("ansible_ssh_common_args") or "").split()
    return [*options, f"{known['ansible_user']}@{known['ansible_host']}"]


def test_the_server_restarts_in_the_middle(one, servers, untouched):
    """Fault 30."""
    servers["db15"].sql(
        f'INSERT INTO {TABLE} ("titre é") SELECT repeat(md5(n::text), 100) FROM generate_series(1, 30000) n', _name(one)
    )
    one.root(
        "systemd-run --unit=again --collect sh -c %s",
        _quoted(f"{LAUNCHER} run elpaso"),
    )
    _until(one, "dump")
    one.root("systemctl restart postgresql@15-main")
    _until(one, "")
    state = one.state()["last_run"]
    assert state["exit_code"] == 1 and state["id"] == "", state
    assert one.labels() == untouched


def _name(one):
    return one.manifest()["source"]["database"]


def _until(one, step, seconds=60):
    """Wait until the job is at a step; for no step, until it has ended."""
    path = "/var/lib/sauvegarde/elpaso/progress.json"
    until = time.monotonic() + seconds
    while True:
        text = one.root(f"cat {path} 2>/dev/null; true")
        if json.loads(text)["step"].startswith(step) if text and step else not text and not step:
            return
        assert time.monotonic() < until, text
        time.sleep(0.1)


def test_killed_at_random_moments(one, untouched):
    """Fault 9 on the whole job, offsite copy included; the lock of a killed run is gone with it (fault 15)."""
    chance = random.Random(15)
    assert one.run("run", "elpaso").rc == 0
    duration = one.state()["last_run"]["seconds"] + 1
    for _ in range(12):
        delay = round(chance.random() * duration, 2)
        one.root(f"timeout --foreground -s KILL {delay} {LAUNCHER} run elpaso; true")
        assert one.labels()
    one.root("for n in $(seq 100); do pgrep -u sauvegarde pg_dump restic zstd || exit 0; sleep 0.1; done; exit 1")
    assert one.run("verify", "elpaso").rc == 0


def test_two_at_once(one, untouched):
    """Fault 14."""
    both = one.root(f"for n in 1 2; do ({LAUNCHER} run elpaso 2>/dev/null; echo $?) & done; wait")
    assert sorted(both.split()) == ["0", "11"] and len(one.labels()) >= len(untouched)


def test_the_disk_is_full(one):
    """Fault 12: refused before, when the last archive says that it will not fit."""
    pid = subprocess.run(
        ["podman", "inspect", "--format", "{{.State.Pid}}", "sauvegarde-backup-db15"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.strip()
    small = ["nsenter", "-t", pid, "-m", "--"]
    folder = "/var/backups/sauvegarde/elpaso"
    owner = one.root(f"stat -c %u:%g {folder}").split(":")
    options = f"size=1m,mode=0700,uid={owner[0]},gid={owner[1]}"
    subprocess.run([*small, "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        run = one.run("run", "elpaso")
        assert run.rc == 1 and ("space" in run.stderr or "disk is full" in run.stderr), run.stderr
        assert one.root(f"ls -A {folder}") == ""
    finally:
        subprocess.run([*small, "umount", folder], check=True)
    assert one.run("run", "elpaso").rc == 0


def test_the_host_s_own_key_deletes_nothing_offsite(one):
    """Fault 24: with all that the host has, its offsite copies stay."""
    settings = json.loads(one.root("cat /etc/sauvegarde/offsite/sauvegarde/vault.json"))
    restic = "RESTIC_REPOSITORY='{repository}' RESTIC_PASSWORD_FILE={password_file} restic --no-cache ".format(
        **settings
    )
    count = len(json.loads(one.root(restic + "snapshots --json --no-lock")))
    assert count >= 1
    assert one.host.run("sudo sh -c %s", restic + "forget --keep-last 1 --group-by '' --prune").rc != 0
    first = json.loads(one.root(restic + "snapshots --json --no-lock"))[0]["id"]
    refused = one.host.run("python3 -c %s %s %s", REMOVE, settings["repository"][len("rest:") :], first)
    assert refused.rc == 1 and "403" in refused.stderr
    assert len(json.loads(one.root(restic + "snapshots --json --no-lock"))) == count


def test_the_repository_s_host_tidies_it(everyone, one):
    vault = lab_host("archive")
    before = one.run("list", "--offsite")
    assert before.rc == 0, before.stderr
    there = [line for line in json.loads(before.stdout)["archives"] if line["where"] == "vault"]
    said = vault.run(f"sudo {LAUNCHER} forget --dry-run --json db15")
    assert said.rc == 0, said.stderr
    doomed = json.loads(said.stdout)
    assert vault.run(f"sudo {LAUNCHER} forget db15").rc == 0
    after = json.loads(one.run("list", "--offsite").stdout)["archives"]
    left = {line["id"] for line in after if line["where"] == "vault"}
    gone = {label for entry in doomed for label in entry["forgotten"]}
    assert left == {line["id"] for line in there} - gone and left
    assert vault.check_output("sudo find /srv/rest ! -user restic-rest-server") == ""


@pytest.mark.parametrize("name", ["db96", "db13", "db15", "db17"])
def test_engine_on_the_host_is_the_controllers(everyone, name):
    done = play(f"--limit={name}", playbook="playbooks/backup.yml", variables={"backup_run": ["elpaso"]})
    assert done.code == 0, done.output
    assert "not the controller's" not in done.text and f"{name}: elpaso: " in done.output, "progress is shown"
