"""Archives on disk: published whole or not at all, and refused when they are not what they were. No server needed."""

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import conftest
import pytest
from sauvegarde.archive import archive_reader, archive_writer, ids, manifest
from sauvegarde.backup import kinds
from sauvegarde.backup.kinds import sqlite as sqlite_kind
from sauvegarde.errors import Damaged, SauvegardeError
from sauvegarde.postgres import fingerprint
from sauvegarde.system import disk_space, process


@pytest.fixture()
def source(tmp_path):
    """A SQLite database: the simplest thing that can be backed up."""
    path = tmp_path / "sité d'essai?.sqlite3"
    connection = sqlite3.connect(str(path))
    connection.executescript(
        "CREATE TABLE offers (id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT, raw BLOB, score REAL);"
        'CREATE TABLE "Table é ""x" (a, b);'
    )
    rows = [(f"Offre é {number}", os.urandom(900), number / 3) for number in range(3000)]
    connection.executemany("INSERT INTO offers (title, raw, score) VALUES (?, ?, ?)", rows)
    connection.execute('INSERT INTO "Table é ""x" VALUES (?, ?), (?, ?)', ("1", 1, None, 1.5))
    connection.commit()
    connection.close()
    return path


def job(source, **more):
    return {"name": "demo", "kind": "sqlite", "path": str(source), **more}


@pytest.fixture()
def prepared(source, repository):
    """A published archive's folder."""
    return repository / "demo" / kinds.back_up(job(source), repository)["id"]


def refused(call, *arguments, code=Damaged.exit_code, match="."):
    with pytest.raises(SauvegardeError, match=match) as caught:
        call(*arguments)
    assert caught.value.exit_code == code
    return caught.value


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def test_round_trip(prepared, source, tmp_path):
    result = kinds.verify(prepared)
    assert result["fingerprint"]["tables"]['"offers"']["rows"] == 3000
    assert result["fingerprint"]["sequences"] == {"offers": [3000, True]}
    archive_reader.expand(prepared, tmp_path / "plain")
    assert archive_reader.verify_plain(tmp_path / "plain") == result
    restored = sqlite3.connect(str(tmp_path / "plain" / "database.sqlite3"))
    original = sqlite3.connect(str(source))
    try:
        assert list(restored.iterdump()) == list(original.iterdump())
        assert fingerprint.compare(result["fingerprint"], sqlite_kind.fingerprint(restored)) == []
        restored.execute('UPDATE "Table é ""x" SET a = 1 WHERE a = \'1\'')
        different = fingerprint.compare(result["fingerprint"], sqlite_kind.fingerprint(restored))
        assert [each["object"] for each in different] == ['table "Table é ""x"']
    finally:
        restored.close()
        original.close()


def test_commands_by_hand(prepared, source, tmp_path):
    work = tmp_path / "by hand"
    shutil.copytree(str(prepared), str(work))
    for line in manifest.load(work / "manifest.json")["restore_by_hand"]["local"]:
        subprocess.run(["/bin/bash", "-euc", line], cwd=str(work), check=True)
    left, right = sqlite3.connect(str(work / "restored.sqlite3")), sqlite3.connect(str(source))
    assert list(left.iterdump()) == list(right.iterdump())
    left.close()
    right.close()


def test_a_writer_does_not_tear_the_copy(source, repository):
    writer = sqlite3.connect(str(source), timeout=60)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE offers SET title = 'half'")
    result = kinds.back_up(job(source), repository)
    writer.rollback()
    writer.close()
    again = kinds.back_up(job(source), repository)
    assert fingerprint.compare(result["fingerprint"], again["fingerprint"]) == []


def test_modes_whatever_the_umask(source, repository):
    before = os.umask(0o022)
    try:
        identifier = kinds.back_up(job(source), repository)["id"]
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    path = repository / "demo" / identifier
    assert path.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in path.iterdir()} == {0o600}


