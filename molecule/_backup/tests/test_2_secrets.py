"""A canary password is nowhere but in the files that are for it: fault 19."""

import threading

from tests_support.hosts import play

CANARIES = (
    "canary-Zephyr-dump",
    "canary-Zephyr-restic",
    "canary-Zephyr-rest@",
    'canary-Zephyr-rest"',
    "canary-Zephyr-owner",
)
testinfra_hosts = ["ansible://backup"]


def test_in_no_process_list_while_a_job_runs(everyone):
    one = everyone["db15"]
    seen = []
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            seen.append(one.root("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; true"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        assert one.run("run", "elpaso").rc == 0
    finally:
        stop.set()
        thread.join()
    text = "".join(seen)
    assert "restic" in text and "pg_dump" in text, "it was watched while it ran"
    assert "canary-Zephyr" not in text


def test_in_no_file_but_its_own(backups):
    where = (
        "/etc /var/backups /var/lib/sauvegarde /var/lib/prometheus /var/log /var/spool /var/tmp /tmp /run /usr/local"
    )
    # The shell line holds the word itself, so it is put together there.
    found = backups.root(
        f"grep -rlIE --exclude-dir=sauvegarde-canary 'canar[y]-Zephyr-(dump|rest)' {where} 2>/dev/null; true"
    ).split()
    allowed = {"/etc/sauvegarde/offsite/sauvegarde/vault.password", "/etc/sauvegarde/passfiles/globals"}
    if backups.name in ("db15", "db17"):
        allowed.add("/etc/sauvegarde/offsite/sauvegarde/vault.json")
    assert set(found) <= allowed, found


def test_not_in_the_journal(backups):
    assert "canary-Zephyr" not in backups.root("journalctl --no-pager --boot | grep -v 'canar[y]' ; true")


def test_not_in_what_ansible_prints(described):
    """Everything is written anew, as verbosely as can be, with the differences shown."""
    jobs = [dict(job, nice=11) for job in described["backup"]["backup_jobs"]]
    done = play(
        "--limit=db15,db13",
        "--tags=backup-preflight,backup-configure",
        "-vvv",
        "--diff",
        variables={"backup_jobs": jobs},
    )
    assert done.code == 0, done.output
    assert done.changed()["db15"] > 0
    for canary in CANARIES:
        assert canary not in done.output
