"""The plan names every obstacle at once, each with its fix, and changes nothing."""

import dataclasses
import json
from pathlib import Path

import pytest
import restores
from sauvegarde.archive import manifest
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import client_tools
from sauvegarde.restore import restore_plan, side_restore, source_needs
from sauvegarde.system import disk_space
from sauvegarde.targets import side_database

once = pytest.mark.one_host("these obstacles are found without the server's version")


@pytest.fixture()
def spec(cluster, database, repository, tmp_path):
    cluster.execute("CREATE TABLE t AS SELECT 1 AS a", database)
    job = {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database}
    path = repository / "demo" / kinds.back_up(job, repository)["id"]
    return {
        "connection": cluster.values,
        "path": str(path),
        "database": database,
        "directory": str(tmp_path / "restores"),
    }


def obstacles(spec):
    result = restores.plan(spec)["obstacles"]
    assert all(each["what"] and each["fix"] for each in result)
    return [each["what"] for each in result]


def changed(monkeypatch, **values):
    """The plan of an archive that says something else."""

    def needs(*arguments):
        return dataclasses.replace(source_needs.needs_of(*arguments), **values)

    monkeypatch.setattr(restore_plan, "needs_of", needs)
    monkeypatch.setattr(side_restore, "needs_of", needs)


def test_nothing_stops_a_good_one(cluster, database, spec):
    before = cluster.execute("SELECT oid, datname FROM pg_database ORDER BY 1")
    session = cluster.connect(database)
    plan = restores.plan(spec)
    session.close()
    assert plan["obstacles"] == []
    assert plan["source"]["database"] == database and plan["source"]["rows"] == 1
    assert plan["target"]["system_identifier"] and plan["live"]["bytes"] > 0 and plan["kept"] == []
    assert [each["user"] for each in plan["live"]["sessions"]] == ["postgres"]
    assert 0 <= plan["lost"] < 600 and plan["expected"] > 0
    assert cluster.execute("SELECT oid, datname FROM pg_database ORDER BY 1") == before


@once
@pytest.mark.parametrize(
    "values, words",
    [
        ({"version_num": 990001, "version": "99.1"}, "server is older"),
        ({"extensions": {"nosuch_ext": {"name": "nosuch_ext", "schema": "public", "version": "1"}}}, "nosuch_ext"),
        ({"roles": ["no such 'role\""]}, "no such 'role\""),
        ({"bytes": 2**60}, "too little space"),
        ({"unpacked": 2**60}, "too little space"),
    ],
)
def test_each_obstacle_has_its_own_message(spec, monkeypatch, values, words):
    changed(monkeypatch, **values)
    (result,) = obstacles(spec)
    assert words in result
    with pytest.raises(SauvegardeError) as error:
        restores.fill(spec)
    assert words in error.value.what and "not started" in error.value.what


def test_an_older_postgis_is_refused(cluster, spec, monkeypatch):
    """3.5 into 3.1 fails on functions that are not there; here the target's is older than one to come."""
    if not cluster.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'postgis'"):
        pytest.skip("PostGIS is not installed for this server")
    existing = cluster.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'postgis'")[0][0]
    first, second = existing.split(".")[:2]
    newer = f"{first}.{int(second) + 1}.0"
    for version, result in (
        (newer, ["The target's PostGIS is older than the archive's."]),
        (existing, []),
        ("2.4.4", []),
    ):
        with monkeypatch.context() as patch:
            changed(patch, extensions={"postgis": {"name": "postgis", "schema": "public", "version": version}})
            assert obstacles(spec) == result


@once
def test_all_at_once(spec, monkeypatch):
    changed(monkeypatch, version_num=990001, roles=["nobody"], bytes=2**60)
    assert len(obstacles(dict(spec, locale="xx_XX"))) == 4


@once
def test_targets_that_cannot_be(spec):
    assert "cannot be replaced" in obstacles(dict(spec, database="postgres"))[0]
    assert "archive's own source" in obstacles(dict(spec, mode="beside"))[0]
    assert "already is a database" in obstacles(dict(spec, mode="beside", database="template1"))[1]


def test_what_is_not_there(spec, tmp_path):
    assert "nothing at" in obstacles(dict(spec, path=str(tmp_path / "-no $(file)")))[0]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no backup" in obstacles(dict(spec, path=str(empty)))[0]


@once
@pytest.mark.parametrize("values", [{"mode": "over"}, {"missing_roles": "maybe"}, {"unknown": 1}, {"path": ""}])
def test_settings_that_make_no_sense(spec, values):
    with pytest.raises(SauvegardeError):
        restores.plan(dict(spec, **values))


@once
def test_the_space_is_counted_where_it_will_be_used(spec, monkeypatch):
    asked = []
    monkeypatch.setattr(disk_space, "free_bytes", lambda path: asked.append(str(path)) or 0)
    assert obstacles(spec) and asked


@once
def test_a_locale_is_asked_for_whatever_the_encoding(cluster, spec, monkeypatch):
    """A collation can be made in its database's own encoding only, a database in another."""
    cluster.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        monkeypatch.setattr(side_database, "MAINTENANCE", "latin")
        assert obstacles(spec) == []
        assert "lacks the locale xx_XX.UTF-8" in obstacles(dict(spec, locale="xx_XX.UTF-8"))[0]
    finally:
        cluster.execute("DROP DATABASE latin")


@once
@pytest.mark.parametrize("name", ["c.UTF8", "c.65001"])
def test_a_locale_under_another_name_is_taken_by_the_targets(spec, name):
    """Also by the run: the plan's properties are those of the database that it makes."""
    result = restores.plan(dict(spec, locale=name))
    assert result["obstacles"] == []
    assert result["properties"]["collate"] in ("C.utf8", "C.UTF-8")
    messages = [each["what"] for each in result["warnings"] if "locale" in each["what"]]
    assert messages == [f"The locale {name} is called {result['properties']['collate']} here."]


def test_no_client_that_reads_the_archive(spec, monkeypatch):
    if restores.plan(spec)["target"]["version_num"] >= 180000:
        pytest.skip("every client of this server's version reads the archives of 17")
    path = Path(spec["path"]) / manifest.NAME
    result = json.loads(path.read_text("utf-8"))
    result["tools"]["pg_dump"] = "17.2"
    monkeypatch.setattr(manifest, "load", lambda _: manifest.Manifest.from_dict(result))
    own = client_tools.clients("pg_restore")[-1]
    for version_num, stops in ((169999, 1), (170000, 0)):
        monkeypatch.setattr(
            client_tools, "clients", lambda _, number=version_num: [dataclasses.replace(own, version_num=number)]
        )
        options = obstacles(spec)
        assert len(options) == stops and all("No pg_restore" in each for each in options)
