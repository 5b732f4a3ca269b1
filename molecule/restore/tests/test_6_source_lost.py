"""The source's host is gone with everything on it: restored from its repository elsewhere, with what the inventory
knows. These run last."""

import threading

from conftest import Node, content, databases, restore, start_restore
from tests_support.hosts import play

HOSTILE = '-l\'Été "99 %" $(id)'
ROLE = "SELECT rolname, rolcanlogin, rolconnlimit, rolpassword FROM pg_authid WHERE rolname ~ 'tribu'"
GONE = {"restore_repository": "vault", "restore_of_host": "db13"}


def test_restored_from_the_repository_alone(servers, archives):
    """Faults 25, 29, 33, 35 and 19: onto a server that knows neither the roles nor the backups, under a name that
    nothing may trip over, from a repository that is silent for a while, and no secret is said on the way."""
    server = servers["db17"]
    expected = content(servers["db13"])
    server.sql('DROP ROLE IF EXISTS "géo ""tribu""", lectrice')
    role = servers["db13"].sql(ROLE)
    secrets = ("canary-Zephyr", "PRIVATE KEY", role.split("|")[-1])
    Node("db13").destroy()

    wrong = restore("db17", "elpaso", "--tags=plan", **GONE, restore_repositories=[
        {"name": "vault", "repository": "sftp:vault@archive:/home/vault/db13", "password": "canary-Zephyr-wrong"}
    ])  # fmt: skip
    assert wrong.code != 0 and "canary" not in wrong.output

    seen, stop = [], threading.Event()

    def watch():
        while not stop.is_set():
            seen.append(server.host.check_output("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; true"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    stall = "until pkill --signal STOP --exact restic; do sleep 0.02; done"
    server.host.check_output("sudo systemd-run --quiet --collect --unit=stall sh -c %s", stall)
    try:
        playing = start_restore("db17", "elpaso", "-vvv", "--diff", **GONE, restore_target_database=HOSTILE,
                                restore_confirm=f"{HOSTILE}@db17")  # fmt: skip
        fetching = "Fetch the archive from the restic repository"
        playing.wait_for(f"db17: {fetching}, ")
        server.host.check_output("sudo pkill --signal CONT --exact restic")
        done = playing.end()
    finally:
        stop.set()
        watcher.join()
    assert done.code == 0, done.output
    begun, options = (
        next(when for when, line in playing.lines if words in line) for words in (f"TASK [{fetching}", f"{fetching}, ")
    )
    assert options - begun <= 60
    assert content(server, HOSTILE) == expected
    assert HOSTILE in databases(server)
    assert server.sql(ROLE) == role
    watched = "".join(seen)
    assert "pg_restore" in watched and "restic" in watched, "it was watched while it ran"
    journal = server.host.check_output("sudo journalctl --no-pager --boot; sudo cat /var/log/postgresql/*.log")
    left = server.host.check_output(
        "sudo grep -rlIE 'canar[y]-Zephyr|PRIVATE KE[Y]|PASSWORD .(md5|SCRAM)' /var/lib/postgresql/sauvegarde /var/log"
        " /tmp /var/tmp /home /root /run 2>/dev/null; true"
    )
    for secret in secrets:
        for where in (done.output, watched, journal):
            assert secret not in where
    assert left == ""


def test_the_list_says_who_cannot_be_asked(servers):
    done = play(playbook="playbooks/list.yml")
    assert "db13 could not be asked." in done.output, done.output
