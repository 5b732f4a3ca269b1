"""Damage that a read finds is recorded: the list and the next choice know an archive that is damaged."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import quick_restic
import restores
from sauvegarde import catalog
from sauvegarde.archive import damage_record
from sauvegarde.backup import kinds
from sauvegarde.errors import Damaged
from sauvegarde.offsite import offsite_copy
from sauvegarde.offsite.repository import Repository
from sauvegarde.restore import fetch

pytestmark = pytest.mark.one_host("reads and records only")


def spoil(path):
    """Change one byte in the middle of a file, as a bad block does."""
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 0xFF
    Path(path).chmod(0o600)
    Path(path).write_bytes(bytes(data))


def test_a_plan_records_the_damage_that_it_reads(cluster, database, repository, tmp_path):
    cluster.execute("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 2000) i", database)
    job = {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database}
    path = repository / "demo" / kinds.back_up(job, repository)["id"]
    largest = max(path.rglob("*.zst"), key=lambda file: file.stat().st_size)
    good, directory = largest.read_bytes(), tmp_path / "restores"
    spec = {"connection": cluster.values, "path": str(path), "database": "back", "directory": str(directory)}

    def listed():
        entries = [entry.as_dict() for entry in catalog.local(repository, "named-otherwise")]
        return [entry["verified"] for entry in damage_record.mark(entries, damage_record.read(directory))]

    assert listed() == [True]
    spoil(largest)
    assert restores.plan(spec)["obstacles"] and listed() == [False]
    assert str(path) in damage_record.read(directory)[0].problem
    largest.write_bytes(good)
    restores.plan(spec)
    assert listed() == [True], "a read without an error removes the record"


@pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
def test_a_fetch_records_damage_and_the_next_passes_it_over(cluster, database, repository, tmp_path):
    quick_restic.make(tmp_path / "vault", "canary")
    vault = Repository("vault", str(tmp_path / "vault"), "canary")
    opened, packs = dataclasses.replace(vault, secrets_folder=str(tmp_path)), []
    job = {"name": "demo", "kind": "pg_dump", "connection": cluster.values, "database": database, "host": "dead"}
    ids = []
    for rows in (200, 300):
        cluster.execute(
            "DROP TABLE IF EXISTS t;"
            f"CREATE TABLE t AS SELECT md5((i * {rows})::text) FROM generate_series(1, {rows}) i",
            database,
        )
        ids.append(kinds.back_up(job, repository)["id"])
        before = set((tmp_path / "vault/data").rglob("*"))
        offsite_copy.copy_archive(opened, SimpleNamespace(**job, databases=()), repository / "demo" / ids[-1])
        packs = [each for each in (tmp_path / "vault/data").rglob("*") if each.is_file() and each not in before]
    spoil(max(packs, key=lambda pack: pack.stat().st_size))
    directory = tmp_path / "restores"
    with pytest.raises(Damaged) as failure:
        fetch.from_restic(vault, directory, database)
    assert f"restore_point={ids[0]}" in failure.value.fix
    assert [record.id for record in damage_record.read(directory)] == [ids[1]]
    assert "canary" not in (directory / damage_record.NAME).read_text()
    fetched = fetch.from_restic(vault, directory, database)
    assert fetched["archive"]["id"] == ids[0] and [entry["id"] for entry in fetched["passed"]] == [ids[1]]
    with pytest.raises(Damaged):
        fetch.from_restic(vault, directory, database, point=ids[1])
