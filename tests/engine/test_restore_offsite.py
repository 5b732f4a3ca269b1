"""An archive straight from a restic repository, on a host that knows nothing but the repository's own secrets."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import conftest
import pytest
import quick_restic
import restores
from sauvegarde.archive import archive_reader, damage_record
from sauvegarde.backup import kinds
from sauvegarde.errors import SauvegardeError, WrongKey
from sauvegarde.offsite import offsite_copy
from sauvegarde.offsite.repository import Repository
from sauvegarde.postgres import postgres_server
from sauvegarde.restore import fetch, restore_state
from sauvegarde.system import disk_space
from sauvegarde.targets import side_database

pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
once = pytest.mark.one_host("what is left of a fetch is the file system's matter")
PASSWORD = "c4nary-of-the-repository"


@pytest.fixture()
def vault(cluster, database, repository, tmp_path):
    """A repository with an archive of the database and one of the roles; the host that made them is gone."""
    cluster.execute("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 5000) i", database)
    cluster.execute("CREATE ROLE only_there LOGIN PASSWORD 'canary'; ALTER TABLE t OWNER TO only_there", database)
    existing = Repository("vault", str(tmp_path / "vault"), PASSWORD)
    opened = dataclasses.replace(existing, secrets_folder=str(tmp_path))
    (repository / "roles").mkdir(mode=0o700)
    quick_restic.make(tmp_path / "vault", PASSWORD)
    for name, kind in (("demo", "pg_dump"), ("roles", "globals")):
        job = {"name": name, "kind": kind, "connection": cluster.values, "database": database, "host": "dead"}
        path = repository / name / kinds.back_up(job, repository)["id"]
        offsite_copy.copy_archive(opened, SimpleNamespace(**job, databases=()), path)
    shutil.rmtree(str(repository))
    cluster.execute("DROP TABLE t; DROP ROLE only_there", database)
    yield existing
    connection = cluster.connect()
    side_database.drop(connection, "back")
    postgres_server.execute(connection, "DROP ROLE IF EXISTS only_there")
    connection.close()


def test_restored_from_the_repository_alone(cluster, database, vault, tmp_path):
    directory = tmp_path / "restores"
    result = fetch.from_restic(vault, directory, database, host="dead")
    assert result["changed"] and result["archive"]["host"] == "dead"
    assert not fetch.from_restic(vault, directory, database)["changed"], "what is there whole is not fetched again"
    spec = {
        "connection": cluster.values,
        "path": result["archive"]["path"],
        "globals": result["globals"]["path"],
        "database": "back",
        "directory": str(directory),
    }
    done = restores.fill(spec)
    restores.swap_in(spec, done["id"])
    assert done["proof"]["by"] == "fingerprint"
    assert not Path(result["archive"]["path"]).exists(), "the copy is needed no more"
    assert cluster.execute("SELECT count(*) FROM t", "back") == [(5000,)]
    assert cluster.execute(
        "SELECT tableowner, rolcanlogin FROM pg_tables, pg_roles WHERE rolname = tableowner AND tablename = 't'", "back"
    ) == [("only_there", True)]
    assert not [each for each in directory.rglob("*") if each.is_file() and PASSWORD in each.read_text("latin-1")]


@once
def test_a_fetch_that_was_cut_starts_over(database, vault, tmp_path):
    directory = tmp_path / "restores"
    path = fetch.from_restic(vault, directory, database)["archive"]["path"]
    partial = restore_state.folder(directory) / fetch.PLACE / (".partial-" + path.rsplit("/", 1)[1])
    shutil.copytree(path, str(partial))
    (partial / "dump" / "toc.dat").write_bytes(b"half")
    (restore_state.folder(directory) / path / "dump" / "toc.dat").write_bytes(b"rotten")
    again = fetch.from_restic(vault, directory, database)
    assert again["changed"] and not partial.exists()


FETCH = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from sauvegarde.offsite.repository import Repository
from sauvegarde.restore import fetch
pack, repository, directory, database = json.loads(sys.argv[2])
original = fetch.restic.run
def run(repository, command, what):
    if command[0] == "restore":
        os.rename(pack, pack + ".aside")
        os.mkfifo(pack)
    return original(repository, command, what)
fetch.restic.run = run
fetch.from_restic(Repository(*repository), directory, database)
"""


