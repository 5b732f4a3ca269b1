"""A host as earlier versions of the roles left it: site.yml takes over what was theirs, and leaves nothing behind."""

import json

import pytest
from conftest import AS_OPS
from tests_support.hosts import play

METRICS = "/var/lib/prometheus/node-exporter/sauvegarde_shop.prom"
ENGINES = "/usr/local/lib/sauvegarde"
EARLIER_ENGINE, OLD_ENGINE = "engine-0123456789abcdef", "engine-fedcba9876543210"
# Settings were the job's user's, repositories lay in a folder of each user, cron started jobs as their users, and the
# metrics were in node_exporter's own folder.
EARLIER = f"""
set -e
runuser -u odile -- sh -c 'cat /var/lib/sauvegarde/shop/state.json' > /tmp/state.json
rm {METRICS}; echo 'sauvegarde_backup_last_success 1' > {METRICS}; chown odile {METRICS}
rm -r /var/lib/sauvegarde/.metrics
chown odile /etc/sauvegarde/jobs/shop.json; chmod 0640 /etc/sauvegarde/jobs/shop.json
sed -i 's/"timeout": [0-9]*/"timeout": 0/' /etc/sauvegarde/jobs/shop.json
install -d -m 0711 /etc/sauvegarde/offsite /etc/sauvegarde/offsite/odile
install -m 0600 -o odile /dev/stdin /etc/sauvegarde/offsite/odile/vault.json <<< '{{"password": "canary-Zephyr-old"}}'
install -d -m 0700 -o odile /var/lib/sauvegarde/gone
echo '{{}}' > /var/lib/sauvegarde/gone/state.json; touch /var/lib/sauvegarde/gone/lock
echo '{{"kind": "pg_dump"}}' > /etc/sauvegarde/jobs/gone.json
printf '%s\\n' 'MAILTO=""' '0 0 29 2 * odile exec /usr/bin/python3 -I /usr/local/lib/sauvegarde/run run shop' \\
  > /etc/cron.d/sauvegarde
cd {ENGINES}
today=$(sed -n 's/.*\\(engine-[0-9a-f]*\\).*/\\1/p' run)
mv "$today" {EARLIER_ENGINE}
sed -i "s/$today/{EARLIER_ENGINE}/" run
cp -r {EARLIER_ENGINE} {OLD_ENGINE}
"""


@pytest.fixture(scope="module")
def upgraded(servers):
    """(the host, the archives that it had, the runs of site.yml)"""
    host = servers["legacy"].host
    run = "sudo /usr/bin/python3 -I /usr/local/lib/sauvegarde/run"
    host.check_output(f"{run} run shop")
    had = host.check_output("sudo ls /var/backups/sauvegarde/shop").split()
    host.check_output("sudo bash -c %s", EARLIER)
    runs = [play("--limit=legacy", variables=AS_OPS) for _ in range(2)]
    host.check_output(f"{run} run shop")
    return host, had, runs


def test_the_second_run_changes_nothing(upgraded):
    _, _, (first, second) = upgraded
    assert first.code == 0, first.output
    assert second.code == 0 and second.changed() == {"legacy": 0}, second.output
    assert "canary-" not in first.output + second.output


def test_archives_and_state_are_kept(upgraded):
    host, had, _ = upgraded
    existing = host.check_output("sudo ls /var/backups/sauvegarde/shop").split()
    assert had[-1] in existing and existing[-1] not in had, "retention may remove older ones"
    was = json.loads(host.check_output("sudo cat /tmp/state.json"))
    now = json.loads(host.check_output("sudo cat /var/lib/sauvegarde/shop/state.json"))
    assert set(was) <= set(now)
    listed = host.check_output("sudo /usr/bin/python3 -I /usr/local/lib/sauvegarde/run list")
    assert all(identifier in listed for identifier in existing)


def test_settings_are_roots_alone(upgraded):
    host = upgraded[0]
    result = host.check_output("sudo find /etc/sauvegarde -type f -printf '%u %m %P\\n'").splitlines()
    assert sorted(result) == ["root 600 jobs/globals.json", "root 600 jobs/shop.json"]
    assert '"timeout": 0' not in host.check_output("sudo cat /etc/sauvegarde/jobs/shop.json")
    lines = host.check_output("cat /etc/cron.d/sauvegarde").splitlines()
    assert [line.split()[5] for line in lines if line.startswith("0 0 29")] == ["root", "root"]


def test_nothing_is_left_of_what_was(upgraded):
    host = upgraded[0]
    assert host.check_output("readlink %s", METRICS) == "/var/lib/sauvegarde/.metrics/shop/sauvegarde_shop.prom"
    for path in ("/var/lib/sauvegarde/gone", f"{ENGINES}/{OLD_ENGINE}"):
        assert not host.file(path).exists, path


def test_todays_engine_starts_and_the_one_before_it_stays_for_what_runs(upgraded):
    host = upgraded[0]
    launcher = host.check_output("cat %s", f"{ENGINES}/run")
    assert "engine-" in launcher and EARLIER_ENGINE not in launcher
    assert host.file(f"{ENGINES}/{EARLIER_ENGINE}").is_directory
