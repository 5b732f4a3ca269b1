"""One rule for what counts as production, in the engine and in the playbooks."""

import sys
from pathlib import Path

import pytest
import yaml
from sauvegarde.restore.host_environment import host_environment

from sauvegarde_cli.playbooks import play

TOP = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "stated, groups, environment",
    [
        ("", [], ""),
        ("", ["ungrouped", "backup"], ""),
        ("", ["production"], "production"),
        ("", ["development", "production"], "production"),
        ("", ["repository"], "repository"),
        ("", ["development"], "development"),
        ("staging", ["production"], "staging"),
        ("production", ["development"], "production"),
    ],
)
def test_the_variable_counts_else_the_group(stated, groups, environment):
    assert host_environment(stated, groups) == environment


def environments(task, variables):
    """The values of environment_of_host and the like in a module's arguments, as a playbook writes them."""
    names = ("environment_of_host", "target_environment", "environment_of_source", "migrate_environment")
    return {name: variables.get(name, task.get(name)) for name in names if name in variables or name in task}


def mappings(value):
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from mappings(part)


@pytest.mark.parametrize("name", ["restore", "rollback", "migrate"])
def test_the_playbooks_ask_the_same_rule(name):
    playbook = yaml.safe_load((TOP / "playbooks" / f"{name}.yml").read_text(encoding="utf-8"))
    collected = [value for mapping in mappings(playbook) for value in environments(mapping, {}).values()]
    assert collected, "it says the environment somewhere"
    others = [
        text for text in collected if "| sauvegarde_environment" not in text and text != "{{ migrate_environment }}"
    ]
    assert others == [], "an environment that is not named by the rule"


def test_members_of_the_group_production_are_production_in_a_play(tmp_path):
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {
        "all": {"vars": here},
        "production": {"hosts": {"prod": None, "moved": {"sauvegarde_environment": "staging"}}},
        "other": {"hosts": {"plain": None, "named": {"sauvegarde_environment": "production"}}},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    task = {"name": "Say it", "debug": {"msg": "{{ hostvars[inventory_hostname] | sauvegarde_environment }}"}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    done = play(tmp_path / "play.yml", tmp_path / "hosts.yml", lambda kind, text: None)
    options = {host: done.result("Say it", host)["msg"] for host in ("prod", "moved", "plain", "named")}
    assert options == {"prod": "production", "moved": "staging", "plain": "", "named": "production"}
