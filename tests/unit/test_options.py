"""The options of the playbooks are checked before a playbook does anything."""

import subprocess
import sys

import pytest
import yaml
from ansible.plugins.loader import action_loader

from sauvegarde_cli.system import ROOT

action_loader.add_directory(str(ROOT / "plugins/action"))
Plugin = action_loader.get("sauvegarde_options", class_only=True)
plugin = sys.modules[Plugin.__module__]
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks/options").glob("*.yml"))


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_playbook_checks_its_options_first(name):
    plays = yaml.safe_load((ROOT / f"playbooks/{name}.yml").read_text())
    if "ansible.builtin.import_playbook" in plays[0]:
        pytest.skip("the playbooks that it consists of check theirs")
    assert plays[0]["tasks"][0]["sauvegarde_options"] == {"playbook": name}


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_declarations_are_argument_specs(name):
    options = plugin.playbook_options(name)
    for option in options.values():
        assert set(option) <= {"description", "type", "elements", "choices", "default", "required", "no_log"}
        assert option["type"] and option["description"]
    required = {key for key, option in options.items() if option.get("required")}
    assert plugin.wrong_values({}, options) == [f"{key} is required." for key in options if key in required]


def test_an_unknown_option_is_refused_with_the_one_that_is_meant():
    options = plugin.playbook_options("restore")
    assert list(plugin.unknown_names({"restore_databse", "restore_zzz", "my_own", "restore_point"}, options)) == [
        "There is no option restore_databse. Is it restore_database?",
        "There is no option restore_zzz.",
    ]
    # Variables of the roles are no options, but known.
    assert list(plugin.unknown_names({"backup_jobs", "backup_jbos"}, plugin.playbook_options("backup"))) == [
        "There is no option backup_jbos."
    ]


@pytest.mark.parametrize(
    "name, value",
    [
        ("restore_jobs", "many"),
        ("restore_mode", "besides"),
        ("restore_accept_losses", {"VIEW": "v"}),
        ("restore_connection", "5433"),
        ("restore_database", ["elpaso"]),
        ("restore_file", {"path": "/x"}),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name, value):
    options = plugin.playbook_options("restore")
    values = {"restore_target": "db", "restore_database": "elpaso", name: value}
    (sentence,) = plugin.wrong_values(values, options)
    assert name in sentence


def test_a_secret_is_not_quoted():
    options = plugin.playbook_options("restore")
    values = {"restore_target": "db", "restore_database": "x", "restore_repositories": ["canary"]}
    assert plugin.wrong_values(values, options) == ["restore_repositories is no list."]


@pytest.mark.parametrize(
    "values",
    [
        {"restore_jobs": "4", "restore_accept_losses": ["VIEW v"], "restore_connection": '{"port": 5433}'},
        {"restore_accept_losses": "VIEW v", "restore_connection": {"port": 5433}, "restore_mode": "beside"},
        {"restore_checks": [{"argv": ["true"]}], "restore_repositories": [{"name": "vault"}]},
    ],
)
def test_values_as_they_are_typed_are_taken(values):
    options = plugin.playbook_options("restore")
    assert plugin.wrong_values({"restore_target": "db", "restore_database": "x", **values}, options) == []


def test_a_playbook_stops_at_once_and_names_every_wrong_option(tmp_path):
    (tmp_path / "hosts").write_text("[postgresql]\ndb restore_chekcs='[]'\n")
    command = ["ansible-playbook", "-i", str(tmp_path / "hosts"), "playbooks/cleanup.yml"]
    wrong = ["-e", "restore_target=db", "-e", "restore_kpet=x", "-e", "restore_point=latest"]
    ended = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", *command[1:], *wrong],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = " ".join(ended.stdout.split())
    assert ended.returncode != 0, ended.stdout
    assert "There is no option restore_kpet. Is it restore_kept?" in output, ended.stdout
    assert "restore_database is required." in output and "TASK [Check the target" not in output
