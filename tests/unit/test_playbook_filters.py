"""What the playbooks leave to filters: command lines, repositories, checks of a site, personal data."""

import json
import runpy
import shlex

import pytest
from ansible.errors import AnsibleFilterError

from sauvegarde_cli.system import ROOT


def plugin(name):
    return runpy.run_path(str(ROOT / f"plugins/filter/{name}.py"), run_name=name)


def test_the_way_back_can_be_pasted_into_a_shell():
    options = {
        "restore_target": "db-prod",
        "restore_database": "-l'Été $(id)",
        "restore_confirm": "elpaso@db-prod",
        "restore_production": "overwrite production",
        "restore_user": "",
        "restore_connection": {"port": 5433},
        "restore_directory": "/var/lib/postgresql/sauvegarde",
    }
    line = plugin("sauvegarde_way_back")["way_back"](options)
    assert line.startswith("Back:   ansible-playbook playbooks/rollback.yml -e restore_target=db-prod ")
    assert "-e \"restore_production='overwrite production'\"" in line
    words = shlex.split(line)[3:]
    assert words[::2] == ["-e"] * 5
    assert words[1::2] == [
        "restore_target=db-prod",
        json.dumps({"restore_database": "-l'Été $(id)"}, ensure_ascii=False),
        "restore_confirm=elpaso@db-prod",
        "restore_production='overwrite production'",
        '{"restore_connection": {"port": 5433}}',
    ]


def test_a_repository_is_parted_from_its_secrets():
    repository = plugin("sauvegarde_repository")["repository"]
    vault = {"name": "vault", "repository": "sftp:v", "password": "p", "ssh_key": "k", "forget": False}
    parts = repository([vault, {"name": "attic"}], "vault")
    assert parts["secrets"] == {"password": "p", "ssh_key": "k"}
    assert parts["settings"] == {"name": "vault", "repository": "sftp:v", "forget": False}
    with pytest.raises(AnsibleFilterError, match="no repository valt"):
        repository([vault, {"name": "attic"}], "valt")


def test_the_checks_of_a_site_get_the_name_of_the_side_database():
    site_checks = plugin("sauvegarde_site_checks")["site_checks"]
    check = {"argv": ["psql", "-d", "{database}"], "environment": {"URL": "postgis:///{database}"}}
    complete = {"argv": ["psql", "-d", "side"], "environment": {"URL": "postgis:///side"}, "chdir": "/"}
    assert site_checks([check], "side", "postgres") == [{**complete, "user": "postgres"}]
    assert site_checks([{**check, "user": "site", "chdir": "/srv"}], "side")[0]["user"] == "site"
    assert site_checks([["true", "{database}"]], "side")[0]["argv"] == ["true", "side"]


@pytest.mark.parametrize(
    "targets, origin, is_refused",
    [
        (["prod"], "", False),
        (["vault"], "prod", False),
        (["plain"], "prod", False),
        (["dev"], "prod", True),
        (["dev"], "", True),
        (["dev"], "unknown", True),
        (["dev"], "staging", False),
        (["prod", "dev"], "prod", True),
    ],
)
def test_personal_data_stay_on_hosts_that_may_have_them(targets, origin, is_refused):
    hostvars = {
        "prod": {"group_names": ["production"]},
        "vault": {"group_names": ["repository"]},
        "plain": {"group_names": []},
        "dev": {"group_names": ["development"]},
        "staging": {"group_names": [], "sauvegarde_environment": "staging"},
    }
    refusal = plugin("sauvegarde_personal_data")["refusal"](hostvars, targets, origin)
    assert bool(refusal) is is_refused
    assert not is_refused or ("development" in refusal and "unmasked" in refusal)


def test_a_migration_is_described():
    text = plugin("sauvegarde_migration_text")
    run = {"proof": {"rows": 5, "models": {"a.B": {}}}, "seconds": 2, "report": "/r", "safety": "", "side": "a side",
           "masked": True, "keeper": "postgres", "database": "shop"}  # fmt: skip
    assert text["lines"](run, {"kept": "shop__before_1"}, "dev") == [
        "Proven: 5 rows of 1 models, in 2 s",
        "Report: /r on dev",
        "Before: nothing was live (archive), shop__before_1 (kept)",
    ]
    failed = text["failed_check"](run, "It failed.")
    assert "as postgres: dropdb 'a side'" in failed and "\nmasked.\n" in failed
