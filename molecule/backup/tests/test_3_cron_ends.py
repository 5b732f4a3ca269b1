"""What cron no longer starts: noticed where its file is gone by accident, gone without a trace where the inventory says
so. After this nothing runs by itself while the others look."""

import pytest
from conftest import wait
from tests_support.hosts import host_state, lab_host, play


@pytest.fixture(scope="module")
def kept(described):
    """The jobs that stay in the inventory, on their daily schedule."""
    return [job for job in described["backup"]["backup_jobs"] if job["name"] in ("elpaso", "globals")]


def test_a_deleted_cron_file_is_noticed(everyone, repository_host):
    """Fault 5: the pings stay away, and the time of the last success stands still."""
    lost, existing = everyone["db96"], everyone["db13"]
    # What cron had just started may need some seconds before it says so.
    deleted = float(lost.root("stat -c %Z /root/deleted")) + 30
    wait(lambda: existing.state()["last_run"]["started"] > deleted)
    assert lost.state()["last_run"]["started"] < deleted
    assert lost.metrics()["last_success_timestamp_seconds"] < existing.metrics()["last_success_timestamp_seconds"]
    started = {
        one.name: max(when for when, event in repository_host.pings(one.name, "elpaso") if event == "/start")
        for one in (lost, existing)
    }
    assert started["db96"] < deleted < started["db13"]


def test_a_job_taken_from_the_inventory_leaves_the_host_but_not_its_archives(everyone, kept):
    before = {name: one.labels("dev") for name, one in everyone.items()}

    def converge():
        done = play("--limit=backup", "--tags=backup-preflight,backup-configure", variables={"backup_jobs": kept})
        assert done.code == 0, done.output
        return done

    before_that = "mkdir -p /etc/sauvegarde/offsite/sauvegarde; touch /etc/sauvegarde/offsite/sauvegarde/vault.json"
    everyone["db15"].root(before_that + "; mkdir -p /var/lib/sauvegarde/.postgresql")
    done = converge()
    for one in everyone.values():
        # One that runs meanwhile ends, and brings nothing back.
        wait(lambda one=one: one.host.run("sudo pgrep -f 'sbin/sauvegarde [r]un'").rc == 1)
    if "stays until this is run again" in done.text:  # it took more than the minute that is waited
        converge()
    for name, one in everyone.items():
        assert one.root("ls /var/lib/sauvegarde").split() == ["elpaso", "globals"]
        assert one.root("ls -d /run/sauvegarde/*") == "/run/sauvegarde/elpaso"
        assert one.root("ls /etc/sauvegarde/offsite") == "vault.json", "no folder for each user any more"
        crontab = one.root("cat /etc/cron.d/sauvegarde")
        assert [line.split()[-1] for line in crontab.splitlines() if "sauvegarde run " in line] == ["elpaso", "globals"]
        assert one.root("ls /etc/sauvegarde/jobs /etc/sauvegarde/passfiles").split() == [
            "/etc/sauvegarde/jobs:",
            "elpaso.json",
            "globals.json",
            "/etc/sauvegarde/passfiles:",
            "globals",
        ]
        assert one.root("ls /var/lib/prometheus/node-exporter").split() == [
            "sauvegarde_elpaso.prom",
            "sauvegarde_globals.prom",
        ]
        assert before[name][-1] in one.labels("dev"), "its archives stay"
    assert everyone["db15"].host.file("/var/lib/sauvegarde/.postgresql").is_directory, "it is a user's home, too"


def test_a_check_changes_nothing_on_a_first_run_either(everyone, kept):
    bare = lab_host("bare")
    before = host_state(bare), bare.check_output("cat /etc/passwd; sudo find /etc /var /usr/local -name '*sauvegarde*'")
    done = play(
        "--limit=backup,bare", "--tags=backup", "--check", variables={"backup_jobs": kept}, groups={"backup": ["bare"]}
    )
    assert done.code == 0, done.output
    changed = done.changed()
    assert changed.pop("bare") > 0 and set(changed.values()) == {0} and len(changed) == len(everyone), done.output
    after = host_state(bare), bare.check_output("cat /etc/passwd; sudo find /etc /var /usr/local -name '*sauvegarde*'")
    assert after == before