def children(pid):
    """Processes that a process has started, and those that they have started."""
    try:
        result = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(each) for each in result] + [more for each in result for more in children(each)]


def test_a_fetch_that_is_killed_leaves_nothing_that_looks_whole(database, vault, tmp_path):
    """Fault 28: what restic reads has no end, as over a link that was cut, until restic or its starter is killed."""
    directory = tmp_path / "restores"
    pack = max(Path(vault.address, "data").glob("*/*"), key=lambda each: each.stat().st_size)
    values = json.dumps([str(pack), [vault.name, vault.address, vault.password], str(directory), database])

    def read():
        """Whether restic has come to the pack."""
        with contextlib.suppress(OSError):
            os.close(os.open(str(pack) if pack.is_fifo() else "", os.O_WRONLY | os.O_NONBLOCK))
            return True
        return False

    for victim in ("restic", "starter"):
        fetching = subprocess.Popen([sys.executable, "-c", FETCH, conftest.ENGINE, values], stderr=subprocess.PIPE)
        try:
            conftest.wait_until(read)
            (restic,) = children(fetching.pid)
            os.kill(restic if victim == "restic" else fetching.pid, signal.SIGKILL)
            _, options = fetching.communicate(timeout=60)
            assert fetching.returncode != 0
            if victim == "restic":
                assert b"could not be fetched" in options and not list(directory.glob("fetched/.partial-*")), options
            # It dies with whoever started it.
            conftest.wait_until(lambda pid=restic: not Path(f"/proc/{pid}").exists())
            assert not list(directory.glob("fetched/[!.]*"))
        finally:
            fetching.kill()
            fetching.wait()
            Path(f"{pack}.aside").replace(pack)
    again = fetch.from_restic(vault, directory, database)
    assert again["changed"] and not list(directory.glob("fetched/.partial-*"))
    assert archive_reader.verify_plain(Path(again["archive"]["path"]))


def test_a_disk_that_fills_up_during_the_fetch(cluster, database, vault, tmp_path, monkeypatch):
    """Fault 12: refused where it can be foreseen; else the space is given back."""
    cluster.execute("CREATE TABLE t AS SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, 10000) i", database)
    (tmp_path / "repository" / "demo").mkdir(mode=0o700, parents=True)
    job = {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database, "host": "dead"}
    path = tmp_path / "repository" / "demo" / kinds.back_up(job, tmp_path / "repository")["id"]
    offsite_copy.copy_archive(
        dataclasses.replace(vault, secrets_folder=str(tmp_path)), SimpleNamespace(**job, databases=()), path
    )
    with conftest.small_disk(tmp_path / "small", "24m") as small:
        directory = small / "restores"
        with pytest.raises(SauvegardeError, match="space"):
            fetch.from_restic(vault, directory, database)
        monkeypatch.setattr(disk_space, "require_space", lambda *_: None)
        # Old versions of restic end well all the same, with files that are cut short.
        with pytest.raises(SauvegardeError, match=r"no space left on"):
            fetch.from_restic(vault, directory, database)
        assert damage_record.read(directory) == [], "a full disk says nothing about the archive"
        assert not list(directory.glob("fetched/*")) and disk_space.free_bytes(directory) > 20 * 2**20


@once
def test_a_wrong_password_is_reported_and_kept_nowhere(database, vault, tmp_path):
    with pytest.raises(SauvegardeError) as error:
        fetch.from_restic(dataclasses.replace(vault, password="another-canary"), tmp_path / "restores", database)
    assert error.value.exit_code == WrongKey.exit_code and "canary" not in str(error.value)
    assert list((tmp_path / "restores").iterdir()) == []
