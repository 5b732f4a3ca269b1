"""An archive straight from a restic repository, on a host that knows nothing but the repository's own secrets."""

import shutil
from pathlib import Path

import pytest
from sauvegarde import kinds, offsite, postgres
from sauvegarde.errors import WRONG_KEY, SauvegardeError
from sauvegarde.restore import fetch, run, side, state

pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
PASSWORD = "c4nary-of-the-repository"


@pytest.fixture()
def vault(cluster, database, repository, tmp_path):
    """A repository with an archive of the database and one of the roles; the host that made them is gone."""
    cluster.execute("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 5000) i", database)
    cluster.execute("CREATE ROLE only_there LOGIN PASSWORD 'canary'; ALTER TABLE t OWNER TO only_there", database)
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    there = {"name": "vault", "repository": str(tmp_path / "vault"), "password_file": str(password)}
    (repository / "roles").mkdir(mode=0o700)
    offsite.ensure(there, False)
    for name, kind in (("demo", "pg_dump"), ("roles", "globals")):
        job = {"name": name, "kind": kind, "connection": cluster.values, "database": database, "host": "dead"}
        path = repository / name / kinds.back_up(job, repository)["id"]
        offsite._copy(there, job, path)
    shutil.rmtree(str(repository))
    password.unlink()
    cluster.execute("DROP TABLE t; DROP ROLE only_there", database)
    yield {"name": "vault", "repository": str(tmp_path / "vault"), "password": PASSWORD}
    connection = cluster.connect()
    side.drop(connection, "back")
    postgres.execute(connection, "DROP ROLE IF EXISTS only_there")
    connection.close()


def test_restored_from_the_repository_alone(cluster, database, vault, tmp_path):
    directory = tmp_path / "restores"
    found = fetch.from_restic(vault, directory, database, host="dead")
    assert found["changed"] and found["archive"]["host"] == "dead"
    assert not fetch.from_restic(vault, directory, database)["changed"], "what is there whole is not fetched again"
    spec = {
        "connection": cluster.values,
        "path": found["archive"]["path"],
        "globals": found["globals"]["path"],
        "database": "back",
        "directory": str(directory),
    }
    done = run.fill(spec)
    run.put_in_place(run.settled(spec), done["id"])
    assert done["proof"]["by"] == "fingerprint"
    assert not Path(found["archive"]["path"]).exists(), "the copy is needed no more"
    assert cluster.execute("SELECT count(*) FROM t", "back") == [(5000,)]
    assert cluster.execute(
        "SELECT tableowner, rolcanlogin FROM pg_tables, pg_roles WHERE rolname = tableowner AND tablename = 't'", "back"
    ) == [("only_there", True)]
    assert not [each for each in directory.rglob("*") if each.is_file() and PASSWORD in each.read_text("latin-1")]


def test_a_fetch_that_was_cut_starts_over(database, vault, tmp_path):
    directory = tmp_path / "restores"
    path = fetch.from_restic(vault, directory, database)["archive"]["path"]
    partial = state.folder(directory) / fetch.PLACE / (".partial-" + path.rsplit("/", 1)[1])
    shutil.copytree(path, str(partial))
    (partial / "dump" / "toc.dat").write_bytes(b"half")
    (state.folder(directory) / path / "dump" / "toc.dat").write_bytes(b"rotten")
    again = fetch.from_restic(vault, directory, database)
    assert again["changed"] and not partial.exists()


def test_a_wrong_password_is_said_and_kept_nowhere(database, vault, tmp_path):
    with pytest.raises(SauvegardeError) as told:
        fetch.from_restic(dict(vault, password="another-canary"), tmp_path / "restores", database)
    assert told.value.exit_code == WRONG_KEY and "canary" not in str(told.value)
    assert list((tmp_path / "restores").iterdir()) == []
