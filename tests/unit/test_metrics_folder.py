"""What the role backup changes in node_exporter's folder, and whom it warns of: its tasks, on this machine."""

import getpass
import sys

import pytest
import yaml

from sauvegarde_cli.playbooks import play
from sauvegarde_cli.system import ROOT

ROLE = ROOT / "roles/backup"
TASKS = (
    "Configure | Find metrics of earlier versions",
    "Configure | Copy metrics of earlier versions",
    "Configure | Create the files of metrics",
    "Configure | Link the metrics into node_exporter's folder",
    "Configure | Find files of jobs that are not in the inventory",
    "Configure | Find metrics in the folder of node_exporter",
    "Configure | Remove files of jobs that are not in the inventory",
)
ACCOUNTS = {
    "odile": ["x", "1000", "1000", "", "/var/lib/sauvegarde", "/usr/sbin/nologin"],
    "www-data": ["x", "33", "33", "www-data", "/var/lib/sauvegarde", "/usr/sbin/nologin"],
    "made": ["x", "998", "998", "", "/var/lib/sauvegarde", "/usr/sbin/nologin"],
    "sauvegarde": ["x", "999", "999", "", "/var/lib/sauvegarde", "/usr/sbin/nologin"],
    "other": ["x", "1001", "1001", "", "/home/other", "/usr/sbin/nologin"],
    "shell": ["x", "1002", "1002", "", "/var/lib/sauvegarde", "/bin/bash"],
    "missing": None,
}


@pytest.fixture(scope="module")
def converged(tmp_path_factory):
    """(node_exporter's folder, the role's folders, what is said of accounts)."""
    folder = tmp_path_factory.mktemp("metrics")
    exporter, etc, own = folder / "exporter", folder / "etc", folder / "metrics"
    for each in (exporter / "below", etc / "jobs", own / "site", own / "fresh", own / "former_link"):
        each.mkdir(parents=True)
    for name in ("site", "former", "former_link", "fresh"):
        (etc / "jobs" / f"{name}.json").write_text("{}")
    for name in ("site", "former", "stranger"):
        (exporter / f"sauvegarde_{name}.prom").write_text(f"{name} 1\n")
    (exporter / "below/sauvegarde_former.prom").write_text("theirs")
    (exporter / "sauvegarde_former_link.prom").symlink_to(own / "former_link/sauvegarde_former_link.prom")
    (exporter / "sauvegarde_elsewhere.prom").symlink_to(folder / "elsewhere")
    tasks = {each["name"]: each for each in yaml.safe_load((ROLE / "tasks/configure.yml").read_text())}
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    jobs = [{"name": name, "user": getpass.getuser()} for name in ("site", "fresh")]
    described = {
        "backup_jobs": jobs,
        "backup_metrics_directory": str(exporter),
        "backup_user": getpass.getuser(),
        "__backup_jobs": jobs,
        "__backup_etc": str(etc),
        "__backup_metrics": str(own),
        "__backup_settings": [{"path": str(etc / f"jobs/{each['name']}.json")} for each in jobs],
        "__backup_secrets": [],
        "__backup_private": [{"path": str(own / each["name"])} for each in jobs],
        "__backup_accounts": {
            "results": [{"ansible_facts": {"getent_passwd": {name: each}}} for name, each in ACCOUNTS.items()]
        },
        **{name: variables[name] for name in ("__backup_former_metrics", "__backup_moved_users")},
        "__backup_state": "/var/lib/sauvegarde",
    }
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"here": host}}}))
    show = {"name": "Show", "debug": {"msg": "{{ __backup_moved_users }}"}}
    (folder / "play.yml").write_text(
        yaml.safe_dump(
            [{"hosts": "all", "gather_facts": False, "vars": described, "tasks": [*map(tasks.get, TASKS), show]}]
        )
    )
    done = play(folder / "play.yml", folder / "hosts.yml", lambda *_: None)
    return exporter, own, done.result("Show")["msg"]


def test_metrics_of_earlier_versions_hold_until_the_next_run(converged):
    exporter, own, _ = converged
    assert (exporter / "sauvegarde_site.prom").read_text() == "site 1\n"
    assert (exporter / "sauvegarde_site.prom").resolve() == own / "site/sauvegarde_site.prom"
    assert (exporter / "sauvegarde_fresh.prom").read_text() == ""


def test_only_metrics_of_former_jobs_are_removed(converged):
    exporter, own, _ = converged
    assert sorted(path.name for path in exporter.iterdir()) == [
        "below",
        "sauvegarde_elsewhere.prom",
        "sauvegarde_fresh.prom",
        "sauvegarde_site.prom",
        "sauvegarde_stranger.prom",
    ]
    assert (exporter / "below/sauvegarde_former.prom").read_text() == "theirs"
    assert sorted(path.name for path in own.iterdir()) == ["fresh", "site"]


def test_accounts_that_an_earlier_version_may_have_changed_are_named(converged):
    assert converged[2] == ["odile", "www-data"]
