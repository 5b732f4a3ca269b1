"""What a host has for its next backup and restore: servers, clients, space, repositories, the right to remove."""

import json
import shutil

import pytest
import quick_restic
from sauvegarde.backup import host_facts
from sauvegarde.errors import SauvegardeError
from sauvegarde.offsite import restic
from sauvegarde.offsite.repository import Repository

pytestmark = [
    pytest.mark.one_host("reads settings, and asks restic what each version answers alike"),
    pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed"),
]
PASSWORD = "canary-Zephyr-facts"


@pytest.fixture
def vault(tmp_path):
    quick_restic.make(tmp_path / "vault", PASSWORD)
    (tmp_path / "secrets").mkdir()
    return Repository(
        "vault", str(tmp_path / "vault"), PASSWORD, forget=False, secrets_folder=str(tmp_path / "secrets")
    )


def snapshots(vault):
    return json.loads(restic.run(vault, ["snapshots", "--json", "--no-lock"], "x").text) or []


def test_a_repository_that_lets_a_snapshot_go_is_not_append_only(vault):
    assert host_facts.deletion_right(vault) == host_facts.ALLOWED
    assert snapshots(vault) == []


def test_one_canary_stays_where_removal_is_refused(vault, monkeypatch):
    original = restic.run

    def append_only(repository, arguments, *more, **named):
        if arguments[0] == "forget":
            raise SauvegardeError("Forbidden.", "server response unexpected: 403 Forbidden")
        return original(repository, arguments, *more, **named)

    monkeypatch.setattr(restic, "run", append_only)
    for _ in range(2):
        assert host_facts.deletion_right(vault) == host_facts.REFUSED
    (canary,) = snapshots(vault)
    assert canary["tags"] == [host_facts.CANARY] and restic.all_snapshots(vault) == []


def test_the_facts_of_jobs_and_repositories(cluster, database, vault, tmp_path):
    folder = tmp_path / "etc"
    common = {"user": "root", "host": "here", "root": str(tmp_path / "archives"), "state": str(tmp_path / "state")}
    jobs = [
        {"name": "good", "kind": "pg_dump", "connection": cluster.values, "database": database, "offsite": ["vault"]},
        {
            "name": "refused",
            "kind": "pg_dump",
            "connection": {**cluster.values, "user": "nobody"},
            "database": database,
        },
        {"name": "broken", "kind": "pg_dump", "root": ""},
    ]
    for each in jobs:
        (folder / "jobs").mkdir(parents=True, exist_ok=True)
        (folder / "jobs" / f"{each['name']}.json").write_text(json.dumps({**common, **each}))
    repository = {"name": "vault", "repository": vault.address, "password": PASSWORD, "forget": False}
    wrong = {"name": "wrong", "repository": vault.address, "password": "another"}
    missing = {"name": "missing", "repository": str(tmp_path / "nothing"), "password": "x"}
    (folder / "offsite").mkdir()
    for each in (repository, wrong, missing):
        (folder / "offsite" / f"{each['name']}.json").write_text(json.dumps(each))
    (tmp_path / "cron").write_text("15 2 * * * root exec /x run good\n")
    (tmp_path / "state").mkdir()
    success = {"last_success": {"stored_bytes": 2048, "bytes": 8192, "seconds": 3}}
    (tmp_path / "state/state.json").write_text(json.dumps(success))
    facts = host_facts.collect(folder, tmp_path / "cron", launcher=tmp_path / "none")
    by_name = {each["job"]: each for each in facts["jobs"]}
    good = by_name["good"]
    assert good["server"]["database_bytes"] > 0 and good["server"]["client"] and not good["server"]["client_problem"]
    assert (good["schedule"], good["next_bytes"], good["seconds"]) == ("15 2 * * *", 2048, 3.0)
    assert good["free_bytes"] > 0 and by_name["refused"]["server"]["problem"] and by_name["refused"]["schedule"] == ""
    assert "root" in by_name["broken"]["problem"]
    states = {each["repository"]: each["state"] for each in facts["repositories"]}
    assert states == {"vault": host_facts.OPENS, "wrong": host_facts.WRONG, "missing": host_facts.MISSING}
    assert facts["engine"] == "" and PASSWORD not in json.dumps(facts)
