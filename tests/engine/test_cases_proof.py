"""What the proof of a restore says: damage is told of archives only, and a server's own failure is told as such."""

import contextlib

import pytest
import restores
from sauvegarde.backup import kinds
from sauvegarde.errors import Damaged, SauvegardeError
from sauvegarde.postgres import fingerprint, postgres_server
from sauvegarde.targets import side_database


@pytest.fixture(scope="module")
def requested(cluster, tmp_path_factory):
    root = tmp_path_factory.mktemp("proof")
    (root / "j").mkdir(mode=0o700)
    cluster.execute("CREATE DATABASE proof TEMPLATE template0")
    cluster.execute(
        "CREATE TABLE one AS SELECT 1 AS i; CREATE TABLE two AS SELECT 2 AS i; SELECT lo_from_bytea(0, 'x')", "proof"
    )
    job = {"name": "j", "kind": "pg_dump", "connection": cluster.values, "database": "proof"}
    path = root / "j" / kinds.back_up(job, root)["id"]
    yield {"connection": cluster.values, "path": str(path), "database": "proof", "directory": str(root / "restores")}
    with contextlib.closing(cluster.connect()) as connection:
        side_database.drop(connection, "proof")


def fail(monkeypatch, name, code, words="told by the test"):
    """Let the server fail while it reads what `name` (of fingerprint's functions) sums."""

    def refused(connection, *_):
        postgres_server.execute(connection, f"DO $$ BEGIN RAISE EXCEPTION '{words}' USING ERRCODE = '{code}'; END $$")

    monkeypatch.setattr(fingerprint, name, refused)


@pytest.mark.parametrize(
    "name, code, words, fix",
    [
        ("sum_table", "53200", "out of memory", "Free memory"),
        ("large_objects", "53100", "could not extend file", "Free space"),
        ("sum_table", "58030", "could not read block 3", "log"),
        ("sum_table", "XX001", "invalid page in block 3", "log"),
        ("sum_table", "57P05", "told by the test", "log"),
    ],
)
def test_a_failure_of_the_server_is_no_damage(cluster, requested, monkeypatch, name, code, words, fix):
    fail(monkeypatch, name, code, words)
    with pytest.raises(SauvegardeError) as error:
        restores.fill(requested)
    assert error.value.exit_code != Damaged.exit_code and words in error.value.why
    assert fix in error.value.fix and "archive is not at fault" in error.value.fix
    assert "could not be read" in error.value.what and "nothing was swapped" in error.value.what


def test_rows_that_cannot_be_read_are_a_difference(cluster, requested, monkeypatch):
    fail(monkeypatch, "sum_table", "22012")
    with pytest.raises(SauvegardeError) as error:
        restores.fill(requested)
    assert error.value.exit_code == Damaged.exit_code and "TABLE public.one" in error.value.why
    assert "live database is as it was" in error.value.fix and "Verify this archive" in error.value.fix


def test_a_backup_goes_on_past_a_table_that_cannot_be_read(cluster, requested, monkeypatch, tmp_path):
    fail(monkeypatch, "sum_table", "58030")
    (tmp_path / "j").mkdir(mode=0o700)
    job = {"name": "j", "kind": "pg_dump", "connection": cluster.values, "database": "proof"}
    manifest = kinds.back_up(job, tmp_path)
    assert [each["object"] for each in manifest["fingerprint"]["unproven"]] == ["TABLE public.one", "TABLE public.two"]
