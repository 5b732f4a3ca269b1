"""Faults injected into real hosts and real servers: a clear end in time, the last good archive kept, nothing left.

Their numbers are those of the faults that a backup must survive; tests/engine injects more of them on lab hosts.
"""

import contextlib
import json
import random
import subprocess

import pytest
from conftest import wait
from sauvegarde.archive import retention

FOLDER = "/var/backups/sauvegarde/elpaso"
PROGRESS = "/var/lib/sauvegarde/elpaso/progress.json"
TABLE = '"l\'été"."-offres ""$(id)"" %"'
# Some 100 MB in the dump, little in the database.
GROWN = (
    f'INSERT INTO {TABLE} ("titre é") SELECT repeat(md5(n::text), 100) FROM generate_series(1, 30000) n'
    f" WHERE (SELECT count(*) FROM {TABLE}) < 30000"
)
# What somebody does who has taken the host: ask the repository's server itself to remove a snapshot.
REMOVE = """
import base64, re, sys, urllib.request
before, user, password, rest = re.match("(.*//)(.*?):(.*?)@(.*)", sys.argv[1]).groups()
login = base64.b64encode((user + ":" + password).encode()).decode()
address = before + rest + "snapshots/" + sys.argv[2]
urllib.request.urlopen(urllib.request.Request(address, method="DELETE", headers={"Authorization": "Basic " + login}))
"""


@pytest.fixture
def one(everyone, servers, database):
    """The host that most faults are tried on, with something to dump."""
    servers["db15"].sql(GROWN, database)
    return everyone["db15"]


@pytest.fixture
def untouched(one, described):
    """Whatever happens, what was there before is there, but for what retention lets go; it is whole, and no debris
    survives the next run.
    """
    before = one.labels()
    yield before
    policy = retention.RetentionPolicy.from_values(described["backup"]["backup_retention"])
    plan = retention.plan([*before, *one.labels()], policy)
    assert one.labels() == sorted(decision.id for decision in plan if decision.keep)
    assert one.run("verify", "elpaso").rc == 0
    # Fault 20 beside: archives are private whatever the umask of who runs the job.
    assert one.host.run(f"sudo sh -c 'umask 022; {one.command} run elpaso'").rc == 0
    assert one.root(f"ls -A {FOLDER} | grep '^[.]'; true") == "" and one.open_to_others() == ""


def test_the_password_is_changed(everyone, servers):
    """Fault 18, with its own exit code; globals log in by password."""
    one = everyone["db17"]
    before, good = one.labels("globals"), one.state("globals")["last_success"]
    servers["db17"].sql("ALTER ROLE sauvegarde PASSWORD 'another'")
    try:
        run = one.run("run", "globals")
        assert run.rc == 13 and "refused the login" in run.stderr and "canary" not in run.stderr
    finally:
        servers["db17"].sql("ALTER ROLE sauvegarde PASSWORD 'canary-Zephyr-dump'")
    assert one.labels("globals") == before and one.state("globals")["last_success"] == good
    metrics = one.metrics("globals")
    assert metrics["last_run_success"] == 0 and metrics["last_run_exit_code"] == 13
    assert metrics["last_success_timestamp_seconds"] == pytest.approx(good["ended"], abs=0.01)
    assert one.run("run", "globals").rc == 0


def test_a_table_is_locked(one, servers, database, untouched):
    """Fault 34: a timeout and the table in the words, not a wait for ever."""
    server = servers["db15"]
    one.host.check_output(
        "sudo systemd-run --unit=holder --collect --uid=postgres %s -Xq -d %s -c %s",
        server.psql,
        database,
        f"BEGIN; LOCK TABLE {TABLE}; SELECT pg_sleep(600)",
    )
    try:
        wait(lambda: server.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted") != "0")
        run = one.run("run", "elpaso")
        assert run.rc == 11 and "could not be locked for reading within 5 seconds" in run.stderr
        assert one.host.run("systemctl is-active holder").rc == 0, "the job has waited until the table was free"
        assert one.labels() == untouched
    finally:
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)'")


def test_the_server_restarts_in_the_middle(one, untouched):
    """Fault 30: as soon as pg_dump runs."""
    script = f"""{one.command} run elpaso & run=$!
        until grep -qs '"files"' {PROGRESS}; do kill -0 $run || exit; sleep 0.02; done
        pkill -STOP -x pg_dump
        systemctl restart postgresql@15-main
        pkill -CONT -x pg_dump
        wait $run"""
    run = one.host.run("sudo sh -c %s", script)
    assert run.rc == 1 and "elpaso on db15 failed" in run.stderr
    assert one.state()["last_run"]["id"] == "" and one.labels() == untouched
    wait(lambda: one.host.run("sudo -u postgres pg_isready").rc == 0)


