"""Playbooks through ansible-runner: what is told on the way, and what comes back."""

import sys

import pytest
import yaml

from sauvegarde_cli.playbooks import play
from sauvegarde_cli.system import CommandFailed

LOCAL = {"all": {"hosts": {"here": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}}}


@pytest.fixture
def played(tmp_path):
    """Play tasks on this machine; returns (what came of it, what was told)."""

    def run(*tasks, **options):
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(LOCAL))
        (tmp_path / "play.yml").write_text(
            yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}])
        )
        told = []
        done = play(
            tmp_path / "play.yml", tmp_path / "hosts.yml", lambda kind, text: told.append((kind, text)), **options
        )
        return done, told

    return run


def test_tasks_are_told_and_their_results_come_back(played):
    done, told = played(
        {"name": "Say it", "debug": {"msg": "{{ word }}"}, "changed_when": True},
        {"name": "Left out", "debug": {"msg": "no"}, "when": False},
        variables={"word": "bonjour"},
    )
    assert done.result("Say it")["msg"] == done.result("Say it", "here")["msg"] == "bonjour"
    assert done.changed == {"here": 1}
    assert not done.unreachable
    assert ("task", "Say it") in told


def test_what_failed_is_told_in_its_own_words(played):
    with pytest.raises(CommandFailed) as failure:
        played(
            {"name": "Passes over", "fail": {"msg": "ignored"}, "ignore_errors": True},
            {"name": "Stop here", "fail": {"msg": "{{ item }} is wrong"}, "loop": ["this", "that"]},
        )
    assert failure.value.why == "here, Stop here: this is wrong\nthat is wrong"


def test_a_playbook_that_cannot_be_read_is_a_failure(played):
    with pytest.raises(CommandFailed) as failure:
        played({"name": "Nothing", "no_such_module": {}})
    assert "no_such_module" in failure.value.why
