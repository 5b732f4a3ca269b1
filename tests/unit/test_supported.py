"""docs/supported.md says what docs/supported.json records, and no more than a run has confirmed."""

import json

import pytest

from sauvegarde_cli import checks, supported

HOST = """debian bookworm
python 3.11
installed postgresql-15 15.14-0+deb12u1
installed postgresql-15-postgis-3 3.3.2+dfsg-1+b1
installed postgresql-15-postgis-3-scripts 3.3.2+dfsg-1
installed postgresql-client-15 15.14-0+deb12u1
config-files postgresql-13 13.9-0
"""
SERVER = {"kind": "server", "debian": "bookworm", "python": "3.11", "postgresql": "15", "postgis": "3.3"}
ROW = {**SERVER, "scenario": "debian", "core": "2.19", "controller": "3.11"}
SITE = {
    "debian": "trixie",
    "python": "3.13",
    "postgresql": "17",
    "postgis": "3.5",
    "django": "6.1",
    "driver": "psycopg",
}

REFUSED = {"kind": "restore", "source": "19", "target": "9.6", "outcome": "refused"}


def test_the_page_is_that_of_the_record():
    assert supported.PAGE.read_text() == supported.page(supported.recorded()), (
        "Run: PYTHONPATH=src .venv/bin/python -m sauvegarde_cli.supported"
    )


def test_a_host_says_what_it_runs():
    assert supported.parse_survey(HOST) == ([SERVER], None)
    assert supported.parse_survey(HOST + "controller 2.21.5 3.13\n") == ([SERVER], ("2.21", "3.13"))


@pytest.fixture()
def reports(tmp_path):
    """The folder of a run of `debian` with a server, a site and a pair of versions."""
    folder = tmp_path / "debian"
    folder.mkdir()
    (folder / "supported.json").write_text(json.dumps([ROW, ROW]))
    pair = {"source": "9.6", "target": "19", "client": "19", "outcome": "proven", "fingerprint": "ab"}
    refused = {**pair, "source": "19", "target": "9.6", "outcome": "refused", "sentence": "The target is older."}
    pairs = [pair, refused]
    (folder / "majors.json").write_text(json.dumps(pairs))
    text = json.dumps(SITE).replace('"', "&quot;")
    (folder / "engine-trixie.xml").write_text(
        f'<testsuites><testsuite tests="1"><properties><property name="sauvegarde_site" value="{text}"/></properties>'
        "</testsuite></testsuites>"
    )
    return tmp_path


def test_a_run_leaves_rows(reports):
    result = supported.rows_of(reports / "debian", "debian")
    assert result == [
        ROW,
        {"kind": "site", "scenario": "debian", **SITE},
        {"kind": "restore", "scenario": "debian", "source": "9.6", "target": "19", "outcome": "proven"},
        {**REFUSED, "scenario": "debian", "sentence": "The target is older."},
    ]
    page = supported.page(result)
    assert 'Refused with: "The target is older."' in page
    assert "tested; PostGIS 3.3, Python 3.11 (`debian`)" in page
    assert "tested; Python 3.13, PostgreSQL 17, PostGIS 3.5 (`debian`)" in page
    assert 'refused: "postgresql_version 9.6 was never built for trixie"' in page


def test_a_run_prints_the_rows_that_it_does_not_confirm(reports, monkeypatch, capsys):
    part = checks.Part("debian", checks.Count(passed=1), 1.0)
    monkeypatch.setattr(supported, "recorded", lambda: [ROW, {**ROW, "scenario": "backup", "postgresql": "13"}])
    checks.print_unconfirmed([part], reports)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(supported, "recorded", lambda: [{**ROW, "postgis": "3.4"}])
    checks.print_unconfirmed([part], reports)
    assert '"postgis": "3.4"' in capsys.readouterr().out


def test_recording_replaces_the_rows_of_what_ran(tmp_path, monkeypatch):
    monkeypatch.setattr(supported, "RECORD", tmp_path / "supported.json")
    monkeypatch.setattr(supported, "PAGE", tmp_path / "supported.md")
    other = {**ROW, "scenario": "backup"}
    (tmp_path / "supported.json").write_text(json.dumps([{**ROW, "postgis": "3.2"}, other]))
    supported.write({"debian": [ROW]})
    assert supported.recorded() == [other, ROW]
    assert (tmp_path / "supported.md").read_text() == supported.page([other, ROW])