def test_killed_at_random_moments(one, untouched):
    """Fault 9 on the whole job, offsite copy included; the lock of a killed run is gone with it (fault 15)."""
    chance = random.Random(15)
    assert one.run("run", "elpaso").rc == 0
    duration = one.state()["last_run"]["seconds"]
    kills = 0
    while kills < 3:  # the machine may be less busy than when the duration was measured
        delays = " ".join(f"{chance.random() * duration:.2f}" for _ in range(10))
        kill = f"timeout --foreground -s KILL $delay {one.command} run elpaso 2>/dev/null"
        ended = one.root(
            f'for delay in {delays}; do {kill}; echo $?; sleep 0.2; test -n "$(ls {FOLDER})" || exit; done'
        ).split()
        assert len(ended) == 10 and set(ended) <= {"0", "11", "137"}, ended
        kills, duration = kills + ended.count("137"), duration / 2
    wait(lambda: one.host.run("pgrep -u sauvegarde 'pg_dump|restic|zstd'").rc == 1)
    assert one.run("verify", "elpaso").rc == 0


def test_two_at_once(one, untouched):
    """Fault 14: the second comes while the first dumps."""
    run = f"{one.command} run elpaso 2>/dev/null"
    both = one.root(
        f"{run} & first=$!; until test -e {PROGRESS}; do kill -0 $first || exit; sleep 0.02; done;"
        f" pkill -STOP -P $first; {run}; echo $?; pkill -CONT -P $first; wait $first; echo $?"
    )
    assert both.split() == ["11", "0"] and len(one.labels()) >= len(untouched)


