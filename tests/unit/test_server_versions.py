"""The table of PostgreSQL's major versions."""

from pathlib import Path

import pytest
import yaml
from sauvegarde.postgres import server_versions

ROLE = Path(__file__).resolve().parents[2] / "roles/postgresql/vars/main/versions.yml"


def test_every_version_that_the_role_installs_has_an_entry():
    names = {server_versions.major(version.version_num) for version in server_versions.MAJOR_VERSIONS}
    installed = yaml.safe_load(ROLE.read_text(encoding="utf-8"))["__postgresql_version_table"]
    assert set(installed) <= names


def test_versions_and_formats_ascend():
    for part in ("version_num", "dump_format"):
        values = [getattr(version, part) for version in server_versions.MAJOR_VERSIONS]
        assert values == sorted(values)


@pytest.mark.parametrize(
    "version_num, dump_format, timeouts",
    [
        (0, (1, 13), []),
        (90600, (1, 13), ["idle_in_transaction_session_timeout"]),
        (130012, (1, 14), ["idle_in_transaction_session_timeout"]),
        (150018, (1, 14), ["idle_in_transaction_session_timeout", "idle_session_timeout"]),
        (170002, (1, 16), ["idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout"]),
        (250000, (1, 16), ["idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout"]),
    ],
)
def test_what_a_version_has(version_num, dump_format, timeouts):
    assert server_versions.dump_format(version_num) == dump_format
    assert server_versions.session_timeouts(version_num) == timeouts
