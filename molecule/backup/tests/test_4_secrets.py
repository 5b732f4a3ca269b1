"""A canary password is nowhere but in the files that are for it: fault 19."""

import pytest

testinfra_hosts = ["ansible://backup"]
WATCHED = """
{launcher} run {job} & run=$!
while kill -0 $run 2>/dev/null; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; done
wait $run
"""
# The command that looks for it is in the journal as well, so it is written otherwise there.
CANARY = "canar[y]-Zephyr"


@pytest.mark.parametrize("job, tool", [("elpaso", "restic"), ("globals", "pg_dumpall")])
def test_in_no_process_list_while_a_job_runs(backups, job, tool):
    seen = backups.root(WATCHED.format(launcher=backups.launcher, job=job))
    assert tool in seen, "it was watched while it ran"
    assert "canary-Zephyr" not in seen


def test_in_no_file_but_its_own(backups):
    where = "/etc /home /root /run /srv /tmp /usr/local /var/backups /var/lib /var/log /var/spool /var/tmp"
    found = backups.root(f"grep -rlsa {CANARY} {where}; true").split()
    own = {"offsite/sauvegarde/vault.password", "passfiles/globals", "pings/elpaso"}
    if backups.name in ("db15", "db17"):
        own.add("offsite/sauvegarde/vault.json")  # its address has the server's password in it
    assert set(found) == {f"/etc/sauvegarde/{name}" for name in own}


def test_in_no_archive(backups):
    archives = "find /var/backups/sauvegarde -name '*.zst' -exec zstd -dcq {} +"
    assert "PostgreSQL database cluster dump complete" in backups.root(archives + " | grep -a 'dump complete'")
    assert backups.root(f"{archives} | grep -ac {CANARY}; true") == "0"


def test_not_in_the_journal(backups):
    assert "job=elpaso" in backups.journal("-t sauvegarde")
    assert "canary-Zephyr" not in backups.journal("")