@contextlib.contextmanager
def small_disk(one, megabytes):
    """The job's folder on a file system of its own, for the block. Mounting is the host's own kernel's to allow."""
    ask = ["podman", "inspect", "--format", "{{.State.Pid}}", f"sauvegarde-backup-{one.name}"]
    pid = subprocess.run(ask, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    inside = ["nsenter", "-t", pid, "-m", "--"]
    owner, group = one.root(f"stat -c %u:%g {FOLDER}").split(":")
    options = f"size={megabytes}m,mode=0700,uid={owner},gid={group}"
    subprocess.run([*inside, "mount", "-t", "tmpfs", "-o", options, "tmpfs", FOLDER], check=True)
    try:
        yield
    finally:
        subprocess.run([*inside, "umount", FOLDER], check=True)


@pytest.mark.parametrize("megabytes, words", [(1, "Not enough space"), (50, "No space left on device")])
def test_the_disk_is_full(one, untouched, megabytes, words):
    """Fault 12: refused before, where that can be known; otherwise while dumping, and the space is given back."""
    # What compresses behind the dump gives space back while it goes on, so somebody else takes all of that.
    taken = f"{FOLDER}/.taken"
    script = f"""{one.command} run elpaso & run=$!
        until grep -qs '"files"' {PROGRESS}; do kill -0 $run || break; sleep 0.02; done 2>/dev/null
        pkill -STOP -x pg_dump; head -c 100M /dev/zero >> {taken} 2>/dev/null; pkill -CONT -x pg_dump
        while kill -0 $run; do head -c 100M /dev/zero >> {taken}; sleep 0.01; done 2>/dev/null
        wait $run; code=$?; rm -f {taken}; exit $code"""
    with small_disk(one, megabytes):
        run = one.host.run("sudo sh -c %s", script)
        assert run.rc == 1 and words in run.stderr, run.stderr
        assert one.root(f"ls -A {FOLDER}; df --output=used {FOLDER} | tail -1").strip() == "0"


def test_the_clock_goes_back(everyone):
    """Fault 26: labels never do, here or offsite, and retention takes the newest for the newest."""
    one = everyone["db17"]
    before = one.labels()
    run = one.host.run(f"sudo faketime -f -2h {one.command} run elpaso")
    assert run.rc == 0, run.stderr
    assert one.state()["last_run"]["started"] < one.now() - 7000
    early = one.labels()[-1]
    assert early > before[-1] and one.manifest()["ended"] < one.manifest(label=before[-1])["ended"]
    assert one.run("run", "elpaso").rc == 0
    assert one.labels()[-2:] == [early, one.labels()[-1]]
    assert one.state()["offsite"]["vault"]["id"] == one.labels()[-1]
    assert set(one.labels()[-3:]) <= set(one.offsite())


def test_the_host_s_own_key_deletes_nothing_offsite(one):
    """Fault 24: with all that the host has, its offsite copies stay."""
    settings = json.loads(one.root("cat /etc/sauvegarde/offsite/vault.json"))
    assert settings["password"] == "20261124", "as text, whatever YAML took it for"
    restic = "RESTIC_REPOSITORY='{repository}' RESTIC_PASSWORD='{password}' restic --no-cache ".format(**settings)
    count = len(json.loads(one.root(restic + "snapshots --json --no-lock")))
    assert count >= 1
    # It would try again for a long time; interrupted, it takes its lock back.
    forget = restic + "forget --keep-last 1 --group-by '' --prune"
    assert one.host.run("sudo timeout -s INT 10 sh -c %s", forget).rc != 0
    first = json.loads(one.root(restic + "snapshots --json --no-lock"))[0]["id"]
    refused = one.host.run("python3 -c %s %s %s", REMOVE, settings["repository"][len("rest:") :], first)
    assert refused.rc == 1 and "403" in refused.stderr
    assert len(json.loads(one.root(restic + "snapshots --json --no-lock"))) == count


def test_the_repository_s_host_tidies_it(one, repository_host):
    vault = repository_host.host
    before = one.offsite()
    output = vault.run(f"sudo {one.command} forget --dry-run --json db15")
    assert output.rc == 0, output.stderr
    lost = {label for entry in json.loads(output.stdout) for label in entry["forgotten"]}
    assert lost and one.offsite() == before
    # As cron would start it, but that it does so once a month.
    line = vault.check_output("sudo grep ' forget db15$' /etc/cron.d/sauvegarde")
    user, command = line.split(None, 6)[5:]
    done = vault.run("sudo -u %s env -i SHELL=/bin/sh HOME=/ PATH=/usr/bin:/bin /bin/sh -c %s", user, command)
    assert (done.rc, done.stdout, done.stderr) == (0, "", "") and user == "root"
    assert set(one.offsite()) == set(before) - lost and one.labels()[-1] in one.offsite()
    assert vault.check_output("sudo find /srv/rest ! -user restic-rest-server") == ""
    assert vault.run(f"sudo {one.command} forget nope").rc == 1
    ask = "sudo journalctl --no-pager -o cat -t sauvegarde SAUVEGARDE_STEP=forget"
    wait(lambda: "job=nope" in vault.check_output(ask))
    lines = vault.check_output(ask).splitlines()
    assert lines[-2].startswith("job=db15 step=forget status=ok") and all(label in lines[-2] for label in lost)
    assert lines[-1].startswith("job=nope step=forget status=failed") and "There is no repository" in lines[-1]


def test_retention_by_hand_is_in_the_journal(one):
    assert one.run("prune", "elpaso").rc == 0 and one.run("prune", "nope").rc == 1
    ask = "-t sauvegarde SAUVEGARDE_STEP=prune"
    wait(lambda: "job=nope" in one.journal(ask))
    done, failed = one.journal(ask).splitlines()[-2:]
    assert done.startswith("job=elpaso step=prune status=ok")
    assert failed.startswith("job=nope step=prune status=failed") and "There is no job" in failed


def test_a_damaged_repository_is_not_pruned(everyone, repository_host):
    """Fault 23: a file of the repository is gone; when it is back, all goes on."""
    one, vault = everyone["db96"], repository_host.host
    pack = vault.check_output("sudo find /home/vault/db96/data -type f | sort | head -n 1")
    before = one.offsite()
    vault.check_output("sudo mv %s /home/vault/pack", pack)
    try:
        run = one.run("run", "elpaso")
        assert run.rc == 3 and "nothing is removed from it" in run.stderr, run.stderr
        assert one.labels()[-1] in run.stderr, "the archive itself is good"
    finally:
        vault.check_output("sudo mv /home/vault/pack %s", pack)
    assert set(before) <= set(one.offsite())
    assert one.run("run", "elpaso").rc == 0


def test_a_host_whose_disk_is_lost_loses_nothing_offsite(everyone, repository_host, described):
    one, vault = everyone["db13"], repository_host.host
    before, manifest = one.offsite(), one.manifest()
    assert manifest["id"] == before[-1]
    one.root("find /var/backups/sauvegarde /var/lib/sauvegarde -mindepth 2 -delete")
    assert one.labels() == [] and one.offsite() == before
    # All of the newest one, by restic alone.
    restic = "RESTIC_PASSWORD=canary-Zephyr-restic restic --no-cache -q -r /home/vault/db13"
    vault.check_output("sudo -u vault sh -euc %s", f"{restic} restore latest --target /home/vault/back")
    sums = vault.check_output("sudo sh -euc %s", "cd /home/vault/back; find . -type f -exec sha256sum {} +")
    collected = {path[2:]: digest for digest, path in (line.split("  ", 1) for line in sums.splitlines())}
    assert collected.pop("manifest.json")
    assert collected == {entry["path"]: entry["sha256"] for entry in manifest["files"]}
    assert one.run("run", "elpaso").rc == 0
    policy = retention.RetentionPolicy.from_values(described["backup"]["backup_retention"])
    plan = retention.plan([*before, *one.labels()], policy)
    assert one.offsite() == sorted(decision.id for decision in plan if decision.keep) and before[-1] in one.offsite()
