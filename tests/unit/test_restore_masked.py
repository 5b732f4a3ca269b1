"""A restore brings personal data to a host of development only where that is said."""

import sys
from pathlib import Path

import pytest
import yaml

from sauvegarde_cli.playbooks import play
from sauvegarde_cli.system import CommandFailed

TOP = Path(__file__).parents[2]
HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
INVENTORY = {
    "all": {"vars": HERE},
    "production": {"hosts": {"prod": None}},
    "development": {"hosts": {"dev": None, "dev2": None, "moved": {"sauvegarde_environment": "production"}}},
    "ungrouped": {
        "hosts": {
            "named": {"sauvegarde_environment": "development"},
            "staging": {"sauvegarde_environment": "staging"},
            "plain": None,
        }
    },
}
UNMASKED = {"restore_personal_data": "unmasked"}


@pytest.mark.parametrize(
    "target, asked, refused",
    [
        ("dev", {"restore_source_host": "prod"}, True),
        ("named", {"restore_source_host": "prod"}, True),
        ("staging", {"restore_source_host": "prod"}, True),
        ("staging", {"restore_file": "/srv/old.dump"}, True),
        ("dev", {"restore_source_host": "staging"}, False),
        ("plain,dev", {"restore_source_host": "plain"}, True),
        ("dev", {"restore_repository": "vault", "restore_of_host": "gone"}, True),
        ("dev", {"restore_file": "/srv/old.dump"}, True),
        ("dev", dict(UNMASKED, restore_source_host="prod"), False),
        ("dev", {"restore_source_host": "prod", "restore_personal_data": "yes"}, True),
        ("dev", {"restore_source_host": "dev2"}, False),
        ("dev", {"restore_source_host": "moved"}, True),
        ("plain", {"restore_source_host": "prod"}, False),
        ("moved", {"restore_file": "/srv/old.dump"}, False),
    ],
)
def test_personal_data_reach_development_only_where_that_is_stated(tmp_path, target, asked, refused):
    first = yaml.safe_load((TOP / "playbooks" / "restore.yml").read_text(encoding="utf-8"))[0]
    (tmp_path / "first.yml").write_text(yaml.safe_dump([first]))
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(INVENTORY))
    variables = dict(asked, restore_target=target, restore_database="cap")
    run = lambda: play(  # noqa: E731 - once with, once without a failure
        tmp_path / "first.yml", tmp_path / "hosts.yml", lambda kind, text: None, variables=variables
    )
    if not refused:
        run()
        return
    with pytest.raises(CommandFailed) as caught:
        run()
    assert "A restore masks nothing" in caught.value.why and "restore_personal_data='unmasked'" in caught.value.why
