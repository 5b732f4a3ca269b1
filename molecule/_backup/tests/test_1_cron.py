"""Cron itself runs the jobs: on 9.6, 13, 15 and 17, with names that nothing may trip over. These run first, with a
schedule of a minute; the last of them end it, so that nothing runs by itself while the others look."""

import time

import pytest
from tests_support.hosts import play

testinfra_hosts = ["ansible://backup"]


@pytest.fixture(scope="module", autouse=True)
def every_minute(described):
    """The jobs, started every minute: for as long as it takes to see them run."""
    jobs = [dict(job, schedule="* * * * *") for job in described["backup"]["backup_jobs"]]
    done = play("--limit=backup", "--tags=backup-preflight,backup-configure", variables={"backup_jobs": jobs})
    assert done.code == 0, done.output


def wait(condition, seconds=240):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "cron has not done it in time"
        time.sleep(3)


@pytest.mark.parametrize("job", ["elpaso", "globals"])
def test_cron_makes_archives(backups, job):
    """Not by hand: the jobs' own schedule is one a day, and nobody has run them yet."""
    wait(lambda: backups.labels(job) and backups.state(job).get("last_run"))


def test_the_last_run_was_whole(backups):
    for job in ("elpaso", "globals"):
        state = backups.state(job)
        assert state["last_run"]["exit_code"] == 0, state["last_run"]["problems"]
        assert state["last_success"]["id"] in backups.labels(job)
        metrics = backups.metrics(job)
        assert metrics["last_run_success"] == 1 and metrics["last_verify_success"] == 1
        now = float(backups.root("date +%s"))
        assert now - 600 < metrics["last_success_timestamp_seconds"] <= now + 1
        assert metrics["last_size_bytes"] > 0 and metrics["available"] >= 1 and metrics["last_duration_seconds"] > 0


def test_cron_had_nothing_to_complain_of(backups):
    journal = backups.root("journalctl --no-pager -u cron -o cat")
    assert "bad minute" not in journal and "Error" not in journal and "CMDOUT" not in journal
    assert "(sauvegarde) CMD (umask 077; exec /usr/bin/python3 -I /usr/local/lib/sauvegarde/run run elpaso)" in journal


def test_a_step_is_a_line_in_the_journal(backups):
    lines = backups.root(
        "journalctl --no-pager -t sauvegarde SAUVEGARDE_JOB=elpaso SAUVEGARDE_STATUS=ok -o cat"
    ).splitlines()
    steps = {word.split("=")[1] for line in lines for word in line.split() if word.startswith("step=")}
    assert {"preflight", "dump", "publish", "retention", "offsite_check", "run"} <= steps
    assert all(line.startswith("job=elpaso step=") for line in lines)


def test_the_manifest_says_what_it_holds(backups, server, database):
    manifest = backups.manifest()
    source = manifest["source"]
    assert (manifest["job"], manifest["kind"], source["database"]) == ("elpaso", "pg_dump", database)
    assert source["server"]["version"].split(" ")[0] == server.sql("SHOW server_version").split(" ")[0]
    table = manifest["fingerprint"]["tables"]['"l\'été"."-offres ""$(id)"" %"']
    assert table["rows"] == 3000
    assert manifest["fingerprint"]["sequences"] and manifest["fingerprint"]["matviews"]['"l\'été"."par jour"'] is True
    assert source["properties"]["settings"]["TimeZone"] == "Europe/Paris"


def test_the_globals_hold_the_roles_with_their_passwords(backups):
    text = backups.root(f"zstd -dcq /var/backups/sauvegarde/globals/{backups.labels('globals')[-1]}/globals.sql.zst")
    assert ('CREATE ROLE "géo ""tribu""";' in text and "PASSWORD 'SCRAM-SHA-256$" in text) or "PASSWORD 'md5" in text


def test_the_dump_role_is_no_superuser_where_that_is_possible(server):
    superuser = server.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'sauvegarde'")
    assert superuser == ("f" if float(server.version) >= 14 else "t")


def test_nobody_else_can_read_them(backups):
    """Fault 20."""
    for place in ("/var/backups/sauvegarde/elpaso", "/var/lib/sauvegarde/elpaso", "/etc/sauvegarde/offsite/sauvegarde"):
        assert backups.root(f"stat -c '%a %U' {place}") in ("700 sauvegarde", "755 root")
    open_ones = backups.root("find /var/backups/sauvegarde/* /etc/sauvegarde -type f -perm /077")
    assert open_ones == ""


def test_an_old_restic_says_that_it_does_not_compress(backups):
    told = " ".join(backups.state()["last_run"]["warnings"])
    assert ("does not compress" in told) == (backups.name in ("db96", "db13"))


def test_a_job_taken_from_the_inventory_leaves_the_host_but_not_its_archives(everyone, described):
    """Fault 5 as well: with cron's file gone the success time stands still."""
    before = {name: one.labels("globals") for name, one in everyone.items()}
    elpaso = [dict(job, schedule="monthly") for job in described["backup"]["backup_jobs"] if job["name"] == "elpaso"]
    done = play("--limit=backup", "--tags=backup-preflight,backup-configure", variables={"backup_jobs": elpaso})
    assert done.code == 0, done.output
    for name, one in everyone.items():
        crontab = one.root("cat /etc/cron.d/sauvegarde")
        assert "run elpaso" in crontab and "globals" not in crontab
        assert one.root("ls /etc/sauvegarde/jobs /etc/sauvegarde/passfiles").split() == [
            "/etc/sauvegarde/jobs:",
            "elpaso.json",
            "/etc/sauvegarde/passfiles:",
        ]
        assert one.host.run("sudo ls /var/lib/prometheus/node-exporter/sauvegarde_globals.prom").rc == 2
        assert set(before[name]) & set(one.labels("globals")), "its archives stay"
        wait(lambda one=one: one.host.run("sudo pgrep -f sauvegarde/run").rc == 1)


def test_check_mode_and_a_second_run_change_nothing(everyone, described):
    elpaso = [dict(job, schedule="monthly") for job in described["backup"]["backup_jobs"] if job["name"] == "elpaso"]
    done = play("--limit=backup", "--tags=backup", "--check", variables={"backup_jobs": elpaso})
    assert done.code == 0 and set(done.changed().values()) == {0}, done.output
