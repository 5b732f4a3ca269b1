"""A restore that goes on by itself: whoever started it may go away, and the next one finds it."""

import json
import subprocess
import sys
import time

import conftest
import pytest
import restores
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError
from sauvegarde.postgres import postgres_server
from sauvegarde.restore import detached_restore, restore_state
from sauvegarde.targets import side_database

pytestmark = pytest.mark.one_host("a process that goes on alone is the same beside every server")

START = """
import json, sys
sys.path.insert(0, sys.argv[1])
from sauvegarde.restore import detached_restore
from sauvegarde.restore.request import RestoreRequest

print(json.dumps(detached_restore.start(RestoreRequest.from_values(json.loads(sys.argv[2])))))
"""


def start(spec):
    """What `start` answers in a process of its own, which ends at once."""
    words = [sys.executable, "-c", START, conftest.ENGINE, json.dumps(spec)]
    done = subprocess.run(words, stdout=subprocess.PIPE, timeout=300, check=True)
    return json.loads(done.stdout.decode("utf-8"))


def wait(spec, identifier, ended=(restore_state.READY, restore_state.FAILED, restore_state.KILLED)):
    until = time.monotonic() + 300
    while time.monotonic() < until:
        result = detached_restore.state_of(spec["directory"], identifier)
        if result["status"] in ended:
            return result
        time.sleep(0.1)
    raise AssertionError(result)


@pytest.fixture()
def spec(cluster, database, repository, tmp_path):
    cluster.execute("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 5000) i", database)
    job = {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database}
    path = repository / "demo" / kinds.back_up(job, repository)["id"]
    yield {
        "connection": cluster.values,
        "path": str(path),
        "database": "alone",
        "directory": str(tmp_path / "restores"),
        "jobs": 2,
    }
    connection = cluster.connect()
    for (name,) in connection_names(cluster):
        side_database.drop(connection, name)
    connection.close()


def connection_names(cluster):
    return cluster.execute("SELECT datname FROM pg_database WHERE datname LIKE 'alone%'")


def test_it_goes_on_alone_and_is_found(cluster, spec):
    began = time.time()
    first = start(spec)
    assert first["started_now"] is True
    ready = wait(spec, first["id"])
    assert ready["status"] == restore_state.READY, ready.get("error")
    beats = [ready["heartbeat"] - ready["started"], ready["elapsed"]]
    assert max(beats) <= time.time() - began and ready["proof"]["rows"] == 5000
    again = start(spec)
    assert (again["id"], again["started_now"]) == (first["id"], False), "the proven one is taken over"
    restores.swap_in(spec, first["id"])
    another = start(spec)
    assert another["started_now"] is True, "a swapped one is not"
    wait(spec, another["id"])


def test_it_starts_at_once_however_long_its_clean_up_takes(cluster, spec):
    left = "alone__restore_20200101T000000Z"
    cluster.execute(f'CREATE DATABASE "{left}"')
    holder = cluster.connect()
    try:
        # Nothing is dropped meanwhile.
        postgres_server.execute(holder, "BEGIN; LOCK TABLE pg_catalog.pg_database IN SHARE MODE")
        first = start(spec)
        assert first["started_now"] is True and first["step"] in ("start", "clean")
        conftest.wait_until(lambda: detached_restore.state_of(spec["directory"], first["id"])["step"] == "clean")
    finally:
        holder.close()
    ready = wait(spec, first["id"])
    assert ready["status"] == restore_state.READY and ready["cleaned"] == [left], ready.get("error")


def test_a_failure_is_reported(cluster, spec, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    result = wait(spec, start(dict(spec, path=str(tmp_path / "empty")))["id"])
    assert result["status"] == restore_state.FAILED and "read to its end" in result["error"]["what"]
    with pytest.raises(SauvegardeError):
        detached_restore.state_of(spec["directory"], "20000101T000000Z")
