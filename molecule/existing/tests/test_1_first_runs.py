"""site.yml on hosts that others set up: checked, run, run again; what was theirs works, and is as it was."""

import pytest
from conftest import AS_OPS
from tests_support.hosts import host_state, play

# What of others must stay, whatever runs: accounts, sudo, cron's daemon and its files, their metrics and folders.
THEIRS = r"""
getent passwd | grep -v "^sauvegarde:"
for user in odile postgres archivist ops admin; do id "$user" 2>/dev/null || true; done
dpkg-query --show --showformat '${Package} ${Status}\n' '*cron*' 'exim*' 2>/dev/null || true
cat /etc/cron.d/theirs /var/lib/prometheus/node-exporter/theirs.prom 2>/dev/null || true
stat -c '%n %U %G %a' /home/* /srv /srv/nas /srv/nas/archives /var/lib/prometheus/node-exporter 2>/dev/null || true
"""


def theirs(host):
    return host.check_output("sudo sh -c %s", THEIRS).splitlines()


@pytest.fixture(scope="module")
def runs(servers):
    """What came of --check --diff, the first and the second run, with the hosts' states between them."""
    states = {}
    for name, server in servers.items():
        states[name] = {"before": host_state(server.host), "theirs": theirs(server.host)}
    scram = [{"type": "host", "database": "all", "user": "all", "address": "127.0.0.1/32", "method": "scram-sha-256"}]
    refused = play("--limit=legacy", variables={**AS_OPS, "postgresql_hba_entries": scram})
    check = play("--check", "--diff", variables=AS_OPS)
    for name, server in servers.items():
        states[name]["checked"] = host_state(server.host)
    first, second = play(variables=AS_OPS), play(variables=AS_OPS)
    for name, server in servers.items():
        states[name]["theirs after"] = theirs(server.host)
    return {"refused": refused, "check": check, "first": first, "second": second, "states": states}


def test_rules_that_would_lock_out_roles_with_md5_are_refused(runs):
    refused = runs["refused"]
    assert refused.code == 2 and refused.changed() == {"legacy": 0}, refused.output
    assert "reporting, shop could not log in any more" in refused.text


def test_a_check_predicts_and_changes_nothing(runs):
    check = runs["check"]
    assert check.code == 0, check.output
    for words in (
        "legacy would get acl, python3-psycopg2",
        "/etc/postgresql/15/main/pg_hba.conf.before-sauvegarde keeps it as it is now",
        "would be asked for peer: local all all md5",
        "would end: host shop reporting 192.0.2.0 255.255.255.0 md5",
        "some are stored as md5",
        "-# Kept by hand since 2014. Ask Odile before changing anything.",
        "legacy would get the roles mouette, odile",
        "standby is a streaming replica",
    ):
        assert words in check.text, check.output
    for state in runs["states"].values():
        assert sorted(set(state["before"]) ^ set(state["checked"])) == []
    assert "canary-" not in check.output


def test_the_second_run_changes_nothing(runs):
    assert runs["first"].code == 0, runs["first"].output
    assert 0 not in runs["first"].changed().values()
    assert runs["second"].code == 0, runs["second"].output
    assert runs["second"].changed() == {"legacy": 0, "standby": 0}, runs["second"].output
    assert "canary-" not in runs["first"].output + runs["second"].output


def test_accounts_packages_and_folders_of_others_are_as_they_were(runs):
    for state in runs["states"].values():
        assert sorted(set(state["theirs"]) - set(state["theirs after"])) == []


@pytest.mark.usefixtures("runs")
def test_logins_that_worked_go_on_working(servers):
    legacy = servers["legacy"]
    for role, password in (("shop", "canary-Zephyr-shop"), ("reporting", "canary-Zephyr-report")):
        login = legacy.login(role, password, "shop", "SELECT count(*) FROM orders")
        assert (login.rc, login.stdout.strip()) == (0, "100"), login.stderr
    assert legacy.login("mouette", "canary-Zephyr-🦆", "postgres").rc == 0
    # Passwords stay as they were stored; a setting of a DBA's that nobody describes stays in force.
    stored = legacy.sql(
        "SELECT rolname, left(rolpassword, 3), rolcreatedb FROM pg_authid WHERE rolpassword IS NOT NULL ORDER BY 1"
    )
    assert stored.splitlines() == ["mouette|SCR|f", "reporting|md5|f", "shop|md5|t"]
    assert legacy.sql("SHOW log_min_duration_statement") == "500ms"
    assert legacy.sql("SHOW maintenance_work_mem") == "96MB"
    kept = legacy.host.check_output("sudo cat /etc/postgresql/15/main/pg_hba.conf.before-sauvegarde")
    assert kept.startswith("# Kept by hand since 2014.")


@pytest.mark.usefixtures("runs")
def test_a_replica_gets_settings_and_stays_one(servers):
    standby = servers["standby"]
    assert standby.sql("SELECT pg_is_in_recovery(), current_setting('maintenance_work_mem')") == "t|96MB"
    standby.host.check_output(
        "cd / && sudo -u postgres psql -Xq -p 5433 -d shop -c 'CREATE TABLE IF NOT EXISTS later ()'"
    )
    standby.host.check_output(
        "cd /; for _ in $(seq 500); do sudo -u postgres psql -d shop -c 'TABLE later' && exit; sleep 0.2; done; exit 1"
    )


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("name", "job", "folder", "owner"),
    [
        ("legacy", "shop", "/var/backups/sauvegarde", "odile"),
        ("legacy", "globals", "/var/backups/sauvegarde", "postgres"),
        ("standby", "shop", "/mnt/nas/archives", "archivist"),
    ],
)
def test_jobs_run_as_accounts_of_others(servers, name, job, folder, owner):
    host = servers[name].host
    done = host.run(f"sudo sauvegarde run {job}")
    assert (done.rc, done.stdout + done.stderr) == (0, "")
    assert host.check_output(f"sudo stat -c '%U %a' {folder}/{job}") == f"{owner} 700"
    assert host.check_output(f"sudo ls {folder}/{job} | wc -l") != "0"
    metrics = host.check_output(f"cat /var/lib/prometheus/node-exporter/sauvegarde_{job}.prom")
    assert "sauvegarde_backup_last_run_success" in metrics and " 1\n" in metrics + "\n"


@pytest.mark.usefixtures("runs")
def test_the_cron_daemon_that_is_there_starts_them(servers):
    # systemd-cron makes a timer of each line.
    timers = servers["legacy"].host.check_output("systemctl list-timers --all --no-legend").splitlines()
    assert sum("cron-sauvegarde-" in line for line in timers) == 2
    assert sum("cron-theirs-" in line for line in timers) == 1
