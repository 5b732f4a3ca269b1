"""Passwords, certificates and keys of a job's connection: where the role puts them, and what the job's settings say."""

import importlib.util
import json
from pathlib import Path

FILTERS = Path(__file__).resolve().parents[2] / "plugins" / "filter"
PEM = "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n"


def of_file(name):
    spec = importlib.util.spec_from_file_location(name, FILTERS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def laid_out(connection):
    """The connection in the job's settings, and the secret files {path: (owner, text)}."""
    jobs = [{"name": "shop", "kind": "pg_dump", "schedule": "daily", "connection": connection}]
    places = {"settings": "/etc/s", "state": "/var/s"}
    layout = of_file("sauvegarde_backup_layout").layout(
        jobs, user="archivist", retention={}, repositories=[], host="b", directory="/b", metrics="", forget=[], **places
    )
    files = of_file("sauvegarde_backup_secrets").secrets(
        jobs, user="archivist", copied_to=[], offsite=[], forget=[], policies=[], cache="/c", **places
    )
    settings = json.loads(layout["files"][0]["content"])["connection"]
    return settings, {file["path"]: (file["user"], file["content"]) for file in files}


def test_texts_become_files_of_the_job_s_user():
    settings, files = laid_out({"host": "db", "password": 7, "sslrootcert": PEM, "sslcert": PEM, "sslkey": PEM})
    assert "canary" not in str(settings) and settings["passfile"] == "/etc/s/passfiles/shop"
    for key in ("sslrootcert", "sslcert", "sslkey"):
        assert settings[key] == f"/etc/s/tls/shop.{key}.pem"
        assert files[settings[key]] == ("archivist", PEM)


def test_paths_and_the_system_s_store_stay_what_they_are():
    connection = {"host": "db", "sslrootcert": "system", "sslcert": "/c.pem", "sslkey": "/k.pem"}
    assert laid_out(connection) == (connection, {})
