"""The table of PostgreSQL's major versions."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import client_tools, server_versions
from sauvegarde.restore import target_checks
from sauvegarde.restore.findings import Findings

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


@pytest.mark.parametrize(
    "client, server, dumps",
    [
        (140020, 80000, True),
        (150018, 90126, False),
        (150018, 90200, True),
        (190000, 90624, True),
        (200000, 90624, False),
        (200000, 100023, True),
        (210001, 90624, False),
    ],
)
def test_a_newer_client_no_longer_dumps_old_servers(client, server, dumps):
    assert (server >= server_versions.oldest_dumped_server(client)) is dumps


def test_the_client_is_one_that_still_dumps_the_server(monkeypatch):
    installed = [client_tools.Client(f"/{number}", number, str(number)) for number in (190001, 200001)]
    monkeypatch.setattr(client_tools, "clients", lambda tool: installed)
    assert client_tools.client("pg_dump", 90624).version_num == 190001
    monkeypatch.setattr(client_tools, "clients", lambda tool: installed[1:])
    assert client_tools.client("pg_dump", 100023).version_num == 200001
    assert client_tools.client("pg_restore", 90624).version_num == 200001
    with pytest.raises(SauvegardeError) as refused:
        client_tools.client("pg_dump", 90624)
    assert "still dumps the server, which is 9.6" in refused.value.what
    assert "postgresql-client-19" in refused.value.fix


SERVER_17 = {"version_num": 170011, "version": "17.11"}
SERVER_19 = {"version_num": 190001, "version": "19.1"}


def test_an_archive_of_19_is_refused_by_17():
    findings = Findings()
    needs = SimpleNamespace(version_num=190001, version="19.1")
    target_checks.check_versions(SERVER_19, needs, findings)
    assert not findings.blockers
    target_checks.check_versions(SERVER_17, needs, findings)
    (blocker,) = findings.blockers
    assert blocker.what == "The target's server is older than the archive's."
    assert blocker.why == "The archive is of PostgreSQL 19.1, the target runs 17.11."
    assert blocker.fix == "Restore on PostgreSQL 19 or newer."


def test_names_with_a_line_break_are_refused_by_19():
    findings = Findings()
    target_checks.check_names(SERVER_17, "a\nb", ["c\rd"], findings)
    target_checks.check_names(SERVER_19, "ab", ["cd"], findings)
    assert not findings.blockers
    target_checks.check_names(SERVER_19, "a\nb", ["c\rd", "e"], findings)
    (blocker,) = findings.blockers
    assert r"database 'a\nb', role 'c\rd'." in blocker.what


def test_literals_with_escapes_are_refused_by_19():
    findings = Findings()
    target_checks.check_literals(SERVER_17, ["off"], findings)
    target_checks.check_literals(SERVER_19, ["on"], findings)
    assert not findings.blockers
    target_checks.check_literals(SERVER_19, ["on", "'off'"], findings)
    (blocker,) = findings.blockers
    assert "standard_conforming_strings off" in blocker.what
