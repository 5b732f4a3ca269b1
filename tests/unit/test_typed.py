"""The filter that gives a role's variables the types of its argument_specs."""

import runpy

import pytest
from ansible.errors import AnsibleFilterError

from sauvegarde_cli.system import ROOT

ROLE = ROOT / "roles/backup"


@pytest.fixture(scope="module")
def typed():
    return runpy.run_path(str(ROOT / "plugins/filter/sauvegarde_typed.py"))["typed"]


@pytest.mark.parametrize(
    ("word", "value"),
    [("true", True), ("yes", True), ("on", True), ("1", True), ("no", False), ("False", False), ("off", False)],
)
def test_booleans_are_what_ansible_users_type(typed, word, value):
    job = {"name": "x", "allow_failure": word, "repository": {"path": "/x", "push": word}, "dumpdata": {"all": word}}
    (result,) = typed([job], "backup_jobs", ROLE)
    assert (result["allow_failure"], result["repository"]["push"], result["dumpdata"]["all"]) == (value, value, value)


def test_integers_of_templates_are_integers_and_texts_stay_texts(typed):
    job = {
        "name": "7",
        "timeout": "3600",
        "retention": {"daily": "7"},
        "connection": {"port": "5433", "password": "12"},
    }
    (result,) = typed([job], "backup_jobs", ROLE)
    assert result == {
        "name": "7",
        "timeout": 3600,
        "retention": {"daily": 7},
        "connection": {"port": 5433, "password": "12"},
    }
    assert typed({"daily": "7", "minimum": 1}, "backup_retention", ROLE) == {"daily": 7, "minimum": 1}


def test_what_is_neither_is_named(typed):
    with pytest.raises(AnsibleFilterError, match=r"backup_jobs.*perhaps"):
        typed([{"name": "x", "allow_failure": "perhaps"}], "backup_jobs", ROLE)
