"""A canary password is nowhere but in the files that are for it: fault 19."""

import pytest
from conftest import wait

testinfra_hosts = ["ansible://backup"]
WATCHED = """
{command} run {job} & run=$!
while kill -0 $run 2>/dev/null; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; done
wait $run
"""
SETTINGS, FORGOTTEN = "/etc/sauvegarde/offsite/vault.json", "/etc/sauvegarde/forget/db15.json"
# Stopped first: what it was given stays as long as restic does.
KILLED = """
{command} run elpaso 2>/dev/null & run=$!
until pid=$(pgrep -u sauvegarde -x restic | head -n 1); test -n "$pid" && kill -STOP $pid &&
    grep -q '^State:.T' /proc/$pid/status && {lying} | grep -q password
do kill -0 $run || exit 9; test -z "$pid" || kill -CONT $pid; done 2>/dev/null
kill -9 $run; wait $run 2>/dev/null
{lying}
"""
# The command that looks for it is in the journal as well, so it is written otherwise there.
CANARY = "canar[y]-Zephyr"


@pytest.mark.parametrize("job, tool", [("elpaso", "restic"), ("globals", "pg_dumpall")])
def test_in_no_process_list_while_a_job_runs(backups, job, tool):
    seen = backups.root(WATCHED.format(command=backups.command, job=job))
    assert tool in seen, "it was watched while it ran"
    assert "canary-Zephyr" not in seen


def test_in_no_file_but_its_own(backups):
    where = "/etc /home /root /run /srv /tmp /usr/local /var/backups /var/cache /var/lib /var/log /var/spool /var/tmp"
    result = backups.root(f"grep -rlsa {CANARY} {where}; true").split()
    own = {"offsite/vault.json", "passfiles/globals", "pings/elpaso"}
    assert set(result) == {f"/etc/sauvegarde/{name}" for name in own}


def test_what_opens_a_repository_is_root_s_alone(backups):
    output = backups.root(f"stat -c '%U:%G %a' /etc/sauvegarde/offsite {SETTINGS}; ls /etc/sauvegarde/offsite")
    assert output.split("\n") == ["root:root 700", "root:root 600", "vault.json"]
    refused = backups.host.run(f"sudo -u sauvegarde cat {SETTINGS}")
    assert refused.rc != 0 and "Permission denied" in refused.stderr


def test_so_it_is_on_the_repository_s_own_host(repository_host):
    vault = repository_host.host
    output = vault.check_output(f"sudo stat -c '%U:%G %a' /etc/sauvegarde/forget {FORGOTTEN}")
    assert output.split("\n") == ["root:root 700", "root:root 600"]
    refused = vault.run(f"sudo -u restic-rest-server cat {FORGOTTEN}")
    assert refused.rc != 0 and "Permission denied" in refused.stderr


def test_settings_are_root_s_alone(backups):
    """Who could change what root does would be root. What libpq reads itself is the job's user's."""
    output = backups.root("cd /etc/sauvegarde; stat -c '%n %U %a' jobs jobs/* pings pings/* passfiles/globals")
    assert output.split("\n") == [
        "jobs root 711",
        "jobs/elpaso.json root 600",
        "jobs/globals.json root 600",
        "pings root 700",
        "pings/elpaso root 600",
        "passfiles/globals sauvegarde 600",
    ]


def test_the_job_s_user_is_sent_to_root(everyone):
    one = everyone["db17"]
    before = one.labels()
    for words in ("run elpaso", "prune elpaso", "verify elpaso", "list"):
        refused = one.host.run(f"sudo -u sauvegarde {one.command} {words}")
        assert refused.rc == 1 and refused.stdout == "", refused.stdout
        assert "Permission denied" in refused.stderr and "Fix: Run it as root" in refused.stderr, refused.stderr
    assert one.labels() == before


def test_what_a_killed_run_leaves_is_removed_by_the_next(everyone):
    """Killed with all that it has started, while restic runs: till then it lies in memory, for the job's user alone."""
    one = everyone["db13"]
    lying = "find /run/sauvegarde -mindepth 2 -printf '%u %m %f\\n'"
    assert one.root(lying) == "", "whatever has run before"
    seen = [line.split() for line in one.root(KILLED.format(command=one.command, lying=lying)).splitlines()]
    assert {(owner, mode) for owner, mode, _ in seen} == {("sauvegarde", "600"), ("sauvegarde", "700")}
    assert {name for _, mode, name in seen if mode == "600"} == {"password", "ssh_key", "ssh_known_hosts"}
    output = one.root("stat -f -c %T /run/sauvegarde/elpaso; stat -c '%U %a' /run/sauvegarde/elpaso")
    assert output.split("\n") == ["tmpfs", "sauvegarde 700"]
    # What is slow to die still holds the lock.
    wait(lambda: one.run("run", "elpaso").rc == 0)
    assert one.root(lying) == ""


def test_in_no_archive(backups):
    archives = "find /var/backups/sauvegarde -name '*.zst' -exec zstd -dcq {} +"
    assert "PostgreSQL database cluster dump complete" in backups.root(archives + " | grep -a 'dump complete'")
    assert backups.root(f"{archives} | grep -ac {CANARY}; true") == "0"


def test_not_in_the_journal(backups):
    assert "job=elpaso" in backups.journal("-t sauvegarde")
    assert "canary-Zephyr" not in backups.journal("")
