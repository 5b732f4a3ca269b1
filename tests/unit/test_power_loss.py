"""Cut the power right after a job has ended: what the disk holds then is a whole archive.

The archives lie on an ext4 file system in an image. The file of the image has what was written to the disk, and nothing
of what the kernel still keeps in memory: a copy of it is the disk after a power loss.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[2] / "module_utils"
COMMAND = f"import sys; sys.path.insert(0, {str(ENGINE)!r}); from sauvegarde.cli import main; sys.exit(main())"
NO_SYNC = "import os; os.fsync = os.fdatasync = lambda file: None; os.sync = lambda: None; "
# Nothing is written before it must be: not every few seconds, and not because a file is renamed over another.
OPTIONS = "loop,commit=300,noauto_da_alloc,data=writeback"
ROWS = 400


def run(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture()
def disk(tmp_path: Path) -> Iterator[Path]:
    """The mount point of a new file system in `tmp_path`/image."""
    image, mount = tmp_path / "image", tmp_path / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    run("mkfs.ext4", "-q", image)
    done = subprocess.run(["mount", "-o", OPTIONS, image, mount], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device can be mounted here: {done.stderr.strip()}")
    try:
        yield mount
    finally:
        run("umount", mount)


def back_up(folder: Path, disk: Path, prefix: str = "") -> subprocess.CompletedProcess[str]:
    """Run a job that copies an SQLite database into an archive on the disk."""
    for each in ("archives/demo", "state", "metrics"):
        (disk / each).mkdir(parents=True, mode=0o700)
    (folder / "etc" / "jobs").mkdir(parents=True)
    run("sync", "-f", disk)  # the folders are there since long before
    database = folder / "site.sqlite3"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE offer (id integer PRIMARY KEY, text text)")
        connection.executemany("INSERT INTO offer (text) VALUES (?)", [(os.urandom(1000).hex(),) for _ in range(ROWS)])
    connection.close()
    job = {"name": "demo", "kind": "sqlite", "user": "root", "host": "db1", "path": str(database)}
    job.update(root=str(disk / "archives"), state=str(disk / "state"), metrics=str(disk / "metrics"))
    (folder / "etc" / "jobs" / "demo.json").write_text(json.dumps(job))
    return command(folder, "run", prefix)


def command(folder: Path, name: str, prefix: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of the host on the job."""
    words = [sys.executable, "-I", "-c", prefix + COMMAND, "--configuration", str(folder / "etc"), name, "demo"]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)


def cut_the_power(folder: Path, disk: Path) -> None:
    """Replace the disk by what it holds without the kernel's memory."""
    shutil.copyfile(folder / "image", folder / "after")
    run("umount", disk)
    (folder / "after").replace(folder / "image")
    run("mount", "-o", OPTIONS, folder / "image", disk)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="there is no mkfs.ext4 on this machine")
def test_what_was_published_survives_a_power_loss(tmp_path: Path, disk: Path) -> None:
    """Fault 11."""
    done = back_up(tmp_path, disk)
    assert done.returncode == 0, done.stderr
    cut_the_power(tmp_path, disk)
    (archive,) = [each for each in (disk / "archives" / "demo").iterdir() if each.name[0].isdigit()]
    tables = json.loads((archive / "manifest.json").read_text())["fingerprint"]["tables"]
    assert [table["rows"] for table in tables.values()] == [ROWS]
    done = command(tmp_path, "verify")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="there is no mkfs.ext4 on this machine")
def test_the_power_loss_is_real(tmp_path: Path, disk: Path) -> None:
    """Without a single fsync the same run leaves no archive, or a damaged one."""
    done = back_up(tmp_path, disk, NO_SYNC)
    assert done.returncode == 0, done.stderr
    cut_the_power(tmp_path, disk)
    archives = [each for each in (disk / "archives" / "demo").iterdir() if each.name[0].isdigit()]
    assert not archives or command(tmp_path, "verify").returncode != 0
