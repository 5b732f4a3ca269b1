"""A side file put in a live SQLite file's place, and back."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sauvegarde.errors import Locked, SauvegardeError
from sauvegarde.migrate import file_target
from sauvegarde.restore import restore_run, restore_state
from sauvegarde.targets import sqlite_target

ID, LATER = "20261124T030000Z", "20261124T040000Z"


def make(path, text, mode="DELETE"):
    with contextlib.closing(sqlite3.connect(str(path), isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (?)", (text,))


def said(path):
    with contextlib.closing(sqlite3.connect(str(path))) as connection:
        return connection.execute("SELECT x FROM t").fetchone()[0]


@pytest.fixture
def live(tmp_path):
    path = tmp_path / "site's é.sqlite3"
    make(path, "old")
    make(sqlite_target.side(str(path), ID), "new")
    return str(path)


def test_the_names_stay_beside_the_file():
    side = sqlite_target.side("/srv/a very/long/path/" + "x" * 80, ID)
    assert side.startswith("/srv/a very/long/path/x") and side.endswith("__restore_" + ID)
    assert len(Path(side).name) <= 63
    assert sqlite_target.label("/srv/db.sqlite3") == "db.sqlite3" and sqlite_target.label("el/paso") == "el/paso"


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_in_place_and_back(tmp_path, mode):
    live = str(tmp_path / "db")
    make(live, "old", mode)
    make(sqlite_target.side(live, ID), "new", mode)
    result = sqlite_target.into_place(live, sqlite_target.side(live, ID), ID)
    assert said(live) == "new" and result["kept"] == sqlite_target.before(live, ID) and said(result["kept"]) == "old"
    assert [each["id"] for each in sqlite_target.kept(live)] == [ID]
    assert sqlite_target.back(live, LATER)["restored"] == sqlite_target.before(live, ID)
    assert said(live) == "old" and said(sqlite_target.before(live, LATER)) == "new"
    assert sqlite_target.leftovers(live) == []


def test_what_was_written_into_the_log_of_a_killed_writer_is_kept(tmp_path):
    """A WAL that nobody folded into its file goes with the old file, never with the new one."""
    live = str(tmp_path / "db")
    make(live, "old", "WAL")
    make(sqlite_target.side(live, ID), "new", "WAL")
    code = (
        "import os, sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute(\"UPDATE t SET x = 'latest'\")\nos._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, live], check=False)
    assert Path(live + "-wal").stat().st_size > 0
    result = sqlite_target.into_place(live, sqlite_target.side(live, ID), ID)
    assert said(live) == "new" and said(result["kept"]) == "latest"


def test_a_writer_at_work_keeps_the_live_file(live):
    with contextlib.closing(sqlite3.connect(live, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(SauvegardeError) as caught:
            sqlite_target.into_place(live, sqlite_target.side(live, ID), ID, fence=0.2)
        assert caught.value.exit_code == Locked.exit_code and "as it was" in caught.value.what
        writer.execute("COMMIT")
    assert said(live) == "old" and sqlite_target.kept(live) == [] and said(sqlite_target.side(live, ID)) == "new"


def test_who_still_has_the_old_file_open_cannot_write_into_the_void(live):
    with contextlib.closing(sqlite3.connect(live, isolation_level=None)) as connection:
        assert connection.execute("SELECT x FROM t").fetchone() == ("old",)
        sqlite_target.into_place(live, sqlite_target.side(live, ID), ID)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("UPDATE t SET x = 'lost'")
    assert said(live) == "new" and said(sqlite_target.before(live, ID)) == "old"


def test_killed_between_the_two_names_it_is_done_again(live):
    os.link(live, sqlite_target.before(live, ID))
    assert sqlite_target.kept(live) == []  # a second name of the live file is nothing to go back to
    sqlite_target.into_place(live, sqlite_target.side(live, ID), LATER)
    assert said(live) == "new"
    assert [each["id"] for each in sqlite_target.kept(live)] == [LATER] and said(
        sqlite_target.before(live, LATER)
    ) == "old"


def test_the_first_one_replaces_nothing(tmp_path):
    live = str(tmp_path / "db")
    make(sqlite_target.side(live, ID), "new")
    assert sqlite_target.into_place(live, sqlite_target.side(live, ID), ID)["kept"] is None
    assert said(live) == "new"
    with pytest.raises(SauvegardeError, match="nothing to go back to"):
        sqlite_target.chosen(live)


def test_the_restores_doors_take_a_file(live):
    """As the playbooks of a rollback and a clean-up call them, by its keeper."""
    sqlite_target.into_place(live, sqlite_target.side(live, ID), ID)
    spec = {"database": live, "connection": {}, "directory": "/nonexistent"}
    assert restore_run.put_back(spec, check=True) == {"restored": sqlite_target.before(live, ID)}
    assert not Path(sqlite_target.directory(live)).exists(), "a check writes nothing"
    restore_run.put_back(spec)
    assert said(live) == "old"
    kept = restore_run.list_kept(spec)[0]["name"]
    with pytest.raises(SauvegardeError, match="not a file kept"):
        restore_run.remove_kept(spec, live)
    assert restore_run.remove_kept(spec, kept) and not Path(kept).exists() and said(live) == "old"


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from sauvegarde.restore import run, state
change = state.change
def dying(directory, identifier, **values):
    if values.get("status") == state.SWAPPED:
        os.kill(os.getpid(), signal.SIGKILL)
    change(directory, identifier, **values)
state.change = dying
run.put_in_place({"database": sys.argv[2], "connection": {}, "directory": ""}, sys.argv[3])
"""


def test_killed_before_it_could_say_so_a_masked_migration_is_still_known(tmp_path):
    live = str(tmp_path / "db")
    make(live, "old")
    spec = {"database": live, "connection": {}, "path": "/carried", "mark": None}

    def proven(masked):
        found = file_target.reserve(spec)
        make(found["side"], "new")
        file_target.end(spec, found["id"], restore_state.READY, masked)
        return found["id"]

    masked = proven(True)
    engine = str(Path(restore_run.__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", KILLED, engine, live, masked], check=False).returncode == -9
    assert said(live) == "new" and file_target.is_masked(spec)
    folder = Path(sqlite_target.directory(live))
    written = {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    assert restore_run.put_back(spec, check=True)["restored"]
    with pytest.raises(SauvegardeError, match="Its state is swapped"):
        restore_run.put_in_place(spec, masked, check=True)
    assert {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()} == written
    unmasked = proven(False)
    assert file_target.is_masked(spec)
    restore_run.put_in_place(spec, unmasked)
    assert not file_target.is_masked(spec)
    restore_run.put_back(spec)
    assert file_target.is_masked(spec)
    restore_run.put_back(spec)
    assert not file_target.is_masked(spec)
    restore_run.put_back(spec, min(each["name"] for each in restore_run.list_kept(spec)))
    assert said(live) == "old" and not file_target.is_masked(spec)
