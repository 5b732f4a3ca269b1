"""Settings of jobs and repositories: read once, checked, and named where they are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sauvegarde import config
from sauvegarde.archive.retention import RetentionPolicy
from sauvegarde.errors import SauvegardeError

LEAST = {"name": "shop", "kind": "sqlite", "user": "root", "host": "db1", "root": "/archives", "state": "/state"}


def write(folder: Path, name: str, values: object) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))
    return str(folder)


def test_a_job_has_defaults_and_its_kinds_own_settings(tmp_path):
    job = config.load_job("shop", write(tmp_path, "jobs/shop.json", {**LEAST, "path": "/db.sqlite3"}))
    assert (job.timeout, job.nice, job.metrics, job.before) == (12 * 3600, 10, None, ())
    assert job.retention == RetentionPolicy()
    assert job.kind_values() == {"name": "shop", "kind": "sqlite", "path": "/db.sqlite3"}
    assert job.directory == Path("/archives/shop") and job.is_configured()


def test_a_job_has_the_settings_of_its_file(tmp_path):
    write(tmp_path, "pings/shop", "")
    (tmp_path / "pings" / "shop").write_text("https://ping.example.org/1\n")
    more = {"timeout": 0, "metrics": "/m", "retention": {"last": 1}, "after": [["true"]], "offsite": ["vault"]}
    job = config.load_job("shop", write(tmp_path, "jobs/shop.json", {**LEAST, **more}))
    assert (job.timeout, job.metrics, job.after, job.offsite) == (0, Path("/m"), (("true",),), ("vault",))
    assert job.retention.last == 1 and job.retention.daily == 0
    assert job.ping == "https://ping.example.org/1" and "ping.example.org" not in repr(job)


@pytest.mark.parametrize(
    "changes",
    [
        {"root": 7},
        {"user": ""},
        {"name": "other"},
        {"offsite": "vault"},
        {"timeout": "soon"},
        {"before": ["true"]},
        {"after": [[["a"]]]},
        {"metrics": ["/m"]},
    ],
)
def test_a_wrong_setting_is_named(tmp_path, changes):
    configuration = write(tmp_path, "jobs/shop.json", {**LEAST, **changes})
    with pytest.raises(SauvegardeError) as caught:
        config.load_job("shop", configuration)
    assert "job shop" in caught.value.what or "job other" in caught.value.what
    assert f"Missing or wrong: {next(iter(changes))}." in caught.value.why and "backup role" in caught.value.fix


def test_a_number_is_a_word_of_a_hook(tmp_path):
    configuration = write(tmp_path, "jobs/shop.json", {**LEAST, "after": [["curl", "-m", 10]]})
    assert config.load_job("shop", configuration).after == (("curl", "-m", "10"),)


def test_a_repositorys_secrets_are_in_no_text(tmp_path):
    secrets = {"password": "c4nary1", "ssh_key": "c4nary2", "environment": {"KEY": "c4nary3"}}
    values = {"name": "vault", "repository": "/srv/x", **secrets}
    repository = config.load_repository("vault", write(tmp_path, "offsite/vault.json", values))
    assert repository.environment == {"KEY": "c4nary3"} and "c4nary" not in repr(repository)
    write(tmp_path, "offsite/vault.json", {**values, "password": ["c4nary"]})
    with pytest.raises(SauvegardeError) as caught:
        config.load_repository("vault", tmp_path)
    assert "password" in caught.value.why and "c4nary" not in str(caught.value)


def test_unknown_keys_of_a_repository_are_named(tmp_path):
    values = {"name": "vault", "repository": "/srv/x", "password": "x", "forgte": False}
    with pytest.raises(SauvegardeError, match="unknown keys: forgte"):
        config.load_repository("vault", write(tmp_path, "offsite/vault.json", values))
