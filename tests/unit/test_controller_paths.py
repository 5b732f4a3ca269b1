"""Paths on the controller that users name are relative to where they stand, not to the playbooks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
NAMED = {"policy.yml": ("Write the draft", "policy_file"), "list.yml": ("Write the JSON", "list_file")}


def tasks(playbook):
    plays = yaml.safe_load((PLAYBOOKS / playbook).read_text(encoding="utf-8"))
    return {task["name"]: task for play in plays for task in play["tasks"]}


@pytest.mark.parametrize("playbook", NAMED)
def test_a_relative_path_is_relative_to_the_current_directory(playbook, tmp_path):
    name, variable = NAMED[playbook]
    task = dict(tasks(playbook)[name], vars={"policy_site": {"unclassified": {"a": 1}}, "list_entries": []})
    task.pop("delegate_to")
    folder, stands = tmp_path / "plays", tmp_path / "stands"
    folder.mkdir()
    (stands / "mine").mkdir(parents=True)
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}
    (folder / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    (folder / "ansible.cfg").write_text("", encoding="utf-8")
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(folder / "play.yml")]
    environment = dict(os.environ, PWD=str(stands), ANSIBLE_CONFIG=str(folder / "ansible.cfg"))
    run = subprocess.run(
        [*command, "-e", f"{variable}=mine/out ansible_python_interpreter={sys.executable}"],
        cwd=str(stands),
        env=environment,
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout.decode()
    assert (stands / "mine" / "out").is_file()