@pytest.mark.parametrize("tenth", range(10))
def test_truncated_anywhere(prepared, tenth):
    path = prepared / "database.sqlite3.zst"
    os.truncate(str(path), path.stat().st_size * tenth // 10)
    refused(kinds.verify, prepared, match="damaged")


def test_truncated_and_padded_to_its_size(prepared):
    path = prepared / "database.sqlite3.zst"
    size = path.stat().st_size
    os.truncate(str(path), size // 2)
    os.truncate(str(path), size)
    refused(kinds.verify, prepared)


@pytest.mark.parametrize("name", ["database.sqlite3.zst", "manifest.json"])
@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_one_bit_flipped(prepared, name, place, tmp_path):
    path = prepared / name
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 4
    path.write_bytes(bytes(data))
    refused(kinds.verify, prepared)
    refused(archive_reader.expand, prepared, tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


def test_a_zstd_file_with_something_appended(prepared):
    path = prepared / "database.sqlite3.zst"
    with path.open("ab") as stream:
        stream.write(path.read_bytes())
    refused(kinds.verify, prepared)


def test_plain_form_damaged(prepared, tmp_path):
    archive_reader.expand(prepared, tmp_path / "plain")
    path = tmp_path / "plain" / "database.sqlite3"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(bytes(data))
    refused(archive_reader.verify_plain, tmp_path / "plain")


def test_manifest_empty_deleted_forged(prepared):
    path = prepared / "manifest.json"
    text = path.read_text(encoding="utf-8")
    path.write_text("")
    refused(archive_reader.read_manifest, prepared)
    path.unlink()
    refused(archive_reader.read_manifest, prepared)
    forged = json.loads(text)
    forged["files"][0]["path"] = "../../../etc/passwd"
    forged["checksum"] = manifest.checksum(forged)
    path.write_text(json.dumps(forged))
    refused(archive_reader.read_manifest, prepared, match="damaged")
    other = json.loads(text)
    other["id"] = "20000101T000000Z"
    path.write_text(manifest.dumps(other))
    refused(archive_reader.read_manifest, prepared)
    aside = archive_writer.quarantine(prepared)
    assert aside.name == ".damaged-" + prepared.name
    assert ids.list_ids(prepared.parent) == []


def test_files_added_missing_or_linked(prepared, tmp_path):
    (prepared / "more").write_text("x")
    refused(archive_reader.read_manifest, prepared, match="damaged")
    (prepared / "more").unlink()
    data = prepared / "database.sqlite3.zst"
    data.rename(tmp_path / "moved")
    refused(archive_reader.read_manifest, prepared)
    data.symlink_to(tmp_path / "moved")
    refused(archive_reader.read_manifest, prepared)


def test_labels_never_go_back(source, repository):
    now = time.time()
    first = kinds.back_up(job(source), repository, now=now)["id"]
    second = kinds.back_up(job(source), repository, now=now)["id"]
    third = kinds.back_up(job(source), repository, now=now - 7200)
    assert first < second < third["id"]
    assert third["started"] < archive_writer.timestamp(now)
    archive_writer.quarantine(repository / "demo" / third["id"])
    assert kinds.back_up(job(source), repository, now=now - 7200)["id"] > third["id"]
    assert all(re.match(r"\d{8}T\d{6}Z$", each) for each in ids.list_ids(repository / "demo"))


def test_planted_links(source, repository, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "keep").write_text("x")
    (repository / "demo" / ".partial-20000101T000000Z").symlink_to(elsewhere)
    kinds.back_up(job(source), repository)
    assert names(elsewhere) == ["keep"]
    shutil.rmtree(str(repository / "demo"))
    (repository / "demo").symlink_to(elsewhere)
    with pytest.raises(SauvegardeError, match="symbolic link"):
        kinds.back_up(job(source), repository)
    assert names(elsewhere) == ["keep"]


@pytest.mark.parametrize("name", ["../demo", "a/b", ".hidden", "-x", "", "a" * 101])
def test_job_names_that_lead_elsewhere(source, repository, name):
    with pytest.raises(SauvegardeError, match="job's name"):
        kinds.back_up({**job(source), "name": name}, repository)


def test_a_folder_that_others_can_enter(source, repository):
    (repository / "demo").chmod(0o750)
    with pytest.raises(SauvegardeError, match="not private"):
        kinds.back_up(job(source), repository)
    (repository / "demo").chmod(0o700)
    repository.chmod(0o777)
    with pytest.raises(SauvegardeError, match="not private"):
        kinds.back_up(job(source), repository)


def test_nothing_is_overwritten(repository):
    with archive_writer.Stage(repository, "demo", "sqlite") as stage:
        stage.create("a").close()
        with pytest.raises(FileExistsError):
            stage.create("a")
        (stage.path / "link").symlink_to("/etc/passwd")
        with pytest.raises(FileExistsError):
            stage.create("link")
    assert names(repository / "demo") == []


def test_debris_of_a_killed_run(source, repository):
    stage = archive_writer.Stage(repository, "demo", "sqlite")
    stage.__enter__()  # never left: as if it had been killed
    with stage.writer("a") as target:
        target.write(b"x" * 1000)
    assert names(repository / "demo") == [".partial-" + stage.id]
    messages = []
    identifier = kinds.back_up(job(source), repository, lambda step, **values: messages.append(step))["id"]
    assert names(repository / "demo") == [identifier]
    assert identifier != stage.id or messages[0] == "cleaned"


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from sauvegarde.backup import kinds
from sauvegarde.backup.kinds import sqlite as sqlite_kind
while True:
    kinds.back_up({"name": "demo", "kind": "sqlite", "path": sys.argv[2]}, sys.argv[3])
"""


def test_killed_at_any_moment(source, repository):
    """Whatever is there under a published name is whole, each of 20 times."""
    dice, usual = random.Random(7), None
    for _ in range(20):
        start, before = time.monotonic(), len(ids.list_ids(repository / "demo"))
        child = subprocess.Popen([sys.executable, "-c", KILLED, conftest.ENGINE, str(source), str(repository)])
        if usual is None:  # the first one shows how long it takes on this machine
            while len(ids.list_ids(repository / "demo")) == before:
                time.sleep(0.01)
            usual = time.monotonic() - start
        time.sleep(usual * 1.5 * dice.random())
        child.send_signal(signal.SIGKILL)
        child.wait()
    published = ids.list_ids(repository / "demo")
    assert published
    for identifier in published:
        kinds.verify(repository / "demo" / identifier)
    kinds.back_up(job(source), repository)
    assert not [each for each in names(repository / "demo") if each.startswith(".partial")]


@pytest.fixture()
def small_disk(tmp_path):
    """A file system of 1 MB with a private job folder on it."""
    with conftest.small_disk(tmp_path / "small", "1m") as root:
        (root / "demo").mkdir(mode=0o700)
        yield root


def test_disk_full(source, small_disk, monkeypatch):
    with pytest.raises(SauvegardeError, match="Not enough space"):
        kinds.back_up(job(source), small_disk)
    monkeypatch.setattr(disk_space, "require_space", lambda *_: None)  # as when another one fills the disk meanwhile
    with pytest.raises(SauvegardeError):
        kinds.back_up(job(source), small_disk)
    assert names(small_disk / "demo") == []


def test_disk_full_while_expanding(prepared, small_disk):
    error = refused(archive_reader.expand, prepared, small_disk / "plain", code=1, match="full")
    assert "No space left" in error.why
    assert not (small_disk / "plain").exists()


def test_a_compressor_that_fails(repository, monkeypatch, tmp_path):
    false = tmp_path / "zstd"
    false.write_text("#!/bin/sh\nhead -c 10 >/dev/null\necho 'sorry, no' >&2\nexit 3\n")
    false.chmod(0o755)
    monkeypatch.setattr(process, "find", lambda name: str(false))
    with archive_writer.Stage(repository, "demo", "sqlite") as stage:
        with pytest.raises((SauvegardeError, BrokenPipeError)) as caught, stage.writer("a") as target:
            for _ in range(100):
                target.write(b"x" * 100000)
        assert "sorry, no" in caught.value.why
        (stage.path / "b").write_bytes(b"x")
        with pytest.raises(SauvegardeError, match="compressed"):
            stage.compress(["b"])
    assert names(repository / "demo") == []


def test_many_small_files(repository):
    with archive_writer.Stage(repository, "demo", "sqlite") as stage:
        paths = [f"-dump/{number}" for number in range(450)]
        (stage.path / "-dump").mkdir()
        for path in paths:
            (stage.path / path).write_bytes(path.encode() * 50)
        stage.compress(paths)
        assert not (stage.path / paths[0]).exists()
        part = {"source": {}, "tools": {}, "fingerprint": None, "restore_by_hand": {"local": [], "plain": []}}
        result = stage.publish({**part, "warnings": []})
    assert len(result["files"]) == 450
    path = repository / "demo" / result["id"]
    assert archive_reader.verify(path, workers=3)["id"] == result["id"]
    name = Path(path / "-dump" / "333.zst")
    data = bytearray(name.read_bytes())
    data[-1] ^= 1
    name.write_bytes(bytes(data))
    error = refused(archive_reader.verify, path)
    assert "-dump/333" in error.why
